"""The same tensors through Harken and through the lines of TRL 1.11.0 (golden/make_trl.py wrote its results).

What agrees does so to 1e-9 in float64 and 1e-5 in float32. What differs is derived, and the derivation is
checked, so that every difference is one this page of tests understands. docs/correctness.md tells it in words.
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from golden.wave_model import CONFIG, fill_with_waves
from make_targets import make_targets
from tiny import PAD, tiny_tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from harken.batches import PolicyOutputs, collate
from harken.config.ppo import PPOSettings
from harken.maths.advantage import gae
from harken.maths.masked import masked_mean, whiten
from harken.maths.policy_loss import clipped_policy_loss
from harken.models.backbone import Backbone
from harken.models.roles import Policy, RewardModel, ScalarHead
from harken.records import Message, Prompt, Rollout, Score
from harken.reward.rules import penalties
from harken.reward.source import score_all
from harken.train.ppo.loss import UpdateStats, policy_loss, value_loss
from harken.train.ppo.minibatch import TokenCounts
from harken.train.ppo.targets import PPOTargets, compute_targets

GOLDEN = json.loads((Path(__file__).parent / "golden" / "trl.json").read_text())
UPDATES = GOLDEN["updates"]
CASES = UPDATES["cases"]
EOS = 2
each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: f"lam={c['settings']['lam']}")


def tensor(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def given(name: str) -> Tensor:
    return tensor(UPDATES["inputs"][name])


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, check_dtype=False)


def settings(case: dict[str, Any]) -> PPOSettings:
    theirs = case["settings"]
    return PPOSettings(
        kl_estimator=theirs["kl_estimator"],
        gamma=theirs["gamma"],
        lam=theirs["lam"],
        clip_range=theirs["cliprange"],
        value_clip_range=theirs["cliprange_value"],
        missing_eos_penalty=theirs["missing_eos_penalty"] or 0.0,
        whiten_advantages=False,
    )


def actions() -> Tensor:
    """Everything up to the first end token is an action: what Harken's sampler records."""
    rows = []
    for row in UPDATES["responses"]:
        length = row.index(EOS) + 1 if EOS in row else len(row)
        rows.append([t < length for t in range(len(row))])
    return torch.tensor(rows)


class Given:
    """The reward model's scores, as given."""

    name = "reward_model"

    def score(self, rollouts: list[Rollout]) -> list[Score]:
        return [Score(self.name, value) for value in UPDATES["inputs"]["scores"]]


def rewards(case: dict[str, Any]) -> Tensor:
    """Score and penalties of every response, the way a run adds them up."""
    rollouts = []
    for row, response_mask in zip(UPDATES["responses"], actions().tolist(), strict=True):
        tokens = tuple(token for token, flag in zip(row, response_mask, strict=True) if flag)
        stop = "end_of_turn" if tokens[-1] == EOS else "length"
        prompt = Prompt("p", (Message("user", "?"),))
        rollouts.append(Rollout(prompt, 0, (1,), tokens, (-1.0,) * len(tokens), "", stop, "v"))
    sources = [Given(), *penalties(settings(case))]
    return tensor([scored.reward for scored in score_all(sources, rollouts)])


def credited(case: dict[str, Any]) -> PPOTargets:
    """Harken's credit of TRL's inputs. Where no token was sampled it finds NaN."""
    response_mask = actions()
    old = PolicyOutputs(
        *(torch.where(response_mask, given(name), torch.nan) for name in ("logprobs", "logprobs", "values"))
    )
    truncated = ~(torch.tensor(UPDATES["responses"]) == EOS).any(1)
    coefficient = case["settings"]["kl_coef"]
    return compute_targets(
        old, given("ref_logprobs"), response_mask, truncated, rewards(case), coefficient, settings(case)
    )


def ended_early() -> list[int]:
    """Rows with room behind their end token: there TRL pays the score one place later."""
    return [row for row, response_mask in enumerate(actions().tolist()) if not response_mask[-1]]


