"""The newest and the best checkpoint of a finished run are policies, and `harken export` makes folders of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from kill import stages
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from harken.errors import UserError
from harken.export.export import export
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.run.folder import RunFolder

TOKENS = torch.tensor([[5, 40, 41, 42, 7, 99]])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    stages.make_world(root)
    stages.work(root, "ppo")(root / "ppo")
    return root


@torch.no_grad()
def logits(folder: Path) -> Tensor:
    found: Tensor = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(TOKENS).logits
    return found


def steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


@pytest.mark.parametrize("kind", ["sft", "ppo"])
def test_best_and_newest_open_with_from_pretrained(kind: str, world: Path, tmp_path: Path) -> None:
    """S1-20: `RUN/best` is the step that became final/, `RUN/checkpoints` the newest, any step by its own name."""
    run = RunFolder(world / kind)
    best = logits(export(str(run.best), tmp_path / "best", "safetensors", "float32"))
    torch.testing.assert_close(best, logits(run.final), atol=1e-5, rtol=1e-5)
    newest = logits(export(str(run.checkpoints), tmp_path / "newest", "safetensors", "float32"))
    last = logits(export(str(steps(run.checkpoints)[-1]), tmp_path / "last", "safetensors", "float32"))
    earlier = logits(export(str(steps(run.checkpoints)[0]), tmp_path / "earlier", "safetensors", "float32"))
    assert torch.equal(newest, last) and not torch.allclose(newest, earlier, atol=1e-6)


def test_a_checkpoint_of_a_merged_run_is_its_adapter_on_what_it_started_from(world: Path) -> None:
    """S1-20: an SFT run's final/ is merged; its checkpoint's tensors are the adapter's, under peft's names."""
    step = steps(RunFolder(world / "sft").checkpoints)[0]
    source = resolve(str(step))
    assert source.kind == "adapter" and source.base is not None
    assert source.base.folder == (world / "model").resolve()
    state = load_file(step / "state.safetensors")
    found = load_file(source.folder / "adapter_model.safetensors")
    wanted = {name for name in state if name.startswith("parameter/") and "lora_" in name}
    assert len(found) == len(wanted) > 0
    for name, tensor in found.items():
        key = name.removeprefix("base_model.model.").replace(".weight", ".policy.weight")
        assert torch.equal(tensor, state[f"parameter/{key}"])
    backbone = Backbone.load(source, torch.float32, "cpu")  # every tensor has its place, and acts
    with torch.no_grad():
        ours = backbone.model(TOKENS).logits
    assert not torch.allclose(ours, logits(world / "model"), atol=1e-6)


def test_another_start_is_refused(world: Path, tmp_path: Path) -> None:
    copy = tmp_path / "world"
    shutil.copytree(world, copy)
    manifest = copy / "sft" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(str(world / "model"), str(copy / "model")))
    (copy / "sft" / "SHA256SUMS").unlink()
    stages.save_tiny(copy / "model", seed=5, hidden=16, layers=1)
    with pytest.raises(UserError, match=r"has other weights now\. Fix: restore that model"):
        resolve(str(copy / "sft" / "best"))


def test_a_folder_of_that_name_without_checkpoints_is_no_checkpoint(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "model", tmp_path / "best")
    assert resolve(str(tmp_path / "best")).kind == "full"
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no model is here"):
        resolve(str(tmp_path / "checkpoints"))
