"""A direction on disk: it is written once, and use with a model that it was not fitted on is reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny import save_tiny

from harken.errors import UserError
from harken.models.resolve import resolve
from harken.models.steering import Direction
from harken.reward.detect import write_direction
from harken.run.folder import RunFolder
from harken.run.manifest import write_manifest
from harken.sycophancy.model_detectors import read_direction, warn_of_other_model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("direction")
    save_tiny(root / "model", hidden=16, layers=2)
    rows = [
        {"prompt": f"Ask {i}", "response": text, "label": label}
        for i in range(3)
        for text, label in (("yes yes", "sycophantic"), ("no no", "honest"))
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    written(root, root / "direction")
    return root


def written(root: Path, folder: Path, layer: int | None = None, model: str = "model") -> Direction:
    return write_direction(
        str(root / model), str(root / "rows.jsonl"), layer, folder, device="cpu", dtype="float32"
    )


def test_the_same_direction_is_written_once(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (world / "direction" / "direction.json").stat().st_mtime_ns
    again = written(world, world / "direction")
    assert "nothing to do" in capsys.readouterr().err
    assert (world / "direction" / "direction.json").stat().st_mtime_ns == before and again.layer == 1


@pytest.mark.parametrize("change", ["layer", "rows", "model"])
def test_another_direction_is_not_overwritten(world: Path, tmp_path: Path, change: str) -> None:
    root = tmp_path / "world"
    shutil.copytree(world, root)
    written(root, root / "direction")  # in another place: the same model and rows
    if change == "rows":
        row = {"prompt": "Ask 4", "response": "yes", "label": "sycophantic"}
        with (root / "rows.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
    if change == "model":
        shutil.rmtree(root / "model")
        save_tiny(root / "model", hidden=16, layers=2, seed=7)
    before = (root / "direction" / "direction.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"holds another direction.*choose another --output-dir"):
        written(root, root / "direction", layer=0 if change == "layer" else None)
    assert (root / "direction" / "direction.safetensors").read_bytes() == before


def test_a_direction_of_another_model_of_the_same_sizes_is_reported(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = read_direction(str(world / "direction"))
    warn_of_other_model(own, resolve(str(world / "model")))
    assert capsys.readouterr().err == ""
    save_tiny(tmp_path / "other", hidden=16, layers=2, seed=7)
    warn_of_other_model(own, resolve(str(tmp_path / "other")))
    message = capsys.readouterr().err
    assert (
        "warning: the direction was fitted on" in message
        and "Fix: write one of this model with: harken" in message
    )


def test_a_model_trained_from_the_directions_model_is_its_own(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run whose final weights are all its own records the model that it started from."""
    run = tmp_path / "run"
    save_tiny(run / "final", hidden=16, layers=2, seed=7)
    start = resolve(str(world / "model")).lineage_fingerprint
    write_manifest(RunFolder(run), {}, {"fingerprint": start}, {})
    warn_of_other_model(read_direction(str(world / "direction")), resolve(str(run)))
    assert capsys.readouterr().err == ""
    write_manifest(RunFolder(run), {}, {"fingerprint": "0" * 64}, {})
    warn_of_other_model(read_direction(str(world / "direction")), resolve(str(run)))
    assert "the direction was fitted on" in capsys.readouterr().err
