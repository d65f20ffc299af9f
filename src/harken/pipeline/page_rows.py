"""Read what a run alone has to show of its responses: those to held-out prompts, and its rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harken.evaluation import audit
from harken.inspection.page_tokens import rounded, spread
from harken.inspection.recorded import recorded_updates
from harken.inspection.rows import RolloutRow, require_rows
from harken.inspection.unreadable import UnreadableFiles
from harken.run.credit_table import read_credit
from harken.run.folder import RunFolder
from harken.run.tables import JUDGE_COLUMN, read_rows

ROLLOUTS = "training"
"""The policy of rollouts on the page: it changes with every update."""
BEFORE = "before training"
MAX_ROLLOUTS = 1500
"""Rollouts of a page; of a longer run updates at equal distances are shown, the last among them."""
MAX_POLICIES = 4
"""Held-out evaluations that are shown side by side."""
MAX_POINTS_PER_PROMPT = 40
"""Held-out evaluations that the slider of one prompt has."""

_Row = dict[str, Any]


def run_rows(runs: Mapping[str, RunFolder], unreadable: UnreadableFiles) -> list[_Row]:
    """Return rows with the columns of responses.parquet: held-out responses, then rollouts.

    Of one run several evaluations are compared; of several runs the last evaluation of each, and the first one's start.
    A file that cannot be read is left out, and noted in `unreadable`.
    """
    several = len(runs) > 1
    rows: list[_Row] = []
    for number, (name, run) in enumerate(runs.items()):
        done = recorded_updates(run.held_out)
        shown = done[-1:] if several else spread(done, MAX_POLICIES)
        if several and number == 0 and done[:1] == [0] and len(done) > 1:
            shown = [0, *shown]
        for update in shown:
            policy = BEFORE if update == 0 else name if several else f"update {update}"
            rows += [_held_out(row, policy) for row in _table(run.held_out, update, unreadable)]
    for name, run in runs.items():
        policy = f"{ROLLOUTS} {name}" if several else ROLLOUTS
        rows += _rollouts(run, policy, MAX_ROLLOUTS // len(runs), unreadable)
    return rows


def checkpoint_data(runs: Mapping[str, RunFolder], unreadable: UnreadableFiles) -> list[dict[str, Any]]:
    """Return the responses to each recorded held-out prompt over the evaluations of each run, as page data.

    A file that cannot be read is left out, and noted in `unreadable`.
    """
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for stage, run in runs.items():
        for update in spread(recorded_updates(run.held_out), MAX_POINTS_PER_PROMPT):
            for row in _table(run.held_out, update, unreadable):
                entry = found.setdefault(
                    (stage, row["prompt_id"], row["sample"]),
                    {"id": row["prompt_id"], "stage": stage, "prompt": row["prompt"], "points": []},
                )
                entry["points"].append(
                    {
                        "step": update,
                        "text": row["response"],
                        "reward": row["reward"],
                        "tokens": len(row["response_tokens"]),
                        "stop": row["stop"],
                        "scores": _scores(row),
                    }
                )
    return list(found.values())


def _rollouts(run: RunFolder, policy: str, limit: int, unreadable: UnreadableFiles) -> list[_Row]:
    updates = recorded_updates(run.rollouts)
    tables: dict[int, list[_Row]] = {}
    for update in reversed(updates):  # the last one that can be read says how many updates fit
        if tables.setdefault(update, _table(run.rollouts, update, unreadable)):
            break
    size = max((len(table) for table in tables.values()), default=0)
    rows: list[_Row] = []
    for update in spread(updates, max(limit // size, 1)) if size else []:
        table = tables[update] if update in tables else _table(run.rollouts, update, unreadable)
        kl = _kl(run, update, len(table), unreadable)
        rows += [
            _row(row, policy, f"{row['prompt_id']} · update {update}")
            | _score_columns(row)
            | {"kl": kl[number], "update": update}
            for number, row in enumerate(table)
        ]
    return rows


def _held_out(row: _Row, policy: str) -> _Row:
    return _row(row, policy, row["prompt_id"]) | _score_columns(row)


def _row(row: _Row, policy: str, prompt: str) -> _Row:
    return {
        "prompt_id": prompt,
        "policy": policy,
        "sample": row["sample"],
        "domain": row["domain"],
        "language": row["language"],
        "prompt": row["prompt"],
        "messages": row["messages"],
        "response": row["response"],
        "prompt_tokens": len(row["prompt_tokens"]),
        "response_tokens": len(row["response_tokens"]),
        "stop": row["stop"],
        "reward": row["reward"],
        "repeated_4grams": audit.repetition(row["response"]),
        "empty": not row["response"].strip(),
        "cap_hit": row["stop"] == "length",
        "source": f"sampled after {row['policy_version'].replace('-', ' ')}",
    }


def _scores(row: _Row) -> dict[str, float | None]:
    """Return the scores by name: the judges', then the parts of the reward where it has several.

    The page compares the reward with the first one; the only part of a reward says the same as the reward.
    """
    names = [name.removeprefix("score_") for name in row if name.startswith("score_")]
    judges = [name for name in names if name.startswith(JUDGE_COLUMN)]
    found = {name.removeprefix(JUDGE_COLUMN): row[f"score_{name}"] for name in judges}
    parts = [name for name in names if name not in judges and name not in found]
    return found | ({name: row[f"score_{name}"] for name in parts} if len(parts) > 1 else {})


def _score_columns(row: _Row) -> _Row:
    return {f"score_{name}": value for name, value in _scores(row).items()}


def _kl(run: RunFolder, update: int, count: int, unreadable: UnreadableFiles) -> list[float | None]:
    """Return the KL of each rollout, summed over its tokens, nats; None where it was not recorded."""
    path = run.credit / _name(update)
    found = unreadable.read(partial(read_credit, path)) if path.exists() else None
    if found is None or len(found) != count:
        return [None] * count
    return [rounded(sum(row["kl"])) for row in found]


def _table(folder: Path, update: int, unreadable: UnreadableFiles) -> list[_Row]:
    """Read a table of rollouts; [] where that fails."""
    return unreadable.read(partial(_read_table, folder / _name(update))) or []


def _read_table(path: Path) -> list[_Row]:
    rows = read_rows(path)
    require_rows(rows, RolloutRow, path)
    return rows


def _name(update: int) -> str:
    return f"update-{update:06d}.parquet"
