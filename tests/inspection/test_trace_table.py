"""The table fits a terminal, lines up, and nothing in a response can act on the screen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ppo_stage import ppo_config
from recorded_run import record
from rich.cells import cell_len

from harken.inspection.recorded import read_step
from harken.inspection.tokens import token_rows
from harken.inspection.trace import trace
from harken.inspection.trace_table import TABLE_WIDTH, number, trace_lines
from harken.run.terminal import escape_invisible, shorten

MakeRun = Callable[..., Path]
COLOUR = re.compile(r"\x1b\[\d+m")


@given(st.text())
def test_no_text_acts_on_the_terminal(text: str) -> None:
    """Escape sequences, line breaks, right-to-left overrides and lone surrogates are written out."""
    shown = escape_invisible(text, whitespace=True)
    assert shown.isprintable()
    assert escape_invisible(shown, whitespace=True) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\n", "\\n"), ("\x1b[2J", "\\x1b[2J"), ("\u202e", "\\u202e"), ("é 猫", "é 猫"), ("\xa0", "\\xa0")],
)
def test_controls_are_shown_escaped(text: str, shown: str) -> None:
    assert escape_invisible(text, whitespace=True) == shown


@given(st.text(alphabet="ab猫é\u0301😀 "), st.integers(2, 30))
def test_shortened_text_fits(text: str, width: int) -> None:
    assert cell_len(shorten(text, width)) <= width
    if cell_len(text) <= width:
        assert shorten(text, width) == text


@pytest.mark.parametrize("value", [0.0, -99.9994, 1234.56, -9999.9, 1e9, -1e300, None])
def test_numbers_keep_their_seven_cell_len(value: float | None) -> None:
    assert len(number(value)) == 7


@pytest.fixture
def odd_lines(make_run: MakeRun) -> list[str]:
    """A trace whose tokens are as awkward as tokens get."""
    step = read_step(make_run(), 3)
    pieces = ["\n", "\x1b[31m", "猫" * 20, " the", "\u202e", "e\u0301", "\t\t", "😀"]
    tokens = [t | {"token": piece} for t, piece in zip(token_rows(step, 0, str), pieces, strict=True)]
    tokens[0] |= {"logprob_new": None, "ratio": None, "clipped": None}
    tokens[1] |= {"advantage": -123456.0}
    step.rollouts[0]["prompt"] = "猫\n" * 500
    return trace_lines(step, 0, tokens, "best", colour=False)


def test_every_line_fits_and_lines_up(odd_lines: list[str]) -> None:
    assert max(map(cell_len, odd_lines)) <= TABLE_WIDTH
    assert all(line.isprintable() for line in odd_lines)
    head, *rows = odd_lines[4:]
    assert len(rows) == 8
    edge = cell_len(head)
    for row in rows:  # the last number ends where its heading does; only flags stand behind it
        digits = cell_len(re.sub(r"( [cm]+)?$", "", row))
        assert digits == edge, row


def test_the_heading_adds_up(make_run: MakeRun) -> None:
    """Score parts, stop, KL and rewards of a response that was truncated, against sums over its tokens."""
    root = make_run(ppo={"missing_eos_penalty": 0.5}, coefficient=0.1)
    step = read_step(root, 3)
    tokens = token_rows(step, 0, str)
    text = "\n".join(trace_lines(step, 0, tokens, "", colour=False)[:4])
    kl, rewards = sum(t["kl"] for t in tokens), sum(t["reward"] for t in tokens)
    assert "reward +1.000 = reward_model +1.500 + missing_eos +1.000 × -0.5" in text
    assert f"KL {kl:.3f} nats   0.1 × {kl:.3f} = {0.1 * kl:.3f} as KL penalty in the reward" in text
    assert f"rewards sum to {rewards:+.3f}" in text
    assert "8 tokens, truncated" in text
    assert rewards == pytest.approx(1.0 - 0.1 * kl, abs=1e-5)


def test_colour_changes_nothing_but_colour(make_run: MakeRun) -> None:
    root = make_run(ppo={"truncated": "mask"})
    plain, coloured = (list(trace(root, 3, colour=colour)) for colour in (False, True))
    assert not any("\x1b" in line for line in plain)
    assert any("\x1b" in line for line in coloured)
    assert [COLOUR.sub("", line) for line in coloured] == plain


def test_the_legend_explains_missing_columns(make_run: MakeRun) -> None:
    def last_lines(**how: Any) -> str:
        root = make_run(**how)
        return "\n".join(list(trace(root, 3))[-12:])

    assert "not measured" not in last_lines(ppo={"clip_range": 0.3, "clip_range_high": 0.5})
    assert "c: ratio outside 0.7 … 1.5" in last_lines(ppo={"clip_range": 0.3, "clip_range_high": 0.5})
    missing = last_lines(measured=False)
    assert "not measured after this update" in missing and "training.ppo.trace_every: 1 (now 10)" in missing


def test_the_legend_names_the_nearest_update_that_was_measured(make_run: MakeRun) -> None:
    """The advice works when followed: an update that should have been measured and was not is passed over."""
    root = make_run(measured=False, number=17)
    config = ppo_config(ppo={"gamma": 0.97, "lam": 0.9, "max_gen_len": 8})
    for update, measured in ((10, True), (20, False), (30, True)):
        record(root, config, measured=measured, number=update)
    legend = "\n".join(trace(root, 17))
    assert "Fix: --step 10, the nearest measured" in legend
    assert "not measured" not in "\n".join(trace(root, 10))
