"""Stages that generate or score responses: their phases and seconds, counted by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from tiny_plan import NOTHING, settings, write_rows

from harken.config import files as config_files
from harken.plan.duration import duration
from harken.plan.job import Job, jobs
from harken.plan.phases import phases
from harken.plan.responses_job import ResponsesJob

PROMPTS = 6


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job | ResponsesJob]:
    root = tmp_path_factory.mktemp("plan")
    write_rows(root)
    data = {"path": str(root / "prompts.jsonl"), "max_length": 256, "limit": PROMPTS}
    sft = settings(root, "sft")
    stages: dict[str, Any] = {
        "sft": {"type": "sft", **{key: sft[key] for key in ("data", "lora", "training")}},
        "many": {"type": "generate", "policies": {"A": "@sft", "B": "@model"}, "data": data, "samples": 3,
                 "max_gen_len": 8},
        "judged": {"type": "score", "responses": "@many", "judges": ["intact"]},
        "again": {"type": "score", "responses": "@judged", "judges": ["intact"]},
        "made": {"type": "pairs", "responses": "@judged"},
        "eval": {
            "type": "evaluation", "policies": {"SFT": "@sft", "Best of 4": {"model_name": "@sft", "best_of": 4}},
            "data": data, "judges": ["intact"], "max_gen_len": 8,
        },
    }  # fmt: skip
    pipeline = {"name": "small", "model_name": str(root / "model"), "dtype": "float32", "device": "cpu"}
    (root / "pipeline.yml").write_text(yaml.safe_dump(pipeline | {"stages": stages}, sort_keys=False))
    config = config_files.load_pipeline(str(root / "pipeline.yml"), [], root / "out")
    return {job.name: job for job in jobs(config, on_cpu=True)}


def test_what_generates_or_scores_is_planned(planned: dict[str, Job | ResponsesJob]) -> None:
    """Pairs are made of tables, without a model."""
    names = {
        name: [phase.name for phase in phases(job, 1.0)] for name, job in planned.items() if name != "sft"
    }
    assert names == {
        "many": ["generate"], "judged": ["score"], "again": ["score"], "eval": ["generate", "score"]
    }  # fmt: skip


def test_generation_by_hand(planned: dict[str, Job | ResponsesJob]) -> None:
    """One step per policy; all responses of a policy run at a time here: 8 decode steps of every layer."""
    job = planned["many"]
    found = duration(job, replace(NOTHING, decode=1.0))
    assert (found.steps, found.total) == (2, 2 * 8 * job.shape.layers)
    assert duration(job, replace(NOTHING, forward=1.0)).parts.keys() == {"generate"}


def test_scoring_by_hand(planned: dict[str, Job | ResponsesJob]) -> None:
    """Every response to every prompt is read once, with its prompt: best of 4 scores four."""
    tokens = {}
    for name, responses in (("judged", 6), ("again", 6), ("eval", 5)):
        job = planned[name]
        found = duration(job, replace(NOTHING, forward=1.0))
        tokens[name] = found.parts["score"] * (found.steps or 0) / job.shape.layers / responses
    prompts = sum(job.rows.lengths) / len(job.rows.lengths) * PROMPTS
    # A packed pass reads what the prompts begin with in common only once.
    assert PROMPTS * 8 < tokens["judged"] <= prompts + PROMPTS * 8
    assert tokens["again"] == tokens["judged"] == pytest.approx(tokens["eval"])
