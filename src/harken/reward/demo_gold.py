"""Compute the demo's gold score: a fixed formula that replaces human preferences (synthetic data).

    gold = (0.1 + 0.9 topic) × length × ending × fresh × own × prose          in [0, 1]

    topic    1 when the response contains enough of the prompt's keywords (two different ones; one is enough
             for a question of fact or a prompt that has only one), 0.7 for one of two, 0.3 for none of them
             but a content word of the prompt, else 0. 1 for a prompt without keywords
    length   n words: n/6 up to 6, 1 from 6 to 32, 32/n beyond
    ending   1 when the response ended by itself on . ! or ?, 0.7 without one, 0.4 when it was truncated
    fresh    1 minus the larger of two shares: repeated word 4-grams, repeated sentences
    own      1 while the longest run of words copied from the prompt is at most 4 words or 70 % of the prompt,
             down to 0 when the whole prompt is copied
    prose    1 when at least 15 % of the words are function words ("the", "is", "to", …), proportionally less
             below: a bare list of keywords scores 0

The parts are multiplied, so one high part is not enough: an empty response scores 0, one word at most 1/6, an
off-topic constant response at most 0.1, a loop close to 0. The rule matches words, not meaning: short, ended
nonsense with the right words scores high, and a good response in other words scores low. A policy can therefore
gain more learned reward than gold score, and the report shows both.
"""

from __future__ import annotations

import re
import unicodedata
from difflib import SequenceMatcher
from functools import cache

from harken.maths.repetition import repeated_ngram_fraction
from harken.records import Prompt, StopReason

GOLD_VERSION = "demo judge v1"
"""Name of this formula in data and reports. Changing any constant below needs a new version."""

OFF_TOPIC = 0.1
ONE_OF_TWO, NAMES_THE_TOPIC = 0.7, 0.3
SHORTEST_FULL, LONGEST_FULL = 6, 32
UNPUNCTUATED, TRUNCATED_SCORE = 0.7, 0.4
COPIED_WORDS, COPIED_SHARE = 4, 0.7
PROSE_SHARE = 0.15

_FUNCTION = (
    "a about above after again all also although always an and another any are as at be because been "
    "before being below between both but by can could did do does during each even every few for from "
    "had has have he her here him his how i if in into is it its just like many may me might more "
    "most much must my no not now of off often on one only or other our out over same she should "
    "since so some such than that the their them then there these they this those through to too "
    "under until up us very was we were what when where which while who why will with without would "
    "yet you your"
)
FUNCTION_WORDS = frozenset(_FUNCTION.split())

_TASK = (
    "answer call called change common compare comparison describe difference does explain find finish "
    "first fresh get give good happen keep know last line make mean message name people say sentence "
    "short should simple slogan something start stop story suggest take tip title two use uses word "
    "words write"
)
TASK_WORDS = frozenset(_TASK.split())

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_ENDED_PROPERLY = re.compile(r"[.!?…][\"'”’)\]*_]*$")


def gold_score(prompt: Prompt, text: str, stop: StopReason) -> float:
    """Compute the gold score of a response, in [0, 1]. `prompt.details["keywords"]` lists its keywords."""
    parts = gold_score_parts(prompt, text, stop)
    topic = OFF_TOPIC + (1.0 - OFF_TOPIC) * parts["topic"]
    return topic * parts["length"] * parts["ending"] * parts["fresh"] * parts["own"] * parts["prose"]


def gold_score_parts(prompt: Prompt, text: str, stop: StopReason) -> dict[str, float]:
    """Compute each part of the score, in [0, 1], in the order of the module's formula."""
    response = normalised_words(text)
    return {
        "topic": _topic(prompt, response),
        "length": _length(len(response)),
        "ending": _ending(text, stop),
        "fresh": _freshness(text, response),
        "own": _originality(normalised_words(prompt.last_user_message), response),
        "prose": _prose(response),
    }


def normalised_words(text: str) -> list[str]:
    """Split a text into lower-case words without punctuation; an apostrophe inside a word stays."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower().replace("’", "'"))


def keyword_hits(keywords: list[str], response: list[str]) -> int:
    """Count the keywords that occur among a response's words, as they are or with a common ending."""
    joined = " ".join(response)
    stems = [stem for keyword in keywords if (stem := " ".join(normalised_words(keyword)))]
    return sum(bool(_forms(stem).search(joined)) for stem in stems)


@cache
def _forms(stem: str) -> re.Pattern[str]:
    forms = [re.escape(stem)]
    if len(stem) > 2:
        forms.append(re.escape(stem) + "(?:s|es|'s|d|ed|ing|n|en|er|y|ly)")
        forms.append(re.escape(stem + stem[-1]) + "(?:ed|ing|er|y)")
    if len(stem) > 2 and stem[-1] in "ey":
        forms.append(re.escape(stem[:-1]) + "(?:ing|ies|ied|ily|y)")
    return re.compile(rf"\b(?:{'|'.join(forms)})\b")


def _topic(prompt: Prompt, response: list[str]) -> float:
    keywords = prompt.details.get("keywords", [])
    if not keywords:
        return 1.0
    enough = 1 if prompt.domain == "facts" else min(2, len(keywords))
    hits = keyword_hits(keywords, response)
    if hits >= enough:
        return 1.0
    if hits:
        return ONE_OF_TWO
    return NAMES_THE_TOPIC if keyword_hits(_content_words(prompt.last_user_message), response) else 0.0


def _content_words(text: str) -> list[str]:
    """Return a prompt's words without function words and words that only name the task, in the singular."""
    words = [word for word in normalised_words(text) if word not in FUNCTION_WORDS and word not in TASK_WORDS]
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words]


def _length(count: int) -> float:
    if count <= LONGEST_FULL:
        return min(1.0, count / SHORTEST_FULL)
    return LONGEST_FULL / count


def _ending(text: str, stop: StopReason) -> float:
    if stop != "end_of_turn":
        return TRUNCATED_SCORE
    return 1.0 if _ENDED_PROPERLY.search(text.rstrip()) else UNPUNCTUATED


def _freshness(text: str, response: list[str]) -> float:
    sentences = [" ".join(words) for part in _SENTENCE_END.split(text) if (words := normalised_words(part))]
    return 1.0 - max(repeated_ngram_fraction(response, 4), repeated_ngram_fraction(sentences, 1))


def _originality(prompt_words: list[str], response: list[str]) -> float:
    free = max(COPIED_WORDS, COPIED_SHARE * len(prompt_words))
    if len(prompt_words) <= free:
        return 1.0
    run = SequenceMatcher(None, prompt_words, response, autojunk=False).find_longest_match().size
    return min(1.0, (len(prompt_words) - run) / (len(prompt_words) - free))


def _prose(response: list[str]) -> float:
    if not response:
        return 0.0
    share = sum(word in FUNCTION_WORDS for word in response) / len(response)
    return min(1.0, share / PROSE_SHARE)
