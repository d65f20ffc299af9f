"""AdamW with 8-bit optimiser state, by bitsandbytes: one byte per element, and one scale per 256 elements.

Checkpoints hold the library's state under the names of `torch.optim.AdamW`; a resumed run is bit for bit the same. An
implementation in plain torch took six times as long per step on a CPU, with the same final loss
(docs/log/performance.md).

Source: Dettmers, Lewis, Shleifer, Zettlemoyer 2022, "8-bit Optimizers via Block-wise Quantization" (arXiv:2110.02861).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harken.errors import UserError

STATE_NAMES = {
    "state1": "exp_avg",
    "absmax1": "exp_avg_scale",
    "state2": "exp_avg_sq",
    "absmax2": "exp_avg_sq_scale",
}
"""Names of a parameter's state tensors: bitsandbytes → torch."""
QUANTISATION_MAPS = {"qmap1": "dynamic", "qmap2": "udynamic"}
"""The 256 values that bytes encode: the same for every parameter, so they are not saved."""


def adamw_8bit(groups: list[dict[str, Any]], eps: float, weight_decay: float) -> torch.optim.Optimizer:
    """Make the optimiser. Parameters of fewer than 4,096 elements keep their state in float32.

    Raises UserError without bitsandbytes.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "adamw_8bit needs the package bitsandbytes",
            where="training.optimizer",
            fix="run: pip install 'harken[quantised]', or set training.optimizer: adamw",
        )
    import bitsandbytes

    optimiser: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(  # type: ignore[attr-defined, no-untyped-call]
        groups, eps=eps, weight_decay=weight_decay, min_8bit_size=4096
    )
    return optimiser


def export_state(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename a parameter's state to the names of `torch.optim.AdamW`; {} before its first step."""
    if not state:
        return {}
    tensors = {name: state[bnb_name] for bnb_name, name in STATE_NAMES.items() if bnb_name in state}
    return tensors | {"step": torch.tensor(float(state["step"]))}


def import_state(
    adam: torch.optim.Optimizer, saved: Mapping[str, Tensor], device: torch.device
) -> dict[str, Any]:
    """Convert the output of `export_state` back to bitsandbytes' state."""
    state: dict[str, Any] = {
        bnb_name: saved[name].to(device) for bnb_name, name in STATE_NAMES.items() if name in saved
    }
    if "absmax1" in state:
        adam.fill_qmap()  # type: ignore[attr-defined]
        maps: dict[str, Tensor] = adam.name2qmap  # type: ignore[attr-defined]
        state |= {key: maps[name].to(device) for key, name in QUANTISATION_MAPS.items()}
    return state | {"step": int(saved["step"])}
