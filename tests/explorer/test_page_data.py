import json
from pathlib import Path

import pytest

from harken.evaluation.compare import compare
from harken.explorer import page_data as module
from harken.explorer.page_data import page_data
from harken.explorer.page_inputs import PageInputs

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
    return json.loads(json.dumps(page_data(PageInputs(**run)), allow_nan=False))


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
        lambda d: d["headline"]["numbers"].append({"label": "x"}),
        lambda d: d["stages"][0]["health"].update(status="bad"),
        lambda d: d["examples"][0].pop("queues"),
        lambda d: d["tokens"].update(shards=None),
    ],
)
def test_the_schema_refuses_other_data(data, break_it):
    broken = json.loads(json.dumps(data))
    break_it(broken)
    assert faults(broken, SCHEMA)


def test_the_schema_is_of_this_version():
    assert SCHEMA["properties"]["version"] == {"const": module.VERSION}
    assert set(SCHEMA["$defs"]["sentence"]["properties"]["word"]["enum"]) == set(module.WORDS)


def test_every_object_of_the_schema_says_whether_it_is_open():
    """Types are made from the schema: an object that lists properties allows no others unless it says so."""

    def objects(schema):
        if isinstance(schema, dict):
            if schema.get("type") == "object" and "properties" in schema:
                yield schema
            for value in schema.values():
                yield from objects(value)
        elif isinstance(schema, list):
            for value in schema:
                yield from objects(value)

    assert all("additionalProperties" in one for one in objects(SCHEMA))


def test_a_run_of_one_policy_and_no_stage_fits_too():
    row = {
        "policy": "A", "prompt_id": "p", "sample": 0, "domain": None, "language": None, "prompt": "q",
        "messages": "[]", "response": "", "prompt_tokens": 1, "response_tokens": 1, "stop": "length", "reward": 1,
        "repeated_4grams": 0.0, "empty": True, "cap_hit": True,
    }  # fmt: skip
    made = page_data(
        PageInputs(
            title="",
            notice="",
            summary=compare([row], draws=10),
            responses=[row],
            stage_metrics={},
            stage_info={},
            headline=[],
            audited={},
            flags={},
        )
    )
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
    made = page_data(
        PageInputs(**run | {"responses": rows, "summary": compare(rows, judges=["gold"], draws=10)})
    )
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


def row(policy, prompt="p", sample=0, text="text", reward=0.0, **more):
    return {
        "policy": policy, "prompt_id": prompt, "sample": sample, "domain": "d", "language": "en", "prompt": "q",
        "messages": '[{"role": "user", "content": "q"}]', "response": text, "prompt_tokens": 1, "response_tokens": 1,
        "stop": "length", "reward": reward, "repeated_4grams": 0.0, "empty": False, "cap_hit": True,
    } | more  # fmt: skip


def made_of(rows, **more):
    arguments = {
        "title": "", "notice": "", "summary": None, "responses": rows, "stage_metrics": {}, "stage_info": {},
        "headline": [], "audited": {}, "flags": {},
    }  # fmt: skip
    made = page_data(PageInputs(**arguments | more))
    assert faults(json.loads(json.dumps(made)), SCHEMA) == []
    return made


def test_responses_without_a_reward_have_no_winner_and_no_reward():
    made = made_of([row("A", reward=None), row("B", reward=None)])
    assert made["reward"] is None and made["policies"] == ["A", "B"]
    assert made["examples"][0]["winner"] is None
    assert [r["reward"] for r in made["examples"][0]["responses"]] == [None, None]


def test_a_policy_without_a_response_to_a_prompt_is_left_out_there():
    made = made_of([row("A"), row("B"), row("B", prompt="other")])
    assert [[r["policy"] for r in e["responses"]] for e in made["examples"]] == [["A", "B"], ["B"]]


def test_equal_responses_are_marked_and_not_shown_first():
    rows = [row("A", text="same", reward=5.0), row("B", text="same", reward=-5.0)]
    rows += [row("A", prompt="two", text="this"), row("B", prompt="two", text="that")]
    made = made_of(rows)
    assert [e["same"] for e in made["examples"]] == [[[0, 1]], []]
    assert made["headline"]["example"] == "two"


def test_the_first_example_is_the_largest_disagreement():
    """z of the reward against z of the judge: the prompt whose reward is high and whose score is low."""
    rows = [row("A", prompt=str(i), reward=float(i), score_gold=float(i)) for i in range(9)]
    rows.append(row("A", prompt="gamed", reward=8.0, score_gold=0.0))
    made = made_of(rows)
    assert made["headline"]["example"] == "gamed" and made["judges"] == ["gold"]
    gaps = {e["id"]: e["disagreement"] for e in made["examples"]}
    assert gaps["gamed"] == max(gaps.values()) > 2 > gaps["4"]


def test_an_example_has_the_queues_of_its_responses_and_further_columns():
    audited = {
        ("p", 0, "A"): {"flags": ["strong_loss", "empty"]},
        ("p", 0, "B"): {"flags": ["manual_review"]},
    }
    queues = {"manual_review": "drawn", "strong_loss": "far below"}
    made = made_of([row("A", topic="rain"), row("B", topic="rain")], audited=audited, queues=queues)
    assert made["examples"][0]["queues"] == ["manual_review", "strong_loss"]
    assert made["examples"][0]["extra"] == {"topic": "rain"}


def test_a_page_of_training_alone_opens_with_what_training_changed():
    metrics = [{"step": i, "reward/mean": float(i), "kl/mean": i / 2} for i in range(1, 9)]
    made = made_of([], stage_metrics={"ppo": metrics}, headline=["Note: x"])
    numbers = {number["label"]: number["value"] for number in made["headline"]["numbers"]}
    details = {number["label"]: number["detail"] for number in made["headline"]["numbers"]}
    assert numbers["Mean reward of its responses"] == "2.00 → 7.00"
    assert details["Mean reward of its responses"].endswith("; means of the first and last 3 values")
    assert details["Distance from the model it started from"].endswith("; mean of the last 3 values")
    assert numbers["Distance from the model it started from"] == "3.5 nats"
    assert made["headline"]["sentence"] == {"word": "Note", "text": "X"}
