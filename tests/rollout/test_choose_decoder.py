"""The way of decoding that is chosen is right, past windows and far positions; what nothing is right for is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import FAMILIES, build
from tiny import tiny_backbone, tiny_tokenizer
from torch import Tensor, nn

from harken.config import LoraSettings
from harken.data.chat import Renderer
from harken.errors import UserError
from harken.kernels.attention import packed_attention
from harken.kernels.packing import pack_rows
from harken.models.backbone import Backbone
from harken.models.positions import position_limit
from harken.records import Message, Prompt
from harken.rollout import choose_decoder
from harken.rollout.attention import decode_attention
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine
from harken.rollout.plain_decoder import PlainDecoder

EXPECTED = {
    "llama": choose_decoder.FUSED_STEP,
    "qwen3": choose_decoder.FUSED_STEP,
    "ministral3": choose_decoder.MODEL_LAYERS,
    "mistral": choose_decoder.MODEL_LAYERS,
    "gemma2": choose_decoder.MODEL_LAYERS,
    "gpt_oss": choose_decoder.MODEL_LAYERS,
    "granite_swa": choose_decoder.MODEL_LAYERS,
    "llama4_text": choose_decoder.ROW_BY_ROW,
    "gpt_neo": choose_decoder.ROW_BY_ROW,
    "bloom": choose_decoder.ROW_BY_ROW,
    "falcon, alibi": choose_decoder.ROW_BY_ROW,
    "mpt": choose_decoder.MODEL_LAYERS,
    "gptj": choose_decoder.MODEL_LAYERS,
    "deepseek_v3": choose_decoder.MODEL_LAYERS,
}


def loaded(name: str) -> Backbone:
    return Backbone(build(FAMILIES[name]), tiny_tokenizer())


@pytest.mark.parametrize("name", EXPECTED)
def test_the_fastest_right_way_is_taken(name: str) -> None:
    """Rows of unequal length, one past every window, and both against a forward of each row alone without a cache."""
    backbone = loaded(name)
    rows = [list(range(50, 90)), list(range(90, 93)), list(range(100, 118))]
    with torch.no_grad(), backbone.decoding():
        assert choose_decoder.fastest_decoder(backbone) == EXPECTED[name]
        decoder = choose_decoder.open_decoder(backbone, 4, 64)
        decoder.prefill(rows, [1, 2, 1])
        rows = [rows[0], rows[1], list(rows[1]), rows[2]]
        for step in range(8):
            for row, tokens in enumerate(rows):
                exact = backbone.trunk(input_ids=torch.tensor([tokens]), use_cache=False).last_hidden_state
                torch.testing.assert_close(decoder.last_states[row], exact[0, -1], atol=3e-5, rtol=1e-3)
            if step == 4:
                kept = decoder.drop([1])
                rows = [rows[slot] for slot in kept]
            new = [(7 * step + 31 * row) % 250 + 10 for row in range(len(rows))]
            decoder.append(torch.tensor(new))
            rows = [[*tokens, token] for tokens, token in zip(rows, new, strict=True)]


@pytest.mark.parametrize("argument", ["softcap", "s_aux", "position_bias", "a_new_one"])
def test_a_kernel_swallows_no_argument(argument: str) -> None:
    """An argument that would change the result is computed or refused; one that is None or about the call is not."""
    query, keys, values = torch.randn(1, 4, 1, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
    given: dict[str, Any] = {argument: torch.rand(4) if argument == "s_aux" else 2.0}
    mask, module = torch.zeros(1, 1, 1, 5), nn.Identity()
    layout = pack_rows([[5, 6, 7]])
    row = query.expand(1, 4, 3, 8), keys[:, :, :3], values[:, :, :3]
    with pytest.raises(TypeError, match=argument):
        packed_attention(module, *row, None, layout=layout, **given)
    harmless: dict[str, Any] = {argument: None, "dropout": 0.0, "output_attentions": True}
    if argument in ("softcap", "s_aux"):
        own, _ = decode_attention(module, query, keys, values, mask)
        other, _ = decode_attention(module, query, keys, values, mask, **given)
        assert not torch.allclose(own, other, atol=1e-3)
    else:
        harmless["sliding_window"] = 3
        with pytest.raises(TypeError, match=argument):
            decode_attention(module, query, keys, values, mask, **given)
    decode_attention(module, query, keys, values, mask, **harmless)
    with pytest.raises(TypeError, match="sliding_window"):
        packed_attention(module, *row, None, layout=layout, sliding_window=3)


@pytest.mark.parametrize("cap", [None, 1.5])
def test_sinks_and_caps_are_their_definition(cap: float | None) -> None:
    torch.manual_seed(0)
    query, keys, values = torch.randn(2, 6, 1, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    sinks, mask = torch.randn(6), torch.zeros(2, 1, 1, 5)
    seen, _ = decode_attention(nn.Identity(), query, keys, values, mask, softcap=cap, s_aux=sinks)
    for row in range(2):
        for head in range(6):
            k, v = keys[row, head // 3].double(), values[row, head // 3].double()
            scores = (k @ query[row, head, 0].double()) * 8**-0.5
            scores = scores if cap is None else cap * (scores / cap).tanh()
            weights = torch.cat([scores, sinks[head, None].double()]).exp()
            expected = (weights / weights.sum())[:-1] @ v
            torch.testing.assert_close(seen[row, 0, head].double(), expected, atol=1e-6, rtol=1e-5)


def bend(backbone: Backbone, when: Any) -> None:
    """Scale the queries of every layer where `when(positions)` is true, by the positions' own number."""
    for layer in backbone.trunk.layers:
        plain = layer.self_attn.q_proj.forward

        def bent(x: Tensor, plain: Any = plain) -> Tensor:
            factors = torch.where(when(bend.positions), 1.5, 1.0)  # type: ignore[attr-defined]
            return plain(x) * (
                factors[..., None] if x.dim() == 3 else 1.0
            )  # the fast step gives two dimensions

        layer.self_attn.q_proj.forward = bent

    def note(module: Any, arguments: Any, keys: dict[str, Any]) -> None:
        count = keys["input_ids"].shape[1]
        given = keys.get("position_ids")
        bend.positions = torch.arange(count)[None] if given is None else given  # type: ignore[attr-defined]

    backbone.trunk.register_forward_pre_hook(note, with_kwargs=True)


