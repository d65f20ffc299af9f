"""`harken report` on runs side by side, unfinished work, and files of responses with and without scores."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from explorer.test_page_data import SCHEMA, faults
from read_page import read_page
from tiny_pipeline import run_pipeline

from harken.cli.main import main
from harken.inspection.recorded import read_step
from harken.inspection.tokens import token_decoder, token_rows
from harken.run import checksums
from harken.run.folder import RunFolder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pipeline in out/ whose PPO run holds prompts out."""
    settings = [
        "stages.ppo.data.eval_fraction=0.34",
        "stages.ppo.training.eval_every=2",
        "stages.ppo.training.ppo.judges=[demo_gold]",
    ]
    return run_pipeline(tmp_path_factory.mktemp("anything"), settings=settings)


def report(*paths: Path, output: Path | None = None) -> dict[str, Any]:
    """The data of the page of these paths, which fit the schema."""
    option = [] if output is None else ["--output-dir", str(output)]
    assert main(["report", *map(str, paths), *option]) == 0
    data = read_page((output or paths[0] / "05_report") / "report.html")
    assert faults(data, SCHEMA) == []
    return data


def copied(made: Path, to: Path, *, steps: int | None = None, kl_coef: float | None = None) -> Path:
    """A copy of the PPO run; with `steps` as a process leaves it that ended after so many."""
    run = RunFolder(Path(shutil.copytree(made / "out" / "03_ppo", to)))
    if kl_coef is not None or steps is not None:
        checksums.remove_checksums(run.root)
    if kl_coef is not None:
        lines = run.config.read_text().splitlines()
        changed = [
            f"    kl_coef: {kl_coef}" if line.strip().startswith("kl_coef:") else line for line in lines
        ]
        run.config.write_text("\n".join(changed) + "\n")
    if steps is not None:
        logged = run.metrics.read_text().splitlines()
        assert steps < len(logged)
        run.metrics.write_text("\n".join(logged[:steps]) + "\n")
        status = {"state": "running", "requested": len(logged), "completed": steps, "stopped_because": None}
        run.status.write_text(json.dumps(status))
        shutil.rmtree(run.final)
    return run.root


def test_a_page_can_be_judged_alone(made: Path) -> None:
    """Date, hardware, device, duration, version, command and the evaluation's settings."""
    found = report(made / "out")["made"]
    assert found.keys() >= {"when", "finished", "hardware", "device", "duration", "harken", "command", "path"}
    assert found["when"] <= found["finished"] and found["duration"] > 0
    assert "core" in found["hardware"] and found["device"] == "cpu"
    settings = dict(found["settings"])
    assert settings["max_gen_len"] == "8" and settings["data.path"].endswith("prompts.jsonl")
    assert not any(name.startswith("fingerprints") for name in settings)


def test_a_pipeline_opens_with_a_sentence_and_three_numbers_that_have_rows(made: Path) -> None:
    data = report(made / "out")
    numbers = data["headline"]["numbers"]
    assert data["headline"]["sentence"] == data["verdict"][0] and 2 <= len(numbers) <= 3
    better = numbers[0]["filter"]
    wins = 0
    for example in data["examples"]:
        rewards = {response["policy"]: response["reward"] for response in example["responses"]}
        wins += rewards[better["better"]] > rewards[better["than"]]
    assert numbers[0]["detail"].startswith(f"{wins} of {len(data['examples'])} responses")
    assert data["headline"]["example"] in {example["id"] for example in data["examples"]}


def test_a_run_alone_shows_its_rollouts_and_held_out_responses(made: Path, tmp_path: Path) -> None:
    data = report(made / "out" / "03_ppo", output=tmp_path)
    policies = {r["policy"] for example in data["examples"] for r in example["responses"]}
    assert "training" in policies and "before training" in policies and data["summary"] is None
    trained = [e for e in data["examples"] if e["responses"][0]["policy"] == "training"]
    run = RunFolder(made / "out" / "03_ppo")
    step = read_step(run.root, 1)
    assert {e["responses"][0]["text"] for e in trained if e["extra"]["update"] == 1} == {
        row["response"] for row in step.rollouts
    }
    assert any(response["flags"] for example in trained for response in example["responses"])
    assert data["tokens"]["steps"] and data["headline"]["numbers"]


