"""Online DPO: ranking, ties, one update, resuming, and a known optimum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from dpo_stage import asked, dpo_config, online_stage

from harken.records import Rollout, Score, ScoredRollout
from harken.train.dpo.ranking import best_against_worst, rate_pairs
from harken.train.sampler import draw_prompts


def scored(prompt: int, *rewards: float, tokens: tuple[int, ...] | None = None) -> list[ScoredRollout]:
    made = []
    for sample, reward in enumerate(rewards):
        response = tokens or (40 + sample, 2)
        rollout = Rollout(
            asked(prompt + 1)[prompt],
            sample,
            (9, 10),
            response,
            (-1.0,) * len(response),
            "",
            "end_of_turn",
            "v",
        )
        made.append(ScoredRollout(rollout, (Score("rule", reward),)))
    return made


def test_the_best_is_paired_with_the_worst() -> None:
    ranked = best_against_worst([*scored(0, 0.5, 2.0, -1.0), *scored(1, 3.0, 1.0)])
    assert [(e.first.tokens, e.second.tokens) for e in ranked.examples] == [
        ((9, 10, 41, 2), (9, 10, 42, 2)),
        ((9, 10, 40, 2), (9, 10, 41, 2)),
    ]
    assert {e.first.prompt_length for e in ranked.examples} == {2}
    assert (ranked.ties, ranked.gap) == (0, 2.5)


def test_ties_are_left_out_and_counted() -> None:
    """Equal rewards, and equal responses whatever their rewards, show no preference."""
    ranked = best_against_worst(
        [*scored(0, 1.0, 1.0), *scored(1, 0.0, 1.0, tokens=(50, 2)), *scored(2, 1.0, 0.0)]
    )
    assert (len(ranked.examples), ranked.ties) == (1, 2)


def test_among_equal_rewards_the_earlier_sample_is_taken() -> None:
    (example,) = best_against_worst(scored(0, 0.0, 5.0, 5.0, 0.0)).examples
    assert (example.first.tokens[2], example.second.tokens[2]) == (41, 40)


def test_a_prompt_drawn_twice_is_ranked_twice() -> None:
    ranked = best_against_worst([*scored(0, 1.0, 0.0), *scored(0, 0.0, 1.0)])
    assert len(ranked.examples) == 2


def test_a_pair_is_a_thumb_up_and_a_thumb_down() -> None:
    rated = rate_pairs(best_against_worst(scored(0, 1.0, 0.0)).examples)
    assert [(r.response.tokens[2], r.desirable) for r in rated] == [(40, True), (41, False)]


def test_an_update_without_pairs_changes_nothing(tmp_path: Path) -> None:
    stage = online_stage(tmp_path, rule=lambda _: 1.0)
    before = {name: t.clone() for name, t in stage.tensors().items()}
    metrics = stage.step(0)
    assert metrics["pairs/count"] == 0 and metrics["pairs/ties"] == 3
    assert "loss" not in metrics and stage.summary(metrics | {"seconds": 0.0})
    assert all(torch.equal(t, before[name]) for name, t in stage.tensors().items())


@pytest.mark.parametrize("loss", ["dpo", "kto", "simpo"])
def test_a_resumed_run_takes_the_same_updates(tmp_path: Path, loss: str) -> None:
    config = dpo_config("online_dpo", online_dpo={"loss": loss})
    whole = online_stage(tmp_path / "a", config)
    whole.on_train_begin()
    whole.step(0)
    tensors = {name: t.clone() for name, t in whole.tensors().items()}
    state = json.loads(json.dumps(whole.state()))
    again = online_stage(tmp_path / "b", config)
    again.load(tensors, state)

    def timeless(metrics: dict[str, float]) -> dict[str, float]:
        return {name: value for name, value in metrics.items() if not name.startswith("time/")}

    assert timeless(whole.step(1)) == timeless(again.step(1))
    assert whole.evaluate(2) == again.evaluate(2)
    name = "update-000002.parquet"
    assert (tmp_path / "a/rollouts" / name).read_bytes() == (tmp_path / "b/rollouts" / name).read_bytes()


def test_the_kl_starts_at_zero(tmp_path: Path) -> None:
    assert online_stage(tmp_path).step(0)["kl/mean"] == pytest.approx(0.0, abs=1e-4)


def test_repeated_draws_of_a_prompt_are_in_separate_lists() -> None:
    drawn = draw_prompts(0, 5, 2, 7, "x")
    assert sum(map(len, drawn)) == 5
    assert all(len(set(rows)) == len(rows) for rows in drawn)
