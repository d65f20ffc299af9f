"""Check a tokenizer and its chat template, without weights, in the doctor and at the start of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from harken.chat import template as chat_template
from harken.data.chat import Renderer
from harken.data.encoder_renderer import EncoderRenderer
from harken.data.special_tokens import KEY
from harken.errors import UserError
from harken.records import Message

QUESTION, RESPONSE = "Name a colour.", "Blue."
PLAIN = ("Blue.", "One, two; three!\nFour: (5 + 6) = 11?", 'She lines: "No."')
RARE = ("naïve café", "Straße, Ærø", "日本語", "🙂")
MAX_TEXTS = 64
"""Maximum number of texts of the data to encode and decode."""
MAX_UNKNOWN = 0.1
"""Share of unknown tokens above which an encoder's tokenizer does not fit the texts."""


class TokenCheck(NamedTuple):
    """The result of a check: its level, the measured numbers with units, and the fix ("" for none)."""

    level: Literal["ok", "note", "warning", "error"]
    measured: str
    fix: str = ""


def check_generation_prompt(renderer: Renderer) -> TokenCheck:
    """Compare the generation prompt with the text before a rendered response, as text and as tokens."""
    template, tokenizer = renderer.template, renderer.tokenizer
    if isinstance(renderer, EncoderRenderer):
        parts = (renderer.prefix, renderer.middle, renderer.suffix)
        frame = [" ".join(tokenizer.convert_ids_to_tokens(part)) for part in parts]
        return TokenCheck("ok", f"an encoder's pair: {frame[0]} conversation {frame[1]} response {frame[2]}")
    if template is None:
        return TokenCheck(
            "note", "no chat template: turns are written as Human: and Assistant:", "use an instruct model"
        )
    prefix, generation = template.response_prefix, template.generation_prompt
    if template.opened_tag:
        remainder = (
            f"gets {template.closing_text!r} first, as the template writes"
            if template.closing_text
            else "stays inside the tag"
        )
        return TokenCheck(
            "warning",
            f"the generation prompt opens {template.opened_tag!r}: a response that begins with the tag has it removed, "
            f"and one that does not close it {remainder}",
            f"begin responses with the text after {template.opened_tag!r}, and close the tag; or correct chat_template",
        )
    if not prefix.startswith(generation):
        return TokenCheck(
            "error",
            f"the generation prompt is {generation[-40:]!r}, but a rendered response follows {prefix[-40:]!r}",
            "correct chat_template: add_generation_prompt must write the text before a response",
        )
    between = prefix[len(generation) :]
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
            f"with a response the template writes {between!r} before it, which the generation prompt lacks",
            "correct chat_template, or accept that Harken trains and samples without that text",
        )
    rendered = chat_template.render(
        tokenizer, [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": RESPONSE}]
    )
    prompt = renderer.encode_prompt([Message("user", QUESTION)])
    ours = [*prompt, *renderer.encode_response(RESPONSE)]
    theirs = tokenizer(rendered, add_special_tokens=False)["input_ids"][: len(ours)]
    if ours != theirs:
        return TokenCheck(
            "note", "a response's first token depends on the text before it: Harken encodes them separately"
        )
    return TokenCheck("ok", f"{len(prompt)} prompt tokens, then the response begins")


def check_end_of_turn(renderer: Renderer) -> TokenCheck:
    """Compare the token with which the template ends a response, which is trained, with eos."""
    tokenizer = renderer.tokenizer
    end = tokenizer.convert_ids_to_tokens(renderer.end_of_turn)
    if isinstance(renderer, EncoderRenderer):
        return TokenCheck("ok", f"{end!r} ends the pair; an encoder does not generate")
    if renderer.template is None:
        return TokenCheck("ok", f"{end!r} (eos) ends a response")
    after = renderer.template.response_suffix
    if end not in after:
        return TokenCheck(
            "warning",
            f"the template writes {after!r} after a response and no special token; eos {end!r} is trained instead",
            "correct chat_template: end the assistant's turn with its end token",
        )
    if renderer.end_of_turn != tokenizer.eos_token_id:
        return TokenCheck("note", f"{end!r} ends a turn, and so does eos {tokenizer.eos_token!r}")
    return TokenCheck("ok", f"{end!r} ends a turn and is eos")


def check_system_turn(renderer: Renderer) -> TokenCheck:
    """Return whether the template writes a system turn."""
    if renderer.template is None or renderer.template.supports_system:
        return TokenCheck("ok", "a system turn is written")
    return TokenCheck(
        "note", "the chat template supports no system turn: its text is put into the first user turn"
    )


def check_clock(renderer: Renderer) -> TokenCheck:
    """Return whether the template reads the clock, and the time at which it is frozen."""
    if not chat_template.reads_clock(renderer.tokenizer):
        return TokenCheck("ok", "the chat template reads no clock")
    moment = chat_template.template_time(renderer.tokenizer).isoformat(" ", "seconds")
    return TokenCheck(
        "note",
        f"the chat template reads the clock: it is frozen at {moment}, in every stage and in evaluation of the model",
    )


def check_round_trip(renderer: Renderer, texts: Sequence[str]) -> TokenCheck:
    """Encode and decode plain texts and responses of the data; kept special tokens must be preserved too.

    Nothing is decoded with an encoder's tokenizer, which may drop case and accents: its unknown tokens are counted.
    """
    if isinstance(renderer, EncoderRenderer):
        return _check_unknown_tokens(renderer, [*PLAIN, *texts[:MAX_TEXTS]])

    def lost(texts: Sequence[str]) -> list[str]:
        return [
            t
            for t in texts
            if renderer.decode_response(renderer.encode_response(t)) != renderer.adjust_opened_tag(t)
        ]

    texts = texts[:MAX_TEXTS]
    spelled = Counter(token for text in texts for token in dict.fromkeys(renderer.special.find(text)))
    data = [text for text in texts if not renderer.special.find(text)]
    changed_plain, changed, changed_rare = lost(PLAIN), lost(data), lost(RARE)
    measured = (
        f"{len(changed)} of {len(data)} texts of the data and "
        f"{len(changed_plain)} of {len(PLAIN)} plain ones changed"
    )
    fix = "use the tokenizer that the model was trained with; its decoder or normaliser must not drop characters"
    if changed_plain or len(changed) > len(data) / 10:
        return TokenCheck("error", f"{measured}, as {(changed_plain or changed)[0][:40]!r}", fix)
    if spelled:
        examples = ", ".join(f"{token!r} in {count}" for token, count in spelled.most_common(3))
        keepable = [token for token in spelled if token not in renderer.special.control]
        return TokenCheck(
            "warning",
            f"of {len(texts)} responses some spell special tokens of the model ({examples}); each gets a "
            "space inserted",
            f"to keep them, set data.{KEY}: [{', '.join(map(repr, sorted(keepable)))}]"
            if keepable
            else "remove them from the responses: they end or begin turns",
        )
    if changed:
        return TokenCheck("warning", f"{measured}, as {changed[0][:40]!r}", fix)
    if changed_rare:
        return TokenCheck("note", f"{measured}; {', '.join(changed_rare)} changed")
    return TokenCheck("ok", measured)


def _check_unknown_tokens(renderer: EncoderRenderer, texts: Sequence[str]) -> TokenCheck:
    """Return the share of a text's tokens that the tokenizer does not know."""
    tokens = [token for text in texts for token in renderer.encode_response(text)]
    share = tokens.count(renderer.tokenizer.unk_token_id) / len(tokens)
    measured = f"{share:.1%} of {len(tokens):,} tokens are unknown to the encoder's tokenizer"
    if share > MAX_UNKNOWN:
        return TokenCheck(
            "error" if share > 0.5 else "warning", measured, "choose an encoder of this language"
        )
    return TokenCheck("ok", measured)


def check_tokenizer(renderer: Renderer, texts: Sequence[str]) -> list[str]:
    """Run all checks at the start of a stage; return warnings and notes, one line each.

    `texts` are responses of the data. Raises UserError for a check that fails with an error.
    """
    checks = [
        *(
            check(renderer)
            for check in (check_generation_prompt, check_end_of_turn, check_system_turn, check_clock)
        ),
        check_round_trip(renderer, texts),
    ]
    for check in checks:
        if check.level == "error":
            where = str(renderer.tokenizer.name_or_path)
            raise UserError(check.measured, where=where, fix=check.fix)
    tag = renderer.template.opened_tag if renderer.template else ""
    unclosed = [
        text for text in texts if tag and tag.replace("<", "</") not in renderer.adjust_opened_tag(text)
    ]
    if unclosed:
        problem = f"{len(unclosed)} of {len(texts)} responses never close the {tag!r} that the generation prompt opens"
        checks.append(
            TokenCheck("warning", problem, f"end the part in the tag with {tag.replace('<', '</')!r}")
        )
    warnings = [
        f"warning: {check.measured}. Fix: {check.fix}" for check in checks if check.level == "warning"
    ]
    return [*warnings, *(f"note: {check.measured}" for check in checks[2:4] if check.level == "note")]
