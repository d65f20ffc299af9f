"""Files appear whole or not at all, and the floor of plain files needs no torch."""

import errno
import json
import os
import subprocess
import sys

import pytest

from harken.run import atomic


def test_text_json_and_bytes_arrive_and_make_their_folder(tmp_path):
    atomic.write_bytes(tmp_path / "a" / "b" / "raw", b"\x00\xff")
    atomic.write_text(tmp_path / "text", "café →")
    atomic.write_json(tmp_path / "value", {"z": 1, "a": [0.1, None, "→"]})
    assert (tmp_path / "a" / "b" / "raw").read_bytes() == b"\x00\xff"
    assert (tmp_path / "text").read_bytes().decode("utf-8") == "café →"
    text = (tmp_path / "value").read_text()
    assert json.loads(text) == {"z": 1, "a": [0.1, None, "→"]}
    assert text.index('"z"') < text.index('"a"') and "→" in text and text.endswith("}\n")


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError):
        atomic.write_json(tmp_path / "value", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_names_the_file_and_not_the_temporary_one(tmp_path):
    with pytest.raises(IsADirectoryError) as error:
        atomic.write_text(tmp_path, "text")
    assert error.value.filename == str(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as error:
        atomic.write_text(tmp_path / "file" / "below", "text")
    assert ".tmp" not in str(error.value)


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_content_and_no_temporary_files(tmp_path, monkeypatch, name):
    path = tmp_path / "file"
    atomic.write_text(path, "old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_data_is_flushed_before_the_name_changes_and_the_folder_after(tmp_path, monkeypatch):
    """A rename that overtakes its data gives an empty file after a power cut."""
    events = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(number):
        events.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{number}"))))
        fsync(number)

    def recorded_replace(old, new):
        events.append(("replace", os.path.basename(new)))
        replace(old, new)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to name open files")
    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    atomic.write_text(tmp_path / "file", "x")
    assert events == [("fsync", ".file.tmp"), ("replace", "file"), ("fsync", tmp_path.name)]


def test_error_codes_of_a_full_disk():
    assert atomic.disk_is_full(OSError(errno.ENOSPC, ""))
    assert atomic.disk_is_full(OSError(errno.EDQUOT, ""))
    assert not atomic.disk_is_full(OSError(errno.EIO, ""))
    assert not atomic.disk_is_full(OSError("no number"))


def test_pages_and_tables_need_no_torch():
    code = (
        "import sys, harken.run.atomic, harken.run.folder, harken.run.manifest, harken.run.status, "
        "harken.run.tables, harken.run.terminal, harken.run.tracking\n"
        "print(sorted({'torch', 'transformers', 'peft'} & sys.modules.keys()))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def synced(monkeypatch):
    """Names of what is flushed, in order."""
    found, sync = [], atomic.sync

    def note(path):
        found.append(path)
        sync(path)

    monkeypatch.setattr(atomic, "sync", note)
    return found


def test_a_folder_is_published_with_all_it_holds_on_the_disk(tmp_path, monkeypatch):
    ready, final = tmp_path / ".ready", tmp_path / "final"
    for round_ in ("first", "second"):  # an older one of that name goes
        (ready / "inner").mkdir(parents=True)
        (ready / "a").write_text(round_)
        (ready / "inner" / "b").write_text(round_)
        found = synced(monkeypatch)
        atomic.publish_folder(ready, final)
        assert {(final / "a").read_text(), (final / "inner" / "b").read_text()} == {round_}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["final"]
        before, name = found[:-1], found[-1]
        assert set(before) == {ready / "a", ready / "inner", ready / "inner" / "b", ready}
        assert name == tmp_path


def test_new_folders_are_known_to_those_above(tmp_path, monkeypatch):
    found = synced(monkeypatch)
    atomic.make_folder(tmp_path / "a" / "b")
    assert found == [tmp_path, tmp_path / "a"] and (tmp_path / "a" / "b").is_dir()
    atomic.make_folder(tmp_path / "a" / "b")
    assert len(found) == 2
