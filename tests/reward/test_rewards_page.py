"""docs/rewards.md: every configuration on it loads, and its function scores."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny_rewards import answer

from harken.config import files as config_files
from harken.config.ppo import PPOTraining
from harken.config.rewards import RewardPart
from harken.config.training import RewardTraining
from harken.reward.python_function import DETAILS, PythonReward

PAGE = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
ALL_CONFIGS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
REWARD_STAGES = [text for text in ALL_CONFIGS if "type: reward" in text]
CONFIGS = [text for text in ALL_CONFIGS if text not in REWARD_STAGES]
FUNCTIONS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def parts(text: str, folder: Path) -> list[RewardPart]:
    (folder / "ppo.yml").write_text("data: {path: prompts.jsonl}\n" + text)
    training = config_files.load_run(str(folder / "ppo.yml"), []).training
    assert isinstance(training, PPOTraining)
    return [*training.rewards, *training.ppo.judges]


@pytest.mark.parametrize("text", CONFIGS)
def test_every_configuration_on_the_page_loads(text: str, tmp_path: Path) -> None:
    assert len(parts(text, tmp_path)) == (3 if "judges:" in text else 1)


def test_the_reward_stage_on_the_page_loads(tmp_path: Path) -> None:
    (text,) = REWARD_STAGES
    (tmp_path / "rm.yml").write_text(text)
    assert isinstance(config_files.load_run(str(tmp_path / "rm.yml"), []).training, RewardTraining)


def test_every_type_of_part_is_on_the_page(tmp_path: Path) -> None:
    shown = {part.type for text in CONFIGS for part in parts(text, tmp_path)}
    assert shown == {"python", "model", "ensemble", "classifier", "rule"}


def test_the_function_on_the_page_scores(tmp_path: Path) -> None:
    (function,) = FUNCTIONS
    (tmp_path / "my_reward.py").write_text(function)
    reward = PythonReward("score", f"{tmp_path}/my_reward.py:score", 0.5)
    long, empty = answer("because it is"), answer(" ")
    wanted = [1.0 - 0.01 * len(long.response_tokens), -1.0]
    assert [s.value for s in reward.score([long, empty])] == pytest.approx(wanted)


def test_every_detail_is_on_the_page() -> None:
    table = PAGE.split("| detail | |", 1)[1].split("\n\n", 1)[0]
    assert re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))) == list(DETAILS)
