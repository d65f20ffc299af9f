"""Norms and gated blocks: the numbers of the modules they stand in for, and never another family's formula."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_model
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, Qwen2Config

from harken.kernels import fused
from harken.kernels.fused import GatedForward, NormForward, _Gated, _Norm, install

SIZE = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def of_kind(model: nn.Module, kind: type) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m.__dict__.get("forward"), kind)]


@pytest.mark.parametrize(
    ("names", "served"),
    [(["_fused_rms_norm", "_fused_rms_norm_backward"], True), (["_fused_rms_norm"], False), ([], False)],
)
def test_an_older_operation_of_that_name_is_left_alone(
    names: list[str], served: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch 2.6 to 2.8 have one that takes other arguments and has no backward."""
    monkeypatch.setattr(torch.ops, "aten", SimpleNamespace(**dict.fromkeys(names)))
    assert fused._has_fused_rms_norm.__wrapped__() is served


GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_and_gradients_are_the_models_own(dtype: torch.dtype, device: str) -> None:
    """Every weight's gradient: float32 up to the order of sums, bfloat16 as close to float32's as the model's own."""
    torch.manual_seed(0)
    own = tiny_model(hidden=64).to(device, dtype).train()
    for name, parameter in own.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter, 1.0, 0.3)
    ours, exact = copy.deepcopy(own), copy.deepcopy(own).float()
    install(ours)
    assert len(of_kind(ours, NormForward)) == 5
    assert len(of_kind(ours, GatedForward)) == 2
    tokens = torch.arange(3, 33, device=device).view(2, 15)
    grads = {}
    for name, model in (("own", own), ("ours", ours), ("exact", exact)):
        states = model.model(input_ids=tokens).last_hidden_state.float()
        (states[:, :-1] * states[:, 1:]).sum().backward()
        grads[name] = {n: p.grad.float() for n, p in model.named_parameters() if p.grad is not None}
    for key, truth in grads["exact"].items():
        error = (grads["ours"][key] - truth).norm() / truth.norm()
        other = (grads["own"][key] - truth).norm() / truth.norm()
        assert error <= (1e-5 if dtype == torch.float32 else 1.3 * other + 1e-3), key


def test_the_backwards_are_derivatives() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 2, 3, 5, dtype=torch.float64).requires_grad_()
    weight = torch.randn(5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(_Gated.apply, (x, y))
    # The norm computes in float32 whatever comes in, as the families do: its derivative is checked at that precision.
    assert torch.autograd.gradcheck(
        lambda x, weight: _Norm.apply(x, weight, 1e-5),
        (x.float(), weight.float()),
        eps=1e-2,
        atol=2e-3,
        rtol=1e-2,
    )


def test_another_formula_is_left_alone() -> None:
    """Gemma's norm adds one to its weight, its block has another activation; Qwen2 is like Llama."""
    gemma = AutoModelForCausalLM.from_config(Gemma2Config(head_dim=8, num_key_value_heads=2, **SIZE))
    install(gemma)
    assert not of_kind(gemma, NormForward)
    assert not of_kind(gemma, GatedForward)
    qwen = AutoModelForCausalLM.from_config(Qwen2Config(num_key_value_heads=2, **SIZE))
    install(qwen)
    assert len(of_kind(qwen, NormForward)) == 5
    assert len(of_kind(qwen, GatedForward)) == 2


def test_a_copy_has_its_own_weights() -> None:
    model = tiny_model()
    install(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.model.norm.weight.zero_()
    x = torch.randn(1, 2, 32)
    assert float(twin.model.norm(x).abs().max()) == 0
    assert float(model.model.norm(x).abs().max()) > 0


def test_less_is_kept_for_the_backward_pass() -> None:
    """Bytes of tensors saved by one feed-forward block and its norm, counted as autograd saves them."""

    def saved(model: nn.Module) -> int:
        stores: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            stores[storage.data_ptr()] = storage.nbytes()
            return tensor

        layer = model.model.layers[0]
        x = torch.randn(4, 64, 64, dtype=torch.bfloat16, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            layer.mlp(layer.post_attention_layernorm(x))
        parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
        return sum(size for place, size in stores.items() if place not in parameters)

    own = tiny_model(hidden=64).bfloat16().requires_grad_(False)
    ours = copy.deepcopy(own)
    install(ours)
    assert saved(ours) <= 0.65 * saved(own)
