"""List the training stages that are checked; what earlier stages of a pipeline have not made yet is replaced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harken.config import EvaluationConfig, PipelineConfig, RunConfig
from harken.config.base import DataConfig
from harken.config.rewards import EnsemblePart, ModelPart
from harken.config.stages import MODEL, PipelineStage, find_stage, resolve_stages
from harken.doctor.context import PipelineInfo


@dataclass(frozen=True)
class CheckedStage:
    """Describe a training stage as it is checked."""

    name: str
    config: RunConfig
    output: Path
    info: PipelineInfo = field(default_factory=PipelineInfo)
    rows_missing: str = ""
    """Why the stage cannot be checked: its rows do not exist yet. "" when they do."""


def stages(config: RunConfig | PipelineConfig) -> Iterator[CheckedStage]:
    """Yield each training stage with what is known of the other stages.

    Where an earlier stage has not run yet, the model that its policy starts from replaces the policy, and an untrained
    reward head replaces the reward model. A stage whose rows an earlier stage will make is not checked.
    """
    if isinstance(config, RunConfig):
        yield CheckedStage(config.training.type, config, Path(str(config.output_dir)))
        return
    every = resolve_stages(config, Path(str(config.output_dir)))
    for stage in every:
        if isinstance(stage.config, RunConfig):
            yield _checked(stage, stage.config, every)


def _checked(stage: PipelineStage, run: RunConfig, every: Sequence[PipelineStage]) -> CheckedStage:
    missing = {str(one.output): one for one in every if one.name in stage.uses and not one.finished}
    paths = (run.data.path, run.data.eval_path)
    if (made := next((missing[path] for path in paths if path in missing), None)) is not None:
        return CheckedStage(
            stage.name,
            run,
            stage.root,
            rows_missing=f"its rows are made by stage {made.name}, which has not run",
        )
    ancestors = _ancestors(stage, every)
    keys = run.model_dump(exclude_unset=True)
    policy_missing = ""
    if run.model_name in missing:
        policy_missing = f"{missing[run.model_name].root} is not trained yet"
        keys["model_name"] = _trained_start(stage, every)
    reward_missing = _replace_rewards(keys, missing)
    rewards = [one for one in every if one.name in stage.uses and one.type == "reward"]
    evaluations = [one.config for one in every if isinstance(one.config, EvaluationConfig)]
    info = PipelineInfo(
        demonstrations=_data([one for one in (stage, *ancestors) if one.type == "sft"]),
        pairs=_data(rewards),
        evaluation_data=evaluations[-1].data if evaluations else None,
        sft_missing=policy_missing,
        reward_model_missing=reward_missing,
        judges=_judges(evaluations, every),
        sft_before=any(one.type == "sft" for one in ancestors),
    )
    return CheckedStage(stage.name, RunConfig.model_validate(keys), stage.root, info)


def _ancestors(stage: PipelineStage, every: Sequence[PipelineStage]) -> list[PipelineStage]:
    """Return the stages that a stage's model was trained by, the nearest first."""
    found = []
    while stage.start not in (None, MODEL):
        stage = find_stage(every, str(stage.start))
        found.append(stage)
    return found


def _trained_start(stage: PipelineStage, every: Sequence[PipelineStage]) -> str:
    """Return the nearest model in the chain that a stage starts from that exists."""
    for one in _ancestors(stage, every):
        if one.finished:
            return str(one.output)
        stage = one
    assert isinstance(stage.config, RunConfig)
    return stage.config.model_name


def _data(found: Sequence[PipelineStage]) -> DataConfig | None:
    configs = [one.config for one in found]
    return next((config.data for config in configs if isinstance(config, RunConfig)), None)


def _judges(evaluations: Sequence[EvaluationConfig], every: Sequence[PipelineStage]) -> tuple[Any, ...]:
    """Return the judges of the last evaluation that exist and are no column of response files."""
    unmade = {str(one.output): one for one in every if not one.finished}
    judges = evaluations[-1].judges if evaluations else []
    return tuple(one for one in judges if one.type != "column" and not _is_missing(one, unmade))


def _is_missing(part: object, missing: dict[str, PipelineStage]) -> bool:
    if isinstance(part, ModelPart):
        return part.checkpoint_path in missing
    return isinstance(part, EnsemblePart) and any(path in missing for path in part.checkpoint_paths)


def _replace_rewards(keys: dict[str, Any], missing: dict[str, PipelineStage]) -> str:
    """Replace reward models of `keys` that do not exist yet by an untrained head, and leave out such judges.

    Returns why; "" if all exist.
    """
    training = dict(keys["training"])
    loop = dict(training.get("ppo") or {})
    gone: list[str] = []

    def without(parts: list[Any]) -> list[Any]:
        paths = [
            [*one.get("checkpoint_paths", []), one.get("checkpoint_path")] for one in map(_as_dict, parts)
        ]
        gone.extend(path for own in paths for path in own if path in missing)
        return [part for part, own in zip(parts, paths, strict=True) if not set(own) & set(missing)]

    if training.get("rewards"):
        training["rewards"] = without(training["rewards"])
    model = training.get("reward_model")
    if model and model.get("checkpoint_path") in missing:
        gone.append(model["checkpoint_path"])
        model = None
    if gone and not model:
        training["reward_model"] = {"random_for_debugging": True}
        loop.pop("critic_init", None)  # there is no reward model to initialise it from
    if loop.get("judges"):
        loop["judges"] = without(loop["judges"])
    if not gone:
        return ""
    keys["training"] = training | ({"ppo": loop} if loop else {})
    return f"{missing[gone[0]].root} is not trained yet"


def _as_dict(part: Any) -> dict[str, Any]:
    return part if isinstance(part, dict) else {}
