"""A replay without changes is the recorded update; with changes it is what the definition gives by hand."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded_run import SCORES

from harken.cli import main as cli
from harken.errors import UserError
from harken.inspection.recompute import Replay, StepTensors, as_recorded, recompute, rescore, step_tensors
from harken.inspection.recorded import RecordedStep, read_step
from harken.inspection.replay import replay
from harken.inspection.replay_report import replay_metrics, reproduction, sign_changes
from harken.inspection.replay_settings import REPLAYABLE, replay_config, replay_kl_coef
from harken.run.credit_table import read_credit

MakeRun = Callable[..., Path]
Answer = dict[str, Any]


def replayed(root: Path, *overrides: str) -> tuple[RecordedStep, StepTensors, Replay]:
    step = read_step(root, 3)
    config = replay_config(step, overrides)
    tensors = step_tensors(step)
    return step, tensors, recompute(step, tensors, config, replay_kl_coef(step, config, overrides))


def ragged(tensors: StepTensors, grid: torch.Tensor) -> list[list[float]]:
    return [row[flags].tolist() for row, flags in zip(grid, tensors.response_mask, strict=True)]


def by_hand(
    step: RecordedStep, scores: list[float], kl_penalty: float, gamma: float, lam: float
) -> list[Answer]:
    """Token rewards, advantages before whitening and returns of every response, in plain Python from the table."""
    responses = []
    for row, score in zip(step.credit, scores, strict=True):
        kl = [a - b for a, b in zip(row["old_logprobs"], row["reference_logprobs"], strict=True)]
        rewards = [-kl_penalty * k for k in kl]
        rewards[-1] += score
        values = [*row["values"], 0.0]
        deltas = [r + gamma * values[i + 1] - values[i] for i, r in enumerate(rewards)]
        advantages = [
            sum((gamma * lam) ** (j - i) * deltas[j] for j in range(i, len(deltas)))
            for i in range(len(deltas))
        ]
        returns = [a + v for a, v in zip(advantages, values, strict=False)]
        responses.append({"kl": kl, "rewards": rewards, "advantages": advantages, "returns": returns})
    return responses


def whitened(answers: list[Answer]) -> list[list[float]]:
    every = [a for response in answers for a in response["advantages"]]
    mean, spread = statistics.fmean(every), statistics.pstdev(every)
    return [[(a - mean) / spread for a in response["advantages"]] for response in answers]


MODES: list[dict[str, Any]] = [
    {},
    {"truncated": "mask", "missing_eos_penalty": 0.7},
    {"truncated": "bootstrap"},
    {"missing_eos_penalty": 0.7, "length_penalty": 0.01, "repetition_penalty": 0.3},
    {"kl_estimator": "k3", "whiten_advantages": False},
    {"kl_estimator": "full", "kl_in": "both"},
    {"kl_estimator": "k2", "kl_in": "loss"},
    {"advantage": "reward_minus_value"},
    {"advantage": "rloo", "samples_per_prompt": 2},
    {"advantage": "grpo", "samples_per_prompt": 3, "truncated": "mask"},
    {"score_clip": 1.0, "missing_eos_score": -4.0},
]


@pytest.mark.parametrize(
    "ppo", MODES, ids=lambda ppo: " ".join(f"{k}={v}" for k, v in ppo.items()) or "default"
)
def test_without_a_change_every_number_comes_out_as_recorded(ppo: dict[str, Any], make_run: MakeRun) -> None:
    """Rewards, KL, advantages and returns to 1e-6, in every mode; the report says so."""
    if "missing_eos_score" in ppo:  # the recorded scores are those the rule has already replaced
        scores = [
            ppo["missing_eos_score"] if row in (0, 5) else max(-1, min(1, SCORES[row])) for row in range(6)
        ]
        root = make_run(ppo=ppo, scores=scores)
    else:
        root = make_run(ppo=ppo)
    step, tensors, made = replayed(root)
    recorded = as_recorded(step, tensors).targets
    for name in ("advantages", "returns", "old_logprobs", "old_values"):
        want, got = getattr(recorded, name), getattr(made.targets, name)
        assert torch.allclose(got[tensors.response_mask], want[tensors.response_mask], rtol=0, atol=1e-6), (
            name
        )
    for name in ("kl", "kl_estimate", "rewards", "policy_mask", "value_mask"):
        want, got = getattr(recorded, name), getattr(made.targets, name)
        assert torch.allclose(
            got[tensors.response_mask].float(), want[tensors.response_mask].float(), rtol=0, atol=1e-6
        ), name
    assert any(
        line.startswith("reproduces the recorded advantages: max difference") for line in replay(root, 3, [])
    )


def test_a_table_that_was_changed_is_called_out(make_run: MakeRun) -> None:
    root = make_run()
    step = read_step(root, 3)
    step.credit[2]["advantages"][0] += 1e-3
    tensors = step_tensors(step)
    recorded = as_recorded(step, tensors)
    again = recompute(step, tensors, step.config, recorded.kl_coef)
    assert "DOES NOT reproduce" in reproduction(tensors, recorded, again)


def test_another_kl_coefficient_is_the_hand_computation(make_run: MakeRun) -> None:
    """Property 16: 0.05 → 0.1 doubles the penalty of every nat, then GAE and whitening as defined."""
    step, tensors, made = replayed(make_run(), "training.ppo.kl_coef=0.1")
    hand = by_hand(step, list(SCORES), 0.1, 0.97, 0.9)
    for name, got in (("rewards", made.targets.rewards), ("returns", made.targets.returns)):
        for want, have in zip((a[name] for a in hand), ragged(tensors, got), strict=True):
            assert have == pytest.approx(want, abs=1e-5), name
    for want, have in zip(whitened(hand), ragged(tensors, made.targets.advantages), strict=True):
        assert have == pytest.approx(want, abs=1e-5)


def test_gamma_and_lambda_are_the_hand_computation(make_run: MakeRun) -> None:
    step, tensors, made = replayed(
        make_run(), "training.ppo.gamma=0.5", "training.ppo.lam=0.8", "training.ppo.whiten_advantages=false"
    )
    hand = by_hand(step, list(SCORES), 0.05, 0.5, 0.8)
    for want, have in zip(hand, ragged(tensors, made.targets.advantages), strict=True):
        assert have == pytest.approx(want["advantages"], abs=1e-5)


def test_the_coefficient_is_the_recorded_one_unless_it_is_set(make_run: MakeRun) -> None:
    """An adaptive run stands at another KL coefficient than its kl_coef (0.1 here); asking for that value means it."""
    root = make_run(coefficient=0.03)
    _, tensors, made = replayed(root, "training.ppo.gamma=1.0")
    assert made.kl_coef == pytest.approx(0.03)
    _, _, asked = replayed(root, "training.ppo.kl_coef=0.1")
    assert asked.kl_coef == 0.1
    paid = tensors.recorded.kl[tensors.response_mask].sum() * -0.1 + sum(SCORES)
    assert float(asked.targets.rewards.sum()) == pytest.approx(float(paid), abs=1e-4)


@pytest.mark.parametrize(
    ("estimator", "of"),
    [("abs", abs), ("k2", lambda d: d * d / 2), ("k3", lambda d: math.exp(-d) - 1 + d)],
)
def test_another_estimator_penalises_its_own_kl(
    estimator: str, of: Callable[[float], float], make_run: MakeRun
) -> None:
    step, tensors, made = replayed(make_run(), f"training.ppo.kl_estimator={estimator}")
    for row, have in zip(step.credit, ragged(tensors, made.targets.kl_estimate), strict=True):
        deltas = [a - b for a, b in zip(row["old_logprobs"], row["reference_logprobs"], strict=True)]
        assert have == pytest.approx([of(d) for d in deltas], rel=1e-5, abs=1e-5)


def test_penalties_are_measured_again_on_the_responses(make_run: MakeRun) -> None:
    """Responses 0 and 5 are truncated; lengths are 8, 6, 1, 4, 7, 8."""
    step, _, made = replayed(
        make_run(ppo={"missing_eos_penalty": 0.5}),
        "training.ppo.missing_eos_penalty=2.0",
        "training.ppo.length_penalty=0.1",
    )
    want = [s - 2.0 * (n == 8) - 0.1 * n for s, n in zip(SCORES, (8, 6, 1, 4, 7, 8), strict=True)]
    assert [row.reward for row in made.scored] == pytest.approx(want)
    without = rescore(step, replay_config(step, ["training.ppo.missing_eos_penalty=0.0"]))
    assert [row.reward for row in without] == pytest.approx(SCORES)


def test_the_reward_model_is_clipped_and_weighted_again(make_run: MakeRun) -> None:
    """S2-45: the score is clipped before it is weighted, and only the reward model's."""
    root = make_run(ppo={"length_penalty": 0.1})
    _, _, made = replayed(root, "training.ppo.score_clip=1.0", "training.reward_model.weight=2.0")
    want = [2 * max(-1.0, min(1.0, s)) - 0.1 * n for s, n in zip(SCORES, (8, 6, 1, 4, 7, 8), strict=True)]
    assert [row.reward for row in made.scored] == pytest.approx(want)


