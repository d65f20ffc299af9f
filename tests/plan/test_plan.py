"""`harken plan` as a user meets it, on a tiny model: the table, the JSON, the exit codes, every mistake one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_plan import settings, write_rows

from harken.cli import main as cli
from harken.errors import UserError
from harken.plan import report
from harken.plan.duration import Duration
from harken.plan.report import parse_memory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plan")
    write_rows(root)
    for kind in ("sft", "reward", "ppo"):
        (root / f"{kind}.yml").write_text(yaml.safe_dump(settings(root, kind)))
    stages = {kind: settings(root, kind) for kind in ("sft", "reward", "ppo")}
    stages["ppo"]["training"]["reward_model"] = {"checkpoint_path": "@reward"}
    pipeline: dict[str, Any] = {
        "name": "small", "model_name": str(root / "model"), "dtype": "float32", "device": "cpu",
        "stages": {
            **{
                kind: {"type": kind, **{key: s[key] for key in ("data", "lora", "training")}}
                | ({} if kind == "sft" else {"model_name": "@sft"})
                for kind, s in stages.items()
            },
            "eval": {
                "type": "evaluation",
                "policies": {"Base": "@model", "SFT": "@sft", "PPO": "@ppo"},
                "reward_model": "@reward",
                "data": {"path": str(root / "prompts.jsonl"), "max_length": 256},
                "max_gen_len": 16,
            },
        },
    }  # fmt: skip
    (root / "pipeline.yml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    return root


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("sft", ["load", "learn", "save"]),
        ("reward", ["load", "learn", "save"]),
        ("ppo", ["load", "generate", "score", "evaluate", "learn", "save"]),
    ],
)
def test_a_run_by_phase(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str, names: list[str]
) -> None:
    assert cli.main(["plan", str(folder / f"{kind}.yml"), "--no-measure", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [p["phase"] for p in plan["phases"]] == names
    assert all(p["bytes"] == pytest.approx(sum(p["parts"].values()), abs=8) for p in plan["phases"])
    assert plan["peak"]["bytes"] == max(p["bytes"] for p in plan["phases"])
    assert plan["seconds"] is None and plan["cost"] is None and plan["fits"] is None
    # This process has torch in it, and holds less than a gigabyte or two.
    assert 1e8 < plan["phases"][0]["parts"]["process"] < 4e9


def test_a_pipeline_with_seconds_and_cost(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(folder / "pipeline.yml"), "--price", "2.5", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [d["stage"] for d in plan["durations"]] == ["sft", "reward", "ppo", "eval"]
    assert all(d["seconds_per_step"] > 0 for d in plan["durations"])
    assert plan["seconds"] == pytest.approx(sum(d["seconds"] for d in plan["durations"]))
    assert plan["cost"] == pytest.approx(2.5 * plan["seconds"] / 3600)
    ppo = next(p for p in plan["phases"] if p["stage"] == "ppo" and p["phase"] == "load")
    base = next(p for p in plan["phases"] if p["stage"] == "sft" and p["phase"] == "load")
    # The reward model of a pipeline is an adapter on the policy's own base.
    assert base["parts"]["weights"] < ppo["parts"]["weights"] < 1.5 * base["parts"]["weights"]


def test_held_out_evaluation_has_a_line_of_its_own() -> None:
    """G5: what held-out rows take beside the steps; a stage without them has no such line."""
    steps = Duration("ppo", 4, {"learn": 2.0}, 0.0)
    assert report._duration(steps) == [("ppo", "2.0 s", "4", "8.0 s", "learn 2.0 s")]
    own = report._duration(replace(steps, outside_steps=30.0))
    assert len(own) == 2 and own[1] == ("", "", "", "30 s", "of which held-out evaluation")
    assert own[0][3] == "38 s"  # it is part of the total


def test_the_table_is_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(folder / "ppo.yml")]) == 0
    text = capsys.readouterr().out
    assert text.count("← peak") == 1
    assert text.splitlines()[-1].startswith("peak ") and "--memory" in text.splitlines()[-1]
    assert "updates" not in text and "per step" in text


def test_the_proposed_settings_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = str(folder / "pipeline.yml")
    assert cli.main(["plan", name, "--no-measure", "--memory", "64GB"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("fits 64.00 GB") and "--set stages.ppo.training.micro_batch_tokens=" in last
    settings = [word for word in last.split() if ".training." in word]
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert cli.main(["plan", name, "--no-measure", "--json", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["peak"]["bytes"] < 0.9 * 64e9


def test_a_run_that_does_not_fit_is_one_line_and_exit_code_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", str(folder / "sft.yml"), "--no-measure", "--memory", "20MB"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("does not fit 20 MB") and "data.max_length" in last


def test_a_gpu_that_is_not_here_is_planned_and_not_timed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert cli.main(["plan", str(folder / "sft.yml"), "--device", "cuda"]) == 0
    text = capsys.readouterr().out
    assert "on cuda" in text and "no CUDA device to measure on" in text and "per step" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "12"], "'12' is not a memory size"),
        (["--memory", "much"], "'much' is not a memory size"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--price", "-1"], "--price"),
        (["--set", "training.lrr=1"], "Fix: write lr"),
        (["--set", "model_name=nowhere"], "no model or config.json"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", str(folder / "sft.yml"), "--no-measure", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and message in shown.err and shown.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "size"), [("12GB", 12e9), ("16 GiB", 16 * 2**30), ("800mb", 8e8), ("1.5TB", 1.5e12)]
)
def test_sizes_of_memory(text: str, size: float) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "0GB", "12 G", "GB", "-1GB", "12GBs"])
def test_invalid_memory_sizes_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_memory(text)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--help"]) == 0
    assert "harken plan demo" in capsys.readouterr().out
