"""A run whose reward function fails, met as its user meets it: the line, the exit code, the checkpoint, going on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from malformed.foreign_cases import EFFECTS, RUN, SECOND
from malformed.world import PROMPTS, jsonl
from tiny import save_tiny

from harken.cli import main as cli
from harken.cli.main import main
from harken.run import crash_report, signals
from harken.run.manifest import fingerprint_folder
from harken.train.optim.optimiser import Optimiser


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    save_tiny(folder / "model")
    jsonl(folder / "prompts.jsonl", PROMPTS)
    return folder


def train(root: Path, folder: Path, code: str, *words: str) -> int:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(code)
    (folder / "run.yml").write_text(RUN.format(root=root, folder=folder, more="", targets=""))
    return main(["train", "--preset", str(folder / "run.yml"), "--output-dir", str(folder / "out"), *words])


def state(folder: Path) -> dict[str, object]:
    status: dict[str, object] = json.loads((folder / "out" / "status.json").read_text())
    return status


def test_a_function_that_exits_ends_the_run_with_a_checkpoint(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code 1 and one line; after the fix: the corrected function goes on from the checkpoint."""
    assert train(root, tmp_path, f"{SECOND}import sys; sys.exit(0)\n") == 1
    message = capsys.readouterr().err
    assert "the checkpoint of step 1 is kept" in message
    assert message.splitlines()[-1].startswith("harken: ") and "--accept-changes" in message.splitlines()[-1]
    assert [p.name for p in (tmp_path / "out" / "checkpoints").glob("step-*")] == ["step-000001"]
    assert (state(tmp_path)["state"], state(tmp_path)["completed"]) == ("failed", 1)
    fixed = "def score(prompt, response): return 0.5\n"
    assert train(root, tmp_path, fixed) == 2
    assert train(root, tmp_path, fixed, "--accept-changes") == 0
    assert "resuming after step 1" in capsys.readouterr().err
    assert state(tmp_path)["state"] == "completed"


def test_a_run_that_failed_ends_as_one_that_did_not(root: Path, tmp_path: Path) -> None:
    """The checkpoint that a failure leaves is of a whole step: what comes after it is the same, to the bit."""
    once = (
        f"import os\ndef score(prompt, response):\n    mended = os.path.exists({str(tmp_path / 'gone')!r})\n"
    )
    once += "    if mended or prompt != 'Count to 2': return len(response)\n    1 / 0\n"
    assert train(root, tmp_path / "a", once) == 1
    (tmp_path / "gone").touch()
    assert train(root, tmp_path / "a", once) == 0
    assert train(root, tmp_path / "b", once) == 0
    assert fingerprint_folder(tmp_path / "a" / "out" / "final") == fingerprint_folder(
        tmp_path / "b" / "out" / "final"
    )


def test_a_step_half_done_is_not_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bug after weights have begun to change: the newest checkpoint is of the step before, and code 1."""
    original, calls = Optimiser.step, iter(range(100))

    def broken(self: Optimiser, lr_scale: float) -> object:
        found = original(self, lr_scale)
        if next(calls) == 1:
            raise KeyError("a bug")
        return found

    monkeypatch.setattr(Optimiser, "step", broken)
    assert train(root, tmp_path, "def score(prompt, response): return len(response)\n") == 1
    assert not list((tmp_path / "out" / "checkpoints").glob("step-*")), (
        "every: 50, and memory holds half a step"
    )
    line = capsys.readouterr().err.splitlines()[-1]
    kept = tmp_path / "out" / crash_report.FILE_NAME
    assert "internal error (KeyError: 'a bug'). This is a bug in Harken" in line and str(kept) in line
    assert "Traceback" in kept.read_text() and "in broken" in kept.read_text()
    assert signals.stopped_mid_step()
    assert state(tmp_path)["state"] == "failed"
    monkeypatch.setattr(Optimiser, "step", original)
    assert train(root, tmp_path, "def score(prompt, response): return len(response)\n") == 0


def test_changes_by_the_function_do_not_affect_the_run(root: Path, tmp_path: Path) -> None:
    """All effects at once, but for what would hide the function's own errors: the weights are those of a quiet one."""
    form = "def score(prompt, response, row, messages, tokens):\n    {}\n    return len(response) / 10\n"
    left_out = (
        "low recursion limit",
        "a thread that fails",
        "a tracer",
        "an empty environment",
        "warnings as errors",
    )
    loud = "\n    ".join(code for name, code in EFFECTS.items() if name not in left_out)
    assert train(root, tmp_path / "quiet", form.format("pass")) == 0
    assert train(root, tmp_path / "loud", form.format(loud)) == 0
    quiet, changed = tmp_path / "quiet" / "out" / "final", tmp_path / "loud" / "out" / "final"
    assert fingerprint_folder(quiet) == fingerprint_folder(changed)


def test_an_error_without_a_run_leaves_its_traceback_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("hf_" + "a" * 34)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("harken.config.files.load_run", broken)
    assert main(["train", "--preset", "x"]) == 1
    kept = tmp_path / f"harken-{crash_report.FILE_NAME}"
    assert str(kept) in capsys.readouterr().err
    assert "AssertionError" in kept.read_text() and "aaaa" not in kept.read_text()


@pytest.mark.parametrize(
    "raised", [SystemExit(0), SystemExit("no"), type("PanicException", (BaseException,), {})("p")]
)
def test_base_exceptions_are_errors_too(
    raised: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise raised

    monkeypatch.setattr("harken.config.files.load_run", broken)
    assert main(["train", "--preset", "x"]) == 1
    assert capsys.readouterr().err.startswith("harken: internal error")


def test_threads_of_user_code_do_not_keep_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process with such a thread ends, with its own exit code."""
    script = tmp_path / "it.py"
    script.write_text(
        "import sys, threading, time\nfrom harken.cli import main as cli\nfrom harken.reward import isolation\n"
        "cli.PATIENCE = 0.2\n"
        "thread = threading.Thread(target=time.sleep, args=(60,))\nthread.start()\n"
        "isolation._started.add(thread)\nsys.argv = ['harken', 'presets', 'show', 'nothing-of-the-name']\n"
        "sys.exit(cli.main())\n"
    )
    source = str(Path(cli.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, str(script)],
        timeout=50,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": source},
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert threading.active_count() < 50