def test_a_missing_eos_score_takes_the_place_of_the_models(make_run: MakeRun) -> None:
    _, _, made = replayed(
        make_run(), "training.ppo.missing_eos_score=-3.0", "training.reward_model.weight=2.0"
    )
    want = [2.0 * (-3.0 if row in (0, 5) else SCORES[row]) for row in range(6)]
    assert [row.reward for row in made.scored] == pytest.approx(want)


def test_parts_of_the_reward_are_weighted_by_their_names(make_run: MakeRun) -> None:
    """`training.rewards[i].weight` is that of the column the part writes; others keep theirs."""
    part = {"type": "python", "path": "mine.py:kindness", "weight": 0.5}
    root = make_run(training={"rewards": [part]}, extra=("kindness", 10.0, 0.5))
    _, _, made = replayed(root, "training.rewards[0].weight=-0.1")
    assert [row.reward for row in made.scored] == pytest.approx([s - 1.0 for s in SCORES])
    _, _, same = replayed(root)
    assert [row.reward for row in same.scored] == pytest.approx([s + 5.0 for s in SCORES])


def test_masked_responses_are_left_out_of_the_metrics(make_run: MakeRun) -> None:
    root = make_run()
    step, tensors, made = replayed(
        root, "training.ppo.truncated=mask", "training.ppo.whiten_advantages=false"
    )
    hand = by_hand(step, list(SCORES), 0.05, 0.97, 0.9)
    kept = [a for row in (1, 2, 3, 4) for a in hand[row]["advantages"]]
    figures = replay_metrics(tensors, made)
    assert figures["tokens in the policy loss"] == len(kept) == 18
    assert figures["advantage, mean"] == pytest.approx(statistics.fmean(kept), abs=1e-5)
    assert figures["advantage, standard deviation"] == pytest.approx(statistics.pstdev(kept), abs=1e-5)


