"""Store votes in SQLite so that no acknowledged vote is lost, and none is changed. No torch.

Rows are only appended: a vote is revised or undone by a further row that names the one it supersedes. Every row has
the sha256 of itself and of the row before it, so a changed or missing row is detected. Each vote is flushed to the
disk (WAL, synchronous=FULL) before it is acknowledged, and a vote that is sent twice is stored once.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from harken.errors import UserError

Choice = Literal["left", "right", "tie", "both_bad", "skip", "undo"]
CHOICES = get_args(Choice)
MAX_SECONDS = 86_400.0
STRENGTHS = (0, 1, 2, 3)
"""0: none given; 1 slightly, 2 clearly, 3 much better."""
GENESIS = "0" * 64
FIX_VOTES = "restore votes.sqlite, with votes.sqlite-wal if it is there"
FIX_ACCESS = "change the permissions of the file and its folder"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS study (hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS vote (
  number INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, rater TEXT NOT NULL, task TEXT NOT NULL,
  choice TEXT NOT NULL, strength INTEGER NOT NULL, reasons TEXT NOT NULL, seconds REAL NOT NULL,
  shown_at TEXT NOT NULL, received_at TEXT NOT NULL, client TEXT NOT NULL, supersedes TEXT NOT NULL,
  previous TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON vote BEGIN SELECT RAISE(ABORT, 'votes are append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON vote BEGIN SELECT RAISE(ABORT, 'votes are append-only'); END;
"""
_COLUMNS = (
    "number, uuid, rater, task, choice, strength, reasons, seconds, shown_at, received_at, client, supersedes, "
    "previous, hash"
)


class VoteRefused(Exception):
    """Report a vote that is not stored; `status` is the HTTP status."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Vote:
    """One row: what a rater chose, and when.

    `seconds` counts while the page was visible; `shown_at` is the client's clock and `received_at` the server's.
    `supersedes` is the uuid of the vote that this one revises or undoes, "" for none.
    """

    uuid: str
    rater: str
    task: str
    choice: Choice
    strength: int = 0
    reasons: tuple[str, ...] = ()
    seconds: float = 0.0
    shown_at: str = ""
    client: str = ""
    supersedes: str = ""
    received_at: str = ""
    number: int = 0
    previous: str = GENESIS
    hash: str = ""

    def content(self) -> tuple[Any, ...]:
        """Return what the rater sent, in which two votes with the same uuid must agree."""
        return astuple(self)[:10]

    def chained(self) -> str:
        """Return the sha256 of the row with the hash before it."""
        fields = [*self.content(), self.received_at, self.number, self.previous]
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def parse_vote(fields: Mapping[str, Any], rater: str, reasons: Sequence[str]) -> Vote:
    """Validate what a client sent. Raises VoteRefused, naming the field."""
    unknown = set(fields) - {
        "uuid", "task", "choice", "strength", "reasons", "seconds", "shown_at", "client", "supersedes"
    }  # fmt: skip
    if unknown:
        raise VoteRefused(f"unknown field {sorted(unknown)[0]!r}"[:80])
    texts = {name: fields.get(name, "") for name in ("task", "shown_at", "client", "supersedes")}
    if any(isinstance(text, str) and not _is_unicode(text) for text in texts.values()):
        raise VoteRefused("expected Unicode text")
    if not isinstance(fields.get("uuid"), str) or not _UUID.fullmatch(fields["uuid"]):
        raise VoteRefused("uuid: expected a UUID")
    if fields.get("choice") not in CHOICES:
        raise VoteRefused(f"choice: expected one of {', '.join(CHOICES)}")
    if any(not isinstance(text, str) or len(text) > 64 for text in texts.values()):
        raise VoteRefused("expected short texts")
    strength, seconds = fields.get("strength", 0), fields.get("seconds", 0.0)
    if type(strength) is not int or strength not in STRENGTHS:
        raise VoteRefused("strength: expected 0, 1, 2 or 3")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds != seconds:
        raise VoteRefused("seconds: expected a number")
    if not 0 <= seconds <= MAX_SECONDS:
        raise VoteRefused("seconds: expected at most a day")
    ticked = fields.get("reasons", [])
    if not isinstance(ticked, list) or any(reason not in reasons for reason in ticked):
        raise VoteRefused("reasons: expected some of those offered")
    return Vote(
        uuid=fields["uuid"], rater=rater, choice=fields["choice"], strength=strength,
        reasons=tuple(dict.fromkeys(ticked)), seconds=float(seconds), **texts,
    )  # fmt: skip


class VoteStore:
    """Append votes and read them. One process writes; its threads take turns."""

    def __init__(self, path: Path, study_hash: str) -> None:
        """Open the store, created if it is missing.

        Raises UserError if it cannot be read, its hash chain is broken, it belongs to another study, or it is missing
        and its log of changes is not: SQLite would delete the votes in that.
        """
        self.path = path
        require_database_of_log(path)
        self._turn = threading.Lock()
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)
            stored_hash = self._database.execute("SELECT hash FROM study").fetchone()
            if stored_hash is None:
                self._database.execute("INSERT INTO study VALUES (?)", (study_hash,))
            elif stored_hash[0] != study_hash:
                raise UserError("these votes are of another study", where=str(path), fix=FIX_VOTES)
            self._votes = list(_read(self._database, path))
        except sqlite3.Error as error:
            fix = FIX_ACCESS if _is_access_problem(error) else FIX_VOTES
            raise UserError(f"cannot be read ({error})", where=str(path), fix=fix) from None
        self._file = _file_id(path)
        self._by_uuid = {vote.uuid: vote for vote in self._votes}
        self._current = current_votes(self._votes)

    def append(self, vote: Vote) -> Vote:
        """Store a vote and return it as stored, also when it was stored before. It is on the disk when this returns.

        Raises VoteRefused if its uuid stands for another vote, or if it does not supersede the rater's vote on this
        task: another tab, or a page that was not loaded again, has an old state.
        """
        with self._turn:
            if (stored := self._by_uuid.get(vote.uuid)) is not None:
                if stored.content() != vote.content():
                    raise VoteRefused("this uuid stands for another vote", 409)
                return stored
            current = self._current.get((vote.rater, vote.task))
            if vote.supersedes != (current.uuid if current else ""):
                raise VoteRefused("this item has another vote by now: load the page again", 409)
            if vote.choice == "undo" and current is None:
                raise VoteRefused("there is no vote to undo", 409)
            last_hash = self._votes[-1].hash if self._votes else GENESIS
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            row = replace(vote, received_at=now, number=len(self._votes) + 1, previous=last_hash)
            row = replace(row, hash=row.chained())
            if _file_id(self.path) != self._file:  # SQLite would write into the deleted file
                raise VoteRefused("the votes' file was removed: tell the person who invited you", 503)
            with _transaction(self._database):
                self._database.execute(
                    f"INSERT INTO vote ({_COLUMNS}) VALUES ({', '.join('?' * 14)})", _row(row)
                )
            self._votes.append(row)
            self._by_uuid[row.uuid] = row
            self._current = _applied(self._current, row)
            return row

    def votes(self) -> list[Vote]:
        """Return all rows, in order."""
        with self._turn:
            return list(self._votes)

    def current(self) -> dict[tuple[str, str], Vote]:
        """Return the current vote of each rater and task."""
        with self._turn:
            return dict(self._current)

    def close(self) -> None:
        """Close the file; the log of changes is merged into it."""
        with self._turn:
            self._database.close()


def current_votes(votes: Sequence[Vote]) -> dict[tuple[str, str], Vote]:
    """Return the current vote of each rater and task: the last that was not undone."""
    current: dict[tuple[str, str], Vote] = {}
    for vote in votes:
        current = _applied(current, vote)
    return current


def read_votes(path: Path, study_hash: str) -> list[Vote]:
    """Read the votes of a study, [] without votes. Raises UserError as `VoteStore` does."""
    require_database_of_log(path)
    if not path.exists():
        return []
    store = VoteStore(path, study_hash)
    try:
        return store.votes()
    finally:
        store.close()


def require_database_of_log(path: Path) -> None:
    """Raise UserError if the file of votes is missing beside its log, which may hold all votes after a kill."""
    log = path.with_name(f"{path.name}-wal")
    if not path.exists() and log.exists() and log.stat().st_size:
        raise UserError(
            f"it is missing, and {log.name} beside it has votes that cannot be read without it",
            where=str(path),
            fix="restore it",
        )


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_access_problem(error: sqlite3.Error) -> bool:
    """Return whether the file cannot be opened or written, and its content is not the problem."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
    )


