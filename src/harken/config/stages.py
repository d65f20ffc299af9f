"""Resolve the stages of a pipeline: their order and folders, rounds of `repeat`, references `@name`, settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harken.config.base import Strict
from harken.config.card import GateSettings
from harken.config.errors import explain
from harken.config.pipeline import PipelineConfig
from harken.config.run import RunConfig
from harken.config.stage_types import STAGE_TYPES, OutputKind, StageType, output_name
from harken.config.yaml import KeyPath, Settings, dotted
from harken.errors import UserError

MODEL, PREVIOUS = "model", "previous"
"""`@model` is the pipeline's model; `@previous`, within a group, is the policy of the round before."""
SHARED = ("model_name", "seed", "device", "dtype", "tensorboard", "trackers")
"""Keys of a pipeline that are the defaults of its stages' keys of the same name."""
MAX_ROUNDS = 100
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}\Z")
_COLUMN_KEYS = {"columns", "prompt_column", "slices", "cluster_by"}
"""Keys whose values name columns of the user's rows, which may begin with @."""


@dataclass(frozen=True)
class PipelineStage:
    """Describe one stage with its references replaced by paths. A stage of a group is described once per round."""

    name: str
    type: str
    number: int
    """Its place in the order, from 1."""
    root: Path
    """Its folder."""
    config: Strict
    uses: tuple[str, ...]
    """Names of the stages whose outputs it refers to."""
    start: str | None
    """Name of the stage whose policy its `model_name` is, or `model`; None for any other model."""
    gate: GateSettings | None
    """Of a reward stage: conditions on its model's card before a stage that uses it starts."""
    key: str
    """Its dotted key in the file: `stages.rm`."""
    policies: Mapping[str, str] = field(default_factory=dict)
    """Of an evaluation: policy → the stage that made it, or `model` for the pipeline's model."""

    @property
    def output(self) -> Path:
        """Output that `@name` refers to."""
        return self.root / output_name(self.type, self.config)

    @property
    def finished(self) -> bool:
        """Whether the stage has its output."""
        return self.output.exists()


def resolve_stages(
    config: PipelineConfig, root: Path | str, settings: Settings | None = None
) -> list[PipelineStage]:
    """Return the stages of a pipeline in order, with their folders in `root`.

    `settings` is where the configuration was written, for errors. Raises UserError for an unknown type or key, a wrong
    value, a reference that is not to an earlier stage or is to the wrong kind of output, and a report that is not the
    last stage.
    """
    if settings is None:
        settings = Settings({"stages": config.stages}, {(): f"pipeline {config.name}"})
    return _Resolver(config, Path(root), settings).resolve()


def find_stage(stages: Sequence[PipelineStage], name: str) -> PipelineStage:
    """Return the stage of this name. Raises KeyError when there is none."""
    return next((stage for stage in stages if stage.name == name), None) or _missing(name)


def _missing(name: str) -> PipelineStage:
    raise KeyError(name)


@dataclass(frozen=True)
class _Written:
    """One stage as written: its name, its place in the file, and the round of its group."""

    name: str
    path: KeyPath
    keys: dict[str, Any]
    group: str | None = None
    round: int = 0
    """From 1; 0 outside a group."""

    @property
    def full_name(self) -> str:
        """Return the name that the stage has in this round."""
        return f"{self.name}_{self.round}" if self.group else self.name


