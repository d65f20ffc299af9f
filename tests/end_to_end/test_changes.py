"""A run that goes on although something changed: refused with the difference, or accepted and told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import save_tiny

from harken.cli.main import main
from harken.run import checkpoint, manifest

CONFIG = """
model_name: {root}/model
dtype: float32
tensorboard: false
lora: {{rank: 4}}
data: {{path: {root}/rows.jsonl, max_length: 96}}
checkpoints: {{every: 1, keep: 4}}
training: {{type: sft, epochs: 1, batch_size: 2, lr: 1e-3}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps, stopped after its second."""
    root = tmp_path_factory.mktemp("changes")
    save_tiny(root / "model")
    rows = [{"id": f"r{i}", "prompt": f"Count to {i}", "response": "one two"} for i in range(8)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "run.yml").write_text(CONFIG.format(root=root))
    assert train(root, root / "out") == 0
    return root


def train(root: Path, out: Path, *options: str) -> int:
    return main(["train", "--preset", str(root / "run.yml"), "--output-dir", str(out), *options])


def stopped(run: Path, out: Path) -> Path:
    shutil.copytree(run / "out", out)
    for lost in ("final", "best", "checkpoints/step-000003", "checkpoints/step-000004", "SHA256SUMS"):
        path = out / lost
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    status = json.loads((out / "status.json").read_text()) | {"stopped_because": None}
    (out / "status.json").write_text(json.dumps(status))
    return out


def told(out: Path) -> dict[str, Any]:
    return manifest.read_manifest(out / "manifest.json")


LR = ("--set", "training.lr=2e-3")


def test_a_changed_configuration_is_refused_with_its_difference_and_its_way_on(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = stopped(run, tmp_path / "out")
    assert train(run, out, *LR) != 0
    last = capfd.readouterr().err.rstrip("\n").splitlines()[-1]
    assert "training.lr: 0.001 → 0.002" in last and "--accept-changes" in last
    assert "changes" not in told(out)


def test_an_accepted_change_is_reported_and_kept(run: Path, tmp_path: Path) -> None:
    """The steps before keep their rate, those after have the new one, and no flag is needed again."""
    out = stopped(run, tmp_path / "out")
    assert train(run, out, *LR, "--accept-changes") == 0
    assert told(out)["changes"] == [{"after_step": 2, "accepted": ["training.lr: 0.001 → 0.002"]}]
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    before = [json.loads(line) for line in (run / "out/metrics.jsonl").read_text().splitlines()]
    assert [now["lr"] / then["lr"] for now, then in zip(rows, before, strict=True)] == [1, 1, 2, 2]
    assert train(run, out, *LR) == 0
    assert main(["verify", str(out)]) == 0


def test_every_accepted_change_is_reported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions of libraries and Harken's own code count as well."""
    out = stopped(run, tmp_path / "out")
    recorded = told(out) | {"torch": "1.13", "harken_code": "0" * 64}
    (out / "manifest.json").write_text(json.dumps(recorded))
    assert train(run, out) != 0
    assert train(run, out, "--accept-changes") == 0
    shutil.rmtree(out / "final"), (out / "SHA256SUMS").unlink()
    (out / "status.json").unlink()
    assert train(run, out, *LR, "--accept-changes") == 0
    first, second = told(out)["changes"]
    assert [line.split(":")[0] for line in first["accepted"]] == ["harken_code", "torch"]
    assert second["accepted"] == ["training.lr: 0.001 → 0.002"]


def test_other_rows_are_accepted_by_the_same_flag(run: Path, tmp_path: Path) -> None:
    out = stopped(run, tmp_path / "out")
    rows = run / "rows.jsonl"
    before = rows.read_text()
    try:
        rows.write_text(before.replace("one two", "one three"))
        assert train(run, out) != 0
        assert train(run, out, "--accept-changes") == 0
    finally:
        rows.write_text(before)
    [change] = told(out)["changes"]
    assert change["accepted"][0].startswith("training rows: ")


def test_a_finished_run_stays_what_it_is(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (run / "out/config.yml").read_bytes()
    assert train(run, run / "out", *LR, "--accept-changes") != 0
    assert "training.lr: 0.001 → 0.002" in capfd.readouterr().err
    assert (run / "out/config.yml").read_bytes() == before
    assert train(run, run / "out", "--accept-changes") == 0


def test_a_checkpoint_tells_what_it_was_made_by(run: Path) -> None:
    kept = checkpoint.latest(run / "out/checkpoints")
    assert kept is not None
    assert kept.state["made_by"]["harken_code"] == manifest.code_sha256()
    # One hash of one configuration, whichever file of the run holds it.
    assert (
        kept.state["made_by"]["config_sha256"]
        == manifest.read_manifest(run / "out/manifest.json")["config_sha256"]
    )
