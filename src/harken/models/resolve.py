"""Resolve a model's name to its folder and its chain of base models, without guessing.

What a folder is follows from its contents alone:

    reward.json, adapter and reward_head      a reward model on a base
    reward.json, weights and reward_head      a reward model of which every weight was trained
    adapter_config.json and its weights       an adapter on a base
    config.json and safetensors weights       a full model
    final/                                    a run: its final/ is used
    checkpoints/step-N, best/step-N           a step of a finished run; checkpoints and best alone are their newest step
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from harken.config import files as config_files
from harken.errors import UserError
from harken.models.checkpoint_folder import checkpoint_adapter_folder, checkpoint_model_folder, has_adapter
from harken.models.embedded import embedded_folder
from harken.models.gguf import gguf_folder, is_gguf
from harken.models.hub import hub_folder
from harken.models.structure import is_encoder
from harken.run import checkpoint, checksums
from harken.run.folder import RunFolder
from harken.run.json_io import read_object
from harken.run.manifest import fingerprint_folder, read_lineage

CheckpointKind = Literal["full", "adapter", "reward"]
Use = Literal["policy", "reward", "reward_base"]

WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model*.bin", "adapter_model.bin", "*.pt", "*.pth", "*.ckpt")
_NOT_CAUSAL_LM = re.compile(
    r"For(Sequence|Token|Image|Audio)Classification|ForQuestionAnswering|ForMultipleChoice|ForMaskedLM|RewardModel"
)
SAFETENSORS = "save it as safetensors: load it once in transformers or peft and call save_pretrained(folder)"


@dataclass(frozen=True)
class ModelSource:
    """A model on disk: `folder` holds its own weights, `base` is the base of an adapter or reward model."""

    kind: CheckpointKind
    name: str
    folder: Path
    base: ModelSource | None = None

    def chain(self) -> list[ModelSource]:
        """Return the chain of models, the base first, this one last."""
        return [*(self.base.chain() if self.base else []), self]

    def describe(self) -> str:
        """Return one line: the name as given, its kind, its folder, the first digits of its fingerprint."""
        return f"{self.name}: {self.description} in {self.folder} [{self.fingerprint[:12]}]"

    def check(self) -> None:
        """Verify the checksums of this model and its bases; raise UserError for a damaged file."""
        for link in self.chain():
            checksums.verify_folder(link.folder)

    @property
    def description(self) -> str:
        """Return its kind in words, for messages."""
        if self.base is None:
            return "a reward model" if self.kind == "reward" else "a full model"
        return f"{'a reward model' if self.kind == 'reward' else 'an adapter'} on {self.base.name}"

    @cached_property
    def is_encoder(self) -> bool:
        """Whether it, or the model it is an adapter on, is a bidirectional encoder: it can score but not generate."""
        return is_encoder(self.chain()[0].folder)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of its own weight files, without those of its base. Raises UserError as `check` does."""
        checksums.verify_folder(self.folder)
        return fingerprint_folder(self.folder)

    @property
    def lineage_fingerprint(self) -> str:
        """Return one hash for the model and its chain of bases."""
        return hashlib.sha256("\n".join(link.fingerprint for link in self.chain()).encode()).hexdigest()


def resolve(name: str) -> ModelSource:
    """Find the model called `name`: `embedded`, a folder, a run, a GGUF file, or a hub name `org/name`.

    Links are followed to the end, however many. No weights are read into memory.
    Raises UserError for a path that does not exist (with the nearest that does), an unfinished run,
    a folder with a part missing, weights in pickles, a base that is missing or part of a cycle,
    a reward head that does not fit its base, a file that fails its checksum (weights: see `ModelSource.check`),
    and a hub that cannot be reached.
    """
    return _resolve(name, ())


def require_use(source: ModelSource, use: Use) -> ModelSource:
    """Require that `source` can serve as a `policy`, a `reward` model, or the base of a reward model; return it.

    Raises UserError if it cannot.
    """
    if use == "reward_base" and source.is_encoder and source.kind == "full":
        return source
    if use == "reward" and source.kind != "reward":
        raise UserError(
            f"is not a reward model: it is {source.description}",
            where=source.name,
            fix="train one with `harken train --preset …_rm`",
        )
    if use != "reward" and source.kind == "reward":
        raise UserError(
            f"cannot generate responses: it is {source.description}",
            where=source.name,
            fix="name a full model, an SFT run or a PPO run",
        )
    if use != "reward" and (heads := _other_architectures(source.chain()[0].folder)):
        raise UserError(
            f"cannot generate responses: its config.json names {heads}",
            where=source.name,
            fix="name a causal language model; a classifier can be a reward (training.rewards, type: classifier)",
        )
    if use != "reward" and source.is_encoder:
        raise UserError(
            f"cannot generate responses: it is {source.description}, and its tokens attend to later tokens",
            where=source.name,
            fix="name a causal language model; an encoder can be a reward model (training.type: reward)",
        )
    return source


