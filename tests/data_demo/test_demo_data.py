"""The demo's data keep what their README promises: ids, splits, noise, honesty about where they come from."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import harken.data
from harken.records import Message, Prompt
from harken.reward.demo_gold import GOLD_VERSION, gold_score, normalised_words

DEMO = Path(harken.data.__file__).parent / "demo"
DOMAINS = {"facts", "advice", "writing", "explain"}
Rows = list[dict[str, Any]]


def read(name: str) -> Rows:
    text = gzip.decompress((DEMO / f"{name}.jsonl.gz").read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def preferences() -> Rows:
    return read("preferences")


@pytest.fixture(scope="module")
def prompts() -> Rows:
    return read("prompts")


@pytest.fixture(scope="module")
def heldout() -> Rows:
    return read("heldout")


def gold_difference(row: dict[str, Any]) -> float:
    """Gold of A minus gold of B, from the texts alone."""
    prompt = Prompt(
        row["id"],
        (Message("user", row["prompt"]),),
        row["domain"],
        details={"keywords": row["keywords"]},
    )
    return gold_score(prompt, row["response_a"], "end_of_turn") - gold_score(
        prompt, row["response_b"], "end_of_turn"
    )


def plain(text: str) -> str:
    return " ".join(normalised_words(text))


def test_sizes(preferences: Rows, prompts: Rows, heldout: Rows) -> None:
    assert sum(path.stat().st_size for path in DEMO.glob("*.gz")) < 2_000_000
    assert 900 <= len(preferences) <= 1300
    assert (len(prompts), len(heldout)) == (416, 96)


def test_ids_are_unique_and_shaped(preferences: Rows, prompts: Rows, heldout: Rows) -> None:
    ids = [row["id"] for row in prompts + heldout]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(rf"demo-{row['domain']}-\d{{3}}", row["id"]) for row in prompts + heldout)
    pairs = [row["id"] for row in preferences]
    assert len(set(pairs)) == len(pairs)


def test_heldout_prompts_are_never_trained_on(preferences: Rows, prompts: Rows, heldout: Rows) -> None:
    weight_dtype = {plain(row["prompt"]) for row in heldout}
    assert len(weight_dtype) == len(heldout)
    assert not weight_dtype & {plain(row["prompt"]) for row in prompts}
    assert not weight_dtype & {plain(row["prompt"]) for row in preferences}
    assert {row["prompt"] for row in preferences} <= {row["prompt"] for row in prompts}


def test_prompts_are_short_distinct_and_balanced(prompts: Rows, heldout: Rows) -> None:
    rows = prompts + heldout
    assert all(len(normalised_words(row["prompt"])) <= 25 for row in rows)
    assert len({plain(row["prompt"]) for row in rows}) == len(rows)
    assert Counter(row["domain"] for row in prompts) == dict.fromkeys(DOMAINS, 104)
    assert Counter(row["domain"] for row in heldout) == dict.fromkeys(DOMAINS, 24)


def test_keywords_are_usable(prompts: Rows, heldout: Rows) -> None:
    """Two to six lower-case strings that the prompt does not hand over; a fact may have one gold response."""
    for row in prompts + heldout:
        fewest = 1 if row["domain"] == "facts" else 2
        assert fewest <= len(row["keywords"]) <= 6, row["id"]
        assert all(keyword == keyword.lower().strip() != "" for keyword in row["keywords"])
        if row["domain"] != "facts":
            padded = f" {plain(row['prompt'])} "
            assert not [k for k in row["keywords"] if f" {plain(k)} " in padded], row["id"]


def test_the_splits_are_those_of_the_prompt_source(prompts: Rows, heldout: Rows) -> None:
    """Ids, prompts and keywords agree with scripts/demo_prompts, where they are edited."""
    source = DEMO.parents[3] / "scripts" / "demo_prompts"
    if not source.is_dir():
        pytest.skip("the prompt source is not shipped with the package")
    lines = [line for domain in DOMAINS for line in (source / f"{domain}.jsonl").read_text().splitlines()]
    wanted = {row["id"]: (row["prompt"], row["keywords"]) for row in map(json.loads, lines)}
    assert {row["id"]: (row["prompt"], row["keywords"]) for row in prompts + heldout} == wanted


def test_every_row_is_marked_as_synthetic(preferences: Rows, prompts: Rows, heldout: Rows) -> None:
    assert {row["source"] for row in preferences} == {f"synthetic: {GOLD_VERSION}"}
    assert all(row["source"].startswith("synthetic: ") for row in prompts + heldout)
    assert "synthetic" in (DEMO / "README.md").read_text().lower()


def test_pairs_differ_in_quality(preferences: Rows) -> None:
    for row in preferences:
        assert normalised_words(row["response_a"])
        assert normalised_words(row["response_b"])
        assert row["response_a"] != row["response_b"]
        assert row["label"] in {"A", "B", "tie"}
        assert row["language"] == "en"
        assert "<|im_" not in row["response_a"] + row["response_b"]
    sides = Counter(row["label"] for row in preferences)
    assert 0.45 < sides["A"] / (sides["A"] + sides["B"]) < 0.55
    assert set(Counter(row["domain"] for row in preferences)) == DOMAINS


def test_ties_are_where_gold_sees_no_difference(preferences: Rows) -> None:
    """README: 5 to 10 % ties, exactly the pairs whose gold scores are within 0.02."""
    ties = [row for row in preferences if row["label"] == "tie"]
    assert 0.05 <= len(ties) / len(preferences) <= 0.10
    assert all((abs(gold_difference(row)) < 0.02) == (row["label"] == "tie") for row in preferences)


def test_label_noise_is_as_documented(preferences: Rows) -> None:
    """README: 8 to 10 % of the decided labels disagree with gold, mostly where the difference is small."""
    decided = [row for row in preferences if row["label"] != "tie"]
    gaps = [gold_difference(row) for row in decided]
    flipped = [(gap > 0) != (row["label"] == "A") for gap, row in zip(gaps, decided, strict=True)]
    assert 0.08 <= sum(flipped) / len(flipped) <= 0.10
    close = [flip for flip, gap in zip(flipped, gaps, strict=True) if abs(gap) < 0.2]
    clear = [flip for flip, gap in zip(flipped, gaps, strict=True) if abs(gap) > 0.5]
    assert sum(close) / len(close) > 0.15 > 0.03 > sum(clear) / len(clear)


def test_length_alone_does_not_decide(preferences: Rows) -> None:
    """README: "the shorter response wins" is right for at most 70 % of the decided pairs."""
    decided = [row for row in preferences if row["label"] != "tie"]
    a_shorter = [
        len(normalised_words(row["response_a"])) < len(normalised_words(row["response_b"])) for row in decided
    ]
    right = sum(short == (row["label"] == "A") for short, row in zip(a_shorter, decided, strict=True))
    assert 0.30 < right / len(decided) < 0.70


def test_the_loaders_take_every_row(preferences: Rows, prompts: Rows, heldout: Rows) -> None:
    sources = pytest.importorskip("harken.data.sources")
    from harken.config.base import DataConfig

    pairs, pair_report = sources.load_preferences(DataConfig(path="demo:preferences"))
    assert (pair_report.raw, pair_report.kept, len(pairs)) == (len(preferences),) * 3
    by_label = Counter(pair.label for pair in pairs)
    assert by_label[0.5] == sum(row["label"] == "tie" for row in preferences)
    for name, rows in (("prompts", prompts), ("heldout", heldout)):
        loaded, report = sources.load_prompts(DataConfig(path=f"demo:{name}"))
        assert report.kept == len(rows)
        assert [p.id for p in loaded] == [row["id"] for row in rows]
        assert [p.details["keywords"] for p in loaded] == [row["keywords"] for row in rows]
