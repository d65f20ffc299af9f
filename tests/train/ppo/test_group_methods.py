"""Group methods: each option against its paper's equation in float64, and by what must not change it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ppo_stage import build_stage, ppo_config
from torch import Tensor

from harken.batches import PolicyOutputs
from harken.config.ppo import PPOSettings
from harken.maths.advantage import group_advantages, groups_with_spread
from harken.maths.policy_loss import clipped_policy_loss, response_weights, sequence_log_ratio
from harken.records import Message, Prompt, Rollout
from harken.reward.rules import penalties
from harken.train.ppo.groups import group_metrics
from harken.train.ppo.loss import UpdateStats, policy_divisor, policy_loss
from harken.train.ppo.minibatch import TokenCounts
from harken.train.ppo.targets import PPOTargets, compute_targets

DOCS = Path(__file__).resolve().parents[3] / "docs"
AGGREGATIONS, LEVELS = ("token", "sequence", "constant"), ("token", "sequence")


def batch_of(lengths: Sequence[int], seed: int = 0) -> tuple[PolicyOutputs, PPOTargets]:
    """Responses of these lengths after one prompt token, in float64, with noise outside the mask."""
    draw = torch.Generator().manual_seed(seed)
    shape = (len(lengths), 1 + max(lengths))
    old, change, entropy, advantages = (
        torch.randn(*shape, generator=draw, dtype=torch.float64) for _ in range(4)
    )
    position = torch.arange(shape[1])
    mask = (position >= 1) & (position <= torch.tensor(lengths)[:, None])
    logprobs = (old + 0.3 * change).requires_grad_()
    zero = torch.zeros(shape, dtype=torch.float64)
    targets = PPOTargets(old, zero, advantages, zero, mask, ~mask & False, zero, zero, zero)
    return PolicyOutputs(logprobs, entropy.exp(), zero), targets


def loss_of(outputs: PolicyOutputs, targets: PPOTargets, keys: PPOSettings) -> tuple[Tensor, UpdateStats]:
    """The loss of one optimiser step in one micro-batch."""
    counts, stats = TokenCounts.of(targets.policy_mask, targets.value_mask), UpdateStats()
    stats.begin_step(counts)
    return policy_loss(outputs, targets, keys, stats) / policy_divisor(counts, keys), stats


def by_definition(outputs: PolicyOutputs, targets: PPOTargets, keys: PPOSettings) -> float:
    """The aggregated clipped loss, token by token in Python."""
    low, high = 1 - keys.clip_range, 1 + (keys.clip_range_high or keys.clip_range)
    per_response = []
    for row in range(len(targets.policy_mask)):
        at = targets.policy_mask[row].nonzero()[:, 0].tolist()
        if not at:
            continue
        log_ratios = [float(outputs.logprobs[row, t] - targets.old_logprobs[row, t]) for t in at]
        if keys.importance_sampling_level == "sequence":
            log_ratios = [sum(log_ratios) / len(at)] * len(at)
        losses = []
        for t, log_ratio in zip(at, log_ratios, strict=True):
            ratio, advantage = math.exp(log_ratio), float(targets.advantages[row, t])
            gain = min(ratio * advantage, min(max(ratio, low), high) * advantage)
            losses.append(-gain - keys.entropy_coef * float(outputs.entropy[row, t]))
        per_response.append(losses)
    if keys.loss_aggregation == "token":
        return sum(map(sum, per_response)) / sum(map(len, per_response))
    if keys.loss_aggregation == "sequence":
        return sum(sum(losses) / len(losses) for losses in per_response) / len(per_response)
    return sum(map(sum, per_response)) / (len(per_response) * keys.max_gen_len)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_loss_is_its_definition(aggregation: str, level: str) -> None:
    """S2-13: clipped ratios of tokens or responses, averaged as the option says; rows left out count nowhere."""
    keys = PPOSettings(
        loss_aggregation=aggregation, importance_sampling_level=level, max_gen_len=9, entropy_coef=0.1,
        clip_range=0.1, clip_range_high=0.3,
    )  # fmt: skip
    outputs, targets = batch_of([3, 7, 1, 5])
    targets.policy_mask[1] = False
    loss, stats = loss_of(outputs, targets, keys)
    expected = by_definition(outputs, targets, keys)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    assert stats.latest_loss == pytest.approx(expected, rel=1e-6)
    no_entropy = by_definition(outputs, targets, keys.model_copy(update={"entropy_coef": 0.0}))
    assert stats.steps[0]["policy/loss"] == pytest.approx(no_entropy, rel=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), st.integers(1, 5), st.integers(0, 99))
def test_micro_batches_change_nothing(lengths: list[int], first: int, seed: int) -> None:
    """The gradient of an optimiser step is that of its parts, each divided by the step's counts."""
    for aggregation in AGGREGATIONS:
        for level in LEVELS:
            keys = PPOSettings(loss_aggregation=aggregation, importance_sampling_level=level, max_gen_len=8)
            outputs, targets = batch_of(lengths, seed)
            whole, _ = loss_of(outputs, targets, keys)
            (expected,) = torch.autograd.grad(whole, outputs.logprobs)
            counts, stats = TokenCounts.of(targets.policy_mask, targets.value_mask), UpdateStats()
            stats.begin_step(counts)
            for rows in (range(min(first, len(lengths))), range(min(first, len(lengths)), len(lengths))):
                if not rows:
                    continue
                part = PolicyOutputs(
                    outputs.logprobs[list(rows)], outputs.entropy[list(rows)], outputs.values[list(rows)]
                )
                selected = targets.select(rows, targets.policy_mask.shape[1])
                (policy_loss(part, selected, keys, stats) / policy_divisor(counts, keys)).backward()
            torch.testing.assert_close(outputs.logprobs.grad, expected)
            assert stats.latest_loss == pytest.approx(float(whole.detach()), abs=1e-12)


