"""Find gold items: pairs whose better side is known, so that a rater's attention can be measured. No torch.

Gold is never taken from the items that are compared: leaving out the prompts where one policy failed would change the
comparison. Where every prompt was drawn, gold is made: a clean text is better than the same text whose last sentence is
repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from harken.card.edits import repeat_last_sentence
from harken.config.review import ReviewConfig
from harken.evaluation.audit import BROKEN, audit_response, flags
from harken.review.items import CHOSEN, REJECTED, ReviewItem, read_pairs
from harken.seeds import generator, permutation

CLEAR_FAILURES = frozenset(
    ["repetition", "character_repetition", "loop", "repeated_items", "empty", "template_leakage", "mojibake"]
)
"""Kinds of failure that make a response worse than a clean one to the same prompt."""
GOLD_REPEATS = 6
"""Copies of the last sentence in gold that is made."""
MAX_AUDITED = 400
"""Pairs that are audited in search of gold."""
FROM_FILE, FROM_AUDIT, FROM_COPY = "file", "audit", "repeated last sentence"


def find_gold(
    config: ReviewConfig, study_items: Sequence[ReviewItem], other_items: Sequence[ReviewItem], count: int
) -> list[ReviewItem]:
    """Return at most `count` gold items: from `gold_path`, else from the audit, else made of clean texts.

    Raises UserError if `gold_path` cannot be read.
    """
    if not count:
        return []
    if config.gold_path is not None:
        gold_items = _from_file(config.gold_path, config.seed, count)
    else:
        shuffled = _shuffled(other_items, config.seed)
        audited = (gold for item in shuffled[:MAX_AUDITED] if (gold := _from_audit(item)))
        gold_items = list(islice(audited, count))
        made = _made([*shuffled, *_shuffled(study_items, config.seed)])
        used_prompts = {item.prompt_id for item in gold_items}
        while len(gold_items) < count and (item := next(made, None)) is not None:
            if item.prompt_id not in used_prompts:
                used_prompts.add(item.prompt_id)
                gold_items.append(item)
    # The better text is the first or the second at random: nothing may follow from its place in the item.
    draw = generator(config.seed, "review gold order")
    shuffled_sides = [_turned(item) if draw.random() < 0.5 else item for item in gold_items]
    return [replace(item, id=f"g{i:06d}") for i, item in enumerate(shuffled_sides)]


def clear_failures(item: ReviewItem, side: int) -> tuple[set[str], bool]:
    """Return the clear failures of a text, and whether it has no failure at all, by the audit."""
    row = {
        "prompt": next((turn["content"] for turn in reversed(item.prompt) if turn["role"] == "user"), ""),
        "response": item.texts[side],
        "stop": None,
        "reward": None,
    }
    response_flags = set(flags(row, audit_response(row)))
    return response_flags & CLEAR_FAILURES, not response_flags & BROKEN


def _shuffled(items: Sequence[ReviewItem], seed: int) -> list[ReviewItem]:
    return [items[i] for i in permutation(len(items), seed, "review gold")]


def _from_audit(item: ReviewItem) -> ReviewItem | None:
    (first_failures, first_clean), (second_failures, second_clean) = (
        clear_failures(item, side) for side in (0, 1)
    )
    if first_clean and second_failures:
        return replace(item, gold=0, gold_source=FROM_AUDIT)
    return replace(item, gold=1, gold_source=FROM_AUDIT) if second_clean and first_failures else None


def _from_file(path: str, seed: int, count: int) -> list[ReviewItem]:
    pairs = [pair for pair in read_pairs(path) if pair.label == 1.0]
    chosen = [pairs[i] for i in permutation(len(pairs), seed, "review gold")[:count]]
    return [
        ReviewItem(
            id="",
            prompt_id=pair.prompt.id,
            sample=0,
            prompt=tuple(m.to_dict() for m in pair.prompt.messages),
            policies=(CHOSEN, REJECTED),
            texts=(pair.chosen, pair.rejected),
            gold=0,
            gold_source=FROM_FILE,
        )
        for pair in chosen
    ]


def _made(items: Sequence[ReviewItem]) -> Iterator[ReviewItem]:
    """Yield a gold item for each item with a clean text of some length."""
    for item in items:
        for side, text in enumerate(item.texts):
            if len(text.split()) >= 5 and clear_failures(item, side)[1]:
                copy = repeat_last_sentence(text, GOLD_REPEATS)
                if copy is not None:
                    yield replace(item, texts=(text, copy), gold=0, gold_source=FROM_COPY)
                    break


def _turned(item: ReviewItem) -> ReviewItem:
    a, b = item.texts
    p, q = item.policies
    gold = None if item.gold is None else 1 - item.gold
    return replace(item, texts=(b, a), policies=(q, p), gold=gold)
