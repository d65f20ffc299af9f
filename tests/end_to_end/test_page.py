"""The page, results.json and summary of a pipeline against the files they are made from: no argument is ignored."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documented_metrics import documented
from read_page import read_page
from tiny_pipeline import TinyFolder, run_pipeline

import harken
from harken.evaluation import audit, compare
from harken.evaluation.run_summary import read_metrics
from harken.evaluation.summary import read_responses, read_summary
from harken.evaluation.tables import PAIR_FIGURES
from harken.explorer.charts import CHARTS, FAMILIES

SETTINGS = (
    "stages.ppo.data.eval_fraction=0.34",
    "stages.ppo.training.eval_every=1",
    "stages.ppo.training.ppo.judges=[demo_gold, intact]",
    "stages.ppo.training.ppo.missing_eos_penalty=1.5",
    "stages.ppo.training.ppo.update_kl_limit=50",
    "stages.ppo.training.ppo.score_clip=9",
    "stages.eval.tie_epsilon=1.0",
    "seed=840",
)
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TinyFolder, str]]:
    """A pipeline with everything that has a chart, and what it printed."""
    root = tmp_path_factory.mktemp("page")
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harken.train.launch.say", printed.append)
        run_pipeline(root, settings=SETTINGS)
    yield TinyFolder(root / "out"), "\n".join(printed)


def page(folder: TinyFolder) -> dict[str, Any]:
    return read_page(folder.report)


def written(folder: TinyFolder) -> dict[str, set[str]]:
    runs = {"sft": folder.sft, "reward": folder.reward, "ppo": folder.ppo}
    return {kind: {name for line in read_metrics(run) for name in line} for kind, run in runs.items()}


def test_every_chart_shows_a_metric_that_a_run_writes(finished: tuple[TinyFolder, str]) -> None:
    metrics = written(finished[0])
    for kind in metrics:  # of DPO: end_to_end/test_dpo.py
        assert {name for chart in CHARTS[kind] for name, _ in chart.series} <= metrics[kind]
    for family in FAMILIES:
        assert any(name.startswith(family.prefix) for name in metrics["ppo"]), family.prefix


def test_every_metric_is_documented(finished: tuple[TinyFolder, str]) -> None:
    patterns = documented()
    for names in written(finished[0]).values():
        assert [name for name in names if not any(p.fullmatch(name) for p in patterns)] == []


def test_the_page_draws_judge_guard_and_penalty(finished: tuple[TinyFolder, str]) -> None:
    [ppo] = [stage for stage in page(finished[0])["stages"] if stage["name"] == "ppo"]
    drawn = {series["metric"]: chart["title"] for chart in ppo["charts"] for series in chart["series"]}
    assert drawn["eval/judge_demo_gold"] == "Held-out judge: demo_gold"
    assert drawn["eval/guard_intact"] == "Held-out guard: intact"
    assert drawn["score/missing_eos"] == "Penalty: missing_eos"


def test_every_stage_shows_versions_lineage_roles_and_data(finished: tuple[TinyFolder, str]) -> None:
    folder, _ = finished
    for stage, run in zip(page(folder)["stages"], (folder.sft, folder.reward, folder.ppo), strict=True):
        facts, record = stage["facts"], json.loads(run.manifest.read_text())
        assert facts["versions"]["harken"] == harken.__version__
        assert facts["versions"]["torch"] == record["torch"]
        assert facts["versions"]["python"] == record["python"]
        assert facts["lineage"] == record["lineage"]
        assert facts["roles"] == record["roles"] and len(facts["roles"]) >= 2
        assert facts["config"]["seed"] == 840
        assert stage["data"] == json.loads(run.data_report.read_text())


def test_the_page_flags_responses_as_the_audit_does(finished: tuple[TinyFolder, str]) -> None:
    folder, _ = finished
    summary = read_summary(folder.evaluation.summary)
    audited = audit.audit(read_responses(folder.evaluation.responses, summary), summary["baseline"])
    data = page(folder)
    shown = {(e["id"], 0, a["policy"]): a["flags"] for e in data["examples"] for a in e["responses"]}
    assert shown == {key: found["flags"] for key, found in audited.items()}
    assert any(shown.values())
    assert data["flags"] == audit.FLAG_MEANINGS


def test_the_page_and_results_agree_with_the_configuration(finished: tuple[TinyFolder, str]) -> None:
    folder, _ = finished
    data, results = page(folder), json.loads(folder.results.read_text())
    assert (data["title"], results["name"]) == ("Tiny", "tiny")
    for notice in (data["notice"], results["notice"]):
        assert notice.startswith("Synthetic rows. Warning: of 6 evaluation prompts 4 in PPO's training")
    assert data["summary"] == read_summary(folder.evaluation.summary)
    assert results["judge"] == "demo_gold"
    [pair] = [p for p in data["summary"]["pairs"] if (p["left"], p["right"]) == ("SFT", "PPO")]
    assert results["ppo_against_sft"] == {key: pair[key] for key in PAIR_FIGURES}
    lines = {name: read_metrics(run) for name, run in (("sft", folder.sft), ("reward", folder.reward))}
    lines["ppo"] = read_metrics(folder.ppo)
    assert results["seconds"] == {name: sum(x["seconds"] for x in found) for name, found in lines.items()}
    late = [line["kl/mean"] for line in lines["ppo"]][-3:]
    assert results["kl_per_sequence"] == pytest.approx(sum(late) / 3)
    judged = [line for line in lines["reward"] if "eval/accuracy" in line][-1]
    accuracy = results["reward_model_accuracy"]
    assert (accuracy["value"], accuracy["n"]) == (judged["eval/accuracy"], judged["eval/pairs"])
    assert len(data["verdict"]) == len(results["verdict"]) > 4
    assert any("nats per sequence" in line for line in results["verdict"])


def test_the_evaluation_compares_under_its_own_settings(finished: tuple[TinyFolder, str]) -> None:
    """tie_epsilon, judges and seed each change the summary, and the summary is the one they give."""
    folder, _ = finished
    summary = read_summary(folder.evaluation.summary)
    rows = read_responses(folder.evaluation.responses, summary)
    facts = ("trained_on", "scorer", "files", "best_of")  # written beside the comparison
    summary = {key: value for key, value in summary.items() if key not in facts}
    given: dict[str, Any] = {"judges": ["demo_gold"], "tie_epsilon": 1.0, "seed": 840}
    assert json.loads(json.dumps(compare.compare(rows, **given))) == summary
    for name in given:
        others = {key: value for key, value in given.items() if key != name}
        assert json.loads(json.dumps(compare.compare(rows, **others))) != summary, name


def test_a_run_prints_its_role_table(finished: tuple[TinyFolder, str]) -> None:
    folder, printed = finished
    for run in (folder.sft, folder.reward, folder.ppo):
        for role in json.loads(run.manifest.read_text())["roles"]:
            pattern = (
                rf"^{re.escape(role['component'])} .*{role['parameters']:,}.*{re.escape(role['source'])}$"
            )
            assert re.search(pattern, printed, re.MULTILINE), role


def test_a_reward_model_logs_mean_and_spread_of_its_rewards(finished: tuple[TinyFolder, str]) -> None:
    for line in read_metrics(finished[0].reward):
        assert line["reward/std"] > 0 and line["reward/mean"] == line["reward/mean"]
