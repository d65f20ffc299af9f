"""make_stage(config, rule=…, prompts=…, folder=…) → a PPO stage on a fresh tiny model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from ppo_stage import build_stage

from harken.train.ppo.stage import PPOStage


@pytest.fixture
def make_stage(tmp_path: Path) -> Callable[..., PPOStage]:
    return functools.partial(build_stage, tmp_path)
