"""A Llama whose weights are a formula, so that two environments can have the same one without a file."""

from __future__ import annotations

import torch
from torch import nn
from transformers import LlamaConfig

CONFIG = LlamaConfig(
    vocab_size=19,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    tie_word_embeddings=False,
    num_labels=1,
)


@torch.no_grad()
def fill_with_waves(model: nn.Module) -> nn.Module:
    """Every parameter becomes a sine wave of its own frequency; gains of norms stay near one. Float32."""
    for number, (name, parameter) in enumerate(sorted(model.named_parameters())):
        places = torch.arange(parameter.numel(), dtype=torch.float64)
        wave = torch.sin(places * (0.7 + 0.013 * number) + number).view(parameter.shape)
        parameter.copy_(1.0 + 0.1 * wave if "norm" in name else 0.4 * wave)
    return model.float().eval()
