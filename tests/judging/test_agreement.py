"""Agreement of a judge with people: known figures, other implementations, and the command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from judging.stand_in import MODEL, Handler, always_a, by_truth, stand_in
from sklearn.metrics import cohen_kappa_score

from harken.cli.main import main
from harken.config.judge_options import judge_from
from harken.errors import UserError
from harken.judging.agreement import judge_side, labelled_pair, people_agreement
from harken.judging.both_orders import JudgedPair
from harken.judging.pair import PairVerdict
from harken.records import Message, Preference, Prompt

DATA = Path(os.environ.get("HARKEN_DATA", "none")) / "rm_eval"


def preference(number: int, label: float = 1.0, **changes: object) -> Preference:
    prompt = Prompt(f"p{number}", (Message("user", f"Ask {number}"),), domain=f"d{number % 2}")
    fields = {"chosen": f"a good one, number {number}", "rejected": f"{number}", "label": label} | changes
    return Preference(prompt, **fields)  # type: ignore[arg-type]


def verdict(one: Preference, right: bool | None, seed: int = 0) -> JudgedPair:
    """A judge that is right, wrong, or changes with the order."""
    labelled = labelled_pair(one, seed)
    side = 1 if labelled.pair.first == one.chosen else -1
    if right is None:
        return JudgedPair(labelled.pair, PairVerdict(1.0), PairVerdict(1.0))
    p = float((side > 0) == right)
    return JudgedPair(labelled.pair, PairVerdict(p), PairVerdict(1 - p))


def test_shares_and_kappas_are_those_of_the_definition() -> None:
    rows = [preference(i) for i in range(20)] + [preference(20 + i, 0.5) for i in range(4)]
    kinds = [True] * 12 + [False] * 5 + [None] * 3 + [True, True, None, None]
    judged = [verdict(row, kind) for row, kind in zip(rows, kinds, strict=True)]
    labelled = [labelled_pair(row, 0) for row in rows]
    found = people_agreement(labelled, judged, 200, 0)
    assert found["agreement"]["n"] == 17 and found["agreement"]["share"] == pytest.approx(12 / 17)
    assert found["agreement_all"]["n"] == 20 and found["agreement_all"]["share"] == pytest.approx(13.5 / 20)
    assert found["people_ties"] == 4
    people, judge = [one.side for one in labelled], [judge_side(one) for one in judged]
    assert set(people) == {1, -1, 0}, "the order of a row says nothing of its label"
    assert found["kappa"]["value"] == pytest.approx(cohen_kappa_score(people, judge), abs=1e-12)
    decided = [(p, j) for p, j in zip(people, judge, strict=True) if p and j]
    assert found["kappa_decided"]["value"] == pytest.approx(
        cohen_kappa_score(*zip(*decided, strict=True)), abs=1e-12
    )
    assert found["kappa"]["low"] < found["kappa"]["value"] < found["kappa"]["high"]
    assert found["orders"]["inconsistent"] == 5
    assert set(found["slices"]["domain"]) == {"d0", "d1"}


def test_a_judge_that_prefers_longer_responses_than_people_is_named() -> None:
    rows = [
        preference(
            i, chosen="short" if i % 2 else "a much longer text", rejected="longer text" if i % 2 else "s"
        )
        for i in range(60)
    ]
    judged = [verdict(row, right=i % 2 == 0) for i, row in enumerate(rows)]
    found = people_agreement([labelled_pair(row, 0) for row in rows], judged, 100, 0)
    assert found["biases"] == ["prefers_longer_than_people"]
    assert (found["length"]["judge"], found["length"]["people"]) == (1.0, 0.5)
    fair = [verdict(row, right=True) for row in rows]
    assert people_agreement([labelled_pair(row, 0) for row in rows], fair, 100, 0)["biases"] == []


def test_failed_pairs_count_nowhere() -> None:
    rows = [preference(i) for i in range(10)]
    judged = [verdict(row, True) for row in rows]
    judged[0] = JudgedPair(judged[0].pair, PairVerdict(None, "refusal"), PairVerdict(0.0))
    found = people_agreement([labelled_pair(row, 0) for row in rows], judged, 0, 0)
    assert found["agreement"]["n"] == 9 and found["orders"]["failed"] == 1 and found["kappa"] is None


def golden(tmp_path: Path) -> str:
    rows = [
        {
            "prompt": f"Ask {i}",
            "response_a": f"good {i}",
            "response_b": f"other {i}",
            "winner": "ab"[i % 3 == 0],
        }
        for i in range(12)
    ]
    for i, row in enumerate(rows):
        if i % 3 == 0:
            row["response_a"], row["response_b"] = row["response_b"], row["response_a"]
    path = tmp_path / "golden.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(tmp_path: Path, url: str, *more: str) -> int:
    arguments = [
        "judge",
        "agreement",
        golden(tmp_path),
        "--judge",
        f"{url}#{MODEL}",
        "--out",
        str(tmp_path / "out"),
    ]
    return main([*arguments, "--set", "judge.backoff_s=0.01", *more])


def test_the_command_measures_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in(by_truth, logprobs=True) as server:
        assert run(tmp_path, server.url) == 0
        asked = len(server.requests)
        assert run(tmp_path, server.url) == 0
        assert asked == 24 + 8 and len(server.requests) == asked
    printed = capsys.readouterr().err
    assert "agreement with people: 100.0 %" in printed and "Cohen's kappa: 1.000" in printed
    written = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert written["agreement"]["agreement"]["share"] == 1.0
    assert written["identity"]["url"] == server.url and written["models"] == [MODEL]
    assert "# Agreement of endpoint with people" in (tmp_path / "out" / "agreement.md").read_text()


def test_the_command_calls_a_position_bias_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in(always_a) as server:
        assert run(tmp_path, server.url, "--set", "max_canary_wins=1") == 0
    assert "prefers the response that is shown first (prefers_first_shown)" in capsys.readouterr().err


@pytest.mark.skipif(not DATA.is_dir(), reason="HARKEN_DATA is not set")
def test_people_and_a_length_judge_on_real_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On MT-bench's 200 pairs of the majority vote, the longer response is the preferred one in 136 of 195 pairs."""
    (tmp_path / "my_judge.py").write_text("def longer(prompt, response):\n    return len(response)\n")
    file = str(DATA / "processed_mt-bench.jsonl.gz")
    out = ["--set", "max_canary_wins=1", "--out", str(tmp_path / "out")]
    assert main(["judge", "agreement", file, "--judge", f"{tmp_path}/my_judge.py:longer", *out]) == 0
    found = json.loads((tmp_path / "out" / "agreement.json").read_text())["agreement"]
    assert found["agreement"]["n"] == 195 and found["agreement"]["share"] == pytest.approx(136 / 195)
    assert found["biases"] == ["prefers_longer_than_people"]


