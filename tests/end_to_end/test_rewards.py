"""PPO whose reward is a Python function, an ensemble of another size, and a rule: from one YAML file, resumable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny import save_tiny
from tiny_rewards import save_reward_model

from harken.cli.main import main
from harken.run.tables import read_rows

FUNCTION = """
def score(prompt, response, stop, row, reference):
    return None if row["keywords"] == ["0"] else len(response) / 10 - (stop == "length") + float(reference)
"""
CONFIG = """
model_name: {root}/model
dtype: float32
tensorboard: false
lora: {{rank: 4}}
data: {{path: {root}/prompts.jsonl, max_length: 96}}
checkpoints: {{every: 1}}
training:
  type: ppo
  lr: 1e-3
  ppo: {{updates: 2, prompts_per_update: 4, epochs: 1, max_gen_len: 8}}
  rewards:
    - {{type: python, path: my_reward.py:score, weight: 0.5}}
    - type: ensemble
      name: jury
      checkpoint_paths: [{root}/rm1, {root}/rm2]
      combine: mean_minus_sd
      weight: 2.0
    - {{type: rule, name: demo_gold, weight: 0.0}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rewards")
    save_tiny(root / "model")
    other = save_tiny(root / "other", seed=3, hidden=48)
    save_reward_model(root / "rm1", other, seed=1)
    save_reward_model(root / "rm2", other, seed=2)
    prompts = [
        {"id": f"q{i}", "prompt": f"Count to {i}", "keywords": [str(i)], "reference": f"{i}.5"}
        for i in range(4)
    ]
    (root / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    (root / "my_reward.py").write_text(FUNCTION)
    (root / "ppo.yml").write_text(CONFIG.format(root=root))
    assert train(root, root / "out") == 0
    return root


def train(root: Path, out: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return main(["train", "--preset", str(root / "ppo.yml"), "--output-dir", str(out)])


def test_every_part_is_in_the_table_and_the_reward_is_their_weighted_sum(finished: Path) -> None:
    """S4-28, S4-47: the function's column is what it says of the recorded response and its row's reference."""
    rows = read_rows(finished / "out" / "rollouts" / "update-000002.parquet")
    assert len(rows) == 4
    for row in rows:
        wanted = len(row["response"]) / 10 - (row["stop"] == "length") + float(f"{row['prompt_id'][1:]}.5")
        if row["prompt_id"] == "q0":
            assert row["score_score"] is None
        else:
            assert row["score_score"] == pytest.approx(wanted)
        parts = {name.removeprefix("score_"): row[name] for name in row if name.startswith("score_")}
        weights = {name.removeprefix("weight_"): row[name] for name in row if name.startswith("weight_")}
        assert weights == {"score": 0.5, "jury": 2.0, "jury_sd": 0.0, "demo_gold": 0.0, "missing_eos": -1.0}
        assert row["reward"] == pytest.approx(sum(weights[n] * (parts[n] or 0.0) for n in weights))
        assert parts["jury_sd"] > 0


def test_metrics_hold_a_mean_of_every_part(finished: Path) -> None:
    line = json.loads((finished / "out" / "metrics.jsonl").read_text().splitlines()[-1])
    rows = read_rows(finished / "out" / "rollouts" / "update-000002.parquet")
    for name in ("score", "jury", "jury_sd", "demo_gold", "missing_eos"):
        known = [row[f"score_{name}"] for row in rows if row[f"score_{name}"] is not None]
        assert line[f"score/{name}"] == pytest.approx(sum(known) / len(known), abs=1e-6)


def test_the_manifest_names_what_scored(finished: Path) -> None:
    """S0-42: every part with its fingerprint; its weights in the role table."""
    manifest = json.loads((finished / "out" / "manifest.json").read_text())
    assert manifest["lineage"]["reward_model"] is None
    parts = manifest["lineage"]["rewards"]
    assert list(parts) == ["score", "jury", "demo_gold"]
    assert len(parts["score"]["fingerprint"]) == len(parts["jury"]["fingerprint"]) == 64
    components = [row["component"] for row in manifest["roles"]]
    assert {"reward base", "reward jury 1", "reward jury 2"} <= set(components)
    assert "stamp" not in manifest


def stopped(finished: Path, again: Path) -> None:
    """A copy of the run as if it had been killed after its first update."""
    shutil.copytree(finished / "out", again)
    for lost in ("final", "checkpoints/step-000002"):
        shutil.rmtree(again / lost)


def test_a_stopped_run_resumes_with_the_same_rewards(finished: Path, tmp_path: Path) -> None:
    """P38."""
    again = tmp_path / "again"
    stopped(finished, again)
    assert train(finished, again) == 0
    name = "rollouts/update-000002.parquet"
    assert (again / name).read_bytes() == (finished / "out" / name).read_bytes()


def test_a_changed_function_is_refused(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run keeps the reward it began with: the configuration is the same, the file is not."""
    again = tmp_path / "again"
    stopped(finished, again)
    try:
        (finished / "my_reward.py").write_text(FUNCTION + "# a changed mind\n")
        assert train(finished, again) != 0
    finally:
        (finished / "my_reward.py").write_text(FUNCTION)
    last = capfd.readouterr().err.rstrip("\n").splitlines()[-1]
    assert "score (my_reward.py:score) changed since the run began" in last


def test_a_function_that_fails_ends_the_run_with_its_line(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line, no traceback, an exit code."""
    try:
        (finished / "my_reward.py").write_text("def score(prompt, response):\n    return 1 / 0\n")
        assert train(finished, tmp_path / "out") != 0
    finally:
        (finished / "my_reward.py").write_text(FUNCTION)
    message = capfd.readouterr().err
    assert "Traceback" not in message
    assert "my_reward.py:2: score failed for prompt q" in message.rstrip("\n").splitlines()[-1]
