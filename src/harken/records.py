"""Define the records that are stored on disk, as frozen dataclasses.

Prompt → Rollout → ScoredRollout          written by PPO and evaluation
Demonstration, Preference, TokenPair      read by supervised and reward-model training
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
StopReason = Literal["end_of_turn", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `extra` is a JSON object of further keys for the chat template (tool_calls, tool_call_id, name,
    reasoning_content), "" for none.
    """

    role: Role
    content: str
    extra: str = ""

    def __repr__(self) -> str:
        """Leave out an empty `extra`: a run identifies its rows by the sha256 of their repr."""
        extra = f", extra={self.extra!r}" if self.extra else ""
        return f"Message(role={self.role!r}, content={self.content!r}{extra})"

    def to_dict(self) -> dict[str, Any]:
        """Return the turn in the usual form: role, content and the keys of `extra`."""
        return {"role": self.role, "content": self.content} | (json.loads(self.extra) if self.extra else {})

    @classmethod
    def from_dict(cls, turn: Mapping[str, Any]) -> Message:
        """Read a turn written by `to_dict`."""
        extra = {key: value for key, value in turn.items() if key not in ("role", "content")}
        return cls(turn["role"], turn["content"], json.dumps(extra, ensure_ascii=False) if extra else "")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation to respond to: its last message is from a user or a tool.

    `id` is stable across runs (a hash of the messages unless the data names one). `details` holds further
    fields of the row for judges and reports, for example the demo's keywords.
    """

    id: str
    messages: tuple[Message, ...]
    domain: str = ""
    language: str = ""
    reference: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    tools: str = ""
    """JSON list of the available tools, "" for none."""

    def __repr__(self) -> str:
        """Leave out empty `tools`, as Message leaves out `extra`."""
        parts = [
            f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.name != "tools" or self.tools
        ]
        return f"Prompt({', '.join(parts)})"

    @property
    def last_user_message(self) -> str:
        """Return the last user turn's text, "" when there is none."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt with its target response. `prompt.messages` is empty for plain text.

    `desirable` is the response's thumb, up or down; None where rows have no thumbs.
    """

    prompt: Prompt
    response: str
    desirable: bool | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Voter:
    """Who gave one judgement: a name and a group ("" if unknown), and a weight that the row states, or None."""

    name: str = ""
    group: str = ""
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """Two responses to one prompt. `label` is the probability that `chosen` is the better one.

    1.0 is a plain preference, 0.5 a tie, anything between a soft label. `strength` is how much
    better `chosen` is (1 … 3 in HelpSteer layouts); it can weight the loss or set its margin. `written_by` names the
    models that wrote `chosen` and `rejected`, and `rater` who judged them, "" if unknown.
    `chosen_first`: whether `chosen` was the first response of the row; None if the order carries no information.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    label: float = 1.0
    strength: float = 1.0
    source: str = ""
    raters: tuple[float, ...] = ()
    written_by: tuple[str, str] = ("", "")
    rater: str = ""
    chosen_first: bool | None = None
    voters: tuple[Voter, ...] = field(default=(), repr=False)
    """Who gave each of `raters`, in the same order; () where the rows do not say."""
    gold: float | None = field(default=None, repr=False)
    """The known judgement of a golden row: above 0 for `chosen`, below 0 for `rejected`, 0 a tie; None elsewhere."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A preference as token ids: prompt and response of each side."""

    id: str
    chosen_tokens: tuple[int, ...]
    rejected_tokens: tuple[int, ...]
    label: float = 1.0
    strength: float = 1.0
    domain: str = ""
    prompt_length: int | None = field(default=None, repr=False)
    """Tokens of the prompt on both sides; None if the row does not record it (`data.token_pairs.prompt_length`)."""
    language: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class TokenDemonstration:
    """A demonstration as token ids. `response_mask[t]` is True where the loss is computed on token t."""

    id: str
    tokens: tuple[int, ...]
    response_mask: tuple[bool, ...]
    desirable: bool | None = field(default=None, repr=False)
    """Thumb up or down; None where rows have no thumbs."""
    domain: str = field(default="", repr=False)
    language: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled response. `sampler_logprobs` are those of the sampler, in nats, one per response token."""

    prompt: Prompt
    sample: int
    prompt_tokens: tuple[int, ...]
    response_tokens: tuple[int, ...]
    sampler_logprobs: tuple[float, ...]
    text: str
    stop: StopReason
    policy_version: str

    def __post_init__(self) -> None:
        if len(self.response_tokens) != len(self.sampler_logprobs):
            raise ValueError("a rollout needs one log-probability per response token")


REWARD_MODEL = "reward_model"
"""Name of `training.reward_model` among the sources of scores."""


@dataclass(frozen=True, slots=True)
class Score:
    """One component of a reward. `value` is None when its source could not score; it is never NaN."""

    source: str
    value: float | None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"score of {self.source!r} is {self.value}: a score is finite or None")


@dataclass(frozen=True, slots=True)
class ScoredRollout:
    """A rollout with all components of its reward."""

    rollout: Rollout
    scores: tuple[Score, ...]

    @property
    def reward(self) -> float:
        """Return the weighted sum of the components that have a value."""
        return sum(s.weight * s.value for s in self.scores if s.value is not None)
