"""Limits and held-out shares are functions of the seed; garbage never gets past the loaders."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harken.config.base import DataConfig
from harken.data import sources
from harken.data.layouts import LAYOUTS
from harken.errors import UserError


def write(folder: Path, rows: list[Any], name: str = "rows.jsonl") -> str:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture
def repeated(tmp_path: Path) -> str:
    """60 pairs on 20 prompts, each row with an id of its own."""
    rows = [{"id": i, "prompt": f"q{i % 20}", "chosen": f"a{i}", "rejected": "b"} for i in range(60)]
    return write(tmp_path, rows)


def test_limit_is_chosen_by_the_seed_and_keeps_the_order(repeated: str):
    data = DataConfig(path=repeated, limit=10)
    first, report = sources.load_preferences(data, seed=1)
    assert first == sources.load_preferences(data, seed=1)[0]
    assert first != sources.load_preferences(data, seed=2)[0]
    numbers = [int(p.chosen[1:]) for p in first]
    assert numbers == sorted(numbers) and numbers != list(range(10)) and len(set(numbers)) == 10
    assert (report.raw, report.kept, report.dropped) == (60, 10, {"over_limit": 50})


@pytest.mark.parametrize("fraction", [0.001, 0.25, 0.5])
def test_no_prompt_is_on_both_sides(repeated: str, fraction: float):
    data = DataConfig(path=repeated, eval_fraction=fraction)
    train, held_out, reports = sources.load_split(data, sources.load_preferences, 839)
    sides = [{p.prompt.last_user_message for p in side} for side in (train, held_out)]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 20
    assert len(sides[1]) == max(round(20 * fraction), 1)
    assert len(train) + len(held_out) == 60 and len(reports) == 1
    again = sources.load_split(data, sources.load_preferences, 839)
    assert (train, held_out) == again[:2]
    assert held_out != sources.load_split(data, sources.load_preferences, 840)[1]


def test_rows_can_be_added_without_moving_the_others(tmp_path: Path):
    """The same prompts are compared in the same order, whatever stands beside them."""
    few = write(tmp_path, [{"prompt": f"q{i}"} for i in range(50)], "few.jsonl")
    more = write(tmp_path, [{"prompt": f"q{i}"} for i in reversed(range(100))], "more.jsonl")
    weight_dtype = [
        {
            p.last_user_message
            for p in sources.load_split(DataConfig(path=f, eval_fraction=0.2), sources.load_prompts, 1)[1]
        }
        for f in (few, more)
    ]
    old = {f"q{i}" for i in range(50)}
    assert weight_dtype[1] & old <= weight_dtype[0] or weight_dtype[0] <= weight_dtype[1] & old


def test_limits_apply_to_each_side(tmp_path: Path, repeated: str):
    data = DataConfig(path=repeated, eval_fraction=0.5, limit=7, eval_limit=3)
    train, held_out, [report] = sources.load_split(data, sources.load_preferences, 1)
    assert (len(train), len(held_out), report.kept, report.dropped["over_limit"]) == (7, 3, 10, 50)
    other = write(
        tmp_path, [{"prompt": f"z{i}", "chosen": "a", "rejected": "b"} for i in range(9)], "eval.jsonl"
    )
    data = DataConfig(path=repeated, eval_path=other, limit=7, eval_limit=3)
    train, held_out, reports = sources.load_split(data, sources.load_preferences, 1)
    assert (len(train), len(held_out), len(reports)) == (7, 3, 2)
    assert all(p.prompt.last_user_message.startswith("z") for p in held_out) and reports[1].path == other


def test_without_held_out_rows_there_are_none(repeated: str):
    train, held_out, _ = sources.load_split(DataConfig(path=repeated), sources.load_demonstrations, 1)
    assert len(train) == 60 and held_out == []


def test_a_split_that_leaves_nothing_is_refused(repeated: str):
    with pytest.raises(UserError, match="eval_fraction"):
        sources.load_split(DataConfig(path=repeated, eval_fraction=1.0), sources.load_preferences, 1)


def test_pre_tokenised_pairs_split_by_their_shared_beginning(tmp_path: Path):
    rows = [
        {"input_ids_chosen": [p, p, 100 + i], "input_ids_rejected": [p, p, 200 + i]}
        for i in range(3)
        for p in range(10)
    ]
    data = DataConfig(path=write(tmp_path, rows), eval_fraction=0.3)
    train, held_out, _ = sources.load_split(data, sources.load_preferences, 1)
    assert len(held_out) == 9
    assert not {p.chosen_tokens[0] for p in train} & {p.chosen_tokens[0] for p in held_out}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\n\nHuman: a\n\nAssistant: b", "a\nb", "A", "tie", "\ud800", "user", "assistant"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "score", "input", "output"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
FIELDS = sorted(
    {word for layout in LAYOUTS for word in re.findall(r"[a-zA-Z_]+\d?", layout.description)}
    | {"id", "keywords", "details", "winner", "A", "B", "role", "score", "annotator_1"}
)
garbage = st.lists(
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=7) | json_values, min_size=1, max_size=5
)


@pytest.mark.parametrize(
    "load", [sources.load_prompts, sources.load_demonstrations, sources.load_preferences]
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=garbage, layout=st.sampled_from(["auto", *(layout.name for layout in LAYOUTS)]))
def test_garbage_is_dropped_or_refused_and_always_accounted_for(
    tmp_path: Path, load: Any, rows: list[Any], layout: str
):
    data = DataConfig(path=write(tmp_path, rows), layout=layout)
    try:
        records, report = load(data)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert records and len(records) == report.kept == report.raw - sum(report.dropped.values())
    assert report.raw >= len(rows)
    assert len(report.dropped_rows) == sum(report.dropped.values())
    for record in records:
        prompt = getattr(record, "prompt", record)
        if hasattr(prompt, "messages"):
            assert prompt.id and prompt.messages[-1].role == "user" and prompt.messages[-1].content.strip()
    report.lines()
    json.dumps(report.to_dict())


class Hub:
    """Stands in for `datasets.load_dataset`: two splits of a data set in HelpSteer3's layout, as a table iterates."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __call__(self, name: str, split: str) -> list[dict[str, Any]]:
        self.asked.append((name, split))
        if split not in ("train", "validation"):
            raise ValueError(f'Unknown split "{split}". Should be one of ["train", "validation"].\nmore')
        context = [{"role": "user", "content": f"{split} {i}"} for i in range(6)]
        return [
            {"context": [turn], "response1": "a", "response2": "b", "overall_preference": 2 if i % 2 else -1}
            for i, turn in enumerate(context)
        ]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    import datasets

    stand_in = Hub()
    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    return stand_in


