"""Save and load exact training state. Checkpoints survive kills and full disks, and corruption is detected.

    checkpoints/.tmp-step-000050-…/   state.safetensors, state.json, MANIFEST.json, each flushed to the disk
              → step-000050/          by one rename; then all but the newest are deleted
              quarantine/             folders that do not match their manifest

Only safetensors and JSON are used, so loading a checkpoint never runs code from it.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harken.errors import describe_exception, is_third_party_error
from harken.run import atomic, bounded_read
from harken.run.checksums import file_sha256
from harken.run.terminal import say

FORMAT = 1
TENSORS, STATE, MANIFEST = "state.safetensors", "state.json", "MANIFEST.json"
PARAMETER_PREFIX = "parameter/"
"""Prefix of trained weights among the tensors of a checkpoint; optimiser state has the prefix `adam/`."""
CHECKPOINT_FOLDERS = ("checkpoints", "best")
"""Folders of a run that contain checkpoints."""

_UNFINISHED = ".tmp-"
_REPLACED = ".replaced-"
_STEP = re.compile(r"step-(\d+)")
_OS_ERROR = re.compile(r"\(os error (\d+)\)|Os \{ code: (\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """The training state after `step` steps. Tensors are on the CPU."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: int) -> bool:
    """Write `folder/step-N`, then delete all but the newest `keep`. On a full disk, warn and return False.

    The write is atomic: a kill at any time leaves complete checkpoints only. `state` is restored unchanged, except
    that tuples become lists. Raises ValueError if JSON cannot represent `state` (NaN, infinities, keys that are not
    text), and OSError on any other disk error.
    """
    if keep < 1 or step < 0:
        raise ValueError(f"keep must be at least 1 and step at least 0, not keep={keep}, step={step}")
    _require_json(state, "state")
    name = f"step-{step:06d}"
    unfinished = folder / f"{_UNFINISHED}{name}-{uuid.uuid4().hex[:8]}"
    try:
        unfinished.mkdir(parents=True)
        _write_files(unfinished, step, tensors, state)
        _publish(unfinished, folder / name)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not atomic.disk_is_full(error):
            raise
        say(
            f"warning: checkpoint of step {step} was not saved, the run continues: {error.strerror} ({folder})"
        )
        return False
    prune(folder, keep)
    return True


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints. `save` calls this, but a kill during `save` may leave old ones."""
    for old in _steps(folder)[keep:] if folder.is_dir() else []:
        _delete(old)


def latest(folder: Path) -> Checkpoint | None:
    """Load the newest checkpoint that matches its manifest; None if there is none.

    Newer ones that do not match move to `quarantine/`, each with a warning. Leftovers of a killed `save` are deleted.
    """
    if not folder.is_dir():
        return None
    _clean_up(folder)
    for path in _steps(folder):
        result = checkpoint_problem(path) or _read(path)
        if isinstance(result, Checkpoint):
            return result
        say(f"warning: checkpoint {path} is damaged ({result}); moved to {_quarantine(path)}")
    return None


def newest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint by name; 0 if there is none."""
    return max((_step_number(path) for path in _steps(folder)), default=0) if folder.is_dir() else 0


def is_checkpoint(path: Path) -> bool:
    """Return whether this is a checkpoint folder, by name and parent. Quarantined ones do not count."""
    return _STEP.fullmatch(path.name) is not None and path.parent.name in CHECKPOINT_FOLDERS


