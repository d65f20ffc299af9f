"""The status of a run can be read in one way only."""

import errno
import json
import os

import pytest

from harken.run import status
from harken.run.folder import RunFolder


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (None, "running"),
        ("finished", "completed"),
        ("interrupted", "stopped"),
        ("held-out reward no longer rises", "stopped"),
        ("failed: out of memory", "failed"),
    ],
)
def test_every_count_and_the_reason_are_written(tmp_path, reason, state):
    """S0-39: 397 of 400 updates must be told from 400."""
    run = RunFolder(tmp_path)
    status.write_status(run, requested=400, completed=397, skipped=3, stopped_because=reason)
    assert json.loads(run.status.read_text()) == {
        "state": state,
        "requested": 400,
        "completed": 397,
        "skipped": 3,
        "stopped_because": reason,
    }


@pytest.mark.parametrize(
    ("completed", "skipped", "reason"),
    [(397, 0, "finished"), (399, 2, None), (-1, 0, None), (0, -1, None), (401, 0, "finished")],
)
def test_contradictions_are_refused(tmp_path, completed, skipped, reason):
    run = RunFolder(tmp_path)
    with pytest.raises(ValueError):
        status.write_status(run, requested=400, completed=completed, skipped=skipped, stopped_because=reason)
    assert not run.status.exists()


@pytest.mark.parametrize(
    ("reason", "goes_on"),
    [
        (None, True),
        ("interrupted by SIGTERM", True),
        ("failed: out of memory", True),
        ("finished", False),
        ("held-out reward no longer rises", False),
    ],
)
def test_on_a_full_disk_the_old_one_stays_until_the_end(tmp_path, monkeypatch, capfd, reason, goes_on):
    run = RunFolder(tmp_path)
    status.write_status(run, requested=2, completed=0, stopped_because=None)
    before = run.status.read_bytes()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    if goes_on:
        status.write_status(run, requested=2, completed=2, stopped_because=reason)
        assert "No space left" in capfd.readouterr().err
    else:
        with pytest.raises(OSError, match="No space left"):
            status.write_status(run, requested=2, completed=2, stopped_because=reason)
    assert run.status.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_a_new_status_replaces_the_old(tmp_path):
    run = RunFolder(tmp_path)
    status.write_status(run, requested=2, completed=0, stopped_because=None)
    status.write_status(run, requested=2, completed=2, stopped_because="finished")
    assert json.loads(run.status.read_text())["completed"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


@pytest.mark.parametrize(
    ("reason", "over"),
    [
        (None, False),
        ("finished", True),
        ("interrupted by SIGTERM", False),
        ("failed: out of memory", False),
        ("patience: no better", True),
    ],
)
def test_a_run_is_over_when_it_ended_of_its_own(tmp_path, reason, over):
    run = RunFolder(tmp_path)
    status.write_status(run, requested=4, completed=4, stopped_because=reason)
    assert status.has_ended(run) is over


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": 1}', '{"state": "stopped"}'])
def test_a_status_that_tells_nothing_is_not_over(tmp_path, text):
    run = RunFolder(tmp_path)
    assert not status.has_ended(run)
    run.status.write_text(text)
    assert not status.has_ended(run)
