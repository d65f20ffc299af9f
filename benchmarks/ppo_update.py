"""Measure one update of PPO, Harken beside TRL 1.11.0 (the last TRL with PPO): seconds, memory, phases.

    python benchmarks/ppo_update.py                       # needs the peer's environment: make bench-peers
    python benchmarks/ppo_update.py --updates 5 --micro-batch-tokens 1536

The same model in bfloat16, LoRA 16 on every projection, the same Dolly prompts in the same updates, one epoch, one
minibatch, an untrained reward head, as many threads. Each side has the micro-batch that suits it: an update's rows
at once for Harken, 8 rows for TRL, which with 32 is no faster in three times the memory. The first update of each
side is not counted.

The published PPO run of Qwen2.5-0.5B, in its expensive sizes (2 prompts an update, responses of 512 tokens):

    python benchmarks/ppo_update.py --model random:Qwen/Qwen2.5-0.5B --batch 2 --micro 2 --long --prompt-limit 768 \\
        --response 512 --updates 2 --micro-batch-tokens 16384
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

import of_peak
import result
import rows
import sides
from machine import Finished
from transformers import AutoConfig

from harken.data.chat import Renderer
from harken.models.tokenizer import load_tokenizer
from harken.plan.shape import shape_of
from harken.records import Prompt
from harken.train.sampler import infinite_indices

PHASES = ("generate", "score", "evaluate", "learn")
SEED = 839


def harken_config(given: argparse.Namespace, model: Path, prompts: Path) -> dict[str, object]:
    """Configure the update of `peers/trl_ppo.py`. No held-out rows, so nothing else runs inside an update."""
    return {
        "model_name": str(model),
        "dtype": given.dtype,
        "seed": SEED,
        "tensorboard": False,
        "data": {"path": str(prompts), "task": "prompt_only", "max_length": given.prompt_limit},
        "training": {
            "type": "ppo",
            "lr": 1e-5,
            "micro_batch_tokens": given.micro_batch_tokens,
            "reward_model": {"random_for_debugging": True},
            "ppo": {
                "updates": given.updates,
                "prompts_per_update": given.batch,
                "epochs": 1,
                "minibatches": 1,
                "max_gen_len": given.response,
                "kl_coef": 0.05,
                "missing_eos_penalty": 1.0,
                "trace_every": given.updates + 1,
            },
        },
        "checkpoints": {"every": given.updates},
    }


def of_harken(steps: list[dict[str, float]], finished: Finished, batch: int) -> dict[str, object]:
    """Return figures over the counted updates."""
    counted = steps[1:]
    phases = {name: fmean(step[f"time/{name}"] for step in counted) for name in PHASES}
    whole = fmean(step["seconds"] for step in counted)
    return {
        "seconds": median(step["seconds"] for step in counted),
        "every update": [step["seconds"] for step in steps],
        "peak_bytes": sides.peak_bytes(finished, steps),
        "allocated_bytes": max(step.get("memory/gpu_allocated", 0.0) for step in steps) or None,
        "response_tokens": fmean(step["response/tokens_mean"] for step in counted),
        "phases": phases | {"rest": whole - sum(phases.values())},
        "whole run": finished.seconds,
    }


def of_trl(finished: Finished, batch: int) -> dict[str, object]:
    """Return figures over the counted updates."""
    steps = finished.lines()
    counted = steps[1:]
    generation = fmean(step["generation"] for step in counted)
    return {
        "seconds": median(step["seconds"] for step in counted),
        "every update": [step["seconds"] for step in steps],
        "peak_bytes": sides.peak_bytes(finished, steps),
        "response_tokens": fmean(step["response_tokens"] for step in counted) / batch,
        "phases": {"generate": generation, "rest": fmean(step["seconds"] for step in counted) - generation},
        "whole run": finished.seconds,
    }


def measure(given: argparse.Namespace, folder: Path) -> dict[str, dict[str, object]]:
    """Measure both sides, one after the other."""
    model = sides.whole_model(given.model)
    renderer = Renderer(load_tokenizer(model))
    count = given.batch * given.updates
    if given.long:
        prompts = rows.long_prompts(renderer, given.prompt_limit, count)
    else:
        prompts = rows.prompts(renderer, given.prompt_limit)[:count]
    if len(prompts) < count:
        raise SystemExit(
            f"{rows.name(rows.DOLLY)} has {len(prompts)} prompts that fit, and {count} are needed"
        )
    file = rows.write_prompts(folder / "prompts.jsonl", prompts)
    steps, finished = sides.harken(harken_config(given, model, file), folder / "harken", count)
    figures = {"harken": of_harken(steps, finished, given.batch)}
    prompt_ids = [renderer.encode_prompt(prompt.messages) for prompt in taken(prompts)]
    ids = rows.write(folder / "ids.jsonl", [{"input_ids": tokens} for tokens in prompt_ids])
    if peak := of_peak.peaks():
        ours = figures["harken"]
        update = of_peak.Update(
            shape_of(AutoConfig.from_pretrained(model)),
            given.batch,
            fmean(map(len, prompt_ids[given.batch :])),
            float(ours["response_tokens"]),
        )
        ours["of peak"] = of_peak.shares(update, ours["phases"], peak)
    names = ("batch", "micro", "response", "updates")
    options = {name: getattr(given, name) for name in names} | {"dtype": given.peer_dtype}
    trl = sides.peer(given.peer_python, "trl_ppo.py", model=model, prompts=ids, **options)
    if trl is not None:
        figures["trl"] = of_trl(trl, given.batch)
    return figures


def taken(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the prompts in the order of Harken's updates."""
    return [prompts[i] for i in infinite_indices(0, len(prompts), len(prompts), SEED, "PPO prompts")]


