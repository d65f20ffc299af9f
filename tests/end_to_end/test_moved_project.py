"""A project that is moved as a whole, in the middle of its training and after: nothing is lost, no number changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import save_tiny
from tiny_pipeline import run_pipeline

from harken.cli.main import main
from harken.models.resolve import resolve
from harken.run.tables import read_rows
from harken.train.ppo.stage import PPOStage

EVALUATION = """
policies: {{Base: {root}/model, PPO: {root}/out/03_ppo}}
reward_model: {root}/out/02_rm
data: {{path: {root}/prompts.jsonl, max_length: 96}}
max_gen_len: 8
dtype: float32
"""


def command(root: Path) -> list[str]:
    return ["pipeline", str(root / "pipeline.yml"), "--output-dir", str(root / "out")]


def rename(project: Path, new: Path) -> Path:
    """Move a project, and put its new place into the configurations, as their owner has to."""
    project.rename(new)
    for path in new.glob("*.yml"):
        path.write_text(path.read_text().replace(str(project), str(new)))
    return new


def numbers(root: Path) -> dict[str, Any]:
    """Every figure of the stages, without measured times; every response and score of the evaluation."""
    found: dict[str, Any] = {"responses": read_rows(root / "out" / "04_eval" / "responses.parquet")}
    for stage in ("01_sft", "02_rm", "03_ppo"):
        lines = (root / "out" / stage / "metrics.jsonl").read_text().splitlines()
        found[stage] = [
            {k: v for k, v in json.loads(line).items() if "second" not in k and not k.startswith("time/")}
            for line in lines
        ]
    return found


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A project that was interrupted in PPO, moved and finished; and the numbers of the one that stayed."""
    room = tmp_path_factory.mktemp("room")
    old = room / "old"
    old.mkdir()
    step = PPOStage.step

    def interrupted(stage: PPOStage, number: int) -> dict[str, float]:
        if number == 2:
            raise KeyboardInterrupt
        return step(stage, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PPOStage, "step", interrupted)
        with pytest.raises(AssertionError):
            run_pipeline(old)
    shutil.copytree(old, room / "copy")
    assert main(command(old)) == 0
    expected = numbers(old)
    shutil.rmtree(old)
    (room / "copy").rename(old)
    new = rename(old, room / "new")
    assert main(command(new)) == 0
    return new, expected


def test_an_unfinished_stage_resumes_with_the_same_numbers(projects: tuple[Path, dict[str, Any]]) -> None:
    new, expected = projects
    assert numbers(new) == expected
    manifest = json.loads((new / "out" / "03_ppo" / "manifest.json").read_text())
    assert "changes" not in manifest
    assert str(new) in (new / "out" / "03_ppo" / "config.yml").read_text()
    assert main(["verify", str(new / "out")]) == 0


def test_finished_stages_are_used_after_a_move(
    projects: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    project, expected = projects
    (project / "eval.yml").write_text(EVALUATION.format(root=project))
    new = rename(project, project.with_name("newer"))
    try:
        before = (new / "out" / "03_ppo" / "SHA256SUMS").read_bytes()
        assert main(command(new)) == 0
        message = capsys.readouterr()
        assert (message.out + message.err).count("nothing to do") == 4
        assert (new / "out" / "03_ppo" / "SHA256SUMS").read_bytes() == before
        assert numbers(new) == expected
        assert main(["verify", str(new / "out")]) == 0
        assert main(["trace", str(new / "out" / "03_ppo"), "--step", "3"]) == 0
        assert main(["eval", "--config", str(new / "eval.yml"), "--output-dir", str(new / "eval")]) == 0
        rows = read_rows(new / "eval" / "responses.parquet")
        ppo = [row["response"] for row in expected["responses"] if row["policy"] == "PPO"]
        assert [row["response"] for row in rows if row["policy"] == "PPO"] == ppo
        stages = [str(new / "out" / name) for name in ("01_sft", "02_rm", "03_ppo", "04_eval")]
        capsys.readouterr()
        assert main(["report", *stages, "--output-dir", str(new / "page")]) == 0
    finally:
        rename(new, project)


def test_plain_peft_opens_the_adapter_on_a_base_that_is_named(
    projects: tuple[Path, dict[str, Any]],
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    new, _ = projects
    base = AutoModelForCausalLM.from_pretrained(new / "out" / "01_sft" / "final")
    model = PeftModel.from_pretrained(base, new / "out" / "03_ppo" / "final")
    assert any("lora_B" in name for name, _ in model.named_parameters())
    found = resolve(str(new / "out" / "03_ppo")).chain()
    assert [link.folder for link in found] == [new / "out/01_sft/final", new / "out/03_ppo/final"]


def test_another_model_in_the_old_ones_place_is_found_out(
    projects: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    project, _ = projects
    shutil.copytree(project, project.with_name("kept"))
    new = rename(project, project.with_name("other"))
    try:
        save_tiny(new / "model", seed=1)
        assert main(command(new)) == 2
        assert "weights of its model" in capsys.readouterr().err
    finally:
        shutil.rmtree(new)
        project.with_name("kept").rename(project)
