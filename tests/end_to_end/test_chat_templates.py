"""Chat templates through real stages: a clock that moves, special tokens that are kept, advice that can be followed."""

# ruff: noqa: E501  a template reads better in whole lines

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tiny import CHATML, tiny_model, tiny_tokenizer

from harken.cli.main import main
from harken.config import DataConfig, EvaluationConfig
from harken.data.chat import Renderer
from harken.evaluation import fixed_inputs, suite
from harken.models.tokenizer import load_tokenizer
from harken.records import Message
from harken.run import checksums, manifest

DATED = "{{ 'Now: ' + strftime_now('%Y-%m-%d %H:%M:%S') + '\n' }}" + CHATML
CONFIG = """
model_name: {root}/model
dtype: float32
tensorboard: false
lora: {{rank: 2}}
data: {{path: {root}/rows.jsonl, max_length: 200}}
checkpoints: {{every: 1, keep: 4}}
training: {{type: sft, epochs: 1, batch_size: 4, lr: 1e-3}}
"""
REWARD = CONFIG.replace("rows.jsonl", "pairs.jsonl").replace("type: sft", "type: reward")


def prepare(root: Path, template: str, rows: list[dict[str, Any]], *special: str) -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    model.resize_token_embeddings(len(tokenizer) + len(special))
    model.save_pretrained(root / "model")
    tokenizer.save_pretrained(root / "model")
    if special:
        tokenizer = load_tokenizer(root / "model")
        tokenizer.add_special_tokens({"additional_special_tokens": [*special]})
        tokenizer.save_pretrained(root / "model")
    (root / "model" / "chat_template.jinja").write_text(template)
    write(root / "rows.jsonl", rows)
    (root / "run.yml").write_text(CONFIG.format(root=root))


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def train(root: Path, out: Path, *options: str, preset: str = "run.yml") -> int:
    return main(["train", "--preset", str(root / preset), "--output-dir", str(out), *options])


def at(moment: str, patch: pytest.MonkeyPatch) -> None:
    """Move the clock that runs begin at."""

    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromisoformat(moment).replace(tzinfo=UTC)

    patch.setattr(manifest, "datetime", Then)
    patch.setattr(fixed_inputs, "datetime", Then)


def test_a_dated_template_sees_the_time_the_run_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """dated_template.jinja: the same tokens on resume the day after, in final/, in the next stage and in evaluation."""
    rows = [{"id": f"r{i}", "prompt": f"Count to {i}", "response": "one two"} for i in range(8)]
    prepare(tmp_path, DATED, rows)
    out = tmp_path / "sft"
    at("2026-01-31 23:59:30", monkeypatch)
    assert train(tmp_path, out) == 0
    lineage = manifest.read_manifest(out / "manifest.json")["lineage"]["data"]
    assert manifest.read_manifest(out / "manifest.json")["template_time"] == "2026-01-31T23:59:30+00:00"
    for lost in ("final", "checkpoints/step-000002", "SHA256SUMS", "best"):
        path = out / lost
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    status = json.loads((out / "status.json").read_text()) | {"stopped_because": None}
    (out / "status.json").write_text(json.dumps(status))

    at("2026-02-01 00:00:30", monkeypatch)
    assert train(tmp_path, out) == 0  # refused, had the rows become others
    assert manifest.read_manifest(out / "manifest.json")["lineage"]["data"] == lineage
    final = Renderer(load_tokenizer(out / "final"))
    text = final.tokenizer.decode(final.encode_prompt([Message("user", "a")]))
    assert text.startswith("Now: 2026-01-31 23:59:30")

    write(
        tmp_path / "pairs.jsonl", [{"prompt": f"p {i}", "chosen": "one", "rejected": "two"} for i in range(8)]
    )
    (tmp_path / "reward.yml").write_text(REWARD.format(root=tmp_path).replace("/model\n", "/sft\n"))
    at("2026-03-01 00:00:00", monkeypatch)
    assert train(tmp_path, tmp_path / "reward", preset="reward.yml") == 0
    assert "template_time" not in manifest.read_manifest(
        tmp_path / "reward/manifest.json"
    )  # the model's own counts
    asked: list[str] = []
    generate = Renderer.fit_prompt

    def listening(self: Renderer, *args: Any) -> Any:
        found = generate(self, *args)
        asked.append(self.tokenizer.decode(found[0]) if found else "")
        return found

    monkeypatch.setattr(Renderer, "fit_prompt", listening)
    config = EvaluationConfig(
        policies={"base": str(tmp_path / "model"), "sft": str(out)},
        reward_model=str(tmp_path / "reward"),
        data=DataConfig(path=str(tmp_path / "rows.jsonl"), limit=2, max_length=200),
        max_gen_len=2,
        dtype="float32",
    )
    folder = suite.run_evaluation(config, tmp_path / "eval")
    times = {text.split("\n")[0] for text in asked}
    assert times == {"Now: 2026-01-31 23:59:30", "Now: 2026-03-01 00:00:00"}
    assert "template_time: '2026-03-01T00:00:00+00:00'" in checksums.read_verified_text(folder.config)
    at("2026-03-02 00:00:00", monkeypatch)
    assert suite.run_evaluation(config, tmp_path / "eval").summary.exists()  # the same evaluation, finished


