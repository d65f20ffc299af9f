"""Match the responses of files to prompts, so that systems that ran elsewhere can be compared."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harken.config.evaluation import EvaluatedPolicy
from harken.data.external_responses import ExternalResponse, read_external_responses
from harken.data.parse import REFERENCES, content_hash
from harken.errors import UserError
from harken.records import Message, Prompt

ByPrompt = dict[str, list[ExternalResponse]]
"""Responses by the id of their prompt, in the order of samples."""


@dataclass
class FileCounts:
    """Count the responses of a file that are read, and those that are not used, by reason."""

    read: int = 0
    failed: int = 0
    """Without a response: null in the file."""
    other_prompts: int = 0
    """To prompts that another policy has no response to, or that `data` does not list."""
    further_samples: int = 0
    """Beyond the number of samples that are compared."""

    def sentence(self, policy: str) -> str:
        """Say how many responses are used, and why others are not."""
        unused = {
            "to prompts that not all policies share": self.other_prompts,
            "null": self.failed,
            "beyond the samples that all have": self.further_samples,
        }
        parts = [f"{count:,} {why}" for why, count in unused.items() if count]
        used_count = self.read - sum(unused.values())
        return f"{policy}: {used_count:,} of {self.read:,} responses used" + (
            f" ({', '.join(parts)})" if parts else ""
        )


@dataclass(frozen=True)
class MatchedFiles:
    """The prompts, and for each policy of a file its responses to them, `samples` to each."""

    prompts: list[Prompt]
    responses: dict[str, ByPrompt]
    samples: int
    counts: dict[str, FileCounts]

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return {name: asdict(file_counts) for name, file_counts in self.counts.items()}


def read_policies(policies: Mapping[str, EvaluatedPolicy]) -> dict[str, dict[str, list[ExternalResponse]]]:
    """Read the responses of each policy that is a file, by system; a file of several systems is several policies.

    Raises UserError as `read_external_responses` does, for a `generator` that the file does not have, and for two
    policies of one name.
    """
    systems_by_policy: dict[str, dict[str, list[ExternalResponse]]] = {}
    for name, policy in policies.items():
        if policy.responses is None:
            continue
        rows = read_external_responses(policy.responses, renamed=policy.columns)
        names = list(dict.fromkeys(row.generator for row in rows))
        if policy.generator is not None:
            if policy.generator not in names:
                raise UserError(
                    f"no row is of {policy.generator!r}; there are {', '.join(map(repr, names))[:300]}",
                    where=f"policies.{name}.generator",
                    fix="name one of them",
                )
            systems = {name: [row for row in rows if row.generator == policy.generator]}
        elif len(names) > 1:
            systems = {g or name: [row for row in rows if row.generator == g] for g in names}
        else:
            systems = {name: rows}
        taken = {other for earlier in systems_by_policy.values() for other in earlier} | (
            set(policies) - {name}
        )
        if clash := sorted(taken & set(systems)):
            raise UserError(
                f"two policies are called {clash[0]!r}",
                where=f"policies.{name}",
                fix="choose one of the file's systems with generator, and give it another name",
            )
        systems_by_policy[name] = systems
    return systems_by_policy


def number_columns(rows: Sequence[ExternalResponse]) -> dict[str, int]:
    """Return the columns with numbers, and in how many of the rows with a response each has none."""
    responses = [row for row in rows if row.text is not None]
    counts = Counter(name for row in responses for name in row.values)
    return {name: len(responses) - count for name, count in counts.items()}


def fingerprint_rows(rows: Sequence[ExternalResponse]) -> str:
    """Compute the sha256 of everything that was read of the responses, without the place of the file."""
    plain = [
        [
            r.id,
            [m.to_dict() for m in r.messages],
            r.text,
            r.sample,
            r.stop,
            r.tokens,
            dict(r.values),
            dict(r.details),
            *(
                [r.reference, r.tools, dict(r.prompt_details)]
                if r.reference or r.tools or r.prompt_details
                else []
            ),
        ]
        for r in rows
    ]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def match_files(
    files: Mapping[str, Sequence[ExternalResponse]],
    prompts: Sequence[Prompt] | None,
    samples: int | None,
) -> MatchedFiles:
    """Assign every response to a prompt, by its id or else by its text, and keep the prompts that all files share.

    `prompts` None: those of the files. `samples` None: as many responses to each prompt as every file has.
    Raises UserError when one id stands for two prompts, a prompt's text is in no file, no prompt is shared, or a file
    has fewer than `samples` responses to a prompt.
    """
    all_prompts, responses, counts = _assign(files, prompts)
    shared = [p for p in all_prompts if all(p.id in by_prompt for by_prompt in responses.values())]
    if not shared:
        raise UserError(
            f"no prompt has a response in all of {', '.join(files)}",
            where="policies",
            fix="give equal prompts the same prompt_id, or the same text",
        )
    fewest = min(len(by_prompt[p.id]) for by_prompt in responses.values() for p in shared)
    if samples is not None and fewest < samples:
        raise UserError(
            f"the files have only {fewest} responses to some prompts, not {samples}",
            where="samples",
            fix=f"set samples to {fewest}, or remove it",
        )
    sample_count = samples or fewest
    ids = {p.id for p in shared}
    for name, by_prompt in responses.items():
        counts[name].other_prompts += sum(
            len(rows) for prompt, rows in by_prompt.items() if prompt not in ids
        )
        counts[name].further_samples += sum(len(by_prompt[prompt]) - sample_count for prompt in ids)
        responses[name] = {p.id: _in_order(by_prompt[p.id])[:sample_count] for p in shared}
    return MatchedFiles(shared, responses, sample_count, counts)


def match_all(files: Mapping[str, Sequence[ExternalResponse]]) -> MatchedFiles:
    """Assign every response to a prompt of the files, also to prompts that not all files share.

    `samples` is the largest number of responses that a file has to one prompt. Raises UserError as `match_files` does.
    """
    all_prompts, responses, counts = _assign(files, None)
    ordered = {
        name: {p: _in_order(rows) for p, rows in by_prompt.items()} for name, by_prompt in responses.items()
    }
    with_responses = [p for p in all_prompts if any(p.id in by_prompt for by_prompt in responses.values())]
    if not with_responses:
        raise UserError(
            f"there is no response in {', '.join(files)}", fix="name a file with one response per row"
        )
    samples = max(len(rows) for by_prompt in responses.values() for rows in by_prompt.values())
    return MatchedFiles(with_responses, ordered, samples, counts)


def _assign(
    files: Mapping[str, Sequence[ExternalResponse]], prompts: Sequence[Prompt] | None
) -> tuple[list[Prompt], dict[str, ByPrompt], dict[str, FileCounts]]:
    """Return the prompts, each file's responses by prompt in the order of its rows, and counts of the others."""
    known = _KnownPrompts(prompts)
    counts = {name: FileCounts(read=len(rows)) for name, rows in files.items()}
    responses: dict[str, ByPrompt] = {name: {} for name in files}
    for name, rows in files.items():
        known.begin_file(name)
        for row in rows:
            prompt = known.find(row)
            if prompt is None:
                counts[name].other_prompts += 1
            elif row.text is None:
                counts[name].failed += 1
            else:
                responses[name].setdefault(prompt, []).append(row)
    return known.prompts(), responses, counts


