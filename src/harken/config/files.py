"""Load a configuration from a preset or YAML file, `--set` and the environment; write it as YAML."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from harken.config import (
    EvaluationConfig,
    GenerationConfig,
    HardNegativesConfig,
    PairsConfig,
    PipelineConfig,
    ReviewConfig,
    RunConfig,
    ScoringConfig,
    SycophancyConfig,
)
from harken.config import yaml as config_yaml
from harken.config.base import Strict
from harken.config.constitution import ConstitutionConfig
from harken.config.errors import explain
from harken.config.labelling import AgreementConfig, LabelConfig
from harken.config.stages import resolve_stages
from harken.config.yaml import Settings
from harken.errors import UserError

ConfigKind = Literal[
    "run", "pipeline", "evaluation", "generate", "score", "pairs", "review", "label", "constitution"
]
Config = TypeVar("Config", bound=Strict)

_TYPE_ALIASES = {"rm": "reward"}
_FLAT = {
    "sft": "sft: {type: sft, …}",
    "reward": 'rm: {type: reward, model_name: "@sft", …}',
    "ppo": 'ppo: {type: ppo, model_name: "@sft", training: {reward_model: {checkpoint_path: "@rm"}, …}, …}',
    "evaluation": 'eval: {type: evaluation, policies: {Base: "@model", SFT: "@sft", PPO: "@ppo"}, '
    'reward_model: "@rm", …}',
}
"""Top-level keys that pipelines had before they had `stages`, and the equivalent stage of each."""
_DATA_STAGES: tuple[ConfigKind, ...] = ("generate", "score", "pairs", "review", "label", "constitution")
"""Kinds that are named by the key `type` and by their command."""
_WITH_ARTICLE = {
    "run": "a run",
    "pipeline": "a pipeline",
    "evaluation": "an evaluation",
    **dict.fromkeys(_DATA_STAGES, "a stage of data made by models"),
}
_COMMANDS = {
    "run": "train --preset",
    "pipeline": "pipeline",
    "evaluation": "eval --config",
    **{kind: f"{kind} --config" for kind in _DATA_STAGES},
}


@dataclass(frozen=True)
class PresetInfo:
    """A configuration that ships with Harken. `summary` is the comment in its first line."""

    name: str
    kind: ConfigKind
    summary: str


@dataclass(frozen=True)
class _Source:
    text: str
    label: str
    stem: str


def load_run(name: str, overrides: list[str], output_dir: str | Path | None = None) -> RunConfig:
    """Load a training stage's configuration from a preset or a file.

    `overrides` are ``a.b=value`` settings, applied in order; `output_dir` overrides both. The default folder is
    ``outputs/<name>``. Raises UserError for any invalid input.
    """
    settings, stem = _settings(name, "run", overrides)
    settings = Settings(_with_known_type(settings.data), settings.places)
    return _validated(RunConfig, _with_folder(settings, stem, output_dir))


def load_evaluation(
    name: str | None,
    overrides: list[str],
    output_dir: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> EvaluationConfig:
    """Load an evaluation's configuration; arguments as in `load_run`.

    Without a name it consists of `options`, the keys that the command line sets, and `overrides`.
    """
    return _load_or_build(EvaluationConfig, "evaluation", "eval", name, overrides, output_dir, options)


def load_generation(
    name: str | None, overrides: list[str], output_dir: str | Path | None, options: Mapping[str, Any]
) -> GenerationConfig:
    """Load the configuration of generated responses; arguments as in `load_evaluation`."""
    return _load_or_build(GenerationConfig, "generate", "responses", name, overrides, output_dir, options)


def load_scoring(
    name: str | None, overrides: list[str], output_dir: str | Path | None, options: Mapping[str, Any]
) -> ScoringConfig:
    """Load the configuration of scored responses; arguments as in `load_evaluation`."""
    return _load_or_build(ScoringConfig, "score", "scored", name, overrides, output_dir, options)


def load_pairs(
    name: str | None, overrides: list[str], output_dir: str | Path | None, options: Mapping[str, Any]
) -> PairsConfig:
    """Load the configuration of pairs; arguments as in `load_evaluation`."""
    return _load_or_build(PairsConfig, "pairs", "pairs", name, overrides, output_dir, options)


def load_review(
    name: str | None, overrides: list[str], output_dir: str | Path | None, options: Mapping[str, Any]
) -> ReviewConfig:
    """Load the configuration of a review; arguments as in `load_evaluation`."""
    return _load_or_build(ReviewConfig, "review", "review", name, overrides, output_dir, options)


def load_sycophancy(
    name: str | None, overrides: list[str], output_dir: str | Path | None, options: Mapping[str, Any]
) -> SycophancyConfig:
    """Load the configuration of the sycophancy suites; arguments as in `load_evaluation`."""
    return _load_or_build(SycophancyConfig, "evaluation", "sycophancy", name, overrides, output_dir, options)


def load_hard_negatives(
    overrides: list[str], output_dir: str | Path | None, options: Mapping[str, Any]
) -> HardNegativesConfig:
    """Load the configuration of hard negatives; arguments as in `load_evaluation`."""
    return _load_or_build(
        HardNegativesConfig, "pairs", "hard-negatives", None, overrides, output_dir, options
    )


def load_label(
    name: str | None, overrides: list[str], output_dir: str | Path | None, options: Mapping[str, Any]
) -> LabelConfig:
    """Load the configuration of pairs that a judge labels; arguments as in `load_evaluation`."""
    return _load_or_build(LabelConfig, "label", "labelled", name, overrides, output_dir, options)


def load_constitution(
    name: str | None, overrides: list[str], output_dir: str | Path | None, options: Mapping[str, Any]
) -> ConstitutionConfig:
    """Load the configuration of critiques and revisions; arguments as in `load_evaluation`."""
    return _load_or_build(
        ConstitutionConfig, "constitution", "constitution", name, overrides, output_dir, options
    )


def load_agreement(
    overrides: list[str], output_dir: str | Path | None, options: Mapping[str, Any]
) -> AgreementConfig:
    """Load the configuration of a judge's agreement with people; arguments as in `load_evaluation`."""
    return _load_or_build(AgreementConfig, "label", "judge-agreement", None, overrides, output_dir, options)


