"""One writer a folder, and room for what it writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from harken.errors import UserError
from harken.run import lock
from harken.run.lock import require_disk_space, write_lock

HOLD = "import sys, time\nfrom pathlib import Path\nfrom harken.run.lock import write_lock\n" + (
    "with write_lock(Path(sys.argv[1])):\n    print('in', flush=True)\n    time.sleep(60)\n"
)


def test_a_second_writer_gets_the_first_ones_process_and_a_killed_one_does_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"in\n"
    with (
        pytest.raises(UserError, match=f"process {other.pid} on .* is writing here") as caught,
        write_lock(folder),
    ):
        pass
    assert str(folder) in str(caught.value) and "--output-dir" in str(caught.value)
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with write_lock(folder):
        pass
    assert [path.name for path in folder.iterdir()] == [lock.LOCK]


def test_the_owner_that_has_not_written_its_name_yet_is_another_process(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"in\n"
    (tmp_path / lock.OWNER).write_text("{")
    with pytest.raises(UserError, match="another process is writing here"), write_lock(tmp_path):
        pass
    other.kill()
    other.wait()


def test_an_error_inside_lets_the_folder_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Kept here, a lock is not let go merely because nobody remembers it.
    locks: list[FileLock] = []
    monkeypatch.setattr(lock, "FileLock", lambda path: locks.append(FileLock(path)) or locks[-1])
    with pytest.raises(ZeroDivisionError), write_lock(tmp_path):
        raise ZeroDivisionError
    began = time.monotonic()
    with write_lock(tmp_path):
        pass
    assert time.monotonic() - began < 1
    assert not any(lock.is_locked for lock in locks)


def test_locks_that_are_not_to_be_had_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class NoLock:
        def __init__(self, path: Path) -> None: ...

        def acquire(self, blocking: bool) -> None:
            raise NotImplementedError

        def release(self) -> None: ...

    monkeypatch.setattr(lock, "FileLock", NoLock)
    with write_lock(tmp_path):
        pass
    assert "without locks" in capsys.readouterr().err


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    require_disk_space(tmp_path, 1, "two checkpoints")
    with pytest.raises(UserError, match=r"GB are free, and two checkpoints will take 1000000.00 GB"):
        require_disk_space(tmp_path, 10**15, "two checkpoints")
