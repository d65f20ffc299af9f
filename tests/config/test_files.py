"""Loading configurations: keys users know, what a mistake is told, and writing them back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harken.config import PipelineConfig, RunConfig
from harken.config import files as config_files
from harken.config.errors import FOREIGN_NAMES
from harken.config.ppo import PPOTraining
from harken.config.stages import resolve_stages
from harken.config.training import RewardTraining, SupervisedTraining
from harken.errors import UserError

AS_IN_THE_TUTORIAL = """\
model_name: outputs/01_sft/final
data:
  path: data/prompts.jsonl
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
    max_gen_len: 64
    temperature: 1.0
  reward_model:
    model_name: outputs/01_sft/final
    checkpoint_path: outputs/02_rm/final
"""

PIPELINE = """\
name: mine
stages:
  sft:
    type: sft
    data: {path: a.jsonl}
    training: {lr: 2e-4, max_steps: 10}
  rm:
    type: reward
    model_name: "@sft"
    data: {path: b.jsonl}
    training: {epochs: 2}
  ppo:
    type: ppo
    model_name: "@sft"
    data: {path: c.jsonl}
    training:
      lr: 1e-5
      reward_model: {checkpoint_path: "@rm"}
      ppo: {updates: 3}
  eval:
    type: evaluation
    policies: {SFT: "@sft", PPO: "@ppo"}
    reward_model: "@rm"
    data: {path: d.jsonl}
"""


@pytest.fixture
def ppo_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yml"
    path.write_text(AS_IN_THE_TUTORIAL)
    return path


def mistake(path: Path, *overrides: str) -> str:
    """The one line that loading a run gives, after the file's name."""
    with pytest.raises(UserError) as error:
        config_files.load_run(str(path), list(overrides))
    line = str(error.value)
    assert "\n" not in line
    return line.removeprefix(str(path))


def test_the_keys_users_know_load_as_they_write_them(ppo_file: Path) -> None:
    """S1-24..26, S1-30, S1-31, S1-35..41."""
    run = config_files.load_run(str(ppo_file), [])
    assert run.model_name == "outputs/01_sft/final"
    assert (run.data.path, run.data.format, run.data.task, run.data.max_length) == (
        "data/prompts.jsonl", "raw", "prompt_only", 256,
    )  # fmt: skip
    assert isinstance(run.training, PPOTraining)
    assert run.training.lr == 1e-6
    ppo = run.training.ppo
    assert (ppo.clip_range, ppo.kl_coef, ppo.epochs, ppo.max_gen_len, ppo.temperature) == (
        0.2,
        0.1,
        4,
        64,
        1.0,
    )
    assert run.training.reward_model.model_name == "outputs/01_sft/final"
    assert run.training.reward_model.checkpoint_path == "outputs/02_rm/final"


def test_the_defaults_are_those_of_the_tutorial(tmp_path: Path) -> None:
    """S1-36..41: only what has no default is written."""
    path = tmp_path / "a.yml"
    path.write_text("data: {path: p.jsonl}\ntraining: {type: ppo, reward_model: {checkpoint_path: rm}}\n")
    training = config_files.load_run(str(path), []).training
    assert isinstance(training, PPOTraining)
    ppo = training.ppo
    assert (training.lr, ppo.clip_range, ppo.kl_coef, ppo.epochs, ppo.max_gen_len, ppo.temperature) == (
        1e-6, 0.2, 0.1, 4, 64, 1.0,
    )  # fmt: skip
    assert (ppo.gamma, ppo.lam) == (1.0, 0.95)  # S4-26


@pytest.mark.parametrize(
    ("kind", "model", "keys"),
    [
        ("sft", SupervisedTraining, {"lr": 2e-4, "max_steps": 10000, "batch_size": 4}),
        ("rm", RewardTraining, {"lr": 1e-4, "max_steps": 5000, "batch_size": 8}),
        ("reward", RewardTraining, {"lr": 1e-4, "max_steps": 5000, "batch_size": 8}),
    ],
)
def test_sample_settings_of_the_other_stages(
    tmp_path: Path, kind: str, model: type, keys: dict[str, float]
) -> None:
    """S2-76, S2-78: and `rm` is the reward model's other name (S1-35)."""
    path = tmp_path / "a.yml"
    lines = "".join(f"  {key}: {value}\n" for key, value in keys.items())
    path.write_text(f"data: {{path: p.jsonl}}\noutput_dir: out\ntraining:\n  type: {kind}\n{lines}")
    run = config_files.load_run(str(path), [])
    assert isinstance(run.training, model) and run.output_dir == "out"
    assert {key: getattr(run.training, key) for key in keys} == keys


