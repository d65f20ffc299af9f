"""The command line as a user meets it: help at once, and one line for every mistake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harken.cli import main as cli
from harken.errors import UserError

VERBS = (
    *("demo", "train", "pipeline", "eval", "report", "verify", "data", "model"),
    *("doctor", "trace", "replay", "sweep", "presets list", "presets show"),
)


def harken(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harken.cli.main", *arguments],
        capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False,
    )  # fmt: skip


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    (tmp_path / "broken.yml").write_text("data: {path: x\ntraining:\n")
    (tmp_path / "twice.yml").write_text("data: {path: x}\nseed: 1\nseed: 2\n")
    (tmp_path / "typo.yml").write_text("data: {path: x}\ntraining: {type: sft, learning_rate: 1e-4}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing option '--preset'"),
        (["train", "--preset", "smollm2-135m_sft", "--lr", "1"], "No such option"),
        (["train", "--preset", "smollm2-135m_sfy"], "Fix: write smollm2-135m_sft"),
        (["train", "--preset", "no/such.yml"], "no/such.yml: no such file"),
        (["train", "--preset", "demo"], "harken pipeline demo"),
        (["train", "--preset", "smollm2-135m_ppo", "--set", "training.ppo.clip_rnge=1"], "Fix: write clip_range"),
        (["train", "--preset", "smollm2-135m_sft", "--set", "training.lr=fast"], "expected a number"),
        (["train", "--preset", "smollm2-135m_sft", "--set", "training.lr"], "not of the form key=value"),
        (["train", "--preset", "{folder}/broken.yml"], "broken.yml:2: not valid YAML"),
        (["train", "--preset", "{folder}/twice.yml"], "twice.yml:3: seed: the key is written twice"),
        (["train", "--preset", "{folder}/typo.yml"], "typo.yml:2: training.learning_rate: unknown key"),
        (["train", "--preset", "{folder}"], "cannot be read as text"),
        (["pipeline", "smollm2-135m_sft"], "harken train --preset smollm2-135m_sft"),
        (["pipeline", "demo", "--set", "stages.sft.training.lrr=1"], "Fix: write lr"),
        (["pipeline", "hh-dolly-smollm2"], "the environment variable HARKEN_DATA is not set"),
        (["eval", "--config", "demo"], "an evaluation is required"),
        (["presets", "show", "dmeo"], "Fix: write demo"),
        (["data"], "no data source given"),
        (["data", "{folder}/none.jsonl"], "none.jsonl: there is no such file"),
        (["data", "demo:preferences", "--task", "rlhf"], "task: expected 'sft', 'preference',"),
        (["data", "demo:preferences", "--max-length", "0"], "max_length: should be greater than 0"),
        (["model", "{folder}/none"], "no such model"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_a_code(
    arguments: list[str],
    message: str,
    broken: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HARKEN_DATA", raising=False)
    code = cli.main([argument.format(folder=broken) for argument in arguments])
    output = capsys.readouterr()
    assert code == 2
    assert output.out == ""
    assert output.err.startswith("harken: ") and output.err.count("\n") == 1
    assert message in output.err


def test_a_preset_before_its_turn_names_the_one_to_train_first_and_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--preset", "smollm2-135m_ppo"]) == 2
    first = "outputs/smollm2-135m_sft/final: no such model. Fix: train it first: harken train --preset smollm2-135m_sft"
    assert capsys.readouterr().err == f"harken: {first}\n"
    assert not list(tmp_path.iterdir())


def test_the_process_ends_with_one_line_and_no_traceback() -> None:
    """The same through a real process, whose exit code scripts read."""
    done = harken("train", "--preset", "smollm2-135m_sft", "--set", "seed=x")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == 'harken: --set seed=x: expected a whole number, given the text "x"\n'


def test_a_mistake_shows_its_traceback_on_request() -> None:
    done = harken("train", "--preset", "smollm2-135m_sft", "--set", "seed=x", HARKEN_DEBUG="1")
    assert done.returncode != 0 and "Traceback" in done.stderr and "UserError" in done.stderr


def test_internal_errors_keep_their_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a file that one line names; HARKEN_DEBUG=1 lets the exception itself through."""

    def fault() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli.config_files, "list_presets", fault)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cli.main(["presets", "list"]) == 1
    assert "internal error (RuntimeError: a bug)" in capsys.readouterr().err
    assert "in fault" in (tmp_path / "harken-traceback.txt").read_text()
    monkeypatch.setenv("HARKEN_DEBUG", "1")
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["presets", "list"])


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "harken: interrupted."),
        (PermissionError(13, "Permission denied", "/outputs"), 2, "harken: /outputs: Permission denied"),
        (OSError(28, "No space left on device"), 2, "harken: a file: No space left on device"),
        (UserError("two\nlines", where="x"), 2, "harken: x: two lines"),
    ],
)
def test_an_interruption_is_reported_in_one_line(
    raised: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop() -> None:
        raise raised

    monkeypatch.setattr(cli.config_files, "list_presets", stop)
    assert cli.main(["presets", "list"]) == code
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_mistake() -> None:
    done = subprocess.run(
        f'"{sys.executable}" -m harken.cli.main presets show demo | head -c 1',
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "#" and done.stderr == ""


def test_help_imports_no_torch() -> None:
    """No torch before a verb needs it."""
    assert harken("--help").returncode == 0
    probe = "import sys, harken.cli.main; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example" in text and re.search(rf"^ +harken {verb}\b", text, re.MULTILINE)


def test_every_preset_in_an_example_exists() -> None:
    names = {preset.name for preset in cli.config_files.list_presets()}
    source = Path(cli.__file__).read_text()
    used = set(
        re.findall(
            r"--preset ([\w.-]+)|harken pipeline ([\w-]+)$|presets show ([\w.-]+)", source, re.MULTILINE
        )
    )
    mentioned = {name for match in used for name in match if name and not name.endswith(".yml")}
    assert mentioned and mentioned <= names


def test_no_arguments_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "harken train --preset" in capsys.readouterr().out


def test_presets_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """S1-23."""
    assert cli.main(["presets", "list"]) == 0
    assert re.search(r"^run +smollm2-135m_ppo +SmolLM2", capsys.readouterr().out, re.MULTILINE)
    assert cli.main(["presets", "show", "smollm2-135m_ppo"]) == 0
    assert capsys.readouterr().out.startswith("# SmolLM2-135M: token-level PPO")


def test_the_quick_demo_is_a_valid_pipeline() -> None:
    quick = cli.config_files.load_pipeline("demo", list(cli.QUICK))
    full = cli.config_files.load_pipeline("demo", [])
    steps = [config.stages["sft"]["training"]["max_steps"] for config in (quick, full)]
    assert steps[0] == 2 < steps[1]


def test_data_takes_keys_of_data_with_and_without_the_prefix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Messages name keys as in a configuration; what they say has to work when it is copied."""
    path = tmp_path / "a${b}.jsonl"
    path.write_text(json.dumps({"my_question": "Q", "my_reply": "A"}) + "\n")
    mapping = "columns={prompt: my_question, response: my_reply}"
    for key in (mapping, f"data.{mapping}"):
        assert cli.main(["data", str(path), "--set", key]) == 0
        assert "1 row, 1 kept" in capsys.readouterr().out
    for key in ("limit=4", "data.eval_path=x", "path=y"):
        assert cli.main(["data", str(path), "--set", key]) == 2
        assert "has no effect here" in capsys.readouterr().err
