"""Messages to tokens: the only place where that happens, for training, rollouts and scoring alike.

A sequence is always prompt tokens + answer tokens, encoded apart, so the context a model is trained on is,
token for token, the one it samples from. Text that spells a special token of the model ("<|im_end|>" in a
user turn) is written with a space after its first character before the template sees it: it stays text, and
cannot end a turn or begin one. Chat markup of other model families is plain text to this tokenizer already.

A tokenizer without a chat template gets "\\n\\nHuman: …\\n\\nAssistant:", and " " before the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from harken.data.report import REASONS
from harken.errors import UserError
from harken.records import (
    Demonstration,
    Message,
    Preference,
    Prompt,
    TokenDemonstration,
    TokenPair,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "a probe"
_TEMPLATE_FAULTS = (TemplateError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""What a chat template, which is a program in the model's folder, ends with."""
_SPEAKERS = {"system": "System", "user": "Human", "assistant": "Assistant"}
_TURN_OF_FALLBACK = re.compile(r"\n+(?=\n(?:System|Human|Assistant):)")


@dataclass(frozen=True)
class Rejected:
    """A record that cannot become tokens: a reason of `report.REASONS`."""

    reason: str

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"{self.reason!r} is no reason of harken.data.report.REASONS")


class Renderer:
    """A tokenizer with its chat template.

    `end_of_turn` is the token the template writes right after an assistant turn (eos where it writes none),
    `pad` the padding token. Raises UserError when there is no such token, or when padding could be taken
    for an end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        specials = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
        specials |= set(tokenizer.all_special_tokens)
        longest_first = sorted(specials - {""}, key=lambda token: (-len(token), token))
        self._spelled_out = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._special_ids = {int(i) for i in tokenizer.convert_tokens_to_ids(longest_first)}
        self._start = self._encode_start()
        self.end_of_turn = self._find_end_of_turn()
        self.pad = self._checked_pad()

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The whole conversation with the header of the assistant's next turn.

        Raises UserError when the chat template refuses it (some take no system turn, or no two turns of one
        side).
        """
        lead = [] if self.tokenizer.chat_template else self._start
        return [*lead, *self._encode(self._write(messages, answer_next=True))]

    def fit_prompt(self, messages: Sequence[Message], limit: int) -> tuple[list[int], int] | None:
        """The conversation in at most `limit` tokens, and how many turns were dropped to make it fit.

        The oldest turns go first (never a system turn or the last user turn, and what is left begins with a
        user turn). If the last user turn alone is too long it loses its beginning; the template's header,
        the system turn and the header of the answer stay whole. None when not one token of the user's would
        be left. Raises UserError as `prompt` does.
        """
        if not messages:
            return None
        system = [m for m in messages if m.role == "system"]
        turns = [m for m in messages if m.role != "system"]
        tokens = self.prompt(messages)
        dropped = 0
        while len(tokens) > limit and (later := _from_next_user_turn(turns)):
            dropped += len(turns) - len(later)
            turns = later
            tokens = self.prompt([*system, *turns])
        if len(tokens) <= limit:
            return tokens, dropped
        return self._with_last_turn_cut(system, turns, limit, dropped) if turns else None

    def response(self, text: str, ended: bool = True) -> list[int]:
        """An answer's tokens, with the end-of-turn token if it `ended`: one that was cut gets none."""
        lead = "" if self.tokenizer.chat_template else " "
        tokens = self._encode(lead + self._inert(text))
        return [*tokens, self.end_of_turn] if ended else tokens

    def demonstration(self, row: Demonstration, max_length: int) -> TokenDemonstration | Rejected:
        """Prompt and answer; loss falls on the answer and its end-of-turn token.

        Of a plain text (no messages) loss falls on every token but the first. A prompt is shortened as in
        `fit_prompt` to leave room; an answer never is.
        """
        if not row.prompt.messages:
            tokens = (*self._start, *self._encode(self._inert(row.response)), self.end_of_turn)
            if len(tokens) > max_length:
                return Rejected("response_too_long")
            return TokenDemonstration(row.prompt.id, tokens, (False, *[True] * (len(tokens) - 1)))
        answer = self.response(row.response)
        prompt = self._room(row.prompt, max_length - len(answer))
        if isinstance(prompt, Rejected):
            return prompt
        action = (*[False] * len(prompt), *[True] * len(answer))
        return TokenDemonstration(row.prompt.id, (*prompt, *answer), action)

    def preference(self, row: Preference | TokenPair, max_length: int) -> TokenPair | Rejected:
        """Both sides after the same prompt, shortened for the longer of them. A TokenPair is only checked."""
        if isinstance(row, TokenPair):
            return self._checked_pair(row, max_length)
        chosen, rejected = self.response(row.chosen), self.response(row.rejected)
        prompt = self._room(row.prompt, max_length - max(len(chosen), len(rejected)))
        if isinstance(prompt, Rejected):
            return prompt
        return TokenPair(
            id=row.prompt.id,
            chosen_tokens=(*prompt, *chosen),
            rejected_tokens=(*prompt, *rejected),
            label=row.label,
            strength=row.strength,
            domain=row.prompt.domain,
        )

    def length(self, row: Demonstration | Preference) -> int:
        """Tokens of the whole record (of its longer side) before anything is shortened."""
        answers = [row.response] if isinstance(row, Demonstration) else [row.chosen, row.rejected]
        prompt = len(self.prompt(row.prompt.messages)) if row.prompt.messages else len(self._start)
        return prompt + max(len(self.response(answer)) for answer in answers)

    def text(self, tokens: Sequence[int]) -> str:
        """An answer as text, without special tokens."""
        found = self.tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(found) if self.tokenizer.chat_template else str(found).removeprefix(" ")

    def _room(self, prompt: Prompt, limit: int) -> list[int] | Rejected:
        try:
            fitted = self.fit_prompt(prompt.messages, limit)
        except UserError:
            return Rejected("template_refuses")
        return fitted[0] if fitted else Rejected("response_too_long")

    def _with_last_turn_cut(
        self, system: Sequence[Message], turns: Sequence[Message], limit: int, dropped: int
    ) -> tuple[list[int], int] | None:
        """Keep as many of the last tokens of the one turn left as fit. Re-encoding a cut text may take more
        tokens than were kept, so the share shrinks until it fits."""
        last = turns[-1]
        content = self._encode(self._inert(last.content))
        keep = len(content) - (len(self.prompt([*system, *turns])) - limit)
        while keep > 0:
            rest = self.tokenizer.decode(content[-keep:], clean_up_tokenization_spaces=False)
            # A character of several tokens may have lost its first ones.
            cut = Message(last.role, str(rest).lstrip("\ufffd"))
            tokens = self.prompt([*system, cut])
            if len(tokens) <= limit:
                return (tokens, dropped) if cut.content.strip() else None
            keep -= len(tokens) - limit
        return None

    def _write(self, messages: Sequence[Message], answer_next: bool) -> str:
        turns = [{"role": m.role, "content": self._inert(m.content)} for m in messages]
        if not self.tokenizer.chat_template:
            written = [f"\n\n{_SPEAKERS[t['role']]}: {t['content']}" for t in turns]
            return "".join(written) + ("\n\nAssistant:" if answer_next else "")
        try:
            return str(
                self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer_next)
            )
        except _TEMPLATE_FAULTS as error:
            roles = ", ".join(t["role"] for t in turns)
            raise UserError(
                f"the chat template refuses a conversation of {roles or 'no turns'} ({error})",
                mend="Merge or remove turns, or use a model whose template takes them",
            ) from error

    def _inert(self, text: str) -> str:
        """The text with every spelled-out special token broken by a space."""
        text = self._spelled_out.sub(_broken, text)
        return text if self.tokenizer.chat_template else _TURN_OF_FALLBACK.sub("", text)

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _encode_start(self) -> list[int]:
        """What the tokenizer itself puts before a text: [bos] or nothing."""
        bos = self.tokenizer.bos_token_id
        return [bos] if bos is not None and self.tokenizer(_PROBE)["input_ids"][:1] == [bos] else []

    def _find_end_of_turn(self) -> int:
        if self.tokenizer.chat_template:
            probe = [Message("user", "a question"), Message("assistant", _PROBE)]
            after = self._encode(self._write(probe, answer_next=False).rpartition(_PROBE)[2])
            ends = [token for token in after if token in self._special_ids]
            if ends:
                return ends[0]
        if self.tokenizer.eos_token_id is None:
            raise UserError(
                "the tokenizer has no token that ends an answer",
                where=str(self.tokenizer.name_or_path),
                mend="Set its eos_token",
            )
        return int(self.tokenizer.eos_token_id)

    def _checked_pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        if pad is None or pad in (self.tokenizer.eos_token_id, self.end_of_turn):
            raise UserError(
                f"the tokenizer's pad token ({self.tokenizer.pad_token!r}) must be one that ends nothing",
                where=str(self.tokenizer.name_or_path),
                mend="Choose another special token as pad_token",
            )
        return int(pad)

    def _checked_pair(self, row: TokenPair, max_length: int) -> TokenPair | Rejected:
        if max(len(row.chosen_tokens), len(row.rejected_tokens)) > max_length:
            return Rejected("response_too_long")
        known = len(self.tokenizer)
        if any(token >= known for side in (row.chosen_tokens, row.rejected_tokens) for token in side):
            return Rejected("token_outside_vocabulary")
        return row


def _broken(spelled_out: re.Match[str]) -> str:
    token = spelled_out[0]
    return f"{token[0]} {token[1:]}" if len(token) > 1 else ""


def _from_next_user_turn(turns: Sequence[Message]) -> list[Message] | None:
    """The turns from the second user turn on; None when there is no second one."""
    later = [i for i, turn in enumerate(turns) if i and turn.role == "user"]
    return list(turns[later[0] :]) if later else None
