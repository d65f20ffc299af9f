"""make_run(…) → the folder of a PPO run with one recorded update."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ppo_stage import ppo_config
from recorded_run import record
from tiny import tiny_tokenizer


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """`ppo` and `training` change the configuration, the rest goes to `record`. Recorded is update 3."""

    def make(
        folder: str = "run",
        ppo: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
        **how: Any,
    ) -> Path:
        keys = {"gamma": 0.97, "lam": 0.9, "max_gen_len": 8, **(ppo or {})}
        config = ppo_config(ppo=keys, **(training or {}))
        root = record(tmp_path / folder, config, **how)
        tiny_tokenizer().save_pretrained(root / "final")
        return root

    return make