def last_places() -> Tensor:
    return actions().sum(1) - 1


# -- where they agree -----------------------------------------------------------------------------


@each_case
def test_the_same_tokens_are_actions_and_the_same_scores_are_paid(case: dict[str, Any]) -> None:
    """P8, P20: up to and with the first end token; the missing-EOS penalty is subtracted from truncated responses."""
    assert actions().tolist() == [[not flag for flag in row] for row in case["padding_mask"]]
    close(rewards(case), tensor(case["scores"]))


@each_case
def test_kl_agrees(case: dict[str, Any]) -> None:
    """P16: k1 and k3 for every token, and TRL's `objective/kl`, the mean of the sums per response."""
    ours, response_mask = credited(case), actions()
    close(ours.kl_estimate[response_mask], tensor(case["kl"])[response_mask])
    assert float(ours.kl_estimate.sum() / len(response_mask)) == pytest.approx(case["objective/kl"], abs=1e-9)


@each_case
def test_token_rewards_agree_but_for_the_place_of_the_score(case: dict[str, Any]) -> None:
    """P15: on every token before the last; on the last, TRL's two places add up to Harken's one."""
    ours, theirs, last = credited(case).rewards, tensor(case["rewards"]), last_places()
    before = torch.arange(ours.shape[1]) < last[:, None]
    close(ours[before], theirs[before])
    for row, place in enumerate(last.tolist()):
        here = theirs[row, place]
        if row in ended_early():
            assert float(here) != pytest.approx(float(ours[row, place]))
            here = here + theirs[row, place + 1]
        close(ours[row, place], here)


@each_case
def test_gae_agrees_on_trls_own_region(case: dict[str, Any]) -> None:
    """P23: given TRL's rewards and its one place more, the advantages and returns are TRL's."""
    region = ~torch.tensor(case["padding_mask_p1"])
    values = torch.where(region, given("values"), torch.nan)
    ours = gae(tensor(case["rewards"]), values, region, case["settings"]["gamma"], case["settings"]["lam"])
    close(ours[region], tensor(case["unwhitened_advantages"])[region])
    close((ours + values)[region], tensor(case["returns"])[region])


@each_case
def test_advantages_agree_where_the_response_fills_the_width(case: dict[str, Any]) -> None:
    """P15, P23: a truncated response and one whose last place is its end token have no place behind them."""
    full = [row for row in range(len(UPDATES["responses"])) if row not in ended_early()]
    ours = credited(case)
    close(ours.advantages[full], tensor(case["unwhitened_advantages"])[full])
    close(ours.returns[full], tensor(case["returns"])[full])


@each_case
def test_losses_of_the_same_credit_agree(case: dict[str, Any]) -> None:
    """P29, P30: both clipped losses and their sum, each over its own count of tokens, from TRL's credit."""
    real, real_p1 = actions(), ~torch.tensor(case["padding_mask_p1"])
    now = PolicyOutputs(given("new_logprobs"), given("new_logprobs"), given("vpred"))
    values = torch.where(real_p1, given("values"), 0.0)
    targets = make_targets(
        given("logprobs"), values, tensor(case["advantages"]), tensor(case["returns"]), real, real_p1
    )
    measures, chosen = UpdateStats(), settings(case)
    counts = int(real.sum()), int(real_p1.sum())
    measures.begin_step(TokenCounts(*counts, 1))
    policy = policy_loss(now, targets, chosen, measures) / counts[0]
    value = value_loss(now.values, targets, chosen, measures) / counts[1]
    measures.end_step(1.0)
    theirs = case["whole"]
    assert float(policy) == pytest.approx(theirs["pg_loss"], abs=1e-9)
    assert float(value) == pytest.approx(chosen.vf_coef * theirs["vf_loss"], abs=1e-9)
    assert measures.metrics()["loss/total"] == pytest.approx(theirs["loss"], abs=1e-9)


