"""Generate responses in this process: KV cache slots, one token per step, and continuous batching.

This is not transformers' `generate`, which would apply the model's generation settings, pads every prompt to the
longest, and holds every row until the last has ended. The model is not changed: adapters stay unmerged, and modules'
training modes are restored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from harken.batches import collate
from harken.data.chat import Renderer
from harken.errors import NonFinite, UserError
from harken.maths.matmul_dtype import matmul_dtype
from harken.models.backbone import Backbone
from harken.models.device import device_memory
from harken.models.positions import check_position_limit
from harken.models.steering import Steering, steered
from harken.records import Prompt, Rollout
from harken.rollout.choose_decoder import AnyDecoder, open_decoder
from harken.rollout.engine import OnProgress, Sampling
from harken.rollout.sampler import sample_tokens
from harken.rollout.slots import MAX_SLOTS, cache_bytes, slot_count
from harken.seeds import generator

# A prefill reads all weights, so it waits until this many eighths of the slots are free.
REFILL_EIGHTHS = 1

MAX_PREFILL_TOKENS = 1 << 14
"""Most prompt tokens per prefill, padded to the longest, unless one prompt has more. Larger prefills are not faster,
and their activations take more memory."""


@dataclass
class _Sequence:
    """A response being generated."""

    prompt: Prompt
    sample: int
    prompt_tokens: tuple[int, ...]
    uniforms: list[float]
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class InProcessEngine:
    """Sample from `backbone` under one of its roles (None: the bare base).

    Prompts are rendered to at most `prompt_limit` tokens. At most `batch_size` responses are generated at a time (fewer
    where memory requires, see `slots`); waiting prompts take the slots of finished responses. The
    composition of a batch affects rounding only.
    """

    def __init__(
        self,
        backbone: Backbone,
        renderer: Renderer,
        role: str | None,
        prompt_limit: int,
        batch_size: int = MAX_SLOTS,
    ) -> None:
        self.backbone, self.renderer, self.role = backbone, renderer, role
        self.prompt_limit, self.batch_size = prompt_limit, batch_size
        self.on_token: Callable[[Sequence[int]], object] | None = None
        """Called after each decode step with the tokens so far of the first live response."""
        self.steering: Steering | None = None
        """Sample from the model steered in this way; rollouts record it, and their log-probabilities are its own."""
        # The template's end of a turn, the tokenizer's eos, and the end tokens of the model's generation settings.
        self.stop_tokens = sorted({renderer.end_of_turn, *backbone.end_tokens})

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        policy_version: str,
        purpose: str,
        on_progress: OnProgress | None = None,
    ) -> list[Rollout]:
        """Generate `sampling.samples` responses to each prompt, prompt by prompt.

        A response ends with its first end token (`stop_tokens`), which is part of it, or at `max_tokens`. Prompts of
        equal id draw equal random numbers. Raises UserError for a prompt that does not fit, NonFinite when the model
        gives NaN.
        """
        rows = self._rows(prompts, sampling, purpose)
        with (
            torch.no_grad(),
            _eval_mode(self.backbone.model),
            self.backbone.role(self.role),
            steered(self.backbone, self.steering),
            self.backbone.decoding(),
        ):
            self._generate(rows, sampling, on_progress)
        if self.backbone.device.type == "cuda":
            # The graphs' memory pool is unused from here on, and would otherwise be freed only when memory runs out.
            torch.cuda.empty_cache()
        for row in rows:
            if not np.isfinite(row.logprobs).all():
                raise _not_finite(row)
        if self.steering is not None:
            policy_version = f"{policy_version}, {self.steering.describe()}"
        return [self._rollout(row, policy_version) for row in rows]

    def _rows(self, prompts: Sequence[Prompt], sampling: Sampling, purpose: str) -> list[_Sequence]:
        positions = getattr(self.backbone.config, "max_position_embeddings", None)
        rows = []
        for prompt in prompts:
            fitted = self.renderer.fit_prompt(prompt.messages, self.prompt_limit, prompt.tools)
            if fitted is None:
                raise UserError(
                    f"this prompt does not fit in {self.prompt_limit} tokens",
                    where=f"prompt {prompt.id}",
                    fix="raise max_length or leave it out",
                )
            tokens = tuple(fitted[0])
            if positions is not None and len(tokens) + sampling.max_tokens > positions:
                raise UserError(
                    f"{len(tokens)} prompt tokens and {sampling.max_tokens} of the response exceed the model's "
                    f"{positions} positions",
                    where=f"prompt {prompt.id}",
                    fix="lower max_length or max_gen_len",
                )
            check_position_limit(
                self.backbone.config,
                len(tokens) + sampling.max_tokens,
                f"prompt {prompt.id} with its response",
                "lower it, or max_gen_len, until both fit in {limit}",
            )
            for sample in range(sampling.samples):
                stream = generator(sampling.seed, purpose, prompt.id, sample)
                rows.append(_Sequence(prompt, sample, tokens, stream.random(sampling.max_tokens).tolist()))
        return rows

    def _generate(
        self, rows: Sequence[_Sequence], sampling: Sampling, on_progress: OnProgress | None
    ) -> None:
        """Generate the tokens and log-probabilities of these rows."""
        # Longest prompts first: a prefill has prompts of similar length, and samples of a prompt are adjacent.
        order = sorted(
            range(len(rows)), key=lambda i: (-len(rows[i].prompt_tokens), rows[i].prompt_tokens, i)
        )
        waiting = deque(rows[i] for i in order)
        capacity = max((len(row.prompt_tokens) for row in rows), default=0) + sampling.max_tokens
        cache_dtype = matmul_dtype(self.backbone.dtype, self.backbone.device)
        bytes_per_slot = cache_bytes(self.backbone.config, capacity, cache_dtype)
        slots = slot_count(len(rows), bytes_per_slot, self.batch_size, device_memory(self.backbone.device))
        decoder = open_decoder(self.backbone, slots, capacity)
        live: list[_Sequence] = []
        while waiting or live:
            free = slots - len(live)
            if waiting and 8 * free >= REFILL_EIGHTHS * slots:
                newcomers = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                for batch in _prefill_batches(newcomers):
                    live += _prefill(decoder, batch)
            chosen = self._sample(decoder, live, sampling.temperature)
            finished = [
                i for i, row in enumerate(live)
                if row.tokens[-1] in self.stop_tokens or len(row.tokens) == sampling.max_tokens
            ]  # fmt: skip
            if finished:
                remaining = decoder.drop(finished)
                live, chosen = [live[i] for i in remaining], chosen[remaining]
                if on_progress:
                    on_progress(len(finished))
            if live:
                decoder.append(chosen)

    def _sample(self, decoder: AnyDecoder, live: Sequence[_Sequence], temperature: float) -> Tensor:
        """Sample the next token of every live row, [live], and append it to the row."""
        uniforms = torch.tensor([row.uniforms[len(row.tokens)] for row in live], dtype=torch.float64)
        states, uniforms = decoder.last_states, uniforms.to(self.backbone.device)
        sample = partial(self._sample_tokens, temperature)
        if decoder.graphs is None:
            chosen, logprobs = sample(states, uniforms)
        else:
            unused = decoder.rows - len(live)
            padded = pad(states, (0, 0, 0, unused)), pad(uniforms, (0, unused))
            chosen, logprobs = (output[: len(live)] for output in decoder.graphs("sample", sample, *padded))
        # One transfer: on a GPU each waits for all queued kernels.
        sampled = torch.stack([chosen.double(), logprobs]).tolist()
        for row, token, logprob in zip(live, *sampled, strict=True):
            row.tokens.append(int(token))
            row.logprobs.append(logprob)
        if self.on_token:
            self.on_token(live[0].tokens)
        return chosen

    def _sample_tokens(self, temperature: float, states: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        return sample_tokens(self.backbone.logits(states).float(), uniforms, temperature)

    def _rollout(self, row: _Sequence, policy_version: str) -> Rollout:
        ended = row.tokens[-1] in self.stop_tokens
        return Rollout(
            prompt=row.prompt,
            sample=row.sample,
            prompt_tokens=row.prompt_tokens,
            response_tokens=tuple(row.tokens),
            sampler_logprobs=tuple(row.logprobs),
            text=self.renderer.decode_response(row.tokens[:-1] if ended else row.tokens),
            stop="end_of_turn" if ended else "length",
            policy_version=policy_version,
        )


def _not_finite(row: _Sequence) -> NonFinite:
    """Return the error for the first log-probability of a response that is NaN or infinite."""
    first = int(np.flatnonzero(~np.isfinite(row.logprobs))[0])
    token = len(row.prompt_tokens) + first
    error = NonFinite(
        "sampler_logprob",
        row.logprobs[first],
        where=f"prompt {row.prompt.id}, sample {row.sample}, token {token}",
        row=0,
        token=token,
    )
    response_mask = [False] * len(row.prompt_tokens) + [True] * len(row.tokens)
    error.tensors = vars(collate([[*row.prompt_tokens, *row.tokens]], [response_mask], 0))
    return error


def _prefill_batches(rows: Sequence[_Sequence]) -> Iterator[list[_Sequence]]:
    """Yield rows whose prompts are processed in one prefill, the longest first; equal prompts count once."""
    batch: list[_Sequence] = []
    prompts = 0
    for row in rows:
        repeated = bool(batch) and batch[-1].prompt_tokens == row.prompt_tokens
        if batch and not repeated and (prompts + 1) * len(batch[0].prompt_tokens) > MAX_PREFILL_TOKENS:
            yield batch
            batch, prompts = [], 0
        batch.append(row)
        prompts += not repeated
    if batch:
        yield batch


def _prefill(decoder: AnyDecoder, rows: list[_Sequence]) -> list[_Sequence]:
    """Put rows into free slots; adjacent rows with the same prompt share its prefill."""
    prompts: list[tuple[int, ...]] = []
    copies: list[int] = []
    for row in rows:
        if prompts and prompts[-1] == row.prompt_tokens:
            copies[-1] += 1
        else:
            prompts.append(row.prompt_tokens)
            copies.append(1)
    decoder.prefill(prompts, copies)
    return rows


@contextmanager
def _eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Set evaluation mode inside, without dropout; restore every module's mode on exit, also after an error."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
