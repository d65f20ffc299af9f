"""Score existing responses with any scorers of an evaluation; every column of the table is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harken.config import ScoringConfig
from harken.config.evaluation_options import response_file
from harken.data import columns, files, sources
from harken.data.external_responses import (
    GENERATOR_COLUMNS,
    RESPONSE_COLUMNS,
    ExternalResponse,
    read_external_responses,
)
from harken.data.fields import Row
from harken.errors import UserError
from harken.evaluation import fixed_inputs
from harken.evaluation.response_files import fingerprint_rows, match_prompts, number_columns
from harken.evaluation.responses import BATCH_SHAPE, PolicyResponses, response_row
from harken.evaluation.scorers import Scorers, first_scores, further_scores, resolve_scorers
from harken.evaluation.verdict import REWARD_MODEL_SCORER
from harken.generation.once import WrittenResults, write_once
from harken.models.device import choose_device, device_kind
from harken.records import Prompt, Rollout
from harken.run import checksums, signals
from harken.run.counted import counted
from harken.run.folder import ResponsesFolder
from harken.run.lock import write_lock
from harken.run.tables import write_rows
from harken.run.terminal import format_table

PRIMARY_SCORE = "reward"
"""The column of the primary scorer's scores, as in the table of an evaluation."""
KEPT_REWARD = "score_reward"
"""The column for the responses' own `reward`, unless it is a copy of one of their scores."""
UNNAMED_POLICY = "responses"
"""Policy name for rows without one."""


def run_score(config: ScoringConfig, output: Path) -> ResponsesFolder:
    """Write the responses with a column `score_<name>` per scorer, the primary scorer's first, and `reward`.

    The responses themselves are not changed: all their rows, in their order, and all their columns are in the new
    folder. A row without a response is kept, without scores. With the same folder, it resumes. Raises UserError when a
    scorer is missing, a score column exists already, the folder holds scores of other responses or scorers, or
    another process writes it.
    """
    with write_lock(output):
        with signals.handle_signals():
            folder = _run(config, ResponsesFolder(output))
        signals.raise_if_pending()
        return folder


def _run(config: ScoringConfig, folder: ResponsesFolder) -> ResponsesFolder:
    path = response_file(config.responses)
    checksums.verify_file(Path(path).expanduser())
    responses_read = read_external_responses(path, renamed=config.columns)
    rows = dict(columns.rename_columns(files.read_source_rows(path, "train"), config.columns, path))
    scorers = resolve_scorers(config.reward_model, config.judges, [number_columns(responses_read)])
    names = score_names(config)
    _require_new(names, rows.values(), path)
    settings = config.model_dump(mode="json", exclude={"output_dir"}) | {
        "fingerprints": {"responses": fingerprint_rows(responses_read), **scorers.fingerprints()},
        "batch_shape": BATCH_SHAPE,
        "device_kind": device_kind(choose_device(config.device)),
    }
    prompts: list[Prompt] | None = None
    if config.data is not None:
        prompts, _ = sources.load_prompts(config.data, seed=config.seed)
        settings["prompts"] = fixed_inputs.fingerprint_prompts(prompts)

    def make() -> WrittenResults:
        matched_prompts = match_prompts(responses_read, prompts, path)
        responses, places = _by_policy(responses_read, matched_prompts)
        scores = _scores(config, scorers, responses, folder.shards, names)
        table = _table(responses_read, rows, matched_prompts, responses, places, scores, names)
        write_rows(folder.responses, table)
        lineage = {
            "responses": {"name": config.responses, "fingerprint": settings["fingerprints"]["responses"]},
            "scorers": {
                name: print_ for name, print_ in settings["fingerprints"].items() if name != "responses"
            },
            "primary": names[0],
        }
        counts = _counts(table, names)
        return WrittenResults(
            lineage, counts, [_means(table, names), f"{folder.responses}: {counted(len(table), 'response')}"]
        )

    with fixed_inputs.freeze_template_clock(
        [scorers.reward_model] if scorers.reward_model else [], folder.config, settings
    ):
        write_once(folder, settings, make)
    return folder


def score_names(config: ScoringConfig) -> list[str]:
    """Return the columns of scores, the primary scorer's first."""
    judges = [f"score_{judge.column}" for judge in config.judges]
    return [f"score_{REWARD_MODEL_SCORER}", *judges] if config.reward_model is not None else judges


def _require_new(names: Sequence[str], rows: Any, path: str) -> None:
    """Raise UserError where a score would replace a column of the responses."""
    existing = {key for row in rows if isinstance(row, dict) for key in row}
    if taken := [name for name in names if name in existing]:
        raise UserError(
            f"the responses have a column {taken[0]} already, and no score is replaced",
            where=path,
            fix="give the scorer another name (judges: [{type: model, checkpoint_path: …, name: …}]), or score the "
            "responses without that column",
        )


def _by_policy(
    responses: Sequence[ExternalResponse], prompts: Sequence[Prompt | None]
) -> tuple[dict[str, PolicyResponses], list[tuple[str, int] | None]]:
    """Return the responses of each policy, and for each response read its policy and its index there.

    The index is None for one that cannot be scored: it has no text, or its prompt is not known.
    """
    rollouts: dict[str, list[Rollout]] = {}
    external: dict[str, list[ExternalResponse]] = {}
    samples: dict[tuple[str, str], int] = {}
    places: list[tuple[str, int] | None] = []
    for response, prompt in zip(responses, prompts, strict=True):
        if prompt is None or response.text is None:
            places.append(None)
            continue
        policy = response.generator or UNNAMED_POLICY
        sample_count = samples.get((policy, prompt.id), 0)
        samples[policy, prompt.id] = sample_count + 1
        sample = sample_count if response.sample is None else response.sample
        stop = response.stop or "end_of_turn"
        policy_rollouts = rollouts.setdefault(policy, [])
        places.append((policy, len(policy_rollouts)))
        policy_rollouts.append(Rollout(prompt, sample, (), (), (), response.text, stop, policy))
        external.setdefault(policy, []).append(response)
    policy_responses = {
        policy: PolicyResponses(policy_rollouts, None, external[policy])
        for policy, policy_rollouts in rollouts.items()
    }
    return policy_responses, places


