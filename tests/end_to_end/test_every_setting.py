"""Every field of a stage's configuration changes what a composed run computes or writes, or a test elsewhere shows it.

Unit tests of a setting pass while the run never hands it on. Here each field is set to another value in a whole tiny
run; the run must come out otherwise than the same run without it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest
from kill import stages

from harken.config import RunConfig
from harken.config.base import DataConfig
from harken.config.ppo import PPOSettings, PPOTraining
from harken.config.preference_training import (
    DPOSettings,
    DPOTraining,
    OnlineDPOSettings,
    OnlineDPOTraining,
)
from harken.config.run import CheckpointSettings, HealthSettings, LoraSettings
from harken.config.training import ClassifierTraining, RewardTraining, SupervisedTraining
from harken.train.launch import train

pytestmark = pytest.mark.nightly

TIMES = ("seconds", "time/", "tokens_per_second", "memory/")


@dataclass(frozen=True)
class Change:
    """A value for a setting, and the settings it needs to matter (in both runs)."""

    value: Any
    needs: dict[str, Any] = field(default_factory=dict)


SHARED = {
    "lora": "null trains every weight: train/test_ppo_modes.py",
    "model_name": "paths: end_to_end/test_pipeline.py",
    "output_dir": "paths: cli/test_main.py",
    "device": "one device here: models/test_backbone.py",
    "data.path": "paths: data/test_sources.py",
    "data.format": "one value",
    "data.task": "refuses other rows: data/test_sources.py",
    "data.layout": "reads other rows: data/test_layouts.py",
    "data.columns": "reads other rows: data/test_columns.py",
    "data.label_scale": "reads other rows: data/test_labels.py",
    "data.split": "of folders with splits: data/test_sources.py",
    "data.eval_split": "of folders with splits: data/test_sources.py",
    "data.positive_label": "of labelled texts: data/test_labelled_texts.py",
    "data.prompt_words": "of labelled texts: data/test_labelled_texts.py",
    "data.balance": "of rows with domains: data/test_balance.py",
    "data.prompt_tokens": "of labelled texts: data/test_labelled_texts.py",
    "data.prompt_tokenizer": "of labelled texts: data/test_labelled_texts.py",
    "data.prompt_column": "reads other rows: data/test_sources.py",
    "data.keep_special_tokens": "data/test_chat.py",
    "data.eval_fraction": "not with eval_path: data/test_sources.py",
    "lora.experts": "of mixtures of experts: models/test_experts.py",
    "trackers.csv": "changes no number: run/test_sinks.py",
    "trackers.wandb": "changes no number: run/test_sinks.py",
    "health.stop_on": "of unhealthy runs: health/test_monitor.py",
    "checkpoints.minutes": "by the clock: train/test_best_checkpoint.py",
    "training.type": "the stage itself",
    "training.optimizer": "8-bit state from 4,096 weights on: train/optim/test_optimiser.py",
    "training.micro_batch_tokens": "changes no number: train/test_reward_model.py, train/test_oom_retry.py",
    "training.gradient_checkpointing": "changes no number: models/test_backbone.py",
    "training.max_skipped_steps": "of steps that are not finite: train/test_nonfinite.py",
    "training.patience": "of runs that no longer improve: train/test_best_checkpoint.py",
}
"""Fields that another test shows, with the reason why not here."""

PAIRS = "the pairs, as demonstrations"
ALL_STAGES = {
    "seed": Change(7),
    "dtype": Change("bfloat16"),
    "tensorboard": Change(True),
    "data.max_length": Change(45),
    "data.limit": Change(2),
    "data.eval_path": Change(None),
    "data.eval_limit": Change(1),
    "lora.rank": Change(4),
    "lora.alpha": Change(1.0),
    "lora.target_modules": Change(["q_proj"]),
    "checkpoints.every": Change(3),
    "checkpoints.keep": Change(1),
    "training.lr": Change(1e-2),
    "training.lr_schedule": Change("cosine"),
    "training.warmup_steps": Change(2),
    "training.weight_decay": Change(0.5),
    "training.adam_eps": Change(1e-2),
    "training.max_grad_norm": Change(1e-6),
    "training.eval_every": Change(1),
}
SUPERVISED = ALL_STAGES | {
    "lora.dropout": Change(0.5),
    "training.batch_size": Change(3),
    "training.epochs": Change(2, {"training.max_steps": None}),
    "training.max_steps": Change(2),
}
REWARD = SUPERVISED | {
    "training.strength": Change("weight"),
    "training.margin_scale": Change(3.0, {"training.strength": "margin"}),
    "training.centre_coef": Change(0.5),
    "training.label_smoothing": Change(0.2),
    "training.ties": Change("drop"),
    "training.normalise": Change("none"),
    "training.selection_fraction": Change(0.5),
    "training.card": Change({"pairs": 0}),
}
CLASSIFIER = SUPERVISED | {
    "training.label_smoothing": Change(0.2),
    "training.selection_fraction": Change(0.5),
    "training.class_weights": Change("balanced"),
    "training.desirable_weight": Change(3.0),
    "training.undesirable_weight": Change(3.0),
}
GRPO = {"training.ppo.advantage": "grpo", "training.ppo.samples_per_prompt": 2}
PPO = ALL_STAGES | {
    "training.critic_lr": Change(0.03),
    "training.rewards": Change([{"type": "rule", "name": "intact"}]),
    "training.reward_model": Change({"random_for_debugging": True}),
    "training.ppo.updates": Change(2),
    "training.ppo.prompts_per_update": Change(3),
    "training.ppo.samples_per_prompt": Change(2),
    "training.ppo.epochs": Change(1),
    "training.ppo.minibatches": Change(1),
    "training.ppo.max_gen_len": Change(6),
    "training.ppo.temperature": Change(0.5),
    "training.ppo.clip_range": Change(1e-4),
    "training.ppo.clip_range_high": Change(1e-4),
    "training.ppo.value_clip_range": Change(1e-4, {"training.lr": 1e-2}),
    "training.ppo.vf_coef": Change(1.0),
    "training.ppo.entropy_coef": Change(0.5),
    "training.ppo.gamma": Change(0.5),
    "training.ppo.lam": Change(0.1),
    "training.ppo.advantage": Change("reward_minus_value"),
    "training.ppo.whiten_advantages": Change(False),
    "training.ppo.scale_rewards": Change("none", GRPO),
    "training.ppo.drop_uniform_groups": Change(
        True, GRPO | {"training.rewards": [{"type": "rule", "name": "intact"}], "training.reward_model": None}
    ),
    "training.ppo.loss_aggregation": Change("constant"),
    "training.ppo.importance_sampling_level": Change("sequence"),
    "training.ppo.overlong": Change({"buffer": 3}),
    "training.ppo.critic": Change("adapter"),
    "training.ppo.critic_init": Change("reward_model", {"training.ppo.critic": "model"}),
    "training.ppo.critic_warmup_updates": Change(1),
    "training.ppo.critic_warmup_until": Change(-9.0, {"training.ppo.critic_warmup_updates": 2}),
    "training.ppo.reference": Change("base"),
    "training.ppo.reference_update_every": Change(1),
    "training.ppo.kl_estimator": Change("k3"),
    "training.ppo.kl_in": Change("loss", {"training.ppo.kl_estimator": "k2"}),
    "training.ppo.kl_coef": Change(2.0),
    "training.ppo.kl_coef_final": Change(
        0.7, {"training.ppo.kl_control": "linear", "training.ppo.kl_coef_final": 0.2}
    ),
    "training.ppo.kl_control": Change("fixed"),
    "training.ppo.kl_target": Change(1e-9, {"training.ppo.kl_horizon": 10.0}),
    "training.ppo.kl_horizon": Change(10.0),
    "training.ppo.kl_coef_min": Change(0.0999999),
    "training.ppo.kl_coef_max": Change(0.05),
    "training.ppo.kl_budget": Change(1e-9),
    "training.ppo.update_kl_limit": Change(1e-9),
    "training.ppo.target_kl_per_token": Change(1e-9),
    "training.ppo.score_clip": Change(1e-3),
    "training.ppo.truncated": Change("mask"),
    "training.ppo.missing_eos_penalty": Change(5.0),
    "training.ppo.missing_eos_score": Change(-3.0),
    "training.ppo.length_penalty": Change(0.5),
    "training.ppo.repetition_penalty": Change(0.5),
    "training.ppo.judges": Change([{"type": "rule", "name": "intact"}]),
    "training.ppo.ptx": Change(PAIRS),
    "training.ppo.trace_every": Change(1, {"training.ppo.update_kl_limit": None}),
}


def preference_loss(section: str) -> dict[str, Change]:
    """The settings of the loss that DPO and online DPO share."""
    loss = f"{section}.loss"
    return {
        loss: Change("ipo"),
        f"{section}.beta": Change(1.0),
        f"{section}.label_smoothing": Change(0.2),
        f"{section}.simpo_gamma": Change(3.0, {loss: "simpo"}),
        f"{section}.length_normalise": Change(True),
        f"{section}.ld_alpha": Change(0.2),
        f"{section}.nll_coef": Change(1.0),
        f"{section}.desirable_weight": Change(5.0, {loss: "kto"}),
        f"{section}.undesirable_weight": Change(5.0, {loss: "kto"}),
    }


DPO = (
    SUPERVISED
    | preference_loss("training.dpo")
    | {
        "training.dpo.ties": Change("drop"),
        "training.dpo.selection": Change("accuracy"),
        "training.dpo.eval_prompts": Change(1),
        "training.dpo.max_gen_len": Change(6),
    }
)
_ONLINE = "training.online_dpo"
ONLINE_DPO = (
    ALL_STAGES
    | preference_loss(_ONLINE)
    | {
        "training.rewards": Change([{"type": "rule", "name": "intact"}]),
        "training.reward_model": Change({"random_for_debugging": True}),
        f"{_ONLINE}.updates": Change(2),
        f"{_ONLINE}.prompts_per_update": Change(3),
        f"{_ONLINE}.samples_per_prompt": Change(2),
        f"{_ONLINE}.max_gen_len": Change(6),
        f"{_ONLINE}.temperature": Change(0.5),
        f"{_ONLINE}.score_clip": Change(1e-3),
        f"{_ONLINE}.missing_eos_penalty": Change(5.0),
        f"{_ONLINE}.missing_eos_score": Change(-3.0),
        f"{_ONLINE}.length_penalty": Change(0.5),
        f"{_ONLINE}.repetition_penalty": Change(0.5),
        f"{_ONLINE}.overlong": Change({"buffer": 3}),
        f"{_ONLINE}.kl_budget": Change(1e-9, {f"{_ONLINE}.updates": 4, "training.lr": 0.05}),
        f"{_ONLINE}.judges": Change([{"type": "rule", "name": "intact"}]),
    }
)
CHANGES = {
    "sft": SUPERVISED, "reward": REWARD, "classifier": CLASSIFIER, "ppo": PPO, "dpo": DPO, "online_dpo": ONLINE_DPO,
}  # fmt: skip

TRAININGS = {
    "sft": SupervisedTraining,
    "reward": RewardTraining,
    "classifier": ClassifierTraining,
    "ppo": PPOTraining,
    "dpo": DPOTraining,
    "online_dpo": OnlineDPOTraining,
}
SECTIONS = {"ppo": PPOSettings, "dpo": DPOSettings, "online_dpo": OnlineDPOSettings}


class World:
    """The models and rows of the runs, and what each run came to, run once."""

    root: ClassVar[Path]


@pytest.fixture(scope="module", autouse=True)
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    World.root = tmp_path_factory.mktemp("world")
    stages.make_world(World.root)
    rows = [json.loads(line) for line in (World.root / "pairs.jsonl").read_text().splitlines()]
    for row, more in zip(rows, [{"preference_strength": 0}, {"preference_strength": 3}], strict=False):
        row |= more
    (World.root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return World.root


def fields(kind: str) -> Iterator[str]:
    """The dotted names of every setting that one stage's configuration has."""
    training = TRAININGS[kind]
    sections = {
        "data": DataConfig, "lora": LoraSettings, "health": HealthSettings, "checkpoints": CheckpointSettings,
        "training": training,
    }  # fmt: skip
    yield from (name for name in RunConfig.model_fields if name not in sections)
    for section, model in sections.items():
        for name in model.model_fields:
            if section == "training" and name in SECTIONS:
                yield from (f"training.{name}.{inner}" for inner in SECTIONS[name].model_fields)
            else:
                yield f"{section}.{name}"