def test_overrides_are_typed_and_win(ppo_file: Path) -> None:
    """S1-42."""
    run = config_files.load_run(
        str(ppo_file),
        [
            "training.lr=5e-7",
            "training.ppo.value_clip_range=null",
            "tensorboard=false",
            "lora.target_modules=[q_proj]",
        ],
    )
    assert isinstance(run.training, PPOTraining)
    assert run.training.lr == 5e-7 and run.training.ppo.value_clip_range is None
    assert run.tensorboard is False and run.lora.target_modules == ["q_proj"]


def test_the_folder(ppo_file: Path, tmp_path: Path) -> None:
    assert config_files.load_run(str(ppo_file), []).output_dir == "outputs/mine"
    assert config_files.load_run(str(ppo_file), ["output_dir=here"]).output_dir == "here"
    there = tmp_path / "there"
    assert config_files.load_run(str(ppo_file), ["output_dir=here"], there).output_dir == str(there)


def test_a_dumped_configuration_loads_to_an_equal_one(ppo_file: Path, tmp_path: Path) -> None:
    run = config_files.load_run(str(ppo_file), ["training.lr=3e-7", "lora.rank=8"])
    again = tmp_path / "config.yml"
    again.write_text(config_files.dump(run))
    assert config_files.load_run(str(again), []) == run


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.ppo.clip_rnge=0.1", "unknown key. Fix: write clip_range. Keys here: advantage, clip_r"),
        ("trainin.lr=1", "trainin.lr=1: trainin: unknown key. Fix: write training. Keys here: c"),
        ("training.reward_model.zzz=1", "unknown key. Fix: remove it. Keys here: checkpoint_path, model_name, r"),
        ("training.clip_range=0.1", "unknown key. Fix: move it to training.ppo.clip_range. Keys here"),
        ("data.max_length=long", "data.max_length=long: expected a whole number, given the text \"long\""),
        ("data.max_length=2.5", "expected a whole number, given 2.5"),
        ("data.max_length=0", "should be greater than 0, given 0"),
        ("training.lr=fast", "expected a number, given the text \"fast\""),
        ("training.lr=null", "expected a number, given nothing"),
        ("tensorboard=off", "expected true or false, given the text \"off\""),
        ("seed=true", "expected a whole number, given true"),
        ("model_name=7", "expected text, given 7"),
        ("data=x", "expected a section of keys, given the text \"x\""),
        ("lora.target_modules=x", "expected a list, given the text \"x\""),
        ("lora.target_modules=[1]", "lora.target_modules[0]: expected text, given 1"),
        ("dtype=fp16", "expected 'float32', 'bfloat16', 'int8' or 'nf4', given the text \"fp16\""),
        ("training.type=rlhf", "expected sft or reward or classifier or ppo or dpo or online_dpo, given rlhf"),
        ("training.reward_model.checkpoint_path=''", "training.reward_model: no reward model is named"),
        ("lora.dropout=0.1", "without dropout. Fix: set lora.dropout: 0"),
    ],
)  # fmt: skip
def test_a_wrong_override_names_the_problem_and_the_fix(ppo_file: Path, override: str, message: str) -> None:
    """S1-42: an unknown key names its full path, the nearest key and the keys there are."""
    assert message in mistake(ppo_file, override)


def test_a_wrong_key_in_a_file_names_its_line(ppo_file: Path) -> None:
    ppo_file.write_text(AS_IN_THE_TUTORIAL.replace("clip_range", "clip_rnge"))
    assert mistake(ppo_file) == ":11: training.ppo.clip_rnge: unknown key. Fix: write clip_range"


def test_a_missing_key_is_named(ppo_file: Path) -> None:
    ppo_file.write_text(AS_IN_THE_TUTORIAL.replace("  path: data/prompts.jsonl\n", ""))
    assert mistake(ppo_file) == (
        ":2: data.path: this key is required. Fix: write it in the file, or give --set data.path=…"
    )


def test_a_missing_training_type_lists_the_types(ppo_file: Path) -> None:
    ppo_file.write_text(AS_IN_THE_TUTORIAL.replace("  type: ppo\n", ""))
    assert (
        mistake(ppo_file)
        == ":7: training.type: this key is required. Fix: write sft or reward or classifier or ppo or dpo or online_dpo"
    )


