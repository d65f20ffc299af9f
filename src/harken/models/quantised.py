"""A frozen base in 8 or 4 bits per weight, by bitsandbytes: the library's layers, loaded through transformers.

Adapters on it train as on any other (QLoRA, arXiv:2305.14314): they and all activations keep their dtypes, and a
layer's weights are dequantised temporarily for its matmul, forward and backward (`models.quantised_linear`).
Embeddings, norms and the unembedding are not quantised.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import BitsAndBytesConfig

from harken.errors import UserError

QuantType = Literal["int8", "nf4"]


@dataclass(frozen=True)
class Quantised:
    """Storage of a frozen base's linear layers; everything else is in `dtype`."""

    kind: QuantType
    dtype: torch.dtype = torch.bfloat16

    def settings(self) -> BitsAndBytesConfig:
        """Return the settings for transformers. Raises UserError if bitsandbytes is not installed."""
        if importlib.util.find_spec("bitsandbytes") is None:
            raise UserError(
                f"{self.kind} needs the package bitsandbytes",
                where="dtype",
                fix="run: pip install 'harken[quantised]', or set dtype: bfloat16",
            )
        if self.kind == "int8":
            return BitsAndBytesConfig(load_in_8bit=True)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=self.dtype,
        )


WeightDtype = torch.dtype | Quantised
"""Storage type of a frozen base's weights."""

WEIGHT_DTYPES: dict[str, WeightDtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "int8": Quantised("int8"),
    "nf4": Quantised("nf4"),
}
"""Weight dtypes by the values of the `dtype` setting."""


def compute_dtype(weight_dtype: WeightDtype) -> torch.dtype:
    """Return the dtype of activations, and of every weight that is not quantised."""
    return weight_dtype.dtype if isinstance(weight_dtype, Quantised) else weight_dtype


def is_quantised(parameter: torch.Tensor) -> bool:
    """Return whether a parameter is stored quantised."""
    return not parameter.is_floating_point()


def weight_count(parameter: torch.Tensor) -> int:
    """Return how many weights a parameter represents: in 4 bits, two per byte."""
    state = getattr(parameter, "quant_state", None)
    shape = state.shape if state is not None else parameter.shape
    return int(torch.Size(shape).numel())


def stored_tensors(parameter: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors that define a parameter: itself, and the scales and tables of a quantised one."""
    parts = [parameter]
    if not is_quantised(parameter):
        return parts
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return [*parts, int8_scales(parameter)]
    while state is not None:
        state_tensors = (state.absmax, state.code, getattr(state, "offset", None))
        parts += [part for part in state_tensors if part is not None]
        state = getattr(state, "state2", None)
    return parts


def int8_scales(weight: Any) -> torch.Tensor:
    """Return the scale per output of 8-bit weights, float32: the value of 127 steps."""
    scales: torch.Tensor = weight.SCB
    return scales
