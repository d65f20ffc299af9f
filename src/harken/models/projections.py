"""Which layers of a model adapters are put on, unless a configuration names them."""

from __future__ import annotations

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel

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


def require_switchable(model: PreTrainedModel) -> None:
    """Raise UserError for an adapter whose effect would be in no role or in all: one of the head, or a module that
    an adapter replaces whole."""
    outside = (model.get_input_embeddings(), model.get_output_embeddings())
    if any(isinstance(module, BaseTunerLayer) for module in outside) or any(
        isinstance(module, AuxiliaryTrainingWrapper) for module in model.modules()
    ):
        raise UserError(
            "an adapter on the embeddings or the output layer, or with modules_to_save, cannot be switched on and off",
            where="lora.target_modules",
            mend="name layers of the trunk alone; merge an adapter trained elsewhere and name the merged model",
        )
