"""Configurations with one thing wrong: every field given what it does not take, and text that is no configuration."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from malformed.case import Case
from malformed.world import World
from pydantic import BaseModel

from harken.config import EvaluationConfig, PipelineConfig, RunConfig
from harken.config.card import GateSettings

GOOD = b"data: {path: 'demo:preferences'}\ntraining: {type: sft}\n"
BOMB = (
    b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (n + 1, n + 1, b",".join([b"*%c" % n] * 10)) for n in range(97, 110))
    + GOOD
)
TEXTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "section"),
    "a comment alone": (b"# nothing\n", "section"),
    "a list": (b"- a\n- b\n", "section"),
    "a text": (b"just words\n", "section"),
    "a number": (b"7\n", "section"),
    "invalid UTF-8": (b"data: \xff\xfe\n", "cannot be read as text"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "run.yml"),
    "NULs": (GOOD + b"a: \0\n", "#x0000"),
    "an escaped NUL": (b'model_name: "a\\0b"\n' + GOOD, "run.yml:1"),
    "an escaped half of a surrogate pair": (b'model_name: "\\ud800"\n' + GOOD, "run.yml:1"),
    "a key with half of a surrogate pair": (b'"\\udfff": 1\n' + GOOD, "run.yml:1"),
    "a control character": (GOOD + b"a: \x07\n", "#x0007"),
    "tabs": (b"data:\n\tpath: x\n", "run.yml:2"),
    "a key twice": (GOOD + b"data: {path: x}\n", "run.yml:3: data"),
    "a key twice within a section": (b"training: {type: sft, lr: 1, lr: 2}\n", "training.lr"),
    "an unknown key": (GOOD + b"learning_rate: 1\n", "learning_rate"),
    "a key that is a list": (b"? [a, b]\n: 1\n", "run.yml:1"),
    "a key that is a section": (b"? {a: b}\n: 1\n", "run.yml:1"),
    "a numeric key": (GOOD + b"7: 1\n", "run.yml:3: 7"),
    "an empty key": (GOOD + b'"": 1\n', "run.yml:3"),
    "two documents": (GOOD + b"---\n" + GOOD, "run.yml"),
    "a tag that builds objects": (b"data: !!python/object/apply:os.system ['true']\n", "run.yml:1"),
    "a tag of sets": (b"data: !!set {a, b}\n", "run.yml:1"),
    "a tag of one's own": (b"data: !x 1\n", "run.yml:1"),
    "binary": (b"data: !!binary aGk=\n", "run.yml:1"),
    "a bomb of aliases": (BOMB, "values"),
    "an alias in itself": (b"a: &a [*a]\n" + GOOD, "alias"),
    "an alias of nothing": (b"a: *b\n" + GOOD, "run.yml:1"),
    "a merge key": (b"a: &a {path: x}\ndata: {<<: *a}\ntraining: {type: sft}\n", "run.yml"),
    "deep nesting": (b"data: " + b"[" * 2000 + b"]" * 2000, "nesting is too deep"),
    "nesting of a hundred": (b"data: " + b"{a: " * 100 + b"}" * 100, "nesting is too deep"),
    "an open bracket": (b"data: {path: x\n", "run.yml"),
    "an open quote": (b"data: 'x\n", "run.yml"),
    "wrong indentation": (b"data:\n  path: x\n limit: 3\n", "run.yml:3"),
    "a percent sign": (b"%YAML 9.9\n---\na: 1\n", "run.yml"),
    "an at sign": (b"data: @x\n", "run.yml:1"),
    "a huge whole number": (b"seed: " + b"9" * 6000 + b"\n" + GOOD, "run.yml:1"),
    "a number beyond any float": (b"training: {type: sft, lr: 1e999}\ndata: {path: x}\n", "training.lr"),
    "a variable that is not set": (
        b"data: {path: '${HARKEN_NO_SUCH}'}\ntraining: {type: sft}\n",
        "HARKEN_NO",
    ),
    "JSON cut short": (b'{"data": {"path": "x"}', "run.yml"),
    "HTML": (b"<!doctype html>\n<p>404</p>\n", "run.yml"),
    "a program": (b"\x7fELF\x02\x01\x01", "run.yml"),
    "no training": (b"data: {path: x}\n", "training"),
    "no data": (b"training: {type: sft}\n", "data"),
    "training that is null": (b"data: {path: x}\ntraining:\n", "training"),
    "training of no type": (b"data: {path: x}\ntraining: {lr: 1}\n", "training.type"),
    "training of an unknown type": (b"data: {path: x}\ntraining: {type: dpo2}\n", "training.type"),
    "a type that is a list": (b"data: {path: x}\ntraining: {type: [sft]}\n", "training.type"),
    "a pipeline": (b"name: x\nsft: {}\n", "harken pipeline"),
    "an evaluation": (b"policies: {a: b}\n", "harken eval"),
    "a text of a megabyte": (b"a: " + b"x" * 1_000_000 + b"\n" + GOOD, "a"),
}
SETS = {
    "no equals sign": ("training.lr", "key=value"),
    "nothing": ("", "key=value"),
    "an equals sign alone": ("=", "key=value"),
    "no key": ("=1", "key=value"),
    "two dots": ("training..lr=1", "key=value"),
    "a dot at the end": ("training.=1", "key=value"),
    "an index that is a word": ("training[x]=1", "key=value"),
    "a negative index": ("training[-1]=1", "key=value"),
    "an index of nine digits": ("data[999999999]=1", "key=value"),
    "an index into a section": ("data[0]=1", "not a list"),
    "a key of a value": ("seed.x=1", "seed"),
    "an unknown key": ("nothing=1", "nothing"),
    "an open bracket": ("training.lr=[1", "not valid YAML"),
    "an open quote": ("training.lr='1", "not valid YAML"),
    "a tag": ("training.lr=!!python/name:os.system", "tag"),
    "an alias": ("training.lr=*x", "not valid YAML"),
    "a bomb": ("data=" + "[" * 3000, "--set"),
    "a path of a thousand parts": (".".join("a" * 1000) + "=1", "nesting is too deep"),
    "a control character": ("training.lr=\x1b[2J", "--set"),
    "a NUL": ('model_name="a\\0"', "NUL"),
    "half a surrogate pair": ("model_name=\udcff", "--set"),
    "a thousand digits": ("training.lr=" + "9" * 1000, "training.lr"),
    "ten thousand digits": ("seed=" + "9" * 10_000, "--set"),
    "a batch without end": ("training.batch_size=" + "9" * 30, "training.batch_size"),
    "an infinite rate": ("training.lr=1e400", "training.lr"),
    "a rate below zero": ("training.lr=-1", "training.lr"),
    "a device that is none": ("device=tpu9", "device"),
    "a model that is not there": ("model_name=/no/such/model", "/no/such/model"),
    "a model's name of 5,000 letters": ("model_name=/" + "x" * 5000, "too long"),
    "a layout that is none": ("data.layout=pears", "pears"),
    "a task of another stage": ("data.task=preference", "data.task"),
    "a finding that is none": ("health.stop_on=[sadness]", "sadness"),
}


STAGE_SECTIONS: dict[str, type[BaseModel]] = {
    "stages.sft": RunConfig,
    "stages.rm.gate": GateSettings,
    "stages.eval": EvaluationConfig,
}


def leaves(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a configuration with what may stand there; of a list of sections the list itself."""
    for name, field in model.model_fields.items():
        sections = [part for part in _parts(field.annotation) if isinstance(part, type)]
        inner = [part for part in sections if issubclass(part, BaseModel)]
        yield f"{above}{name}", field.annotation
        if get_origin(field.annotation) is list or "list[" in str(field.annotation):
            continue
        for section in inner:
            yield from leaves(section, f"{above}{name}.")