def _scores(
    config: ScoringConfig,
    scorers: Scorers,
    responses: Mapping[str, PolicyResponses],
    shards: Path,
    names: Sequence[str],
) -> dict[str, Mapping[str, Sequence[float | None]]]:
    """Return the scores by column and policy, the primary scorer's first."""
    primary: Mapping[str, Sequence[float | None]] = first_scores(scorers, responses, config, shards)
    further = further_scores(scorers, responses, config, shards)
    return dict(zip(names, [primary, *further.values()], strict=True))


def _table(
    responses_read: Sequence[ExternalResponse],
    rows: Mapping[str, Any],
    prompts: Sequence[Prompt | None],
    responses: Mapping[str, PolicyResponses],
    places: Sequence[tuple[str, int] | None],
    scores: Mapping[str, Mapping[str, Sequence[float | None]]],
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """Return one row per response: the columns of an evaluation's table, the scores, then the file's other columns."""
    scored = []
    for response, prompt, position in zip(responses_read, prompts, places, strict=True):
        row_scores: dict[str, float | None] = dict.fromkeys([PRIMARY_SCORE, *names])
        if position is None:
            # The row stays in the table; unknown values are null.
            blank = Rollout(
                prompt or Prompt(response.id or "", response.messages), 0, (), (), (), "", "length", ""
            )
            row = response_row(
                response.generator or UNNAMED_POLICY,
                PolicyResponses([blank], None, [response]),
                0,
                row_scores,
            ) | {"response": response.text, "sample": response.sample}
        else:
            policy, index = position
            row_scores = {name: scores[name][policy][index] for name in names}
            row = response_row(
                policy, responses[policy], index, {PRIMARY_SCORE: row_scores[names[0]], **row_scores}
            )
        scored.append(row)
    other_columns = _other_columns(responses_read, rows, scored[0].keys())
    return [row | further for row, further in zip(scored, other_columns, strict=True)]


def _other_columns(
    responses: Sequence[ExternalResponse], rows: Mapping[str, Row], row_columns: Any
) -> list[dict[str, Any]]:
    """Return the further columns of each response's row; a column of objects or of mixed types becomes JSON text.

    The column that the response was read from is left out. The responses' own column `reward`, unless it is a copy of
    one of their scores, is kept as `score_reward`.
    """
    written_columns = {*row_columns, *RESPONSE_COLUMNS, *GENERATOR_COLUMNS}
    kept_reward = KEPT_REWARD not in row_columns and _has_own_reward(list(rows.values()))
    other_columns = []
    for response in responses:
        row = rows[response.where]
        further = {key: value for key, value in row.items() if key not in written_columns}
        if type(row.get("prompt_tokens")) is int:
            further["prompt_tokens"] = row["prompt_tokens"]
        if kept_reward:
            further[KEPT_REWARD] = row.get(PRIMARY_SCORE)
        other_columns.append(further)
    names = list(dict.fromkeys(name for further in other_columns for name in further))
    values = {name: _plain([further.get(name) for further in other_columns]) for name in names}
    return [{name: values[name][index] for name in names} for index in range(len(other_columns))]


def _has_own_reward(rows: Sequence[Row]) -> bool:
    """Return whether the rows have a column `reward` that is not the copy of one of their columns of scores."""
    scores = {key for row in rows for key in row if key.startswith("score_")}
    if all(row.get(PRIMARY_SCORE) is None for row in rows):
        return False
    return not any(all(row.get(key) == row.get(PRIMARY_SCORE) for row in rows) for key in scores)


def _plain(cells: Sequence[Any]) -> list[Any]:
    """Return the cells unchanged if all are text, all numbers or all booleans, else as JSON text."""
    kinds = {
        bool if isinstance(cell, bool) else float if isinstance(cell, int | float) else type(cell)
        for cell in cells
    }
    if kinds - {type(None)} in ({str}, {bool}, {float}, set()):
        return list(cells)
    return [None if cell is None else json.dumps(cell, ensure_ascii=False, default=str) for cell in cells]


def _counts(table: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    return {
        "responses": len(table),
        "without_response": sum(row["response"] is None for row in table),
        "scored": {name: sum(row[name] is not None for row in table) for name in names},
    }


def _means(table: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return a table of each policy's mean scores and the number of responses with a score."""
    policies = list(dict.fromkeys(str(row["policy"]) for row in table))
    cells: dict[str, list[str]] = {"policy": policies, "responses": []}
    cells["responses"] = [str(sum(row["policy"] == policy for row in table)) for policy in policies]
    for name in names:
        cells[name] = []
        for policy in policies:
            values = [row[name] for row in table if row["policy"] == policy and row[name] is not None]
            cells[name].append(f"{np.mean(values):.4g} ± {np.std(values):.2g}" if values else "none")
    return format_table(cells) + "\n(mean ± standard deviation over the responses)"
