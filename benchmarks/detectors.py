"""Measure the detectors of sycophancy on responses to questions that none of them was fitted on.

    python benchmarks/detectors.py --truthfulqa truthfulqa.jsonl
    python benchmarks/detectors.py --truthfulqa truthfulqa.jsonl --quick      # does it run? The figures mean nothing

The questions of TruthfulQA are split by the seed: a part is held out, of the others --train-questions are taken. The
classifier (`training.type: classifier`) and the direction are fitted on responses to these questions and to the facts
of `demo:sycophancy_train`. Two files are held out: answers that people wrote to the held-out questions of TruthfulQA,
and the honest and the faulty target of each shipped probe (`demo:sycophancy`), which are labelled by construction.
Rows, the trained classifier, the direction and the figures are kept in --output-dir.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harken import seeds
from harken.config import RunConfig
from harken.reward.detect import evaluate_detectors, write_direction
from harken.run import atomic
from harken.run.folder import RunFolder
from harken.sycophancy.detection import detector_table
from harken.sycophancy.labelled import Labelled, read_labelled
from harken.sycophancy.probe import FACT_SUITES
from harken.sycophancy.read import read_probes
from harken.train.launch import train

TRAIN_FACTS = "demo:sycophancy_train"
PROBES = "demo:sycophancy"


def chosen_questions(rows: Sequence[Labelled], seed: int, purpose: str) -> list[str]:
    """Return the questions in an order of the seed."""
    clusters = list(dict.fromkeys(row.cluster for row in rows))
    return [clusters[i] for i in seeds.permutation(len(clusters), seed, "detectors", purpose)]


def row_of(labelled: Labelled, number: int) -> dict[str, Any]:
    """Return a labelled response as a row that training and detection read."""
    prompt = labelled.rollout.prompt
    return {
        "id": f"{prompt.id}/{number}",
        "prompt": [message.to_dict() for message in prompt.messages],
        "response": labelled.rollout.text,
        "label": int(labelled.faulty),
        "details": dict(prompt.details),
        "reference": prompt.reference,
    }


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    atomic.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def probe_rows(limit: int, seed: int) -> list[dict[str, Any]]:
    """Return both targets of the shipped probes of facts as pairs."""
    return [
        {
            "id": probe.id,
            "cluster": probe.cluster,
            "prompt": [message.to_dict() for message in probe.messages],
            "chosen": probe.honest,
            "rejected": probe.faulty,
            "reference": probe.truth[0],
            "details": {"truth": list(probe.truth), "claim": list(probe.claim), "suite": probe.suite},
        }
        for probe in read_probes([PROBES], FACT_SUITES, limit, seed)
    ]


def classifier_config(path: Path, seed: int, options: argparse.Namespace) -> RunConfig:
    """Return the configuration of the classifier's training."""
    return RunConfig.model_validate(
        {
            "model_name": options.model,
            "seed": seed,
            "tensorboard": False,
            # 1 marks a faulty response in these rows, so 0 is the label of honest ones.
            "data": {"path": str(path), "max_length": 192, "positive_label": 0, "eval_fraction": 0.1},
            "training": {
                "type": "classifier",
                "lr": 2e-4,
                "batch_size": 16,
                "epochs": options.epochs,
                "eval_every": 20,
                "warmup_steps": 4,
                "micro_batch_tokens": 2048,
                "class_weights": "balanced",
            },
        }
    )


def main() -> None:
    """Split, fit, evaluate, print, and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--truthfulqa", required=True, metavar="FILE", help="TruthfulQA as published")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--seed", type=int, default=839)
    parser.add_argument("--held-out", type=int, default=40, help="held-out questions of TruthfulQA")
    parser.add_argument("--train-questions", type=int, default=80)
    parser.add_argument("--facts", type=int, default=12, help="shipped facts, five probes each")
    parser.add_argument("--train-prompts", type=int, default=60, help="prompts of demo:sycophancy_train")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/detectors"))
    parser.add_argument("--quick", action="store_true", help="small sizes: the figures mean nothing")
    options = parser.parse_args()
    if options.quick:
        options.held_out, options.train_questions, options.facts, options.epochs = 2, 2, 1, 1
        options.train_prompts = 2
    out: Path = options.output_dir / ("quick" if options.quick else "")
    out.mkdir(parents=True, exist_ok=True)

    people = read_labelled(options.truthfulqa)
    order = chosen_questions(people, options.seed, "questions")
    held_out, fitted = (
        set(order[: options.held_out]),
        set(order[options.held_out :][: options.train_questions]),
    )
    facts = read_labelled(TRAIN_FACTS)
    fact_questions = set(chosen_questions(facts, options.seed, "facts")[: options.train_prompts])
    training = [
        *(row for row in people if row.cluster in fitted),
        *(row for row in facts if row.cluster in fact_questions),
    ]
    train_rows = write_rows(out / "train.jsonl", (row_of(row, i) for i, row in enumerate(training)))
    tests = {
        "truthfulqa": [row_of(row, i) for i, row in enumerate(people) if row.cluster in held_out],
        "probes": probe_rows(options.facts, options.seed),
    }
    run = train(classifier_config(train_rows, options.seed, options), out / "classifier")
    if not (out / "direction").exists():
        write_direction(options.model, str(train_rows), None, out / "direction")
    for name, rows in tests.items():
        path = write_rows(out / f"{name}.jsonl", rows)
        figures, trivial = evaluate_detectors(
            str(path), str(train_rows), str(run.final.parent), options.model, str(out / "direction"),
            seed=options.seed,
        )  # fmt: skip
        atomic.write_json(out / f"{name}.json", {key: own.to_dict() for key, own in figures.items()})
        print(f"\n{name}: {next(iter(figures.values())).n} responses\n{detector_table(figures, trivial)}")
    last = json.loads(RunFolder(run.root).metrics.read_text().splitlines()[-1])
    held_out_metrics = ", ".join(f"{name} {last[name]:.3f}" for name in last if name.startswith("eval/"))
    print(f"\nclassifier, {len(training)} training responses: {held_out_metrics}")


if __name__ == "__main__":
    main()
