import re

import numpy as np
import pytest

from harken.evaluation.compare import compare
from harken.evaluation.flip import flip_pair
from harken.evaluation.verdict import find_pair, headline, interval_sign, power_note

N = 60


def summary(
    reward=0.0, gold=0.0, n=N, cap=(6, 6), repeated=(6, 6), judges=("gold",), order=("Base", "SFT", "PPO")
):
    """An evaluation in which PPO differs from SFT by `reward` and `gold` on average, with noise of 0.5."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.5, n)
    noise -= noise.mean()
    made = []
    for policy in order:
        last = policy == "PPO"
        for i in range(n):
            made.append(
                {
                    "policy": policy, "prompt_id": f"p{i}", "sample": 0, "domain": "",
                    "reward": float(i % 7 + last * (reward + noise[i])),
                    "score_gold": float(i % 5 + last * (gold + noise[i])),
                    "response_tokens": 9, "empty": False,
                    "cap_hit": i < cap[last],
                    "repeated_4grams": 0.5 if i < repeated[last] else 0.0,
                }
            )  # fmt: skip
    return compare(made, judges=judges, draws=2000)


def verdict(**changes):
    return headline(summary(**changes), "Base", "SFT", "PPO", "gold")


def test_reward_up_and_gold_down_is_called_over_optimisation():
    lines = verdict(reward=1.0, gold=-1.0)
    assert lines[0].startswith("Warning: the reward model is being over-optimised")
    assert "learned reward is above" in lines[0] and "gold fell" in lines[0]


@pytest.mark.parametrize(
    ("reward", "gold", "opening"),
    [
        (1.0, 1.0, "Better: PPO is above SFT both in learned reward and by the independent scorer gold"),
        (
            1.0,
            0.0,
            "Unclear: PPO's learned reward is above SFT's, but the independent scorer gold shows no clear change",
        ),
        (0.0, 0.0, "Unclear: no clear difference"),
        (0.0, 1.0, "Better: the independent scorer gold puts PPO above SFT"),
        (0.0, -1.0, "Worse: PPO is below SFT by the independent scorer gold"),
        (-1.0, -1.0, "Worse: PPO is below SFT by learned reward and the independent scorer gold"),
        (-1.0, 0.0, "Worse: PPO is below SFT by learned reward."),
        (
            -1.0,
            1.0,
            "Unclear: the independent scorer gold puts PPO above SFT, the learned reward puts it below",
        ),
    ],
)
def test_the_verdict_follows_both_intervals(reward, gold, opening):
    assert verdict(reward=reward, gold=gold)[0].startswith(opening)


def test_a_reward_alone_is_no_proof():
    """S0-62."""
    lines = headline(summary(reward=1.0, judges=()), "Base", "SFT", "PPO")
    assert lines[0].startswith("Unclear") and "no independent judge" in lines[0]
    assert not [line for line in lines if line.startswith("Better")]


@pytest.mark.sample(10)
@pytest.mark.parametrize("reward", [-0.4, -0.1, 0.0, 0.05, 0.1, 0.12, 0.15, 0.4])
@pytest.mark.parametrize("gold", [-0.2, 0.0, 0.1, 0.13, 0.3])
def test_nothing_is_better_without_an_interval_above_zero(reward, gold):
    """S2-01, S0-62."""
    made = summary(reward=reward, gold=gold)
    lines = headline(made, "Base", "SFT", "PPO", "gold")
    pair = find_pair(made, "SFT", "PPO")
    higher = [line for line in lines if line.startswith("Higher: PPO's learned reward minus SFT's")]
    assert bool(higher) == (pair["reward"]["low"] > 0)
    better = [line for line in lines if line.startswith("Better: PPO's gold minus SFT's")]
    assert bool(better) == (pair["judges"]["gold"]["low"] > 0)
    if lines[0].startswith("Better"):
        assert pair["judges"]["gold"]["low"] > 0


def test_no_ratio_is_ever_reported():
    """S2-01: "4x" has no source; differences with intervals have."""
    text = " ".join(verdict(reward=3.0, gold=3.0))
    assert not re.search(r"\d\s*[x×]\b|times (better|higher)", text)
    assert "95 % interval" in text


def test_more_truncated_and_repetitive_responses_are_worse():
    """S0-61: stopping and repetition stand beside the reward."""
    lines = verdict(reward=1.0, gold=1.0, cap=(3, 30), repeated=(30, 3))
    assert any(
        line.startswith("Worse: Responses truncated at the token limit: 5.0 % of SFT's, 50.0 %")
        for line in lines
    )
    assert any(line.startswith("Better: Repetitive responses: 50.0 % of SFT's, 5.0 %") for line in lines)


def test_few_prompts_carry_no_verdict():
    lines = verdict(reward=5.0, gold=5.0, n=12)
    assert lines[0].startswith("Unclear: 12 prompts are too few")
    assert not [line for line in lines if line.split(":")[0] in {"Better", "Worse", "Higher", "Lower"}]


def test_the_kl_is_reported_and_alarms_above_fifteen_nats():
    """S4-42."""
    made = summary()
    assert "Note: KL(PPO || SFT) is 3.40 nats per sequence." in headline(
        made, "Base", "SFT", "PPO", "gold", 3.4
    )
    assert any(
        line.startswith("Warning: KL(PPO || SFT) is 15.10 nats per sequence, above 15")
        for line in headline(made, "Base", "SFT", "PPO", "gold", 15.1)
    )


def test_the_order_of_policies_does_not_turn_the_verdict():
    """The summary has PPO on the left here: the pair is seen from the other side, the sentences stay."""
    changes = {"reward": 1.0, "gold": -1.0, "cap": (3, 30)}
    plain = summary(**changes)
    turned = summary(**changes, order=("PPO", "SFT", "Base"))
    number = re.compile(r"[+-]?\d+\.\d+(e-\d+)?")
    sentences = [headline(made, "Base", "SFT", "PPO", "gold") for made in (plain, turned)]
    assert [number.sub("#", line) for line in sentences[1]] == [
        number.sub("#", line) for line in sentences[0]
    ]
    expected, found = find_pair(plain, "SFT", "PPO"), find_pair(turned, "SFT", "PPO")
    assert found["wins"] == expected["wins"] and found["losses"] == expected["losses"]
    for one, other in ((found["reward"], expected["reward"]), (found["cap_hit"], expected["cap_hit"])):
        assert one["value"] == pytest.approx(other["value"])
        assert (one["low"], one["high"]) == pytest.approx((other["low"], other["high"]), abs=0.05)
        assert one["low"] < one["value"] < one["high"]


def leaves(figures, name=""):
    """The numbers of nested figures by their dotted names, without the bound that a rate of 0 has besides."""
    if isinstance(figures, dict | list):
        items = figures.items() if isinstance(figures, dict) else enumerate(figures)
        return {
            key: value for k, v in items if k != "at_most" for key, value in leaves(v, f"{name}.{k}").items()
        }
    if isinstance(figures, str):
        return {}
    return {name: float("inf") if figures is None else float(figures)}


@pytest.mark.parametrize("samples", [1, 2])
def test_a_pair_from_the_other_side_is_what_comparing_in_that_order_gives(samples):
    random = np.random.default_rng(0)
    rows = [
        {
            "policy": name, "prompt_id": f"p{i}", "sample": s, "domain": "ab"[i % 2], "reward": random.integers(4) / 2,
            "response_tokens": int(random.integers(5, 40)), "cap_hit": bool(random.integers(2)), "empty": False,
            "repeated_4grams": 0.5 * random.integers(2), "score_gold": random.integers(3) / 2,
            "response": "**bold** " * int(random.integers(3)) + "- item\n" * int(random.integers(2)),
        }
        for name in ("A", "B") for i in range(40) for s in range(samples)
    ]  # fmt: skip
    made, turned = (
        compare(some, judges=["gold"], draws=300, refit_draws=200, slices=["domain"])
        for some in (rows, [*rows[40 * samples :], *rows[: 40 * samples]])
    )
    found, expected = find_pair(turned, "A", "B"), find_pair(made, "A", "B")
    assert (found["left"], found["right"]) == ("A", "B") and found["length"]["phi"] != 0
    assert leaves(found) == pytest.approx(leaves(expected), rel=1e-6, abs=1e-6)
    assert leaves(flip_pair(turned["pairs"][0])) == leaves(found)


def contest(differences):
    """PPO's line on SFT where the rewards of the prompts differ by these."""
    made = [
        {
            "policy": policy, "prompt_id": f"p{i}", "sample": 0, "domain": "", "reward": d if policy == "PPO" else 0.0,
            "response_tokens": 9, "empty": False, "cap_hit": False, "repeated_4grams": 0.0,
        }
        for policy in ("SFT", "PPO")
        for i, d in enumerate(differences)
    ]  # fmt: skip
    return headline(compare(made, draws=2000), None, "SFT", "PPO")[1]


