"""One file from prompts to a reward model and an SFT model of responses that models made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kill.children import tree
from kill.stages import make_world

from harken.config import PipelineConfig
from harken.data.files import read_source_rows
from harken.pipeline.run import run_pipeline
from harken.run import manifest


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_world(root)
    return root


def settings(world: Path) -> dict[str, Any]:
    training = {"max_steps": 1, "batch_size": 2, "eval_every": 1}
    held_out = {"eval_path": str(world / "held_out.jsonl"), "max_length": 64}
    return {
        "name": "made",
        "model_name": str(world / "sft"),
        "dtype": "float32",
        "device": "cpu",
        "tensorboard": False,
        "stages": {
            "responses": {
                "type": "generate",
                "policies": {"new": "@model", "old": str(world / "model")},
                "data": {"path": str(world / "prompts.jsonl")},
                "samples": 2,
                "max_gen_len": 4,
            },
            "scored": {"type": "score", "responses": "@responses", "reward_model": str(world / "rm")},
            "pairs": {"type": "pairs", "responses": "@scored", "how": "all", "strength": "difference"},
            "best": {"type": "pairs", "responses": "@scored", "how": "best"},
            "rm": {
                "type": "reward",
                "data": {"path": "@pairs", **held_out},
                "lora": {"rank": 2},
                "training": training,
            },
            "sft": {
                "type": "sft",
                "data": {"path": "@best", **held_out},
                "lora": {"rank": 2},
                "training": training,
            },
        },
    }


def test_generate_score_pair_and_train_in_one_file(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    config = PipelineConfig.model_validate(settings(world))
    run_pipeline(config, tmp_path / "out")
    out = tmp_path / "out"
    pairs = read_source_rows(str(out / "03_pairs" / "pairs.jsonl"), "train")
    assert {row["chosen_policy"] for _, row in pairs} | {row["rejected_policy"] for _, row in pairs} == {
        "new",
        "old",
    }
    trained = manifest.read_lineage(out / "05_rm" / "manifest.json")["data"]
    assert trained["name"] == str(out / "03_pairs" / "pairs.jsonl")
    assert (out / "06_sft" / "final" / "SHA256SUMS").exists()
    before = tree(out)
    run_pipeline(config, out)  # finished: nothing is made again
    assert tree(out) == before