def _other_architectures(folder: Path) -> str:
    """Return the architectures of a model made for a task other than generation; "" for a language model.

    With tied embeddings such a folder loads as a language model, without a missing weight.
    """
    path = folder / "config.json"
    architectures = read_object(path).get("architectures") if path.is_file() else None
    names = (
        [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    )
    return ", ".join(names) if names and all(_NOT_CAUSAL_LM.search(name) for name in names) else ""


def _resolve(name: str, ancestors: tuple[Path, ...]) -> ModelSource:
    if name == "embedded":
        return ModelSource("full", name, embedded_folder())
    path = Path(name).expanduser()
    if path.is_file():
        if not is_gguf(path):
            raise UserError("is a file, but not a GGUF file", where=name, fix="name the model's folder")
        return ModelSource("full", name, gguf_folder(path))
    if path.is_dir() and (step := checkpoint.newest_checkpoint(path)) is not None:
        return _from_checkpoint(name, step, ancestors)
    if path.is_dir():
        return _from_folder(name, _model_folder(name, path).resolve(), ancestors)
    if not name or _looks_like_path(name):
        raise UserError("no such model", where=name or "model_name", fix=_suggest_fix(path))
    return _from_folder(name, hub_folder(name), ancestors)


def _from_checkpoint(name: str, path: Path, ancestors: tuple[Path, ...]) -> ModelSource:
    """Find a step of a finished run: the run's final model with the weights of a checkpoint."""
    run = path.resolve().parent.parent
    final = _from_folder(name, _model_folder(str(run), run).resolve(), ancestors)
    if final.kind == "full" and has_adapter(path):
        base = _base_of_run(RunFolder(run), ancestors)
        return ModelSource("adapter", name, checkpoint_adapter_folder(path.resolve(), base.folder), base)
    folder = checkpoint_model_folder(path.resolve(), final.base.folder if final.base else None)
    return ModelSource(final.kind, name, folder, final.base)


def _base_of_run(run: RunFolder, ancestors: tuple[Path, ...]) -> ModelSource:
    """Find the model that a run started from, whose merged adapter its `final` is. Raises UserError if it changed."""
    started = read_lineage(run.manifest)
    base = _resolve(str(started["folder"]), (*ancestors, run.final))
    if base.lineage_fingerprint != started.get("fingerprint"):
        raise UserError(
            "the model that its run started from has other weights now",
            where=str(base.folder),
            fix="restore that model, or evaluate the run's final model",
        )
    return base


def _looks_like_path(name: str) -> bool:
    """Return whether a name is a path: hub names are `org/name` where no folder `org` exists."""
    org, slash, model_part = name.partition("/")
    return (
        not slash
        or not model_part
        or "/" in model_part
        or org in ("", "outputs")
        or org[0] in ".~"
        or Path(org).is_dir()
    )


def _suggest_fix(path: Path) -> str:
    """Suggest the preset that writes a missing folder, or the nearest existing path."""
    presets = {preset.name for preset in config_files.list_presets() if preset.kind == "run"}
    for folder in (path, *path.parents):
        if folder.name in presets and not folder.exists():
            return f"train it first: harken train --preset {folder.name}"
    missing = path
    while not missing.parent.is_dir():
        missing = missing.parent
    siblings = sorted(p.name for p in missing.parent.iterdir() if p.is_dir() or p.suffix == ".gguf")
    close = difflib.get_close_matches(missing.name, siblings, n=1)
    if close:
        return f"write {missing.with_name(close[0])}"
    accepted = "`embedded`, a hub name org/name, a model folder, a run folder or a GGUF file"
    return f"name {accepted}; there is no {missing.name} in {missing.parent.resolve()}"


def _model_folder(name: str, folder: Path) -> Path:
    """Return the folder to read: a run's `final`, or the folder itself. A run without `final` is an error."""
    run = RunFolder(folder)
    if (folder / "config.json").exists() or (folder / "adapter_config.json").exists():
        return folder
    if run.final.is_dir():
        return run.final
    if run.config.exists() or run.status.exists():
        raise UserError(
            f"this run has not finished{_progress(run)}",
            where=name,
            fix="run its command again with the same folder: it resumes where it stopped",
        )
    stages = [p.name for p in sorted(folder.iterdir()) if RunFolder(p).final.is_dir()]
    if stages:
        raise UserError(
            "holds runs but is not one itself", where=name, fix=f"name one of them: {', '.join(stages)}"
        )
    return folder


def _progress(run: RunFolder) -> str:
    if not run.status.exists():
        return ""
    status = read_object(run.status)
    reason = status.get("stopped_because")
    return f" ({status.get('completed')} of {status.get('requested')} steps{f', {reason}' if reason else ''})"


def _from_folder(name: str, folder: Path, ancestors: tuple[Path, ...]) -> ModelSource:
    if folder in ancestors:
        circle = " → ".join(str(p) for p in [*ancestors[ancestors.index(folder) :], folder])
        raise UserError(
            f"its bases form a cycle: {circle}",
            where=name,
            fix="set another base_model_name_or_path in one of them",
        )
    checksums.verify_folder(folder, weights=False)
    if (folder / "reward.json").exists():
        has_full_weights = (folder / "config.json").exists()  # every weight was trained, so there is no base
        for needed in (
            "config.json" if has_full_weights else "adapter_config.json",
            "reward_head.safetensors",
        ):
            if not (folder / needed).exists():
                raise UserError(f"this reward model has no {needed}", where=str(folder), fix="train it again")
        if not has_full_weights:
            return _on_base("reward", name, folder, ancestors)
        _check_weights(folder)
        source = ModelSource("reward", name, folder)
        _check_head(source)
        return source
    if (folder / "adapter_config.json").exists():
        return _on_base("adapter", name, folder, ancestors)
    if (folder / "config.json").exists():
        _check_weights(folder)
        return ModelSource("full", name, folder)
    raise UserError(
        "no model is here: neither config.json, adapter_config.json nor a final folder",
        where=str(folder),
        fix="name the folder that `save_pretrained` or a run wrote",
    )


def _on_base(
    kind: Literal["adapter", "reward"], name: str, folder: Path, ancestors: tuple[Path, ...]
) -> ModelSource:
    if not (folder / "adapter_model.safetensors").exists():
        _missing_weights(folder, "adapter_model.safetensors")
    card = folder / "adapter_config.json"
    base = read_object(card).get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise UserError("names no base model", where=str(card), fix="set base_model_name_or_path in it")
    # A relative path is first looked up next to the adapter, since run folders may move together.
    beside_adapter = folder / base
    base_folder = (
        beside_adapter.resolve() if beside_adapter.is_dir() else _find_moved_base(folder, Path(base))
    )
    try:
        under = _resolve(str(base_folder or base), (*ancestors, folder))
    except UserError as error:
        raise UserError(f"its base model: {error}", where=str(folder)) from error
    if under.kind == "reward":
        raise UserError(
            f"its base {under.name} is a reward model", where=str(folder), fix="train it on a policy"
        )
    source = ModelSource(kind, name, folder, under)
    if kind == "reward":
        _check_head(source)
    return source


def _find_moved_base(folder: Path, base: Path) -> Path | None:
    """Find the base of an adapter where both were moved together: under a common folder, at the same place in it.

    None if the base still exists, or if no record of the adapter's training identifies the candidate.
    """
    if not base.is_absolute() or base.is_dir():
        return None
    for above in folder.parents:
        for length in range(len(base.parts) - 1, 0, -1):
            candidate = above.joinpath(*base.parts[-length:])
            if candidate.is_dir() and candidate != folder and _is_the_base(folder, candidate):
                return candidate
    return None


def _is_the_base(folder: Path, candidate: Path) -> bool:
    if candidate == folder.parent / "base":  # the run's own copy
        return True
    if (folder / "reward.json").is_file():
        fingerprint = read_object(folder / "reward.json").get("base_fingerprint")
    else:
        record = folder.parent / "manifest.json"
        lineage = read_object(record).get("lineage") if record.is_file() else None
        fingerprint = lineage.get("fingerprint") if isinstance(lineage, dict) else None
    return fingerprint is not None and fingerprint == _resolve(str(candidate), (folder,)).lineage_fingerprint


def _check_head(source: ModelSource) -> None:
    """Check the head's inputs against the base's features, before anything is loaded."""
    trained_on = read_object(source.folder / "reward.json").get("hidden_size")
    config = read_object(source.chain()[0].folder / "config.json")
    hidden_size = config.get("hidden_size", config.get("n_embd"))
    if None not in (trained_on, hidden_size) and trained_on != hidden_size:
        raise UserError(
            f"the reward head takes hidden size {trained_on}, its base {source.chain()[0].name} has {hidden_size}",
            where=str(source.folder),
            fix="restore the base it was trained on, or train it again",
        )


def _check_weights(folder: Path) -> None:
    if (folder / INDEX_FILE).exists():
        weight_map = read_object(folder / INDEX_FILE).get("weight_map")
        shards = sorted({str(shard) for shard in weight_map.values()}) if isinstance(weight_map, dict) else []
        # A file elsewhere would be read but would not be part of any fingerprint.
        missing = [s for s in shards if Path(s).name != s or not (folder / s).is_file()]
        if missing or not shards:
            raise UserError(
                f"weight files are missing: {', '.join(missing) or 'the index names none'}",
                where=str(folder),
                fix="copy or download the folder again",
            )
    elif not (folder / WEIGHTS_FILE).exists():
        _missing_weights(folder, WEIGHTS_FILE)


def _missing_weights(folder: Path, description: str) -> None:
    pickles = next(_pickles(folder), None)
    if pickles:
        raise UserError(
            f"its weights are a pickle ({pickles.name}), which can run code; only safetensors are read",
            where=str(folder),
            fix=SAFETENSORS,
        )
    raise UserError(f"has no {description}", where=str(folder), fix="copy or download the folder again")


def _pickles(folder: Path) -> Iterator[Path]:
    for pattern in PICKLES:
        yield from sorted(folder.glob(pattern))
