"""What a process does to a folder on disk, one operation after the other, and its end at one of them.

`watch` counts the operations of this process under a folder. At number `kill_at` the process ends by SIGKILL, before
that operation; from number `full_at` on, `FULL` operations find the disk full. With `power` it is the machine that
ends: what was not flushed may be lost, as a random number says.

    a file written and not synced        →  as it is, cut in half, or empty
    a new name, a rename, a removal      →  undone, the newest first, from a random one on, unless its folder was synced
"""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


FULL = 3
"""Operations that a full disk refuses before somebody has made room."""
_NUMBERS = re.compile(r"[0-9a-f]{8,}|\d+")
NEEDS_ROOM = ("open", "mkdir", "fsync", "rename", "written")


@dataclass
class _Name:
    """A change of a name that its folder does not know for good yet."""

    folder: str
    undo: Callable[[], object]


class Disk:
    """The operations of this process under `folder`. `attic` is a folder beside it that keeps what is replaced."""

    def __init__(
        self, folder: Path, attic: Path, kill_at: int | None, power: int | None, full_at: int | None,
        number: int = signal.SIGKILL, tell: Callable[[str], object] = bool,
    ) -> None:  # fmt: skip
        self.folder, self.attic, self.kill_at, self.full_at = str(folder), attic, kill_at, full_at
        self.number, self.tell = number, tell
        self.count = 0
        self.moments: list[str] = []
        """The kinds of the operations so far: what is done to which file, without the numbers in its name."""
        self.random = random.Random(power) if power is not None else None
        self.unsynced: dict[str, int] = {}
        """Files written and not flushed, with the size that is known to be on the disk."""
        self.names: list[_Name] = []
        self.busy = False

    def happens(self, what: str, *paths: str) -> bool:
        """Before an operation. False: none of our business."""
        if self.busy or not any(path.startswith(self.folder) for path in paths):
            return False
        self.count += 1
        moment = f"{what} {_NUMBERS.sub('N', os.path.relpath(paths[-1], self.folder))}"
        self.moments.append(moment)
        if self.count == self.kill_at:
            self.busy = self.number == signal.SIGKILL
            self.tell(moment)
            if self.random is not None:
                self._lose(self.random)
            os.kill(os.getpid(), self.number)
        full = self.full_at is not None and self.full_at <= self.count < self.full_at + FULL
        if full and what in NEEDS_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), paths[0])
        return self.random is not None

    # -- what a power cut needs to know -----------------------------------------------------------

    def written(self, path: str, anew: bool) -> None:
        """A file is opened to be written, anew or from its end on."""
        there = os.path.exists(path)
        if not there:
            self._named(path, lambda: Path(path).unlink(missing_ok=True))
        self.unsynced.setdefault(path, os.path.getsize(path) if there and not anew else 0)

    def synced(self, path: str) -> None:
        """A file's content, or a folder's names, are on the disk."""
        if os.path.isdir(path):
            self.names = [name for name in self.names if name.folder != path]
        else:
            self.unsynced.pop(path, None)

    def renamed(self, old: str, new: str) -> None:
        """A rename is about to happen."""
        kept = self._keep(new)

        def undo() -> None:
            if os.path.exists(new):
                os.rename(new, old)
            if kept:
                os.rename(kept, new)

        self._named(new, undo)
        moved = {p: n for p, n in self.unsynced.items() if p == old or p.startswith(old + os.sep)}
        for path, size in moved.items():
            del self.unsynced[path]
            self.unsynced[new + path[len(old) :]] = size

    def removed(self, path: str) -> None:
        """A file is about to go."""
        self.unsynced.pop(path, None)
        if (kept := self._keep(path)) is not None:
            self._named(path, lambda: os.path.isdir(os.path.dirname(path)) and os.rename(kept, path))

    def made(self, path: str) -> None:
        """A folder is about to be made."""
        if not os.path.isdir(path):
            self._named(path, lambda: shutil.rmtree(path, ignore_errors=True))

    def _named(self, path: str, undo: Callable[[], object]) -> None:
        self.names.append(_Name(os.path.dirname(path), undo))

    def _keep(self, path: str) -> str | None:
        """A second name for a file that is about to lose its own."""
        if not os.path.isfile(path):
            return None
        self.busy = True
        self.attic.mkdir(parents=True, exist_ok=True)
        kept = str(self.attic / f"{self.count}")
        os.link(path, kept)
        self.busy = False
        return kept

    def _lose(self, chance: random.Random) -> None:
        for path in sorted(self.unsynced):
            if os.path.isfile(path):
                share, safe = chance.choice((1.0, 0.5, 0.0)), self.unsynced[path]
                os.truncate(path, safe + int((os.path.getsize(path) - safe) * share))
        from_here = chance.randint(0, len(self.names))
        for name in reversed(self.names[from_here:]):
            name.undo()


def watch(
    folder: Path,
    attic: Path,
    kill_at: int | None = None,
    power: int | None = None,
    full_at: int | None = None,
    number: int = signal.SIGKILL,
    tell: Callable[[str], object] = bool,
) -> Disk:
    """Count, and end at, the operations of this process from now on. There is no way back: for a child.

    `number`: of the signal that is sent at operation `kill_at`; `tell` gets the kind of that operation before.
    """
    disk = Disk(folder, attic, kill_at, power, full_at, number, tell)
    events: dict[str, Callable[..., object]] = {
        "os.rename": lambda old, new, *_: (
            disk.happens("rename", _text(old), _text(new)) and disk.renamed(_text(old), _text(new))
        ),
        "os.remove": lambda path, *_: disk.happens("remove", _text(path)) and disk.removed(_text(path)),
        "os.mkdir": lambda path, *_: disk.happens("mkdir", _text(path)) and disk.made(_text(path)),
        "os.rmdir": lambda path, *_: disk.happens("rmdir", _text(path)),
        "os.truncate": lambda path, *_: disk.happens("truncate", _text(path)),
    }

    def opened(path: Any, mode: Any, flags: int) -> None:
        if isinstance(path, str | bytes | os.PathLike) and flags & _WRITING:
            name = _text(path)
            if disk.happens("open", name):
                disk.written(name, bool(flags & os.O_TRUNC))

    events["open"] = opened

    def hear(event: str, given: tuple[Any, ...]) -> None:
        if event in events and not disk.busy:
            events[event](*given)

    sys.addaudithook(hear)
    flush = os.fsync

    def fsync(number: int) -> None:
        path = os.readlink(f"/proc/self/fd/{number}")
        tracked = disk.happens("fsync", path)
        flush(number)
        if tracked:
            disk.synced(path)

    os.fsync = fsync
    _watch_safetensors(disk)
    return disk


def _watch_safetensors(disk: Disk) -> None:
    """Its files are written by Rust, which no audit hook sees."""
    import harken.models.roles as roles
    import harken.models.save as models
    import harken.run.checkpoint as checkpoint
    import harken.train.ppo.stage as ppo

    for module in (models, roles, checkpoint, ppo):
        save = module.save_file

        def saved(tensors: Any, path: Any, *rest: Any, save: Any = save) -> None:
            if disk.happens("open", _text(path)):
                disk.written(_text(path), True)
            save(tensors, path, *rest)
            disk.happens("written", _text(path))

        module.save_file = saved  # type: ignore[attr-defined]


def _text(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
