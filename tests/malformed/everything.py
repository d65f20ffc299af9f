"""All malformed inputs. As a program: run them, print what came of them.

PYTHONPATH=src:tests python tests/malformed/everything.py [WORD ...]
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections import Counter
from pathlib import Path

from malformed import config_cases, file_cases, foreign_cases, model_cases, row_cases, run_cases
from malformed.case import Case, run
from malformed.world import make_world

CASES: list[Case] = [
    case for part in (row_cases, file_cases, config_cases, model_cases, run_cases) for case in part.cases()
]
CASES += foreign_cases.some_cases()


def main(words: list[str]) -> int:
    """Run the cases whose name holds one of the words, or all; 1 when one is not met as it should be."""
    chosen = [case for case in CASES if not words or any(word in case.name for word in words)]
    errors: Counter[str] = Counter()
    slowest = (0.0, "")
    with tempfile.TemporaryDirectory() as name:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            world = make_world(Path(name))
        for number, case in enumerate(chosen):
            folder = Path(name) / f"case-{number}"
            folder.mkdir()
            result = run(case, world, folder)
            slowest = max(slowest, (result.seconds, case.name))
            if result.fault:
                errors[result.kind] += 1
                print(f"{case.name}\n    {result.fault}")
    print(
        f"{len(chosen)} malformed inputs: {errors['traceback']} tracebacks, {errors['hang']} hangs, "
        f"{errors['vague']} vague messages, {errors['code']} wrong exit codes, "
        f"{errors['control']} with control characters; "
        f"slowest {slowest[0]:.1f} s ({slowest[1]})"
    )
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
