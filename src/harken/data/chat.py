"""Encode messages as tokens, for training, rollouts and scoring alike.

A sequence is prompt tokens + response tokens, encoded separately, so that a model is trained on exactly the prompt
tokens that it samples from. Text that spells a special token of the model ("<|im_end|>" in a user turn) gets a space
after its first character before it is rendered: it stays text, and cannot end or begin a turn. Chat markup of other
model families is plain text to this tokenizer. Responses keep the special tokens that `data.keep_special_tokens` names.

Where a template supports no system turn, the system text is put at the beginning of the first user turn. A template
that drops the text of a turn is refused (see `template_probe`).

A tokenizer without a chat template gets "\\n\\nHuman: …\\n\\nAssistant:", and " " before the response.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harken.chat import template as chat_template
from harken.chat.template import TemplateRefusal
from harken.chat.turn_end import find_end_of_turn, padding_id
from harken.data import template_probe
from harken.data.markup import row_responses
from harken.data.report import REASONS
from harken.data.special_tokens import SpecialTokens
from harken.errors import UserError, third_party_errors
from harken.records import Demonstration, Message, Preference, Prompt, TokenDemonstration, TokenPair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BOS_PROBE = "a probe"
_FIX_TOKENIZER = "copy or download the folder of its tokenizer again"
_SPEAKERS = {"system": "System", "user": "Human", "assistant": "Assistant", "tool": "Tool"}
_TURN_OF_FALLBACK = re.compile(r"\n+(?=\n(?:System|Human|Assistant|Tool):)")

SYSTEM_MERGED = "system turn merged into the first user turn: the chat template supports none"
TAG_CLOSED = (
    "the generation prompt opens a tag that the response does not close: closed as the template closes it"
)
TAG_DEDUPLICATED = "the response repeated the tag that the generation prompt opens: written once"


@dataclass(frozen=True)
class RenderFailure:
    """Reason why a record cannot be encoded: one of `report.REASONS`, and the chat template's own message."""

    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"{self.reason!r} is not a reason in harken.data.report.REASONS")


