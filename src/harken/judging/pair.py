"""Define the input and the output of a pairwise judge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from harken.records import Message


@dataclass(frozen=True)
class ResponsePair:
    """Hold two responses to one conversation, in the order in which they are shown."""

    id: str
    messages: tuple[Message, ...]
    first: str
    second: str

    def swapped(self) -> ResponsePair:
        """Return the pair in the other order."""
        return replace(self, first=self.second, second=self.first)

    def content(self) -> str:
        """Return the sha256 of the conversation and both responses; the id is not included."""
        text = json.dumps([[m.to_dict() for m in self.messages], self.first, self.second], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class PairVerdict:
    """Hold a judge's verdict on one pair in one order.

    `probability`: that the response shown first is better; None if the judge gave no verdict, for the reason in
    `problem`. `measured`: whether the judge gave the probability; otherwise it is 0 or 1, from a letter. `model` is
    the name in the reply, "" for a judge without replies.
    """

    probability: float | None
    problem: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    measured: bool = True
    model: str = ""


class PairJudge(Protocol):
    """Define the interface of a pairwise judge."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Return the inputs of its verdicts as JSON: type, model, prompt, settings, but never a key."""
        ...

    def prefer_first(self, pairs: Sequence[ResponsePair]) -> list[PairVerdict]:
        """Return a verdict on each pair, in the order in which it is given."""
        ...
