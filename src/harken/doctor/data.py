"""Check the rows: dropped rows, lengths, duplicates, leaks and the direction of preferences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from harken.data import sources
from harken.data.chat import Renderer, RenderFailure
from harken.data.parse import content_hash
from harken.data.report import DataReport
from harken.data.token_pairs import shared_prefix
from harken.doctor.check import ALL, Check, check
from harken.doctor.context import Context, ParsedRow, encode, read_stage_rows, recorded_config
from harken.doctor.finding import CheckOutcome, error, note, ok, warning
from harken.doctor.ppo_context import PPOContext
from harken.errors import UserError
from harken.maths.repetition import repeated_ngram_fraction
from harken.maths.statistics.intervals import wilson_interval
from harken.records import Demonstration, Preference, Prompt, TokenPair

ON_PURPOSE = ("over_limit", "tie", "duplicate_prompt")
"""Reasons to drop a row that are intended."""
UNSURE = ("i don't know", "i do not know", "i'm not sure", "i can't help", "i cannot help", "as an ai")


@check(
    ALL,
    what="rows read, kept and dropped, with the reasons",
    why="Rows dropped silently waste data and change what is trained on.",
)
def rows_kept(context: Context) -> CheckOutcome:
    """Count rows as `harken data` does."""
    reports = context.rows.reports
    raw = sum(report.raw - sum(report.dropped[r] for r in ON_PURPOSE) for report in reports)
    dropped: Counter[str] = sum((report.dropped for report in reports), Counter())
    unintended = Counter({reason: n for reason, n in dropped.items() if reason not in ON_PURPOSE})
    dropped_rows = sum(unintended.values())
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in unintended.most_common(3))
    measured = f"{raw:,} rows, {dropped_rows:,} dropped" + (f": {reasons}" if dropped_rows else "")
    fix = f"see the first row of each reason: `harken data {context.config.data.path}`"
    if dropped_rows > raw / 2:
        return error(measured, fix)
    if dropped_rows > raw / 10:
        return warning(measured, fix)
    return note(measured, fix) if dropped_rows > raw / 100 else ok(measured)


@check(
    ALL,
    what="rows that data.max_length drops or shortens, at half of it, as set, and doubled",
    why="Rows that do not fit are not trained on: a response is never truncated, so its row is dropped.",
    cost="tokens of 400 rows",
)
def max_length(context: Context) -> CheckOutcome:
    """Count rows dropped and shortened; shortening removes the beginning of the prompt."""
    limit, sample = context.config.data.max_length, context.sample
    counted = [(row, _length(context.renderer, row)) for row in sample]
    # Rows that the chat template rejects fit under no limit.
    rows, lengths = [r for r, n in counted if n is not None], [n for _, n in counted if n is not None]
    if not rows:
        return error(
            f"the chat template refuses all of {len(sample)} rows",
            f"`harken data {context.config.data.path} --model {context.config.model_name}` counts its messages",
        )
    shares = {n: _cost(context.renderer, rows, lengths, n) for n in (max(limit // 2, 1), limit, 2 * limit)}
    text = "; ".join(f"{n}: {dropped:.1%}, {shortened:.1%}" for n, (dropped, shortened) in shares.items())
    refused = len(sample) - len(rows)
    left_out = f"; the chat template refuses {refused} more" if refused else ""
    measured = f"dropped, shortened at {text} (of {len(rows)} rows{left_out})"
    dropped, shortened = shares[limit]
    fix = "raise data.max_length"
    if dropped == 1:
        return error(measured, fix)
    if dropped > 0.1 or shortened > 0.5:
        return warning(measured, fix)
    return note(measured, fix) if dropped > 0.01 or shortened > 0.1 else ok(measured)


@check(
    ("ppo",),
    what="lengths of the SFT responses, compared with max_gen_len",
    why="If SFT responses are longer than max_gen_len, the policy is truncated and penalised for what SFT taught it.",
    cost="tokens of 400 rows",
)
def responses_fit(context: PPOContext) -> CheckOutcome:
    """Use the pipeline's demonstrations, or those that the policy's own run recorded."""
    data = context.pipeline.demonstrations
    record = recorded_config(context.source)
    if data is None and record is not None and record.training.type == "sft":
        data = record.data
    if data is None:
        return note("the policy's SFT data are unknown")
    rows = read_stage_rows(
        data.model_copy(update={"limit": sources.SAMPLE_ROWS}), "sft", context.config.seed
    ).train
    responses = [row.response for row in rows[: sources.SAMPLE_ROWS] if isinstance(row, Demonstration)]
    lengths = np.array([len(context.renderer.encode_response(response)) for response in responses])
    limit = context.settings.max_gen_len
    longer = float((lengths > limit).mean())
    half, ninetieth = np.quantile(lengths, [0.5, 0.9], method="inverted_cdf")
    measured = f"{longer:.0%} of {len(lengths)} responses exceed max_gen_len {limit} (median {half}, 90 % {ninetieth})"
    fix = f"set training.ppo.max_gen_len to about {ninetieth}, or run SFT on shorter responses"
    if longer > 0.5:
        return warning(measured, fix)
    return note(measured, fix) if longer > 0.1 else ok(measured)


@check(
    ("ppo",),
    what="SFT rows that training.ppo.ptx mixes in",
    why="A wrong path here would fail only after all models have been loaded.",
)
def ptx_rows(context: PPOContext) -> CheckOutcome:
    """Read them and count those that fit."""
    ptx = context.settings.ptx
    if ptx is None:
        return ok("none are mixed in")
    rows = read_stage_rows(ptx.data, "sft", context.config.seed).train[: sources.SAMPLE_ROWS]
    report = DataReport(ptx.data.path)
    for row in rows:
        encoded = encode(context.renderer, row, ptx.data.max_length)
        report.keep()
        if isinstance(encoded, RenderFailure):
            report.drop_kept("", encoded.reason, detail=encoded.detail)
    fits = report.kept
    measured = f"{fits} of {len(rows)} rows fit {ptx.data.max_length} tokens"
    fix = report.explain_empty()[1].replace("data.max_length", "training.ppo.ptx.data.max_length")
    if fits == 0:
        return error(f"{measured}: {report.explain_empty()[0]}", fix)
    return ok(measured) if fits > 0.9 * len(rows) else warning(measured, fix)


@check(
    ("sft", "reward", "classifier", "dpo"),
    what="duplicate rows",
    why="A duplicate counts twice in training, and a duplicate among the held-out rows makes their metrics too good.",
)
def repeated_rows(context: Context) -> CheckOutcome:
    """Compare whole rows: prompt and responses."""
    rows = context.rows.train
    repeats = len(rows) - len({_row_content(row) for row in rows})
    measured = f"{repeats:,} of {len(rows):,} rows repeat an earlier one"
    fix = "remove the repeated rows"
    if repeats > len(rows) / 4:
        return warning(measured, fix)
    return note(measured, fix) if repeats > len(rows) / 50 else ok(measured)


@check(
    ALL,
    what="prompts that are trained on and also held out, or evaluated on",
    why="A model does better on prompts it was trained on, so a leak makes every held-out metric too good.",
)
def leakage(context: Context) -> CheckOutcome:
    """Compare conversations, not row ids."""
    trained = {_prompt_text(row) for row in context.rows.train}
    tests = {"held-out": [_prompt_text(row) for row in context.rows.held_out]}
    if context.pipeline.evaluation_data is not None:
        tested = read_stage_rows(context.pipeline.evaluation_data, "ppo", context.config.seed).train
        tests["evaluation"] = [_prompt_text(row) for row in tested]
    shares = {name: _share(prompts, trained) for name, prompts in tests.items() if prompts}
    if not shares:
        return note("no held-out rows: nothing can leak, and nothing is measured")
    text = ", ".join(f"{share:.1%} of {len(tests[name]):,} {name}" for name, share in shares.items())
    measured = f"{text} prompts are trained on"
    fix = "remove them from data.path, or use data.eval_fraction, which never leaks"
    worst = max(shares.values())
    if worst > 0.1:
        return error(measured, fix)
    return warning(measured, fix) if worst else ok(measured)


@check(
    ("reward", "dpo"),
    what="which side of a pair is the empty, repetitive, unfinished or evasive one",
    why="With chosen and rejected swapped, training runs and the model learns to prefer the worse response.",
)
def preference_direction(context: Context) -> CheckOutcome:
    """Count the pairs in which exactly one side is visibly poor."""
    worse = {"chosen": 0, "rejected": 0}
    longer, compared = 0, 0
    for row in context.rows.train:
        if not isinstance(row, Preference) or row.label == 0.5:
            continue
        preferred, other = (row.chosen, row.rejected) if row.label > 0.5 else (row.rejected, row.chosen)
        compared += 1
        longer += len(preferred) > len(other)
        if _is_low_quality(preferred) != _is_low_quality(other):
            worse["chosen" if _is_low_quality(preferred) else "rejected"] += 1
    worse_count = sum(worse.values())
    if not compared:
        return note("no pair is given as text")
    measured = (
        f"poor side chosen {worse['chosen']:,}, rejected {worse['rejected']:,} times; "
        f"the longer response is chosen in {longer / compared:.0%} of {compared:,}"
    )
    if worse_count and wilson_interval(worse["chosen"], worse_count)[0] > 0.5:
        return warning(measured, "read some pairs: are chosen and rejected, or the label's order, swapped?")
    return ok(measured)


def _cost(
    renderer: Renderer, rows: Sequence[ParsedRow], lengths: Sequence[int], limit: int
) -> tuple[float, float]:
    """Return the shares of rows that a limit drops and shortens."""
    long = [row for row, length in zip(rows, lengths, strict=True) if length > limit]
    dropped = sum(isinstance(encode(renderer, row, limit), RenderFailure) for row in long)
    return dropped / len(rows), (len(long) - dropped) / len(rows)


def _prompt_text(row: ParsedRow) -> str:
    if isinstance(row, TokenPair):
        return repr(shared_prefix(row))
    prompt = row if isinstance(row, Prompt) else row.prompt
    return content_hash(prompt.messages, prompt.tools)


def _row_content(row: ParsedRow) -> object:
    if isinstance(row, TokenPair):
        return row.chosen_tokens, row.rejected_tokens
    if isinstance(row, Preference):
        return _prompt_text(row), row.chosen, row.rejected
    return _prompt_text(row), row.response if isinstance(row, Demonstration) else ""


def _share(prompts: Sequence[str], trained: set[str]) -> float:
    return sum(prompt in trained for prompt in prompts) / len(prompts)


def _is_low_quality(text: str) -> bool:
    """Detect responses of at most one word, repetition, and refusals."""
    words = text.lower().replace("’", "'").split()
    if len(words) < 2 or repeated_ngram_fraction(words, 3) > 0.3:
        return True
    return " ".join(words).startswith(UNSURE)


def _length(renderer: Renderer, row: ParsedRow) -> int | None:
    """Count the tokens of a whole row; None where the template rejects it."""
    try:
        if isinstance(row, Prompt):
            return len(renderer.encode_prompt(row.messages, row.tools))
        if isinstance(row, TokenPair):
            return max(len(row.chosen_tokens), len(row.rejected_tokens))
        return renderer.count_tokens(row)
    except UserError:
        return None


ROW_CHECKS: tuple[Check, ...] = (rows_kept,)
DATA_CHECKS: tuple[Check, ...] = (
    max_length,
    responses_fit,
    ptx_rows,
    repeated_rows,
    leakage,
    preference_direction,
)
