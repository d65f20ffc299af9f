"""The published evaluation of three policies on 2,017 prompts, recomputed by `harken eval` from one file of responses.

The responses are synthetic. Their counts, means and medians are the published ones
(tests/evaluation/reference_shape.py).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harken.cli.main import main

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

import reference_shape

pytestmark = pytest.mark.nightly


@pytest.mark.parametrize("suite", [reference_shape.EVAL_1024, reference_shape.EVAL_512], ids=["1024", "512"])
def test_every_published_figure_comes_out_of_the_command(
    tmp_path: Path, suite: reference_shape.Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "suite.jsonl"
    rows = reference_shape.rows(suite)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    published = ["--set", "audit.reward_thresholds=published", "--output-dir", str(tmp_path / "out")]
    assert main(["eval", str(path), *published]) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["prompts"], summary["policies"]) == (2017, list(reference_shape.POLICIES))
    for line, policy in zip(summary["table"], reference_shape.POLICIES, strict=True):
        own = [row for row in rows if row["policy"] == policy]
        assert line["reward"]["value"] == pytest.approx(sum(r["reward"] for r in own) / 2017)
        assert line["cap_hit"]["count"] == sum(r["cap_hit"] for r in own)
    if suite.max_tokens == 1024:
        assert [line["win_rate"]["count"] for line in summary["table"]] == [978, 475, 467]
        assert summary["ties"]["count"] == 97
        assert [line["cap_hit"]["count"] for line in summary["table"]] == [163, 205, 234]
        assert [line["repetition"]["count"] for line in summary["table"]] == [151, 278, 325]
        assert [line["median_response_tokens"] for line in summary["table"]] == [334, 360, 363]
        counts = {(p["left"], p["right"]): (p["wins"], p["ties"], p["losses"]) for p in summary["pairs"]}
        assert counts == {
            ("Base", "SFT"): (763, 39, 1215), ("Base", "PPO"): (785, 42, 1190), ("SFT", "PPO"): (892, 162, 963)
        }  # fmt: skip
        audit = json.loads((tmp_path / "out/audit.json").read_text())
        assert sum(policy == "PPO" for _, _, policy in audit["flags"]["reward_mismatch"]) == 36
    else:
        assert [line["win_rate"]["count"] for line in summary["table"]] == [827, 556, 525]
        assert [line["cap_hit"]["count"] for line in summary["table"]] == [603, 604, 599]
    assert "first scorer: reward" in capsys.readouterr().err
