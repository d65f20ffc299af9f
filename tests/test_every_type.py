"""Every type that transformers has a causal language model of agrees with it, or is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from every_type import NOT_BUILT, TYPES, not_built
from families import LIMIT, QUANTITIES, run_family


@pytest.mark.nightly
@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind not in NOT_BUILT])
def test_a_type_agrees_with_plain_transformers_or_is_refused_first(kind: str, tmp_path: Path) -> None:
    assert not not_built(TYPES[kind])
    outcome = run_family(TYPES[kind], tmp_path)
    assert not outcome.broken, outcome.broken
    if outcome.refused:
        assert outcome.stage == "sft", outcome.refused
        assert "internal error" not in outcome.refused, outcome.refused
        assert "\n" not in outcome.refused
        return
    assert set(outcome.worst) == set(QUANTITIES)
    assert max(outcome.worst.values()) <= LIMIT, outcome.worst


@pytest.mark.nightly
@pytest.mark.parametrize("kind", [kind for kind in NOT_BUILT if kind in TYPES])
def test_types_listed_as_not_built_cannot_be_built(kind: str) -> None:
    assert not_built(TYPES[kind])
