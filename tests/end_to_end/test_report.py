"""`harken report` on everything a user may name: a pipeline, stages, their folder, one run, one evaluation."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from read_page import read_page
from tiny_pipeline import run_pipeline

from harken.cli.main import main
from harken.run import checksums
from harken.run.folder import RunFolder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pipeline in out/, and its stages as single commands leave them in stages/."""
    root = run_pipeline(tmp_path_factory.mktemp("report"))
    for name in ("01_sft", "02_rm", "03_ppo", "04_eval"):
        shutil.copytree(root / "out" / name, root / "stages" / name)
    return root


def names(data: dict[str, Any]) -> list[str]:
    return [stage["name"] for stage in data["stages"]]


def test_the_folder_that_holds_all_stages(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(made / "stages")]) == 0
    path = made / "stages" / "05_report" / "report.html"
    assert f"figures  {path.with_name('results.json')}\nreport   {path}" in capsys.readouterr().out
    data = read_page(path)
    assert names(data) == ["sft", "reward", "ppo"]
    assert data["summary"]["policies"] == ["Base", "SFT", "PPO"]
    assert len(data["examples"]) == 6
    assert "evaluation prompts 6 in PPO's training" in data["notice"], "what the pipeline's page warns of"
    assert any(response["flags"] for example in data["examples"] for response in example["responses"])
    assert main(["report", str(made / "stages")]) == 0, "its own page is no stage"


