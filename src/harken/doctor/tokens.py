"""Check the tokenizer and its chat template."""

from __future__ import annotations

from harken.data import token_checks
from harken.data.markup import MarkupDetector
from harken.doctor.check import ALL, Check, check
from harken.doctor.context import Context, ParsedRow
from harken.doctor.finding import CheckOutcome, note, ok, warning
from harken.models.find_tokenizer import tokenizer_folder
from harken.records import Demonstration, Preference, Prompt
from harken.run import json_io


@check(
    ALL,
    what="pad token, compared with eos and the end of turn",
    why="If the pad token also ends turns, the end is masked as padding and the model does not learn to stop.",
)
def pad_is_no_end(context: Context) -> CheckOutcome:
    """Report the pad token; Harken replaces one that ends a turn."""
    tokenizer, renderer = context.renderer.tokenizer, context.renderer
    ends = {renderer.end_of_turn: tokenizer.convert_ids_to_tokens(renderer.end_of_turn)}
    if tokenizer.eos_token_id is not None:
        ends[tokenizer.eos_token_id] = tokenizer.eos_token
    listed = ", ".join(f"{token!r} ({token_id})" for token_id, token in ends.items())
    measured = f"pad {tokenizer.pad_token!r} ({renderer.pad}), ends {listed}"
    own_pad = _own_pad(context)
    if own_pad is not None and own_pad != tokenizer.pad_token:
        return note(f"{measured}; the folder's own pad {own_pad!r} ends a turn and is not used")
    return ok(measured)


@check(
    ALL,
    what="whether the prompt is a prefix of the conversation with the response",
    why="The prompt in sampling must equal the prompt in SFT, up to the first response token.",
)
def generation_prompt(context: Context) -> CheckOutcome:
    """Compare both as text and as tokens, with the header of the response."""
    return CheckOutcome(*token_checks.check_generation_prompt(context.renderer))


@check(
    ALL,
    what="the token with which the template ends a response, compared with eos",
    why="The end token that is trained and the one that stops sampling must be the same, or responses never end.",
)
def end_of_turn(context: Context) -> CheckOutcome:
    """Report both tokens: either ends a response, the first is the trained one."""
    return CheckOutcome(*token_checks.check_end_of_turn(context.renderer))


@check(
    ALL,
    what="whether the template writes system turns, and whether it reads the clock",
    why="A system turn that the template drops has no effect, and a current date changes every prompt.",
)
def template_reads(context: Context) -> CheckOutcome:
    """Report both; Harken handles either case."""
    system, clock = (
        token_checks.check_system_turn(context.renderer),
        token_checks.check_clock(context.renderer),
    )
    notes = [result.measured for result in (system, clock) if result.level == "note"]
    return note("; ".join(notes)) if notes else ok(f"{system.measured}; {clock.measured}")


@check(
    ALL,
    what="chat markup inside the texts of rows",
    why="The template adds markup again, so the model reads markup as text and learns to write it.",
)
def markup_in_rows(context: Context) -> CheckOutcome:
    """Search for markup of known model families and of the model itself."""
    warnings = MarkupDetector(context.renderer).warnings(context.sample)
    if not warnings:
        return ok(f"none in {len(context.sample)} rows")
    measured, _, fix = warnings[0].partition(". Fix: ")
    return warning(measured, fix)


@check(
    ALL,
    what="round trip text → tokens → text, for plain texts and responses of the data",
    why="Rewards, judges and pages read the decoded response, so they miss what the tokenizer loses.",
)
def round_trip(context: Context) -> CheckOutcome:
    """Compare texts; special tokens that responses keep must survive, others are split on purpose and counted."""
    texts = [text for row in context.sample[: token_checks.MAX_TEXTS] for text in _texts(row)]
    return CheckOutcome(*token_checks.check_round_trip(context.renderer, texts))


def _own_pad(context: Context) -> str | None:
    """Return the pad token that the model's folder names."""
    path = tokenizer_folder(context.source) / "tokenizer_config.json"
    pad = json_io.read_object(path).get("pad_token") if path.exists() else None
    pad = pad.get("content") if isinstance(pad, dict) else pad
    return pad if isinstance(pad, str) else None


def _texts(row: ParsedRow) -> list[str]:
    if isinstance(row, Demonstration):
        return [row.response]
    if isinstance(row, Preference):
        return [row.chosen, row.rejected]
    return [row.last_user_message] if isinstance(row, Prompt) else []


TOKEN_CHECKS: tuple[Check, ...] = (
    pad_is_no_end,
    generation_prompt,
    end_of_turn,
    template_reads,
    markup_in_rows,
    round_trip,
)
