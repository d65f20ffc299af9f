"""What stays in memory and what a phase adds: by hand, and against the tensors of the real things."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_backbone, tiny_model, tiny_tokenizer
from tiny_plan import stage, write_rows
from transformers import LlamaForCausalLM

from harken.config import LoraSettings
from harken.config.training import SupervisedTraining
from harken.maths import matmul_dtype
from harken.models.backbone import Backbone
from harken.models.roles import Policy
from harken.plan.activations import kv_cache_bytes
from harken.plan.job import Job, Scorer
from harken.plan.phases import Phase, phases
from harken.plan.shape import shape_of
from harken.rollout.decoder import Decoder
from harken.train.optim.optimiser import Optimiser

PARAMETERS = sum(p.numel() for p in tiny_model().parameters())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plan")
    write_rows(root)
    return root


def phase(job: Job, name: str, process: float = 0.0) -> Phase:
    return next(p for p in phases(job, process) if p.name == name)


def test_the_weights_of_a_run_are_those_of_its_model(folder: Path) -> None:
    assert phase(stage(folder, "sft"), "load").parts["weights"] == 4 * PARAMETERS
    half = stage(folder, "sft", run={"dtype": "bfloat16"})
    assert phase(half, "load").parts["weights"] == 2 * PARAMETERS


@pytest.mark.parametrize(
    ("ppo", "bases"),
    [
        ({}, 1),
        ({"critic": "model"}, 2),
        ({"critic": "adapter"}, 1),
        ({"reference": "base"}, 2),
        ({"reference": "base", "critic": "model"}, 3),
    ],
)
def test_a_model_of_its_own_is_one_more_base(folder: Path, ppo: dict[str, Any], bases: int) -> None:
    job = stage(folder, "ppo", ppo=ppo)
    assert phase(job, "load").parts["weights"] == bases * 4 * PARAMETERS


def test_a_reward_model_shares_the_base_or_brings_its_own(folder: Path) -> None:
    job = stage(folder, "ppo")
    sharing = replace(job, scorers=(Scorer(job.shape, 4, has_own_base=False),))
    alone = replace(job, scorers=(Scorer(job.shape, 4, has_own_base=True),))
    adapter = 4 * job.shape.lora_parameters(4)
    assert phase(sharing, "load").parts["weights"] == 4 * PARAMETERS + adapter
    assert phase(alone, "load").parts["weights"] == 2 * 4 * PARAMETERS + adapter


def test_every_weight_that_trains_needs_a_reference_beside_it(folder: Path) -> None:
    job = stage(folder, "ppo", run={"lora": None})
    parts = phase(job, "learn").parts
    # The reference, and the copy that an untrained reward head reads.
    assert parts["weights"] == 2 * 4 * PARAMETERS
    assert parts["trained"] == parts["gradients"] == 4 * PARAMETERS
    assert parts["optimiser state"] == 8 * PARAMETERS


@pytest.mark.parametrize("tied", [True, False])
def test_planned_packed_bytes_are_those_of_decoding(
    folder: Path, tied: bool, copied: list[torch.Size], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte under no adapter, whose A is copied beside the weights."""
    monkeypatch.setattr(
        matmul_dtype, "has_native_bf16_matmul", lambda: False
    )  # float32 copies: any processor can
    config = tiny_model().config
    config.tie_word_embeddings = tied
    backbone = Backbone(LlamaForCausalLM(config).bfloat16(), tiny_tokenizer())
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    with torch.no_grad(), backbone.role(None), backbone.decoding():
        pass
    job = replace(stage(folder, "ppo", run={"dtype": "bfloat16"}), shape=shape_of(config))
    found = 4 * sum(size.numel() for size in copied)
    assert phase(job, "generate").parts["packed weights"] == found
    on_gpu = replace(job, on_cpu=False)  # in 16 bits, and the unembedding is read as it lies
    unembedding = 4 * backbone.output_weight.numel()
    assert phase(on_gpu, "generate").parts["packed weights"] == (found - unembedding) / 2


