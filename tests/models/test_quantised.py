"""A frozen base in 8 and 4 bits: loaded, trained on, answered from, merged away."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from processors import PROCESSORS, pretend
from tiny import tiny_model, tiny_tokenizer
from torch import Tensor, nn

from harken.batches import collate
from harken.config import LoraSettings
from harken.errors import UserError
from harken.models import quantised
from harken.models.backbone import Backbone
from harken.models.quantised import WEIGHT_DTYPES, Quantised, compute_dtype, weight_count
from harken.models.quantised_linear import dequantise
from harken.models.resolve import ModelSource, resolve
from harken.models.roles import Policy, fingerprint_tensors, role_row
from harken.plan.shape import shape_of
from harken.rollout.decoder import Decoder

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
KINDS = ["int8", "nf4"]
NF4 = [
    -1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
]  # fmt: skip
ROWS = [list(range(10, 30)), list(range(40, 52))]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model(hidden=128).bfloat16().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return resolve(str(folder))


@pytest.fixture(params=PROCESSORS)
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything must hold on either."""
    pretend(monkeypatch, request.param)
    return str(request.param)


def loaded(source: ModelSource, kind: str) -> Backbone:
    backbone = Backbone.load(source, WEIGHT_DTYPES[kind], "cpu")
    backbone.add_adapter("policy", LoraSettings(rank=4, alpha=12), seed=0)
    return backbone


def layer_of(source: ModelSource, kind: str) -> nn.Linear:
    """A linear layer, not square, of the model in this kind."""
    layer = Backbone.load(source, WEIGHT_DTYPES[kind], "cpu").trunk.layers[0].mlp.up_proj  # type: ignore[index, union-attr]
    assert isinstance(layer, nn.Linear)
    return layer


def states(backbone: Backbone, role: str | None) -> Tensor:
    batch = collate(ROWS, [[True] * len(row) for row in ROWS], 0)
    with backbone.role(role):
        return backbone.hidden(batch)[batch.attention_mask].float()


@needs_library
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(("kind", "away"), [("int8", 0.1), ("nf4", 0.6)])
def test_it_agrees_with_the_original_up_to_quantisation(source: ModelSource, kind: str, away: float) -> None:
    plain, narrow = loaded(source, "bfloat16"), loaded(source, kind)
    assert narrow.quantised
    assert not plain.quantised
    assert narrow.dtype == torch.bfloat16
    with torch.no_grad():
        whole, few = states(plain, None), states(narrow, None)
    assert 0 < float((few - whole).norm()) <= away * float(whole.norm())


@needs_library
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("kind", KINDS)
def test_it_agrees_with_the_model_of_dequantised_weights(source: ModelSource, kind: str) -> None:
    """Against a plain model that holds the dequantised weights: before any forward, and after many."""
    narrow, plain = (
        Backbone.load(source, WEIGHT_DTYPES[weight_dtype], "cpu") for weight_dtype in (kind, "bfloat16")
    )
    found = states(narrow, None)
    weights = dict(plain.model.named_parameters())
    widened = 0
    with torch.no_grad():
        for name, parameter in narrow.model.named_parameters():
            if not parameter.is_floating_point():
                weights[name].copy_(dequantise(parameter, torch.bfloat16))
                widened += 1
        expected = states(plain, None)
    assert widened == 14
    assert float((found - expected).detach().norm()) <= 0.01 * float(expected.norm())


@needs_library
@pytest.mark.usefixtures("processor")
def test_8_bits_round_to_the_nearest_of_255_steps_an_output(source: ModelSource) -> None:
    """By the definition, in float64: each output's largest weight is 127 steps, and no weight is half a step away."""
    plain, narrow = layer_of(source, "bfloat16"), layer_of(source, "int8")
    whole = plain.weight.detach().double()
    step = whole.abs().amax(-1, keepdim=True) / 127
    away = (dequantise(narrow.weight, torch.float32).double() - whole).abs() / step
    assert float(away.max()) <= 0.5 + 127 * 2**-11  # the library rounds to float16 before it quantises