def _is_unicode(text: str) -> bool:
    """Return whether a text can be stored; half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _applied(current: dict[tuple[str, str], Vote], vote: Vote) -> dict[tuple[str, str], Vote]:
    place = vote.rater, vote.task
    if vote.choice == "undo":
        current.pop(place, None)
    else:
        current[place] = vote
    return current


def _row(vote: Vote) -> tuple[Any, ...]:
    return (
        vote.number, vote.uuid, vote.rater, vote.task, vote.choice, vote.strength,
        json.dumps(list(vote.reasons), ensure_ascii=False), vote.seconds, vote.shown_at, vote.received_at,
        vote.client, vote.supersedes, vote.previous, vote.hash,
    )  # fmt: skip


def _read(database: sqlite3.Connection, path: Path) -> Iterator[Vote]:
    """Yield the rows in order, each checked against the hash chain."""
    previous = GENESIS
    rows = database.execute(f"SELECT {_COLUMNS} FROM vote ORDER BY number")
    for place, row in enumerate(rows, start=1):
        try:
            reasons = tuple(json.loads(row[6]))
        except (TypeError, ValueError):
            reasons = ()
        vote = Vote(
            number=row[0], uuid=row[1], rater=row[2], task=row[3], choice=row[4], strength=row[5], reasons=reasons,
            seconds=row[7], shown_at=row[8], received_at=row[9], client=row[10], supersedes=row[11],
            previous=row[12], hash=row[13],
        )  # fmt: skip
        if vote.number != place or vote.previous != previous or vote.chained() != vote.hash:
            raise UserError(f"vote {place} does not match its hash", where=str(path), fix=FIX_VOTES)
        previous = vote.hash
        yield vote


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or roll it back."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
