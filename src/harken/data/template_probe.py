"""What a chat template does with a conversation, found out by conversations whose texts are known."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harken.chat.template import FIX, TemplateRefusal, render
from harken.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ESCAPE = re.compile(r'\\u[0-9a-fA-F]{4}|\\[nrtbf"\\/]|[\W_]+')
_CALL_ID = "call00001"
"""Nine letters: one family takes no others."""
_OPENED = re.compile(r"(<\w[\w-]*>)\s*\Z")


@dataclass(frozen=True)
class ToolForm:
    """How a template takes tools: the role of a result, whether arguments are JSON text, whether a call that says
    nothing has no content at all."""

    role: str = "tool"
    arguments_as_text: bool = False
    without_content: bool = True


TOOL_FORMS = tuple(
    ToolForm(role, as_text, without)
    for role in ("tool", "ipython", "function")
    for as_text in (False, True)
    for without in (True, False)
)
"""Tried in this order; the first is what transformers documents."""


@dataclass(frozen=True)
class Template:
    """What a chat template was found to do."""

    system: bool
    """Whether it writes a system turn."""
    header: str
    """What stands between a user's text and the response when the response is there."""
    asked: str
    """What stands after a user's text when a response is asked for."""
    after: str
    """What follows a response."""
    framing: str
    """All that it writes around the texts of a question and its response."""

    @property
    def opened_tag(self) -> str:
        """The tag that the generation prompt opens before a response, for example "<think>"; "" for none.

        A tag that always stands there is the header's own.
        """
        found = _OPENED.search(self.asked)
        if found is None or self.header == self.asked:
            return ""
        beyond = self.asked.removeprefix(self.header).strip() == found[1]
        return found[1] if beyond or found[1].replace("<", "</") in self._rest else ""

    @property
    def closes(self) -> str:
        """What the template writes between the opened tag and a response that says nothing of it, for example
        "\n</think>\n\n"; "" where it writes no such tag with a response."""
        return self._rest if self.opened_tag and "</" in self._rest else ""

    @property
    def _rest(self) -> str:
        pairs = enumerate(zip(self.asked, self.header, strict=False))
        shorter = min(len(self.asked), len(self.header))
        return self.header[next((i for i, (a, b) in pairs if a != b), shorter) :]


def probe(tokenizer: PreTrainedTokenizerBase) -> Template:
    """Write a few conversations with the tokenizer's chat template and look for their texts.

    Raises UserError when the text of a user or an assistant is lost, repeated, or in another place: training would
    run, and learn nothing of what the rows say. Raises TemplateRefusal when not even a question can be written.
    """
    said = _sentinels(str(tokenizer.chat_template))
    asking = [_turn("user", said[0])]
    asked = render(tokenizer, asking, answer_next=True)
    whole = render(tokenizer, [*asking, _turn("assistant", said[1])])
    other = render(tokenizer, [_turn("user", said[2])], answer_next=True)
    _require(tokenizer, asked, [said[0]], "a user's turn", "user")
    _require(tokenizer, whole, said[:2], "a user's turn and a response", "user", "assistant")
    if whole.count(said[1]) > 1:
        raise _lost(tokenizer, "writes the text of a response more than once")
    if _ids(tokenizer, asked) == _ids(tokenizer, other):
        raise UserError(
            "two different questions become the same tokens",
            where=str(tokenizer.name_or_path),
            fix="use the tokenizer the model was trained with",
        )
    try:
        turns = [*asking, _turn("assistant", said[1]), _turn("user", said[2])]
        _require(
            tokenizer,
            render(tokenizer, turns, answer_next=True),
            said[:3],
            "a conversation of three turns",
            *("user", "assistant", "user"),
        )
    except TemplateRefusal:
        pass  # a model of single turns: rows with more are counted
    first, header = whole.split(said[0])[0], whole.split(said[0])[-1].split(said[1])[0]
    after = whole.rpartition(said[1])[2]
    left = asked.rpartition(said[0])[2]
    found = Template(
        _takes_system(tokenizer, said), header, left, after, "\0".join((first, header, after, left))
    )
    tag = found.opened_tag
    return (
        replace(found, framing=found.framing.replace(tag, "").replace(tag.replace("<", "</"), ""))
        if tag
        else found
    )


