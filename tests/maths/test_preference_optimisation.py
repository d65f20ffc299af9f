"""Each loss against its equation in plain Python, a property or limit, and TRL 1.16.0's numbers."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harken.maths.preference_loss import soft_bradley_terry
from harken.maths.preference_optimisation import (
    dpo_loss,
    expected_loss,
    hinge,
    ipo,
    kl_baseline,
    kto,
    log_odds,
    odds_ratio,
    robust_loss,
    sequence_score,
    simpo,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "preference_losses.json").read_text())
LOGRATIO = st.floats(-8.0, 8.0)
AVERAGE = st.floats(-6.0, -0.01)
BETA = st.floats(0.05, 3.0)


def one(value):
    return torch.tensor([value], dtype=torch.float64)


def golden(part, name):
    return torch.tensor(GOLDEN[part][name], dtype=torch.float64)


def log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


# -- dpo, cDPO, robust ----------------------------------------------------------------------------


@given(LOGRATIO, LOGRATIO, BETA)
def test_dpo_is_its_equation(chosen, rejected, beta):
    expected = -log_sigmoid(beta * (chosen - rejected))
    assert dpo_loss(beta)(one(chosen), one(rejected)).item() == pytest.approx(expected, abs=1e-12)


def test_dpo_agrees_with_trl():
    trl = json.loads((Path(__file__).parents[1] / "golden" / "trl.json").read_text())["dpo"]
    values = {name: torch.tensor(trl[name], dtype=torch.float64) for name in trl}
    chosen = values["chosen_logps"] - values["ref_chosen_logps"]
    rejected = values["rejected_logps"] - values["ref_rejected_logps"]
    torch.testing.assert_close(dpo_loss(trl["beta"])(chosen, rejected), values["loss"])


@given(LOGRATIO, LOGRATIO, st.floats(0.0, 1.0))
def test_the_expected_loss_of_dpo_is_the_cross_entropy(chosen, rejected, label):
    """cDPO: with label 1 − ε the loss is that of Mitchell 2023, a binary cross-entropy."""
    ours = expected_loss(dpo_loss(0.4), one(chosen), one(rejected), one(label))
    torch.testing.assert_close(ours, soft_bradley_terry(one(0.4 * chosen), one(0.4 * rejected), one(label)))


@pytest.mark.parametrize("loss", [dpo_loss(0.3), lambda c, r: ipo(c, r, 0.3), lambda c, r: hinge(c, r, 0.3)])
def test_a_tie_has_no_side(loss):
    ours = expected_loss(loss, one(1.3), one(-0.4), one(0.5))
    torch.testing.assert_close(ours, expected_loss(loss, one(-0.4), one(1.3), one(0.5)))


@given(LOGRATIO, LOGRATIO, st.floats(0.01, 0.45))
def test_robust_is_unbiased(chosen, rejected, noise):
    """rDPO: its expectation over flipped labels is the loss of the clean label."""
    loss = dpo_loss(0.5)

    def robust(c, r):
        return robust_loss(loss, c, r, noise)

    noisy = expected_loss(robust, one(chosen), one(rejected), one(1.0 - noise))
    torch.testing.assert_close(noisy, loss(one(chosen), one(rejected)))


@given(LOGRATIO, LOGRATIO)
def test_robust_without_noise_is_the_loss(chosen, rejected):
    loss = dpo_loss(0.5)
    torch.testing.assert_close(
        robust_loss(loss, one(chosen), one(rejected), 0.0), loss(one(chosen), one(rejected))
    )


def test_robust_is_its_equation():
    chosen, rejected, noise, beta = 1.2, 0.3, 0.15, 0.7
    margin = beta * (chosen - rejected)
    expected = (-(1 - noise) * log_sigmoid(margin) + noise * log_sigmoid(-margin)) / (1 - 2 * noise)
    ours = robust_loss(dpo_loss(beta), one(chosen), one(rejected), noise)
    assert ours.item() == pytest.approx(expected, abs=1e-12)


# -- ipo, hinge -----------------------------------------------------------------------------------


@given(LOGRATIO, LOGRATIO, BETA)
def test_ipo_is_its_equation(chosen, rejected, beta):
    expected = ((chosen - rejected) - 1 / (2 * beta)) ** 2
    assert ipo(one(chosen), one(rejected), beta).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_ipo_is_least_at_a_margin_of_half_over_beta(beta):
    gap = one(1 / (2 * beta)).requires_grad_()
    ipo(gap, one(0.0), beta).sum().backward()
    assert gap.grad.item() == pytest.approx(0.0, abs=1e-12)


@given(LOGRATIO, LOGRATIO, BETA)
def test_hinge_is_its_equation(chosen, rejected, beta):
    expected = max(0.0, 1 - beta * (chosen - rejected))
    assert hinge(one(chosen), one(rejected), beta).item() == pytest.approx(expected, abs=1e-12)


def test_hinge_leaves_pairs_beyond_the_margin_alone():
    chosen = torch.tensor([20.0, 0.0], requires_grad=True)
    hinge(chosen, torch.zeros(2), 0.1).sum().backward()
    assert chosen.grad.tolist() == pytest.approx([0.0, -0.1])


# -- simpo, orpo ----------------------------------------------------------------------------------


@given(AVERAGE, AVERAGE, BETA, st.floats(0.0, 2.0))
def test_simpo_is_its_equation(chosen, rejected, beta, gamma):
    expected = -log_sigmoid(beta * chosen - beta * rejected - gamma)
    assert simpo(one(chosen), one(rejected), beta, gamma).item() == pytest.approx(expected, abs=1e-12)


def test_simpo_agrees_with_trl():
    chosen, rejected = golden("simpo", "chosen"), golden("simpo", "rejected")
    ours = simpo(chosen, rejected, GOLDEN["simpo"]["beta"], GOLDEN["simpo"]["simpo_gamma"])
    torch.testing.assert_close(ours, golden("simpo", "loss"), atol=1e-5, rtol=1e-5)


@given(AVERAGE)
def test_log_odds_is_the_definition(logprob):
    p = math.exp(logprob)
    assert log_odds(one(logprob)).item() == pytest.approx(math.log(p / (1 - p)), rel=1e-9)


def test_log_odds_of_certainty_is_finite():
    certain = torch.zeros(1, requires_grad=True)
    log_odds(certain).sum().backward()
    assert torch.isfinite(log_odds(certain)).all() and torch.isfinite(certain.grad).all()


@given(AVERAGE, AVERAGE)
def test_odds_ratio_is_its_equation(chosen, rejected):
    odds = [math.exp(v) / -math.expm1(v) for v in (chosen, rejected)]
    expected = -log_sigmoid(math.log(odds[0] / odds[1]))
    assert odds_ratio(one(chosen), one(rejected)).item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_orpo_agrees_with_trl():
    ours = GOLDEN["orpo"]["beta"] * odds_ratio(golden("orpo", "chosen"), golden("orpo", "rejected"))
    torch.testing.assert_close(ours, golden("orpo", "loss"), atol=1e-5, rtol=1e-5)


# -- kto ------------------------------------------------------------------------------------------


@given(LOGRATIO, st.floats(0.0, 5.0), BETA, st.booleans())
def test_kto_is_its_equation(logratio, kl, beta, desirable):
    sign = 1 if desirable else -1
    expected = (2.0 if desirable else 3.0) * (1 - 1 / (1 + math.exp(-sign * beta * (logratio - kl))))
    ours = kto(
        one(logratio), torch.tensor([desirable]), torch.tensor(kl, dtype=torch.float64), beta, 2.0, 3.0
    )
    assert ours.item() == pytest.approx(expected, abs=1e-9)


def test_kto_has_no_gradient_through_its_baseline():
    kl = torch.tensor(0.7, requires_grad=True)
    logratio = torch.tensor([0.2, 0.4], requires_grad=True)
    kto(logratio, torch.tensor([True, False]), kl, 0.3).sum().backward()
    assert kl.grad is None
    assert logratio.grad[0] < 0 < logratio.grad[1]


def test_kto_agrees_with_trl():
    kl = kl_baseline(golden("kto", "KL_logps") - golden("kto", "ref_KL_logps"))
    assert kl.item() == pytest.approx(GOLDEN["kto"]["kl"]) and kl > 0
    for side, desirable in (("chosen", True), ("rejected", False)):
        logratio = golden("kto", f"{side}_logps") - golden("kto", f"reference_{side}_logps")
        ours = kto(logratio, torch.full((5,), desirable), kl, GOLDEN["kto"]["beta"])
        torch.testing.assert_close(ours, golden("kto", f"{side}_losses"), atol=1e-5, rtol=1e-5)


def test_the_kl_baseline_is_never_negative():
    assert kl_baseline(torch.tensor([-3.0, 1.0])).item() == 0.0
    assert kl_baseline(torch.tensor([-1.0, 4.0])).item() == 1.5


# -- scores of sequences --------------------------------------------------------------------------

LOGPROBS = torch.tensor([[float("nan"), -1.0, -2.0, -4.0], [float("nan"), -0.5, float("nan"), float("nan")]])
MASK = torch.tensor([[False, True, True, True], [False, True, False, False]])


def test_a_score_is_the_sum_over_the_response():
    """P: what is outside the response, NaN included, does not count."""
    assert sequence_score(LOGPROBS, MASK).tolist() == [-7.0, -0.5]


def test_an_average_divides_by_the_response_tokens():
    assert sequence_score(LOGPROBS, MASK, average=True).tolist() == pytest.approx([-7 / 3, -0.5])


def test_ld_weights_only_the_tokens_beyond_the_shorter_response():
    """LD-DPO eq. 9: the first min(|y_w|, |y_l|) tokens count fully, the others α."""
    shorter = torch.tensor([1.0, 1.0])
    ours = sequence_score(LOGPROBS, MASK, full_weight=shorter, tail_weight=0.25)
    assert ours.tolist() == [-1.0 + 0.25 * -6.0, -0.5]
    full = sequence_score(LOGPROBS, MASK, full_weight=shorter, tail_weight=1.0)
    assert full.tolist() == sequence_score(LOGPROBS, MASK).tolist()


def test_an_empty_response_scores_zero():
    assert sequence_score(LOGPROBS, torch.zeros_like(MASK), average=True).tolist() == [0.0, 0.0]
