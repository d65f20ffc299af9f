"""Roles of policies and what the verdict compares, for pipelines of any shape, without training."""

from __future__ import annotations

from typing import Any

import pytest

from harken.config import PipelineConfig
from harken.config.stages import resolve_stages
from harken.pipeline.roles import PolicyComparison, PolicyRoles, policy_roles

ROWS = {"path": "rows.jsonl"}
SFT: dict[str, Any] = {"type": "sft", "data": ROWS}
DPO: dict[str, Any] = {"type": "dpo", "data": ROWS}


def roles_of(policies: dict[str, Any], **stages: dict[str, Any]) -> PolicyRoles:
    evaluation = {"type": "evaluation", "policies": policies, "judges": ["intact"], "data": ROWS}
    config = PipelineConfig.model_validate({"name": "x", "stages": stages | {"eval": evaluation}})
    found = resolve_stages(config, "out")
    return policy_roles(found, found[-1], list(policies))


def test_the_demos_verdict_is_on_the_last_policy_and_the_model_at_the_beginning() -> None:
    found = roles_of(
        {"Base": "@model", "SFT": "@sft", "DPO": "@dpo"}, sft=SFT, dpo=DPO | {"model_name": "@sft"}
    )
    assert found.policies == {"base": "Base", "sft": "SFT", "dpo": "DPO"}
    assert found.comparisons == (PolicyComparison("dpo", "sft", "base", "dpo"),)


def test_a_start_that_is_not_evaluated_is_passed_over_and_has_no_kl() -> None:
    found = roles_of({"Base": "@model", "DPO": "@dpo"}, sft=SFT, dpo=DPO | {"model_name": "@sft"})
    assert found.comparisons == (PolicyComparison("dpo", "base"),)


def test_two_policies_from_one_start_are_compared_with_it_and_with_each_other() -> None:
    found = roles_of(
        {"SFT": "@sft", "One": "@one", "Other": "@other"},
        sft=SFT, one=DPO | {"model_name": "@sft"}, other=DPO | {"model_name": "@sft"},
    )  # fmt: skip
    assert found.policies == {"sft": "SFT", "one": "One", "other": "Other"}
    assert found.comparisons == (
        PolicyComparison("one", "sft", None, "one"),
        PolicyComparison("other", "sft", None, "other"),
        PolicyComparison("other", "one"),
    )


def test_policies_that_no_stage_trained_are_compared_the_last_with_the_first() -> None:
    found = roles_of({"ours": "org/ours", "theirs": "theirs.jsonl", "more": "org/more"})
    assert found.policies == {"ours": "ours", "theirs": "theirs", "more": "more"}
    assert found.comparisons == (PolicyComparison("more", "ours"),)


def test_one_policy_is_compared_with_nothing() -> None:
    assert roles_of({"DPO": "@dpo"}, dpo=DPO).comparisons == ()


def test_a_policy_beside_others_of_no_stage_is_compared_although_its_start_is_not_there() -> None:
    found = roles_of({"theirs": "theirs.jsonl", "DPO": "@dpo"}, dpo=DPO)
    assert found.policies == {"theirs": "theirs", "dpo": "DPO"}
    assert found.comparisons == (PolicyComparison("dpo", "theirs"),)


@pytest.mark.parametrize("order", [("Plain", "Best"), ("Best", "Plain")])
def test_a_stage_evaluated_twice_has_two_roles(order: tuple[str, str]) -> None:
    entries: dict[str, Any] = {"Plain": "@sft", "Best": {"model_name": "@sft", "best_of": 4}}
    found = roles_of({name: entries[name] for name in order}, sft=SFT)
    assert sorted(found.policies.values()) == ["Best", "Plain"]
    assert len(found.comparisons) == 1
