"""Read and validate the files of an evaluation and of a report. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from harken.errors import UserError
from harken.run import json_io
from harken.run.json_io import Schema
from harken.run.tables import read_rows

FIX = (
    "restore the file, or delete the evaluation's folder and run the pipeline again to repeat the evaluation"
)
_FIX_RESPONSES = "restore the file, or run `harken generate` or `harken score` again"


class _Mean(Schema):
    """`low` and `high` are None where the values give no estimate of the error."""

    value: float
    low: float | None
    high: float | None


class _Rate(Schema):
    value: float
    low: float
    high: float
    count: int | float
    n: int


class _Change(_Mean):
    only_left: int
    only_right: int
    mcnemar_p: float


class _Policy(Schema):
    policy: str
    win_rate: _Rate
    reward: _Mean
    median_response_tokens: float
    reward_length_correlation: dict[str, float | None]
    cap_hit: _Rate | None
    empty: _Rate | None
    repetition: _Rate | None
    judges: dict[str, _Mean | None]


class _Wins(Schema):
    n: int
    wins: int
    ties: int
    losses: int
    win_rate: _Rate | None
    loss_rate: _Rate | None
    win_rate_decided: _Rate | None
    win_share: _Rate | None


class _HeadToHead(_Wins):
    reward: _Mean
    judges: dict[str, _Mean | None]


class _Slice(_HeadToHead):
    column: str
    value: str
    sign_test_p: float
    q: float


class _Scorer(_Wins):
    sign_test_p: float
    holm_p: float


class _Disagreement(Schema):
    scorers: list[str]
    rate: _Rate | None


class _Length(Schema):
    unit: str
    controlled: _Mean
    phi: float
    draws: int
    matched: _Wins


class _Style(Schema):
    mean_left: dict[str, float]
    mean_right: dict[str, float]
    controlled: _Mean
    theta: float
    effects: dict[str, float]
    draws: int


class _Variance(Schema):
    prompt: float
    sample: float
    standard_errors: dict[str, float]
    limit: float


class _Pair(_HeadToHead):
    left: str
    right: str
    sign_test_p: float
    holm_p: float
    within_repeatability: int | None
    standard_error: float | None
    hodges_lehmann: _Mean
    wilcoxon_p: float | None
    cohen_dz: float | None
    detectable_difference: float | None
    detectable_win_rate: float
    cap_hit: _Change | None
    empty: _Change | None
    repetition: _Change | None
    length: _Length
    style: _Style | None
    scorers: dict[str, _Scorer]
    disagreement: list[_Disagreement]
    variance: _Variance | None
    domains: dict[str, _Slice]
    slices: list[_Slice]


class _Strength(_Mean):
    policy: str


class _Strengths(Schema):
    policies: list[_Strength]
    tie_parameter: float
    draws: int


class _Summary(Schema):
    policies: list[str]
    baseline: str
    judges: list[str]
    n: int
    prompts: int
    samples: int
    clusters: int
    cluster_column: str | None
    tie_epsilon: float
    repeatability: float | None
    length_unit: str
    draws: int
    refit_draws: int
    detectable_win_rate: float
    table: list[_Policy]
    ties: _Rate
    pairs: list[_Pair]
    strengths: _Strengths | None


_Tokens = Annotated[int, Field(ge=0)] | None


class _Message(Schema):
    role: str
    content: str


class _Conversation(Schema):
    messages: list[_Message]


class _Response(Schema):
    prompt_id: str
    policy: str
    sample: int
    domain: str | None
    language: str | None
    prompt: str
    response: str
    stop: str | None
    response_tokens: _Tokens
    reward: float
    repeated_4grams: float


class _Score(Schema):
    score: float | None


class _ScoredResponse(Schema):
    prompt_id: str
    policy: str
    sample: int
    messages: str
    response: str
    response_tokens: _Tokens = None
    reward: float | None = None


class _DataReport(Schema):
    path: str
    raw: int
    kept: int
    dropped: dict[str, int]
    shortened: dict[str, int]


def read_responses(path: Path, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the responses of a summary.

    Raises UserError, naming the row, for a table that is damaged or belongs to another evaluation.
    """
    rows = read_rows(path)
    policies_of: dict[tuple[str, int], set[str]] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}:row {number}"
        json_io.validate(row, _Response, where, FIX)
        json_io.validate({"messages": _messages(row.get("messages"), where)}, _Conversation, where, FIX)
        if missing := [judge for judge in summary["judges"] if f"score_{judge}" not in row]:
            raise UserError(f"there is no column score_{missing[0]}", where=where, fix=FIX)
        _validate_scores(row, [f"score_{judge}" for judge in summary["judges"]], where, FIX)
        policies_of.setdefault((row["prompt_id"], row["sample"]), set()).add(row["policy"])
    for (prompt, _), policies in policies_of.items():
        if policies != set(summary["policies"]):
            raise UserError(
                f"prompt {prompt!r} has responses of {', '.join(sorted(policies))} only",
                where=str(path),
                fix=FIX,
            )
    if not rows:
        raise UserError("the table has no responses", where=str(path), fix=FIX)
    return rows


def read_scored_responses(path: Path) -> list[dict[str, Any]]:
    """Read a table of responses that were generated or scored here, with or without rewards.

    Raises UserError, naming the row, for a row that lacks a column or has a value of another type.
    """
    rows = read_rows(path)
    for number, row in enumerate(rows, start=1):
        where = f"{path}:row {number}"
        json_io.validate(row, _ScoredResponse, where, _FIX_RESPONSES)
        _validate_scores(row, [name for name in row if name.startswith("score_")], where, _FIX_RESPONSES)
    return rows


def _validate_scores(row: dict[str, Any], names: Iterable[str], where: str, fix: str) -> None:
    """Raise UserError for a score that is neither a finite number nor null."""
    for name in names:
        try:
            json_io.validate({"score": row[name]}, _Score, where, fix)
        except UserError as error:
            raise UserError(error.what, where=f"{where}: {name}", fix=fix) from None


def read_data_reports(path: Path) -> list[dict[str, Any]]:
    """Read the data reports of a stage (data_report.json). Raises UserError for a damaged file."""
    reports = json_io.read_list(path)
    for number, report in enumerate(reports):
        json_io.validate(report, _DataReport, f"{path}: [{number}]")
    return reports


def _messages(text: object, where: str) -> object:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError) as error:
        raise UserError(f"its messages are not JSON ({error})", where=where, fix=FIX) from None


def read_summary(path: Path) -> dict[str, Any]:
    """Read the summary of an evaluation. Raises UserError, naming the key, for a damaged file."""
    summary = json_io.read_object(path, FIX)
    json_io.validate(summary, _Summary, str(path), FIX)
    for name, figures in _judge_figures(summary):
        if missing := [judge for judge in summary["judges"] if judge not in figures]:
            raise UserError(f"{name} has no figure of judge {missing[0]}", where=str(path), fix=FIX)
    return summary


def _judge_figures(summary: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """List the figures by judge of every policy and pair, each with its name."""
    policies = [(line["policy"], line["judges"]) for line in summary["table"]]
    pairs = [(f"{pair['left']} and {pair['right']}", pair["judges"]) for pair in summary["pairs"]]
    return policies + pairs
