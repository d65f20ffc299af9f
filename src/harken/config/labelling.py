"""Define what a judge is used for besides scoring: its agreement with people is measured."""

from __future__ import annotations

from harken.config.base import Count, DataConfig, Size
from harken.config.judge import JudgingConfig


class AgreementConfig(JudgingConfig):
    """A judge compares pairs that people labelled, and its agreement with them is measured."""

    data: DataConfig
    """Pairs with labels, in any layout."""
    limit: Size | None = None
    """Compare at most this many pairs, chosen by the seed."""
    bootstrap: Count = 2000
    """Draws of the interval of kappa; 0: no interval."""
