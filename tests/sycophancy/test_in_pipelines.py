"""A detector that an earlier stage trains, in the doctor, the plan and `harken compare` of two evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import save_tiny, tiny_model

from harken.cli.main import main
from harken.config import RunConfig, SycophancyConfig
from harken.config import files as config_files
from harken.doctor.runner import CHECKS, diagnose
from harken.generation.sycophancy import run_sycophancy
from harken.plan.job import Job, jobs
from harken.run.tables import read_rows


@pytest.fixture
def pipeline(tmp_path: Path) -> str:
    data = {"path": "demo:sycophancy_train", "max_length": 256, "limit": 20, "eval_fraction": 0.2}
    rewards = [
        {"type": "sycophancy_penalty", "detector": "classifier", "model_name": "@cls"},
        {"type": "honesty_bonus", "detector": "contrast", "model_name": "@sft"},
        {"type": "honesty_bonus", "name": "rules"},
    ]
    stages: dict[str, Any] = {
        "sft": {"type": "sft", "data": data, "training": {"max_steps": 1}},
        "cls": {"type": "classifier", "model_name": "@sft", "data": data, "training": {"max_steps": 1}},
        "ppo": {"type": "ppo", "model_name": "@sft", "data": data, "training": {"rewards": rewards}},
    }
    keys = {"name": "p", "model_name": save_tiny(tmp_path / "base"), "dtype": "float32", "device": "cpu"}
    path = tmp_path / "p.yml"
    path.write_text(
        yaml.safe_dump(keys | {"output_dir": str(tmp_path / "out"), "stages": stages}, sort_keys=False)
    )
    return str(path)


def test_the_doctor_replaces_a_detector_that_is_not_trained_yet(pipeline: str) -> None:
    """S4-47: as it replaces a reward model; the rules remain."""
    cheap = [one for one in CHECKS if one.name in ("model_found", "reward_found")]
    found = {
        (f.stage, f.name): f
        for f in diagnose(config_files.load_run_or_pipeline(pipeline, []), checks=cheap).findings
    }
    finding = found["ppo", "reward_found"]
    assert finding.level == "note" and "02_cls is not trained yet" in finding.measured


def test_the_plan_counts_a_detector_that_is_not_trained_yet(pipeline: str) -> None:
    found = {job.name: job for job in jobs(config_files.load_run_or_pipeline(pipeline, []), on_cpu=True)}
    ppo = found["ppo"]
    assert isinstance(ppo, Job) and len(ppo.scorers) == 2
    assert ppo.scorers[1].shape == ppo.shape
    assert any("01_sft/final does not exist yet: planned like the policy" in note for note in ppo.notes)


def test_the_plan_counts_a_detector_of_another_size(tmp_path: Path) -> None:
    large = str(tmp_path / "large")
    tiny_model(hidden=64).save_pretrained(large)
    rewards = [{"type": "honesty_bonus", "detector": "contrast", "model_name": large}]
    config = RunConfig.model_validate(
        {
            "model_name": save_tiny(tmp_path / "base"),
            "data": {"path": "demo:sycophancy_train"},
            "training": {"type": "ppo", "rewards": rewards},
        }
    )
    (ppo,) = jobs(config, on_cpu=True)
    assert isinstance(ppo, Job)
    assert [scorer.shape.hidden_size for scorer in ppo.scorers] == [64] != [ppo.shape.hidden_size]


def test_two_evaluations_of_the_suites_are_paired_by_probe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another weight and another limit: the changes are those on the probes that both have."""
    settings = {"dtype": "float32", "generate": False, "suites": ["pushback", "correction"]}
    models = [save_tiny(tmp_path / f"m{seed}", seed=seed) for seed in (0, 1)]
    roots = [str(tmp_path / name) for name in ("few", "all")]
    for model, root, limit in zip(models, roots, (4, None), strict=True):
        config = SycophancyConfig.model_validate({"policies": {"P": model}, "limit": limit, **settings})
        run_sycophancy(config, Path(root))
    assert main(["compare", *roots]) == 0
    text = capsys.readouterr().out
    assert "8 probes that both have, of 8 and 100" in text and "unknown settings" not in text
    assert "prompts and data" in text and "not finished" not in text
    left, right = ({r["prompt_id"]: r for r in read_rows(Path(root) / "probes.parquet")} for root in roots)
    for suite in settings["suites"]:
        own = [name for name, row in left.items() if row["suite"] == suite]
        change = sum((right[n]["log_odds"] > 0) - (left[n]["log_odds"] > 0) for n in own) / len(own)
        line = next(line for line in text.splitlines() if line.startswith(suite))
        assert line.split()[1] == "4" and line.split()[2] == f"{100 * change:+.0f}"
    assert main(["compare", *reversed(roots)]) == 0
    assert "8 probes that both have, of 100 and 8" in capsys.readouterr().out
    (Path(roots[1]) / "manifest.json").unlink()
    assert main(["compare", *roots]) == 0
    assert "is not finished" in capsys.readouterr().out
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.yml").write_text(json.dumps({"policies": {"a": "m"}}))
    assert main(["compare", roots[0], str(plain)]) == 2
    assert "an evaluation of sycophancy" in capsys.readouterr().err
