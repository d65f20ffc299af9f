"""Checkpoints: exact, and whole whatever interrupts them."""

import errno
import json
import math
import os
import random
import resource
import shutil
from pathlib import Path

import pytest
import torch

from harken.run import atomic, checkpoint
from harken.run.checkpoint import latest, save

KILLED = 77


def tensors(step):
    generator = torch.Generator().manual_seed(step)
    return {
        "policy/q.lora_A": torch.randn(4, 8, generator=generator),
        "optimiser/step": torch.tensor(float(step)),
        "head": torch.randn(8, generator=generator).to(torch.bfloat16),
        "counts": torch.arange(5),
        "flags": torch.tensor([True, False]),
        "nothing": torch.zeros(0, 3),
    }


def state(step):
    return {
        "step": step,
        "kl_coef": 0.1 + 1e-17 * step,
        "cursor": {"epoch": 2, "order": [3, 1, 2]},
        "note": "é\u2028",
    }


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def assert_exactly(found, step):
    assert found is not None and found.step == step
    assert found.state == state(step)
    expected = tensors(step)
    assert found.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found.tensors[name].dtype == tensor.dtype and found.tensors[name].shape == tensor.shape
        assert torch.equal(found.tensors[name], tensor)


def test_state_is_restored_exactly(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    assert latest(folder) is None
    assert save(folder, 50, tensors(50), state(50), keep=2) is True
    assert names(folder) == ["step-000050"]
    assert names(folder / "step-000050") == ["MANIFEST.json", "state.json", "state.safetensors"]
    assert_exactly(latest(folder), 50)


def test_the_manifest_names_sizes_and_hashes(tmp_path):
    save(tmp_path, 3, tensors(3), state(3), keep=1)
    folder = tmp_path / "step-000003"
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    assert (manifest["format"], manifest["step"]) == (1, 3)
    import hashlib

    for name in ("state.safetensors", "state.json"):
        content = (folder / name).read_bytes()
        assert manifest["files"][name] == [len(content), hashlib.sha256(content).hexdigest()]


def test_the_newest_few_are_kept(tmp_path):
    for step in (5, 10, 1_000_000, 999_999):
        save(tmp_path, step, tensors(step), state(step), keep=2)
    assert names(tmp_path) == ["step-1000000", "step-999999"]
    assert_exactly(latest(tmp_path), 1_000_000)  # by number: "step-999999" sorts behind as text


def test_tensors_that_share_or_stride_memory_are_saved_apart(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    given = {
        "whole": base,
        "same": base,
        "view": base[1:],
        "turned": base.t(),
        "leaf": base.clone().requires_grad_(),
    }
    save(tmp_path, 1, given, {}, keep=1)
    found = latest(tmp_path).tensors
    for name, tensor in given.items():
        assert torch.equal(found[name], tensor.detach())
    found["whole"].zero_()
    assert found["same"].sum() == 66 and not found["leaf"].requires_grad
    assert torch.equal(base, torch.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        ({"a": {"b": [1.0, math.nan]}}, r"state\.a\.b\[1\] is nan"),
        ({"a": math.inf}, r"state\.a is inf"),
        ({"a": {3: 1}}, r"state\.a has the key 3"),
        ({"a": torch.ones(1)}, r"state\.a is a tensor"),
        ({"a": {1, 2}}, r"state\.a is of type set"),
    ],
)
def test_state_that_json_would_change_is_refused(tmp_path, bad, place):
    with pytest.raises(ValueError, match=place):
        save(tmp_path / "c", 1, {}, bad, keep=1)
    assert not (tmp_path / "c").exists()


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 4, tensors(1), {"old": True}, keep=1)
    save(tmp_path, 4, tensors(4), state(4), keep=1)
    assert names(tmp_path) == ["step-000004"]
    assert_exactly(latest(tmp_path), 4)


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "MANIFEST.json"])
def test_any_flipped_byte_quarantines_and_the_one_before_loads(tmp_path, capsys, file):
    """Corruption is found in 100 % of the places tried, the manifest's own bytes included."""
    save(tmp_path / "good", 1, tensors(1), state(1), keep=2)
    save(tmp_path / "good", 2, tensors(2), state(2), keep=2)
    size = (tmp_path / "good" / "step-000002" / file).stat().st_size
    dice = random.Random(file)
    for trial in range(40):
        folder = shutil.copytree(tmp_path / "good", tmp_path / f"{file}-{trial}")
        path = folder / "step-000002" / file
        content = bytearray(path.read_bytes())
        content[dice.randrange(size)] ^= 1 << dice.randrange(8)
        path.write_bytes(content)
        assert_exactly(latest(folder), 1)
        assert names(folder) == ["quarantine", "step-000001"] and names(folder / "quarantine") == [
            "step-000002"
        ]
        assert (folder / "quarantine" / "step-000002" / file).read_bytes() == bytes(content)
        warning = capsys.readouterr().err
        assert warning.count("\n") == 1 and "step-000002" in warning and "quarantine" in warning


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "MANIFEST.json"])
def test_truncated_emptied_and_missing_files_are_found(tmp_path, file):
    for trial in range(3):
        folder = tmp_path / str(trial)
        save(folder, 1, tensors(1), state(1), keep=2)
        save(folder, 2, tensors(2), state(2), keep=2)
        path = folder / "step-000002" / file
        if trial == 2:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: -1 if trial else 0])
        assert_exactly(latest(folder), 1)


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "null", "3", '{"format": 1}', '{"format": 1, "files": 3}', '{"format": 2, "files": {}}'),
        '{"format": 1, "files": {"../x": [1, "a"]}}',
    ],
)
def test_a_manifest_of_another_shape_is_quarantined(tmp_path, text):
    save(tmp_path, 1, tensors(1), state(1), keep=1)
    (tmp_path / "step-000001" / "MANIFEST.json").write_text(text)
    assert latest(tmp_path) is None
    assert names(tmp_path) == ["quarantine"]