def test_the_furthest_positions_are_asked_about() -> None:
    """Queries that are scaled from position 400 on: no row of a few tokens shows that the fast step leaves it out."""
    backbone = tiny_backbone()
    bend.positions = torch.zeros(1, 1)  # type: ignore[attr-defined]
    bend(backbone, lambda positions: positions >= 400)
    assert backbone._has_decode_step  # which asks about the first positions alone
    with torch.no_grad(), backbone.decoding():
        assert backbone.decode_step is not None
        assert choose_decoder.fastest_decoder(backbone) == choose_decoder.MODEL_LAYERS


@pytest.mark.parametrize("window", [20, 4096])
def test_windows_of_any_size_are_tested(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decode step that forgets the window agrees up to it."""
    family = FAMILIES["mistral"]
    config = {**family.settings, "sliding_window": window, "max_position_embeddings": 8192}
    backbone = Backbone(build(type(family)("mistral", config)), tiny_tokenizer())
    with torch.no_grad(), backbone.decoding():
        assert choose_decoder.fastest_decoder(backbone) == choose_decoder.MODEL_LAYERS
        assert backbone.model.config.sliding_window == window
        backbone.decoder_kind = None
        monkeypatch.setattr(choose_decoder.Decoder, "_mask", lambda self, at, count: ways_past(at, count))
        assert choose_decoder.fastest_decoder(backbone) == choose_decoder.ROW_BY_ROW


def ways_past(at: Tensor, count: int) -> Tensor:
    hidden = torch.arange(count) > at[:, None]
    return torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[:, None, None]


def test_a_model_that_no_way_is_right_for_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = loaded("qwen3")
    monkeypatch.setattr(PlainDecoder, "_forward", lambda self, tokens, past: torch.zeros(1, 32))
    monkeypatch.setattr(
        choose_decoder.Decoder, "_states", lambda self, tokens, at, places: torch.zeros(len(tokens), 32)
    )
    with pytest.raises(UserError, match=r"^qwen3: responses cannot be generated with this model: [^\n]*$"):
        choose_decoder.require_decodable(backbone)


@pytest.mark.parametrize(
    ("name", "limit"), [("phi3, longrope", 256), ("llama, dynamic", 512), ("llama", None)]
)
def test_rows_past_what_a_rotation_is_fixed_for_are_refused(name: str, limit: int | None) -> None:
    """One long row would give every row of its batch other frequencies. Up to there rows agree with those alone."""
    backbone = loaded(name)
    assert position_limit(backbone.model.config) == limit
    backbone.add_adapter("policy", LoraSettings(rank=2), seed=0)
    engine = InProcessEngine(backbone, Renderer(tiny_tokenizer()), "policy", 500)
    prompts = [Prompt("long", (Message("user", "x" * 220),)), Prompt("short", (Message("user", "x"),))]
    rollouts = engine.generate(prompts[1:], Sampling(8, seed=0), "v", "test")
    assert len(rollouts) == 1
    if limit == 256:
        with pytest.raises(UserError, match=r"past 256 the rotary embedding of this model .* longest row"):
            engine.generate(prompts, Sampling(30, seed=0), "v", "test")
    rows = [list(range(10, 250)) * 2, [5, 6, 7]]
    if limit == 256:
        with pytest.raises(UserError, match="past 256 the rotary"):
            backbone.forward_packed(backbone.pack(rows))
    else:
        backbone.forward_packed(backbone.pack(rows))


def test_rows_of_two_lengths_are_compared() -> None:
    """A decoder that is wrong only for the shorter of two rows would pass on rows of one length."""
    lengths, offset, _ = next(choose_decoder._cases(tiny_backbone(), choose_decoder.ROW_BY_ROW))
    assert offset == 0 and len(set(lengths)) == 2 and min(lengths) == 2
