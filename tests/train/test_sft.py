"""Supervised fine-tuning on a tiny model: response-only loss, normalised by the step's tokens, and it learns."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from tiny import tiny_backbone

from harken.config import RunConfig
from harken.records import TokenDemonstration
from harken.train.sft import SupervisedStage


def rows(count: int = 12) -> list[TokenDemonstration]:
    """Prompts of several lengths; the response repeats the prompt's first token, then ends."""
    found = []
    for i in range(count):
        prompt = [10 + i % 4, *range(50, 50 + 2 + 3 * (i % 3))]
        response = [prompt[0]] * (1 + i % 3) + [2]
        response_mask = (*[False] * len(prompt), *[True] * len(response))
        found.append(TokenDemonstration(f"r{i}", (*prompt, *response), response_mask))
    return found


def stage(demonstrations: list[TokenDemonstration], **keys: Any) -> SupervisedStage:
    config = RunConfig.model_validate(
        {
            "dtype": "float32",
            "data": {"path": "rows"},
            "lora": {"rank": 8},
            "training": {"type": "sft", "lr": 1e-2, "batch_size": 6, "epochs": 40, **keys},
        }
    )
    return SupervisedStage(config, tiny_backbone(), demonstrations, demonstrations)


def test_the_loss_is_the_mean_over_response_tokens_alone() -> None:
    """S0-18, P2: by the definition, one token at a time."""
    demonstrations = rows(6)
    trained = stage(demonstrations)
    model = tiny_backbone().model.double()
    losses = []
    for row in demonstrations:
        logits = model(torch.tensor([row.tokens])).logits[0]
        log_p = torch.log_softmax(logits, -1)
        losses += [-float(log_p[t - 1, row.tokens[t]]) for t, taken in enumerate(row.response_mask) if taken]
    want = sum(losses) / len(losses)
    assert trained.evaluate(0)["eval/loss"] == pytest.approx(want, rel=1e-5)
    assert trained.step(0)["loss"] == pytest.approx(want, rel=1e-5)


def test_the_split_into_micro_batches_changes_nothing() -> None:
    """P31."""
    whole, split = stage(rows(), micro_batch_tokens=10_000), stage(rows(), micro_batch_tokens=15)
    a, b = whole.step(0), split.step(0)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_it_learns_to_respond_and_to_stop() -> None:
    trained = stage(rows())
    before = trained.evaluate(0)["eval/loss"]
    for number in range(trained.total):
        trained.step(number)
    assert trained.evaluate(trained.total)["eval/loss"] < 0.2 * before


def test_the_held_out_loss_by_domain_and_language_adds_up() -> None:
    """S0-17: weighted by their tokens, the groups' losses are the loss; each is that of its rows alone."""
    kinds = [("code", "en"), ("chat", "en"), ("chat", "de")]
    demonstrations = [
        dataclasses.replace(row, domain=kinds[i % 3][0], language=kinds[i % 3][1])
        for i, row in enumerate(rows())
    ]
    trained = stage(demonstrations, micro_batch_tokens=30)
    found = trained.evaluate(0)
    groups = {
        "eval/loss_code": lambda row: row.domain == "code",
        "eval/loss_chat": lambda row: row.domain == "chat",
        "eval/loss_language_en": lambda row: row.language == "en",
        "eval/loss_language_de": lambda row: row.language == "de",
    }
    assert set(found) == {"eval/loss", *groups}
    for name, belongs in groups.items():
        trained.held_out = [row for row in demonstrations if belongs(row)]
        assert found[name] == pytest.approx(trained.evaluate(0)["eval/loss"], rel=1e-5)
