"""Score preferences, empty responses and evasive responses with a reward model."""

from __future__ import annotations

from dataclasses import dataclass

from harken.config.base import DataConfig
from harken.doctor.context import DataSample
from harken.models.roles import RewardModel
from harken.records import Preference, TokenPair
from harken.seeds import permutation

PAIRS = 48
"""Preferences that are scored."""
TRIED = 4 * PAIRS
"""Rows that are searched for short pairs."""
PAIR_TOKENS = 320
"""Tokens of a short pair, both sides together. Longer pairs are used only if there are too few short ones."""
PROMPTS = 16
"""Prompts at which empty and evasive responses are scored."""
DONT_KNOW = "I don't know."
BUDGET = 4096
"""Tokens in one forward."""


@dataclass(frozen=True)
class RewardScores:
    """Standardised scores per pair, and per prompt for empty and evasive responses.

    `label` is the probability that `chosen` is the better one, never one half. Lengths are tokens of prompt and
    response; both sides share the prompt.
    """

    chosen: list[float]
    rejected: list[float]
    label: list[float]
    chosen_length: list[int]
    rejected_length: list[int]
    empty: list[float]
    dont_know: list[float]
    where: str

    @property
    def margins(self) -> list[float]:
        """Score of the preferred side minus that of the other."""
        pairs = zip(self.chosen, self.rejected, self.label, strict=True)
        return [(c - r) * (1 if label > 0.5 else -1) for c, r, label in pairs]

    @property
    def longer(self) -> list[int]:
        """Tokens by which the preferred side is longer."""
        pairs = zip(self.chosen_length, self.rejected_length, self.label, strict=True)
        return [(c - r) * (1 if label > 0.5 else -1) for c, r, label in pairs]

    @property
    def scores(self) -> list[float]:
        """Scores of all responses of the pairs."""
        return [*self.chosen, *self.rejected]

    @property
    def lengths(self) -> list[int]:
        """Lengths of the same responses in tokens, prompts included."""
        return [*self.chosen_length, *self.rejected_length]


def score_preferences(model: RewardModel, rows: DataSample, data: DataConfig, seed: int) -> RewardScores:
    """Score preferences of `data`: held-out rows if any, else training rows.

    Raises ValueError when no pair is decided and fits.
    """
    held_out = bool(rows.held_out)
    source = rows.held_out if held_out else rows.train
    renderer = model.renderer()
    pairs: list[tuple[TokenPair, Preference | TokenPair]] = []
    for index in permutation(len(source), seed, "doctor", "pairs")[:TRIED]:
        row = source[index]
        assert isinstance(row, Preference | TokenPair)
        encoded = renderer.encode_preference(row, data.max_length)
        if isinstance(encoded, TokenPair) and encoded.label != 0.5:
            pairs.append((encoded, row))
    if not pairs:
        raise ValueError(f"no pair of {data.path} is decided and fits {data.max_length} tokens")
    pairs = sorted(pairs, key=lambda entry: _tokens(entry[0]) > PAIR_TOKENS)[:PAIRS]
    empty, dont_know = [], []
    for _, preference in pairs[:PROMPTS]:
        fitted = (
            renderer.try_fit_prompt(preference.prompt, data.max_length)
            if isinstance(preference, Preference)
            else None
        )
        if isinstance(fitted, list):
            empty.append([*fitted, *renderer.encode_response("")])
            dont_know.append([*fitted, *renderer.encode_response(DONT_KNOW)])
    chosen = [pair.chosen_tokens for pair, _ in pairs]
    rejected = [pair.rejected_tokens for pair, _ in pairs]
    raw = model.raw_scores([*chosen, *rejected, *empty, *dont_know], BUDGET)
    scores = iter([model.standardize(value) for value in raw])
    parts = [[next(scores) for _ in part] for part in (chosen, rejected, empty, dont_know)]
    return RewardScores(
        parts[0], parts[1], [pair.label for pair, _ in pairs],
        [len(tokens) for tokens in chosen], [len(tokens) for tokens in rejected],
        parts[2], parts[3], f"{len(pairs)} {'held-out' if held_out else 'training'} pairs of {data.path}",
    )  # fmt: skip


def _tokens(pair: TokenPair) -> int:
    return len(pair.chosen_tokens) + len(pair.rejected_tokens)