class Renderer:
    """Encode and decode conversations with a tokenizer and its chat template.

    `end_of_turn` is the token the template writes right after an assistant turn (eos where it writes none), `pad` the
    padding id, which is not an end token. Raises UserError when no token ends a turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, keep: bool | Sequence[str] | None = None) -> None:
        """Probe the chat template. `keep`: special tokens that responses keep; None: those the tokenizer records."""
        self.tokenizer = tokenizer
        self.template = template_probe.probe(tokenizer) if tokenizer.chat_template else None
        self._start = self._encode_start()
        self.end_of_turn = self._end_of_turn_token()
        self.pad = padding_id(tokenizer.pad_token_id, (tokenizer.eos_token_id, self.end_of_turn))
        ends = {self.end_of_turn} | ({tokenizer.eos_token_id} - {None})
        framing = self.template.framing if self.template else ""
        self.special = SpecialTokens(tokenizer, ends, framing)
        if keep is not None:
            self.special.keep(keep)
            self.special = SpecialTokens(tokenizer, ends, framing)

    def encode_prompt(self, messages: Sequence[Message], tools: str = "") -> list[int]:
        """Encode the conversation with the generation prompt. `tools` is JSON, as in Prompt.

        Raises TemplateRefusal when the chat template refuses it (some need alternating roles), or drops the text of a
        turn.
        """
        lead = [] if self.tokenizer.chat_template else self._start
        return [*lead, *self._encode(self._render(messages, tools))]

    def try_fit_prompt(self, prompt: Prompt, limit: int) -> list[int] | RenderFailure:
        """Encode the prompt in at most `limit` tokens as `fit_prompt` does, or return why it cannot be encoded."""
        try:
            fitted = self.fit_prompt(prompt.messages, limit, prompt.tools)
        except TemplateRefusal as error:
            return RenderFailure("template_refuses", error.message)
        return fitted[0] if fitted else RenderFailure("prompt_too_long")

    def changes(self, row: Prompt | Demonstration | Preference) -> list[str]:
        """Describe how the rendered row differs from its source, in fixed phrases that can be counted."""
        prompt = row if isinstance(row, Prompt) else row.prompt
        changes = [SYSTEM_MERGED] if self._merges_system(prompt.messages) else []
        for text in row_responses(row):
            adjusted = self.adjust_opened_tag(text)
            if adjusted != text:
                changes.append(TAG_CLOSED if adjusted.endswith(text) else TAG_DEDUPLICATED)
        return list(dict.fromkeys(changes))

    def fit_prompt(
        self, messages: Sequence[Message], limit: int, tools: str = ""
    ) -> tuple[list[int], int] | None:
        """Encode the conversation in at most `limit` tokens; also return how many turns were dropped.

        The oldest turns are dropped first (never a system turn or the last user turn; the rest begins with a user
        turn). If the last user turn alone is too long, its beginning is truncated; the system turn and the generation
        prompt are never truncated. None when no token of the user's text would be left. Raises as `encode_prompt` does.
        """
        if not messages:
            return None
        system = [m for m in messages if m.role == "system"]
        turns = [m for m in messages if m.role != "system"]
        tokens = self.encode_prompt(messages, tools)
        dropped = 0
        while len(tokens) > limit and (shortened := _from_next_user_turn(turns)):
            dropped += len(turns) - len(shortened)
            turns = shortened
            tokens = self.encode_prompt([*system, *turns], tools)
        if len(tokens) <= limit:
            return tokens, dropped
        if len(turns) != 1:  # a tool result comes last, and its call must be kept
            return None
        return self._truncate_last_turn(system, turns, limit, dropped, tools)

    def encode_response(self, text: str, ended: bool = True) -> list[int]:
        """Encode a response, with the end-of-turn token if it `ended`: a truncated one gets none."""
        lead = "" if self.tokenizer.chat_template else " "
        tokens = self._encode(lead + self._escape(self.adjust_opened_tag(text, ended), response=True))
        return [*tokens, self.end_of_turn] if ended else tokens

    def adjust_opened_tag(self, text: str, ended: bool = True) -> str:
        """Adjust a response to a generation prompt that opens a tag such as "<think>".

        The opening tag is removed from the response. A response that `ended` without closing the tag gets the text
        with which the template closes it.
        """
        tag = self.template.opened_tag if self.template else ""
        if not tag:
            return text
        assert self.template is not None
        if text.lstrip().startswith(tag):
            remainder = text.lstrip().removeprefix(tag)
            return (
                remainder.removeprefix("\n") if self.template.generation_prompt.endswith("\n") else remainder
            )
        closed = not ended or tag.replace("<", "</") in text
        return text if closed else self.template.closing_text + text

    def encode_demonstration(self, row: Demonstration, max_length: int) -> TokenDemonstration | RenderFailure:
        """Encode prompt and response; the loss is computed on the response and its end-of-turn token.

        For plain text (no messages) the loss is computed on every token but the first. The prompt is shortened as in
        `fit_prompt` to fit; the response is not.
        """
        if not row.prompt.messages:
            tokens = (
                *self._start,
                *self._encode(self._escape(row.response, response=True)),
                self.end_of_turn,
            )
            if len(tokens) > max_length:
                return RenderFailure("response_too_long")
            return TokenDemonstration(
                row.prompt.id, tokens, (False, *[True] * (len(tokens) - 1)), row.desirable,
                row.prompt.domain, row.prompt.language,
            )  # fmt: skip
        response = self.encode_response(row.response)
        prompt = self._fit_prompt_to(row.prompt, max_length - len(response))
        if isinstance(prompt, RenderFailure):
            return prompt
        response_mask = (*[False] * len(prompt), *[True] * len(response))
        return TokenDemonstration(
            row.prompt.id, (*prompt, *response), response_mask, row.desirable,
            row.prompt.domain, row.prompt.language,
        )  # fmt: skip

    def encode_preference(self, row: Preference | TokenPair, max_length: int) -> TokenPair | RenderFailure:
        """Encode both sides after the same prompt, shortened for the longer side. A TokenPair is only checked."""
        if isinstance(row, TokenPair):
            return self._check_pair(row, max_length)
        chosen, rejected = self.encode_response(row.chosen), self.encode_response(row.rejected)
        prompt = self._fit_prompt_to(row.prompt, max_length - max(len(chosen), len(rejected)))
        if isinstance(prompt, RenderFailure):
            return prompt
        return TokenPair(
            id=row.prompt.id,
            chosen_tokens=(*prompt, *chosen),
            rejected_tokens=(*prompt, *rejected),
            label=row.label,
            strength=row.strength,
            domain=row.prompt.domain,
            language=row.prompt.language,
            prompt_length=len(prompt),
        )

    def count_tokens(self, row: Demonstration | Preference) -> int:
        """Count the tokens of a record (of its longer side) before shortening."""
        prompt = (
            len(self.encode_prompt(row.prompt.messages, row.prompt.tools))
            if row.prompt.messages
            else len(self._start)
        )
        return prompt + max(len(self.encode_response(response)) for response in row_responses(row))

    def decode_response(self, tokens: Sequence[int]) -> str:
        """Decode a response, without special tokens except those that responses keep."""
        with third_party_errors(
            "the tokenizer cannot decode tokens", str(self.tokenizer.name_or_path), _FIX_TOKENIZER
        ):
            text = self.special.decode(tokens)
        return text if self.tokenizer.chat_template else text.removeprefix(" ")

    @cached_property
    def _tool_format(self) -> template_probe.ToolFormat:
        return template_probe.probe_tool_format(self.tokenizer)

    def _fit_prompt_to(self, prompt: Prompt, limit: int) -> list[int] | RenderFailure:
        fitted = self.try_fit_prompt(prompt, limit)
        return RenderFailure("response_too_long") if fitted == RenderFailure("prompt_too_long") else fitted

    def _truncate_last_turn(
        self, system: Sequence[Message], turns: Sequence[Message], limit: int, dropped: int, tools: str
    ) -> tuple[list[int], int] | None:
        """Truncate the beginning of the one turn left until the prompt fits.

        Re-encoding a truncated text may take more tokens than were kept, so this repeats until it fits.
        """
        last = turns[-1]
        content = self._encode(self._escape(last.content))
        keep = len(content) - (len(self.encode_prompt([*system, *turns], tools)) - limit)
        while keep > 0:
            remainder = self.tokenizer.decode(content[-keep:], clean_up_tokenization_spaces=False)
            # Truncation may split a character of several tokens.
            truncated = Message(last.role, str(remainder).lstrip("\ufffd"))
            tokens = self.encode_prompt([*system, truncated], tools)
            if len(tokens) <= limit:
                return (tokens, dropped) if truncated.content.strip() else None
            keep -= len(tokens) - limit
        return None

    def _render(self, messages: Sequence[Message], tools: str) -> str:
        if self._merges_system(messages):
            messages = _merged(messages)
        if self.template is None:
            if tools or any(m.role == "tool" or m.extra for m in messages):
                reason = "a model without a chat template cannot take tools"
                raise TemplateRefusal(reason, reason, fix="remove rows with tools, or use an instruct model")
            rendered = [f"\n\n{_SPEAKERS[m.role]}: {self._escape(m.content)}" for m in messages]
            return "".join(rendered) + "\n\nAssistant:"
        turns = [self._template_message(message) for message in messages]
        offered = self._escape_json(json.loads(tools)) if tools else None
        text = chat_template.render(self.tokenizer, turns, tools=offered, add_generation_prompt=True)
        for message, turn in zip(messages, turns, strict=True):
            if not template_probe.reaches(turn.get("content", ""), text, message.role):
                reason = f"it leaves out the text of a {message.role} turn"
                raise TemplateRefusal(
                    f"the chat template does not write this conversation: {reason}",
                    reason,
                    where=str(self.tokenizer.name_or_path),
                    fix="remove such turns, or use a model whose template writes them",
                )
        return text

    def _template_message(self, message: Message) -> dict[str, Any]:
        """Convert a turn to the form that the template takes, with special tokens escaped."""
        turn: dict[str, Any] = {
            "role": message.role,
            "content": self._escape(message.content, response=message.role == "assistant"),
        }
        if message.extra:
            turn |= self._escape_json(json.loads(message.extra))
        if message.role == "tool":
            turn["role"] = self._tool_format.role
        if calls := turn.get("tool_calls"):
            form = self._tool_format
            for call in calls:
                call["function"]["arguments"] = template_probe.format_arguments(
                    call["function"]["arguments"], form
                )
            if form.omit_empty_content and not turn["content"]:
                del turn["content"]
        return turn

    def _merges_system(self, messages: Sequence[Message]) -> bool:
        """Return whether system turns are merged into the first user turn."""
        return (
            self.template is not None
            and not self.template.supports_system
            and any(m.role == "system" for m in messages)
            and any(m.role == "user" for m in messages)
        )

    def _escape(self, text: str, *, response: bool = False) -> str:
        """Insert a space into every special token that the text spells, except those that responses keep."""
        text = self.special.escape(text, response=response)
        return text if self.tokenizer.chat_template else _TURN_OF_FALLBACK.sub("", text)

    def _escape_json(self, value: Any) -> Any:
        """Escape every text in a JSON value."""
        if isinstance(value, str):
            return self._escape(value)
        if isinstance(value, dict):
            return {self._escape(key): self._escape_json(item) for key, item in value.items()}
        return [self._escape_json(item) for item in value] if isinstance(value, list) else value

    def _encode(self, text: str) -> list[int]:
        with third_party_errors(
            "the tokenizer cannot encode a text", str(self.tokenizer.name_or_path), _FIX_TOKENIZER
        ):
            return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _encode_start(self) -> list[int]:
        """Return what the tokenizer itself adds before a text: [bos] or nothing."""
        bos = self.tokenizer.bos_token_id
        return [bos] if bos is not None and self.tokenizer(_BOS_PROBE)["input_ids"][:1] == [bos] else []

    def _end_of_turn_token(self) -> int:
        if self.template is not None:
            end = find_end_of_turn(self.tokenizer, self.template.response_suffix)
            if end is not None:
                return end
        if self.tokenizer.eos_token_id is None:
            raise UserError(
                "the tokenizer has no token that ends a response",
                where=str(self.tokenizer.name_or_path),
                fix="set its eos_token",
            )
        return int(self.tokenizer.eos_token_id)

    def _check_pair(self, row: TokenPair, max_length: int) -> TokenPair | RenderFailure:
        if max(len(row.chosen_tokens), len(row.rejected_tokens)) > max_length:
            return RenderFailure("response_too_long")
        vocabulary_size = len(self.tokenizer)
        if any(
            token >= vocabulary_size for side in (row.chosen_tokens, row.rejected_tokens) for token in side
        ):
            return RenderFailure("token_outside_vocabulary")
        return row


def _merged(messages: Sequence[Message]) -> list[Message]:
    """Merge all system texts, in order, into the beginning of the first user turn."""
    system = [m.content for m in messages if m.role == "system"]
    turns = [m for m in messages if m.role != "system"]
    first = next(i for i, turn in enumerate(turns) if turn.role == "user")
    text = "\n\n".join([*system, turns[first].content])
    turns[first] = Message("user", text, turns[first].extra)
    return turns


def _from_next_user_turn(turns: Sequence[Message]) -> list[Message] | None:
    """Return the turns from the second user turn on; None when there is no second one."""
    user_turns = [i for i, turn in enumerate(turns) if i and turn.role == "user"]
    return list(turns[user_turns[0] :]) if user_turns else None
