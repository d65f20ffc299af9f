"""Create a study, the fixed plan of a review, and read it back. No torch.

`study.json` holds the settings, the items with both texts, every rater's tasks and the key of the sides, with a hash of
all of it. It never changes once it is written, because votes refer to its tasks.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harken.config import files as config_files
from harken.config.review import ReviewConfig
from harken.errors import UserError
from harken.maths.statistics.power import prompts_for_win_rate
from harken.review.assignment import ReviewTask, assign_tasks
from harken.review.gold import find_gold
from harken.review.items import ReviewItem, collect_items, draw_items
from harken.run import atomic, json_io
from harken.run.folder import ReviewFolder
from harken.run.json_io import Schema
from harken.run.manifest import config_difference

STUDY_VERSION = 1
CALIBRATION_GOLD = 3
"""One in this many calibration items is gold."""
FIX_STUDY = "restore the file, or start another review with --output-dir"
FIX_SERVED = "stop that harken review with Ctrl-C (every vote is on the disk), then run this command again"
"""Fix for a locked folder: a server that waits for votes does not finish by itself."""


@dataclass(frozen=True)
class Study:
    """The plan of a review."""

    config: ReviewConfig
    policies: list[str]
    items: dict[str, ReviewItem]
    tasks: dict[str, list[ReviewTask]]
    """By rater, in order."""
    key: bytes
    counts: dict[str, Any]
    """Counts of pairs read, drawn and left out."""
    fingerprints: dict[str, str]

    @cached_property
    def hash(self) -> str:
        """Return the sha256 of the whole plan."""
        return _hash(self._plain())

    @cached_property
    def by_task(self) -> dict[str, tuple[str, ReviewTask]]:
        """Return every task with its rater, by its id."""
        return {task.id: (rater, task) for rater, rater_tasks in self.tasks.items() for task in rater_tasks}

    def item_of(self, task: ReviewTask) -> ReviewItem:
        """Return the item of a task."""
        return self.items[task.item]

    def kinds(self) -> Counter[str]:
        """Count the tasks of each kind."""
        return Counter(task.kind for rater_tasks in self.tasks.values() for task in rater_tasks)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON, with its hash."""
        return {**self._plain(), "hash": self.hash}

    def _plain(self) -> dict[str, Any]:
        return {
            "version": STUDY_VERSION,
            "config": self.config.model_dump(mode="json", exclude={"output_dir"}),
            "policies": self.policies,
            "key": self.key.hex(),
            "counts": self.counts,
            "fingerprints": self.fingerprints,
            "items": [item.to_dict() for item in self.items.values()],
            "tasks": {
                rater: [task.to_dict() for task in rater_tasks] for rater, rater_tasks in self.tasks.items()
            },
        }


class _StudyFile(Schema):
    version: int
    config: dict[str, Any]
    policies: list[str]
    key: str
    counts: dict[str, Any]
    fingerprints: dict[str, str]
    items: list[dict[str, Any]]
    tasks: dict[str, list[dict[str, Any]]]
    hash: str


def plan_study(config: ReviewConfig, key: bytes | None = None) -> Study:
    """Draw the items and assign them. The same settings, responses and key give the same study.

    Raises UserError as `collect_items` does, and if the raters get no item.
    """
    pool = collect_items(config)
    study_items, other_items = draw_items(pool.items, items_wanted(config, len(pool.items)), config.seed)
    items_per_rater = max(1, round(len(study_items) * (1 + config.overlap) / len(config.raters)))
    gold_count, calibration_gold_count = (
        round(config.gold * items_per_rater),
        math.ceil(config.calibration / CALIBRATION_GOLD),
    )
    gold_items = find_gold(config, study_items, other_items, 2 * gold_count + calibration_gold_count)
    calibration_gold, gold = gold_items[:calibration_gold_count], gold_items[calibration_gold_count:]
    calibration_items = _calibration_items(
        config, other_items, study_items, config.calibration - len(calibration_gold)
    )
    key = key or secrets.token_bytes(32)
    calibration = _interleaved(calibration_gold, calibration_items)
    tasks = assign_tasks(config, key, study_items, calibration, gold)
    used = {task.item for own_tasks in tasks.values() for task in own_tasks}
    items = {item.id: item for item in [*study_items, *calibration, *gold] if item.id in used}
    kinds = Counter(item.gold_source for item in items.values() if item.gold is not None)
    counts = {
        "candidates": len(pool.items),
        "items": len(study_items),
        "left_out": pool.left_out,
        "gold": dict(kinds),
        "calibration": len(calibration),
        "names_model": sum(item.names_model for item in study_items),
    }
    return Study(config, pool.policies, items, tasks, key, counts, pool.fingerprints)


