"""`harken compare` on runs and evaluations that were made, not on invented folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from kill import stages

from harken.cli.main import main
from harken.config import EvaluationConfig
from harken.evaluation import suite
from harken.run.tables import read_rows


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    stages.make_world(root)
    settings = stages.evaluation_settings(root) | {"temperature": 0.0}
    fewer = {**settings["data"], "limit": 3}
    for name, change in (
        ("fewer", {"max_gen_len": 6, "data": fewer}),
        ("short", {"max_gen_len": 2}),
        ("long", {"max_gen_len": 6}),
        ("again", {"max_gen_len": 6}),
    ):
        suite.run_evaluation(EvaluationConfig.model_validate(settings | change), root / name)
    training = {"type": "reward", "max_steps": 4, "batch_size": 2, "eval_every": 2}
    for name, lr in (("one", 1e-4), ("two", 2e-4)):
        stages.training(stages.run_config(root, "reward", training=training | {"lr": lr}))(root / name)
    return root


def compared(world: Path, capsys: pytest.CaptureFixture[str], left: str, right: str) -> str:
    capsys.readouterr()
    assert main(["compare", str(world / left), str(world / right)]) == 0
    return capsys.readouterr().out


def test_two_evaluations_are_paired_prompt_by_prompt(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = compared(world, capsys, "short", "long")
    assert "Controlled: only max_gen_len differs (sampling)." in text
    rows = [read_rows(world / name / "responses.parquet") for name in ("short", "long")]
    policy = rows[0][0]["policy"]
    short, long = ({r["prompt_id"]: r["reward"] for r in side if r["policy"] == policy} for side in rows)
    wins = sum(long[p] > short[p] for p in short)
    losses = sum(long[p] < short[p] for p in short)
    assert f"{wins} / {len(short) - wins - losses} / {losses}" in text
    assert f"{policy} (long) − {policy} (short)" in text


def test_equal_evaluations_differ_in_nothing(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = compared(world, capsys, "again", "long")
    assert "no setting differs" in text and "Controlled: no setting" in text and "0 / 5 / 0" in text


def test_prompts_that_are_not_compared_are_counted(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(compared(world, capsys, "fewer", "long").split())
    assert "Compared on 3 shared prompts:" in text and "responds to 5" in text
    assert "Compared on" not in compared(world, capsys, "again", "long")


def test_two_runs_show_the_setting_and_their_figures(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = compared(world, capsys, "one", "two")
    assert "Controlled: only training.lr differs (optimisation)." in text
    assert "eval/accuracy" in text and "Not paired" in text


@pytest.mark.parametrize(
    ("left", "right", "problem"),
    [
        ("one", "long", "this is an evaluation, but"),
        ("one", "nothing", "no such folder"),
        ("one", ".", "not a run, an evaluation or a pipeline"),
        ("one", "sft", "this is a run of type sft, but"),
    ],
)
def test_folders_that_do_not_compare_are_refused(
    world: Path, capsys: pytest.CaptureFixture[str], left: str, right: str, problem: str
) -> None:
    assert main(["compare", str(world / left), str(world / right)]) == 2
    assert problem in capsys.readouterr().err
