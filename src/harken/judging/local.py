"""Compare pairs by a local language model in this process: the log-odds of A and B, without generating text."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from harken.batches import collate, last_states
from harken.chat.template import TemplateRefusal
from harken.config.judge import LocalJudge
from harken.errors import UserError
from harken.judging.pair import PairVerdict, ResponsePair
from harken.judging.prompt import judge_prompt, prompt_hash
from harken.judging.scored import logistic
from harken.models.backbone import Backbone

LETTERS = ("A", "B")
MICRO_BATCH_TOKENS = 4096


class LocalPairJudge:
    """Compare pairs by the next-token log-odds of two letters at the position of the reply.

    Each order is asked with both namings (the response shown first is A, then B) and the log-odds are averaged, so that
    a preference for a letter cancels. The responses are shown in the same order both times, so that a preference for a
    position can be measured.
    """

    def __init__(self, config: LocalJudge, backbone: Backbone, adapter: str | None, fingerprint: str) -> None:
        self.config, self.backbone, self.adapter = config, backbone, adapter
        self.renderer = backbone.renderer()
        self.tokens = [self._letter_token(letter) for letter in LETTERS]
        self.letter_mass: list[float] = []
        """Probability of the two letters together, of every prompt asked."""
        self.identity: dict[str, Any] = {
            "type": "local",
            "model": config.model_name,
            "fingerprint": fingerprint,
            "max_length": config.max_length,
            "prompt": prompt_hash(config.rubric, "letter"),
        }

    def prefer_first(self, pairs: Sequence[ResponsePair]) -> list[PairVerdict]:
        """Return a verdict on each pair; `too long` where its prompt does not fit."""
        start_time = time.monotonic()
        prompts = [self._encode(pair, letters) for pair in pairs for letters in (LETTERS, LETTERS[::-1])]
        encoded = [tokens for tokens in prompts if tokens is not None]
        odds = iter(self._log_odds(encoded))
        log_odds = [None if tokens is None else next(odds) for tokens in prompts]
        seconds = (time.monotonic() - start_time) / max(len(pairs), 1)
        verdicts = []
        for index in range(len(pairs)):
            original, renamed = log_odds[2 * index : 2 * index + 2]
            token_count = sum(len(tokens or ()) for tokens in prompts[2 * index : 2 * index + 2])
            if original is None or renamed is None:
                verdicts.append(PairVerdict(None, "too long", seconds=seconds))
            else:
                verdicts.append(
                    PairVerdict(logistic((original - renamed) / 2), tokens_in=token_count, seconds=seconds)
                )
        return verdicts

    def _letter_token(self, letter: str) -> int:
        tokens = self.renderer.encode_response(letter, ended=False)
        if len(tokens) != 1:
            raise UserError(
                f"its tokenizer has no single token for {letter}",
                where=self.config.model_name,
                fix="choose another model as the judge",
            )
        return int(tokens[0])

    def _encode(self, pair: ResponsePair, letters: Sequence[str]) -> tuple[int, ...] | None:
        try:
            tokens = self.renderer.encode_prompt(judge_prompt(pair, self.config.rubric, "letter", letters))
        except TemplateRefusal as error:
            raise UserError(
                f"its chat template refuses the judge's prompt ({error.message})",
                where=self.config.model_name,
                fix="choose a judge whose template takes a system turn",
            ) from None
        limit = getattr(self.backbone.config, "max_position_embeddings", None) or self.config.max_length
        return tuple(tokens) if len(tokens) <= min(limit, self.config.max_length) else None

    @torch.no_grad()
    def _log_odds(self, prompts: Sequence[tuple[int, ...]]) -> list[float]:
        """Return log P(A) − log P(B) as the next token of each prompt."""
        values = [0.0] * len(prompts)
        groups = self.backbone.micro_batches([[tokens] for tokens in prompts], MICRO_BATCH_TOKENS)
        with self.backbone.role(self.adapter):
            for group in groups:
                rows = [prompts[i] for i in group]
                batch = collate(rows, [[False] * len(row) for row in rows], pad_token=self.backbone.pad_token)
                batch = batch.to(self.backbone.device)
                logits = self.backbone.logits(last_states(self.backbone.hidden(batch), batch)).float()
                letters = torch.log_softmax(logits, -1)[:, self.tokens]
                self.letter_mass += letters.exp().sum(-1).tolist()
                for i, value in zip(group, (letters[:, 0] - letters[:, 1]).tolist(), strict=True):
                    values[i] = value
        return values
