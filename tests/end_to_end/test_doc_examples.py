"""The commands and files of the pages on data, preferences, pipelines, chat and export, as a reader runs them.

On tiny models under the names that the pages use, with few steps. The Python of README, api.md and coming_from_trl.md
is run by api/test_pages.py, the files of group_methods.md are read by train/ppo/test_group_methods.py.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from kill import stages
from tiny import bpe_tokenizer, tiny_model

from harken.cli.main import main
from harken.config import PipelineConfig, RunConfig
from harken.config import yaml as config_yaml
from harken.config.stages import resolve_stages

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    name: (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for name in ("generated_data", "chat_export", "preference_optimisation", "pipelines", "reward_models")
}
SMALL = {
    "generate": ("dtype=float32", "max_gen_len=4"),
    "score": ("dtype=float32",),
    "train": (
        "dtype=float32", "tensorboard=false", "lora.rank=2", "training.max_steps=2", "training.batch_size=2",
        "data.max_length=128",
    ),
}  # fmt: skip
"""Settings that make a command small."""


def files(page: str) -> list[dict[str, Any]]:
    """The YAML blocks of a page that a reader can use as they are: without … or NAME."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGES[page], re.DOTALL)
    return [
        config_yaml.parse_yaml(block, page).data
        for block in blocks
        if "…" not in block and "NAME" not in block
    ]


def commands(page: str) -> list[list[str]]:
    """The `harken` commands of a page's shell blocks; of a line with a pipe its last command."""
    text = "\n".join(re.findall(r"```bash\n(.*?)```", PAGES[page], re.DOTALL)).replace("\\\n", " ")
    lines = [shlex.split(line.split("|")[-1], comments=True) for line in text.splitlines()]
    return [line[1:] for line in lines if line[:1] == ["harken"]]


def small(command: list[str]) -> list[str]:
    settings = [s for s in SMALL.get(command[0], ()) if s.split("=")[0] not in " ".join(command)]
    return [*command, *(word for one in settings for word in ("--set", one))]


def save_bpe(folder: Path, hidden: int = 32, layers: int = 2) -> str:
    """The tiny model with a tokenizer that GGUF files can hold."""
    tiny_model(0, hidden, layers).save_pretrained(folder)
    bpe_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "save_tiny", save_bpe)
        stages.make_world(root)
    stages.work(root, "ppo")(root / "ppo")
    return root


@pytest.fixture
def project(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with outputs/01_sft, 02_rm and 03_ppo, and rows of one's own."""
    (tmp_path / "outputs").mkdir()
    for name, made in {"01_sft": "sft", "02_rm": "rm", "03_ppo": "ppo"}.items():
        shutil.copytree(world / made, tmp_path / "outputs" / name)
    shutil.copy(world / "prompts.jsonl", tmp_path / "my_prompts.jsonl")
    shutil.copy(world / "pairs.jsonl", tmp_path / "my_preferences.jsonl")
    rows = (world / "pairs.jsonl").read_text().replace("Question", "Another")
    (tmp_path / "golden.jsonl").write_text(rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: list[str]) -> None:
    assert main(small(command)) == 0, command


def test_the_files_of_the_pages_are_configurations() -> None:
    """Each is a run, a part of one, or a pipeline that resolves."""
    kinds = []
    for page in PAGES:
        for settings in files(page):
            if "stages" in settings:
                assert resolve_stages(PipelineConfig.model_validate(settings), "out")
                kinds.append("pipeline")
            else:
                RunConfig.model_validate({"data": {"path": "my_rows.jsonl"}} | settings)
                kinds.append(settings["training"]["type"])
    assert sorted(kinds) == ["classifier", "dpo", "online_dpo", *["pipeline"] * 5, "reward"]


def test_the_guide_of_methods_has_every_method_and_section() -> None:
    """S2-02, S2-68, S2-71: a row with pros, cons, what is here of each, and what was measured"""
    text = (DOCS / "methods_guide.md").read_text(encoding="utf-8")
    rows = {
        line.split("|")[1].strip(): line.split("|")[2:-1]
        for line in text.splitlines()
        if line.startswith("|")
    }
    for method in (
        "RLHF with PPO",
        "DPO and relatives",
        "online DPO",
        "RLAIF",
        "Constitutional AI",
        "hybrids",
    ):
        assert len(rows[method]) == 5 and all(cell.strip() for cell in rows[method]), method
    assert "`harken constitution`" in rows["Constitutional AI"][3]
    assert "`harken label`" in rows["RLAIF"][3]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "The methods",
        "Labels for any of them",
        "Key decisions",
        "Tools",
    ]


