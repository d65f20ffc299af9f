"""Advise on a preference data set: pairs, epochs, samples of the policy, and skew by position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from harken.data.diversity import format_shares
from harken.records import Preference, TokenPair
from harken.run.counted import counted

USUAL_PAIRS_LOW, USUAL_PAIRS_HIGH = 10_000, 50_000
"""Range of pairs with which most published reward models begin (InstructGPT 33,000; HH-RLHF 44,000 to 160,000)."""
PRODUCTION_PAIRS = (100_000, 500_000)
"""Number of pairs behind reward models in commercial products."""
POSITION_SKEW = 0.95
"""Share of rows with the first response preferred (or the second) from which the order is skewed."""
MIN_POSITIONS = 20
"""Rows with a known order below which no skew is warned of."""
_NO_NAME = {"final", "outputs", "checkpoints", "models", "best", ".", "..", "/", "~", ""}


def advise_pairs(count: int) -> str:
    """Report whether there are enough pairs, and for how many epochs to train on them."""
    low, high = PRODUCTION_PAIRS
    if count < USUAL_PAIRS_LOW:
        size = f"fewer than the usual {USUAL_PAIRS_LOW:,} to {USUAL_PAIRS_HIGH:,}: expect a weak reward model"
        size += ", and see `harken card --learning-curve` for what more pairs would bring"
        epochs = "1 to 3 epochs, with training.selection_fraction to stop at the best"
    elif count < low:
        size, epochs = (
            f"within or above the usual {USUAL_PAIRS_LOW:,} to {USUAL_PAIRS_HIGH:,}",
            "1 to 3 epochs",
        )
    else:
        size, epochs = f"as many as commercial products use ({low:,} to {high:,})", "1 epoch"
    return f"advice: {counted(count, 'pair')}, {size}; {epochs}"


def describe_writers(pairs: Sequence[Preference]) -> str:
    """Report which models wrote the responses, as shares."""
    names = [name for pair in pairs for name in pair.written_by]
    if not any(names):
        return "written by: the rows do not say (columns such as chosen_model and rejected_model, or policy)"
    return f"written by: {format_shares(names)}"


def warn_off_policy(pairs: Sequence[Preference | TokenPair], policy: str) -> str | None:
    """Warn when the rows name the models that wrote the responses and the policy is none of them; else None.

    `policy` is a model's name or folder: a part of its path, or its name without the organisation, is enough.
    """
    names = Counter(
        name.casefold() for pair in pairs if isinstance(pair, Preference) for name in pair.written_by if name
    )
    parts = {part.casefold() for part in PurePath(policy).parts if part.casefold() not in _NO_NAME}
    # Pipelines number their folders: 01_sft.
    parts |= {part.lstrip("0123456789_-") for part in parts} | {"policy", "on_policy", "on-policy"}
    if not names or any(PurePath(name).name in parts or name in parts for name in names):
        return None
    generators = ", ".join(name for name, _ in names.most_common(3))
    return (
        f"no response is by the policy ({policy}), only by {generators}{' …' if len(names) > 3 else ''}: the reward "
        "model will score responses unlike those it has seen. Fix: add pairs sampled from the policy"
    )


def is_position_skewed(first_preferred: float, rows: int) -> bool:
    """Return whether one position is preferred in nearly all of `rows`, the rows whose order is known."""
    return rows >= MIN_POSITIONS and not 1 - POSITION_SKEW < first_preferred < POSITION_SKEW


def describe_positions(pairs: Sequence[Preference]) -> tuple[str, str | None]:
    """Report how often a row's first response is preferred, and warn of a skew; ("", None) if no order is known."""
    positions = [pair.chosen_first for pair in pairs if pair.chosen_first is not None]
    if not positions:
        return "", None
    share = sum(positions) / len(positions)
    line = f"positions: the first response is preferred in {share:.0%} of {len(positions):,} rows"
    if not is_position_skewed(share, len(positions)):
        return line, None
    return line, (
        f"the first response is preferred in {share:.0%} of the rows: raters or data.label_scale may follow the "
        "position. Fix: check data.label_scale, and show the responses in random order"
    )
