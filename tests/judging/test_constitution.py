"""`harken constitution`: response, critique, revision; what is written, left out and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judging.stand_in import MODEL, Handler, StandIn, stand_in
from tiny import save_tiny

from harken.cli.main import main
from harken.config import DataConfig, PipelineConfig
from harken.config.constitution import ConstitutionConfig
from harken.config.stages import resolve_stages
from harken.data.parse import parse_demonstration_rows, parse_preference_rows
from harken.generation.principles import read_principles
from harken.generation.writers import load_writer
from harken.records import Message, Preference

ROOT = Path(__file__).resolve().parents[2]
PRINCIPLES = ROOT / "examples" / "principles.yml"


def write(handler: Handler, body: dict[str, Any], number: int) -> bool:
    """Respond, criticise and revise; prompt 2 gets no revision, prompt 3 the same one."""
    turns = body["messages"]
    asked, last = turns[0]["content"], turns[-1]["content"]
    kind = (
        "critique"
        if last.startswith("Critique")
        else "revision"
        if last.startswith("Rewrite")
        else "response"
    )
    text = f"<b>{kind}</b> to {asked}, turn {len(turns)}"
    if kind == "revision" and asked == "Ask 2":
        text = ""
    if kind == "revision" and asked == "Ask 3":
        text = turns[1]["content"]
    handler.reply({"model": MODEL, "choices": [{"message": {"role": "assistant", "content": text}}]})
    return True


def run(tmp_path: Path, server: StandIn, *more: str) -> int:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"id": f"p{i}", "prompt": f"Ask {i}"}) + "\n" for i in range(10)))
    arguments = [
        "constitution",
        f"{server.url}#{MODEL}",
        "--prompts",
        str(prompts),
        "--principles",
        str(PRINCIPLES),
    ]
    return main([*arguments, "--out", str(tmp_path / "out"), "--set", "writer.backoff_s=0.01", *more])


def rows(tmp_path: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "out" / name).read_text().splitlines()]


def test_each_step_is_in_the_rows(tmp_path: Path) -> None:
    with stand_in(misbehave=write) as server:
        assert run(tmp_path, server, "--rounds", "2") == 0
        conversations = [request["body"]["messages"] for request in server.requests]
    steps = rows(tmp_path, "steps.jsonl")
    names = {one.name for one in read_principles(str(PRINCIPLES))}
    assert len(steps) == 10 and all(len(step["rounds"]) == 2 for step in steps)
    assert {part["principle"] for step in steps for part in step["rounds"]} <= names
    assert len({part["principle"] for step in steps for part in step["rounds"]}) > 1
    assert steps[0]["response"] == "<b>response</b> to Ask 0, turn 1"
    assert steps[0]["rounds"][1]["critique"] == "<b>critique</b> to Ask 0, turn 3"
    second = [turns for turns in conversations if len(turns) == 3 and "revision" in turns[1]["content"]]
    assert len(second) == 8, "the second critique is of the first revision"
    pairs = rows(tmp_path, "pairs.jsonl")
    assert [pair["id"] for pair in pairs] == [f"p{i}" for i in range(10) if i not in (2, 3)]
    assert pairs[0]["chosen"][0]["content"].startswith("<b>revision</b>")
    assert pairs[0]["rejected"][0]["content"].startswith("<b>response</b>")
    assert {"critique", "revision", "principle", "model"} <= pairs[0].keys()
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert counts == {"pairs": 8, "with an empty step": 1, "with a revision that changes nothing": 1}
    page = (tmp_path / "out" / "steps.html").read_text()
    assert "&lt;b&gt;critique&lt;/b&gt; to Ask 0" in page and "<b>critique" not in page
    assert page.count("&lt;b&gt;critique&lt;/b&gt; to Ask 0") == 2
    assert "default-src 'none'" in page


def conversations_of(server: StandIn) -> list[list[dict[str, str]]]:
    return [request["body"]["messages"] for request in server.requests]


def test_every_turn_is_in_the_next_conversation(tmp_path: Path) -> None:
    """S2-71: a critique sees prompt and response, a revision the critique too, each by its principle's words."""
    prompt = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Ask {critique} 0"},
        {"role": "assistant", "content": "Which one?"},
        {"role": "user", "content": "This one"},
    ]
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": prompt}) + "\n")
    (tmp_path / "p.yml").write_text(
        "principles: [{name: x, critique: 'Name {faults}.', revision: Mend them.}]\n"
    )
    with stand_in(misbehave=write) as server:
        arguments = ["constitution", f"{server.url}#{MODEL}", "--prompts", str(tmp_path / "prompts.jsonl")]
        arguments += ["--principles", str(tmp_path / "p.yml"), "--out", str(tmp_path / "out")]
        assert main(arguments) == 0
        response, critique, revision = conversations_of(server)
    assert response == prompt
    assert critique[:4] == prompt and critique[4]["content"] == "<b>response</b> to Be brief., turn 4"
    assert critique[5] == {"role": "user", "content": "Critique your last response. Name {faults}."}
    assert revision[:6] == critique and revision[6]["content"] == "<b>critique</b> to Be brief., turn 6"
    assert revision[7]["content"].startswith("Rewrite your last response. Mend them. Reply with")


