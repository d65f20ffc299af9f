"""Run the two sides of a comparison, Harken and a peer, each in its own process with the same number of threads."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import random_model
import torch
import yaml
from machine import Finished, run

from harken.errors import UserError
from harken.models.resolve import resolve
from harken.run.folder import RunFolder

PEERS = Path(__file__).parent / "peers"
PEER_PYTHON = Path(".venv-trl/bin/python")


def peer_options(asked: argparse.ArgumentParser) -> None:
    """Add the options of a comparison with another library."""
    asked.add_argument("--peer-python", type=Path, default=PEER_PYTHON)
    asked.add_argument(
        "--peer-dtype",
        choices=["bfloat16", "float32"],
        default="bfloat16",
        help="of the peer alone: without 16-bit multiplications in the processor float32 is its faster way",
    )


def whole_model(name: str) -> Path:
    """Return the model folder of both sides; `random:org/name` is a model of that architecture (`random_model`).

    Raises UserError for an adapter: a peer would merge it otherwise than Harken.
    """
    if name.startswith(random_model.PREFIX):
        return random_model.folder_of(name)
    model = resolve(name)
    if model.kind != "full":
        raise UserError(f"is {model.description}", where=name, fix="benchmarks take a whole model")
    return model.folder


def harken(config: dict[str, Any], folder: Path, rows: int) -> tuple[list[dict[str, float]], Finished]:
    """Train by a configuration and return one dictionary of metrics a step, and the process.

    Raises RuntimeError when it did not train on all `rows` rows: then the sides would not be compared on the same.
    """
    folder.mkdir(parents=True)
    preset = folder / "run.yml"
    preset.write_text(yaml.safe_dump(config))
    run_folder = RunFolder(folder / "run")
    command = [sys.executable, "-m", "harken.cli.main", "train", "--preset", str(preset)]
    finished = run([*command, "--output-dir", str(run_folder.root)], **_threads())
    kept = json.loads(run_folder.data_report.read_text())[0]["kept"]
    if kept != rows:
        raise RuntimeError(f"Harken trained on {kept} of {rows} rows")
    return [json.loads(line) for line in run_folder.metrics.read_text().splitlines()], finished


def peer(python: Path, script: str, **options: object) -> Finished | None:
    """Run the script of another library; None, with a printed line, without its environment."""
    if not python.exists():
        print(f"{script}: skipped, there is no {python} (make bench-peers, or --peer-python)")
        return None
    command = [str(python), str(PEERS / script)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    return run(command, **_threads())


def peak_bytes(finished: Finished, steps: list[dict[str, float]]) -> float:
    """Return peak GPU memory by the metrics of the steps; without a GPU the process's own peak."""
    of_gpu = [step["memory/gpu_reserved"] for step in steps if "memory/gpu_reserved" in step]
    return max(of_gpu, default=finished.peak_bytes)


def _threads() -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(torch.get_num_threads()), "HF_HUB_OFFLINE": "1"}
