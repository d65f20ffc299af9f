"""Load a training run's rows as tokens; print and write how many rows were kept, shortened and dropped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from harken.config import RunConfig
from harken.config.base import DataConfig
from harken.config.ppo import PPOTraining
from harken.data import sources, token_checks
from harken.data.advice import warn_off_policy
from harken.data.chat import Renderer, RenderFailure
from harken.data.markup import MarkupDetector, row_responses
from harken.data.report import DataReport
from harken.errors import UserError
from harken.records import Demonstration, Preference, Prompt, TokenDemonstration, TokenPair
from harken.run import atomic, checksums, trained_prompts
from harken.run.counted import counted
from harken.run.folder import RunFolder
from harken.run.tracking import progress, say
from harken.train.ppo.learner import Ptx

Record = TypeVar("Record", Demonstration, Preference | TokenPair, Prompt)
Encoded = TypeVar("Encoded", TokenDemonstration, TokenPair, Prompt)

TOKEN_CHECK_ROWS = 64
"""Training rows whose responses are checked for tokenizer problems."""
SHORTENED = "prompt shortened to fit max_length"


def encode_demonstrations(
    config: RunConfig, renderer: Renderer, run: RunFolder
) -> tuple[list[TokenDemonstration], list[TokenDemonstration]]:
    """Load training and held-out demonstrations as tokens."""
    limit = config.data.max_length

    def encode(row: Demonstration) -> tuple[TokenDemonstration | RenderFailure, bool]:
        encoded = renderer.encode_demonstration(row, limit)
        return encoded, not isinstance(encoded, RenderFailure) and renderer.count_tokens(row) > limit

    train, held_out, reports = sources.load_split(config.data, sources.load_demonstrations, config.seed)
    return _encode_split(train, held_out, reports, encode, renderer, run)


def encode_preferences(
    config: RunConfig, renderer: Renderer, run: RunFolder
) -> tuple[list[TokenPair], list[TokenPair]]:
    """Load training and held-out preferences as tokens."""
    return encode_preferences_and_prompts(config, renderer, run)[:2]


def encode_preferences_and_prompts(
    config: RunConfig, renderer: Renderer, run: RunFolder
) -> tuple[list[TokenPair], list[TokenPair], list[Prompt]]:
    """Load training and held-out preferences as tokens, and the distinct held-out prompts that fit, to sample from.

    Rows that are token ids already have no prompts to sample from.
    """
    limit = config.data.max_length

    def encode(row: Preference | TokenPair) -> tuple[TokenPair | RenderFailure, bool]:
        encoded = renderer.encode_preference(row, limit)
        if isinstance(row, TokenPair) or isinstance(encoded, RenderFailure):
            return encoded, False
        return encoded, renderer.count_tokens(row) > limit

    train, held_out, reports = sources.load_split(config.data, sources.load_preferences, config.seed)
    if train and all(row.label == 0.5 for row in train):
        raise UserError(
            f"none of the {len(train):,} training pairs has a preferred side: all are ties",
            where=config.data.path,
            fix="give pairs with a preferred side; harken data on the file shows how its labels were read",
        )
    if (off_policy := warn_off_policy(train, config.model_name)) is not None:
        reports[0].warnings.append(off_policy)
    prompts = {row.prompt.id: row.prompt for row in held_out if not isinstance(row, TokenPair)}
    fitting = [
        p for p in prompts.values() if not isinstance(renderer.try_fit_prompt(p, limit), RenderFailure)
    ]
    return *_encode_split(train, held_out, reports, encode, renderer, run), fitting


def encode_classified(
    config: RunConfig, renderer: Renderer, run: RunFolder
) -> tuple[list[TokenDemonstration], list[TokenDemonstration]]:
    """Load training and held-out responses of two labels as tokens; `desirable` is the positive label."""
    return encode_rated(config, renderer, run, sources.load_classified)[:2]


def encode_rated(
    config: RunConfig,
    renderer: Renderer,
    run: RunFolder,
    load: Callable[
        [DataConfig, str | None, int], tuple[list[Demonstration], DataReport]
    ] = sources.load_rated,
) -> tuple[list[TokenDemonstration], list[TokenDemonstration], list[Prompt]]:
    """Load training and held-out responses with thumbs as tokens, and the distinct held-out prompts that fit."""
    limit = config.data.max_length

    def encode(row: Demonstration) -> tuple[TokenDemonstration | RenderFailure, bool]:
        encoded = renderer.encode_demonstration(row, limit)
        return encoded, not isinstance(encoded, RenderFailure) and renderer.count_tokens(row) > limit

    train, held_out, reports = sources.load_split(config.data, load, config.seed)
    prompts = {row.prompt.id: row.prompt for row in held_out if row.prompt.messages}
    fitting = [
        p for p in prompts.values() if not isinstance(renderer.try_fit_prompt(p, limit), RenderFailure)
    ]
    return *_encode_split(train, held_out, reports, encode, renderer, run), fitting


def fit_prompts(config: RunConfig, renderer: Renderer, run: RunFolder) -> tuple[list[Prompt], list[Prompt]]:
    """Load training and held-out prompts that fit the token budget, shortened if necessary."""
    limit = config.data.max_length

    def encode(row: Prompt) -> tuple[Prompt | RenderFailure, bool]:
        fitted = renderer.try_fit_prompt(row, limit)
        if isinstance(fitted, RenderFailure):
            return fitted, False
        return row, len(renderer.encode_prompt(row.messages, row.tools)) > limit

    train, held_out, reports = sources.load_split(config.data, sources.load_prompts, config.seed)
    return _encode_split(train, held_out, reports, encode, renderer, run)


def ptx_demonstrations(config: RunConfig, renderer: Renderer, run: RunFolder) -> Ptx | None:
    """Load the demonstrations of PPO-ptx; None without it. Their data report is in the run's `ptx/`."""
    assert isinstance(config.training, PPOTraining)
    settings = config.training.ppo.ptx
    if settings is None:
        return None
    rows, _ = encode_demonstrations(
        config.model_copy(update={"data": settings.data}), renderer, RunFolder(run.root / "ptx")
    )
    return Ptx(rows, settings)


