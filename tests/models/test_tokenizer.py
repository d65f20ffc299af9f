"""Padding tokens that are no tokens of the conversation, and when two tokenizers speak the same ids."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from tiny import CHATML, tiny_tokenizer
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from harken.data.chat import Renderer
from harken.errors import UserError
from harken.models import tokenizer as subject
from harken.models.tokenizer import choose_pad, load_tokenizer, pad_token, response_end_tokens, same_tokenizer


def words(
    *special: str, template: str | None = CHATML, plain: tuple[str, ...] = ("a", "b"), **names: str
) -> PreTrainedTokenizerFast:
    """A word tokenizer with these special tokens, numbered in order; `names` says which is eos, bos …"""
    vocabulary = {token: i for i, token in enumerate([*special, *plain])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=plain[0]))
    inner.add_special_tokens([AddedToken(token, special=True) for token in special])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    made.chat_template = template
    return made


@pytest.mark.parametrize(
    ("special", "names", "pad"),
    [
        # SmolLM2: pad = eos = the end of the turn; unk is <|endoftext|>.
        (
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"],
            {
                "pad_token": "<|im_end|>",
                "eos_token": "<|im_end|>",
                "bos_token": "<|im_start|>",
                "unk_token": "<|endoftext|>",
            },
            "<|endoftext|>",
        ),
        # A name that says pad wins, wherever it stands.
        (
            ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|finetune_right_pad_id|>"],
            {"eos_token": "<|im_end|>"},
            "<|finetune_right_pad_id|>",
        ),
        # eos is not what ends the turn: neither may pad.
        (
            ["<unk>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"],
            {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<unk>"},
            "<unk>",
        ),
        # Nor may an end of turn that is called pad.
        (
            ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<spare>"],
            {"eos_token": "<|endoftext|>", "pad_token": "<|im_end|>"},
            "<spare>",
        ),
        # bos is the last resort: better a token that only opens turns elsewhere.
        (
            ["<s>", "<|im_start|>", "<|im_end|>"],
            {"eos_token": "<|im_end|>", "bos_token": "<s>"},
            "<|im_start|>",
        ),
        (["<s>", "<|im_end|>"], {"eos_token": "<|im_end|>", "bos_token": "<s>"}, "<s>"),
    ],
)
def test_pad_is_another_special_token(special: list[str], names: dict[str, str], pad: str) -> None:
    """P1: pad ≠ eos, and it ends no turn."""
    tokenizer = words(*special, **names)
    assert choose_pad(tokenizer, where="here")
    assert tokenizer.pad_token == pad
    assert tokenizer.pad_token_id == special.index(pad) != tokenizer.eos_token_id


def test_a_good_pad_stays() -> None:
    tokenizer = words("<pad>", "<|im_start|>", "<|im_end|>", pad_token="<pad>", eos_token="<|im_end|>")
    assert not choose_pad(tokenizer, where="here")
    assert tokenizer.pad_token == "<pad>"


def test_one_special_token_is_enough_and_no_ordinary_token_becomes_special() -> None:
    """P1: as the tokenizers of GPT-2, GPT-Neo and DialoGPT, whose only special token is eos."""
    end = "<|endoftext|>"
    for template in (None, "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"):
        for names in ({}, {"pad_token": end}):
            tokenizer = words(end, template=template, eos_token=end, bos_token=end, **names)
            before = set(tokenizer.all_special_ids)
            assert not choose_pad(tokenizer, where="gpt2")
            assert set(tokenizer.all_special_ids) == before
            filler = pad_token(tokenizer, where="gpt2")
            assert filler != tokenizer.eos_token_id
            if template is None:  # of words, too few are known for a chat
                assert Renderer(tokenizer).pad == filler


def test_an_undeclared_end_of_turn_ends_a_turn_everywhere() -> None:
    """Some families add their end of turn without declaring it as special."""
    tokenizer = words("<s>", "</s>", "<|im_start|>", eos_token="</s>", bos_token="<s>")
    tokenizer.add_tokens([AddedToken("<|im_end|>", special=False)])
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert response_end_tokens(tokenizer, where="here") == [end, 1]


def test_no_text_can_write_an_undeclared_end_of_turn() -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_tokens([AddedToken("<end>", special=False)])
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "<end>").replace("<|im_start|>", "")
    renderer, end = Renderer(tokenizer), tokenizer.convert_tokens_to_ids("<end>")
    assert renderer.end_of_turn == end
    assert end not in renderer.encode_response("a <end> b", ended=False)  # no text can write it


def test_a_broken_chat_template_is_the_users_error() -> None:
    tokenizer = words("<|im_end|>", "<s>", template="{{ raise_exception('no') }}", eos_token="<|im_end|>")
    with pytest.raises(UserError, match=r"here: its chat template cannot render.*chat_template\.jinja"):
        choose_pad(tokenizer, where="here")


def test_loading_reports_the_change_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subject._say_once.cache_clear()
    end = "<|im_end|>"
    words("<|endoftext|>", "<|im_start|>", end, pad_token=end, eos_token=end).save_pretrained(tmp_path)
    first, second = load_tokenizer(tmp_path), load_tokenizer(tmp_path)
    assert first.pad_token == second.pad_token == "<|endoftext|>"
    message = capsys.readouterr().err
    assert message.count("pad token was '<|im_end|>'; using '<|endoftext|>'") == 1
    assert len(message.splitlines()) == 1


def test_a_folder_without_a_tokenizer_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer can be read here.*tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    assert same_tokenizer(tiny_tokenizer(), load_tokenizer(tmp_path))


def test_pad_alone_makes_no_difference() -> None:
    special = ("<pad>", "<spare>", "<|im_end|>")
    left = words(*special, pad_token="<pad>", eos_token="<|im_end|>")
    assert same_tokenizer(left, words(*special, pad_token="<spare>", eos_token="<|im_end|>"))


@pytest.mark.parametrize(
    "other",
    [
        words("<pad>", "<|im_end|>", eos_token="<|im_end|>", plain=("b", "a")),
        words("<pad>", "<|im_end|>", eos_token="<|im_end|>", plain=("a", "b", "c")),
        words("<pad>", "<|im_end|>", eos_token="<pad>"),
        words("<pad>", "<|im_end|>", eos_token="<|im_end|>", template=None),
        words("<pad>", "<|im_end|>", eos_token="<|im_end|>", bos_token="<pad>"),
    ],
    ids=["ids swapped", "one word more", "other eos", "no template", "other bos"],
)
def test_another_tokenizer_is_not_the_same(other: PreTrainedTokenizerFast) -> None:
    assert not same_tokenizer(words("<pad>", "<|im_end|>", eos_token="<|im_end|>"), other)
