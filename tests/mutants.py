"""Plants known mistakes in a copy of the source; the tests must turn red for each.

    python tests/mutants.py            all of them
    python tests/mutants.py gae kl     those whose name or file holds one of the words

A mistake counts as caught when a test fails (pytest's exit code 1). A copy that cannot be imported or
collected, or that runs out of time, does not count. The tables are in the files mutants_*.py; places are found by
syntax (planting.py), so renamed locals and new layout change nothing. `python tests/follow_rename.py check` says which
no longer fit.
"""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutants_chat import CHAT
from mutants_coverage import COVERAGE
from mutants_doctor import DOCTOR
from mutants_found import FOUND
from mutants_gpu import GPU
from mutants_guard import GUARD
from mutants_health import HEALTH
from mutants_input import INPUT
from mutants_inspect import INSPECT
from mutants_kill import KILL
from mutants_maths import MATHS
from mutants_memory import MEMORY
from mutants_pipeline import PIPELINE
from mutants_products import PRODUCTS
from mutants_properties import PROPERTIES
from mutants_quantised import QUANTISED
from mutants_record import Mutant
from mutants_report import REPORT
from mutants_rewards import REWARDS
from mutants_rollout import ROLLOUT
from mutants_seals import SEALS
from mutants_sweep import SWEEP
from mutants_theory import THEORY
from planting import DoesNotFit, change

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "harken"
MUTANTS = [
    *MATHS,
    *ROLLOUT,
    *PIPELINE,
    *REWARDS,
    *REPORT,
    *PROPERTIES,
    *INSPECT,
    *HEALTH,
    *THEORY,
    *SWEEP,
    *DOCTOR,
    *MEMORY,
    *GPU,
    *GUARD,
    *SEALS,
    *INPUT,
    *KILL,
    *PRODUCTS,
    *QUANTISED,
    *COVERAGE,
    *CHAT,
    *FOUND,
]
AT_ONCE = 2
SECONDS = 120


def plant(mutant: Mutant) -> str:
    """Return the text of the mutated file. Raises DoesNotFit when the place is not there exactly once."""
    where, colon, old = mutant.old.partition(": ")
    if not colon:
        raise DoesNotFit(f"{mutant.name}: {mutant.old!r} names no place (`function: pattern`)")
    path = SOURCE / mutant.file
    if not path.exists():
        raise DoesNotFit(f"{mutant.name}: there is no {mutant.file}")
    try:
        return change(path.read_text(), where, old, mutant.new)
    except DoesNotFit as error:
        raise DoesNotFit(f"{mutant.name}: {mutant.file}: {error}") from None


def fault(mutant: Mutant) -> str | None:
    """Return why a mistake cannot be planted any more; None when it can."""
    try:
        ast.parse(plant(mutant))
    except (DoesNotFit, SyntaxError) as error:
        return str(error)
    return None


def run(folder: Path, tests: list[str], seconds: int) -> tuple[int | None, str]:
    """Pytest's exit code (None: out of time) and output, with `folder` in place of src."""
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
    }
    where = "import harken; print(harken.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    if Path(found) != folder / "harken" / "__init__.py":
        raise RuntimeError(f"the tests would run on {found}, not on the copy in {folder}")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *(f"tests/{test}" for test in tests)],
            env=environment, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout + done.stderr


def with_copy(file: str | None, text: str, tests: list[str], seconds: int) -> tuple[int | None, str]:
    """Run `tests` on a fresh copy of the source in which `file` holds `text`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        shutil.copytree(SOURCE, folder / "harken", ignore=shutil.ignore_patterns("__pycache__"))
        if file:
            (folder / "harken" / file).write_text(text)
        return run(folder, tests, seconds)


def verdict(mutant: Mutant) -> bool:
    """Plant one mistake, run its tests, print a line; True when it was caught."""
    code, output = with_copy(mutant.file, plant(mutant), mutant.tests.split(), SECONDS)
    failed = next((line for line in output.splitlines() if line.startswith("FAILED ")), "")
    caught = code == 1 and bool(failed)
    seen = failed.removeprefix("FAILED tests/").split(" - ")[0] if caught else f"pytest ended with {code}"
    print(f"{'caught' if caught else 'MISSED'}  {mutant.name}  ({mutant.file})  {seen}", flush=True)
    return caught


def main(words: list[str]) -> int:
    """Check the table, the unmutated baseline, then every mistake. 0 when all were caught."""
    chosen = [m for m in MUTANTS if not words or any(word in f"{m.name} {m.file}" for word in words)]
    if not chosen:
        print(f"no mutant holds {' or '.join(words)}")
        return 1
    faults = [told for mutant in chosen if (told := fault(mutant)) is not None]
    if faults:  # a table that no longer fits the source is told before anything runs
        print("\n".join(faults), f"{len(faults)} of {len(chosen)} cannot be planted", sep="\n")
        return 1
    tests = sorted({test for mutant in chosen for test in mutant.tests.split()})
    code, output = with_copy(None, "", tests, SECONDS * 5)
    if code != 0:
        print(output, "the tests do not pass without a mistake", sep="\n")
        return 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        caught = sum(pool.map(verdict, chosen))
    print(f"planted {len(chosen)}, caught {caught}")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
