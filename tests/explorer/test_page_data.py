import json
from pathlib import Path

import pytest

from harken.evaluate.compare import compare
from harken.explorer import page_data as module
from harken.explorer.page_data import page_data

SCHEMA = json.loads((Path(module.__file__).parent / "schema.json").read_text())
TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "number": (int, float),
    "integer": int,
}  # fmt: skip
KNOWN = {
    "$schema", "$defs", "$ref", "title", "description", "type", "properties", "required", "additionalProperties",
    "items", "enum", "const", "anyOf", "minimum", "maximum",
}  # fmt: skip


def faults(value, schema, path="$"):
    """Where a value breaks a schema, for the keywords of JSON Schema that ours uses."""
    assert schema.keys() <= KNOWN, f"{path}: unknown keywords {schema.keys() - KNOWN}"
    if "$ref" in schema:
        return faults(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], path)
    if "anyOf" in schema:
        return [] if any(not faults(value, s, path) for s in schema["anyOf"]) else [f"{path}: fits none"]
    if "const" in schema and value != schema["const"]:
        return [f"{path}: {value!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: {value!r}"]
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [f"{path}: {value!r} is no {kind}"]
    found = []
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get(
        "maximum", value
    ):
        found.append(f"{path}: {value} is out of range")
    if isinstance(value, list) and "items" in schema:
        found += [f for i, item in enumerate(value) for f in faults(item, schema["items"], f"{path}[{i}]")]
    if isinstance(value, dict) and kind == "object":
        properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        found += [f"{path}: no {key}" for key in schema.get("required", []) if key not in value]
        for key, item in value.items():
            if key in properties:
                found += faults(item, properties[key], f"{path}.{key}")
            elif more is False:
                found.append(f"{path}: unknown {key}")
            elif isinstance(more, dict):
                found += faults(item, more, f"{path}.{key}")
    return found


@pytest.fixture(scope="module")
def data(run):
    return json.loads(json.dumps(page_data(**run), allow_nan=False))


def test_the_data_fit_their_schema(data):
    assert faults(data, SCHEMA) == []


@pytest.mark.parametrize(
    "break_it",
    [
        lambda d: d.update(version=1),
        lambda d: d.update(extra=1),
        lambda d: d.pop("notice"),
        lambda d: d["verdict"][0].update(word="Great"),
        lambda d: d["summary"]["table"][0]["win_rate"].update(value=1.2),
        lambda d: d["summary"]["pairs"][0].update(wins=True),
        lambda d: d["examples"][0]["responses"][0].update(text=None),
        lambda d: d["stages"][0]["charts"][0]["series"][0]["points"].append([1, "2"]),
    ],
)
def test_the_schema_refuses_other_data(data, break_it):
    broken = json.loads(json.dumps(data))
    break_it(broken)
    assert faults(broken, SCHEMA)


def test_the_schema_is_of_this_version():
    assert SCHEMA["properties"]["version"] == {"const": module.VERSION}
    assert set(SCHEMA["$defs"]["sentence"]["properties"]["word"]["enum"]) == set(module.WORDS)


def test_a_run_of_one_policy_and_no_stage_fits_too():
    row = {
        "policy": "A", "prompt_id": "p", "sample": 0, "domain": None, "language": None, "prompt": "q",
        "messages": "[]", "response": "", "prompt_tokens": 1, "response_tokens": 1, "stop": "length", "reward": 1,
        "repeated_4grams": 0.0, "empty": True, "cap_hit": True,
    }  # fmt: skip
    made = page_data(
        title="", notice="", summary=compare([row], draws=10), responses=[row],
        stage_metrics={}, stage_info={}, headline=[], audited={}, flags={},
    )  # fmt: skip
    assert faults(json.loads(json.dumps(made)), SCHEMA) == []
    assert made["examples"][0]["winner"] == "A" and made["examples"][0]["responses"][0]["flags"] == []


def test_the_examples_agree_with_the_table(data):
    """The page's filters count the same winners and cap hits as the summary beside them."""
    for row in data["summary"]["table"]:
        shown = [a for e in data["examples"] for a in e["responses"] if a["policy"] == row["policy"]]
        assert row["cap_hit"]["count"] == sum("cap_hit" in a["flags"] for a in shown)
        assert row["win_rate"]["count"] == sum(e["winner"] == row["policy"] for e in data["examples"])
    assert data["summary"]["ties"]["count"] == sum(e["winner"] is None for e in data["examples"])


def test_samples_of_one_prompt_have_addresses_of_their_own(run):
    rows = [row | {"sample": s} for row in run["responses"] for s in range(2)]
    made = page_data(**run | {"responses": rows, "summary": compare(rows, judges=["gold"], draws=10)})
    ids = [example["id"] for example in made["examples"]]
    assert len(set(ids)) == len(ids) == 48 and ids[0].endswith("/0")


@pytest.mark.parametrize(
    ("line", "word", "text"),
    [
        ("Worse: answers are cut.", "Worse", "Answers are cut."),
        ("Warning: the reward: x", "Warning", "The reward: x"),
        ("Splendid: x", "Note", "Splendid: x"),
        ("nothing", "Note", "nothing"),
    ],
)
def test_the_word_of_a_sentence(line, word, text):
    assert module._sentence(line) == {"word": word, "text": text}
