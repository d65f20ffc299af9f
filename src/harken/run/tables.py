"""Write records as parquet and read them as plain rows. The same rows give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harken.errors import UserError
from harken.records import Score, ScoredRollout
from harken.run import atomic, checksums

_COLUMNS: dict[str, pa.DataType] = {
    "prompt_id": pa.string(),
    "sample": pa.int64(),
    "domain": pa.string(),
    "language": pa.string(),
    "prompt": pa.string(),
    "messages": pa.string(),
    "response": pa.string(),
    "prompt_tokens": pa.list_(pa.int32()),
    "response_tokens": pa.list_(pa.int32()),
    "sampler_logprobs": pa.list_(pa.float32()),
    "stop": pa.string(),
    "policy_version": pa.string(),
    "step": pa.int64(),
    "reward": pa.float64(),
}

JUDGE_COLUMN = "judge_"
"""Prefix of the name of a source that judges the response but is not part of its reward."""


def write_scored_rollouts(path: Path, rows: Sequence[ScoredRollout], *, step: int) -> None:
    """Write one parquet row per rollout, atomically.

    Columns: prompt_id, sample, domain, language, prompt (the last user message), messages (JSON),
    response, prompt_tokens and response_tokens (int32), sampler_logprobs (nats, float32), stop,
    policy_version, step, reward, and for each reward source `score_<source>` (null if it gave no score)
    and `weight_<source>`. Raises ValueError if a rollout has two scores from one source.
    """
    sources = list(dict.fromkeys(score.source for row in rows for score in row.scores))
    columns = dict(_COLUMNS)
    for source in sources:
        columns |= {f"score_{source}": pa.float64(), f"weight_{source}": pa.float64()}
    records = [_scored_rollout(row, sources, step) for row in rows]
    write_table(path, columns, records)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one parquet row per mapping, atomically. Columns come from the first row, types from the values.

    Raises ValueError if a row has other keys than the first, or a column mixes types.
    """
    for index, row in enumerate(rows):
        if odd := row.keys() ^ rows[0].keys():
            raise ValueError(f"row {index} and row 0 differ in the keys {sorted(odd)}")
    names = list(rows[0]) if rows else []
    _write(path, pa.table({name: pa.array([row[name] for row in rows]) for name in names}))


def write_table(path: Path, columns: Mapping[str, pa.DataType], records: Sequence[Mapping[str, Any]]) -> None:
    """Write records as parquet with the given types, atomically. A column may be all null."""
    _write(path, pa.Table.from_pylist(list(records), schema=pa.schema(list(columns.items()))))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a parquet file. Raises UserError if it is missing or damaged.

    If SHA256SUMS lists the file, any changed byte is detected. Otherwise changes in the data are detected, but not in
    the names and types of columns, which have no checksum.
    """
    checksums.verify_file(path)
    if path.exists() and not path.is_file():
        raise _damaged(path, "it is not a regular file")
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        table = file.read()
        rows: list[dict[str, Any]] = table.to_pylist()
    except FileNotFoundError:
        raise UserError("file not found", where=str(path), fix="name a file that a run wrote") from None
    except (pa.ArrowException, ArithmeticError, LookupError, OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    # Page checksums do not cover the page header, which has the number of values.
    if table.num_rows != file.metadata.num_rows:
        raise _damaged(path, f"{table.num_rows} rows instead of {file.metadata.num_rows}")
    return rows


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"not a readable parquet file ({reason})", where=str(path), fix="write it again")


def _scored_rollout(row: ScoredRollout, sources: Sequence[str], step: int) -> dict[str, Any]:
    rollout, prompt = row.rollout, row.rollout.prompt
    parts: dict[str, Score] = {score.source: score for score in row.scores}
    if len(parts) != len(row.scores):
        raise ValueError(f"rollout {prompt.id!r} has two scores from one source")
    record: dict[str, Any] = {
        "prompt_id": prompt.id,
        "sample": rollout.sample,
        "domain": prompt.domain,
        "language": prompt.language,
        "prompt": prompt.last_user_message,
        "messages": json.dumps([m.to_dict() for m in prompt.messages], ensure_ascii=False),
        "response": rollout.text,
        "prompt_tokens": rollout.prompt_tokens,
        "response_tokens": rollout.response_tokens,
        "sampler_logprobs": rollout.sampler_logprobs,
        "stop": rollout.stop,
        "policy_version": rollout.policy_version,
        "step": step,
        "reward": row.reward,
    }
    for source in sources:
        part = parts.get(source)
        record[f"score_{source}"] = part.value if part else None
        record[f"weight_{source}"] = part.weight if part else None
    return record


def _write(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    atomic.write_bytes(path, sink.getvalue().to_pybytes())
