"""Every configuration that ships with Harken loads, and says in its first line what it is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harken.config import EvaluationConfig, PipelineConfig, RunConfig
from harken.config import files as config_files
from harken.config.base import DataConfig, Strict
from harken.config.ppo import PPOTraining
from harken.config.stages import resolve_stages
from harken.config.training import RewardTraining
from harken.health.limits import Limits

PRESETS = config_files.list_presets()
LOAD: dict[str, Callable[..., Strict]] = {
    "run": config_files.load_run,
    "pipeline": config_files.load_pipeline,
    "evaluation": config_files.load_evaluation,
}


@pytest.fixture(autouse=True)
def data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARKEN_DATA", "/data")


def test_each_stage_and_model_has_a_preset() -> None:
    """S1-23, S0-04."""
    names = {preset.name for preset in PRESETS}
    assert {
        f"{model}_{stage}" for model in ("smollm2-135m", "qwen2.5-0.5b") for stage in ("sft", "rm", "ppo")
    } <= names
    assert {"demo", "hh-dolly-smollm2"} <= names


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_every_preset_loads(preset: config_files.PresetInfo) -> None:
    config = LOAD[preset.kind](preset.name, [])
    assert isinstance(config, RunConfig | PipelineConfig | EvaluationConfig)
    assert config.output_dir == f"outputs/{preset.name}"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_every_preset_survives_being_written_out(preset: config_files.PresetInfo, tmp_path: Path) -> None:
    config = LOAD[preset.kind](preset.name, [])
    copy = tmp_path / "copy.yml"
    copy.write_text(config_files.dump(config))
    assert LOAD[preset.kind](str(copy), []) == config


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_every_preset_starts_with_its_purpose(preset: config_files.PresetInfo) -> None:
    assert config_files.show_preset(preset.name).startswith("# ")
    assert 20 < len(preset.summary) < 110


def test_the_published_configuration() -> None:
    """S0-20, S0-24, S0-33..38: the numbers the study printed, in Harken's keys."""
    sft, reward, ppo = (config_files.load_run(f"qwen2.5-0.5b_{stage}", []) for stage in ("sft", "rm", "ppo"))
    assert sft.model_name == "Qwen/Qwen2.5-0.5B-Instruct" and sft.seed == 839
    assert (sft.data.max_length, sft.lora.rank, sft.training.lr) == (4096, 16, 5e-6)
    assert isinstance(reward.training, RewardTraining)
    assert (reward.data.max_length, reward.lora.rank, reward.lora.alpha) == (4096, 32, 64.0)
    assert (reward.training.lr, reward.training.epochs, reward.training.strength) == (7.5e-6, 2, "weight")
    assert isinstance(ppo.training, PPOTraining)
    loop = ppo.training.ppo
    assert (ppo.data.max_length, loop.max_gen_len, ppo.lora.rank, ppo.training.lr) == (3072, 512, 16, 3e-7)
    assert (loop.epochs, loop.updates, loop.clip_range, loop.kl_coef) == (1, 400, 0.06, 0.18)
    assert (loop.kl_coef_min, loop.kl_coef_max, loop.kl_horizon) == (0.14, 3.0, 10_000.0)


EXAMPLE = Path(__file__).parents[1] / "examples" / "hackable" / "run.yml"


def ppo_configs() -> dict[str, tuple[DataConfig, PPOTraining]]:
    """The data and training of every PPO stage that ships."""
    found: dict[str, tuple[DataConfig, PPOTraining]] = {}
    runs = {preset.name: preset.name for preset in PRESETS if preset.kind == "run"} | {
        "hackable": str(EXAMPLE)
    }
    for name, given in runs.items():
        run = config_files.load_run(given, [])
        if isinstance(run.training, PPOTraining):
            found[name] = run.data, run.training
    for preset in PRESETS:
        if preset.kind == "pipeline":
            for stage in resolve_stages(config_files.load_pipeline(preset.name, []), "outputs"):
                if isinstance(stage.config, RunConfig) and isinstance(stage.config.training, PPOTraining):
                    found[f"{preset.name}, {stage.name}"] = stage.config.data, stage.config.training
    return found


def test_every_ppo_stage_that_ships_holds_prompts_out_and_names_a_judge() -> None:
    """Best checkpoint, patience, held-out evaluation and the hacking alarm act by default."""
    found = ppo_configs()
    assert len(found) >= 7
    for name, (data, training) in found.items():
        _require_protection(name, data, training)


def _require_protection(name: str, data: DataConfig, training: PPOTraining) -> None:
    assert data.eval_path or data.eval_split or data.eval_fraction > 0, name
    assert data.eval_limit is not None, f"{name}: a held-out evaluation is bounded"
    assert training.ppo.judges, name
    looks = training.ppo.updates // training.eval_every + 1
    assert looks >= Limits().hacking_least, f"{name}: the hacking alarm needs this many held-out evaluations"


@pytest.mark.parametrize("model", ["smollm2-135m", "qwen2.5-0.5b"])
def test_stages_of_a_model_chain_by_default(model: str) -> None:
    """S1-17..19, S1-22: what one preset writes is what the next one reads."""
    written = {
        stage: config_files.load_run(f"{model}_{stage}", []).output_dir for stage in ("sft", "rm", "ppo")
    }
    ppo = config_files.load_run(f"{model}_ppo", [])
    assert isinstance(ppo.training, PPOTraining)
    assert ppo.model_name == f"{written['sft']}/final"
    assert ppo.training.reward_model.checkpoint_path == written["rm"]
