"""Write the model card of an exported policy: where it comes from, on what data, with what figures. README.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import harken
from harken.errors import UserError
from harken.evaluation.run_summary import read_metrics
from harken.evaluation.trained_prompts import training_runs
from harken.models.resolve import ModelSource
from harken.run import bounded_read, json_io, manifest
from harken.run.config_lock import read_locked_config
from harken.run.folder import RunFolder

UNKNOWN = "unknown"
"""What the card says where nothing was recorded. It is never guessed."""
USES = {
    "safetensors": """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
```""",
    "adapter": """\
```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
model = AutoPeftModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
```

The adapter needs its base model, which `adapter_config.json` names.""",
    "gguf": """\
`llama-cli -m model.gguf`, or any tool that reads GGUF; `harken chat model.gguf` too.""",
}


def model_card(source: ModelSource, form: str, dtype: str) -> str:
    """Return the text of README.md. What is not recorded is said to be unknown.

    Everything comes from the model's folders and the manifests of the runs behind it; a damaged manifest raises
    UserError.
    """
    runs = _newest_first(source)
    base = _origin(source, runs)
    front = {
        "library_name": {"adapter": "peft", "gguf": "gguf"}.get(form, "transformers"),
        "pipeline_tag": "text-generation",
        "base_model": base,
        "license": UNKNOWN,
        "tags": ["harken", *dict.fromkeys(_kind(run) for run in runs)],
    }
    blocks = [
        "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items()) + "---",
        f"# {Path(source.name).name}",
        f"A language model exported by Harken {harken.__version__} as {form} ({dtype}). Starting model: {base}.",
        f"## Use\n\n{USES[form]}",
        "## Lineage\n\n" + "\n".join(_lineage(source, runs)),
        "## Data\n\n" + ("\n".join(_data(runs)) or f"- {UNKNOWN}: no training run is recorded"),
        "## Metrics\n\n" + ("\n\n".join(_metrics(runs)) or f"{UNKNOWN}: no training run is recorded"),
        "## Licence\n\n" + "\n".join(_licences(source, base, runs)),
        "## What is not in this folder\n\nThe value head, the optimiser state and the records of training.",
    ]
    return "\n\n".join(blocks) + "\n"


def _newest_first(source: ModelSource) -> list[RunFolder]:
    found = [run for run in training_runs(source) if run.config.exists()]
    return sorted(found, key=lambda run: str(manifest.read_manifest(run.manifest)["created"]), reverse=True)


def _origin(source: ModelSource, runs: list[RunFolder]) -> str:
    """Return the name of the model that the oldest run behind this one started from."""
    if runs:
        lineage = manifest.read_manifest(runs[-1].manifest).get("lineage")
        if isinstance(lineage, Mapping) and isinstance(lineage.get("model"), str):
            return str(lineage["model"])
    return source.chain()[0].name


def _kind(run: RunFolder) -> str:
    training = read_locked_config(run.config).get("training")
    return str(training.get("type", UNKNOWN)) if isinstance(training, Mapping) else UNKNOWN


def _lineage(source: ModelSource, runs: list[RunFolder]) -> Iterator[str]:
    for link in reversed(source.chain()):
        yield f"- {link.description}: `{link.name}`, sha256 of its weights `{link.fingerprint}`"
    for run in runs:
        record = manifest.read_manifest(run.manifest)
        before: Any = record.get("lineage")
        before = before if isinstance(before, Mapping) else {}
        yield (
            f"- run `{run.root.name}` ({_kind(run)}), {record['created']}, Harken {record.get('harken', UNKNOWN)}: "
            f"from `{before.get('model', UNKNOWN)}` (`{before.get('fingerprint', UNKNOWN)}`), "
            f"configuration `{record.get('config_sha256', UNKNOWN)}`"
        )
        reward = before.get("reward_model")
        if isinstance(reward, Mapping):
            yield f"  - reward model `{reward.get('name')}` (`{reward.get('fingerprint')}`)"
        rewards = before.get("rewards")
        for name, part in (rewards if isinstance(rewards, Mapping) else {}).items():
            yield f"  - reward {name}: `{part.get('name')}` (`{part.get('fingerprint')}`)"


def _data(runs: list[RunFolder]) -> Iterator[str]:
    for run in runs:
        lineage: Any = manifest.read_manifest(run.manifest).get("lineage")
        data = lineage.get("data") if isinstance(lineage, Mapping) else None
        data = data if isinstance(data, Mapping) else {}
        name, fingerprint = data.get("name", UNKNOWN), data.get("fingerprint", UNKNOWN)
        yield f"- {_kind(run)}: `{name}`, sha256 of the processed rows `{fingerprint}`"
        reports = json_io.read_list(run.data_report) if run.data_report.exists() else []
        for report in reports:
            if isinstance(report, Mapping) and "kept" in report:
                yield f"  - {report.get('path', UNKNOWN)}: {report['kept']} of {report.get('raw', UNKNOWN)} rows"


def _metrics(runs: list[RunFolder]) -> Iterator[str]:
    """Yield a table of the last held-out figures of each run."""
    for run in runs:
        try:
            lines = read_metrics(run)
        except UserError:
            lines = []
        held_out: Mapping[str, Any] = next(
            (line for line in reversed(lines) if any(str(key).startswith("eval/") for key in line)), {}
        )
        rows = [
            f"| {key} | {value:.4g} |"
            for key, value in held_out.items()
            if str(key).startswith("eval/") and isinstance(value, int | float)
        ]
        title = f"{_kind(run)}, step {held_out.get('step', UNKNOWN)}, held-out rows"
        yield (
            "\n".join([f"{title}:", "", "| metric | value |", "|---|---|", *rows])
            if rows
            else (f"{_kind(run)}: no held-out figures were recorded.")
        )


def _licences(source: ModelSource, base: str, runs: list[RunFolder]) -> Iterator[str]:
    yield f"- this model: {UNKNOWN}. It depends on the licences below; set `license` above once you know them"
    licence = _licence_of(source.chain()[0].folder) or UNKNOWN
    yield f"- starting model {base}: {licence}"
    names = [
        manifest.read_manifest(run.manifest).get("lineage", {}).get("data", {}).get("name") for run in runs
    ]
    for name in dict.fromkeys(name for name in names if name):
        yield f"- data {name}: {UNKNOWN}"


def _licence_of(folder: Path) -> str:
    """Return the licence that the front matter of a model's README.md names, "" for none."""
    card = folder / "README.md"
    if not card.is_file():
        return ""
    text = bounded_read.read_text(card)
    parts = text.split("---", 2)
    lines = parts[1].splitlines() if len(parts) == 3 and not parts[0].strip() else []
    found = next((line.partition(":")[2].strip() for line in lines if line.startswith("license:")), "")
    return found.strip("\"'")
