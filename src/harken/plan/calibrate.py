"""Measure the speed of this machine with a few layers of the model's shapes.

All layers of a model take about the same time, so two layers with random weights are timed and scaled to the number of
layers. The unembedding is timed separately. The measured code is the one that training runs.
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
from harken.rollout.sampler import sample_tokens

LAYERS = 2
ROLE = "timed"
TIMED_MULTIPLICATIONS = 6e10
"""Approximate multiplications in a timed pass. A GPU gets more; otherwise kernel launches would dominate."""
REPEATS = 3

Pass = Callable[[], None]
"""One timed pass over a batch."""


@dataclass(frozen=True)
class Timings:
    """Measured seconds on this machine."""

    forward: float
    """Per token and layer, without gradients."""
    training: float
    """Per token and layer, forward and backward."""
    head_forward: float
    """Per token at the unembedding, without gradients; `head_training` forward and backward."""
    head_training: float
    decode: float
    """Per decode step of all slots and layer."""
    sample: float
    """Per decode step of all slots: unembedding and sampling."""
    measuring: float
    """The measurement itself."""


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
    """Time passes over rows of `tokens` tokens (`budget` in all), and decode steps of `slots` at half of `capacity`."""
    start_time = time.perf_counter()
    role = ROLE if lora else None
    backbone = _trainable_model(config, lora, dtype, device, checkpointing)
    rows = _timed_rows(shape, tokens, budget, device)
    forward, training = _layer_passes(backbone, role, rows, tokens)
    states = torch.randn(LOGIT_ROWS, shape.hidden_size, device=device).to(backbone.dtype).requires_grad_()
    head = _full_head(backbone, shape, trains=lora is None)
    head_forward, head_training = _head_passes(states, head)
    decode, sample = _time_decoding(backbone, role, head, slots, capacity)
    in_layers = rows * tokens * LAYERS
    return Timings(
        forward=_median_seconds(forward, device) / in_layers,
        training=_median_seconds(training, device) / in_layers,
        head_forward=_median_seconds(head_forward, device) / LOGIT_ROWS,
        head_training=_median_seconds(head_training, device) / LOGIT_ROWS,
        decode=decode / LAYERS,
        sample=sample,
        measuring=time.perf_counter() - start_time,
    )


def _trainable_model(
    config: PretrainedConfig,
    lora: LoraSettings | None,
    dtype: torch.dtype,
    device: torch.device,
    checkpointing: bool,
) -> Backbone:
    """Build the two-layer model with the adapter of a run, or with all weights trainable."""
    backbone = _two_layer_model(config, dtype, device)
    backbone.gradient_checkpointing = checkpointing
    if lora:
        backbone.add_adapter(ROLE, lora.model_copy(update={"dropout": 0.0}), 0)
    else:
        backbone.train_all_weights()
    return backbone


def _timed_rows(shape: ModelShape, tokens: int, budget: int, device: torch.device) -> int:
    """Return how many rows of `tokens` tokens make a pass of about TIMED_MULTIPLICATIONS, within `budget` tokens."""
    per_token = LAYERS * shape.parameters / shape.layers
    scale = 100 if device.type == "cuda" else 1
    return max(min(round(scale * TIMED_MULTIPLICATIONS / (6 * per_token * tokens)), budget // tokens), 1)


def _layer_passes(backbone: Backbone, role: str | None, rows: int, tokens: int) -> tuple[Pass, Pass]:
    """Return a forward, and a forward with backward, of the layers over `rows` rows of `tokens` tokens."""
    # All rows differ from the first token on, so that no shared prefix is skipped.
    ids = [[(37 * row + t) % 251 + 1 for t in range(tokens)] for row in range(rows)]
    batch = collate(ids, [[True] * tokens] * rows, 0).to(backbone.device)

    def forward() -> None:
        with torch.no_grad(), backbone.role(role):
            backbone.hidden(batch)

    def training() -> None:
        with backbone.role(role):
            backbone.hidden(batch).float().mean().backward()  # type: ignore[no-untyped-call]

    return forward, training


def _full_head(backbone: Backbone, shape: ModelShape, *, trains: bool) -> LogitsHead:
    """Return an unembedding of the model's full vocabulary; float32 like the base if every weight trains."""
    weight = torch.full(
        (shape.vocab_size, shape.hidden_size), 0.01, device=backbone.device, dtype=backbone.dtype
    )
    weight.requires_grad_(trains)
    small = backbone.head
    bias = None if small.bias is None else weight.detach().new_zeros(shape.vocab_size)
    return replace(small, weight=weight, bias=bias)


def _head_passes(states: torch.Tensor, head: LogitsHead) -> tuple[Pass, Pass]:
    """Return a forward, and a forward with backward, of the unembedding over `states` [LOGIT_ROWS, hidden]."""
    targets = torch.arange(LOGIT_ROWS, device=states.device)

    def forward() -> None:
        with torch.no_grad():
            linear_logprobs(states, head, targets)

    def training() -> None:
        linear_logprobs(states, head, targets)[0].mean().backward()  # type: ignore[no-untyped-call]

    return forward, training


def _two_layer_model(config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> Backbone:
    """Build the same architecture with two layers, a small vocabulary and random weights."""
    settings: dict[str, Any] = config.to_dict() | {"vocab_size": 256, "num_hidden_layers": LAYERS}
    for special in ("pad_token_id", "bos_token_id", "eos_token_id"):
        settings[special] = None
    if settings.get("layer_types"):
        settings["layer_types"] = settings["layer_types"][:LAYERS]
    small = type(config).from_dict(settings)
    model = AutoModelForCausalLM.from_config(small, dtype=dtype).to(device)
    # There is no text here; the decoder only needs a padding token.
    return Backbone(model, PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), pad_token="<pad>"))


@torch.no_grad()
def _time_decoding(
    backbone: Backbone, role: str | None, head: LogitsHead, slots: int, capacity: int
) -> tuple[float, float]:
    """Time a decode step of all slots: seconds of the layers, and of the unembedding with sampling."""
    device = backbone.device
    steps = REPEATS + 1
    prompt = max(min(capacity // 2, capacity - steps), 1)
    with backbone.role(role), backbone.decoding():
        decoder = open_decoder(backbone, slots, prompt + steps)
        # All slots share one prompt, because prefill is not timed.
        decoder.prefill([[1] * prompt], [slots])
        chosen = torch.ones(slots, dtype=torch.long, device=device)
        layers = _median_seconds(lambda: decoder.append(chosen), device, REPEATS)
        uniforms = torch.full((slots,), 0.5, dtype=torch.float64, device=device)

        def choose(states: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return sample_tokens(head(states).float(), uniforms, 1.0)

        graphs, inputs = decoder.graphs, (decoder.last_states, uniforms)
        sample = _median_seconds(
            lambda: graphs("sample", choose, *inputs) if graphs else choose(*inputs), device
        )
    return layers, sample


def _median_seconds(work: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """Return the median seconds of `work()`, after one warm-up call."""
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])
