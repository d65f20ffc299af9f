"""`training.rewards`: at least one source, no name twice, and a line for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harken.config import files as config_files
from harken.config.ppo import PPOSettings, PPOTraining
from harken.config.preference_training import OnlineDPOTraining
from harken.errors import UserError

PYTHON = {"type": "python", "path": "my_reward.py:score"}
ENSEMBLE = {"type": "ensemble", "checkpoint_paths": ["a", "b"]}


def training(**keys: Any) -> PPOTraining:
    return PPOTraining.model_validate({"type": "ppo", **keys})


def test_a_part_will_do_in_place_of_a_reward_model() -> None:
    got = training(rewards=[PYTHON])
    assert got.reward_model is None
    assert not got.random_reward
    assert got.rewards[0].column == "score"
    assert training(reward_model={"random_for_debugging": True}).random_reward


def test_no_source_at_all_is_an_error() -> None:
    """S1-08: PPO never runs without a reward that was asked for."""
    for keys in ({}, {"rewards": []}, {"reward_model": None}):
        with pytest.raises(
            ValidationError, match=r"this training needs a reward\. Fix: name a trained reward model"
        ):
            training(**keys)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ([PYTHON, {**PYTHON, "path": "other.py:score"}], "score"),
        ([ENSEMBLE, {**PYTHON, "name": "ensemble_sd"}], "ensemble_sd"),
        ([{**PYTHON, "name": "reward_model"}], "reward_model"),
        ([{**PYTHON, "name": "length"}], "length"),
        ([{"type": "rule", "name": "demo_gold"}, {**PYTHON, "name": "demo_gold"}], "demo_gold"),
    ],
)
def test_two_reward_parts_may_not_share_a_name(parts: list[dict[str, Any]], name: str) -> None:
    with pytest.raises(ValidationError, match=f"two parts of the reward are called {name}"):
        training(rewards=parts)


def test_parts_of_different_names_are_accepted() -> None:
    parts = [PYTHON, {**PYTHON, "name": "again"}, ENSEMBLE, {**ENSEMBLE, "name": "second"}]
    assert [p.column for p in training(rewards=parts).rewards] == ["score", "again", "ensemble", "second"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "python", "path": "my_reward.py"}, "write file.py:function"),
        ({"type": "python", "path": "my_reward:score"}, "write file.py:function"),
        ({"type": "python", "path": "my_reward.py:score()"}, "write file.py:function"),
        ({**PYTHON, "name": "two words"}, "use letters, digits and _"),
        ({**PYTHON, "weight": float("nan")}, "finite number"),
        ({"type": "ensemble", "checkpoint_paths": ["a"]}, "at least 2"),
        ({"type": "ensemble", "checkpoint_paths": ["a", "a"]}, "the same reward model twice"),
        ({**ENSEMBLE, "k": 2.0}, "k belongs to combine: mean_minus_sd"),
        ({**ENSEMBLE, "combine": "mean_minus_sd", "k": -1.0}, "greater than or equal to 0"),
        ({"type": "classifier", "model_name": ""}, "at least 1"),
        ({"type": "classifier", "model_name": "m", "label": True}, "valid string"),
    ],
)
def test_parts_that_make_no_sense(part: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        training(rewards=[part])


@pytest.mark.parametrize(
    ("ppo", "message"),
    [
        ({"score_clip": 5.0}, "set clip in the entry of rewards"),
        ({"missing_eos_score": -1.0}, "replaces reward_model's score"),
        ({"critic": "model", "critic_init": "reward_model"}, "set training.reward_model.checkpoint_path"),
    ],
)
def test_keys_about_the_reward_model_need_one(ppo: dict[str, Any], message: str) -> None:
    """A key that would do nothing is an error."""
    with pytest.raises(ValidationError, match=message):
        training(rewards=[PYTHON], ppo=ppo)
    training(reward_model={"checkpoint_path": "rm"}, rewards=[PYTHON], ppo=ppo)
    if "critic" not in ppo:  # online DPO has the same rewards, and no critic
        with pytest.raises(ValidationError, match=message):
            OnlineDPOTraining.model_validate({"type": "online_dpo", "rewards": [PYTHON], "online_dpo": ppo})


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            "{type: python, path: r.py:score, wieght: 1}",
            r"ppo\.yml:5: training\.rewards\[0\]\.wieght: unknown key\. Fix: write weight",
        ),
        (
            "{type: pyhton, path: r.py:score}",
            r"training\.rewards\[0\]\.type: expected python or model or .*pyhton",
        ),
        (
            "{path: r.py:score}",
            r"training\.rewards\[0\]\.type: this key is required\. Fix: write python or model or",
        ),
        ("{type: python}", r"training\.rewards\[0\]\.path: this key is required"),
        ("{type: python, path: 5}", r"training\.rewards\[0\]\.path: expected text, given 5"),
        (
            "{type: ensemble, checkpoint_paths: [a, 2]}",
            r"training\.rewards\[0\]\.checkpoint_paths\[1\]: expected text",
        ),
    ],
)
def test_a_mistake_in_a_part_is_one_line_with_its_place(tmp_path: Path, part: str, message: str) -> None:
    text = f"data: {{path: p.jsonl}}\ntraining:\n  type: ppo\n  rewards:\n    - {part}\n"
    (tmp_path / "ppo.yml").write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        config_files.load_run(str(tmp_path / "ppo.yml"), [])
    assert "\n" not in str(raised.value)


def test_a_dumped_config_loads_as_it_was() -> None:
    """A run's config.yml is a dump with every key set: it must load as what it was."""
    for combine in ("mean", "min", "mean_minus_sd"):
        given = training(rewards=[{**ENSEMBLE, "combine": combine}])
        assert PPOTraining.model_validate(given.model_dump(mode="json")) == given


def test_a_judge_is_any_part_and_a_bare_name_is_a_rule() -> None:
    """What is written out is read back as the same judges, rules by their bare name."""
    written = [
        "intact",
        {"type": "python", "path": "j.py:score"},
        {"type": "model", "checkpoint_path": "rm2"},
    ]
    settings = PPOSettings.model_validate({"judges": written})
    assert [judge.column for judge in settings.judges] == ["intact", "score", "model"]
    dumped = settings.model_dump(mode="json")["judges"]
    assert dumped[0] == "intact" and dumped[1]["path"] == "j.py:score"
    assert PPOSettings.model_validate({"judges": dumped}) == settings


@pytest.mark.parametrize(
    ("judges", "message"),
    [
        (["intact", "intact"], "two judges are called intact"),
        ([{"type": "rule", "name": "intact", "weight": 0.5}], "has a weight"),
        ([{"type": "model"}], "checkpoint_path"),
        ([{"type": "oracle"}], "oracle"),
        ("intact", "list"),
        ([3], "dict"),
    ],
)
def test_invalid_judges_are_refused(judges: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PPOSettings.model_validate({"judges": judges})
