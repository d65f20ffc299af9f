"""Every token of chosen answers of one update, with all that PPO knew of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from harken.errors import UserError
from harken.inspection.recorded import RecordedStep
from harken.models.find_tokenizer import tokenizer_folder, tokenizer_of
from harken.models.resolve import ModelSource, resolve
from harken.run import checksums, manifest
from harken.run.folder import RunFolder
from harken.run.tables import write_table

COLUMNS: dict[str, pa.DataType] = {
    "step": pa.int64(),
    "row": pa.int64(),
    "prompt_id": pa.string(),
    "sample": pa.int64(),
    "position": pa.int64(),
    "token_id": pa.int64(),
    "token": pa.string(),
    "logprob_new": pa.float32(),
    "logprob_old": pa.float32(),
    "logprob_reference": pa.float32(),
    "logprob_sampler": pa.float32(),
    "ratio": pa.float64(),
    "clipped": pa.bool_(),
    "advantage": pa.float32(),
    "return": pa.float32(),
    "value": pa.float32(),
    "kl": pa.float32(),
    "kl_penalty": pa.float32(),
    "reward": pa.float32(),
    "policy_mask": pa.bool_(),
}

TextOf = Callable[[int], str]


def token_rows(step: RecordedStep, row: int, text_of: TextOf) -> list[dict[str, Any]]:
    """One record a response token of answer `row`, with the keys of COLUMNS.

    `position` counts response tokens from 0. ratio = exp(logprob_new - logprob_old), and `clipped` says
    that it lies outside the run's clip range; both are None when log-probabilities were not measured
    after the update. `value` is None without a critic. Raises IndexError for a row that is not there.
    """
    rollout, credit = step.rollouts[row], step.credit[row]
    low = 1.0 - step.settings.clip_range
    high = 1.0 + (step.settings.clip_range_high or step.settings.clip_range)
    records = []
    for position, token in enumerate(rollout["response_tokens"]):
        new, old = _at(credit["new_logprobs"], position), credit["old_logprobs"][position]
        ratio = None if new is None else math.exp(min(new - old, 700.0))
        records.append(
            {
                "step": step.number,
                "row": row,
                "prompt_id": rollout["prompt_id"],
                "sample": rollout["sample"],
                "position": position,
                "token_id": token,
                "token": text_of(token),
                "logprob_new": new,
                "logprob_old": old,
                "logprob_reference": credit["reference_logprobs"][position],
                "logprob_sampler": rollout["sampler_logprobs"][position],
                "ratio": ratio,
                "clipped": None if ratio is None else not low <= ratio <= high,
                "advantage": credit["advantages"][position],
                "return": credit["returns"][position],
                "value": _at(credit["values"], position),
                "kl": credit["kl"][position],
                "kl_penalty": credit["kl_penalty"][position],
                "reward": credit["rewards"][position],
                "policy_mask": credit["policy_mask"][position],
            }
        )
    return records


def write_trace(path: Path, step: RecordedStep, rows: Sequence[int], text_of: TextOf) -> None:
    """The tokens of these answers as parquet, one row a token."""
    write_table(path, COLUMNS, [record for row in rows for record in token_rows(step, row, text_of)])


def choose(step: RecordedStep, rows: str | None = None, prompt: str | None = None) -> dict[int, str]:
    """Row → why it is shown: those in `rows` (``0,3``), those of a prompt (its id, or how it begins), or
    without either the best, the median and the worst by reward.

    Raises UserError for rows and prompts that the update does not have.
    """
    if rows is not None and prompt is not None:
        raise UserError("--rows and --prompt exclude each other")
    if rows is not None:
        return dict.fromkeys(_numbers(rows, len(step.rollouts)), "")
    ids = [record["prompt_id"] for record in step.rollouts]
    if prompt is not None:
        exact = [row for row, name in enumerate(ids) if name == prompt]
        found = exact or [row for row, name in enumerate(ids) if prompt and name.startswith(prompt)]
        if not found:
            some = ", ".join(dict.fromkeys(ids[:4]))
            raise UserError(
                f"no prompt {prompt!r} in update {step.number}",
                where="--prompt",
                fix=f"There are: {some}, …",
            )
        return dict.fromkeys(found, "")
    order = sorted(range(len(ids)), key=lambda row: -step.rollouts[row]["reward"])
    named = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    chosen: dict[int, str] = {}
    for name, place in named.items():
        if order:
            chosen.setdefault(order[place], f"{name} reward of {len(order)}")
    return chosen


def token_text(run: RunFolder) -> tuple[TextOf, bool]:
    """How to write a token id of this run, and whether that is text.

    The tokenizer is that of the trained model, or of the model the run started from. Where neither can
    be read, an id is written as its number.
    """
    tokenizer = _tokenizer(run)
    return (str, False) if tokenizer is None else (lambda token: _decoded(tokenizer, token), True)


def _decoded(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    text = tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    # SentencePiece drops the space in front of what it takes for the first word.
    begins_word = str(tokenizer.convert_ids_to_tokens(token)).startswith("▁")
    return f" {text}" if begins_word and not text.startswith(" ") else str(text)


def _tokenizer(run: RunFolder) -> PreTrainedTokenizerBase | None:
    sources = [ModelSource("full", str(run.final), run.final)] if run.final.is_dir() else []
    if run.manifest.is_file():
        lineage = manifest.read_manifest(run.manifest).get("lineage")
        made_from = lineage.get("folder") if isinstance(lineage, dict) else None
        if isinstance(made_from, str) and Path(made_from).is_dir():
            try:
                sources.append(resolve(made_from))
            except UserError:  # its base may be gone, and its tokenizer still there
                sources.append(ModelSource("full", made_from, Path(made_from)))
    for source in sources:
        checksums.verify_folder(tokenizer_folder(source), weights=False)
        try:
            return tokenizer_of(source)
        except UserError:
            continue  # a trace of numbers is better than none, and says so
    return None


def _numbers(text: str, count: int) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"{text!r} are no row numbers", where="--rows", fix="For example: --rows 0,3"
        ) from None
    if wrong := [number for number in numbers if not 0 <= number < count]:
        raise UserError(
            f"no row {wrong[0]}: the update has {count} answers, numbered from 0",
            where="--rows",
            fix="Choose among them",
        )
    return numbers


def _at(values: Sequence[float] | None, position: int) -> float | None:
    return None if values is None else values[position]