def through_harken() -> tuple[Policy, RewardModel, list[list[int]], list[list[bool]]]:
    """The models of the golden numbers, and its conversations without any padding."""
    tokenizer = tiny_tokenizer()
    policy = fill_with_waves(LlamaForCausalLM(CONFIG))
    scorer = fill_with_waves(LlamaForSequenceClassification(CONFIG))
    trunk = LlamaForCausalLM(CONFIG)
    trunk.model.load_state_dict(scorer.model.state_dict())
    head, reward_head = ScalarHead(CONFIG.hidden_size, 0.0), ScalarHead(CONFIG.hidden_size, 0.0)
    with torch.no_grad():
        head.weight.copy_(scorer.score.weight[0])
        reward_head.weight.copy_(scorer.score.weight[0])
    golden = GOLDEN["through_models"]
    rows, response_mask = [], []
    for query, response, flags in zip(
        golden["queries"], golden["responses"], actions().tolist(), strict=True
    ):
        answer = [token for token, flag in zip(response, flags, strict=True) if flag]
        rows.append([*query, *answer])
        response_mask.append([False] * len(query) + [True] * len(answer))
    backbone = Backbone(policy, tokenizer)
    return (
        Policy(backbone, None, head),
        RewardModel(Backbone(trunk, tokenizer), None, reward_head),
        rows,
        response_mask,
    )


def test_the_same_weights_give_the_same_numbers() -> None:
    """P3, P6, P13, P25: left-padded there, right-padded here; log-probabilities, entropy, values, scores to 1e-5."""
    policy, reward_model, rows, response_mask = through_harken()
    golden = GOLDEN["through_models"]
    batch = collate(rows, response_mask, PAD)
    with torch.no_grad():
        ours = policy.evaluate(batch, golden["temperature"])
    real, real_p1 = actions(), ~torch.tensor(CASES[0]["padding_mask_p1"])
    for name, got in (("new_logprobs", ours.logprobs), ("entropy", ours.entropy), ("vpred", ours.values)):
        # Boolean indexing goes row by row, so both sides list the same tokens in the same order.
        close(got[batch.response_mask].double(), tensor(golden[name])[real], 1e-5)
    # One place behind the end token TRL's value is Harken's value of the whole response.
    assert ours.final_values is not None
    for row in ended_early():
        place = int(last_places()[row]) + 1
        assert real_p1[row, place]
        assert float(ours.final_values[row]) == pytest.approx(golden["vpred"][row][place], abs=1e-5)
    close(tensor(reward_model.raw_scores(rows, 1000)), tensor(golden["score"]), 1e-5)


# -- where they differ, and by how much -------------------------------------------------------------


@each_case
def test_the_later_score_costs_a_discount_and_brings_a_value(case: dict[str, Any]) -> None:
    """P15: T the last token, s the score, V' the value behind it: A_T differs by s(1 − γλ) − γ(1 − λ)V'.

    Earlier tokens see (γλ)^(T − t) of it. With γ = λ = 1 nothing is left of the difference.
    """
    ours, theirs = credited(case).advantages, tensor(case["unwhitened_advantages"])
    gamma, lam = case["settings"]["gamma"], case["settings"]["lam"]
    for row in ended_early():
        last = int(last_places()[row])
        score, behind = case["scores"][row], UPDATES["inputs"]["values"][row][last + 1]
        at_the_end = score * (1 - gamma * lam) - gamma * (1 - lam) * behind
        for t in range(last + 1):
            wanted = (gamma * lam) ** (last - t) * at_the_end
            assert float(ours[row, t] - theirs[row, t]) == pytest.approx(wanted, abs=1e-9)
            assert gamma * lam < 1 or wanted == pytest.approx(0.0)


