"""Updates on a GPU: the numbers of a CPU, resumed without a difference, and less at a time where memory runs out."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from ppo_stage import build_stage, ppo_config

from harken.run import checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

MODES = {
    "adaptive control": {"kl_control": "adaptive", "kl_horizon": 20.0},
    "own critic": {"critic": "adapter", "critic_warmup_updates": 1, "reference_update_every": 2},
    "every weight": {"kl_control": "linear", "kl_coef_final": 0.0},
}


def config(name: str) -> object:
    settings = {"updates": 6, "prompts_per_update": 4, "max_gen_len": 12, "epochs": 2} | MODES[name]
    return ppo_config(lora=None if name == "every weight" else {"rank": 4}, lr=3e-3, ppo=settings)


def plain(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(("time/", "memory/"))}


@pytest.mark.parametrize("name", MODES)
def test_the_numbers_of_a_cpu(tmp_path: Path, name: str) -> None:
    """Three updates in float32: every metric within 1e-3."""
    here, there = (
        build_stage(tmp_path / device, config(name), device=device)  # type: ignore[arg-type]
        for device in ("cpu", "cuda")
    )
    for number in range(3):
        of_cpu, of_gpu = plain(here.step(number)), plain(there.step(number))
        assert of_cpu.keys() == of_gpu.keys()
        for key, value in of_cpu.items():
            assert of_gpu[key] == pytest.approx(value, rel=1e-3, abs=1e-3), (number, key)


@pytest.mark.parametrize("name", MODES)
def test_resumed_is_never_stopped(tmp_path: Path, name: str) -> None:
    """Six updates ≡ three, a checkpoint on disk, other objects, three. Within 1e-6, and how far is printed."""
    straight = build_stage(tmp_path, config(name), folder="straight", device="cuda")  # type: ignore[arg-type]
    whole = [straight.step(number) for number in range(6)]
    first = build_stage(tmp_path, config(name), folder="first", device="cuda")  # type: ignore[arg-type]
    pieces = [first.step(number) for number in range(3)]
    assert checkpoint.save(tmp_path / "kept", 3, first.tensors(), first.state(), keep=1)
    second = build_stage(tmp_path, config(name), folder="second", device="cuda")  # type: ignore[arg-type]
    kept = checkpoint.latest(tmp_path / "kept")
    assert kept is not None
    second.load(kept.tensors, kept.state)
    pieces += [second.step(number) for number in range(3, 6)]
    for once, again in zip(whole, pieces, strict=True):
        assert plain(once) == pytest.approx(plain(again), rel=1e-6, abs=1e-6)
    one, two = straight.tensors(), second.tensors()
    assert one.keys() == two.keys()
    furthest = max(float((one[key].cpu().double() - two[key].cpu().double()).abs().max()) for key in one)
    print(
        f"{name}: {furthest}, metrics equal: {[plain(w) == plain(p) for w, p in zip(whole, pieces, strict=True)]}"
    )
    assert furthest < 1e-6


def test_an_update_leaves_nothing_on_the_gpu(tmp_path: Path) -> None:
    """From the second update on, which has made the optimiser's moments, as much is allocated as before."""
    settings = {"updates": 5, "prompts_per_update": 8, "max_gen_len": 100, "epochs": 1}
    stage = build_stage(tmp_path, ppo_config(lora={"rank": 4}, ppo=settings), prompts=8, device="cuda")
    weight_dtype = []
    gc.disable()
    try:
        for number in range(5):
            stage.step(number)
            weight_dtype.append(torch.cuda.memory_allocated())
    finally:
        gc.enable()
    assert weight_dtype[-1] == weight_dtype[1]


def test_memory_that_runs_out_halves_a_micro_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The GPU's own error: the update is that of a run which had small micro-batches from the start."""
    settings = {"updates": 2, "prompts_per_update": 64, "max_gen_len": 64, "epochs": 1, "minibatches": 1}
    small, large = (
        build_stage(
            tmp_path,
            ppo_config(lora={"rank": 4}, lr=3e-3, micro_batch_tokens=tokens, ppo=settings),
            prompts=64,
            folder=str(tokens),
            device="cuda",
        )
        for tokens in (512, 1 << 20)
    )
    of_small = plain(small.step(0))
    rollouts = large._generate(0)
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (6 << 20)) / whole)
    try:
        large._generate = lambda number: rollouts  # type: ignore[method-assign]
        of_large = plain(large.step(0))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert large.learner.micro_batcher.tokens < 1 << 20
    assert "out of memory" in capsys.readouterr().err
    assert of_large == pytest.approx(of_small, rel=1e-4, abs=1e-4)