def _load_or_build(
    model: type[Config],
    kind: ConfigKind,
    stem: str,
    name: str | None,
    overrides: list[str],
    output_dir: str | Path | None,
    options: Mapping[str, Any] | None,
) -> Config:
    keys = dict(options or {})
    settings = Settings({}, {(): "the command line"})
    if name is not None:
        settings, stem = _settings(name, kind, [])
    data = {**settings.data, **keys}
    section = settings.data.get("data")
    if isinstance(section, dict) and "data" in keys:  # `--data` sets the path alone
        data["data"] = {**section, **keys["data"]}
    places = dict(settings.places)
    places |= {(key,): f"--{key.replace('_', '-')}" for key in keys}
    settings = config_yaml.expand(config_yaml.override(Settings(data, places), overrides))
    return _validated(model, _with_folder(settings, stem, output_dir))


def load_pipeline(name: str, overrides: list[str], output_dir: str | Path | None = None) -> PipelineConfig:
    """Load a pipeline's configuration; arguments as in `load_run`. Every stage and reference is validated."""
    settings, stem = _settings(name, "pipeline", overrides)
    settings = _with_folder(settings, stem, output_dir)
    config = _pipeline(settings)
    resolve_stages(config, str(config.output_dir), settings)
    return config


def recorded_pipeline(settings: dict[str, Any], where: str) -> PipelineConfig:
    """Validate the configuration that a pipeline's folder records. `where` is the location in error messages."""
    return _pipeline(Settings(settings, {(): where}))


def _pipeline(settings: Settings) -> PipelineConfig:
    _refuse_flat_stages(settings)
    return _validated(PipelineConfig, settings)


def _refuse_flat_stages(settings: Settings) -> None:
    """Raise UserError for a stage at the top level, which pipelines had before they had `stages`."""
    data, stages = settings.data, settings.data.get("stages")
    flat = [key for key in data if key in _FLAT]
    if flat and stages is None:
        forms = ", ".join(form for key, form in _FLAT.items() if key in data)
        raise UserError(
            f"{', '.join(flat)} cannot be at the top level: a pipeline is a mapping of named stages",
            where=settings.where((flat[0],)),
            fix=f"write stages: {{{forms}, report: {{type: report}}}} with the keys of each section in place of …",
        )
    if not isinstance(stages, dict):
        return
    for key in data:
        stage_names = [
            name
            for name, section in stages.items()
            if name == key or (key in _FLAT and isinstance(section, dict) and section.get("type") == key)
        ]
        if stage_names and key not in PipelineConfig.model_fields:
            place = settings.place((key,))
            value = place.removeprefix("--set ").removeprefix(key) if place.startswith("--set ") else ""
            raise UserError(
                "a stage cannot be at the top level",
                where=settings.where((key,)),
                fix=f"write {'--set ' if value else ''}stages.{stage_names[0]}{value}",
            )


def load_run_or_pipeline(name: str, overrides: list[str]) -> RunConfig | PipelineConfig:
    """Load a run or a pipeline, as the file describes; arguments as in `load_run`. UserError for an evaluation."""
    kind = _kind(config_yaml.parse_yaml((source := _find(name)).text, source.label).data)
    return load_pipeline(name, overrides) if kind == "pipeline" else load_run(name, overrides)


