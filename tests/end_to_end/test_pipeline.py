"""From raw rows to the report with a tiny model: every stage, chained by folders, resumable, exact."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_pipeline import TinyFolder, run_config, run_pipeline
from transformers import AutoModelForCausalLM

from harken.cli.main import main
from harken.config import files as config_files
from harken.run.tables import read_rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_pipeline(tmp_path_factory.mktemp("pipeline"))


def test_one_file_from_raw_rows_to_the_report(finished: Path) -> None:
    """S0-02, S0-06, S1-11, S1-43: the layout 01_sft, 02_rm, 03_ppo, 04_eval, 05_report."""
    made = {path.name for path in (finished / "out").iterdir() if path.is_dir()}
    assert made == {"01_sft", "02_rm", "03_ppo", "04_eval", "05_report"}
    folder = TinyFolder(finished / "out")
    results = json.loads(folder.results.read_text())
    assert set(results["learned_reward"]) == {"base", "sft", "ppo"}
    difference = results["learned_reward_ppo_minus_sft"]
    assert difference["low"] is difference["high"] is None
    assert difference["no_interval"] == "too few prompts for an interval"
    assert results["gold"]["ppo"]["n"] == 6
    assert results["reward_model_accuracy"]["n"] == 6
    assert "<html" in folder.report.read_text()[:200].lower()
    for run in (folder.sft, folder.reward, folder.ppo):
        assert json.loads(run.status.read_text())["state"] == "completed"
        assert run.data_report.exists()
        assert json.loads(run.manifest.read_text())["lineage"]["fingerprint"]


def test_the_tables_hold_every_policy_and_prompt_once(finished: Path) -> None:
    """S0-41."""
    rows = read_rows(TinyFolder(finished / "out").evaluation.responses)
    assert len({(r["policy"], r["prompt_id"]) for r in rows}) == len(rows) == 18
    assert all(r["cap_hit"] == (r["stop"] == "length") for r in rows)
    assert all(r["response_tokens"] <= 8 for r in rows)


def test_finals_load_with_from_pretrained_and_ppo_is_based_on_sft(finished: Path) -> None:
    """S1-20, S1-22, S0-27."""
    folder = TinyFolder(finished / "out")
    tokens = torch.tensor([[5, 6, 7]])
    sft = AutoModelForCausalLM.from_pretrained(folder.sft.final)
    ppo = AutoModelForCausalLM.from_pretrained(folder.ppo.final)
    base = AutoModelForCausalLM.from_pretrained(finished / "model")
    logits = [m(tokens).logits for m in (base, sft, ppo)]
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[1], logits[2])
    card = json.loads((folder.ppo.final / "adapter_config.json").read_text())
    assert Path(card["base_model_name_or_path"]) == folder.sft.final.resolve()


def test_metrics_carry_their_names(finished: Path) -> None:
    """S1-44…47, S4-36…40."""
    lines = TinyFolder(finished / "out").ppo.metrics.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    wanted = {
        *("reward_mean", "kl_divergence", "ppo_loss", "entropy", "ppo/mean_scores", "objective/kl"),
        *("reward/mean", "reward/std", "kl/mean", "kl/coef", "kl/per_token", "policy/entropy"),
        *("policy/approxkl", "policy/clipfrac", "value/loss", "value/explained_var", "lr", "step"),
    }
    assert wanted <= set(json.loads(lines[-1]))


def test_a_run_may_start_from_a_ppo_run(finished: Path, tmp_path: Path) -> None:
    """S1-22: any number of links; the next final still opens with from_pretrained."""
    folder = TinyFolder(finished / "out")
    config = config_files.load_pipeline(str(finished / "pipeline.yml"), [], finished / "out")
    stage = run_config(config, folder.root, "ppo").model_copy(update={"model_name": str(folder.ppo.root)})
    from harken.train.launch import train

    run = train(stage, tmp_path / "again")
    AutoModelForCausalLM.from_pretrained(run.final)
    assert (run.root / "base" / "config.json").exists() and (run.root / "base" / "SHA256SUMS").exists()


def without_clock(path: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    clock = ("seconds", "tokens_per_second")
    return [{k: v for k, v in x.items() if k not in clock and not k.startswith("time/")} for x in lines]


def test_a_stopped_ppo_run_ends_as_if_never_stopped(finished: Path, tmp_path: Path) -> None:
    """P38: checkpoints of updates 3 and 4 and the final are lost; the same command makes them again, bit for bit."""
    again = tmp_path / "out"
    shutil.copytree(finished / "out" / "03_ppo", again)
    for lost in ("final", "checkpoints/step-000004"):
        shutil.rmtree(again / lost)
    kept = sorted(p.name for p in (again / "checkpoints").iterdir())
    assert kept == ["step-000003"]
    config = config_files.load_pipeline(str(finished / "pipeline.yml"), [], finished / "out")
    from harken.train.launch import train

    train(run_config(config, finished / "out", "ppo"), again)
    before = finished / "out" / "03_ppo"
    for name in ("final/adapter_model.safetensors", "final/value_head.safetensors"):
        assert (again / name).read_bytes() == (before / name).read_bytes()
    assert without_clock(again / "metrics.jsonl") == without_clock(before / "metrics.jsonl")
    last = "rollouts/update-000004.parquet"
    assert (again / last).read_bytes() == (before / last).read_bytes()


def test_the_same_command_again_does_nothing(finished: Path) -> None:
    folder = TinyFolder(finished / "out")
    before = {p: p.stat().st_mtime_ns for p in folder.ppo.final.iterdir()}
    assert main(["pipeline", str(finished / "pipeline.yml"), "--output-dir", str(finished / "out")]) == 0
    assert {p: p.stat().st_mtime_ns for p in folder.ppo.final.iterdir()} == before


def test_a_config_as_users_of_other_tools_write_it_runs(finished: Path, tmp_path: Path) -> None:
    """S1-24…41: model_name, data.*, training.type: ppo, training.ppo.*, training.reward_model.checkpoint_path."""
    folder = TinyFolder(finished / "out")
    (tmp_path / "ppo.yml").write_text(
        f"""