@pytest.mark.parametrize("level", LEVELS)
def test_aggregations_agree_on_responses_of_one_length(level: str) -> None:
    """With n tokens each, token = sequence = constant × max_gen_len / n."""
    outputs, targets = batch_of([4, 4, 4])
    found = {
        name: float(loss_of(outputs, targets, PPOSettings(
            loss_aggregation=name, importance_sampling_level=level, max_gen_len=10
        ))[0].detach())
        for name in AGGREGATIONS
    }  # fmt: skip
    assert found["sequence"] == pytest.approx(found["token"], rel=1e-6)
    assert found["constant"] * 10 / 4 == pytest.approx(found["token"], rel=1e-6)


def test_sequence_aggregation_weights_a_token_by_its_response() -> None:
    """Moving a response of ten tokens and one of a single token by the same gradient counts the same."""
    mask = torch.tensor([[True] * 10, [True] + [False] * 9])
    weights = response_weights(mask)
    assert weights.sum(-1).tolist() == pytest.approx([1.0, 1.0])
    assert weights[0, 0] == pytest.approx(0.1) and weights[1, 1] == 0
    assert response_weights(torch.zeros(1, 3, dtype=torch.bool)).tolist() == [[0.0, 0.0, 0.0]]


def test_gspo_with_one_token_is_ppo() -> None:
    outputs, targets = batch_of([1, 1, 1])
    ratios = {level: PPOSettings(importance_sampling_level=level) for level in LEVELS}
    (token, _), (sequence, _) = (loss_of(outputs, targets, keys) for keys in ratios.values())
    torch.testing.assert_close(token, sequence)
    first, second = (torch.autograd.grad(loss, outputs.logprobs)[0] for loss in (token, sequence))
    torch.testing.assert_close(first, second)