def list_presets() -> list[PresetInfo]:
    """List the configurations that ship with Harken, by name."""
    presets = []
    for name in sorted(_shipped()):
        source = _preset(name)
        kind = _kind(config_yaml.parse_yaml(source.text, source.label).data)
        if kind is None:
            raise UserError("neither a run, a pipeline nor an evaluation", where=source.label)
        presets.append(PresetInfo(name, kind, source.text.splitlines()[0].removeprefix("#").strip()))
    return presets


def show_preset(name: str) -> str:
    """Return the text of a shipped configuration, comments included. UserError for an unknown name."""
    return _preset(name).text


def dump(model: Strict) -> str:
    """Write a configuration as YAML with every key; loading it gives an equal configuration."""
    return config_yaml.write(model.model_dump())


def validate_settings(
    model: type[Config], settings: dict[str, Any], where: str, overrides: Sequence[str] = ()
) -> Config:
    """Validate settings given as a dictionary, after applying `overrides`; `${VAR}` is not replaced.

    `where` is the location in error messages.
    """
    return _validated(model, config_yaml.override(Settings(settings, {(): where}), list(overrides)))


def _settings(name: str, required: ConfigKind, overrides: list[str]) -> tuple[Settings, str]:
    source = _find(name)
    settings = config_yaml.parse_yaml(source.text, source.label)
    kind = _kind(settings.data)
    if kind not in (None, required):
        raise UserError(
            f"this describes {_WITH_ARTICLE[kind]}, but {_WITH_ARTICLE[required]} is required here",
            where=source.label,
            fix=f"run: harken {_COMMANDS[kind]} {name}",
        )
    return config_yaml.expand(config_yaml.override(settings, overrides)), source.stem


def _kind(data: dict[str, Any]) -> ConfigKind | None:
    stage = next((kind for kind in _DATA_STAGES if data.get("type") == kind), None)
    if stage is not None:
        return stage
    kinds: dict[str, ConfigKind] = {
        "training": "run",
        "stages": "pipeline",
        "policies": "evaluation",
        "sft": "pipeline",  # as it was written before pipelines had `stages`
    }
    return next((kind for key, kind in kinds.items() if key in data), None)


def _find(name: str) -> _Source:
    """Find a preset or a file. A plain name is a preset, if there is one; a path is a file, if it exists."""
    path = Path(name)
    is_bare_name = len(path.parts) == 1
    looks_like_file = path.suffix in (".yml", ".yaml") or not is_bare_name
    shipped = path.name.removesuffix(".yml")
    if is_bare_name and shipped in _shipped() and not (looks_like_file and path.is_file()):
        return _preset(shipped)
    if not looks_like_file and not path.is_file():
        return _preset(name)
    try:
        return _Source(read_config_text(path, name), name, path.stem)
    except FileNotFoundError:
        fix = "choose a shipped one: `harken presets list` names them"
        raise UserError("no such file", where=name, fix=fix) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read as text ({error})", where=name, fix="save it as UTF-8") from None


def read_config_text(path: Path, name: str) -> str:
    """Read a configuration file. Raises UserError for a device, a folder, and a file over the size limit."""
    if path.exists() and not path.is_file():
        raise UserError(
            "cannot be read as text (not a regular file)", where=name, fix=config_yaml.NOT_A_CONFIG_FIX
        )
    with path.open("rb") as file:
        content = file.read(config_yaml.MAX_YAML_BYTES + 1)
    if len(content) > config_yaml.MAX_YAML_BYTES:
        raise UserError(config_yaml.TOO_LARGE, where=name, fix=config_yaml.NOT_A_CONFIG_FIX)
    return content.decode("utf-8-sig")


def _shipped() -> dict[str, Traversable]:
    entries = resources.files("harken.presets").iterdir()
    return {entry.name.removesuffix(".yml"): entry for entry in entries if entry.name.endswith(".yml")}


def _preset(name: str) -> _Source:
    shipped = _shipped()
    if name not in shipped:
        close = difflib.get_close_matches(name, shipped, n=1)
        fix = f"write {close[0]}" if close else f"choose among {', '.join(sorted(shipped))}"
        raise UserError(f"no preset or file is called {name!r}", fix=fix)
    return _Source(shipped[name].read_text(encoding="utf-8"), f"{name}.yml", name)


def _with_known_type(run: dict[str, Any]) -> dict[str, Any]:
    """Replace an alias in `training.type` by Harken's name."""
    training = run.get("training")
    for alias, name in _TYPE_ALIASES.items():
        if isinstance(training, dict) and training.get("type") == alias:
            return {**run, "training": {**training, "type": name}}
    return run


def _with_folder(settings: Settings, stem: str, output_dir: str | Path | None) -> Settings:
    folder = str(output_dir) if output_dir is not None else settings.data.get("output_dir")
    data = {**settings.data, "output_dir": f"outputs/{stem}" if folder is None else folder}
    return Settings(data, settings.places)


def _validated(model: type[Config], settings: Settings) -> Config:
    try:
        return model.model_validate(settings.data)
    except ValidationError as error:
        raise explain(error, model, settings) from None
