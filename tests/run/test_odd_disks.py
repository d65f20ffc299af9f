"""Clocks that go backwards, folders that may not be written or read, locks that others hold."""

from __future__ import annotations

import builtins
import errno
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from tiny import save_tiny

from harken.cli.main import main
from harken.run import checksums
from harken.run.lock import LOCK, OWNER

RUN = """
model_name: {root}/model
dtype: float32
tensorboard: false
data: {{path: {root}/rows.jsonl, max_length: 96, eval_fraction: 0.2}}
lora: {{rank: 2}}
training: {{type: sft, max_steps: 3, batch_size: 2, eval_every: 1}}
checkpoints: {{every: 1, minutes: 0.001}}
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A small run, into `out`."""
    save_tiny(tmp_path / "model", hidden=16, layers=1)
    rows = [{"prompt": f"Number {i}?", "completion": f"It is {i}."} for i in range(10)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run.yml").write_text(RUN.format(root=tmp_path))
    return ["train", "--preset", str(tmp_path / "run.yml"), "--output-dir", str(tmp_path / "out")]


def test_a_clock_that_goes_backwards_changes_nothing_but_seconds(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command) == 0
    expected = steps(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "before")
    now = time.time_ns()
    hours = itertools.count()
    monkeypatch.setattr(time, "time_ns", lambda: now - next(hours) * 3600 * 10**9)
    monkeypatch.setattr(time, "time", lambda: now / 1e9 - next(hours) * 3600)
    assert main(command) == 0
    assert steps(tmp_path / "out") == expected
    assert main(command) == 0
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_a_file_of_the_future_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    far = time.time_ns() + 10**18
    os.utime(path, ns=(far, far))
    first = checksums.file_sha256(path)
    path.write_text("two")
    os.utime(path, ns=(far, far))
    assert checksums.file_sha256(path) != first


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_that_may_not_be_written_is_one_line(
    command: list[str],
    tmp_path: Path,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "out")
    refuse(monkeypatch, out, number, writing=True)
    assert main(command) == 2
    problem = capsys.readouterr().err.strip().splitlines()[-1]
    assert out in problem and os.strerror(number) in problem and "change the permissions" in problem


@pytest.mark.parametrize(
    "name", ["rows.jsonl", "model/config.json", "run.yml", "out/config.yml", "out/manifest.json"]
)
def test_a_file_that_may_not_be_read_is_one_line(
    command: list[str],
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name.startswith("out/"):
        assert main(command) == 0
    capsys.readouterr()
    refuse(monkeypatch, str(tmp_path / name), errno.EACCES, writing=False)
    assert main(command) == 2
    message = capsys.readouterr().err
    assert str(tmp_path / name) in message.splitlines()[-1] and "Permission denied" in message


def test_the_lock_of_another_host_is_reported_with_its_name(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / OWNER).write_text(
        json.dumps({"pid": 7, "host": "elsewhere", "since": "2020-01-01T00:00:00+00:00"})
    )
    lock = FileLock(out / LOCK)
    with lock:
        assert main(command) == 2
        assert (
            "process 7 on elsewhere (since 2020-01-01T00:00:00+00:00) is writing here"
            in capsys.readouterr().err
        )
        assert (out / OWNER).exists()
    assert main(command) == 0  # what a process of another host left behind holds nobody up
    assert not (out / OWNER).exists()


def refuse(monkeypatch: pytest.MonkeyPatch, under: str, number: int, *, writing: bool) -> None:
    """Let the system refuse to write (or to read) anything under a path, as it does for users other than root."""

    def denied(path: Any) -> bool:
        name = os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
        return name == under or name.startswith(under + os.sep)

    def guard(holder: Any, name: str) -> None:
        original = getattr(holder, name)

        def called(path: Any, *given: Any, **named: Any) -> Any:
            if denied(path) and _writes(name, given, named) == writing:
                raise OSError(number, os.strerror(number), os.fsdecode(path))
            return original(path, *given, **named)

        monkeypatch.setattr(holder, name, called)

    for holder, name in ((os, "open"), (os, "mkdir"), (builtins, "open"), (os, "scandir")):
        guard(holder, name)
    import io

    guard(io, "open")


def _writes(name: str, given: tuple[Any, ...], named: dict[str, Any]) -> bool:
    if name == "mkdir":
        return True
    mode = given[0] if given else named.get("mode", named.get("flags", "r"))
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(mode & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def steps(run: Path) -> list[dict[str, Any]]:
    """The metrics without what measures time."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if "second" not in k and not k.startswith("time/")}
        for line in lines
    ]
