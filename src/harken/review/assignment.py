"""Assign items to raters: who judges what, in which order, with which response on which side. No torch.

The side of an item depends on a key that only the study knows: HMAC-SHA256(key, rater | item). Within blocks of eight
items of one pair of policies, in the rater's own order, the half with the lower values has the first policy on the
left. So each rater sees every policy equally often on each side, and cannot tell the side from the item.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harken.config.review import ReviewConfig
from harken.review.items import ReviewItem
from harken.seeds import generator, permutation

TaskKind = Literal["calibration", "vote", "repeat", "gold"]
SIDE_BLOCK = 8
"""Items of one pair of policies within which the sides are balanced."""


@dataclass(frozen=True, slots=True)
class ReviewTask:
    """Hold one judgement that a rater is asked for. `first_left`: the item's first text stands on the left."""

    id: str
    item: str
    kind: TaskKind
    first_left: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the task as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ReviewTask:
        """Read a task written by `to_dict`."""
        return cls(**fields)


def assign_tasks(
    config: ReviewConfig,
    key: bytes,
    items: Sequence[ReviewItem],
    calibration: Sequence[ReviewItem],
    gold: Sequence[ReviewItem],
) -> dict[str, list[ReviewTask]]:
    """Return every rater's tasks in order: calibration first, then items and gold at random, repeats at the end.

    Each item has one rater, a share `overlap` of them two. A share `repeats` of a rater's items comes again, after at
    least a third of the others, with the sides swapped.
    """
    items_by_rater = _split(config, items)
    tasks_by_rater: dict[str, list[ReviewTask]] = {}
    for rater in config.raters:
        needed = round(config.gold * len(items_by_rater[rater]))
        some = [gold[i] for i in permutation(len(gold), config.seed, "gold", rater)[:needed]]
        calibration_tasks: list[tuple[ReviewItem, TaskKind]] = [(item, "calibration") for item in calibration]
        mixed: list[tuple[ReviewItem, TaskKind]] = [(item, "vote") for item in items_by_rater[rater]]
        mixed += [(item, "gold") for item in some]
        mixed = [mixed[i] for i in permutation(len(mixed), config.seed, "order", rater)]
        sides = _sides(key, rater, [*calibration_tasks, *mixed])
        tasks = [
            ReviewTask(task_id(key, rater, item.id, kind), item.id, kind, sides[item.id, kind])
            for item, kind in [*calibration_tasks, *mixed]
        ]
        head, body = tasks[: len(calibration_tasks)], tasks[len(calibration_tasks) :]
        tasks_by_rater[rater] = [*head, *_with_repeats(config, key, rater, body)]
    return tasks_by_rater


def task_id(key: bytes, rater: str, item: str, kind: str) -> str:
    """Return the name of a task on the wire. It tells neither item nor policy, and is another one for each rater."""
    return _hmac(key, "task", rater, item, kind).hex()[:24]


def _split(config: ReviewConfig, items: Sequence[ReviewItem]) -> dict[str, list[ReviewItem]]:
    """Deal the items out to the raters, and the share `overlap` of them to a second rater each."""
    raters = config.raters
    order = permutation(len(items), config.seed, "review deal")
    dealt: dict[str, list[ReviewItem]] = {rater: [] for rater in raters}
    for place, item_index in enumerate(order):
        dealt[raters[place % len(raters)]].append(items[item_index])
    if len(raters) > 1:
        twice = permutation(len(items), config.seed, "review overlap")[
            : math.ceil(config.overlap * len(items))
        ]
        for place, item_turn in enumerate(twice):
            shift = 1 + place % (len(raters) - 1)  # every two raters share some items
            dealt[raters[(item_turn + shift) % len(raters)]].append(items[order[item_turn]])
    return dealt


def _sides(
    key: bytes, rater: str, ordered: Sequence[tuple[ReviewItem, TaskKind]]
) -> dict[tuple[str, TaskKind], bool]:
    """Return whether the first text stands on the left, balanced within blocks. Gold is balanced by its better side."""
    groups: dict[Any, list[tuple[ReviewItem, TaskKind]]] = {}
    for item, kind in ordered:
        # Gold of the calibration is one group with the other gold: few items balance better together.
        groups.setdefault("gold" if item.gold is not None else (item.policies, kind), []).append((item, kind))
    left_first: dict[tuple[str, TaskKind], bool] = {}
    for name, members in groups.items():
        for start in range(0, len(members), SIDE_BLOCK):
            block = members[start : start + SIDE_BLOCK]
            values = {(item.id, kind): _hmac(key, "side", rater, item.id, kind) for item, kind in block}
            extra = len(block) % 2 and _hmac(key, "odd", rater, repr(name), start)[0] & 1
            lefts = set(sorted(values, key=lambda place: values[place])[: len(block) // 2 + int(extra)])
            for item, kind in block:
                left = (item.id, kind) in lefts
                left_first[item.id, kind] = left if item.gold in (None, 0) else not left
    return left_first


def _with_repeats(
    config: ReviewConfig, key: bytes, rater: str, tasks: Sequence[ReviewTask]
) -> list[ReviewTask]:
    """Insert repeats with swapped sides into the last third; their originals are in the first half."""
    first_half = [task for task in tasks[: math.ceil(len(tasks) / 2)] if task.kind == "vote"]
    votes = sum(task.kind == "vote" for task in tasks)
    count = min(round(config.repeats * votes), len(first_half))
    draw = generator(config.seed, "review repeats", rater)
    chosen = [first_half[int(i)] for i in sorted(draw.permutation(len(first_half))[:count])]
    tail_start = math.ceil(len(tasks) * 2 / 3)
    tail = list(tasks[tail_start:])
    for task in chosen:
        again = ReviewTask(task_id(key, rater, task.item, "repeat"), task.item, "repeat", not task.first_left)
        tail.insert(int(draw.integers(len(tail) + 1)), again)
    return [*tasks[:tail_start], *tail]


def _hmac(key: bytes, *parts: object) -> bytes:
    return hmac.new(key, "|".join(map(str, parts)).encode(), hashlib.sha256).digest()