def test_the_figures_are_those_of_the_definition(make_run: MakeRun) -> None:
    """S0-12: reward, KL and its cost, returns, explained variance and losses, each rewritten here."""
    step, tensors, made = replayed(make_run(), "training.ppo.kl_coef=0.2", "training.ppo.clip_range=0.3")
    hand = by_hand(step, list(SCORES), 0.2, 0.97, 0.9)
    kl = sum(sum(a["kl"]) for a in hand) / 6
    returns = [r for a in hand for r in a["returns"]]
    values = [v for row in step.credit for v in row["values"]]
    errors = [r - v for r, v in zip(returns, values, strict=True)]
    losses, outside = [], 0
    for row, advantages in zip(step.credit, whitened(hand), strict=True):
        for new, old, a in zip(row["new_logprobs"], row["old_logprobs"], advantages, strict=True):
            ratio = math.exp(new - old)
            held = min(max(ratio, 0.7), 1.3)
            losses.append(-min(a * ratio, a * held))
            outside += held != ratio
    want = {
        "reward, mean": sum(SCORES) / 6,
        "KL from the reference, nats per response": kl,
        "KL by kl_estimator, nats per response": kl,
        "KL penalty per response": 0.2 * kl,
        "token rewards, sum per response": sum(SCORES) / 6 - 0.2 * kl,
        "tokens in the policy loss": 34,
        "advantage, mean": 0.0,
        "advantage, standard deviation": 1.0,
        "return, mean": statistics.fmean(returns),
        "return, standard deviation": statistics.pstdev(returns),
        "explained variance of the critic": 1 - statistics.pvariance(errors) / statistics.pvariance(returns),
        "value loss before the update": statistics.fmean(e * e / 2 for e in errors),
        "value loss × vf_coef": 0.1 * statistics.fmean(e * e / 2 for e in errors),
        "policy loss after the update": statistics.fmean(losses),
        "ratios outside the clip range": outside / 34,
    }
    got = replay_metrics(tensors, made)
    assert got.keys() == want.keys()
    for name, figure in want.items():
        assert got[name] == pytest.approx(figure, abs=1e-5), name


