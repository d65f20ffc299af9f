"""Measure milliseconds per token of a PPO update against batch size, response length and spread of lengths.

    python benchmarks/lengths.py

Every line is a whole update of Harken's PPO stage (LoRA 16, bfloat16, one epoch). For *passes* (score, old policy,
reference, learn) the lengths are fixed: rows of random tokens, uniform, or half of them ten times as long as
the others with the same number of real tokens in all. With *generation* responses are sampled: either all have the
same length, or each ends at the first of a set of common tokens, which gives short and long responses in any batch, to
prompts of every length. Real tokens are those of prompts and responses, without padding.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
import result
import rows
import torch

from harken.config import RunConfig
from harken.data.chat import Renderer
from harken.models.device import choose_device
from harken.models.resolve import resolve
from harken.records import Message, Prompt, Rollout
from harken.rollout.engine import Engine, OnProgress, Sampling
from harken.rollout.in_process import InProcessEngine
from harken.run.folder import RunFolder
from harken.seeds import generator
from harken.train.ppo.models import PPOModels, build_ppo_models
from harken.train.ppo.stage import PPOStage

SEED = 839
PASSES = ("time/score", "time/evaluate", "time/learn")
GENERATE = "time/generate"
PROMPT_LIMIT = 128
BAR = 1.2


@dataclass(frozen=True)
class Shape:
    """Describe a batch: the prompt and response lengths of its rows."""

    name: str
    lengths: tuple[tuple[int, int], ...]


def shapes(rows_: int, prompt: int, response: int) -> list[Shape]:
    """List the batches; the first is uniform, and the others are compared with it."""
    short = prompt * 2 // 11, response * 2 // 11
    long = 2 * prompt - short[0], 2 * response - short[1]
    whole = prompt + response
    found = [Shape(f"{rows_} rows of {whole}", ((prompt, response),) * rows_)]
    mixed = f"{rows_} rows, half {sum(short)}, half {sum(long)}"
    found.append(Shape(mixed, (short, long) * (rows_ // 2)))
    for other in (rows_ // 4, rows_ * 2):
        found.append(Shape(f"{other} rows of {whole}", ((prompt, response),) * other))
    for other in (response // 4, response * 2):
        found.append(Shape(f"{rows_} rows of {prompt + other}", ((prompt, other),) * rows_))
    return found


class FixedLengths:
    """Fake an engine: its responses are random tokens of given lengths."""

    def __init__(self, shape: Shape, vocabulary: int, end: int) -> None:
        draw = generator(SEED, "benchmark lengths")
        # Neither special tokens, which come first, nor one that ends a turn.
        drawn = [draw.integers(vocabulary // 4, vocabulary // 2, p + r).tolist() for p, r in shape.lengths]
        self.prompts = [Prompt(str(i), (Message("user", "unused"),)) for i in range(len(drawn))]
        self.rollouts = {
            prompt.id: Rollout(
                prompt=prompt, sample=0, prompt_tokens=tuple(ids[:p]), response_tokens=(*ids[p:-1], end),
                sampler_logprobs=(-1.0,) * r, text="", stop="end_of_turn", policy_version="benchmark",
            )
            for prompt, ids, (p, r) in zip(self.prompts, drawn, shape.lengths, strict=True)
        }  # fmt: skip

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        policy_version: str,
        purpose: str,
        on_progress: OnProgress | None = None,
    ) -> list[Rollout]:
        """Return random responses of the fixed lengths."""
        return [self.rollouts[prompt.id] for prompt in prompts]


class Recorded:
    """An engine that records the lengths of another engine's responses."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner
        self.lengths: list[tuple[int, int]] = []

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        policy_version: str,
        purpose: str,
        on_progress: OnProgress | None = None,
    ) -> list[Rollout]:
        """Return the other engine's responses."""
        rollouts = self.inner.generate(prompts, sampling, policy_version, purpose, on_progress)
        self.lengths = [(len(r.prompt_tokens), len(r.response_tokens)) for r in rollouts]
        return rollouts


