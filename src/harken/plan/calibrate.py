"""How fast this machine is at the work that is planned: a few layers of the model's own shapes, timed.

Layers of one model cost alike, so the time of two, random weights and all, times half the number of layers is that
of the trunk. The unembedding is timed by itself. Everything runs through the project's own code.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

from harken.batches import collate
from harken.config import LoraSettings
from harken.maths.logits import LogitsHead
from harken.maths.logprobs import linear_logprobs
from harken.models.backbone import Backbone
from harken.plan.activations import LOGIT_ROWS
from harken.plan.shape import ModelShape
from harken.rollout.choose_decoder import open_decoder
from harken.rollout.sampler import draw

LAYERS = 2
ROLE = "timed"
TIMED_MULTIPLICATIONS = 6e10
"""Multiplications in a timed pass, about: more on a GPU, where less would time the launch of kernels."""
REPEATS = 3


@dataclass(frozen=True)
class Timings:
    """Seconds on this machine."""

    forward: float
    """A token in one layer, without gradients."""
    training: float
    """A token in one layer, forward and backward."""
    head_forward: float
    """A token at the unembedding."""
    head_training: float
    decode: float
    """One token for every slot, in one layer."""
    sample: float
    """One token for every slot, at the unembedding and the choice."""
    measuring: float
    """Seconds it took to find out."""


def measure_timings(
    config: PretrainedConfig,
    shape: ModelShape,
    lora: LoraSettings | None,
    dtype: torch.dtype,
    device: torch.device,
    *,
    tokens: int,
    budget: int,
    slots: int,
    capacity: int,
    checkpointing: bool = False,
) -> Timings:
    """Time rows of `tokens` tokens, as many as `budget` tokens allow, and decoding in `slots` half of `capacity` in."""
    began = time.perf_counter()
    backbone = _two_layer_model(config, dtype, device)
    backbone.gradient_checkpointing = checkpointing
    if lora:
        backbone.add_adapter(ROLE, lora.model_copy(update={"dropout": 0.0}), 0)
    else:
        backbone.train_all_weights()
    role = ROLE if lora else None
    per_token = LAYERS * shape.parameters / shape.layers
    scale = 100 if device.type == "cuda" else 1
    rows = max(min(round(scale * TIMED_MULTIPLICATIONS / (6 * per_token * tokens)), budget // tokens), 1)
    # No two rows begin alike: what is timed is reading, not finding out that it was read before.
    ids = [[(37 * row + t) % 251 + 1 for t in range(tokens)] for row in range(rows)]
    batch = collate(ids, [[True] * tokens] * rows, 0).to(device)

    def forward() -> None:
        with torch.no_grad(), backbone.role(role):
            backbone.hidden(batch)

    def training() -> None:
        with backbone.role(role):
            backbone.hidden(batch).float().mean().backward()  # type: ignore[no-untyped-call]

    # A base whose every weight trains is float32, its unembedding too.
    states = torch.randn(LOGIT_ROWS, shape.hidden_size, device=device).to(backbone.dtype).requires_grad_()
    weight = torch.full((shape.vocab_size, shape.hidden_size), 0.01, device=device, dtype=backbone.dtype)
    weight.requires_grad_(lora is None)
    thin = backbone.head
    bias = None if thin.bias is None else weight.detach().new_zeros(shape.vocab_size)
    head = replace(thin, weight=weight, bias=bias)
    picked = torch.arange(LOGIT_ROWS, device=device)

    def through_head() -> None:
        with torch.no_grad():
            linear_logprobs(states, head, picked)

    def head_training() -> None:
        linear_logprobs(states, head, picked)[0].mean().backward()  # type: ignore[no-untyped-call]

    in_layers = rows * tokens * LAYERS
    decode, choice = _time_decoding(backbone, role, head, slots, capacity)
    return Timings(
        forward=_median_seconds(forward, device) / in_layers,
        training=_median_seconds(training, device) / in_layers,
        head_forward=_median_seconds(through_head, device) / LOGIT_ROWS,
        head_training=_median_seconds(head_training, device) / LOGIT_ROWS,
        decode=decode / LAYERS,
        sample=choice,
        measuring=time.perf_counter() - began,
    )


def _two_layer_model(config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> Backbone:
    """The same model with two layers and few words, all random."""
    settings: dict[str, Any] = config.to_dict() | {"vocab_size": 256, "num_hidden_layers": LAYERS}
    for special in ("pad_token_id", "bos_token_id", "eos_token_id"):
        settings[special] = None
    if settings.get("layer_types"):
        settings["layer_types"] = settings["layer_types"][:LAYERS]
    thin = type(config).from_dict(settings)
    model = AutoModelForCausalLM.from_config(thin, dtype=dtype).to(device)
    # Nothing here is text: of a tokenizer the decoder wants the padding token alone.
    return Backbone(model, PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), pad_token="<pad>"))


@torch.no_grad()
def _time_decoding(
    backbone: Backbone, role: str | None, head: LogitsHead, slots: int, capacity: int
) -> tuple[float, float]:
    """Seconds of one token for every slot: the layers; the unembedding with the choice."""
    device = backbone.device
    steps = REPEATS + 1
    filled = max(min(capacity // 2, capacity - steps), 1)
    with backbone.role(role), backbone.decoding():
        decoder = open_decoder(backbone, slots, filled + steps)
        # One prompt for all slots: reading it is not what is timed.
        decoder.prefill([[1] * filled], [slots])
        chosen = torch.ones(slots, dtype=torch.long, device=device)
        layers = _median_seconds(lambda: decoder.append(chosen), device, REPEATS)
        uniforms = torch.full((slots,), 0.5, dtype=torch.float64, device=device)

        def choose(states: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return draw(head(states).float(), uniforms, 1.0)

        graphs, inputs = decoder.graphs, (decoder.last_states, uniforms)
        choice = _median_seconds(
            lambda: graphs("sample", choose, *inputs) if graphs else choose(*inputs), device
        )
    return layers, choice


def _median_seconds(work: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """Median seconds of `work()`, after one call that does not count."""
    took = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - began)
    return median(took[1:])
