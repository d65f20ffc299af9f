"""`harken data agreement`: the published kappas of PandaLM, simulated raters of known habits, go and no-go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from harken.cli.main import main
from harken.data.raters.agreement_report import rater_report
from harken.data.raters.agreement_table import rater_lines
from harken.data.raters.calibration_verdict import CalibrationThresholds, calibration_verdict
from harken.data.raters.rated_rows import RatedRow, RatedRows, RaterVote, read_rated_rows
from harken.data.raters.reliability import rater_reliability

ERRORS = 0.1


def simulated(seed: int = 0, rows: int = 800, **habits: float) -> RatedRows:
    """Comparisons whose better side is random; raters err alike, and one may choose a side or length without reading.

    `first`, `longer`: the share of rows on which rater "b" follows the habit; `late`: on which "b" chooses the first
    side in the second half only; `ties`: the share of rows that "b" calls a tie in the second half.
    """
    draw = np.random.default_rng(seed)
    found = []
    for i in range(rows):
        better_first, first_longer = bool(draw.random() < 0.5), bool(draw.random() < 0.5)
        votes = []
        for rater in "abc":
            first = better_first != (draw.random() < ERRORS)
            value = -1.0 if first else 1.0
            if rater == "b":
                value = -1.0 if draw.random() < habits.get("first", 0) else value
                value = (-1.0 if first_longer else 1.0) if draw.random() < habits.get("longer", 0) else value
                late = i >= rows // 2
                value = -1.0 if late and draw.random() < habits.get("late", 0) else value
                value = 0.0 if late and draw.random() < habits.get("ties", 0) else value
            votes.append(RaterVote(rater, value, (0.0, i)))
        found.append(RatedRow(str(i), tuple(votes), first_longer, -1.0 if better_first else 1.0))
    return RatedRows("simulated", "columns", "comparisons", found, named=True)


def of(report: dict[str, Any], rater: str) -> dict[str, Any]:
    return next(one for one in report["raters"] if one["rater"] == rater)


def test_the_published_kappas_of_pandalm(
    harken_data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """S2-61: PandaLM's README prints 0.85, 0.88 and 0.86; table and JSON have them to three places."""
    file = str(harken_data / "multi_annotator/pandalm_testset_v1.jsonl.gz")
    assert main(["data", "agreement", file, "--out", str(tmp_path / "agreement.json")]) == 0
    shown = capsys.readouterr().out
    for pair, kappa in (
        ("1 and annotator2", 0.852),
        ("1 and annotator3", 0.879),
        ("2 and annotator3", 0.862),
    ):
        assert any(f"annotator{pair}" in line and f"{kappa:.3f}" in line for line in shown.splitlines())
    table = [line for line in shown.splitlines() if "  " in line.strip()]
    assert table and max(map(len, table)) <= 80
    found = json.loads((tmp_path / "agreement.json").read_text())
    assert [round(one["kappa"]["value"], 3) for one in found["cohen_kappa"]] == [0.852, 0.879, 0.862]
    assert found["unanimous"]["count"] == 879 and found["calibration"]["status"] == "go"
    for one in (found["percent"], found["fleiss_kappa"], *found["alpha"].values()):
        assert one["low"] < one["value"] < one["high"] and one["rows"] == 999
    assert found["ceiling"]["low"] < found["ceiling"]["agreement"] < found["ceiling"]["high"]


def test_raters_without_a_habit_have_none_that_is_significant():
    report = rater_report(simulated())
    for one in report["raters"]:
        assert one["first_than_others"]["holm_p"] > 0.05 and one["longer_than_others"]["holm_p"] > 0.05
        assert all(drift["p"] is None or drift["holm_p"] > 0.05 for drift in one["drift"].values())
        assert one["gold"]["value"] == pytest.approx(1 - ERRORS, abs=0.04)


