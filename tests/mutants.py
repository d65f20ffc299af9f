"""Plants known mistakes in a copy of the source; the tests must turn red for each.

    python tests/mutants.py            all of them
    python tests/mutants.py gae kl     those whose name or file holds one of the words

A mistake counts as caught when a test or its fixture fails (pytest's exit code 1). A copy that cannot be imported or
collected, or that runs out of time, does not count. The tables are in the files mutants_*.py; places are found by
syntax (planting.py), so renamed locals and new layout change nothing. `python tests/follow_rename.py check` says which
no longer fit.
"""

import ast
import os
import shutil
import sys
from functools import partial
from pathlib import Path

from forked import Job, preload, run_jobs
from mutant import Mutant
from mutants_api import API
from mutants_audit import AUDITED
from mutants_card import CARD
from mutants_chat import CHAT
from mutants_checksums import CHECKSUMS
from mutants_coverage import COVERAGE
from mutants_doctor import DOCTOR
from mutants_dpo import DPO
from mutants_evaluation import EVALUATION
from mutants_generation import GENERATION
from mutants_gpu import GPU
from mutants_group_methods import GROUP_METHODS
from mutants_health import HEALTH
from mutants_input import INPUT
from mutants_inspect import INSPECT
from mutants_judges import CONSTITUTIONAL, JUDGES_OF_PAIRS
from mutants_kill import KILL
from mutants_maths import MATHS
from mutants_matmul_dtype import MATMUL_DTYPE
from mutants_memory import MEMORY
from mutants_metrics import METRICS
from mutants_models import MODELS
from mutants_nonfinite import NONFINITE
from mutants_people import PEOPLE
from mutants_pipeline import PIPELINE
from mutants_properties import PROPERTIES
from mutants_quantised import QUANTISED
from mutants_recipe import RECIPE
from mutants_report import REPORT
from mutants_review import REVIEW
from mutants_rewards import REWARDS
from mutants_rollout import ROLLOUT
from mutants_stages import STAGES
from mutants_statistics import STATISTICS
from mutants_sweep import SWEEP
from mutants_sycophancy import SYCOPHANCY
from mutants_theory import THEORY
from planting import DoesNotFit, change

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "harken"
MUTANTS = [
    *MATHS,
    *GROUP_METHODS,
    *API,
    *ROLLOUT,
    *PIPELINE,
    *REWARDS,
    *SYCOPHANCY,
    *RECIPE,
    *REPORT,
    *PROPERTIES,
    *INSPECT,
    *HEALTH,
    *THEORY,
    *SWEEP,
    *STATISTICS,
    *DOCTOR,
    *MEMORY,
    *METRICS,
    *GPU,
    *NONFINITE,
    *CHECKSUMS,
    *INPUT,
    *KILL,
    *MATMUL_DTYPE,
    *QUANTISED,
    *COVERAGE,
    *CHAT,
    *AUDITED,
    *MODELS,
    *CARD,
    *EVALUATION,
    *GENERATION,
    *DPO,
    *STAGES,
    *REVIEW,
    *JUDGES_OF_PAIRS,
    *CONSTITUTIONAL,
    *PEOPLE,
]
AT_ONCE = 2
SECONDS = 300


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


def misfit(mutant: Mutant) -> str | None:
    """Return why a mistake cannot be planted any more; None when it can."""
    try:
        ast.parse(plant(mutant))
    except (DoesNotFit, SyntaxError) as error:
        return str(error)
    return None


def write_source(file: str | None, text: str, folder: Path) -> None:
    """Copy the package into `folder`, with `text` in place of one of its files."""
    shutil.copytree(SOURCE, folder / "harken", ignore=shutil.ignore_patterns("__pycache__"))
    if file:
        (folder / "harken" / file).write_text(text)


def job_of(mutant: Mutant) -> Job:
    """Return the run of the mutant's tests on a copy that holds its mistake."""
    source = partial(write_source, mutant.file, plant(mutant))
    return Job(mutant.tests.split(), source, SECONDS, subject=mutant)


def was_caught(job: Job) -> bool:
    """Print a line on one mutant; True when a test failed."""
    mutant = job.subject
    failed = next((line for line in job.output.splitlines() if line.startswith(("FAILED ", "ERROR "))), "")
    caught = job.code == 1 and bool(failed)
    seen = failed.partition(" tests/")[2].split(" - ")[0] if caught else f"pytest ended with {job.code}"
    print(f"{'caught' if caught else 'MISSED'}  {mutant.name}  ({mutant.file})  {seen}", flush=True)
    return caught


def failures_without_mistakes(chosen: list[Mutant]) -> list[Job]:
    """Run the tests on the source as it is; return the runs that did not pass."""
    failed: list[Job] = []
    groups = sorted({mutant.tests for mutant in chosen})
    jobs = [Job(group.split(), partial(write_source, None, ""), SECONDS * 5) for group in groups]
    run_jobs(jobs, ROOT, AT_ONCE, lambda job: failed.append(job) if job.code != 0 else None)
    return failed


def main(words: list[str]) -> int:
    """Check the table, the unmutated baseline, then every mistake. 0 when all were caught."""
    chosen = [m for m in MUTANTS if not words or any(word in f"{m.name} {m.file}" for word in words)]
    if not chosen:
        print(f"no mutant holds {' or '.join(words)}")
        return 1
    misfits = [reported for mutant in chosen if (reported := misfit(mutant)) is not None]
    if misfits:  # a table that no longer fits the source is told before anything runs
        print("\n".join(misfits), f"{len(misfits)} of {len(chosen)} cannot be planted", sep="\n")
        return 1
    os.environ["HARKEN_ALL_CASES"] = (
        "1"  # a mistake may be seen by a case that `make test` leaves to the night
    )
    preload()
    if failed := failures_without_mistakes(chosen):
        for job in failed:
            print(job.output[-2000:], f"{' '.join(job.tests)}: does not pass without a mistake", sep="\n")
        return 1
    missed: list[Mutant] = []
    run_jobs(
        map(job_of, chosen),
        ROOT,
        AT_ONCE,
        lambda job: None if was_caught(job) else missed.append(job.subject),
    )
    print(f"planted {len(chosen)}, caught {len(chosen) - len(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
