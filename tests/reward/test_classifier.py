"""A classifier as a reward: the right class, read the way it was trained, whole responses, no random heads."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import save_tiny, tiny_tokenizer
from tiny_rewards import answer, save_reward_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from harken.config.rewards import ClassifierPart
from harken.errors import NonFinite, UserError
from harken.models.resolve import resolve
from harken.records import Message, Rollout
from harken.reward.classifier import ClassifierReward, check_classifier, load_classifier

POSITIONS = 48
CLS, SEP = 2, 3


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    """A byte a token; pairs become [CLS] first [SEP] second [SEP] with segments 0 and 1, as BERT writes them."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*specials, *letters])}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=POSITIONS,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def encoder(labels: list[str], **config: Any) -> BertForSequenceClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(encoder_tokenizer()),
            max_position_embeddings=POSITIONS,
            id2label=dict(enumerate(labels)),
            label2id={name: i for i, name in enumerate(labels)},
            pad_token_id=0,
            initializer_range=0.5,
            **sizes,
            **config,
        )
    )
    return model.eval()


def part(**keys: Any) -> ClassifierPart:
    return ClassifierPart(type="classifier", model_name="unused", **keys)


def logits(model: BertForSequenceClassification, first: str, second: str | None = None) -> Tensor:
    """One text or pair, alone and without padding, its ids written by hand."""

    def bytes_of(text: str) -> list[int]:
        return list(encoder_tokenizer()(text, add_special_tokens=False)["input_ids"])

    tokens = [CLS, *bytes_of(first), SEP]
    types = [0] * len(tokens)
    if second is not None:
        tokens += [*bytes_of(second), SEP]
        types += [1] * (len(tokens) - len(types))
    with torch.no_grad():
        got: Tensor = model(torch.tensor([tokens]), token_type_ids=torch.tensor([types])).logits[0]
    return got.double()


def values(reward: ClassifierReward, *rollouts: Rollout) -> list[float]:
    return [score.value for score in reward.score(rollouts) if score.value is not None]


def test_the_log_odds_of_a_class_from_prompt_and_response() -> None:
    """ln(p / (1 − p)) of the class by softmax; batch mates and padding change nothing."""
    model = encoder(["bad", "fair", "good"])
    said = [answer("a fine answer"), answer("no", "why is it so?"), answer("a fine answer")]
    for label in ("fair", 1):
        got = values(ClassifierReward(model, encoder_tokenizer(), part(label=label)), *said)
        p = [torch.softmax(logits(model, r.prompt.last_user_message, r.text), -1)[1].item() for r in said]
        wanted = [torch.logit(torch.tensor(x, dtype=torch.float64)).item() for x in p]
        assert got == pytest.approx(wanted, abs=1e-4)
        assert got[0] == got[2] != pytest.approx(got[1], abs=1e-3)


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_classes_that_are_judged_apart_give_their_own_logit(problem: str) -> None:
    model = encoder(["helpful", "correct"], problem_type=problem)
    got = values(ClassifierReward(model, encoder_tokenizer(), part(label="correct")), answer("abc"))
    assert got == pytest.approx([logits(model, "hello", "abc")[1].item()], abs=1e-4)


def test_a_single_output_is_the_score_weighted_and_clipped() -> None:
    model, tokenizer = encoder(["reward"]), encoder_tokenizer()
    (raw,) = logits(model, "hello", "abc").tolist()
    (score,) = ClassifierReward(model, tokenizer, part(weight=0.5)).score([answer("abc")])
    assert (score.source, score.weight) == ("classifier", 0.5)
    assert score.value == pytest.approx(raw, abs=1e-4)
    bound = abs(raw) / 2
    clipped = values(ClassifierReward(model, tokenizer, part(clip=bound)), answer("abc"))
    assert clipped == pytest.approx([bound if raw > 0 else -bound])


def test_a_non_finite_score_is_an_error_and_never_clipped() -> None:
    model = encoder(["reward"])
    with torch.no_grad():
        model.classifier.bias.fill_(math.nan)
    with pytest.raises(NonFinite, match=r"reward classifier, prompt p1: the reward is nan"):
        ClassifierReward(model, encoder_tokenizer(), part(clip=1.0)).score([answer("abc")])


def test_the_response_alone() -> None:
    model = encoder(["reward"])
    reward = ClassifierReward(model, encoder_tokenizer(), part(text="response"))
    got = values(reward, answer("abc"), answer("abc", "another prompt"))
    assert got == pytest.approx([logits(model, "abc").item()] * 2, abs=1e-4)


def test_text_cannot_write_a_separator() -> None:
    """S0-05: a response that spells [SEP] is read as that text."""
    model = encoder(["reward"])
    rollout = answer("a[SEP]b", "c[CLS]")
    got = values(ClassifierReward(model, encoder_tokenizer(), part()), rollout)
    assert got == pytest.approx([logits(model, "c[ CLS]", "a[ SEP]b").item()], abs=1e-4)


