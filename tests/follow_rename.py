"""Follow a rename in the tables of planted mistakes.

    python tests/follow_rename.py name price kl_penalty               an identifier, in every pattern
    python tests/follow_rename.py name price kl_penalty train/ppo.py  in the patterns of one file
    python tests/follow_rename.py file train/ppo.py train/ppo/stage.py

A local variable needs none of this: patterns match local names whatever they are called (`planting.py`).
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from mutants import MUTANTS, misfit

HERE = Path(__file__).parent


def rename(old: str, new: str, file: str | None = None) -> int:
    """Rename an identifier in patterns, replacements and qualified names. Returns how many strings changed."""
    word = re.compile(rf"(?<![\w]){re.escape(old)}(?!\w)")
    wanted = {text for m in MUTANTS if file in (None, m.file) for text in (m.old, m.new) if word.search(text)}
    return _rewrite(lambda text: word.sub(new, text) if text in wanted else text)


def move(old: str, new: str) -> int:
    """Follow a file that moved. Returns how many strings changed."""
    return _rewrite(lambda text: new if text == old else text)


def _rewrite(change) -> int:  # type: ignore[no-untyped-def]
    """Apply `change` to the value of every string in the tables."""
    count = 0
    for path in sorted(HERE.glob("mutants_*.py")):
        source = path.read_text()
        lines = source.encode().splitlines(keepends=True)
        begins = [sum(map(len, lines[:n])) for n in range(len(lines) + 1)]
        text = source.encode()
        nodes = [
            node
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        for node in sorted(nodes, key=lambda n: (n.lineno, n.col_offset), reverse=True):
            changed = change(node.value)
            if changed != node.value:
                start = begins[node.lineno - 1] + node.col_offset
                end = begins[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
                text = text[:start] + repr(changed).encode() + text[end:]
                count += 1
        path.write_bytes(text)
    return count


def main(words: list[str]) -> int:
    """Run a rename, or with `check` say which planted mistakes no longer fit."""
    if words[:1] == ["name"] and len(words) in (3, 4):
        print(f"{rename(*words[1:])} strings changed")
    elif words[:1] == ["file"] and len(words) == 3:
        print(f"{move(*words[1:])} strings changed")
    elif words != ["check"]:
        print(__doc__)
        return 2
    if words != ["check"]:
        return 0
    errors = [reported for mutant in MUTANTS if (reported := misfit(mutant)) is not None]
    print("\n".join(errors) or f"all {len(MUTANTS)} fit")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
