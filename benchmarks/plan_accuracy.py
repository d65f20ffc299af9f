"""Compare `harken plan` with measurements: peak memory and seconds of small runs.

    python benchmarks/plan_accuracy.py [--quick]

Every case is planned in one process and then trained in another for a few steps; both read the demo's rows. The peak
is the child's own, from the first import to the saved model. Seconds are those of the fastest step.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import machine
import result
import sides
import torch
import yaml

from harken.plan.phases import CUDA_CONTEXT

DEMONSTRATIONS = {
    "path": "demo:preferences",
    "max_length": 256,
    "limit": 400,
    "eval_limit": 8,
    "eval_fraction": 0.1,
}
PROMPTS = {"path": "demo:prompts", "max_length": 128}
STEPS = {"max_steps": 6, "batch_size": 16}


def supervised(kind: str, tokens: int, **training: object) -> dict[str, Any]:
    keys = {"type": kind, "micro_batch_tokens": tokens, **STEPS, **training}
    return {"data": DEMONSTRATIONS, "training": keys}


def ppo(tokens: int, response: int = 32, **settings: object) -> dict[str, Any]:
    keys = {"updates": 3, "prompts_per_update": 16, "max_gen_len": response, "epochs": 1, **settings}
    reward = {"random_for_debugging": True}
    return {
        "data": PROMPTS,
        "training": {"type": "ppo", "micro_batch_tokens": tokens, "reward_model": reward, "ppo": keys},
    }


CASES: dict[str, dict[str, Any]] = {
    "SFT 512": supervised("sft", 512),
    "SFT 2048": supervised("sft", 2048),
    "SFT 4096": supervised("sft", 4096),
    "SFT 4096, checkpointing": supervised("sft", 4096, gradient_checkpointing=True),
    "SFT 1024, float32": supervised("sft", 1024) | {"dtype": "float32"},
    "SFT 1024, every weight": supervised("sft", 1024) | {"lora": None},
    "reward model 1024": supervised("reward", 1024),
    "reward model 4096": supervised("reward", 4096),
    "PPO 512": ppo(512),
    "PPO 2048": ppo(2048),
    "PPO 2048, own critic": ppo(2048, critic="model"),
}
QUICK = ("SFT 512",)


def harken(*arguments: str) -> machine.Finished:
    return machine.run([sys.executable, "-m", "harken.cli.main", *arguments])


def compared(name: str, settings: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Plan one case, then train it."""
    with tempfile.TemporaryDirectory() as folder:
        file, output = Path(folder, "run.yml"), Path(folder, "run")
        file.write_text(yaml.safe_dump({"model_name": model, **settings}))
        plan = json.loads(harken("plan", str(file), "--json").output)
        trained = harken("train", "--preset", str(file), "--output-dir", str(output))
        steps = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    # The last step of SFT includes a held-out evaluation; that of PPO has no held-out rows.
    return {
        "case": name,
        "predicted_bytes": plan["peak"]["bytes"],
        # Of a GPU the process has taken what its steps say, and what the driver keeps for it.
        "measured_bytes": sides.peak_bytes(trained, steps)
        + (CUDA_CONTEXT if torch.cuda.is_available() else 0),
        "phase": plan["peak"]["phase"],
        "predicted_seconds": plan["durations"][0]["seconds_per_step"],
        "measured_seconds": min(step["seconds"] for step in steps),
    }


def main() -> None:
    asked = result.arguments(__doc__ or "")
    asked.add_argument("--only", help="cases whose name holds this")
    given = result.parsed(asked, {})
    names = [n for n in CASES if given.only is None or given.only in n]
    names = [n for n in names if not given.quick or n in QUICK]
    rows, figures = [], []
    for name in names:
        figure = compared(name, CASES[name], given.model)
        figures.append(figure)
        memory = figure["predicted_bytes"] / figure["measured_bytes"]
        seconds = figure["predicted_seconds"] / figure["measured_seconds"]
        rows.append(
            [
                name,
                *(result.gigabytes(figure[f"{what}_bytes"]) for what in ("predicted", "measured")),
                f"{memory:.2f}",
                *(f"{figure[f'{what}_seconds']:.1f} s" for what in ("predicted", "measured")),
                f"{seconds:.2f}",
            ]
        )
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    result.table(["case", "predicted", "measured", "ratio", "a step", "measured", "ratio"], rows)
    worst = max(abs(f["predicted_bytes"] / f["measured_bytes"] - 1) for f in figures)
    print(f"\nmemory: at most {worst:.0%} off")
    result.save("plan_accuracy", given, {}, figures)


if __name__ == "__main__":
    main()
