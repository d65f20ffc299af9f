"""Checks of the tokenizer and its chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harken.doctor.check import ALL, Check, check
from harken.doctor.finding import Seen, error, note, ok, warning
from harken.doctor.subject import Row, Subject
from harken.records import Demonstration, Message, Preference, Prompt
from harken.run import stored

ASKED, ANSWER = "Name a colour.", "Blue."
PLAIN = ("Blue.", "One, two; three!\nFour: (5 + 6) = 11?", 'She said: "No."')
RARE = ("naïve café", "Straße, Ærø", "日本語", "🙂")
TEXTS = 64
"""Texts of the data that are encoded and decoded."""


@check(
    ALL,
    what="pad against eos and the end of a turn",
    why="A pad that ends turns is masked with them: the model is never taught to stop, or stops being scored there.",
    items="P1, P8",
)
def pad_is_no_end(subject: Subject) -> Seen:
    """Harken replaces a pad that ends something; what it took is told."""
    tokenizer, renderer = subject.renderer.tokenizer, subject.renderer
    ends = {renderer.end_of_turn: tokenizer.convert_ids_to_tokens(renderer.end_of_turn)}
    if tokenizer.eos_token_id is not None:
        ends[tokenizer.eos_token_id] = tokenizer.eos_token
    named = ", ".join(f"{token!r} ({number})" for number, token in ends.items())
    measured = f"pad {tokenizer.pad_token!r} ({renderer.pad}), ends {named}"
    own = _own_pad(subject)
    if own is not None and own != tokenizer.pad_token:
        return note(f"{measured}; the folder's own pad {own!r} ends a turn and is not used")
    return ok(measured)


@check(
    ALL,
    what="whether the prompt of an answer is the beginning of the conversation with that answer",
    why="The policy must be asked in the very words it was tuned on, up to the first token of its answer.",
    items="P2, P7",
)
def generation_prompt(subject: Subject) -> Seen:
    """With the header of the answer, as text and as tokens."""
    tokenizer = subject.renderer.tokenizer
    if not tokenizer.chat_template:
        return note("no chat template: turns are written as Human: and Assistant:", "use an instruct model")
    whole, asked = _written(tokenizer, answered=True), _written(tokenizer, answered=False)
    if not whole.startswith(asked):
        return error(
            f"the template asks with {asked[-40:]!r}, but writes {_there(whole, asked)!r} there with an answer",
            "mend chat_template: add_generation_prompt must write what stands before an answer",
        )
    between = whole[len(asked) :].partition(ANSWER)[0]
    if between.strip():
        bare = tokenizer.apply_chat_template([_turn("user", ASKED)], tokenize=False)
        if bare == asked:
            return error(
                f"add_generation_prompt writes nothing, and {between!r} is missing before the answer",
                "mend chat_template: write the assistant's header when add_generation_prompt is set",
            )
        return warning(
            f"with an answer the template writes {between!r} before it, and asks without it",
            "mend chat_template, or know that Harken trains and samples without that text",
        )
    renderer = subject.renderer
    ours = [*renderer.prompt([Message("user", ASKED)]), *renderer.response(ANSWER)]
    theirs = tokenizer(whole, add_special_tokens=False)["input_ids"][: len(ours)]
    if ours != theirs:
        return note("the answer's first token depends on the header before it: Harken encodes them apart")
    return ok(f"{len(renderer.prompt([Message('user', ASKED)]))} tokens ask, then the answer begins")


@check(
    ALL,
    what="the token the template ends an answer with, against eos",
    why="An end that is taught and an end that is looked for must be the same token, or answers never stop.",
    items="P2, P8",
)
def end_of_turn(subject: Subject) -> Seen:
    """Either of the two ends an answer; the first is what is taught."""
    renderer = subject.renderer
    tokenizer = renderer.tokenizer
    end = tokenizer.convert_ids_to_tokens(renderer.end_of_turn)
    if not tokenizer.chat_template:
        return ok(f"{end!r} (eos) ends an answer")
    after = _written(tokenizer, answered=True).rpartition(ANSWER)[2]
    if end not in after:
        return warning(
            f"the template writes {after!r} after an answer and no special token; eos {end!r} is taught instead",
            "mend chat_template: end the assistant's turn with its token",
        )
    if renderer.end_of_turn != tokenizer.eos_token_id:
        return note(f"{end!r} ends a turn, and so does eos {tokenizer.eos_token!r}")
    return ok(f"{end!r} ends a turn and is eos")


@check(
    ALL,
    what="text → tokens → text, on plain texts and on answers of the data",
    why="Rewards, judges and pages read the decoded answer: what the tokenizer loses, they never see.",
    items="P7",
)
def round_trip(subject: Subject) -> Seen:
    """Texts that spell a special token are left out: they are changed on purpose."""
    renderer = subject.renderer

    def lost(texts: Sequence[str]) -> list[str]:
        return [text for text in texts if renderer.text(renderer.response(text, ended=False)) != text]

    special = renderer.tokenizer.all_special_tokens
    data = [text for row in subject.sample[:TEXTS] for text in _texts(row)][:TEXTS]
    data = [text for text in data if not any(token in text for token in special)]
    plain, own, rare = lost(PLAIN), lost(data), lost(RARE)
    measured = (
        f"{len(own)} of {len(data)} texts of the data and {len(plain)} of {len(PLAIN)} plain ones changed"
    )
    mend = (
        "use the tokenizer the model was trained with; no decoder or normaliser may drop or fold characters"
    )
    if plain or len(own) > len(data) / 10:
        return error(f"{measured}, as {(plain or own)[0][:40]!r}", mend)
    if own:
        return warning(f"{measured}, as {own[0][:40]!r}", mend)
    if rare:
        return note(f"{measured}; {', '.join(rare)} changed")
    return ok(measured)


def _own_pad(subject: Subject) -> str | None:
    """The pad token that the model's folder names."""
    path = subject.source.folder / "tokenizer_config.json"
    said = stored.read_object(path).get("pad_token") if path.exists() else None
    said = said.get("content") if isinstance(said, dict) else said
    return said if isinstance(said, str) else None


def _written(tokenizer: Any, *, answered: bool) -> str:
    turns = [_turn("user", ASKED)] + ([_turn("assistant", ANSWER)] if answered else [])
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=not answered))


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _there(whole: str, asked: str) -> str:
    """What stands in `whole` from where it leaves `asked`."""
    same = next((i for i, (a, b) in enumerate(zip(whole, asked, strict=False)) if a != b), len(whole))
    return whole[same : same + 40]


def _texts(row: Row) -> list[str]:
    if isinstance(row, Demonstration):
        return [row.response]
    if isinstance(row, Preference):
        return [row.chosen, row.rejected]
    return [row.last_user_message] if isinstance(row, Prompt) else []


TOKENS: tuple[Check, ...] = (pad_is_no_end, generation_prompt, end_of_turn, round_trip)