def test_a_folder_renamed_to_a_later_step_is_rejected(tmp_path):
    save(tmp_path, 1, tensors(1), state(1), keep=1)
    (tmp_path / "step-000001").rename(tmp_path / "step-000009")
    assert latest(tmp_path) is None


def test_quarantine_keeps_every_bad_folder(tmp_path):
    for _ in range(3):
        save(tmp_path, 2, tensors(2), state(2), keep=1)
        (tmp_path / "step-000002" / "state.json").write_text("{}")
        assert latest(tmp_path) is None
    assert names(tmp_path / "quarantine") == ["step-000002", "step-000002-2", "step-000002-3"]


def test_all_is_on_the_disk_before_the_name_appears(tmp_path, monkeypatch):
    """The order that survives a power cut: files, manifest, folder, rename, parent."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to name open files")
    events = []
    fsync, rename = os.fsync, os.rename

    def recorded_fsync(number):
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        events.append("unfinished folder" if path.name.startswith(".tmp-") else path.name)
        fsync(number)

    def recorded_rename(old, new):
        events.append(f"rename to {Path(new).name}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "rename", recorded_rename)
    save(tmp_path / "checkpoints", 7, tensors(7), state(7), keep=1)
    assert events[:4] == ["state.safetensors", "state.json", "MANIFEST.json", "unfinished folder"]
    assert events[4:6] == ["rename to step-000007", "checkpoints"]


def in_child(response_mask, die_before=None):
    """Run `action` in a forked child; it dies, as by kill -9, before disk operation number `die_before`.

    Returns the number of disk operations it got to, or None when it ran to its end.
    """
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def dying(function):
            def wrapped(*args, **kwargs):
                nonlocal count
                if count == die_before:
                    os._exit(KILLED)
                count += 1
                return function(*args, **kwargs)

            return wrapped

        for module, name in [(os, "fsync"), (os, "rename"), (os, "mkdir"), (os, "unlink"), (os, "rmdir"),
                             (checkpoint, "save_file"), (atomic, "write_and_sync")]:  # fmt: skip
            setattr(module, name, dying(getattr(module, name)))
        status = 1
        try:
            response_mask()
            os.write(send, str(count).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(send)
    _, status = os.waitpid(child, 0)
    reported = os.read(receive, 20)
    os.close(receive)
    assert os.waitstatus_to_exitcode(status) in (0, KILLED)
    return int(reported) if reported else None


@pytest.mark.sample(1)
@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("again", [False, True], ids=["a later step", "the same step again"])
def test_a_kill_before_any_disk_operation_loses_nothing(tmp_path, keep, again):
    """Killed anywhere in `save`, then anywhere in the recovery: the old state or the new one, exactly."""
    before, after = (2, 2) if again else (2, 3)
    good = tmp_path / "good"
    save(good, 1, tensors(1), state(1), keep=keep)
    save(good, before, tensors(before), state(before), keep=keep)
    marked = dict(state(after), mark="new")

    def save_in(folder):
        return lambda: save(folder, after, tensors(after), marked, keep)

    operations = in_child(save_in(shutil.copytree(good, tmp_path / "count")))
    assert operations >= 12
    seen = set()
    for number in range(operations):
        folder = shutil.copytree(good, tmp_path / f"{number}")
        assert in_child(save_in(folder), die_before=number) is None
        for second in range(0, 12, 3):  # killed again while it recovers
            if in_child(lambda folder=folder: latest(folder), die_before=second) is not None:
                break
        found = latest(folder)
        new = found.state.pop("mark", None) == "new"
        assert_exactly(found, after if new else before)
        seen.add(new)
        for path in folder.iterdir():  # no litter, nothing quarantined, nothing half deleted
            assert path.name.startswith("step-")
            assert names(path) == ["MANIFEST.json", "state.json", "state.safetensors"]
    assert seen == {False, True}


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", [(os, "fsync"), (os, "rename"), (atomic, "write_and_sync")])
def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path, monkeypatch, capsys, where):
    save(tmp_path, 1, tensors(1), state(1), keep=1)
    with monkeypatch.context() as patch:
        patch.setattr(*where, full_disk)
        assert save(tmp_path, 2, tensors(2), state(2), keep=1) is False
    assert names(tmp_path) == ["step-000001"]
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1 and "step 2" in warning and "No space left" in warning
    assert save(tmp_path, 3, tensors(3), state(3), keep=1) is True
    assert_exactly(latest(tmp_path), 3)


def test_the_kernels_own_refusal_is_understood(tmp_path):
    """A limit on file size makes the writer of tensors itself fail, inside the safetensors library."""
    folder = tmp_path / "checkpoints"
    save(folder, 1, tensors(1), state(1), keep=1)

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        assert save(folder, 2, {"big": torch.zeros(100_000)}, {}, keep=1) is False

    assert in_child(limited) is not None
    assert names(folder) == ["step-000001"]
    assert_exactly(latest(folder), 1)


def test_another_disk_error_is_not_hidden(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        save(tmp_path, 1, tensors(1), state(1), keep=1)
    assert names(tmp_path) == []


def test_no_pickle_reaches_the_disk(tmp_path):
    save(tmp_path, 1, tensors(1), state(1), keep=1)
    content = (tmp_path / "step-000001" / "state.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(header) - {"__metadata__"} == set(tensors(1))
