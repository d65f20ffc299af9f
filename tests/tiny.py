"""A complete random model in memory: byte tokenizer with a chat template, two-layer Llama. No download."""

from __future__ import annotations

import functools

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harken.config import LoraSettings
from harken.models.backbone import Backbone

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PAD, END = 0, 2


@functools.cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, after <pad>, <|im_start|>, <|im_end|>."""
    specials = ["<pad>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*specials, *letters])}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def bpe_tokenizer(digits: bool = False) -> PreTrainedTokenizerFast:
    """The byte tokenizer with one merge, which takes the place of the last byte; a GGUF file needs one."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<pad>", "<|im_start|>", "<|im_end|>", *letters[:-1], "ab"]
    inner = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[("a", "b")]))
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain]) if digits else plain
    )
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def tiny_model(seed: int = 0, hidden: int = 32, layers: int = 2) -> LlamaForCausalLM:
    """Random weights, float32, the byte vocabulary."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=END,
        pad_token_id=PAD,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def tiny_backbone(seed: int = 0, hidden: int = 32, device: str = "cpu") -> Backbone:
    """A backbone over the tiny model, not read from any folder."""
    return Backbone(tiny_model(seed, hidden).to(device), tiny_tokenizer())


def with_adapters(backbone: Backbone) -> Backbone:
    """The same with two adapters that change what it says, "policy" (rank 4, scaled by 3) and "other" (rank 2)."""
    backbone.add_adapter("policy", LoraSettings(rank=4, alpha=12), seed=0)
    backbone.add_adapter("other", LoraSettings(rank=2), seed=1)
    torch.manual_seed(0)
    for name, parameter in backbone.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return backbone


def save_tiny(folder: object, seed: int = 0, hidden: int = 32, layers: int = 2) -> str:
    """The tiny model as a transformers folder; returns its path."""
    tiny_model(seed, hidden, layers).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)