def test_kappa_of_two_raters_is_of_the_rows_that_both_labelled():
    rated = simulated(rows=300)
    rows = [RatedRow(row.id, row.votes[: 2 if i % 3 else 3]) for i, row in enumerate(rated.rows)]
    report = rater_report(RatedRows("x", "columns", "comparisons", rows, named=True))
    found = [(one["raters"], one["rows"]) for one in report["cohen_kappa"]]
    assert found == [(["a", "b"], 300), (["a", "c"], 100), (["b", "c"], 100)]
    both = [(row.votes[0].value, row.votes[2].value) for row in rows if len(row.votes) == 3]
    wanted = cohen_kappa_score(*zip(*both, strict=True))
    assert report["cohen_kappa"][1]["kappa"]["value"] == pytest.approx(wanted)
    assert report["fleiss_kappa"] is None  # rows with different numbers of votes


def test_agreement_with_the_others_by_hand() -> None:
    """A rater's own vote is not among those that it is compared with: with it, most would agree with themselves."""
    votes = [(-1, 1, 1), (-1, -1, 1), (1, 1, 1), (-1, 1, 0), (0, 1, 1)]
    rows = [
        RatedRow(
            str(i),
            tuple(RaterVote(r, float(v), (0.0, i)) for r, v in zip("abc", row, strict=True)),
            None,
            None,
        )
        for i, row in enumerate(votes)
    ]
    report = rater_report(RatedRows("by hand", "columns", "comparisons", rows, named=True), draws=10)
    # By row, the others say to a: second, draw, second, draw, second; to b: draw, draw, second, draw, draw; to c: draw,
    # first, second, draw, draw. Rows with a draw are left out.
    expected = {"a": (1, 3), "b": (1, 1), "c": (1, 2)}
    for rater, (agreed, rows_with_others) in expected.items():
        found = of(report, rater)["with_others"]
        assert (found["value"], found["n"]) == (pytest.approx(agreed / rows_with_others), rows_with_others), (
            rater
        )


@pytest.mark.parametrize(
    ("habit", "figure"), [("first", "first_than_others"), ("longer", "longer_than_others")]
)
def test_a_planted_habit_is_found_in_its_rater_alone(habit: str, figure: str):
    report = rater_report(simulated(**{habit: 0.3}))
    assert of(report, "b")[figure]["value"] > 0.6 and of(report, "b")[figure]["holm_p"] < 0.001
    other = {"first_than_others", "longer_than_others"} - {figure}
    assert of(report, "b")[other.pop()]["holm_p"] > 0.05
    assert of(report, "b")["with_others"]["value"] < of(report, "a")["with_others"]["value"]


@pytest.mark.parametrize(("habit", "course"), [("late", "first"), ("ties", "ties")])
def test_a_planted_drift_is_found(habit: str, course: str):
    report = rater_report(simulated(**{habit: 0.4}))
    assert of(report, "b")["drift"]["with_others"]["holm_p"] < 0.01
    drift = of(report, "b")["drift"][course]
    if course == "first":
        assert drift["holm_p"] < 0.05 and drift["second_half"]["value"] > drift["first_half"]["value"]
    else:
        assert drift["second_half"]["count"] > 100
    for (
        name
    ) in "ac":  # against others of whom one drifts, a steady rater departs to the opposite side if at all
        steady = of(report, name)["drift"][course]
        assert steady["p"] is None or steady["second_half"]["value"] <= steady["first_half"]["value"]


def test_rows_that_change_are_no_drift_of_the_raters():
    """All raters call ties on the same rows of the first half, as in PandaLM."""
    rated = simulated()
    rows = [
        RatedRow(row.id, tuple(RaterVote(v.rater, 0.0, v.order) for v in row.votes), row.first_longer)
        if i < 400 and i % 3 == 0
        else row
        for i, row in enumerate(rated.rows)
    ]
    report = rater_report(RatedRows("x", "columns", "comparisons", rows, named=True))
    for one in report["raters"]:
        assert one["drift"]["ties"]["p"] is None and one["drift"]["first"]["holm_p"] > 0.05


def test_scores_of_raters_without_names_have_no_habits(tmp_path: Path):
    path = tmp_path / "scores.jsonl"
    draw = np.random.default_rng(0)
    path.write_text(
        "".join(
            json.dumps({"ratings": (m + draw.integers(0, 2, 4)).tolist()}) + "\n"
            for m in draw.integers(0, 8, 60)
        )
    )
    report = rater_report(read_rated_rows(str(path)))
    assert report["raters"] == [] and report["cohen_kappa"] == [] and report["ceiling"] is None
    assert report["alpha"]["interval"]["value"] > report["alpha"]["nominal"]["value"]


