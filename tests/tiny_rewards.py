"""Responses over the byte tokenizer, and reward models on disk as a finished run leaves them."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny import tiny_tokenizer

from harken.config import LoraSettings
from harken.data.chat import Renderer
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.models.roles import RewardModel, ScalarHead, lineage_fingerprint
from harken.records import Message, Prompt, Rollout


def answer(
    text: str, asked: str | tuple[Message, ...] = "hello", *, ended: bool = True, **row: object
) -> Rollout:
    """Make a finished or a truncated response to a user turn or a conversation; `row` are fields of the prompt."""
    renderer = Renderer(tiny_tokenizer())
    messages = (Message("user", asked),) if isinstance(asked, str) else asked
    tokens = tuple(renderer.encode_response(text, ended))
    return Rollout(
        Prompt("p1", messages, **row),  # type: ignore[arg-type]
        0,
        tuple(renderer.encode_prompt(messages)),
        tokens,
        (-1.0,) * len(tokens),
        text,
        "end_of_turn" if ended else "length",
        "v",
    )


def save_reward_model(folder: Path, base: str, seed: int = 0, max_length: int = 256) -> str:
    """A reward model with random weights on the model in `base`; returns its run folder."""
    source = resolve(base)
    backbone = Backbone.load(source, torch.float32, "cpu")
    backbone.add_adapter("reward", LoraSettings(rank=4), seed=seed)
    draw = torch.Generator().manual_seed(seed)
    for key, parameter in backbone.adapter_parameters("reward").items():
        if "lora_B" in key:  # zero at first: reward models would differ in their heads alone
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    model = RewardModel(backbone, "reward", ScalarHead(backbone.hidden_size, 0.5, seed=seed), 0.2, 1.5)
    model.save(folder / "final", source.folder, lineage_fingerprint(source), {"max_length": max_length})
    return str(folder)
