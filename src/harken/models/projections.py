"""Which layers of a model adapters are put on, unless a configuration names them."""

from __future__ import annotations

from torch import nn

from harken.errors import UserError

PROJECTIONS = {
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    *("qkv_proj", "gate_up_proj", "out_proj", "fc1", "fc2"),
    *("c_attn", "c_proj", "c_fc"),
    *("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
}
"""The attention and MLP projections as the common families name them."""


def projections_of(trunk: nn.Module) -> list[str]:
    """The names of those that `trunk` has. Raises UserError where it has none."""
    found = {key.rsplit(".", 1)[-1] for key, _ in trunk.named_modules()} & PROJECTIONS
    if not found:
        raise UserError("no known projection in this model", where="lora.target_modules", mend="name them")
    return sorted(found)
