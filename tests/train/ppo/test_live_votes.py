"""A PPO run reads the votes of a review while it trains: they are logged, and its health monitor can end the run."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from tiny_pipeline import TinyFolder, run_config, run_pipeline

from harken.config import PipelineConfig
from harken.run.folder import RunFolder
from harken.run.live_votes import write_live_votes
from harken.train.launch import train

VOTES = {
    "update": 0, "decided": 14, "win_rate": 0.1, "low": 0.02, "high": 0.35, "reward_change": 0.5,
    "reward_change_low": 0.2, "study": "ab",
}  # fmt: skip


def test_a_run_logs_the_votes_it_is_given_and_stops_on_them(tmp_path: Path) -> None:
    """S2-94: the votes lie in the folder before the second update; the run ends there and says why."""
    out = run_pipeline(tmp_path) / "out"
    config = run_config(
        PipelineConfig.model_validate(yaml.safe_load((out / "pipeline.yml").read_text())), out, "ppo"
    )
    values = config.model_dump()
    values["health"]["stop_on"] = ["votes_disagree"]
    run = RunFolder(tmp_path / "voted")
    run.root.mkdir()
    write_live_votes(run, VOTES)
    train(type(config).model_validate(values), run.root)
    (line,) = map(json.loads, run.metrics.read_text().splitlines())
    assert {name: line[f"votes/{name}"] for name in VOTES if name != "study"} == {
        name: value for name, value in VOTES.items() if name != "study"
    }
    assert line["health/votes_disagree"] == 2.0
    assert json.loads(run.status.read_text())["stopped_because"].startswith("health: votes_disagree: until")
    before = TinyFolder(out).ppo.metrics.read_text().splitlines()
    assert len(before) == 4 and not any("votes/" in line for line in before), (
        "without votes nothing is logged"
    )