def test_the_gradient_of_gspo_is_that_of_its_own_ratio() -> None:
    """Equation 5 of the paper, differentiated by autograd: with one advantage per response both gradients agree."""
    outputs, targets = batch_of([3, 5, 2], seed=4)
    targets.advantages[:] = targets.advantages[:, :1]
    keys = PPOSettings(
        importance_sampling_level="sequence", loss_aggregation="sequence", clip_range=0.1, clip_range_high=0.2
    )
    loss, _ = loss_of(outputs, targets, keys)
    (found,) = torch.autograd.grad(loss, outputs.logprobs)
    mask = targets.policy_mask
    mean = torch.where(mask, outputs.logprobs - targets.old_logprobs, 0.0).sum(-1) / mask.sum(-1)
    ratio, advantage = mean.exp(), targets.advantages[:, 0]
    gain = torch.minimum(ratio * advantage, ratio.clamp(0.9, 1.2) * advantage)
    (expected,) = torch.autograd.grad(-gain.mean(), outputs.logprobs)
    torch.testing.assert_close(found, expected)


def test_a_sequence_ratio_ignores_what_is_outside_the_response() -> None:
    mask = torch.tensor([[False, True, True, False]])
    new = torch.tensor([[math.nan, 1.0, 2.0, math.inf]], requires_grad=True)
    log_ratio = sequence_log_ratio(new, torch.zeros(1, 4), mask)
    assert log_ratio.detach().tolist() == [[0.0, 1.5, 1.5, 0.0]]
    log_ratio.sum().backward()
    assert new.grad is not None and new.grad.tolist() == [[0.0, 1.0, 1.0, 0.0]]


def test_clip_fraction_and_ratio_gap_are_of_the_ratio_in_the_loss() -> None:
    outputs, targets = batch_of([6, 6], seed=2)
    with torch.no_grad():
        outputs.logprobs[:] = targets.old_logprobs
        outputs.logprobs[:, 1:4] += 0.3
        outputs.logprobs[:, 4:7] -= 0.3
    token, sequence = (
        loss_of(outputs, targets, PPOSettings(importance_sampling_level=level))[1] for level in LEVELS
    )
    assert token.steps[0]["policy/clipfrac"] == 1.0
    assert sequence.steps[0]["policy/clipfrac"] == 0.0
    assert sequence.max_ratio_gaps[0] < 1e-9 < token.max_ratio_gaps[0]
    assert sequence.steps[0]["policy/approxkl"] == token.steps[0]["policy/approxkl"] > 0


# -- advantages -----------------------------------------------------------------------------------


def slowly(returns: list[float], valid: list[bool], size: int, kind: str, scale: str) -> list[float]:
    """Group advantages in Python floats."""
    everyone = [r for r, v in zip(returns, valid, strict=True) if v]
    overall = sum(everyone) / max(len(everyone), 1)
    batch_std = math.sqrt(sum((r - overall) ** 2 for r in everyone) / max(len(everyone), 1))
    found = []
    for i, r in enumerate(returns):
        first = i // size * size
        members = [j for j in range(first, first + size) if valid[j]]
        if not valid[i] or len(members) < 2:
            found.append(0.0)
            continue
        mean = sum(returns[j] for j in members) / len(members)
        std = math.sqrt(sum((returns[j] - mean) ** 2 for j in members) / len(members))
        others = [returns[j] for j in members if j != i]
        baseline = sum(others) / len(others) if kind == "rloo" else mean
        divisor = {"group": std + 1e-6, "batch": batch_std + 1e-6, "none": 1.0}[scale]
        found.append((r - baseline) / divisor)
    return found


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=6, max_size=6),
    st.sampled_from(["rloo", "grpo", "reinforce_plus_plus_baseline"]),
    st.sampled_from(["group", "batch", "none"]),
)
def test_advantages_are_their_definition(rows: list[tuple[float, bool]], kind: str, scale: str) -> None:
    returns, valid = [r for r, _ in rows], [v for _, v in rows]
    got = group_advantages(torch.tensor(returns).double(), torch.tensor(valid), 3, kind, scale)
    assert got.tolist() == pytest.approx(slowly(returns, valid, 3, kind, scale), rel=1e-6, abs=1e-6)


