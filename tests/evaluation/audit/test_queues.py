# ruff: noqa: E501  cases are one a line

import random

import numpy as np
import pytest

from harken.config.audit import PUBLISHED, AuditSettings
from harken.evaluation.audit import QUEUES, audit, queues, responses_by_flag, reward_limits

TEXT = "Rain forms when vapour cools around dust, and the droplets fall from the cloud once they are heavy enough."


def row(number, policy, reward, response=TEXT, **changes):
    fields = {
        "prompt_id": f"p{number:03d}",
        "sample": 0,
        "policy": policy,
        "prompt": f"Why does rain number{number} fall?",
    }
    return (
        fields
        | {"response": response, "stop": "end_of_turn", "reward": reward, "domain": "general"}
        | changes
    )


def in_queue(rows, queue, thresholds=PUBLISHED, baseline="Base"):
    return [key[0] for key in responses_by_flag(audit(rows, baseline, thresholds))[queue]]


def test_limits_are_quantiles_of_the_own_rewards_by_default():
    random.seed(1)
    rows = [row(i, policy, random.gauss(5, 3)) for i in range(80) for policy in ("Base", "PPO")]
    limits = reward_limits(rows, "Base", AuditSettings())
    rewards = [r["reward"] for r in rows]
    base = {r["prompt_id"]: r["reward"] for r in rows if r["policy"] == "Base"}
    margins = [abs(r["reward"] - base[r["prompt_id"]]) for r in rows if r["policy"] == "PPO"]
    assert limits.mismatch_reward == pytest.approx(np.quantile(rewards, 0.9))
    assert limits.low_reward == pytest.approx(np.quantile(rewards, 0.25))
    assert limits.win_baseline_margin == pytest.approx(np.quantile(margins, 0.75))
    assert limits.win_other_margin == pytest.approx(np.quantile(margins, 0.5))
    assert limits.loss_margin == pytest.approx(np.quantile(margins, 0.95))
    assert limits.source["loss_margin"] == "quantile 0.95"


def test_limits_follow_the_scale_of_the_reward():
    """Another reward model's scale moves no response from one queue into another."""
    random.seed(2)
    rows = [row(i, policy, random.gauss(0, 1)) for i in range(60) for policy in ("Base", "PPO")]
    scaled = [r | {"reward": 100 * r["reward"] - 7} for r in rows]
    one, two = (responses_by_flag(audit(found, "Base")) for found in (rows, scaled))
    assert {q: one[q] for q in QUEUES} == {q: two[q] for q in QUEUES}
    assert one["strong_loss"] and one["qualified_win"]


def test_published_limits_and_set_ones():
    rows = [row(0, "Base", 1.0), row(0, "PPO", 2.0)]
    limits = reward_limits(rows, "Base", PUBLISHED)
    assert (
        limits.mismatch_reward,
        limits.win_baseline_margin,
        limits.win_other_margin,
        limits.loss_margin,
    ) == (2, 2, 1, 5)
    assert limits.source["loss_margin"] == "published" and limits.source["low_reward"] == "quantile 0.25"
    limits = reward_limits(rows, "Base", AuditSettings(loss_margin=0.25, reward_thresholds="published"))
    assert limits.loss_margin == 0.25 and limits.source["loss_margin"] == "set"


def test_rewards_that_are_missing_are_left_out():
    rows = [row(0, "Base", None), row(0, "PPO", 2.0), row(1, "Base", float("nan")), row(1, "PPO", 4.0)]
    limits = reward_limits(rows, "Base", AuditSettings())
    assert limits.mismatch_reward == pytest.approx(3.8) and limits.loss_margin is None
    assert responses_by_flag(audit(rows, "Base"))["strong_loss"] == []


def test_queues_are_in_the_order_in_which_to_read_them():
    rows = [
        row(i, policy, i * (1 if policy == "PPO" else 0.0))
        for i in range(-9, 9)
        for policy in ("Base", "PPO")
    ]
    audited = audit(rows, "Base", PUBLISHED)
    found = queues(rows, audited, "Base", PUBLISHED, reward_limits(rows, "Base", PUBLISHED))
    assert list(found) == list(QUEUES)
    by_key = {(r["prompt_id"], 0, r["policy"]): r["reward"] for r in rows}
    wins, losses = ([by_key[key] for key in found[name]] for name in ("qualified_win", "strong_loss"))
    assert wins == sorted(wins, reverse=True) == [8, 7, 6, 5, 4, 3] and losses == sorted(losses) == [
        -9,
        -8,
        -7,
        -6,
    ]