def tool_form(tokenizer: PreTrainedTokenizerBase) -> ToolForm:
    """How the tokenizer's chat template takes tool calls and their results.

    Raises TemplateRefusal, with the template's own message where it has one, when it writes them in no form.
    """
    said = _sentinels(str(tokenizer.chat_template))
    refusal: TemplateRefusal | None = None
    for form in TOOL_FORMS:
        call = {"name": said[1], "arguments": as_given({said[2]: said[3]}, form)}
        named = {"id": _CALL_ID, "type": "function", "function": call}
        turn = {"role": "assistant", "tool_calls": [named]}
        schema = {"name": said[1], "description": said[5], "parameters": {"type": "object", "properties": {}}}
        turns: list[dict[str, Any]] = [
            _turn("user", said[0]),
            turn if form.without_content else turn | {"content": ""},
            _turn(form.role, said[4]) | {"tool_call_id": _CALL_ID, "name": said[1]},
        ]
        try:
            tools = [{"type": "function", "function": schema}]
            text = render(tokenizer, turns, tools=tools, answer_next=True)
        except TemplateRefusal as error:
            refusal = refusal or error
            continue
        if all(word in text for word in said[:6]) and f'\\"{said[2]}' not in text:
            return form
    reason = refusal.said if refusal else "it leaves out the tools, their calls, or what they return"
    raise TemplateRefusal(
        f"the chat template writes no tool calls ({reason})",
        reason,
        where=str(tokenizer.name_or_path),
        fix="leave rows with tools out, or use a model whose template takes them",
    )


def as_given(arguments: object, form: ToolForm) -> object:
    """The arguments of a call as an object or as JSON text."""
    return json.dumps(arguments, ensure_ascii=False) if form.arguments_as_text else arguments


def reaches(text: str, written: str, role: str) -> bool:
    """Whether a turn's text stands in what the template wrote.

    Templates trim, write tool results as JSON, and drop what an assistant thought before its response.
    """
    said = text.strip()
    if not said or said in written:
        return True
    if role == "assistant" and said.rpartition("</think>")[2].strip() in written:
        return True
    letters = _ESCAPE.sub("", written)
    return any(_ESCAPE.sub("", form) in letters for form in (said, json.dumps(said)))


def _takes_system(tokenizer: PreTrainedTokenizerBase, said: Sequence[str]) -> bool:
    try:
        text = render(tokenizer, [_turn("system", said[3]), _turn("user", said[0])], answer_next=True)
    except TemplateRefusal:
        return False
    if said[0] not in text:
        raise _lost(tokenizer, "leaves out the user's text after a system turn")
    return said[3] in text


def _require(
    tokenizer: PreTrainedTokenizerBase, text: str, said: Sequence[str], what: str, *roles: str
) -> None:
    places = [text.find(word) for word in said]
    for role, place in zip(roles, places, strict=True):
        if place < 0:
            raise _lost(tokenizer, f"leaves out the text of the {role} turn in {what}")
    if places != sorted(places):
        raise _lost(tokenizer, f"changes the order of the turns in {what}")


def _lost(tokenizer: PreTrainedTokenizerBase, what: str) -> UserError:
    return UserError(f"the chat template {what}", where=str(tokenizer.name_or_path), fix=FIX)


def _turn(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _sentinels(template: str) -> list[str]:
    """Six words of seven letters that no template holds, the same for the same template."""
    digest = hashlib.sha256(template.encode()).digest()
    letters = [chr(ord("a") + byte % 26) for byte in digest + hashlib.sha256(digest).digest()]
    return ["".join(letters[7 * i : 7 * i + 7]) for i in range(6)]
