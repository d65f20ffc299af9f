"""Measure how well a response fits its prompt and every other prompt of the evaluation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from harken.evaluation.audit.function_words import ALL_FUNCTION_WORDS
from harken.evaluation.audit.words import UNSPACED

_WORD = re.compile(rf"[{UNSPACED}]+|(?:(?![{UNSPACED}])[^\W_])+")
_SPACED_WORD = re.compile(r"[^\W_]{3,}")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_STEM = 5
"""Letters of a word that are compared: a cheap stem, so that "volcano" fits "volcanoes"."""
_REQUEST_WORDS = (
    "what how why write please give tell make explain describe list using use example between following need "
    "was wie warum bitte schreibe quelle comment pourquoi como cómo qué come perché почему"
)
_COMMON = ALL_FUNCTION_WORDS | frozenset(_REQUEST_WORDS.split())
SAME_REQUEST = 0.2
"""Cosine from which two prompts are so similar that a response to either is on topic."""
_Floats = NDArray[np.float64]
CHUNK = 512
"""Responses that are compared with all prompts at once."""


@dataclass(frozen=True, slots=True)
class Relevance:
    """The relevance (a cosine, 0 … 1) of a response to its own prompt and to the other prompt that it fits best.

    `other` is the position of that prompt, or None when the response fits no other prompt. `terms` counts the
    response's content terms and `peers` the other responses to its prompt: the cosine is less reliable with few.
    """

    own: float
    other: int | None
    best_other: float
    terms: int
    peers: int


def content_terms(text: str) -> set[str]:
    """Return a text's terms: the first five letters of its content words, and pairs of characters without spaces."""
    terms: set[str] = set()
    for run in (_WORD if _UNSPACED.search(text) else _SPACED_WORD).findall(text.lower()):
        if _UNSPACED.match(run):
            terms.update(run[i : i + 2] for i in range(len(run) - 1))
        elif len(run) >= 3 and run not in _COMMON:
            terms.add(run[:_STEM])
    return terms


def relevances(prompts: Sequence[str], responses: Sequence[str], prompt_of: Sequence[int]) -> list[Relevance]:
    """Measure every response against every prompt. `prompt_of[i]` is the position of response i's prompt.

    A prompt is the text of the whole conversation before the response.

    A prompt is described by its own terms (weight 1) and by the share of its responses that have a term; response i
    itself does not count for its own prompt. The relevance is the cosine of response and description, each term
    weighted by idf(t) = log(prompts ÷ prompts described with t). With one response per prompt, only the prompt's own
    terms describe it. Source: Spärck Jones 1972 (idf); Salton 1975 (vector space model).
    """
    vocabulary: dict[str, int] = {}
    prompt_terms = _matrix([content_terms(text) for text in prompts], vocabulary)
    response_terms = _matrix([content_terms(text) for text in responses], vocabulary)
    width = len(vocabulary)
    prompt_terms.resize((len(prompts), width))
    response_terms.resize((len(responses), width))
    owner = np.asarray(prompt_of, dtype=np.int64)
    count = np.bincount(owner, minlength=len(prompts))
    prompt_by_response = csr_array(
        (np.ones(len(owner)), (owner, np.arange(len(owner)))), shape=(len(prompts), len(owner))
    )
    # Responses of each prompt that have each term.
    term_counts = (prompt_by_response @ response_terms).tocsr()
    described_by = (prompt_terms + term_counts).tocsr()
    prompts_with = np.bincount(described_by.indices, minlength=width)
    squared_idf = np.log(len(prompts) / np.maximum(prompts_with, 1)) ** 2
    shares = term_counts.multiply(1 / np.maximum(count, 1)[:, None]).tocsr()
    profiles = (prompt_terms + shares).tocsr()
    profile_norm = np.sqrt(np.maximum(profiles.multiply(profiles) @ squared_idf, 1e-12))
    response_norm = np.sqrt(np.maximum(response_terms @ squared_idf, 1e-12))
    unit_prompts = _unit_rows(prompt_terms, squared_idf)
    weighted = response_terms.multiply(squared_idf[None, :]).tocsr()
    sizes = np.diff(response_terms.indptr)
    own_relevance = _own_relevance(
        response_terms, prompt_terms[owner].tocsr(), term_counts[owner].tocsr(), count[owner], squared_idf
    )
    measured: list[Relevance] = []
    for start in range(0, len(responses), CHUNK):
        chosen = slice(start, start + CHUNK)
        cosine = (weighted[chosen] @ profiles.T).toarray() / profile_norm / response_norm[chosen, None]
        rows = np.arange(len(cosine))
        cosine[(unit_prompts[owner[chosen]] @ unit_prompts.T).toarray() >= SAME_REQUEST] = 0.0
        cosine[rows, owner[chosen]] = 0.0
        best = cosine.argmax(axis=1)
        columns = (own_relevance[chosen], best, cosine[rows, best], sizes[chosen], count[owner[chosen]] - 1)
        measured += [
            Relevance(float(own), int(other) if value > 0 else None, float(value), int(terms), int(peers))
            for own, other, value, terms, peers in zip(*columns, strict=True)
        ]
    return measured


def _unit_rows(terms: csr_array, squared_idf: _Floats) -> csr_array:
    """Weigh each term by idf and scale each row to length 1."""
    length = np.sqrt(np.maximum(terms @ squared_idf, 1e-12))
    return terms.multiply(np.sqrt(squared_idf)[None, :]).multiply(1 / length[:, None]).tocsr()


def _own_relevance(
    responses: csr_array,
    prompts: csr_array,
    term_counts: csr_array,
    count: NDArray[np.int64],
    squared_idf: _Floats,
) -> _Floats:
    """Return the cosine of each response and its own prompt's description without this response.

    Row i of `prompts` and `term_counts` belongs to the prompt of response i, and `count[i]` responses were made for it.
    """
    other_shares = (term_counts - responses).multiply(1 / np.maximum(count - 1, 1)[:, None])
    description = (prompts + other_shares).tocsr()
    dot_products: _Floats = responses.multiply(description) @ squared_idf
    norm = (description.multiply(description) @ squared_idf) * (responses @ squared_idf)
    cosine: _Floats = dot_products / np.sqrt(np.maximum(norm, 1e-12))
    return cosine


def _matrix(terms: Sequence[set[str]], vocabulary: dict[str, int]) -> csr_array:
    """Return which text (row) has which term (column); new terms are added to the vocabulary."""
    columns = [vocabulary.setdefault(term, len(vocabulary)) for of_text in terms for term in sorted(of_text)]
    ends = np.cumsum([0, *(len(of_text) for of_text in terms)])
    return csr_array(
        (np.ones(len(columns)), np.array(columns, dtype=np.int64), ends), shape=(len(terms), len(vocabulary))
    )
