"""Parse YAML to plain data with the place of every value; apply `--set` and expand `${VAR}`.

Scalars follow YAML 1.2's core schema: `1e-6` and `5.e-7` are numbers (PyYAML alone reads text), `no` and
`on` are text, dates are text. A repeated key is an error.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

import yaml

from harken.errors import UserError

KeyPath = tuple[str | int, ...]

_FLOAT = re.compile(r"[-+]?((\.[0-9]+|[0-9][0-9_]*\.[0-9_]*)([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)$")
NESTED = "not usable: a YAML alias contains itself, or nesting is too deep"
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "bool", "null", "int", "float", "seq", "map")}
SYNTAX_FIX = "indent with spaces, close brackets and quotes, and quote text with special characters"
NESTING_FIX = "nest at most six levels of sections, as in `harken presets show NAME`"
MAX_DEPTH = 40
"""Levels of nested sections and lists: a configuration has at most six."""
MAX_VALUES = 20_000
"""Values in a configuration, each use of an alias counted: a few lines of aliases can expand to billions."""
MAX_YAML_BYTES = 4 << 20
"""Size of a configuration: the largest that ships has 4 kB."""
TOO_LARGE = f"larger than a configuration may be ({MAX_YAML_BYTES >> 20} MB)"
NOT_A_CONFIG_FIX = "name a configuration file; start from what `harken presets show NAME` prints"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_OVERRIDE_PATH = re.compile(r"[^.\[\]=]+(\[\d{1,6}\])*(\.[^.\[\]=]+(\[\d{1,6}\])*)*\Z")


class _Loader(yaml.SafeLoader):
    """The safe loader with the core schema's scalars only. It stops at `MAX_VALUES` or `MAX_DEPTH`."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own class attribute, emptied
    read = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read one value and its content, within the limits."""
        self.read += 1
        self.depth += 1
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.read > 2 * MAX_VALUES:  # keys are read as values
            raise _LimitExceeded(f"more than {MAX_VALUES:,} values", "Write fewer", mark.line + 1)
        if self.depth > 2 * MAX_DEPTH:
            raise _LimitExceeded(NESTED, NESTING_FIX, mark.line + 1)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _LimitExceeded(Exception):
    def __init__(self, problem: str, fix: str, line: int) -> None:
        self.problem, self.fix, self.line = problem, fix, line


class _Dumper(yaml.SafeDumper):
    """The safe dumper; it also quotes text that `_Loader` would read as a number."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(true|false|True|False)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789")
)
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def dotted(path: KeyPath) -> str:
    """Format a path as users write it: ``("rewards", 0, "weight")`` → ``rewards[0].weight``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


@dataclass(frozen=True)
class Settings:
    """Plain data and, for each path in it, the place where it was written: ``demo.yml:12`` or ``--set a.b=c``."""

    data: dict[str, Any]
    places: dict[KeyPath, str]

    def place(self, path: KeyPath) -> str:
        """Return where `path`, or the nearest enclosing section, was written."""
        return next(self.places[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.places)

    def where(self, path: KeyPath) -> str:
        """Return place and key as errors name them: ``a.yml:12: training.lr``, ``--set training.lr=x``."""
        place, name = self.place(path), dotted(path)
        return place if not path or place.startswith(f"--set {name}=") else f"{place}: {name}"


def parse_yaml(text: str, name: str, example: str = "what `harken presets show NAME` prints") -> Settings:
    """Read one YAML document whose top level is a section. `name` is its file name in errors, `example` a right file.

    Raises UserError with the line for invalid YAML, a repeated key, or a top level that is not a section.
    """
    places: dict[KeyPath, str] = {}
    data = _read(text, name, places)
    if not isinstance(data, dict):
        raise UserError(
            "not a section of `key: value` lines",
            where=name,
            fix=f"start from {example}",
        )
    return Settings(data, places)


def override(settings: Settings, overrides: list[str]) -> Settings:
    """Apply ``a.b[0]=value`` settings in order; values are YAML. Unknown keys are left to validation.

    Raises UserError for a setting of another form, and for a path through a value or past the end of a list.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        where = f"--set {text}"
        if not equals or not _OVERRIDE_PATH.match(key):
            raise UserError(
                "not of the form key=value", where=where, fix="write it as in --set training.lr=1e-6"
            )
        path = tuple(int(p[1:-1]) if p[0] == "[" else p for p in re.findall(r"[^.\[\]]+|\[\d+\]", key))
        if len(path) > MAX_DEPTH:
            raise UserError(NESTED, where=where[:80], fix=NESTING_FIX)
        places = {p: w for p, w in settings.places.items() if p[: len(path)] != path}
        for length in range(1, len(path) + 1):
            places.setdefault(path[:length], where)
        data = _replaced(settings.data, path, _read(value, where, {}), where, path)
        settings = Settings(data, places)
    return settings


