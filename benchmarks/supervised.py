"""Measure SFT, reward-model and DPO training: real tokens per second, Harken beside TRL's trainers.

    python benchmarks/supervised.py                       # needs the peer's environment: make bench-peers
    python benchmarks/supervised.py --only reward --steps 11

The same HH helpful rows as the same token ids in the same steps, the same model in bfloat16, LoRA 16 on every
projection, 16 rows or pairs a step, as many threads. Real tokens (no padding) of a side's steps ÷ their seconds; the
first step of each side is not counted. TRL runs with its defaults, and again without gradient checkpointing (which
is its default and costs time), and packed. In DPO the time in which the reference scores the counted rows is part of
the steps: Harken scores all rows before the first one, TRL in each step, or before the first one with `precompute`.
TRL's DPOTrainer on token ids needs TRL 1.16.0: another environment, named by --peer-python.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

import result
import rows
import sides
from machine import Finished

from harken.config.base import DataConfig
from harken.data import sources
from harken.data.chat import Renderer
from harken.models.tokenizer import load_tokenizer
from harken.train.sampler import batch_indices

SEED = 839
LABELS = {"sft": "SFT", "reward": "RM", "dpo": "DPO"}
TRL = {
    "sft": {
        "TRL, its defaults": {},
        "TRL, no checkpointing": {"checkpointing": 0},
        "TRL, packed": {"checkpointing": 0, "packing": 1},
    },
    "reward": {"TRL, its defaults": {}, "TRL, no checkpointing": {"checkpointing": 0}},
    "dpo": {
        "TRL, its defaults": {},
        "TRL, no checkpointing": {"checkpointing": 0},
        "TRL, no checkpointing, precompute": {"checkpointing": 0, "precompute": 1},
    },
}
"""Settings of TRL other than its defaults. Without flash attention it has no mask between packed documents."""


def encoded(kind: str, file: Path, renderer: Renderer, length: int) -> list[dict[str, list[int]]]:
    """Return the rows as Harken renders them, under the names that TRL reads."""
    if kind == "sft":
        demonstrations, _ = sources.load_demonstrations(DataConfig(path=str(file)))
        found = [renderer.encode_demonstration(row, length) for row in demonstrations]
        return [
            {"input_ids": list(one.tokens), "completion_mask": [int(flag) for flag in one.response_mask]}
            for one in found
        ]
    preferences, _ = sources.load_preferences(DataConfig(path=str(file)))
    pairs = [renderer.encode_preference(row, length) for row in preferences]
    if kind == "dpo":
        return [
            {
                "prompt_ids": list(p.chosen_tokens[: p.prompt_length]),
                "chosen_ids": list(p.chosen_tokens[p.prompt_length :]),
                "rejected_ids": list(p.rejected_tokens[p.prompt_length :]),
            }
            for p in pairs
        ]
    return [{"chosen_ids": list(p.chosen_tokens), "rejected_ids": list(p.rejected_tokens)} for p in pairs]


def real_tokens(row: dict[str, list[int]]) -> int:
    """Count the tokens of a row, or of both sides of a pair, each with its prompt."""
    return sum(len(ids) * (1 + (name == "prompt_ids")) for name, ids in row.items() if name.endswith("_ids"))


def harken_config(kind: str, given: argparse.Namespace, model: Path, file: Path) -> dict[str, object]:
    """Configure one pass over the rows; no held-out rows, so nothing else runs inside a step."""
    return {
        "model_name": str(model),
        "seed": SEED,
        "tensorboard": False,
        "data": {"path": str(file), "max_length": given.length},
        "training": {
            "type": kind,
            "batch_size": given.batch,
            "epochs": 1,
            "micro_batch_tokens": given.micro_batch_tokens,
        },
        "checkpoints": {"every": given.steps},
    }


def line(
    steps: list[dict[str, float]], tokens: list[int], finished: Finished, reference_seconds: float = 0.0
) -> dict[str, float]:
    """Return figures over the counted steps, with their share of the time in which the reference scored all rows."""
    counted = sum(step["seconds"] for step in steps[1:])
    reference = reference_seconds * sum(tokens[1:]) / sum(tokens)
    return {
        "tokens_per_second": sum(tokens[1:]) / (counted + reference),
        "tokens": sum(tokens[1:]),
        "seconds": counted + reference,
        "reference_seconds": reference,
        "peak_bytes": sides.peak_bytes(finished, steps),
    }


def measure(kind: str, given: argparse.Namespace, model: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Measure Harken and every way of running TRL, by name."""
    folder.mkdir()
    renderer = Renderer(load_tokenizer(model))
    count = given.batch * given.steps
    pairs = rows.pairs(renderer, count, given.length)
    if len(pairs) < count:
        raise SystemExit(f"{rows.name(rows.HH)} has {len(pairs)} pairs that fit, and {count} are needed")
    file = rows.write_pairs(folder / "pairs.jsonl", pairs)
    all_rows = encoded(kind, file, renderer, given.length)
    order = [batch_indices(step, count, given.batch, SEED, LABELS[kind]) for step in range(given.steps)]
    tokens = [sum(real_tokens(all_rows[i]) for i in step) for step in order]

    steps, finished = sides.harken(harken_config(kind, given, model, file), folder / "harken", count)
    said = re.search(r"the reference scored .* in ([\d.]+) s", finished.output + finished.errors)
    figures = {"Harken": line(steps, tokens, finished, float(said[1]) if said else 0.0)}
    if (kind == "dpo") != (said is not None):
        raise RuntimeError("Harken did not say how long the reference took")
    ids = rows.write(folder / "ids.jsonl", (all_rows[i] for step in order for i in step))
    shared = {"model": model, "rows": ids, "batch": given.batch, "micro": given.micro, "length": given.length}
    shared |= {"dtype": given.peer_dtype}
    for name, special in TRL[kind].items():
        trl = sides.peer(given.peer_python, f"trl_{kind}.py", **shared, **special)
        if trl is None:
            break
        trl_steps = [one for one in trl.lines() if "tokens" in one]
        reference = sum(one.get("reference_seconds", 0.0) for one in trl.lines())
        counted = [int(step["tokens"]) for step in trl_steps]
        if "packing" not in special and counted != tokens:
            raise RuntimeError(f"{name} saw {counted} tokens in its steps, and Harken {tokens}")
        figures[name] = line(trl_steps, counted, trl, reference)
    return figures


