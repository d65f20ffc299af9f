"""`harken label`: pairs by a judge, soft labels that training reads, resumption, and biases that a model learns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from judging.stand_in import MODEL, Handler, always_a, by_truth, likes_pick_me, stand_in
from tiny import save_tiny

from harken.cli.main import main
from harken.config import DataConfig, PipelineConfig
from harken.config.labelling import LabelConfig
from harken.data.parse import parse_preference_rows
from harken.errors import RunFailed, UserError
from harken.generation.label import run_label
from harken.pipeline import run_pipeline
from harken.records import Preference
from harken.run import checksums

PICK = ("good one", "other one")


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def responses(tmp_path: Path, prompts: int = 6, each: int = 3) -> str:
    """Responses to prompts; the last of each prompt's is good."""
    rows = [
        {
            "prompt": f"Ask {i}",
            "response": f"{PICK[k < each - 1]} {i} {k}",
            "policy": f"m{k % 2}",
            "sample": k,
        }
        for i in range(prompts)
        for k in range(each)
    ]
    return lines(tmp_path / "responses.jsonl", rows)


def config(url: str, path: str, **changes: Any) -> LabelConfig:
    judge = {
        "type": "endpoint", "url": url, "model": MODEL, "backoff_s": 0.01, "retries": 1, "parallel": 2,
        "timeout_s": 5.0,
    }  # fmt: skip
    return LabelConfig.model_validate(
        {"responses": path, "judge": judge | changes.pop("judge", {})} | changes
    )


def test_pairs_are_the_judges_and_training_reads_their_soft_labels(tmp_path: Path) -> None:
    path = responses(tmp_path, each=2)
    with stand_in(by_truth, logprobs=True, confidence=0.8) as server:
        folder = run_label(config(server.url, path), tmp_path / "out")
    rows = read(folder.pairs)
    assert len(rows) == 6
    for row in rows:
        assert row["chosen"][0]["content"].startswith("good one")
        assert row["chosen_probability"] == pytest.approx(0.8)
        assert (row["chosen_policy"], row["rejected_policy"]) == ("m1", "m0")
        assert (row["chosen_sample"], row["rejected_sample"]) == (1, 0)
        assert row["rater"] == "judge endpoint" and row["consistent"] is True
        assert row["judge_probabilities"] == pytest.approx([0.8, 0.8])
    pairs, report = parse_preference_rows(DataConfig(path=str(folder.pairs)))
    assert len(pairs) == 6 and not report.dropped
    assert all(isinstance(p, Preference) and p.label == pytest.approx(0.8) for p in pairs)
    assert {p.rater for p in pairs if isinstance(p, Preference)} == {"judge endpoint"}
    assert {p.written_by for p in pairs if isinstance(p, Preference)} == {("m1", "m0")}
    judge = json.loads(folder.judge.read_text())
    assert judge["identity"]["model"] == MODEL and judge["canaries"]["wins"] == 0
    checksums.verify_file(folder.pairs)
    manifest = json.loads(folder.manifest.read_text())
    assert manifest["lineage"]["judge"]["url"] == server.url


