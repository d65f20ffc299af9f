"""Layers that run again backward: the same gradients to the last bit, less kept, never in the wrong role."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from tiny import tiny_backbone, tiny_model, tiny_tokenizer
from torch import Tensor, nn

from harken.batches import TokenBatch, collate
from harken.config import LoraSettings
from harken.errors import UserError
from harken.kernels.attention import MAX_EAGER_LENGTH
from harken.kernels.gradient_checkpointing import checkpointed_layers
from harken.models.backbone import Backbone


def batch(length: int = 12) -> TokenBatch:
    rows = [[3 + (7 * i + k) % 200 for k in range(length - 3 * i)] for i in range(3)]
    return collate(rows, [[k > 3 for k in range(len(row))] for row in rows], 0)


def backbone(dropout: float = 0.0, dtype: torch.dtype = torch.float32) -> Backbone:
    """With two adapters that do something: B is no longer zero."""
    made = Backbone(tiny_model().to(dtype), tiny_tokenizer())
    for name in ("policy", "critic"):
        made.add_adapter(name, LoraSettings(rank=4, dropout=dropout), 1)
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))
    return made


def loss(hidden: Tensor) -> Tensor:
    """Not the mean square, which a norm at the end of the trunk holds fixed."""
    return (hidden.float() @ torch.linspace(-1, 1, hidden.shape[-1])).square().mean()


def gradients(made: Backbone, rows: TokenBatch, *, again: bool, role: str = "policy") -> dict[str, Tensor]:
    torch.manual_seed(5)
    made.model.zero_grad()
    with made.role(role):
        with checkpointed_layers(made.trunk, lambda: made._role) if again else nullcontext():
            hidden = made.hidden(rows)
        loss(hidden).backward()
    return {name: p.grad.clone() for name, p in made.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("role", ["policy", "critic"])
@pytest.mark.parametrize("length", [12, MAX_EAGER_LENGTH + 4])
def test_gradients_are_equal_bit_for_bit(role: str, length: int) -> None:
    """For both attentions, with another adapter beside it."""
    made = backbone()
    plain, again = (gradients(made, batch(length), again=on, role=role) for on in (False, True))
    assert plain.keys() == again.keys()
    assert len(plain) == 2 * 7 * 2  # A and B, seven projections, two layers
    assert all(f".{role}." in name and bool(g.abs().max() > 1e-3) for name, g in plain.items())
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_adapter_dropout_and_16_bits_are_those_of_the_forward() -> None:
    made = backbone(dropout=0.5, dtype=torch.bfloat16)
    made.set_adapter_dropout(True)
    plain, again = (gradients(made, batch(), again=on) for on in (False, True))
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    made.set_adapter_dropout(False)
    undropped = gradients(made, batch(), again=True)
    assert not all(torch.equal(plain[name], undropped[name]) for name in plain)


def test_every_weight_has_the_same_gradient() -> None:
    made = tiny_backbone()
    made.train_all_weights()

    def found(again: bool) -> dict[str, Tensor]:
        made.model.zero_grad()
        with checkpointed_layers(made.trunk, lambda: None) if again else nullcontext():
            hidden = made.hidden(batch())
        loss(hidden).backward()
        return {name: p.grad.clone() for name, p in made.model.named_parameters() if p.grad is not None}

    plain, again = found(False), found(True)
    assert len(plain) > 15
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def kept_bytes(made: Backbone, again: bool) -> int:
    """What autograd holds between forward and backward, weights apart."""
    weights = {p.untyped_storage().data_ptr() for p in made.model.parameters()}
    weight_dtype: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            weight_dtype[storage.data_ptr()] = storage.nbytes()
        return tensor

    made.gradient_checkpointing = again
    with made.role("policy"), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        hidden = made.hidden(batch(60))
    assert hidden.requires_grad
    return sum(weight_dtype.values())


def test_much_less_is_kept() -> None:
    made = backbone()
    assert kept_bytes(made, again=True) < 0.2 * kept_bytes(made, again=False)


def test_another_adapter_at_the_backward_is_refused() -> None:
    """Without checkpoints the gradient would be zero, silently; here it would be another adapter's."""
    made = backbone()
    with made.role("policy"), checkpointed_layers(made.trunk, lambda: made._role):
        late = loss(made.hidden(batch()))
    with made.role("critic"), pytest.raises(RuntimeError, match="role 'policy' runs inside role 'critic'"):
        late.backward()
    assert all(p.grad is None for p in made.model.parameters())


def test_layers_are_left_as_they_were() -> None:
    """After a forward, after an error in one, and throughout a pass without gradients."""
    made = backbone()

    def changed() -> list[str]:
        return [n for n, m in made.trunk.named_modules() if "forward" in vars(m) and n.startswith("layers")]

    before = changed()  # an adapter may have brought a forward of its own
    with checkpointed_layers(made.trunk, lambda: made._role):
        assert set(changed()) - set(before) == {"layers.0", "layers.1"}
    assert changed() == before
    with pytest.raises(ValueError, match="stop"), checkpointed_layers(made.trunk, lambda: made._role):
        raise ValueError("stop")
    assert changed() == before
    with torch.no_grad(), checkpointed_layers(made.trunk, lambda: made._role):
        assert changed() == before


def test_a_model_without_known_layers_is_refused() -> None:
    with (
        pytest.raises(UserError, match="gradient_checkpointing"),
        checkpointed_layers(nn.Linear(2, 2), lambda: None),
    ):
        pass
