"""Build synthetic tables of responses whose counts and means are those that the reference run published.

The reference run compared Base, SFT and PPO on 2,017 prompts, once with at most 1,024 new tokens and once with 512
(github.com/djdhillxn/rlhf at 6cbf214). Its responses are not here. What is published are counts: three-way wins, pairs
with their ties, one pair by domain, truncated and repetitive responses, and means of rewards. `rows` returns responses
that have all of them at once: an integer program chooses how often each of the 13 orders of three rewards occurs in
each domain, a linear program the mean rewards of each order, and noise that sums to 0 makes the rows differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from scipy import optimize

POLICIES = ("Base", "SFT", "PPO")
DOMAINS = {"code": 438, "general": 931, "stem": 245, "multilingual": 403}
ORDERS = sorted({tuple(sorted(set(r)).index(x) for x in r) for r in product(range(3), repeat=3)})
"""Ranks of (Base, SFT, PPO), 0 the lowest; equal ranks are ties."""
MEAN_ROUNDING = 4e-5
MIN_GAP = 0.05


@dataclass(frozen=True)
class Suite:
    """Hold what is published of one suite. Pairs are (left, right): right wins, ties, right loses."""

    max_tokens: int
    wins: tuple[int, int, int]
    ties: int
    pairs: Mapping[tuple[int, int], tuple[int, int, int]]
    rewards: tuple[float, float, float]
    medians: tuple[int, int, int]
    truncated: tuple[int, int, int]
    repetitive: tuple[int, int, int]
    severe: tuple[int, int, int]
    domains: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """PPO against Base by domain, as in `pairs`."""
    mean_gains: Mapping[tuple[int, int], tuple[float, float]] = field(default_factory=dict)
    """Mean difference over the rows that right wins, and over those that it loses."""
    mismatches: int | None = None
    """Responses of PPO with a reward above 2 that are repetitive."""


EVAL_1024 = Suite(
    1024,
    wins=(978, 475, 467),
    ties=97,
    pairs={(0, 1): (763, 39, 1215), (0, 2): (785, 42, 1190), (1, 2): (892, 162, 963)},
    rewards=(-3.3634, -3.6114, -3.5771),
    medians=(334, 360, 363),
    truncated=(163, 205, 234),
    repetitive=(151, 278, 325),
    severe=(60, 134, 156),
    domains={
        "code": (115, 2, 321),
        "general": (414, 30, 487),
        "stem": (97, 2, 146),
        "multilingual": (159, 8, 236),
    },
    mean_gains={(0, 2): (1.6210, -1.4315), (1, 2): (1.3503, -1.1789)},
    mismatches=36,
)
# Of this suite the repetition of PPO alone is published (224 and 74); the other two counts are filled in.
EVAL_512 = Suite(
    512,
    wins=(827, 556, 525),
    ties=109,
    pairs={(0, 1): (927, 46, 1044), (0, 2): (904, 45, 1068), (1, 2): (898, 154, 965)},
    rewards=(-3.5339, -3.4280, -3.6666),
    medians=(332, 363, 356),
    truncated=(603, 604, 599),
    repetitive=(100, 180, 224),
    severe=(30, 60, 74),
)


@cache
def order_counts(suite_tokens: int) -> dict[str, tuple[int, ...]]:
    """Return how often each order occurs in each domain: an integer point that has all published counts."""
    suite = {1024: EVAL_1024, 512: EVAL_512}[suite_tokens]
    cells = [(domain, order) for domain in DOMAINS for order in ORDERS]
    rows: list[list[float]] = []
    values: list[int] = []

    def require(count: int, holds: Any) -> None:
        rows.append([float(holds(domain, order)) for domain, order in cells])
        values.append(count)

    for domain, size in DOMAINS.items():
        require(size, lambda d, o, domain=domain: d == domain)
    for policy, count in enumerate(suite.wins):
        require(count, lambda d, o, policy=policy: o.count(max(o)) == 1 and o[policy] == max(o))
    for (left, right), counts in suite.pairs.items():
        for sign, count in zip((1, 0, -1), counts, strict=True):
            require(count, lambda d, o, a=left, b=right, sign=sign: np.sign(o[b] - o[a]) == sign)
    for domain, counts in suite.domains.items():
        for sign, count in zip((1, 0, -1), counts, strict=True):
            require(
                count, lambda d, o, domain=domain, sign=sign: d == domain and np.sign(o[2] - o[0]) == sign
            )
    solved = optimize.milp(
        np.zeros(len(cells)),
        constraints=optimize.LinearConstraint(np.array(rows), values, values),
        integrality=np.ones(len(cells)),
        bounds=optimize.Bounds(0, np.inf),
    )
    assert solved.success, "no joint assignment has all published counts"
    counts = np.round(solved.x).astype(int).reshape(len(DOMAINS), len(ORDERS))
    return {domain: tuple(map(int, row)) for domain, row in zip(DOMAINS, counts, strict=True)}


@cache
def order_means(suite_tokens: int) -> np.ndarray:
    """Return the mean reward of each policy over the rows of each order, [orders, policies]."""
    suite = {1024: EVAL_1024, 512: EVAL_512}[suite_tokens]
    counts = np.sum(list(order_counts(suite_tokens).values()), axis=0)
    size, n = len(ORDERS), int(counts.sum())
    upper: list[np.ndarray] = []
    limits: list[float] = []

    def at_most(terms: Mapping[tuple[int, int], float], limit: float) -> None:
        row = np.zeros((size, 3))
        for place, weight in terms.items():
            row[place] += weight
        upper.append(row.ravel())
        limits.append(limit)

    def equal(terms: Mapping[tuple[int, int], float], value: float, within: float) -> None:
        at_most(terms, value + within)
        at_most({place: -weight for place, weight in terms.items()}, within - value)

    for i, order in enumerate(ORDERS):
        for a in range(3):
            for b in range(3):
                if order[a] > order[b]:
                    at_most({(i, b): 1.0, (i, a): -1.0}, -MIN_GAP)
                elif order[a] == order[b] and a < b:
                    equal({(i, a): 1.0, (i, b): -1.0}, 0.0, 0.0)
    for policy, mean in enumerate(suite.rewards):
        equal({(i, policy): counts[i] / n for i in range(size)}, mean, 0.0)
    for (left, right), gains in suite.mean_gains.items():
        for sign, gain in zip((1, -1), gains, strict=True):
            won = [i for i, order in enumerate(ORDERS) if np.sign(order[right] - order[left]) == sign]
            share = {i: counts[i] / counts[won].sum() for i in won}
            terms = {(i, right): share[i] for i in won} | {(i, left): -share[i] for i in won}
            equal(terms, gain, MEAN_ROUNDING)
    # Prefer rewards near the overall mean: the largest deviation is minimised.
    for place in product(range(size), range(3)):
        at_most({place: 1.0}, 0.0)
        at_most({place: -1.0}, 0.0)
    matrix = np.hstack([np.array(upper), np.zeros((len(upper), 1))])
    bounds = np.array(limits)
    deviation = slice(len(upper) - 2 * 3 * size, None)
    matrix[deviation, -1] = -1.0
    bounds[deviation] += np.tile([-3.5, 3.5], 3 * size)
    solved = optimize.linprog(
        [*np.zeros(3 * size), 1.0], matrix, bounds, bounds=[(None, None)] * (3 * size + 1), method="highs"
    )
    assert solved.success, "no rewards have the published means"
    return solved.x[:-1].reshape(size, 3)


def _balanced(values: np.ndarray) -> np.ndarray:
    """Return as many values with mean 0: the first half and its negatives, in a random order; one 0 if odd."""
    half = values[: len(values) // 2]
    return np.concatenate([half, -half, np.zeros(len(values) % 2)])


def rewards(suite: Suite, random: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Return the domain of each prompt, and rewards [prompts, policies]."""
    means = order_means(suite.max_tokens)
    domains: list[str] = []
    placed: dict[int, list[int]] = {}
    for domain, counts in order_counts(suite.max_tokens).items():
        for order, count in enumerate(counts):
            for _ in range(count):
                placed.setdefault(order, []).append(len(domains))
                domains.append(domain)
    table = np.empty((len(domains), 3))
    for order, places in placed.items():
        size = len(places)
        shift = _balanced(random.normal(0, 3, size))
        stretch = 1 + _balanced(random.uniform(0, 0.8, size))[random.permutation(size)]
        base = means[order].min()
        table[places] = base + (means[order] - base) * stretch[:, None] + shift[:, None]
    mixed = random.permutation(len(domains))
    return [domains[i] for i in mixed], table[mixed]


