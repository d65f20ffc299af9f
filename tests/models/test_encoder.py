"""Encoders as reward models: equal to plain transformers, never packed, independent of batch mates and padding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny import save_tiny, tiny_tokenizer
from tiny_encoders import ENCODERS, encoder_tokenizer, save_encoder, score_by_hand, tiny_encoder
from tiny_rewards import answer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import BaseModelOutput

from harken.config import LoraSettings
from harken.data.chat import Renderer, RenderFailure
from harken.data.encoder_renderer import EncoderRenderer
from harken.data.token_checks import check_round_trip
from harken.errors import UserError
from harken.kernels import packing
from harken.models.adapted_model import AdaptedModel
from harken.models.encoder import Encoder
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import require_use, resolve
from harken.models.reward_base import load_reward_base
from harken.models.roles import RewardModel, ScalarHead, lineage_fingerprint
from harken.records import Message, Preference, Prompt
from harken.reward.learned import LearnedReward, trained_max_length

TEXTS = [
    ("hello", "a fine film"),
    ("hello", "bad"),
    ("how was it?", "long " * 9),
    ("x", "y"),
    ("hello", "[SEP] it"),
]


def new_reward_model(base: str, folder: Path, *, lora: bool) -> RewardModel:
    """A reward model with random weights on a base, saved in `folder`."""
    source = resolve(base)
    backbone = load_reward_base(source, torch.float32, "cpu")
    if lora:
        backbone.add_adapter("reward", LoraSettings(rank=4), seed=1)
        for key, parameter in backbone.adapter_parameters("reward").items():
            if "lora_B" in key:
                torch.manual_seed(len(key))
                torch.nn.init.normal_(parameter, std=0.3)
    else:
        backbone.train_all_weights()
        torch.manual_seed(5)
        with torch.no_grad():
            for parameter in backbone.trainable_parameters().values():
                parameter += 0.05 * torch.randn_like(parameter)
    head = ScalarHead(backbone.hidden_size, 0.5, seed=3)
    model = RewardModel(backbone, "reward" if lora else None, head, 0.2, 1.5)
    folder.mkdir(parents=True)
    model.save(folder, source.folder, lineage_fingerprint(source), {"max_length": 128})
    return model


def load_learned(folder: Path, **keys: Any) -> LearnedReward:
    source = resolve(str(folder))
    model = RewardModel.load(source, torch.float32, "cpu")
    return LearnedReward(model, Renderer(tiny_tokenizer()), max_length=trained_max_length(source), **keys)


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("lora", [True, False])
def test_scores_are_those_of_plain_transformers_and_the_head(kind: str, lora: bool, tmp_path: Path) -> None:
    """S3-04, S3-12: on another tokenizer than the policy's, with the tokenizer's own frame and token types.

    The saved folder is read by transformers and peft alone, one pair of texts at a time and without padding.
    """
    base = save_encoder(tmp_path / "base", kind)
    new_reward_model(base, tmp_path / "rm", lora=lora)
    plain = AutoModel.from_pretrained(base if lora else tmp_path / "rm")
    if lora:
        plain = PeftModel.from_pretrained(plain, tmp_path / "rm")
    plain.eval()
    found = load_learned(tmp_path / "rm").score([answer(response, prompt) for prompt, response in TEXTS[:4]])
    wanted = [(score_by_hand(plain, tmp_path / "rm", *pair) - 0.2) * 1.5 for pair in TEXTS[:4]]
    assert [score.value for score in found] == pytest.approx(wanted, abs=5e-5)
    assert len(set(wanted)) == 4


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2", "modernbert", "distilbert"])
def test_scores_do_not_depend_on_batch_mates_or_padding(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is packed either: an encoder's tokens would attend to their neighbours' rows."""
    for name in ("pack_rows", "pad_rows", "packed_micro_batches"):
        monkeypatch.setattr(packing, name, lambda *rows, **keys: pytest.fail("an encoder was packed"))
    new_reward_model(save_encoder(tmp_path / "base", kind), tmp_path / "rm", lora=True)
    learned = load_learned(tmp_path / "rm")
    rows = [learned.tokenize(answer(response, prompt)) for prompt, response in TEXTS]
    alone = [learned.model.raw_scores([row], 1)[0] for row in rows]
    assert learned.model.raw_scores(rows, 10_000) == pytest.approx(alone, abs=5e-5)
    assert learned.model.raw_scores(rows[::-1], 70)[::-1] == pytest.approx(alone, abs=5e-5)
    pad = learned.model.pad_token
    batch = learned.model.backbone._collate([rows[0], [*rows[2]]])  # type: ignore[attr-defined]
    batch.tokens[0, len(rows[0]) :] = pad + 9  # what stands behind the mask
    assert float(learned.model.rewards(batch)[0]) == pytest.approx(alone[0], abs=5e-5)