def test_unknown_keys_come_first_and_the_rest_is_counted(ppo_file: Path) -> None:
    line = mistake(ppo_file, "seed=x", "dtype=y", "training.ppo.clip_rnge=1")
    assert "training.ppo.clip_rnge=1: unknown key (and 2 more problems)" in line


@pytest.mark.parametrize(
    ("foreign", "harken"),
    [
        ("training.ppo.init_kl_coef=0.2", "training.ppo.kl_coef"),
        ("training.ppo.beta=0.1", "training.ppo.kl_coef"),
        ("training.ppo.cliprange=0.2", "training.ppo.clip_range"),
        ("training.ppo.cliprange_value=0.2", "training.ppo.value_clip_range"),
        ("training.ppo_epochs=4", "training.ppo.epochs"),
        ("training.ppo.ppo_epochs=4", "training.ppo.epochs"),
        ("training.ppo.max_response_length=128", "training.ppo.max_gen_len"),
        ("training.learning_rate=1e-5", "training.lr"),
        ("learning_rate=1e-5", "training.lr"),
        ("model_name_or_path=x", "model_name"),
        ("lora_r=16", "lora.rank"),
    ],
)
def test_the_name_of_another_tool_gets_a_hint_to_ours(ppo_file: Path, foreign: str, harken: str) -> None:
    """S2-79, S4-14, S4-22..25: not accepted, and the reader learns the name that is."""
    assert f"Fix: write {harken} in Harken" in mistake(ppo_file, foreign)


@pytest.mark.parametrize(
    ("foreign", "message"),
    [
        ("training.ppo.mini_batch_size=8", "training.ppo.minibatches in Harken, a count"),
        ("training.gradient_accumulation_steps=4", "training.micro_batch_tokens in Harken, in tokens"),
        ("training.warmup_ratio=0.1", "training.warmup_steps in Harken, a count"),
        ("training.ppo.target_kl=0.1", "training.ppo.kl_target in Harken, for the target of an adaptive"),
        ("training.ppo.eps=0.2", "training.ppo.clip_range in Harken, if it is PPO's ε"),
        ("training.ppo.horizon=10000", "training.ppo.kl_horizon in Harken, in sequences"),
        ("training.ppo.num_rollouts=4", "training.ppo.samples_per_prompt in Harken, responses per prompt"),
        (
            "reward_model_path=x",
            "training.reward_model.checkpoint_path in Harken, the folder of a reward model",
        ),
        ("training.ppo.target_kl=0.1", "set training.ppo.target_kl_per_token"),
    ],
)
def test_a_name_that_measures_something_else_comes_with_its_conversion(
    ppo_file: Path, foreign: str, message: str
) -> None:
    """A size is not a count, a count is not tokens, a share is not a number of steps."""
    assert message in mistake(ppo_file, foreign) and "calls it" not in mistake(ppo_file, foreign)


def test_every_foreign_name_leads_to_a_key_that_exists(tmp_path: Path) -> None:
    """And none of them is a key of ours, which it would hide."""
    path = tmp_path / "a.yml"
    reported = set()
    for training in (
        "{type: sft}", "{type: reward}", "{type: ppo, reward_model: {checkpoint_path: x}}"
    ):  # fmt: skip
        path.write_text(f"data: {{path: p.jsonl}}\ntraining: {training}\n")
        for name in FOREIGN_NAMES:
            reported |= {name} if re.search("in Harken", mistake(path, f"{name}=1")) else set()
    assert reported == set(FOREIGN_NAMES)


