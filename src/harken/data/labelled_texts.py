"""Turn rows of a text and a label (reviews with a sentiment, as IMDB's) into prompts, demonstrations and pairs.

A text is split after its first tokens or words (`prompt_rule`): they are the prompt, the rest is the response. Tokens
are those of a named model, the policy, so that a reward model with another tokenizer reads the same prompts.

Pairs join one text of the positive label and one of the negative. Both lists are shuffled with the seed and joined in
that order, each text in one pair at most. The prompt is the beginning of the positive text in the first pair, of the
negative text in the second, and so on in turn: so it is the beginning of the winner in one half of the pairs and of the
loser in the other, and whether a response continues its prompt carries no information about which is better.

Which label is positive is decided once from all labels of a file, never row by row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harken.data import fields
from harken.data.fields import Row, RowError
from harken.data.formats import LocatedRow
from harken.data.prompt_rule import PromptRule
from harken.errors import UserError
from harken.run.counted import counted
from harken.seeds import permutation

LAYOUT = "text_label"
POSITIVE = frozenset({"pos", "positive", "good", "thumbs up", "like", "liked", "honest", "desirable"})
NEGATIVE = frozenset(
    {
        "neg",
        "negative",
        "bad",
        "thumbs down",
        "dislike",
        "disliked",
        "faulty",
        "sycophantic",
        "dishonest",
        "undesirable",
    }
)
MAX_LISTED_KEYS = 8


@dataclass(frozen=True)
class Meaning:
    """The positive and the negative label of a file, as `label_key` writes them."""

    positive: str
    negative: str
    why: str


def is_labelled_text(row: Row) -> bool:
    """Return whether a row is a text with a label: a name, a number, or true and false."""
    return isinstance(row.get("text"), str) and isinstance(row.get("label"), str | int | float)


def label_key(value: object) -> str | None:
    """Return a label as text that is equal for equal labels: 1, 1.0 and "1" are one; None for no label."""
    if isinstance(value, bool):
        return str(value).lower()
    number = fields.to_float(value)
    if number is not None:
        return f"{number:g}"
    return " ".join(value.split()).lower() or None if isinstance(value, str) else None


def judge_labels(
    labels: Sequence[object],
    names: Sequence[str],
    positive: str | int | bool | None,
    where: str,
    *,
    numbers_are_clear: bool = True,
) -> Meaning:
    """Decide which label is the positive one, from all labels of a file.

    `names` are the names that the data set declares for the labels 0, 1, … (`ClassLabel`), if it does; `positive` is
    `data.positive_label`. Without either, words such as pos and neg are understood; true and false, 1 with 0 or −1 only
    where `numbers_are_clear`.
    Raises UserError, with the labels and their counts, when there are not two, or their meaning is unclear.
    """
    counts = Counter(key for value in labels if (key := label_key(value)) is not None)
    names_by_key = {str(index): label_key(name) or "" for index, name in enumerate(names)}
    listed = ", ".join(
        f"{key}{f' ({names_by_key[key]})' if key in names_by_key else ''}: {counted(count, 'row')}"
        for key, count in counts.most_common(MAX_LISTED_KEYS)
    )
    if not counts:
        raise UserError(
            "no row has a label",
            where=where,
            fix="name the column with the labels as data.columns: {label: NAME}",
        )
    if len(counts) != 2:
        raise UserError(
            f"a positive and a negative label are needed, and the column label has {len(counts)} ({listed})",
            where=where,
            fix="leave two labels in the file, or name a split in which every text has one of two labels",
        )
    if positive is not None:
        positive_key = label_key(positive)
        chosen = [key for key in counts if positive_key in (key, names_by_key.get(key))]
        if len(chosen) != 1:
            raise UserError(
                f"no label is {positive!r}; there are {listed}",
                where="data.positive_label",
                fix="name one of these labels",
            )
        return _meaning(counts, chosen[0], "data.positive_label")
    for reason, texts in (("its name", names_by_key), ("its word", {key: key for key in counts})):
        good = [key for key in counts if texts.get(key) in POSITIVE]
        bad = [key for key in counts if texts.get(key) in NEGATIVE]
        if len(good) == len(bad) == 1:
            return _meaning(counts, good[0], reason)
    if numbers_are_clear and not names and set(counts) in ({"0", "1"}, {"-1", "1"}, {"true", "false"}):
        return _meaning(counts, "true" if "true" in counts else "1", "1 with 0 or -1, or true")
    raise UserError(
        f"it is unclear which label is the positive one: {listed}",
        where=where,
        fix="set data.positive_label to the label whose texts are the better ones",
    )


def to_prompts(rows: Sequence[LocatedRow], rule: PromptRule) -> Iterator[LocatedRow]:
    """Yield rows of prompts: the beginning of every text that has more."""
    return _map(rows, lambda row: {**_rest(row), "prompt": _user(rule.split(_text(row))[0])})


def to_demonstrations(
    rows: Sequence[LocatedRow], rule: PromptRule, *, keep_label: bool = False
) -> Iterator[LocatedRow]:
    """Yield rows of demonstrations, of either label: the beginning of a text and its rest."""

    def convert(row: Row) -> Row:
        prompt, response = rule.split(_text(row))
        label = {"label": row.get("label")} if keep_label else {}
        return {**_rest(row), **label, "prompt": _user(prompt), "response": response}

    return _map(rows, convert)


def to_pairs(
    rows: Sequence[LocatedRow], rule: PromptRule, meaning: Meaning, seed: int
) -> tuple[list[LocatedRow], str]:
    """Return rows of pairs by the module's rule, rows that cannot be used as a `RowError`, and the counts in words."""
    sides: dict[str, list[tuple[str, Row, str, str]]] = {meaning.positive: [], meaning.negative: []}
    pairs: list[LocatedRow] = []
    for where, row in rows:
        try:
            if not isinstance(row, dict):
                raise RowError("not_an_object")
            key = label_key(row.get("label"))
            if key not in sides:
                raise RowError("unlabelled", "label")
            sides[key].append((where, row, *rule.split(_text(row))))
        except RowError as error:
            pairs.append((where, error))
    good, bad = (
        [texts[i] for i in permutation(len(texts), seed, "labelled texts", name)]
        for name, texts in zip(("positive", "negative"), sides.values(), strict=True)
    )
    for index, (winner, loser) in enumerate(zip(good, bad, strict=False)):
        prompt = (winner if index % 2 == 0 else loser)[2]
        pair = {"prompt": _user(prompt), "chosen": winner[3], "rejected": loser[3]}
        shared = {key: value for key, value in _rest(winner[1]).items() if loser[1].get(key) == value}
        pairs.append((f"{winner[0]} and {loser[0]}", shared | pair))
    count = min(len(good), len(bad))
    pairs += [(where, RowError("no_partner")) for where, *_ in (*good[count:], *bad[count:])]
    note = (
        f"label {meaning.positive} is the positive one (by {meaning.why}): {len(good):,} positive and {len(bad):,} "
        f"negative texts make {count:,} pairs of a positive over a negative text; their first {rule.description} are "
        "prompts"
    )
    return pairs, note


def _meaning(counts: Mapping[str, int], positive: str, reason: str) -> Meaning:
    (negative,) = (key for key in counts if key != positive)
    return Meaning(positive, negative, reason)


def _text(row: Row) -> str:
    return fields.first_text(row, "text")


def _user(text: str) -> list[dict[str, str]]:
    """Return a text as messages: plain text that looks like a dialogue would be split into turns."""
    return [{"role": "user", "content": text}]


def _rest(row: Row) -> dict[str, object]:
    """Return the other columns of a row."""
    return {key: value for key, value in row.items() if key not in ("text", "label")}


def _map(rows: Sequence[LocatedRow], convert: Callable[[Row], Row]) -> Iterator[LocatedRow]:
    for where, row in rows:
        try:
            yield where, convert(row) if isinstance(row, dict) else row
        except RowError as error:
            yield where, error
