"""Mistakes in judges of pairs, their labels and agreement with people, and in the constitutional recipe."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

ENDPOINT, LABEL, AGREEMENT = (f"judging/test_{name}.py" for name in ("endpoint", "label", "agreement"))
PROCESS, BIASES = "judging/test_judges_in_process.py", "card/test_judge_bias.py"
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
        "_require_verdicts: problem.startswith(TRANSPORT_PROBLEM)",
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
    Mutant("label: a void batch's pairs count", MAKE, "_rows: number not in found.void", "True", f"{LABEL}::test_void_batches_give_no_pairs"),
    Mutant("label: a verdict that changes is a verdict", MAKE, "_rows: outcome == 'inconsistent' and config.inconsistent == 'tie'", "outcome == 'inconsistent'", f"{LABEL}::test_a_pair_whose_verdict_changes_with_the_order_is_left_out_or_a_tie"),
    Mutant("label: the soft label is hard", MAKE, "_row: max(sum(chosen) / 2, 0.5)", "1.0", f"{LABEL}::test_pairs_are_the_judges_and_training_reads_their_soft_labels"),
    Mutant("label: policies stay where they were", MAKE, "_row: source.origins[::-1]", "source.origins", f"{LABEL}::test_pairs_are_the_judges_and_training_reads_their_soft_labels"),
    Mutant("label: probabilities stay those of the first", MAKE, "_row: 1 - p", "p", f"{LABEL}::test_pairs_are_the_judges_and_training_reads_their_soft_labels"),
    Mutant("label: the labels favour the rejected side", MAKE, "label_biases: gap > 0", "gap < 0", f"{LABEL}::test_the_card_of_a_reward_model_names_the_bias_of_its_judge"),
    Mutant("label: ties count as favours", MAKE, "label_biases: row['preference_strength']", "True", f"{LABEL}::test_ties_favour_nothing"),
    Mutant("label: other pairs resume in the same folder", MAKE, "_fingerprint: source.pair.content()", "source.pair.id", f"{LABEL}::test_other_pairs_need_another_folder"),
    Mutant("card: style is not told from length", BIAS, "_is_length: shorter['judge']['high'] < 0.5", "False", BIASES),
    Mutant("card: length is said to be style where the model differs", BIAS, "_is_length: shorter['judge']['high'] < 0.5", "shorter['model']['high'] < 1", BIASES),
    Mutant("card: the model's share is the label's", BIAS, "_shares: np.sign(judged.gap)", "judged.side", BIASES),
    Mutant("card: shorter is longer", BIAS, "judge_bias_section: gap * gaps[LENGTH_FEATURE] < 0", "gap * gaps[LENGTH_FEATURE] > 0", BIASES),
    Mutant("card: pairs of people count", BIAS, "_is_judged: pair.rater.startswith(JUDGE_RATER)", "True", BIASES),
    Mutant("agreement: void batches count", "judging/measure.py", "_measure: number not in found.void", "True", AGREEMENT),
    Mutant("agreement: the first pairs are the sample", "judging/measure.py", "_read: seeds.permutation(len(texts), config.seed, 'judge')", "range(len(texts))", AGREEMENT),
]  # fmt: skip

CONSTITUTION, RECIPE, PAGE, WRITERS = (
    "judging/test_constitution.py",
    "generation/constitution.py",
    "generation/constitution_page.py",
    "generation/writers.py",
)
STEPS = f"{CONSTITUTION}::test_each_step_is_in_the_rows"
ASKED = f"{CONSTITUTION}::test_every_turn_is_in_the_next_conversation"

CONSTITUTIONAL = [
    Mutant("constitution: every round is of the first response", RECIPE, "_batch: zip(prompts, current, chosen, strict=True)", "zip(prompts, responses, chosen, strict=True)", STEPS),
    Mutant("constitution: the revision does not see the critique", RECIPE, "_batch: Message('assistant', critique)", "Message('assistant', '')", ASKED),
    Mutant("constitution: the critique is asked by the revision's words", RECIPE, "_batch: ASK_CRITIQUE.format(critique=one.critique)", "ASK_CRITIQUE.format(critique=one.revision)", ASKED),
    Mutant("constitution: the revision is asked by the critique's words", RECIPE, "_batch: ASK_REVISION.format(revision=one.revision)", "ASK_REVISION.format(revision=one.critique)", ASKED),
    Mutant("constitution: the prompt's earlier turns are lost", RECIPE, "_batch: [*prompt.messages, Message('assistant', text), Message('user', ASK_CRITIQUE.format(critique=one.critique))]", "[prompt.messages[-1], Message('assistant', text), Message('user', ASK_CRITIQUE.format(critique=one.critique))]", ASKED),
    Mutant("constitution: all rounds have one principle", RECIPE, "_batch: derive_seed(config.seed, 'principle', prompt.id, number)", "derive_seed(config.seed, 'principle', prompt.id)", f"{CONSTITUTION}::test_principles_vary_over_prompts_rounds_and_seeds"),
    Mutant("constitution: all prompts have one principle", RECIPE, "_batch: derive_seed(config.seed, 'principle', prompt.id, number)", "derive_seed(config.seed, 'principle', number)", f"{CONSTITUTION}::test_principles_vary_over_prompts_rounds_and_seeds"),
    Mutant("constitution: the seed does not choose", RECIPE, "_batch: derive_seed(config.seed, 'principle', prompt.id, number)", "derive_seed(0, 'principle', prompt.id, number)", f"{CONSTITUTION}::test_principles_vary_over_prompts_rounds_and_seeds"),
    Mutant("constitution: the first response is chosen", RECIPE, "_pair: {'chosen': step['rounds'][-1]['revision'], 'rejected': step['response']}", "{'rejected': step['rounds'][-1]['revision'], 'chosen': step['response']}", STEPS),
    Mutant("constitution: pairs hold the first revision", RECIPE, "_pair: step['rounds'][-1]", "step['rounds'][0]", f"{CONSTITUTION}::test_rows_hold_the_last_revision"),
    Mutant("constitution: demonstrations hold the first revision", RECIPE, "_demonstration: step['rounds'][-1]", "step['rounds'][0]", f"{CONSTITUTION}::test_rows_hold_the_last_revision"),
    Mutant("constitution: empty steps give rows", RECIPE, "_left_out: not all((text.strip() for text in texts))", "False", STEPS),
    Mutant("constitution: unchanged responses give rows", RECIPE, "_left_out: texts[-1].strip() == texts[0].strip()", "False", STEPS),
    Mutant("constitution: only the last critique may not be empty", RECIPE, "_left_out: step['rounds']", "step['rounds'][-1:]", f"{CONSTITUTION}::test_rows_hold_the_last_revision"),
    Mutant("constitution: rows that are left out are written", RECIPE, "_run.make: [step for step in steps if not _left_out(step)]", "steps", STEPS),
    Mutant("constitution: other principles resume in the same folder", RECIPE, "_run: [principle.model_dump() for principle in principles]", "len(principles)", f"{CONSTITUTION}::test_edited_principles_need_another_folder"),
    Mutant("constitution: kept steps are asked again", RECIPE, "_steps: load_or_make_shard(path, partial(_batch, config, principles, batch, writer))", "_batch(config, principles, batch, writer)", f"{CONSTITUTION}::test_a_run_that_failed_goes_on"),
    Mutant("constitution: the page is not escaped", PAGE, "_article: escape(text)", "text", STEPS),
    Mutant("constitution: the page has no critiques", PAGE, "_article: part['critique']", "part['revision']", STEPS),
    Mutant("constitution: another model's reply counts", WRITERS, "ChatEndpointWriter._reply: problem is not None", "False", f"{CONSTITUTION}::test_a_reply_of_another_model_ends_the_run"),
    Mutant("constitution: all steps are sampled alike", WRITERS, "LocalPolicyWriter.write: self._engine.generate(prompts, sampling, 'writer', purpose)", "self._engine.generate(prompts, sampling, 'writer', '')", f"{CONSTITUTION}::test_steps_of_a_local_model_are_sampled_apart"),
]  # fmt: skip