def test_defaults_of_the_scale() -> None:
    """grpo divides by the group's deviation, the others by nothing; explicit keys win."""
    returns, valid = torch.tensor([1.0, 2.0, 6.0, 0.0, 0.0, 3.0]), torch.ones(6, dtype=torch.bool)
    for kind, scale in (("rloo", "none"), ("grpo", "group"), ("reinforce_plus_plus_baseline", "none")):
        keys = PPOSettings(advantage=kind, samples_per_prompt=3)
        assert keys.reward_scale == scale
        assert torch.equal(
            group_advantages(returns, valid, 3, kind), group_advantages(returns, valid, 3, kind, scale)
        )
    assert PPOSettings(advantage="grpo", samples_per_prompt=3, scale_rewards="none").reward_scale == "none"


def test_a_scale_leaves_the_sign_and_forgets_the_units() -> None:
    """Rewards in other units: scaled advantages stay, unscaled ones scale along."""
    returns = torch.tensor([1.0, 2.0, 6.0, -1.0, -1.0, 5.0]).double()
    valid = torch.ones(6, dtype=torch.bool)
    for scale, factor in (("group", 1.0), ("batch", 1.0), ("none", 10.0)):
        one = group_advantages(returns, valid, 3, "grpo", scale)
        ten = group_advantages(10 * returns + 7, valid, 3, "grpo", scale)
        torch.testing.assert_close(ten, factor * one, rtol=1e-5, atol=1e-5)
    none, batch = (group_advantages(returns, valid, 3, "grpo", scale) for scale in ("none", "batch"))
    ratio = (none / batch)[none != 0]
    torch.testing.assert_close(ratio, ratio[:1].expand(len(ratio)))


def targets_of(keys: PPOSettings, reward: list[float], truncated: list[bool] | None = None) -> PPOTargets:
    """Targets of two-token responses without KL."""
    n = len(reward)
    zero = torch.zeros(n, 3)
    mask = torch.tensor([[False, True, True]] * n)
    cut = torch.tensor(truncated or [False] * n)
    return compute_targets(
        PolicyOutputs(zero, zero, zero, torch.zeros(n)), zero, mask, cut, torch.tensor(reward), 0.0, keys
    )


def test_reinforce_plus_plus_baseline_whitens_what_the_group_mean_leaves() -> None:
    """The group's mean is the baseline, the batch's deviation the scale: A = (R − mean) / deviation of all R − mean."""
    reward = [1.0, 2.0, 6.0, -1.0, -1.0, 5.0]
    keys = PPOSettings(advantage="reinforce_plus_plus_baseline", samples_per_prompt=3)
    assert keys.group_baseline and keys.whitens
    centred = [r - sum(g) / 3 for g in (reward[:3], reward[3:]) for r in g]
    std = math.sqrt(sum(c * c for c in centred) / 6)
    got = targets_of(keys, reward)
    assert got.advantages[:, 1].tolist() == pytest.approx([c / std for c in centred], rel=1e-5)
    assert not got.value_mask.any()


# -- groups without spread ----------------------------------------------------------------------------


