"""The gate before PPO: what fails it, and a pipeline that stops there, keeps everything and goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_pipeline import PIPELINE
from tiny_pipeline import run_pipeline as run_tiny

from harken.card.gate import apply_gate, gate_reasons
from harken.cli.main import main
from harken.config.card import GateSettings
from harken.errors import RunFailed


def card(low: float = 0.6, *faults: str) -> dict[str, Any]:
    return {
        "accuracy": {"share": low + 0.05, "low": low, "high": low + 0.1, "pairs": 300, "prompts": 300},
        "faults": [{"name": name, "sentence": f"{name} it is", "fix": "train again"} for name in faults],
    }


@pytest.mark.parametrize(
    ("measured", "gate", "failing"),
    [
        (card(0.6), GateSettings(accuracy=0.6), 0),
        (card(0.6), GateSettings(accuracy=0.61), 1),
        (card(0.6, "constant"), GateSettings(accuracy=0.6), 1),
        (card(0.5, "flipped_labels", "saturated"), GateSettings(accuracy=0.6), 3),
        (card(0.6, "exploitable", "prefers_shorter"), GateSettings(accuracy=0.6), 0),
        (card(0.6, "exploitable"), GateSettings(accuracy=0.6, faults=["exploitable"]), 1),
        ({"accuracy": None, "faults": []}, GateSettings(), 1),
    ],
)
def test_the_lower_end_of_the_interval_and_the_named_faults_decide(
    measured: dict[str, Any], gate: GateSettings, failing: int
):
    """S2-25, S2-90."""
    assert len(gate_reasons(measured, gate)) == failing


PLACE = {"key": "stages.rm.gate", "waiting": "ppo"}


def test_the_decision_is_recorded_and_an_accepted_one_is_not_asked_again(tmp_path: Path):
    record, gate = tmp_path / "gate.json", GateSettings(accuracy=0.7)
    with pytest.raises(
        RunFailed, match=r"fails its gate: accuracy 65.0 % .* reaches below 70 %.*--accept-changes"
    ):
        apply_gate(card(), gate, record, accept=False, **PLACE)
    assert json.loads(record.read_text())["accepted"] is False
    apply_gate(card(), gate, record, accept=True, **PLACE)
    apply_gate(card(), gate, record, accept=False, **PLACE)
    assert json.loads(record.read_text())["accepted"] is True
    with pytest.raises(RunFailed, match="below 80 %"):
        apply_gate(card(), GateSettings(accuracy=0.8), record, accept=False, **PLACE)
    apply_gate(card(0.75), gate, record, accept=False, **PLACE)
    assert json.loads(record.read_text()) == {
        "gate": gate.model_dump(mode="json"), "reasons": [], "passed": True, "accepted": False
    }  # fmt: skip


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that its gate stopped."""
    root = tmp_path_factory.mktemp("gate")
    with pytest.raises(AssertionError):
        run_tiny(root, settings=["stages.rm.gate.accuracy=0.99", "stages.rm.gate.faults=[]"])
    return root


def again(root: Path, *arguments: str) -> int:
    return main(["pipeline", str(root / "pipeline.yml"), *arguments, "--output-dir", str(root / "out")])


def test_a_pipeline_stops_before_ppo_and_goes_on(stopped: Path, capsys: pytest.CaptureFixture[str]):
    """S2-90: exit code 1 and one line; a changed gate lets the same folder go on, a golden set is scored on its own."""
    out, gate = (
        stopped / "out",
        ["--set", "stages.rm.gate.accuracy=0.99", "--set", "stages.rm.gate.faults=[]"],
    )
    assert not (out / "03_ppo").exists() and (out / "02_rm" / "final").exists()
    before = (out / "02_rm" / "final" / "reward_head.safetensors").stat().st_mtime_ns
    assert again(stopped, *gate) == 1
    shown = capsys.readouterr().err.strip().splitlines()
    assert shown[-1].startswith(f"harken: {out}/02_rm/card: the reward model fails its gate: accuracy")
    assert "continue with --accept-changes" in shown[-1]
    golden = ["--set", f"stages.rm.gate.data={stopped}/pairs.jsonl"]
    assert again(stopped, *gate, *golden) == 1
    card_of_golden = json.loads((out / "02_rm" / "golden_card" / "card.json").read_text())
    assert card_of_golden["sets"][0]["name"] == f"{stopped}/pairs.jsonl"
    assert card_of_golden["accuracy"]["pairs"] == 30
    assert not (out / "03_ppo").exists()
    assert again(stopped, *gate, "--accept-changes") == 0
    assert (out / "02_rm" / "final" / "reward_head.safetensors").stat().st_mtime_ns == before
    assert (out / "03_ppo" / "final").exists()
    results = json.loads((out / "results.json").read_text())
    assert "the reward model failed its gate, which was accepted: accuracy" in results["notice"]
    assert again(stopped, "--set", "stages.rm.gate.accuracy=0.1") == 0


def test_a_gate_is_refused_where_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = PIPELINE.format(root=tmp_path).replace("type: ppo", "type: ppo\n    gate: {accuracy: 0.5}")
    (tmp_path / "p.yml").write_text(text)
    assert main(["pipeline", str(tmp_path / "p.yml"), "--output-dir", str(tmp_path / "out")]) == 2
    assert "gate" in capsys.readouterr().err
