"""One token a row, against the same model's own forward over everything."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny import PAD, tiny_backbone, tiny_model, tiny_tokenizer, with_adapters
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from harken.kernels import decode_step
from harken.kernels.decode_step import LlamaDecodeStep
from harken.models.backbone import Backbone
from harken.rollout.decoder import Decoder
from harken.run import signals

SIZE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
    "pad_token_id": PAD,
}
STRETCHED = {"rope_type": "linear", "factor": 3.0, "rope_theta": 1e4}
SERVED = {
    "Llama": LlamaConfig(**SIZE),
    "Llama, stretched": LlamaConfig(rope_parameters=STRETCHED, **SIZE),
    "Llama, biases": LlamaConfig(attention_bias=True, mlp_bias=True, **SIZE),
    "Mistral": MistralConfig(sliding_window=None, **SIZE),
    "Qwen2": Qwen2Config(**SIZE),
    "Mixtral, experts": MixtralConfig(num_local_experts=3, **SIZE),
    "Gemma, inputs scaled in their table": GemmaConfig(**SIZE),
    "Qwen3, norms of heads": Qwen3Config(**SIZE | {"head_dim": 12}),
}
OTHERWISE = {
    "residuals scaled": GraniteConfig(residual_multiplier=0.3, **SIZE),
    "norms after": Olmo2Config(**SIZE),
    "a window": MistralConfig(sliding_window=4, **SIZE),
    "one product for q, k, v": Phi3Config(**SIZE),
}
ROWS = [list(range(10, 22)), list(range(40, 44)), list(range(60, 69))]


def backbone_of(config: PretrainedConfig) -> Backbone:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    return Backbone(model.float(), tiny_tokenizer())


def follow(backbone: Backbone, check: Callable[[torch.Tensor, torch.Tensor], None]) -> None:
    """Three rows of unequal length, six tokens more: every last state, ours and the exact one."""
    rows, decoder = ROWS, Decoder(backbone, 3, 24)
    decoder.prefill(rows, [1, 1, 1])
    for step in range(6):
        new = [100 + 3 * step + row for row in range(3)]
        decoder.append(torch.tensor(new))
        rows = [[*tokens, token] for tokens, token in zip(rows, new, strict=True)]
        for row, tokens in enumerate(rows):
            check(
                decoder.last_states[row], backbone.forward("eager", input_ids=torch.tensor([tokens]))[0, -1]
            )


@pytest.mark.parametrize("config", SERVED.values(), ids=SERVED)
def test_states_are_those_of_the_whole_row(config: PretrainedConfig) -> None:
    backbone = backbone_of(config)
    with torch.no_grad(), backbone.decoding():
        assert backbone.decode_step is not None
        follow(backbone, lambda ours, exact: torch.testing.assert_close(ours, exact, atol=2e-5, rtol=1e-4))


def test_a_step_that_reads_its_tokens_on_the_host_is_not_recorded() -> None:
    """Experts ask which tokens are theirs, a dynamic rotation how far a row has come."""
    dynamic = LlamaConfig(
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
        max_position_embeddings=64,
        **SIZE,
    )
    capturable = {
        name: LlamaDecodeStep(backbone_of(config).trunk).capturable for name, config in SERVED.items()
    }
    assert [name for name, yes in capturable.items() if not yes] == ["Mixtral, experts"]
    assert not LlamaDecodeStep(backbone_of(dynamic).trunk).capturable


@pytest.mark.parametrize("role", ["policy", "other", None])
def test_the_active_adapter_is_used(role: str | None) -> None:
    backbone = with_adapters(tiny_backbone())
    with torch.no_grad(), backbone.role(role), backbone.decoding():
        assert backbone.decode_step is not None
        follow(backbone, lambda ours, exact: torch.testing.assert_close(ours, exact, atol=2e-5, rtol=1e-4))


def test_in_16_bits_it_is_as_near_as_the_way_through_the_library() -> None:
    backbone = with_adapters(Backbone(tiny_model().bfloat16(), tiny_tokenizer()))
    errors: list[float] = []

    def far(ours: torch.Tensor, exact: torch.Tensor) -> None:
        errors.append(float((ours.float() - exact.float()).norm() / exact.float().norm()))

    with torch.no_grad(), backbone.role("policy"), backbone.decoding():
        assert backbone.decode_step is not None
        follow(backbone, far)
        ours, backbone.decode_step = sum(errors), None
        errors.clear()
        follow(backbone, far)
    assert 0 < ours < 1.5 * sum(errors)


@pytest.mark.parametrize("config", OTHERWISE.values(), ids=OTHERWISE)
def test_models_of_another_structure_keep_their_own_forward(config: PretrainedConfig) -> None:
    backbone = backbone_of(config)
    with torch.no_grad(), backbone.decoding():
        assert backbone.decode_step is None
        follow(backbone, lambda ours, exact: torch.testing.assert_close(ours, exact, atol=2e-5, rtol=1e-4))


def test_weights_that_train_in_float32_keep_the_library_way() -> None:
    backbone = Backbone(tiny_model().bfloat16(), tiny_tokenizer())
    with torch.no_grad(), backbone.decoding():
        assert backbone.decode_step is not None
    backbone.train_all_weights()
    with torch.no_grad(), backbone.decoding():
        assert backbone.decode_step is None


def test_it_is_there_only_while_tokens_are_decoded() -> None:
    backbone = tiny_backbone()
    assert backbone.decode_step is None
    with pytest.raises(KeyError), torch.no_grad(), backbone.decoding():
        raise KeyError
    assert backbone.decode_step is None


def test_every_token_is_a_place_where_a_run_may_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone()
    with torch.no_grad(), backbone.decoding():
        decoder = Decoder(backbone, 1, 8)
        decoder.prefill([[5, 6]], [1])
        monkeypatch.setattr(signals, "raise_if_stopped", lambda: pytest.exit("stopped"))
        with pytest.raises(pytest.exit.Exception, match="stopped"):
            decoder.append(torch.tensor([7]))


def test_parts_that_take_something_else_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone()
    monkeypatch.setattr(backbone.trunk.layers[1].mlp, "forward", lambda x: x.view(3, -1))
    assert not decode_step.is_equivalent(
        backbone.trunk, lambda *_, **__: torch.zeros(1, len(decode_step.PROBE_PATTERN), 32), torch.float32
    )


def test_other_numbers_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same names, another formula: what its own forward gives decides."""
    backbone = tiny_backbone()
    assert decode_step.is_equivalent(backbone.trunk, backbone.forward, torch.float32)
    monkeypatch.setattr(backbone.trunk.layers[1].self_attn, "scaling", 0.5)
    monkeypatch.setattr(
        decode_step._DecoderLayer,
        "scale",
        property(lambda self: 8**-0.5, lambda self, value: None),
        raising=False,
    )
    assert not decode_step.is_equivalent(backbone.trunk, backbone.forward, torch.float32)


def test_a_layer_with_another_part_has_another_layout() -> None:
    """It is refused by its modules, before its outputs are compared."""
    model = tiny_model()
    assert decode_step._has_llama_layout(model.model)
    model.model.layers[1].add_module("gate", torch.nn.Identity())
    assert not decode_step._has_llama_layout(model.model)
