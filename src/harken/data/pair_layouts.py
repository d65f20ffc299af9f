"""Layouts with two or more answers and a judgement between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from harken.data import conversations, fields, preferences, transcripts
from harken.data.conversations import Conversation
from harken.data.fields import Row, RowError
from harken.data.labels import LabelReader, parse_word_label
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
    if not (fields.first_present(row, _FIRSTS) and fields.first_present(row, _SECONDS)):
        return False
    if "individual_preference" in row or fields.first_present(row, _SCORES[:3]):
        return True
    return isinstance(row.get("context"), list) and any(
        fields.to_float(row.get(n)) is not None for n in _SCORES
    )


def helpsteer3_prompt(row: Row) -> Conversation:
    """The context, in which assistant turns at the end are still to be cut."""
    name = fields.require_any(row, _CONTEXTS)
    return conversations.parse_conversation(row[name], name)


def helpsteer3(row: Row) -> Comparisons:
    """Score below 0: response1 is better, above 0: response2, 0: tie; without a score, the raters' mean."""
    raters = tuple(_individual(row.get("individual_preference")))
    score = fields.to_float(row.get(fields.first_present(row, _SCORES) or ""))
    if score is None:
        if not raters:
            raise RowError("unscored")
        score = preferences.mean_score(raters)
    answers = fields.text(row, *_FIRSTS), fields.text(row, *_SECONDS)
    return helpsteer3_prompt(row), [Comparison(*answers, score, raters)]


def _individual(value: object) -> list[float]:
    """Single scores; an entry without a number is no judgement."""
    entries = value if isinstance(value, list) else []
    found = [
        fields.to_float(entry.get("score") if isinstance(entry, Mapping) else entry) for entry in entries
    ]
    return [score for score in found if score is not None]


def is_prompt_chosen_rejected(row: Row) -> bool:
    """Whether a row has a prompt of its own beside chosen and rejected."""
    if "chosen" not in row or "rejected" not in row:
        return False
    return fields.first_present(row, _PROMPTS) is not None


def prompt_chosen_rejected_prompt(row: Row) -> Conversation:
    """The prompt, or instruction (+ input), question, …"""
    if row.get("prompt") is not None:
        return conversations.parse_conversation(fields.first_value(row, "prompt"), "prompt")
    return conversations.parse_prompt(row)


def prompt_chosen_rejected(row: Row) -> Comparisons:
    """chosen and rejected answer `prompt`; either may repeat it before its answer."""
    prompt = prompt_chosen_rejected_prompt(row)
    open_prompt, _ = conversations.drop_trailing_responses(prompt)
    chosen, rejected = (_response_to(open_prompt, row, name) for name in ("chosen", "rejected"))
    return prompt, [Comparison(chosen, rejected, -_strength(row))]


def _response_to(prompt: Conversation, row: Row, field: str) -> str:
    value = fields.first_value(row, field)
    if isinstance(value, Mapping):  # one turn, not in a list
        value = [value]
    if isinstance(value, list):
        before, answer = conversations.split_last_response(fields.parse_messages(value, field), field)
    elif transcripts.is_transcript(text := fields.text(row, field)):
        before, answer = transcripts.split_last_response(text, field)
    else:
        return text
    if before and not conversations.is_same_conversation(before, prompt):
        raise RowError("prompts_differ", field)
    return answer


def chosen_rejected_prompt(row: Row) -> Conversation:
    """The conversation before the last answer of `chosen`."""
    return _dialogue_side(row, "chosen")[0]


def chosen_rejected(row: Row) -> Comparisons:
    """Two whole dialogues that part at their last answer."""
    (left, chosen), (right, rejected) = _dialogue_side(row, "chosen"), _dialogue_side(row, "rejected")
    if not conversations.is_same_conversation(left, right):
        raise RowError("prompts_differ")
    return left, [Comparison(chosen, rejected, -_strength(row))]


def _dialogue_side(row: Row, field: str) -> tuple[Conversation, str]:
    if isinstance(row.get(field), list):
        return conversations.split_last_response(fields.parse_messages(row[field], field), field)
    return transcripts.split_last_response(fields.text(row, field), field)


def _strength(row: Row) -> float:
    """How much better `chosen` is: 1 unless the row says; 0 is a tie."""
    if row.get("preference_strength") is None:
        return 1.0
    strength = fields.to_float(row["preference_strength"])
    if strength is None or strength < 0:
        raise RowError("wrong_type", "preference_strength")
    return strength


def _response_columns(row: Row) -> tuple[str, str] | None:
    return next((pair for pair in (*_NUMBERED, *_LETTERED) if pair[0] in row and pair[1] in row), None)


def is_a_b_label(row: Row) -> bool:
    """Two answers and a label or votes."""
    return _response_columns(row) is not None and (
        fields.first_present(row, _LABELS) is not None or bool(_annotators(row))
    )


def a_b_label_prompt(row: Row) -> Conversation:
    """prompt, input, instruction (+ input), …"""
    return conversations.parse_prompt(row)


def a_b_label_reader(rows: Sequence[Row], scale: str, where: str) -> Callable[[Row], Comparisons]:
    """Return the reader of a file of labelled rows: the label decides, else the majority_vote of the votes.

    What the labels mean is found once, from all of them (`data.labels`). Raises UserError when nothing fits them.
    """
    first = next((row for row in rows if _response_columns(row) is not None), None)
    sides = _response_columns(first) if first is not None else None
    column = next((name for name in _LABELS if any(row.get(name) is not None for row in rows)), None)
    labels = None
    if sides is not None and column is not None:
        labels = LabelReader([row.get(column) for row in rows], sides, column, scale, where)

    def read(row: Row) -> Comparisons:
        here = _response_columns(row)
        if here is None:
            raise RowError("missing_field", "response_a")
        raters = tuple(_vote(row[name], name, here) for name in _annotators(row))
        value = row.get(column) if column is not None else None
        if value is not None and labels is not None:
            score, certainty = labels.verdict(value)
        elif raters:
            score, certainty = preferences.majority_vote(raters), 1.0
        else:
            raise RowError("unscored")
        answers = fields.text(row, here[0]), fields.text(row, here[1])
        return a_b_label_prompt(row), [Comparison(*answers, score, raters, certainty)]

    read.note = labels.note if labels is not None else ""  # type: ignore[attr-defined]
    return read


def _annotators(row: Row) -> list[str]:
    return sorted(name for name in row if _ANNOTATOR.fullmatch(str(name)) and row[name] is not None)


def _vote(value: object, field: str, sides: tuple[str, str]) -> float:
    if isinstance(value, str) and (said := parse_word_label(value, sides)) is not None:
        return said[0]
    score = _VOTES.get(fields.to_float(value))  # type: ignore[arg-type]
    if score is None:
        raise RowError("unknown_label", field)
    return score


def ranking_prompt(row: Row) -> Conversation:
    """The prompt of a ranking."""
    return conversations.parse_prompt(row)


def ranking(row: Row) -> Comparisons:
    """Every pair of the ranked answers."""
    answers, ranks = fields.first_value(row, "responses"), fields.first_value(row, "ranking")
    if not isinstance(answers, list) or len(answers) < 2:
        raise RowError("wrong_type", "responses")
    if not isinstance(ranks, list) or len(ranks) != len(answers):
        raise RowError("wrong_type", "ranking")
    numbers = [found for rank in ranks if (found := fields.to_float(rank)) is not None]
    if len(numbers) != len(ranks):
        raise RowError("wrong_type", "ranking")
    texts = [fields.require_text(answer, "responses") for answer in answers]
    return ranking_prompt(row), preferences.ranked_pairs(texts, numbers)
