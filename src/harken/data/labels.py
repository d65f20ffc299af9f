"""Interpret the labels of a file of comparisons. One scale applies to the whole file.

    zero_first          0: the first response is better, 1: the second; between them: the probability of the second
    one_first           1: the first, 0: the second
    probability_first   the probability that the first is better
    one_two             1: the first, 2: the second, 0: a tie
    negative_first      below 0: the first, above 0: the second, 0: a tie; the size is the strength
    positive_first      above 0: the first, below 0: the second, 0: a tie
    low_first           a scale such as 1 … 5: below its middle the first, above it the second
    high_first          the reverse of low_first

Words need no scale: the name of a side ("A", "response_b", "model_a", "first") or of a tie. Where the columns of the
responses end in digits, A is the first and B the second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harken.data import fields
from harken.data.fields import RowError
from harken.errors import UserError

ResponseColumns = tuple[str, str]
"""The two columns that hold the responses."""
Judgement = tuple[float, float]
"""A score (below 0: the first is better, above 0: the second, 0: a tie) and the probability that it is correct."""

TIES = frozenset({"tie", "tied", "equal", "draw", "same", "neither", "both good", "both bad", "bothbad"})
MAX_LISTED_LABELS = 8


def _from_probability(second: float) -> Judgement:
    """Convert the probability that the second response is better."""
    if second == 0.5:
        return 0.0, 1.0
    return (1.0 if second > 0.5 else -1.0), max(second, 1.0 - second)


@dataclass(frozen=True)
class LabelScale:
    """Define how the labels of one file are read."""

    name: str
    low: float = 0.0
    high: float = 0.0
    """The least and the greatest label of the file, for scales that have a middle."""

    def read(self, label: float) -> Judgement | None:
        """Return the judgement of a number; None when it is not on the scale."""
        return SCALES[self.name](self, label)


def _in_unit(label: float) -> bool:
    return 0.0 <= label <= 1.0


SCALES: Mapping[str, Callable[[LabelScale, float], Judgement | None]] = {
    "zero_first": lambda _, label: _from_probability(label) if _in_unit(label) else None,
    "one_first": lambda _, label: _from_probability(1.0 - label) if _in_unit(label) else None,
    "probability_first": lambda _, label: _from_probability(1.0 - label) if _in_unit(label) else None,
    "one_two": lambda _, label: {0.0: (0.0, 1.0), 1.0: (-1.0, 1.0), 2.0: (1.0, 1.0)}.get(label),
    "negative_first": lambda _, label: (label, 1.0),
    "positive_first": lambda _, label: (-label + 0.0, 1.0),
    "low_first": lambda scale, label: (label - (scale.low + scale.high) / 2, 1.0),
    "high_first": lambda scale, label: ((scale.low + scale.high) / 2 - label, 1.0),
}


class LabelReader:
    """Read the labels of one column of a file with one scale.

    `scale` is a name from `SCALES`, or `auto`. Raises UserError, with the values and their counts, when no scale fits
    them or more than one does.
    """

    def __init__(
        self, values: Sequence[object], sides: ResponseColumns, column: str, scale: str, where: str
    ) -> None:
        self.sides, self.column = sides, column
        words: Counter[str] = Counter()
        numbers: Counter[float] = Counter()
        for value in values:
            if value is None:
                continue
            number = fields.to_float(value)
            if isinstance(value, bool):
                words[str(value).lower()] += 1
            elif number is None or (isinstance(value, str) and parse_word_label(value, sides) is not None):
                words[value.strip() if isinstance(value, str) else type(value).__name__] += 1
            else:
                numbers[number] += 1
        self.scale: LabelScale | None = None
        self.note = ""
        if numbers:
            scale_name = scale if scale != "auto" else self._infer_scale(numbers, words, where)
            self.scale = LabelScale(scale_name, min(numbers), max(numbers))
            strange = [number for number in numbers if self.scale.read(number) is None]
            if strange:
                raise self._error(f"{scale_name} has no {strange[0]:g}", numbers, words, where)
            self.note = f"{column} is read as {scale_name}: {_scale_meaning(scale_name, sides)}"
        elif words and not any(parse_word_label(word, sides) is not None for word in words):
            raise self._error("they name neither side nor a tie", numbers, words, where)

    def verdict(self, value: object) -> Judgement:
        """Return the judgement of one label. Raises RowError for a word that names neither side nor a tie."""
        if isinstance(value, str) and (judgement := parse_word_label(value, self.sides)) is not None:
            return judgement
        number = fields.to_float(value)
        if number is None or self.scale is None or (reading := self.scale.read(number)) is None:
            raise RowError("unknown_label", self.column)
        return reading

    def _infer_scale(self, numbers: Counter[float], words: Counter[str], where: str) -> str:
        kinds = set(numbers)
        end = self.sides[0][-1].lower()
        if self.column == "preference_strength" or (min(kinds) < 0 < max(kinds)):
            return "negative_first"
        if end == "0" and kinds <= {0.0, 1.0}:
            return "zero_first"
        if end == "1" and all(kind.is_integer() for kind in kinds):
            if kinds == {0.0, 1.0}:
                return "zero_first"
            if 2.0 in kinds and kinds <= {0.0, 1.0, 2.0}:
                return "one_two"
        if end == "a" and all(map(_in_unit, kinds)):
            return "probability_first"
        raise self._error("they fit no scale, or more than one", numbers, words, where)

    def _error(self, problem: str, numbers: Counter[float], words: Counter[str], where: str) -> UserError:
        counts = [
            *((f"{value:g}", n) for value, n in sorted(numbers.items())),
            *((repr(word), n) for word, n in words.most_common()),
        ]
        listed = ", ".join(f"{value} ({n:,})" for value, n in counts[:MAX_LISTED_LABELS])
        suffix = f" and {len(counts) - MAX_LISTED_LABELS} more" if len(counts) > MAX_LISTED_LABELS else ""
        options = ", ".join(SCALES)
        fix = (
            f"set data.label_scale to what they mean: {options} (docs/input.md)"
            if numbers
            else f"write {self.sides[0]}, {self.sides[1]} or tie, or numbers with data.label_scale"
        )
        return UserError(
            f"the labels of {self.column} cannot be read: {problem}. Values and rows: {listed}{suffix}",
            where=where,
            fix=fix,
        )


def parse_word_label(value: str, sides: ResponseColumns) -> Judgement | None:
    """Return the judgement of a word that names one of two sides or a tie; None for any other word."""
    word = " ".join(value.strip().strip("[]()").lower().split())
    if word in TIES or word.startswith(("tie ", "tie(")):
        return 0.0, 1.0
    numbered = sides[0][:-1] == sides[1][:-1]  # the last letters of chosen and rejected name nothing
    for score, side, place, letter in ((-1.0, sides[0], "first", "a"), (1.0, sides[1], "second", "b")):
        end = side[-1].lower()
        ends = {end} if numbered and end.isalpha() else {end, letter} if numbered else {letter}
        names = {f"{noun}{mark}{name}" for noun in ("model", "assistant", "option", "response") for mark in "_ "
                 for name in ends}  # fmt: skip
        if word in {side.lower(), place, *names} or (word in ends and word.isalpha()):
            return score, 1.0
    return None


def _scale_meaning(scale: str, sides: ResponseColumns) -> str:
    first, second = sides
    return {
        "zero_first": f"0 means {first} is better, 1 {second}",
        "one_first": f"1 means {first} is better, 0 {second}",
        "probability_first": f"the probability that {first} is better",
        "one_two": f"1 means {first} is better, 2 {second}, 0 a tie",
        "negative_first": f"below 0 {first} is better, above 0 {second}",
        "positive_first": f"above 0 {first} is better, below 0 {second}",
        "low_first": f"low values mean {first} is better",
        "high_first": f"high values mean {first} is better",
    }[scale]