class _Resolver:
    """Resolve stages in order; the outputs of earlier stages are looked up by name."""

    def __init__(self, config: PipelineConfig, root: Path, settings: Settings) -> None:
        self.config, self.root, self.settings = config, root, settings
        self.done: dict[str, PipelineStage] = {}
        self.aliases: dict[str, str] = {}
        """Name of a finished group → the stage whose output is its own."""
        self.written = list(self._expand_stages())

    def resolve(self) -> list[PipelineStage]:
        names = [stage.full_name for stage in self.written]
        for index, stage in enumerate(self.written):
            if stage.full_name in names[:index]:
                raise self._error(
                    stage.path, f"two stages are called {stage.full_name}", "rename one of them"
                )
            self.done[stage.full_name] = self._stage(index, stage)
            if stage.group and (index + 1 == len(names) or self.written[index + 1].group != stage.group):
                self.aliases[stage.group] = self._result(stage.group, stage.round)
        return list(self.done.values())

    # -- the file ---------------------------------------------------------------------------------

    def _expand_stages(self) -> Sequence[_Written]:
        """Return every stage in execution order; those of a group once per round."""
        stages: list[_Written] = []
        for name, keys in self.config.stages.items():
            path: KeyPath = ("stages", name)
            self._check_name(name, path)
            if "repeat" not in keys:
                stages.append(_Written(name, path, keys))
                continue
            inner = self._group(keys, path)
            for round_number in range(1, keys["repeat"] + 1):
                stages += [
                    _Written(member, (*path, "stages", member), keys, name, round_number)
                    for member, keys in inner.items()
                ]
        return stages

    def _group(self, keys: dict[str, Any], path: KeyPath) -> dict[str, dict[str, Any]]:
        if unknown := [key for key in keys if key not in ("repeat", "start", "stages")]:
            raise self._error(
                (*path, unknown[0]), "unknown key", "remove it. Keys of a group: repeat, start, stages"
            )
        rounds = keys["repeat"]
        if type(rounds) is not int or not 1 <= rounds <= MAX_ROUNDS:
            raise self._error(
                (*path, "repeat"), f"expected a number of rounds from 1 to {MAX_ROUNDS}", "write repeat: 2"
            )
        inner = keys.get("stages")
        if not isinstance(inner, dict) or not inner:
            raise self._error(
                path, "a group has no stages", "write the stages that are repeated below its key stages"
            )
        for name, member_keys in inner.items():
            self._check_name(name, (*path, "stages", name))
            if not isinstance(member_keys, dict):
                raise self._error((*path, "stages", name), "expected a section of keys", "write its type: …")
            if "repeat" in member_keys:
                raise self._error(
                    (*path, "stages", name), "a group within a group", "write its stages into this group"
                )
        return inner

    def _check_name(self, name: str, path: KeyPath) -> None:
        if name in (MODEL, PREVIOUS) or not _NAME.match(name):
            raise self._error(
                path,
                f"{name!r} is not a name for a stage",
                f"use letters, digits, - and _, a letter first, and neither {MODEL} nor {PREVIOUS}",
            )

    def _error(self, path: KeyPath, problem: str, fix: str) -> UserError:
        return UserError(problem, where=self.settings.where(path), fix=fix)

    # -- one stage --------------------------------------------------------------------------------

    def _stage(self, index: int, stage: _Written) -> PipelineStage:
        kind = self._type(stage)
        type_name = str(stage.keys["type"])
        if type_name == "report" and index + 1 < len(self.written):
            raise self._error(stage.path, "the report is not the last stage", "move it to the end")
        keys = {key: value for key, value in stage.keys.items() if key != "type"}
        gate = self._gate(keys.pop("gate"), stage) if "gate" in keys and type_name == "reward" else None
        if "output_dir" in keys:
            raise self._error((*stage.path, "output_dir"), "a stage's folder is the pipeline's", "remove it")
        for key in SHARED:
            if key in kind.config.model_fields and key not in keys:
                value = getattr(self.config, key)
                keys[key] = value.model_dump() if isinstance(value, Strict) else value
                if key == "seed" and stage.group:  # each round draws different rows and responses
                    keys[key] += stage.round - 1
        if kind.config is RunConfig:
            keys = self._with_training_type(keys, type_name, stage)
        used: dict[KeyPath, str] = {}
        if keys.get("model_name") == self.config.model_name:
            used["model_name",] = MODEL
        resolved = self._replaced(keys, (), stage, used)
        return PipelineStage(
            name=stage.full_name,
            type=type_name,
            number=index + 1,
            root=self.root / f"{index + 1:02d}_{stage.full_name}",
            config=self._validated(kind.config, resolved, stage),
            uses=tuple(dict.fromkeys(name for name in used.values() if name != MODEL)),
            start=used.get(("model_name",)),
            gate=gate,
            key=dotted(stage.path),
            policies={
                str(path[1]): name for path, name in used.items() if path[0] == "policies" and len(path) > 1
            },
        )

    def _type(self, stage: _Written) -> StageType:
        type_name = stage.keys.get("type")
        if isinstance(type_name, str) and type_name in STAGE_TYPES:
            return STAGE_TYPES[type_name]
        names = ", ".join(STAGE_TYPES)
        if type_name is None:
            raise self._error(
                (*stage.path, "type"), "this key is required", f"write type: and one of {names}"
            )
        close = difflib.get_close_matches(str(type_name), STAGE_TYPES, n=1) or (
            ["reward"] if type_name == "rm" else []
        )
        fix = f"write {close[0]}" if close else f"write one of {names}"
        raise self._error((*stage.path, "type"), f"no type of stage is called {type_name!r}", fix)

    def _with_training_type(self, keys: dict[str, Any], type_name: str, stage: _Written) -> dict[str, Any]:
        training = keys.get("training", {})
        if not isinstance(training, dict):
            return keys
        if training.get("type", type_name) != type_name:
            where = (*stage.path, "training", "type")
            raise self._error(where, f"expected {type_name}, given {training['type']}", "remove it")
        return {**keys, "training": {"type": type_name, **training}}

    def _gate(self, gate: Any, stage: _Written) -> GateSettings | None:
        if gate is None:
            return None
        try:
            return GateSettings.model_validate(gate)
        except ValidationError as error:
            raise explain(error, GateSettings, self.settings, (*stage.path, "gate")) from None

    def _validated(self, model: type[Strict], keys: dict[str, Any], stage: _Written) -> Strict:
        try:
            return model.model_validate(keys)
        except ValidationError as error:
            data = _with_value(self.settings.data, stage.path, keys)
            raise explain(error, model, Settings(data, self.settings.places), stage.path) from None

    # -- references -------------------------------------------------------------------------------

    def _replaced(self, value: Any, path: KeyPath, stage: _Written, used: dict[KeyPath, str]) -> Any:
        """Return `value` with every `@name` replaced by a path; `used` gets the stage that each refers to."""
        if isinstance(value, dict):
            return {
                key: item if key in _COLUMN_KEYS else self._replaced(item, (*path, key), stage, used)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self._replaced(item, (*path, i), stage, used) for i, item in enumerate(value)]
        if not isinstance(value, str) or not value.startswith("@"):
            return value
        return self._output(value[1:], path, stage, used)

    def _output(self, name: str, path: KeyPath, stage: _Written, used: dict[KeyPath, str]) -> str:
        where = (*stage.path, *path)
        if name == PREVIOUS:
            name = self._previous(where, stage)
            if not name.startswith("@"):
                return name  # the group starts from a model that no stage made
            name = name[1:]
        if name == MODEL:
            used[path] = MODEL
            return self.config.model_name
        full_name = f"{name}_{stage.round}" if stage.group else name
        stage_done = (
            self.done.get(full_name) or self.done.get(name) or self.done.get(self.aliases.get(name, ""))
        )
        if stage_done is None:
            raise self._unknown(name, where, stage)
        self._check_kind(stage_done, path, where, str(stage.keys["type"]))
        used[path] = stage_done.name
        return str(stage_done.output)

    def _previous(self, where: KeyPath, stage: _Written) -> str:
        """Return the reference that `@previous` means in this round."""
        if not stage.group:
            raise self._error(
                where,
                "@previous is allowed only in a group with repeat",
                "name an earlier stage, such as @sft",
            )
        if stage.round > 1:
            previous = self._result(stage.group, stage.round - 1)
            return f"@{previous}"
        start = self.config.stages[stage.group].get("start")
        if not isinstance(start, str) or start == f"@{PREVIOUS}":
            raise self._error(
                ("stages", stage.group),
                "the first round has no @previous",
                'write start: and the model of the first round, for example start: "@sft"',
            )
        return start

    def _result(self, group: str, round_number: int) -> str:
        """Return the stage whose output is that of a round: the last that makes a policy, else the last."""
        names = [
            candidate.full_name
            for candidate in self.written
            if (candidate.group, candidate.round) == (group, round_number)
        ]
        policies = [name for name in names if STAGE_TYPES[self.done[name].type].gives == "policy"]
        return (policies or names)[-1]

    def _unknown(self, name: str, where: KeyPath, stage: _Written) -> UserError:
        earlier = [MODEL, *self.done, *self.aliases]
        groups = {
            candidate.group
            for candidate in self.written
            if candidate.name == name and candidate.group in self.aliases
        }
        for group in groups:
            return self._error(
                where,
                f"@{name} has an output in every round of {group}",
                f"write @{group} for the output of the last round, or @{name}_1",
            )
        if name in (stage.name, stage.full_name):
            problem = f"@{name} is this stage itself"
        elif any(
            name in (candidate.name, candidate.full_name, candidate.group) for candidate in self.written
        ):
            problem = f"@{name} is a later stage, and only outputs of earlier ones exist"
            fix = f"move stage {name} above {stage.name}, or name an earlier one"
            in_group = any(
                candidate.name == name and candidate.group == stage.group for candidate in self.written
            )
            if stage.group and in_group:
                fix += f"; the policy of the round before is @{PREVIOUS}"
            return self._error(where, problem, fix)
        else:
            problem = f"no stage is called {name!r}"
        close = difflib.get_close_matches(name, earlier, n=1)
        if close and not problem.endswith("itself"):
            return self._error(where, problem, f"write @{close[0]}")
        return self._error(
            where, problem, f"write one of {', '.join('@' + stage_name for stage_name in earlier)}"
        )

    def _check_kind(self, producer: PipelineStage, path: KeyPath, where: KeyPath, type_name: str) -> None:
        """Require the kind of output that a key of this type of stage accepts, if it is restricted."""
        gives, accepted = STAGE_TYPES[producer.type].gives, _accepted_kinds(path, type_name)
        if accepted and gives not in accepted:
            needed = " or ".join(f"a {kind}" for kind in accepted)
            fitting = [
                f"@{n}" for n, candidate in self.done.items() if STAGE_TYPES[candidate.type].gives in accepted
            ]
            raise self._error(
                where,
                f"@{producer.name} is a {gives}, and {needed} is needed here",
                f"write {' or '.join(fitting)}" if fitting else f"add a stage that makes {needed} before it",
            )


def _accepted_kinds(path: KeyPath, type_name: str) -> tuple[OutputKind, ...]:
    """Return the kinds of output that a key accepts; () where any kind is allowed."""
    names = [part for part in path if isinstance(part, str)]
    if path == ("model_name",) or names[-1] == "prompt_tokenizer":
        return ("policy",)
    if names[0] == "policies":
        return ("policy",) if type_name == "generate" else ("policy", "table")
    if names[-1] in ("checkpoint_path", "checkpoint_paths", "reward_model"):
        return ("reward model",)
    return (
        ("table",)
        if names[-1] in ("path", "eval_path", "responses", "leave_out", "add_to", "pairs_path")
        else ()
    )


def _with_value(data: Any, path: KeyPath, value: Any) -> Any:
    """Return nested sections with `value` at `path`."""
    if not path:
        return value
    return {**data, path[0]: _with_value(data[path[0]], path[1:], value)}