@pytest.mark.nightly
def test_generated_data(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [command[0] for command in commands("generated_data")] == ["generate", "score", "pairs", "train"]
    for command in commands("generated_data"):
        model = ["--set", "model_name=outputs/01_sft/final"] if command[0] == "train" else []
        run([*command, *model])
    assert main(["verify", "outputs"]) == 0
    pairs = (project / "outputs" / "pairs" / "pairs.jsonl").read_text().splitlines()
    assert {json.loads(line)["chosen_policy"] for line in pairs} <= {"sft", "ppo"} and pairs
    assert (project / "outputs" / "02_rm-2" / "final" / "reward.json").exists()
    (settings,) = files("generated_data")
    run_pipeline(settings, project)
    assert (project / "out" / "06_sft" / "final").exists()


@pytest.mark.nightly
def test_chat_and_export(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = commands("chat_export")
    assert [command[0] for command in found] == ["chat"] * 3 + ["export"] * 4
    for command in found:
        words = [str(project / "outputs" / "01_sft") if word == "embedded" else word for word in command]
        if command[0] == "chat":
            monkeypatch.setattr("sys.stdin", io.StringIO("Explain rainbows.\n"))
            words += ["--max-gen-len", "4"]
        capsys.readouterr()
        assert main(words) == 0, command
        if command[0] == "chat":
            out = capsys.readouterr().out
            assert "tokens" in out and ("--reward" in words) == ("reward" in out)
    for folder, file in {
        "my_model": "model.safetensors",
        "my_adapter": "adapter_model.safetensors",
        "my_gguf": "model.gguf",
    }.items():
        assert (project / folder / file).exists() and (project / folder / "README.md").exists()


@pytest.mark.nightly
def test_preference_optimisation(project: Path, world: Path) -> None:
    rows = ["--set", "data.path=my_preferences.jsonl"]
    for command in commands("preference_optimisation"):
        model = ["--set", f"model_name={world / 'model'}"] if "smollm2-135m_sft" in command else []
        run([*command, *rows, *model])
    assert (project / "outputs" / "ipo" / "final" / "adapter_model.safetensors").exists()
    dpo, online = files("preference_optimisation")
    (project / "outputs" / "smollm2-135m_rm").symlink_to(project / "outputs" / "02_rm")
    (project / "dpo.yml").write_text(yaml.safe_dump(dpo))
    run(["train", "--preset", "dpo.yml", *rows, "--output-dir", "outputs/dpo"])
    (project / "online.yml").write_text(
        yaml.safe_dump({"model_name": "outputs/01_sft/final", "data": {"path": "my_prompts.jsonl"}} | online)
    )
    keys = ("updates=1", "prompts_per_update=2", "max_gen_len=4")
    few = [word for key in keys for word in ("--set", f"training.online_dpo.{key}")]
    few += ["--set", "dtype=float32", "--set", "lora.rank=2", "--set", "tensorboard=false"]
    assert main(["train", "--preset", "online.yml", "--output-dir", "outputs/online", *few]) == 0


@pytest.mark.nightly
def test_reward_models(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (settings,) = files("reward_models")
    (project / "rm.yml").write_text(yaml.safe_dump(settings))
    run(["train", "--preset", "rm.yml", "--output-dir", "outputs/rm", "--set", "data.eval_fraction=0.4"])
    for command in commands("reward_models"):
        assert main([word.replace("outputs/02_rm", "outputs/rm") for word in command]) == 0, command
    assert "pairs" in capsys.readouterr().out


def run_pipeline(settings: dict[str, Any], project: Path) -> None:
    """Run a file of a page on the tiny model, with few rows, steps and tokens."""
    for stage in settings["stages"].values():
        for one in stage.get("stages", {"": stage}).values():
            _shrink(one)
    whole = settings | {"dtype": "float32", "device": "cpu", "tensorboard": False}
    if settings.get("model_name", "embedded") == "embedded":
        whole["model_name"] = "outputs/01_sft/final"
    (project / "small.yml").write_text(yaml.safe_dump(whole, sort_keys=False))
    assert main(["pipeline", "small.yml", "--output-dir", "out"]) == 0


def _shrink(stage: dict[str, Any]) -> None:
    if "data" in stage:
        stage["data"] |= {"max_length": 400, "limit": 12}
    if stage["type"] in ("sft", "reward", "dpo"):
        stage["training"] = stage.get("training", {}) | {"max_steps": 1, "batch_size": 2}
        stage["lora"] = {"rank": 2}
    if stage["type"] == "dpo":
        stage["training"]["dpo"] = {"max_gen_len": 4, "eval_prompts": 2}
    if stage["type"] == "ppo":
        few = {"updates": 1, "prompts_per_update": 2, "max_gen_len": 4}
        stage["training"]["ppo"] = stage["training"].get("ppo", {}) | few
        stage["lora"] = {"rank": 2}
    stage.pop("truncated", None)  # the tiny model never ends a response within four tokens
    if stage["type"] in ("generate", "evaluation"):
        stage["max_gen_len"] = 4


@pytest.mark.nightly
@pytest.mark.parametrize("number", range(4))
def test_pipelines(number: int, project: Path) -> None:
    settings = files("pipelines")[number]
    run_pipeline(settings, project)
    assert "<html" in next((project / "out").glob("*_report/report.html")).read_text()[:200].lower()
    assert main(["verify", "out"]) == 0
    for verb in ("doctor", "plan"):
        more = ["--no-measure"] if verb == "plan" else []
        assert main([verb, "small.yml", *more]) in (0, 1)
    assert main(["report", "out"]) == 0
