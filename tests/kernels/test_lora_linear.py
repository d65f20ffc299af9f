"""The adapter's own forward against peft's, on the same parameters."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import tiny_backbone, with_adapters
from torch import Tensor, nn

from harken.config import LoraSettings
from harken.kernels import lora_linear
from harken.kernels.lora_linear import LoraForward, _LoraLinear, adapters_cast_once
from harken.models.backbone import Backbone

TOKENS = torch.arange(3, 33).view(2, 15)


@pytest.fixture
def backbone() -> Backbone:
    return with_adapters(tiny_backbone())


def installed(backbone: Backbone) -> list[nn.Module]:
    return [m for m in backbone.model.modules() if isinstance(m.__dict__.get("forward"), LoraForward)]


def outcome(backbone: Backbone) -> tuple[Tensor, dict[str, Tensor]]:
    with backbone.role("policy"):
        states = backbone.forward(input_ids=TOKENS)
        (states[:, :-1] * states[:, 1:]).sum().backward()
    grads = {n: p.grad.clone() for n, p in backbone.model.named_parameters() if p.grad is not None}
    backbone.model.zero_grad(set_to_none=True)
    return states.detach(), grads


def test_states_and_gradients_are_pefts(backbone: Backbone) -> None:
    """In float32 up to the order of sums; gradients reach the adapter in force and nothing else."""
    layers = installed(backbone)
    assert len(layers) == 14
    states, grads = outcome(backbone)
    for layer in layers:
        del layer.__dict__["forward"]
    expected, expected_grads = outcome(backbone)
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)
    assert grads.keys() == expected_grads.keys()
    assert len(grads) == 28
    assert all(".policy." in name for name in grads)
    for name, grad in grads.items():
        scale = float(expected_grads[name].abs().max())
        torch.testing.assert_close(grad, expected_grads[name], atol=1e-5 * scale, rtol=1e-5)


def test_the_backward_is_the_derivative() -> None:
    torch.manual_seed(0)
    x, weight, bias, down, up = (
        torch.randn(*shape, dtype=torch.float64) for shape in ((2, 3, 5), (4, 5), (4,), (2, 5), (4, 2))
    )
    for tensor in (x, down, up):
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, down, up: _LoraLinear.apply(x, weight, bias, down, up, 0.7), (x, down, up)
    )


def test_without_a_role_it_is_the_base(backbone: Backbone) -> None:
    bare = tiny_backbone()
    with torch.no_grad():
        assert torch.equal(backbone.forward(input_ids=TOKENS), bare.forward(input_ids=TOKENS))


def test_dropout_falls_on_the_adapters_input_alone() -> None:
    """With all of it dropped, only the base is left; without training mode nothing is dropped."""
    backbone = tiny_backbone()
    backbone.add_adapter("policy", LoraSettings(rank=4, dropout=0.999999), seed=0)
    for name, parameter in backbone.adapter_parameters("policy").items():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        bare = backbone.forward(input_ids=TOKENS)
        with backbone.role("policy"):
            still = backbone.forward(input_ids=TOKENS)
            backbone.set_adapter_dropout(True)
            dropped = backbone.forward(input_ids=TOKENS)
    torch.testing.assert_close(dropped, bare)
    assert not torch.allclose(still, bare)


def test_cast_once_is_exact_and_ends(backbone: Backbone) -> None:
    """Inside, nothing changes but the casts; afterwards the parameters count again, also after an error."""
    with torch.no_grad(), backbone.role("policy"):
        before = backbone.forward(input_ids=TOKENS)
        with pytest.raises(KeyError), adapters_cast_once(installed(backbone)):
            assert torch.equal(backbone.forward(input_ids=TOKENS), before)
            raise KeyError
        assert all(layer.forward.cast_weights is None for layer in installed(backbone))
        for name, parameter in backbone.adapter_parameters("policy").items():
            if "lora_B" in name:
                parameter.zero_()
        after = backbone.forward(input_ids=TOKENS)
    assert torch.equal(after, backbone.forward(input_ids=TOKENS))
    assert not torch.equal(after, before)


def test_in_half_precision_it_is_no_further_from_the_truth_than_peft() -> None:
    """Against float32 on the same rounded weights: one rounding of the sum instead of three."""
    errors = {}
    exact = tiny_backbone(hidden=64)
    for own in (True, False):
        half = tiny_backbone(hidden=64)
        half.model.to(torch.bfloat16)
        for backbone in (exact, half):
            if backbone._peft is None:
                backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
                for name, parameter in backbone.adapter_parameters("policy").items():
                    generator = torch.Generator().manual_seed(len(name))
                    parameter.data = (
                        torch.randn(parameter.shape, generator=generator).mul_(0.1).bfloat16().float()
                    )
        exact.model.load_state_dict({k: v.float() for k, v in half.model.state_dict().items()})
        if not own:
            for layer in installed(half):
                del layer.__dict__["forward"]
        with torch.no_grad(), exact.role("policy"), half.role("policy"):
            truth = exact.forward(input_ids=TOKENS)
            errors[own] = float((half.forward(input_ids=TOKENS).float() - truth).square().mean())
    assert errors[True] <= 1.1 * errors[False]


@pytest.mark.parametrize("width", [8, 16])
def test_a_layers_output_may_be_changed_in_place(width: int) -> None:
    """Some families add to a layer's output in place; autograd refuses that for a view that a function made."""
    torch.manual_seed(0)
    holder = nn.Sequential(nn.Linear(width, 5))
    model = get_peft_model(holder, LoraConfig(r=2, target_modules=["0"]))
    layer = model.base_model.model[0]
    nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.randn(2, 3, width)
    expected = torch.autograd.grad((layer(x) + 1.0).square().sum(), layer.lora_A["default"].weight)[0]
    lora_linear.install([layer])
    layer.base_layer.requires_grad_(False)
    found = torch.autograd.grad(layer(x).add_(1.0).square().sum(), layer.lora_A["default"].weight)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