def test_checkpoints_have_the_held_out_responses_of_every_evaluation(made: Path, tmp_path: Path) -> None:
    data = report(made / "out" / "03_ppo", output=tmp_path)
    assert data["checkpoints"]
    for one in data["checkpoints"]:
        assert [point["step"] for point in one["points"]] == [0, 2, 4]
    metrics = [
        json.loads(line) for line in RunFolder(made / "out" / "03_ppo").metrics.read_text().splitlines()
    ]
    last = next(line for line in reversed(metrics) if line.get("eval/reward_mean") is not None)
    rewards = [one["points"][-1]["reward"] for one in data["checkpoints"]]
    assert sum(rewards) / len(rewards) == pytest.approx(last["eval/reward_mean"])


def test_the_numbers_of_tokens_are_those_of_trace(made: Path, tmp_path: Path) -> None:
    data = report(made / "out" / "03_ppo", output=tmp_path)
    run = RunFolder(made / "out" / "03_ppo")
    text_of, _ = token_decoder(run)
    columns = {
        "logprob": "logprob_old", "ref_logprob": "logprob_reference", "new_logprob": "logprob_new", "kl": "kl",
        "entropy": "entropy", "value": "value", "advantage": "advantage", "return": "return", "reward": "reward",
    }  # fmt: skip
    seen = 0
    for shown in data["tokens"]["steps"]:
        step = read_step(run.root, shown["step"])
        for rollout in shown["rollouts"]:
            rows = token_rows(step, rollout["row"], text_of)
            assert rollout["pieces"] == [row["token"] for row in rows]
            assert rollout["ids"] == [row["token_id"] for row in rows]
            for name, column in columns.items():
                expected = [
                    None if row[column] is None else pytest.approx(row[column], abs=5.1e-4) for row in rows
                ]
                assert rollout[name] == expected, name
            assert all(value is not None and value >= 0 for value in rollout["entropy"])
            assert rollout["clipped"] == [None if r["clipped"] is None else int(r["clipped"]) for r in rows]
            assert rollout["sampled"] == [int(row["policy_mask"]) for row in rows]
            seen += len(rows)
    assert seen > 20
    rewards = [row["reward"] for row in read_step(run.root, 1).rollouts]
    first = data["tokens"]["steps"][0]["rollouts"]
    assert {"highest", "lowest"} <= {word for one in first for word in one["why"].split()}
    assert max(one["score"] for one in first) == pytest.approx(max(rewards), abs=5.1e-4)


@pytest.mark.parametrize("split", [False, True])
def test_a_file_that_cannot_be_read_is_left_out_with_a_notice(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: bool
) -> None:
    """One recorded update is cut off; a second one's values and a held-out evaluation are no parquet."""
    run = RunFolder(copied(made, tmp_path / "run"))
    checksums.remove_checksums(run.root)
    cut = run.rollouts / "update-000002.parquet"
    cut.write_bytes(cut.read_bytes()[:-100])
    (run.credit / "update-000003.parquet").write_bytes(b"PAR1")
    (run.held_out / "update-000002.parquet").write_text("not a table")
    assert main(["report", str(run.root), *(["--split"] if split else [])]) == 0
    shown = capsys.readouterr().out
    data = read_page(run.root / "05_report" / ("index.html" if split else "report.html"))
    assert faults(data, SCHEMA) == []
    for name in (
        "rollouts/update-000002.parquet",
        "credit/update-000003.parquet",
        "held_out/update-000002.parquet",
    ):
        assert name in data["notice"], data["notice"]
    assert "left out because it could not be read" in shown
    assert [step["step"] for step in data["tokens"]["steps"]] == [1, 4]
    assert all([point["step"] for point in one["points"]] == [0, 4] for one in data["checkpoints"])
    if not split:
        trained = [e for e in data["examples"] if e["responses"][0]["policy"] == "training"]
        assert {e["extra"]["update"] for e in trained} == {1, 3, 4}
        assert any(e["responses"][0].get("kl") is not None for e in trained if e["extra"]["update"] == 1)
        assert all(e["responses"][0].get("kl") is None for e in trained if e["extra"]["update"] == 3)


