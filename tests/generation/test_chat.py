"""Talking to policies in the terminal: what is said comes back whole, conversations go on, two stand side by side."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from tiny import save_tiny
from tiny_rewards import save_reward_model

from harken.cli.main import main
from harken.errors import UserError
from harken.generation import chat
from harken.generation.chat import ChatSettings, load_speaker, side_by_side
from harken.records import Message

SETTINGS = ChatSettings(max_gen_len=12, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    save_tiny(root / "a", hidden=16, layers=1)
    save_tiny(root / "b", seed=1, hidden=16, layers=1)
    save_reward_model(root / "rm", str(root / "a"))
    return root


@pytest.fixture(scope="module")
def speaker(world: Path) -> chat.Speaker:
    return load_speaker("a", str(world / "a"), SETTINGS)


def said(world: Path, text: str, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    settings = ChatSettings(**{"max_gen_len": 12, "dtype": "float32", "device": "cpu", **changes})
    chat.chat([str(world / "a")], settings, io.StringIO(text))
    return capsys.readouterr().out


def test_streamed_pieces_are_the_response_and_a_conversation_goes_on(speaker: chat.Speaker) -> None:
    speaker.begin("Be kind.")
    pieces: list[str] = []
    first = speaker.respond("Hello", SETTINGS, pieces.append)
    assert len(pieces) > 1 and "".join(pieces) == first.text.rstrip("\N{REPLACEMENT CHARACTER}")
    second = speaker.respond("And you?", SETTINGS, None)
    renderer = speaker.engine.renderer
    turns = (
        Message("system", "Be kind."), Message("user", "Hello"), Message("assistant", first.text),
        Message("user", "And you?"),
    )  # fmt: skip
    assert list(second.prompt_tokens) == renderer.encode_prompt(turns)
    speaker.begin("Be kind.")
    assert speaker.respond("Hello", SETTINGS, None).text == first.text


def test_the_temperature_acts_and_greedy_ignores_the_seed(speaker: chat.Speaker) -> None:
    def texts(temperature: float) -> set[str]:
        found = set()
        for seed in range(3):
            speaker.begin("")
            settings = ChatSettings(max_gen_len=12, temperature=temperature, seed=seed)
            found.add(speaker.respond("Hello", settings, None).text)
        return found

    assert len(texts(0.0)) == 1 and len(texts(1.0)) == 3


def test_turns_and_commands_from_a_pipe(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = said(
        world, "Hello\n\n/reset\nHello\n/system Be brief.\nHello\n/nonsense\n/temperature cold\n", capsys
    )
    answers = whole.split("tokens")[:-1]
    assert len(answers) == 3
    same = said(world, "Hello\n", capsys)
    assert whole.startswith(same) and whole.removeprefix(same).startswith(same)
    assert not whole.removeprefix(same).removeprefix(same).startswith(same)


def test_old_turns_leave_the_prompt_when_it_is_full(speaker: chat.Speaker) -> None:
    speaker.begin("")
    speaker.messages = [Message("user", "x" * 300), Message("assistant", "y" * 300)]
    rollout = speaker.respond("Hello", SETTINGS, None)
    assert list(rollout.prompt_tokens) == speaker.engine.renderer.encode_prompt((Message("user", "Hello"),))


def test_a_turn_that_cannot_be_answered_is_said_and_the_chat_goes_on(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    respond = chat.Speaker.respond

    def failing(self: chat.Speaker, text: str, *given: Any) -> Any:
        if text == "bad":
            raise UserError("this turn cannot be encoded")
        return respond(self, text, *given)

    monkeypatch.setattr(chat.Speaker, "respond", failing)
    assert said(world, "bad\nHello\n", capsys) == said(world, "Hello\n", capsys)


@pytest.mark.parametrize("width", [80, 200])
def test_two_responses_stand_beside_each_other(width: int) -> None:
    blocks = [
        ("sft", "q" * 150 + " b\n\nlast", "[3 tokens]"),
        ("ppo", "水" * 90, "[90 tokens, reward 1.000]"),
    ]
    lines = side_by_side(blocks, width).split("\n")
    assert all(cell_len(line) <= width for line in lines)
    share = (width - 3) // 2
    assert lines[0].startswith("sft") and lines[0][share + 3 :] == "ppo"
    assert lines[-1].split() == ["[3", "tokens]", "[90", "tokens,", "reward", "1.000]"]
    assert any(line.startswith("last") for line in lines)
    assert sum(line.count("q") for line in lines[2:-1]) == 150
    assert sum(line.count("水") for line in lines) == 90


def test_compare_shows_both_with_their_reward(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ChatSettings(max_gen_len=4, dtype="float32", device="cpu", reward=str(world / "rm"))
    pair = [f"one={world / 'a'}", f"two={world / 'b'}"]
    chat.chat(pair, settings, io.StringIO("Hello\n"))
    out = capsys.readouterr().out
    assert out.split("\n")[0].split() == ["one", "two"]
    one = load_speaker("one", str(world / "a"), settings)
    rollout = one.respond("Hello", settings, None)
    assert f"reward {one.scorer.score([rollout])[0].value:.3f}]" in out  # type: ignore[union-attr]
    assert out.count("reward") == 2


def test_the_command_and_its_errors(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
    options = ["--dtype", "float32", "--max-gen-len", "12"]
    assert main(["chat", str(world / "a"), *options]) == 0
    assert capsys.readouterr().out == said(world, "Hello\n", capsys)
    assert main(["chat"]) == 2
    assert "Fix: name one, or two with --compare" in capsys.readouterr().err
    assert main(["chat", str(world / "rm"), *options]) == 2
    assert main(["chat", str(world / "a"), "--reward", "column:x", *options]) == 2
