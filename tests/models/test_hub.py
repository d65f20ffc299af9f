"""Hub names: what is asked for, and what a user reads when the hub says no."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from harken.errors import UserError
from harken.models import hub

SHIPPED = [
    "config.json",
    "generation_config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "merges.txt",
    "chat_template.jinja",
]
LEFT = [
    "pytorch_model.bin",
    "consolidated.safetensors",
    "original/consolidated.00.pth",
    "onnx/model.onnx",
    "onnx/config.json",
    "modeling_odd.py",
    "README.md",
    "model.gguf",
]


def test_only_safetensors_settings_and_tokenizer_are_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}

    def fake(name: str, **arguments: Any) -> str:
        asked.update(arguments, name=name)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", fake)
    assert hub.hub_folder("org/name") == tmp_path
    assert asked.pop("name") == "org/name"
    assert sorted(filter_repo_objects(SHIPPED + LEFT, **asked)) == sorted(SHIPPED)


def test_switched_off_and_not_in_its_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real library, offline as all tests are."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(
        UserError, match=r"^org/no-such-model-here: the hub cannot be reached.*HF_HUB_OFFLINE"
    ):
        hub.hub_folder("org/no-such-model-here")


def bare(kind: type[Exception], text: str) -> Exception:
    """The error without the web response its constructor wants."""
    error = kind.__new__(kind)
    error.args = (text,)
    return error


@pytest.mark.parametrize(
    ("kind", "reads"),
    [
        (GatedRepoError, r"org/name: this model is gated\. .*hf auth login"),
        (RepositoryNotFoundError, r"org/name: the hub has no such model.*check the name"),
        (HFValidationError, r"org/name: is not a hub name \(HFValidationError: odd\).*org/name"),
        (LocalEntryNotFoundError, r"org/name: the hub cannot be reached"),
        (HfHubHTTPError, r"org/name: the download failed \(HfHubHTTPError: odd\).*the download resumes"),
    ],
)
def test_each_refusal_has_its_own_line(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception], reads: str
) -> None:
    def failing(*_: object, **__: object) -> NoReturn:
        raise bare(kind, "odd")

    refuse: Callable[..., NoReturn] = failing
    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match=reads):
        hub.hub_folder("org/name")