def config(count: int, response: int, micro_batch_tokens: int, model: str) -> RunConfig:
    """Configure an update of `count` rows that hardly changes the policy, so that repeats sample alike."""
    ppo = {"updates": 2, "prompts_per_update": count, "epochs": 1, "max_gen_len": response, "trace_every": 9}
    training = {"type": "ppo", "lr": 1e-9, "reward_model": {"random_for_debugging": True}, "ppo": ppo}
    return RunConfig.model_validate(
        {
            "model_name": model,
            "seed": SEED,
            "data": {"path": "unused", "max_length": PROMPT_LIMIT},
            "training": training | {"micro_batch_tokens": micro_batch_tokens},
        }
    )


@dataclass
class Bench:
    """Hold the models, loaded once, and a folder for the files of an update."""

    given: argparse.Namespace
    roles: PPOModels
    run: RunFolder

    def update(
        self, engine: Engine, prompts: Sequence[Prompt], response: int
    ) -> Callable[[], dict[str, float]]:
        """Build an update on these responses, ready to be timed."""
        asked = config(len(prompts), response, self.given.micro_batch_tokens, self.given.model)
        roles = self.roles
        stage = PPOStage(
            asked,
            roles.policy,
            roles.reference,
            engine,
            roles.rewards.sources,
            prompts,
            [],
            self.run,
            roles.base,
        )
        return lambda: stage.step(0)

    def passes(self, shape: Shape) -> Work:
        """Build the passes over rows of these lengths."""
        backbone = self.roles.policy.backbone
        vocabulary = backbone.output_weight.shape[0]
        engine = FixedLengths(shape, vocabulary, backbone.tokenizer.eos_token_id)
        update = self.update(engine, engine.prompts, max(r for _, r in shape.lengths))
        return Work(shape.name, update, PASSES, lambda: shape.lengths)

    def whole(
        self, name: str, engine: InProcessEngine, prompts: Sequence[Prompt], cap: int, stops: list[int]
    ) -> Work:
        """Build the same with generation, in which responses end at any of `stops`."""
        recorded = Recorded(engine)
        update = self.update(recorded, prompts, cap)

        def stopping_there() -> dict[str, float]:
            engine.stop_tokens = stops
            return update()

        return Work(name, stopping_there, (GENERATE, *PASSES), lambda: recorded.lengths)


@dataclass
class Work:
    """Hold a timed update: its function, the phases that count, and the lengths of its rows."""

    name: str
    update: Callable[[], dict[str, float]]
    counted: tuple[str, ...]
    lengths: Callable[[], Sequence[tuple[int, int]]]


def in_turns(works: Sequence[Work], repeats: int) -> list[dict[str, object]]:
    """Time all in turns, so that a slow minute of the machine affects all equally; return medians."""
    measured: list[list[dict[str, float]]] = [[] for _ in works]
    for _ in range(repeats):
        for found, work in zip(measured, works, strict=True):
            found.append(work.update())
    return [figure(work, found) for work, found in zip(works, measured, strict=True)]


def figure(work: Work, measured: list[dict[str, float]]) -> dict[str, object]:
    """Return milliseconds a real token, and the lengths."""
    lengths = work.lengths()
    real, responses = sum(p + r for p, r in lengths), sum(r for _, r in lengths)
    low, high = np.percentile([r for _, r in lengths], [10, 90])
    took = [sum(metrics[name] for name in work.counted) for metrics in measured]
    found = {
        "name": work.name,
        "real tokens": real,
        "response p10": float(low),
        "response p90": float(high),
        "every update": took,
        "seconds": median(took),
        "ms/real token": 1e3 * median(took) / real,
    }
    if GENERATE in work.counted:
        found["generation ms/response token"] = 1e3 * median(m[GENERATE] for m in measured) / responses
    return found


def common_stops(engine: InProcessEngine, prompts: Sequence[Prompt], tokens: int, mean: int) -> list[int]:
    """Return tokens that together are one in `mean` of those sampled: ending there gives responses of all lengths."""
    engine.stop_tokens = []
    rollouts = engine.generate(prompts, Sampling(tokens, 1.0, SEED), "benchmark", "stops")
    counts = Counter(token for rollout in rollouts for token in rollout.response_tokens)
    chosen, room = [], counts.total() / mean
    for token, count in counts.most_common():
        if count <= room:
            chosen.append(token)
            room -= count
    return chosen


