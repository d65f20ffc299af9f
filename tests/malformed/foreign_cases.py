"""Code that is not ours, at its worst: reward functions that end, break, hang or change the process, and their values.

As a program, with what came of each: PYTHONPATH=src:tests python tests/malformed/foreign_cases.py
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from malformed.case import Case, run
from malformed.world import World, make_world

RUN = """
model_name: {root}/model
dtype: float32
tensorboard: false
seed: 1
lora: {{rank: 2{targets}}}
data: {{path: {root}/prompts.jsonl, max_length: 96}}
training:
  type: ppo
  lr: 1e-3
  max_skipped_steps: 0
  ppo: {{updates: 2, prompts_per_update: 3, epochs: 1, max_gen_len: 4}}
  rewards: [{{type: python, path: "{folder}/mine.py:score"{more}}}]
"""
SECOND = (
    "import itertools\ncalls = itertools.count()\n"
    "def score(prompt, response):\n    if next(calls) < 3: return 0.5\n    "
)
"""A function that does well in the first update."""

ENDS: dict[str, tuple[str, str]] = {
    "sys.exit()": ("import sys; sys.exit()", "SystemExit"),
    "sys.exit(0)": ("import sys; sys.exit(0)", "SystemExit"),
    "sys.exit with words": ("import sys; sys.exit('enough')", "SystemExit: enough"),
    "exit()": ("exit(3)", "SystemExit: 3"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "GeneratorExit": ("raise GeneratorExit", "GeneratorExit"),
    "a cancelled task": ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
    "an exception beside Exception": ("raise type('Odd', (BaseException,), {})('so')", "Odd: so"),
    "a panic in Rust": (
        "raise type('PanicException', (BaseException,), {'__module__': 'pyo3_runtime'})('unwrap on None')",
        "PanicException: unwrap on None",
    ),
    "a division by zero": ("1 / 0", "ZeroDivisionError: division by zero"),
    "a cause behind the exception": (
        "\n    try: open('/no/such/key')\n    except OSError as error: raise RuntimeError('no key') from error",
        "No such file or directory: '/no/such/key'",
    ),
    "a message of many lines": ("raise ValueError('first\\nsecond\\nlast')", "first second last"),
    "a message without end": ("raise ValueError('x' * 10**6 + ' the end')", "the end"),
    "an exception that cannot be printed": (
        "raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})",
        "E: its message cannot be read",
    ),
    "half of a surrogate pair": ("raise ValueError('\\ud800')", "\\ud800"),
    "letters that steer a terminal": ("raise ValueError('\\x1b[2Jred')", "red"),
    "recursion without end": ("return score(prompt, response)", "RecursionError"),
    "no memory": ("raise MemoryError", "MemoryError"),
    "input()": ("return float(input('score? '))", "EOFError"),
    "a debugger": ("__import__('pdb').Pdb().set_trace()", "BdbQuit"),
    "an assertion": ("assert False, 'never'", "AssertionError: never"),
    "a file that is not there": ("return float(open('/no/such').read())", "FileNotFoundError"),
    "text": ("return '0.5'", "returned '0.5' (str)"),
    "a list": ("return [0.5]", "return its element"),
    "nested lists": ("return [[1.0], [2.0]]", "(list)"),
    "the scores of all": ("return [0.1, 0.2, 0.3]", "(list)"),
    "a dict": ("return {'score': 1.0}", "(dict)"),
    "a complex number": ("return 1 + 0j", "(complex)"),
    "a generator": ("return (x for x in [1.0])", "(generator)"),
    "a coroutine": ("\n    async def late(): return 1.0\n    return late()", "write `async def score`"),
    "an array of two": ("import numpy as np; return np.zeros(2)", "2 numbers"),
    "an empty array": ("import numpy as np; return np.zeros(0)", "0 numbers"),
    "a tensor of logits": ("import torch; return torch.zeros(3, 2, requires_grad=True)", "shape (3, 2)"),
    "a tensor without values": ("import torch; return torch.zeros((), device='meta')", "score failed"),
    "a time": ("import numpy as np; return np.timedelta64(3, 's')", "timedelta64"),
    "a value that cannot be printed": (
        "return type('V', (), {'__repr__': lambda self: 1 / 0})()",
        "score returned",
    ),
}
"""What a function does in the second update, and a part of the line that ends the run with code 1."""
NOT_FINITE = {
    "NaN": ("return float('nan')", "score returned nan"),
    "infinity": ("return float('-inf')", "score returned -inf"),
    "a whole number beyond any float": ("return 10**400", "score returned 1000"),
    "digits that Python will not print": ("return 10**5000", "type int"),
    "a Decimal that is NaN": ("from decimal import Decimal; return Decimal('NaN')", "Decimal('NaN')"),
    "a Decimal beyond any float": ("from decimal import Decimal; return Decimal('1e999')", "1E+999"),
    "a NaN of NumPy": ("import numpy as np; return np.float16('nan')", "nan"),
    "a NaN in a tensor": ("import torch; return torch.tensor([float('nan')])", "Tensor"),
}
"""What it returns there when the update is to be skipped: under max_skipped_steps 0 that ends the run."""

VALUES = {
    "Decimal": "from decimal import Decimal; return Decimal('0.25')",
    "Fraction": "from fractions import Fraction; return Fraction(1, 4)",
    "bool": "return response == ''",
    "NumPy scalars": "import numpy as np; return np.float16(0.25)",
    "a NumPy bool": "import numpy as np; return np.bool_(True)",
    "an array of one": "import numpy as np; return np.array([[0.25]])",
    "a tensor with a gradient": "import torch; return torch.tensor([0.25], requires_grad=True)",
    "a tensor of half precision": "import torch; return torch.tensor(0.25, dtype=torch.bfloat16)",
    "None": "return None if len(response) % 2 else 0.25",
    "the least float": "return 5e-324",
}
EFFECTS = {
    "another working directory": "import os; os.chdir('/')",
    "float64 by default": "import torch; torch.set_default_dtype(torch.float64)",
    "no gradients": "import torch; torch.set_grad_enabled(False)",
    "another device by default": "import torch; torch.set_default_device('meta')",
    "deterministic algorithms": "import torch; torch.use_deterministic_algorithms(True)",
    "autocast": "import torch; torch.set_autocast_enabled('cpu', True)",
    "one seed for everything": (
        "import random, numpy, torch; random.seed(0); numpy.random.seed(0); torch.manual_seed(0)"
    ),
    "an empty environment": "import os; os.environ.clear()",
    "warnings as errors": "import warnings; warnings.simplefilter('error')",
    "NumPy's warnings as errors": "import numpy; numpy.seterr(all='raise')",
    "other signal handlers": (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)"
    ),
    "closed output": "import sys; sys.stdout = sys.stderr = None",
    "an empty search path": "import sys; sys.path.clear()",
    "a tracer": "import sys; sys.settrace(lambda *a: None)",
    "low recursion limit": "import sys; sys.setrecursionlimit(120)",
    "an emptied row": "row['keywords'].clear(); row.clear(); messages.clear(); tokens.clear()",
    "a thread that fails": (
        "import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()"
    ),
    "a mask for new files": "import os; os.umask(0o777)",
    "logging of everything": "import logging; logging.basicConfig(level=1)",
}
"""What a function does in every call; the run goes on as if it had not."""

REFUSED: dict[str, tuple[str, str]] = {
    "sys.exit() while it is imported": ("import sys\nsys.exit()\n", "mine.py:2"),
    "no Python": ("def score(prompt, response:\n  pass\n", "mine.py:1: not valid Python"),
    "NULs": ("def score(p, r): return 0\0\n", "null bytes"),
    "Latin-1": ("x = 'caf\udce9'\ndef score(prompt, response): return 0\n", "utf-8"),
    "brackets without end": ("(" * 500 + "\n", "mine.py"),
    "a module nobody has": ("x = 1\nimport nobody_has_this\n", "mine.py:2"),
    "an exception": ("x = 1\ny = x / 0\n", "mine.py:2"),
    "another function": ("def other(prompt, response): return 1\n", "there is other"),
    "no function": ("score = 3\n", "write one"),
    "an attribute that fails": ("def __getattr__(name): raise KeyError(name)\n", "no function"),
    "one argument": ("def score(prompt): return 1\n", "mine.py:1"),
    "arguments by name alone": ("def score(*, prompt, response): return 1\n", "mine.py:1"),
    "an argument nobody gives": ("def score(prompt, response, colour): return 1\n", "colour"),
    "a signature that fails": (
        "class S:\n    __signature__ = property(lambda self: 1 / 0)\n    def __call__(self, p, r): return 1\n"
        "score = S()\n",
        "cannot be called",
    ),
    "yield": ("def score(prompt, response): yield 1\n", "generator"),
}
LORA = {
    "a mistyped module": ("q_prj", "q_proj"),
    "one mistyped among good ones": ("q_proj, v_prj", "v_proj"),
    "a module that takes no adapter": ("input_layernorm", "lora"),
}


def _train(
    code: str, *, more: str = "", targets: str = "", words: tuple[str, ...] = ()
) -> Callable[[World, Path], list[str]]:
    def make(world: World, folder: Path) -> list[str]:
        (folder / "mine.py").write_text(code, encoding="utf-8", errors="surrogateescape")
        text = RUN.format(root=world.root, folder=folder, more=more, targets=targets)
        (folder / "run.yml").write_text(text)
        return ["train", "--preset", str(folder / "run.yml"), "--output-dir", str(folder / "out"), *words]

    return make


def some_cases() -> list[Case]:
    """One of every kind and a few more: what is left out differs in what the function does, not in what meets it."""
    every = cases()
    kinds = {case.name.split(",")[0] for case in every}
    return [c for kind in sorted(kinds) for c in [c for c in every if c.name.startswith(f"{kind},")][::4]]


def cases() -> list[Case]:
    """All of them."""
    found = [
        Case(f"reward, {name}", _train(f"{SECOND}{code}\n"), ("mine.py", "prompt", message), code=1)
        for name, (code, message) in ENDS.items()
    ]
    found += [
        Case(f"reward, {name}", _train(f"{SECOND}{code}\n"), ("mine.py", "prompt", message), code=1)
        for name, (code, message) in NOT_FINITE.items()
    ]
    form = "def score(prompt, response, row, messages, tokens):\n    "
    found += [
        Case(f"reward, {name}", _train(f"{form}{code}\n"), code=0, shown=("final is step",))
        for name, code in VALUES.items()
    ]
    found += [
        Case(f"effect, {name}", _train(f"{form}{code}\n    return 0.5\n"), code=0, shown=("final is step",))
        for name, code in EFFECTS.items()
    ]
    found += [
        Case(f"reward file, {name}", _train(code), ("mine.py", message))
        for name, (code, message) in REFUSED.items()
    ]
    good = "def score(prompt, response): return 1.0\n"
    found += [
        Case(f"lora, {name}", _train(good, targets=f", target_modules: [{modules}]"), ("lora", message))
        for name, (modules, message) in LORA.items()
    ]
    slow = "import time\ndef score(prompt, response):\n    {}\n"
    for name, code in {
        "sleeps": "time.sleep(60)",
        "counts for ever": "while True: pass",
        "catches everything": "\n    while True:\n        try: time.sleep(60)\n        except Exception: pass",
        "matches for ever": "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')",
    }.items():
        made = _train(slow.format(code), more=", timeout_s: 0.3")
        found.append(
            Case(
                f"reward, {name}",
                made,
                ("mine.py:3" if name != "catches everything" else "mine.py", "timeout_s"),
                code=1,
            )
        )
    late = "import asyncio\nasync def score(prompt, response):\n    await asyncio.sleep({})\n    return {}\n"
    found += [
        Case("reward, async", _train(late.format(0.01, 0.5)), code=0, shown=("final is step",)),
        Case(
            "reward, async and late",
            _train(late.format(60, 0.5), more=", timeout_s: 0.3"),
            ("timeout_s",),
            code=1,
        ),
        Case("reward, async and wrong", _train(late.format(0, "1 / 0")), ("mine.py:4",), code=1),
        Case("reward, async that exits", _train(late.format(0, "exit()")), ("SystemExit",), code=1),
        Case(
            "reward, prints",
            _train("def score(prompt, response):\n    print('seen', 1)\n    return 0.5\n"),
            code=0,
            shown=("mine.py | seen 1", "final is step"),
        ),
        Case(
            "reward, prints a lot",
            _train("def score(prompt, response):\n    print('seen\\n' * 1000)\n    return 0.5\n"),
            code=0,
            shown=("more lines", "final is step"),
        ),
        Case(
            "reward, a folder for a file",
            _train(good, words=("--set", "training.rewards[0].path=/tmp/.py:score")),
            ("/tmp",),
        ),
    ]
    return found


def main(words: list[str]) -> int:
    """Print every case with its exit code, its seconds and the last line; 1 when one is not met as it should be."""
    chosen = [case for case in cases() if not words or any(word in case.name for word in words)]
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            world = make_world(Path(name))
        for number, case in enumerate(chosen):
            folder = Path(name) / f"case-{number}"
            folder.mkdir()
            result = run(case, world, folder)
            bad += bool(result.fault)
            last = (result.err.strip().splitlines() or [""])[-1].replace(name, "…")
            print(
                f"{case.name:<48} code {result.code}  {result.seconds:4.1f} s  {(result.fault or last)[:220]}"
            )
    print(f"{len(chosen)} hostile cases, {bad} not met as they should be")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
