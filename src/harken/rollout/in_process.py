"""Answers from a backbone in this process: slots, a key-value cache, one token a step, no waiting for the slowest.

Its own loop, not transformers' `generate`, which would apply what a model's generation settings say, pads every
prompt to the longest and holds every row until the last has ended. Nothing here changes the model: adapters stay
unmerged, modes are put back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
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
from harken.models.positions import check_position_limit
from harken.records import Prompt, Rollout
from harken.rollout.choose_decoder import AnyDecoder, open_decoder
from harken.rollout.engine import OnProgress, Sampling
from harken.rollout.sampler import draw
from harken.rollout.slots import MAX_SLOTS, cache_bytes, slots
from harken.seeds import generator

# Reading new prompts costs a pass over all weights: it pays once so many slots in eight are free.
REFILL_EIGHTHS = 1

MAX_PREFILL_TOKENS = 1 << 14
"""Places of prompts in one pass, all as long as the longest, at most, or one prompt: with more it is no faster, and a
layer holds more of them."""


@dataclass
class _Sequence:
    """One answer in the making."""

    prompt: Prompt
    sample: int
    prompt_tokens: tuple[int, ...]
    uniforms: list[float]
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class InProcessEngine:
    """Samples from `backbone` under one of its roles (None: the bare base).

    Prompts are rendered to at most `prompt_limit` tokens. At most `batch_size` answers are in the making at a
    time (fewer where memory says so, see `slots`); the next prompts move in as answers end. Which answers are made
    together changes nothing but rounding.
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
        # The template's end of a turn, the tokenizer's eos, and what the model's generation settings list.
        self.stop_tokens = sorted({renderer.end_of_turn, *backbone.end_tokens})

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        policy_version: str,
        purpose: str,
        on_progress: OnProgress | None = None,
    ) -> list[Rollout]:
        """`sampling.samples` answers to each prompt, prompt by prompt.

        An answer ends with its first end token (`stops`), which is one of its actions, or at
        `max_tokens`. Prompts of equal id draw equal numbers.
        Raises UserError for a prompt that does not fit, NonFinite when the model gives NaN.
        """
        rows = self._rows(prompts, sampling, purpose)
        with (
            torch.no_grad(),
            _eval_mode(self.backbone.model),
            self.backbone.role(self.role),
            self.backbone.decoding(),
        ):
            self._generate(rows, sampling, on_progress)
        if self.backbone.device.type == "cuda":
            # What steps were recorded in belongs to nobody now, and would be given back only when memory runs out.
            torch.cuda.empty_cache()
        for row in rows:
            if not np.isfinite(row.logprobs).all():
                raise _not_finite(row)
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
                    fix="raise data.max_length or leave it out",
                )
            tokens = tuple(fitted[0])
            if positions is not None and len(tokens) + sampling.max_tokens > positions:
                raise UserError(
                    f"{len(tokens)} prompt tokens and {sampling.max_tokens} of the answer exceed the model's "
                    f"{positions} positions",
                    where=f"prompt {prompt.id}",
                    fix="lower data.max_length or max_gen_len",
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
        """Fill in the tokens and log-probabilities of these rows."""
        # Longest prompts first: those read together are of like length, and samples of a prompt stand together.
        order = sorted(
            range(len(rows)), key=lambda i: (-len(rows[i].prompt_tokens), rows[i].prompt_tokens, i)
        )
        waiting = deque(rows[i] for i in order)
        capacity = max((len(row.prompt_tokens) for row in rows), default=0) + sampling.max_tokens
        cache_dtype = matmul_dtype(self.backbone.dtype, self.backbone.device)
        of_one = cache_bytes(self.backbone.config, capacity, cache_dtype)
        places = slots(len(rows), of_one, self.batch_size)
        decoder = open_decoder(self.backbone, places, capacity)
        live: list[_Sequence] = []
        while waiting or live:
            free = places - len(live)
            if waiting and 8 * free >= REFILL_EIGHTHS * places:
                newcomers = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                for together in _prefill_batches(newcomers):
                    live += _prefill(decoder, together)
            chosen = self._sample(decoder, live, sampling.temperature)
            over = [
                i for i, row in enumerate(live)
                if row.tokens[-1] in self.stop_tokens or len(row.tokens) == sampling.max_tokens
            ]  # fmt: skip
            if over:
                kept = decoder.drop(over)
                live, chosen = [live[i] for i in kept], chosen[kept]
                if on_progress:
                    on_progress(len(over))
            if live:
                decoder.append(chosen)

    def _sample(self, decoder: AnyDecoder, live: Sequence[_Sequence], temperature: float) -> Tensor:
        """The next token of every live row, [live], written into the rows as well."""
        uniforms = torch.tensor([row.uniforms[len(row.tokens)] for row in live], dtype=torch.float64)
        states, uniforms = decoder.last_states, uniforms.to(self.backbone.device)
        work = partial(self._sample_tokens, temperature)
        if decoder.graphs is None:
            chosen, logprobs = work(states, uniforms)
        else:
            more = decoder.rows - len(live)
            padded = pad(states, (0, 0, 0, more)), pad(uniforms, (0, more))
            chosen, logprobs = (drawn[: len(live)] for drawn in decoder.graphs("draw", work, *padded))
        # Both at once: on a GPU each transfer waits for all that is under way.
        drawn = torch.stack([chosen.double(), logprobs]).tolist()
        for row, token, logprob in zip(live, *drawn, strict=True):
            row.tokens.append(int(token))
            row.logprobs.append(logprob)
        return chosen

    def _sample_tokens(self, temperature: float, states: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        return draw(self.backbone.logits(states).float(), uniforms, temperature)

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
    """The first log-probability of an answer that is NaN or infinite, with the tokens up to the last."""
    first = int(np.flatnonzero(~np.isfinite(row.logprobs))[0])
    token = len(row.prompt_tokens) + first
    fault = NonFinite(
        "sampler_logprob",
        row.logprobs[first],
        where=f"prompt {row.prompt.id}, sample {row.sample}, token {token}",
        row=0,
        token=token,
    )
    response_mask = [False] * len(row.prompt_tokens) + [True] * len(row.tokens)
    fault.tensors = vars(collate([[*row.prompt_tokens, *row.tokens]], [response_mask], 0))
    return fault


def _prefill_batches(rows: Sequence[_Sequence]) -> Iterator[list[_Sequence]]:
    """Rows, longest first, whose prompts are read in one pass; a prompt that stands several times is read once."""
    together: list[_Sequence] = []
    prompts = 0
    for row in rows:
        again = bool(together) and together[-1].prompt_tokens == row.prompt_tokens
        if together and not again and (prompts + 1) * len(together[0].prompt_tokens) > MAX_PREFILL_TOKENS:
            yield together
            together, prompts = [], 0
        together.append(row)
        prompts += not again
    if together:
        yield together


def _prefill(decoder: AnyDecoder, rows: list[_Sequence]) -> list[_Sequence]:
    """Move rows into free slots; neighbours with the same prompt share its reading."""
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
    """No dropout inside; every module's mode is put back, also after an error."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