def test_judges_are_named_on_the_command_line(tmp_path: Path) -> None:
    assert judge_from("http://127.0.0.1:1/v1#org/m") == {
        "type": "endpoint", "url": "http://127.0.0.1:1/v1", "model": "org/m",
    }  # fmt: skip
    assert judge_from("local:embedded") == {"type": "local", "model_name": "embedded"}
    assert judge_from("intact") == judge_from("rule:intact") == {"type": "rule", "rule": "intact"}
    assert judge_from("my.py:score") == {"type": "python", "path": "my.py:score"}
    assert judge_from("outputs/02_rm") == {"type": "reward_model", "checkpoint_path": "outputs/02_rm"}
    (tmp_path / "j.yml").write_text("judge: {type: rule, rule: intact}\n")
    assert judge_from(str(tmp_path / "j.yml")) == {"type": "rule", "rule": "intact"}
    for wrong, words in (
        ("https://example.com/v1", "write https://example.com/v1#MODEL"),
        ("no.yml", "no such file"),
    ):
        with pytest.raises(UserError, match=words):
            judge_from(wrong)


def test_a_wrong_setting_of_a_judge_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["judge", "agreement", golden(tmp_path), "--judge", "http://example.com/v1#m"]
    assert main(arguments) == 2
    line = capsys.readouterr().err.strip()
    assert "not encrypted. Fix: write https" in line and "\n" not in line
    assert main([*arguments[:-1], "intact", "--set", "judge.rubrik=x"]) == 2
    assert "rubrik" in capsys.readouterr().err


def test_a_judge_that_never_replies_rightly_is_told_by_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All batches are void; what the replies were is said, and the fix counts the pairs."""

    def nonsense(handler: Handler, body: dict[str, Any], number: int) -> bool:
        text = "A and B" if number % 2 else "C"
        handler.reply({"model": MODEL, "choices": [{"message": {"role": "assistant", "content": text}}]})
        return True

    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"Ask {i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with stand_in(by_truth, misbehave=nonsense) as server:
        arguments = ["judge", "agreement", str(path), "--judge", f"{server.url}#{MODEL}"]
        assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "both letters 10" in shown and "another letter 10" in shown
    assert "--set max_canary_wins=1 to count them" in shown
    assert "agreement with people is unknown: no pair counts" in shown
    written = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert written["problems"] == {"both letters": 10, "another letter": 10}


def test_a_limit_samples_the_whole_file_by_the_seed(tmp_path: Path) -> None:
    """Rows are often sorted, by rater or by domain, so the first ones are no sample."""
    pairs, seen = tmp_path / "pairs.jsonl", tmp_path / "seen.txt"
    rows = [{"prompt": f"Ask {i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(40)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = tmp_path / "my_judge.py"
    judge.write_text(
        "def score(prompt, response):\n"
        f"    with open({str(seen)!r}, 'a') as file: file.write(response + '\\n')\n"
        "    return float(response.startswith('yes'))\n"
    )

    def judged(seed: int, name: str) -> set[int]:
        seen.unlink(missing_ok=True)
        arguments = ["judge", "agreement", str(pairs), "--judge", f"{judge}:score", "--limit", "10"]
        assert main([*arguments, "--set", f"seed={seed}", "--out", str(tmp_path / name)]) == 0
        words = [line.split() for line in seen.read_text().splitlines() if line.startswith(("yes ", "no "))]
        return {int(word[1]) for word in words if len(word) == 2}

    samples = [judged(seed, f"out{seed}") for seed in range(4)]
    assert [len(sample) for sample in samples] == [10] * 4
    assert judged(0, "again") == samples[0] and samples[0] != samples[1]
    assert max(set.union(*samples)) >= 30, "the end of the file is sampled too"