def show(figures: dict[str, dict[str, object]]) -> None:
    """Print a table of both sides and of each phase's share."""
    sides_of = {"harken": "Harken", "trl": "TRL 1.11.0"}
    print()
    result.table(
        ["", "s/update", "peak memory", "tokens/response"],
        [
            [
                sides_of[n],
                f"{f['seconds']:.2f}",
                result.gigabytes(f["peak_bytes"]),
                f"{f['response_tokens']:.1f}",
            ]
            for n, f in figures.items()
        ],
    )
    if "trl" in figures:
        ours, theirs = figures["harken"], figures["trl"]
        print(
            f"\nTRL takes {theirs['seconds'] / ours['seconds']:.2f} times as long; "
            f"Harken needs {ours['peak_bytes'] / theirs['peak_bytes']:.0%} of its memory"
        )
    for name, side in figures.items():
        whole = sum(side["phases"].values())
        shares = ", ".join(
            f"{phase} {took:.2f} s ({took / whole:.0%})" for phase, took in side["phases"].items()
        )
        print(f"{sides_of[name]}: {shares}")
    for phase, found in figures["harken"].get("of peak", {}).items():
        print(
            f"{phase}: {found['of peak arithmetic']:.1%} of peak arithmetic, {found['of peak bandwidth']:.1%} of "
            f"bandwidth; {1e3 * found['seconds']:.0f} ms of at least {1e3 * found['least seconds']:.0f}"
        )


def main() -> None:
    """Measure, print, write."""
    asked = result.arguments(__doc__)
    asked.add_argument("--batch", type=int, default=32)
    asked.add_argument("--response", type=int, default=64, help="most tokens of a response")
    asked.add_argument("--prompt-limit", type=int, default=128, help="most tokens of a prompt")
    asked.add_argument(
        "--long", action="store_true", help="prompts that fill the limit, put together from short ones"
    )
    asked.add_argument("--updates", type=int, default=3, help="the first does not count")
    asked.add_argument("--micro", type=int, default=8, help="rows in a micro-batch of the peer")
    asked.add_argument("--micro-batch-tokens", type=int, default=3072, help="of Harken")
    asked.add_argument(
        "--dtype", choices=["bfloat16", "float32", "int8", "nf4"], default="bfloat16", help="of Harken's base"
    )
    sides.peer_options(asked)
    given = result.parsed(asked, {"batch": 4, "micro": 2, "response": 8, "updates": 2})
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(given, Path(folder))
    show(figures)
    result.save("ppo_update", given, {"prompts": rows.name(rows.DOLLY)}, figures)


if __name__ == "__main__":
    main()