def test_kl_in_the_loss_is_its_coefficient_times_the_estimate_after_the_update(make_run: MakeRun) -> None:
    step, tensors, made = replayed(make_run(), "training.ppo.kl_in=loss", "training.ppo.kl_estimator=k2")
    deltas = [
        n - r
        for row in step.credit
        for n, r in zip(row["new_logprobs"], row["reference_logprobs"], strict=True)
    ]
    figures = replay_metrics(tensors, made)
    assert figures["KL in the loss after the update"] == pytest.approx(
        0.05 * statistics.fmean(d * d / 2 for d in deltas), rel=1e-4
    )
    assert figures["token rewards, sum per response"] == pytest.approx(sum(SCORES) / 6, abs=1e-5)


def test_sign_changes_are_counted_by_token(make_run: MakeRun) -> None:
    step, tensors, made = replayed(make_run(), "training.ppo.kl_coef=3.0")
    before = [a for row in step.credit for a in row["advantages"]]
    after = [a for row in whitened(by_hand(step, list(SCORES), 3.0, 0.97, 0.9)) for a in row]
    flipped = sum((a > 0) != (b > 0) for a, b in zip(before, after, strict=True))
    assert 0 < flipped < 34
    assert sign_changes(as_recorded(step, tensors), made) == pytest.approx(flipped / 34)


def test_the_table_shows_both_sides_and_the_difference(make_run: MakeRun) -> None:
    root = make_run()
    step, tensors, _ = replayed(root)
    lines = replay(root, 3, ["training.ppo.kl_coef=0.2"])
    kl = replay_metrics(tensors, as_recorded(step, tensors))["KL from the reference, nats per response"]
    assert kl is not None
    cost = next(line for line in lines if line.startswith("KL penalty per response"))
    assert cost.split()[-3:] == [f"{0.05 * kl:.4f}", f"{0.2 * kl:.4f}", f"{0.15 * kl:+.4f}"]
    assert "training.ppo.kl_coef: 0.1 → 0.2" in lines and "KL coefficient: 0.05 → 0.2" in lines
    assert max(map(len, lines[1:])) <= 100


def test_without_new_logprobs_there_is_no_policy_loss_and_it_is_said(make_run: MakeRun) -> None:
    lines = replay(make_run(measured=False), 3, [])
    assert re.search(r"^policy loss after the update +— +—$", "\n".join(lines), re.MULTILINE)
    assert lines[-2].endswith("not measured again after this update")
    assert lines[-1].startswith("Fix: train with training.ppo.trace_every: 1")


