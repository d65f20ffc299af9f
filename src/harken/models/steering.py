"""Steer a model along a direction of its activations, and measure activations along it.

The direction is the difference of two means: the output of one layer, averaged over the tokens of a response, over
faulty responses minus over honest ones. Steering adds a multiple of it to that layer's output at every position, by a
hook on the layer's MLP, whose output is added to the residual stream. Sources: Turner et al. 2023 (arXiv:2308.10248);
Rimsky et al. 2023 (arXiv:2312.06681).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn

from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.weights import read_tensors
from harken.run import atomic, json_io
from harken.run.checksums import file_sha256

DIRECTION_FILE, DIRECTION_FACTS = "direction.safetensors", "direction.json"
_PROBE_STRENGTH = 1.0


class _Facts(json_io.Schema):
    layer: int
    slope: float
    offset: float


@dataclass(frozen=True)
class Direction:
    """A direction at the output of layer `layer` (0 is the first), in units of that output.

    σ(slope × activation · difference / ‖difference‖ + offset) is the probability that a response is faulty, fitted on
    the responses that the direction comes from.
    """

    layer: int
    difference: Float[Tensor, " features"]
    slope: float
    offset: float
    facts: dict[str, Any]

    @property
    def unit(self) -> Float[Tensor, " features"]:
        """Return the direction with length 1."""
        unit: Tensor = self.difference / self.difference.norm()
        return unit

    def save(self, folder: Path) -> None:
        """Write direction.safetensors and direction.json."""
        folder.mkdir(parents=True, exist_ok=True)
        tensor = self.difference.float().cpu().contiguous()
        atomic.write_bytes(folder / DIRECTION_FILE, save({"difference": tensor}))
        known = {"layer": self.layer, "slope": self.slope, "offset": self.offset}
        sha256 = file_sha256(folder / DIRECTION_FILE)
        atomic.write_json(
            folder / DIRECTION_FACTS, known | self.facts | {"features": len(tensor), "sha256": sha256}
        )

    @classmethod
    def load(cls, folder: Path) -> Direction:
        """Read a saved direction. Raises UserError for a folder without one, and for files that do not fit."""
        fix = "write it with: harken sycophancy direction MODEL --output-dir DIR"
        if not (folder / DIRECTION_FACTS).is_file() or not (folder / DIRECTION_FILE).is_file():
            raise UserError("there is no direction in this folder", where=str(folder), fix=fix)
        facts = json_io.read_object(folder / DIRECTION_FACTS)
        json_io.validate(facts, _Facts, str(folder / DIRECTION_FACTS))
        if facts.get("sha256") != file_sha256(folder / DIRECTION_FILE):
            raise UserError(
                "is not the file that direction.json describes", where=str(folder / DIRECTION_FILE), fix=fix
            )
        difference = read_tensors(folder / DIRECTION_FILE, ["difference"])["difference"].float()
        own = {key: value for key, value in facts.items() if key not in ("layer", "slope", "offset")}
        return cls(int(facts["layer"]), difference, float(facts["slope"]), float(facts["offset"]), own)


@dataclass(frozen=True)
class Steering:
    """A direction and how much of it is added: 1 adds the whole difference of the means, −1 subtracts it."""

    direction: Direction
    strength: float

    def describe(self) -> str:
        """Return the words that rollouts record: they are samples of the steered model."""
        return f"steered {self.strength:+g} at layer {self.direction.layer}"


def layers_of(backbone: Backbone) -> nn.ModuleList:
    """Return the layers of a Llama-like model. Raises UserError for a model without such layers."""
    layers = getattr(backbone.trunk, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not all(hasattr(layer, "mlp") for layer in layers):
        raise UserError(
            f"a model of type {backbone.config.model_type} has no layers with an MLP on the residual stream",
            where="steering",
            fix="use a Llama-like model (Llama, Qwen, SmolLM, Mistral), or another detector",
        )
    return layers


def check_direction(backbone: Backbone, direction: Direction) -> None:
    """Raise UserError where a direction does not fit the model."""
    layers = layers_of(backbone)
    if not 0 <= direction.layer < len(layers) or len(direction.difference) != backbone.hidden_size:
        raise UserError(
            f"the direction is for layer {direction.layer} of a model with {len(direction.difference)} features; this "
            f"model has {len(layers)} layers of {backbone.hidden_size}",
            where="steering",
            fix="write one of this model with: harken sycophancy direction MODEL --output-dir DIR",
        )


@contextmanager
def steered(backbone: Backbone, steering: Steering | None) -> Iterator[None]:
    """Add the steering to the layer's output inside: all forwards, log-probabilities and samples are of that model.

    None steers nothing. Raises UserError where the direction does not fit, or the model does not add its MLP's output
    unchanged to the residual stream.
    """
    if steering is None:
        yield
        return
    check_direction(backbone, steering.direction)
    _require_residual(backbone, steering.direction)
    with _added(backbone, steering.direction, steering.strength):
        yield


@contextmanager
def _added(backbone: Backbone, direction: Direction, strength: float) -> Iterator[None]:
    layer = layers_of(backbone)[direction.layer]

    def add(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        vector = strength * direction.difference.to(device=output.device, dtype=torch.float32)
        return (output.float() + vector).to(output.dtype)

    mlp: Any = layer.mlp
    handle = mlp.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def _require_residual(backbone: Backbone, direction: Direction) -> None:
    """Check on a short sequence that the layer's output moves by the whole vector."""
    tokens = [[1, 2, 3]]
    before = layer_outputs(backbone, tokens, direction.layer)[0]
    with _added(backbone, direction, _PROBE_STRENGTH):
        after = layer_outputs(backbone, tokens, direction.layer)[0]
    moved = (after - before).mean(0) / _PROBE_STRENGTH
    expected = direction.difference.to(moved.device)
    tolerance = 1e-3 if backbone.dtype == torch.float32 else 0.1
    # Rounding of the 16-bit sum is relative to the residual stream, not to the vector.
    room = tolerance * float(expected.norm()) + tolerance * float(before.norm(dim=-1).max()) * 0.1
    if float((moved - expected).norm()) > room:
        raise UserError(
            f"a model of type {backbone.config.model_type} changes its MLP's output before adding it",
            where="steering",
            fix="use a Llama-like model (Llama, Qwen, SmolLM, Mistral)",
        )


@torch.no_grad()
def layer_outputs(
    backbone: Backbone, rows: Sequence[Sequence[int]], layer: int
) -> list[Float[Tensor, "tokens features"]]:
    """Return the output of a layer at every token of each row, in float32, under the active adapter."""
    outputs: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        outputs.append(states.reshape(-1, states.shape[-1]).float())

    module: nn.Module = layers_of(backbone)[layer]
    handle = module.register_forward_hook(keep)
    try:
        for row in rows:  # one at a time: no padding, no packing, so positions are those of the row
            backbone.forward(
                None, input_ids=torch.tensor([list(row)], device=backbone.device), use_cache=False
            )
    finally:
        handle.remove()
    return outputs
