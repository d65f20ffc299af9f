"""Opening a file runs nothing from it, what a file names leads no write out of the run, and nothing is sent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from tiny import save_tiny

from harken.cli.main import main
from harken.run.terminal import strip_control

ROOT = Path(__file__).resolve().parents[1]
BANNED = {
    "import pickle\n": "TID251",
    "from dill import loads\n": "TID251",
    "import joblib\n": "TID251",
    "import cloudpickle\n": "TID251",
    "import marshal\n": "TID251",
    "import shelve\n": "TID251",
    "import torch\n\ntorch.load('x')\n": "TID251",
    "import torch\n\ntorch.save({}, 'x')\n": "TID251",
    "import numpy as np\n\nnp.load('x', allow_pickle=True)\n": "TID251",
    "import yaml\n\nyaml.unsafe_load('x')\n": "TID251",
    "import yaml\n\nyaml.load('x', Loader=yaml.Loader)\n": "S506",
    "eval('1')\n": "S307",
    "exec('1')\n": "S102",
    "import socket\n": "TID251",
    "import requests\n": "TID251",
    "from urllib.request import urlopen\n": "TID251",
    "import http.client\n": "TID251",
    "import httpx\n": "TID251",
}
CONTROLS = "\x1b[2J\x1b]0;owned\x07\x1b]8;;http://evil\x1b\\\x9b31m\u202e\x08\r"


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What the project's own lint says of each planted line, all in one run."""
    folder = tmp_path_factory.mktemp("planted") / "src" / "harken"
    folder.mkdir(parents=True)
    for number, text in enumerate(BANNED):
        (folder / f"planted_{number}.py").write_text(f'"""Planted."""\n\n{text}')
    command = [Path(sys.executable).with_name("ruff"), "check", "--no-cache", "--output-format", "json"]
    config = ["--config", ROOT / "pyproject.toml", folder]
    done = subprocess.run([*command, *config], capture_output=True, text=True, timeout=60, check=False)
    found: dict[str, set[str]] = {text: set() for text in BANNED}
    for one in json.loads(done.stdout):
        number = int(Path(one["filename"]).stem.removeprefix("planted_"))
        found[list(BANNED)[number]].add(one["code"])
    return found


@pytest.mark.parametrize("text", BANNED)
def test_the_lint_catches_a_planted(text: str, findings: dict[str, set[str]]) -> None:
    assert BANNED[text] in findings[text]


def test_the_lint_is_part_of_make_check() -> None:
    check = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert "ruff check ." in check


def test_text_for_the_terminal_is_strip_control() -> None:
    assert strip_control(f"a{CONTROLS}b\tc\nd é → 中") == "ab\tc\nd é → 中"


def tree(root: Path, but: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
        if not path.is_relative_to(but)
    }


