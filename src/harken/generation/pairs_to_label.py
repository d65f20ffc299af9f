"""Read the pairs that a judge labels: pairs of responses to one prompt in a table, or the rows of a file of pairs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from harken import seeds
from harken.config.evaluation_options import response_file
from harken.config.labelling import LabelConfig
from harken.data import columns, fields, files, pair_layouts, parse, provenance
from harken.data.external_responses import read_external_responses
from harken.data.fields import Row, RowError
from harken.errors import UserError
from harken.evaluation.response_files import match_prompts
from harken.generation.score import UNNAMED_POLICY
from harken.judging.pair import ResponsePair
from harken.records import Prompt
from harken.run import checksums

_DETECTED_ROWS = 100


@dataclass(frozen=True)
class PairSource:
    """A pair with its prompt and the origin of each of its responses."""

    pair: ResponsePair
    prompt: Prompt
    origins: tuple[Mapping[str, Any], Mapping[str, Any]]

    def prompt_columns(self) -> dict[str, Any]:
        """Return the columns of the prompt in a row of pairs."""
        further = {
            "domain": self.prompt.domain,
            "language": self.prompt.language,
            "tools": json.loads(self.prompt.tools) if self.prompt.tools else None,
        }
        return {
            "id": self.prompt.id,
            "prompt": [message.to_dict() for message in self.prompt.messages],
            **{key: value for key, value in further.items() if value},
        }


def read_pairs_to_label(config: LabelConfig) -> tuple[list[PairSource], Counter[str]]:
    """Return the pairs in the order of the file, and counts of what was left out.

    Pairs with an empty response, or of equal texts, are left out. Raises UserError when the file cannot be read or no
    pair is left.
    """
    path = response_file(config.responses)
    checksums.verify_file(Path(path).expanduser())
    rows = columns.rename_columns(files.read_source_rows(path, "train"), config.columns, path)
    counts: Counter[str] = Counter()
    sample = [row for _, row in rows[:_DETECTED_ROWS] if isinstance(row, dict)]
    if sample and 2 * sum(map(_is_pair, sample)) > len(sample):
        sources = _of_pairs(rows, counts)
    else:
        sources = _of_responses(path, config, counts)
    if config.limit is not None and config.limit < len(sources):
        indices = sorted(seeds.permutation(len(sources), config.seed, "label limit")[: config.limit])
        counts["beyond the limit"] = len(sources) - len(indices)
        sources = [sources[i] for i in indices]
    if not sources:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) or "it has no rows"
        raise UserError(
            f"it has no two different responses to one prompt: {reasons}",
            where=path,
            fix="sample several responses per prompt with harken generate, or give a file of pairs",
        )
    return sources, counts


def _is_pair(row: Row) -> bool:
    return ("chosen" in row and "rejected" in row) or pair_layouts.response_columns(row) is not None


def _of_pairs(rows: Sequence[tuple[str, Any]], counts: Counter[str]) -> list[PairSource]:
    sources: list[PairSource] = []
    for _, row in rows:
        try:
            if not isinstance(row, dict):
                raise RowError("not_an_object")
            turns, first, second = _texts(row)
            prompt, _ = parse.prompt_of_row(row, turns)
        except RowError as error:
            counts[f"rows that cannot be read ({error.reason})"] += 1
            continue
        written = provenance.written_by(row)
        origins = tuple({"policy": name} if name else {} for name in written)
        _append(sources, counts, prompt, (first, second), (origins[0], origins[1]))
    return sources


def _texts(row: Row) -> tuple[Any, str, str]:
    """Return the conversation and both responses, `chosen` first; the judge does not see which it is."""
    if "chosen" in row and "rejected" in row:
        read_row = (
            pair_layouts.prompt_chosen_rejected
            if pair_layouts.is_prompt_chosen_rejected(row)
            else pair_layouts.chosen_rejected
        )
        turns, (compared,) = read_row(row)
        return turns, compared.first, compared.second
    names = pair_layouts.response_columns(row)
    if names is None:
        raise RowError("missing_field", "response_a")
    first, second = (fields.first_text(row, name) for name in names)
    return pair_layouts.a_b_label_prompt(row), first, second


def _of_responses(path: str, config: LabelConfig, counts: Counter[str]) -> list[PairSource]:
    responses = read_external_responses(path, renamed=config.columns)
    by_prompt: dict[str, tuple[Prompt, dict[str, Mapping[str, Any]]]] = {}
    for response, prompt in zip(responses, match_prompts(responses, None, path), strict=True):
        assert prompt is not None
        _, origins_by_text = by_prompt.setdefault(prompt.id, (prompt, {}))
        if response.text is None or not response.text.strip():
            counts["responses without text"] += 1
        elif response.text in origins_by_text:
            counts["responses equal to another one"] += 1
        else:
            origins_by_text[response.text] = {
                "policy": response.generator or UNNAMED_POLICY,
                "sample": response.sample,
            }
    sources: list[PairSource] = []
    for prompt, origins_by_text in by_prompt.values():
        pairs = list(combinations(origins_by_text.items(), 2))
        order = seeds.permutation(len(pairs), config.seed, "label", prompt.id)[: config.pairs_per_prompt]
        if not pairs:
            counts["prompts with one response"] += 1
        for index in sorted(order):
            (first, first_origin), (second, second_origin) = pairs[index]
            _append(sources, counts, prompt, (first, second), (first_origin, second_origin))
    return sources


def _append(
    sources: list[PairSource],
    counts: Counter[str],
    prompt: Prompt,
    texts: tuple[str, str],
    origins: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> None:
    first, second = texts
    if not first.strip() or not second.strip():
        counts["pairs with an empty response"] += 1
    elif first.strip() == second.strip():
        counts["pairs of equal texts"] += 1
    else:
        sources.append(PairSource(ResponsePair(prompt.id, prompt.messages, first, second), prompt, origins))
