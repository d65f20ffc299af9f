"""Ways a command ends that nobody planned: each in a process of its own, with the output it must have.

    python tests/ends/cases.py [WORD]        every case whose name holds WORD, with its outcome
    python tests/ends/cases.py "" 10         every tenth case

A case sets its process up (signals, descriptors, files), runs the command line and may signal it while it runs. Wrong:
a traceback, a hang, another exit code, a text that is missing. Children are forked, so torch is imported once.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from ends.case import LONG, SFT, Case, owned  # noqa: E402

LIMIT = 60.0
"""Seconds after which a case is a hang."""


def full(*numbers: int) -> Callable[[Path], None]:
    """The descriptors lead to a disk without room."""

    def act(folder: Path) -> None:
        null = os.open("/dev/full", os.O_WRONLY)
        for number in numbers:
            os.dup2(null, number)

    return act


def closed(*numbers: int) -> Callable[[Path], None]:
    """The descriptors are closed, and Python knows it as if it had begun so."""

    def act(folder: Path) -> None:
        for number in numbers:
            os.close(number)
            setattr(sys, {0: "stdin", 1: "stdout", 2: "stderr"}[number], None)

    return act


def gone(*numbers: int) -> Callable[[Path], None]:
    """The descriptors lead to a terminal that was closed: every write is EIO."""

    def act(folder: Path) -> None:
        main, child = os.openpty()
        for number in numbers:
            os.dup2(child, number)
        os.close(child)
        os.close(main)

    return act


def unread(*numbers: int) -> Callable[[Path], None]:
    """The descriptors lead to a pipe without a reader."""

    def act(folder: Path) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        for number in numbers:
            os.dup2(writing, number)

    return act


def environment(**values: str) -> Callable[[Path], None]:
    return lambda folder: os.environ.update(values)


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(raw)


def link(name: str, target: str) -> Callable[[Path], None]:
    return lambda folder: os.symlink(target, folder / name)


def sparse(name: str, size: int) -> Callable[[Path], None]:
    """A file of any length that takes no room."""

    def act(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(size)

    return act


def ignore(number: int) -> Callable[[Path], object]:
    return lambda folder: signal.signal(number, signal.SIG_IGN)


def in_doctor(number: int) -> Callable[[Path], None]:
    """A signal as soon as the doctor looks at something."""

    def act(folder: Path) -> None:
        import harken.doctor.runner as examine

        examine.diagnose = lambda *given: os.kill(os.getpid(), number)  # type: ignore[assignment, return-value]

    return act


def latin(folder: Path) -> None:
    """Streams as an ASCII locale opens them."""
    sys.stdout = open(1, "w", encoding="ascii", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="ascii", closefd=False)  # noqa: SIM115


def finished(folder: Path) -> bool:
    """The run came to its end with its files, whatever became of its output."""
    lines = (folder / "out" / "metrics.jsonl").read_text().splitlines()
    status = json.loads((folder / "out" / "status.json").read_text())
    return len(lines) == 3 and status["stopped_because"] == "finished" and (folder / "out/final").is_dir()


def resumable(folder: Path) -> bool:
    """There is a checkpoint, the run knows who stopped it, and nobody holds the folder."""
    status = json.loads((folder / "out" / "status.json").read_text())
    kept = list((folder / "out" / "checkpoints").glob("step-*"))
    return bool(kept) and status["stopped_because"].startswith("interrupted by SIG") and not owned(folder)


def begins_again(folder: Path) -> bool:
    return not list((folder / "out").glob("checkpoints/step-*")) and not owned(folder)


CASES = [
    # Output that goes away: the run goes on.
    Case("stderr is a full disk", SFT, 0, before=full(2), then=finished),
    Case("stdout and stderr are a full disk", SFT, 0, before=full(1, 2), then=finished),
    Case("stderr is closed", SFT, 0, before=closed(2), then=finished),
    Case("all three are closed", SFT, 0, before=closed(0, 1, 2), then=finished),
    Case("the terminal was closed", SFT, 0, before=gone(0, 1, 2), then=finished),
    Case("nobody reads stderr", SFT, 0, before=unread(1, 2), then=finished),
    # Output that cannot be written is a failure; a reader that closes the pipe is none.
    Case("a list to a full disk", "presets list", 2, "No space left", before=full(1)),
    Case("a preset to a full disk", "presets show demo", 2, "No space left", before=full(1)),
    Case("rows to a full disk", "data {dir}/rows.jsonl", 2, "No space left", before=full(1)),
    Case("help to a full disk", "--help", 2, "No space left", before=full(1)),
    Case("nobody reads a list", "presets list", 0, before=unread(1)),
    Case("nobody reads rows", "data {dir}/rows.jsonl", 0, before=unread(1)),
    Case("stdout is closed", "presets list", 0, before=closed(1)),
    Case("an error to a full disk", "train --preset nope.yml", 2, before=full(2)),
    Case("an error to no stderr", "train --preset nope.yml", 2, before=closed(2)),
    Case("ASCII alone", "data {dir}/rows.jsonl", 0, before=latin),
    Case("ASCII alone, training", SFT, 0, before=latin, then=finished),
    Case("one column", SFT, 0, before=environment(COLUMNS="1", LINES="1"), then=finished),
    Case("a terminal of no width", "presets list", 0, before=environment(COLUMNS="0", TERM="dumb")),
    Case("columns that are no number", "--help", 0, before=environment(COLUMNS="many", TERM="")),
    # Signals.
    *(
        case
        for name, code in (("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129))
        for number in [getattr(signal, name)]
        for case in (
            Case(f"{name} while a model loads", SFT, code, "Nothing was saved yet", signals=(number,), at="model:",
                 then=begins_again),
            Case(f"{name} in training", LONG, code, "resumes after", signals=(number,), at=r"SFT +3/", then=resumable),
            Case(f"{name} in the doctor", "doctor {dir}/sft.yml", code, "interrupted.", before=in_doctor(number)),
        )
    ),
    Case("SIGHUP under nohup", SFT, 0, before=ignore(signal.SIGHUP), signals=(signal.SIGHUP,), at="1/3",
         then=finished),
    Case("a closing terminal hangs up twice", LONG, 129, "resumes after", signals=(signal.SIGHUP, signal.SIGHUP),
         at=r"SFT +3/", then=resumable),
    # Sources without bounds.
    Case("a million keys", "train --preset {dir}/a.yml", 2, "a.yml",
         before=write("a.yml", "".join(f"k{i}: 1\n" for i in range(1_000_000)))),
    Case("a long list", "train --preset {dir}/a.yml", 2, "a.yml",
         before=write("a.yml", "a: [" + "1, " * 60_000 + "1]")),
    Case("a billion laughs", "train --preset {dir}/a.yml", 2, "a.yml",
         before=write("a.yml", "a0: &a0 [x]\n" + "".join(
             f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)))),
    Case("deep nesting", "train --preset {dir}/a.yml", 2, "a.yml", before=write("a.yml", "a: " + "[" * 100_000)),
    Case("deep nesting of sections", "train --preset {dir}/a.yml", 2, "a.yml", before=write("a.yml", "{a: " * 50_000)),
    Case("a text of 20 MB", "train --preset {dir}/a.yml", 2, "a.yml", before=write("a.yml", "a: " + "x" * 20_000_000)),
    Case("a configuration without an end", "train --preset /dev/zero", 2, "/dev/zero"),
    Case("a configuration that is a folder", "train --preset {dir}", 2, "regular file"),
    Case("a configuration that is a pipe", "train --preset {dir}/pipe", 2, "regular file",
         before=lambda folder: os.mkfifo(folder / "pipe")),
    Case("a configuration that leads to itself", "train --preset {dir}/loop", 2, "loop", before=link("loop", "loop")),
    Case("a huge --set", "train --preset {dir}/sft.yml --set training.lr=" + "9" * 100_000, 2, "training.lr"),
    Case("a --set of many values", "train --preset {dir}/sft.yml --set lora=[" + "1," * 45_000 + "1]", 2, "--set"),
    Case("a manifest of 5 GB", "report {dir}/out", 2, "", before=sparse("out/manifest.json", 5_000_000_000)),
    # Places.
    Case("the output is a file", SFT, 2, "out", before=write("out", "")),
    Case("the output leads to itself", SFT, 2, "out", before=link("out", "out")),
    Case("the output is under a file", SFT + "/deep", 2, "out", before=write("out", "")),
    Case("the output is a device", SFT.replace("{dir}/out", "/dev/null"), 2, "/dev/null"),
]  # fmt: skip

ROWS = [
    {"prompt": f"Zähle {i}?\u202e", "completion": f"Es ist {i} – ja.", "keywords": [str(i)]}
    for i in range(12)
]
RUN = """
model_name: {model}
dtype: float32
tensorboard: false
data: {{path: {dir}/rows.jsonl, task: sft, max_length: 160}}
lora: {{rank: 4}}
training: {{type: sft, max_steps: 3, batch_size: 2, lr: 1e-3}}
checkpoints: {{every: 1000}}
"""


def prepare(case: Case, folder: Path, model: Path) -> list[str]:
    """Write the case's rows and configuration; return its command line."""
    rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
    (folder / "sft.yml").write_text(RUN.format(model=model, dir=folder), encoding="utf-8")
    return [word.format(dir=folder, world=model.parent) for word in case.words.split()]


