"""The order of stages, when gates are asked, and what a folder is locked to, with runners that train nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harken.config import PipelineConfig
from harken.config.stages import PipelineStage
from harken.errors import RunFailed, UserError
from harken.pipeline import run
from harken.run.folder import CardFolder

ROWS = {"path": "rows.jsonl"}
RM: dict[str, Any] = {"type": "reward", "data": ROWS, "gate": {"accuracy": 0.7, "faults": []}}
PPO: dict[str, Any] = {
    "type": "ppo",
    "data": ROWS,
    "training": {"reward_model": {"checkpoint_path": "@rm"}},
}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that ran: each leaves its output, and nothing is trained."""
    names: list[str] = []

    def pretend(stage: PipelineStage, accept_changes: bool) -> None:
        if not stage.finished:
            names.append(stage.name)
            stage.output.mkdir(parents=True)

    monkeypatch.setattr(run, "RUNNERS", dict.fromkeys(run.RUNNERS, pretend))
    return names


def config(**stages: Any) -> PipelineConfig:
    return PipelineConfig.model_validate({"name": "x", "stages": stages})


def use_card(monkeypatch: pytest.MonkeyPatch, low: float) -> list[Path]:
    """A card whose accuracy has this lower end; the runs whose card was asked for."""
    asked: list[Path] = []

    def card(of: Any, gate: Any) -> tuple[dict[str, Any], CardFolder]:
        asked.append(of.root)
        folder = CardFolder(of.root / "card")
        folder.root.mkdir(parents=True, exist_ok=True)
        accuracy = {"share": 0.8, "low": low, "high": 0.9, "pairs": 50}
        return {"accuracy": accuracy, "faults": []}, folder

    monkeypatch.setattr(run, "card_for_gate", card)
    return asked


def test_stages_run_in_the_order_of_the_file_and_not_twice(tmp_path: Path, ran: list[str]) -> None:
    whole = config(b={"type": "sft", "data": ROWS}, a={"type": "sft", "data": ROWS})
    run.run_pipeline(whole, tmp_path)
    run.run_pipeline(whole, tmp_path)
    assert ran == ["b", "a"]
    assert (tmp_path / "SHA256SUMS").exists()


def test_a_gate_stops_before_the_first_stage_that_uses_the_model(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that does not use it is not stopped."""
    use_card(monkeypatch, 0.6)
    whole = config(rm=RM, other={"type": "sft", "data": ROWS}, ppo=PPO)
    with pytest.raises(RunFailed, match=r"stage ppo has not started\. Fix: .*change stages\.rm\.gate"):
        run.run_pipeline(whole, tmp_path)
    assert ran == ["rm", "other"]
    run.run_pipeline(whole, tmp_path, accept_changes=True)
    assert ran == ["rm", "other", "ppo"]


def test_a_gate_is_not_asked_again_once_a_stage_has_used_the_model(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = use_card(monkeypatch, 0.75)
    whole = config(rm=RM, ppo=PPO, again=PPO)
    run.run_pipeline(whole, tmp_path)
    assert ran == ["rm", "ppo", "again"] and asked == [tmp_path / "01_rm"]


def test_the_folder_is_locked_to_the_settings_but_not_to_gates(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_card(monkeypatch, 0.75)
    run.run_pipeline(config(rm=RM, ppo=PPO), tmp_path)
    run.run_pipeline(config(rm=RM | {"gate": {"accuracy": 0.72}}, ppo=PPO), tmp_path)
    with pytest.raises(UserError, match=r"stages\.ppo\.seed: .*--accept-changes"):
        run.run_pipeline(config(rm=RM, ppo=PPO | {"seed": 1}), tmp_path)
    run.run_pipeline(config(rm=RM, ppo=PPO | {"seed": 1}), tmp_path, accept_changes=True)


def test_gates_within_a_group_are_not_locked_either() -> None:
    group = {"repeat": 2, "start": "@model", "stages": {"rm": RM, "ppo": PPO | {"model_name": "@previous"}}}
    stages = run.locked_settings(config(rounds=group))["stages"]
    assert stages["rounds"]["repeat"] == 2
    assert "gate" not in stages["rounds"]["stages"]["rm"] and "data" in stages["rounds"]["stages"]["rm"]


def test_another_order_is_a_difference_also_within_a_group() -> None:
    before = {"stages": {"a": {}, "rounds": {"stages": {"b": {}, "c": {}}}}}
    now = {"stages": {"a": {}, "rounds": {"stages": {"c": {}, "b": {}}}}}
    assert run.order_differences(before, before) == []
    assert run.order_differences(before, now) == [
        "order: a, rounds, rounds.b, rounds.c → a, rounds, rounds.c, rounds.b"
    ]
    added = {"stages": {"new": {}, **before["stages"]}}
    assert run.order_differences(before, added) == []
    assert run.order_differences({"sft": {}}, before) == []
