"""A model that gives NaN on some rows, from the command line: what is skipped, what is left, how it is seen again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from read_page import read_page
from tiny import tiny_model, tiny_tokenizer

from harken.cli.main import main

PAGE = (Path(__file__).parents[2] / "docs" / "health.md").read_text(encoding="utf-8")
CONFIG = """
model_name: {root}/model
dtype: float32
tensorboard: false
lora: {{rank: 4}}
data: {{path: {root}/rows.jsonl, max_length: 96}}
training: {{type: sft, lr: 1e-3, batch_size: 3, epochs: 1}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve rows; the model's state of the letter q is infinite, and one prompt has a q."""
    root = tmp_path_factory.mktemp("nan_dumps")
    model = tiny_model()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.model.embed_tokens.weight[tiny_tokenizer().convert_tokens_to_ids("q")] = torch.inf
    model.save_pretrained(root / "model")
    tiny_tokenizer().save_pretrained(root / "model")
    rows = [{"prompt": f"Count to {i}{'q' if i == 5 else ''}", "response": f"{i}!"} for i in range(12)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "sft.yml").write_text(CONFIG.format(root=root))
    return root


def train(folder: Path, out: str, *settings: str) -> int:
    words = [word for setting in settings for word in ("--set", setting)]
    return main(["train", "--preset", str(folder / "sft.yml"), "--output-dir", str(folder / out), *words])


def test_the_step_is_skipped_and_the_page_shows_it_again(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run finishes; the lines of docs/health.md, as they stand there, find the NaN from the dump."""
    assert train(folder, "run") == 0
    status = json.loads((folder / "run" / "status.json").read_text())
    assert (status["state"], status["completed"], status["skipped"]) == ("completed", 3, 1)
    (dump,) = (folder / "run" / "nan_dumps").iterdir()
    reported = json.loads((dump / "dump.json").read_text())
    assert reported["versions"]["torch"] == torch.__version__
    assert reported["quantity"] == "logprob"
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code.count("outputs/my_run/nan_dumps/step-000012") == 1
    capfd.readouterr()
    exec(code.replace("outputs/my_run/nan_dumps/step-000012", str(dump)), {})
    what, row = capfd.readouterr().out.split("\n", 1)
    assert what == reported["what"]
    assert "nan" in row


def test_a_run_with_a_skipped_step_has_a_report(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(folder, "run") == 0
    assert any("skipped" in line for line in (folder / "run" / "metrics.jsonl").read_text().splitlines())
    assert main(["report", str(folder / "run"), "--output-dir", str(folder / "page")]) == 0
    assert read_page(folder / "page" / "report.html")["stages"][0]["charts"]


def test_one_too_many_is_one_line_and_an_exit_code(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(folder, "strict", "training.max_skipped_steps=0") == 1
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert re.match(
        r"harken: \S+nan_dumps: a step met a NaN or infinite value, and max_skipped_steps is 0; the last: "
        r"training, row \S+, token \d+: the logprob is nan\. ",
        last,
    )
    status = json.loads((folder / "strict" / "status.json").read_text())
    assert status["state"] == "failed"
    assert not (folder / "strict" / "final").exists()
