"""Make preference pairs of the failures that the audit found: clean responses over broken ones to the same prompt.

    high_reward_broken   a broken response whose reward is above the clean one's: what the reward model gets wrong
    repetition           a response that repeats itself (repetition, character_repetition, loop, repeated_items)
    truncated            a response truncated at the token limit, or that ends inside a sentence (cap_hit, broken_off)

`chosen` is the clean response with the highest reward. A response is clean if the audit finds none of its kinds of
failure in it. Each broken response gives at most one pair, by the first rule that holds. No torch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.config.evaluation_options import response_file
from harken.config.review import HardNegativesConfig
from harken.data.external_responses import ExternalResponse, read_external_responses
from harken.errors import UserError
from harken.evaluation import audit
from harken.evaluation.audit import BROKEN, Key
from harken.evaluation.response_files import fingerprint_rows, match_prompts
from harken.generation.once import WrittenResults, write_once
from harken.records import Prompt
from harken.review.added_pairs import rows_to_add
from harken.run import atomic, checksums
from harken.run.folder import PairsFolder
from harken.run.lock import write_lock

REPEATING_KINDS = frozenset(["repetition", "character_repetition", "loop", "repeated_items"])
TRUNCATED_KINDS = frozenset(["cap_hit", "broken_off"])
HARD_NEGATIVE_SOURCE = "hard-negatives"
HARD_NEGATIVE_COUNTS = {
    "high_reward_broken": "broken responses with a higher reward than a clean one",
    "repetition": "responses that repeat themselves",
    "truncated": "truncated responses",
    "no_clean": "broken responses to prompts without a clean one",
    "other_failure": "broken responses that no rule is for",
    "repeated": "pairs of texts that the prompt had already",
}
_Row = Mapping[str, Any]


def run_hard_negatives(config: HardNegativesConfig, output: Path) -> PairsFolder:
    """Write `pairs.jsonl`. The same responses give the same bytes.

    Raises UserError when no response breaks a rule, a response has no reward, or the folder holds pairs of other
    responses or settings.
    """
    with write_lock(output):
        folder = PairsFolder(output)
        path = response_file(config.responses)
        checksums.verify_file(Path(path).expanduser())
        responses = read_external_responses(path)
        fingerprints = {"responses": fingerprint_rows(responses)}
        settings = config.model_dump(mode="json", exclude={"output_dir"}) | {"fingerprints": fingerprints}

        def make() -> WrittenResults:
            counts: Counter[str] = Counter()
            rows = list(_pairs(responses, config, path, counts))
            if not rows:
                raise UserError(
                    f"no pair can be made of its {len(responses):,} responses: {counts_line(counts)}",
                    where=path,
                    fix="name an evaluation whose responses fail more often, or more samples per prompt",
                )
            added = rows_to_add(config.add_to, config.add_limit, config.seed)
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in [*added, *rows]]
            atomic.write_text(folder.pairs, "".join(lines))
            lineage = {"responses": {"name": config.responses, "fingerprint": fingerprints["responses"]}}
            line = f"{folder.pairs}: {len(rows):,} pairs of {len(responses):,} responses"
            if added:
                line += f", added to {len(added):,} of {config.add_to}"
            made = {"pairs": len(rows), "added_to": len(added), **counts}
            return WrittenResults(lineage, made, [line, f"  {counts_line(counts)}"])

        write_once(folder, settings, make)
        return folder


def choose_rule(
    flags: frozenset[str], reward_gap: float, rules: Sequence[str], margin: float = 0.0
) -> str | None:
    """Return the first of `rules` that a broken response meets; `reward_gap` is its reward minus the clean one's."""
    for rule in rules:
        if rule == "high_reward_broken" and flags & BROKEN and reward_gap > margin:
            return rule
        if rule == "repetition" and flags & REPEATING_KINDS:
            return rule
        if rule == "truncated" and flags & TRUNCATED_KINDS:
            return rule
    return None


