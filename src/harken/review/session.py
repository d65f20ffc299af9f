"""Choose what a rater sees next, and accept their votes. Only texts, opaque ids and counts are sent. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harken.review.assignment import ReviewTask
from harken.review.calibration import calibration_of
from harken.review.study import Study
from harken.review.votes import Vote, VoteRefused, VoteStore, parse_vote

STOPPED = "Thank you. Please talk to the person who invited you before you go on."
FINISHED = "Thank you. All items are done, and you may close this page."
LOCKED = "This review is closed. No votes are accepted any more."


class ReviewSession:
    """Join a study and its votes."""

    def __init__(self, study: Study, store: VoteStore, accepted: Collection[str] = ()) -> None:
        """Store study and votes. `accepted` names the raters who may go on despite a failed calibration."""
        self.study, self.store, self.accepted = study, store, frozenset(accepted)

    def state(self, rater: str) -> dict[str, Any]:
        """Return the contents of the page: rubric, progress, the next item, and the last vote, which may be undone."""
        tasks, current = self.study.tasks[rater], self.store.current()
        waiting = [task for task in tasks if (rater, task.id) not in current]
        task, message = (waiting[0], "") if waiting else (None, FINISHED)
        if task is not None and task.kind != "calibration" and not self._may_go_on(rater):
            task, message = None, STOPPED
        rater_votes = [vote for vote in current.values() if vote.rater == rater]
        last = max(rater_votes, key=lambda vote: vote.number, default=None)
        return {
            "rubric": self.study.config.rubric,
            "reasons": list(self.study.config.reasons),
            "done": len(tasks) - len(waiting),
            "total": len(tasks),
            "message": message,
            "task": None if task is None else shown_task(self.study, task),
            "last": None if last is None else {"uuid": last.uuid, "task": last.task},
        }

    def submit(self, rater: str, fields: Mapping[str, Any]) -> Vote:
        """Store a vote; it is on the disk when this returns. Raises VoteRefused."""
        vote = parse_vote(fields, rater, self.study.config.reasons)
        rater_task = self.study.by_task.get(vote.task)
        if rater_task is None or rater_task[0] != rater:
            raise VoteRefused("no such item", 404)
        if rater_task[1].kind != "calibration" and vote.choice != "undo" and not self._may_go_on(rater):
            raise VoteRefused(STOPPED, 409)
        return self.store.append(vote)

    def progress(self) -> str:
        """Return the counts of all raters in one line."""
        current = self.store.current()
        phrases = [
            f"{rater} {sum((rater, task.id) in current for task in tasks)} of {len(tasks)}"
            for rater, tasks in self.study.tasks.items()
        ]
        return f"{len(current)} votes: {', '.join(phrases)}"

    def _may_go_on(self, rater: str) -> bool:
        if rater in self.accepted:
            return True
        return calibration_of(self.study, self.store.votes(), rater).status in ("none", "go")


def shown_task(study: Study, task: ReviewTask) -> dict[str, Any]:
    """Return what is sent of a task: its opaque id and texts, without anything that reveals a policy."""
    item = study.item_of(task)
    left, right = item.texts if task.first_left else item.texts[::-1]
    return {
        "id": task.id,
        "prompt": [{"role": turn["role"], "text": str(turn["content"])} for turn in item.prompt],
        "left": left,
        "right": right,
    }
