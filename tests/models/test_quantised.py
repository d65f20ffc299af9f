"""A frozen base in 8 and 4 bits: loaded, trained on, answered from, merged away."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer
from torch import Tensor

from harken.batches import collate
from harken.config import LoraSettings
from harken.errors import UserError
from harken.models import quantised
from harken.models.backbone import Backbone
from harken.models.quantised import KEPT_IN, Quantised, computed_in, weights_of
from harken.models.resolve import ModelSource, resolve
from harken.models.roles import Policy, fingerprint, role_row
from harken.plan.shape import shape_of
from harken.rollout.decoder import Decoder

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
KINDS = ["int8", "nf4"]
ROWS = [list(range(10, 30)), list(range(40, 52))]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model(hidden=128).bfloat16().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return resolve(str(folder))


def loaded(source: ModelSource, kind: str) -> Backbone:
    backbone = Backbone.load(source, KEPT_IN[kind], "cpu")
    backbone.add_adapter("policy", LoraSettings(rank=4, alpha=12), seed=0)
    return backbone


def states(backbone: Backbone, role: str | None) -> Tensor:
    batch = collate(ROWS, [[True] * len(row) for row in ROWS], 0)
    with backbone.role(role):
        return backbone.hidden(batch)[batch.real].float()


@needs_library
@pytest.mark.parametrize(("kind", "away"), [("int8", 0.1), ("nf4", 0.6)])
def test_it_speaks_as_the_model_it_was_made_from_but_for_its_bits(
    source: ModelSource, kind: str, away: float
) -> None:
    plain, narrow = loaded(source, "bfloat16"), loaded(source, kind)
    assert narrow.quantised
    assert not plain.quantised
    assert narrow.dtype == torch.bfloat16
    with torch.no_grad():
        whole, few = states(plain, None), states(narrow, None)
    assert 0 < float((few - whole).norm()) <= away * float(whole.norm())


@needs_library
def test_4_bits_are_the_model_of_the_widened_weights(source: ModelSource) -> None:
    """Against a plain model whose layers hold what the library makes of its own 4 bits."""
    from bitsandbytes.functional import dequantize_4bit

    narrow, plain = (Backbone.load(source, KEPT_IN[kind], "cpu") for kind in ("nf4", "bfloat16"))
    weights = dict(plain.model.named_parameters())
    widened = 0
    with torch.no_grad():
        for name, parameter in narrow.model.named_parameters():
            state = getattr(parameter, "quant_state", None)
            if state is not None:
                weights[name].copy_(dequantize_4bit(parameter.data, state))
                widened += 1
        found, expected = states(narrow, None), states(plain, None)
    assert widened == 14
    assert float((found - expected).norm()) <= 0.02 * float(expected.norm())


@needs_library
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_adapter_learns(source: ModelSource, kind: str) -> None:
    """Gradients reach the adapter in float32, the base keeps every bit, and a step lowers the loss."""
    backbone = loaded(source, kind)
    base = [p for n, p in backbone.model.named_parameters() if "lora_" not in n]
    before = fingerprint(base)
    policy = Policy(backbone, "policy")
    batch = collate(ROWS, [[False, *[True] * (len(row) - 1)] for row in ROWS], 0)
    optimiser = torch.optim.Adam(policy.parameters().values(), lr=3e-3)
    losses = []
    for _ in range(8):
        with backbone.role("policy"):
            loss = -policy.evaluate(batch).logprobs[batch.action].mean()
            loss.backward()
        assert {p.grad.dtype for p in policy.parameters().values() if p.grad is not None} == {torch.float32}
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.1
    assert fingerprint(base) == before
    assert not any(p.requires_grad for p in base)


@needs_library
@pytest.mark.parametrize("kind", KINDS)
def test_decoding_is_the_training_forward(source: ModelSource, kind: str) -> None:
    backbone = loaded(source, kind)
    for name, parameter in backbone.adapter_parameters("policy").items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad(), backbone.role(None), backbone.decoding():
        pass  # asked about the bare base first: what it answers holds for roles with adapters too
    with torch.no_grad(), backbone.role("policy"):
        layout = backbone.lay_out(ROWS)
        ends = [int(where[len(row) - 1]) for where, row in zip(layout.where, ROWS, strict=True)]
        expected = backbone.read(layout, use_cache=False)[ends].float()
        with backbone.decoding():
            decoder = Decoder(backbone, 2, 32)
            decoder.admit([row[:-1] for row in ROWS], [1, 1])
            decoder.append(torch.tensor([row[-1] for row in ROWS]))
            found = decoder.last.float()
    assert float((found - expected).norm()) <= 0.03 * float(expected.norm())


@needs_library
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_merged_into_the_weights_themselves(
    source: ModelSource, kind: str, tmp_path: Path
) -> None:
    """What is saved is what merging without quantising gives, bit for bit."""
    saved = []
    for number, held in enumerate((kind, "bfloat16")):
        backbone = loaded(source, held)
        generator = torch.Generator().manual_seed(1)
        for parameter in backbone.adapter_parameters("policy").values():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        backbone.merge("policy")
        assert not backbone.quantised
        folder = tmp_path / str(number)
        backbone.save_whole(folder)
        saved.append(Backbone.load(resolve(str(folder)), torch.float32, "cpu").model.state_dict())
        with torch.no_grad():
            assert torch.isfinite(states(backbone, None)).all()
    assert saved[0].keys() == saved[1].keys()
    assert all(torch.equal(tensor, saved[1][key]) for key, tensor in saved[0].items())


@needs_library
def test_a_role_counts_weights_not_bytes(source: ModelSource) -> None:
    plain, narrow = (Backbone.load(source, KEPT_IN[kind], "cpu") for kind in ("bfloat16", "nf4"))
    counts = [role_row("base", b.model.parameters(), "x").parameters for b in (plain, narrow)]
    assert counts[0] == counts[1]
    packed = sum(p.numel() for p in narrow.model.parameters())
    assert packed < counts[1]


@needs_library
@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_counts_the_bytes_that_are_there(source: ModelSource, kind: str) -> None:
    backbone = Backbone.load(source, KEPT_IN[kind], "cpu")
    config = backbone.model.config
    real = 0
    for parameter in backbone.model.parameters():
        real += parameter.nbytes
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            real += state.absmax.nbytes
    assert shape_of(config).kept(KEPT_IN[kind]) == pytest.approx(real, rel=0.02)


@needs_library
def test_a_model_made_of_adapters_is_not_quantised(source: ModelSource, tmp_path: Path) -> None:
    backbone = loaded(source, "bfloat16")
    backbone.save_adapter("policy", tmp_path / "adapter", source.folder)
    with pytest.raises(UserError, match="a merged model is not quantised"):
        Backbone.load(resolve(str(tmp_path / "adapter")), KEPT_IN["nf4"], "cpu")


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package bitsandbytes") as error:
        Quantised("nf4").settings()
    assert "pip install" in str(error.value)


def test_names_of_a_configuration() -> None:
    assert computed_in(KEPT_IN["float32"]) == torch.float32
    assert [computed_in(KEPT_IN[name]) for name in ("bfloat16", *KINDS)] == [torch.bfloat16] * 3
    in_4_bits = torch.zeros(32, 1, dtype=torch.uint8)
    in_4_bits.quant_state = SimpleNamespace(shape=(8, 8))  # type: ignore[attr-defined]
    assert weights_of(in_4_bits) == 64
    assert weights_of(torch.zeros(3, 5)) == 15