def test_groups_without_spread_are_left_out_and_counted() -> None:
    reward = [1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 2.0, 2.0, 2.0]
    keys = PPOSettings(
        advantage="grpo", samples_per_prompt=3, drop_uniform_groups=True, whiten_advantages=True
    )
    got = targets_of(keys, reward)
    assert got.policy_mask[:, 1].tolist() == [False] * 3 + [True] * 3 + [False] * 3
    assert float(got.advantages[3:6, 1].mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(got.advantages[3:6, 1].std(correction=0)) == pytest.approx(1.0, rel=1e-4)
    none = torch.zeros(9, dtype=torch.bool)
    assert group_metrics(torch.tensor(reward), none, keys) == {
        "group/zero_spread_frac": pytest.approx(2 / 3), "group/dropped": 2.0
    }  # fmt: skip
    kept = keys.model_copy(update={"drop_uniform_groups": False})
    assert targets_of(kept, reward).policy_mask[:, 1].all()
    assert "group/dropped" not in group_metrics(torch.tensor(reward), none, kept)
    assert group_metrics(torch.tensor(reward), none, PPOSettings()) == {}


def test_a_truncated_response_gives_no_group_a_spread() -> None:
    """truncated: mask leaves it out of the group; two equal rewards remain."""
    keys = PPOSettings(advantage="grpo", samples_per_prompt=3, truncated="mask", drop_uniform_groups=True)
    got = targets_of(keys, [1.0, 1.0, 5.0, 1.0, 2.0, 5.0], [False, False, True, False, False, True])
    assert got.policy_mask[:, 1].tolist() == [False] * 3 + [True, True, False]
    spread = groups_with_spread(torch.tensor([3.0, 4.0]), torch.tensor([False, False]), 2)
    assert spread.tolist() == [False]


def test_when_every_group_is_dropped_the_policy_stays(tmp_path: Path) -> None:
    """No optimiser step is taken, the update counts, and the next one learns again."""
    keys = {"advantage": "rloo", "samples_per_prompt": 2, "drop_uniform_groups": True}
    worth = [0.0]

    def rule(rollout: Rollout) -> float:
        return worth[0] * rollout.response_tokens[0]

    stage = build_stage(tmp_path, ppo_config(ppo=keys), rule)
    before = {name: t.clone() for name, t in stage.learner.tensors().items()}
    metrics = stage.step(0)
    assert metrics["group/zero_spread_frac"] == 1.0 and metrics["group/dropped"] == 6.0
    assert metrics["update/optimiser_steps"] == 0.0
    assert all(torch.equal(t, before[name]) for name, t in stage.learner.tensors().items())
    assert stage.summary({**metrics, "seconds": 1.0})
    worth[0] = 1.0
    metrics = stage.step(1)
    assert metrics["update/optimiser_steps"] > 0 and metrics["group/zero_spread_frac"] < 1.0
    assert any(
        not torch.equal(t, before[name]) for name, t in stage.learner.tensors().items() if name in before
    )


# -- the soft overlong penalty --------------------------------------------------------------------


def test_the_overlong_penalty_grows_over_the_buffer() -> None:
    """Equation 13 of DAPO, with its L_max = max_gen_len and L_cache = buffer."""
    keys = PPOSettings(max_gen_len=20, missing_eos_penalty=0.0, overlong={"buffer": 5, "penalty": 2.0})
    (rule,) = penalties(keys)
    lengths = [1, 15, 16, 18, 20]
    rollouts = [
        Rollout(Prompt("p", (Message("user", "?"),)), 0, (1,), (3,) * n, (0.0,) * n, "x", "length", "v")
        for n in lengths
    ]
    scores = rule.score(rollouts)
    expected = [0.0 if n <= 15 else (15 - n) / 5 for n in lengths]
    assert [s.value * s.weight for s in scores] == pytest.approx([2.0 * e for e in expected])
    assert penalties(PPOSettings(missing_eos_penalty=0.0)) == []


# -- the page -------------------------------------------------------------------------------------


def test_every_recipe_of_the_page_is_a_configuration() -> None:
    """docs/group_methods.md: its YAML is read by the schema, and names every option."""
    text = (DOCS / "group_methods.md").read_text(encoding="utf-8")
    recipes: list[dict[str, Any]] = [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S)
    ]
    assert len(recipes) >= 5
    for recipe in recipes:
        PPOSettings.model_validate(recipe["training"]["ppo"])
    used = {key for recipe in recipes for key in recipe["training"]["ppo"]}
    assert {"advantage", "scale_rewards", "loss_aggregation", "importance_sampling_level"} <= used
    assert {"drop_uniform_groups", "overlong"} <= used


def test_token_ratios_are_the_published_loss() -> None:
    """The default path still is `clipped_policy_loss`, averaged over tokens, bit for bit."""
    outputs, targets = batch_of([3, 2])
    keys = PPOSettings()
    mask = targets.policy_mask
    expected = clipped_policy_loss(
        outputs.logprobs[mask], targets.old_logprobs[mask], targets.advantages[mask], 0.2
    ).sum() / int(mask.sum())
    assert torch.equal(loss_of(outputs, targets, keys)[0], expected)