def test_weights_that_train_are_not_packed(folder: Path) -> None:
    """They are float32."""
    job = stage(folder, "ppo", run={"lora": None, "dtype": "bfloat16"})
    assert phase(job, "generate").parts["packed weights"] == 0


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit"])
def test_moments_are_those_the_optimiser_makes(folder: Path, optimizer: str) -> None:
    """On a matrix large enough for 8 bits; smaller ones stay wide, which is noise in a real model."""
    weight = torch.nn.Parameter(torch.randn(64, 4096))
    real = Optimiser({"w": weight}, SupervisedTraining(type="sft", optimizer=optimizer))  # type: ignore[arg-type]
    weight.grad = torch.ones_like(weight)
    real.step(1.0)
    moments = sum(t.nbytes for name, t in real.tensors().items() if name.startswith("adam/exp"))
    job = stage(folder, "sft", optimizer=optimizer)
    reported = phase(job, "learn").parts["optimiser state"] / job.trained_parameters
    assert reported == pytest.approx(moments / weight.numel(), rel=0.01)


def test_offloaded_moments_are_on_the_cpu(folder: Path) -> None:
    at_home = stage(folder, "sft", optimizer="adamw_cpu_offload")
    away = stage(folder, "sft", optimizer="adamw_cpu_offload", on_cpu=False)
    assert phase(at_home, "learn").parts["optimiser state"] == 8 * at_home.trained_parameters
    assert phase(away, "learn").parts["optimiser state"] == 0


def test_a_way_back_is_one_copy_with_its_moments(folder: Path) -> None:
    """In the computer's memory, while an update learns; with a budget the weights inside it stay."""
    one = {"epochs": 1, "minibatches": 1}
    for keys in ({}, one | {"update_kl_limit": 1.0}):
        job = stage(folder, "ppo", ppo=keys)
        assert phase(job, "learn").parts["snapshot"] == 12 * job.trained_parameters
        assert "snapshot" not in phase(job, "generate").parts
    job = stage(folder, "ppo", ppo={"kl_budget": 1.0})
    assert phase(job, "learn").parts["snapshot"] == 16 * job.trained_parameters
    assert phase(job, "generate").parts["snapshot"] == 4 * job.trained_parameters
    assert "snapshot" not in phase(stage(folder, "ppo", ppo=one), "learn").parts
    assert "snapshot" not in phase(stage(folder, "ppo", on_cpu=False), "learn").parts


def test_the_merge_of_sft_happens_in_float32(folder: Path) -> None:
    half = stage(folder, "sft", run={"dtype": "bfloat16"})
    assert phase(half, "save").parts["weights"] == 4 * PARAMETERS
    assert (
        phase(stage(folder, "reward"), "save").parts["weights"] == 4 * PARAMETERS
    )  # an adapter: nothing merges
    whole = phase(stage(folder, "sft", run={"lora": None}), "save")
    assert whole.parts["trained"] == 4 * PARAMETERS and whole.parts["weights"] == 0


def test_the_cache_is_the_one_generation_makes() -> None:
    backbone = tiny_backbone()
    with torch.no_grad(), backbone.role(None), backbone.decoding():
        decoder = Decoder(backbone, 5, 40)
        decoder.prefill([[3] * 40, [6]], [2, 3])
    real = sum(part.nbytes for part in (*decoder.cache.keys, *decoder.cache.values))
    assert kv_cache_bytes(shape_of(backbone.model.config), 5, 40, 4) == real


def test_generation_has_room_for_the_longest_prompt_and_response(folder: Path) -> None:
    job = stage(folder, "ppo")
    slots, capacity = 8, max(job.rows.lengths) + 16
    assert phase(job, "generate").parts["KV cache"] == kv_cache_bytes(job.shape, slots, capacity, 4)


def test_more_tokens_a_micro_batch_take_more_memory(folder: Path) -> None:
    sizes = [
        phase(stage(folder, kind, micro_batch_tokens=n), "learn").total
        for kind in ("sft", "ppo")
        for n in (128, 512)
    ]
    assert sizes[0] < sizes[1] and sizes[2] < sizes[3]


def test_checkpointing_keeps_less(folder: Path) -> None:
    plain, again = (stage(folder, "sft", gradient_checkpointing=on) for on in (False, True))
    assert phase(again, "learn").parts["activations"] < phase(plain, "learn").parts["activations"]


def test_the_process_is_part_of_every_phase(folder: Path) -> None:
    for kind in ("sft", "reward", "ppo"):
        assert all(p.parts["process"] == 7e8 for p in phases(stage(folder, kind), 7e8))


def test_planned_trainable_parameters_are_those_of_a_stage(folder: Path) -> None:
    backbone = tiny_backbone()
    backbone.add_adapter("policy", LoraSettings(rank=4), 0)
    real = sum(p.nbytes for p in Policy(backbone, "policy").parameters().values())
    assert phase(stage(folder, "sft"), "learn").parts["trained"] == real