def test_a_lenient_rater_scores_higher_than_the_others():
    draw = np.random.default_rng(1)
    rows = []
    for i in range(200):
        base = draw.integers(1, 5)
        votes = [RaterVote(r, float(base + draw.integers(-1, 2) + (r == "c")), (0.0, i)) for r in "abc"]
        rows.append(RatedRow(str(i), tuple(votes)))
    report = rater_report(RatedRows("x", "long", "scores", rows, named=True))
    assert of(report, "c")["higher_than_others"]["value"] > 0.7
    assert of(report, "a")["higher_than_others"]["value"] < 0.5


def verdict_of(
    found: tuple[float, float, float], gold: float | None = None, **given: float
) -> dict[str, Any]:
    value, low, high = found
    report = {
        "kind": "comparisons",
        "alpha": {"nominal": {"value": value, "low": low, "high": high}},
        "raters": [{"rater": "a", "gold": None if gold is None else {"count": 1, "n": 2, "value": gold}}],
    }
    return calibration_verdict(report, CalibrationThresholds.for_kind("comparisons", **given))


def test_go_and_no_go_of_a_calibration_round():
    """S2-88: the whole interval decides; a rater who fails the gold makes the round no-go."""
    assert verdict_of((0.6, 0.45, 0.7))["status"] == "go"
    assert verdict_of((0.6, 0.3, 0.7))["status"] == "unclear"
    assert verdict_of((0.2, 0.1, 0.39))["status"] == "no-go"
    assert verdict_of((0.6, 0.45, 0.7), alpha=0.5)["status"] == "unclear"
    failed = verdict_of((0.6, 0.45, 0.7), gold=0.5)
    assert (
        failed["status"] == "no-go" and failed["raters"]["a"]["status"] == "no-go" and "a:" in failed["why"]
    )
    assert CalibrationThresholds.for_kind("scores").alpha == 0.667


def test_the_gate_is_an_exit_code_and_the_first_rows_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """S2-88: raters who guess in the first 60 rows and agree in the 200 after them."""
    draw = np.random.default_rng(4)
    rows = [{r: int(draw.integers(1, 3)) for r in ("annotator1", "annotator2")} for _ in range(60)]
    rows += [{"annotator1": v, "annotator2": v} for v in draw.integers(1, 3, 400).tolist()]
    path = tmp_path / "labels.jsonl"
    texts = {"response1": "one", "response2": "two", "instruction": "q"}
    path.write_text("".join(json.dumps({**texts, **row}) + "\n" for row in rows))
    assert main(["data", "agreement", str(path), "--gate"]) == 0
    assert main(["data", "agreement", str(path), "--gate", "--calibration", "60"]) == 1
    assert "no-go: alpha (nominal)" in (shown := capsys.readouterr().out)
    assert "by the first 60 rows, 13% of the file" in shown
    assert main(["data", "agreement", str(path), "--calibration", "60"]) == 0


def test_contradicting_options_are_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["data", "agreement", "x.jsonl", "--raters", "a,b", "--item", "i"]) == 2
    assert "--raters names one column per rater" in capsys.readouterr().err


def planted_reliability(seed: int, accuracies: dict[str, float], rows: int = 300, kind: str = "comparisons"):
    """Votes of raters who err independently at known rates, each on 80 % of the rows; 60 % of the truth is `first`."""
    draw = np.random.default_rng(seed)
    rated_rows = []
    for i in range(rows):
        truth = -1.0 if draw.random() < 0.6 else 1.0
        votes = tuple(
            RaterVote(rater, truth if draw.random() < accuracy else -truth, (0.0, i))
            for rater, accuracy in accuracies.items()
            if draw.random() < 0.8
        )
        rated_rows.append(RatedRow(str(i), votes))
    return RatedRows("simulated", "columns", kind, rated_rows, named=True)  # type: ignore[arg-type]