def watch(case: Case, child: int, output: int) -> tuple[int | None, str]:
    """Read what a child says, signal it when it is time; its exit code, None for a hang, and its words."""
    message, due, ends = b"", list(case.signals), time.monotonic() + LIMIT
    while time.monotonic() < ends:
        if due and re.search(case.at, message.decode(errors="replace"), re.MULTILINE):
            os.kill(child, due.pop(0))
        ready = select.select([output], [], [], 0.02)[0]
        message += os.read(output, 1 << 16) if ready else b""
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            while select.select([output], [], [], 0)[0] and (more := os.read(output, 1 << 16)):
                message += more
            os.close(output)
            code = os.waitstatus_to_exitcode(status)
            return code, message.decode(errors="replace")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, message.decode(errors="replace")


def judge(case: Case, folder: Path, code: int | None, message: str) -> str:
    """What is wrong with how a case ended; "" when nothing is."""
    if code is None:
        return "hangs"
    if "Traceback" in message or "Exception ignored" in message:
        return f"a traceback: {message[-1500:]}"
    if code != case.code:
        return f"exit code {code}, not {case.code}: {message[-500:]}"
    if case.says.format(dir=folder) not in message:
        return f"does not say {case.says!r}: {message[-500:]}"
    if case.then is not None and not case.then(folder):
        return f"the folder is not as it should be: {message[-500:]}"
    return ""


