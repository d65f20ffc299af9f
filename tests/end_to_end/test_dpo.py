"""DPO and online DPO as whole runs: what they write, what follows them, what refuses to resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from documented_metrics import documented
from kill import stages

from harken.config import EvaluationConfig, RunConfig
from harken.doctor.runner import diagnose
from harken.errors import UserError
from harken.evaluation import suite
from harken.explorer.charts import CHARTS
from harken.models.resolve import resolve
from harken.plan.plan import make_plan
from harken.run.checksums import verify_folder
from harken.run.folder import RunFolder
from harken.train.launch import train

KINDS = ("dpo", "online_dpo")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    stages.make_world(root)
    for kind in KINDS:
        stages.work(root, kind)(root / kind)
    return root


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in RunFolder(run).metrics.read_text().splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_is_documented_and_every_chart_has_one(world: Path, kind: str) -> None:
    names = {name for line in lines(world / kind) for name in line}
    patterns = documented()
    assert [name for name in names if not any(p.fullmatch(name) for p in patterns)] == []
    assert {name for chart in CHARTS[kind] for name, _ in chart.series} <= names


def test_a_dpo_run_is_an_adapter_on_the_model_it_started_from(world: Path) -> None:
    """S0-68: what PPO's final is, so that everything that takes a policy takes it."""
    for kind in KINDS:
        source = resolve(str(world / kind))
        assert source.kind == "adapter" and source.base is not None
        assert source.base.folder == (world / "sft" / "final").resolve()
        verify_folder(world / kind / "final")
        verify_folder(world / kind)


def test_lineage_names_model_reward_and_rows(world: Path) -> None:
    for kind in KINDS:
        record = json.loads(RunFolder(world / kind).manifest.read_text())
        lineage = record["lineage"]
        assert lineage["model"] == str(world / "sft" / "final") and lineage["sft"] is True
        assert lineage["data"]["fingerprint"] and lineage["frozen"]["base"]
        assert {row["component"] for row in record["roles"]} >= {"base", "policy", "reference"}
    assert lineage["reward_model"]["fingerprint"] and "reward model" in lineage["frozen"]


def test_other_rows_refuse_to_resume(world: Path, tmp_path: Path) -> None:
    """S0-68: the run's checks are those of every stage."""
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text((world / "pairs.jsonl").read_text())
    data = {"path": str(pairs), "max_length": 64}
    config = stages.run_config(world, "dpo", data=data)
    run = train(config, tmp_path / "run")
    (run.final).rename(tmp_path / "gone")
    pairs.write_text(pairs.read_text().replace("Good", "Fine"))
    with pytest.raises(UserError, match=r"training rows .* changed since the run began"):
        train(config, tmp_path / "run")


@pytest.mark.nightly
def test_an_evaluation_takes_it_as_a_policy(world: Path, tmp_path: Path) -> None:
    settings = stages.evaluation_settings(world)
    settings["policies"] = {"SFT": str(world / "sft"), **{kind: str(world / kind) for kind in KINDS}}
    suite.run_evaluation(EvaluationConfig.model_validate(settings), tmp_path / "eval")
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert [row["policy"] for row in summary["table"]] == ["SFT", *KINDS]


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_doctor_finds_no_error_and_runs_an_update(world: Path, kind: str, tmp_path: Path) -> None:
    config = stages.run_config(world, kind, output_dir=str(tmp_path / "out"))
    found = {result.name: result for result in diagnose(config).findings}
    assert [r.measured for r in found.values() if r.level == "error"] == []
    assert found["update_runs"].measured.startswith("loss 0.69")
    assert found["adapter_learns"].level == "ok" and found["frozen_weights"].level == "ok"


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_plan_predicts_its_phases(world: Path, kind: str) -> None:
    config = stages.run_config(world, kind)
    plan = make_plan(config, kind, device="cpu", timed=False)
    names = [phase.name for phase in plan.phases]
    assert (
        names
        == {
            "dpo": ["load", "learn", "evaluate", "save"],
            "online_dpo": ["load", "generate", "score", "evaluate", "learn", "save"],
        }[kind]
    )
    assert all(phase.total > 0 for phase in plan.phases)


@pytest.mark.nightly
def test_a_reference_of_all_weights_is_planned_as_a_copy(world: Path) -> None:
    whole = RunConfig.model_validate(stages.run_config(world, "dpo").model_dump() | {"lora": None})
    adapter = make_plan(stages.run_config(world, "dpo"), "dpo", device="cpu", timed=False)
    copy = make_plan(whole, "dpo", device="cpu", timed=False)
    assert copy.phases[0].parts["weights"] == adapter.phases[0].parts["weights"]
