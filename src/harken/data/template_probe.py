"""Probe a chat template by rendering conversations with known texts."""

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
"""Nine characters: one model family accepts only that length."""
_OPENED = re.compile(r"(<\w[\w-]*>)\s*\Z")


@dataclass(frozen=True)
class ToolFormat:
    """Describe how a template formats tools.

    The role of a result, whether arguments are JSON text, and whether a call without text has no `content` key.
    """

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
    """Describe what a chat template writes."""

    supports_system: bool
    """Whether the template writes a system turn."""
    response_prefix: str
    """Text between a user's text and the response, rendered with a response."""
    generation_prompt: str
    """Text after a user's text, rendered with add_generation_prompt."""
    response_suffix: str
    """Text after a response."""
    framing: str
    """All text that it writes around a question and its response."""

    @property
    def opened_tag(self) -> str:
        """Return the tag that the generation prompt opens before a response, for example "<think>"; "" for none.

        A tag that is also in the response prefix does not count.
        """
        match = _OPENED.search(self.generation_prompt)
        if match is None or self.response_prefix == self.generation_prompt:
            return ""
        beyond = self.generation_prompt.removeprefix(self.response_prefix).strip() == match[1]
        return match[1] if beyond or match[1].replace("<", "</") in self._prefix_rest else ""

    @property
    def closing_text(self) -> str:
        """Return what the template writes between the opened tag and a response without the tag.

        For example "\\n</think>\\n\\n"; "" where the template closes no such tag.
        """
        return self._prefix_rest if self.opened_tag and "</" in self._prefix_rest else ""

    @property
    def _prefix_rest(self) -> str:
        pairs = enumerate(zip(self.generation_prompt, self.response_prefix, strict=False))
        shorter = min(len(self.generation_prompt), len(self.response_prefix))
        return self.response_prefix[next((i for i, (a, b) in pairs if a != b), shorter) :]


def probe(tokenizer: PreTrainedTokenizerBase) -> TemplateInfo:
    """Render a few conversations with the tokenizer's chat template and search the result for their texts.

    Raises UserError when the text of a user or an assistant is dropped, repeated, or out of order: training would run
    without the content of the rows. Raises TemplateRefusal when not even a question can be rendered.
    """
    sentinels = _sentinels(str(tokenizer.chat_template))
    question = [_message("user", sentinels[0])]
    prompt = render(tokenizer, question, add_generation_prompt=True)
    rendered = render(tokenizer, [*question, _message("assistant", sentinels[1])])
    other = render(tokenizer, [_message("user", sentinels[2])], add_generation_prompt=True)
    _require_order(tokenizer, prompt, [sentinels[0]], "a user's turn", "user")
    _require_order(tokenizer, rendered, sentinels[:2], "a user's turn and a response", "user", "assistant")
    if rendered.count(sentinels[1]) > 1:
        raise _template_error(tokenizer, "writes the text of a response more than once")
    if _encode(tokenizer, prompt) == _encode(tokenizer, other):
        raise UserError(
            "two different questions become the same tokens",
            where=str(tokenizer.name_or_path),
            fix="use the tokenizer that the model was trained with",
        )
    try:
        turns = [*question, _message("assistant", sentinels[1]), _message("user", sentinels[2])]
        _require_order(
            tokenizer,
            render(tokenizer, turns, add_generation_prompt=True),
            sentinels[:3],
            "a conversation of three turns",
            *("user", "assistant", "user"),
        )
    except TemplateRefusal:
        pass  # a single-turn model: rows with more turns are counted when they are dropped
    first, header = rendered.split(sentinels[0])[0], rendered.split(sentinels[0])[-1].split(sentinels[1])[0]
    after = rendered.rpartition(sentinels[1])[2]
    before_user = prompt.rpartition(sentinels[0])[2]
    info = TemplateInfo(
        _supports_system(tokenizer, sentinels),
        header,
        before_user,
        after,
        "\0".join((first, header, after, before_user)),
    )
    tag = info.opened_tag
    return (
        replace(info, framing=info.framing.replace(tag, "").replace(tag.replace("<", "</"), ""))
        if tag
        else info
    )


