"""The head that is found is the model's own, whatever the family does to its logits; anything else is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import save_tiny, tiny_backbone, tiny_model, tiny_tokenizer
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from harken.batches import collate
from harken.config import LoraSettings
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.models.roles import Policy

SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bias": ("phi", {}),
    "bias, another name for the head": ("gptj", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}),
    "cap that is nearly open": ("gemma2", {"final_logit_softcapping": 30.0, "head_dim": 8}),
    "cap that is nearly closed": ("gemma2", {"final_logit_softcapping": 0.5, "head_dim": 8}),
    "no cap": ("gemma2", {"final_logit_softcapping": None, "head_dim": 8}),
    "divided": ("granite", {"logits_scaling": 8.0}),
    "divided by next to nothing": ("granite", {"logits_scaling": 1.02}),
    "multiplied": ("cohere", {"logit_scale": 0.0625}),
    "multiplied under the name of a division": ("hyperclovax", {"logits_scaling": 0.125}),
    "divided before the product": (
        "minicpm3",
        {
            "dim_model_base": 8,
            "num_key_value_heads": 4,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 8,
            "head_dim": 4,
        },
    ),
    "a scale that is named and not used": (
        "mpt",
        {"d_model": 32, "n_layers": 2, "n_heads": 4, "logit_scale": 0.5},
    ),
    "nothing": ("qwen3", {"head_dim": 8}),
}


def build(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A small random model whose biases and norms are not zero."""
    family, settings = FAMILIES[name]
    config = AutoConfig.for_model(family, **SMALL | settings)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
        elif parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
    return model.to(dtype).eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_log_probabilities_are_those_of_the_model_itself(name: str) -> None:
    """Scored and sampled, against the logits that transformers' forward gives, in float32."""
    model = build(name)
    tokens = torch.arange(40, 60)[None]
    with torch.no_grad():
        own = model(input_ids=tokens).logits[0].log_softmax(-1)
    backbone = Backbone(model, tiny_tokenizer())
    batch = collate([tokens[0].tolist()], [[False, *[True] * 19]], 0)
    with torch.no_grad():
        scored = Policy(backbone, None).evaluate(batch).logprobs[0, 1:]
        states = backbone.hidden(batch)[0]
        with backbone.decoding():
            sampled = backbone.logits(states).log_softmax(-1)
    torch.testing.assert_close(sampled, own, rtol=0, atol=2e-5)
    torch.testing.assert_close(scored, own[:-1].gather(-1, tokens[0, 1:, None])[:, 0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_small_errors_are_found_in_16_bits(name: str) -> None:
    """A scale of 1.02 or a nearly open cap is less than the rounding of logits of ordinary size."""
    family, settings = FAMILIES[name]
    head = Backbone(build(name, torch.bfloat16), tiny_tokenizer()).head
    assert (head.bias is not None) == (family in ("phi", "gptj"))
    assert head.softcap == settings.get("final_logit_softcapping")
    scale = settings.get("logits_scaling", settings.get("logit_scale", 1.0))
    expected = {"granite": 1 / scale, "minicpm3": 8 / 32, "mpt": 1.0}.get(family, scale)
    assert head.scale == pytest.approx(expected)


def saved(model: PreTrainedModel, folder: Path) -> str:
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-3, 3.0])
def test_a_head_of_another_kind_is_refused(
    dtype: torch.dtype, size: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a family adds to its logits is refused by structure, however small it is beside ordinary ones."""
    model = tiny_model()
    plain = type(model).forward

    def bent(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = plain(self, *args, **kwargs)
        output.logits = output.logits + size * torch.arange(output.logits.shape[-1]) / output.logits.shape[-1]
        return output

    folder = saved(model, tmp_path / "model")
    monkeypatch.setattr(type(model), "forward", bent)
    with pytest.raises(UserError, match="does not compute logits as its output embedding"):
        Backbone.load(resolve(folder), dtype, "cpu")


def test_logits_that_depend_on_the_tokens_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No function of the hidden state, though it is a plain head for the tokens that the head is asked about."""
    model = tiny_model()
    plain = type(model).forward

    def bent(self: Any, input_ids: Any, **kwargs: Any) -> Any:
        output = plain(self, input_ids=input_ids, **kwargs)
        output.logits = output.logits + 0.02 * (input_ids > 1)[..., None] * output.logits.roll(1, -1)
        return output

    folder = saved(model, tmp_path / "model")
    monkeypatch.setattr(type(model), "forward", bent)
    with pytest.raises(UserError, match="depend on more than the hidden state"):
        Backbone.load(resolve(folder), torch.float32, "cpu")


def test_a_head_with_layers_of_its_own_is_refused() -> None:
    """BERT's decoder transforms its states once more; the reason is named."""
    config = AutoConfig.for_model("bert", **SMALL, is_decoder=True)
    with pytest.raises(UserError, match="does not compute logits as its output embedding"):
        Backbone(AutoModelForCausalLM.from_config(config), tiny_tokenizer())


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_outside_the_trunk_is_refused(target: str) -> None:
    """The head is read without its adapter, and sampling and scoring would agree on the wrong one."""
    with pytest.raises(UserError, match="cannot be switched on and off"):
        tiny_backbone().add_adapter("policy", LoraSettings(rank=2, target_modules=["q_proj", target]), seed=0)


def test_a_trained_bias_gets_its_gradient(tmp_path: Path) -> None:
    """Full fine-tuning moves the head's bias too, and what is saved has it."""
    backbone = Backbone.load(resolve(saved(build("bias"), tmp_path / "base")), torch.float32, "cpu")
    backbone.train_all_weights()
    batch = collate([[50, 51, 52, 53]], [[False, True, True, True]], 0)
    Policy(backbone, None).evaluate(batch).logprobs.sum().backward()
    bias = backbone.head.bias
    assert bias is not None
    assert bias.grad is not None
    own = backbone.model(input_ids=batch.tokens).logits[0, :-1].log_softmax(-1)
    expected = torch.autograd.grad(own.gather(-1, batch.tokens[0, 1:, None]).sum(), bias)[0]
    torch.testing.assert_close(bias.grad, expected, rtol=1e-4, atol=1e-5)


def test_the_tiny_llama_stays_plain(tmp_path: Path) -> None:
    head = Backbone.load(resolve(save_tiny(tmp_path / "m")), torch.bfloat16, "cpu").head
    assert (head.bias, head.scale, head.softcap) == (None, 1.0, None)