@pytest.mark.parametrize("kind", CHANGES)
def test_every_field_is_accounted_for(kind: str) -> None:
    known = CHANGES[kind].keys() | SHARED.keys()
    refused = {"lora.dropout"} if kind in ("ppo", "online_dpo") else set()
    named = re.findall(r"[\w/]+/test_\w+\.py", " ".join(SHARED.values()))
    assert [name for name in named if not (Path(__file__).parents[1] / name).exists()] == []
    assert set(fields(kind)) | {"lora"} == known | refused


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in CHANGES for name in CHANGES[kind]])
def test_a_setting_changes_the_run(kind: str, name: str) -> None:
    change = CHANGES[kind][name]
    without = outcome(kind, json.dumps(change.needs))
    assert outcome(kind, json.dumps(change.needs | {name: change.value})) != without


@cache
def outcome(kind: str, changes: str) -> str:
    """What a run computed and wrote, without times: a hash of its metrics, final weights and file names."""
    config = stages.run_config(World.root, kind).model_dump(mode="json", exclude={"output_dir"})
    config["checkpoints"] = {"every": 2, "keep": 2}
    for name, value in json.loads(changes).items():
        *path, last = name.split(".")
        section = config
        for step in path:
            section = section[step]
        section[last] = (
            {"data": {"path": f"{World.root}/pairs.jsonl", "max_length": 64}} if value == PAIRS else value
        )
    folder = World.root / hashlib.sha256(f"{kind}{changes}".encode()).hexdigest()[:16]
    train(RunConfig.model_validate(config), folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = [{k: v for k, v in line.items() if not k.startswith(TIMES)} for line in lines]
    final = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((folder / "final").iterdir())]
    rows = [pq.read_table(p).to_pylist() for p in sorted(folder.glob("rollouts/*.parquet"))]
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
    names = ["tfevents" if "tfevents" in name else name for name in names]
    return json.dumps([metrics, final, rows, names])
