"""Format a trace for the terminal: one line per token, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from harken.inspection.recorded import RecordedStep, new_logprobs_hint
from harken.run.terminal import escape_invisible, format_table, shorten

TABLE_WIDTH = 100
_TOKEN = 18
_NUMBER = 7
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
    step: RecordedStep, row: int, tokens: Sequence[dict[str, Any]], reason: str, colour: bool
) -> list[str]:
    """Return a heading with prompt, reward and totals, then one line per token. `tokens` comes from `token_rows`."""
    titles = [" pos", f"{'token':<{_TOKEN}}", *(f"{name:>{_NUMBER}}" for name in _NUMBERS), " "]
    rows = [_cells(token, colour) for token in tokens]
    cells = {title: [row[index] for row in rows] for index, title in enumerate(titles)}
    text = format_table(cells, right=[" pos", *titles[2:-1]], gap=1, colour=colour)
    return [*_heading(step, row, reason), *text.splitlines()]


def legend(step: RecordedStep, is_text: bool) -> list[str]:
    """Explain the columns, and which are missing and why."""
    settings = step.settings
    low, high = 1 - settings.clip_range, 1 + (settings.clip_range_high or settings.clip_range)
    lines = [
        "old, new, ref: log-probability (nats) before and after the update, of the reference; kl = old − ref",
        f"c: ratio outside {low:g} … {high:g}    m: not in the policy loss    ·: a space",
    ]
    if not step.has_new_logprobs():
        lines += ["new, ratio: not measured after this update", new_logprobs_hint(step)]
    if not is_text:
        lines.append("tokens are shown as ids: the tokenizer of this run cannot be read")
    return [shorten(line, TABLE_WIDTH) for line in lines]


def number(value: float | None) -> str:
    """Format a number in seven columns; None becomes —."""
    if value is None:
        return f"{'—':>{_NUMBER}}"
    if abs(value) < 99.9995:
        return f"{value:z{_NUMBER}.3f}"
    return f"{value:{_NUMBER}.1f}" if abs(value) < 9999.95 else f"{value:{_NUMBER}.0e}"


def _heading(step: RecordedStep, row: int, reason: str) -> list[str]:
    rollout, credit = step.rollouts[row], step.credit[row]
    parts = [
        f"{_escaped(source)} {'—' if value is None else format(value, '+.3f')}"
        + ("" if weight == 1 else f" × {weight:g}")
        for source, (value, weight) in step.scores(row).items()
    ]
    kl, kl_penalty, coefficient = sum(credit["kl"]), sum(credit["kl_penalty"]), credit["kl_coefficient"]
    length = len(rollout["response_tokens"])
    ended = "ended" if rollout["stop"] == "end_of_turn" else "truncated"
    lines = [
        f"update {step.number} row {row}{f' ({reason})' if reason else ''}   "
        f"prompt {_escaped(rollout['prompt_id'])}, sample {rollout['sample']}",
        f"prompt: {_escaped(rollout['prompt'])}",
        f"{length} token{'s' if length != 1 else ''}, {ended}   "
        f"reward {rollout['reward']:+.3f} = {' + '.join(parts) or '0'}",
        f"KL {kl:.3f} nats   {coefficient:g} × {kl_penalty:.3f} = {coefficient * kl_penalty:.3f} "
        f"as KL penalty in the {step.settings.kl_in}   rewards sum to {sum(credit['rewards']):+.3f}",
    ]
    return [shorten(line, TABLE_WIDTH) for line in lines]


def _escaped(text: str) -> str:
    return escape_invisible(text, whitespace=True)


def _cells(token: dict[str, Any], colour: bool) -> list[Text]:
    """Return one row of the table: position, token, numbers, flags."""
    text = shorten(_escaped(token["token"]).replace(" ", "·"), _TOKEN)
    styles = dict.fromkeys(_NUMBERS.values(), "")
    if not token["policy_mask"]:
        styles = dict.fromkeys(styles, "dim")
    else:
        styles["advantage"] = "red" if token["advantage"] < 0 else "green"
        if token["clipped"]:
            styles["ratio"] = "yellow"
    numbers = [Text(number(token[key]), style if colour else "") for key, style in styles.items()]
    flags = ("c" if token["clipped"] else "") + ("" if token["policy_mask"] else "m")
    return [Text(str(token["position"])), Text(text), *numbers, Text(flags)]
