"""Checks of the tokenizer and its chat template."""

from __future__ import annotations

from harken.data import token_checks
from harken.data.markup import MarkupDetector
from harken.doctor.check import ALL, Check, check
from harken.doctor.context import Context, Row
from harken.doctor.finding import Outcome, note, ok, warning
from harken.models.find_tokenizer import tokenizer_folder
from harken.records import Demonstration, Preference, Prompt
from harken.run import json_io


@check(
    ALL,
    what="pad against eos and the end of a turn",
    why="A pad that ends turns is masked with them: the model is never taught to stop, or stops being scored there.",
    items="P1, P8",
)
def pad_is_no_end(context: Context) -> Outcome:
    """Harken replaces a pad that ends something; what it took is told."""
    tokenizer, renderer = context.renderer.tokenizer, context.renderer
    ends = {renderer.end_of_turn: tokenizer.convert_ids_to_tokens(renderer.end_of_turn)}
    if tokenizer.eos_token_id is not None:
        ends[tokenizer.eos_token_id] = tokenizer.eos_token
    named = ", ".join(f"{token!r} ({number})" for number, token in ends.items())
    measured = f"pad {tokenizer.pad_token!r} ({renderer.pad}), ends {named}"
    own = _own_pad(context)
    if own is not None and own != tokenizer.pad_token:
        return note(f"{measured}; the folder's own pad {own!r} ends a turn and is not used")
    return ok(measured)


@check(
    ALL,
    what="whether the prompt of an answer is the beginning of the conversation with that answer",
    why="The policy must be asked in the very words it was tuned on, up to the first token of its answer.",
    items="P2, P7",
)
def generation_prompt(context: Context) -> Outcome:
    """With the header of the answer, as text and as tokens."""
    return Outcome(*token_checks.generation_prompt(context.renderer))


@check(
    ALL,
    what="the token the template ends an answer with, against eos",
    why="An end that is taught and an end that is looked for must be the same token, or answers never stop.",
    items="P2, P8",
)
def end_of_turn(context: Context) -> Outcome:
    """Either of the two ends an answer; the first is what is taught."""
    return Outcome(*token_checks.end_of_turn(context.renderer))


@check(
    ALL,
    what="whether the template writes system turns, and whether it reads the clock",
    why="A system turn that is not written is not obeyed, and a date that moves makes every prompt another one.",
    items="P7",
)
def template_reads(context: Context) -> Outcome:
    """Both are handled, and said."""
    system, clock = token_checks.system_turn(context.renderer), token_checks.clock(context.renderer)
    said = [seen.measured for seen in (system, clock) if seen.level == "note"]
    return note("; ".join(said)) if said else ok(f"{system.measured}; {clock.measured}")


@check(
    ALL,
    what="chat markup inside the texts of the rows",
    why="The template is written around it once more: the model reads, and learns to write, markup as text.",
    items="P7",
)
def markup_in_rows(context: Context) -> Outcome:
    """Of any model family, and the model's own."""
    found = MarkupDetector(context.renderer).warnings(context.sample)
    if not found:
        return ok(f"none in {len(context.sample)} rows")
    measured, _, fix = found[0].partition(". Fix: ")
    return warning(measured, fix)


@check(
    ALL,
    what="text → tokens → text, on plain texts and on answers of the data",
    why="Rewards, judges and pages read the decoded answer: what the tokenizer loses, they never see.",
    items="P7",
)
def round_trip(context: Context) -> Outcome:
    """Special tokens that answers keep have to come back; others are broken on purpose, and counted."""
    texts = [text for row in context.sample[: token_checks.MAX_TEXTS] for text in _texts(row)]
    return Outcome(*token_checks.round_trip(context.renderer, texts))


def _own_pad(context: Context) -> str | None:
    """The pad token that the model's folder names."""
    path = tokenizer_folder(context.source) / "tokenizer_config.json"
    said = json_io.read_object(path).get("pad_token") if path.exists() else None
    said = said.get("content") if isinstance(said, dict) else said
    return said if isinstance(said, str) else None


def _texts(row: Row) -> list[str]:
    if isinstance(row, Demonstration):
        return [row.response]
    if isinstance(row, Preference):
        return [row.chosen, row.rejected]
    return [row.last_user_message] if isinstance(row, Prompt) else []


TOKENS: tuple[Check, ...] = (
    pad_is_no_end,
    generation_prompt,
    end_of_turn,
    template_reads,
    markup_in_rows,
    round_trip,
)
