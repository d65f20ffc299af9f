"""Define what a judge is used for: preference pairs, and its agreement with people."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harken.config.base import Count, DataConfig, Size
from harken.config.judge import JudgingConfig


class LabelConfig(JudgingConfig):
    """A judge compares responses, and its verdicts become preference pairs."""

    type: Literal["label"] = "label"
    responses: str = Field(min_length=1)
    """A folder or file of responses, several to a prompt, or a file of pairs, whose labels are not read."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names of the file's columns: `{response: text, prompt: question}`."""
    pairs_per_prompt: Size | None = 1
    """Pairs of one prompt's responses that are compared, chosen by the seed; null: all."""
    limit: Size | None = None
    """Compare at most this many pairs, chosen by the seed."""
    inconsistent: Literal["drop", "tie"] = "drop"
    """What becomes of a pair whose verdict changes with the order: left out, or a tie with label 1/2."""


class AgreementConfig(JudgingConfig):
    """A judge compares pairs that people labelled, and its agreement with them is measured."""

    data: DataConfig
    """Pairs with labels, in any layout."""
    limit: Size | None = None
    """Compare at most this many pairs, chosen by the seed."""
    bootstrap: Count = 2000
    """Draws of the interval of kappa; 0: no interval."""
