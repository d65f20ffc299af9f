"""Compare methods on equal terms: the pipeline `methods` over seeds; reward, gold score, KL, length, tokens, seconds.

    python benchmarks/methods.py --seeds 839 840 841
    python benchmarks/methods.py --quick                  # does it run? Small sizes: the figures mean nothing

Each seed trains every method of the preset `methods` from one SFT model with one reward model and the same number of
sampled training responses, and one evaluation lets all policies respond to the same held-out prompts. Finished stages
are kept, so the same command resumes. The table has each method's difference to the SFT model, paired by prompt and
seed, with 95 % bootstrap intervals that resample prompts (the same prompts in every seed). KL is measured on the
first --kl-prompts held-out prompts: log π(y) − log π_SFT(y) of responses sampled from the method, in nats. Training
tokens are the response tokens that a method sampled to train on; seconds are the processor time of its stages
(sampling, scoring, pairing and training with its held-out evaluations; not the SFT and reward model, which all methods
share), which on one thread is what they take on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import result

from harken.config import EvaluationConfig, GenerationConfig, PipelineConfig, RunConfig
from harken.config import files as config_files
from harken.config.stages import PipelineStage, find_stage, resolve_stages
from harken.data import sources
from harken.evaluation.responses import load_engine
from harken.maths.statistics.bootstrap import percentile_interval, resample_ratios
from harken.maths.theory import best_of_n_kl
from harken.models.resolve import resolve
from harken.models.roles import Policy
from harken.pipeline import run as pipeline_run
from harken.rollout.engine import Sampling
from harken.run.folder import EvaluationFolder, ResponsesFolder, RunFolder
from harken.train.dpo.sampled import response_logprobs
from harken.train.oom_retry import MicroBatcher

START = "SFT"
RUNNERS = dict(pipeline_run.RUNNERS)
DRAWS = 4000
SOURCES = {
    "DPO": ("samples", "scores", "best_worst", "dpo"),
    "Online DPO": ("online_dpo",),
    "RLOO": ("rloo",),
    "GRPO": ("grpo",),
    "PPO": ("ppo",),
    "PPO then DPO": ("ppo_half", "ppo_samples", "ppo_scores", "ppo_pairs", "ppo_dpo"),
}
"""The stages that a method needs besides the SFT and the reward model."""
QUICK = [
    "stages.sft.training.max_steps=2", "stages.sft.data.limit=32", "stages.rm.data.limit=32",
    "stages.samples.data.limit=8", "stages.ppo_samples.data.limit=8", "stages.eval.data.limit=6",
    "stages.eval.max_gen_len=8", "stages.samples.max_gen_len=8", "stages.ppo_samples.max_gen_len=8",
    "stages.dpo.training.epochs=1", "stages.ppo_dpo.training.epochs=1",
    "stages.online_dpo.training.online_dpo.updates=1", "stages.online_dpo.training.online_dpo.max_gen_len=8",
    *(f"stages.{name}.training.ppo.{key}" for name in ("rloo", "grpo", "ppo", "ppo_half")
      for key in ("updates=1", "max_gen_len=8")),
]  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """Hold a finished pipeline of one seed."""

    root: Path
    config: PipelineConfig
    stages: list[PipelineStage]

    def stage(self, name: str) -> PipelineStage:
        """Return one of its stages."""
        return find_stage(self.stages, name)

    def evaluation(self) -> EvaluationConfig:
        """Return the configuration of its evaluation."""
        config = self.stage("eval").config
        assert isinstance(config, EvaluationConfig)
        return config

    def columns(self) -> dict[str, dict[str, np.ndarray]]:
        """Return reward, gold score and length of every response in the order of prompts, by policy."""
        rows = pq.read_table(EvaluationFolder(self.stage("eval").root).responses).to_pylist()
        found: dict[str, dict[str, np.ndarray]] = {}
        for policy in dict.fromkeys(row["policy"] for row in rows):
            own = sorted((row for row in rows if row["policy"] == policy), key=lambda row: row["prompt_id"])
            found[policy] = {
                name: np.array([row[column] for row in own], dtype=np.float64)
                for name, column in (
                    ("reward", "reward"), ("gold", "score_demo_gold"), ("tokens", "response_tokens")
                )
            }  # fmt: skip
        return found


def run(seed: int, out: Path, overrides: Sequence[str]) -> Seed:
    """Run the pipeline of a seed, or resume it, and add the processor time of its stages to seconds.jsonl."""
    root = out / f"seed-{seed}"
    root.mkdir(parents=True, exist_ok=True)

    def timed(runner: pipeline_run.StageRunner) -> pipeline_run.StageRunner:
        def measure(stage: PipelineStage, accept_changes: bool) -> None:
            began = time.process_time()
            runner(stage, accept_changes)
            with (root / "seconds.jsonl").open("a") as file:
                file.write(json.dumps({"stage": stage.name, "seconds": time.process_time() - began}) + "\n")

        return measure

    config = config_files.load_pipeline("methods", [f"seed={seed}", "tensorboard=false", *overrides], root)
    runners = {kind: timed(runner) for kind, runner in RUNNERS.items()}
    with patch.dict(pipeline_run.RUNNERS, runners):
        pipeline_run.run_pipeline(config, root)
    return Seed(root, config, resolve_stages(config, root))


def sampled_kl(done: Seed, prompts: int) -> dict[str, list[float]]:
    """Compute log π(y) − log π_SFT(y) of sampled responses, one per prompt, by policy; the bound for best of n."""
    config = done.evaluation()
    assert config.data is not None
    asked = sources.load_prompts(config.data)[0][:prompts]
    start = load_engine(resolve(str(done.stage("sft").output)), config)
    batcher = MicroBatcher(4096, "KL", start.backbone)
    found: dict[str, list[float]] = {}
    for name, policy in config.policies.items():
        if policy.best_of:
            found[name] = [best_of_n_kl(policy.best_of)]
            continue
        engine = start if name == START else load_engine(resolve(str(policy.model_name)), config)
        sampling = Sampling(samples=1, max_tokens=config.max_gen_len, temperature=1.0, seed=config.seed)
        rollouts = engine.generate(asked, sampling, name, "kl")
        under_start = response_logprobs(Policy(start.backbone, None), rollouts, 1.0, batcher)
        own = np.array([sum(rollout.sampler_logprobs) for rollout in rollouts])
        found[name] = (own - under_start.double().numpy()).tolist()
    return found


def stage_seconds(done: Seed, name: str) -> float:
    """Return the processor seconds of a method's stages. Work that was lost to an interruption does not count."""
    lines = map(json.loads, (done.root / "seconds.jsonl").read_text().splitlines())
    return sum(line["seconds"] for line in lines if line["stage"] in SOURCES.get(name, ()))


