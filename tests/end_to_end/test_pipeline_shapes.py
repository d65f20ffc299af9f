"""Pipelines of other shapes than the demo's: what runs, resumes, is checked, planned, compared and reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from kill import stages
from read_page import read_page
from tiny import save_tiny
from tiny_pipeline import write_rows

from harken import sweep
from harken.cli.main import main
from harken.config import RunConfig
from harken.config import files as config_files
from harken.config.ppo import PPOTraining
from harken.doctor.check import Check
from harken.doctor.registry import CHECKS
from harken.doctor.runner import diagnose
from harken.doctor.stages import stages as checked_stages
from harken.errors import UserError

SHAPES = ("two stages", "two policies", "one policy")
FOLDERS = {
    "two stages": ["01_rm", "02_ppo", "03_report"],
    "two policies": ["01_rm", "02_careful", "03_bold", "04_eval", "05_report"],
    "one policy": ["01_tune", "02_eval"],
}


def settings(root: Path, shape: str) -> dict[str, Any]:
    pairs = {"path": str(root / "pairs.jsonl"), "max_length": 96}
    prompts = {"path": str(root / "prompts.jsonl"), "max_length": 64}
    small = {"lora": {"rank": 2}}
    steps = {"max_steps": 2, "batch_size": 4}
    loop = {"updates": 1, "prompts_per_update": 2, "max_gen_len": 4}
    rm = {"type": "reward", "data": pairs | {"eval_fraction": 0.2}, "training": steps, **small}
    ppo = {
        "type": "ppo",
        "data": prompts,
        "training": {"reward_model": {"checkpoint_path": "@rm"}, "ppo": loop},
        **small,
    }
    report: dict[str, Any] = {"type": "report"}
    shapes: dict[str, dict[str, Any]] = {
        "two stages": {"rm": rm | {"gate": {"accuracy": 0.0, "faults": []}}, "ppo": ppo, "report": report},
        "two policies": {
            "rm": rm,
            "careful": ppo,
            "bold": ppo | {"seed": 1},
            "eval": {
                "type": "evaluation",
                "policies": {"Base": "@model", "Careful": "@careful", "Bold": "@bold"},
                "reward_model": "@rm",
                "data": prompts,
                "max_gen_len": 4,
            },
            "report": report,
        },
        "one policy": {
            "tune": {"type": "sft", "data": pairs, "training": steps, **small},
            "eval": {
                "type": "evaluation",
                "policies": {"Start": "@model", "Tuned": "@tune"},
                "judges": ["intact"],
                "data": prompts,
                "max_gen_len": 4,
            },
        },
    }
    return {
        "name": shape, "model_name": str(root / "model"), "dtype": "float32", "device": "cpu",
        "tensorboard": False, "stages": shapes[shape],
    }  # fmt: skip


def command(root: Path, shape: str, verb: str, *more: str) -> list[str]:
    folder = ["--output-dir", str(root / shape)] if verb == "pipeline" else []
    return [verb, str(root / f"{shape}.yml"), *folder, *more]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, rows, and the file of each shape; its output_dir is the folder of the shape's name."""
    root = tmp_path_factory.mktemp("shapes")
    save_tiny(root / "model", hidden=16, layers=1)
    write_rows(root)
    for shape in SHAPES:
        text = yaml.safe_dump(
            settings(root, shape) | {"output_dir": str(root / f"{shape} new")}, sort_keys=False
        )
        (root / f"{shape}.yml").write_text(text)
    return root


@pytest.fixture(scope="module")
def finished(world: Path) -> Path:
    for shape in SHAPES:
        assert main(command(world, shape, "pipeline")) == 0
    return world


