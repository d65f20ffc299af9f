"""Token-level PPO. `PPOStage.step` reads in the paper's order.

Sources: Schulman et al. 2017 (arXiv:1707.06347); Stiennon et al. 2020 (arXiv:2009.01325);
Huang et al. 2024, "The N+ implementation details" (arXiv:2403.17031).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from harken.batches import TokenBatch, TokenEvaluation, collate, micro_batches
from harken.config import PPOTraining, RunConfig
from harken.maths.kl import adaptive_coefficient
from harken.models.roles import Policy
from harken.records import Prompt, Rollout, ScoredRollout
from harken.reward.source import RewardSource, score_all
from harken.rollout.engine import Engine, Sampling
from harken.run.folder import RunFolder
from harken.run.tables import write_scored_rollouts
from harken.seeds import permutation
from harken.train.credit import Assigned, assign_credit
from harken.train.optimiser import Optimiser, schedule
from harken.train.order import stream_rows
from harken.train.ppo_loss import StepMeasures, minibatch_loss
from harken.train.ppo_metrics import rollout_metrics


class PPOStage:
    """One step = one update: a rollout batch, `epochs` × `minibatches` optimiser steps on it."""

    label = "PPO"

    def __init__(
        self,
        config: RunConfig,
        policy: Policy,
        reference: Policy,
        engine: Engine,
        rewards: Sequence[RewardSource],
        prompts: Sequence[Prompt],
        held_out: Sequence[Prompt],
        run: RunFolder,
        base: Path,
        verify: Callable[[], object] = lambda: None,
    ) -> None:
        assert isinstance(config.training, PPOTraining)
        assert policy.value_head is not None
        assert policy.adapter is not None
        self.training, self.settings, self.seed = config.training, config.training.ppo, config.seed
        self.policy, self.reference, self.engine, self.rewards = policy, reference, engine, rewards
        self.prompts, self.held_out, self.run, self.base = prompts, held_out, run, base
        self.verify = verify
        self.total = self.settings.updates
        self.kl_coefficient = self.settings.kl_coef
        head = {f"value_head.{name}": p for name, p in policy.value_head.named_parameters()}
        critic_lr = self.training.critic_lr or self.training.lr
        self.optimiser = Optimiser(
            {**policy.backbone.adapter_parameters(policy.adapter), **head},
            self.training,
            dict.fromkeys(head, critic_lr),
        )

    def step(self, number: int) -> dict[str, float]:
        """Generate, score, evaluate, assign credit, learn, adjust the KL coefficient."""
        clock = _Clock()
        rollouts = self._generate(number)
        clock.lap("time/generate")
        scored = score_all(self.rewards, rollouts)
        clock.lap("time/score")

        batch = self._collate(rollouts)
        old = self._evaluate(self.policy, batch)
        reference = self._evaluate(self.reference, batch)
        clock.lap("time/evaluate")

        assigned = assign_credit(
            old,
            reference.logprobs,
            batch.action,
            batch.tokens.new_tensor([r.stop == "length" for r in rollouts], dtype=torch.bool),
            old.values.new_tensor([s.reward for s in scored]),
            self.kl_coefficient,
            self.settings,
        )
        factor = schedule(number, self.total, self.training)
        measures = self._learn(number, batch, assigned, factor)
        clock.lap("time/learn")

        metrics = rollout_metrics(scored, batch, old, assigned)
        metrics |= measures.metrics()
        metrics |= {"kl/coef": self.kl_coefficient, "lr": self.training.lr * factor, **clock.laps}
        if self.settings.kl_control == "adaptive":
            self._adapt(metrics["kl/mean"], len(rollouts))
        write_scored_rollouts(self.run.rollouts / f"update-{number + 1:06d}.parquet", scored, step=number + 1)
        return metrics

    # -- the parts of a step ----------------------------------------------------------------------

    def _generate(self, number: int) -> list[Rollout]:
        count = self.settings.prompts_per_update
        rows = stream_rows(number * count, count, len(self.prompts), self.seed, "PPO prompts")
        sampling = Sampling(
            max_tokens=self.settings.max_gen_len,
            temperature=self.settings.temperature,
            seed=self.seed,
            samples=self.settings.samples_per_prompt,
        )
        # An answer is a function of (purpose, prompt, sample): a prompt that comes up again within an update
        # needs a purpose of its own, or it would be answered with the same words.
        rollouts: list[Rollout] = []
        for again, turn in enumerate(_turns(rows)):
            prompts = [self.prompts[i] for i in turn]
            purpose = f"ppo/{number}/{again}" if again else f"ppo/{number}"
            rollouts += self.engine.generate(prompts, sampling, f"update-{number}", purpose)
        return rollouts

    def _collate(self, rollouts: Sequence[Rollout]) -> TokenBatch:
        pad = self.policy.backbone.tokenizer.pad_token_id
        tokens = [[*r.prompt_tokens, *r.response_tokens] for r in rollouts]
        action = [[False] * len(r.prompt_tokens) + [True] * len(r.response_tokens) for r in rollouts]
        return collate(tokens, action, pad).to(self.policy.backbone.device)

    @torch.no_grad()
    def _evaluate(self, policy: Policy, batch: TokenBatch) -> TokenEvaluation:
        """The training forward, without gradients, over all rows."""
        parts = [torch.zeros(batch.tokens.shape, device=batch.tokens.device) for _ in range(3)]
        for rows in self._micro_batches(batch, range(len(batch.tokens))):
            piece = batch.rows(rows)
            now = policy.evaluate(piece, self.settings.temperature)
            width = piece.tokens.shape[1]
            for whole, part in zip(parts, (now.logprobs, now.entropy, now.values), strict=True):
                whole[rows, :width] = part
        return TokenEvaluation(*parts)

    def _learn(self, number: int, batch: TokenBatch, assigned: Assigned, factor: float) -> StepMeasures:
        """`epochs` passes in `minibatches` optimiser steps, each normalised by its own count of action tokens."""
        measures = StepMeasures()
        adapter, size = self.policy.adapter, len(batch.tokens)
        for epoch in range(self.settings.epochs):
            order = permutation(size, self.seed, "PPO minibatches", number, epoch)
            for part in range(self.settings.minibatches):
                rows = order[part :: self.settings.minibatches]
                count = int(assigned.learnable[rows].sum())
                if count == 0:
                    continue
                measures.begin(count)
                # Forward and backward in one scope: outside it peft would drop the gradient silently.
                with self.policy.backbone.role(adapter):
                    for group in self._micro_batches(batch, rows):
                        piece = batch.rows(group)
                        width = piece.tokens.shape[1]
                        now = self.policy.evaluate(piece, self.settings.temperature)
                        learnable = assigned.learnable[group, :width]
                        credit = assigned.credit.rows(group, width)
                        loss = minibatch_loss(now, credit, learnable, self.settings, measures)
                        (loss / count).backward()  # type: ignore[no-untyped-call]
                measures.end(self.optimiser.step(factor))
                limit = self.settings.target_kl_per_token
                if limit is not None and measures.latest_approxkl > limit:
                    measures.stopped_early = True
                    return measures
        return measures

    def _adapt(self, kl_per_sequence: float, sequences: int) -> None:
        settings = self.settings
        proposed = adaptive_coefficient(
            self.kl_coefficient, kl_per_sequence, settings.kl_target, settings.kl_horizon, sequences
        )
        self.kl_coefficient = min(max(proposed, settings.kl_coef_min), settings.kl_coef_max)

    def _micro_batches(self, batch: TokenBatch, rows: Sequence[int]) -> list[list[int]]:
        lengths = batch.real.sum(-1).tolist()
        groups = micro_batches([int(lengths[i]) for i in rows], self.training.micro_batch_tokens)
        return [[rows[i] for i in group] for group in groups]

    # -- what the loop asks for -------------------------------------------------------------------

    def evaluate(self, done: int) -> dict[str, float]:
        """Mean reward of sampled answers to the held-out prompts, the same draws every time."""
        if not self.held_out:
            return {}
        sampling = Sampling(self.settings.max_gen_len, self.settings.temperature, self.seed)
        rollouts = self.engine.generate(self.held_out, sampling, f"update-{done}", "ppo/held-out")
        scored = score_all(self.rewards, rollouts)
        cut = sum(r.stop == "length" for r in rollouts) / len(rollouts)
        return {"eval/reward_mean": _mean_reward(scored), "eval/cap_hit": cut}

    def summary(self, metrics: Mapping[str, float]) -> str:
        """Reward, KL per sequence, length, cut answers, seconds."""
        held_out = f"  held-out {metrics['eval/reward_mean']:+.2f}" if "eval/reward_mean" in metrics else ""
        return (
            f"reward {metrics['reward/mean']:+.2f}{held_out}  KL {metrics['kl/mean']:.2f} nats/seq"
            f"  {metrics['response/tokens_mean']:.0f} tokens  cut {metrics['response/cap_hit']:.0%}"
            f"  {metrics['seconds']:.0f} s"
        )

    def tensors(self) -> dict[str, Tensor]:
        """Adapter, value head and their optimiser."""
        return self.optimiser.tensors()

    def state(self) -> dict[str, Any]:
        """The KL coefficient: all else is a function of the step."""
        return {"kl_coefficient": self.kl_coefficient}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put both back."""
        self.optimiser.load(tensors)
        self.kl_coefficient = float(state["kl_coefficient"])

    def save(self, folder: Path) -> None:
        """The policy as an adapter on its base, exact, with the value head beside it. `verify` comes first."""
        self.verify()
        assert self.policy.adapter is not None
        assert self.policy.value_head is not None
        self.policy.backbone.save_adapter(self.policy.adapter, folder, self.base)
        save_file(dict(self.policy.value_head.state_dict()), folder / "value_head.safetensors")


def _turns(rows: Sequence[int]) -> list[list[int]]:
    """Rows split so that none stands twice in a turn; one turn when all differ."""
    turns: list[list[int]] = []
    times: Counter[int] = Counter()
    for row in rows:
        if times[row] == len(turns):
            turns.append([])
        turns[times[row]].append(row)
        times[row] += 1
    return turns


def _mean_reward(scored: Sequence[ScoredRollout]) -> float:
    return sum(s.reward for s in scored) / len(scored)


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now
