"""Make an exercise of minimal_rlhf.py: the same file with its formulas taken out.

    python examples/exercise.py my_rlhf.py
    HARKEN_EXERCISE=my_rlhf.py python -m pytest tests/end_to_end/test_minimal_rlhf.py

Each formula keeps its signature and docstring, and raises NotImplementedError until you have written it. The
tests compare each with `harken.maths`.
"""

import ast
import sys
from pathlib import Path

SOLUTION = Path(__file__).with_name("minimal_rlhf.py")
FORMULAS = (
    "preference_loss",
    "generate_with_logprobs",
    "compute_kl",
    "compute_advantages",
    "policy_loss",
    "ppo_step",
)


def without_formulas(source: str) -> str:
    """Return `source` with the body of every function in FORMULAS replaced and nothing else changed."""
    lines = source.splitlines(keepends=True)
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for function in sorted(functions, key=lambda node: node.lineno, reverse=True):
        if function.name in FORMULAS:
            docstring, first = function.body[0], function.body[1]
            indent = " " * first.col_offset
            lines[docstring.end_lineno : function.end_lineno] = [
                f'{indent}raise NotImplementedError("write {function.name}")\n'
            ]
    return "".join(lines)


def main(arguments: list[str]) -> int:
    """Write the exercise to a new file. Returns 2 without a file name, or when the file exists."""
    if len(arguments) != 1 or Path(arguments[0]).exists():
        print("usage: python examples/exercise.py NEW_FILE.py", file=sys.stderr)
        return 2
    Path(arguments[0]).write_text(without_formulas(SOLUTION.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{arguments[0]}: write {', '.join(FORMULAS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