def test_a_run_whose_every_rollout_is_unreadable_still_has_a_page(made: Path, tmp_path: Path) -> None:
    run = RunFolder(copied(made, tmp_path / "run"))
    checksums.remove_checksums(run.root)
    for path in [*run.rollouts.glob("*.parquet"), *run.held_out.glob("*.parquet")]:
        path.write_bytes(b"")
    data = report(run.root)
    assert data["tokens"]["steps"] == data["examples"] == data["checkpoints"] == []
    assert data["stages"][0]["charts"] and "and 4 more" in data["notice"]


def test_several_runs_of_one_kind_are_compared(made: Path, tmp_path: Path) -> None:
    copied(made, tmp_path / "runs" / "weak", kl_coef=0.01)
    copied(made, tmp_path / "runs" / "strong", kl_coef=0.7)
    data = report(tmp_path / "runs")
    assert [stage["name"] for stage in data["stages"]] == ["strong", "weak"]
    trials = data["trials"]
    place = [column["name"] for column in trials["columns"]].index("kl_coef")
    assert {row["stage"]: row["cells"][place] for row in trials["rows"]} == {"strong": "0.7", "weak": "0.01"}
    reward = [column["name"] for column in trials["columns"]].index("reward")
    late = data["stages"][0]["charts"][0]["series"][0]["points"][-3:]
    assert trials["rows"][0]["cells"][reward] == pytest.approx(sum(v for _, v in late) / len(late))
    (overlay,) = data["overlays"]
    assert all({s["label"] for s in chart["series"]} == {"strong", "weak"} for chart in overlay["charts"])
    assert data["headline"]["numbers"][0]["value"] == "2"
    assert len({r["policy"] for e in data["examples"] for r in e["responses"]}) >= 4


def test_an_unfinished_run_is_shown_as_far_as_it_is(made: Path, tmp_path: Path) -> None:
    run = copied(made, tmp_path / "run", steps=1)
    data = report(run)
    assert data["stages"][0]["state"]["state"] == "running" and data["stages"][0]["steps"] == 1
    verdict = " ".join(line["text"] for line in data["verdict"])
    assert data["stages"][0]["charts"] and re.search(r"is not finished: 1 of \d+ steps are saved", verdict)
    assert "is finished" not in verdict


