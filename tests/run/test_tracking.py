"""What a run records: metrics that survive a kill, scalars, lines."""

import json
import math
import resource
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harken.run import atomic
from harken.run.folder import RunFolder
from harken.run.tracking import Tracker


def lines(run):
    return [json.loads(line, parse_constant=pytest.fail) for line in run.metrics.read_text().splitlines()]


def track(run, start, stop, **extra):
    with Tracker(run, 20, "ppo", extra.pop("tensorboard", False)) as tracker:
        tracker.start(start)
        for step in range(start + 1, stop + 1):
            tracker.log(step, {"loss": 1 / step} | extra, f"loss {1 / step:.2f}")


def test_one_flat_line_a_step(tmp_path):
    """S4-13: every update is logged."""
    run = RunFolder(tmp_path / "run")
    track(run, 0, 3, **{"reward/mean": 0.1})
    assert lines(run) == [{"step": s, "loss": 1 / s, "reward/mean": 0.1} for s in (1, 2, 3)]


def test_a_line_is_on_disk_when_log_returns(tmp_path):
    run = RunFolder(tmp_path)
    tracker = Tracker(run, 5, "sft", False)
    tracker.start(0)
    tracker.log(1, {"loss": 1.0}, "")
    assert lines(run) == [{"step": 1, "loss": 1.0}]
    tracker.finish()
    tracker.finish()


def test_the_name_of_the_lines_file_is_on_the_disk_before_its_first_line(tmp_path, monkeypatch):
    run, found = RunFolder(tmp_path), []
    monkeypatch.setattr(atomic, "sync", lambda path: found.append((path, run.metrics.exists())))
    Tracker(run, 5, "sft", False).start(0)
    assert (tmp_path, True) in found


def test_nan_and_infinity_become_null_and_are_named(tmp_path):
    run = RunFolder(tmp_path)
    with Tracker(run, 1, "ppo", False) as tracker:
        tracker.start(0)
        tracker.log(1, {"a": math.nan, "b": -math.inf, "c": 1e-300, "d": None, "e": 3})
    assert lines(run) == [
        {"step": 1, "a": None, "b": None, "c": 1e-300, "d": None, "e": 3, "nonfinite": ["a", "b"]}
    ]


def test_numpy_and_torch_scalars_are_plain_numbers(tmp_path):
    run = RunFolder(tmp_path)
    with Tracker(run, 1, "ppo", False) as tracker:
        tracker.start(0)
        tracker.log(
            1, {"a": np.float32(0.5), "b": torch.tensor(0.25), "c": np.float64("nan"), "d": np.int64(2)}
        )
    assert lines(run) == [{"step": 1, "a": 0.5, "b": 0.25, "c": None, "d": 2, "nonfinite": ["c"]}]


def test_names_the_line_uses_and_a_tracker_not_started_are_refused(tmp_path):
    tracker = Tracker(RunFolder(tmp_path), 1, "ppo", False)
    with pytest.raises(RuntimeError):
        tracker.log(1, {})
    with tracker:
        tracker.start(0)
        for name in ("step", "nonfinite"):
            with pytest.raises(ValueError, match=name):
                tracker.log(1, {name: 1.0})


def test_resuming_truncates_to_the_step_and_repeats_none(tmp_path):
    run, whole = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    track(run, 0, 9)
    track(run, 6, 12)
    track(whole, 0, 12)
    assert run.metrics.read_bytes() == whole.metrics.read_bytes()


@pytest.mark.parametrize(
    "torn", [b'{"step": 4, "lo', b'{"step": 4, "text": "\xc3', b"\x00\x00", b"null", b"{}"]
)
def test_a_torn_last_line_is_dropped(tmp_path, torn):
    run = RunFolder(tmp_path)
    track(run, 0, 3)
    with run.metrics.open("ab") as file:
        file.write(torn)
    track(run, 3, 4)
    assert [line["step"] for line in lines(run)] == [1, 2, 3, 4]


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path):
    run = RunFolder(tmp_path)
    track(run, 0, 3)
    run.metrics.write_bytes(run.metrics.read_bytes()[:-1])
    track(run, 3, 4)
    assert [line["step"] for line in lines(run)] == [1, 2, 3, 4]


def test_several_lines_of_a_step_are_kept_and_a_run_from_zero_starts_empty(tmp_path):
    run = RunFolder(tmp_path)
    with Tracker(run, 5, "ppo", False) as tracker:
        tracker.start(0)
        tracker.log(0, {"eval": 1.0})
        tracker.log(1, {"loss": 1.0})
        tracker.log(1, {"eval": 2.0})
        tracker.log(2, {"loss": 1.0})
    track(run, 1, 1)
    assert [line["step"] for line in lines(run)] == [0, 1, 1]
    track(run, 0, 1)
    assert [line["step"] for line in lines(run)] == [1]


def scalars(run, tag):
    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    return [(event.step, round(event.value, 4)) for event in events.Scalars(tag)]


def test_tensorboard_holds_finite_scalars_and_purges_on_resume(tmp_path):
    """S3-22 … S3-25: losses and rewards go to TensorBoard."""
    run = RunFolder(tmp_path)
    track(run, 0, 4, tensorboard=True, bad=math.nan)
    assert scalars(run, "loss") == [(1, 1.0), (2, 0.5), (3, 0.3333), (4, 0.25)]
    with Tracker(run, 20, "ppo", True) as tracker:
        tracker.start(2)
        tracker.log(3, {"loss": 9.0})
    assert scalars(run, "loss") == [(1, 1.0), (2, 0.5), (3, 9.0)]
    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    assert "bad" not in events.Tags()["scalars"]


def test_without_tensorboard_there_is_no_folder(tmp_path):
    run = RunFolder(tmp_path)
    track(run, 0, 1)
    assert not run.tensorboard.exists()


def test_in_a_log_a_summary_is_one_plain_line(tmp_path, capsys):
    run = RunFolder(tmp_path)
    with Tracker(run, 20, "ppo", False) as tracker:
        tracker.start(8)
        tracker.log(9, {}, "reward +0.10\nKL \x1b[31m2.0\x1b[0m\r")
        tracker.log(10, {}, "passing", keep=False)
        tracker.log(11, {})
        tracker.log(12, {}, "reward +0.20")
    text = capsys.readouterr().err
    shown = text.splitlines()
    assert len(shown) == 2
    assert shown[0].startswith("ppo  9/20 [00:00<00:0") and shown[0].endswith("]  reward +0.10 KL 2.0")
    assert shown[1].startswith("ppo 12/20 [00:00<00:0") and shown[1].endswith("]  reward +0.20")
    assert not set(text) & set("\r\x1b")


def test_a_full_disk_delays_lines_and_does_not_end_the_run(tmp_path):
    """A real limit of the kernel; once it is lifted nothing is missing, torn or out of order."""
    code = """
        import resource, sys
        from pathlib import Path
        from harken.run.folder import RunFolder
        from harken.run.tracking import Tracker
        with Tracker(RunFolder(Path(sys.argv[1])), 30, "ppo", False) as tracker:
            tracker.start(0)
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
            for step in range(1, 21):
                tracker.log(step, {"loss": 1 / 3, "text": None})
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            tracker.log(21, {"loss": 1.0})
    """
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
        pytest.skip("file sizes are limited here already")
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert [line["step"] for line in lines(RunFolder(tmp_path))] == list(range(1, 22))
    assert "warning: metrics.jsonl could not be written, the run continues: File too large" in shown
