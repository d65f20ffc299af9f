"""A direction on disk: it is written once, and use with a model that it was not fitted on is reported."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import save_tiny

from harken.errors import UserError
from harken.models.resolve import resolve
from harken.models.steering import Direction
from harken.reward.detect import write_direction
from harken.run.folder import RunFolder
from harken.run.manifest import write_manifest
from harken.sycophancy.model_detectors import read_direction, warn_if_fitted_elsewhere


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


@pytest.mark.parametrize("damage", ["direction.json", "direction.safetensors"])
def test_a_damaged_direction_is_written_again(world: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(world / "direction", tmp_path / "direction")
    before = (tmp_path / "direction" / "direction.safetensors").read_bytes()
    (tmp_path / "direction" / damage).unlink()
    written(world, tmp_path / "direction")
    assert (tmp_path / "direction" / "direction.safetensors").read_bytes() == before
    (tmp_path / "direction" / "direction.safetensors").write_bytes(before + b"x")
    written(world, tmp_path / "direction")
    assert (tmp_path / "direction" / "direction.safetensors").read_bytes() == before


def test_the_default_layer_by_name_and_a_direction_without_facts_are_the_same(
    world: Path, tmp_path: Path
) -> None:
    """A direction of an older version records neither rows nor dtype."""
    shutil.copytree(world / "direction", tmp_path / "direction")
    written(world, tmp_path / "direction", layer=1)
    facts = json.loads((tmp_path / "direction" / "direction.json").read_text())
    for key in ("rows", "dtype"):
        del facts[key]
    (tmp_path / "direction" / "direction.json").write_text(json.dumps(facts))
    written(world, tmp_path / "direction")
    assert json.loads((tmp_path / "direction" / "direction.json").read_text()) == facts


def test_a_direction_is_not_written_into_a_run(world: Path, tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    with pytest.raises(UserError, match="contains final, the result of another command"):
        written(world, tmp_path)


def test_the_same_direction_is_written_once(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (world / "direction" / "direction.json").stat().st_mtime_ns
    again = written(world, world / "direction")
    assert "nothing to do" in capsys.readouterr().err
    assert (world / "direction" / "direction.json").stat().st_mtime_ns == before and again.layer == 1


@pytest.mark.parametrize(("change", "named"), [("layer", "layer"), ("rows", "data"), ("model", "model")])
def test_another_direction_is_not_overwritten(world: Path, tmp_path: Path, change: str, named: str) -> None:
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
    with pytest.raises(
        UserError, match=rf"contains another direction \({named}: .*choose another --output-dir"
    ):
        written(root, root / "direction", layer=0 if change == "layer" else None)
    assert (root / "direction" / "direction.safetensors").read_bytes() == before


def test_a_direction_of_another_model_of_the_same_sizes_is_reported(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = read_direction(str(world / "direction"))
    warn_if_fitted_elsewhere(own, resolve(str(world / "model")))
    assert capsys.readouterr().err == ""
    save_tiny(tmp_path / "other", hidden=16, layers=2, seed=7)
    warn_if_fitted_elsewhere(own, resolve(str(tmp_path / "other")))
    message = capsys.readouterr().err
    assert (
        "warning: the direction was fitted on" in message
        and "Fix: use one that was fitted on this model: harken" in message
    )


def test_a_model_trained_from_the_directions_model_is_its_own(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run whose final weights are all its own records the model that it started from."""
    run = tmp_path / "run"
    save_tiny(run / "final", hidden=16, layers=2, seed=7)
    start = resolve(str(world / "model")).lineage_fingerprint
    write_manifest(RunFolder(run), {}, {"fingerprint": start}, {})
    warn_if_fitted_elsewhere(read_direction(str(world / "direction")), resolve(str(run)))
    assert capsys.readouterr().err == ""
    write_manifest(RunFolder(run), {}, {"fingerprint": "0" * 64}, {})
    warn_if_fitted_elsewhere(read_direction(str(world / "direction")), resolve(str(run)))
    assert "the direction was fitted on" in capsys.readouterr().err


def test_checkpoints_and_later_generations_are_trained_from_the_directions_model(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """direction's model → run one → run two; a checkpoint is named by its run, and lies in the model cache."""
    start = resolve(str(world / "model"))
    for name, parent, seed in (("one", start, 7), ("two", None, 8)):
        run = RunFolder(tmp_path / name)
        save_tiny(run.final, hidden=16, layers=2, seed=seed)
        origin = parent or resolve(str(tmp_path / "one"))
        lineage = {"fingerprint": origin.lineage_fingerprint, "folder": str(origin.folder)}
        write_manifest(run, {}, lineage, {})
    own = read_direction(str(world / "direction"))
    warn_if_fitted_elsewhere(own, resolve(str(tmp_path / "two")))
    (tmp_path / "two" / "checkpoints" / "step-000001").mkdir(parents=True)
    save_tiny(tmp_path / "cache" / "step", hidden=16, layers=2, seed=9)
    step = replace(
        resolve(str(tmp_path / "cache" / "step")), name=str(tmp_path / "two/checkpoints/step-000001")
    )
    warn_if_fitted_elsewhere(own, step)
    assert capsys.readouterr().err == ""
    final = written(world, tmp_path / "of_two", model=str(tmp_path / "two"))
    warn_if_fitted_elsewhere(final, step)
    assert "trained from" not in capsys.readouterr().err, (
        "a run's final model is no stranger to its checkpoints"
    )
    warn_if_fitted_elsewhere(final, start)
    assert "trained from" in capsys.readouterr().err