def items_wanted(config: ReviewConfig, available: int) -> int:
    """Return how many items to draw: those that are set, else as many as the edge needs; at most all."""
    needed = config.items or math.ceil(prompts_for_win_rate(config.edge) / (1 - config.tie_share))
    return min(needed, available)


def open_study(config: ReviewConfig, folder: ReviewFolder) -> Study:
    """Return the study of a folder, created if there is none.

    Raises UserError if the folder holds a study of other settings or responses.
    """
    if not folder.study.exists():
        study = plan_study(config)
        atomic.write_json(folder.study, study.to_dict())
        return study
    study = read_study(folder)
    requested = config.model_dump(mode="json", exclude={"output_dir"})
    differences = config_difference(study.config.model_dump(mode="json", exclude={"output_dir"}), requested)
    if not differences and study.fingerprints and study.fingerprints != collect_items(config).fingerprints:
        differences = ["the responses have changed"]
    if differences:
        raise UserError(
            f"this folder holds a review of other settings: {'; '.join(differences)[:600]}",
            where=str(folder.root),
            fix=f"choose another --output-dir, or continue this one: harken review {folder.root}",
        )
    return study


def read_study(folder: ReviewFolder) -> Study:
    """Read a study. Raises UserError if it is missing, damaged or edited."""
    if not folder.study.is_file():
        raise UserError(
            "there is no study in this folder",
            where=str(folder.root),
            fix="start one: harken review PATH --output-dir DIR",
        )
    where = str(folder.study)
    stored = json_io.read_object(folder.study, FIX_STUDY)
    json_io.validate(stored, _StudyFile, where, FIX_STUDY)
    if stored["version"] != STUDY_VERSION:
        raise UserError(f"version {stored['version']} is not known", where=where, fix="upgrade Harken")
    if _hash({name: value for name, value in stored.items() if name != "hash"}) != stored["hash"]:
        raise UserError("it does not match its hash: it was edited or damaged", where=where, fix=FIX_STUDY)
    try:
        items = [ReviewItem.from_dict(item) for item in stored["items"]]
        tasks = {
            r: [ReviewTask.from_dict(task) for task in rater_tasks]
            for r, rater_tasks in stored["tasks"].items()
        }
        key = bytes.fromhex(stored["key"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"it is no study ({error})", where=where, fix=FIX_STUDY) from None
    return Study(
        config=config_files.validate_settings(ReviewConfig, stored["config"], where),
        policies=stored["policies"],
        items={item.id: item for item in items},
        tasks=tasks,
        key=key,
        counts=stored["counts"],
        fingerprints=stored["fingerprints"],
    )


def _calibration_items(
    config: ReviewConfig, other_items: Sequence[ReviewItem], study_items: Sequence[ReviewItem], count: int
) -> list[ReviewItem]:
    """Draw the calibration's items from those that are not compared, or from all if every item is compared."""
    return draw_items(other_items or study_items, max(count, 0), config.seed + 1)[0] if count > 0 else []


def _interleaved(gold: Sequence[ReviewItem], others: Sequence[ReviewItem]) -> list[ReviewItem]:
    """Return the calibration with gold at every third place, not at the first."""
    ordered, waiting, remaining_gold = [], list(others), list(gold)
    while waiting or remaining_gold:
        ordered += [waiting.pop(0) for _ in range(min(CALIBRATION_GOLD - 1, len(waiting)))]
        ordered += [remaining_gold.pop(0)] if remaining_gold else []
    return ordered


def _hash(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