def test_the_new_credit_can_be_written_and_read_as_the_recorded_is(make_run: MakeRun, tmp_path: Path) -> None:
    root, out = make_run(ppo={"missing_eos_penalty": 0.5}), tmp_path / "again.parquet"
    replay(root, 3, [], out)
    assert out.read_bytes() == (root / "credit" / "update-000003.parquet").read_bytes()
    replay(root, 3, ["training.ppo.kl_coef=0.2", "training.ppo.missing_eos_penalty=0.0"], out)
    rows = read_credit(out)
    assert [row["score"] for row in rows] == list(SCORES)
    assert rows[3]["rewards"][0] == pytest.approx(-0.2 * rows[3]["kl"][0], rel=1e-5)


@pytest.mark.parametrize(
    ("ppo", "override", "message"),
    [
        ({}, "training.ppo.temperature=0.7", "needs a new generation"),
        ({}, "training.ppo.max_gen_len=9", "needs a new generation"),
        ({}, "data.limit=3", "needs a new generation"),
        ({}, "training.ppo.reference=base", "forward pass"),
        ({}, "training.ppo.critic=model", "forward pass"),
        ({}, "training.reward_model.checkpoint_path=x", "forward pass|exclude each other"),
        ({}, "training.ppo.kl_target=3.0", "set training.ppo.kl_coef"),
        ({}, "training.ppo.kl_control=adaptive", "set training.ppo.kl_coef"),
        ({}, "training.lr=0.1", "changes the optimisation"),
        ({}, "training.ppo.epochs=3", "changes the optimisation"),
        (
            {"kl_estimator": "k2", "kl_in": "loss"},
            "training.ppo.kl_estimator=full",
            "sums over the vocabulary",
        ),
        ({"score_clip": 2.0}, "training.ppo.score_clip=null", "clipped to ± 2 before they were recorded"),
        ({"missing_eos_score": -1.0}, "training.ppo.missing_eos_score=null", "replaced the reward model"),
        ({"advantage": "rloo", "samples_per_prompt": 2}, "training.ppo.advantage=gae", "rloo trained none"),
        ({}, "training.ppo.advantage=rloo", "set samples_per_prompt to 2 or more"),
    ],
)
def test_settings_that_need_a_model_or_generation_are_refused_with_the_reason(
    ppo: dict[str, Any], override: str, message: str, make_run: MakeRun
) -> None:
    root = make_run(ppo=ppo)
    with pytest.raises(UserError, match=message):
        replay(root, 3, [override])


def test_a_wider_clip_is_fine_when_nothing_was_clipped(make_run: MakeRun) -> None:
    _, _, made = replayed(make_run(ppo={"score_clip": 3.5}), "training.ppo.score_clip=null")
    assert [row.reward for row in made.scored] == pytest.approx(SCORES)


def test_bootstrap_needs_the_value_at_the_truncation(make_run: MakeRun) -> None:
    step = read_step(make_run(), 3)
    for row in step.credit:
        row["final_value"] = None
    with pytest.raises(UserError, match="V of the last state of a truncated response"):
        replay_config(step, ["training.ppo.truncated=bootstrap"])


def test_bootstrap_earns_the_final_value_and_no_score(make_run: MakeRun) -> None:
    """Property 20: at a cut, V of the state it was truncated at comes after the last token, discounted once."""
    step, tensors, made = replayed(
        make_run(),
        "training.ppo.truncated=bootstrap",
        "training.ppo.lam=0.0",
        "training.ppo.whiten_advantages=false",
    )
    advantages = ragged(tensors, made.targets.advantages)
    for row, record in enumerate(step.credit):
        truncated = step.rollouts[row]["stop"] == "length"
        kl_penalty = 0.05 * (record["old_logprobs"][-1] - record["reference_logprobs"][-1])
        earned = 0.97 * record["final_value"] if truncated else SCORES[row]
        assert advantages[row][-1] == pytest.approx(earned - kl_penalty - record["values"][-1], abs=1e-5)


def test_help_lists_every_key_that_can_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["replay", "--help"]) == 0
    words = set(re.findall(r"[\w.\[\]]+", capsys.readouterr().out))
    assert {key.removeprefix("training.ppo.") for key in REPLAYABLE} <= {word.strip(".") for word in words}