UP = "../../../evil"
PIPELINE = """
name: '{up}'
title: '{up}'
model_name: {root}/model
dtype: float32
tensorboard: true
stages:
  sft:
    type: sft
    data: {{path: {root}/pairs.jsonl, max_length: 160}}
    lora: {{rank: 2}}
    training: {{max_steps: 1, batch_size: 4}}
  rm:
    type: reward
    model_name: "@sft"
    data: {{path: {root}/pairs.jsonl, max_length: 160, eval_fraction: 0.5}}
    lora: {{rank: 2}}
    training: {{max_steps: 1, batch_size: 4}}
  ppo:
    type: ppo
    model_name: "@sft"
    data: {{path: {root}/prompts.jsonl, max_length: 96}}
    lora: {{rank: 2}}
    training:
      reward_model: {{checkpoint_path: "@rm"}}
      ppo: {{updates: 1, prompts_per_update: 4, epochs: 1, max_gen_len: 4, trace_every: 1}}
  eval:
    type: evaluation
    policies: {{Base: "@model", SFT: "@sft", PPO: "@ppo"}}
    reward_model: "@rm"
    data: {{path: {root}/prompts.jsonl, max_length: 96}}
    max_gen_len: 4
  report: {{type: report}}
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict[str, str]]:
    """A pipeline over rows whose every name climbs out of the folder and steers the terminal; the tree around it
    before and after."""
    root = tmp_path_factory.mktemp("hostile")
    save_tiny(root / "model")
    names = [f"{UP}{CONTROLS}{i}" for i in range(8)]
    pairs = [
        {
            "id": n,
            "domain": n,
            "language": n,
            "prompt": n,
            "chosen": f"yes {CONTROLS}",
            "rejected": "no",
            n: 1,
        }
        for n in names
    ]
    prompts = [{"id": n, "domain": n, "prompt": n} for n in names]
    for name, rows in (("pairs", pairs), ("prompts", prompts)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": 3}]))
    (root / "pipeline.yml").write_text(PIPELINE.format(root=root, up=UP))
    before = tree(root, root / "out")
    assert main(["pipeline", str(root / "pipeline.yml"), "--output-dir", str(root / "out")]) == 0
    return root, before, tree(root, root / "out")


def test_no_name_in_a_row_or_a_configuration_leads_a_write_out_of_the_run(
    hostile: tuple[Path, dict[str, str], dict[str, str]],
) -> None:
    root, before, after = hostile
    assert after == before
    assert not [path for path in root.parent.rglob("evil*") if not path.is_relative_to(root)]
    assert not [path for path in root.rglob("*") if path.is_symlink()]


def test_the_named_base_of_an_adapter_is_only_read(
    hostile: tuple[Path, dict[str, str], dict[str, str]], tmp_path: Path
) -> None:
    """The base of an adapter, the base of a reward model's card, and shards of an index may name any place."""
    root, _, _ = hostile
    elsewhere = shutil.copytree(root / "out" / "01_sft" / "final", tmp_path / "elsewhere")
    for run in ("02_rm", "03_ppo"):
        folder = shutil.copytree(root / "out" / run / "final", tmp_path / run)
        (folder / "SHA256SUMS").unlink()  # it is changed on purpose
        card = json.loads((folder / "adapter_config.json").read_text())
        card["base_model_name_or_path"] = "../elsewhere"
        (folder / "adapter_config.json").write_text(json.dumps(card))
    card = json.loads((tmp_path / "02_rm" / "reward.json").read_text()) | {"base": str(elsewhere)}
    (tmp_path / "02_rm" / "reward.json").write_text(json.dumps(card))
    before = tree(tmp_path, tmp_path / "out")
    config = yaml.safe_load((root / "out" / "03_ppo" / "config.yml").read_text())
    config["training"]["reward_model"]["checkpoint_path"] = str(tmp_path / "02_rm")
    config |= {"model_name": str(tmp_path / "03_ppo"), "output_dir": None, "tensorboard": False}
    (root / "out" / "again.yml").write_text(yaml.safe_dump(config))
    words = ["train", "--preset", str(root / "out" / "again.yml"), "--output-dir", str(tmp_path / "out")]
    assert main(words) == 0
    assert tree(tmp_path, tmp_path / "out") == before


@pytest.mark.parametrize(
    "words",
    [
        "data {root}/pairs.jsonl",
        "data {root}/pairs.jsonl --model {root}/model",
        "data {root}/prompts.jsonl --layout text",
        "trace {root}/out/03_ppo --step 1",
        "replay {root}/out/03_ppo --step 1",
        "report {root}/out",
        "model {root}/out/03_ppo",
        "doctor {root}/out/01_sft/config.yml --json",
        "model {root}/out/\x1b[2J",
        "train --preset \x1b]0;x\x07",
        "train --preset {root}/out/01_sft/config.yml --output-dir {root}/out/01_sft --set seed=\x1b[2J",
    ],
)
def test_no_verb_lets_a_row_or_a_name_steer_the_terminal(
    words: str, hostile: tuple[Path, dict[str, str], dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    main(words.format(root=hostile[0]).split(" "))
    message = "".join(capsys.readouterr())
    assert message and strip_control(message) == message.replace("\r", "")


def test_a_run_needs_no_network(tmp_path: Path) -> None:
    """No telemetry: with every socket shut, and the hub not switched off, a stage trains to its end."""
    save_tiny(tmp_path / "model")
    rows = [{"prompt": f"q{i}", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "model_name": str(tmp_path / "model"),
        "dtype": "float32",
        "data": {"path": str(tmp_path / "rows.jsonl"), "max_length": 64},
        "lora": {"rank": 2},
        "training": {"type": "reward", "max_steps": 1, "batch_size": 2},
    }
    (tmp_path / "run.yml").write_text(json.dumps(config))
    program = """
        import os, socket, sys
        def shut(*_, **__):  # from whatever thread
            os.write(2, b"something reached for the network")
            os._exit(9)
        socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = shut
        socket.create_connection = socket.getaddrinfo = shut
        from harken.cli.main import main
        sys.exit(main(sys.argv[1:]))
    """
    words = ["train", "--preset", str(tmp_path / "run.yml"), "--output-dir", str(tmp_path / "out")]
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *words],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out" / "final").is_dir()