def test_the_validation_split_of_a_hub_data_set_is_held_out(hub: Hub):
    data = DataConfig(path="nvidia/HelpSteer3", eval_split="validation", eval_limit=4)
    train, held_out, reports = sources.load_split(data, sources.load_preferences, 1)
    assert hub.asked == [("nvidia/HelpSteer3", "train"), ("nvidia/HelpSteer3", "validation")]
    assert [p.prompt.last_user_message for p in train] == [f"train {i}" for i in range(6)]
    assert [p.chosen for p in train] == ["a", "b"] * 3
    assert len(held_out) == 4
    assert all(p.prompt.last_user_message.startswith("validation ") for p in held_out)
    assert reports[1].path == "nvidia/HelpSteer3, split validation" and reports[1].warnings == []


def test_eval_path_may_have_a_split_of_its_own(hub: Hub):
    data = DataConfig(path="a/b", eval_path="c/d", eval_split="validation")
    sources.load_split(data, sources.load_preferences, 1)
    assert hub.asked == [("a/b", "train"), ("c/d", "validation")]
    with pytest.raises(UserError, match=r"split 'test' of this hub data set.*validation"):
        sources.load_split(DataConfig(path="a/b", eval_split="test"), sources.load_preferences, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"eval_split": "validation", "eval_fraction": 0.1},
            "eval_split and eval_fraction .* set eval_fraction to 0",
        ),
        ({"eval_path": "c/d", "eval_fraction": 0.1}, "eval_path and eval_fraction .* set eval_fraction to 0"),
        ({"eval_split": "train"}, "is the training split"),
        ({"eval_split": "train", "eval_path": "a/b"}, "is the training split"),
    ],
)
def test_held_out_rows_are_never_those_trained_on(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        DataConfig(path="a/b", **settings)


def test_one_file_has_no_splits(repeated: str):
    with pytest.raises(UserError, match=r"^data\.eval_split: .*one file.*data\.eval_path"):
        sources.load_split(DataConfig(path=repeated, eval_split="test"), sources.load_preferences, 1)


def test_limit_bounds_the_held_out_rows_too(tmp_path: Path, repeated: str):
    """A quick look at a run must not read a whole held-out set: `eval_limit` alone asks for more."""
    other = write(
        tmp_path, [{"prompt": f"z{i}", "chosen": "a", "rejected": "b"} for i in range(30)], "eval.jsonl"
    )
    for where in ({"eval_path": other}, {"eval_fraction": 0.5}):
        for limits, wanted in (({"limit": 4}, (4, 4)), ({"limit": 4, "eval_limit": 9}, (4, 9))):
            train, held_out, _ = sources.load_split(
                DataConfig(path=repeated, **where, **limits), sources.load_preferences, 1
            )
            assert (len(train), len(held_out)) == wanted