def test_an_encoder_has_no_way_to_pack_or_to_generate(tmp_path: Path) -> None:
    encoder = load_reward_base(resolve(save_encoder(tmp_path)), torch.float32, "cpu")
    assert isinstance(encoder, Encoder)
    for name in ("pack", "packs", "forward_packed", "decoding", "logits", "head", "decode_step"):
        assert not hasattr(encoder, name)
    assert encoder.micro_batches([[[1] * 5, [1] * 9], [[1] * 3, [1] * 4]], 36) == [[0, 1]]
    assert encoder.micro_batches([[[1] * 5, [1] * 9], [[1] * 3, [1] * 4]], 35) == [[0], [1]]
    assert encoder.forward_size([[1, 2, 3], [1]]) == 6


def test_pooled_is_the_first_token_and_reads_all_of_the_row(tmp_path: Path) -> None:
    encoder = load_reward_base(resolve(save_encoder(tmp_path)), torch.float32, "cpu")
    assert isinstance(encoder, Encoder)
    batch = encoder._collate([[1, 50, 60, 2, 70, 2], [1, 50, 2, 80, 2]])
    hidden = encoder.hidden(batch)
    assert torch.equal(encoder.pooled(hidden, batch), hidden[:, 0])
    other = encoder._collate([[1, 50, 60, 2, 71, 2], [1, 50, 2, 80, 2]])
    assert not torch.equal(encoder.pooled(encoder.hidden(other), other)[0], hidden[0, 0])


def test_token_types_are_the_tokenizers() -> None:
    """0 to the first separator, 1 behind it and 0 at padding; RoBERTa has none."""
    encoder = Encoder(tiny_encoder("bert"), encoder_tokenizer("bert"))
    rows = [encoder.tokenizer(*pair)["input_ids"] for pair in (("ab", "c"), ("a", "bcdef"))]
    types = [encoder.tokenizer(*pair)["token_type_ids"] for pair in (("ab", "c"), ("a", "bcdef"))]
    got = encoder._token_types(encoder._collate(rows)).tolist()
    assert got[1] == types[1]
    assert got[0] == [*types[0], *[0] * (len(rows[1]) - len(rows[0]))]
    assert not Encoder(tiny_encoder("roberta"), encoder_tokenizer("roberta"))._has_types


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_prompt_and_response_are_the_pair_that_the_tokenizer_writes(kind: str) -> None:
    tokenizer = encoder_tokenizer(kind)
    renderer = EncoderRenderer(tokenizer)
    prompt, response = [Message("user", "What is it?")], "a film"
    whole = [*renderer.encode_prompt(prompt), *renderer.encode_response(response)]
    assert whole == tokenizer("What is it?", response)["input_ids"]
    assert renderer.encode_response(response, ended=False) == renderer.encode_response(response)
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    assert renderer.encode_prompt(turns) == renderer.encode_prompt(
        [Message("user", "user: a\n\nassistant: b\n\nuser: c")]
    )
    # A text that spells a special token does not become one.
    assert renderer.encode_response("[SEP]").count(2) == 1
    assert renderer.encode_prompt([Message("user", "[SEP][CLS]")]).count(1) == 1


def test_pairs_keep_the_response_and_the_end_of_the_prompt() -> None:
    renderer = EncoderRenderer(encoder_tokenizer("bert"))
    row = Preference(Prompt("p", (Message("user", "0123456789"),)), "good", "bad")
    pair = renderer.encode_preference(row, 13)
    assert not isinstance(pair, RenderFailure)
    assert len(pair.chosen_tokens) == 13
    assert list(pair.chosen_tokens) == renderer.tokenizer("456789", "good")["input_ids"]
    assert list(pair.rejected_tokens) == renderer.tokenizer("456789", "bad")["input_ids"]
    assert renderer.encode_preference(row, 7) == RenderFailure("response_too_long")
    tools = Preference(Prompt("p", (Message("user", "a"),), tools='[{"type": "function"}]'), "good", "bad")
    refused = renderer.encode_preference(tools, 50)
    assert isinstance(refused, RenderFailure)
    assert refused.reason == "template_refuses"


def test_a_tokenizer_that_knows_few_tokens_is_refused_and_one_that_drops_case_is_not() -> None:
    """An encoder's tokenizer decodes nothing, so a lossy one is fine; unknown tokens are not."""
    inner = Tokenizer(WordLevel({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "a": 4, "fine": 5}, "[UNK]"))
    inner.pre_tokenizer, inner.normalizer = BertPreTokenizer(), Lowercase()
    frame = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B [SEP]"}
    inner.post_processor = TemplateProcessing(**frame, special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )
    few = check_round_trip(EncoderRenderer(tokenizer), ["Many other words"] * 9)
    assert few.level == "error" and "of 64 tokens are unknown" in few.measured
    assert check_round_trip(EncoderRenderer(tokenizer), ["A Fine"] * 90).level == "warning"
    assert check_round_trip(EncoderRenderer(encoder_tokenizer("bert")), ["Many other words"]).level == "ok"


def test_a_tokenizer_without_a_frame_is_refused() -> None:
    with pytest.raises(UserError, match="does not write a pair of texts"):
        EncoderRenderer(tiny_tokenizer())


