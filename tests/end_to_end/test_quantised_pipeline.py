"""All stages on a base of 4 bits: what a user with little memory runs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from processors import PROCESSORS, pretend
from tiny_pipeline import run_pipeline
from transformers import AutoModelForCausalLM

from harken.cli.main import main

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


@pytest.mark.sample(1)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_a_pipeline_in_4_bits(tmp_path: Path, processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SFT's final is the whole model, not a quantised one; PPO's policy begins as its reference, and moves."""
    pretend(monkeypatch, processor)
    out = run_pipeline(tmp_path, "nf4") / "out"
    final = AutoModelForCausalLM.from_pretrained(out / "01_sft" / "final", dtype="auto")
    assert final.dtype == torch.bfloat16
    assert getattr(final.config, "quantization_config", None) is None
    lines = [json.loads(line) for line in (out / "03_ppo" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    assert abs(lines[0]["kl/mean"]) < 0.02
    assert abs(lines[-1]["kl/mean"]) > abs(lines[0]["kl/mean"])
    assert (out / "results.json").exists()
    assert main(["verify", str(out)]) == 0
