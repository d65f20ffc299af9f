"""Whatever JSON stands in a row, and whatever is in a configuration: nothing but UserError comes out of the readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from malformed.row_cases import ROWS

from harken.config import files as config_files
from harken.config import yaml as config_yaml
from harken.config.base import DataConfig
from harken.data import parse
from harken.data.layouts import LAYOUTS
from harken.data.report import DataReport
from harken.errors import UserError
from harken.run import json_io

EXAMPLES = 60
CALMLY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["\n\nHuman: a\n\nAssistant: b", "\ud800", "\0", "\x1b[2J", "user", "assistant", "A", "tie", "1e999"]
    ),
)
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.none(), st.sampled_from([10**400, 1e308, -1])
)
FIELDS = st.sampled_from(
    sorted(
        {field for _, row in ROWS.values() for field in row}
        | {
            "id",
            "domain",
            "language",
            "details",
            "keywords",
            "conversations",
            "individual_preference",
            "input",
        }
        | {
            "preference_strength",
            "annotator1",
            "output_1",
            "output_2",
            "role",
            "content",
            "from",
            "value",
            "score",
        }
    )
)
VALUES = st.recursive(
    TEXTS | NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(FIELDS | TEXTS, inner, max_size=4)
        | st.fixed_dictionaries({"role": TEXTS, "content": inner})
    ),
    max_leaves=12,
)


@st.composite
def invalid_rows(draw: Callable[[Any], Any]) -> dict[str, Any]:
    """A good row of some layout with some fields replaced, removed or added; or any object at all."""
    row = dict(draw(st.sampled_from([row for _, row in ROWS.values()])))
    for _ in range(draw(st.integers(0, 3))):
        row[draw(FIELDS)] = draw(VALUES)
    return row if draw(st.booleans()) else draw(st.dictionaries(FIELDS, VALUES, max_size=5))


READERS: dict[str, Callable[[DataConfig], tuple[list[Any], DataReport]]] = {
    "prompts": parse.parse_prompt_rows,
    "demonstrations": parse.parse_demonstration_rows,
    "preferences": parse.parse_preference_rows,
    "soft preferences": lambda data: parse.parse_preference_rows(data, soft=True),
}


@pytest.mark.parametrize("reader", READERS)
@CALMLY
@given(
    rows=st.lists(invalid_rows() | VALUES, min_size=1, max_size=4),
    layout=st.sampled_from(["auto", *[x.name for x in LAYOUTS]]),
)
def test_any_row_is_kept_dropped_or_refused(
    reader: str, rows: list[Any], layout: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        records, report = READERS[reader](DataConfig(path=str(path), layout=layout))
    except UserError as error:
        assert error.fix
        return
    assert report.raw == report.kept + sum(report.dropped.values())
    assert len(records) == report.kept
    for line in report.lines():
        line.encode("utf-8", "backslashreplace")
    json.dumps(report.to_dict(), allow_nan=False)


@CALMLY
@given(
    content=st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_any_bytes_are_rows_or_refused(content: bytes, tmp_path: Path) -> None:
    for name in ("rows.jsonl", "rows.parquet"):
        (tmp_path / name).write_bytes(content)
        try:
            parse.parse_prompt_rows(DataConfig(path=str(tmp_path / name)))
        except UserError as error:
            assert error.fix and str(tmp_path / name) in str(error)


SCALARS = st.one_of(
    NUMBERS,
    TEXTS,
    st.sampled_from(["${HOME}", "${NO_SUCH_VARIABLE}", "sft", "reward", "ppo", "1e-6", "demo"]),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
PRESETS = [preset.name for preset in config_files.list_presets()]
LOADERS = {
    "run": config_files.load_run,
    "pipeline": config_files.load_pipeline,
    "evaluation": config_files.load_evaluation,
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path in a tree."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *[place for key, item in inner for place in places(item, (*path, key))]]


@st.composite
def invalid_presets(draw: Callable[[Any], Any]) -> str:
    """A shipped configuration with some values replaced, removed, added or moved."""
    tree = yaml.safe_load(config_files.show_preset(draw(st.sampled_from(PRESETS))))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from([place for place in places(tree) if place]))
        node = tree
        for key in above:
            node = node[key]
        response_mask = draw(st.sampled_from(["replace", "remove", "add", "move"]))
        if response_mask == "replace":
            node[last] = draw(TREES)
        elif response_mask == "remove" or isinstance(node, list):
            del node[last]
        else:
            node[draw(TEXTS)] = draw(TREES) if response_mask == "add" else node.pop(last)
    return yaml.dump(tree, allow_unicode=draw(st.booleans()))


def load(text: str, folder: Path) -> None:
    path = folder / "spoilt.yml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for loader in LOADERS.values():
        try:
            config = loader(str(path), [])
        except UserError as error:
            assert str(error)
            continue
        # What was accepted can be written down, and read back as the same.
        assert config_yaml.parse_yaml(config_files.dump(config), "again").data == config.model_dump()


@CALMLY
@given(text=invalid_presets())
def test_any_mutation_of_a_preset_is_a_configuration_or_refused(text: str, tmp_path: Path) -> None:
    load(text, tmp_path)


@CALMLY
@given(
    text=TREES.map(lambda tree: yaml.dump(tree))
    | st.text(max_size=80)
    | st.text(alphabet="&*[]{}:,-?!|>'\"% \n\tab1", max_size=60)
)
def test_any_text_is_a_configuration_or_refused(text: str, tmp_path: Path) -> None:
    load(text, tmp_path)


@CALMLY
@given(
    setting=st.tuples(
        st.text(max_size=12) | st.sampled_from(["training.lr", "data", "training[0]"]), st.text(max_size=20)
    ).map("=".join)
    | st.text(max_size=30)
)
def test_any_setting_is_taken_or_refused(setting: str) -> None:
    try:
        config_files.load_run("smollm2-135m_sft", [setting])
    except UserError as error:
        assert "\n" not in str(error)


@CALMLY
@given(content=st.binary(max_size=80) | TREES.map(lambda tree: json.dumps(tree).encode()))
def test_any_stored_file_is_an_object_or_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "stored.json"
    path.write_bytes(content)
    for read in (json_io.read_object, json_io.read_list, json_io.read_lines):
        try:
            json.dumps(read(path), allow_nan=False)
        except UserError as error:
            assert str(path) in str(error) and error.fix
