"""Layers as they run while decoding, against the same layers as they train."""

from __future__ import annotations

import weakref

import pytest
import torch
from tiny import tiny_backbone, tiny_model, tiny_tokenizer, with_adapters
from torch import nn
from transformers import AutoModelForCausalLM, Qwen2Config

from harken.kernels import decode_step, packed_linear
from harken.maths import matmul_dtype
from harken.models.backbone import Backbone

TOKENS = torch.arange(3, 33).view(2, 15)


@pytest.fixture(autouse=True, params=["in 16 bits", "in float32"])
def multiplied(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How this processor multiplies 16-bit matrices. Any can do it in float32."""
    natively = request.param == "in 16 bits"
    if natively and not packed_linear._has_exact_packed_matmul(torch.bfloat16):
        pytest.skip("no packed bfloat16 multiplication here")
    monkeypatch.setattr(matmul_dtype, "has_native_bf16_matmul", lambda: natively)
    return str(request.param)


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """To the bit in 16 bits; float32 sums in another order, so a few of them are rounded the other way."""
    if matmul_dtype.has_native_bf16_matmul():
        return torch.equal(found, expected)
    return torch.allclose(found.float(), expected.float(), rtol=2**-7, atol=1e-3)


def half() -> Backbone:
    return Backbone(tiny_model().bfloat16(), tiny_tokenizer())


@pytest.fixture
def backbone() -> Backbone:
    return with_adapters(half())


@pytest.mark.parametrize("role", ["policy", None])
def test_a_bias_and_an_adapter_go_together(role: str | None) -> None:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    for name, bias in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(bias)
    backbone = with_adapters(Backbone(model.bfloat16(), tiny_tokenizer()))
    with torch.no_grad(), backbone.role(role):
        expected = backbone.forward("eager", input_ids=TOKENS)
        with backbone.decoding():
            assert same(backbone.forward("eager", input_ids=TOKENS), expected)


@pytest.mark.parametrize("role", ["policy", "other", None])
def test_states_and_logits_are_those_of_training(backbone: Backbone, role: str | None) -> None:
    with torch.no_grad(), backbone.role(role):
        expected = backbone.forward("eager", input_ids=TOKENS)
        logits = expected[0].float() @ backbone.output_weight.T.float()
        with backbone.decoding():
            found = backbone.forward("eager", input_ids=TOKENS)
            rounded = logits.to(matmul_dtype.to_matmul_dtype(expected).dtype).float()
            assert same(backbone.logits(expected[0]), rounded)
    assert same(found, expected)


def test_layers_of_one_input_are_one_multiplication(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """q, k and v; o; gate and up; down: four a layer."""
    calls: list[int] = []
    multiply = packed_linear.PackedWeight.__call__

    def counted(self: packed_linear.PackedWeight, x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return multiply(self, x)

    with torch.no_grad(), backbone.role("policy"), backbone.decoding():
        monkeypatch.setattr(packed_linear.PackedWeight, "__call__", counted)
        backbone.forward("eager", input_ids=TOKENS)
        a_layer = [TOKENS.numel()] * 4
        assert calls == a_layer * backbone.model.config.num_hidden_layers
        calls.clear()
        decode_step.is_equivalent(backbone.trunk, lambda *_, **__: torch.zeros(1, 1, 1), torch.bfloat16)
    assert calls == [1] * 4 * backbone.model.config.num_hidden_layers * len(decode_step.PROBE_PATTERN)


@pytest.mark.parametrize("role", ["policy", None])
def test_every_weight_is_copied_once(role: str | None, backbone: Backbone, copied: list[torch.Size]) -> None:
    """Four groups a layer and the unembedding: not once more for the plain layer inside an adapter's."""
    with torch.no_grad(), backbone.role(role), backbone.decoding():
        pass
    assert len(copied) == 4 * backbone.model.config.num_hidden_layers + 1


def test_a_bias_is_added_where_a_layer_has_one() -> None:
    torch.manual_seed(0)
    block = nn.Module()
    for name, outputs, bias in (("q_proj", 8, True), ("k_proj", 4, False), ("v_proj", 4, True)):
        block.add_module(name, nn.Linear(16, outputs, bias=bias).bfloat16())
    x = torch.randn(3, 16).bfloat16()
    with torch.no_grad():
        expected = [layer(x) for layer in block.children()]
        of_another = block.q_proj(2 * x)
        with packed_linear.packed_linears(block):
            found = [layer(x) for layer in block.children()]
            block.q_proj(x)
            assert same(block.q_proj(2 * x), of_another)
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_fused_outputs_are_released_when_all_slices_are_taken() -> None:
    block = nn.Module()
    for name in ("gate_proj", "up_proj"):
        block.add_module(name, nn.Linear(16, 8).bfloat16())
    with torch.no_grad(), packed_linear.packed_linears(block):
        x = torch.randn(3, 16).bfloat16()
        alive = weakref.ref(x)
        block.gate_proj(x), block.up_proj(x)
        del x
        assert alive() is None


def test_everything_is_restored_after_an_error(backbone: Backbone) -> None:
    before = {name: module.__dict__.get("forward") for name, module in backbone.model.named_modules()}
    with pytest.raises(ZeroDivisionError), torch.no_grad(), backbone.role("policy"), backbone.decoding():
        raise ZeroDivisionError
    after = {name: module.__dict__.get("forward") for name, module in backbone.model.named_modules()}
    assert after == before
    assert backbone._unembedding is None


def test_a_float32_model_and_a_large_one_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not packed_linear.can_pack(tiny_backbone().model)
    small = half().model
    assert packed_linear.can_pack(small)
    monkeypatch.setattr(packed_linear, "MAX_PACKED_WEIGHTS", sum(p.numel() for p in small.parameters()))
    assert packed_linear.can_pack(small)
    monkeypatch.setattr(packed_linear, "MAX_PACKED_WEIGHTS", packed_linear.MAX_PACKED_WEIGHTS - 1)
    assert not packed_linear.can_pack(small)
