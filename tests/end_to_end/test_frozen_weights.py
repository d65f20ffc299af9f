"""A run whose frozen weights moved is saved, marked and told; one that is resumed must have those it began with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import save_tiny

from harken.cli.main import main
from harken.run import manifest, verify
from harken.run.folder import RunFolder
from harken.train.ppo.stage import PPOStage

CONFIG = """
model_name: {root}/model
dtype: float32
tensorboard: false
lora: {{rank: 2}}
data: {{path: {root}/prompts.jsonl, max_length: 64}}
checkpoints: {{every: 1}}
training:
  type: ppo
  lr: 1e-3
  reward_model: {{random_for_debugging: true}}
  ppo: {{updates: 2, prompts_per_update: 2, epochs: 1, max_gen_len: 4}}
"""
MOVED = "frozen weights changed during the run: base"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("frozen")
    save_tiny(root / "model", hidden=16, layers=1)
    rows = [{"id": f"q{i}", "prompt": f"Ask {i}"} for i in range(4)]
    (root / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "run.yml").write_text(CONFIG.format(root=root))
    return root


def train(root: Path, out: Path, *options: str) -> int:
    return main(["train", "--preset", str(root / "run.yml"), "--output-dir", str(out), *options])


def move_base(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """An error that changes one frozen weight in update `at`."""
    step = PPOStage.step

    def faulty(self: PPOStage, number: int) -> dict[str, float]:
        if number == at:
            with torch.no_grad():
                next(iter(self.policy.backbone.model.parameters())).view(-1)[0] += 1e-3
        return step(self, number)

    monkeypatch.setattr(PPOStage, "step", faulty)


def status(out: Path) -> dict[str, Any]:
    reported: dict[str, Any] = json.loads((out / "status.json").read_text())
    return reported


def test_a_run_whose_frozen_weights_moved_is_saved_and_marked_then_fails(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as error:
        move_base(error, 1)
        assert train(world, out) == 1
    message = capsys.readouterr().err
    last = message.splitlines()[-1]
    assert last.startswith(f"harken: {out}: {MOVED}") and "Traceback" not in message
    assert "frozen weights unchanged" not in message
    assert (out / "final" / "adapter_model.safetensors").exists()
    assert (out / "final" / "value_head.safetensors").exists()
    assert status(out)["state"] == "completed" and status(out)["completed"] == 2
    assert status(out)["frozen_weights_moved"] == ["base"]
    assert manifest.read_manifest(out / "manifest.json")["frozen_weights_moved"] == ["base"]
    assert not any(found.problems for found in verify.verify(out))
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2

    assert train(world, out) == 0  # it is finished, and told again what it is
    assert MOVED in capsys.readouterr().err
    assert manifest.changed_frozen_components(RunFolder(out)) == ["base"]


def test_moved_frozen_weights_stay_reported_after_a_resume(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed after the manifest was marked: the process that goes on loads good weights, the steps do not change."""
    out = tmp_path / "out"
    with monkeypatch.context() as error:
        move_base(error, 1)
        assert train(world, out) == 1
    shutil.rmtree(out / "final")
    (out / "SHA256SUMS").unlink()
    (out / "status.json").unlink()
    capsys.readouterr()
    assert train(world, out) == 1
    assert MOVED in capsys.readouterr().err
    assert (out / "final").exists() and status(out)["frozen_weights_moved"] == ["base"]


def test_a_good_run_is_not_marked(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert train(world, out) == 0
    message = capsys.readouterr().err
    assert "frozen weights unchanged: reward model" in message
    assert (
        "no supervised fine-tuning of this policy is recorded" in message
    )  # the model was made by no run of ours
    assert "frozen_weights_moved" not in status(out)
    reported = manifest.read_manifest(out / "manifest.json")
    assert "frozen_weights_moved" not in reported
    assert set(reported["lineage"]["frozen"]) == {"base", "reward model"}


def test_a_resumed_run_has_the_frozen_weights_it_began_with(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a processor that rounds, merges or quantises the same files to other numbers."""
    out = tmp_path / "out"
    assert train(world, out) == 0
    shutil.rmtree(out / "final")
    for lost in ("SHA256SUMS", "status.json"):
        (out / lost).unlink()
    reported = json.loads((out / "manifest.json").read_text())
    reported["lineage"]["frozen"]["base"] = "0" * 64
    (out / "manifest.json").write_text(json.dumps(reported))
    capsys.readouterr()
    assert train(world, out) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert (
        "the frozen weights in memory differ from those at the start of the run: base: 000000000000 → "
        in line
    )
    assert "--accept-changes" in line
    assert train(world, out, "--accept-changes") == 0
    assert "base: 000000000000" in json.dumps(
        manifest.read_manifest(out / "manifest.json")["changes"], ensure_ascii=False
    )
