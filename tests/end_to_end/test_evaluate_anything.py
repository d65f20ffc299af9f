"""Whatever responds can be compared: models, checkpoints, best of n and files of responses, by any scorer."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from kill import stages
from safetensors.torch import load_file

from harken.cli.main import main
from harken.config import EvaluationConfig
from harken.errors import UserError
from harken.evaluation import suite
from harken.models.resolve import resolve
from harken.models.roles import RewardModel
from harken.run.tables import read_rows

REWARD = """
def length(prompt, response, **details):
    return float(len(response))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    stages.make_world(root)
    stages.work(root, "ppo")(root / "ppo")
    (root / "length.py").write_text(REWARD)
    return root


def evaluate(world: Path, out: Path, **changes: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    config = EvaluationConfig.model_validate(stages.evaluation_settings(world) | changes)
    folder = suite.run_evaluation(config, out)
    return read_rows(folder.responses), json.loads(folder.summary.read_text())


def by_policy(rows: list[dict[str, Any]], policy: str, column: str) -> list[Any]:
    return [row[column] for row in rows if row["policy"] == policy]


def test_two_files_are_compared_in_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """S0-41: no model is needed, prompts come from the files, and tables, verdict and page are written."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("base", "no no no no no no no no"), ("ours", "A good reply")):
        rows = [{"prompt": f"Q{i}", "response": f"{text} {i}", "finish_reason": "stop"} for i in range(4)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["eval", "base.jsonl", "ours.jsonl"]) == 0
    printed = capsys.readouterr()
    assert "ours − base" in printed.out and "intact" in printed.out + printed.err
    assert (tmp_path / "outputs/eval/05_report/report.html").exists()
    rows = read_rows(tmp_path / "outputs/eval/responses.parquet")
    assert by_policy(rows, "ours", "response") == [f"A good reply {i}" for i in range(4)]
    assert main(["eval", "base.jsonl", "ours.jsonl"]) == 0
    assert "nothing to do" in capsys.readouterr().err
    Path("ours.jsonl").write_text(Path("ours.jsonl").read_text().replace("good", "fine"))
    assert main(["eval", "base.jsonl", "ours.jsonl"]) == 2
    assert "fingerprints.ours" in capsys.readouterr().err


def test_scores_of_the_files_are_the_reward(tmp_path: Path) -> None:
    """A column `reward` that all files have is used without being named; unknown stops and lengths stay unknown."""
    for name, reward in (("a", 1.0), ("b", 2.5)):
        rows = [
            {"prompt": f"Q{i}", "response": "yes", "reward": reward + i, "judge": -reward} for i in range(3)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    policies = {name: str(tmp_path / f"{name}.jsonl") for name in "ab"}
    config = EvaluationConfig.model_validate({"policies": policies})
    folder = suite.run_evaluation(config, tmp_path / "default")
    rows = read_rows(folder.responses)
    assert by_policy(rows, "b", "reward") == [2.5, 3.5, 4.5]
    assert by_policy(rows, "b", "stop") == by_policy(rows, "b", "cap_hit") == [None] * 3
    assert json.loads(folder.summary.read_text())["scorer"] == "reward"
    everything = "".join(
        json.dumps(json.loads(line) | {"model": name}) + "\n"
        for name in "ab"
        for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()
    )
    (tmp_path / "all.jsonl").write_text(everything)
    config = EvaluationConfig.model_validate({"policies": {"all": str(tmp_path / "all.jsonl")}})
    rows = read_rows(suite.run_evaluation(config, tmp_path / "one_file").responses)
    assert by_policy(rows, "b", "reward") == [2.5, 3.5, 4.5]
    judges = [{"type": "column", "path": "judge"}, {"type": "column", "path": "reward", "name": "other"}]
    config = EvaluationConfig.model_validate({"policies": policies, "judges": judges})
    rows = read_rows(suite.run_evaluation(config, tmp_path / "named").responses)
    assert by_policy(rows, "b", "reward") == [-2.5] * 3
    assert by_policy(rows, "b", "score_other") == [2.5, 3.5, 4.5]


def test_a_file_is_scored_like_the_model_that_wrote_it(world: Path, tmp_path: Path) -> None:
    """The text of a response gets the same reward, whether it was generated here or read from a file."""
    rows, _ = evaluate(
        world, tmp_path / "here", policies={"m": str(world / "model")}, temperature=0.0, max_gen_len=8
    )
    lines = [
        {"prompt_id": r["prompt_id"], "response": r["response"], "finish_reason": r["stop"]} for r in rows
    ]
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    again, summary = evaluate(
        world,
        tmp_path / "file",
        policies={"m": str(world / "model"), "f": str(tmp_path / "said.jsonl")},
        temperature=0.0,
        max_gen_len=8,
    )
    assert summary["files"]["f"]["read"] == len(rows)
    for here, file in zip(
        [r for r in again if r["policy"] == "m"], [r for r in again if r["policy"] == "f"], strict=True
    ):
        assert (file["prompt_id"], file["response"], file["stop"]) == (
            here["prompt_id"], here["response"], here["stop"]
        )  # fmt: skip
        if file["stop"] == "end_of_turn":  # a truncated response may be tokenised otherwise
            assert file["reward"] == pytest.approx(here["reward"], abs=1e-5)
        assert file["response_tokens"] is None and file["prompt_tokens"] is None


def test_any_checkpoint_of_a_finished_run_is_a_policy(world: Path, tmp_path: Path) -> None:
    """Its weights are those of the step; the last step is the final model."""
    steps = sorted((world / "ppo" / "checkpoints").glob("step-*"))
    assert len(steps) >= 2
    final = load_file(world / "ppo" / "final" / "adapter_model.safetensors")
    found = [load_file(resolve(str(step)).folder / "adapter_model.safetensors") for step in steps]
    assert found[-1].keys() == found[0].keys() == final.keys()
    assert any(not torch.equal(found[0][name], found[-1][name]) for name in final)
    state = load_file(steps[0] / "state.safetensors")
    for name, tensor in found[0].items():
        key = name.removeprefix("base_model.model.").replace(".weight", ".policy.weight")
        assert torch.equal(tensor, state[f"parameter/{key}"])
    policies = {"last": str(steps[-1]), "final": str(world / "ppo"), "first": str(steps[0])}
    rows, _ = evaluate(world, tmp_path / "out", policies=policies, temperature=0.0)
    if all(torch.equal(found[-1][name], final[name]) for name in final):
        assert by_policy(rows, "last", "response") == by_policy(rows, "final", "response")
    options = ["--data", str(world / "prompts.jsonl"), "--scorer", "intact", "--max-gen-len", "4"]
    out = ["--set", "dtype=float32", "--output-dir", str(tmp_path / "cli")]
    assert main(["eval", str(steps[0]), *options, *out]) == 0
    assert {row["policy"] for row in read_rows(tmp_path / "cli/responses.parquet")} == {
        f"ppo/{steps[0].name}"
    }


def test_any_checkpoint_of_a_reward_run_scores(world: Path, tmp_path: Path) -> None:
    """Its adapter and head are those of the step; the last step scores as the final model does."""
    steps = sorted((world / "rm" / "checkpoints").glob("step-*"))
    final = RewardModel.load(resolve(str(world / "rm")), torch.float32, "cpu")
    rows = [[5, 6, 7], [8, 9]]
    scores = {
        step.name: RewardModel.load(resolve(str(step)), torch.float32, "cpu").raw_scores(rows, 64)
        for step in steps
    }
    for step in steps:
        state = load_file(step / "state.safetensors")
        head = load_file(resolve(str(step)).folder / "reward_head.safetensors")
        assert all(torch.equal(head[name], state[f"parameter/head.{name}"]) for name in ("weight", "bias"))
    assert scores[steps[-1].name] == pytest.approx(final.raw_scores(rows, 64), abs=1e-6)
    assert resolve(str(steps[0])).kind == "reward"
    policies = {"last": str(steps[-1])}
    with pytest.raises(UserError, match="cannot generate responses"):
        evaluate(world, tmp_path / "out", policies=policies, temperature=0.0)


def test_a_step_has_the_settings_of_its_own_run(world: Path, tmp_path: Path) -> None:
    """Two runs may share a step, byte for byte, and end with another scale of the rewards."""
    copy = tmp_path / "rm"
    shutil.copytree(world / "rm", copy)
    (copy / "final" / "SHA256SUMS").unlink()
    card = json.loads((copy / "final" / "reward.json").read_text())
    (copy / "final" / "reward.json").write_text(json.dumps(card | {"offset": card["offset"] + 1.0}))
    step = min(path.name for path in (copy / "checkpoints").glob("step-*"))
    offsets = [
        json.loads((resolve(str(run / "checkpoints" / step)).folder / "reward.json").read_text())["offset"]
        for run in (world / "rm", copy)
    ]
    assert offsets == [card["offset"], card["offset"] + 1.0]


def test_a_checkpoint_of_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "ppo"
    (copy / "checkpoints").mkdir(parents=True)
    (copy / "config.yml").write_text("training: {type: ppo}\n")
    (copy / "checkpoints" / "step-000001").mkdir()
    with pytest.raises(UserError, match="this run has not finished"):
        resolve(str(copy / "checkpoints" / "step-000001"))


def test_best_of_n_is_the_best_of_its_own_samples(world: Path, tmp_path: Path) -> None:
    """The chosen response is the one of n samples that the first scorer prefers; its KL bound is log n − (n − 1)/n."""
    scorer = [{"type": "python", "path": f"{world / 'length.py'}:length"}, "intact"]
    keys = {"reward_model": None, "judges": scorer, "temperature": 1.0, "max_gen_len": 8}
    policies = {"all": str(world / "model")}
    rows, _ = evaluate(world, tmp_path / "all", policies=policies, samples=6, **keys)
    best = {"best": {"model_name": str(world / "model"), "best_of": 3}}
    chosen, summary = evaluate(world, tmp_path / "best", policies=best, samples=2, **keys)
    for row in chosen:
        candidates = [
            r for r in rows
            if r["prompt_id"] == row["prompt_id"] and r["sample"] // 3 == row["sample"]
        ]  # fmt: skip
        assert len(candidates) == 3
        assert row["response"] == max(candidates, key=lambda r: r["reward"])["response"]
        assert row["reward"] == float(len(row["response"]))
    assert summary["best_of"] == {"best": {"n": 3, "kl_bound": pytest.approx(math.log(3) - 2 / 3)}}


def test_a_budget_truncates_the_same_responses(world: Path, tmp_path: Path) -> None:
    """S0-48, S0-49: an evaluation at a smaller limit gives the same figures, since only the limit differs."""
    keys: dict[str, Any] = {"temperature": 0.0, "max_gen_len": 8}
    evaluate(world, tmp_path / "study", budgets=[2, 4], **keys)
    study = json.loads((tmp_path / "study/budgets.json").read_text())["budgets"]
    assert [entry["max_gen_len"] for entry in study] == [2, 4, 8]
    for entry in study:
        _, alone = evaluate(
            world, tmp_path / f"{entry['max_gen_len']}", **{**keys, "max_gen_len": entry["max_gen_len"]}
        )
        assert numbers(entry["summary"]) == pytest.approx(numbers(alone))


def numbers(value: Any, path: str = "") -> dict[str, float]:
    """Every number of nested JSON by its path."""
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in numbers(inner, f"{path}/{key}").items()}
    if isinstance(value, list):
        return {k: v for i, inner in enumerate(value) for k, v in numbers(inner, f"{path}/{i}").items()}
    return {path: float(value)} if isinstance(value, int | float) else {}


def test_batch_sensitivity_is_measured_and_reported(world: Path, tmp_path: Path) -> None:
    _, summary = evaluate(world, tmp_path / "out", batch_sensitivity=3, temperature=0.0)
    found = summary["batch_sensitivity"]
    assert found["prompts"] == 3
    assert {name: policy["responses"] for name, policy in found["policies"].items()} == dict.fromkeys(
        found["policies"], 3
    )
    assert 0 <= found["score_p99"] <= found["score_max"] < 1e-3  # float32


def test_slices_are_columns_of_the_prompts(world: Path, tmp_path: Path) -> None:
    rows = [{"id": f"s{i}", "prompt": f"Say {i}", "level": "hard" if i % 2 else "easy"} for i in range(4)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"path": str(tmp_path / "p.jsonl"), "max_length": 64}
    table, summary = evaluate(
        world, tmp_path / "out", data=data, slices=["level", "domain"], cluster_by="level"
    )
    assert (summary["clusters"], summary["cluster_column"]) == (2, "level")
    assert {one["value"] for one in summary["pairs"][0]["slices"] if one["column"] == "level"} == {
        "hard",
        "easy",
    }
    assert {row["prompt_id"]: row["level"] for row in table} == {
        f"s{i}": "hard" if i % 2 else "easy" for i in range(4)
    }


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"slices": ["zip"]}, "no prompt has a column 'zip'; there are .*level"),
        ({"slices": ["reward"]}, "reward is a column of the responses"),
        ({"cluster_by": "zip"}, "no prompt has a column 'zip'"),
        ({"judges": [{"type": "column", "path": "zip"}]}, "column 'zip'; there are level, reward"),
        ({"judges": ["nothing"]}, "unknown judge 'nothing'"),
        ({"samples": 2}, "only 1 responses to some prompts, not 2"),
    ],
)
def test_columns_and_scorers_that_are_not_there_are_named(
    tmp_path: Path, keys: dict[str, Any], problem: str
) -> None:
    rows = [{"prompt": f"Q{i}", "response": "yes", "reward": 1.0, "level": i} for i in range(3)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = EvaluationConfig.model_validate({"policies": {"a": str(tmp_path / "a.jsonl")}} | keys)
    with pytest.raises(UserError, match=problem):
        suite.run_evaluation(config, tmp_path / "out")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"policies": {"a": {"model_name": "x", "responses": "y.jsonl"}}}, "set model_name or responses"),
        ({"policies": {"a": {"responses": "y.jsonl", "best_of": 4}}}, "remove best_of and temperature"),
        ({"policies": {"a": {"model_name": "x", "best_of": 4, "temperature": 0.0}}}, "set temperature"),
        ({"policies": {"a": {"model_name": "x", "generator": "g"}}}, "remove generator and columns"),
        ({"samples": 4, "temperature": 0.0}, "set temperature, for example 1.0"),
        ({"budgets": [64]}, "raise max_gen_len"),
        ({"policies": {"a": "x.jsonl"}, "budgets": [2]}, "remove budgets"),
        ({"data": None}, "set data.path"),
        ({"judges": [{"type": "column", "path": "x"}, {"type": "column", "path": "x"}]}, "set another name"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, keys: dict[str, Any], problem: str) -> None:
    from harken.config import files as config_files

    settings = {"policies": {"a": "x"}, "data": {"path": "p.jsonl"}, "max_gen_len": 16} | keys
    (tmp_path / "eval.yml").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=f"Fix: .*{problem}"):
        config_files.load_evaluation(str(tmp_path / "eval.yml"), [])