def match_prompts(
    rows: Sequence[ExternalResponse], prompts: Sequence[Prompt] | None, name: str
) -> list[Prompt | None]:
    """Return each row's prompt, by its id or else by its text; None where `prompts` is given and does not contain it.

    Raises UserError as `match_files` does for one file called `name`.
    """
    known = _KnownPrompts(prompts)
    known.begin_file(name)
    prompt_ids = [known.find(row) for row in rows]
    by_id = {prompt.id: prompt for prompt in known.prompts()}
    return [None if prompt is None else by_id[prompt] for prompt in prompt_ids]


def repeated_texts(prompts: Sequence[Prompt]) -> int:
    """Count the prompts whose text equals an earlier one: their id belongs to the response, not to the prompt."""
    return len(prompts) - len({_text_key(prompt.messages) for prompt in prompts})


class _KnownPrompts:
    """Find the prompt of a response. Without a given list, prompts of the files are added as they are read."""

    def __init__(self, prompts: Sequence[Prompt] | None) -> None:
        self._closed = prompts is not None
        self._by_id: dict[str, Prompt] = {}
        self._by_text: dict[str, list[str]] = {}
        self._read_in: dict[str, str] = {}
        self._file = "data.path"
        self._used: set[str] = set()
        """Prompts that a row of the current file named by id: another id in this file means another prompt."""
        for prompt in prompts or ():
            self._add(prompt)

    def begin_file(self, name: str) -> None:
        self._file, self._used = name, set()

    def prompts(self) -> list[Prompt]:
        if unknown := [prompt.id for prompt in self._by_id.values() if not prompt.messages]:
            raise UserError(
                f"no file has the text of prompt {unknown[0]!r}",
                where=f"policies.{self._read_in[unknown[0]]}",
                fix="set data.path to the file of prompts with these ids, or give the rows a prompt",
            )
        return list(self._by_id.values())

    def find(self, row: ExternalResponse) -> str | None:
        """Return the id of the row's prompt; None if the list of prompts is fixed and does not contain it."""
        text = _text_key(row.messages)
        if row.id is not None and row.id in self._by_id:
            self._require_same_text(row, text)
            self._used.add(row.id)
            return row.id
        same_text_ids = self._by_text.get(text, []) if text else []
        if row.id is None and same_text_ids:
            return same_text_ids[0]
        if unused_ids := [prompt for prompt in same_text_ids if prompt not in self._used]:
            self._used.add(unused_ids[0])
            return unused_ids[0]
        if self._closed:
            return None
        prompt = _prompt_of(row)
        self._add(prompt)
        self._used.add(prompt.id)
        return prompt.id

    def _add(self, prompt: Prompt) -> None:
        self._by_id[prompt.id] = prompt
        self._read_in[prompt.id] = self._file
        if prompt.messages:
            self._by_text.setdefault(_text_key(prompt.messages), []).append(prompt.id)

    def _require_same_text(self, row: ExternalResponse, text: str) -> None:
        known_prompt = self._by_id[str(row.id)]
        if not text:
            return
        if not known_prompt.messages:  # a file without texts came first
            self._add(_prompt_of(row))
            return
        if differing_turns := _first_difference(row.messages, known_prompt.messages):
            raise UserError(
                f"prompt {row.id!r} is another text than in {self._read_in[known_prompt.id]}: "
                f"{differing_turns[0][:60]!r}, not {differing_turns[1][:60]!r}",
                where=row.where,
                fix="give one prompt one id in all files, or leave the ids out to match prompts by their text",
            )