def _parts(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _set(preset: str, verb: list[str], setting: str) -> Callable[[World, Path], list[str]]:
    def make(world: World, folder: Path) -> list[str]:
        name = preset or str(world.pipeline / "01_sft" / "config.yml")
        words = [*verb, name] if verb[0] != "eval" else [*verb, str(_evaluation(folder))]
        return [*words, "--output-dir", str(folder / "out"), "--set", setting]

    return make


def _evaluation(folder: Path) -> Path:
    path = folder / "eval.yml"
    path.write_text("policies: {a: b}\nreward_model: c\ndata: {path: x}\n")
    return path


def _wrong_for(key: str, annotation: Any) -> tuple[str, str]:
    """A value that the key does not take: a list for a section, a section for anything else."""
    takes_text = str in set(_parts(annotation))
    mapping = "dict[" in str(annotation) or any(
        isinstance(part, type) and issubclass(part, BaseModel) for part in _parts(annotation)
    )
    second = "[[{}]]" if takes_text else "'nonsense \\u2028'"
    return ("[[7]]" if mapping else "{a: [1]}"), second if key != "policies" else "7"


def cases() -> list[Case]:
    found = []
    for name, (content, named) in TEXTS.items():

        def make(_: World, folder: Path, content: bytes = content) -> list[str]:
            (folder / "run.yml").write_bytes(content)
            return ["train", "--preset", str(folder / "run.yml"), "--output-dir", str(folder / "out")]

        found.append(Case(f"config, {name}", make, (named,)))
    run = ["train", "--preset"]
    found += [Case(f"set, {name}", _set("", run, text), (named,)) for name, (text, named) in SETS.items()]
    kinds: tuple[tuple[type[BaseModel], str, list[str]], ...] = (
        (RunConfig, "smollm2-135m_ppo", run),
        (PipelineConfig, "demo", ["pipeline"]),
        (EvaluationConfig, "", ["eval", "--config"]),
    )
    for model, preset, verb in kinds:
        seen = set()
        for key, annotation in leaves(model):
            if key in seen or key.endswith("output_dir"):
                continue
            seen.add(key)
            for value in _wrong_for(key, annotation)[: 2 if model is RunConfig else 1]:
                name = f"{verb[0]}, {key} = {value}"
                found.append(Case(f"key, {name}", _set(preset, verb, f"{key}={value}"), (key,)))
    for prefix, section in STAGE_SECTIONS.items():
        for key, annotation in leaves(section, f"{prefix}."):
            if key.startswith("stages.sft.training.") or key.endswith("output_dir"):
                continue
            # The keys of a stage are those of a run or an evaluation: one wrong value each shows that they are checked.
            value = _wrong_for(key.removeprefix(f"{prefix}."), annotation)[0]
            make = _set("demo", ["pipeline"], f"{key}={value}")
            found.append(Case(f"key, pipeline, {key} = {value}", make, (key,)))
    return found
