"""Layouts with two or more answers and a judgement between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from harken.data import conversations, fields, preferences, transcripts
from harken.data.conversations import Conversation
from harken.data.fields import Drop, Row
from harken.data.labels import Labels, word_verdict
from harken.data.preferences import Comparison

Comparisons = tuple[Conversation, list[Comparison]]

# The aliases the reference run of S0 accepts, in its order.
_SCORES = ("preference_score", "overall_preference_score", "overall_preference", "preference", "score")
_FIRSTS = ("response1", "response_1", "answer1", "answer_1")
_SECONDS = ("response2", "response_2", "answer2", "answer_2")
_CONTEXTS = ("context", "messages", "conversation", "conversations", "prompt")

_NUMBERED = (
    *((f"{n}{s}1", f"{n}{s}2") for n in ("output", "response", "answer", "completion") for s in ("_", "")),
    *((f"{n}_0", f"{n}_1") for n in ("response", "answer", "output", "completion")),
)
_LETTERED = (
    *(
        (f"{n}_{a}", f"{n}_{b}")
        for n in ("response", "answer", "output", "completion")
        for a, b in ("ab", "AB")
    ),
    ("a", "b"),
    ("A", "B"),
)
_PROMPTS = ("prompt", "instruction", "question", "input", "query", "context", "conversations", "conversation")
_LABELS = (
    *("label", "preference", "winner", "choice", "preferred", "better_response_id", "preference_strength"),
    *("preferred_response", "better", "overall_preference"),
)
_ANNOTATOR = re.compile(r"annotator_?\d+")
_VOTES = {0.0: 0.0, 1.0: -1.0, 2.0: 1.0}
"""What a vote in a column of its own stands for (PandaLM): a tie, the first, the second."""


def is_helpsteer3(row: Row) -> bool:
    """Two answers and a signed score. `preference` and `score` alone could mean other scales: they count only
    beside a context of messages.
    """
    if not (fields.present(row, _FIRSTS) and fields.present(row, _SECONDS)):
        return False
    if "individual_preference" in row or fields.present(row, _SCORES[:3]):
        return True
    return isinstance(row.get("context"), list) and any(
        fields.number(row.get(n)) is not None for n in _SCORES
    )


def helpsteer3_prompt(row: Row) -> Conversation:
    """The context, in which assistant turns at the end are still to be cut."""
    name = fields.required(row, _CONTEXTS)
    return conversations.conversation(row[name], name)


def helpsteer3(row: Row) -> Comparisons:
    """Score below 0: response1 is better, above 0: response2, 0: tie; without a score, the raters' mean."""
    raters = tuple(_individual(row.get("individual_preference")))
    score = fields.number(row.get(fields.present(row, _SCORES) or ""))
    if score is None:
        if not raters:
            raise Drop("unscored")
        score = preferences.mean_score(raters)
    answers = fields.text(row, *_FIRSTS), fields.text(row, *_SECONDS)
    return helpsteer3_prompt(row), [Comparison(*answers, score, raters)]


def _individual(value: object) -> list[float]:
    """Single scores; an entry without a number is no judgement."""
    entries = value if isinstance(value, list) else []
    found = [fields.number(entry.get("score") if isinstance(entry, Mapping) else entry) for entry in entries]
    return [score for score in found if score is not None]


def is_prompted(row: Row) -> bool:
    """Whether a row has a prompt of its own beside chosen and rejected."""
    if "chosen" not in row or "rejected" not in row:
        return False
    return fields.present(row, _PROMPTS) is not None


def prompted_prompt(row: Row) -> Conversation:
    """The prompt, or instruction (+ input), question, …"""
    if row.get("prompt") is not None:
        return conversations.conversation(fields.value(row, "prompt"), "prompt")
    return conversations.prompt_of(row)


def prompted(row: Row) -> Comparisons:
    """chosen and rejected answer `prompt`; either may repeat it before its answer."""
    prompt = prompted_prompt(row)
    open_prompt, _ = conversations.open_conversation(prompt)
    chosen, rejected = (_answer_to(open_prompt, row, name) for name in ("chosen", "rejected"))
    return prompt, [Comparison(chosen, rejected, -_strength(row))]


def _answer_to(prompt: Conversation, row: Row, field: str) -> str:
    value = fields.value(row, field)
    if isinstance(value, Mapping):  # one turn, not in a list
        value = [value]
    if isinstance(value, list):
        before, answer = conversations.last_answer(fields.messages(value, field), field)
    elif transcripts.is_transcript(text := fields.text(row, field)):
        before, answer = transcripts.split_answer(text, field)
    else:
        return text
    if before and not conversations.same(before, prompt):
        raise Drop("prompts_differ", field)
    return answer


