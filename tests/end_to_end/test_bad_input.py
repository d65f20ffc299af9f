"""Invalid input of users: one line with problem, place and fix, no traceback, no changed file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny import save_tiny

from harken.cli.main import main

PAIRS = [
    {"prompt": f"Question {i}?", "chosen": f"Good answer {i}.", "rejected": f"bad {i}"} for i in range(8)
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, good data, and one finished run of each of SFT and reward model."""
    root = tmp_path_factory.mktemp("world")
    save_tiny(root / "model")
    lines(root / "pairs.jsonl", PAIRS)
    lines(root / "prompts.jsonl", [{"prompt": f"Ask {i}"} for i in range(6)])
    assert train(root, "sft", root / "sft") == 0
    assert train(root, "reward", root / "rm", f"model_name={root / 'sft'}") == 0
    return root


def lines(path: Path, rows: list[object]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def train(root: Path, kind: str, output: Path, *settings: str) -> int:
    config = root / f"{kind}.yml"
    training = {"type": kind, "max_steps": 2, "batch_size": 4}
    if kind == "ppo":
        checkpoint = str(root / "rm")
        training = {
            "type": "ppo",
            "ppo": {"updates": 1, "prompts_per_update": 2, "max_gen_len": 4, "epochs": 1},
        }
        training["reward_model"] = {"checkpoint_path": checkpoint}
    data = {"path": str(root / ("prompts.jsonl" if kind == "ppo" else "pairs.jsonl")), "max_length": 200}
    body = {"model_name": str(root / "model"), "dtype": "float32", "tensorboard": False, "lora": {"rank": 2}}
    config.write_text(json.dumps({**body, "data": data, "training": training}))
    sets = [part for setting in settings for part in ("--set", setting)]
    return main(["train", "--preset", str(config), "--output-dir", str(output), *sets])


def tree(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def broken_on_line_7(root: Path, tmp: Path) -> str:
    path = lines(tmp / "broken.jsonl", list(PAIRS))
    text = path.read_text().splitlines()
    text[6] = text[6][:-5]
    path.write_text("\n".join(text))
    return f"data.path={path}"


def misfit_reward_model(root: Path, tmp: Path) -> str:
    """A reward model whose head was made for another hidden size."""
    import shutil

    folder = tmp / "misfit"
    shutil.copytree(root / "rm" / "final", folder, ignore=shutil.ignore_patterns("SHA256SUMS"))
    card = json.loads((folder / "reward.json").read_text())
    (folder / "reward.json").write_text(json.dumps({**card, "hidden_size": 64}))
    head = load_file(folder / "reward_head.safetensors")
    save_file({**head, "weight": head["weight"].new_zeros(64)}, folder / "reward_head.safetensors")
    return str(folder)


CASES = {
    "missing file": ("reward", lambda r, t: f"data.path={r / 'pears.jsonl'}", ["pears.jsonl", "pairs.jsonl"]),
    "broken JSON on line 7": ("reward", broken_on_line_7, ["broken.jsonl:7"]),
    "wrong layout": (
        "reward",
        lambda r, t: f"data.path={lines(t / 'odd.jsonl', [{'colour': 'red', 'size': 3}])}",
        ["odd.jsonl", "colour"],
    ),
    "a layout that cannot serve the stage": (
        "reward",
        lambda r, t: f"data.path={r / 'prompts.jsonl'}",
        ["prompts.jsonl", "preference"],
    ),
    "unknown key": ("sft", lambda r, t: "training.batchsize=4", ["training.batchsize", "batch_size"]),
    "wrong type": ("sft", lambda r, t: "training.batch_size=many", ["training.batch_size", "many"]),
    "missing model": ("sft", lambda r, t: f"model_name={r / 'modle'}", ["modle", "model"]),
    "empty prompt set": (
        "ppo",
        lambda r, t: f"data.path={lines(t / 'none.jsonl', [{'prompt': ''}, {'prompt': '  '}])}",
        ["none.jsonl"],
    ),
    "size mismatch": (
        "ppo",
        lambda r, t: f"training.reward_model.checkpoint_path={misfit_reward_model(r, t)}",
        ["64", "32"],
    ),
    "a reward run that is not a reward model": (
        "ppo",
        lambda r, t: f"training.reward_model.checkpoint_path={r / 'sft'}",
        ["not a reward model"],
    ),
    "no reward model": (
        "ppo",
        lambda r, t: "training.reward_model.checkpoint_path=",
        ["checkpoint_path"],
    ),
    "a reward model as policy": ("sft", lambda r, t: f"model_name={r / 'rm'}", ["reward model"]),
    "dropout under PPO": ("ppo", lambda r, t: "lora.dropout=0.1", ["dropout"]),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_what_where_how(
    name: str, world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """S0-14, S1-16, S1-26, P1: each mistake is named; exit code ≠ 0; existing runs keep every byte."""
    kind, mistake, named = CASES[name]
    setting = mistake(world, tmp_path)
    before = tree(world / "sft") | tree(world / "rm")
    capfd.readouterr()
    code = train(world, kind, tmp_path / "out", setting)
    message = capfd.readouterr().err
    assert code != 0
    assert "Traceback" not in message
    last = message.rstrip("\n").splitlines()[-1]
    assert last.startswith("harken: ")
    for part in named:
        assert part in last, last
    assert tree(world / "sft") | tree(world / "rm") == before
    assert not (tmp_path / "out" / "final").exists()


def test_another_configuration_in_the_same_folder_is_refused_with_its_difference(
    world: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = tree(world / "sft")
    assert train(world, "sft", world / "sft", "training.lr=0.5") != 0
    last = capfd.readouterr().err.rstrip("\n").splitlines()[-1]
    assert "training.lr" in last
    assert "0.5" in last
    assert tree(world / "sft") == before


def test_the_same_command_again_does_nothing(world: Path) -> None:
    before = tree(world / "sft")
    assert train(world, "sft", world / "sft") == 0
    assert tree(world / "sft") == before


def test_a_first_try_that_failed_does_not_lock_its_folder(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(world, "sft", out, f"data.path={world / 'pears.jsonl'}") != 0
    assert train(world, "sft", out) == 0


def test_a_run_is_not_resumed_on_other_weights(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """S0-27: the same names with other weights behind them are refused."""
    import shutil

    model, out = tmp_path / "model", tmp_path / "out"
    save_tiny(model)
    assert train(world, "sft", out, f"model_name={model}") == 0
    shutil.rmtree(out / "final")
    save_tiny(model, seed=9)
    assert train(world, "sft", out, f"model_name={model}") != 0
    assert "weights of its model" in capfd.readouterr().err.rstrip("\n").splitlines()[-1]


@pytest.mark.parametrize("kind", ["sft", "reward", "ppo"])
def test_a_run_is_not_resumed_on_other_rows(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    """The same path with one other word behind it would make another run, with the first half of this one in it."""
    import shutil

    name = "prompts" if kind == "ppo" else "pairs"
    own, out = tmp_path / "rows.jsonl", tmp_path / "out"
    text = (world / f"{name}.jsonl").read_text()
    own.write_text(text)
    assert train(world, kind, out, f"data.path={own}") == 0
    shutil.rmtree(out / "final")
    own.write_text(text.replace("3", "three", 1))
    assert train(world, kind, out, f"data.path={own}") != 0
    last = capfd.readouterr().err.rstrip("\n").splitlines()[-1]
    assert "training rows" in last and "rows.jsonl" in last
    own.write_text(text)
    (out / "status.json").unlink()
    assert train(world, kind, out, f"data.path={own}") == 0


@pytest.mark.parametrize("kind", ["reward", "dpo"])
def test_ties_alone_are_no_preferences(
    world: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lines(tmp_path / "ties.jsonl", [{**pair, "chosen_probability": 0.5} for pair in PAIRS])
    assert train(world, kind, tmp_path / "out", f"data.path={rows}", "data.eval_fraction=0") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "none of the 8 training pairs has a preferred side: all are ties. Fix: give pairs" in error
