"""The nouns that are written to disk. Plain frozen dataclasses: no torch, no reading, no writing.

Prompt → Rollout → ScoredRollout          what PPO and evaluation make
Demonstration, Preference, TokenPair      what supervised and reward-model training read
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Stop = Literal["end_of_turn", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `extra` is a JSON object of what else the turn holds for a chat template (tool_calls, tool_call_id, name,
    reasoning_content), "" for nothing.
    """

    role: Role
    content: str
    extra: str = ""

    def __repr__(self) -> str:
        """Without `extra` where there is none: a run's rows are recognised by the sha256 of how they print."""
        extra = f", extra={self.extra!r}" if self.extra else ""
        return f"Message(role={self.role!r}, content={self.content!r}{extra})"

    def to_dict(self) -> dict[str, Any]:
        """The turn as people write it: role, content and what `extra` holds."""
        return {"role": self.role, "content": self.content} | (json.loads(self.extra) if self.extra else {})

    @classmethod
    def from_dict(cls, turn: Mapping[str, Any]) -> Message:
        """The turn that `to_dict` wrote."""
        extra = {key: value for key, value in turn.items() if key not in ("role", "content")}
        return cls(turn["role"], turn["content"], json.dumps(extra, ensure_ascii=False) if extra else "")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that waits for the assistant's answer: its last message is a user's or a tool's.

    `id` is stable across runs (a hash of the messages unless the data names one). `details` carries
    fields of the row that a judge or a report may want, for example the demo's keywords.
    """

    id: str
    messages: tuple[Message, ...]
    domain: str = ""
    language: str = ""
    reference: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    tools: str = ""
    """JSON list of the tools that are offered, "" for none."""

    def __repr__(self) -> str:
        """Without `tools` where there are none, as in Message."""
        shown = [
            f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.name != "tools" or self.tools
        ]
        return f"Prompt({', '.join(shown)})"

    @property
    def last_user_message(self) -> str:
        """The text the assistant is to answer ("" when no user turn exists)."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt with the answer to imitate. `prompt.messages` may be empty: plain text to continue."""

    prompt: Prompt
    response: str


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt. `label` is the probability that `chosen` is the better one.

    1.0 is a plain preference, 0.5 a tie, anything between a soft label. `strength` is how much
    better (1 … 3 in HelpSteer layouts); it can weight the loss or set its margin.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    label: float = 1.0
    strength: float = 1.0
    source: str = ""
    raters: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A preference as token ids: the whole sequence (prompt and answer) of each side."""

    id: str
    chosen_tokens: tuple[int, ...]
    rejected_tokens: tuple[int, ...]
    label: float = 1.0
    strength: float = 1.0
    domain: str = ""


@dataclass(frozen=True, slots=True)
class TokenDemonstration:
    """A demonstration as token ids. `action[t]` is True where token t is the assistant's (loss falls there)."""

    id: str
    tokens: tuple[int, ...]
    response_mask: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled answer. Log-probabilities are in nats, one per response token, of the sampler itself."""

    prompt: Prompt
    sample: int
    prompt_tokens: tuple[int, ...]
    response_tokens: tuple[int, ...]
    sampler_logprobs: tuple[float, ...]
    text: str
    stop: Stop
    policy_version: str

    def __post_init__(self) -> None:
        if len(self.response_tokens) != len(self.sampler_logprobs):
            raise ValueError("a rollout needs one log-probability per response token")


@dataclass(frozen=True, slots=True)
class Score:
    """One part of a reward. `value` is None when the source could not judge; it is never NaN."""

    source: str
    value: float | None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"score of {self.source!r} is {self.value}: a score is finite or None")


@dataclass(frozen=True, slots=True)
class ScoredRollout:
    """A rollout with every part of its reward."""

    rollout: Rollout
    scores: tuple[Score, ...]

    @property
    def reward(self) -> float:
        """The weighted sum of the parts that have a value."""
        return sum(s.weight * s.value for s in self.scores if s.value is not None)
