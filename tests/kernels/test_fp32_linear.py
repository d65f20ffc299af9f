"""A 16-bit model on a processor that multiplies in float32: the same model, no more kept, and a better rounding."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer, with_adapters
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from harken.batches import collate
from harken.config import LoraSettings
from harken.kernels.fp32_linear import Fp32LinearForward
from harken.maths import matmul_dtype
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.models.roles import Policy
from harken.rollout.decoder import Decoder

ROWS = [[5, 6, 7, *range(20, 50)], [5, 6, 7, *range(60, 75)], [9, 8]]


def made(natively: bool, monkeypatch: pytest.MonkeyPatch, adapters: bool = True) -> Backbone:
    monkeypatch.setattr(matmul_dtype, "has_native_bf16_matmul", lambda: natively)
    backbone = Backbone(tiny_model(hidden=64).bfloat16(), tiny_tokenizer())
    return with_adapters(backbone) if adapters else backbone


def beside_adapters(backbone: Backbone) -> Backbone:
    """An adapter on queries alone: most layers are frozen, and pass slopes on."""
    backbone.add_adapter("policy", LoraSettings(rank=4, target_modules=["q_proj"]), 0)
    for name, parameter in backbone.adapter_parameters("policy").items():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.1)
    return backbone


def passed(backbone: Backbone, role: str | None = "policy") -> tuple[Tensor, dict[str, Tensor], int]:
    """States at real tokens, gradients of the adapter in force, bytes kept for the backward pass."""
    batch = collate(ROWS, [[True] * len(row) for row in ROWS], 0)
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with backbone.role(role), saved_tensors_hooks(keep, lambda x: x):
        states = backbone.hidden(batch)[batch.attention_mask]
        if role is not None:
            (states.float()[:-1] * states.float()[1:]).sum().backward()
    grads = {n: p.grad.clone() for n, p in backbone.model.named_parameters() if p.grad is not None}
    backbone.model.zero_grad(set_to_none=True)
    return states.detach().float(), grads, sum(kept.values())


def exact(backbone: Backbone) -> Backbone:
    """The same weights, adapters included, in float32."""
    wide = with_adapters(Backbone(tiny_model(hidden=64), tiny_tokenizer()))
    rounded = {n: p.bfloat16().float() for n, p in backbone.model.state_dict().items()}
    wide.model.load_state_dict(rounded)
    return wide


@pytest.mark.parametrize("role", ["policy", None])
def test_states_and_gradients_are_as_near_the_truth_as_in_16_bits(
    role: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = made(False, monkeypatch)
    truth, true_grads, _ = passed(exact(wide), role)
    states, grads, kept = passed(wide, role)
    natively = made(True, monkeypatch)
    natively.model.load_state_dict(wide.model.state_dict())
    others, other_grads, kept_natively = passed(natively, role)
    assert float((states - truth).norm()) <= 1.1 * float((others - truth).norm())
    assert grads.keys() == other_grads.keys() == true_grads.keys()
    error = sum(float((grads[n] - g).norm()) for n, g in true_grads.items())
    error_natively = sum(float((other_grads[n] - g).norm()) for n, g in true_grads.items())
    assert error <= 1.1 * error_natively
    assert kept <= kept_natively


def test_layers_without_an_adapter_keep_16_bits_and_pass_slopes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_dtype, "has_native_bf16_matmul", lambda: False)
    wide = beside_adapters(Backbone(tiny_model(hidden=64).bfloat16(), tiny_tokenizer()))
    truth = beside_adapters(Backbone(tiny_model(hidden=64), tiny_tokenizer()))
    truth.model.load_state_dict({n: p.bfloat16().float() for n, p in wide.model.state_dict().items()})
    _, true_grads, _ = passed(truth)
    multiplied: list[torch.dtype] = []

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if function.name().split(".")[0] in ("aten::mm", "aten::bmm"):
                multiplied.append(args[1].dtype)
            return function(*args, **(kwargs or {}))

    with Seen():
        _, grads, kept = passed(wide)
    monkeypatch.setattr(matmul_dtype, "has_native_bf16_matmul", lambda: True)
    natively = beside_adapters(Backbone(tiny_model(hidden=64).bfloat16(), tiny_tokenizer()))
    _, other_grads, kept_natively = passed(natively)
    assert set(multiplied) == {torch.float32}
    assert kept <= kept_natively
    error, others = (
        sum(float((some[n] - g).norm()) for n, g in true_grads.items()) for some in (grads, other_grads)
    )
    assert error <= 1.1 * others


def test_every_product_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole pass, backward too, a decoding step and its logits: no 16-bit product is left anywhere."""
    backbone = made(False, monkeypatch)
    multiplied: list[tuple[str, torch.dtype]] = []

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            name = function.name().removeprefix("aten::").split(".")[0]
            if name.strip("_") in ("mm", "addmm", "bmm", "baddbmm", "linear", "matmul"):
                multiplied.append((name, args[1].dtype))
            return function(*args, **(kwargs or {}))

    batch = collate(ROWS, [[False, *[True] * (len(row) - 1)] for row in ROWS], 0)
    policy = Policy(backbone, "policy")
    assert backbone._has_decode_step  # asked now: the question compares with the model's own attention
    with backbone.role("policy"), Seen():
        policy.evaluate(batch).logprobs.sum().backward()
        with torch.no_grad():
            policy.evaluate(batch)
            for packs in (True, False):
                with monkeypatch.context() as patch:
                    if not packs:
                        patch.setattr("harken.kernels.packed_linear.MAX_PACKED_WEIGHTS", 0)
                    with backbone.decoding():
                        decoder = Decoder(backbone, 4, 64)
                        decoder.prefill(ROWS, [1] * len(ROWS))
                        decoder.append(backbone.logits(decoder.last_states).argmax(-1))
                        backbone.logits(decoder.last_states)
    with Seen(), torch.no_grad(), backbone.role(None):
        Policy(backbone, None).evaluate(batch)
    rotary = {("bmm", torch.float32)}  # transformers' own, in float32 everywhere
    assert set(multiplied) >= rotary
    assert len(multiplied) > 100
    assert [m for m in multiplied if m[1] != torch.float32] == []


