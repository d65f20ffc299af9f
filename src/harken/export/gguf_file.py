"""Write a Llama-like model as one GGUF file, in the layout of llama.cpp's converter.

Only what has a known equivalent there is written: any other model raises UserError, because a file that loads and
computes something else is worse than none. Tensor names and metadata: the GGUF specification (ggml, docs/gguf.md);
the order of the rows of q and k: `LlamaModel.permute` in llama.cpp's convert_hf_to_gguf.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from harken.errors import UserError

CONVERTER = "export it as safetensors, and convert that folder with convert_hf_to_gguf.py of llama.cpp"
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""Modules of a Llama layer, and what GGUF calls them."""
FILE_TYPES = {torch.float32: gguf.LlamaFileType.ALL_F32, torch.bfloat16: gguf.LlamaFileType.MOSTLY_BF16}


def write_gguf(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, name: str) -> None:
    """Write the model with its tokenizer; matrices in the model's dtype (float32 or bfloat16), norms in float32.

    Raises UserError, naming the tool that does it, for an architecture or a tokenizer that this cannot write.
    """
    config = model.config
    require_llama(config, name)
    pre, merges = _byte_level_bpe(tokenizer, name)
    writer = gguf.GGUFWriter(str(path), "llama")
    try:
        writer.add_name(name)
        writer.add_file_type(FILE_TYPES[model.dtype])
        _add_shape(writer, config)
        _add_tokenizer(writer, tokenizer, config.vocab_size, pre, merges)
        for key, tensor in model.state_dict().items():
            if key == "lm_head.weight" and config.tie_word_embeddings:
                continue
            _add_tensor(writer, gguf_name(key), _permuted(key, tensor, config))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def require_llama(config: PretrainedConfig, where: str) -> None:
    """Raise UserError unless the model is a plain Llama: without biases, scaled rotary positions or wide heads."""
    rope: dict[str, Any] = dict(getattr(config, "rope_parameters", None) or {})
    problems = {
        f"a model of the type {config.model_type}": config.model_type != "llama",
        f"rotary positions of the type {rope.get('rope_type')}": rope.get("rope_type", "default")
        != "default",
        "biases": getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False),
        "heads of another size than hidden_size / num_attention_heads": getattr(config, "head_dim", None)
        not in (None, config.hidden_size // config.num_attention_heads),
    }
    if found := next((what for what, there in problems.items() if there), None):
        raise UserError(f"GGUF export cannot write {found}", where=where, fix=CONVERTER)


def gguf_name(key: str) -> str:
    """Return the name of a weight of a Llama model in a GGUF file. Raises KeyError for an unknown one."""
    whole = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if key in whole:
        return whole[key]
    layer, part = key.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
    return f"blk.{layer}.{NAMES[part]}.weight"


def interleave_heads(weight: Tensor, heads: int) -> Tensor:
    """Reorder the rows of q or k: transformers rotates the two halves of a head, GGUF's llama neighbouring rows."""
    rows, features = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, features).transpose(1, 2).reshape(rows, features)


def _permuted(key: str, tensor: Tensor, config: PretrainedConfig) -> Tensor:
    if key.endswith("q_proj.weight"):
        return interleave_heads(tensor, config.num_attention_heads)
    if key.endswith("k_proj.weight"):
        return interleave_heads(tensor, config.num_key_value_heads)
    return tensor


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: Tensor) -> None:
    values: NDArray[np.float32] = tensor.detach().float().contiguous().numpy()
    if tensor.dtype == torch.bfloat16 and tensor.ndim > 1:
        kind = gguf.GGMLQuantizationType.BF16
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, values)


def _add_shape(writer: gguf.GGUFWriter, config: PretrainedConfig) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)


def _byte_level_bpe(tokenizer: PreTrainedTokenizerBase, where: str) -> tuple[str, list[str]]:
    """Return llama.cpp's name of the pre-tokenizer, and the merges.

    `gpt-2`: the byte-level pattern of GPT-2 alone. `smollm`: every digit alone first. Raises UserError for any other.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    written: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
    before = written.get("pre_tokenizer") or {}
    steps = before.get("pretokenizers", [before])
    kinds = [step.get("type") for step in steps]
    last = steps[-1]
    plain = kinds[-1] == "ByteLevel" and last.get("use_regex", True) and not last.get("add_prefix_space")
    merges = [
        pair if isinstance(pair, str) else " ".join(pair)
        for pair in written.get("model", {}).get("merges", [])
    ]
    if plain and merges and not written.get("normalizer"):
        if kinds == ["ByteLevel"]:
            return "gpt-2", merges
        if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
            return "smollm", merges
    raise UserError(
        "GGUF export cannot write this tokenizer: it writes byte-level BPE as GPT-2 or SmolLM have it",
        where=where,
        fix=CONVERTER,
    )


def _add_tokenizer(
    writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase, size: int, pre: str, merges: list[str]
) -> None:
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    added = set(tokenizer.added_tokens_decoder)
    kinds = [
        gguf.TokenType.UNUSED
        if number not in by_id
        else gguf.TokenType.CONTROL
        if number in special
        else gguf.TokenType.USER_DEFINED
        if number in added
        else gguf.TokenType.NORMAL
        for number in range(size)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([by_id.get(number, f"[PAD{number}]") for number in range(size)])
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    ids = {
        writer.add_bos_token_id: tokenizer.bos_token_id,
        writer.add_eos_token_id: tokenizer.eos_token_id,
        writer.add_pad_token_id: tokenizer.pad_token_id,
        writer.add_unk_token_id: tokenizer.unk_token_id,
    }
    for add, number in ids.items():
        if number is not None:
            add(number)
    writer.add_add_bos_token(bool(tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]))
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)