@each_case
def test_whitening_divides_by_n_not_by_n_minus_one(case: dict[str, Any]) -> None:
    """P26, P27: both remove the mean over the whole batch; Harken's deviation is √((n − 1)/n) of TRL's."""
    real = actions()
    ours = whiten(tensor(case["unwhitened_advantages"]), real)
    n = int(real.sum())
    close(ours[real] * math.sqrt((n - 1) / n), tensor(case["advantages"])[real], 1e-7)
    assert float(masked_mean(ours, real)) == pytest.approx(0.0, abs=1e-9)


@each_case
def test_micro_batches_are_summed_not_averaged(case: dict[str, Any]) -> None:
    """P31: TRL's mean of micro-batch means is another number than its own loss over the whole; Harken's is not."""
    whole = case["whole"]["pg_loss"]
    parts = [part["pg_loss"] for part in case["micro_batches"]]
    assert sum(parts) / len(parts) != pytest.approx(whole, abs=1e-4)
    now = PolicyOutputs(given("new_logprobs"), given("new_logprobs"), given("vpred"))
    given_targets = partial(
        make_targets, given("logprobs"), given("values"), tensor(case["advantages"]), tensor(case["returns"])
    )
    measures = UpdateStats()
    measures.begin_step(TokenCounts(int(actions().sum()), 0, 1))
    total = 0.0
    for rows in UPDATES["rows"]:
        policy_mask = actions().clone()
        policy_mask[[row for row in range(len(policy_mask)) if row not in rows]] = False
        total += float(policy_loss(now, given_targets(policy_mask), settings(case), measures))
    assert total / int(actions().sum()) == pytest.approx(whole, abs=1e-9)


@each_case
def test_metrics_of_the_policy_are_other_quantities(case: dict[str, Any]) -> None:
    """P32: TRL means k2, entropy and ratio over padding too and counts a clip only where it changes the loss."""
    real, theirs = actions(), case["whole"]
    share = float(real.sum()) / real.numel()
    difference = given("new_logprobs") - given("logprobs")
    k2 = float(masked_mean(difference.square() / 2, real))
    assert theirs["approxkl"] == pytest.approx(k2 * share, abs=1e-9)
    ratio = float(masked_mean(difference.exp(), real))
    assert theirs["ratio_avg"] == pytest.approx(ratio * share + (1 - share), abs=1e-9)
    spread = torch.distributions.Categorical(logits=given("logits")).entropy()
    assert theirs["entropy_avg"] == pytest.approx(float(spread.mean()), abs=1e-9)
    sampled = -torch.where(real, given("logprobs"), 0.0).sum(1).mean()
    assert case["objective/entropy"] == pytest.approx(float(sampled), abs=1e-9)

    measures, chosen = UpdateStats(), settings(case)
    measures.begin_step(TokenCounts(int(real.sum()), 0, 1))
    now = PolicyOutputs(given("new_logprobs"), spread, given("vpred"))
    targets = make_targets(
        given("logprobs"), given("values"), tensor(case["advantages"]), tensor(case["returns"]), real
    )
    policy_loss(now, targets, chosen, measures)
    measures.end_step(1.0)
    ours = measures.metrics()
    k3 = float(masked_mean(difference.exp() - 1 - difference, real))
    assert ours["policy/approxkl"] == pytest.approx(k3, abs=1e-9)
    assert ours["policy/entropy"] == pytest.approx(float(masked_mean(spread, real)), abs=1e-9)
    assert ours["policy/clipfrac"] >= theirs["pg_clipfrac"] - 1e-6


def test_a_runaway_ratio_is_held() -> None:
    """P29: TRL's loss of a token e³⁰ times likelier is e³⁰; Harken holds the log-ratio at 20."""
    golden = GOLDEN["guard"]
    ours = clipped_policy_loss(
        *(tensor([golden[name]]) for name in ("new_logprobs", "old_logprobs", "advantage")), 0.2
    )
    assert golden["loss"] == [pytest.approx(math.exp(30))]
    assert float(ours) == pytest.approx(math.exp(20))
