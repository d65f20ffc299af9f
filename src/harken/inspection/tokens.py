"""List the tokens of selected responses of one update with their recorded PPO values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
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
    "entropy": pa.float32(),
    "kl": pa.float32(),
    "kl_penalty": pa.float32(),
    "reward": pa.float32(),
    "policy_mask": pa.bool_(),
}

DecodeToken = Callable[[int], str]


def token_rows(step: RecordedStep, row: int, text_of: DecodeToken) -> list[dict[str, Any]]:
    """Return one record per token of response `row`, with the keys of COLUMNS.

    `position` counts response tokens from 0. ratio = exp(logprob_new - logprob_old), or the ratio of the response with
    `importance_sampling_level: sequence`; `clipped` is True where it is outside the clip range. Both are None if
    log-probabilities were not measured after the update. `value` is None without a critic. Raises IndexError for a row
    that does not exist.
    """
    rollout, credit = step.rollouts[row], step.credit[row]
    low = 1.0 - step.settings.clip_range
    high = 1.0 + (step.settings.clip_range_high or step.settings.clip_range)
    log_ratios = _log_ratios(credit, step.settings.importance_sampling_level)
    records = []
    for position, token in enumerate(rollout["response_tokens"]):
        new, old = _at(credit["new_logprobs"], position), credit["old_logprobs"][position]
        log_ratio = _at(log_ratios, position)
        ratio = None if log_ratio is None else math.exp(min(log_ratio, 700.0))
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
                "entropy": _at(credit["entropies"], position),
                "kl": credit["kl"][position],
                "kl_penalty": credit["kl_penalty"][position],
                "reward": credit["rewards"][position],
                "policy_mask": credit["policy_mask"][position],
            }
        )
    return records


def _log_ratios(credit: dict[str, Any], level: str) -> list[float] | None:
    """Return the log-ratio of each token that the loss used; None if it was not measured after the update."""
    if credit["new_logprobs"] is None:
        return None
    log_ratios = [new - old for new, old in zip(credit["new_logprobs"], credit["old_logprobs"], strict=True)]
    return [fmean(log_ratios)] * len(log_ratios) if level == "sequence" and log_ratios else log_ratios


def write_trace(path: Path, step: RecordedStep, rows: Sequence[int], text_of: DecodeToken) -> None:
    """Write the tokens of these responses as parquet, one row per token."""
    write_table(path, COLUMNS, [record for row in rows for record in token_rows(step, row, text_of)])


def select_rows(step: RecordedStep, rows: str | None = None, prompt: str | None = None) -> dict[int, str]:
    """Select rows and return row → label.

    `rows` lists them (``0,3``); `prompt` is an id or its beginning. Without either, the responses with the best, the
    median and the worst reward are selected. Raises UserError for rows and prompts that the update does not have.
    """
    if rows is not None and prompt is not None:
        raise UserError("--rows and --prompt cannot be combined")
    if rows is not None:
        return dict.fromkeys(_numbers(rows, len(step.rollouts)), "")
    ids = [record["prompt_id"] for record in step.rollouts]
    if prompt is not None:
        exact = [row for row, name in enumerate(ids) if name == prompt]
        matches = exact or [row for row, name in enumerate(ids) if prompt and name.startswith(prompt)]
        if not matches:
            examples = ", ".join(dict.fromkeys(ids[:4]))
            raise UserError(
                f"no prompt {prompt!r} in update {step.number}",
                where="--prompt",
                fix=f"name one of: {examples}, …",
            )
        return dict.fromkeys(matches, "")
    order = sorted(range(len(ids)), key=lambda row: -step.rollouts[row]["reward"])
    ranks = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    chosen: dict[int, str] = {}
    for name, place in ranks.items():
        if order:
            chosen.setdefault(order[place], f"{name} reward of {len(order)}")
    return chosen


def token_decoder(run: RunFolder) -> tuple[DecodeToken, bool]:
    """Return a function from token id to text, and whether it decodes.

    It uses the tokenizer of the trained model, or of the model the run started from. If neither can be read, the
    function returns the id as a number.
    """
    tokenizer = _tokenizer(run)
    return (str, False) if tokenizer is None else (lambda token: _decode(tokenizer, token), True)


def _decode(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    text = tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    # SentencePiece drops the space before the first word.
    begins_word = str(tokenizer.convert_ids_to_tokens(token)).startswith("▁")
    return f" {text}" if begins_word and not text.startswith(" ") else str(text)


def _tokenizer(run: RunFolder) -> PreTrainedTokenizerBase | None:
    sources = [ModelSource("full", str(run.final), run.final)] if run.final.is_dir() else []
    if run.manifest.is_file():
        lineage = manifest.read_manifest(run.manifest).get("lineage")
        source_folder = lineage.get("folder") if isinstance(lineage, dict) else None
        if isinstance(source_folder, str) and Path(source_folder).is_dir():
            try:
                sources.append(resolve(source_folder))
            except UserError:  # the base may be missing although the tokenizer is there
                sources.append(ModelSource("full", source_folder, Path(source_folder)))
    for source in sources:
        checksums.verify_folder(tokenizer_folder(source), weights=False)
        try:
            return tokenizer_of(source)
        except UserError:
            continue  # without a tokenizer the trace shows token ids and says so
    return None


def _numbers(text: str, count: int) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"{text!r} is not a list of row numbers", where="--rows", fix="write it as in --rows 0,3"
        ) from None
    if wrong := [row for row in numbers if not 0 <= row < count]:
        raise UserError(
            f"no row {wrong[0]}: the update has {count} responses, numbered from 0",
            where="--rows",
            fix=f"choose from 0 to {count - 1}",
        )
    return numbers


def _at(values: Sequence[float] | None, position: int) -> float | None:
    return None if values is None else values[position]
