"""Rows of a text and a label: prompts, pairs by the stated rule, and labels that are judged over the whole file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError
from tiny import bpe_tokenizer, tiny_model
from tiny_encoders import save_encoder
from transformers import AutoTokenizer

from harken.config import files as config_files
from harken.config.base import DataConfig
from harken.config.stages import resolve_stages
from harken.data import files, sources
from harken.data.labelled_texts import label_key
from harken.data.prompt_rule import prompt_rule
from harken.data.report import DataReport
from harken.errors import UserError
from harken.records import Demonstration, Preference

GOOD, BAD = "Item {} is what I bought and it was lovely", "Item {} is what I bought and it was broken"


def reviews(count: int = 6, good: object = 1, bad: object = 0) -> list[dict[str, object]]:
    return [
        {"text": (GOOD if i % 2 else BAD).format(i), "label": good if i % 2 else bad} for i in range(count)
    ]


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def pairs(
    folder: Path, rows: list[dict[str, Any]], seed: int = 1, **keys: Any
) -> tuple[list[Preference], DataReport]:
    found, report = sources.load_preferences(
        DataConfig(path=write(folder, rows), prompt_words=2, **keys), seed=seed
    )
    return [row for row in found if isinstance(row, Preference)], report


def test_prompts_are_the_first_words_of_every_text(tmp_path: Path) -> None:
    """S3-03: whatever the label is, and without its meaning."""
    rows = [*reviews(), {"text": "too short", "label": 7}]
    prompts, report = sources.load_prompts(DataConfig(path=write(tmp_path, rows), prompt_words=3))
    assert [prompt.messages[0].content for prompt in prompts] == [f"Item {i} is" for i in range(6)]
    assert report.layout == "text_label"
    assert report.dropped == Counter({"text_too_short": 1})
    assert report.raw == report.kept + 1
    examples, _ = sources.load_demonstrations(DataConfig(path=write(tmp_path, rows), prompt_words=3))
    assert isinstance(examples[1], Demonstration)
    assert (examples[1].prompt.messages[0].content, examples[1].response) == (
        "Item 1 is", "what I bought and it was lovely"
    )  # fmt: skip


def test_a_pair_is_a_positive_over_a_negative_text_and_each_text_is_in_one(tmp_path: Path) -> None:
    """S3-05: the winner's beginning is the prompt in one half of the pairs, the loser's in the other."""
    rows = reviews(21)  # 10 positive, 11 negative
    found, report = pairs(tmp_path, rows)
    assert len(found) == 10
    assert all("lovely" in row.chosen and "broken" in row.rejected for row in found)
    owners = Counter()
    for row in found:
        start = row.prompt.messages[0].content
        assert start.startswith("Item ") and len(start.split()) == 2
        number = int(start.split()[1])
        owners["winner" if number % 2 else "loser"] += 1
        assert row.chosen == "is what I bought and it was lovely"
    assert owners == Counter(winner=5, loser=5)
    assert report.dropped == Counter({"no_partner": 1})
    assert "10 positive and 11 negative texts make 10 pairs" in report.notes[0]
    numbered = [{**row, "text": row["text"] + f" #{i}"} for i, row in enumerate(rows)]
    again, _ = pairs(tmp_path, numbered)
    used = [text.split("#")[1] for row in again for text in (row.chosen, row.rejected)]
    assert len(set(used)) == len(used) == 20


def test_pairs_depend_on_the_seed_alone(tmp_path: Path) -> None:
    rows = [{**row, "text": row["text"] + f" #{i}"} for i, row in enumerate(reviews(20))]
    one, again, other = (pairs(tmp_path, rows, seed)[0] for seed in (1, 1, 2))
    assert one == again
    assert {(row.chosen, row.rejected) for row in one} != {(row.chosen, row.rejected) for row in other}


def test_held_out_pairs_share_no_text_with_the_training_pairs(tmp_path: Path) -> None:
    rows = [{**row, "text": row["text"] + f" #{i}"} for i, row in enumerate(reviews(30))]
    data = DataConfig(path=write(tmp_path, rows), prompt_words=2, eval_fraction=0.4)
    train, held_out, _ = sources.load_split(data, sources.load_preferences, 3)
    texts = [
        {text for row in side if isinstance(row, Preference) for text in (row.chosen, row.rejected)}
        for side in (train, held_out)
    ]
    assert texts[0] and texts[1] and not texts[0] & texts[1]


@pytest.mark.parametrize(
    ("good", "bad"),
    [(1, 0), (1, -1), ("1", "0"), (True, False), ("pos", "neg"), ("Positive", " negative "), (1.0, 0.0)],
)
def test_clear_labels_are_understood(good: object, bad: object, tmp_path: Path) -> None:
    found, _ = pairs(tmp_path, reviews(6, good, bad))
    assert len(found) == 3
    assert all("lovely" in row.chosen for row in found)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([1, 1, 1, 1], "has 1 (1: 4 rows)"),
        ([-1, -1, -1, -1], "has 1 (-1: 4 rows)"),
        ([1, 2, 3, 1], "has 3"),
        ([1, 2, 1, 2], "unclear which label is the positive one: 1: 2 rows, 2: 2 rows"),
        (["ham", "spam", "ham", "spam"], "unclear"),
        (["pos", "spam", "pos", "spam"], "unclear"),
    ],
)
def test_unclear_labels_are_refused_with_a_fix_that_works(
    labels: list[object], said: str, tmp_path: Path
) -> None:
    """Judged over the whole file: rows 1 and 2 of the third case alone would be read otherwise than with the third."""
    rows = [{"text": GOOD.format(i) + f" #{i}", "label": label} for i, label in enumerate(labels)]
    with pytest.raises(UserError) as refused:
        pairs(tmp_path, rows)
    assert said in refused.value.what
    if "unclear" in said:
        assert "data.positive_label" in str(refused.value.fix)
        found, _ = pairs(tmp_path, rows, positive_label=labels[1])
        assert len(found) == 2


def test_the_named_label_is_the_positive_one_even_against_its_word(tmp_path: Path) -> None:
    found, report = pairs(tmp_path, reviews(6, good="neg", bad="pos"), positive_label="neg")
    assert all("lovely" in row.chosen for row in found)
    assert "by data.positive_label" in report.notes[0]
    with pytest.raises(UserError, match="no label is 'best'"):
        pairs(tmp_path, reviews(6), positive_label="best")


def write_parquet(file: Path, rows: list[dict[str, Any]], names: list[str]) -> str:
    table = pyarrow.Table.from_pylist(rows)
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": names, "_type": "ClassLabel"},
    }
    written = json.dumps({"info": {"features": features}})
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": written}), file)
    return str(file)


def test_names_that_the_data_set_declares_decide(tmp_path: Path) -> None:
    """ClassLabel: 0 may be the positive one. Names without a known meaning are refused, 0 and 1 or not."""
    path = write_parquet(tmp_path / "a.parquet", reviews(6, good=0, bad=1), ["pos", "neg"])
    assert files.class_names(path, "train", "label") == ["pos", "neg"]
    assert files.class_names(path, "train", "text") == []
    data = DataConfig(path=path, prompt_words=2)
    found, report = sources.load_preferences(data)
    assert all("lovely" in row.chosen for row in found if isinstance(row, Preference))
    assert len(found) == 3 and "by its name" in report.notes[0]
    path = write_parquet(tmp_path / "b.parquet", reviews(6), ["ham", "spam"])
    with pytest.raises(UserError, match=r"0 \(ham\): 3 rows"):
        sources.load_preferences(DataConfig(path=path, prompt_words=2))
    named, _ = sources.load_preferences(DataConfig(path=path, prompt_words=2, positive_label="spam"))
    assert all("lovely" in row.chosen for row in named if isinstance(row, Preference))


def test_columns_of_other_names_and_rows_without_a_label(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"review": row["text"], "feeling": row["label"]} for row in reviews(6)]
    rows.append({"review": GOOD.format(9), "feeling": None})
    found, report = pairs(tmp_path, rows, columns={"text": "review", "label": "feeling"})
    assert len(found) == 3
    assert report.dropped == Counter({"unlabelled": 1})


@pytest.mark.parametrize(
    ("text", "words", "split"),
    [
        ("one two  three", 2, ("one two", "three")),
        (" <br />one\ntwo three", 2, ("<br />one", "two three")),
        ("这部电影很好看", 2, ("这部", "电影很好看")),
        ("HD这部电影", 2, ("HD这", "部电影")),
    ],
)
def test_words(text: str, words: int, split: tuple[str, str]) -> None:
    assert prompt_rule(DataConfig(path="x", prompt_words=words)).split(text) == split


def by_tokens(model: object, count: int) -> DataConfig:
    return DataConfig(path="x", prompt_tokens=count, prompt_tokenizer=str(model))


@pytest.mark.parametrize(
    ("text", "tokens", "split"),
    [
        ("abc abab xy", 3, ("abc", "abab xy")),  # ab, c, the space
        ("abc abab xy", 4, ("abc ab", "ab xy")),
        ("na\u00efve b", 3, ("na\u00ef", "ve b")),  # the letter's first byte, and so the letter
        ("\u6c34\u6c34 b", 1, ("\u6c34", "\u6c34 b")),
        ("  ab cd", 3, ("ab", "cd")),
    ],
)
def test_tokens_of_the_named_model(text: str, tokens: int, split: tuple[str, str], tmp_path: Path) -> None:
    """S3-03: the first tokens, by a byte-level tokenizer with one merge, in which `ab` is a token."""
    bpe_tokenizer().save_pretrained(tmp_path)
    tiny_model(hidden=16).save_pretrained(tmp_path)
    assert prompt_rule(by_tokens(tmp_path, tokens)).split(text) == split


def test_without_a_key_the_prompt_is_eight_words() -> None:
    text = " ".join(f"w{i}" for i in range(12))
    assert prompt_rule(DataConfig(path="x")).split(text)[0] == " ".join(f"w{i}" for i in range(8))


def test_tokens_that_frame_a_text_do_not_count(tmp_path: Path) -> None:
    """A tokenizer that begins every text with [CLS]: the first n tokens are those of the text itself."""
    name = save_encoder(tmp_path / "bert")
    tokenizer = AutoTokenizer.from_pretrained(name)
    text = "red is green and a blue one"
    assert tokenizer(text)["input_ids"][0] == tokenizer.cls_token_id
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    prompt, _ = prompt_rule(by_tokens(name, 3)).split(text)
    assert tokenizer(prompt, add_special_tokens=False)["input_ids"] == ids[:3]


def test_prompts_by_tokens_are_what_the_policy_decodes(tmp_path: Path) -> None:
    """The oracle decodes the first ids; a stage of another model that names the policy reads the same prompts."""
    bpe_tokenizer().save_pretrained(tmp_path)
    tiny_model(hidden=16).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    path = write(tmp_path, [{**row, "text": "ab" + str(row["text"])} for row in reviews(6)])
    data = by_tokens(tmp_path, 7).model_copy(update={"path": path})
    prompts, _ = sources.load_prompts(data)
    expected = [
        tokenizer.decode(tokenizer(f"abItem {i} is what I")["input_ids"][:7]).strip() for i in range(6)
    ]
    assert [prompt.messages[0].content for prompt in prompts] == expected
    found, report = sources.load_preferences(data)
    assert {row.prompt.messages[0].content for row in found if isinstance(row, Preference)} <= set(expected)
    assert f"their first 7 tokens of {tmp_path} are prompts" in report.notes[0]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"prompt_tokens": 8}, "Fix: set prompt_tokenizer to the policy"),
        ({"prompt_tokenizer": "embedded"}, "Fix: set prompt_tokens, or remove it"),
        ({"prompt_tokens": 8, "prompt_words": 8, "prompt_tokenizer": "embedded"}, "Fix: remove one of them"),
    ],
)
def test_half_a_rule_and_two_rules_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig(path="x", **keys)


def test_a_tokenizer_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    data = by_tokens(tmp_path / "none", 3).model_copy(update={"path": write(tmp_path, reviews())})
    with pytest.raises(UserError, match="no such model"):
        sources.load_prompts(data)


def test_every_stage_of_the_recipe_reads_the_same_prompts() -> None:
    """By the tokens of the pipeline's model, which is not the encoder's tokenizer."""
    config = config_files.load_pipeline("imdb", [])
    rules = set()
    for stage in resolve_stages(config, "out"):
        data = getattr(stage.config, "data", None)
        if isinstance(data, DataConfig):
            rules.add((data.prompt_tokens, data.prompt_tokenizer, data.prompt_words))
    assert rules == {(8, config.model_name, None)}


def test_equal_labels_have_one_key() -> None:
    assert label_key(1) == label_key(1.0) == label_key("1") == "1"
    assert label_key(True) == "true" != label_key(1)
    assert label_key(None) is None
    assert label_key("") is None