def test_kept_special_tokens_stay_single_from_training_to_evaluation(tmp_path: Path, capfd: Any):
    """special_tokens_in_responses.jsonl: said without the setting; with it, recorded in final/."""
    text = "<|answer|>Blue.<|/answer|>"
    rows = [{"prompt": f"Name colour {i}.", "response": text} for i in range(8)]
    prepare(tmp_path, CHATML, rows, "<|answer|>", "<|/answer|>")
    assert train(tmp_path, tmp_path / "broken") == 0
    message = capfd.readouterr().err
    assert "warning: of 8 responses some spell special tokens of the model ('<|answer|>' in 8" in message
    fix = message.partition("to keep them, set data.keep_special_tokens: ")[2].partition("\n")[0]
    assert train(tmp_path, tmp_path / "kept", "--set", f"data.keep_special_tokens={fix}") == 0
    assert "spell special tokens" not in capfd.readouterr().err
    final = Renderer(load_tokenizer(tmp_path / "kept" / "final"))
    tokens = final.encode_response(text)
    assert len(tokens) == len("Blue.") + 3 and final.decode_response(tokens) == text
    assert len(Renderer(load_tokenizer(tmp_path / "broken" / "final")).encode_response(text)) > len(tokens)


def test_the_account_names_what_the_template_refused(tmp_path: Path, capfd: Any):
    """system_turns.jsonl, and advice that leads somewhere: never "raise data.max_length"."""
    system = {"role": "system", "content": "Be brief."}
    turns = [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}]
    no_system = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% endfor %}" + CHATML  # fmt: skip
    prepare(tmp_path, no_system, [{"messages": [system, *turns]}] * 8)
    assert train(tmp_path, tmp_path / "merged") == 0
    assert "changed 8 system turn merged into the first user turn" in capfd.readouterr().err

    write(tmp_path / "rows.jsonl", [{"messages": [turns[0], *turns]}] * 8)
    alternate = (
        "{% if messages|length > 1 and messages[1].role == 'user' %}{{ raise_exception('roles must\nalternate') }}{% endif %}"
        + CHATML
    )
    (tmp_path / "model" / "chat_template.jinja").write_text(alternate)
    assert train(tmp_path, tmp_path / "refused") != 0
    message = capfd.readouterr().err
    assert "dropped 8 template_refuses: roles must alternate" in message
    assert "no row is left: 8 of 8 are dropped as template_refuses" in message.splitlines()[-1]
    assert "max_length" not in message

    write(
        tmp_path / "rows.jsonl",
        [{"messages": [{"role": "user", "content": [{"type": "image"}]}, turns[1]]}] * 8,
    )
    assert train(tmp_path, tmp_path / "images") != 0
    assert (
        "none of its 8 rows can be used: 8 unsupported_content:messages.content.image"
        in capfd.readouterr().err
    )


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (CHATML.replace("m['content']", "m.text"), "leaves out the text of the user turn"),
        (
            "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}" + CHATML,
            "does not end",
        ),
        (
            CHATML.replace("<|im_start|>assistant\n{% endif", "<|im_start|>bot\n{% endif"),
            "the generation prompt is",
        ),
        ("{{ ['a', 'b'] | random }}" + CHATML, "draws at random"),
    ],
)
def test_a_template_that_cannot_be_used_ends_training_and_data_in_a_line(
    template: str, message: str, tmp_path: Path, capfd: Any
):
    rows = [{"prompt": f"Count to {i}", "response": "one two"} for i in range(8)]
    prepare(tmp_path, template, rows)
    assert train(tmp_path, tmp_path / "out") == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert message in last and "chat_template" in last


def test_markup_in_rows_is_said_by_train_and_data(tmp_path: Path, capfd: Any):
    """already_templated.jsonl."""
    text = "<|im_start|>user\nName a colour {}.<|im_end|>\n<|im_start|>assistant\n"
    rows = [{"prompt": text.format(i), "response": "Blue.<|im_end|>"} for i in range(8)]
    prepare(tmp_path, CHATML, rows)
    line = "8 of 8 rows hold chat markup in their texts ('<|im_start|>' in 8, '<|im_end|>' in 8)"
    assert train(tmp_path, tmp_path / "out") == 0
    assert line in capfd.readouterr().err
    assert main(["data", str(tmp_path / "rows.jsonl")]) == 0
    assert line in capfd.readouterr().out
