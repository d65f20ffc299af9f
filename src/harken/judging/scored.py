"""Turn a scorer of single responses (a reward model, a rule, a Python function) into a pairwise judge."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from harken.judging.pair import PairVerdict, ResponsePair
from harken.records import Prompt, Rollout
from harken.reward.source import RewardSource, score_all


class ScoredPairJudge:
    """Compare the scores of both responses: P(first) is the logistic function of their difference ÷ temperature.

    The order of a pair has no effect. A response without a score has no verdict.
    """

    def __init__(self, source: RewardSource, temperature: float, identity: Mapping[str, Any]) -> None:
        self.source, self.temperature, self.identity = source, temperature, dict(identity)
        self._scores: dict[tuple[str, str], float | None] = {}
        self.batch_size = 64

    def prefer_first(self, pairs: Sequence[ResponsePair]) -> list[PairVerdict]:
        """Return a verdict on each pair. Equal responses to equal prompts are scored once, so that they tie."""
        start_time = time.monotonic()
        keys = [(_conversation(pair), text) for pair in pairs for text in (pair.first, pair.second)]
        unscored: dict[tuple[str, str], Rollout] = {}
        for pair in pairs:
            prompt = Prompt(_conversation(pair), pair.messages)
            for text in (pair.first, pair.second):
                if (key := (prompt.id, text)) not in self._scores and key not in unscored:
                    unscored[key] = Rollout(prompt, 0, (), (), (), text, "end_of_turn", "")
        if unscored:
            rows = score_all([self.source], list(unscored.values()))
            self._scores |= {key: row.scores[0].value for key, row in zip(unscored, rows, strict=True)}
        seconds = (time.monotonic() - start_time) / max(len(pairs), 1)
        values = [self._scores[key] for key in keys]
        return [
            self._verdict(first, second, seconds)
            for first, second in zip(values[::2], values[1::2], strict=True)
        ]

    def _verdict(self, first: float | None, second: float | None, seconds: float) -> PairVerdict:
        if first is None or second is None or not (math.isfinite(first) and math.isfinite(second)):
            return PairVerdict(None, "a response has no score", seconds=seconds)
        return PairVerdict(logistic((first - second) / self.temperature), seconds=seconds)


def logistic(x: float) -> float:
    """Compute 1 / (1 + exp(-x)) for any x."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def _conversation(pair: ResponsePair) -> str:
    return ResponsePair("", pair.messages, "", "").content()