def _prompt_of(row: ExternalResponse) -> Prompt:
    details = row.details
    return Prompt(
        id=row.id if row.id is not None else content_hash(row.messages),
        messages=row.messages,
        domain=details.get("domain") or details.get("category") or details.get("dataset") or "",
        language=details.get("language", ""),
        reference=row.reference or next((details[name] for name in REFERENCES if name in details), None),
        details={**row.values, **details, **row.prompt_details},
        tools=row.tools,
    )


def _in_order(rows: Sequence[ExternalResponse]) -> list[ExternalResponse]:
    """Sort by sample number if all rows have different ones, else keep the order of the file."""
    numbers = [row.sample for row in rows]
    if None in numbers or len(set(numbers)) < len(numbers):
        return list(rows)
    return sorted(rows, key=lambda row: row.sample or 0)


def _text_key(messages: Sequence[Message]) -> str:
    """Return the conversation with white space collapsed, "" for none."""
    return "\x1f".join(f"{m.role}:{' '.join(m.content.split())}" for m in messages)


def _first_difference(left: Sequence[Message], right: Sequence[Message]) -> tuple[str, str] | None:
    """Return the last two user turns that differ, None if one conversation's turns are the last turns of the other.

    System prompts may differ, because they belong to the system that responds, and a file may contain the last turns
    only.
    """
    sides = [
        [" ".join(m.content.split()) for m in reversed(conversation) if m.role == "user"]
        for conversation in (left, right)
    ]
    return next(
        ((turn, other_turn) for turn, other_turn in zip(*sides, strict=False) if turn != other_turn),
        None,
    )
