"""Choose recorded rollouts of PPO runs for the page, token by token, with the numbers that `harken trace` shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harken.inspection.critic import critic_data
from harken.inspection.recorded import RecordedStep, read_step, recorded_updates
from harken.inspection.rows import read_messages
from harken.inspection.tokens import DecodeToken, token_decoder, token_rows
from harken.inspection.unreadable import UnreadableFiles
from harken.run.folder import RunFolder

DECIMALS = 3
MAX_PAGE_UPDATES = 6
"""Updates of a run in the page: the first, the last, and some between them at equal distances."""
LARGEST_ADVANTAGES, EXTREME_REWARDS = 4, 2
"""Rollouts of an update: with the largest |advantage| of a token, and with the highest and lowest rewards."""
MAX_PAGE_TOKENS = 30_000
"""Tokens in the page, over all runs. Later updates come first."""

_ARRAYS = {
    "logprob": "logprob_old",
    "ref_logprob": "logprob_reference",
    "new_logprob": "logprob_new",
    "entropy": "entropy",
    "kl": "kl",
    "value": "value",
    "advantage": "advantage",
    "return": "return",
    "reward": "reward",
}
"""Array of the page → column of `tokens.token_rows`."""


@dataclass(frozen=True)
class TokenStep:
    """The rollouts of one update of a run: page data, and how many the run recorded."""

    stage: str
    step: int
    recorded: int
    rollouts: list[dict[str, Any]]
    critic: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the step as page data, with the rollouts in the page."""
        return {
            "stage": self.stage,
            "step": self.step,
            "recorded": self.recorded,
            "critic": self.critic,
            "rollouts": self.rollouts,
            "files": [],
        }


def page_tokens(runs: Mapping[str, RunFolder], unreadable: UnreadableFiles) -> dict[str, Any]:
    """Return the page's tokens of PPO runs by the names of their stages: some updates, and some rollouts of each.

    A recorded update that cannot be read is left out, and noted in `unreadable`.
    """
    budget = MAX_PAGE_TOKENS
    steps: list[TokenStep] = []
    readable = True
    for stage, run in runs.items():
        text_of, is_text = token_decoder(run)
        numbers = both_tables(run)
        readable = readable and (is_text or not numbers)
        run_steps: list[TokenStep] = []
        for update in reversed(spread(numbers, MAX_PAGE_UPDATES)):
            step = unreadable.read(partial(read_step, run.root, update))
            if step is None:
                continue
            chosen = choose_rollouts(step)
            size = sum(len(step.rollouts[row]["response_tokens"]) for row in chosen)
            if run_steps and size > budget:
                break
            budget -= size
            run_steps.append(token_step(stage, step, chosen, text_of))
        steps += reversed(run_steps)
    return {
        "shards": False,
        "rule": _rule(readable) if steps else "",
        "steps": [step.to_dict() for step in steps],
    }


def all_tokens(stage: str, run: RunFolder, unreadable: UnreadableFiles) -> Iterator[TokenStep]:
    """Yield every recorded update of a run with all its rollouts, as far as they can be read."""
    text_of, _ = token_decoder(run)
    for update in both_tables(run):
        step = unreadable.read(partial(read_step, run.root, update))
        if step is None:
            continue
        chosen = choose_rollouts(step)
        unchosen = dict.fromkeys((row for row in range(len(step.rollouts)) if row not in chosen), "")
        yield token_step(stage, step, {**chosen, **unchosen}, text_of)


def both_tables(run: RunFolder) -> list[int]:
    """List the updates that have rollouts and per-token values."""
    credited = set(recorded_updates(run.credit))
    return [update for update in recorded_updates(run.rollouts) if update in credited]


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """Return at most `count` of the numbers at equal distances, including the first and the last."""
    if len(numbers) <= count:
        return list(numbers)
    last = len(numbers) - 1
    return [numbers[round(i * last / (count - 1))] for i in range(count)] if count > 1 else [numbers[last]]


def choose_rollouts(step: RecordedStep) -> dict[int, str]:
    """Return row → why it is on the page: the largest |advantage| of a token, the highest and the lowest reward."""
    rows = range(len(step.rollouts))
    peaks = [
        max((abs(value) for value in _finite(step.credit[row]["advantages"])), default=0.0) for row in rows
    ]
    rewards = [step.rollouts[row]["reward"] for row in rows]
    by_advantage = sorted(rows, key=lambda row: -peaks[row])[:LARGEST_ADVANTAGES]
    by_reward = sorted(rows, key=lambda row: -rewards[row] if math.isfinite(rewards[row]) else math.inf)
    chosen: dict[int, str] = {}
    for keys, label in (
        (by_advantage, "largest advantage"),
        (by_reward[:EXTREME_REWARDS], "highest reward"),
        (by_reward[::-1][:EXTREME_REWARDS], "lowest reward"),
    ):
        for place, row in enumerate(keys, 1):
            text = f"{label}, number {place} of {len(rows)}"
            chosen[row] = f"{chosen[row]}; {text}" if row in chosen else text
    return chosen


def token_step(stage: str, step: RecordedStep, chosen: Mapping[int, str], text_of: DecodeToken) -> TokenStep:
    """Return the chosen rows of an update as page data."""
    rollouts = [_rollout(step, row, reason, text_of) for row, reason in chosen.items()]
    return TokenStep(stage, step.number, len(step.rollouts), rollouts, critic_data(step))


def _rollout(step: RecordedStep, row: int, reason: str, text_of: DecodeToken) -> dict[str, Any]:
    record, tokens = step.rollouts[row], token_rows(step, row, text_of)
    return {
        "id": record["prompt_id"],
        "sample": record["sample"],
        "row": row,
        "why": reason,
        "prompt": record["prompt"],
        "messages": [{"role": m.role, "content": m.content} for m in read_messages(record)],
        "score": rounded(record["reward"]),
        "scores": {name: rounded(value) for name, (value, _) in step.scores(row).items()},
        "stop": record["stop"],
        "pieces": [token["token"] for token in tokens],
        "ids": [token["token_id"] for token in tokens],
        **{name: [rounded(token[column]) for token in tokens] for name, column in _ARRAYS.items()},
        "log_ratio": [
            None if token["ratio"] is None else rounded(math.log(token["ratio"])) if token["ratio"] else None
            for token in tokens
        ],
        "clipped": [None if token["clipped"] is None else int(token["clipped"]) for token in tokens],
        "sampled": [int(token["policy_mask"]) for token in tokens],
    }


def rounded(value: float | None) -> float | None:
    """Round to the page's decimals; None for None, NaN and infinities, which JSON does not have."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, DECIMALS) + 0.0  # no -0.0


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _rule(readable: bool) -> str:
    text = (
        f"Up to {MAX_PAGE_UPDATES} recorded updates of each run, the first and the last among them, and of each "
        f"update the {LARGEST_ADVANTAGES} rollouts with the largest advantage of a token and the {EXTREME_REWARDS} "
        "with the highest and the lowest reward. The option --split of harken report writes all of them."
    )
    return text if readable else f"{text} The tokenizer could not be read, so tokens are shown as numbers."
