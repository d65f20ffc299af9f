"""Define the configurations of a blinded review by people, and of pairs made from failures that the audit found."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from harken.config.audit import AuditSettings
from harken.config.base import Count, Fraction, NonNegative, Positive, Seed, Size, Strict
from harken.config.evaluation import PolicyEntry


def _check_rater(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,39}", name):
        raise ValueError(
            f"{name!r} cannot stand in links and file names. Fix: use letters from A to Z, digits, - and _, "
            "at most 40 and a letter first"
        )
    return name


RaterName = Annotated[str, AfterValidator(_check_rater)]
"""A rater in links, files and reports: letters, digits, - and _."""
SwappedShare = Annotated[float, Field(ge=0, le=0.5)]
HardNegativeRule = Literal["high_reward_broken", "repetition", "truncated"]
RUBRIC = (
    "Choose the response that you would rather receive as the answer to this prompt. Correct and on topic comes first, "
    "then complete, then clear. Longer is not better. Choose Tie if both are equally good, and Both bad if you would "
    "use neither."
)
VOTE_REASONS = [
    "correct",
    "on topic",
    "complete",
    "clear",
    "harmless",
    "the other repeats itself",
    "the other breaks off",
]


def _unique(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("a name is listed twice. Fix: remove one of them")
    return names


class ReviewConfig(Strict):
    """People compare the responses of two or more policies without knowing which policy wrote which."""

    type: Literal["review"] = "review"
    policies: dict[str, PolicyEntry] = Field(default_factory=dict)
    """Name → file of responses (docs/evaluation.md); a file of several systems, such as `responses.parquet` of an
    evaluation, is several policies. The first is the baseline."""
    pairs_path: str | None = Field(default=None, min_length=1)
    """Preference pairs to judge again, in place of policies: those of `harken hard-negatives`, for example."""
    raters: Annotated[list[RaterName], Field(min_length=1, max_length=64), AfterValidator(_unique)] = Field(
        default_factory=lambda: ["rater1"]
    )
    """Who votes. Each gets their own link and order."""
    compare: Literal["baseline", "all"] = "all"
    """Which policies are compared: all pairs, or each with the baseline."""
    items: Size | None = None
    """Pairs of responses to compare, drawn by the seed. Default: as many as `edge` needs, at most all."""
    edge: Annotated[float, Field(gt=0.5, le=1)] = 0.6
    """The win rate among decided votes that the review should detect (power 80 %, 95 % confidence)."""
    tie_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of votes expected to be ties, both bad or skips; that many more items are needed for `edge`."""
    strata: list[str] = Field(default_factory=lambda: ["domain"])
    """Columns of the prompts: items are drawn in proportion from each combination of their values."""
    overlap: Fraction = 0.25
    """Share of items that two raters judge, to measure agreement."""
    repeats: SwappedShare = 0.1
    """Share of a rater's items that are shown again later with the sides swapped."""
    gold: SwappedShare = 0.05
    """Share of a rater's items whose better side is known."""
    gold_path: str | None = Field(default=None, min_length=1)
    """Preference pairs to use as gold. Default: clean responses over broken ones, by the audit, of pairs that were
    not drawn; or clean responses over a copy whose last sentence is repeated."""
    calibration: Count = 6
    """Items that every rater judges first, about a third of them gold; they are excluded from all statistics. 0: no
    calibration."""
    calibration_accuracy: Fraction = 0.75
    """Share of the calibration's gold items that a rater must get right to continue."""
    reading_speed: Positive = 15.0
    """Words per second: a vote faster than this through both responses is counted as too fast."""
    add_to: str | None = Field(default=None, min_length=1)
    """As a stage: preference pairs to which those of the votes are added. Default: the votes alone."""
    add_limit: Size | None = None
    """As a stage: use only this many pairs of `add_to`, drawn by the seed."""
    rubric: str = Field(default=RUBRIC, max_length=20_000)
    """Instructions for raters."""
    reasons: Annotated[list[str], Field(max_length=20), AfterValidator(_unique)] = Field(
        default_factory=lambda: list(VOTE_REASONS)
    )
    """Reasons that a rater may tick."""
    output_dir: str | None = None
    seed: Seed = 839
    """Seed of the items and their order. The side on which a response is shown depends on a random key of the study."""

    @model_validator(mode="after")
    def _consistent(self) -> ReviewConfig:
        if bool(self.policies) == (self.pairs_path is not None):
            raise ValueError("a review is of policies or of pairs. Fix: set policies or pairs_path")
        if models := [name for name, policy in self.policies.items() if policy.model_name is not None]:
            raise ValueError(
                f"{models[0]} is not a file of responses: a review shows responses that exist. "
                "Fix: make them first (harken eval, harken generate)"
            )
        if any(not reason.strip() or len(reason) > 80 for reason in self.reasons):
            raise ValueError("a reason has 1 to 80 characters. Fix: write a shorter one")
        return self


class HardNegativesConfig(Strict):
    """Make preference pairs of the failures that the audit of an evaluation found."""

    type: Literal["hard_negatives"] = "hard_negatives"
    responses: str = Field(min_length=1)
    """The folder of an evaluation, or a file of responses with rewards."""
    rules: Annotated[list[HardNegativeRule], Field(min_length=1), AfterValidator(_unique)] = Field(
        default_factory=lambda: list(get_args(HardNegativeRule))
    )
    """Rules in order of precedence; a pair of texts is written for the first that applies (docs/review.md)."""
    strength: Positive = 1.0
    """`preference_strength` of every pair."""
    reward_margin: NonNegative = 0.0
    """With `high_reward_broken`: minimum by which the broken response's reward exceeds the clean one's."""
    add_to: str | None = Field(default=None, min_length=1)
    """Preference pairs to which the new ones are added, for example those of the first reward model."""
    add_limit: Size | None = None
    """Use only this many pairs of `add_to`, drawn by the seed."""
    audit: AuditSettings = AuditSettings()
    seed: Seed = 839
    output_dir: str | None = None
