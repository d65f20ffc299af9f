"""Parse layouts with two or more responses and a judgement between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from harken.data import conversations, fields, preferences, provenance, transcripts
from harken.data.conversations import Conversation
from harken.data.fields import Row, RowError
from harken.data.labels import LabelReader, parse_word_label
from harken.data.preferences import Comparison
from harken.records import Voter

Comparisons = tuple[Conversation, list[Comparison]]

# The aliases that the reference run accepts, in its order.
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
CONTRADICTIONS_LEFT_OUT = "contradictions_left_out"
"""Column of exported votes: how many items are missing because their raters contradicted each other."""
_ANNOTATOR = re.compile(r"annotator_?\d+")
VOTES = {0.0: 0.0, 1.0: -1.0, 2.0: 1.0}
"""Scores of votes in annotator columns (PandaLM): 0 is a tie, 1 the first, 2 the second."""


def is_helpsteer3(row: Row) -> bool:
    """Return whether a row has two responses and a signed score.

    `preference` and `score` may use other scales: they count only in rows with a context of messages.
    """
    if not (fields.first_present(row, _FIRSTS) and fields.first_present(row, _SECONDS)):
        return False
    if "individual_preference" in row or fields.first_present(row, _SCORES[:3]):
        return True
    return isinstance(row.get("context"), list) and any(
        fields.to_float(row.get(n)) is not None for n in _SCORES
    )


def helpsteer3_prompt(row: Row) -> Conversation:
    """Parse the context, which may still end in assistant turns."""
    name = fields.require_any(row, _CONTEXTS)
    return conversations.parse_conversation(row[name], name)


def helpsteer3(row: Row) -> Comparisons:
    """Parse a comparison. Score below 0: response1 is better, above 0: response2, 0: tie; default: the raters' mean."""
    raters, voters = _individual(row.get("individual_preference"))
    score = fields.to_float(row.get(fields.first_present(row, _SCORES) or ""))
    if score is None:
        if not raters:
            raise RowError("unscored")
        score = preferences.mean_score(raters)
    responses = fields.first_text(row, *_FIRSTS), fields.first_text(row, *_SECONDS)
    return helpsteer3_prompt(row), [Comparison(*responses, score, raters, voters=voters)]


def _individual(value: object) -> tuple[tuple[float, ...], tuple[Voter, ...]]:
    """Return the raters' scores, without entries that have no number, and who gave them: () if no entry says."""
    entries = value if isinstance(value, list) else []
    scores: list[float] = []
    voters: list[Voter] = []
    for entry in entries:
        score = fields.to_float(entry.get("score") if isinstance(entry, Mapping) else entry)
        if score is not None:
            scores.append(score)
            voters.append(provenance.voter(entry, entry=True) if isinstance(entry, Mapping) else Voter())
    return tuple(scores), tuple(voters) if any(voter != Voter() for voter in voters) else ()


def _votes_for_chosen(row: Row) -> tuple[tuple[float, ...], tuple[Voter, ...]]:
    """Return the raters' scores of a pair, negative for `chosen`, as `harken review export` writes them, and who.

    Rows that were selected by the raters' agreement have none: their agreement would be too high.
    """
    if fields.to_float(row.get(CONTRADICTIONS_LEFT_OUT)):
        return (), ()
    return _individual(row.get("individual_preference"))


def _judged(chosen: str, rejected: str, row: Row) -> Comparison:
    raters, voters = _votes_for_chosen(row)
    return Comparison(chosen, rejected, -_strength(row), raters, _certainty(row), voters=voters)


def is_prompt_chosen_rejected(row: Row) -> bool:
    """Return whether a row has a prompt column as well as chosen and rejected."""
    if "chosen" not in row or "rejected" not in row:
        return False
    return fields.first_present(row, _PROMPTS) is not None


def prompt_chosen_rejected_prompt(row: Row) -> Conversation:
    """Parse the prompt, or instruction (+ input), question, …"""
    if row.get("prompt") is not None:
        return conversations.parse_conversation(fields.first_value(row, "prompt"), "prompt")
    return conversations.parse_prompt(row)


def prompt_chosen_rejected(row: Row) -> Comparisons:
    """Parse chosen and rejected responses to `prompt`; either may repeat the prompt before its response."""
    prompt = prompt_chosen_rejected_prompt(row)
    open_prompt, _ = conversations.drop_trailing_responses(prompt)
    chosen, rejected = (_response_to(open_prompt, row, name) for name in ("chosen", "rejected"))
    return prompt, [_judged(chosen, rejected, row)]


def _response_to(prompt: Conversation, row: Row, field: str) -> str:
    value = fields.first_value(row, field)
    if isinstance(value, Mapping):  # a single turn, not in a list
        value = [value]
    if isinstance(value, list):
        dialogue, response = conversations.split_last_response(fields.parse_messages(value, field), field)
    elif transcripts.is_transcript(text := fields.first_text(row, field)):
        dialogue, response = transcripts.split_transcript(text, field)
    else:
        return text
    if dialogue and not conversations.is_same_conversation(dialogue, prompt):
        raise RowError("prompts_differ", field)
    return response


