"""Bars on a terminal, plain lines in a log."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap

from rich.cells import cell_len

from harken.run import terminal
from harken.run.terminal import escape_invisible


def on_a_terminal(code):
    """What a program writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stderr=theirs,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux reports the other end's closing as an error
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0, shown.decode()
    return shown.decode()


def test_say_prints_a_clean_line(capsys):
    terminal.say("one\ntwo \x1b[2J\x1b[31mred\x1b[0m\r\x07 \t→")
    assert capsys.readouterr().err == "one\ntwo red \t→\n"


def test_progress_gives_every_item_and_is_silent_in_a_log(capsys):
    assert list(terminal.progress(range(5), "score")) == [0, 1, 2, 3, 4]
    assert list(terminal.progress((c for c in "ab"), "score")) == ["a", "b"]
    with terminal.counter("generate", 10) as count:
        count.update(4)
        count.update(6)
    assert capsys.readouterr().err == ""


def test_long_work_shows_a_line_now_and_then_in_a_log(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.counter("generate", 320) as count:
        for _ in range(8):
            now[0] += 20
            count.update(32)
    # A line at the first update 30 s after the last: at 40 s (64 done), 80, 120 and 160 s.
    assert capsys.readouterr().err.splitlines() == [
        "generate  64/320 [00:40<02:40]",
        "generate 128/320 [01:20<02:00]",
        "generate 192/320 [02:00<01:20]",
        "generate 256/320 [02:40<00:40]",
    ]


def test_the_clock_counts_only_work_done_since_it_began(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    clock = terminal.Clock(10, 20)
    assert str(clock) == "10/20 [00:00<?]"
    now[0], clock.done = 6.0, 12
    assert str(clock) == "12/20 [00:06<00:24]"
    unknown = terminal.Clock(0, None)
    unknown.done = 3
    assert str(unknown) == "3 [00:00<?]"


def test_a_bar_leaves_when_its_work_raises():
    on_a_terminal("""
        from tqdm import tqdm
        from harken.run import terminal
        try:
            with terminal.counter("generate", 2) as count:
                assert len(tqdm._instances) == 1
                raise KeyError
        except KeyError:
            assert len(tqdm._instances) == 0
    """)


def test_on_a_terminal_lines_stay_above_one_bar(tmp_path):
    shown = on_a_terminal(f"""
        import time
        from pathlib import Path
        from harken.run import terminal
        from harken.run.folder import RunFolder
        from harken.run.tracking import Tracker
        terminal.DELAY = 0.01
        with Tracker(RunFolder(Path({str(tmp_path)!r})), 5, "ppo", False) as tracker:
            tracker.start(2)
            for step in (3, 4, 5):
                for _ in terminal.progress(range(4), "generate"):
                    time.sleep(0.04)
                tracker.log(step, {{}}, f"reward {{step}}", keep=step != 4)
    """)
    pieces = [piece.strip() for piece in re.split(r"\r|\n|\x1b\[A", shown)]
    assert "ppo 3/5  reward 3" in pieces and "ppo 5/5  reward 5" in pieces
    assert not [piece for piece in pieces if piece.startswith("ppo 4/5")]
    bars = [piece for piece in pieces if piece.startswith("ppo:")]
    assert any("2/5" in piece for piece in bars) and any("reward 4" in piece for piece in bars)
    assert "5/5" in bars[-1] and "100%" in bars[-1] and "reward" not in bars[-1]
    assert any(piece.startswith("generate:") for piece in pieces)
    assert all(len(piece) <= 100 for piece in pieces)


def test_invisible_characters_of_a_name_are_escaped():
    """Two names that look alike are alike; letters cannot be turned round."""
    assert escape_invisible("code\u202egnp.exe") == "code\\u202egnp.exe"
    assert escape_invisible("general\u200b") == "general\\u200b" != "general"
    assert escape_invisible("a\x1b[31mb\ufeff\U000e0041") == "a\\x1b[31mb\\ufeff\\U000e0041"
    assert escape_invisible("Zürich, 北京 ✓ e\u0301") == "Zürich, 北京 ✓ e\u0301"


CELLS = {"policy": ["Base", "猫" * 4], "reward": ["1.5", "-0.25"], "note": ["a b", "one two three"]}


def test_a_table_lines_up_by_the_width_of_its_letters():
    assert terminal.format_table(CELLS, right={"reward"}).splitlines() == [
        "policy    reward  note",
        "Base         1.5  a b",
        "猫猫猫猫   -0.25  one two three",
    ]


def test_columns_that_do_not_fit_follow_below_or_wrap():
    below = terminal.format_table(CELLS, width=20).split("\n\n")
    assert [block.splitlines()[0].split() for block in below] == [["policy", "reward"], ["policy", "note"]]
    assert all(
        cell_len(line) <= 24 for line in terminal.format_table(CELLS, width=24, wrap=True).splitlines()
    )
    assert "one two three" not in terminal.format_table(CELLS, width=24, wrap=True)


def test_a_table_holds_no_control_characters_and_no_long_cell():
    text = terminal.format_table({"name": ["\x1b[31mred\n", "x" * 50]}, longest=20)
    assert "\\x1b[31mred\\n" in text and "x" * 19 + "…" in text and "x" * 20 not in text


def test_colour_is_for_a_terminal_without_no_color(monkeypatch):
    assert not terminal.has_colour()
    monkeypatch.setattr(terminal, "is_terminal", lambda stream: True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal.has_colour()
    assert terminal.styled("bad", "red", colour=True) == "\x1b[31mbad\x1b[0m"
    assert terminal.styled("bad", "red", colour=False) == "bad"


def test_tables_are_as_wide_as_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    assert terminal.columns() == 90
    monkeypatch.setenv("COLUMNS", "1")
    assert terminal.columns() == terminal.MIN_WIDTH
