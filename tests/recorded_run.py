"""A PPO run with one recorded update, made from random numbers, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tiny import END, tiny_tokenizer

from harken.batches import PolicyOutputs, collate
from harken.config import RunConfig
from harken.config import files as config_files
from harken.records import Message, Prompt, Rollout, Score
from harken.reward.rules import penalties
from harken.reward.source import RewardSource, score_all
from harken.run.credit_table import TokenColumns, write_credit
from harken.run.folder import RunFolder
from harken.run.tables import write_scored_rollouts
from harken.train.ppo.targets import compute_targets

LENGTHS = ((3, 8), (5, 6), (2, 1), (9, 4), (3, 7), (4, 8))
"""Prompt and response tokens of each response. Two of them are truncated at eight tokens."""
SCORES = (1.5, -2.0, 0.25, 3.0, -0.5, 0.75)


def rollouts(prompts: Sequence[str] | None = None) -> list[Rollout]:
    made = []
    for row, (before, after) in enumerate(LENGTHS):
        truncated = after == 8
        response = [60 + row + i for i in range(after)]
        if not truncated:
            response[-1] = END
        name = prompts[row] if prompts else f"prompt-{row}"
        made.append(
            Rollout(
                prompt=Prompt(name, (Message("user", f"What is {row}?"),)),
                sample=prompts[:row].count(name) if prompts else 0,
                prompt_tokens=tuple(range(100, 100 + before)),
                response_tokens=tuple(response),
                sampler_logprobs=tuple(-0.5 - 0.25 * i for i in range(after)),
                text=tiny_tokenizer().decode(response, skip_special_tokens=True),
                stop="length" if truncated else "end_of_turn",
                policy_version="update-2",
            )
        )
    return made


class FixedScores:
    """A reward source that has made up its mind."""

    def __init__(self, name: str, values: Sequence[float], weight: float = 1.0) -> None:
        self.name, self.values, self.weight = name, values, weight

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [Score(self.name, value, self.weight) for value in self.values]


def record(
    root: Path,
    config: RunConfig,
    *,
    coefficient: float = 0.05,
    measured: bool = True,
    number: int = 3,
    prompts: Sequence[str] | None = None,
    scores: Sequence[float] = SCORES,
    extra: tuple[str, float, float] | None = None,
) -> Path:
    """An update as a run records it, with random log-probabilities and values.

    The reward model gives `scores`; `extra` is one more source: its name, its score of every response, its weight.
    """
    training = config.training
    assert training.type == "ppo"
    settings = training.ppo
    responses = rollouts(prompts)
    sources: list[RewardSource] = [FixedScores("reward_model", scores)]
    if extra is not None:
        sources.append(FixedScores(extra[0], [extra[1]] * len(responses), extra[2]))
    scored = score_all([*sources, *penalties(settings)], responses)
    draw = torch.Generator().manual_seed(7)
    batch = collate(
        [[*r.prompt_tokens, *r.response_tokens] for r in responses],
        [[False] * len(r.prompt_tokens) + [True] * len(r.response_tokens) for r in responses],
        0,
    )
    logprobs, reference, new, values = (
        torch.randn(batch.tokens.shape, generator=draw) * scale - offset
        for scale, offset in ((1.0, 2.0), (1.0, 2.0), (1.0, 2.0), (1.0, 0.0))
    )
    final_values = None if settings.group_baseline else torch.randn(len(responses), generator=draw)
    old = PolicyOutputs(logprobs, torch.zeros_like(values), values, final_values)
    targets = compute_targets(
        old, reference, batch.response_mask, torch.tensor([r.stop == "length" for r in responses]),
        torch.tensor([s.reward for s in scored]), coefficient, settings,
        reference.square() if settings.kl_estimator == "full" else None,
    )  # fmt: skip
    run = RunFolder(root)
    name = f"update-{number:06d}.parquet"
    root.mkdir(parents=True, exist_ok=True)
    run.config.write_text(config_files.dump(config))
    write_scored_rollouts(run.rollouts / name, scored, step=number)
    write_credit(
        run.credit / name,
        scored,
        batch.response_mask,
        TokenColumns(
            old_logprobs=logprobs,
            reference_logprobs=reference,
            kl=targets.kl,
            kl_penalty=targets.kl_estimate,
            rewards=targets.rewards,
            advantages=targets.advantages,
            returns=targets.returns,
            policy_mask=targets.policy_mask,
            value_mask=targets.value_mask,
            values=None if settings.group_baseline else values,
            new_logprobs=new if measured else None,
        ),
        kl_coef=coefficient,
        final_values=None if final_values is None else final_values.tolist(),
        step=number,
    )
    return root
