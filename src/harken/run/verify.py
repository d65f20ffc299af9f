"""Verify all checksums and checkpoints under a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harken.errors import UserError
from harken.run import checkpoint, checksums
from harken.run.terminal import Counter, counter


@dataclass(frozen=True, slots=True)
class Verified:
    """The result for one folder: a summary, and one line per damaged or missing file."""

    folder: Path
    summary: str
    problems: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the summary line and one line per problem."""
        return [f"{self.folder}: {self.summary}", *(f"  {text}" for text in self.problems)]


def verify(root: Path) -> list[Verified]:
    """Verify every folder with checksums and every checkpoint under `root`, sorted by name. Reads all their files.

    Raises UserError if there are neither checksums nor checkpoints.
    """
    checksums_of: dict[Path, dict[str, str] | UserError] = {}
    checkpoints = []
    for folder in sorted([root, *(path for path in root.rglob("*") if path.is_dir())]):
        try:
            if (sums := checksums.read_checksums(folder)) is not None:
                checksums_of[folder] = sums
        except UserError as error:
            checksums_of[folder] = error
        if checkpoint.is_checkpoint(folder.absolute()):
            checkpoints.append(folder)
    if not checksums_of and not checkpoints:
        raise UserError(
            "neither checksums nor checkpoints are here",
            where=str(root),
            fix="name a finished run or its final/, an evaluation or a pipeline",
        )
    files = sum(len(sums) for sums in checksums_of.values() if not isinstance(sums, UserError))
    with counter("verifying", files + len(checkpoints)) as count:
        results = [_verify_folder(folder, sums, count) for folder, sums in checksums_of.items()]
        results += [_verify_checkpoint(folder, count) for folder in checkpoints]
    return sorted(results, key=lambda result: result.folder)


def _verify_folder(folder: Path, sums: dict[str, str] | UserError, count: Counter) -> Verified:
    if isinstance(sums, UserError):
        return Verified(folder, "cannot be verified", (f"{checksums.CHECKSUMS} {sums.what}",))
    problems = []
    for name, sha256 in sums.items():
        if (wrong := checksums.file_problem(folder / name, sha256)) is not None:
            problems.append(f"{name} {wrong}")
        count.update(1)
    return Verified(folder, f"{len(sums) - len(problems)} of {len(sums)} files intact", tuple(problems))


def _verify_checkpoint(folder: Path, count: Counter) -> Verified:
    wrong = checkpoint.checkpoint_problem(folder.absolute())
    count.update(1)
    if wrong is None:
        return Verified(folder, "checkpoint intact")
    return Verified(folder, "checkpoint damaged: a resumed run skips it", (wrong,))