def start(
    command: list[str],
    folder: Path,
    before: Callable[[Path], object] | None = None,
    make: Callable[[], object] | None = None,
) -> tuple[int, int]:
    """Fork a child that runs a command line, or `make`; its number, and where it can be heard."""
    import harken.cli.main

    reading, writing = os.pipe()
    sys.stdout.flush()
    if child := os.fork():
        os.close(writing)
        return child, reading
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(reading)
    os.close(writing)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a script ignores it
    if before is not None:
        before(folder)
    sys.argv = ["harken", *command]
    code = harken.cli.main.main() if make is None else int(bool(make()))
    try:  # as the interpreter's own exit, which takes seconds where torch is
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        code = 120
    os._exit(code)


def make_world(root: Path) -> None:
    """What evaluations, sweeps and pipelines need, and a finished evaluation."""
    import yaml
    from kill import stages

    import harken.cli.main

    stages.make_world(root)
    settings = {
        "eval": stages.evaluation_settings(root),
        "ppo": stages.run_config(root, "ppo").model_dump(mode="json", exclude={"output_dir"}),
        "pipeline": stages.pipeline_settings(root),
    }
    for name, message in settings.items():
        (root / f"{name}.yml").write_text(yaml.safe_dump(message, sort_keys=False))
    assert harken.cli.main.main(["eval", "--config", f"{root}/eval.yml", "--output-dir", f"{root}/done"]) == 0


def main(word: str, every: int = 1) -> int:
    """Run the cases; in a child of one, its command line. Returns the exit code."""
    import peft  # noqa: F401  with torch and transformers, once for all children
    import torch  # noqa: F401
    from ends import signal_cases
    from tiny import save_tiny

    wrong, chosen = 0, [case for case in [*CASES, *signal_cases.CASES] if word in case.name][::every]
    root = tempfile.mkdtemp()  # no context manager: a child leaves through here as well
    save_tiny(Path(root) / "model")
    if any("{world}" in case.words for case in chosen):
        child, output = start([], Path(root), make=lambda: make_world(Path(root)))
        assert watch(Case("the world", "", 0), child, output)[0] == 0
    for number, case in enumerate(chosen):
        folder = Path(root) / str(number)
        folder.mkdir()
        command = prepare(case, folder, Path(root) / "model")
        began = time.monotonic()
        problem = judge(case, folder, *watch(case, *start(command, folder, case.before)))
        if case.again and not problem:
            then = Case(case.name, case.words, 0)
            problem = judge(then, folder, *watch(then, *start(command, folder)))
        wrong += bool(problem)
        print(
            f"{case.name:<52}{case.code:>4} {time.monotonic() - began:6.1f} s  {problem or 'as it should'}",
            flush=True,
        )
    shutil.rmtree(root)
    print(f"{len(chosen)} cases, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "", int(sys.argv[2]) if len(sys.argv) > 2 else 1))
