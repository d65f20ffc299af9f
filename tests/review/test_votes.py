"""The store of votes: append-only, chained, idempotent, and on the disk before it is acknowledged."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harken.errors import UserError
from harken.review.votes import GENESIS, Vote, VoteRefused, VoteStore, current_votes, parse_vote, read_votes

REASONS = ["clear", "correct"]


def vote(task: str = "t1", choice: Any = "left", rater: str = "anna", **keys: Any) -> Vote:
    return Vote(str(uuid.uuid4()), rater, task, choice, **keys)


def test_votes_are_chained_and_read_back(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "v.sqlite", "s")
    first = store.append(vote(reasons=("clear",), strength=2, seconds=3.5, shown_at="now"))
    second = store.append(vote("t2", rater="ben"))
    store.close()
    found = read_votes(tmp_path / "v.sqlite", "s")
    assert found == [first, second] and first.previous == GENESIS and second.previous == first.hash
    assert [one.number for one in found] == [1, 2]
    with pytest.raises(UserError, match="another study"):
        read_votes(tmp_path / "v.sqlite", "other")


def test_the_same_uuid_is_stored_once(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "v.sqlite", "s")
    sent = vote()
    assert store.append(sent) == store.append(sent) and len(store.votes()) == 1
    with pytest.raises(VoteRefused, match="stands for another vote"):
        store.append(replace(sent, choice="right"))
    assert len(store.votes()) == 1


def test_revision_and_undo_are_new_rows(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "v.sqlite", "s")
    first = store.append(vote())
    with pytest.raises(VoteRefused, match="another vote by now"):
        store.append(vote(choice="right"))
    second = store.append(vote(choice="right", supersedes=first.uuid))
    assert store.current()["anna", "t1"].choice == "right"
    store.append(vote(choice="undo", supersedes=second.uuid))
    assert store.current() == {} and [one.choice for one in store.votes()] == ["left", "right", "undo"]
    with pytest.raises(VoteRefused):
        store.append(vote(choice="undo"))
    assert store.append(vote(choice="tie")).number == 4
    assert current_votes(store.votes())["anna", "t1"].choice == "tie"


def test_rows_cannot_be_changed_or_deleted(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    store = VoteStore(path, "s")
    store.append(vote())
    store.append(vote("t2"))
    store.close()
    database = sqlite3.connect(path)
    for statement in ("UPDATE vote SET choice = 'right'", "DELETE FROM vote"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute(statement)
    # Someone who drops the triggers breaks the chain.
    database.execute("DROP TRIGGER no_update")
    database.execute("UPDATE vote SET choice = 'right' WHERE number = 1")
    database.commit()
    database.close()
    with pytest.raises(UserError, match="vote 1 does not match its hash"):
        VoteStore(path, "s")


def test_a_missing_row_is_found(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    store = VoteStore(path, "s")
    for i in range(3):
        store.append(vote(f"t{i}"))
    store.close()
    database = sqlite3.connect(path)
    database.execute("DROP TRIGGER no_delete")
    database.execute("DELETE FROM vote WHERE number = 2")
    database.commit()
    database.close()
    with pytest.raises(UserError, match="vote 2 does not match"):
        read_votes(path, "s")


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "v.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match="cannot be read"):
        read_votes(tmp_path / "v.sqlite", "s")


def test_every_commit_is_flushed(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "v.sqlite", "s")
    found = {
        name: store._database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    }
    assert found == {"journal_mode": "wal", "synchronous": 2}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"uuid": "x"}, "uuid"),
        ({"choice": "up"}, "choice"),
        ({"strength": 4}, "strength"),
        ({"strength": True}, "strength"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": 1e9}, "seconds"),
        ({"reasons": ["other"]}, "reasons"),
        ({"reasons": "clear"}, "reasons"),
        ({"task": 5}, "short texts"),
        ({"client": "x" * 65}, "short texts"),
        ({"policy": "ours"}, "unknown field"),
    ],
)
def test_what_is_no_vote_is_refused(given: dict[str, Any], why: str) -> None:
    sent = {"uuid": str(uuid.uuid4()), "task": "t1", "choice": "left"}
    assert parse_vote(sent, "anna", REASONS).rater == "anna"
    with pytest.raises(VoteRefused, match=why):
        parse_vote(sent | given, "anna", REASONS)


@pytest.mark.parametrize(
    "odd",
    [
        {"shown_at": "\ud800"}, {"client": "\udfff"}, {"task": "\ud800"}, {"supersedes": "\ud800"},
        {"seconds": 10**400}, {"seconds": -(10**400)}, {"seconds": float("inf")}, {"seconds": float("nan")},
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(VoteRefused):
        parse_vote({"uuid": str(uuid.uuid4()), "task": "t1", "choice": "left", **odd}, "anna", REASONS)


def test_a_log_without_its_database_is_kept(tmp_path: Path) -> None:
    """SQLite deletes such a log, which has the votes of a server that was killed."""
    path = tmp_path / "v.sqlite"
    store = VoteStore(path, "s")
    sent = store.append(vote())
    log = tmp_path / "v.sqlite-wal"
    votes, database = log.read_bytes(), path.read_bytes()
    store.close()
    path.unlink()
    log.write_bytes(votes)
    for read in (lambda: read_votes(path, "s"), lambda: VoteStore(path, "s")):
        with pytest.raises(UserError, match=r"is missing, and v\.sqlite-wal beside it"):
            read()
    assert log.read_bytes() == votes and not path.exists()
    path.write_bytes(database)  # what the fix says
    assert read_votes(path, "s") == [sent]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_vote_is_not_acknowledged_into_a_deleted_file(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "v.sqlite"
    store = VoteStore(path, "s")
    store.append(vote())
    path.unlink()
    if replaced:
        path.write_bytes(b"")
    with pytest.raises(VoteRefused, match="was removed") as refused:
        store.append(vote("t2"))
    assert refused.value.status == 503 and len(store.votes()) == 1
    store.close()


def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "v.sqlite").mkdir()
    with pytest.raises(UserError, match="Fix: change the permissions"):
        VoteStore(tmp_path / "v.sqlite", "s")
    (tmp_path / "w.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match="Fix: restore"):
        VoteStore(tmp_path / "w.sqlite", "s")
