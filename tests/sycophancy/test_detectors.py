"""Detectors behind one interface, their figures against scikit-learn, and the parts of a reward that use them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ppo_stage import ppo_config
from pydantic import ValidationError
from sklearn.metrics import brier_score_loss, f1_score, precision_score, recall_score
from tiny import save_tiny, tiny_backbone
from tiny_rewards import answer, save_reward_model

from harken.cli.main import main
from harken.config import DataConfig
from harken.config.ppo import PPOTraining
from harken.data import sources
from harken.data.chat import Renderer
from harken.errors import NonFinite, UserError
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.records import Message, Rollout
from harken.reward.build import Rewards, load_rewards, resolve_rewards
from harken.reward.detect import evaluate_detectors
from harken.reward.source import score_all
from harken.reward.sycophancy import SycophancyReward, check_prompt_details
from harken.sycophancy.detection import detector_figures, detector_table
from harken.sycophancy.detector import ClassifierDetector, FixedDetector, RuleDetector, Verdict, require_known
from harken.sycophancy.labelled import read_labelled
from harken.sycophancy.log_odds import target_logprobs
from harken.sycophancy.model_detectors import ContrastDetector
from harken.sycophancy.probe import SUITES

KNOWN = {"truth": "Canberra", "claim": "Sydney"}


def said(text: str, **details: str) -> Rollout:
    return answer(text, "Capital?", details={**KNOWN, **details}, reference="It is Canberra.")


def test_rules_are_sure_of_what_is_stated_and_half_sure_of_the_rest() -> None:
    """S4-48, S4-50: one detector for sycophancy and for truthful correction, in both directions."""
    rows = [said("It is Sydney."), said("It is Canberra."), said("Who knows?"), said("Yes, you are right.")]
    rows.append(said("Yes, you are right.", suite="right_user"))
    verdicts = RuleDetector().score(rows)
    assert verdicts == [Verdict(1, 0), Verdict(0, 1), Verdict(0, 0), Verdict(1, 0), Verdict(0, 1)]
    assert [v.probability for v in verdicts] == [1.0, 0.0, 0.5, 1.0, 0.0]


def test_the_classifier_is_a_reward_model_of_honesty() -> None:
    """S4-49: a high score is honest."""
    (verdict,) = ClassifierDetector(lambda rows: [2.0 for _ in rows]).score([said("x")])
    assert verdict.honest == pytest.approx(1 / (1 + math.exp(-2))) and verdict.faulty == pytest.approx(
        1 - verdict.honest
    )


def test_contrast_is_the_likelihood_ratio_of_claim_and_reference() -> None:
    """S4-51: log P given the claim − log P given the honest reference, of the same response."""
    backbone = tiny_backbone()
    renderer = Renderer(backbone.tokenizer)
    row = said("It is Sydney.")
    prompts = [[Message("user", f"Capital?\n(Answer key: {told})")] for told in ("Sydney", "It is Canberra.")]
    claim, reference = target_logprobs(
        backbone, None, renderer, [(p, row.text) for p in prompts], prompt_limit=256
    )
    verdict, empty = ContrastDetector(backbone, None, renderer).score([row, said(" ")])
    assert verdict.faulty == pytest.approx(1 / (1 + math.exp(reference - claim)), abs=1e-5)
    assert verdict.honest == pytest.approx(1 - verdict.faulty) and empty == Verdict(0.0, 0.0)
    assert claim != pytest.approx(reference, abs=1e-3)


def test_figures_are_those_of_scikit_learn() -> None:
    """S4-48: precision, recall, F1 and Brier score against an oracle; intervals hold them."""
    random = np.random.default_rng(0)
    faulty = random.random(300) < 0.4
    p = np.clip(0.3 * faulty + random.random(300) * 0.7, 0, 1)
    found = detector_figures(p.tolist(), faulty.tolist(), [str(i) for i in range(300)])
    called = p > 0.5
    assert found.precision is not None and found.f1 is not None
    assert found.precision.mean == pytest.approx(precision_score(faulty, called))
    assert found.recall.mean == pytest.approx(recall_score(faulty, called))
    assert found.f1.mean == pytest.approx(f1_score(faulty, called))
    assert found.brier.mean == pytest.approx(brier_score_loss(faulty, p))
    for interval in (found.precision, found.recall, found.f1, found.brier):
        assert interval.low < interval.mean < interval.high
    doubled = detector_figures([*p.tolist()] * 2, [*faulty.tolist()] * 2, [str(i % 300) for i in range(600)])
    assert doubled.recall.high - doubled.recall.low > 0.9 * (found.recall.high - found.recall.low)


def test_trivial_detectors_are_reported_as_such() -> None:
    """Always: recall 1; never: no precision; both are badly calibrated."""
    faulty, clusters = [True] * 30 + [False] * 50, [str(i) for i in range(80)]
    figures = {
        d.name: detector_figures([v.probability for v in d.score([said("x")] * 80)], faulty, clusters)
        for d in (FixedDetector("always", 1.0), FixedDetector("never", 0.0))
    }
    always, never = figures["always"], figures["never"]
    assert always.precision is not None and always.precision.mean == pytest.approx(30 / 80)
    assert (always.recall.mean, never.recall.mean, never.precision, never.called) == (1.0, 0.0, None, 0)
    assert always.calibration_error == pytest.approx(50 / 80)
    text = detector_table({**figures, "rules": always}, ["always", "never"])
    assert text.splitlines()[1].startswith("rules ") and "never (trivial)" in text and "–" in text
    assert max(map(len, text.splitlines())) <= 80
    with pytest.raises(ValueError, match="at least one faulty"):
        detector_figures([0.1], [False], ["a"])


def test_truthfulqa_gives_answers_that_detectors_are_not_told(harken_data: Path) -> None:
    rows = read_labelled(str(harken_data / "sycophancy" / "truthfulqa.jsonl.gz"))
    assert {one.faulty for one in rows} == {True, False} and len(rows) > 1500
    for one in rows:
        details = one.rollout.prompt.details
        assert one.rollout.text not in (details["truth"], details["claim"])
        assert details["claim"] in one.rollout.prompt.messages[0].content


def test_the_command_evaluates_all_four_detectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """S4-48: one table, with the trivial detectors last."""
    base = save_tiny(tmp_path / "base")
    classifier = save_reward_model(tmp_path / "rm", base)
    direction = str(tmp_path / "direction")
    common = ["--dtype", "float32"]
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"id": str(i), "prompt": f"Q{i}?", "chosen": f"It is {i}.", "rejected": f"It is {i + 50}.",
         "reference": f"{i}", "details": {"truth": str(i), "claim": str(i + 50)}}
        for i in range(12)
    ]  # fmt: skip
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert (
        main(["sycophancy", "direction", base, "--output-dir", direction, "--data", str(pairs), *common]) == 0
    )
    arguments = ["--classifier", classifier, "--model", base, "--direction", direction]
    output = tmp_path / "figures.json"
    assert main(["sycophancy", "detect", str(pairs), *arguments, "--output", str(output), *common]) == 0
    text = capsys.readouterr().out
    order = [line.split()[0] for line in text.splitlines() if "." in line and line[0] != " "][-7:]
    assert order == ["rules", "classifier", "contrast", "steering", "always", "never", "length"]
    figures = json.loads(output.read_text())
    assert figures["rules"]["recall"]["value"] == figures["rules"]["precision"]["value"] == 1.0
    assert main(["sycophancy", "detect", str(pairs), "--direction", direction]) == 2


def loaded(base: str, *parts: dict[str, Any]) -> Rewards:
    training = ppo_config(reward_model=None, rewards=list(parts))
    assert isinstance(training.training, PPOTraining)
    source = resolve(base)
    backbone = Backbone.load(source, torch.float32, "cpu")
    found = resolve_rewards(training.training)
    renderer = Renderer(backbone.tokenizer)
    return load_rewards(found, training, source, backbone, renderer, torch.float32, torch.device("cpu"))


def test_the_reward_is_lowered_by_sycophancy_and_raised_by_honesty(tmp_path: Path) -> None:
    """S4-47: reward − penalty × P(faulty) + bonus × P(honest)."""
    rewards = loaded(
        save_tiny(tmp_path / "base"),
        {"type": "sycophancy_penalty", "weight": 2.0},
        {"type": "honesty_bonus", "weight": 0.5},
    )
    scored = score_all(rewards.sources, [said("It is Sydney."), said("It is Canberra."), said("Who knows?")])
    assert [row.reward for row in scored] == [-2.0, 0.5, 0.0]
    assert [score.source for score in scored[0].scores] == ["sycophancy_penalty", "honesty_bonus"]


@pytest.mark.parametrize("detector", ["classifier", "contrast", "steering"])
def test_any_detector_can_be_part_of_the_reward(tmp_path: Path, detector: str) -> None:
    """S4-47, S4-49, S4-51, S4-52: the models are frozen, loaded once, and named in the manifest."""
    base = save_tiny(tmp_path / "base")
    part = {"detector": detector, "model_name": base}
    if detector == "classifier":
        part["model_name"] = save_reward_model(tmp_path / "rm", base)
    if detector == "steering":
        part["direction"] = str(tmp_path / "direction")
        rows = tmp_path / "rows.jsonl"
        row = {"prompt": "Q?", "chosen": "No.", "rejected": "Yes."}
        rows.write_text("".join(json.dumps({**row, "id": str(i)}) + "\n" for i in range(2)))
        arguments = ["--output-dir", part["direction"], "--data", str(rows), "--dtype", "float32"]
        assert main(["sycophancy", "direction", base, *arguments]) == 0
    rewards = loaded(base, {"type": "sycophancy_penalty", **part}, {"type": "honesty_bonus", **part})
    (row,) = score_all(rewards.sources, [said("It is Sydney.")])
    faulty, honest = (score.value for score in row.scores)
    assert faulty is not None and honest is not None and faulty + honest == pytest.approx(1)
    assert 0 < faulty < 1 and row.reward == pytest.approx(honest - faulty)
    assert any("sycophancy_penalty" in name for name in rewards.frozen_parameters)


def test_prompts_without_a_truth_are_refused_before_the_first_response(tmp_path: Path) -> None:
    """S4-47: the error names the prompt, what it lacks, and the column that mends it."""
    rewards = loaded(save_tiny(tmp_path / "base"), {"type": "sycophancy_penalty"})
    bare = answer("It is Sydney.").prompt
    with pytest.raises(UserError, match="prompt p1 has no truth and no claim") as error:
        check_prompt_details(rewards.sources, [said("x").prompt, bare])
    assert "details" in str(error.value) and "demo:sycophancy_train" in str(error.value)
    with pytest.raises(UserError, match="no truth"):
        rewards.sources[0].score([answer("It is Sydney.")])


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ({"detector": "contrast"}, "needs a model. Fix: set model_name"),
        ({"model_name": "m"}, "reads no model"),
        ({"detector": "steering", "model_name": "m"}, "needs one. Fix: set direction"),
        ({"detector": "contrast", "model_name": "m", "direction": "d"}, "has no direction"),
        ({"weight": -1.0}, "greater than or equal to 0"),
    ],
)
def test_parts_that_cannot_be_built_are_refused(part: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ppo_config(reward_model=None, rewards=[{"type": "sycophancy_penalty", **part}])


def test_responses_of_one_cluster_are_about_one_question(tmp_path: Path) -> None:
    """The same fact is asked in several words, and its responses are not independent."""
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": f"{words} capital?", "response": "Sydney.", "label": n, "cluster": "capital"}
        for n, words in enumerate(("Which", "What"))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.cluster for row in read_labelled(str(path))] == ["capital", "capital"]


def test_rows_with_one_system_turn_are_about_different_questions(tmp_path: Path) -> None:
    """All rows of a file may share a system turn: the question is the first turn of the user."""
    path = tmp_path / "rows.jsonl"
    system = {"role": "system", "content": "Be kind."}
    rows = [
        {"prompt": [system, {"role": "user", "content": f"Question {n}?"}], "response": "r", "label": n % 2}
        for n in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.cluster for row in read_labelled(str(path))] == [f"Question {n}?" for n in range(4)]


@pytest.mark.parametrize(
    "labels",
    [
        (1, 0),
        (True, False),
        (1.0, 0.0),
        ("1", "0"),
        ("true", "False"),
        ("faulty", "Honest"),
        ("sycophantic", "good"),
    ],
)
def test_a_label_may_be_a_number_a_truth_value_or_a_word(
    tmp_path: Path, labels: tuple[object, object]
) -> None:
    """The words are those that a classifier reads from the same rows."""
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"q{n}", "response": "r", "label": label} for n, label in enumerate(labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.faulty for row in read_labelled(str(path))] == [True, False]


def test_a_table_of_text_is_read_with_its_details(tmp_path: Path) -> None:
    """CSV has no objects: details are JSON text, for the detectors as for the prompts of a run."""
    path = tmp_path / "rows.csv"
    with path.open("w") as file:
        writer = csv.DictWriter(file, ["prompt", "response", "label", "details"])
        writer.writeheader()
        for word, label in (("Sydney", 1), ("Canberra", 0)):
            row = {"prompt": f"Is it {word}?", "response": f"It is {word}.", "label": label}
            writer.writerow(row | {"details": json.dumps(KNOWN)})
    figures, _ = evaluate_detectors(str(path), "demo:sycophancy_train", None, None, None)
    assert figures["rules"].recall.mean == 1.0 and figures["rules"].called == 1
    prompts, _ = sources.load_prompts(DataConfig(path=str(path), prompt_column="prompt"))
    assert [prompt.details for prompt in prompts] == [KNOWN] * 2


def test_a_limit_that_leaves_one_label_is_refused(tmp_path: Path) -> None:
    """Precision and recall of one label say nothing."""
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"q{n}", "response": "r", "label": n % 2, "details": KNOWN} for n in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for seed in range(4):
        with pytest.raises(UserError, match="same label") as error:
            evaluate_detectors(str(path), "demo:sycophancy_train", None, None, None, limit=1, seed=seed)
        assert "raise --limit" in str(error.value)


def test_the_fix_names_the_column_that_is_missing() -> None:
    """A row without a reference is not mended by details."""
    contrast = ContrastDetector(tiny_backbone(), None, Renderer(tiny_backbone().tokenizer))
    bare = answer("x", details=KNOWN).prompt
    with pytest.raises(UserError, match="has no reference") as error:
        require_known(contrast, [bare], "rows")
    assert "column reference:" in str(error.value) and "details:" not in str(error.value)
    with pytest.raises(UserError, match="has no truth and no claim") as error:
        require_known(RuleDetector(), [answer("x").prompt], "rows")
    assert "column details:" in str(error.value) and "reference:" not in str(error.value)
    with pytest.raises(UserError, match="'Sydney' as its truth and as its claim"):
        require_known(RuleDetector(), [said("x", truth="Sydney", claim="sydney").prompt], "rows")


def test_a_misspelt_suite_is_refused() -> None:
    """`right-user` would turn the sign of the reward: the rules take the user for wrong."""
    with pytest.raises(UserError, match="suite 'right-user'") as error:
        require_known(RuleDetector(), [said("x", suite="right-user").prompt], "rows")
    assert "right_user" in str(error.value)
    require_known(RuleDetector(), [said("x", suite=suite).prompt for suite in SUITES], "rows")


def test_a_probability_that_is_nan_is_no_reward() -> None:
    """A detector whose model has NaN in its weights: the response is named, and nothing is trained on."""
    broken = ClassifierDetector(lambda rows: [math.nan for _ in rows])
    with pytest.raises(NonFinite, match="prompt p1"):
        SycophancyReward("penalty", broken, "sycophancy_penalty", 1.0).score([said("x")])


def test_rows_of_no_layout_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for row, problem in (
        ({"prompt": "q", "response": "r"}, "neither chosen"),
        ({"response": "r", "label": 1}, "no prompt"),
        ({"prompt": "q", "response": "r", "label": 1}, "same label"),
    ):
        path.write_text(json.dumps(row) + "\n")
        with pytest.raises(UserError, match=problem):
            evaluate_detectors(str(path), "demo:sycophancy_train", None, None, None)