@pytest.mark.parametrize("copied", [True, False])
def test_responses_are_drawn_from_the_logits_that_are_scored(
    copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is rounded to 16 bits, whether or not weights are copied for decoding."""
    backbone = made(False, monkeypatch)
    states = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = states.double() @ backbone.output_weight.double().T
    if not copied:
        monkeypatch.setattr("harken.kernels.packed_linear.MAX_PACKED_WEIGHTS", 0)
    with torch.no_grad(), backbone.decoding():
        drawn = backbone.logits(states)
    torch.testing.assert_close(drawn.double(), exact, rtol=1e-5, atol=1e-5)


def test_sampled_logprobs_are_those_of_the_training_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = made(False, monkeypatch)
    with torch.no_grad(), backbone.role("policy"):
        with backbone.decoding():
            decoder = Decoder(backbone, 4, 64)
            decoder.prefill([row[:-1] for row in ROWS], [1] * len(ROWS))
            decoder.append(torch.tensor([row[-1] for row in ROWS]))
            found = decoder.last_states.float()
            assert {keys.dtype for keys in decoder.cache.keys} == {torch.float32}
        layout = backbone.pack(ROWS)
        ends = [int(where[len(row) - 1]) for where, row in zip(layout.token_index, ROWS, strict=True)]
        expected = backbone.forward_packed(layout, use_cache=False)[ends].float()
    assert float((found - expected).norm()) <= 2**-7 * float(expected.norm())


def test_a_downloaded_model_is_packed_and_decoded_here(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding alone moves its states by a half over tokens it never saw; over words they agree."""
    monkeypatch.setattr(matmul_dtype, "has_native_bf16_matmul", lambda: False)
    backbone = Backbone.load(resolve(str(smollm2)), torch.bfloat16, "cpu")
    assert backbone.packs
    assert backbone._has_decode_step


def test_layers_that_train_and_layers_of_32_bits_keep_torchs_way(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = made(False, monkeypatch, adapters=False)
    wide = [m for m in narrow.model.modules() if isinstance(m.__dict__.get("forward"), Fp32LinearForward)]
    assert len(wide) == 15  # seven a layer, and the unembedding
    narrow.train_all_weights()
    states = narrow.forward(input_ids=torch.tensor([ROWS[0]]))
    states.square().sum().backward()
    assert states.dtype == torch.float32
    assert all(p.grad is not None for p in narrow.model.model.parameters())
    other = Backbone(tiny_model(), tiny_tokenizer())
    assert not any(isinstance(m.__dict__.get("forward"), Fp32LinearForward) for m in other.model.modules())


def test_full_fine_tuning_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradients are those of the same weights in float32, to rounding: nothing is 16 bits in between."""
    narrow = made(False, monkeypatch, adapters=False)
    plain = copy.deepcopy(narrow.model).float()
    for module in plain.modules():
        module.__dict__.pop("forward", None)
    narrow.train_all_weights()
    grads = []
    for model in (narrow.model, plain.requires_grad_(True)):
        tokens = torch.tensor([ROWS[0]])
        run = narrow.forward if model is narrow.model else plain.model
        output = run(input_ids=tokens)
        states = output if isinstance(output, Tensor) else output.last_hidden_state
        (states[:, 1:] * states[:, :-1]).sum().backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-3, atol=1e-5 * float(grad.abs().max()))


def test_a_bias_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_dtype, "has_native_bf16_matmul", lambda: False)
    layer = nn.Linear(8, 5).bfloat16().requires_grad_(False)
    x = torch.randn(2, 3, 8).bfloat16().requires_grad_()
    expected = torch.nn.functional.linear(x.float(), layer.weight.float(), layer.bias.float())
    of_x = torch.autograd.grad(expected.sum(), x)[0]
    found = Fp32LinearForward(layer)(x)
    assert torch.equal(found, expected.bfloat16())
    assert torch.allclose(torch.autograd.grad(found.sum(), x)[0].float(), of_x.float(), rtol=2**-7)