@pytest.mark.parametrize(("kind", "most"), [("bert", 132), ("roberta", 131), ("mpnet", 130)])
def test_the_position_limit_is_the_models_own(kind: str, most: int) -> None:
    """The longest row runs, and one more token is refused, not truncated. Padding's own positions do not count."""
    encoder = Encoder(tiny_encoder(kind), encoder_tokenizer(kind))
    assert encoder.max_length == most
    assert torch.isfinite(encoder.hidden(encoder._collate([[50] * most]))).all()
    with pytest.raises(UserError, match=f"this encoder reads {most}"):
        encoder.hidden(encoder._collate([[50] * (most + 1)]))


def test_heads_and_poolers_of_other_tasks_are_left_out_and_missing_weights_are_not(tmp_path: Path) -> None:
    base = tiny_encoder("bert")
    classifier = AutoModelForSequenceClassification.from_config(base.config)
    classifier.bert.load_state_dict(base.state_dict())
    classifier.save_pretrained(tmp_path / "classifier")
    encoder_tokenizer("bert").save_pretrained(tmp_path / "classifier")
    encoder = Encoder.load(resolve(str(tmp_path / "classifier")), torch.float32, "cpu")
    assert not any("pooler" in name for name, _ in encoder.model.named_parameters())
    batch = encoder._collate([[1, 50, 2, 60, 2]])
    plain = base(input_ids=batch.tokens, token_type_ids=torch.tensor([[0, 0, 0, 1, 1]])).last_hidden_state
    assert torch.allclose(encoder.hidden(batch), plain, atol=1e-6)
    state = {k: v.clone() for k, v in base.state_dict().items() if "layer.1.output.dense.weight" not in k}
    base.save_pretrained(tmp_path / "classifier", state_dict=state)
    with pytest.raises(UserError, match="weights are missing"):
        Encoder.load(resolve(str(tmp_path / "classifier")), torch.float32, "cpu")


class _IgnoresMask(BertModel):
    """A trunk that reads padding: its states are means over all positions, or over those before."""

    causal = False

    def forward(self, input_ids: Tensor, **inputs: Any) -> Any:
        states = self.get_input_embeddings()(input_ids)
        mixed = states.cumsum(1) if self.causal else states + states.mean(1, keepdim=True)
        return BaseModelOutput(last_hidden_state=mixed)


@pytest.mark.parametrize(("causal", "said"), [(True, "it is not an encoder"), (False, "depend on padding")])
def test_a_model_without_the_structure_of_an_encoder_is_refused(causal: bool, said: str) -> None:
    model = _IgnoresMask(tiny_encoder("bert").config)
    model.causal = causal
    with pytest.raises(UserError, match=said):
        Encoder(model, encoder_tokenizer("bert"))


def test_an_encoder_is_no_policy_and_is_not_quantised(tmp_path: Path) -> None:
    source = resolve(save_encoder(tmp_path / "bert"))
    assert source.is_encoder
    assert require_use(source, "reward_base") is source
    with pytest.raises(UserError, match="cannot generate responses") as refused:
        require_use(source, "policy")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="not quantised"):
        Encoder.load(source, WEIGHT_DTYPES["nf4"], "cpu")
    settings = json.loads((tmp_path / "bert" / "config.json").read_text())
    for declared, encoder in (({"is_decoder": True}, False), ({}, True)):
        (tmp_path / "bert" / "config.json").write_text(json.dumps(settings | declared))
        assert resolve(str(tmp_path / "bert")).is_encoder is encoder
    assert not resolve(save_tiny(tmp_path / "llama")).is_encoder
    rm = new_reward_model(str(tmp_path / "bert"), tmp_path / "rm", lora=True)
    assert isinstance(rm.backbone, AdaptedModel)
    with pytest.raises(UserError, match="a reward model on"):
        require_use(resolve(str(tmp_path / "rm")), "reward_base")


def test_a_fully_trained_language_model_is_saved_whole_and_scores_as_before(tmp_path: Path) -> None:
    """Its head reads the last token, and transformers reads the folder alone."""
    trained = new_reward_model(save_tiny(tmp_path / "base"), tmp_path / "rm", lora=False)
    source = resolve(str(tmp_path / "rm"))
    assert (source.kind, source.base, source.description) == ("reward", None, "a reward model")
    loaded = RewardModel.load(source, torch.float32, "cpu")
    rows = [[5, 9, 20, 2], [5, 9, 20, 33, 44, 2], [7, 8, 9]]
    scores = loaded.raw_scores(rows, 1000)
    assert scores == pytest.approx(trained.raw_scores(rows, 1000), abs=1e-6)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "rm")
    for row, score in zip(rows, scores, strict=True):
        with torch.no_grad():
            state = plain.model(input_ids=torch.tensor([row])).last_hidden_state[0, -1]
        assert float(trained.head(state)) == pytest.approx(score, abs=1e-5)
    (tmp_path / "rm" / "reward_head.safetensors").unlink()
    with pytest.raises(UserError, match=r"no reward_head\.safetensors"):
        resolve(str(tmp_path / "rm"))