model_name: {folder.sft.final}
data:
  path: {finished}/prompts.jsonl
  format: raw
  task: prompt_only
  max_length: 256
training:
  type: ppo
  lr: 1e-6
  ppo:
    clip_range: 0.2
    kl_coef: 0.1
    epochs: 4
    max_gen_len: 4
    temperature: 1.0
    updates: 1                # the defaults of these two make a longer run than a test should
    prompts_per_update: 4
  reward_model:
    model_name: ""
    checkpoint_path: {folder.reward.final}
"""
    )
    arguments = ["train", "--preset", str(tmp_path / "ppo.yml"), "--output-dir", str(tmp_path / "out")]
    assert main(arguments) == 0
    line = json.loads((tmp_path / "out" / "metrics.jsonl").read_text())
    assert line["update/optimiser_steps"] == 4


def test_a_random_reward_only_on_request_and_stamped(finished: Path, tmp_path: Path) -> None:
    """S1-09, S1-10."""
    folder = TinyFolder(finished / "out")
    config = {
        "model_name": str(folder.sft.final),
        "dtype": "float32",
        "tensorboard": False,
        "data": {"path": f"{finished}/prompts.jsonl"},
        "training": {
            "type": "ppo",
            "ppo": {"updates": 1, "prompts_per_update": 2, "max_gen_len": 4},
            "reward_model": {"random_for_debugging": True},
        },
    }
    (tmp_path / "ppo.yml").write_text(json.dumps(config))
    arguments = ["train", "--preset", str(tmp_path / "ppo.yml"), "--output-dir", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["stamp"] == "random reward"