def newest_checkpoint(path: Path) -> Path | None:
    """Return `path` if it is a checkpoint, the newest in it if it is a run's `checkpoints` or `best`, else None."""
    if is_checkpoint(path):
        return path
    steps = _steps(path) if path.name in CHECKPOINT_FOLDERS else []
    return steps[0] if steps else None


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Convert disk errors of libraries written in Rust to OSError while they write to `path`.

    safetensors raises its own exception, tokenizers raises Exception, and either may panic.
    """
    try:
        yield
    except OSError:
        raise
    except BaseException as error:
        if is_third_party_error(error) and (match := _OS_ERROR.search(describe_exception(error))):
            error_number = int(match[1] or match[2])
            raise OSError(error_number, os.strerror(error_number), str(path)) from error
        raise


def _write_files(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    with disk_errors(folder / TENSORS):
        save_file(_without_shared_memory(tensors), folder / TENSORS)
    atomic.sync(folder / TENSORS)
    atomic.write_and_sync(folder / STATE, json.dumps(state, allow_nan=False).encode())
    files = {name: [(folder / name).stat().st_size, file_sha256(folder / name)] for name in (TENSORS, STATE)}
    atomic.write_and_sync(folder / MANIFEST, _manifest(step, files))
    atomic.sync(folder)


def _publish(unfinished: Path, final: Path) -> None:
    """Rename a finished folder to its final name. A rename cannot replace a folder, so an old one is renamed first."""
    replaced = final.with_name(_REPLACED + final.name)
    if final.exists():
        os.rename(final, replaced)
    os.rename(unfinished, final)
    atomic.sync(final.parent)
    atomic.sync(final.parent.parent)
    if replaced.exists():
        _delete(replaced)


def _clean_up(folder: Path) -> None:
    for path in sorted(folder.glob(f"{_REPLACED}*")):
        final = path.with_name(path.name.removeprefix(_REPLACED))
        if final.exists():
            _delete(path)
        else:
            os.rename(path, final)
    for path in sorted(folder.glob(f"{_UNFINISHED}*")):
        shutil.rmtree(path)


def _delete(path: Path) -> None:
    """Delete a folder. It is renamed first, so that a half-deleted one is never mistaken for a checkpoint."""
    renamed = path.with_name(f"{_UNFINISHED}{path.name}-{uuid.uuid4().hex[:8]}")
    os.rename(path, renamed)
    shutil.rmtree(renamed)


def checkpoint_problem(path: Path) -> str | None:
    """Describe why a checkpoint is damaged, or return None. Reads all its files."""
    try:
        content = bounded_read.read_bytes(path / MANIFEST)
        manifest = json.loads(content)
        files = manifest["files"]
        if manifest["format"] != FORMAT:
            return f"format {manifest['format']}, this Harken reads {FORMAT}"
        # Comparing with a rewritten manifest also detects any changed byte in it.
        if content != _manifest(_step_number(path), files) or set(files) != {TENSORS, STATE}:
            return f"{MANIFEST} was changed"
        for name, (size, sha256) in files.items():
            if (path / name).stat().st_size != size:
                return f"{name} has the wrong size"
            if file_sha256(path / name) != sha256:
                return f"{name} has the wrong sha256"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (IsADirectoryError, NotADirectoryError):
        return "it is not a folder of files"
    except OSError as error:
        if error.errno not in (errno.EOVERFLOW, errno.ENXIO):
            raise
        return f"{Path(error.filename).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{MANIFEST} is not readable"
    return None


def _read(path: Path) -> Checkpoint | str:
    """Read a checkpoint, or describe why it cannot be read: checksums may match files that were wrong when saved."""
    try:
        state = json.loads(bounded_read.read_bytes(path / STATE, bounded_read.MAX_LINES))
        tensors = load_file(path / TENSORS)
    except SafetensorError as error:
        return f"{TENSORS} is not readable: {error}"
    except (ValueError, RecursionError):
        return f"{STATE} is not JSON"
    return (
        Checkpoint(_step_number(path), tensors, state)
        if isinstance(state, dict)
        else f"{STATE} is not a JSON object"
    )


def _manifest(step: int, files: Mapping[str, list[Any]]) -> bytes:
    return json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1).encode()


def _quarantine(path: Path) -> Path:
    folder = path.parent / "quarantine"
    folder.mkdir(exist_ok=True)
    target, count = folder / path.name, 1
    while target.exists():
        count += 1
        target = folder / f"{path.name}-{count}"
    os.rename(path, target)
    atomic.sync(folder)
    atomic.sync(path.parent)
    return target


def _steps(folder: Path) -> list[Path]:
    """List checkpoint folders, newest first."""
    return sorted((p for p in folder.iterdir() if _STEP.fullmatch(p.name)), key=_step_number, reverse=True)


def _step_number(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _without_shared_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous CPU tensors that share no memory. Clones only where needed."""
    separate: dict[str, Tensor] = {}
    addresses: set[int] = set()
    for name, tensor in tensors.items():
        contiguous = tensor.detach().to("cpu").contiguous()
        address = contiguous.untyped_storage().data_ptr()
        separate[name] = contiguous.clone() if address in addresses else contiguous
        addresses.add(address)
    return separate


def _require_json(value: Any, where: str) -> None:
    """Raise ValueError, naming the key, for a value that JSON would change or reject."""
    if isinstance(value, torch.Tensor):
        raise ValueError(f"{where} is a tensor: save it among the tensors")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}: only finite numbers are saved")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}: JSON keys are text")
            _require_json(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _require_json(item, f"{where}[{index}]")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(f"{where} is of type {type(value).__name__}, which JSON does not have")
