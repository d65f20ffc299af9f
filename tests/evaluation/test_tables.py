import json
import unicodedata

import pytest
from rich.cells import cell_len
from scipy import stats

from harken.evaluation.compare import compare
from harken.evaluation.tables import results, tables

ROLES = {"base": "Base", "sft": "SFT", "ppo": "PPO"}


def answers(names=("Base", "SFT", "PPO"), judges=("gold",)):
    return [
        {
            "policy": name, "prompt_id": f"p{i}", "sample": 0, "domain": "d",
            "reward": float((i * 7 + k) % 5 - 2), "response_tokens": 10 + i,
            "cap_hit": i % 4 == 0, "empty": False, "repeated_4grams": 0.3 * (i % 3 == k),
            **{f"score_{judge}": float((i + k) % 3) for judge in judges},
        }
        for k, name in enumerate(names)
        for i in range(30)
    ]  # fmt: skip


def test_the_tables_hold_the_counts_they_are_given():
    summary = compare(answers(), judges=["gold"], draws=200)
    text = tables(summary)
    for pair in summary["pairs"]:
        assert f"{pair['right']} − {pair['left']}" in text
        assert f"{pair['wins']} / {pair['ties']} / {pair['losses']}" in text
        rate = pair["win_rate"]
        assert rate["value"] == pair["wins"] / (pair["wins"] + pair["ties"] + pair["losses"])
        assert f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]" in text
        decided = pair["win_rate_decided"]
        assert decided["value"] == pair["wins"] / (pair["wins"] + pair["losses"])
        assert (
            f"{100 * decided['value']:.1f} [{100 * decided['low']:.1f}, {100 * decided['high']:.1f}]" in text
        )
    base = next(line for line in text.splitlines() if line.split()[:1] == ["Base"])
    assert base.split()[1] == str(summary["table"][0]["win_rate"]["count"])
    assert "26.7 [14.2, 44.4]" in text  # 8 of 30 cut: the Wilson interval


@pytest.mark.parametrize("names", [("Base", "SFT", "PPO"), ("基準モデル", "\x1b[31mred\x1b[0m", "a" * 60)])
@pytest.mark.parametrize("judges", [(), ("gold",), ("gold", "second_opinion", "third_opinion")])
def test_the_tables_fit_a_hundred_columns_and_hold_no_control_characters(names, judges):
    text = tables(compare(answers(names, judges), judges=judges, draws=50), 100)
    assert max(map(cell_len, text.splitlines())) <= 100
    assert not [c for c in text if unicodedata.category(c) in {"Cc", "Cf"} and c != "\n"]


def test_columns_that_do_not_fit_follow_below():
    summary = compare(
        answers(judges=("gold", "second", "third")), judges=["gold", "second", "third"], draws=50
    )
    lines = tables(summary, 100).splitlines()
    # Three blocks of scores and texts, and one of strengths.
    assert sum(line.startswith("policy") for line in lines) == 4 and "third" in tables(summary)
    for judge in ("gold", "second", "third"):
        block = next(i for i, line in enumerate(lines) if line.startswith("policy") and judge in line)
        place = lines[block].index(judge) + len(judge)
        value = f"{summary['table'][1]['judges'][judge]['value']:.3f}"
        assert value in lines[block + 2][:place]


def test_a_summary_of_one_policy_has_tables():
    assert "Base" in tables(compare(answers(("Base",), ()), draws=50))


def test_results_hold_the_headline_figures():
    summary = compare(answers(), judges=["gold"], draws=200)
    found = results(
        summary, roles=ROLES, judge="gold", headline=["Note: x."], compared=[("ppo", "sft")],
        kinds={"sft": "sft", "ppo": "ppo", "reward": "reward"},
        metrics={
            "sft": [{"seconds": 5.0}, {"seconds": 7.0}],
            "ppo": [{"kl/mean": 2.0}, {"kl/mean": 3.0}],
            "reward": [{"eval/accuracy": share, "eval/pairs": 64.0} for share in (0.5, 0.75)] + [{"loss": 0.1}],
        },
    )  # fmt: skip
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    pair = next(p for p in summary["pairs"] if (p["left"], p["right"]) == ("SFT", "PPO"))
    assert found["learned_reward_ppo_minus_sft"] == pair["reward"]
    # Every figure of the summary's pairs but their slices, under the same names.
    assert found["pairs"] == [
        {key: value for key, value in p.items() if key not in ("domains", "slices")} for p in summary["pairs"]
    ]
    assert found["strengths"] == summary["strengths"]
    assert found["gold_ppo_minus_sft"] == pair["judges"]["gold"]
    assert found["learned_reward"]["base"] == summary["table"][0]["reward"]
    oracle = stats.binomtest(48, 64).proportion_ci(method="wilson")
    assert (found["reward_model_accuracy"]["low"], found["reward_model_accuracy"]["high"]) == pytest.approx(
        (oracle.low, oracle.high)
    )
    assert found["kl_per_sequence"] == 2.5 and found["seconds"] == {"sft": 12.0, "ppo": 0.0, "reward": 0.0}
    assert found["verdict"] == ["Note: x."]


def test_results_without_a_judge_or_accuracy():
    found = results(
        compare(answers(judges=()), draws=50),
        roles=ROLES,
        judge=None,
        metrics={"reward": [{"loss": 0.6}]},
        kinds={"reward": "reward"},
    )
    assert "gold" not in found and found["reward_model_accuracy"] is None and found["kl_per_sequence"] is None


def test_results_of_fewer_roles_or_of_training_alone_hold_what_there_is():
    summary = compare(answers(judges=()), draws=50)
    found = results(summary, roles={"base": "Base", "ppo": "PPO"}, judge=None, metrics={}, kinds={})
    assert found["learned_reward"].keys() == {"base", "ppo"} and "ppo_against_sft" not in found
    assert results(None, roles={}, judge=None, metrics={}, kinds={}).keys() == {
        "verdict", "kl_per_sequence", "reward_model_accuracy", "seconds",
    }  # fmt: skip


def test_a_policy_that_was_not_evaluated_is_an_error():
    with pytest.raises(KeyError, match="DPO"):
        results(compare(answers(), draws=50), roles=ROLES | {"ppo": "DPO"}, judge=None, metrics={}, kinds={})


def test_several_runs_of_a_type_have_a_figure_each():
    """Without an evaluation, the figures of training stand by run."""
    found = results(
        None,
        roles={},
        judge=None,
        kinds={"careful": "ppo", "bold": "ppo", "one": "reward", "other": "reward"},
        metrics={
            "careful": [{"kl/mean": 1.0}],
            "bold": [{"kl/mean": 3.0}],
            "one": [{"eval/accuracy": 0.5, "eval/pairs": 8.0}],
            "other": [{"loss": 1.0}],
        },
    )
    assert found["kl_per_sequence"] == {"careful": 1.0, "bold": 3.0}
    assert found["reward_model_accuracy"]["n"] == 8
