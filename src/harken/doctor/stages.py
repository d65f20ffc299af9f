"""List the training stages to check; missing outputs of earlier stages of a pipeline are replaced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harken.config import EvaluationConfig, PipelineConfig, RunConfig
from harken.config.base import DataConfig
from harken.config.rewards import EnsemblePart, HonestyBonusPart, ModelPart, SycophancyPenaltyPart
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
    """Yield each training stage with the known data of the other stages.

    Where an earlier stage has not run yet, the model that its policy starts from replaces the policy, and an untrained
    reward head replaces the reward model. A stage whose rows an earlier stage will make is not checked.
    """
    if isinstance(config, RunConfig):
        yield CheckedStage(config.training.type, config, Path(str(config.output_dir)))
        return
    all_stages = resolve_stages(config, Path(str(config.output_dir)))
    for stage in all_stages:
        if isinstance(stage.config, RunConfig):
            yield _checked(stage, stage.config, all_stages)


def _checked(stage: PipelineStage, run: RunConfig, all_stages: Sequence[PipelineStage]) -> CheckedStage:
    missing = {
        str(required.output): required
        for required in all_stages
        if required.name in stage.uses and not required.finished
    }
    paths = (run.data.path, run.data.eval_path)
    if (maker := next((missing[path] for path in paths if path in missing), None)) is not None:
        return CheckedStage(
            stage.name,
            run,
            stage.root,
            rows_missing=f"its rows are made by stage {maker.name}, which has not run",
        )
    ancestors = _ancestors(stage, all_stages)
    keys = run.model_dump(exclude_unset=True)
    policy_missing = ""
    if run.model_name in missing:
        policy_missing = f"{missing[run.model_name].root} is not trained yet"
        keys["model_name"] = _trained_start(stage, all_stages)
    reward_missing = _replace_rewards(keys, missing)
    rewards = [
        required for required in all_stages if required.name in stage.uses and required.type == "reward"
    ]
    evaluations = [other.config for other in all_stages if isinstance(other.config, EvaluationConfig)]
    info = PipelineInfo(
        demonstrations=_data([trained for trained in (stage, *ancestors) if trained.type == "sft"]),
        pairs=_data(rewards),
        evaluation_data=evaluations[-1].data if evaluations else None,
        sft_missing=policy_missing,
        reward_model_missing=reward_missing,
        judges=_judges(evaluations, all_stages),
        sft_before=any(ancestor.type == "sft" for ancestor in ancestors),
    )
    return CheckedStage(stage.name, RunConfig.model_validate(keys), stage.root, info)


def _ancestors(stage: PipelineStage, all_stages: Sequence[PipelineStage]) -> list[PipelineStage]:
    """Return the stages that a stage's model was trained by, the nearest first."""
    ancestors = []
    while stage.start not in (None, MODEL):
        stage = find_stage(all_stages, str(stage.start))
        ancestors.append(stage)
    return ancestors


def _trained_start(stage: PipelineStage, all_stages: Sequence[PipelineStage]) -> str:
    """Return the nearest existing model in the chain that a stage starts from."""
    for ancestor in _ancestors(stage, all_stages):
        if ancestor.finished:
            return str(ancestor.output)
        stage = ancestor
    assert isinstance(stage.config, RunConfig)
    return stage.config.model_name


def _data(candidates: Sequence[PipelineStage]) -> DataConfig | None:
    configs = [stage.config for stage in candidates]
    return next((config.data for config in configs if isinstance(config, RunConfig)), None)


def _judges(evaluations: Sequence[EvaluationConfig], all_stages: Sequence[PipelineStage]) -> tuple[Any, ...]:
    """Return the judges of the last evaluation that exist and are not columns of response files."""
    unmade = {str(other.output): other for other in all_stages if not other.finished}
    judges = evaluations[-1].judges if evaluations else []
    return tuple(judge for judge in judges if judge.type != "column" and not _is_missing(judge, unmade))


def _is_missing(part: object, missing: dict[str, PipelineStage]) -> bool:
    if isinstance(part, ModelPart):
        return part.checkpoint_path in missing
    if isinstance(part, SycophancyPenaltyPart | HonestyBonusPart):
        return part.model_name in missing
    return isinstance(part, EnsemblePart) and any(path in missing for path in part.checkpoint_paths)


def _replace_rewards(keys: dict[str, Any], missing: dict[str, PipelineStage]) -> str:
    """Replace reward models of `keys` that do not exist yet by an untrained head, and leave out such judges.

    Returns the reason; "" if all exist.
    """
    training = dict(keys["training"])
    loop = dict(training.get("ppo") or {})
    missing_paths: list[str] = []

    def without(parts: list[Any]) -> list[Any]:
        paths = [
            [*part.get("checkpoint_paths", []), part.get("checkpoint_path"), part.get("model_name")]
            for part in map(_as_dict, parts)
        ]
        missing_paths.extend(path for part_paths in paths for path in part_paths if path in missing)
        return [
            part for part, part_paths in zip(parts, paths, strict=True) if not set(part_paths) & set(missing)
        ]

    if training.get("rewards"):
        training["rewards"] = without(training["rewards"])
    model = training.get("reward_model")
    if model and model.get("checkpoint_path") in missing:
        missing_paths.append(model["checkpoint_path"])
        model = None
    if missing_paths and not model:
        training["reward_model"] = {"random_for_debugging": True}
        loop.pop("critic_init", None)  # there is no reward model to initialise it from
    if loop.get("judges"):
        loop["judges"] = without(loop["judges"])
    if not missing_paths:
        return ""
    keys["training"] = training | ({"ppo": loop} if loop else {})
    return f"{missing[missing_paths[0]].root} is not trained yet"


def _as_dict(part: Any) -> dict[str, Any]:
    return part if isinstance(part, dict) else {}