def principles_of(tmp_path: Path, server: StandIn, out: str, *more: str) -> list[list[str]]:
    assert run(tmp_path, server, "--rounds", "3", "--out", str(tmp_path / out), *more) == 0
    steps = (tmp_path / out / "steps.jsonl").read_text().splitlines()
    return [[part["principle"] for part in json.loads(step)["rounds"]] for step in steps]


def test_principles_vary_over_prompts_rounds_and_seeds(tmp_path: Path) -> None:
    """30 draws of four principles: one seed's are those of its second run, and another seed has others."""
    with stand_in(misbehave=write) as server:
        one, again, other = (
            principles_of(tmp_path, server, out, "--set", f"seed={seed}")
            for out, seed in (("a", 1), ("b", 1), ("c", 2))
        )
    assert one == again and one != other
    assert len({row[0] for row in one}) > 1 and any(len(set(row)) > 1 for row in one)


def test_rows_hold_the_last_revision(tmp_path: Path) -> None:
    """The revision of prompt 4 is empty in the first round alone: no row comes of it."""

    def rounds(handler: Handler, body: dict[str, Any], number: int) -> bool:
        turns = body["messages"]
        last = turns[-1]["content"]
        text = f"{last.split()[0]} of <{turns[-2]['content'] if len(turns) > 1 else turns[0]['content']}>"
        if (
            last.startswith("Rewrite")
            and turns[0]["content"] == "Ask 4"
            and turns[1]["content"].startswith("Ask")
        ):
            text = " "
        handler.reply({"model": MODEL, "choices": [{"message": {"role": "assistant", "content": text}}]})
        return True

    with stand_in(misbehave=rounds) as server:
        assert run(tmp_path, server, "--rounds", "2") == 0
    steps = {step["id"]: step for step in rows(tmp_path, "steps.jsonl")}
    pairs, demonstrations = rows(tmp_path, "pairs.jsonl"), rows(tmp_path, "demonstrations.jsonl")
    assert [pair["id"] for pair in pairs] == [f"p{i}" for i in range(10) if i != 4]
    for pair, demonstration in zip(pairs, demonstrations, strict=True):
        first, last = steps[pair["id"]]["rounds"]
        assert first["revision"] != last["revision"]
        assert pair["chosen"][0]["content"] == demonstration["messages"][-1]["content"] == last["revision"]
        assert pair["principle"] == f"{first['principle']}, {last['principle']}"
        assert pair["critique"] == last["critique"]


def test_edited_principles_need_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PRINCIPLES.read_text()
    (tmp_path / "p.yml").write_text(text)
    with stand_in(misbehave=write) as server:
        assert run(tmp_path, server, "--principles", str(tmp_path / "p.yml")) == 0
        before = len(server.requests)
        (tmp_path / "p.yml").write_text(text.replace("untrue", "not true"))
        assert run(tmp_path, server, "--principles", str(tmp_path / "p.yml")) == 2
        assert len(server.requests) == before
    assert "Fix:" in capsys.readouterr().err


def test_a_reply_of_another_model_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def other(handler: Handler, body: dict[str, Any], number: int) -> bool:
        message = {"role": "assistant", "content": "text"}
        handler.reply({"model": "cheaper", "choices": [{"message": message}]})
        return True

    with stand_in(misbehave=other) as server:
        assert run(tmp_path, server) == 1
    assert (
        "reply of another model (cheaper). Fix: name that model in accept_models" in capsys.readouterr().err
    )
    assert not (tmp_path / "out" / "pairs.jsonl").exists()


