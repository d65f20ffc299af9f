"""Every setting has an effect that is known, and a comparison is called controlled only when it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from harken.config import EvaluationConfig, RunConfig, SycophancyConfig
from harken.config.ppo import PPOTraining
from harken.config.training import ClassifierTraining, RewardTraining, SupervisedTraining
from harken.evaluation.settings_diff import INTENDED, MEANING, Effect, confounding, differences, effect_of

BASE: dict[str, Any] = {
    "model_name": "a", "seed": 1, "dtype": "float32", "training": {"lr": 1e-6, "ppo": {"kl_coef": 0.1, "epochs": 4}},
    "lineage": {"fingerprint": "f1", "model": "a", "data": {"name": "d", "fingerprint": "d1"}},
    "data": {"path": "d.jsonl", "max_length": 64}, "versions": {"torch": "2.13"}, "tensorboard": True,
}  # fmt: skip


def changed(**keys: Any) -> dict[str, Any]:
    copy = {
        **BASE,
        "training": {**BASE["training"], "ppo": dict(BASE["training"]["ppo"])},
        "data": dict(BASE["data"]),
    }
    copy["lineage"] = {**BASE["lineage"], "data": dict(BASE["lineage"]["data"])}
    for path, value in keys.items():
        *above, last = path.split("__")
        place = copy
        for part in above:
            place = place[part]
        place[last] = value
    return copy


def fields(model: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{above}{name}"
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from fields(inner, f"{above}{name}.")


def test_the_effect_of_every_setting_is_known() -> None:
    keys = {*fields(RunConfig), *fields(EvaluationConfig), *fields(SycophancyConfig)}
    keys |= {"directions.a", "probes"}
    for training in (SupervisedTraining, RewardTraining, ClassifierTraining, PPOTraining):
        keys |= set(fields(training, "training."))
    assert len(keys) > 100
    assert {effect_of(key) for key in keys} <= set(MEANING)
    assert set(MEANING) == set(get_args(Effect))
    with pytest.raises(KeyError, match="no effect is known"):
        effect_of("colour")


@pytest.mark.parametrize(
    ("change", "effect", "verdict"),
    [
        ({}, None, "Controlled: no setting that can change a result differs."),
        ({"tensorboard": False}, "records", "Controlled: no setting that can change a result differs."),
        ({"seed": 2}, "random draws", "Controlled: only the seed differs"),
        ({"training__ppo__kl_coef": 0.2}, "KL control", "Controlled: only training.ppo.kl_coef differs"),
        ({"training__ppo__kl_coef": 0.2, "tensorboard": False}, "KL control", "Controlled: only training.ppo.kl_coef"),
        ({"training__lr": 2e-6, "training__ppo__epochs": 1}, "optimisation", "Partly controlled: .*training.lr"),
        ({"training__lr": 2e-6, "seed": 2}, "optimisation", "Confounded: settings of 2 kinds differ"),
        ({"training__lr": 2e-6, "dtype": "bfloat16"}, "rounding", "Confounded"),
        ({"training__lr": 2e-6, "versions": {"torch": "2.6"}}, "software", "Confounded"),
        ({"lineage__data__fingerprint": "d2"}, "prompts and data", "Partly controlled"),
    ],
)  # fmt: skip
def test_a_comparison_is_controlled_only_if_one_setting_differs(
    change: dict[str, Any], effect: str | None, verdict: str
) -> None:
    found = differences(BASE, changed(**change))
    assert (effect in {one.effect for one in found}) == (effect is not None)
    assert len(found) == len(change)
    text = confounding(found)
    assert re.match(verdict, text), text


def test_equal_weights_and_rows_in_another_place_are_no_difference() -> None:
    """S0-49: what counts is content; a moved folder is none, other content under one path is one."""
    assert not differences(BASE, changed(model_name="b", data__path="moved/d.jsonl", lineage__model="b"))
    other = differences(BASE, changed(lineage__fingerprint="f2"))
    assert [(one.key, one.effect) for one in other] == [("lineage.fingerprint", "starting weights")]


def test_an_evaluation_at_another_limit_and_batch_is_confounded() -> None:
    """S0-48, S0-49: the published study of token limits changed the batch size as well."""
    left = {
        "max_gen_len": 512,
        "batch_shape": {"slots": 8},
        "policies": {"a": "x"},
        "fingerprints": {"a": "1"},
    }
    limit = {**left, "max_gen_len": 1024}
    both = {**limit, "batch_shape": {"slots": 128}}
    assert confounding(differences(left, limit), intended=INTENDED).startswith("Controlled: only max_gen_len")
    assert confounding(differences(left, both), intended=INTENDED).startswith(
        "Confounded: settings of 2 kinds"
    )
    policies = {**left, "policies": {"a": "y"}, "fingerprints": {"a": "2"}}
    assert confounding(differences(left, policies), intended=INTENDED).startswith("Controlled: no setting")


def test_secrets_in_settings_are_redacted() -> None:
    left, right = ({"data": {"path": f"https://user:secret{i}@host/d.jsonl"}} for i in range(2))
    (found,) = differences(left, right)
    assert "secret" not in f"{found.left}{found.right}"