def whole_prompt(row: Row) -> Conversation:
    """The conversation before the last answer of `chosen`."""
    return _whole_side(row, "chosen")[0]


def whole(row: Row) -> Comparisons:
    """Two whole dialogues that part at their last answer."""
    (left, chosen), (right, rejected) = _whole_side(row, "chosen"), _whole_side(row, "rejected")
    if not conversations.same(left, right):
        raise Drop("prompts_differ")
    return left, [Comparison(chosen, rejected, -_strength(row))]


def _whole_side(row: Row, field: str) -> tuple[Conversation, str]:
    if isinstance(row.get(field), list):
        return conversations.last_answer(fields.messages(row[field], field), field)
    return transcripts.split_answer(fields.text(row, field), field)


def _strength(row: Row) -> float:
    """How much better `chosen` is: 1 unless the row says; 0 is a tie."""
    if row.get("preference_strength") is None:
        return 1.0
    strength = fields.number(row["preference_strength"])
    if strength is None or strength < 0:
        raise Drop("wrong_type", "preference_strength")
    return strength


def _sides(row: Row) -> tuple[str, str] | None:
    return next((pair for pair in (*_NUMBERED, *_LETTERED) if pair[0] in row and pair[1] in row), None)


def is_labelled(row: Row) -> bool:
    """Two answers and a label or votes."""
    return _sides(row) is not None and (fields.present(row, _LABELS) is not None or bool(_annotators(row)))


def labelled_prompt(row: Row) -> Conversation:
    """prompt, input, instruction (+ input), …"""
    return conversations.prompt_of(row)


def labelled(rows: Sequence[Row], scale: str, where: str) -> Callable[[Row], Comparisons]:
    """Return the reader of a file of labelled rows: the label decides, else the majority of the votes.

    What the labels mean is found once, from all of them (`data.labels`). Raises UserError when nothing fits them.
    """
    first = next((row for row in rows if _sides(row) is not None), None)
    sides = _sides(first) if first is not None else None
    column = next((name for name in _LABELS if any(row.get(name) is not None for row in rows)), None)
    labels = None
    if sides is not None and column is not None:
        labels = Labels([row.get(column) for row in rows], sides, column, scale, where)

    def read(row: Row) -> Comparisons:
        here = _sides(row)
        if here is None:
            raise Drop("missing_field", "response_a")
        raters = tuple(_vote(row[name], name, here) for name in _annotators(row))
        value = row.get(column) if column is not None else None
        if value is not None and labels is not None:
            score, certainty = labels.verdict(value)
        elif raters:
            score, certainty = preferences.majority(raters), 1.0
        else:
            raise Drop("unscored")
        answers = fields.text(row, here[0]), fields.text(row, here[1])
        return labelled_prompt(row), [Comparison(*answers, score, raters, certainty)]

    read.note = labels.note if labels is not None else ""  # type: ignore[attr-defined]
    return read


def _annotators(row: Row) -> list[str]:
    return sorted(name for name in row if _ANNOTATOR.fullmatch(str(name)) and row[name] is not None)


def _vote(value: object, field: str, sides: tuple[str, str]) -> float:
    if isinstance(value, str) and (said := word_verdict(value, sides)) is not None:
        return said[0]
    score = _VOTES.get(fields.number(value))  # type: ignore[arg-type]
    if score is None:
        raise Drop("unknown_label", field)
    return score


def ranking_prompt(row: Row) -> Conversation:
    """The prompt of a ranking."""
    return conversations.prompt_of(row)


def ranking(row: Row) -> Comparisons:
    """Every pair of the ranked answers."""
    answers, ranks = fields.value(row, "responses"), fields.value(row, "ranking")
    if not isinstance(answers, list) or len(answers) < 2:
        raise Drop("wrong_type", "responses")
    if not isinstance(ranks, list) or len(ranks) != len(answers):
        raise Drop("wrong_type", "ranking")
    numbers = [found for rank in ranks if (found := fields.number(rank)) is not None]
    if len(numbers) != len(ranks):
        raise Drop("wrong_type", "ranking")
    texts = [fields.checked(answer, "responses") for answer in answers]
    return ranking_prompt(row), preferences.ranked_pairs(texts, numbers)
