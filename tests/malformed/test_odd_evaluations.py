"""Odd and hostile inputs of `harken compare`, `card`, `frontier` and `data`: one line that helps, or a right figure.

Every case goes through the command line as a user's would. None may end in an internal error, a warning of NumPy, or a
figure that is not a number.
"""

# ruff: noqa: E501  one case a line reads better than a wrapped table

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kill import stages

from harken.cli.main import main
from harken.run import checksums
from harken.run.tables import read_rows, write_rows

LONG = "x" * 3000
NAME = "\x1b[31mred\x1b[0m\u202e ナ\n|*`名"
"""A terminal's escape, a change of direction, a line break, Markdown."""
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    stages.make_world(root)
    for kind, name in (("evaluation", "eval"), ("score", "scored"), ("ppo", "ppo")):
        stages.work(root, kind)(root / name)
    assert main(["frontier", str(root / "ppo"), "--best-of", "2"]) == 0
    return root


class Ran:
    """What a command printed, after it was checked to be no crash."""

    def __init__(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            self.code = main(arguments)
        printed = capsys.readouterr()
        self.out, self.err = printed.out, printed.err
        assert "internal error" not in self.err and "Traceback" not in self.err, self.err
        assert "\x1b" not in self.out + self.err, "control characters reach the terminal"
        assert not re.search(r"\b[+-]?(nan|inf)\b", self.out), self.out
        assert self.code in (0, 2)
        if self.code == 2:
            assert "Fix: " in self.err, self.err


def copied(world: Path, name: str, into: Path) -> Path:
    """A copy without its checksums, so that it may be changed."""
    folder = into / name
    shutil.copytree(world / name, folder)
    checksums.remove_checksums(folder)
    return folder


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# compare: a copy of an evaluation is changed, and compared with the one it was copied from


def edit_rows(change: Callable[[Rows], Rows]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "responses.parquet"
        write_rows(path, change(read_rows(path)))

    return apply


def edit_json(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        change(found)
        (folder / name).write_text(json.dumps(found))

    return apply


def edit_config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        found = yaml.safe_load((folder / "config.yml").read_text())
        change(found)
        (folder / "config.yml").write_text(yaml.safe_dump(found))

    return apply


def each(**values: Any) -> Callable[[Path], None]:
    return edit_rows(lambda rows: [{**row, **values} for row in rows])


def first(**values: Any) -> Callable[[Path], None]:
    return edit_rows(lambda rows: [{**rows[0], **values}, *rows[1:]])


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


COMPARED: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "no responses": (remove("responses.parquet"), 2, "file not found"),
    "empty responses": (write("responses.parquet", b""), 2, "not a readable parquet file"),
    "no rows": (edit_rows(lambda rows: []), 2, "responses"),
    "one row": (edit_rows(lambda rows: rows[:1]), 2, "has responses of"),
    "a summary of zeros": (write("summary.json", b"\0" * 100), 2, "is not JSON"),
    "a summary that ends early": (lambda f: (f / "summary.json").write_text('{"policies": ["a"'), 2, "JSON"),
    "a summary of another version": (edit_json("summary.json", lambda s: s.pop("clusters")), 2, "clusters"),
    "an unfinished evaluation": (remove("summary.json"), 0, "is not finished"),
    "an empty configuration": (write("config.yml", b""), 2, "config.yml"),
    "a configuration of nulls": (write("config.yml", b"\0\0\0"), 2, "config.yml"),
    "a list as configuration": (write("config.yml", b"- a\n- b\n"), 2, "config.yml"),
    "a setting of another version": (edit_config(lambda c: c.update(colour="red")), 0, "unknown settings"),
    "no seed": (edit_config(lambda c: c.pop("seed")), 0, "seed"),
    "a seed that is text": (edit_config(lambda c: c.update(seed="many")), 0, "seed"),
    "a reward that is not a number": (first(reward=float("nan")), 2, "reward"),
    "an infinite reward": (first(reward=float("inf")), 2, "reward"),
    "a reward beyond every scale": (first(reward=1.7e308), 2, "3.4e+38"),
    "all rewards equal": (each(reward=0.5), 0, "W / T / L"),
    "huge rewards": (each(reward=3e38), 0, "W / T / L"),
    "a response twice": (edit_rows(lambda rows: [*rows, rows[0]]), 0, "W / T / L"),
    "ids as numbers": (edit_rows(lambda rows: [{**r, "prompt_id": int(r["prompt_id"][1:])} for r in rows]), 2, "prompt_id"),
    "other prompts": (edit_rows(lambda rows: [{**r, "prompt_id": f"z{r['prompt_id']}"} for r in rows]), 0, "shared prompts"),
    "one shared prompt": (
        edit_rows(lambda rows: [{**r, "prompt_id": r["prompt_id"] if r["prompt_id"] == "q0" else "z" + r["prompt_id"]} for r in rows]),
        0,
        "too few prompts for an interval",
    ),
    "no messages": (each(messages=None), 2, "messages"),
    "messages that are no JSON": (each(messages="{" * 5000), 2, "messages"),
    "odd domains": (each(domain=NAME), 0, "W / T / L"),
    "no domain": (each(domain=None), 0, "W / T / L"),
    "four hundred columns": (each(**{f"column {i} {NAME}": i for i in range(400)}), 0, "W / T / L"),
    "tokens below zero": (each(response_tokens=-5), 2, "response_tokens"),
    "responses of ten thousand marks": (each(response="# " * 5000), 0, "W / T / L"),
    "empty responses to all": (each(response="", response_tokens=0), 0, "W / T / L"),
}  # fmt: skip


@pytest.mark.sample(16)
@pytest.mark.parametrize("case", COMPARED)
def test_an_odd_evaluation_is_compared_or_refused_in_a_line(
    case: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, code, said = COMPARED[case]
    folder = copied(world, "eval", tmp_path)
    change(folder)
    ran = Ran(["compare", str(world / "eval"), str(folder)], capsys)
    assert (ran.code, said in " ".join((ran.out + ran.err).split())) == (code, True), ran.out + ran.err
    assert Ran(["compare", str(folder), str(world / "eval")], capsys).code == code


@pytest.mark.parametrize(
    "case", ["itself", "a link to itself", "a file", "an empty folder", "a run", "nothing"]
)
def test_what_cannot_be_compared_is_named(
    case: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(world / "eval")
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    other, said = {
        "itself": (world / "eval", "the same folder"),
        "a link to itself": (tmp_path / "link", "the same folder"),
        "a file": (tmp_path / "file", "not"),
        "an empty folder": (tmp_path / "empty", "not a run, an evaluation or a pipeline"),
        "a run": (world / "rm", "this is a run of type reward"),
        "nothing": (tmp_path / "nothing", "no such folder"),
    }[case]
    ran = Ran(["compare", str(world / "eval"), str(other)], capsys)
    assert ran.code == 2 and said in ran.err


SCORED: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "without policies": (
        edit_rows(lambda rows: [{k: v for k, v in r.items() if k != "policy"} for r in rows]), 2, "policy",
    ),
    "samples as text": (each(sample="first"), 2, "sample"),
    "scores as text": (each(score_intact="good"), 2, "score_intact"),
    "rewards as text": (each(reward="good"), 2, "reward"),
    "without rewards": (each(reward=None), 0, "No rewards are compared"),
    "policies of odd names": (edit_rows(lambda rows: [{**r, "policy": NAME + r["policy"]} for r in rows]), 0, "No policy"),
    "half written": (remove("manifest.json"), 0, "No rewards are compared"),
}  # fmt: skip


@pytest.mark.parametrize("case", SCORED)
def test_odd_responses_are_compared_or_refused_in_a_line(
    case: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, code, said = SCORED[case]
    folder = copied(world, "scored", tmp_path)
    change(folder)
    ran = Ran(["compare", str(world / "scored"), str(folder)], capsys)
    assert (ran.code, said in " ".join((ran.out + ran.err).split())) == (code, True), ran.out + ran.err


RUNS: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "without a manifest": (remove("manifest.json"), 2, "no manifest"),
    "a manifest without lineage": (edit_json("manifest.json", lambda m: m.pop("lineage")), 2, "lineage"),
    "a lineage of numbers": (edit_json("manifest.json", lambda m: m.update(lineage=[1])), 2, "lineage"),
    "without metrics": (remove("metrics.jsonl"), 0, "no setting differs"),
    "metrics of text": (write("metrics.jsonl", b'{"step": 1, "eval/accuracy": "high"}\n'), 2, "metrics"),
    "metrics of infinity": (write("metrics.jsonl", b'{"step": 1, "eval/accuracy": Infinity}\n'), 2, "JSON"),
    "a setting of another version": (edit_config(lambda c: c["training"].update(colour=[NAME])), 0, "training.colour"),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
def test_an_odd_run_is_compared_or_refused_in_a_line(
    case: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, code, said = RUNS[case]
    folder = copied(world, "rm", tmp_path)
    change(folder)
    ran = Ran(["compare", str(world / "rm"), str(folder)], capsys)
    assert (ran.code, said in " ".join((ran.out + ran.err).split())) == (code, True), ran.out + ran.err


# frontier


FRONTIER: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "a curve of another form": (write("best_of_n/curve.json", b'{"n": 2}'), 2, "points"),
    "a curve of text": (write("best_of_n/curve.json", b'{"points": [{"n": 1, "kl": "far"}]}'), 2, "points.0"),
    "an empty curve": (write("best_of_n/curve.json", b""), 2, "JSON"),
    "without metrics": (remove("metrics.jsonl"), 0, "best of 2"),
    "metrics that are cut": (lambda f: (f / "metrics.jsonl").write_text('{"step": 1, "kl/me'), 0, "best of 2"),
    "huge metrics": (
        lambda f: (f / "metrics.jsonl").write_text(
            '{"step": 1, "kl/mean": 1e300, "eval/reward_mean": -1e300}\n'
            '{"step": 2, "kl/mean": -5, "eval/reward_mean": 1e300}\n'
        ),
        0,
        "update 2",
    ),
    "a curve without intervals": (
        edit_json("best_of_n/curve.json", lambda c: [p["reward"].update(low=None, high=None) for p in c["points"]]),
        0,
        "best of 2",
    ),
    "a list as training": (edit_config(lambda c: c.update(training=[1])), 2, "this is not a PPO run"),
}  # fmt: skip


@pytest.mark.parametrize("case", FRONTIER)
def test_an_odd_ppo_run_has_a_frontier_or_a_line(
    case: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, code, said = FRONTIER[case]
    folder = copied(world, "ppo", tmp_path)
    change(folder)
    ran = Ran(["frontier", str(folder), "--best-of", "2"], capsys)
    assert (ran.code, said in ran.out + ran.err) == (code, True), ran.out + ran.err


@pytest.mark.parametrize("folder", ["eval", "rm", "scored", "model", "nothing", "prompts.jsonl"])
def test_no_other_folder_has_a_frontier(folder: str, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Ran(["frontier", str(world / folder)], capsys).code == 2


# card


def pair(i: int, **values: Any) -> dict[str, Any]:
    return {"prompt": f"Odd {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} | values


CARD: dict[str, tuple[list[Any], int, str]] = {
    "no rows": ([], 2, "there are no rows"),
    "one pair": ([pair(0)], 0, "1 pairs"),
    "one prompt": ([pair(0, rejected=f"bad {i}") for i in range(12)], 0, "12 pairs of 1 prompts"),
    "the same pair twelve times": ([pair(0)] * 12, 0, "card"),
    "equal sides": ([pair(i, rejected=f"good {i}") for i in range(3)], 2, "Fix"),
    "all ties": ([{"prompt": f"q{i}", "response_a": "a", "response_b": "b", "label": 0.5} for i in range(6)], 0, "No pair has a preferred side"),
    "one class": ([{"prompt": f"q{i}", "response_a": f"a{i}", "response_b": "b", "label": 1.0} for i in range(12)], 0, "card"),
    "odd names": ([pair(i, domain=NAME, rater=NAME, chosen_model=NAME, rejected_model=f"{NAME}{i % 2}") for i in range(12)], 0, "source policy"),
    "three hundred columns": ([pair(i) | {f"c{k}": k for k in range(300)} for i in range(4)], 0, "card"),
    "responses that do not fit": ([pair(i, chosen=LONG) for i in range(3)], 2, "can be scored"),
    "numbers for texts": ([pair(i, chosen=i, rejected=None) for i in range(3)], 2, "Fix"),
    "subsets of numbers": ([pair(i, subset=i % 2) for i in range(4)], 0, "card"),
    "lists of nothing": ([{"prompt": "q", "chosen": [], "rejected": ["a"]}] * 3, 2, "Fix"),
    "duplicate ids": ([pair(i, id="same") for i in range(6)], 0, "card"),
    "ids of both types": ([pair(i, id=i if i % 2 else str(i)) for i in range(6)], 0, "card"),
    "strengths of every size": ([pair(i, strength=s) for i, s in enumerate((1e300, -1, 0, "3", "NaN", None))], 0, "card"),
}  # fmt: skip


@pytest.fixture(scope="module")
def no_held_out(world: Path) -> Path:
    """A reward run without held-out pairs: the first file of `--data` is judged."""
    config = stages.run_config(world, "reward", data={"path": str(world / "pairs.jsonl"), "max_length": 64})
    stages.training(config)(world / "alone")
    return world / "alone"


@pytest.mark.sample(10)
@pytest.mark.parametrize("case", CARD)
def test_odd_pairs_have_a_card_or_a_line(
    case: str, no_held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, code, said = CARD[case]
    data, out = lines(tmp_path / "pairs.jsonl", rows), tmp_path / "card"
    ran = Ran(
        ["card", str(no_held_out), "--data", str(data), "--data", str(data), "--output-dir", str(out)], capsys
    )
    assert (ran.code, said in ran.out + ran.err) == (code, True), ran.out + ran.err
    if code == 0:
        text = (out / "card.json").read_text()
        assert "NaN" not in text and "Infinity" not in text
        assert not re.search(r"\b(nan|inf)\b", (out / "card.md").read_text())


SAMPLES: dict[str, tuple[list[Any], int, str]] = {
    "no prompt twice": ([{"prompt": f"q{i}", "response": "r"} for i in range(3)], 2, "no prompt has two responses"),
    "rows of anything": ([1, None, "x", [], {}], 2, "no prompt has two responses"),
    "messages of brackets": ([{"messages": "[" * 5000, "response": "r"}] * 2, 2, "no prompt has two responses"),
    "two policies": ([{"prompt": "q", "response": f"r{i}", "policy": p} for i, p in enumerate("ab")], 2, "several policies"),
    "a row without a response": (
        [*({"prompt": "q", "response": f"r{i}"} for i in range(3)), {"prompt": "q"}], 0, "1 of 4 rows",
    ),
    "a score that one row lacks": (
        [{"prompt": "q", "response": f"r{i}", **({"gold": i} if i else {})} for i in range(3)], 0, "gold",
    ),
    "scores that are no numbers": (
        [{"prompt": "q", "response": f"r{i}", "gold": g} for i, g in enumerate(("NaN", 1e400, 1, 2))], 0, "gold",
    ),
    "equal responses": ([{"prompt": f"q{i}", "response": "r"} for i in range(2)] * 4, 0, "card"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAMPLES)
def test_odd_samples_have_a_curve_or_a_line(
    case: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, code, said = SAMPLES[case]
    data, out = lines(tmp_path / "samples.jsonl", rows), tmp_path / "card"
    given = ["--samples", str(data), "--probe-pairs", "0", "--output-dir", str(out)]
    ran = Ran(["card", str(world / "rm"), *given], capsys)
    assert (ran.code, said in ran.out + ran.err) == (code, True), ran.out + ran.err
    if code == 0:
        assert "NaN" not in (out / "card.json").read_text()


@pytest.mark.parametrize("case", ["an SFT run", "a half-written run", "a file as output", "a folder as data"])
def test_what_has_no_card_is_named(
    case: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("x")
    half = copied(world, "rm", tmp_path)
    shutil.rmtree(half / "final")
    arguments = {
        "an SFT run": [str(world / "sft")],
        "a half-written run": [str(half)],
        "a file as output": [str(world / "rm"), "--probe-pairs", "0", "--output-dir", str(tmp_path / "out")],
        "a folder as data": [str(world / "rm"), "--data", str(world / "model")],
    }[case]
    assert Ran(["card", *arguments], capsys).code == 2


# data


DATA: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 2),
    "white space": (b" \n\n\t\n", 2),
    "an empty list": (b"[]", 2),
    "null": (b"null\n", 2),
    "one row": (b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n', 0),
    "labels without end": (b'{"prompt": "q", "response_a": "a", "response_b": "b", "label": Infinity}\n', 2),
    "a label beyond floats": (b'{"prompt": "q", "response_a": "a", "response_b": "b", "label": 1' + b"0" * 400 + b"}\n", 2),
    "deep brackets": (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", 2),
    "zeros": (b"\0" * 4096, 2),
    "UTF-16": ('{"prompt": "q", "chosen": "a", "rejected": "b"}\n'.encode("utf-16"), 2),
    "a byte order mark": (b"\xef\xbb\xbf" + b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n', 0),
    "half a character": (b'{"prompt": "q", "chosen": "\\ud800", "rejected": "b"}\n' * 2, 0),
    "a column of escapes": (json.dumps({"prompt": "q", "chosen": "a", "rejected": "b", NAME: NAME}).encode() + b"\n", 0),
    "ids of both types": (
        b'{"id": 1, "prompt": "q", "chosen": "a", "rejected": "b"}\n'
        b'{"id": "1", "prompt": "r", "chosen": "c", "rejected": "d"}\n', 0,
    ),
    "the same row a hundred times": (b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n' * 100, 0),
    "five hundred columns": (
        json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"} | {f"c{i}": i for i in range(500)}).encode(), 0,
    ),
    "a cut line": (b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n{"prompt": "q", "cho', 2),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA)
def test_an_odd_file_is_reported_or_refused_in_a_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, code = DATA[case]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    ran = Ran(["data", str(path)], capsys)
    assert ran.code == code, ran.out + ran.err