def chosen_rejected_prompt(row: Row) -> Conversation:
    """Parse the conversation before the last response of `chosen`."""
    return _dialogue_side(row, "chosen")[0]


def chosen_rejected(row: Row) -> Comparisons:
    """Parse two whole dialogues that differ only in their last response."""
    (left, chosen), (right, rejected) = _dialogue_side(row, "chosen"), _dialogue_side(row, "rejected")
    if not conversations.is_same_conversation(left, right):
        raise RowError("prompts_differ")
    return left, [_judged(chosen, rejected, row)]


def _dialogue_side(row: Row, field: str) -> tuple[Conversation, str]:
    if isinstance(row.get(field), list):
        return conversations.split_last_response(fields.parse_messages(row[field], field), field)
    return transcripts.split_transcript(fields.first_text(row, field), field)


def _certainty(row: Row) -> float:
    """Return the probability that `chosen` is better, from `chosen_probability`: 1 by default, and never below 1/2."""
    if row.get("chosen_probability") is None:
        return 1.0
    certainty = fields.to_float(row["chosen_probability"])
    if certainty is None or not 0.5 <= certainty <= 1:
        raise RowError("wrong_type", "chosen_probability")
    return certainty


def _strength(row: Row) -> float:
    """Return how much better `chosen` is: 1 by default; 0 is a tie."""
    if row.get("preference_strength") is None:
        return 1.0
    strength = fields.to_float(row["preference_strength"])
    if strength is None or strength < 0:
        raise RowError("wrong_type", "preference_strength")
    return strength


def response_columns(row: Row) -> tuple[str, str] | None:
    """Return the names of a row's two columns of responses; None without them."""
    return next((pair for pair in (*_NUMBERED, *_LETTERED) if pair[0] in row and pair[1] in row), None)


def is_a_b_label(row: Row) -> bool:
    """Return whether a row has two responses and a label or votes."""
    return response_columns(row) is not None and (
        fields.first_present(row, _LABELS) is not None or bool(annotator_columns(row))
    )


def a_b_label_prompt(row: Row) -> Conversation:
    """Parse prompt, input, instruction (+ input), …"""
    return conversations.parse_prompt(row)


def a_b_label_reader(rows: Sequence[Row], scale: str, where: str) -> Callable[[Row], Comparisons]:
    """Return the parser for a file of labelled rows: the label decides, else the majority vote.

    The label scale is inferred from all labels of the file (`data.labels`). Raises UserError when no scale fits.
    """
    first = next((row for row in rows if response_columns(row) is not None), None)
    sides = response_columns(first) if first is not None else None
    column = next((name for name in _LABELS if any(row.get(name) is not None for row in rows)), None)
    labels = None
    if sides is not None and column is not None:
        labels = LabelReader([row.get(column) for row in rows], sides, column, scale, where)

    def read(row: Row) -> Comparisons:
        columns = response_columns(row)
        if columns is None:
            raise RowError("missing_field", "response_a")
        names = annotator_columns(row)
        raters = tuple(_vote(row[name], name, columns) for name in names)
        value = row.get(column) if column is not None else None
        if value is not None and labels is not None:
            score, certainty = labels.verdict(value)
        elif raters:
            score, certainty = preferences.majority_vote(raters), 1.0
        else:
            raise RowError("unscored")
        responses = fields.first_text(row, columns[0]), fields.first_text(row, columns[1])
        return a_b_label_prompt(row), [
            Comparison(*responses, score, raters, certainty, voters=tuple(map(Voter, names)))
        ]

    read.note = labels.note if labels is not None else ""  # type: ignore[attr-defined]
    return read


def annotator_columns(row: Row) -> list[str]:
    """Return the columns annotator1, annotator2, … of a row that have a vote."""
    return sorted(name for name in row if _ANNOTATOR.fullmatch(str(name)) and row[name] is not None)


def _vote(value: object, field: str, sides: tuple[str, str]) -> float:
    if isinstance(value, str) and (judgement := parse_word_label(value, sides)) is not None:
        return judgement[0]
    score = VOTES.get(fields.to_float(value))  # type: ignore[arg-type]
    if score is None:
        raise RowError("unknown_label", field)
    return score


def ranking_prompt(row: Row) -> Conversation:
    """Parse the prompt of a ranking."""
    return conversations.parse_prompt(row)


def ranking(row: Row) -> Comparisons:
    """Compare every pair of the ranked responses."""
    responses, ranks = fields.first_value(row, "responses"), fields.first_value(row, "ranking")
    if not isinstance(responses, list) or len(responses) < 2:
        raise RowError("wrong_type", "responses")
    if not isinstance(ranks, list) or len(ranks) != len(responses):
        raise RowError("wrong_type", "ranking")
    numbers = [rank_value for rank in ranks if (rank_value := fields.to_float(rank)) is not None]
    if len(numbers) != len(ranks):
        raise RowError("wrong_type", "ranking")
    texts = [fields.require_text(response, "responses") for response in responses]
    return ranking_prompt(row), preferences.ranked_pairs(texts, numbers)