@needs_library
@pytest.mark.usefixtures("processor")
def test_4_bits_round_to_the_nearest_quantile_of_a_block(source: ModelSource) -> None:
    """By the definition of NF4 (arXiv:2305.14314, appendix E), up to what its scales lose in 8 bits."""
    plain, narrow = layer_of(source, "bfloat16"), layer_of(source, "nf4")
    with torch.no_grad():
        narrow(torch.ones(3, narrow.in_features, dtype=torch.bfloat16))
    blocks = plain.weight.detach().double().view(-1, 64)
    largest = blocks.abs().amax(-1, keepdim=True)
    table = torch.tensor(NF4, dtype=torch.float64)
    nearest = table[(blocks / largest).unsqueeze(-1).sub(table).abs().argmin(-1)] * largest
    away = (dequantise(narrow.weight, torch.float32).double().view(-1, 64) - nearest).abs() / largest
    assert float(away.max()) <= 0.03


@needs_library
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_the_rows_beside_it(source: ModelSource, kind: str) -> None:
    """Also where another row holds numbers far from the usual, which the library's 8 bits treat apart."""
    layer = layer_of(source, kind)
    torch.manual_seed(0)
    row = torch.randn(1, layer.in_features, dtype=torch.bfloat16)
    wild = torch.randn(7, layer.in_features, dtype=torch.bfloat16)
    wild[2, ::5] = 40.0
    product = row.double() @ dequantise(layer.weight, torch.bfloat16).double().T
    with torch.no_grad():
        alone, beside = layer(row), layer(torch.cat([row, wild]))[:1]
    for found in (alone, beside):
        assert float((found.double() - product).norm()) <= 2**-8 * float(product.norm())


@needs_library
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_same_product(source: ModelSource, kind: str) -> None:
    layer = layer_of(source, kind)
    torch.manual_seed(0)
    x = torch.randn(5, layer.in_features, dtype=torch.bfloat16, requires_grad=True)
    of_y = torch.randn(5, layer.out_features, dtype=torch.bfloat16)
    (of_x,) = torch.autograd.grad(layer(x), x, of_y)
    expected = of_y.double() @ dequantise(layer.weight, torch.bfloat16).double()
    assert float((of_x.double() - expected).norm()) <= 2**-8 * float(expected.norm())


@needs_library
@pytest.mark.parametrize("kind", KINDS)
def test_a_fingerprint_sees_scales_too(source: ModelSource, kind: str) -> None:
    """The packed numbers say nothing of a weight without the scale they are multiplied by."""
    weight = layer_of(source, kind).weight
    before = fingerprint_tensors([weight])
    scales = weight.quant_state.state2.absmax if kind == "nf4" else weight.SCB
    assert isinstance(scales, Tensor)
    scales[0] *= 1.5
    assert fingerprint_tensors([weight]) != before


