"""The evaluation of policies with different tokenizers under one reward model."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from tiny import save_tiny, tiny_tokenizer
from transformers import LlamaForCausalLM

from harken.config import EvaluationConfig, LoraSettings
from harken.data.chat import Renderer
from harken.evaluation import suite
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.models.roles import RewardModel, ScalarHead, lineage_fingerprint
from harken.run.tables import read_rows


def reward_model(folder: Path, base: str) -> RewardModel:
    source = resolve(base)
    backbone = Backbone.load(source, torch.float32, "cpu")
    backbone.add_adapter("reward", LoraSettings(rank=2), seed=0)
    model = RewardModel(backbone, "reward", ScalarHead(backbone.hidden_size, 0.5, seed=1))
    model.save(folder / "final", source.folder, lineage_fingerprint(source), {})
    return model


def test_every_policy_is_scored_as_text_its_reward_model_can_read(tmp_path: Path) -> None:
    """S1-15, S0-42: a policy with another vocabulary gets the reward of its text, not of foreign token ids."""
    base = save_tiny(tmp_path / "base")
    other = save_tiny(tmp_path / "other", seed=1)
    wider = copy.deepcopy(tiny_tokenizer())
    wider.add_tokens(["Count"])
    wider.save_pretrained(other)
    model = LlamaForCausalLM.from_pretrained(other)
    model.resize_token_embeddings(len(wider))
    model.save_pretrained(other)
    model = reward_model(tmp_path / "rm", base)
    rows = [{"id": f"q{i}", "prompt": f"Count to {i}"} for i in range(4)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    config = EvaluationConfig.model_validate(
        {
            "policies": {"A": base, "again": base, "B": other},
            "reward_model": str(tmp_path / "rm"),
            "data": {"path": str(tmp_path / "prompts.jsonl"), "max_length": 96},
            "max_gen_len": 6,
            "dtype": "float32",
        }
    )
    folder = suite.run_evaluation(config, tmp_path / "out")
    renderer = Renderer(tiny_tokenizer())
    found = read_rows(folder.responses)
    for row in (row for row in found if row["policy"] == "B"):
        messages = suite_messages(row["messages"])
        text = renderer.encode_response(row["response"], ended=row["stop"] == "end_of_turn")
        [raw] = model.raw_scores([[*renderer.encode_prompt(messages), *text]], 1000)
        assert row["reward"] == pytest.approx(raw, abs=1e-4)
    by_policy = {p: [r["reward"] for r in found if r["policy"] == p] for p in ("A", "again")}
    assert by_policy["A"] == by_policy["again"]
    summary = json.loads(folder.summary.read_text())
    pair = next(p for p in summary["pairs"] if (p["left"], p["right"]) == ("A", "again"))
    assert (pair["wins"], pair["ties"], pair["losses"]) == (0, 4, 0)


def suite_messages(text: str) -> list[object]:
    from harken.records import Message

    return [Message(m["role"], m["content"]) for m in json.loads(text)]