def expand(settings: Settings) -> Settings:
    """Replace ``${VAR}`` in every text by the environment variable. An unset one is a UserError."""

    def walk(value: Any, path: KeyPath) -> Any:
        if isinstance(value, dict):
            return {k: walk(v, (*path, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(v, (*path, i)) for i, v in enumerate(value)]
        if not isinstance(value, str):
            return value
        for variable in _VARIABLE.findall(value):
            if variable not in os.environ:
                raise UserError(
                    f"the environment variable {variable} is not set",
                    where=settings.where(path),
                    fix=f"set it, for example: export {variable}=/path/to/folder",
                )
        return _VARIABLE.sub(lambda m: os.environ[m[1]], value)

    return Settings(walk(settings.data, ()), settings.places)


def write(data: dict[str, Any]) -> str:
    """Write plain data as YAML that `parse` reads back to the same data, in the same order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _read(text: str, name: str, places: dict[KeyPath, str]) -> Any:
    if len(text) > MAX_YAML_BYTES:
        raise UserError(TOO_LARGE, where=_place(name), fix=NOT_A_CONFIG_FIX)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else _build(loader, node, (), name, places)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark and not name.startswith("--set") else ""
        problem = error.problem or error.context
        raise UserError(f"not valid YAML: {problem}", where=f"{name}{line}", fix=SYNTAX_FIX) from None
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {error}", where=name, fix="save it as plain UTF-8 text") from None
    except _LimitExceeded as error:
        raise UserError(error.problem, where=_place(name, error.line), fix=error.fix) from None
    except RecursionError:
        raise UserError(NESTED, where=_place(name), fix=NESTING_FIX) from None


def _place(name: str, line: int | None = None) -> str:
    """Return a file and its line; of a `--set`, whose value may be megabytes, only the beginning."""
    if name.startswith("--set"):
        return name[:80]
    return name if line is None else f"{name}:{line}"


def _build(loader: _Loader, node: yaml.Node, path: KeyPath, name: str, places: dict[KeyPath, str]) -> Any:
    where = name if name.startswith("--set") else f"{name}:{node.start_mark.line + 1}"
    places.setdefault(path, where)
    if len(path) > MAX_DEPTH:
        raise UserError(NESTED, where=where, fix=NESTING_FIX)
    if len(places) > MAX_VALUES:
        raise UserError(
            f"more than {MAX_VALUES:,} values", where=where, fix="replace its aliases by plain values"
        )
    if node.tag not in _TAGS:
        raise UserError(
            f"the YAML tag {node.tag} is not supported",
            where=where,
            fix="remove it and write a plain value",
        )
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, item, (*path, i), name, places) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(loader, node, where)
    section: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = where if name.startswith("--set") else f"{name}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise UserError("a key must be a plain word", where=line, fix="write `key: value`")
        key = key_node.value
        if problem := _invalid_character(key):
            raise UserError(f"a key contains {problem}", where=line, fix="remove it")
        if key in section:
            place = f"{line}: {dotted((*path, key))}"
            raise UserError("the key is written twice", where=place, fix="keep one of them")
        places[*path, key] = line
        section[key] = _build(loader, value_node, (*path, key), name, places)
    return section


def _scalar(loader: _Loader, node: yaml.Node, where: str) -> Any:
    try:
        value = loader.construct_object(node, deep=True)
    except ValueError as error:  # more digits than Python converts
        raise UserError(f"not a usable number ({error})", where=where, fix="write a smaller one") from None
    if isinstance(value, str) and (problem := _invalid_character(value)):
        raise UserError(f"a text contains {problem}", where=where, fix="remove it")
    return value


def _invalid_character(text: str) -> str | None:
    """Return what makes a text invalid in a path or in UTF-8; None if it is valid."""
    if "\0" in text:
        return "a NUL character"
    return "half of a surrogate pair" if any("\ud800" <= c <= "\udfff" for c in text) else None


def _replaced(data: Any, path: KeyPath, value: Any, where: str, full_path: KeyPath) -> Any:
    """Return `data` with `value` at `path`; missing sections on the way are created."""
    if not path:
        return value
    key, subpath = path[0], path[1:]
    walked = dotted(full_path[: len(full_path) - len(path)])
    if isinstance(key, int):
        if not isinstance(data, list):
            raise UserError(f"{walked} is not a list", where=where, fix="use a key instead of a number")
        if key >= len(data):
            raise UserError(
                f"{walked} has {len(data)} entries, numbered from 0",
                where=where,
                fix="use one of these numbers",
            )
        return [_replaced(v, subpath, value, where, full_path) if i == key else v for i, v in enumerate(data)]
    if data is not None and not isinstance(data, dict):
        kind = "a list: use [0], [1], …" if isinstance(data, list) else "a value, not a section"
        raise UserError(f"{walked} is {kind}", where=where, fix=f"set {walked} itself, or an entry of it")
    section = data or {}
    return {**section, key: _replaced(section.get(key), subpath, value, where, full_path)}
