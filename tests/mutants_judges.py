"""Mistakes in judges that compare two responses, in their labels and in their agreement with people."""

from mutant import Mutant

ENDPOINT, LABEL, AGREEMENT = (f"judging/test_{name}.py" for name in ("endpoint", "label", "agreement"))
PROCESS = "judging/test_judges_in_process.py"
ORDERS, CANARIES, PROMPT, CHAT, CACHE = (
    f"judging/{name}.py" for name in ("both_orders", "canaries", "prompt", "endpoint", "cache")
)
FIGURES, LOCAL, MAKE, BIAS = (
    "judging/agreement.py",
    "judging/local.py",
    "generation/label.py",
    "card/judge_bias.py",
)

JUDGES_OF_PAIRS = [
    Mutant(
        "judge: the swapped order is not turned back",
        ORDERS,
        "JudgedPair.probabilities: 1.0 - self.swapped.probability",
        "self.swapped.probability",
        ENDPOINT,
    ),
    Mutant(
        "judge: a verdict that changes with the order counts",
        ORDERS,
        "JudgedPair.outcome: sides[0] != sides[1]",
        "False",
        ENDPOINT,
    ),
    Mutant(
        "judge: a position bias is not named",
        ORDERS,
        "order_figures: first_shown is not None and first_shown['low'] > 0.5",
        "False",
        ENDPOINT,
    ),
    Mutant(
        "canaries: a batch is never void",
        CANARIES,
        "CanaryResult.is_void: self.wins / self.comparisons > max_wins",
        "False",
        ENDPOINT,
    ),
    Mutant(
        "canaries: those without a verdict count as lost",
        CANARIES,
        "CanaryResult.is_void: self.failed > self.comparisons",
        "False",
        ENDPOINT,
    ),
    Mutant(
        "prompt: a verdict in a response stays",
        PROMPT,
        "clean: _VERDICTS.sub(REMOVED, _ROLE_TOKENS.sub(REMOVED, text))",
        "_ROLE_TOKENS.sub(REMOVED, text)",
        ENDPOINT,
    ),
    Mutant(
        "prompt: role tokens in a response stay",
        PROMPT,
        "clean: _ROLE_TOKENS.sub(REMOVED, text)",
        "text",
        ENDPOINT,
    ),
    Mutant(
        "reply: the first letter counts",
        PROMPT,
        "_read_letter: _LETTER.fullmatch(text)",
        "_LETTER.match(text)",
        ENDPOINT,
    ),
    Mutant(
        "endpoint: another model's reply counts",
        CHAT,
        "ChatEndpoint.model_problem: named.startswith(wanted) or named in self.settings.accept_models",
        "True",
        ENDPOINT,
    ),
    Mutant(
        "endpoint: Retry-After is not waited for",
        CHAT,
        "ChatEndpoint._back_off: failure.retry_after is not None",
        "False",
        ENDPOINT,
    ),
    Mutant(
        "endpoint: letter and log-probabilities may disagree",
        CHAT,
        "EndpointPairJudge._verdict: (probability > 0.5) != (letter == 'A') and probability != 0.5",
        "False",
        ENDPOINT,
    ),
    Mutant(
        "cache: a changed line is used",
        CACHE,
        "_parse: fields.pop('sum') != _sum(json.dumps(fields, ensure_ascii=True))",
        "not fields.pop('sum')",
        ENDPOINT,
    ),
    Mutant(
        "cache: another judge's verdicts are used",
        CACHE,
        "VerdictCache.__init__: json.dumps(identity, sort_keys=True)",
        "''",
        ENDPOINT,
    ),
    Mutant(
        "local judge: a letter's preference stays",
        LOCAL,
        "LocalPairJudge.prefer_first: (plain - renamed) / 2",
        "plain",
        PROCESS,
    ),
    Mutant(
        "agreement: verdicts that change are left out of all",
        FIGURES,
        "people_agreement: [(pair, one) for pair, one in rows if pair.side]",
        "[(pair, one) for pair, one in rows if pair.side and judge_side(one)]",
        AGREEMENT,
    ),
    Mutant(
        "agreement: the chosen response is always shown first",
        FIGURES,
        "labelled_pair: derive_seed(seed, 'judge order', row.prompt.id, row.chosen, row.rejected) % 2 == 0",
        "True",
        AGREEMENT,
    ),
    Mutant("label: the worse side is chosen", MAKE, "_row: outcome == 'second'", "outcome == 'first'", LABEL),
    Mutant(
        "label: a folder with gaps is finished",
        MAKE,
        "_require_verdicts: problem.startswith(TRANSPORT)",
        "False",
        LABEL,
    ),
    Mutant(
        "card: a learnt bias is not named",
        BIAS,
        "learnt_biases: feature['judge']['low'] > BIASED",
        "False",
        LABEL,
    ),
]