def counts_line(counts: Mapping[str, int]) -> str:
    """Return the counts in words, those of zero left out."""
    phrases = [f"{counts[key]:,} {phrase}" for key, phrase in HARD_NEGATIVE_COUNTS.items() if counts.get(key)]
    return "; ".join(phrases) or "no response is broken"


def _pairs(
    responses: Sequence[ExternalResponse], config: HardNegativesConfig, path: str, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    prompts = match_prompts(responses, None, path)
    rows: list[_Row] = []
    samples: Counter[tuple[str, str]] = Counter()
    for number, (response, prompt) in enumerate(zip(responses, prompts, strict=True)):
        assert prompt is not None
        own_samples = prompt.id, response.generator
        rows.append(_audit_row(response, prompt, number, samples[own_samples]))
        samples[own_samples] += 1
    rows = [row for row in rows if row["response"].strip()]
    if missing := next((row for row in rows if row["reward"] is None), None):
        raise UserError(
            f"{missing['policy']} has no reward on prompt {missing['prompt_id']!r}",
            where=path,
            fix="run harken score on the responses first",
        )
    audited = audit.audit(rows, rows[0]["policy"] if rows else "", config.audit)
    flags: dict[Key, frozenset[str]] = {
        key: frozenset(row_flags["flags"]) for key, row_flags in audited.items()
    }
    by_prompt: dict[str, list[_Row]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt_id"], []).append(row)
    for prompt_rows in by_prompt.values():
        clean = [row for row in prompt_rows if not flags[audit.key_of(row)] & BROKEN]
        best = max(clean, key=lambda row: row["reward"], default=None)
        seen: set[str] = set()
        for row in prompt_rows:
            row_flags = flags[audit.key_of(row)]
            if not row_flags & BROKEN:
                continue
            if best is None:
                counts["no_clean"] += 1
                continue
            rule = choose_rule(row_flags, row["reward"] - best["reward"], config.rules, config.reward_margin)
            if rule is None:
                counts["other_failure"] += 1
            elif row["response"].strip() in seen:
                counts["repeated"] += 1
            else:
                seen.add(row["response"].strip())
                counts[rule] += 1
                prompt = prompts[row["number"]]
                assert prompt is not None
                evidence = audited[audit.key_of(row)]["evidence"]
                yield _pair_of(prompt, best, row, rule, row_flags, evidence, config)


def _audit_row(response: ExternalResponse, prompt: Prompt, index: int, sample: int) -> dict[str, Any]:
    """Return response `index` of the file as a row of an evaluation's table."""
    return {
        "number": index,
        "prompt_id": prompt.id,
        "policy": response.generator or "policy",
        "sample": sample,
        "domain": prompt.domain,
        "language": prompt.language,
        "prompt": prompt.last_user_message,
        "messages": json.dumps([message.to_dict() for message in prompt.messages], ensure_ascii=False),
        "response": response.text or "",
        "response_tokens": response.tokens,
        "stop": response.stop,
        "reward": response.values.get("reward"),
        "reference": prompt.reference,
    }


def _pair_of(
    prompt: Prompt,
    clean: _Row,
    broken: _Row,
    rule: str,
    flags: frozenset[str],
    evidence: Mapping[str, str],
    config: HardNegativesConfig,
) -> dict[str, Any]:
    failures = sorted(flags & BROKEN)
    further = {"domain": prompt.domain, "language": prompt.language}
    return {
        "id": prompt.id,
        "prompt": [message.to_dict() for message in prompt.messages],
        **{key: value for key, value in further.items() if value},
        "chosen": [{"role": "assistant", "content": clean["response"]}],
        "rejected": [{"role": "assistant", "content": broken["response"]}],
        "preference_strength": config.strength,
        "chosen_policy": clean["policy"],
        "rejected_policy": broken["policy"],
        "chosen_score": clean["reward"],
        "rejected_score": broken["reward"],
        "rule": rule,
        "failures": failures,
        "evidence": {name: str(evidence[name]) for name in failures if name in evidence},
        "source": HARD_NEGATIVE_SOURCE,
    }
