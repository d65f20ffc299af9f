# ruff: noqa: E501  cases are one a line

"""The thresholds of the audit are configuration: every field acts."""

from functools import cache

import pytest
from pydantic import ValidationError

from harken.config.audit import PUBLISHED, AuditSettings
from harken.evaluation.audit import audit
from harken.evaluation.audit.planted import planted_rows


def test_unknown_keys_and_impossible_values_are_refused():
    for wrong in (
        {"repitition": 0.2},
        {"repetition": 1.5},
        {"loop_times": 1},
        {"reward_thresholds": "other"},
        {"loop_characters": 0},
    ):
        with pytest.raises(ValidationError):
            AuditSettings(**wrong)


CHANGES = {
    "repetition": 0.9, "character_repetition": 0.95, "loop_times": 60, "loop_characters": 500, "restatement": 1.0, "restated_words": 40,
    "repeated_items": 0.9, "duplicate_similarity": 1.0, "duplicate_words": 5, "language_words": 30, "language_margin": 1.0,
    "stray_letters": 50, "opening_characters": 5, "overlong_ratio": 20.0, "overlong_words": 10_000, "own_relevance": 0.0,
    "relevance_margin": 1.0, "relevance_margin_alone": 0.0, "relevance_terms": 500, "reward_thresholds": "published",
    "mismatch_reward": -9.0, "win_baseline_margin": 0.1, "win_other_margin": 0.1, "loss_margin": 0.1, "high_reward_quantile": 0.1,
    "low_reward_quantile": 0.9, "win_quantile": 0.05, "other_quantile": 0.05, "loss_quantile": 0.05, "win_repetition": 0.0,
    "disagreement": 0.1, "review_rows": 3, "review_seed": 1, "same_4gram": 2,
}  # fmt: skip


@cache
def rows():
    """Some planted texts of each kind with a second scorer, and clean ones by two further policies."""
    compared = {"near_duplicate", "overlong", "off_topic"}
    some = [
        row
        for i, row in enumerate(planted_rows())
        if i % 6 == 0 or {row["kind"], row.get("near")} & compared or row["prompt_id"].startswith("long")
    ]
    found = [row | {"score_judge": (-1) ** i * row["reward"]} for i, row in enumerate(some)]
    return found + [
        row
        | {
            "policy": policy,
            "reward": row["reward"] * factor,
            "score_judge": None,
            "response": f"{row['response']} Thus.",
        }
        for row in found[-40:]
        if row["policy"] == "PPO"
        for policy, factor in (("Base", 0.5), ("SFT", -0.5))
    ]


@pytest.fixture(scope="module")
def flagged():
    return {key: found["flags"] for key, found in audit(rows(), "Base").items()}


def test_every_field_is_changed_here():
    assert set(CHANGES) == set(AuditSettings.model_fields)


@pytest.mark.sample(10)
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_threshold_changes_a_flag(name, flagged):
    needs = {
        "same_4gram": {"mismatch_reward": -9.0, "repetition": 1.0},
        "language_words": {"language_margin": 0.3},
        "win_other_margin": {"win_baseline_margin": 0.0},
        "other_quantile": {"win_quantile": 0.0},
    }
    before = flagged
    if name in needs:
        before = {
            key: found["flags"] for key, found in audit(rows(), "Base", AuditSettings(**needs[name])).items()
        }
    after = {
        key: found["flags"]
        for key, found in audit(
            rows(), "Base", AuditSettings(**{name: CHANGES[name]}, **needs.get(name, {}))
        ).items()
    }
    assert after != before


def test_the_published_thresholds_are_those_of_the_published_audit():
    assert (PUBLISHED.repetition, PUBLISHED.same_4gram, PUBLISHED.win_repetition) == (0.25, 5, 0.15)
    assert PUBLISHED.reward_thresholds == "published"
