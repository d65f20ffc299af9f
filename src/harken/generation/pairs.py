"""Make preference pairs, or demonstrations, from scored responses, with the source of each side."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harken.config import PairsConfig
from harken.config.evaluation_options import response_file
from harken.data.external_responses import ExternalResponse, read_external_responses
from harken.errors import UserError
from harken.evaluation.response_files import fingerprint_rows, match_prompts
from harken.generation.candidates import Candidate, choose_best, choose_pairs
from harken.generation.once import WrittenResults, write_once
from harken.generation.score import UNNAMED_POLICY
from harken.records import Prompt
from harken.run import atomic, checksums, manifest
from harken.run.folder import PairsFolder, ResponsesFolder
from harken.run.lock import write_lock

COUNTED = {
    "ties_kept": "of them ties, with strength 0",
    "ties_dropped": "ties dropped",
    "below_margin": "pairs below the margin",
    "below_threshold": "prompts whose best response is below the threshold",
    "identical": "pairs of equal text",
    "repeated": "pairs of texts that the prompt had already",
    "without_pair": "prompts without a pair",
    "unscored": "responses without a score",
    "failed": "rows without a response",
    "empty": "empty responses",
    "truncated": "truncated responses left out",
}
"""Phrases for the counts besides the rows written."""


@dataclass(frozen=True)
class _Responses:
    """The responses read, the prompt of each, and the scorer behind the column of scores."""

    external: list[ExternalResponse]
    prompts: list[Prompt | None]
    scorer: str


def run_pairs(config: PairsConfig, output: Path) -> PairsFolder:
    """Write `pairs.jsonl`, or `demonstrations.jsonl` with `how: best`. The same responses give the same bytes.

    Raises UserError when the responses have no such column of scores, nothing can be written, the folder holds pairs
    of other responses or settings, or another process writes it.
    """
    with write_lock(output):
        return _run(config, PairsFolder(output))


def _run(config: PairsConfig, folder: PairsFolder) -> PairsFolder:
    path = response_file(config.responses)
    checksums.verify_file(Path(path).expanduser())
    external = read_external_responses(path, renamed=config.columns)
    _require_scores(external, config.score, path)
    settings = config.model_dump(mode="json", exclude={"output_dir"}) | {
        "fingerprints": {"responses": fingerprint_rows(external)}
    }

    def make() -> WrittenResults:
        responses = _Responses(external, match_prompts(external, None, path), _scorer(path, config.score))
        counts: Counter[str] = Counter()
        written = list(_rows(responses, config, counts))
        if not written:
            raise UserError(
                f"no pair can be made of its {len(external):,} responses: {_format_counts(counts)}",
                where=path,
                fix="sample more responses per prompt, keep ties, or choose another rule with --how",
            )
        table = folder.demonstrations if config.how == "best" else folder.pairs
        atomic.write_text(table, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written))
        noun = "demonstrations" if config.how == "best" else "pairs"
        lineage = {
            "responses": {"name": config.responses, "fingerprint": settings["fingerprints"]["responses"]},
            "scorer": responses.scorer,
        }
        line = f"{table}: {len(written):,} {noun} of {counts['responses']:,} responses to {counts['prompts']:,} prompts"
        return WrittenResults(lineage, {noun: len(written), **counts}, [line, f"  {_format_counts(counts)}"])

    write_once(folder, settings, make)
    return folder


def _require_scores(external: Sequence[ExternalResponse], score: str, path: str) -> None:
    columns = {name for response in external for name in response.values}
    if score in columns:
        return
    raise UserError(
        f"no response has a number in a column {score!r}; there are {', '.join(sorted(columns))[:300] or 'none'}",
        where=path,
        fix="name one of these with --score, or score the responses first: harken score",
    )


def _scorer(path: str, score: str) -> str:
    """Return the scorer behind a column; for `reward`, the primary scorer of the folder's manifest."""
    record = ResponsesFolder(Path(path).expanduser().parent).manifest
    if score == "reward" and record.is_file():
        lineage = manifest.read_manifest(record).get("lineage")
        primary = lineage.get("primary") if isinstance(lineage, dict) else None
        score = primary if isinstance(primary, str) else score
    return score.removeprefix("score_")


def _rows(responses: _Responses, config: PairsConfig, counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows, prompt by prompt in the order of the table, and count every response."""
    by_prompt: dict[str, list[Candidate]] = {}
    for index, (response, prompt) in enumerate(zip(responses.external, responses.prompts, strict=True)):
        counts["responses"] += 1
        score = response.values.get(config.score)
        assert prompt is not None
        candidates = by_prompt.setdefault(prompt.id, [])
        if reason := _why_left_out(response, score, config):
            counts[reason] += 1
        else:
            candidates.append(Candidate(index, str(response.text), float(score or 0.0)))
    counts["prompts"] = len(by_prompt)
    for candidates in by_prompt.values():
        if config.how == "best":
            best = choose_best(candidates, config.threshold, counts) if candidates else None
            written = [] if best is None else [_demonstration(responses, best)]
        else:
            written = [
                _pair(responses, pair.chosen, pair.rejected, pair.strength)
                for pair in choose_pairs(candidates, config, counts)
            ]
        if not written:
            counts["without_pair"] += 1
        yield from written


def _why_left_out(response: ExternalResponse, score: float | None, config: PairsConfig) -> str:
    if response.text is None:
        return "failed"
    if not response.text.strip():  # training drops rows with an empty response
        return "empty"
    if score is None or not math.isfinite(score):
        return "unscored"
    return "truncated" if config.truncated == "drop" and response.stop == "length" else ""


def _pair(responses: _Responses, chosen: Candidate, rejected: Candidate, strength: float) -> dict[str, Any]:
    """Return one pair in the conversational form that TRL reads too."""
    sides = {"chosen": chosen, "rejected": rejected}
    return {
        **_prompt(responses, chosen),
        **{side: [_turn(candidate)] for side, candidate in sides.items()},
        "preference_strength": strength,
        **{f"{side}_policy": _policy(responses, candidate) for side, candidate in sides.items()},
        **{f"{side}_sample": responses.external[candidate.row].sample for side, candidate in sides.items()},
        **{f"{side}_score": candidate.score for side, candidate in sides.items()},
        "scorer": responses.scorer,
    }


def _demonstration(responses: _Responses, best: Candidate) -> dict[str, Any]:
    row = _prompt(responses, best)
    messages = row.pop("prompt")
    return {
        **row,
        "messages": [*messages, _turn(best)],
        "policy": _policy(responses, best),
        "sample": responses.external[best.row].sample,
        "score": best.score,
        "scorer": responses.scorer,
    }


def _prompt(responses: _Responses, candidate: Candidate) -> dict[str, Any]:
    prompt = responses.prompts[candidate.row]
    assert prompt is not None
    further: Mapping[str, Any] = {
        "domain": prompt.domain,
        "language": prompt.language,
        "tools": json.loads(prompt.tools) if prompt.tools else None,
    }
    return {
        "id": prompt.id,
        "prompt": [message.to_dict() for message in prompt.messages],
        **{key: value for key, value in further.items() if value},
    }


def _turn(candidate: Candidate) -> dict[str, str]:
    return {"role": "assistant", "content": candidate.text}


def _policy(responses: _Responses, candidate: Candidate) -> str:
    return responses.external[candidate.row].generator or UNNAMED_POLICY


def _format_counts(counts: Mapping[str, int]) -> str:
    """Return the counts in words, without zeros."""
    phrases = [f"{counts[key]:,} {phrase}" for key, phrase in COUNTED.items() if counts.get(key)]
    return "; ".join(phrases) or "no response or pair was left out"