def lengths(median: int, truncated: int, most: int, n: int, random: np.random.Generator) -> np.ndarray:
    """Return numbers of tokens with this median, of which `truncated` are at the limit."""
    below = random.integers(20, median, n // 2)
    above = random.integers(median + 1, most, n - n // 2 - 1 - truncated)
    return random.permutation(np.concatenate([below, [median], above, np.full(truncated, most)]))


def text(row: int, policy: str, kind: str) -> str:
    """Return a text whose share of repeated word 4-grams is 0, above 0.25, or above 0.5."""
    once = [f"{policy}{row}w{k}" for k in range(40)]
    phrase = [f"{policy}{row}p{k}" for k in range(5)]
    return " ".join(once + phrase * {"clean": 0, "heavy": 6, "severe": 20}[kind])


def repetition_kinds(suite: Suite, reward: np.ndarray, policy: int, random: np.random.Generator) -> list[str]:
    """Return the kind of text of each row; of PPO, exactly the published number of mismatches is repetitive."""
    n, heavy, severe = len(reward), suite.repetitive[policy], suite.severe[policy]
    order = random.permutation(n)
    if policy == 2 and suite.mismatches is not None:
        high, low = (order[reward[order] > 2], order[reward[order] <= 2])
        assert len(high) >= suite.mismatches
        order = np.concatenate([high[: suite.mismatches], low])
    kinds = ["clean"] * n
    for rank, row in enumerate(order[:heavy]):
        kinds[row] = "severe" if rank >= heavy - severe else "heavy"
    return kinds


SHARES = {"clean": 0.0, "heavy": 22 / 67, "severe": 92 / 137}
"""Share of repeated word 4-grams of each kind of text."""


def rows(suite: Suite, seed: int = 839) -> list[dict[str, Any]]:
    """Return the responses of three policies to 2,017 prompts, as rows of `responses.parquet`."""
    random = np.random.default_rng(seed)
    domains, reward = rewards(suite, random)
    made = []
    for number, policy in enumerate(POLICIES):
        tokens = lengths(
            suite.medians[number], suite.truncated[number], suite.max_tokens, len(domains), random
        )
        kinds = repetition_kinds(suite, reward[:, number], number, random)
        for i, domain in enumerate(domains):
            prompt = f"Synthetic prompt {i}?"
            truncated = bool(tokens[i] == suite.max_tokens)
            made.append(
                {
                    "prompt_id": f"{i}",
                    "policy": policy,
                    "sample": 0,
                    "domain": domain,
                    "language": None,
                    "prompt": prompt,
                    "response": text(i, policy, kinds[i]),
                    "prompt_tokens": 8,
                    "response_tokens": int(tokens[i]),
                    "stop": "length" if truncated else "end_of_turn",
                    "reward": float(reward[i, number]),
                    "repeated_4grams": SHARES[kinds[i]],
                    "empty": False,
                    "cap_hit": truncated,
                }
            )
    return made