def test_a_foreign_name_with_no_counterpart_here_gets_no_wrong_advice(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("data: {path: p.jsonl}\ntraining: {type: sft}\n")
    assert "in Harken" not in mistake(path, "training.init_kl_coef=0.2")


def test_a_pipeline_loads_and_fills_in_its_training_types(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(PIPELINE)
    pipeline = config_files.load_pipeline(str(path), ["stages.ppo.training.ppo.updates=5"])
    assert pipeline.output_dir == "outputs/mine"
    stages = {stage.name: stage.config for stage in resolve_stages(pipeline, "outputs/mine")}
    runs = [run for run in stages.values() if isinstance(run, RunConfig)]
    assert [run.training.type for run in runs] == ["sft", "reward", "ppo"]
    assert isinstance(runs[2].training, PPOTraining) and runs[2].training.ppo.updates == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "stages.ppo.training.ppo.clip_rnge=1",
            "stages.ppo.training.ppo.clip_rnge=1: unknown key. Fix: write clip_range",
        ),
        ("stages.sft.training.learning_rate=1", "Fix: write stages.sft.training.lr in Harken"),
        ("stages.sft.lr=1", "Fix: move it to stages.sft.training.lr"),
        ("stages.sft.training.lr=fast", "stages.sft.training.lr=fast: expected a number"),
        ("stages.sft.training.type=ppo", "stages.sft.training.type=ppo: expected sft, given ppo"),
        ("stages.sft.output_dir=x", "output_dir=x: a stage's folder is the pipeline's. Fix: remove it"),
        ("stages.ppo.lora.dropout=0.1", "without dropout. Fix: set lora.dropout: 0"),
        ("stages.ppo.training.reward_model={weight: 2}", "Fix: name a trained one in checkpoint_path"),
        ("stages.rm=null", "expected a section of keys, given nothing"),
        ("stages.eval.data.pth=x", "unknown key. Fix: write path"),
    ],
)
def test_a_mistake_in_a_stage_is_found_before_anything_runs(
    tmp_path: Path, override: str, message: str
) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(PIPELINE)
    with pytest.raises(UserError) as error:
        config_files.load_pipeline(str(path), [override])
    assert message in str(error.value)


def test_a_name_may_mean_a_run_or_a_pipeline(tmp_path: Path) -> None:
    assert isinstance(config_files.load_run_or_pipeline("demo", []), PipelineConfig)
    assert isinstance(config_files.load_run_or_pipeline("smollm2-135m_ppo", []), RunConfig)
    with pytest.raises(UserError, match="Fix: write lr"):
        config_files.load_run_or_pipeline("demo", ["stages.sft.training.lrr=1"])
    path = tmp_path / "judged.yml"
    path.write_text("policies: {a: x}\n", encoding="utf-8")
    with pytest.raises(UserError, match="this describes an evaluation") as caught:
        config_files.load_run_or_pipeline(str(path), [])
    assert caught.value.fix == f"run: harken eval --config {path}"


def test_an_evaluation_loads(tmp_path: Path) -> None:
    path = tmp_path / "eval.yml"
    path.write_text(
        "policies: {base: embedded, 'SFT v2': outputs/sft}\nreward_model: rm\ndata: {path: p.jsonl}\n"
    )
    evaluation = config_files.load_evaluation(str(path), ["policies.ppo=outputs/ppo", "temperature=1"])
    models = {name: policy.model_name for name, policy in evaluation.policies.items()}
    assert models == {"base": "embedded", "SFT v2": "outputs/sft", "ppo": "outputs/ppo"}
    with pytest.raises(UserError, match="Fix: write max_gen_len"):
        config_files.load_evaluation(str(path), ["max_new_tokens=5"])


def test_the_wrong_kind_of_file_is_sent_to_the_right_command(ppo_file: Path) -> None:
    with pytest.raises(
        UserError, match=r"describes a run, but a pipeline is required.*harken train --preset"
    ):
        config_files.load_pipeline(str(ppo_file), [])


def test_files_and_presets_are_distinguished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1-23: a preset by name, with or without .yml; a file here of the latter name wins."""
    monkeypatch.chdir(tmp_path)
    shipped = config_files.load_run("smollm2-135m_sft", [])
    assert config_files.load_run("smollm2-135m_sft.yml", []) == shipped
    Path("smollm2-135m_sft.yml").write_text("data: {path: mine.jsonl}\ntraining: {type: sft}\n")
    assert config_files.load_run("smollm2-135m_sft", []) == shipped
    assert config_files.load_run("smollm2-135m_sft.yml", []).data.path == "mine.jsonl"
    assert isinstance(shipped, RunConfig)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "smollm2-135m_sfy",
            "no preset or file is called 'smollm2-135m_sfy'. Fix: write smollm2-135m_sft",
        ),
        ("no/such.yml", "no/such.yml: no such file"),
        ("such.yml", "such.yml: no such file"),
        ("./", "cannot be read as text"),
        ("", "cannot be read as text"),
    ],
)
def test_an_unknown_name(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        config_files.load_run(name, [])
    assert message in str(error.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(UserError, match="cannot be read as text"):
        config_files.load_run(str(path), [])
