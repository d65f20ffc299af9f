"""Study how reward and judges change with the KL of a PPO run, beside best of n from the policy that it started from.

Best of n needs no training: PPO is worth its cost where it is above best of n at equal KL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from harken.config import EvaluationConfig, RunConfig
from harken.config import files as config_files
from harken.config.evaluation import EvaluatedPolicy
from harken.config.ppo import PPOTraining
from harken.data import sources
from harken.data.chat import Renderer
from harken.errors import UserError
from harken.evaluation.responses import load_engine
from harken.maths.statistics.overoptimisation import best_of_n_mean
from harken.maths.theory import best_of_n_kl
from harken.models.device import choose_device
from harken.models.find_tokenizer import tokenizer_of
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import ModelSource, require_use, resolve
from harken.models.roles import lineage_fingerprint
from harken.records import Prompt
from harken.reward.build import Rewards, load_rewards, resolve_rewards
from harken.reward.source import score_all
from harken.rollout.engine import Sampling
from harken.run import atomic
from harken.run.config_lock import lock_config, read_locked_config
from harken.run.folder import RunFolder
from harken.run.lock import write_lock
from harken.run.shards import load_or_make_shard
from harken.run.tracking import counter, say

PROMPTS_PER_SHARD = 32


def study_best_of_n(folder: Path, n: int, limit: int | None = None) -> Path:
    """Sample `n` responses to each held-out prompt of a PPO run from its starting policy, scored as in the run.

    Writes `best_of_n/curve.json` in the run's folder and returns it: for each power of two up to `n` the bound on the
    KL, and the mean reward and judges of the best response by reward, with 95 % intervals over prompts. `limit`: use
    only this many prompts. An interrupted study is resumed. Raises UserError for a folder that is not a PPO run, and
    for one without held-out prompts.
    """
    run = RunFolder(folder)
    config, training = _ppo_config(run)
    prompts = _held_out_prompts(config, limit)
    start_model = require_use(resolve(config.model_name), "policy")
    with write_lock(run.best_of_n):
        settings = {
            "n": n,
            "prompts": [prompt.id for prompt in prompts],
            "start": lineage_fingerprint(start_model),
            "rewards": resolve_rewards(training).lineage(),
            "config": read_locked_config(run.config),
        }
        curve = run.best_of_n / "curve.json"
        shards = run.best_of_n / "shards"
        if lock_config(run.best_of_n / "config.yml", settings, curve, shards) and curve.exists():
            say(f"{curve}: this study is finished; nothing to do")
            return curve
        table = _sample_and_score(config, training, start_model, prompts, n, shards)
        atomic.write_json(curve, {"n": n, "prompts": len(prompts), "points": curve_points(table, n)})
    return curve


def curve_points(table: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
    """Return the curve of best of 1, 2, 4 … `n` by reward.

    `table` maps "reward" and "judge_<name>" to arrays [prompts, samples]; a prompt without a judge's score is left
    out of that judge's figures.
    """
    reward = np.asarray(table["reward"], dtype=np.float64)
    points = []
    for count in _powers_of_two(n):
        point: dict[str, Any] = {"n": count, "kl": best_of_n_kl(count)}
        for name, values in table.items():
            gold = np.asarray(values, dtype=np.float64)
            scored = ~np.isnan(gold).any(axis=1)
            if scored.any():
                mean = best_of_n_mean(reward[scored], gold[scored], count)
                low, high = mean.bounds
                point[name] = {"value": mean.mean, "low": low, "high": high}
        points.append(point)
    return points


def _powers_of_two(n: int) -> list[int]:
    powers = [2**i for i in range(n.bit_length()) if 2**i <= n]
    return powers if powers[-1] == n else [*powers, n]


def _ppo_config(run: RunFolder) -> tuple[RunConfig, PPOTraining]:
    if not run.config.is_file():
        raise UserError("this folder has no run", where=str(run.root), fix="name the folder of a PPO run")
    settings = read_locked_config(run.config)
    training = settings.get("training")
    if not isinstance(training, Mapping) or training.get("type") != "ppo":
        raise UserError("this is not a PPO run", where=str(run.root), fix="name the folder of a PPO run")
    config = config_files.validate_settings(RunConfig, settings, str(run.config))
    assert isinstance(config.training, PPOTraining)
    return config, config.training


def _held_out_prompts(config: RunConfig, limit: int | None) -> list[Prompt]:
    renderer = Renderer(tokenizer_of(resolve(config.model_name)), config.data.keep_special_tokens)
    _, held_out, _ = sources.load_split(config.data, sources.load_prompts, config.seed)
    fitting = [p for p in held_out if isinstance(renderer.try_fit_prompt(p, config.data.max_length), list)]
    if not fitting:
        raise UserError(
            "this run has no held-out prompts",
            where="data",
            fix="train with data.eval_path, data.eval_split or data.eval_fraction",
        )
    return fitting[:limit]


def _sample_and_score(
    config: RunConfig,
    training: PPOTraining,
    start: ModelSource,
    prompts: Sequence[Prompt],
    n: int,
    shards: Path,
) -> dict[str, list[list[float | None]]]:
    """Return reward and judges of every response, as [prompts][samples]."""
    ppo = training.ppo
    evaluation = EvaluationConfig(
        policies={"start": EvaluatedPolicy(model_name=config.model_name)},
        reward_model="-",
        data=config.data.model_copy(
            update={"eval_path": None, "eval_split": None, "eval_fraction": 0.0, "eval_limit": None}
        ),
        max_gen_len=ppo.max_gen_len,
        device=config.device,
        dtype=config.dtype,
    )
    engine = cache(partial(load_engine, start, evaluation))
    renderer = Renderer(tokenizer_of(start), config.data.keep_special_tokens)
    sampling = Sampling(ppo.max_gen_len, ppo.temperature, config.seed, n)

    @cache
    def rewards() -> Rewards:
        resolved = resolve_rewards(training)
        return load_rewards(
            resolved, config, start, None, renderer, WEIGHT_DTYPES[config.dtype], choose_device(config.device)
        )

    table: dict[str, list[list[float | None]]] = {}
    with counter(f"best of {n} from {config.model_name}", len(prompts) * n) as count:

        def make(batch: Sequence[Prompt]) -> list[dict[str, Any]]:
            rollouts = engine().generate(batch, sampling, "start", "best of n", on_progress=count.update)
            scored = score_all(rewards().sources, rollouts)
            rows: list[dict[str, Any]] = [{"reward": row.reward} for row in scored]
            for judge in rewards().judges:
                for row, judged in zip(rows, score_all([judge], rollouts), strict=True):
                    row[f"judge_{judge.name}"] = judged.scores[0].value
            return rows

        for begin in range(0, len(prompts), PROMPTS_PER_SHARD):
            batch = prompts[begin : begin + PROMPTS_PER_SHARD]
            rows = load_or_make_shard(shards / f"best-of-n-{begin:06d}.jsonl", partial(make, batch))
            for i in range(len(batch)):
                for name in rows[0]:
                    values = [row[name] for row in rows[i * n : (i + 1) * n]]
                    table.setdefault(name, []).append(values)
    return {name: [[np.nan if v is None else v for v in row] for row in rows] for name, rows in table.items()}
