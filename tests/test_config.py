"""The rules between settings, and that nothing is converted or changed behind the user's back."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from harken import config
from harken.config import EvaluationConfig, PipelineConfig, RunConfig
from harken.config.ppo import PPOSettings
from harken.config.rewarded_training import RewardModelSettings

RUN: dict[str, Any] = {"data": {"path": "p.jsonl"}, "training": {"type": "sft"}}


def test_a_configuration_is_frozen() -> None:
    run = RunConfig.model_validate(RUN)
    with pytest.raises(ValidationError):
        run.seed = 1  # type: ignore[misc]


def test_a_whole_number_will_do_where_a_number_is_wanted_and_nothing_else_is_converted() -> None:
    assert PPOSettings(gamma=1).gamma == 1.0
    for wrong in ("1", True, None):
        with pytest.raises(ValidationError):
            PPOSettings.model_validate({"gamma": wrong})
    with pytest.raises(ValidationError):
        PPOSettings.model_validate({"updates": 2.0})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kl_coef_min": 2.0, "kl_coef_max": 1.0}, "kl_coef_min is above kl_coef_max"),
        (
            {"minibatches": 5, "prompts_per_update": 2, "samples_per_prompt": 2},
            "more minibatches than rollouts",
        ),
        ({"temperature": 0.0}, "greater than or equal to 0.001"),
        ({"lam": 1.1}, "less than or equal to 1"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PPOSettings.model_validate(settings)


def test_as_many_minibatches_as_rollouts_will_do() -> None:
    assert PPOSettings(minibatches=4, prompts_per_update=2, samples_per_prompt=2).minibatches == 4


def test_a_random_reward_has_to_be_asked_for() -> None:
    """S1-08, S1-09: an empty path is an error, unless the random head is asked for by name."""
    with pytest.raises(ValidationError, match="no reward model is named"):
        RewardModelSettings()
    with pytest.raises(ValidationError, match="exclude each other"):
        RewardModelSettings(checkpoint_path="rm", random_for_debugging=True)
    assert RewardModelSettings(random_for_debugging=True).checkpoint_path == ""


def test_ppo_takes_no_dropout() -> None:
    ppo = {"type": "ppo", "reward_model": {"checkpoint_path": "rm"}}
    with pytest.raises(ValidationError, match=r"set lora\.dropout: 0"):
        RunConfig.model_validate({**RUN, "training": ppo, "lora": {"dropout": 0.05}})
    RunConfig.model_validate({**RUN, "lora": {"dropout": 0.05}})


def test_a_run_survives_its_own_dump() -> None:
    ppo = {"type": "ppo", "reward_model": {"checkpoint_path": "rm"}, "ppo": {"value_clip_range": None}}
    run = RunConfig.model_validate({**RUN, "training": ppo})
    assert RunConfig.model_validate(run.model_dump()) == run


def test_no_model_accepts_an_unknown_key() -> None:
    models = [m for m in vars(config).values() if isinstance(m, type) and issubclass(m, BaseModel)]
    assert all(m.model_config.get("extra") == "forbid" for m in models if m is not BaseModel)


@pytest.mark.parametrize("wrong", [{"lr": float("inf")}, {"lr": float("nan")}, {"batch_size": 10**12}])
def test_numbers_are_finite_and_counts_bounded(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RunConfig.model_validate(RUN | {"training": {"type": "sft"} | wrong})


ABSURD = (float("nan"), float("inf"), float("-inf"), 1e300, -1e300, 10**12, -(10**12), 10**400)


def numeric_fields() -> list[tuple[type[BaseModel], str, str]]:
    """Every number of every configuration, by its dotted key; those of a list's sections by their own model."""
    found: list[tuple[type[BaseModel], str, str]] = []
    seen: set[type[BaseModel]] = set()

    def walk(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
            seen.add(annotation)
            for name, field in annotation.model_fields.items():
                text = str(field.annotation)
                if re.search(r"\b(int|float)\b", text) and "bool" not in text:
                    found.append((annotation, name, text))
                walk(field.annotation)
        for part in get_args(annotation):
            walk(part)

    for model in (RunConfig, PipelineConfig, EvaluationConfig):
        walk(model)
    return found


FIELDS = numeric_fields()


@pytest.mark.parametrize(
    ("model", "name", "annotation"), FIELDS, ids=[f"{model.__name__}.{name}" for model, name, _ in FIELDS]
)
def test_no_number_is_beyond_use(model: type[BaseModel], name: str, annotation: str) -> None:
    """NaN, infinities and slips of the hand such as `lr: 1e300` or a batch of 10**12 are refused in the file."""
    for value in ABSURD:
        if name.endswith("seed") and isinstance(value, int) and 0 <= value < 2**63:
            continue
        problems = []
        try:
            model.__pydantic_validator__.validate_python({name: value})
        except ValidationError as error:
            problems = [e for e in error.errors() if e["loc"][:1] == (name,)]
        assert problems, f"{model.__name__}.{name} takes {value} ({annotation})"