def generations(bench: Bench) -> list[dict[str, object]]:
    """Measure responses of one length, then of spread lengths with as many tokens on average."""
    given = bench.given
    renderer = Renderer(bench.roles.policy.backbone.tokenizer)
    engine = bench.roles.engine(renderer, PROMPT_LIMIT)
    spread = rows.spread(renderer, given.sampled, PROMPT_LIMIT)
    stops = common_stops(engine, spread[: max(given.sampled // 3, 1)], 2 * given.mean, given.mean)
    mixed = bench.whole("sampled, lengths spread", engine, spread, 4 * given.mean, stops)
    mixed.update()  # warms up, and records the lengths of responses

    sizes = {
        prompt.id: len(renderer.encode_prompt(prompt.messages))
        for prompt in rows.prompts(renderer, PROMPT_LIMIT)
    }
    middle = fmean(sizes[prompt.id] for prompt in spread)
    alike = sorted(rows.prompts(renderer, PROMPT_LIMIT), key=lambda p: abs(sizes[p.id] - middle))
    each = round(sum(r for _, r in mixed.lengths()) / given.sampled)
    uniform = bench.whole("sampled, one length", engine, alike[: given.sampled], each, [])
    return in_turns([uniform, mixed], given.repeats)


def show(figures: list[dict[str, object]]) -> None:
    """Print a table; each cost beside that of the first line."""
    base = figures[0]["ms/real token"]
    generated = "generation ms/response token" in figures[0]
    print()
    result.table(
        [
            "with generation" if generated else "passes", "real tokens", "responses p10-p90", "ms/real token", "",
            *(["generation ms/response token"] if generated else []),
        ],
        [
            [
                f["name"], f["real tokens"], f"{f['response p10']:.0f}-{f['response p90']:.0f}",
                f"{f['ms/real token']:.3f}", f"{f['ms/real token'] / base - 1:+.0%}",
                *([f"{f['generation ms/response token']:.2f}"] if generated else []),
            ]
            for f in figures
        ],
    )  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    asked = result.arguments(__doc__)
    asked.add_argument("--rows", type=int, default=32)
    asked.add_argument("--prompt", type=int, default=44, help="prompt tokens of the uniform batch")
    asked.add_argument("--response", type=int, default=66, help="response tokens of the uniform batch")
    asked.add_argument("--sampled", type=int, default=96, help="rows of an update with generation")
    asked.add_argument("--mean", type=int, default=32, help="approximate mean tokens of a sampled response")
    asked.add_argument("--micro-batch-tokens", type=int, default=1024)
    asked.add_argument("--repeats", type=int, default=5)
    quick = {"rows": 4, "prompt": 11, "response": 11, "sampled": 4, "mean": 4, "repeats": 1}
    given = result.parsed(asked, quick)
    with tempfile.TemporaryDirectory() as name:
        run = RunFolder(Path(name))
        asked_config = config(given.rows, given.response, given.micro_batch_tokens, given.model)
        roles = build_ppo_models(
            asked_config, resolve(given.model), run, torch.bfloat16, choose_device("auto")
        )
        bench = Bench(given, roles, run)
        planned = shapes(given.rows, given.prompt, given.response)
        works = [bench.passes(shape) for shape in planned]
        works[2].update()  # warms up
        passes = in_turns(works, given.repeats)
        show(passes)
        sampled = generations(bench)
    show(sampled)
    ratios = {
        "passes, 10:1 against uniform": passes[1]["ms/real token"] / passes[0]["ms/real token"],
        "with generation, spread against one length": sampled[1]["ms/real token"]
        / sampled[0]["ms/real token"],
    }
    print()
    for what, ratio in ratios.items():
        print(f"{what}: {ratio - 1:+.0%} ({'within' if abs(ratio - 1) < BAR - 1 else 'OVER'} {BAR - 1:.0%})")
    result.save(
        "lengths", given, {"sampled prompts": rows.name(rows.DOLLY)},
        {"passes": passes, "sampled": sampled, "ratios": ratios},
    )  # fmt: skip


if __name__ == "__main__":
    main()
