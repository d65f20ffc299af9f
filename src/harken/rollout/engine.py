"""What makes answers: the protocol, how to sample, and the fake that Harken ships for tests and dry runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from harken.records import Prompt, Rollout

OnProgress = Callable[[int], object]
"""Called with the number of answers finished since the last call."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn: from softmax(logits / temperature), whole, and nothing else.

    There is no top-k, top-p or repetition penalty on purpose: the distribution that samples must be the
    one that is scored. Temperature 0 is greedy, for evaluation.
    """

    max_tokens: int
    temperature: float = 1.0
    seed: int = 0
    samples: int = 1

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.samples < 1:
            raise ValueError("max_tokens and samples are at least 1")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature is {self.temperature}: it is 0 (greedy) or positive")


@runtime_checkable
class Engine(Protocol):
    """Anything that answers prompts."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        policy_version: str,
        purpose: str,
        on_progress: OnProgress | None = None,
    ) -> list[Rollout]:
        """`sampling.samples` answers to each prompt, prompt by prompt, sample 0 first.

        An answer depends on the weights, (sampling.seed, purpose, prompt.id, sample) and the prompt, never
        on the other prompts. `policy_version` is written into the rollouts.
        """
        ...


class ScriptedEngine:
    """Answers from a script, for tests and dry runs: no model, no tokenizer.

    `answers` maps a prompt's id to its texts, taken in turn by sample number, or is a function of prompt
    and sample. A token is a byte of UTF-8, END closes the turn, and every log-probability is −1: a
    placeholder that is finite and not zero.
    """

    END = 256

    def __init__(self, answers: Mapping[str, Sequence[str]] | Callable[[Prompt, int], str]) -> None:
        self.answers = answers

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        policy_version: str,
        purpose: str,
        on_progress: OnProgress | None = None,
    ) -> list[Rollout]:
        """The scripted answers, cut at `max_tokens` bytes. Raises KeyError for a prompt without a script."""
        rollouts = [
            self._answer(prompt, sample, sampling.max_tokens, policy_version)
            for prompt in prompts
            for sample in range(sampling.samples)
        ]
        if on_progress:
            on_progress(len(rollouts))
        return rollouts

    def _answer(self, prompt: Prompt, sample: int, max_tokens: int, policy_version: str) -> Rollout:
        if callable(self.answers):
            text = self.answers(prompt, sample)
        else:
            texts = self.answers[prompt.id]
            text = texts[sample % len(texts)]
        whole = [*text.encode(), self.END]
        tokens = whole[:max_tokens]
        ended = len(tokens) == len(whole)
        said = bytes(tokens[:-1] if ended else tokens).decode(errors="ignore")
        return Rollout(
            prompt=prompt,
            sample=sample,
            prompt_tokens=tuple(prompt.last_user_message.encode()),
            response_tokens=tuple(tokens),
            sampler_logprobs=(-1.0,) * len(tokens),
            text=said,
            stop="end_of_turn" if ended else "length",
            policy_version=policy_version,
        )
