"""Tensors that are made again: to the bit, and never from what no longer holds."""

from __future__ import annotations

import torch
from tiny import tiny_backbone, with_adapters
from torch import Tensor

from harken.models import fused, made_again
from harken.models.made_again import note, recipe_of

TOKENS = torch.arange(3, 33).view(2, 15)


def doubled(x: Tensor) -> Tensor:
    return 2 * x


def test_a_tensor_that_was_changed_has_no_recipe() -> None:
    x = torch.randn(3)
    made = note(2 * x, doubled, x)
    recipe = recipe_of(made)
    assert recipe is not None and torch.equal(recipe.make(*recipe.of), made)
    made.add_(1)
    assert recipe_of(made) is None
    assert recipe_of(x) is None


def test_a_recipe_holds_no_graph() -> None:
    x = torch.randn(3, requires_grad=True)
    recipe = recipe_of(note(doubled(x), doubled, x))
    assert recipe is not None and not any(part.requires_grad for part in recipe.of)


def test_gradients_are_those_of_what_is_kept(monkeypatch) -> None:
    """The same numbers go in, so the same come out, to the bit."""

    def gradients() -> dict[str, Tensor]:
        backbone = with_adapters(tiny_backbone())
        with backbone.role("policy"):
            states = backbone.forward(input_ids=TOKENS)
            (states[:, :-1] * states[:, 1:]).sum().backward()
        return {n: p.grad for n, p in backbone.model.named_parameters() if p.grad is not None}

    again = gradients()
    monkeypatch.setattr(fused, "note", lambda tensor, *recipe: tensor)
    kept = gradients()
    assert len(again) == len(kept) == 28
    assert all(torch.equal(again[name], kept[name]) for name in kept)


def test_the_inputs_of_q_and_of_down_are_made_again(monkeypatch) -> None:
    """Of seven inputs in each of two layers: three of the norm before attention, two of the other, one gated."""
    used: list[bool] = []
    found = made_again.recipe_of

    def seen(tensor: Tensor) -> made_again.Recipe | None:
        recipe = found(tensor)
        used.append(recipe is not None)
        return recipe

    monkeypatch.setattr("harken.models.lora_linear.recipe_of", seen)
    backbone = with_adapters(tiny_backbone())
    with backbone.role("policy"):
        backbone.forward(input_ids=TOKENS)
    assert (used.count(True), used.count(False)) == (12, 2)
