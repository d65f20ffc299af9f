"""Leave out prompts that became training data, for example by a review, from an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from harken.config import DataConfig
from harken.data import sources
from harken.errors import UserError
from harken.records import Prompt
from harken.run import trained_prompts
from harken.run.tracking import say

MAX_LEFT_OUT_TOKENS = 10**9
"""High enough that no row is too long to be recognised."""


def leave_out_prompts(prompts: Sequence[Prompt], paths: Sequence[str], seed: int) -> list[Prompt]:
    """Return the prompts that no row of these files has, compared as in `run.trained_prompts`; print how many.

    Raises UserError if a file cannot be read, or no prompt is left.
    """
    trained_digests: set[str] = set()
    for path in paths:
        rows, _ = sources.load_prompts(DataConfig(path=path, max_length=MAX_LEFT_OUT_TOKENS), seed=seed)
        trained_digests |= {trained_prompts.digest(prompt.messages) for prompt in rows}
    remaining = [
        prompt for prompt in prompts if trained_prompts.digest(prompt.messages) not in trained_digests
    ]
    say(
        f"{len(prompts) - len(remaining):,} of {len(prompts):,} prompts left out: they are in {', '.join(paths)}"
    )
    if not remaining:
        raise UserError("no prompt is left", where="leave_out", fix="evaluate on other prompts")
    return remaining
