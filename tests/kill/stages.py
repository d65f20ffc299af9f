"""A small world, and every kind of work that a kill may hit, as functions of the folder it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny import save_tiny

from harken import pipeline
from harken.config import (
    EvaluationConfig,
    GenerationConfig,
    PairsConfig,
    PipelineConfig,
    RunConfig,
    ScoringConfig,
)
from harken.evaluation import suite
from harken.generation.generate import run_generate
from harken.generation.pairs import run_pairs
from harken.generation.score import run_score
from harken.train.launch import train

KINDS = (
    "sft",
    "reward",
    "classifier",
    "ppo",
    "dpo",
    "online_dpo",
    "evaluation",
    "pipeline",
    "iterated",
    "generate",
    "score",
    "pairs",
)
SAMPLING = ("ppo", "online_dpo")
"""Stages that sample responses to prompts and score them."""

_LORA = {"rank": 2}
_EVERY_STEP = {"every": 1, "keep": 2}
_SFT = {"type": "sft", "max_steps": 4, "batch_size": 2, "eval_every": 2, "epochs": 3}
_REWARD = {"type": "reward", "max_steps": 4, "batch_size": 2, "eval_every": 2}
_PPO = {
    "updates": 3, "prompts_per_update": 2, "max_gen_len": 4, "epochs": 2, "minibatches": 2, "judges": [],
    "kl_control": "adaptive", "update_kl_limit": 5.0,
}  # fmt: skip
_DPO = {
    "type": "dpo", "max_steps": 4, "batch_size": 3, "eval_every": 2, "lr": 1e-3,
    "dpo": {"max_gen_len": 4, "eval_prompts": 2},
}  # fmt: skip
_ONLINE_DPO = {
    "type": "online_dpo", "eval_every": 2, "lr": 1e-3,
    "online_dpo": {"updates": 3, "prompts_per_update": 2, "samples_per_prompt": 3, "max_gen_len": 4},
}  # fmt: skip


def make_world(root: Path) -> None:
    """A model, rows, and finished models for the stages that need them."""
    save_tiny(root / "model", hidden=16, layers=1)
    pairs = [
        {"prompt": f"Question {i}?", "chosen": f"Good answer {i}.", "rejected": f"bad {i}"} for i in range(10)
    ]
    _lines(root / "pairs.jsonl", pairs)
    _lines(root / "held_out.jsonl", [{**p, "prompt": p["prompt"] + "!"} for p in pairs[:3]])
    _lines(root / "prompts.jsonl", [{"id": f"q{i}", "prompt": f"Ask {i}"} for i in range(5)])
    _lines(root / "others.jsonl", [{"id": f"h{i}", "prompt": f"Say {i}"} for i in range(3)])
    scored = [
        {"prompt": f"Ask {i}", "response": f"{word} {i}.", "policy": word, "reward": (i * n) % 3}
        for i in range(3) for n, word in enumerate(("Good", "bad", "Other"))
    ]  # fmt: skip
    _lines(root / "responses.jsonl", scored)
    work(root, "sft")(root / "sft")
    work(root, "reward")(root / "rm")


def work(root: Path, kind: str) -> Callable[[Path], object]:
    """What to run, given where to."""
    if kind == "evaluation":
        evaluation = EvaluationConfig.model_validate(evaluation_settings(root))
        return lambda folder: suite.run_evaluation(evaluation, folder)
    if kind in ("pipeline", "iterated"):
        settings = pipeline_settings(root) if kind == "pipeline" else iterated_settings(root)
        whole = PipelineConfig.model_validate(settings)
        return lambda folder: pipeline.run_pipeline(whole, folder)
    if kind in ("generate", "score", "pairs"):
        return _data_stage(root, kind)
    return training(run_config(root, kind))


def _data_stage(root: Path, kind: str) -> Callable[[Path], object]:
    """Responses of two policies; scores by a reward model and a rule; pairs of scored responses."""
    device = {"dtype": "float32", "device": "cpu"}
    responses = str(root / "responses.jsonl")
    if kind == "generate":
        settings = {k: v for k, v in evaluation_settings(root).items() if k != "reward_model"} | {
            "samples": 2
        }
        generation = GenerationConfig.model_validate(settings)
        return lambda folder: run_generate(generation, folder)
    if kind == "score":
        scorers = {"reward_model": str(root / "rm" / "final"), "judges": ["intact"]}
        scoring = ScoringConfig.model_validate({"responses": responses, **scorers, **device})
        return lambda folder: run_score(scoring, folder)
    pairs = PairsConfig.model_validate({"responses": responses, "how": "all", "ties": "keep"})
    return lambda folder: run_pairs(pairs, folder)


def training(config: RunConfig) -> Callable[[Path], object]:
    """One stage by its configuration, given where to."""
    return lambda folder: train(config, folder)


def run_config(root: Path, kind: str, **changes: Any) -> RunConfig:
    """A stage's configuration; `changes` replace whole sections."""
    return RunConfig.model_validate(_run(root, kind) | changes)


