"""Every real file loads as what it serves, and its bad rows are found for the right reason."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harken.config.base import DataConfig
from harken.data import parse, sources
from harken.data.preferences import agreement
from harken.errors import UserError
from harken.records import Preference

HH = "preferences/hh_"


def rows(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


PAIRS = {
    HH + "harmless_long.rm_train": (391, {}),
    HH + "harmless_short.rm_train": (1339, {}),
    # Two rejected responses go on to write the human's next turn.
    HH + "helpful_long.rm_train": (2053, {"turn_marker_in_response": 2}),
    HH + "helpful_short.rm_test": (398, {}),
    HH + "helpful_short.rm_train": (2621, {}),
    "preferences/helpsteer2_subset_100": (100, {}),
    "preferences/helpsteer3_card_example": (1, {}),
    "converted/helpsteer3_layout.pandalm": (945, {"empty_response": 54}),
    "multi_annotator/pandalm_testset_v1": (
        939,
        {"empty_response": 54, "wrong_type:response1": 4, "wrong_type:response2": 2},
    ),
    "rm_eval/processed_faireval": (66, {}),
    "rm_eval/processed_llmeval2": (198, {"identical_responses": 1, "empty_response": 1}),
    "rm_eval/processed_mt-bench": (200, {}),
}
DEMONSTRATIONS = {
    "sft/dolly_short.train": 9692,
    "sft/dolly_short.valid": 446,
    "sft/self_instruct_seed_tasks": 174,
    "prompts/gsm8k_test": 1319,
    HH + "helpful_short.rm_train": 2621,
    "preferences/helpsteer2_subset_100": 71,
}
PROMPTS = {
    "prompts/hh_helpful_ppo_prompts": (471, None),
    "prompts/hh_harmless_ppo_prompts": (228, None),
    "prompts/dolly_ppo_prompts": (1309, None),
    "prompts/vicuna_bench_questions": (80, None),
    "prompts/mt_bench_questions": (80, None),
    "prompts/gsm8k_test": (1319, None),
    "sycophancy/nq_open_dev": (3610, None),
    "sycophancy/truthfulqa": (790, "Question"),
    "sycophancy/anthropic_mwe_nlp_survey": (500, "biased_prompt"),
    "converted/anthropic_mwe_plain": (1000, "biased_prompt"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_preferences(harken_data: Path, name: str):
    """S0-05, S0-16, S0-26, S1-34, S2-10."""
    kept, dropped = PAIRS[name]
    pairs, report = sources.load_preferences(DataConfig(path=str(harken_data / f"{name}.jsonl.gz")))
    assert len(pairs) == report.kept == kept and report.dropped == dropped
    assert all(isinstance(p, Preference) and p.prompt.messages[-1].role == "user" for p in pairs)


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_demonstrations(harken_data: Path, name: str):
    """S0-18, S1-33."""
    found, _ = sources.load_demonstrations(DataConfig(path=str(harken_data / f"{name}.jsonl.gz")))
    assert len(found) == DEMONSTRATIONS[name]


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(harken_data: Path, name: str):
    """S1-29, S1-32."""
    file = harken_data / f"{name}.jsonl.gz"
    expected, column = PROMPTS[name]
    prompts, report = sources.load_prompts(DataConfig(path=str(file), prompt_column=column))
    source = rows(file)
    if column is None:
        assert report.dropped == {}
        assert len(prompts) == len(source) == expected
        for prompt, row in zip(prompts, source, strict=True):
            asked = row.get("instruction") or row.get("question") or row.get("turns", [""])[0]
            if asked:
                assert [m.content for m in prompt.messages] == [asked]
            else:
                reported = "".join(m.content for m in prompt.messages)
                bare = re.sub(r"\n\n(Human|Assistant):", "", row["prompt"])
                assert "".join(reported.split()) == "".join(bare.split())
    else:
        texts = {row[column] for row in source}
        assert len(source) == expected and {p.last_user_message for p in prompts} == texts


def test_the_malformed_rows_are_all_dropped_for_the_right_reason(harken_data: Path):
    """S0-16. The reason of each row is found again from the raw text, without the parser."""
    file = harken_data / f"{HH}malformed_rows.jsonl.gz"

    def reason(row: dict[str, str]) -> str:
        (before, _, response), (other_before, _, other_response) = (
            row[side].rpartition("\n\nAssistant:") for side in ("chosen", "rejected")
        )
        if before != other_before:
            return "prompts_differ"
        if not response.strip() or not other_response.strip():
            return "empty_response"
        return "identical_responses" if response == other_response else "usable"

    expected = {f"{file}:{i}": reason(row) for i, row in enumerate(rows(file), start=1)}
    pairs, report = parse.parse_preference_rows(DataConfig(path=str(file)))
    assert not pairs and {r.where: r.reason for r in report.dropped_rows} == expected
    assert report.dropped == Counter(expected.values())
    assert report.dropped["identical_responses"] == 36 and report.raw == 64
    with pytest.raises(UserError, match="none of its 64 rows"):
        sources.load_preferences(DataConfig(path=str(file)))


def test_hh_texts_are_whole(harken_data: Path):
    """Nothing of a dialogue is lost between its markers."""
    file = harken_data / f"{HH}helpful_short.rm_test.jsonl.gz"
    pairs, _ = sources.load_preferences(DataConfig(path=str(file)))
    for pair, row in zip(pairs, rows(file), strict=True):
        assert isinstance(pair, Preference)
        message = "".join(m.content for m in pair.prompt.messages) + pair.chosen
        bare = row["chosen"].replace("\n\nHuman:", "").replace("\n\nAssistant:", "")
        assert "".join(message.split()) == "".join(bare.split())


@pytest.mark.parametrize("name", ["processed_faireval", "processed_llmeval2", "processed_mt-bench"])
def test_labels_choose_the_right_side(harken_data: Path, name: str):
    file = harken_data / "rm_eval" / f"{name}.jsonl.gz"
    pairs, report = sources.load_preferences(DataConfig(path=str(file)))
    out = {reject.where for reject in report.dropped_rows}
    usable = [row for i, row in enumerate(rows(file), 1) if f"{file}:{i}" not in out]
    for pair, row in zip(pairs, usable, strict=True):
        assert isinstance(pair, Preference)
        assert pair.chosen == row[f"output_{row['label']}"] and pair.rejected != pair.chosen


def test_helpsteer3_scores_and_raters(harken_data: Path):
    """S0-05: the published example, and every sign of the converted set."""
    card = harken_data / "preferences" / "helpsteer3_card_example.jsonl.gz"
    [pair], _ = sources.load_preferences(DataConfig(path=str(card)))
    [row] = rows(card)
    assert isinstance(pair, Preference)
    assert (pair.chosen, pair.label, pair.strength, pair.raters) == (
        row["response1"],
        1.0,
        2.0,
        (1.0, 3.0, 2.0),
    )
    assert (pair.prompt.domain, pair.prompt.language) == ("code", "javascript_html_css")
    file = harken_data / "converted" / "helpsteer3_layout.pandalm.jsonl.gz"
    pairs, report = sources.load_preferences(DataConfig(path=str(file)))
    out = {reject.where for reject in report.dropped_rows}
    usable = [row for i, row in enumerate(rows(file), 1) if f"{file}:{i}" not in out]
    for pair, row in zip(pairs, usable, strict=True):
        assert isinstance(pair, Preference)
        score = row["overall_preference"]
        assert pair.label == (0.5 if score == 0 else 1.0) and pair.strength == abs(score)
        assert pair.chosen == row["response2" if score > 0 else "response1"]


def test_helpsteer2_ties(harken_data: Path):
    """S2-06."""
    file = harken_data / "preferences" / "helpsteer2_subset_100.jsonl.gz"
    pairs, _ = sources.load_preferences(DataConfig(path=str(file)))
    strengths = [row["preference_strength"] for row in rows(file)]
    assert [p.strength for p in pairs] == strengths
    assert [p.label == 0.5 for p in pairs] == [s == 0 for s in strengths] and strengths.count(0) == 29


def test_pandalm_agreement_is_the_published_one(harken_data: Path):
    """S2-61: 879 of 999 rows are unanimous, as the data set's README says."""
    votes = [
        [{0: 0, 1: -1, 2: 1}[row[f"annotator{i}"]] for i in (1, 2, 3)]
        for row in rows(harken_data / "multi_annotator" / "pandalm_testset_v1.jsonl.gz")
    ]
    found = agreement(votes)
    assert found is not None and (found.rows, found.unanimous) == (999, 879)
    assert found.alpha is not None and found.alpha > 0.8