def training_tokens(done: Seed, name: str) -> float:
    """Return the number of response tokens that a method sampled to train on."""
    found = 0.0
    for stage in map(done.stage, SOURCES.get(name, ())):
        if isinstance(stage.config, GenerationConfig):
            rows = pq.read_table(ResponsesFolder(stage.root).responses, columns=["response_tokens"])
            found += sum(rows["response_tokens"].to_pylist())
        elif isinstance(stage.config, RunConfig):
            for path in sorted(RunFolder(stage.root).rollouts.glob("*.parquet")):
                rows = pq.read_table(path)
                found += sum(len(tokens) for tokens in rows["response_tokens"].to_pylist())
    return found


def paired(values: Sequence[np.ndarray], base: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Return the mean difference and its 95 % interval; prompts are the clusters, seeds stand inside them."""
    differences = np.stack(values, 1) - np.stack(base, 1)  # [prompts, seeds]
    sums, counts = differences.sum(1, keepdims=True), np.full((len(differences), 1), differences.shape[1])
    replicates = resample_ratios(sums, counts, DRAWS, seed=0)[:, 0]
    low, high = percentile_interval(replicates, clusters=len(differences))
    return float(differences.mean()), low, high


def figures(seeds: Sequence[Seed], kl: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, dict[str, Any]]:
    """Return the figures of every method over all seeds."""
    columns = [done.columns() for done in seeds]
    found: dict[str, dict[str, Any]] = {}
    for name in columns[0]:
        pooled = np.concatenate([np.asarray(one[name], dtype=np.float64) for one in kl])
        found[name] = {
            "reward": float(np.mean([one[name]["reward"].mean() for one in columns])),
            "gold": float(np.mean([one[name]["gold"].mean() for one in columns])),
            "tokens": float(np.mean([one[name]["tokens"].mean() for one in columns])),
            "kl": float(pooled.mean()),
            "kl_by_seed": [float(np.mean(one[name])) for one in kl],
            "training_tokens": float(np.mean([training_tokens(done, name) for done in seeds])),
            "seconds": float(np.mean([stage_seconds(done, name) for done in seeds])),
            "reward_by_seed": [float(one[name]["reward"].mean()) for one in columns],
            "gold_by_seed": [float(one[name]["gold"].mean()) for one in columns],
        }
        for column in ("reward", "gold"):
            own, base = ([one[policy][column] for one in columns] for policy in (name, START))
            found[name][f"{column}_change"] = paired(own, base)
    return found


def line(name: str, row: Mapping[str, Any]) -> list[str]:
    """Return a row of the table."""

    def change(key: str) -> str:
        mean, low, high = row[key]
        # Fewer prompts than an interval needs give infinite bounds.
        return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]" if math.isfinite(low) else f"{mean:+.2f} [–, –]"

    bound = "≤ " if name.startswith("Best of") else ""
    return [
        name, f"{row['reward']:+.2f}", change("reward_change"), f"{row['gold']:.3f}", change("gold_change"),
        f"{bound}{row['kl']:.2f}", f"{row['tokens']:.0f}", f"{row['training_tokens']:,.0f}",
        f"{row['seconds']:.0f}",
    ]  # fmt: skip


HEAD = ("", "reward", "change", "gold", "change", "KL, nats", "tokens", "training tokens", "CPU seconds")


def main() -> None:
    """Train, evaluate, print, and write the figures."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, nargs="+", default=[839, 840, 841])
    asked.add_argument("--output-dir", type=Path, default=Path("outputs/methods"))
    asked.add_argument("--kl-prompts", type=int, default=64)
    asked.add_argument("--quick", action="store_true", help="small sizes: the figures mean nothing")
    given = asked.parse_args()
    given.busy_before = 0.0  # processor time, not wall time
    out = given.output_dir / "quick" if given.quick else given.output_dir
    done = [run(seed, out, QUICK if given.quick else []) for seed in given.seeds]
    kl = [sampled_kl(one, 4 if given.quick else given.kl_prompts) for one in done]
    found = figures(done, kl)
    result.table(HEAD, [line(name, row) for name, row in found.items()])
    given.output_dir = out
    result.save("methods", given, {}, found)


if __name__ == "__main__":
    main()