def _run(root: Path, kind: str) -> dict[str, Any]:
    stage = _stage(root, kind)
    if kind in SAMPLING:
        stage["training"]["reward_model"] = {"checkpoint_path": str(root / "rm" / "final")}
    model = root / "model" if kind == "sft" else root / "sft" / "final"
    return {"model_name": str(model), "dtype": "float32", "device": "cpu", "tensorboard": False, **stage}


def _stage(root: Path, kind: str) -> dict[str, Any]:
    pairs = {"path": str(root / "pairs.jsonl"), "eval_path": str(root / "held_out.jsonl")}
    prompts = {"path": str(root / "prompts.jsonl"), "eval_path": str(root / "others.jsonl")}
    training = {
        "sft": _SFT,
        "reward": _REWARD,
        "classifier": _REWARD | {"type": "classifier"},
        "ppo": {"type": "ppo", "eval_every": 2, "ppo": _PPO},
        "dpo": _DPO,
        "online_dpo": _ONLINE_DPO,
    }[kind]
    data = (prompts if kind in SAMPLING else pairs) | {"max_length": 64}
    return {"data": data, "lora": _LORA, "checkpoints": _EVERY_STEP, "training": dict(training)}


def evaluation_settings(root: Path) -> dict[str, Any]:
    """Two policies on five prompts."""
    return {
        "policies": {"Base": str(root / "model"), "SFT": str(root / "sft" / "final")},
        "reward_model": str(root / "rm" / "final"),
        "data": {"path": str(root / "prompts.jsonl"), "max_length": 64},
        "max_gen_len": 4,
        "dtype": "float32",
        "device": "cpu",
    }


def pipeline_settings(root: Path) -> dict[str, Any]:
    """All five stages, in small."""
    stages = {kind: {"type": kind, **_stage(root, kind)} for kind in ("sft", "reward", "ppo")}
    for stage in stages.values():
        stage["training"] |= {"max_steps": 2} if "max_steps" in stage["training"] else {}
    for kind in ("reward", "ppo"):
        stages[kind]["model_name"] = "@sft"
    stages["ppo"]["training"]["reward_model"] = {"checkpoint_path": "@rm"}
    evaluation = {k: v for k, v in evaluation_settings(root).items() if k in ("data", "max_gen_len")}
    return {
        "name": "killed",
        "model_name": str(root / "model"),
        "dtype": "float32",
        "device": "cpu",
        "tensorboard": False,
        "stages": {
            "sft": stages["sft"],
            "rm": stages["reward"],
            "ppo": stages["ppo"],
            "eval": {
                "type": "evaluation",
                "policies": {"Base": "@model", "SFT": "@sft", "PPO": "@ppo"},
                "reward_model": "@rm",
                **evaluation,
            },
            "report": {"type": "report"},
        },
    }


def iterated_settings(root: Path) -> dict[str, Any]:
    """Two rounds of generate → score → pairs → dpo on the world's reward model, and an evaluation."""
    dpo = {"type": "dpo", **_stage(root, "dpo"), "model_name": "@previous"}
    dpo |= {"data": {"path": "@pairs", "max_length": 64}}
    dpo["training"] |= {"max_steps": 2, "dpo": {"eval_prompts": 0}}
    prompts = {"path": str(root / "prompts.jsonl"), "max_length": 64}
    rm = str(root / "rm" / "final")
    inner: dict[str, Any] = {
        "generate": {
            "type": "generate", "policies": {"policy": "@previous"}, "data": prompts, "samples": 3, "max_gen_len": 4,
        },
        "score": {"type": "score", "responses": "@generate", "reward_model": rm},
        "pairs": {"type": "pairs", "responses": "@score"},
        "dpo": dpo,
    }  # fmt: skip
    settings = {key: value for key, value in pipeline_settings(root).items() if key != "stages"}
    return settings | {
        "stages": {
            "rounds": {"repeat": 2, "start": "@model", "stages": inner},
            "eval": {
                "type": "evaluation",
                "policies": {"Base": "@model", "First": "@dpo_1", "Last": "@rounds"},
                "reward_model": rm,
                "data": prompts,
                "max_gen_len": 4,
            },
            "report": {"type": "report"},
        }
    }


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
