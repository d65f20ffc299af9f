import pytest

from harken.config.audit import PUBLISHED
from harken.evaluation.audit import audit, describe, kind_rates
from harken.maths.statistics.intervals import wilson_interval

SOUND = (
    "Rain forms when vapour cools around dust, and droplets fall from the cloud once they are heavy enough."
)
LOOP = "It is good to be here now. " * 12


def row(number, policy, reward, response=SOUND, stop="end_of_turn"):
    return {"prompt_id": f"p{number}", "sample": 0, "policy": policy, "prompt": f"Why does rain{number} fall?",
            "response": response, "stop": stop, "reward": reward, "domain": "general"}  # fmt: skip


def study(loops=20, shared=2, n=60):
    """PPO loops on the first `loops` prompts, Base on the last `shared`."""
    rows = []
    for i in range(n):
        rows.append(row(i, "Base", 0.0, LOOP if i >= n - shared else SOUND))
        rows.append(row(i, "PPO", 3.0 if i < loops else -1.0, LOOP if i < loops else SOUND))
    return rows


PAIR = {"left": "Base", "right": "PPO", "wins": 20, "ties": 0, "losses": 40, "sign_test_p": 0.0135}
SUMMARY = {"baseline": "Base", "pairs": [PAIR]}


def test_rates_have_counts_intervals_and_the_exact_mcnemar_test():
    from scipy.stats import binomtest

    rows = study()
    rows += [row(60, "Base", 0.0, LOOP), row(60, "PPO", 0.0, LOOP)]  # both: neither gained nor lost
    rates = {(r.policy, r.kind): r for r in kind_rates(rows, audit(rows, "Base", PUBLISHED), "Base")}
    ppo, base = rates["PPO", "loop"], rates["Base", "loop"]
    assert (ppo.count, ppo.n, ppo.gained, ppo.lost) == (21, 61, 20, 2)
    assert (ppo.low, ppo.high) == pytest.approx(wilson_interval(21, 61))
    assert ppo.mcnemar_p == pytest.approx(binomtest(20, 22, 0.5).pvalue)
    assert (base.count, base.gained, base.mcnemar_p) == (3, None, None)


def test_mcnemar_agrees_with_statsmodels():
    tables = pytest.importorskip(
        "statsmodels.stats.contingency_tables", reason="statsmodels is not installed"
    )
    rows = study(loops=9, shared=3)
    rate = next(
        r for r in kind_rates(rows, audit(rows, "Base"), "Base") if (r.policy, r.kind) == ("PPO", "loop")
    )
    assert rate.mcnemar_p == pytest.approx(tables.mcnemar([[0, 9], [3, 48]], exact=True).pvalue)


def test_only_shared_prompts_are_paired():
    rows = [r for r in study() if not (r["policy"] == "Base" and r["prompt_id"] == "p0")]
    rate = next(
        r for r in kind_rates(rows, audit(rows, "Base"), "Base") if (r.policy, r.kind) == ("PPO", "loop")
    )
    assert (rate.count, rate.gained) == (20, 19)


def lines(rows, summary=SUMMARY):
    return describe(rows, audit(rows, "Base", PUBLISHED), summary)


def test_the_description_says_what_happened():
    told = lines(study())
    text = "\n".join(told)
    assert told[0] == (
        "By the reward PPO loses to Base: 20 wins, 0 ties and 40 losses on 60 responses "
        "(exact sign test without ties, p = 0.013)."
    ) or told[0].endswith("p = 0.014).")
    assert "PPO has more loop than Base: 20 of 60 (33.33%" in text and "2 of 60 (3.33%" in text
    assert "PPO has high rewards for repetitive text in 20 of 60 responses" in text
    assert "rows p0, p1, p2, p3, p4" in text
    assert "The mean reward of PPO is +0.3333; without them it is -1.0000." in text
    assert told[-1].startswith("Read the queues in this order: reward_mismatch (20: ")


def test_the_description_of_a_sound_policy_raises_nothing():
    told = lines(
        study(loops=0, shared=0),
        {"baseline": "Base", "pairs": [PAIR | {"wins": 30, "losses": 30, "sign_test_p": 1.0}]},
    )
    assert told[0].startswith("By the reward PPO is not shown to beat Base or to lose to it: 30 wins")
    assert any(line.startswith("No kind of failure differs between PPO and Base") for line in told)
    assert "No response has a high reward for a text that repeats itself." in told


def test_a_win_is_called_one():
    pair = PAIR | {"wins": 50, "losses": 10, "sign_test_p": 1e-7}
    assert lines(study(), {"baseline": "Base", "pairs": [pair]})[0].startswith(
        "By the reward PPO beats Base: 50 wins"
    )
    told = lines(study(), {"baseline": "Base", "pairs": [pair | {"holm_p": 0.4}]})
    assert "not shown to beat" in told[0] and "after Holm" in told[0]


def test_stopping_failures_are_told_though_they_do_not_differ():
    rows = [r | {"stop": "length"} if r["prompt_id"] == "p1" else r for r in study(loops=0, shared=0)]
    assert any(
        line.startswith("PPO, repetition and stopping: cap_hit 1 of 60 (1.67%") for line in lines(rows)
    )


def test_no_rows_are_said():
    assert describe([], {}, {"baseline": "Base", "pairs": []}) == ["There are no responses."]


def test_every_line_is_a_sentence():
    assert all(line[0].isupper() and line.endswith(".") for line in lines(study()))