@needs_library
def test_the_other_processor_is_one_where_the_library_repacks(
    source: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above are held against: the library's own forward changes the weights, ours says so."""
    pretend(monkeypatch, "avx512_bf16")
    layer = layer_of(source, "nf4")
    before, x = fingerprint_tensors([layer.weight]), torch.randn(2, layer.in_features, dtype=torch.bfloat16)
    with torch.no_grad():
        expected = layer(x)
        assert fingerprint_tensors([layer.weight]) == before
        layer.support_avx512bf16_for_cpu = True  # type: ignore[assignment]
        found = type(layer).forward(layer, x)
    assert fingerprint_tensors([layer.weight]) != before
    assert float((found - expected).norm()) <= 0.02 * float(expected.norm())
    with pytest.raises(ValueError, match="layout of bitsandbytes' CPU kernel"):
        dequantise(layer.weight, torch.bfloat16)


@needs_library
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_adapter_learns(source: ModelSource, kind: str) -> None:
    """Gradients reach the adapter in float32, the base keeps every bit, and a step lowers the loss."""
    backbone = loaded(source, kind)
    base = [p for n, p in backbone.model.named_parameters() if "lora_" not in n]
    before = fingerprint_tensors(base)
    policy = Policy(backbone, "policy")
    batch = collate(ROWS, [[False, *[True] * (len(row) - 1)] for row in ROWS], 0)
    optimiser = torch.optim.Adam(policy.parameters().values(), lr=3e-3)
    losses = []
    for _ in range(8):
        with backbone.role("policy"):
            loss = -policy.evaluate(batch).logprobs[batch.response_mask].mean()
            loss.backward()
        assert {p.grad.dtype for p in policy.parameters().values() if p.grad is not None} == {torch.float32}
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    assert fingerprint_tensors(base) == before
    assert not any(p.requires_grad for p in base)


@needs_library
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("kind", KINDS)
def test_decoding_is_the_training_forward(source: ModelSource, kind: str) -> None:
    backbone = loaded(source, kind)
    for name, parameter in backbone.adapter_parameters("policy").items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad(), backbone.role(None), backbone.decoding():
        pass  # asked about the bare base first: its result holds for roles with adapters too
    with torch.no_grad(), backbone.role("policy"):
        layout = backbone.pack(ROWS)
        ends = [int(where[len(row) - 1]) for where, row in zip(layout.token_index, ROWS, strict=True)]
        expected = backbone.forward_packed(layout, use_cache=False)[ends].float()
        with backbone.decoding():
            decoder = Decoder(backbone, 2, 32)
            decoder.prefill([row[:-1] for row in ROWS], [1, 1])
            decoder.append(torch.tensor([row[-1] for row in ROWS]))
            found = decoder.last_states.float()
    assert float((found - expected).norm()) <= 0.004 * float(expected.norm())


@needs_library
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_merged_into_the_weights_themselves(
    source: ModelSource, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is saved is what merging without quantising gives, bit for bit."""
    capsys.readouterr()
    saved = []
    for number, weight_dtype in enumerate((kind, "bfloat16")):
        backbone = loaded(source, weight_dtype)
        generator = torch.Generator().manual_seed(1)
        for parameter in backbone.adapter_parameters("policy").values():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        backbone.merge("policy")
        assert "Unloading" not in capsys.readouterr().err  # peft's bar
        assert not backbone.quantised
        folder = tmp_path / str(number)
        backbone.save_model(folder)
        saved.append(Backbone.load(resolve(str(folder)), torch.float32, "cpu").model.state_dict())
        with torch.no_grad():
            assert torch.isfinite(states(backbone, None)).all()
    assert saved[0].keys() == saved[1].keys()
    assert all(torch.equal(tensor, saved[1][key]) for key, tensor in saved[0].items())


@needs_library
def test_a_role_counts_weights_not_bytes(source: ModelSource) -> None:
    plain, narrow = (Backbone.load(source, WEIGHT_DTYPES[kind], "cpu") for kind in ("bfloat16", "nf4"))
    counts = [role_row("base", b.model.parameters(), "x").parameters for b in (plain, narrow)]
    assert counts[0] == counts[1]
    packed = sum(p.numel() for p in narrow.model.parameters())
    assert packed < counts[1]


@needs_library
@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_counts_the_bytes_that_are_there(source: ModelSource, kind: str) -> None:
    backbone = Backbone.load(source, WEIGHT_DTYPES[kind], "cpu")
    config = backbone.model.config
    attention_mask = 0
    for parameter in backbone.model.parameters():
        attention_mask += parameter.nbytes
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            attention_mask += state.absmax.nbytes
    assert shape_of(config).weight_bytes(WEIGHT_DTYPES[kind]) == pytest.approx(attention_mask, rel=0.02)


@needs_library
def test_a_model_made_of_adapters_is_not_quantised(source: ModelSource, tmp_path: Path) -> None:
    backbone = loaded(source, "bfloat16")
    backbone.save_adapter("policy", tmp_path / "adapter", source.folder)
    with pytest.raises(UserError, match="a merged model is not quantised"):
        Backbone.load(resolve(str(tmp_path / "adapter")), WEIGHT_DTYPES["nf4"], "cpu")


def test_without_the_library_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package bitsandbytes") as error:
        Quantised("nf4").settings()
    assert "pip install" in str(error.value)


def test_names_of_a_configuration() -> None:
    assert compute_dtype(WEIGHT_DTYPES["float32"]) == torch.float32
    assert [compute_dtype(WEIGHT_DTYPES[name]) for name in ("bfloat16", *KINDS)] == [torch.bfloat16] * 3
    in_4_bits = torch.zeros(32, 1, dtype=torch.uint8)
    in_4_bits.quant_state = SimpleNamespace(shape=(8, 8))  # type: ignore[attr-defined]
    assert weight_count(in_4_bits) == 64
    assert weight_count(torch.zeros(3, 5)) == 15