def lineage(config: RunConfig, *groups: Sequence[object]) -> dict[str, Any]:
    """Return what the manifest records of a run's rows: path, sha256 of the processed rows, sha256 of each file."""
    digest = hashlib.sha256()
    for group in groups:
        digest.update(f"{len(group)} rows\n".encode())
        for row in group:
            digest.update(repr(_values(row)).encode("utf-8", "surrogatepass"))
    return {
        "name": str(config.data.path),
        "fingerprint": digest.hexdigest(),
        "files": _file_hashes(config.data),
    }


def changed_files(data: DataConfig, recorded: Mapping[str, Any]) -> list[str]:
    """Return the files and folders of `data` whose content differs from what `lineage` recorded. Missing ones pass."""
    before, now = recorded.get("files", {}), _file_hashes(data)
    return [str(getattr(data, key)) for key in now if key in before and before[key] != now[key]]


def _file_hashes(data: DataConfig) -> dict[str, str]:
    """Return key of `data` → sha256 of the file or folder it names. The hub, demo data and missing files have none."""
    hashes = {}
    for key in ("path", "eval_path"):
        path = Path(getattr(data, key) or "").expanduser()
        if getattr(data, key) and path.is_file():
            hashes[key] = checksums.file_sha256(path)
        elif getattr(data, key) and path.is_dir():
            names = sorted(file for file in path.rglob("*") if file.is_file())
            listed = [(file.relative_to(path).as_posix(), checksums.file_sha256(file)) for file in names]
            hashes[key] = hashlib.sha256(repr(listed).encode("utf-8", "surrogatepass")).hexdigest()
    return hashes


def _encode_split(
    train: Sequence[Record],
    held_out: Sequence[Record],
    reports: Sequence[DataReport],
    encode: Callable[[Record], tuple[Encoded | RenderFailure, bool]],
    renderer: Renderer,
    run: RunFolder,
) -> tuple[list[Encoded], list[Encoded]]:
    """Encode training and held-out rows; print and write the reports, dropped rows included."""
    sample = [row for row in train[:TOKEN_CHECK_ROWS] if not isinstance(row, TokenPair)]
    for line in token_checks.check_tokenizer(
        renderer, [text for row in sample for text in row_responses(row)]
    ):
        say(line)
    for rows, report in ((train, reports[0]), (held_out, reports[-1])):
        report.warnings += MarkupDetector(renderer).warnings(rows)
    encoded = [
        _encode_rows(rows, encode, renderer, report)
        for rows, report in ((train, reports[0]), (held_out, reports[-1]))
    ]
    for report in reports:
        for line in report.summary():
            say(line)
    atomic.write_json(run.data_report, [report.to_dict() for report in reports])
    rejects = [vars(reject) for report in reports for reject in report.dropped_rows]
    atomic.write_text(run.rejects, "".join(json.dumps(reject) + "\n" for reject in rejects))
    if not encoded[0]:
        problem, fix = reports[0].explain_empty()
        raise UserError(problem, where=reports[0].path, fix=fix)
    prompts = (
        row if isinstance(row, Prompt) else row.prompt for row in train if not isinstance(row, TokenPair)
    )
    trained_prompts.write_prompt_hashes(run, (prompt.messages for prompt in prompts))
    files = f"full report: {run.data_report}"
    files += f"; dropped rows: {run.rejects}" if rejects else ""
    say(f"  {counted(len(encoded[0]), 'training row')}, {len(encoded[1]):,} held out; {files}")
    return encoded[0], encoded[1]


def _encode_rows(
    rows: Sequence[Record],
    encode: Callable[[Record], tuple[Encoded | RenderFailure, bool]],
    renderer: Renderer,
    report: DataReport,
) -> list[Encoded]:
    encoded_rows: list[Encoded] = []
    for row in progress(rows, "encoding"):
        encoded, shortened = encode(row)
        if isinstance(encoded, RenderFailure):
            report.drop_kept(
                row.id if isinstance(row, Prompt | TokenPair) else row.prompt.id,
                encoded.reason,
                detail=encoded.detail,
            )
        else:
            encoded_rows.append(encoded)
            report.shortened[SHORTENED] += shortened
            if not isinstance(row, TokenPair):
                report.changed.update(renderer.changes(row))
    report.shortened += type(report.shortened)()  # remove counts of zero
    return encoded_rows


def _values(row: object) -> object:
    """Return the values of a record's fields in the order of their definition, without names, including nested records.

    A fingerprint of names would refuse to resume a run only because a field was renamed. Fields that `repr` leaves out
    are derived from the others.
    """
    if is_dataclass(row):
        return tuple(_values(getattr(row, field.name)) for field in fields(row) if field.repr)
    if isinstance(row, tuple) and row and is_dataclass(row[0]):
        return tuple(_values(item) for item in row)
    return row
