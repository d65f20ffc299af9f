"""The README as a new user follows it: its commands, in its order, on rows of one's own, lead to a page."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from tiny import save_tiny

from harken.cli.main import main
from harken.config import files as config_files

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SMALL = {
    "smollm2-135m_sft": ("model_name={model}", "training.max_steps=2", "data.max_length=160"),
    "smollm2-135m_rm": ("training.max_steps=2", "data.max_length=160"),
    "examples/my_run.yml": (
        "training.ppo.updates=10",
        "training.ppo.prompts_per_update=2",
        "training.ppo.max_gen_len=4",
    ),
    "examples/my_eval.yml": ("policies.Base={model}", "max_gen_len=4"),
}
"""What makes a stage small, by its preset or file."""


def commands(heading: str) -> list[list[str]]:
    """The `harken` commands of the shell blocks under a heading, comments left out."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", section, re.DOTALL)).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in blocks.splitlines()]
    return [line[1:] for line in lines if line[:1] == ["harken"]]


def small(command: list[str], model: str) -> list[str]:
    settings = next((some for name, some in SMALL.items() if name in command), ())
    if command[0] == "train":
        settings = (*settings, "lora.rank=4", "tensorboard=false")
    if command[0] in ("train", "eval"):
        settings = (*settings, "dtype=float32")
    return [*command, *(word for one in settings for word in ("--set", one.format(model=model)))]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    pairs = [{"prompt": f"Number {i}?", "chosen": f"It is {i}.", "rejected": f"no {i}{i}"} for i in range(24)]
    rows = {
        "my_demonstrations": [{"prompt": pair["prompt"], "response": pair["chosen"]} for pair in pairs],
        "my_preferences": pairs,
        "my_prompts": [{"prompt": f"Count to {i}"} for i in range(24)],
        "my_heldout": [{"prompt": f"Count from {i}"} for i in range(4)],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_readme_lead_to_a_page(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_tiny(project / "model")
    path = commands("On your own model and data")
    assert [command[0] for command in path] == ["data", "train", "train", "train", "eval", "report"]
    for command in path:
        assert main(small(command, str(model))) == 0, command
    assert "<html" in (project / "outputs" / "05_report" / "report.html").read_text()[:200].lower()
    after = [
        c
        for c in commands("Is my run healthy? Is my reward model good? Did it help?")
        if "outputs/03_ppo" in c
    ]
    assert [command[0] for command in after] == ["trace", "replay"]
    for command in after:
        capsys.readouterr()
        assert main(command) == 0, command
        assert "not measured" not in capsys.readouterr().out


def test_the_readme_shows_the_files_it_uses() -> None:
    for name in ("my_run.yml", "my_eval.yml"):
        assert (ROOT / "examples" / name).read_text() in README
    assert config_files.load_run(str(ROOT / "examples/my_run.yml"), []).training.type == "ppo"
    assert list(config_files.load_evaluation(str(ROOT / "examples/my_eval.yml"), []).policies) == [
        "Base",
        "SFT",
        "PPO",
    ]
    used = set(re.findall(r"[\w/]*my_(?:run|eval)\.yml", README))
    assert used == {"examples/my_run.yml", "examples/my_eval.yml"}


def test_the_demo_ends_with_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harken.pipeline.run_pipeline", lambda config, folder: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert main(["demo", "--output-dir", str(tmp_path / "demo")]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 4 and "bin/activate" in lines[0] and "data.path=my_rows.jsonl" in lines[2]
    assert (tmp_path / "demo" / "05_report" / "report.html").as_uri() in lines[3]
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/harken")
    assert main(["demo", "--output-dir", str(tmp_path / "demo")]) == 0
    assert "activate" not in capsys.readouterr().out
