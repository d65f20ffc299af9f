"""Measure how well a response fits its prompt and every other prompt of the evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harken.evaluate.audit.function_words import LANGUAGE_WORDS
from harken.evaluate.audit.words import UNSPACED

_WORD = re.compile(rf"[{UNSPACED}]+|(?:(?![{UNSPACED}])[^\W_])+")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_STEM = 5
"""Characters of a word that are compared: a cheap stem, so that "volcano" fits "volcanoes"."""
_REQUEST_WORDS = (
    "what how why write please give tell make explain describe list using use example between following need "
    "was wie warum bitte schreibe quelle comment pourquoi como cómo qué come perché почему"
)
_COMMON = frozenset(word for listed in (*LANGUAGE_WORDS.values(), _REQUEST_WORDS) for word in listed.split())
MIN_TERMS = 3
"""A prompt with fewer terms fits no response measurably."""


@dataclass(frozen=True, slots=True)
class Relevance:
    """Hold the relevance of a response to its own prompt and to the other prompt that it fits best.

    `own` is None when the own prompt has too few terms. `other` is the position of the other prompt, or None.
    """

    own: float | None
    other: int | None
    other_relevance: float
    other_shared: int


def content_terms(text: str) -> set[str]:
    """Return a text's terms: the first five letters of its content words, and pairs of characters without spaces."""
    terms: set[str] = set()
    for run in _WORD.findall(text.lower()):
        if _UNSPACED.match(run):
            terms.update(run[i : i + 2] for i in range(len(run) - 1))
        elif len(run) >= 3 and run not in _COMMON:
            terms.add(run[:_STEM])
    return terms


class PromptIndex:
    """Index the terms of all prompts of an evaluation, weighted by idf.

    The relevance of a response to a prompt is the share of the prompt's terms that the response has, weighted by
    idf(t) = log(prompts ÷ prompts with t): query coverage. Source of the weight: Spärck Jones 1972.
    """

    def __init__(self, prompts: Sequence[str]) -> None:
        terms = [sorted(content_terms(prompt)) for prompt in prompts]
        found: dict[str, list[int]] = {}
        for number, of_prompt in enumerate(terms):
            for term in of_prompt:
                found.setdefault(term, []).append(number)
        self._postings = {term: np.array(numbers) for term, numbers in found.items()}
        self._idf = {term: float(np.log(len(prompts) / len(numbers))) for term, numbers in found.items()}
        self._sizes = np.array([len(of_prompt) for of_prompt in terms], dtype=np.int64)
        self._mass = np.array([sum(self._idf[term] for term in of_prompt) for of_prompt in terms])

    def relevance(self, response: str, own: int, exclude: Iterable[int] = ()) -> Relevance:
        """Measure the response against the prompt at position `own`, and against all others but `exclude`."""
        shared = [term for term in content_terms(response) if self._idf.get(term, 0.0) > 0]
        nowhere = np.zeros(0, dtype=np.int64)
        numbers = np.concatenate([nowhere, *(self._postings[term] for term in shared)])
        idf = np.repeat([self._idf[term] for term in shared], [len(self._postings[term]) for term in shared])
        weight = np.bincount(numbers, idf, len(self._sizes)).astype(np.float64)
        count = np.bincount(numbers, minlength=len(self._sizes))
        coverage = weight / np.maximum(self._mass, 1e-12)
        measurable = self._sizes[own] >= MIN_TERMS and self._mass[own] > 0
        of_own = float(coverage[own]) if measurable else None
        coverage[self._sizes < MIN_TERMS] = 0.0
        coverage[[own, *exclude]] = 0.0
        best = int(coverage.argmax())
        if not coverage[best]:
            return Relevance(of_own, None, 0.0, 0)
        return Relevance(of_own, best, float(coverage[best]), int(count[best]))
