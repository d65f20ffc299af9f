"""Hand the votes of a review to the training run that it samples, while that run goes on. No torch.

`harken review report` writes `live_votes.json` into the run's folder; the training loop reads it after every step, so
that the health monitor can compare the votes with the reward.
"""

from __future__ import annotations

from typing import Any

from harken.errors import UserError
from harken.run import atomic, json_io
from harken.run.folder import RunFolder
from harken.run.terminal import say

FIX_LIVE_VOTES = "write it again with harken review report"
_warned: set[str] = set()
"""Problems that were reported: the file is read after every step."""


class _LiveVotes(json_io.Schema):
    update: int
    decided: int
    win_rate: float
    low: float
    high: float
    reward_change: float
    reward_change_low: float
    study: str


def write_live_votes(run: RunFolder, figures: dict[str, Any]) -> None:
    """Write the votes on a run's responses: `win_rate` of `update` against the start of training, with its interval."""
    atomic.write_json(run.live_votes, figures)


def live_vote_metrics(run: RunFolder) -> dict[str, float]:
    """Return the latest votes as metrics; {} without any. A damaged file is reported once and ignored."""
    if not run.live_votes.exists():
        return {}
    try:
        found = json_io.read_object(run.live_votes, FIX_LIVE_VOTES)
        json_io.validate(found, _LiveVotes, str(run.live_votes), FIX_LIVE_VOTES)
    except UserError as error:
        if str(error) not in _warned:
            _warned.add(str(error))
            say(f"warning: the votes are ignored: {error}")
        return {}
    return {f"votes/{name}": float(value) for name, value in found.items() if name != "study"}
