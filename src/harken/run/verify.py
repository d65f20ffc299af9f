"""Every sealed folder and every checkpoint under a folder, read again and compared with its sums."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harken.errors import UserError
from harken.run import checkpoint, checksums
from harken.run.terminal import Counter, counter


@dataclass(frozen=True, slots=True)
class Verified:
    """A folder: what was found of it, and one line for each file that is damaged or missing."""

    folder: Path
    summary: str
    problems: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """A line, and one more for each problem."""
        return [f"{self.folder}: {self.summary}", *(f"  {text}" for text in self.problems)]


def verify(root: Path) -> list[Verified]:
    """Every sealed folder and checkpoint under `root`, by name. All their files are read.

    Raises UserError when there is nothing to compare with.
    """
    sealed: dict[Path, dict[str, str] | UserError] = {}
    checkpoints = []
    for folder in sorted([root, *(path for path in root.rglob("*") if path.is_dir())]):
        try:
            if (sums := checksums.read_checksums(folder)) is not None:
                sealed[folder] = sums
        except UserError as error:
            sealed[folder] = error
        if checkpoint.is_checkpoint(folder.absolute()):
            checkpoints.append(folder)
    if not sealed and not checkpoints:
        raise UserError(
            "nothing here is sealed, and no checkpoint is kept",
            where=str(root),
            fix="Name a finished run or its final, an evaluation or a pipeline",
        )
    files = sum(len(sums) for sums in sealed.values() if not isinstance(sums, UserError))
    with counter("verifying", files + len(checkpoints)) as count:
        found = [_verify_folder(folder, sums, count) for folder, sums in sealed.items()]
        found += [_verify_checkpoint(folder, count) for folder in checkpoints]
    return sorted(found, key=lambda one: one.folder)


def _verify_folder(folder: Path, sums: dict[str, str] | UserError, count: Counter) -> Verified:
    if isinstance(sums, UserError):
        return Verified(folder, "nothing in it can be checked", (f"{checksums.CHECKSUMS} {sums.what}",))
    problems = []
    for name, sha256 in sums.items():
        if (wrong := checksums.file_problem(folder / name, sha256)) is not None:
            problems.append(f"{name} {wrong}")
        count.update(1)
    return Verified(folder, f"{len(sums) - len(problems)} of {len(sums)} files whole", tuple(problems))


def _verify_checkpoint(folder: Path, count: Counter) -> Verified:
    wrong = checkpoint.checkpoint_problem(folder.absolute())
    count.update(1)
    if wrong is None:
        return Verified(folder, "checkpoint whole")
    return Verified(folder, "checkpoint damaged: a run passes it over", (wrong,))