@pytest.mark.parametrize(
    ("differences", "message"),
    [
        (
            [5.0] * 15 + [-0.1] * 45,
            "the sign test shows more losses than wins. The verdict follows the interval",
        ),
        (
            [-5.0] * 15 + [0.1] * 45,
            "the sign test shows more wins than losses. The verdict follows the interval",
        ),
        (
            [5.0] * 12 + [0.0] * 40 + [-0.1] * 8,
            "the sign test shows no clear difference. The verdict follows",
        ),
        ([0.1] * 50 + [-3.0] * 2, "the sign test shows more wins than losses. The verdict follows"),
    ],
)
def test_the_headline_names_the_deciding_test_when_tests_disagree(differences, message):
    assert "Interval and sign test disagree: " + message in contest(differences)


@pytest.mark.parametrize("differences", [[1.0] * 40 + [-1.0] * 5, [0.1, -0.1] * 30, [5.0] * 3 + [-0.1] * 9])
def test_no_disagreement_is_reported_when_tests_agree_or_prompts_are_few(differences):
    assert "disagree" not in contest(differences)


def test_a_tie_is_no_win():
    """S0-46: wins, ties and losses, and the one win rate they give."""
    assert "It wins 30, ties 20 and loses 10 of 60: win rate 50.0 % " in contest(
        [1.0] * 30 + [0.0] * 20 + [-1.0] * 10
    )


def test_a_pair_seen_from_the_other_side_has_the_other_win_rate():
    made, turned = summary(reward=0.3), summary(reward=0.3, order=("PPO", "SFT", "Base"))
    rates = [find_pair(one, "SFT", "PPO")["win_rate"] for one in (made, turned)]
    assert rates[0] == pytest.approx(rates[1]) and 0 < rates[0]["low"] < rates[0]["value"]


def test_an_unknown_policy_is_an_error():
    with pytest.raises(KeyError, match="DPO"):
        headline(summary(), "Base", "SFT", "DPO", "gold")


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.1, 1, 1), (-1, -0.1, -1), (-1, 1, 0), (0, 1, 0), (-1, 0, 0)]
)
def test_direction(low, high, expected):
    assert interval_sign({"low": low, "high": high}) == expected
    assert interval_sign(None) == 0


def test_a_handful_of_prompts_detects_no_win_rate():
    assert power_note({"prompts": 7, "detectable_win_rate": 1.0}) == (
        "Note: 7 prompts are too few to detect any win rate (80 % power)."
    )
    assert "at least 99 %, or at most 1 %" in power_note({"prompts": 8, "detectable_win_rate": 0.99})
