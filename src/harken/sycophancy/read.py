"""Read probes from files as they are published: facts, TruthfulQA, NQ-open, and Anthropic's model-written evaluations.

fact        question, truth, claim            the layout of `demo:sycophancy`; lists are accepted spellings
TruthfulQA  Question, Best Answer, Best Incorrect Answer, Correct Answers, Incorrect Answers (separated by ;)
NQ-open     question, answer (a list)         the wrong claim is another question's answer, see `_with_claims`
opinion     neutral_prompt, biased_prompt, sycophantic_target, honest_target; `kind: flattery` for praise
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harken import seeds
from harken.data.files import read_source_rows
from harken.errors import UserError
from harken.records import Message
from harken.sycophancy.outcome import mentions, plain_words, same_answer
from harken.sycophancy.probe import FACT_SUITES, SUITES, Fact, Probe, fact_probes

FIX = "give it the columns of one of the four layouts in docs/sycophancy.md"
_WRAPPED = re.compile(r"<\|start_header_id\|>user<\|end_header_id\|>\s*(.*?)<\|eot_id\|>", re.DOTALL)
"""The constant Llama-3 frame of a prompt in some copies of the model-written evaluations."""


def read_probes(paths: Sequence[str], suites: Sequence[str], limit: int | None, seed: int) -> list[Probe]:
    """Read the probes of all files, at most `limit` questions of each suite and file, chosen by the seed.

    Raises UserError for a row of no known layout, an empty target, and where a suite has no probe.
    """
    probes: list[Probe] = []
    for number, path in enumerate(paths):
        found = _of_file(path, _rows(path), seed)
        prefix = f"{number}/" if len(paths) > 1 else ""
        for suite in suites:
            own = [p for p in found if p.suite == suite]
            clusters = list(dict.fromkeys(p.cluster for p in own))
            order = seeds.permutation(len(clusters), seed, "sycophancy", path)[:limit]
            kept = {clusters[i] for i in order}
            probes += [_prefixed(p, prefix) for p in own if p.cluster in kept]
    if absent := [suite for suite in suites if all(p.suite != suite for p in probes)]:
        there = sorted({p.suite for p in probes})
        raise UserError(
            f"no probe of {', '.join(absent)}"
            + (f"; there are probes of {', '.join(there)}" if there else ""),
            where=", ".join(paths),
            fix="name another file with --data, or other suites with --set suites=[...]",
        )
    ids = [p.id for p in probes]
    if (
        twice := next((i for n, i in enumerate(ids) if i in ids[:n]), None)
        if len(set(ids)) < len(ids)
        else None
    ):
        raise UserError(
            f"two probes have the id {twice!r}", where=", ".join(paths), fix="give every row its own id"
        )
    return probes


def present_suites(paths: Sequence[str]) -> list[str]:
    """Return the suites that the files have probes of, in the order of `SUITES`."""
    found: set[str] = set()
    for path in paths:
        for where, row in _rows(path):
            found |= {_opinion(row, where, 0).suite} if "biased_prompt" in row else set(FACT_SUITES)
    return [suite for suite in SUITES if suite in found]


def _rows(path: str) -> list[tuple[str, dict[str, Any]]]:
    rows: list[tuple[str, dict[str, Any]]] = []
    for where, row in read_source_rows(path, "train"):
        if not isinstance(row, dict):
            raise UserError("is not a JSON object", where=where, fix=FIX)
        rows.append((where, row))
    return rows


def _prefixed(probe: Probe, prefix: str) -> Probe:
    fields = {name: getattr(probe, name) for name in Probe.__dataclass_fields__}
    return Probe(**{**fields, "id": prefix + probe.id, "cluster": prefix + probe.cluster})


def _of_file(path: str, rows: Sequence[tuple[str, dict[str, Any]]], seed: int) -> list[Probe]:
    probes: list[Probe] = []
    facts: list[Fact] = []
    for number, (where, row) in enumerate(rows):
        if "biased_prompt" in row:
            probes.append(_opinion(row, where, number))
        else:
            facts.append(fact_of_row(row, where, number))
    if any(not fact.claim for fact in facts):
        facts = _with_claims(facts, seed)
    return [*probes, *(probe for fact in _clustered(facts) for probe in fact_probes(fact))]


def _clustered(facts: Sequence[Fact]) -> list[Fact]:
    """Return the facts with the cluster of their question: repeated questions are not independent."""
    first: dict[str, str] = {}
    return [
        replace(fact, cluster=first.setdefault(plain_words(fact.question) or fact.question, fact.id))
        for fact in facts
    ]


def fact_of_row(row: dict[str, Any], where: str, number: int) -> Fact:
    """Read a fact of any layout; `claim` is empty where the row has none. Raises UserError for another row."""
    name = str(row.get("id", f"{number:05d}"))
    if "Best Incorrect Answer" in row:
        truth = _spellings(row, "Best Answer", where) + _listed(row.get("Correct Answers"))
        claim = _spellings(row, "Best Incorrect Answer", where) + _listed(row.get("Incorrect Answers"))
        return _different(
            Fact(name, _text(row, "Question", where), _distinct(truth), _distinct(claim)), where
        )
    question = _text(row, "question", where)
    if "truth" in row:
        truth, claim = _spellings(row, "truth", where), _spellings(row, "claim", where)
        return _different(Fact(name, question, truth, claim), where)
    return Fact(name, _sentence(question), _spellings(row, "answer", where), ())


def _different(fact: Fact, where: str) -> Fact:
    """Return the fact. Raises UserError where its right and its wrong answer are the same."""
    if same_answer(fact.truth[0], fact.claim[0]):
        raise UserError(
            f"the right and the wrong answer are the same: {fact.truth[0]!r}",
            where=where,
            fix="correct the row, or leave it out",
        )
    return fact


def _with_claims(facts: Sequence[Fact], seed: int) -> list[Fact]:
    """Give every fact without a claim an answer of another question that begins with the same word.

    The answer must neither contain a right answer nor be contained in one. Facts for which there is none are left out.
    """
    by_word: dict[str, list[Fact]] = {}
    for fact in facts:
        by_word.setdefault(fact.question.split()[0].lower(), []).append(fact)
    completed = []
    for fact in facts:
        others = by_word[fact.question.split()[0].lower()]
        start = seeds.derive_seed(seed, "claim", fact.id) % len(others)
        for other in [*others[start:], *others[:start]]:
            claim = other.truth[0]
            if fact.claim or not any(mentions(a, b) for t in fact.truth for a, b in ((t, claim), (claim, t))):
                completed.append(replace(fact, claim=fact.claim or (claim,)))
                break
    return completed


def _opinion(row: dict[str, Any], where: str, number: int) -> Probe:
    kind = str(row.get("kind", "opinion"))
    if kind not in ("opinion", "flattery"):
        raise UserError(f"kind is {kind!r}", where=where, fix="write opinion or flattery")
    neutral, biased = (_unwrap(_text(row, key, where)) for key in ("neutral_prompt", "biased_prompt"))
    faulty, honest = (_text(row, key, where).strip() for key in ("sycophantic_target", "honest_target"))
    if faulty == honest:
        raise UserError("both targets are the same", where=where, fix="correct the row, or leave it out")
    name = str(row.get("id", row.get("sample_id", f"{number:05d}")))
    return Probe(
        f"{kind}/{name}", kind, str(row.get("cluster", neutral)), (Message("user", biased),),
        (Message("user", neutral),), faulty, honest,
    )  # fmt: skip


def _unwrap(text: str) -> str:
    """Return the user's text of a prompt in the Llama-3 frame; any other text as it is."""
    framed = _WRAPPED.search(text)
    return framed[1].strip() if framed and text.lstrip().startswith("<|") else text


def _sentence(question: str) -> str:
    """Return a question of NQ-open, which has neither a capital nor a question mark, with both."""
    text = question.strip()
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else "?")


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"no text in the column {key}", where=where, fix=FIX)
    return value


def _spellings(row: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = row.get(key)
    texts = value if isinstance(value, list) else [value]
    texts = [text.strip().rstrip(".") if isinstance(text, str) else "" for text in texts]
    if not texts or not all(texts):
        raise UserError(f"no text in the column {key}", where=where, fix=FIX)
    return tuple(texts)


def _listed(value: object) -> tuple[str, ...]:
    texts = (text.strip().rstrip(".") for text in str(value or "").split(";"))
    return tuple(text for text in texts if text)


def _distinct(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
