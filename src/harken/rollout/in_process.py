"""Answers from a backbone in this process: left-padded batches, a key-value cache, one token a step.

Its own loop, not transformers' `generate`, which would apply what a model's generation settings say,
and costs more a step. Nothing here changes the model: adapters stay unmerged, modes are put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harken.data.chat import Renderer
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.records import Prompt, Rollout
from harken.rollout.cache import reserved_cache
from harken.rollout.engine import OnProgress, Sampling
from harken.rollout.sampler import draw
from harken.seeds import generator


@dataclass
class _Row:
    """One answer in the making."""

    prompt: Prompt
    sample: int
    prompt_tokens: list[int]
    tokens: list[int]
    logprobs: list[float]


class InProcessEngine:
    """Samples from `backbone` under one of its roles (None: the bare base).

    Prompts are rendered to at most `prompt_limit` tokens. `batch_size` answers are made at a time,
    similar prompt lengths together; which ones share a batch changes nothing but rounding.
    """

    def __init__(
        self,
        backbone: Backbone,
        renderer: Renderer,
        role: str | None,
        prompt_limit: int,
        batch_size: int = 32,
    ) -> None:
        self.backbone, self.renderer, self.role = backbone, renderer, role
        self.prompt_limit, self.batch_size = prompt_limit, batch_size
        # Some tokenizers' eos is not what the chat template ends a turn with; either ends an answer.
        eos = renderer.tokenizer.eos_token_id
        self.stops = sorted({renderer.end_of_turn} | ({eos} if eos is not None else set()))

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        policy_version: str,
        purpose: str,
        on_progress: OnProgress | None = None,
    ) -> list[Rollout]:
        """`sampling.samples` answers to each prompt, prompt by prompt.

        An answer ends with its first end-of-turn (or eos) token, which is one of its actions, or at
        `max_tokens`. Prompts of equal id draw equal numbers.
        Raises UserError for a prompt that does not fit, FloatingPointError when the model gives NaN.
        """
        rows = self._rows(prompts, sampling)
        order = sorted(range(len(rows)), key=lambda i: (-len(rows[i].prompt_tokens), i))
        with torch.no_grad(), _eval_mode(self.backbone.model), self.backbone.role(self.role):
            for start in range(0, len(order), self.batch_size):
                batch = [rows[i] for i in order[start : start + self.batch_size]]
                self._answer(batch, sampling, purpose, on_progress)
        return [self._rollout(row, policy_version) for row in rows]

    def _rows(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[_Row]:
        positions = getattr(self.backbone.model.config, "max_position_embeddings", None)
        rows = []
        for prompt in prompts:
            fitted = self.renderer.fit_prompt(prompt.messages, self.prompt_limit)
            if fitted is None:
                raise UserError(
                    f"this prompt does not fit in {self.prompt_limit} tokens",
                    where=f"prompt {prompt.id}",
                    mend="raise data.max_length or leave it out",
                )
            tokens = list(fitted[0])
            if positions is not None and len(tokens) + sampling.max_tokens > positions:
                raise UserError(
                    f"{len(tokens)} prompt tokens and {sampling.max_tokens} of the answer exceed the model's "
                    f"{positions} positions",
                    where=f"prompt {prompt.id}",
                    mend="lower data.max_length or max_gen_len",
                )
            rows += [_Row(prompt, sample, tokens, [], []) for sample in range(sampling.samples)]
        return rows

    def _answer(
        self, rows: Sequence[_Row], sampling: Sampling, purpose: str, on_progress: OnProgress | None
    ) -> None:
        """Fill in the tokens and log-probabilities of these rows."""
        device, steps = self.backbone.device, sampling.max_tokens
        streams = [generator(sampling.seed, purpose, row.prompt.id, row.sample).random(steps) for row in rows]
        uniforms = torch.from_numpy(np.stack(streams)).to(device)
        stops = torch.tensor(self.stops, device=device)
        tokens = torch.zeros(len(rows), steps, dtype=torch.long, device=device)
        logprobs = torch.zeros(len(rows), steps, dtype=torch.float64, device=device)
        lengths = torch.full((len(rows),), steps, device=device)
        waiting = len(rows)

        batch = _Batch(self.backbone, [row.prompt_tokens for row in rows], steps)
        live = torch.arange(len(rows), device=device)
        ended = torch.zeros(len(rows), dtype=torch.bool, device=device)
        for step in range(steps):
            chosen, logprob = draw(batch.logits(), uniforms[live, step], sampling.temperature)
            tokens[live, step], logprobs[live, step] = chosen, logprob
            now = torch.isin(chosen, stops) & ~ended
            lengths[live[now]] = step + 1
            ended = ended | now
            if step + 1 == steps:
                break
            over = int(ended.sum())
            if on_progress and len(live) - over < waiting:
                on_progress(waiting - (len(live) - over))
            waiting = len(live) - over
            if waiting == 0:
                break
            # Rows that ended are dead weight, but moving the cache costs too: a quarter pays for the move.
            if 4 * over >= len(live):
                keep = (~ended).nonzero().squeeze(-1)
                live, chosen, ended = live[keep], chosen[keep], ended[keep]
                batch.keep(keep)
            batch.append(chosen)
        if on_progress and waiting:
            on_progress(waiting)

        for row, row_tokens, row_logprobs, length in zip(
            rows, tokens.tolist(), logprobs.tolist(), lengths.tolist(), strict=True
        ):
            row.tokens, row.logprobs = row_tokens[:length], row_logprobs[:length]
            if not np.isfinite(row.logprobs).all():
                raise FloatingPointError(f"log-probabilities of prompt {row.prompt.id} are not finite")

    def _rollout(self, row: _Row, policy_version: str) -> Rollout:
        ended = row.tokens[-1] in self.stops
        return Rollout(
            prompt=row.prompt,
            sample=row.sample,
            prompt_tokens=tuple(row.prompt_tokens),
            response_tokens=tuple(row.tokens),
            sampler_logprobs=tuple(row.logprobs),
            text=self.renderer.text(row.tokens[:-1] if ended else row.tokens),
            stop="end_of_turn" if ended else "length",
            policy_version=policy_version,
        )


class _Batch:
    """Sequences that grow by one token at a time: cache, mask and positions.

    Prompts are padded on the left and positions count real tokens only, so that padding changes nothing.
    """

    def __init__(self, backbone: Backbone, prompts: Sequence[Sequence[int]], steps: int) -> None:
        self.backbone = backbone
        self.width = max(len(prompt) for prompt in prompts)
        tokens = torch.full((len(prompts), self.width), int(backbone.tokenizer.pad_token_id))
        mask = torch.zeros(len(prompts), self.width + steps, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, self.width - len(prompt) :] = torch.tensor(list(prompt))
            mask[row, self.width - len(prompt) :] = 1
        self.mask = mask.to(backbone.device)
        self.positions = (self.mask.cumsum(-1) - 1).clamp(min=0)
        self.cache = reserved_cache(backbone.model.config, self.width + steps)
        self._forward(tokens.to(backbone.device), 0)

    def logits(self) -> Tensor:
        """[rows, vocab], float32: what comes after the last token. Multiplied as training does."""
        logits: Tensor = self.last @ self.backbone.output_weight.T
        return logits.float()

    def append(self, tokens: Tensor) -> None:
        """One more token a row."""
        self.width += 1
        self._forward(tokens[:, None], self.width - 1)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        self.mask, self.positions = self.mask[rows], self.positions[rows]
        self.cache.batch_select_indices(rows)

    def _forward(self, tokens: Tensor, start: int) -> None:
        output = self.backbone.forward(
            input_ids=tokens,
            attention_mask=self.mask[:, : self.width],
            position_ids=self.positions[:, start : self.width],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.last = output[:, -1]


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
