"""The code of README and docs/api.md runs as written, on tiny models under the names that it uses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from tiny_rewards import save_reward_model

from harken.config.base import DataConfig
from harken.config.ppo import PPOSettings, PPOTraining
from harken.config.preference_training import DPOSettings
from harken.config.training import RewardTraining

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FROM_TRL = (ROOT / "docs" / "coming_from_trl.md").read_text(encoding="utf-8")
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def readme_script() -> str:
    section = README.split("## In Python\n")[1].split("\n## ")[0]
    (script,) = blocks(section)
    return script


def small(script: str) -> str:
    """The same with one or two steps and short responses."""
    script = re.sub(r"updates=\d+", "updates=3", script)
    script = re.sub(r"max_steps=\d+", "max_steps=1", script)
    return re.sub(r"max_gen_len=\d+", "max_gen_len=4", script)


@pytest.fixture
def outputs(made_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with outputs/01_sft and outputs/02_rm."""
    shutil.copytree(made_models / "sft", tmp_path / "outputs" / "01_sft")
    (tmp_path / "outputs" / "02_rm").symlink_to(made_models / "rm")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_script_of_the_readme(outputs: Path) -> None:
    script = small(readme_script()).replace(
        "PPOConfig(updates=3", "PPOConfig(updates=3, prompts_per_update=2"
    )
    exec(compile(script, "README.md", "exec"), {})
    assert (outputs / "my_policy" / "adapter_model.safetensors").exists()
    assert (outputs / "outputs" / "03_ppo" / "final").exists()


@pytest.mark.nightly
def test_the_script_of_the_readme_as_written(outputs: Path, made_models: Path) -> None:
    # A random model leaves characters unfinished; each of their bytes is decoded to three: 64 tokens may become 192.
    (outputs / "outputs" / "02_rm").unlink()
    save_reward_model(outputs / "outputs" / "02_rm", str(made_models / "sft"), max_length=512)
    exec(compile(readme_script(), "README.md", "exec"), {})
    assert (outputs / "my_policy" / "adapter_model.safetensors").exists()


@pytest.mark.nightly
def test_every_example_of_the_page(outputs: Path) -> None:
    """The blocks run in order in one namespace, as a reader would paste them."""
    namespace: dict[str, object] = {}
    examples = blocks(PAGE)
    assert len(examples) == 5
    for number, block in enumerate(examples, 1):
        exec(compile(small(block), f"docs/api.md, block {number}", "exec"), namespace)
    assert namespace["scores"].shape == (2, 4)  # type: ignore[attr-defined]
    assert (outputs / "my_dpo_policy").exists() and (outputs / "my_other_policy").exists()


@pytest.mark.nightly
def test_the_examples_of_the_page_for_users_of_trl(outputs: Path) -> None:
    namespace: dict[str, object] = {}
    for block in blocks(FROM_TRL):
        exec(compile(small(block), "docs/coming_from_trl.md", "exec"), namespace)
    assert (outputs / "my_policy").exists()


def test_the_page_for_users_of_trl_names_keys_that_exist() -> None:
    """Every `ppo.…`, `dpo.…` and `training.…` key of its tables is one of the schema."""
    models = {
        "ppo": PPOSettings, "dpo": DPOSettings, "training": PPOTraining, "data": DataConfig,
    }  # fmt: skip
    reward = set(RewardTraining.model_fields)
    keys = re.findall(r"`(ppo|dpo|training|data)\.(\w+)[`:]", FROM_TRL)
    assert len(keys) > 20
    missing = [f"{section}.{key}" for section, key in keys if key not in models[section].model_fields]
    assert [key for key in missing if key.removeprefix("training.") not in reward] == []


@pytest.mark.nightly
def test_the_notebook(outputs: Path, made_models: Path) -> None:
    """Its code cells in order, on a tiny model in place of the embedded one."""
    cells = [c for c in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    namespace: dict[str, object] = {}
    for number, cell in enumerate(cells, 1):
        assert cell["outputs"] == [], "the notebook ships without outputs"
        source = "".join(cell["source"]).replace('"embedded"', repr(str(made_models / "model")))
        exec(compile(source, f"quickstart.ipynb, cell {number}", "exec"), namespace)
    assert (outputs / "notebook_policy").exists()