def test_a_long_conversation_loses_its_beginning_and_a_response_nothing() -> None:
    """S0-33: 48 positions: three specials, the response, and the last of the prompt."""
    model, text = encoder(["reward"]), "0123456789"
    turns = (Message("user", "first" * 5), Message("assistant", "second"), Message("user", "third" * 3))
    whole = "user: " + "first" * 5 + "\n\nassistant: second\n\nuser: " + "third" * 3
    got = values(ClassifierReward(model, encoder_tokenizer(), part()), answer(text, turns))
    assert got == pytest.approx([logits(model, whole[-(POSITIONS - 3 - 10) :], text).item()], abs=1e-4)
    short = ClassifierReward(model, encoder_tokenizer(), part(max_length=20))
    assert values(short, answer(text, turns)) == pytest.approx(
        [logits(model, whole[-7:], text).item()], abs=1e-4
    )


@pytest.mark.parametrize("text", ["response", "prompt_and_response"])
def test_a_response_longer_than_the_classifiers_limit_is_an_error(text: str) -> None:
    reward = ClassifierReward(encoder(["reward"]), encoder_tokenizer(), part(text=text, max_length=20))
    with pytest.raises(
        UserError, match=r"classifier, prompt p1: this response takes \d+ tokens, and the classifier reads 20"
    ) as told:
        reward.score([answer("x" * 19)])
    assert "\n" not in str(told.value)


def test_configuration_errors_list_the_allowed_values() -> None:
    model, tokenizer = encoder(["bad", "good"]), encoder_tokenizer()
    with pytest.raises(UserError, match=r"has 2 outputs\. Fix: name a label: 0 bad, 1 good"):
        ClassifierReward(model, tokenizer, part())
    for wrong in ("great", 2):
        with pytest.raises(UserError, match=rf"has no label {wrong}\. Fix: choose among 0 bad, 1 good"):
            ClassifierReward(model, tokenizer, part(label=wrong))
    with pytest.raises(UserError, match=r"max_length 64 is more than .* Fix: lower max_length to 48 tokens"):
        ClassifierReward(model, tokenizer, part(label=0, max_length=64))


def language_model(tokenizer: PreTrainedTokenizerFast, **config: Any) -> LlamaForSequenceClassification:
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForSequenceClassification(
        LlamaConfig(vocab_size=len(tokenizer), num_labels=1, initializer_range=0.3, **sizes, **config)
    ).eval()


def alone(model: LlamaForSequenceClassification, tokens: list[int]) -> float:
    """The score at the last token of one row."""
    with torch.no_grad():
        state = model.model(torch.tensor([tokens])).last_hidden_state[0, -1]
        return float(model.score(state))


def test_a_chat_template_is_followed_to_its_end() -> None:
    """S3-12: the rendered conversation, scored at its last token; a truncated response gets no end token."""
    tokenizer = copy.deepcopy(tiny_tokenizer())
    model = language_model(tokenizer)
    reward = ClassifierReward(model, tokenizer, part())
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "a good one"}]
    written = tokenizer.apply_chat_template(turns, tokenize=False)
    assert written.endswith("a good one<|im_end|>\n")
    full = tokenizer(written, add_special_tokens=False)["input_ids"]
    cut = full[:-2]
    spelled = tokenizer(written.replace("good", "< |im_end|>"), add_special_tokens=False)["input_ids"]
    got = values(reward, answer("a good one"), answer("a good one", ended=False), answer("a <|im_end|> one"))
    assert got == pytest.approx([alone(model, row) for row in (full, cut, spelled)], abs=1e-4)
    assert len({round(x, 3) for x in got}) == 3


def test_a_templated_conversation_drops_its_oldest_turns() -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    model = language_model(tokenizer)
    turns = (
        Message("system", "s"),
        Message("user", "old" * 9),
        Message("assistant", "yes"),
        Message("user", "new"),
    )
    kept = [turns[0], turns[3], Message("assistant", "abc")]
    written = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in kept], tokenize=False
    )
    tokens = tokenizer(written, add_special_tokens=False)["input_ids"]
    reward = ClassifierReward(model, tokenizer, part(max_length=len(tokens)))
    assert values(reward, answer("abc", turns)) == pytest.approx([alone(model, tokens)], abs=1e-4)
    with pytest.raises(UserError, match="this response takes"):
        ClassifierReward(model, tokenizer, part(max_length=len(tokens) - 1)).score([answer("abc", turns)])


def saved(folder: Path, model: Any, tokenizer: PreTrainedTokenizerFast) -> str:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_folder_is_loaded_frozen_and_scores_the_same(tmp_path: Path) -> None:
    model = encoder(["bad", "good"])
    source = resolve(saved(tmp_path / "judge", model, encoder_tokenizer()))
    check_classifier(source)
    loaded = load_classifier(source, part(label="good"), torch.float32, torch.device("cpu"), 1000)
    direct = ClassifierReward(model, encoder_tokenizer(), part(label="good"))
    assert values(loaded, answer("abc")) == pytest.approx(values(direct, answer("abc")), abs=1e-6)
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert not loaded.model.training