def results(root: Path, shape: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / shape / "results.json").read_text())
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_runs_and_is_intact(finished: Path, shape: str) -> None:
    made = sorted(path.name for path in (finished / shape).iterdir() if path.is_dir())
    assert made == FOLDERS[shape]
    assert main(["verify", str(finished / shape)]) == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_command_does_nothing_and_another_is_refused(
    finished: Path, shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    finals = [path for path in (finished / shape).glob("*/final/*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in finals}
    assert before and main(command(finished, shape, "pipeline")) == 0
    assert {path: path.stat().st_mtime_ns for path in finals} == before
    first = next(iter(settings(finished, shape)["stages"]))
    change = f"stages.{first}.training.lr=0.5"
    capsys.readouterr()
    assert main(command(finished, shape, "pipeline", "--set", change)) == 2
    assert f"stages.{first}.training.lr" in capsys.readouterr().err


def test_a_pipeline_without_an_evaluation_has_a_page_of_its_training(finished: Path) -> None:
    page = read_page(finished / "two stages" / "03_report" / "report.html")
    assert [stage["name"] for stage in page["stages"]] == ["reward", "ppo"] and page["summary"] is None
    assert any("shows only training" in sentence["text"] for sentence in page["verdict"])
    found = results(finished, "two stages")
    assert found["seconds"].keys() == {"reward", "ppo"} and found["kl_per_sequence"] is not None
    assert found["reward_model_accuracy"]["n"] == 6 and "policies" not in found


def test_two_policies_of_one_type_have_the_names_of_their_stages(finished: Path) -> None:
    found = results(finished, "two policies")
    assert found["policies"] == {"base": "Base", "careful": "Careful", "bold": "Bold"}
    compared = {name for name in found if name.endswith(("_against_base", "_against_careful"))}
    assert compared == {"careful_against_base", "bold_against_base", "bold_against_careful"}
    assert found["kl_per_sequence"].keys() == {"careful", "bold"}
    page = read_page(finished / "two policies" / "05_report" / "report.html")
    titles = [stage["title"] for stage in page["stages"]]
    assert titles == ["Reward model", "PPO: careful", "PPO: bold"]
    text = " ".join(sentence["text"] for sentence in page["verdict"])
    for pair in ("Careful against Base", "Bold against Base", "Bold against Careful"):
        assert pair in text
    # The KL of each is measured against the model that it started from.
    assert "KL(Careful || Base)" in text and "KL(Bold || Base)" in text and "KL(Bold || Careful)" not in text


def test_a_pipeline_without_a_report_gets_one_on_request(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished / "one policy", copy)
    capsys.readouterr()
    assert main(["report", str(copy)]) == 0
    assert str(copy / "03_report" / "report.html") in capsys.readouterr().out
    found = json.loads((copy / "results.json").read_text())
    assert found["policies"] == {"base": "Start", "sft": "Tuned"} and "sft_against_base" in found
    assert "Tuned against Start" in read_page(copy / "03_report" / "report.html")["verdict"][0]["text"]
    assert main(["verify", str(copy)]) == 0


def test_an_unfinished_pipeline_is_shown_as_far_as_it_is(finished: Path, tmp_path: Path) -> None:
    """Its page says so, has another name than the final one, and leaves the results alone."""
    copy = tmp_path / "copy"
    shutil.copytree(finished / "two stages", copy)
    shutil.rmtree(copy / "02_ppo" / "final")
    before = (copy / "results.json").read_bytes()
    assert main(["report", str(copy)]) == 0
    page = read_page(copy / "unfinished_report.html")
    assert "Not finished: ppo." in page["notice"]
    assert (copy / "results.json").read_bytes() == before


def test_another_order_of_stages_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(finished, "two policies")
    names = ["rm", "bold", "careful", "eval", "report"]
    (tmp_path / "p.yml").write_text(
        yaml.safe_dump(config | {"stages": {n: config["stages"][n] for n in names}}, sort_keys=False)
    )
    shutil.copytree(finished / "two policies", tmp_path / "out")
    assert main(["pipeline", str(tmp_path / "p.yml"), "--output-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "order: rm, careful, bold, eval, report → rm, bold, careful, eval, report" in error
    assert not (tmp_path / "out" / "02_bold").exists()


def test_a_gate_stands_before_the_first_stage_that_uses_the_reward_model(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without SFT, and whatever the stages are called."""
    name, out = str(world / "two stages.yml"), str(tmp_path / "out")
    gate = ["--set", "stages.rm.gate.accuracy=1.0"]
    assert main(["pipeline", name, "--output-dir", out, *gate]) == 1
    error = capsys.readouterr().err
    assert "stage ppo has not started" in error and "change stages.rm.gate, or continue" in error
    assert not (tmp_path / "out" / "02_ppo").exists()
    assert main(["pipeline", name, "--output-dir", out, *gate, "--accept-changes"]) == 0
    assert (tmp_path / "out" / "02_ppo" / "final").exists()
    assert "failed its gate" in json.loads((tmp_path / "out" / "results.json").read_text())["notice"]


# -- the other commands ---------------------------------------------------------------------------


def test_the_doctor_checks_every_training_stage(world: Path) -> None:
    """Nothing has run: the pipeline's model and an untrained head stand in, and nobody claims that SFT comes first."""
    config = config_files.load_run_or_pipeline(str(world / "two policies.yml"), [])
    cheap: list[Check] = [one for one in CHECKS if one.name in ("model_found", "sft_first", "reward_found")]
    found = {(f.stage, f.name): f for f in diagnose(config, checks=cheap).findings}
    assert {stage for stage, _ in found} == {"rm", "careful", "bold"}
    assert "01_rm is not trained yet" in found["bold", "reward_found"].measured
    assert found["bold", "sft_first"].level == "warning" and found["bold", "model_found"].level == "ok"


def test_the_doctor_leaves_out_a_stage_whose_rows_do_not_exist_yet(world: Path, tmp_path: Path) -> None:
    config = settings(world, "one policy") | {"output_dir": str(tmp_path)}
    config["stages"]["again"] = config["stages"]["tune"] | {"data": {"path": "@eval"}}
    (tmp_path / "p.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    pipeline = config_files.load_run_or_pipeline(str(tmp_path / "p.yml"), [])
    (found,) = [f for f in diagnose(pipeline, checks=[]).findings if f.stage == "again"]
    assert "its rows are made by stage eval, which has not run" in found.measured and found.level == "note"


def test_the_doctor_starts_from_the_nearest_model_that_exists(finished: Path, tmp_path: Path) -> None:
    config = settings(finished, "one policy") | {"output_dir": str(tmp_path / "out")}
    three = {"tune": config["stages"]["tune"]}
    three["second"] = three["tune"] | {"model_name": "@tune"}
    three["third"] = three["tune"] | {"model_name": "@second"}
    (tmp_path / "p.yml").write_text(yaml.safe_dump(config | {"stages": three}, sort_keys=False))
    pipeline = config_files.load_run_or_pipeline(str(tmp_path / "p.yml"), [])
    model = str(finished / "model")
    assert [one.config.model_name for one in checked_stages(pipeline)] == [model, model, model]
    shutil.copytree(finished / "one policy" / "01_tune", tmp_path / "out" / "01_tune")
    tuned = str(tmp_path / "out" / "01_tune" / "final")
    assert [one.config.model_name for one in checked_stages(pipeline)] == [model, tuned, tuned]
    assert [one.info.sft_before for one in checked_stages(pipeline)] == [False, True, True]


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ("two stages", {"rm", "ppo"}),
        ("two policies", {"rm", "careful", "bold", "eval"}),
        ("one policy", {"tune", "eval"}),
    ],
)
def test_every_stage_is_planned(
    world: Path, shape: str, names: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(world, shape, "plan", "--no-measure", "--json", "--memory", "64GB")) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {phase["stage"] for phase in plan["phases"]} == names
    trained = names - {"eval"}
    keys = {setting.split(".training.")[0] for setting in plan["set"]}
    assert keys == {f"stages.{name}" for name in trained}


def test_a_sweep_takes_the_stage_that_is_named(finished: Path, tmp_path: Path) -> None:
    name, source = str(finished / "two policies.yml"), finished / "two policies"
    over = ["training.ppo.kl_coef=0.1,0.2"]
    with pytest.raises(UserError, match=r"2 PPO stages: careful, bold\. Fix: choose one with --stage"):
        sweep.plan_runs(name, over, tmp_path, source=source)
    with pytest.raises(UserError, match="no PPO stage is called timid"):
        sweep.plan_runs(name, over, tmp_path, source=source, stage="timid")
    runs = sweep.plan_runs(name, over, tmp_path, source=source, stage="bold")
    assert [run.config.seed for run in runs] == [1, 1]
    training = runs[0].config.training
    assert isinstance(training, PPOTraining) and training.reward_model is not None
    assert training.reward_model.checkpoint_path == str(source / "01_rm" / "final")
    with pytest.raises(UserError, match="there is no PPO stage"):
        sweep.plan_runs(str(finished / "one policy.yml"), over, tmp_path, source=finished / "one policy")
    (alone,) = sweep.plan_runs(
        str(finished / "two stages.yml"), [], tmp_path, "5", source=finished / "two stages"
    )
    assert isinstance(alone.config, RunConfig) and alone.config.model_name == str(finished / "model")


def test_pipelines_are_compared_by_the_names_of_their_stages(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["compare", str(finished / "two policies"), str(finished / "two stages")]) == 0
    text = capsys.readouterr().out
    assert text.count("== rm") == 1 and "== careful" not in text and "== ppo" not in text
    shutil.copytree(finished / "two policies", tmp_path / "copy")
    assert main(["compare", str(finished / "two policies"), str(tmp_path / "copy")]) == 0
    text = capsys.readouterr().out
    assert all(f"== {name}" in text for name in ("rm", "careful", "bold")) and "Careful" in text
    assert main(["compare", str(finished / "two stages"), str(finished / "one policy")]) == 2
    assert "has the same name and type" in capsys.readouterr().err


def test_a_trace_of_a_pipeline_names_its_ppo_runs(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished / "two policies"
    assert main(["trace", str(folder), "--step", "1"]) == 2
    error = capsys.readouterr().err
    assert f"name the PPO run: {folder / '02_careful'} or {folder / '03_bold'}" in error


def test_two_rounds_of_preference_optimisation_are_one_file(tmp_path: Path) -> None:
    """Generate → score → pairs → dpo, twice, each round from the policy of the round before, and then the page."""
    stages.make_world(tmp_path)
    text = yaml.safe_dump(stages.iterated_settings(tmp_path), sort_keys=False)
    (tmp_path / "p.yml").write_text(text)
    out = tmp_path / "out"
    assert main(["pipeline", str(tmp_path / "p.yml"), "--output-dir", str(out)]) == 0
    made = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert made == [
        *("01_generate_1", "02_score_1", "03_pairs_1", "04_dpo_1"),
        *("05_generate_2", "06_score_2", "07_pairs_2", "08_dpo_2", "09_eval", "10_report"),
    ]
    second = json.loads((out / "08_dpo_2" / "manifest.json").read_text())["lineage"]
    assert second["folder"] == str((out / "04_dpo_1" / "final").resolve())
    generated = yaml.safe_load((out / "05_generate_2" / "config.yml").read_text())
    assert generated["policies"] == {"policy": str(out / "04_dpo_1" / "final")}
    found = json.loads((out / "results.json").read_text())
    assert found["policies"] == {"base": "Base", "dpo_1": "First", "dpo_2": "Last"}
    assert "dpo_2_against_dpo_1" in found and "dpo_1_against_base" not in found
    assert main(["verify", str(out)]) == 0


def test_rounds_run_each_from_the_policy_of_the_round_before(world: Path, tmp_path: Path) -> None:
    config = settings(world, "one policy")
    tune = config["stages"]["tune"] | {"model_name": "@previous"}
    tune = tune | {"training": {"max_steps": 1, "batch_size": 2}}
    config["stages"] = {"rounds": {"repeat": 2, "start": "@model", "stages": {"tune": tune}}}
    (tmp_path / "p.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert main(["pipeline", str(tmp_path / "p.yml"), "--output-dir", str(tmp_path / "out")]) == 0
    second = json.loads((tmp_path / "out" / "02_tune_2" / "manifest.json").read_text())
    assert second["lineage"]["folder"] == str((tmp_path / "out" / "01_tune_1" / "final").resolve())
    assert main(["verify", str(tmp_path / "out")]) == 0
