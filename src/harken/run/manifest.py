"""Write and read manifest.json: versions, lineage and hashes of a run. Compare configurations and redact secrets."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import Field

import harken
from harken.errors import UserError
from harken.run import atomic, bounded_read, checksums, json_io
from harken.run.folder import RunFolder
from harken.run.hardware import describe_hardware

PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy", "pyarrow")
REDACTED = "[redacted]"
FROZEN_CHANGED = "frozen_weights_moved"
"""Key of a manifest and a status that lists components whose frozen weights changed."""
FIX = "restore or delete it"

# `pad_token` and `kl_per_token` are not secrets, so "_token" counts only after a word that makes it a secret.
_SECRET_NAME = re.compile(
    r"(?:^|[.-])token$"
    r"|(?:^|[._-])(?:auth|authorization|bearer|credentials?|passw(?:or)?d|passphrase|secret)$"
    r"|(?:^|[._-])(?:hf|hub|wandb|github|auth|access|api|bearer|refresh|session|secret)[_-]?token$"
    r"|(?:^|[._-])(?:wandb|auth|access|api|private|session|secret)[_-]?key(?:[_-]id)?$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"hf_[A-Za-z0-9]{30,}|gh[opsur]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}"
    r"|(?:sk|pk|rk)-(?=[\w-]*\d)[\w-]{20,}|pypi-AgE[\w-]{16,}|xox[abprs]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+)"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
    r"|(?<=://)(?=[^/\s@]*\d)[^/\s:@]{16,}(?=@)"
    r"|(?i:(?<=bearer )[\w.~+/=-]{8,})"
    r"|(?i:(?<=authorization: basic )[A-Za-z0-9+/]{4,}={0,2})"
    r"|(?<=[Bb]asic )[A-Za-z0-9+/]{8,}={1,2}"
)
_SECRET_PARAMETER = re.compile(
    r"([?&;](?:[\w.-]*(?:token|signature|credential|secret|passw(?:or)?d|api[_-]?key|access[_-]?key(?:id)?)"
    r"|sig|auth|authorization|pwd|key)=)[^&#;\s\"'<>]+",
    re.IGNORECASE,
)
"""A URL parameter that authorises its holder, as in signed download links."""


def created_at(run: RunFolder) -> datetime:
    """Return when the run was created: from its manifest, or else now (or SOURCE_DATE_EPOCH)."""
    text = read_manifest(run.manifest)["created"] if run.manifest.exists() else current_time()
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise UserError(f"created: {text!r} is not a time", where=str(run.manifest), fix=FIX) from None


def write_manifest(
    run: RunFolder,
    config: dict[str, Any],
    lineage: dict[str, Any],
    extra: dict[str, Any],
    created: datetime | None = None,
) -> None:
    """Write the manifest with the keys of `extra` added and secrets redacted.

    A resumed run keeps its creation time, its accepted changes and its list of changed frozen weights. A new run gets
    `created` (see `created_at`). Raises ValueError if `extra` has a key of the manifest.
    """
    new = created.isoformat(timespec="seconds") if created else current_time()
    previous = read_manifest(run.manifest) if run.manifest.exists() else {"created": new}
    fields = {
        **versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hardware": describe_hardware(),
        "created": previous["created"],
        "command": redact_command(sys.argv),
        "config_sha256": config_sha256(config),
        "lineage": lineage,
    }
    if reserved := fields.keys() & extra.keys():
        raise ValueError(f"extra may not have the keys {sorted(reserved)}")
    if accepted := [*previous.get("changes", []), *extra.get("changes", [])]:
        extra = {**extra, "changes": accepted}
    if previous.get(FROZEN_CHANGED):
        extra = {**extra, FROZEN_CHANGED: previous[FROZEN_CHANGED]}
    atomic.write_json(run.manifest, redact(fields | extra))


def mark_frozen_changed(run: RunFolder, names: Sequence[str]) -> None:
    """Record in the manifest that the frozen weights of these components changed during the run."""
    atomic.write_json(run.manifest, read_manifest(run.manifest) | {FROZEN_CHANGED: list(names)})


def changed_frozen_components(run: RunFolder) -> list[str]:
    """List components whose frozen weights changed during the run, from its manifest; [] without a manifest."""
    names = read_manifest(run.manifest).get(FROZEN_CHANGED, []) if run.manifest.exists() else []
    return [str(name) for name in names] if isinstance(names, list) else []


def versions() -> dict[str, str | None]:
    """Return the versions of Harken and of the libraries that affect its results, and a hash of Harken's source."""
    return {
        "harken": harken.__version__,
        "harken_code": code_sha256(),
        **{name: _version(name) for name in PACKAGES},
    }


