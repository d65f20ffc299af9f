"""The YAML of configurations: what its scalars mean, what it refuses, and where it says the error is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.config import yaml as config_yaml
from harken.errors import UserError


def read(text: str) -> object:
    return config_yaml.parse_yaml(f"key: {text}", "a.yml").data["key"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e-6", 1e-6),
        ("5.e-7", 5e-7),
        (".5", 0.5),
        ("-3E+2", -300.0),
        ("1.5", 1.5),
        ("2e5", 2e5),
        ("1_000.5", 1000.5),
    ],
)
def test_scientific_notation_is_a_number(text: str, number: float) -> None:
    """S1-36: `lr: 1e-6` is what users write, and PyYAML alone reads it as text."""
    value = read(text)
    assert isinstance(value, float) and value == number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("-7", -7), ("10_000", 10_000), ("+3", 3)])
def test_whole_numbers_stay_whole(text: str, number: int) -> None:
    value = read(text)
    assert type(value) is int and value == number


@pytest.mark.parametrize(
    "text", ["no", "on", "yes", "2024-01-02", "12:30:45", "007", "1.2.3", "e5", "1e", "."]
)
def test_text_that_old_yaml_would_turn_into_something_else(text: str) -> None:
    assert read(text) == text


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("false", False), ("null", None), ("~", None), ("", None)]
)
def test_the_other_scalars(text: str, value: object) -> None:
    assert read(text) is value


KEYS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20),
    st.sampled_from(["1e-6", "5.e-7", "no", "null", "true", "~", "007", "1_0", "#x", ": ", "- a", "${X}"]),
)


@given(
    st.dictionaries(
        KEYS, st.recursive(SCALARS, lambda s: st.lists(s) | st.dictionaries(KEYS, s), max_leaves=8)
    )
)
def test_written_yaml_is_read_back(data: dict[str, object]) -> None:
    assert config_yaml.parse_yaml(config_yaml.write(data), "a.yml").data == data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "a.yml:4: b.c: the key is written twice"),
        ("a: 1\nb: [1, 2\nc: 3\n", "a.yml:3: not valid YAML"),
        ("a: 1\n\tb: 2\n", "a.yml:2: not valid YAML"),
        ("- a\n- b\n", "a.yml: not a section of"),
        ("", "a.yml: not a section of"),
        ("? [a, b]\n: 1\n", "a.yml:1: a key must be a plain word"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not supported"),
        ("a: &x [*x]\n", "contains itself"),
        ("a: 1\n---\nb: 2\n", "a.yml:2: not valid YAML"),
        ("a: \x07\n", "not valid YAML"),
    ],
)
def test_broken_text_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        config_yaml.parse_yaml(text, "a.yml")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_places_are_the_lines_of_the_keys() -> None:
    settings = config_yaml.parse_yaml("a: 1\nb:\n  c:\n    - 1\n    - d: 2\n", "a.yml")
    assert settings.place(("b", "c")) == "a.yml:3"
    assert settings.place(("b", "c", 1, "d")) == "a.yml:5"
    assert settings.place(("b", "x", "y")) == "a.yml:2", "an unwritten key is placed at the section around it"


def test_overrides_replace_add_and_index() -> None:
    settings = config_yaml.parse_yaml("a: {b: 1, c: [1, {d: 2}]}\n", "a.yml")
    settings = config_yaml.override(settings, ["a.b=1e-3", "a.c[1].d=text", "e.f=[1, 2]", "a.b=2", "g=x=y"])
    assert settings.data == {"a": {"b": 2, "c": [1, {"d": "text"}]}, "e": {"f": [1, 2]}, "g": "x=y"}
    assert settings.place(("a", "b")) == "--set a.b=2"
    assert settings.place(("a", "c", 0)) == "a.yml:1"


def test_an_override_does_not_change_the_settings_it_was_given() -> None:
    settings = config_yaml.parse_yaml("a: {b: 1}\n", "a.yml")
    config_yaml.override(settings, ["a.b=2"])
    assert settings.data == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a", "not of the form key=value"),
        ("=1", "not of the form key=value"),
        ("a..b=1", "not of the form key=value"),
        ("a.b[x]=1", "not of the form key=value"),
        ("a.b.c=1", "a.b is a value, not a section"),
        ("a.c.d=1", "a.c is a list: use [0]"),
        ("a.c[2]=1", "a.c has 2 entries"),
        ("a[0]=1", "a is not a list"),
        ("a.b=[1", "not valid YAML"),
    ],
)
def test_a_wrong_override_names_itself(override: str, message: str) -> None:
    """S1-42."""
    with pytest.raises(UserError) as error:
        config_yaml.override(config_yaml.parse_yaml("a: {b: 1, c: [1, 2]}\n", "a.yml"), [override])
    assert str(error.value).startswith(f"--set {override}: ") and message in str(error.value)


def test_variables_are_replaced_at_any_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARKEN_TEST_FOLDER", "/data: [x")
    settings = config_yaml.parse_yaml(
        "a: ['${HARKEN_TEST_FOLDER}/x', {b: 'p${HARKEN_TEST_FOLDER}q'}]\nc: $HOME\n", "a.yml"
    )
    assert config_yaml.expand(settings).data == {"a": ["/data: [x/x", {"b": "p/data: [xq"}], "c": "$HOME"}


def test_an_unset_variable_is_named_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARKEN_TEST_FOLDER", raising=False)
    with pytest.raises(UserError) as error:
        config_yaml.expand(config_yaml.parse_yaml("x: 1\na: {b: ['${HARKEN_TEST_FOLDER}/x']}\n", "a.yml"))
    assert str(error.value) == (
        "a.yml:2: a.b[0]: the environment variable HARKEN_TEST_FOLDER is not set. "
        "Fix: set it, for example: export HARKEN_TEST_FOLDER=/path/to/folder"
    )


def test_the_value_written_is_the_float_that_was_meant() -> None:
    text = config_yaml.write({"lr": 1e-6, "tiny": 5e-324, "huge": 1.7e308, "third": 1 / 3})
    back = config_yaml.parse_yaml(text, "a.yml").data
    assert all(
        math.isclose(back[k], v, rel_tol=0, abs_tol=0) for k, v in {"lr": 1e-6, "third": 1 / 3}.items()
    )
    assert back["tiny"] == 5e-324 and back["huge"] == 1.7e308


def test_nesting_and_aliases_have_an_end() -> None:
    """A few lines of aliases can stand for billions of values."""
    with pytest.raises(UserError, match="nesting is too deep"):
        config_yaml.parse_yaml("a: " + "{a: " * 50 + "}" * 50, "x.yml")
    bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for here, before in zip("bcdefghi", "abcdefgh", strict=True):
        bomb += f"{here}: &{here} [{', '.join([f'*{before}'] * 9)}]\n"
    with pytest.raises(UserError, match="more than 20,000 values"):
        config_yaml.parse_yaml(bomb, "x.yml")


@pytest.mark.parametrize("text", ['a: "x\\0"', 'a: "\\ud800"', '"\\udfff": 1'])
def test_text_that_no_file_can_hold_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"x\.yml:1: a (text|key) contains"):
        config_yaml.parse_yaml(text, "x.yml")
