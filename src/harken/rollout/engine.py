"""The interface of generation engines, the sampling settings, and a scripted engine for tests and dry runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from harken.errors import UserError
from harken.records import Prompt, Rollout

OnProgress = Callable[[int], object]
"""Called with the number of responses finished since the last call."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are sampled: from softmax(logits / temperature) over the whole vocabulary.

    There is no top-k, top-p or repetition penalty: the distribution that is sampled must be the one that is scored.
    Temperature 0 is greedy, for evaluation.
    """

    max_tokens: int
    temperature: float = 1.0
    seed: int = 0
    samples: int = 1

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.samples < 1:
            raise ValueError("max_tokens and samples must be at least 1")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature is {self.temperature}; it must be 0 (greedy) or positive")


@runtime_checkable
class Engine(Protocol):
    """Anything that generates responses to prompts."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        policy_version: str,
        purpose: str,
        on_progress: OnProgress | None = None,
    ) -> list[Rollout]:
        """Generate `sampling.samples` responses to each prompt, prompt by prompt, sample 0 first.

        A response depends on the weights, (sampling.seed, purpose, prompt.id, sample) and the prompt, never on the
        other prompts. `policy_version` is written into the rollouts.
        """
        ...


def require_unsteered(engine: Engine) -> None:
    """Raise UserError for an engine that samples from a steered model.

    Training evaluates log-probabilities, KL and values of the model without steering, so that the responses would be
    off-policy in every token.
    """
    steering = getattr(engine, "steering", None)
    if steering is not None:
        raise UserError(
            f"this engine samples from a model that is {steering.describe()}, and the trainer evaluates the model "
            "without it: the ratios of PPO would be wrong in every token",
            where="training",
            fix="train without steering, and steer in evaluation and generation alone",
        )


class ScriptedEngine:
    """Return scripted responses, for tests and dry runs: no model, no tokenizer.

    `responses` maps a prompt's id to its texts, used in turn by sample number, or is a function of prompt and sample.
    Tokens are the bytes of the UTF-8 text, END ends the turn, and every log-probability is −1: a placeholder that is
    finite and not zero.
    """

    END = 256

    def __init__(self, responses: Mapping[str, Sequence[str]] | Callable[[Prompt, int], str]) -> None:
        self.responses = responses

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        policy_version: str,
        purpose: str,
        on_progress: OnProgress | None = None,
    ) -> list[Rollout]:
        """Return the scripted responses, truncated at `max_tokens` bytes. Raises KeyError for an unknown prompt."""
        rollouts = [
            self._rollout(prompt, sample, sampling.max_tokens, policy_version)
            for prompt in prompts
            for sample in range(sampling.samples)
        ]
        if on_progress:
            on_progress(len(rollouts))
        return rollouts

    def _rollout(self, prompt: Prompt, sample: int, max_tokens: int, policy_version: str) -> Rollout:
        if callable(self.responses):
            text = self.responses(prompt, sample)
        else:
            texts = self.responses[prompt.id]
            text = texts[sample % len(texts)]
        full = [*text.encode(), self.END]
        tokens = full[:max_tokens]
        ended = len(tokens) == len(full)
        text = bytes(tokens[:-1] if ended else tokens).decode(errors="ignore")
        return Rollout(
            prompt=prompt,
            sample=sample,
            prompt_tokens=tuple(prompt.last_user_message.encode()),
            response_tokens=tuple(tokens),
            sampler_logprobs=(-1.0,) * len(tokens),
            text=text,
            stop="end_of_turn" if ended else "length",
            policy_version=policy_version,
        )
