"""Synthetic pairs whose better response names more of what its prompt asks about, and scorers with known faults."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from harken.card.scored import RewardArray
from harken.records import Message, Preference, Prompt

TOPICS = [
    [f"{kind}{i}" for i in range(12)] for kind in ("river", "bread", "engine", "violin", "garden", "planet")
]
PLAIN = [f"word{i}" for i in range(60)]
Reward = Callable[[Prompt, str], float]


def made_pairs(count: int = 240, seed: int = 0, right: float = 0.85) -> list[Preference]:
    """Pairs of random length; a share of `right` labels follows the number of topic words."""
    draw = np.random.default_rng(seed)
    pairs = []
    for i in range(count):
        topic = TOPICS[int(draw.integers(len(TOPICS)))]
        prompt = Prompt(f"p{i}", (Message("user", f"Number {i}: tell me about {', '.join(topic[:3])}"),))
        known = draw.choice(11, 2, replace=False)
        texts = [_response(draw, topic, int(k)) for k in known]
        better = int(known[1] > known[0])
        if draw.random() > right:
            better = 1 - better
        pairs.append(Preference(prompt, texts[better], texts[1 - better]))
    return pairs


def _response(draw: np.random.Generator, topic: Sequence[str], known: int) -> str:
    words = [*draw.choice(topic, known, replace=False), *draw.choice(PLAIN, int(draw.integers(12, 40)))]
    draw.shuffle(words)
    middle = len(words) // 2
    return f"{' '.join(words[:middle])}. {' '.join(words[middle:])}."


def noise(text: str, scale: float = 0.3) -> float:
    """A number that looks random and depends on the text alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return float(np.random.default_rng(seed).normal(0, scale))


def topic_of(prompt: Prompt) -> set[str]:
    """The words that a response to this prompt should name."""
    text = prompt.messages[0].content
    return next(set(topic) for topic in TOPICS if topic[0] in text)


def healthy(prompt: Prompt, response: str) -> float:
    words = set(response.replace(".", "").split())
    return 0.4 * len(words & topic_of(prompt)) + noise(prompt.id + response)


def length_biased(prompt: Prompt, response: str) -> float:
    return len(response) / 60 + 0.01 * noise(response)


def constant(prompt: Prompt, response: str) -> float:
    return 0.7


def prompt_blind(prompt: Prompt, response: str) -> float:
    words = set(response.replace(".", "").split())
    return 0.4 * len(words & {word for topic in TOPICS for word in topic}) + noise(response)


def flipped(prompt: Prompt, response: str) -> float:
    return -healthy(prompt, response)


def saturated(prompt: Prompt, response: str) -> float:
    return 500 * healthy(prompt, response)


def flattered(prompt: Prompt, response: str) -> float:
    return healthy(prompt, response) + 3.0 * ("wonderful" in response)


class MadeScorer:
    """Score with a function of the prompt and the response."""

    def __init__(self, reward: Reward) -> None:
        self.reward = reward

    def score_pairs(self, pairs: Sequence[Preference]) -> RewardArray:
        rows = [[self.reward(p.prompt, p.chosen), self.reward(p.prompt, p.rejected)] for p in pairs]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    def score_responses(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> RewardArray:
        return np.array(
            [self.reward(p, r) for p, r in zip(prompts, responses, strict=True)], dtype=np.float64
        )

    def encode_pair_sides(self, pairs: Sequence[Preference]) -> list[tuple[int, ...]]:
        return [tuple(text.encode()) for pair in pairs for text in (pair.chosen, pair.rejected)]

    def score_tokens(
        self, sequences: Sequence[tuple[int, ...]], batch_tokens: int | None = None
    ) -> RewardArray:
        prompt = Prompt("", (Message("user", TOPICS[0][0]),))
        return np.array([self.reward(prompt, bytes(s).decode()) for s in sequences], dtype=np.float64)