def test_an_unfinished_pipeline_is_shown_as_far_as_it_is(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "half"
    root.mkdir()
    for name in ("01_sft", "02_rm"):
        shutil.copytree(made / "out" / name, root / name)
    shutil.copy(made / "out" / "pipeline.yml", root)
    assert main(["report", str(root)]) == 0
    data = read_page(root / "unfinished_report.html")
    assert [stage["kind"] for stage in data["stages"]] == ["sft", "reward"]
    assert "not finished" in data["notice"] and "ppo" in data["notice"] and "eval" in data["notice"]
    assert not (root / "05_report").exists(), "the page of the report stage would stand for a finished stage"


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Synthetic responses of two systems to five prompts."""
    return [
        {
            "prompt_id": str(i),
            "prompt": f"Name {i} things.",
            "generator": system,
            "output": f"{system} names " + ", ".join(map(str, range(i + 1))) + ".",
            "reward": float(i if system == "new" else 2),
            "score_human": float(system == "new"),
            "topic": "odd" if i % 2 else "even",
        }
        for system in ("old", "new")
        for i in range(5)
    ]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as JSONL or JSON by the file's name."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(json.dumps(rows) if path.suffix == ".json" else lines)
    return path


@pytest.mark.parametrize("name", ["responses.jsonl", "responses.json"])
def test_a_file_of_scored_responses_is_compared(
    name: str, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    # Columns that repeat the prompt are not shown a second time.
    rows = [row | {"task": row["prompt"]} for row in rows]
    assert main(["report", str(written(tmp_path / name, rows))]) == 0
    data = read_page(tmp_path / "responses_report" / "report.html")
    assert faults(data, SCHEMA) == []
    assert data["policies"] == ["old", "new"] and data["reward"] == "reward" and data["judges"] == ["human"]
    assert data["summary"]["pairs"][0]["wins"] == 2 and len(data["examples"]) == 5
    assert data["headline"]["numbers"][0]["filter"] == {"better": "new", "than": "old"}
    assert data["examples"][1]["extra"] == {"topic": "odd"}
    assert data["examples"][0]["responses"][0]["source"].startswith(str(tmp_path / name))


def test_a_file_without_scores_shows_length_flags_and_queues(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    plain = [{k: v for k, v in row.items() if k not in ("reward", "score_human")} for row in rows]
    plain[0]["output"] = "the same words again " * 30
    plain.pop()  # the systems need not respond to the same prompts
    assert main(["report", str(written(tmp_path / "plain.jsonl", plain))]) == 0
    data = read_page(tmp_path / "plain_report" / "report.html")
    assert faults(data, SCHEMA) == []
    assert data["summary"] is None and data["reward"] is None and data["policies"] == ["old", "new"]
    assert [len(example["responses"]) for example in data["examples"]] == [2, 2, 2, 2, 1]
    assert "repetition" in data["examples"][0]["responses"][0]["flags"]
    assert any("manual_review" in example["queues"] for example in data["examples"])
    assert "nothing is compared" in data["verdict"][0]["text"]


def test_several_files_are_compared_on_the_prompts_they_share(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in rows:
        row.pop("generator")
    old, new = written(tmp_path / "old.jsonl", rows[:5]), written(tmp_path / "new.jsonl", rows[5:9])
    data = report(old, new, output=tmp_path / "page")
    assert data["policies"] == ["old", "new"] and data["summary"]["prompts"] == 4
    assert "old: 4 of 5 responses used" in capsys.readouterr().out


def test_an_evaluations_table_alone_is_a_file_of_responses(made: Path, tmp_path: Path) -> None:
    table = shutil.copy(made / "out" / "04_eval" / "responses.parquet", tmp_path)
    assert main(["report", str(table)]) == 0
    data = read_page(tmp_path / "responses_report" / "report.html")
    assert data["policies"] == ["Base", "SFT", "PPO"] and len(data["examples"]) == 6


def test_what_does_not_belong_together_is_refused(
    made: Path, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "rows.jsonl", rows)

    def refusal(*paths: Path) -> str:
        capsys.readouterr()
        assert main(["report", *map(str, paths)]) == 2
        return capsys.readouterr().err

    assert f"harken report {file}" in refusal(file, made / "out" / "03_ppo")
    assert "this is a configuration" in refusal(made / "out" / "pipeline.yml")
    (tmp_path / "empty.jsonl").write_text("")
    assert "Fix: " in refusal(tmp_path / "empty.jsonl")
    (tmp_path / "broken.jsonl").write_text('{"prompt": "x"}\n')
    assert "broken.jsonl:1" in refusal(tmp_path / "broken.jsonl")


def test_split_writes_every_recorded_token_beside_the_page(made: Path, tmp_path: Path) -> None:
    """A second page of a pipeline: its first one and its checksums stay as they are."""
    root = Path(shutil.copytree(made / "out", tmp_path / "out"))
    before = (root / "05_report" / "report.html").read_bytes()
    assert main(["report", str(root), "--split"]) == 0
    data = read_page(root / "05_report" / "index.html")
    assert faults(data, SCHEMA) == []
    assert [step["step"] for step in data["tokens"]["steps"]] == [1, 2, 3, 4] and data["tokens"]["shards"]
    total = 0
    for step in data["tokens"]["steps"]:
        (file,) = step["files"]
        text = (root / "05_report" / file).read_text("ascii")
        rollouts = json.loads(json.loads(text[text.index("push(") + 5 : text.rindex(")")])[1])
        assert len(rollouts) == step["recorded"]
        total += len(rollouts)
    assert total == sum(len(read_step(root / "03_ppo", step).rollouts) for step in range(1, 5))
    assert data["examples"] == [] and data["parts"] == ["shards/examples-000000.js"]
    assert (root / "05_report" / "report.html").read_bytes() == before
    assert main(["verify", str(root)]) == 0


def test_one_file_by_two_names_is_one_policy(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "Q?", "response": "It is.", "score": 1}) + "\n")
    link = tmp_path / "b.jsonl"
    link.symlink_to(path)
    assert report(path, link, output=tmp_path / "out")["policies"] == ["a"]
