"""Checks of a tokenizer and its chat template that need no weights: the doctor and the start of training make them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from harken.chat import template as chat_template
from harken.data.chat import Renderer
from harken.data.special_tokens import KEY
from harken.errors import UserError
from harken.records import Message

QUESTION, RESPONSE = "Name a colour.", "Blue."
PLAIN = ("Blue.", "One, two; three!\nFour: (5 + 6) = 11?", 'She said: "No."')
RARE = ("naïve café", "Straße, Ærø", "日本語", "🙂")
TEXTS = 64
"""Texts of the data that are encoded and decoded."""


class TokenCheck(NamedTuple):
    """What a check saw: how bad it is, the numbers with their units, how to correct it ("" when nothing is to do)."""

    level: Literal["ok", "note", "warning", "error"]
    measured: str
    fix: str = ""


def generation_prompt(renderer: Renderer) -> TokenCheck:
    """Compare what asks for a response with what stands before one, as text and as tokens."""
    template, tokenizer = renderer.template, renderer.tokenizer
    if template is None:
        return TokenCheck(
            "note", "no chat template: turns are written as Human: and Assistant:", "use an instruct model"
        )
    header, asked = template.response_prefix, template.generation_prompt
    if template.opened_tag:
        rest = (
            f"gets {template.closing_text!r} first, as the template writes"
            if template.closing_text
            else "stays inside it"
        )
        return TokenCheck(
            "warning",
            f"the generation prompt opens {template.opened_tag!r}: a response that brings the tag has it removed, "
            f"and one without its end {rest}",
            f"let responses begin with what follows {template.opened_tag!r}, and close it; or correct chat_template",
        )
    if not header.startswith(asked):
        return TokenCheck(
            "error",
            f"the template asks with {asked[-40:]!r}, but writes {header[-40:]!r} there with a response",
            "correct chat_template: add_generation_prompt must write what stands before a response",
        )
    between = header[len(asked) :]
    if between.strip():
        turns = [{"role": "user", "content": QUESTION}]
        if chat_template.render(tokenizer, turns) == chat_template.render(
            tokenizer, turns, add_generation_prompt=True
        ):
            return TokenCheck(
                "error",
                f"add_generation_prompt writes nothing, and {between!r} is missing before the response",
                "correct chat_template: write the assistant's header when add_generation_prompt is set",
            )
        return TokenCheck(
            "warning",
            f"with a response the template writes {between!r} before it, and asks without it",
            "correct chat_template, or know that Harken trains and samples without that text",
        )
    whole = chat_template.render(
        tokenizer, [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": RESPONSE}]
    )
    prompt = renderer.encode_prompt([Message("user", QUESTION)])
    ours = [*prompt, *renderer.encode_response(RESPONSE)]
    theirs = tokenizer(whole, add_special_tokens=False)["input_ids"][: len(ours)]
    if ours != theirs:
        return TokenCheck(
            "note", "a response's first token depends on the header before it: Harken encodes them apart"
        )
    return TokenCheck("ok", f"{len(prompt)} tokens ask, then the response begins")


def end_of_turn(renderer: Renderer) -> TokenCheck:
    """Compare the token that the template ends a response with, which is taught, with eos."""
    tokenizer = renderer.tokenizer
    end = tokenizer.convert_ids_to_tokens(renderer.end_of_turn)
    if renderer.template is None:
        return TokenCheck("ok", f"{end!r} (eos) ends a response")
    after = renderer.template.response_suffix
    if end not in after:
        return TokenCheck(
            "warning",
            f"the template writes {after!r} after a response and no special token; eos {end!r} is taught instead",
            "correct chat_template: end the assistant's turn with its token",
        )
    if renderer.end_of_turn != tokenizer.eos_token_id:
        return TokenCheck("note", f"{end!r} ends a turn, and so does eos {tokenizer.eos_token!r}")
    return TokenCheck("ok", f"{end!r} ends a turn and is eos")


def system_turn(renderer: Renderer) -> TokenCheck:
    """Tell whether the template writes a system turn."""
    if renderer.template is None or renderer.template.supports_system:
        return TokenCheck("ok", "a system turn is written")
    return TokenCheck(
        "note", "the chat template takes no system turn: its text begins the first user turn instead"
    )


def clock(renderer: Renderer) -> TokenCheck:
    """Tell whether the template reads the clock, and the time it is frozen at."""
    if not chat_template.reads_clock(renderer.tokenizer):
        return TokenCheck("ok", "the chat template reads no clock")
    moment = chat_template.template_time(renderer.tokenizer).isoformat(" ", "seconds")
    return TokenCheck(
        "note",
        f"the chat template reads the clock: it is frozen at {moment}, in every stage and in evaluation of the model",
    )


def round_trip(renderer: Renderer, texts: Sequence[str]) -> TokenCheck:
    """Encode and decode plain texts and responses of the data; special tokens that are kept have to come back too."""

    def lost(said: Sequence[str]) -> list[str]:
        return [
            t
            for t in said
            if renderer.decode_response(renderer.encode_response(t)) != renderer.adjust_opened_tag(t)
        ]

    texts = texts[:TEXTS]
    spelled = Counter(token for text in texts for token in dict.fromkeys(renderer.special.find(text)))
    data = [text for text in texts if not renderer.special.find(text)]
    plain, own, rare = lost(PLAIN), lost(data), lost(RARE)
    measured = (
        f"{len(own)} of {len(data)} texts of the data and {len(plain)} of {len(PLAIN)} plain ones changed"
    )
    fix = "use the tokenizer the model was trained with; no decoder or normaliser may drop or fold characters"
    if plain or len(own) > len(data) / 10:
        return TokenCheck("error", f"{measured}, as {(plain or own)[0][:40]!r}", fix)
    if spelled:
        named = ", ".join(f"{token!r} in {number}" for token, number in spelled.most_common(3))
        keepable = [token for token in spelled if token not in renderer.special.control]
        return TokenCheck(
            "warning",
            f"of {len(texts)} responses some spell special tokens of the model ({named}); each is broken by a space",
            f"to keep them, set data.{KEY}: [{', '.join(map(repr, sorted(keepable)))}]"
            if keepable
            else "take them out of the responses: they end or begin turns",
        )
    if own:
        return TokenCheck("warning", f"{measured}, as {own[0][:40]!r}", fix)
    if rare:
        return TokenCheck("note", f"{measured}; {', '.join(rare)} changed")
    return TokenCheck("ok", measured)


def check_tokenizer(renderer: Renderer, texts: Sequence[str]) -> list[str]:
    """Make all checks at the start of a stage; returns what is worth a warning, a line each.

    `texts` are responses of the data. Raises UserError for what the doctor calls an error.
    """
    seen = [
        *(check(renderer) for check in (generation_prompt, end_of_turn, system_turn, clock)),
        round_trip(renderer, texts),
    ]
    for found in seen:
        if found.level == "error":
            where = str(renderer.tokenizer.name_or_path)
            raise UserError(found.measured, where=where, fix=found.fix)
    tag = renderer.template.opened_tag if renderer.template else ""
    inside = [
        text for text in texts if tag and tag.replace("<", "</") not in renderer.adjust_opened_tag(text)
    ]
    if inside:
        what = f"{len(inside)} of {len(texts)} responses never close the {tag!r} that the generation prompt opens"
        seen.append(TokenCheck("warning", what, f"end the part in the tag with {tag.replace('<', '</')!r}"))
    said = [f"warning: {found.measured}. Fix: {found.fix}" for found in seen if found.level == "warning"]
    return [*said, *(f"note: {found.measured}" for found in seen[2:4] if found.level == "note")]
