"""A trace as lines for a terminal: one a token, aligned, at most 100 columns wide."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from harken.inspection.recorded import RecordedStep, measured_hint

WIDTH = 100
_TOKEN = 18
_NUMBER = 7
_RED, _GREEN, _YELLOW, _DIM, _END = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_NUMBERS = {
    "old": "logprob_old",
    "new": "logprob_new",
    "ref": "logprob_reference",
    "ratio": "ratio",
    "advant.": "advantage",
    "return": "return",
    "value": "value",
    "kl": "kl",
    "reward": "reward",
}


def trace_lines(
    step: RecordedStep, row: int, tokens: Sequence[dict[str, Any]], why: str, colour: bool
) -> list[str]:
    """A heading with prompt, reward and totals, then one line a token. `tokens` are its `token_rows`."""
    heads = "".join(f" {name:>{_NUMBER}}" for name in _NUMBERS)
    return [
        *_heading(step, row, why),
        f"{'pos':>4} {'token':<{_TOKEN}}{heads}",
        *(_token_line(token, colour) for token in tokens),
    ]


def legend(step: RecordedStep, is_text: bool) -> list[str]:
    """What the columns mean, and what is missing and why."""
    settings = step.settings
    low, high = 1 - settings.clip_range, 1 + (settings.clip_range_high or settings.clip_range)
    lines = [
        "old, new, ref: log-probability (nats) before and after the update, of the reference; kl = old − ref",
        f"c: ratio outside {low:g} … {high:g}    m: left out of the loss    ·: a space",
    ]
    if not step.measured():
        lines += ["new, ratio: not measured after this update", measured_hint(step)]
    if not is_text:
        lines.append("tokens are shown as ids: the tokenizer of this run cannot be read")
    return [cut(line, WIDTH) for line in lines]


def visible(text: str, space: str = " ") -> str:
    """Text in which nothing acts on the terminal: controls, line breaks and odd spaces are written out."""

    def shown(letter: str) -> str:
        if letter == " ":
            return space
        hidden = unicodedata.category(letter)[0] in "CZ"
        return letter.encode("unicode_escape").decode() if hidden else letter

    return "".join(map(shown, text))


def cut(text: str, width: int) -> str:
    """Text of at most `width` columns; what is left out shows as …"""
    if columns(text) <= width:
        return text
    text = text[:width]
    while columns(text) > width - 1:
        text = text[:-1]
    return text + "…"


def columns(text: str) -> int:
    """How many columns a terminal takes for text without controls."""
    return sum(
        0
        if unicodedata.category(letter) in ("Mn", "Me")
        else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def number(value: float | None) -> str:
    """A number in seven columns; — for none."""
    if value is None:
        return f"{'—':>{_NUMBER}}"
    if abs(value) < 99.9995:
        return f"{value:z{_NUMBER}.3f}"
    return f"{value:{_NUMBER}.1f}" if abs(value) < 9999.95 else f"{value:{_NUMBER}.0e}"


def _heading(step: RecordedStep, row: int, why: str) -> list[str]:
    rollout, credit = step.rollouts[row], step.credit[row]
    parts = [
        f"{visible(source)} {'—' if value is None else format(value, '+.3f')}"
        + ("" if weight == 1 else f" × {weight:g}")
        for source, (value, weight) in step.scores(row).items()
    ]
    kl, kl_penalty, coefficient = sum(credit["kl"]), sum(credit["kl_penalty"]), credit["kl_coefficient"]
    length = len(rollout["response_tokens"])
    ended = "ended" if rollout["stop"] == "end_of_turn" else "cut off"
    lines = [
        f"update {step.number} row {row}{f' ({why})' if why else ''}   "
        f"prompt {visible(rollout['prompt_id'])}, sample {rollout['sample']}",
        f"prompt: {visible(rollout['prompt'])}",
        f"{length} token{'s' if length != 1 else ''}, {ended}   "
        f"reward {rollout['reward']:+.3f} = {' + '.join(parts) or 'nothing'}",
        f"KL {kl:.3f} nats   {coefficient:g} × {kl_penalty:.3f} = {coefficient * kl_penalty:.3f} "
        f"paid in the {step.settings.kl_in}   rewards sum to {sum(credit['rewards']):+.3f}",
    ]
    return [cut(line, WIDTH) for line in lines]


def _token_line(token: dict[str, Any], colour: bool) -> str:
    text = cut(visible(token["token"], "·"), _TOKEN)
    cells = {key: number(token[key]) for key in _NUMBERS.values()}
    flags = ("c" if token["clipped"] else "") + ("" if token["policy_mask"] else "m")
    if colour and not token["policy_mask"]:
        cells = {key: f"{_DIM}{cell}{_END}" for key, cell in cells.items()}
    elif colour:
        cells["advantage"] = f"{_RED if token['advantage'] < 0 else _GREEN}{cells['advantage']}{_END}"
        if token["clipped"]:
            cells["ratio"] = f"{_YELLOW}{cells['ratio']}{_END}"
    padded = text + " " * (_TOKEN - columns(text))
    return f"{token['position']:>4} {padded} {' '.join(cells.values())} {flags}".rstrip()
