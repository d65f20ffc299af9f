"""Evaluate policies in a Python program as `harken eval` does."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.api.configs import Reward, reward_settings
from harken.api.rows import RowsLike, data_settings
from harken.api.trainers import Model
from harken.config import EvaluationConfig
from harken.config.files import validate_settings
from harken.evaluation.suite import run_evaluation
from harken.reward.provided_function import provide_functions
from harken.run import json_io
from harken.run.folder import EvaluationFolder


def evaluate(
    policies: Mapping[str, Model],
    prompts: RowsLike,
    reward: Reward | Sequence[Reward],
    *,
    folder: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Let policies respond to the same prompts, score all responses, and return the summary (summary.json).

    The first policy is the baseline. The first reward scores the table and the pairs, the others are judges. `settings`
    are keys of an evaluation: max_gen_len, temperature, samples, seed, dtype, audit. With `folder` the evaluation is
    written as by `harken eval`; without one nothing is kept. Raises UserError where `harken eval` does.
    """
    parts = reward_settings(reward)
    judges = parts.settings.get("rewards", [])
    named: dict[str, Any] = {name: _name(model) for name, model in policies.items()}
    with tempfile.TemporaryDirectory(prefix="harken-") as temporary:
        output = EvaluationFolder(Path(folder) if folder is not None else Path(temporary) / "evaluation")
        values: dict[str, Any] = {"policies": named, "judges": judges, **settings}
        values["data"] = data_settings(prompts, None, output.root / "rows") | dict(settings.get("data", {}))
        if "reward_model" in parts.settings:
            values["reward_model"] = parts.settings["reward_model"]["checkpoint_path"]
        config = validate_settings(EvaluationConfig, values, "the arguments")
        with provide_functions(parts.functions):
            run_evaluation(config, output.root)
        return dict(json_io.read_object(output.summary, "evaluate again in another folder"))


def compare(
    baseline: Model,
    policy: Model,
    prompts: RowsLike,
    reward: Reward | Sequence[Reward],
    *,
    folder: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Compare two policies on the same prompts and return the figures of the pair: wins, ties, losses and intervals.

    The figures are those of `policy` against `baseline`. Everything else is as in `evaluate`.
    """
    policies = {"baseline": baseline, "policy": policy}
    summary = evaluate(policies, prompts, reward, folder=folder, **settings)
    return dict(summary["pairs"][0])


def _name(model: Model) -> str:
    return str(model) if isinstance(model, str | Path) else model.name