def test_results_json_of_stages_is_the_pipelines(made: Path, tmp_path: Path) -> None:
    stages = [str(made / "out" / name) for name in ("01_sft", "02_rm", "03_ppo", "04_eval")]
    assert main(["report", *stages, "--output-dir", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    expected = json.loads((made / "out" / "results.json").read_text())
    assert found.pop("name") == "Base, SFT, PPO" and expected.pop("name") == "tiny"
    assert found.pop("notice") in expected.pop("notice")
    assert found == expected


def test_the_folders_of_stages_give_the_same_page(made: Path, tmp_path: Path) -> None:
    assert main(["report", str(made / "stages"), "--output-dir", str(tmp_path / "a")]) == 0
    paths = [str(made / "stages" / name) for name in ("04_eval", "03_ppo", "01_sft", "02_rm", "03_ppo")]
    assert main(["report", *paths, "--output-dir", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()


def test_a_single_run_shows_its_training_alone(made: Path, tmp_path: Path) -> None:
    for kind, name in (("sft", "01_sft"), ("reward", "02_rm"), ("ppo", "03_ppo")):
        assert main(["report", str(made / "stages" / name), "--output-dir", str(tmp_path / name)]) == 0
        data = read_page(tmp_path / name / "report.html")
        assert names(data) == [kind] and data["stages"][0]["charts"]
        assert data["summary"] is None and bool(data["examples"]) == (kind == "ppo")
        assert "shows only training" in data["verdict"][-1]["text"]
        figures = json.loads((tmp_path / name / "results.json").read_text())
        assert figures["seconds"].keys() == {kind} and "policies" not in figures


def test_an_unhealthy_run_is_called_so(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last line of metrics gets a KL that is no number."""
    run = RunFolder(shutil.copytree(made / "stages" / "03_ppo", tmp_path / "run"))
    *before, last = run.metrics.read_text().splitlines()
    metrics = json.loads(last) | {"kl/mean": None, "nonfinite": ["kl/mean"]}
    run.metrics.write_text("\n".join([*before, json.dumps(metrics)]) + "\n")
    sums = [line.split() for line in (run.root / "SHA256SUMS").read_text().splitlines()]
    listed = [run.root / name[0] for digest, *name in sums if len(digest) == 64]
    checksums.write_checksums(run.root, listed)
    assert main(["report", str(run.root), "--output-dir", str(tmp_path / "page")]) == 0
    sentence = f"at step {metrics['step']}: not_finite: "
    assert sentence in capsys.readouterr().out
    verdict = [line["text"] for line in read_page(tmp_path / "page" / "report.html")["verdict"]]
    assert any(sentence in text and "Fix: " in text for text in verdict)


def test_a_single_evaluation_shows_its_comparison_alone(made: Path, tmp_path: Path) -> None:
    assert main(["report", str(made / "stages" / "04_eval"), "--output-dir", str(tmp_path)]) == 0
    data = read_page(tmp_path / "report.html")
    assert data["stages"] == [] and data["summary"]["prompts"] == 6
    assert "PPO against Base" in data["verdict"][0]["text"]


def test_the_verdict_identifies_policies_by_their_runs(made: Path, tmp_path: Path) -> None:
    """PPO against the SFT model it started from, whatever the evaluation calls them and in which order they stand."""
    (tmp_path / "eval.yml").write_text(
        f"""
policies:
  tuned: {made}/out/03_ppo
  start: {made}/out/01_sft/final
  raw: {made}/model
reward_model: {made}/out/02_rm
dtype: float32
data: {{path: {made}/prompts.jsonl, max_length: 96}}
max_gen_len: 4
"""
    )
    compared = tmp_path / "compared"
    assert main(["eval", "--config", str(tmp_path / "eval.yml"), "--output-dir", str(compared)]) == 0
    stages = [str(made / "out" / name) for name in ("01_sft", "03_ppo")]
    assert main(["report", *stages, str(compared), "--output-dir", str(tmp_path / "page")]) == 0
    verdict = [sentence["text"] for sentence in read_page(tmp_path / "page" / "report.html")["verdict"]]
    assert "tuned against start" in verdict[0]
    assert any("uned's learned reward minus raw's" in text for text in verdict)
    assert any("|| start) is" in text and "nats per sequence" in text for text in verdict)


@pytest.mark.parametrize(("columns", "widest"), [("80", 80), ("200", 200), ("20", 60)])
def test_the_tables_fit_the_terminal(
    made: Path, columns: str, widest: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["report", str(made / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if re.match(r"policy |right − left|(Base|SFT|PPO) ", line)]
    assert len(table) >= 12 and max(map(len, table)) <= widest
    assert (max(map(len, table)) > 80) == (columns == "200")


def test_a_pipeline_as_before(made: Path) -> None:
    before = read_page(made / "out" / "05_report" / "report.html")
    assert main(["report", str(made / "out")]) == 0
    assert read_page(made / "out" / "05_report" / "report.html") == before


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["report", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "Traceback" not in lines[0]
    return lines[0]


def test_unusable_folders_are_refused_by_kind(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages, out = made / "stages", made / "out"
    assert "no such file or folder" in refusal(capsys, str(tmp_path / "missing"))
    assert "this is a configuration" in refusal(capsys, str(made / "pipeline.yml"))
    assert "not a run, an evaluation or a pipeline" in refusal(capsys, str(tmp_path))
    assert f"harken report {stages / '03_ppo'}" in refusal(capsys, str(stages / "03_ppo" / "final"))
    assert f"harken report {out}" in refusal(capsys, str(made.parent / made.name / "out"), str(stages))
    holder = tmp_path / "holder"
    (holder / "demo").mkdir(parents=True)
    shutil.copy(out / "pipeline.yml", holder / "demo")
    assert f"harken report {holder / 'demo'}" in refusal(capsys, str(holder))
    assert "the page of a pipeline is written to" in refusal(capsys, str(out), "--output-dir", str(tmp_path))
    shutil.copytree(stages / "03_ppo", tmp_path / "two" / "a")
    shutil.copytree(stages / "03_ppo", tmp_path / "two" / "b")
    twice = [str(tmp_path / "two" / name) for name in ("a", "b")]
    assert main(["report", *twice, "--output-dir", str(tmp_path / "both")]) == 0
    assert len(names(read_page(tmp_path / "both" / "report.html"))) == 2
    shutil.copytree(stages / "04_eval", tmp_path / "half")
    (tmp_path / "half" / "summary.json").unlink()
    assert "this evaluation is not finished" in refusal(capsys, str(tmp_path / "half"))
    assert "2 evaluations" in refusal(capsys, str(stages / "04_eval"), str(tmp_path / "half"))
