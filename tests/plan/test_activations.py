"""What a forward keeps for its backward, counted against the tensors autograd really saves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from tiny import tiny_tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from harken.batches import collate
from harken.config import LoraSettings
from harken.kernels.packing import pack_rows
from harken.models.backbone import Backbone
from harken.plan.activations import PassMemory
from harken.plan.shape import ModelShape, shape_of

RANK = 4
WIDTHS = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
}


def config(family: str, layers: int) -> LlamaConfig | Qwen2Config:
    make = LlamaConfig if family == "llama" else Qwen2Config
    return make(num_hidden_layers=layers, max_position_embeddings=512, tie_word_embeddings=True, **WIDTHS)


@contextmanager
def saved_bytes(backbone: Backbone) -> Iterator[list[int]]:
    """Inside, every storage that autograd keeps, but for the model's own weights; the sum of their bytes."""
    own = {p.untyped_storage().data_ptr() for p in backbone.model.parameters()}
    own |= {b.untyped_storage().data_ptr() for b in backbone.model.buffers()}
    seen: dict[int, tuple[int, Tensor]] = {}
    total: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes(), tensor  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total
    total.append(sum(size for size, _ in seen.values()))


def distinct(rows: int, tokens: int) -> list[list[int]]:
    """Rows that begin with nothing alike."""
    return [[3 + (t + 7 * row) % 100 for t in range(tokens)] for row in range(rows)]


def measured(family: str, layers: int, dtype: torch.dtype, tokens: int, lora: LoraSettings | None) -> int:
    make = LlamaForCausalLM if family == "llama" else Qwen2ForCausalLM
    torch.manual_seed(0)
    backbone = Backbone(make(config(family, layers)).to(dtype), tiny_tokenizer())
    if lora:
        backbone.add_adapter("policy", lora, 0)
    else:
        backbone.train_all_weights()
    backbone.set_adapter_dropout(True)
    batch = collate(distinct(3, tokens), [[True] * tokens] * 3, 0)
    with backbone.role("policy" if lora else None), saved_bytes(backbone) as total:
        kept = backbone.hidden(batch)
    assert kept.requires_grad
    return total[0]


def shape(family: str, layers: int) -> ModelShape:
    return shape_of(config(family, layers))


@pytest.mark.sample(5)
@pytest.mark.parametrize("tokens", [60, 290])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_activations_of_a_layer_under_an_adapter(
    family: str, dtype: torch.dtype, dropout: float, tokens: int
) -> None:
    """The difference between four layers and two: what stands before and behind the layers drops out."""
    lora = LoraSettings(rank=RANK, dropout=dropout)
    real = measured(family, 4, dtype, tokens, lora) - measured(family, 2, dtype, tokens, lora)
    passes = [PassMemory(shape(family, n), dtype.itemsize, RANK, dropout > 0) for n in (4, 2)]
    rows = pack_rows(distinct(3, tokens)).tokens.numel() / tokens  # filled up
    reported = [p.saved(rows, tokens) + p.weight_casts() for p in passes]
    # What fills a sequence up sees little, and keeps fewer weights than is counted.
    assert reported[0] - reported[1] == pytest.approx(real, rel=0.015)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_activations_of_a_layer_in_full_training(dtype: torch.dtype) -> None:
    real = measured("llama", 4, dtype, 60, None) - measured("llama", 2, dtype, 60, None)
    passes = [PassMemory(shape("llama", n), dtype.itemsize, None) for n in (4, 2)]
    reported = [p.saved(3, 60) + p.weight_casts() for p in passes]
    assert reported[0] - reported[1] == pytest.approx(real, rel=0.01)


def test_a_checkpointed_pass_keeps_the_inputs_of_layers() -> None:
    """A layer more costs its input alone: rows × tokens × width numbers."""
    reported = [PassMemory(shape("llama", n), 2, RANK, checkpointing=True).saved(3, 60) for n in (4, 3)]
    assert reported[0] - reported[1] == pytest.approx(3 * 60 * WIDTHS["hidden_size"] * 2)


def test_adapters_are_counted_as_peft_makes_them() -> None:
    backbone = Backbone(LlamaForCausalLM(config("llama", 2)), tiny_tokenizer())
    whole = sum(p.numel() for p in backbone.model.parameters())
    backbone.add_adapter("policy", LoraSettings(rank=RANK), 0)
    counted = shape("llama", 2)
    assert counted.parameters == whole
    assert counted.lora_parameters(RANK) == sum(
        p.numel() for p in backbone.adapter_parameters("policy").values()
    )