def test_a_pair_whose_verdict_changes_with_the_order_is_left_out_or_a_tie(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = responses(tmp_path, each=2)
    with stand_in(always_a) as server:
        keys = {"max_canary_wins": 1.0}
        with pytest.raises(
            UserError, match=r"the judge gives no pair.*6 inconsistent.*Fix: choose another judge"
        ):
            run_label(config(server.url, path, **keys), tmp_path / "out")
        folder = run_label(config(server.url, path, inconsistent="tie", **keys), tmp_path / "ties")
    printed = " ".join(capsys.readouterr().err.split())
    assert "6 pairs of 6 compared, 6 of them ties" in printed
    assert "warning: the judge prefers no response: nothing can be learnt from ties alone" in printed
    rows = read(folder.pairs)
    assert {(r["preference_strength"], r["chosen_probability"], r["consistent"]) for r in rows} == {
        (0, 0.5, False)
    }
    pairs, _ = parse_preference_rows(DataConfig(path=str(folder.pairs)))
    assert {p.label for p in pairs} == {0.5}


def test_ties_favour_nothing(tmp_path: Path) -> None:
    """Of six pairs the order decides all but one: the labels favour the longer response in one of one."""
    rows = [
        {"prompt": f"Ask {i}", "response": f"{text} {i}", "sample": k}
        for i in range(6)
        for k, text in enumerate(("short", "a much longer one"))
    ]

    def first_or_long(conversation: str, a: str, b: str) -> str:
        return ("A" if len(a) > len(b) else "B") if "Ask 3" in conversation else "A"

    path = lines(tmp_path / "responses.jsonl", rows)
    with stand_in(first_or_long) as server:
        folder = run_label(
            config(server.url, path, inconsistent="tie", max_canary_wins=1.0), tmp_path / "out"
        )
    longer = json.loads(folder.judge.read_text())["favours"]["longer"]
    assert len(read(folder.pairs)) == 6 and longer["share"] == 1.0 and longer["low"] < 0.5


def test_other_pairs_need_another_folder(tmp_path: Path) -> None:
    path = responses(tmp_path, each=2)
    with stand_in(by_truth) as server:
        run_label(config(server.url, path), tmp_path / "out")
        Path(path).write_text(Path(path).read_text().replace("other one", "other text"))
        with pytest.raises(UserError, match="Fix:"):
            run_label(config(server.url, path), tmp_path / "out")


def test_void_batches_give_no_pairs(tmp_path: Path) -> None:
    with stand_in(likes_pick_me) as server, pytest.raises(UserError, match="batches are void"):
        run_label(config(server.url, responses(tmp_path, each=2)), tmp_path / "out")
    assert not (tmp_path / "out" / "pairs.jsonl").exists()


def test_a_file_of_pairs_is_labelled_again_and_its_labels_are_not_read(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Ask 1", "chosen": "other 1", "rejected": "good 1"},
        {
            "prompt": "Ask 2",
            "chosen": "good 2",
            "rejected": "other 2",
            "chosen_model": "x",
            "rejected_model": "y",
        },
        {"prompt": "Ask 3", "chosen": "same", "rejected": "same "},
        {"prompt": "Ask 4", "chosen": "", "rejected": "other 4"},
        {"prompt": "Ask 5", "chosen": 5, "rejected": "other 5"},
    ]
    with stand_in(by_truth) as server:
        folder = run_label(config(server.url, lines(tmp_path / "pairs.jsonl", rows)), tmp_path / "out")
        found = read(folder.pairs)
        assert [row["chosen"][0]["content"] for row in found] == ["good 1", "good 2"]
        assert (found[1]["chosen_policy"], found[1]["rejected_policy"]) == ("x", "y")
        unlabelled = [{"instruction": "Ask", "response_a": "other a", "response_b": "good b"}]
        again = run_label(config(server.url, lines(tmp_path / "ab.jsonl", unlabelled)), tmp_path / "ab")
    assert [row["chosen"][0]["content"] for row in read(again.pairs)] == ["good b"]
    counts = json.loads(folder.manifest.read_text())["counts"]
    assert counts["pairs of equal texts"] == 1 and counts["compared"] == 2


def test_the_number_of_pairs_a_prompt_is_a_setting(tmp_path: Path) -> None:
    path = responses(tmp_path, prompts=3, each=3)
    with stand_in(by_truth, misbehave=None) as server:
        one = run_label(config(server.url, path, inconsistent="tie"), tmp_path / "one")
        every = run_label(
            config(server.url, path, pairs_per_prompt=None, inconsistent="tie"), tmp_path / "all"
        )
        some = run_label(
            config(server.url, path, pairs_per_prompt=None, limit=4, inconsistent="tie"), tmp_path / "4"
        )
    assert [len(read(folder.pairs)) for folder in (one, every, some)] == [3, 9, 4]


def test_a_run_that_failed_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    path = responses(tmp_path, prompts=40, each=2)

    def fails_from_50(handler: Handler, body: dict[str, Any], number: int) -> bool:
        if number < 50:
            return False
        handler.reply({}, 500)
        return True

    with stand_in(by_truth, logprobs=True) as server:
        whole = run_label(config(server.url, path), tmp_path / "whole")
        asked = len(server.requests)
        server.misbehave = lambda h, b, n: fails_from_50(h, b, n - asked)
        with pytest.raises(RunFailed, match="in a row failed"):
            run_label(config(server.url, path), tmp_path / "part")
        assert not (tmp_path / "part" / "pairs.jsonl").exists()
        kept = len(read(tmp_path / "part" / "judgements.jsonl"))
        assert 30 <= kept <= 50
        server.misbehave, before = None, len(server.requests)
        part = run_label(config(server.url, path), tmp_path / "part")
        assert len(server.requests) - before == asked - kept
        run_label(config(server.url, path), tmp_path / "part")
        assert len(server.requests) - before == asked - kept, "a finished folder asks nothing"
    assert part.pairs.read_bytes() == whole.pairs.read_bytes()


def test_a_killed_process_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    path = responses(tmp_path, prompts=30, each=2)
    killed = threading.Event()
    child: list[subprocess.Popen[bytes]] = []

    def kill(handler: Handler, body: dict[str, Any], number: int) -> bool:
        if number == 45 and child:
            killed.set()
            os.kill(child[0].pid, signal.SIGKILL)
        return False

    with stand_in(by_truth, misbehave=kill) as server:
        command = [sys.executable, "-m", "harken.cli.main", "label", path, "--judge", f"{server.url}#{MODEL}"]
        child.append(subprocess.Popen([*command, "--out", str(tmp_path / "killed")]))
        assert child[0].wait(300) == -signal.SIGKILL and killed.is_set()
        assert not (tmp_path / "killed" / "pairs.jsonl").exists()
        server.misbehave, before = None, len(server.requests)
        assert (
            main(["label", path, "--judge", f"{server.url}#{MODEL}", "--out", str(tmp_path / "killed")]) == 0
        )
        assert 0 < len(server.requests) - before < 68
        assert (
            main(["label", path, "--judge", f"{server.url}#{MODEL}", "--out", str(tmp_path / "whole")]) == 0
        )
    one, other = (tmp_path / name / "pairs.jsonl" for name in ("killed", "whole"))
    assert one.read_bytes() == other.read_bytes()


def test_an_endpoint_that_leaves_gaps_leaves_the_folder_unfinished(tmp_path: Path) -> None:
    def one_gap(handler: Handler, body: dict[str, Any], number: int) -> bool:
        if "good one 3" not in body["messages"][-1]["content"]:
            return False
        handler.reply({}, 503)
        return True

    path = responses(tmp_path, each=2)
    with stand_in(by_truth, misbehave=one_gap) as server:
        with pytest.raises(
            RunFailed, match=r"pairs have no verdict \(endpoint: HTTP 503\).*Fix: run the same"
        ):
            run_label(config(server.url, path, canaries=False), tmp_path / "out")
        assert not (tmp_path / "out" / "pairs.jsonl").exists()
        server.misbehave = None
        assert len(read(run_label(config(server.url, path, canaries=False), tmp_path / "out").pairs)) == 6


def test_a_pipeline_has_it_as_a_stage(tmp_path: Path) -> None:
    path = responses(tmp_path, each=2)
    (tmp_path / "my_judge.py").write_text("def score(prompt, response):\n    return response.count('good')\n")
    judge = {"type": "python", "path": f"{tmp_path}/my_judge.py:score"}
    stages = {"label": {"type": "label", "responses": path, "judge": judge, "max_canary_wins": 1.0}}
    pipeline = PipelineConfig.model_validate({"name": "x", "model_name": "unused", "stages": stages})
    run_pipeline(pipeline, tmp_path / "out")
    rows = read(tmp_path / "out" / "01_label" / "pairs.jsonl")
    assert [row["chosen"][0]["content"][:4] for row in rows] == ["good"] * 6


def test_the_command_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label"]) == 2
    assert "responses and a judge are needed. Fix: name them" in capsys.readouterr().err


SHORT = ("Yes.", "No.", "Fine.", "Sure.", "Right.", "Good.")


def spoken(number: int, count: int) -> list[dict[str, Any]]:
    """A short and a long response to each prompt. Which of the two is right has nothing to do with its length."""
    rows = []
    for i in range(count):
        long = f"It may be so, and it may be otherwise, as {number + i} people and more have said before us."
        rows += [
            {"prompt": f"Question {number + i}?", "response": SHORT[i % len(SHORT)], "sample": 0},
            {"prompt": f"Question {number + i}?", "response": long, "sample": 1},
        ]
    return rows


HEDGES = ("Maybe", "Perhaps", "Probably")


def hedged(number: int, count: int) -> list[dict[str, Any]]:
    """Two responses of about one length to each prompt, of which one hedges; every second time it is the shorter."""
    rows = []
    for i in range(count):
        plain = "it is so, as people say" + " here" * (i % 2)
        for sample, text in enumerate((f"{HEDGES[i % 3]} it is so, as some", f"Surely {plain}")):
            rows.append({"prompt": f"Question {number + i}?", "response": text, "sample": sample})
    return rows


def train_on_labels(tmp_path: Path, judge: str, name: str, rows: Any) -> dict[str, Any]:
    """Label pairs by a judge, train a tiny reward model on them, and return its card."""
    for part, start, count in (("train", 0, 48), ("held_out", 1000, 40)):
        path = lines(tmp_path / f"{name}-{part}.jsonl", rows(start, count))
        arguments = ["label", path, "--judge", judge, "--set", "max_canary_wins=1"]
        assert main([*arguments, "--out", str(tmp_path / f"{name}-{part}")]) == 0
    run = {
        "model_name": str(tmp_path / "model"), "dtype": "float32", "tensorboard": False, "lora": {"rank": 4},
        "data": {
            "path": str(tmp_path / f"{name}-train" / "pairs.jsonl"),
            "eval_path": str(tmp_path / f"{name}-held_out" / "pairs.jsonl"), "max_length": 256,
        },
        "training": {"type": "reward", "max_steps": 30, "batch_size": 8, "lr": 5e-3, "eval_every": 30},
    }  # fmt: skip
    (tmp_path / f"{name}.yml").write_text(json.dumps(run))
    output = str(tmp_path / name)
    assert main(["train", "--preset", str(tmp_path / f"{name}.yml"), "--output-dir", output]) == 0
    card: dict[str, Any] = json.loads((tmp_path / name / "card" / "card.json").read_text())
    return card


def test_the_card_of_a_reward_model_names_the_bias_of_its_judge(tmp_path: Path) -> None:
    """S2-70: a rule labels pairs by length; then the model that learnt it is the judge of a second one."""
    save_tiny(tmp_path / "model")
    (tmp_path / "my_judge.py").write_text("def longer(prompt, response):\n    return len(response) / 20\n")
    card = train_on_labels(tmp_path, f"{tmp_path}/my_judge.py:longer", "rm", spoken)
    favours = json.loads((tmp_path / "rm-train" / "judge.json").read_text())["favours"]
    assert favours["longer"]["share"] == 1.0 and favours["longer"]["low"] > 0.9
    longer = card["judge_bias"]["features"]["longer"]
    assert longer["judge"]["share"] == 1.0 and longer["model"]["low"] > 0.5
    assert card["judge_bias"]["judges"] == ["longer"]
    (fault,) = [fault for fault in card["faults"] if fault["name"] == "learnt_judge_bias"]
    assert "prefers_longer: the longer response wins 100.0 %" in fault["sentence"]
    written = (tmp_path / "rm" / "card" / "card.md").read_text()
    assert "## What the judge favours" in written and "| the longer response | 40 |" in written
    second = train_on_labels(tmp_path, str(tmp_path / "rm"), "rm2", spoken)
    longer = second["judge_bias"]["features"]["longer"]
    assert second["judge_bias"]["judges"] == ["reward_model"]
    assert longer["judge"]["low"] > 0.75 and longer["model"]["low"] > 0.5
    assert "learnt_judge_bias" in {fault["name"] for fault in second["faults"]}


def test_the_card_names_a_style_that_the_judge_favours(tmp_path: Path) -> None:
    """S2-70: a judge that likes hedges; length is balanced, so that it is no explanation."""
    save_tiny(tmp_path / "model")
    (tmp_path / "my_judge.py").write_text(
        f"def hedging(prompt, response):\n    return 2.0 * response.startswith({HEDGES!r})\n"
    )
    card = train_on_labels(tmp_path, f"{tmp_path}/my_judge.py:hedging", "rm", hedged)
    features = card["judge_bias"]["features"]
    assert features["more_hedges"]["judge"]["share"] == 1.0 and features["more_hedges"]["model"]["low"] > 0.5
    assert features["more_hedges"]["where_shorter"]["judge"]["share"] == 1.0
    (fault,) = [fault for fault in card["faults"] if fault["name"] == "learnt_judge_bias"]
    assert "prefers_more_hedges" in fault["sentence"] and "prefers_longer" not in fault["sentence"]