def recorded_versions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of `versions()` and Python that a manifest recorded."""
    return {name: manifest[name] for name in (*versions(), "python") if name in manifest}


@cache
def code_sha256() -> str:
    """Hash the names and contents of Harken's source files."""
    root = Path(harken.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest at `path`. Raises UserError if it is missing or damaged."""
    checksums.verify_file(path)
    try:
        manifest = json.loads(bounded_read.read_bytes(path))
    except FileNotFoundError:
        raise UserError("no manifest", where=str(path), fix="name the folder of a run") from None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path), fix=FIX) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"damaged manifest ({error})", where=str(path), fix=FIX) from None
    if not isinstance(manifest, dict) or "created" not in manifest:
        raise UserError("not a manifest of a run", where=str(path), fix=FIX)
    return manifest


class _ModelRecord(json_io.Schema):
    fingerprint: str | None


class _Lineage(_ModelRecord):
    reward_model: _ModelRecord | None = None
    rewards: dict[str, _ModelRecord] = Field(default_factory=dict)
    frozen: dict[str, str] = Field(default_factory=dict)
    """Component → fingerprint of frozen weights in memory."""


class _WithLineage(json_io.Schema):
    lineage: _Lineage


def read_lineage(path: Path) -> dict[str, Any]:
    """Read the lineage from the manifest at `path`. Raises UserError if it has none."""
    manifest = read_manifest(path)
    json_io.validate(manifest, _WithLineage, str(path), FIX)
    lineage: dict[str, Any] = manifest["lineage"]
    return lineage


def find_lineage(path: Path) -> dict[str, Any]:
    """Read the lineage from the manifest at `path`; {} if there is none, or another program wrote the file.

    Raises UserError if the file does not match its checksum.
    """
    if not path.exists():
        return {}
    checksums.verify_file(path)
    try:
        lineage = read_manifest(path).get("lineage")
    except UserError:
        return {}
    return lineage if isinstance(lineage, dict) else {}


def redact(value: Any, name: str = "") -> Any:
    """Return a JSON value with probable secrets redacted, detected by key name or by the form of the text."""
    if isinstance(value, Mapping):
        return {key: redact(item, str(key)) for key, item in value.items()}
    if value is not None and _SECRET_NAME.search(name):
        return REDACTED
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def redact_text(text: str) -> str:
    """Redact probable secrets in a text: tokens, passwords in URLs, keys of signed URLs."""
    return _SECRET_PARAMETER.sub(rf"\1{REDACTED}", _SECRET_VALUE.sub(REDACTED, text))


def redact_command(words: Sequence[str]) -> list[str]:
    """Redact secrets in a command line, including those after ``--token`` and in ``a.b.token=…``."""
    redacted: list[str] = []
    option = ""
    for word in words:
        name, equals, _ = word.partition("=")
        if equals and _SECRET_NAME.search(name):
            redacted.append(name + equals + REDACTED)
        else:
            redacted.append(str(redact(word, option)))
        option = word if word.startswith("-") and not equals else ""
    return redacted


def config_sha256(config: Mapping[str, Any]) -> str:
    """Compute the sha256 of a configuration, independent of key order. Raises ValueError on NaN."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def config_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one line per value that differs: ``training.lr: 1e-06 → 2e-06``."""
    before, after = flatten_config(old), flatten_config(new)
    return [
        f"{key}: {_format(before, key)} → {_format(after, key)}"
        for key in dict.fromkeys([*before, *after])
        if not (key in before and key in after and _same(before[key], after[key]))
    ]


def fingerprint_folder(folder: Path) -> str:
    """Compute the sha256 over names and contents of the *.safetensors files directly in `folder`, sorted by name.

    Raises UserError if there is no such file.
    """
    files = sorted(folder.glob("*.safetensors"), key=lambda path: path.name)
    if not files:
        raise UserError(
            "no *.safetensors weights in this folder", where=str(folder), fix="name a folder of a model"
        )
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{checksums.file_sha256(path)}\n".encode())
    return digest.hexdigest()


def current_time() -> str:
    """Return the current time, or SOURCE_DATE_EPOCH, as ISO 8601 in UTC. Raises UserError if that is not a time."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        moment = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError):
        raise UserError(
            f"{epoch!r} is not a time",
            where="SOURCE_DATE_EPOCH",
            fix="set it to whole seconds since 1970, or unset it",
        ) from None
    return moment.isoformat(timespec="seconds")


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def flatten_config(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return dotted key → value of a nested configuration."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{above}{key}"
        flat |= flatten_config(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return flat


def _same(old: Any, new: Any) -> bool:
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


def _format(flat: Mapping[str, Any], key: str) -> str:
    if key not in flat:
        return "(absent)"
    return json.dumps(redact(flat[key], key), ensure_ascii=False, default=str)