def test_raters_of_known_reliability_are_within_their_printed_intervals():
    """S2-61: of 40 intervals at 95 %, 38 are expected to hold the known value; under 34 have probability 0.003."""
    accuracies = {"anna": 0.95, "ben": 0.85, "chris": 0.75, "dora": 0.65, "emil": 0.9}
    inside, widths = [], []
    for seed in range(8):
        fit = rater_reliability(planted_reliability(seed, accuracies), draws=100)
        assert fit is not None and fit["converged"]
        for rater in fit["raters"]:
            inside.append(rater["low"] <= accuracies[rater["rater"]] <= rater["high"])
            widths.append(rater["high"] - rater["low"])
    assert len(inside) == 40 and sum(inside) >= 34
    assert 0.03 < np.mean(widths) < 0.2


def test_reliability_is_printed_with_its_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rated = planted_reliability(1, {"anna": 0.95, "ben": 0.85, "李": 0.75}, rows=120)
    rows = [
        {"response1": "one", "response2": "two", **{v.rater: "A" if v.value < 0 else "B" for v in row.votes}}
        for row in rated.rows
    ]
    file = tmp_path / "sheet.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["data", "agreement", str(file), "--raters", "anna,ben,李", "--out", str(tmp_path / "a.json")]
    assert main(arguments) == 0
    shown = capsys.readouterr().out.splitlines()
    fit = json.loads((tmp_path / "a.json").read_text())["dawid_skene"]
    at = next(number for number, line in enumerate(shown) if "right, by Dawid-Skene" in line)
    for line, rater in zip(shown[at + 1 :], fit["raters"], strict=False):
        assert line.split()[:2] == [rater["rater"], f"{rater['value']:.1%}"]
        assert f"{rater['low']:.1%} to {rater['high']:.1%}" in line
    assert [rater["rater"] for rater in fit["raters"]] == ["anna", "ben", "李"]


def test_two_raters_or_scores_have_no_estimated_reliability():
    rated = planted_reliability(0, {"anna": 0.9, "ben": 0.9}, rows=50)
    assert rater_reliability(rated) is None
    three = {"anna": 0.9, "ben": 0.9, "chris": 0.9}
    assert rater_reliability(planted_reliability(0, three, rows=50, kind="scores")) is None
    assert rater_reliability(planted_reliability(0, three, rows=50)) is not None


def test_raters_who_always_disagree_alike_are_no_go(tmp_path: Path):
    """Replicates that do not vary are perfect agreement only if the raters agree."""
    rows = [
        RatedRow(str(i), (RaterVote("a", -1.0, (0.0, i)), RaterVote("b", 1.0, (0.0, i)))) for i in range(20)
    ]
    report = rater_report(RatedRows("x", "columns", "comparisons", rows, named=True))
    for alpha in report["alpha"].values():
        assert alpha["low"] <= alpha["value"] <= alpha["high"] < 0
    assert calibration_verdict(report, CalibrationThresholds.for_kind("comparisons"))["status"] == "no-go"


def test_raters_who_never_meet_are_said_to_be_unmeasured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "votes.jsonl"
    rows = [{"item": i, "rater": "ab"[i % 2], "label": i % 3} for i in range(30)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["data", "agreement", str(file), "--gate"]) == 1
    shown = capsys.readouterr().out
    assert "no row has labels of two raters: agreement is unknown. Fix: give some rows to" in shown
    assert "beyond chance" not in shown


def test_of_many_raters_those_with_the_most_rows_are_listed():
    votes = [(f"r{i}", f"r{i + 1}") for i in range(400)] + [("r1", "r399")] * 5
    rows = [
        RatedRow(str(n), tuple(RaterVote(rater, -1.0, (0.0, n)) for rater in pair))
        for n, pair in enumerate(votes)
    ]
    rated = RatedRows("x", "long", "comparisons", rows, named=True)
    report = rater_report(rated, draws=10)
    assert len(report["cohen_kappa"]) == 300 and len(report["raters"]) == 401
    assert report["cohen_kappa"][0] == {"raters": ["r1", "r399"], "rows": 5, "kappa": None}
    lines = rater_lines(report, calibration_verdict(report, CalibrationThresholds(0.4)))
    table = lines[next(n for n, line in enumerate(lines) if line.startswith("rater ")) + 1 :][:2]
    assert [line.split()[0] for line in table] == ["r1", "r399"] and "… and 371 more raters" in lines
