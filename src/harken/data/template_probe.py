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
class ToolFormat:
    """How a template takes tools: the role of a result, whether arguments are JSON text, whether a call that says
    nothing has no content at all."""

    role: str = "tool"
    arguments_as_json: bool = False
    omit_empty_content: bool = True


TOOL_FORMATS = tuple(
    ToolFormat(role, as_text, without)
    for role in ("tool", "ipython", "function")
    for as_text in (False, True)
    for without in (True, False)
)
"""Tried in this order; the first is what transformers documents."""


@dataclass(frozen=True)
class TemplateInfo:
    """What a chat template was found to do."""

    supports_system: bool
    """Whether it writes a system turn."""
    response_prefix: str
    """What stands between a user's text and the response when the response is there."""
    generation_prompt: str
    """What stands after a user's text when a response is asked for."""
    response_suffix: str
    """What follows a response."""
    framing: str
    """All that it writes around the texts of a question and its response."""

    @property
    def opened_tag(self) -> str:
        """The tag that the generation prompt opens before a response, for example "<think>"; "" for none.

        A tag that always stands there is the header's own.
        """
        found = _OPENED.search(self.generation_prompt)
        if found is None or self.response_prefix == self.generation_prompt:
            return ""
        beyond = self.generation_prompt.removeprefix(self.response_prefix).strip() == found[1]
        return found[1] if beyond or found[1].replace("<", "</") in self._prefix_rest else ""

    @property
    def closing_text(self) -> str:
        """What the template writes between the opened tag and a response that says nothing of it, for example
        "\n</think>\n\n"; "" where it writes no such tag with a response."""
        return self._prefix_rest if self.opened_tag and "</" in self._prefix_rest else ""

    @property
    def _prefix_rest(self) -> str:
        pairs = enumerate(zip(self.generation_prompt, self.response_prefix, strict=False))
        shorter = min(len(self.generation_prompt), len(self.response_prefix))
        return self.response_prefix[next((i for i, (a, b) in pairs if a != b), shorter) :]


def probe(tokenizer: PreTrainedTokenizerBase) -> TemplateInfo:
    """Write a few conversations with the tokenizer's chat template and look for their texts.

    Raises UserError when the text of a user or an assistant is lost, repeated, or in another place: training would
    run, and learn nothing of what the rows say. Raises TemplateRefusal when not even a question can be written.
    """
    said = _sentinels(str(tokenizer.chat_template))
    asking = [_message("user", said[0])]
    asked = render(tokenizer, asking, add_generation_prompt=True)
    whole = render(tokenizer, [*asking, _message("assistant", said[1])])
    other = render(tokenizer, [_message("user", said[2])], add_generation_prompt=True)
    _require_order(tokenizer, asked, [said[0]], "a user's turn", "user")
    _require_order(tokenizer, whole, said[:2], "a user's turn and a response", "user", "assistant")
    if whole.count(said[1]) > 1:
        raise _template_error(tokenizer, "writes the text of a response more than once")
    if _encode(tokenizer, asked) == _encode(tokenizer, other):
        raise UserError(
            "two different questions become the same tokens",
            where=str(tokenizer.name_or_path),
            fix="use the tokenizer the model was trained with",
        )
    try:
        turns = [*asking, _message("assistant", said[1]), _message("user", said[2])]
        _require_order(
            tokenizer,
            render(tokenizer, turns, add_generation_prompt=True),
            said[:3],
            "a conversation of three turns",
            *("user", "assistant", "user"),
        )
    except TemplateRefusal:
        pass  # a model of single turns: rows with more are counted
    first, header = whole.split(said[0])[0], whole.split(said[0])[-1].split(said[1])[0]
    after = whole.rpartition(said[1])[2]
    left = asked.rpartition(said[0])[2]
    found = TemplateInfo(
        _supports_system(tokenizer, said), header, left, after, "\0".join((first, header, after, left))
    )
    tag = found.opened_tag
    return (
        replace(found, framing=found.framing.replace(tag, "").replace(tag.replace("<", "</"), ""))
        if tag
        else found
    )


def probe_tool_format(tokenizer: PreTrainedTokenizerBase) -> ToolFormat:
    """How the tokenizer's chat template takes tool calls and their results.

    Raises TemplateRefusal, with the template's own message where it has one, when it writes them in no form.
    """
    said = _sentinels(str(tokenizer.chat_template))
    refusal: TemplateRefusal | None = None
    for form in TOOL_FORMATS:
        call = {"name": said[1], "arguments": format_arguments({said[2]: said[3]}, form)}
        named = {"id": _CALL_ID, "type": "function", "function": call}
        turn = {"role": "assistant", "tool_calls": [named]}
        schema = {"name": said[1], "description": said[5], "parameters": {"type": "object", "properties": {}}}
        turns: list[dict[str, Any]] = [
            _message("user", said[0]),
            turn if form.omit_empty_content else turn | {"content": ""},
            _message(form.role, said[4]) | {"tool_call_id": _CALL_ID, "name": said[1]},
        ]
        try:
            tools = [{"type": "function", "function": schema}]
            text = render(tokenizer, turns, tools=tools, add_generation_prompt=True)
        except TemplateRefusal as error:
            refusal = refusal or error
            continue
        if all(word in text for word in said[:6]) and f'\\"{said[2]}' not in text:
            return form
    reason = refusal.message if refusal else "it leaves out the tools, their calls, or what they return"
    raise TemplateRefusal(
        f"the chat template writes no tool calls ({reason})",
        reason,
        where=str(tokenizer.name_or_path),
        fix="leave rows with tools out, or use a model whose template takes them",
    )


def format_arguments(arguments: object, form: ToolFormat) -> object:
    """The arguments of a call as an object or as JSON text."""
    return json.dumps(arguments, ensure_ascii=False) if form.arguments_as_json else arguments


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


def _supports_system(tokenizer: PreTrainedTokenizerBase, said: Sequence[str]) -> bool:
    try:
        text = render(
            tokenizer, [_message("system", said[3]), _message("user", said[0])], add_generation_prompt=True
        )
    except TemplateRefusal:
        return False
    if said[0] not in text:
        raise _template_error(tokenizer, "leaves out the user's text after a system turn")
    return said[3] in text


def _require_order(
    tokenizer: PreTrainedTokenizerBase, text: str, said: Sequence[str], what: str, *roles: str
) -> None:
    places = [text.find(word) for word in said]
    for role, place in zip(roles, places, strict=True):
        if place < 0:
            raise _template_error(tokenizer, f"leaves out the text of the {role} turn in {what}")
    if places != sorted(places):
        raise _template_error(tokenizer, f"changes the order of the turns in {what}")


def _template_error(tokenizer: PreTrainedTokenizerBase, what: str) -> UserError:
    return UserError(f"the chat template {what}", where=str(tokenizer.name_or_path), fix=FIX)


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _sentinels(template: str) -> list[str]:
    """Six words of seven letters that no template holds, the same for the same template."""
    digest = hashlib.sha256(template.encode()).digest()
    letters = [chr(ord("a") + byte % 26) for byte in digest + hashlib.sha256(digest).digest()]
    return ["".join(letters[7 * i : 7 * i + 7]) for i in range(6)]