def show(kind: str, figures: dict[str, dict[str, float]]) -> None:
    """Print a table; Harken's rate as a multiple of each other's."""
    ours = figures["Harken"]["tokens_per_second"]
    print()
    result.table(
        [LABELS[kind], "real tokens/s", "Harken is", "peak memory", "tokens counted"],
        [
            [
                name,
                f"{f['tokens_per_second']:.0f}",
                "" if name == "Harken" else f"{ours / f['tokens_per_second']:.2f} x",
                result.gigabytes(f["peak_bytes"]),
                f"{f['tokens']:.0f}",
            ]
            for name, f in figures.items()
        ],
    )


def main() -> None:
    """Measure, print, write."""
    asked = result.arguments(__doc__)
    asked.add_argument("--only", choices=LABELS, nargs="+", default=list(LABELS))
    asked.add_argument("--batch", type=int, default=16, help="rows or pairs an optimiser step")
    asked.add_argument("--steps", type=int, default=5, help="the first does not count")
    asked.add_argument("--length", type=int, default=320, help="tokens of a row, at most")
    asked.add_argument("--micro", type=int, default=8, help="rows or pairs in a micro-batch of the peer")
    asked.add_argument("--micro-batch-tokens", type=int, default=2048, help="of Harken, padding included")
    sides.peer_options(asked)
    given = result.parsed(asked, {"batch": 2, "micro": 1, "steps": 3, "length": 96})
    model = sides.whole_model(given.model)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in given.only:
            figures[kind] = measure(kind, given, model, Path(folder) / kind)
            show(kind, figures[kind])
    result.save("supervised", given, {"rows": rows.name(rows.HH)}, figures)


if __name__ == "__main__":
    main()