def probe_tool_format(tokenizer: PreTrainedTokenizerBase) -> ToolFormat:
    """Find the format in which the tokenizer's chat template takes tool calls and their results.

    Raises TemplateRefusal, with the template's own message if any, when it renders them in no format.
    """
    sentinels = _sentinels(str(tokenizer.chat_template))
    refusal: TemplateRefusal | None = None
    for form in TOOL_FORMATS:
        call = {"name": sentinels[1], "arguments": format_arguments({sentinels[2]: sentinels[3]}, form)}
        tool_call = {"id": _CALL_ID, "type": "function", "function": call}
        turn = {"role": "assistant", "tool_calls": [tool_call]}
        schema = {
            "name": sentinels[1],
            "description": sentinels[5],
            "parameters": {"type": "object", "properties": {}},
        }
        turns: list[dict[str, Any]] = [
            _message("user", sentinels[0]),
            turn if form.omit_empty_content else turn | {"content": ""},
            _message(form.role, sentinels[4]) | {"tool_call_id": _CALL_ID, "name": sentinels[1]},
        ]
        try:
            tools = [{"type": "function", "function": schema}]
            text = render(tokenizer, turns, tools=tools, add_generation_prompt=True)
        except TemplateRefusal as error:
            refusal = refusal or error
            continue
        if all(word in text for word in sentinels[:6]) and f'\\"{sentinels[2]}' not in text:
            return form
    reason = refusal.message if refusal else "it leaves out the tools, their calls, or their results"
    raise TemplateRefusal(
        f"the chat template does not support tool calls ({reason})",
        reason,
        where=str(tokenizer.name_or_path),
        fix="remove rows with tools, or use a model whose template supports them",
    )


def format_arguments(arguments: object, form: ToolFormat) -> object:
    """Return the arguments of a call as an object or as JSON text."""
    return json.dumps(arguments, ensure_ascii=False) if form.arguments_as_json else arguments


def reaches(text: str, rendered: str, role: str) -> bool:
    """Return whether a turn's text is in the rendered conversation.

    Templates strip white space, write tool results as JSON, and drop an assistant's reasoning before its response.
    """
    content = text.strip()
    if not content or content in rendered:
        return True
    if role == "assistant" and content.rpartition("</think>")[2].strip() in rendered:
        return True
    letters = _ESCAPE.sub("", rendered)
    return any(_ESCAPE.sub("", form) in letters for form in (content, json.dumps(content)))


def _supports_system(tokenizer: PreTrainedTokenizerBase, sentinels: Sequence[str]) -> bool:
    try:
        text = render(
            tokenizer,
            [_message("system", sentinels[3]), _message("user", sentinels[0])],
            add_generation_prompt=True,
        )
    except TemplateRefusal:
        return False
    if sentinels[0] not in text:
        raise _template_error(tokenizer, "leaves out the user's text after a system turn")
    return sentinels[3] in text


def _require_order(
    tokenizer: PreTrainedTokenizerBase, text: str, sentinels: Sequence[str], context: str, *roles: str
) -> None:
    places = [text.find(word) for word in sentinels]
    for role, place in zip(roles, places, strict=True):
        if place < 0:
            raise _template_error(tokenizer, f"leaves out the text of the {role} turn in {context}")
    if places != sorted(places):
        raise _template_error(tokenizer, f"changes the order of the turns in {context}")


def _template_error(tokenizer: PreTrainedTokenizerBase, problem: str) -> UserError:
    return UserError(f"the chat template {problem}", where=str(tokenizer.name_or_path), fix=FIX)


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _sentinels(template: str) -> list[str]:
    """Return six words of seven letters that occur in no template, deterministic for a template."""
    digest = hashlib.sha256(template.encode()).digest()
    letters = [chr(ord("a") + byte % 26) for byte in digest + hashlib.sha256(digest).digest()]
    return ["".join(letters[7 * i : 7 * i + 7]) for i in range(6)]