def test_a_low_reward_is_useful_when_another_scorer_likes_the_text():
    rows = [row(i, "PPO", float(i), score_judge=float(-i)) for i in range(20)]
    found = in_queue(rows, "low_reward_useful")
    assert found == [f"p{i:03d}" for i in range(5)]
    opposite = [r | {"score_judge": -r["score_judge"]} for r in rows]
    assert in_queue(opposite, "low_reward_useful") == []
    broken = [r | {"response": r["response"] + "</s>"} for r in rows]
    assert in_queue(broken, "low_reward_useful") == []


def test_a_low_reward_is_useful_when_it_says_what_the_reference_says():
    rows = [
        row(i, "PPO", float(i), reference="We know: vapour cools around dust, and the droplets fall.")
        for i in range(8)
    ]
    assert in_queue(rows, "low_reward_useful") == ["p000", "p001"]
    assert in_queue([r | {"reference": "Something else."} for r in rows], "low_reward_useful") == []


def test_without_another_measure_the_relevance_to_the_prompt_decides():
    names = ["salt", "glass", "cheese", "velvet", "copper", "honey", "marble", "cotton"]
    useful = [
        row(i, "PPO", float(i), f"People make {n} from what nature gives.", prompt=f"How is {n} made?")
        for i, n in enumerate(names)
    ]
    assert in_queue(useful, "low_reward_useful") == ["p000", "p001"]
    assert (
        in_queue([r | {"response": "Somebody does so every day."} for r in useful], "low_reward_useful") == []
    )


def test_scorers_disagree_by_their_ranks():
    rows = [row(i, "PPO", float(i), score_judge=100.0 + i) for i in range(20)]
    assert in_queue(rows, "scorers_disagree") == []
    rows[0]["score_judge"], rows[19]["score_judge"] = 119.0, 100.0
    assert in_queue(rows, "scorers_disagree") == ["p000", "p019"]
    audited = audit(rows, "Base")
    assert audited["p000", 0, "PPO"]["evidence"]["scorers_disagree"] == "percentile 2 by reward, 98 by judge"


def test_scores_of_one_value_and_missing_ones_do_not_disagree():
    assert in_queue([row(i, "PPO", float(i), score_judge=1.0) for i in range(9)], "scorers_disagree") == []
    assert in_queue([row(i, "PPO", float(i), score_judge=None) for i in range(9)], "scorers_disagree") == []


STEPS = "1. Weigh it.\n2. Heat it.\n3. Let it cool."
AMOUNTS = "Dissolve 5 g in 250 mL of water at 60 °C."


@pytest.mark.parametrize(
    ("text", "domain", "found"),
    [(STEPS, "stem", True), (AMOUNTS, "stem", True), (TEXT, "stem", False), (STEPS, "general", False), (AMOUNTS, "general", False),
     (f"{STEPS}\n{AMOUNTS}", "general", True), (f"{STEPS}\n{AMOUNTS}", None, True)],
)  # fmt: skip
def test_stem_procedures(text, domain, found):
    assert bool(in_queue([row(0, "PPO", 0.0, text, domain=domain)], "stem_procedure")) is found


def test_the_draw_for_a_person_is_seeded_and_blind_to_every_measure():
    rows = [row(i, "PPO", float(i)) for i in range(200)]
    first = in_queue(rows, "manual_review")
    assert first == in_queue(rows, "manual_review") and 20 <= len(first) <= 26
    assert {"p199", "p198", "p197", "p000", "p001", "p002"} <= set(first)
    drawn = set(first) - {"p199", "p198", "p197", "p000", "p001", "p002"}
    other = [r | {"reward": -r["reward"], "response": "Bad.</s>"} for r in rows]
    assert drawn <= set(in_queue(other, "manual_review"))
    assert set(in_queue(rows, "manual_review", AuditSettings(review_seed=1))) != set(first)
    assert len(in_queue(rows, "manual_review", AuditSettings(review_rows=0))) == 0


def test_the_draw_is_uniform():
    """Over many seeds every response is drawn about equally often."""
    rows = [row(i, "PPO", 0.0) for i in range(10)]
    audited = audit(rows, "Base")
    counts = dict.fromkeys(audited, 0)
    for seed in range(300):
        thresholds = AuditSettings(review_rows=2, review_seed=seed)
        for found in audited.values():
            found["reasons"] = {}
        queues(rows, audited, "Base", thresholds, reward_limits(rows, "Base", thresholds))
        for key, found in audited.items():
            counts[key] += "drawn" in found["reasons"].get("manual_review", "")
    assert sum(counts.values()) == 600 and min(counts.values()) > 30


def test_a_policy_without_the_baselines_response_has_no_margins():
    rows = [row(0, "Base", 0.0), row(0, "PPO", 9.0), row(1, "PPO", 9.0)]
    assert in_queue(rows, "qualified_win") == ["p000"]
