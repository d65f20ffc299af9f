"""AdamW with optimiser state in eight bits, by bitsandbytes: a byte a number, and a scale for every 256 of them.

The library's own state is renamed to plain tensors for checkpoints, and resumes to the last bit. An implementation in
plain torch took six times as long a step on a CPU and ended at the same loss (docs/log/performance.md).

Source: Dettmers, Lewis, Shleifer, Zettlemoyer 2022, "8-bit Optimizers via Block-wise Quantization" (arXiv:2110.02861).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harken.errors import UserError

NAMES = {
    "state1": "exp_avg",
    "absmax1": "exp_avg_scale",
    "state2": "exp_avg_sq",
    "absmax2": "exp_avg_sq_scale",
}
"""bitsandbytes' name of each part of a parameter's state, and ours."""
QUANTISATION_MAPS = {"qmap1": "dynamic", "qmap2": "udynamic"}
"""The 256 levels that bytes stand for: the same for every parameter, so they are not saved."""


def adamw_8bit(groups: list[dict[str, Any]], eps: float, weight_decay: float) -> torch.optim.Optimizer:
    """Make the optimiser. A parameter of fewer than 4,096 numbers keeps its state in float32.

    Raises UserError without bitsandbytes.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "adamw_8bit needs the package bitsandbytes",
            where="training.optimizer",
            fix="pip install 'harken[quantised]', or set training.optimizer: adamw",
        )
    import bitsandbytes

    optimiser: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(  # type: ignore[attr-defined, no-untyped-call]
        groups, eps=eps, weight_decay=weight_decay, min_8bit_size=4096
    )
    return optimiser


def exported(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Name a parameter's state as `torch.optim.AdamW` does; {} before its first step."""
    if not state:
        return {}
    tensors = {ours: state[theirs] for theirs, ours in NAMES.items() if theirs in state}
    return tensors | {"step": torch.tensor(float(state["step"]))}


def imported(
    adam: torch.optim.Optimizer, saved: Mapping[str, Tensor], device: torch.device
) -> dict[str, Any]:
    """Restore what `exported` gave, as bitsandbytes keeps it."""
    state: dict[str, Any] = {
        theirs: saved[ours].to(device) for theirs, ours in NAMES.items() if ours in saved
    }
    if "absmax1" in state:
        adam.fill_qmap()  # type: ignore[attr-defined]
        state |= {part: adam.name2qmap[name].to(device) for part, name in QUANTISATION_MAPS.items()}  # type: ignore[attr-defined]
    return state | {"step": int(saved["step"])}