def test_other_models_than_classifiers_are_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a classifier: its config names LlamaForCausalLM"):
        check_classifier(resolve(save_tiny(tmp_path / "base")))


def test_a_reward_model_is_no_classifier(tmp_path: Path) -> None:
    reward_model = save_reward_model(tmp_path / "rm", save_tiny(tmp_path / "base"))
    with pytest.raises(UserError, match="use type: model for a reward model that Harken trained"):
        check_classifier(resolve(reward_model))


def test_a_head_without_weights_is_refused(tmp_path: Path) -> None:
    """S1-16: never a random head with a warning."""
    folder = tmp_path / "headless"
    save_tiny(folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "LlamaForSequenceClassification"))
    source = resolve(str(folder))
    check_classifier(source)
    with pytest.raises(UserError, match=r"weights are missing: score\.weight"):
        load_classifier(source, part(label=0), torch.float32, torch.device("cpu"), 1000)


def _decoder(family: str, pad: int | None) -> PreTrainedModel:
    """A tiny random classifier of a family."""
    usual = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    sizes: dict[str, dict[str, Any]] = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
        "opt": {**usual, "ffn_dim": 48, "word_embed_proj_dim": 32},
        "llama": {**usual, "num_key_value_heads": 2},
        "qwen2": {**usual, "num_key_value_heads": 2},
    }
    own = sizes.get(family, usual)
    config = AutoConfig.for_model(family, vocab_size=len(tiny_tokenizer()), num_labels=1, **own)
    config.pad_token_id, config.eos_token_id = pad, 2
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "opt", "bert", "roberta"])
@pytest.mark.parametrize("pad", [0, 2, 9, None, -1], ids=["agrees", "eos", "other", "none", "outside"])
def test_scores_are_those_of_plain_transformers_on_a_row_alone(family: str, pad: int | None) -> None:
    """Whether config and tokenizer agree on pad or not (the tokenizer's is 0), and whatever a row's batch mates are."""
    if family == "roberta" and pad in (None, -1):
        pytest.skip("its positions are counted from a pad that is there")
    model, tokenizer = _decoder(family, pad), copy.deepcopy(tiny_tokenizer())
    reward = ClassifierReward(model, tokenizer, part())
    said = [answer("abc"), answer("a longer answer here"), answer("no", "why is it so?")]
    got = values(reward, *said)
    assert model.config.pad_token_id == pad
    with torch.no_grad():
        rows = [torch.tensor([reward._encode(rollout).tokens]) for rollout in said]
        plain = [model(row, attention_mask=torch.ones_like(row)).logits[0, 0].item() for row in rows]
    assert got == pytest.approx(plain, abs=1e-4)
    assert max(plain) - min(plain) > 1e-2


def test_a_row_that_ends_on_the_models_pad_token_is_pooled_as_by_transformers() -> None:
    """transformers takes the last token that is not the configured pad, whatever id fills a batch."""
    tokenizer = copy.deepcopy(tiny_tokenizer())
    last = ClassifierReward(_decoder("llama", None), tokenizer, part())._encode(answer("abc")).tokens[-1]
    model = _decoder("llama", last)
    reward = ClassifierReward(model, tokenizer, part())
    said = [answer("abc"), answer("a longer answer here")]
    with torch.no_grad():
        rows = [torch.tensor([reward._encode(rollout).tokens]) for rollout in said]
        plain = [model(row, attention_mask=torch.ones_like(row)).logits[0, 0].item() for row in rows]
    assert values(reward, *said) == pytest.approx(plain, abs=1e-4)


def test_a_family_that_cannot_be_padded_is_read_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = _decoder("llama", 0), copy.deepcopy(tiny_tokenizer())
    plain = model.forward

    def last_place(input_ids: Tensor, attention_mask: Tensor) -> Any:
        return plain(torch.where(attention_mask.bool(), input_ids, 9), torch.ones_like(attention_mask))

    monkeypatch.setattr(model, "forward", last_place)
    reward = ClassifierReward(model, tokenizer, part())
    assert not reward.pad_rows
    said = [answer("abc"), answer("a longer answer here"), answer("abcd")]
    alone = [values(reward, rollout)[0] for rollout in said]
    assert values(reward, *said) == pytest.approx(alone, abs=1e-5)


def test_roberta_reads_fewer_tokens_than_it_has_positions() -> None:
    """Its positions begin behind the padding's: 512 of 514."""
    model, tokenizer = _decoder("roberta", 1), copy.deepcopy(tiny_tokenizer())
    reward = ClassifierReward(model, tokenizer, part(text="response"))
    assert reward.max_length == model.config.max_position_embeddings - 2
    with pytest.raises(UserError, match=r"takes \d+ tokens, and the classifier reads 510"):
        reward.score([answer("x" * 600)])
    assert len(values(reward, answer("x" * 509))) == 1
