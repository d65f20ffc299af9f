import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harken.maths.kl import adaptive_coefficient, k1, k2, k3

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "trl.json").read_text())["ppo"]
LOGPROB = st.floats(-12.0, 0.0)


def one(value):
    return torch.tensor([value], dtype=torch.float64)


@given(LOGPROB, LOGPROB)
def test_the_estimators_are_their_definitions(logprob, reference):
    """P17 (S4-23)."""
    delta = logprob - reference
    assert k1(one(logprob), one(reference)).item() == pytest.approx(delta)
    assert k2(one(logprob), one(reference)).item() == pytest.approx(delta**2 / 2)
    assert k3(one(logprob), one(reference)).item() == pytest.approx(
        math.exp(-delta) - 1 + delta, rel=1e-9, abs=1e-12
    )


@given(LOGPROB, LOGPROB)
def test_k2_and_k3_are_never_negative(logprob, reference):
    """P32."""
    assert k2(one(logprob), one(reference)).item() >= 0
    assert k3(one(logprob), one(reference)).item() >= 0


def test_k1_is_positive_where_the_policy_is_surer_than_the_reference():
    """P16 (S4-06): kl = log π - log π_ref, not the other way round, and not clamped."""
    assert k1(torch.tensor([-1.0, -3.0]), torch.tensor([-3.0, -1.0])).tolist() == [2.0, -2.0]


def test_k1_and_k3_agree_with_trl():
    real = ~torch.tensor(GOLDEN["padding_mask"])
    logprobs, reference = (
        torch.tensor(GOLDEN["inputs"][name], dtype=torch.float64)[real]
        for name in ("logprobs", "ref_logprobs")
    )
    torch.testing.assert_close(k1(logprobs, reference), torch.tensor(GOLDEN["kl"], dtype=torch.float64)[real])
    torch.testing.assert_close(k3(logprobs, reference), torch.tensor(GOLDEN["k3"], dtype=torch.float64)[real])


def distributions():
    random = torch.Generator().manual_seed(839)
    logits = torch.randn(6, generator=random, dtype=torch.float64).requires_grad_()
    reference = torch.log_softmax(torch.randn(6, generator=random, dtype=torch.float64), 0)
    return logits, torch.log_softmax(logits, 0), reference


def test_k1_and_k3_are_unbiased():
    """P17: their expectation over all tokens is the KL; k2's is not."""
    _, logprobs, reference = distributions()
    exact = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=logprobs), torch.distributions.Categorical(logits=reference)
    ).item()
    p = logprobs.exp()
    assert (p * k1(logprobs, reference)).sum().item() == pytest.approx(exact, rel=1e-9)
    assert (p * k3(logprobs, reference)).sum().item() == pytest.approx(exact, rel=1e-9)
    assert (p * k2(logprobs, reference)).sum().item() != pytest.approx(exact, rel=0.01)


def test_only_k2_has_the_gradient_of_the_kl():
    """P17: as a loss on sampled tokens, k1 pushes nowhere and k3 the wrong way."""
    logits, logprobs, reference = distributions()
    p = logprobs.exp()

    def gradient(loss):
        return torch.autograd.grad(loss, logits, retain_graph=True)[0]

    exact = gradient((p * (logprobs - reference)).sum())
    expected = {k: gradient((p.detach() * k(logprobs, reference)).sum()) for k in (k1, k2, k3)}
    torch.testing.assert_close(expected[k2], exact)
    torch.testing.assert_close(expected[k1], torch.zeros_like(exact), rtol=0, atol=1e-12)
    assert not torch.allclose(expected[k3], exact, rtol=0.05)


@pytest.mark.parametrize(
    ("observed", "sequences", "expected"),
    [
        (6.0, 256, 0.2),  # on target: unchanged
        (60.0, 256, 0.2 * 1.00512),  # far above: a rise of 0.2 × 256 / 10,000 and no more
        (0.0, 256, 0.2 * 0.99488),
        (-5.0, 256, 0.2 * 0.99488),
        (6.6, 1000, 0.2 * 1.01),  # a tenth above: 0.1 × 1,000 / 10,000
        (5.4, 1000, 0.2 * 0.99),
    ],
)
def test_the_coefficient_by_hand(observed, sequences, expected):
    """P18 (S4-24, S4-33). By hand from Ziegler et al. 2019: target 6 nats a sequence, horizon 10,000."""
    assert adaptive_coefficient(0.2, observed, 6.0, 10_000.0, sequences) == pytest.approx(expected, rel=1e-12)


@given(st.floats(1e-3, 10.0), st.floats(-50.0, 500.0), st.floats(0.1, 50.0), st.integers(1, 1000))
def test_the_coefficient_moves_towards_the_target_within_the_clip(coefficient, observed, target, n):
    """P18: never further than the clip allows, in the direction that fixes the error."""
    after = adaptive_coefficient(coefficient, observed, target, 10_000.0, n)
    assert abs(after / coefficient - 1) <= 0.2 * n / 10_000 + 1e-12
    assert (after >= coefficient) if observed >= target else (after <= coefficient)


def test_the_controller_holds_a_plant_at_its_target():
    """A plant whose KL falls with the coefficient (KL = 1 / coefficient) settles at 6 nats."""
    coefficient = 0.02
    for _ in range(2000):
        coefficient = adaptive_coefficient(coefficient, 1 / coefficient, 6.0, 10_000.0, 512)
    assert 1 / coefficient == pytest.approx(6.0, rel=0.01)
