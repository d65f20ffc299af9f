"""Ablate parts of PPO one at a time on the demo: reward, gold score, KL and seconds over seeds.

    python benchmarks/ablation.py outputs/demo --seeds 839 840 841 --updates 8 --prompts 16

Starts from the SFT and reward model of a finished `harken demo`, trains every variant with every seed, lets
one evaluation per seed respond to the same held-out prompts, and prints a table. Finished runs are kept, so
the same command resumes. Variants differ in the keys listed and in nothing else; those with a
group baseline sample 4 responses to a quarter of the prompts: the number of rollouts is the same.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

from harken.config import EvaluationConfig, RunConfig
from harken.config import files as config_files
from harken.config.stages import find_stage, resolve_stages
from harken.evaluation import run_summary, suite
from harken.run.folder import RunFolder
from harken.train.launch import train

WARM = "critic_warmup_updates=2"
VARIANTS = {
    "gae": [WARM],
    "rloo": ["advantage=rloo", "samples_per_prompt=4"],
    "grpo": ["advantage=grpo", "samples_per_prompt=4"],
    "no KL": [WARM, "kl_coef=0"],
    "no whitening": [WARM, "whiten_advantages=false"],
    "no critic warm-up": [],
}


def keys(name: str, updates: int, prompts: int) -> list[str]:
    """Return the overrides of a variant, as on the command line."""
    asked = prompts // 4 if name in ("rloo", "grpo") else prompts
    own = [*VARIANTS[name], f"updates={updates}", f"prompts_per_update={asked}"]
    return [f"stages.ppo.training.ppo.{key}" for key in own]


def train_all(demo: Path, out: Path, names: list[str], seeds: list[int], updates: int, prompts: int) -> None:
    """Train the named variants with every seed."""
    for seed in seeds:
        for name in names:
            overrides = [*keys(name, updates, prompts), f"seed={seed}", "tensorboard=false"]
            config = config_files.load_pipeline("demo", overrides, demo)
            run = find_stage(resolve_stages(config, demo), "ppo").config
            assert isinstance(run, RunConfig)
            train(run, run_of(out, name, seed))


def run_of(out: Path, name: str, seed: int) -> Path:
    """Return the folder of a run."""
    return out / f"{name.replace(' ', '-')}-{seed}"


def evaluate(demo: Path, out: Path, seed: int) -> dict[str, dict[str, Any]]:
    """Evaluate greedy responses of SFT and of every variant to the demo's held-out prompts: mean reward, gold score."""
    stages = resolve_stages(config_files.load_pipeline("demo", [], demo), demo)
    config = find_stage(stages, "eval").config.model_dump()
    runs = {name: str(run_of(out, name, seed) / "final") for name in VARIANTS}
    config |= {"policies": {"SFT": str(find_stage(stages, "sft").output)} | runs, "output_dir": None}
    done = suite.run_evaluation(EvaluationConfig.model_validate(config), out / f"eval-{seed}")
    summary = json.loads(done.summary.read_text())
    return {row["policy"]: row for row in summary["table"]}


def spread(values: list[float]) -> str:
    """Return mean and standard error over seeds."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.fmean(values):+.3f} ± {error:.3f}"


def main() -> None:
    """Train, evaluate, print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    asked.add_argument("demo", type=Path, help="the folder of a finished `harken demo`")
    asked.add_argument("--output-dir", type=Path, default=Path("outputs/ablation"))
    asked.add_argument("--seeds", type=int, nargs="+", default=[839, 840, 841])
    asked.add_argument("--updates", type=int, default=8)
    asked.add_argument("--prompts", type=int, default=16)
    asked.add_argument(
        "--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="train these alone"
    )
    asked.add_argument("--train-only", action="store_true", help="leave evaluation to a later call")
    given = asked.parse_args()
    train_all(given.demo, given.output_dir, given.only, given.seeds, given.updates, given.prompts)
    if given.train_only:
        return
    found = {seed: evaluate(given.demo, given.output_dir, seed) for seed in given.seeds}
    print(f"{'variant':<20}{'reward':>18}{'gold':>18}{'KL nats/seq':>18}{'seconds/update':>18}")
    for name in ["SFT", *VARIANTS]:
        rewards = [found[seed][name]["reward"]["value"] for seed in given.seeds]
        gold = [found[seed][name]["judges"]["demo_gold"]["value"] for seed in given.seeds]
        line = f"{name:<20}{spread(rewards):>18}{spread(gold):>18}"
        if name != "SFT":
            runs = [run_of(given.output_dir, name, seed) for seed in given.seeds]
            figures = [run_summary.summarize_run(RunFolder(run)).figures for run in runs]
            line += f"{spread([one[run_summary.KL] for one in figures]):>18}"
            line += f"{statistics.fmean(one[run_summary.SECONDS] for one in figures):>18.1f}"
        print(line)


if __name__ == "__main__":
    main()
