"""Run `harken trace`: show selected responses of one recorded update, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harken.errors import UserError
from harken.inspection.critic import critic_lines
from harken.inspection.recorded import read_step
from harken.inspection.tokens import select_rows, token_decoder, token_rows, write_trace
from harken.inspection.trace_table import legend, trace_lines
from harken.run.terminal import escape_invisible


def trace(
    root: Path,
    update: int,
    rows: str | None = None,
    prompt: str | None = None,
    out: Path | None = None,
    *,
    everything: bool = False,
    colour: bool = False,
) -> Iterator[str]:
    """Yield the lines to print. Write the same tokens to `out` as parquet, or all with `everything`.

    Raises UserError if the run, the update or the selected responses are missing.
    """
    if everything and out is None:
        raise UserError("--all needs --out", fix="name a file: --out tokens.parquet")
    step = read_step(root, update)
    chosen = select_rows(step, rows, prompt)
    text_of, is_text = token_decoder(step.run)
    for row, reason in chosen.items():
        yield from trace_lines(step, row, token_rows(step, row, text_of), reason, colour)
        yield ""
    yield from legend(step, is_text)
    yield from critic_lines(step)
    if out is not None:
        rows_written = range(len(step.rollouts)) if everything else list(chosen)
        write_trace(out, step, rows_written, text_of)
        yield f"{escape_invisible(str(out))}: the tokens of {len(rows_written)} of {len(step.rollouts)} responses"
