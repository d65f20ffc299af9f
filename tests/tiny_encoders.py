"""Tiny random encoders of several families as transformers folders, and the score of one by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tiny import tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerFast

SMALL: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 132, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1,
    "eos_token_id": 2, "initializer_range": 0.2,
}  # fmt: skip
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": SMALL,
    "distilbert": {
        "vocab_size": 300, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 132,
        "pad_token_id": 0, "initializer_range": 0.2,
    },
    "roberta": {**SMALL, "type_vocab_size": 1},
    "deberta-v2": {
        **SMALL, "type_vocab_size": 0, "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False, "position_buckets": 16, "max_relative_positions": -1,
    },
    "modernbert": {**SMALL, "local_attention": 16, "global_attn_every_n_layers": 2},
    "electra": {**SMALL, "embedding_size": 16},
    "albert": {**SMALL, "embedding_size": 16},
    "mpnet": {**SMALL, "pad_token_id": 1, "cls_token_id": 0, "bos_token_id": 0},
}  # fmt: skip
"""Settings by model type. RoBERTa and MPNet count positions from behind the padding's."""
TWO_SEPARATORS = ("roberta", "mpnet")


def encoder_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """One token a byte, framed as the family frames a pair of texts."""
    specials = ["<pad>", "[CLS]", "[SEP]", "[MASK]"]
    if kind == "mpnet":
        specials[:2] = ["[CLS]", "<pad>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*specials, *letters])}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    two = kind in TWO_SEPARATORS
    types = (0, 0) if two else (0, 1)
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS]:0 $A:0 [SEP]:0{' [SEP]:0' if two else ''} $B:{types[1]} [SEP]:{types[1]}",
        special_tokens=[("[CLS]", specials.index("[CLS]")), ("[SEP]", 2)],
    )
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_input_names=[*names, *(["token_type_ids"] if kind in ("bert", "electra", "albert") else [])],
    )  # fmt: skip


def tiny_encoder(kind: str, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """Random weights in float32."""
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModel.from_config(
        AutoConfig.for_model(kind, **{**ENCODERS[kind], **settings})
    )
    return model.eval()


def save_encoder(folder: Path, kind: str = "bert", seed: int = 0, **settings: Any) -> str:
    """A tiny encoder as a transformers folder; returns its path."""
    tiny_encoder(kind, seed, **settings).save_pretrained(folder)
    encoder_tokenizer(kind).save_pretrained(folder)
    return str(folder)


def score_by_hand(model: PreTrainedModel, final: Path, prompt: str, response: str) -> float:
    """The first state of a pair of texts in plain transformers, and the saved head: w·h + b, without calibration."""
    inputs = PreTrainedTokenizerFast.from_pretrained(final)(prompt, response, return_tensors="pt")
    head = load_file(final / "reward_head.safetensors")
    with torch.no_grad():
        state = model(**inputs).last_hidden_state[0, 0].double()
    return float(state @ head["weight"].double() + head["bias"].double())


assert len(tiny_tokenizer()) < SMALL["vocab_size"]