def test_steps_of_a_local_model_are_sampled_apart(tmp_path: Path) -> None:
    """The same conversation as two steps has two replies, and each step has the same one again."""
    save_tiny(tmp_path / "model", hidden=16, layers=1)
    config = ConstitutionConfig.model_validate(
        {
            "writer": {"type": "local", "model_name": str(tmp_path / "model")}, "data": {"path": "demo:prompts"},
            "principles": "p.yml", "max_gen_len": 12, "temperature": 1.0, "dtype": "float32", "device": "cpu",
        }
    )  # fmt: skip
    writer = load_writer(config)
    turns = [[Message("user", f"Ask {i}")] for i in range(4)]
    assert writer.write(turns, "critique 0") == writer.write(turns, "critique 0")
    assert writer.write(turns, "critique 0") != writer.write(turns, "critique 1")


def test_training_reads_both_files(tmp_path: Path) -> None:
    with stand_in(misbehave=write) as server:
        assert run(tmp_path, server) == 0
    found, report = parse_preference_rows(DataConfig(path=str(tmp_path / "out" / "pairs.jsonl")))
    assert len(found) == 8 and not report.dropped
    assert all(isinstance(pair, Preference) and pair.chosen.startswith("<b>revision") for pair in found)
    demonstrations, report = parse_demonstration_rows(
        DataConfig(path=str(tmp_path / "out" / "demonstrations.jsonl"))
    )
    assert len(demonstrations) == 8 and not report.dropped
    assert demonstrations[0].response == "<b>revision</b> to Ask 0, turn 5"


def test_a_run_that_failed_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(handler: Handler, body: dict[str, Any], number: int) -> bool:
        if number < 26:
            return write(handler, body, number)
        handler.reply({}, 500)
        return True

    with stand_in(misbehave=fails) as server:
        assert run(tmp_path, server, "--set", "writer.retries=0") == 1
        assert "Fix: run the same command again" in capsys.readouterr().err
        server.misbehave, before = write, len(server.requests)
        assert run(tmp_path, server, "--set", "writer.retries=0") == 0
        assert len(server.requests) - before == 6, "the first eight prompts are kept"
        assert run(tmp_path, server, "--set", "writer.retries=0") == 0
        assert len(server.requests) - before == 6
    assert len(rows(tmp_path, "steps.jsonl")) == 10


def test_a_local_model_goes_through_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny(tmp_path / "model", hidden=16, layers=1)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Ask 1"}\n{"prompt": "Ask 2"}\n')
    arguments = [
        "constitution", str(tmp_path / "model"), "--prompts", str(tmp_path / "prompts.jsonl"), "--principles",
        str(PRINCIPLES), "--out", str(tmp_path / "out"), "--set", "max_gen_len=6", "--set", "dtype=float32",
        "--set", "device=cpu",
    ]  # fmt: skip
    assert main(arguments) == 0
    assert "a small model's critiques are weak" in capsys.readouterr().err
    steps = rows(tmp_path, "steps.jsonl")
    assert len(steps) == 2 and all(len(step["rounds"]) == 1 for step in steps)


def test_a_stage_gives_its_pairs_or_its_demonstrations() -> None:
    keys = {"type": "constitution", "writer": {"type": "local", "model_name": "@model"},
            "data": {"path": "demo:prompts"}, "principles": "p.yml"}  # fmt: skip
    stages = {"one": keys, "two": keys | {"gives": "demonstrations"}}
    found = resolve_stages(
        PipelineConfig.model_validate({"name": "x", "model_name": "m", "stages": stages}), "out"
    )
    assert [stage.output.name for stage in found] == ["pairs.jsonl", "demonstrations.jsonl"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("principles: []\n", "principles"),
        ("principles: [{name: a, critique: b}]\n", "revision"),
        ("principles: [{name: a, critique: b, revision: c, x: d}]\n", "x"),
        ("principles: [{name: a, critique: ' ', revision: c}]\n", "nothing but white space"),
        (
            "principles: [{name: a, critique: b, revision: c}, {name: a, critique: d, revision: e}]\n",
            "two principles are called 'a'. Fix: rename one",
        ),
        ("", "Fix: start from examples/principles.yml"),
        ("- name: a\n", "Fix: start from examples/principles.yml"),
    ],
)
def test_wrong_principles_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (tmp_path / "p.yml").write_text(text)
    arguments = ["constitution", "m", "--prompts", "demo:prompts", "--principles", str(tmp_path / "p.yml")]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err.strip()
    assert words in line and "p.yml" in line and "\n" not in line


def test_an_address_without_a_model_is_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["constitution", "http://x#", "--prompts", "demo:prompts", "--principles", str(PRINCIPLES)]
    assert main(arguments) == 2
    assert "MODEL: the address names no model. Fix: write http://x#MODEL" in capsys.readouterr().err


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["constitution", "embedded"]) == 2
    assert "a model, --prompts and --principles are needed. Fix: name them" in capsys.readouterr().err
