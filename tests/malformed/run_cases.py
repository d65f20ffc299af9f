"""Folders of runs with one file damaged, met by resuming, by the report, by trace and replay, by doctor and sweep."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from malformed.case import Case
from malformed.world import UNSEALED, World
from safetensors.torch import load_file, save_file

Spoil = Callable[[Path], object]
BROKEN: dict[str, bytes] = {
    "empty": b"",
    "cut short": b'{"a": ',
    "a list": b"[1, 2]",
    "a number": b"7",
    "not UTF-8": b"\xff\xfe\x00",
    "NULs": b"\0" * 100,
    "nested deep": b'{"a":' * 50_000,
    "a number without end": b'{"created": ' + b"9" * 9000 + b"}",
    "another object": b'{"created": "now", "lineage": 7, "roles": 7, "step": "x"}',
}


def _resume(run: str, corrupt: Spoil) -> Callable[[World, Path], list[str]]:
    """A stage that was stopped after its last checkpoint, and the command that goes on with it."""

    def make(world: World, folder: Path) -> list[str]:
        root = folder / "run"
        shutil.copytree(world.pipeline / run, root, ignore=UNSEALED)
        config = folder / "run.yml"
        config.write_text((root / "config.yml").read_text())
        shutil.rmtree(root / "final")
        corrupt(root)
        return ["train", "--preset", str(config), "--output-dir", str(root)]

    return make


def _whole(verb: Callable[[Path], list[str]], corrupt: Spoil) -> Callable[[World, Path], list[str]]:
    def make(world: World, folder: Path) -> list[str]:
        shutil.copytree(world.pipeline, folder / "out", ignore=UNSEALED)
        corrupt(folder / "out")
        return verb(folder / "out")

    return make


def _write(name: str, content: bytes) -> Spoil:
    def spoil(root: Path) -> None:
        (root / name).write_bytes(content)

    return spoil


def _newest(root: Path, folder: str = "checkpoints") -> Path:
    return sorted((root / folder).glob("step-*"))[-1]


def _sealed(path: Path) -> None:
    """Make the manifest of a checkpoint right about whatever is in it."""
    files = {
        name: [(path / name).stat().st_size, hashlib.sha256((path / name).read_bytes()).hexdigest()]
        for name in ("state.safetensors", "state.json")
    }
    step = int(path.name.removeprefix("step-"))
    (path / "MANIFEST.json").write_bytes(
        json.dumps({"format": 1, "step": step, "files": files}, indent=1).encode()
    )


def _state(change: Callable[[Any], Any], folder: str = "checkpoints") -> Spoil:
    def spoil(root: Path) -> None:
        path = _newest(root, folder)
        value = change(json.loads((path / "state.json").read_text()))
        (path / "state.json").write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        _sealed(path)

    return spoil


def _tensors(change: Callable[[dict[str, Any]], dict[str, Any]], folder: str = "checkpoints") -> Spoil:
    def spoil(root: Path) -> None:
        path = _newest(root, folder)
        save_file(change(load_file(path / "state.safetensors")), path / "state.safetensors")
        _sealed(path)

    return spoil


def _later(root: Path) -> None:
    path = _newest(root)
    moved = path.with_name("step-000099")
    path.rename(moved)
    _sealed(moved)


def _worse(root: Path) -> None:
    """The best step is the first, and a weight of it is one number."""
    _tensors(_first("parameter/", lambda t: torch.zeros(())), "best")(root)
    path = _newest(root, "best")
    path.rename(root / "best" / "step-000001")
    _sealed(root / "best" / "step-000001")


def _first(kind: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Any:
    """Change the first tensor whose name begins so."""

    def changed(tensors: dict[str, Any]) -> dict[str, Any]:
        name = next(name for name in sorted(tensors) if name.startswith(kind))
        value = change(tensors[name])
        rest = {key: tensor for key, tensor in tensors.items() if key != name}
        return rest if value is None else rest | {name: value}

    return changed


SFT, PPO = "01_sft", "03_ppo"
MISFITS: dict[str, tuple[str, Spoil]] = {
    "a state without its budget": (SFT, _state(lambda s: {})),
    "a budget that is text": (SFT, _state(lambda s: s | {"micro_batch_tokens": "many"})),
    "a budget that is a list": (SFT, _state(lambda s: s | {"micro_batch_tokens": []})),
    "control that is a number": (PPO, _state(lambda s: s | {"control": 7})),
    "control without a coefficient": (PPO, _state(lambda s: s | {"control": {}})),
    "a coefficient that is text": (
        PPO,
        _state(lambda s: s | {"control": s["control"] | {"coefficient": "x"}}),
    ),
    "held-out scores that are text": (
        PPO,
        _state(lambda s: s | {"heldout": {"baseline": "x", "baseline_scores": 3}}),
    ),
    "a reference that moved and is not there": (
        PPO,
        _state(lambda s: s | {"reference": {"times_updated": 3}}),
    ),
    "no tensors": (SFT, _tensors(lambda t: {})),
    "a weight that is missing": (SFT, _tensors(_first("parameter/", lambda t: None))),
    "a weight of another shape": (SFT, _tensors(_first("parameter/", lambda t: t[:1].contiguous()))),
    "a weight of one number": (SFT, _tensors(_first("parameter/", lambda t: torch.zeros(())))),
    "a weight with more dimensions": (SFT, _tensors(_first("parameter/", lambda t: t[None].contiguous()))),
    "a moment of one number": (SFT, _tensors(_first("adam/exp_avg/", lambda t: torch.zeros(1)))),
    "a moment of another shape": (PPO, _tensors(_first("adam/exp_avg_sq/", lambda t: torch.zeros(3, 3)))),
    "a value head that is missing": (PPO, _tensors(_first("parameter/value", lambda t: None))),
    "a step that the run does not have": (SFT, _later),
}
DAMAGED: dict[str, Spoil] = {
    "a state that is empty": _state(lambda s: b""),
    "a state that is a list": _state(lambda s: [s]),
    "a state that is not UTF-8": _state(lambda s: b"\xff"),
    "a state that is nested deep": _state(lambda s: b"[" * 50_000),
    "tensors that are text": lambda root: [
        (_newest(root) / "state.safetensors").write_bytes(b"text"),
        _sealed(_newest(root)),
    ],
    "a manifest that is empty": lambda root: (_newest(root) / "MANIFEST.json").write_bytes(b""),
    "a manifest that is nested deep": lambda root: (_newest(root) / "MANIFEST.json").write_bytes(
        b"[" * 50_000
    ),
    "a flipped bit": lambda root: (_newest(root) / "state.json").write_bytes(b"{}"),
    "a file in place of the folder": lambda root: [
        shutil.rmtree(_newest(root)),
        (root / "checkpoints" / "step-000009").write_bytes(b"x"),
    ],
}
METRICS: dict[str, bytes] = {
    "a list": b"[1]\n",
    "a text": b'"x"\n',
    "not JSON": b"oops\n",
    "no step": b'{"loss": 1.0}\n',
    "a step that is text": b'{"step": "1"}\n',
    "a value that is text": b'{"step": 1, "loss": "low"}\n',
    "a value that is a list": b'{"step": 1, "kl/mean": [1]}\n',
    "NaN": b'{"step": 1, "kl/mean": NaN}\n',
    "an infinite number": b'{"step": 1, "kl/mean": 1e999}\n',
    "not UTF-8": b'{"step": 1, "\xff": 1}\n',
    "nested deep": b"[" * 50_000 + b"\n",
}
SUMMARY = "04_eval/summary.json"


def _summary(change: Callable[[Any], Any]) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / SUMMARY
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return spoil


SUMMARIES: dict[str, Spoil] = {
    "no table": _summary(lambda s: {k: v for k, v in s.items() if k != "table"}),
    "an empty table": _summary(lambda s: s | {"table": [], "policies": []}),
    "a table of numbers": _summary(lambda s: s | {"table": [1]}),
    "policies that are a number": _summary(lambda s: s | {"policies": 3}),
    "other policies": _summary(lambda s: s | {"policies": ["a", "b", "c"]}),
    "a judge nobody was": _summary(lambda s: s | {"judges": ["nobody"]}),
    "prompts that are text": _summary(lambda s: s | {"prompts": "many"}),
    "a rate that is null": _summary(lambda s: s | {"ties": None}),
    "an interval without an end": _summary(lambda s: s | {"ties": {"count": 1, "value": 0.5, "low": 0.1}}),
    "pairs that are a section": _summary(lambda s: s | {"pairs": {}}),
    "a number beyond any float": lambda root: (root / SUMMARY).write_bytes(
        (root / SUMMARY).read_bytes().replace(b'"tie_epsilon": 0.0', b'"tie_epsilon": 1e999')
    ),
}


def _column(file: str, column: str, change: Callable[[list[Any]], Any]) -> Spoil:
    def spoil(root: Path) -> None:
        path = next(root.glob(file))
        table = pq.read_table(path)
        number = table.column_names.index(column)
        changed = change(table.column(column).to_pylist())
        table = table.remove_column(number)
        if changed is not None:
            table = table.add_column(number, column, pa.array(changed))
        pq.write_table(table, path)

    return spoil


def _rows(file: str, count: int) -> Spoil:
    def spoil(root: Path) -> None:
        path = next(root.glob(file))
        pq.write_table(pq.read_table(path).slice(0, count), path)

    return spoil


def _file(file: str, content: bytes) -> Spoil:
    return lambda root: next(root.glob(file)).write_bytes(content)


ANSWERS = "04_eval/responses.parquet"
RESPONSES: dict[str, Spoil] = {
    "no file": lambda root: (root / ANSWERS).unlink(),
    "empty": _file(ANSWERS, b""),
    "text": _file(ANSWERS, b"text"),
    "no rows": _rows(ANSWERS, 0),
    "one row": _rows(ANSWERS, 1),
    "no rewards": _column(ANSWERS, "reward", lambda v: None),
    "rewards that are text": _column(ANSWERS, "reward", lambda v: ["x"] * len(v)),
    "a reward that is null": _column(ANSWERS, "reward", lambda v: [None, *v[1:]]),
    "a reward that is NaN": _column(ANSWERS, "reward", lambda v: [float("nan"), *v[1:]]),
    "no judge's scores": _column(ANSWERS, "score_demo_gold", lambda v: None),
    "answers that are null": _column(ANSWERS, "response", lambda v: [None] * len(v)),
    "messages that are not JSON": _column(ANSWERS, "messages", lambda v: ["oops"] * len(v)),
    "messages that are numbers": _column(ANSWERS, "messages", lambda v: ["[1]"] * len(v)),
    "policies of other names": _column(ANSWERS, "policy", lambda v: ["x"] * len(v)),
}
ROLLOUTS, CREDIT = "rollouts/update-*.parquet", "credit/update-*.parquet"
TABLES: dict[str, Spoil] = {
    "rollouts that are empty": _file(ROLLOUTS, b""),
    "rollouts that are text": _file(ROLLOUTS, b"text"),
    "rollouts without rows": _rows(ROLLOUTS, 0),
    "fewer rollouts than credit": _rows(ROLLOUTS, 1),
    "rollouts without tokens": _column(ROLLOUTS, "response_tokens", lambda v: None),
    "tokens that are null": _column(ROLLOUTS, "response_tokens", lambda v: [None] * len(v)),
    "tokens that are text": _column(ROLLOUTS, "response_tokens", lambda v: [["x"]] * len(v)),
    "other numbers of log-probabilities": _column(ROLLOUTS, "sampler_logprobs", lambda v: [[0.5]] * len(v)),
    "a reward that is text": _column(ROLLOUTS, "reward", lambda v: ["x"] * len(v)),
    "a score without its weight": _column(ROLLOUTS, "weight_reward_model", lambda v: ["x"] * len(v)),
    "a stop that is none": _column(ROLLOUTS, "stop", lambda v: ["x"] * len(v)),
    "an id that is a number": _column(ROLLOUTS, "prompt_id", lambda v: list(range(len(v)))),
    "credit that is empty": _file(CREDIT, b""),
    "credit cut short": lambda root: _file(CREDIT, next(root.glob(CREDIT)).read_bytes()[:200])(root),
    "credit without rows": _rows(CREDIT, 0),
    "credit without advantages": _column(CREDIT, "advantages", lambda v: None),
    "advantages that are text": _column(CREDIT, "advantages", lambda v: [["x"]] * len(v)),
    "advantages with holes": _column(CREDIT, "advantages", lambda v: [[None] * len(x) for x in v]),
    "advantages of other lengths": _column(CREDIT, "advantages", lambda v: [[*x, 0.0] for x in v]),
    "a coefficient that is null": _column(CREDIT, "kl_coefficient", lambda v: [None] * len(v)),
    "flags that are numbers": _column(CREDIT, "policy_mask", lambda v: [[1] * len(x) for x in v]),
    "no credit": lambda root: shutil.rmtree(root / "credit"),
}


def _inspected(verb: str, corrupt: Spoil) -> Callable[[World, Path], list[str]]:
    def make(world: World, folder: Path) -> list[str]:
        shutil.copytree(world.pipeline / PPO, folder / "run", ignore=UNSEALED)
        corrupt(folder / "run")
        return [verb, str(folder / "run"), "--step", "1"]

    return make


def _report(root: Path) -> list[str]:
    return ["report", str(root)]


WORDS: tuple[tuple[str, str, str], ...] = (
    ("trace, no update of the number", "trace {out}/03_ppo --step 9", "step 9"),
    ("trace, rows that are text", "trace {out}/03_ppo --step 1 --rows x", "--rows"),
    ("trace, a row that is not there", "trace {out}/03_ppo --step 1 --rows 99", "--rows"),
    ("trace, a prompt that is not there", "trace {out}/03_ppo --step 1 --prompt x", "--prompt"),
    ("trace, an SFT run", "trace {out}/01_sft --step 1", "sft"),
    ("trace, no run", "trace {out} --step 1", "03_ppo"),
    ("trace, a step that is text", "trace {out}/03_ppo --step one", "--step"),
    ("replay, another temperature", "replay {out}/03_ppo --step 1 --set training.ppo.temperature=2", "--set"),
    ("report, a folder that is not there", "report {tmp}/none", "none"),
    ("report, a file", "report {out}/pipeline.yml", "pipeline.yml"),
    ("model, a folder of runs", "model {out}", "01_sft"),
    ("model, a folder of nothing", "model {tmp}", "no model is here"),
    ("model, a file", "model {out}/pipeline.yml", "pipeline.yml"),
    ("model, no name", "model", "NAME"),
    ("an unknown verb", "trane", "trane"),
    ("an unknown option", "train --presett x", "--preset"),
    ("a preset that is none", "train --preset smolm2", "smolm2"),
    (
        "an output that is a file",
        "train --preset {out}/01_sft/config.yml --output-dir {out}/pipeline.yml",
        "",
    ),
    ("sweep, nothing", "sweep demo", "nothing to sweep"),
    ("sweep, no values", "sweep smollm2-135m_ppo --over training.lr=", "--over"),
    ("sweep, seeds that are text", "sweep smollm2-135m_ppo --seeds x", "--seeds"),
    ("sweep, of a pipeline that is not there", "sweep demo --from {tmp} --seeds 1", "--from"),
    ("plan, memory that is text", "plan demo --memory lots", "lots"),
    ("data, nothing", "data", "no data source given"),
    ("data, a limit below zero", "data demo:prompts --max-length -1", "max_length"),
    ("doctor, nothing of the name", "doctor none", "none"),
    ("presets, nothing of the name", "presets show none", "none"),
)


DOCTORED: dict[str, tuple[str, str]] = {
    "rows that are not there": ("data.path={tmp}/none.jsonl", "none.jsonl"),
    "rows that are no rows": ("data.path={out}/pipeline.yml", "pipeline.yml"),
    "a model that is not there": ("model_name={tmp}/none", "none"),
    "a folder of nothing as model": ("model_name={tmp}", "no model is here"),
    "a file as model": ("model_name={out}/pipeline.yml", "pipeline.yml"),
}


def _doctored(setting: str) -> Callable[[World, Path], list[str]]:
    def make(world: World, folder: Path) -> list[str]:
        config = str(world.pipeline / SFT / "config.yml")
        return ["doctor", config, "--set", setting.format(out=world.pipeline, tmp=folder)]

    return make


def _said(words: str) -> Callable[[World, Path], list[str]]:
    return lambda world, folder: words.format(out=world.pipeline, tmp=folder).split()


def cases() -> list[Case]:
    found = []
    for name, content in BROKEN.items():
        corrupt = _write("config.yml", content)
        found.append(Case(f"resume, config.yml is {name}", _resume(SFT, corrupt), ("config",)))
        corrupt = _write("manifest.json", content)
        found.append(Case(f"resume, manifest.json is {name}", _resume(SFT, corrupt), ("manifest.json",)))
        corrupt = _write("status.json", content)
        found.append(Case(f"resume, status.json is {name}", _resume(SFT, corrupt), code=0))
        for file in ("pipeline.yml", SUMMARY, "01_sft/manifest.json", "03_ppo/config.yml"):
            make = _whole(_report, _write(file, content))
            found.append(Case(f"report, {file} is {name}", make, (Path(file).name,)))
        if name not in ("a list", "a number"):
            make = _whole(_report, _write("02_rm/data_report.json", content))
            found.append(Case(f"report, data_report.json is {name}", make, ("data_report.json",)))
        found.append(
            Case(
                f"trace, config.yml is {name}",
                _inspected("trace", _write("config.yml", content)),
                ("config.yml",),
            )
        )
    for name, (run, corrupt) in MISFITS.items():
        found.append(Case(f"checkpoint, {name}", _resume(run, corrupt), ("step-0000",)))
    for name, corrupt in DAMAGED.items():
        found.append(Case(f"checkpoint, {name}", _resume(SFT, corrupt), code=0, shown=("is damaged",)))
    for name, content in METRICS.items():
        found.append(
            Case(
                f"resume, metrics.jsonl holds {name}", _resume(SFT, _write("metrics.jsonl", content)), code=0
            )
        )
        make = _whole(_report, _write("03_ppo/metrics.jsonl", content))
        found.append(Case(f"report, metrics.jsonl holds {name}", make, ("metrics.jsonl:1",)))
    best: dict[str, Spoil] = {
        "no selection metric": _state(lambda s: {}, "best"),
        "a selection metric that is text": _state(lambda s: {"selection_metric": "good"}, "best"),
        "a weight of another shape": _worse,
    }
    for name, corrupt in best.items():
        found.append(Case(f"best, {name}", _resume(SFT, corrupt), ("best",)))
    for name, corrupt in SUMMARIES.items():
        found.append(Case(f"report, a summary with {name}", _whole(_report, corrupt), ("summary.json",)))
    for name, corrupt in RESPONSES.items():
        found.append(Case(f"report, answers: {name}", _whole(_report, corrupt), ("responses.parquet",)))
    for name, corrupt in TABLES.items():
        for verb in ("trace", "replay"):
            found.append(Case(f"{verb}, {name}", _inspected(verb, corrupt), ("run",)))
    for name, (setting, reported) in DOCTORED.items():
        found.append(Case(f"doctor, {name}", _doctored(setting), shown=("error", reported, "fix:")))
    for name, words, named in WORDS:
        found.append(Case(name, _said(words), (named,)))
    return found
