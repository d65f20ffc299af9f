"""Tensors that are made again: to the bit, and never from what no longer holds."""

from __future__ import annotations

import torch
from tiny import tiny_backbone, with_adapters
from torch import Tensor

from harken.kernels import fused, recompute
from harken.kernels.recompute import attach_recompute, get_recompute

TOKENS = torch.arange(3, 33).view(2, 15)


def doubled(x: Tensor) -> Tensor:
    return 2 * x


def test_a_tensor_that_was_changed_has_no_recipe() -> None:
    x = torch.randn(3)
    made = attach_recompute(2 * x, doubled, x)
    recipe = get_recompute(made)
    assert recipe is not None and torch.equal(recipe.function(*recipe.inputs), made)
    made.add_(1)
    assert get_recompute(made) is None
    assert get_recompute(x) is None


def test_a_recipe_holds_no_graph() -> None:
    x = torch.randn(3, requires_grad=True)
    recipe = get_recompute(attach_recompute(doubled(x), doubled, x))
    assert recipe is not None and not any(part.requires_grad for part in recipe.inputs)


def test_gradients_are_those_of_what_is_kept(monkeypatch) -> None:
    """The same numbers go in, so the same come out, to the bit."""

    def gradients() -> dict[str, Tensor]:
        backbone = with_adapters(tiny_backbone())
        with backbone.role("policy"):
            states = backbone.forward(input_ids=TOKENS)
            (states[:, :-1] * states[:, 1:]).sum().backward()
        return {n: p.grad for n, p in backbone.model.named_parameters() if p.grad is not None}

    again = gradients()
    monkeypatch.setattr(fused, "attach_recompute", lambda tensor, *recipe: tensor)
    kept = gradients()
    assert len(again) == len(kept) == 28
    assert all(torch.equal(again[name], kept[name]) for name in kept)


def test_the_inputs_of_q_and_of_down_are_made_again(monkeypatch) -> None:
    """Of seven inputs in each of two layers: three of the norm before attention, two of the other, one gated."""
    used: list[bool] = []
    found = recompute.get_recompute

    def seen(tensor: Tensor) -> recompute.Recompute | None:
        recipe = found(tensor)
        used.append(recipe is not None)
        return recipe

    monkeypatch.setattr("harken.kernels.lora_linear.get_recompute", seen)
    backbone = with_adapters(tiny_backbone())
    with backbone.role("policy"):
        backbone.forward(input_ids=TOKENS)
    assert (used.count(True), used.count(False)) == (12, 2)
