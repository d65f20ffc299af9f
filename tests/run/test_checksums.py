"""Checksums detect every damaged byte of the listed files and of the list itself, and ignore other files."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harken.cli.main import main
from harken.errors import UserError
from harken.run import atomic, checkpoint, checksums, verify

FILES = {"config.yml": b"seed: 1\n", "metrics.jsonl": b'{"step": 1}\n', "rollouts/a b.parquet": b"PAR1\0PAR1"}


def fill(folder: Path) -> Path:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A folder with checksums beside one without."""
    fill(tmp_path / "open")
    checksums.write_checksums(fill(tmp_path / "run"))
    return tmp_path / "run"


def damaged(content: bytes) -> Iterator[bytes]:
    """Every truncation, and at every place a byte with one bit flipped, with all, and in the other case."""
    yield from (content[:length] for length in range(len(content)))
    for place in range(len(content)):
        for flip in (0x01, 0x20, 0xFF):
            yield content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]


def test_sha256sum_reads_the_checksums(sealed: Path) -> None:
    lines = (sealed / "SHA256SUMS").read_text().splitlines()
    expected = [f"{hashlib.sha256(FILES[name]).hexdigest()}  {name}" for name in sorted(FILES)]
    assert lines[1:-1] == expected
    assert lines[0].startswith("#") and lines[-1].startswith("#")
    if shutil.which("sha256sum"):
        command = ["sha256sum", "-c", "--strict", "SHA256SUMS"]
        done = subprocess.run(command, cwd=sealed, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.count(": OK"), done.stderr) == (0, 3, "")


def test_whole_files_pass_wherever_the_folder_is(sealed: Path, tmp_path: Path) -> None:
    shutil.move(sealed, tmp_path / "moved")
    for name in FILES:
        checksums.verify_file(tmp_path / "moved" / name)
    checksums.verify_folder(tmp_path / "moved")
    assert checksums.read_verified_text(tmp_path / "moved" / "config.yml") == "seed: 1\n"


def test_every_damage_to_a_listed_file_is_found(sealed: Path) -> None:
    """Also to one in a subfolder of the folder with checksums; named from a working folder as well."""
    tried = 0
    for name, content in FILES.items():
        for wrong in damaged(content):
            (sealed / name).write_bytes(wrong)
            with pytest.raises(UserError, match=f"{name}: is damaged"):
                checksums.verify_file(Path(os.path.relpath(sealed / name)))
            with pytest.raises(UserError, match=f"{name}: is damaged"):
                checksums.verify_folder(sealed)
            tried += 1
        (sealed / name).write_bytes(content)
    print(f"{tried} of {tried} found")


def test_every_damage_to_the_checksums_is_found_whichever_file_is_read(sealed: Path) -> None:
    """A truncated at the end of a line and an emptied file included."""
    path = sealed / "SHA256SUMS"
    written = path.read_bytes()
    tried = 0
    for wrong in damaged(written):
        path.write_bytes(wrong)
        for name in FILES:
            with pytest.raises(UserError, match=r"SHA256SUMS: is damaged.*restore it"):
                checksums.verify_file(sealed / name)
        tried += 1
    assert tried == 4 * len(written)
    print(f"{tried} of {tried} found")


def test_lines_of_the_checksums_may_not_be_removed_repeated_or_reordered(sealed: Path) -> None:
    path = sealed / "SHA256SUMS"
    head, *lines, foot = path.read_text().splitlines(keepends=True)
    for wrong in (lines[1:], lines[:-1], [*lines, lines[-1]], lines[::-1], []):
        path.write_text(head + "".join(wrong) + foot)
        with pytest.raises(UserError, match="SHA256SUMS: is damaged"):
            checksums.verify_file(sealed / "config.yml")


def test_a_missing_file_is_found(sealed: Path) -> None:
    (sealed / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"metrics.jsonl: is missing.*restore it"):
        checksums.verify_folder(sealed)
    with pytest.raises(UserError, match="is missing"):
        checksums.verify_file(sealed / "metrics.jsonl")


def test_files_without_a_checksum_pass(sealed: Path) -> None:
    (sealed / "status.json").write_text("{}")
    checksums.verify_file(sealed / "status.json")
    (sealed / "final").mkdir()
    (sealed / "final" / "config.yml").write_text("another file of a name that is listed")
    checksums.verify_file(sealed / "final" / "config.yml")
    elsewhere = sealed.parent / "open"
    (elsewhere / "config.yml").write_text("changed")
    checksums.verify_file(elsewhere / "config.yml")
    checksums.verify_folder(elsewhere)
    checksums.verify_folder(elsewhere / "none")
    assert checksums.read_checksums(elsewhere) is None


@pytest.mark.parametrize(
    "text",
    [
        f"{'0' * 64}  config.yml\n",
        f"# made by hand\n{'0' * 64} *config.yml\n",
        "config.yml: see the publisher's page\n",
    ],
)
def test_sums_of_another_tool_are_not_checksums_of_a_run(sealed: Path, text: str) -> None:
    folder = sealed.parent / "open"
    (folder / "SHA256SUMS").write_text(text)
    checksums.verify_file(folder / "config.yml")
    checksums.verify_folder(folder)
    assert checksums.read_checksums(folder) is None


def test_the_nearest_checksums_decide(sealed: Path) -> None:
    """A subfolder has its own checksums: the outer ones cover only what they list."""
    checksums.write_checksums(fill(sealed / "final"))
    (sealed / "final" / "config.yml").write_text("seed: 2\n")
    with pytest.raises(UserError, match=r"final/config.yml: is damaged"):
        checksums.verify_file(sealed / "final" / "config.yml")
    checksums.verify_file(sealed / "config.yml")


def test_without_weights_they_are_passed_over(tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_text("whole")
    checksums.write_checksums(tmp_path)
    (tmp_path / "model.safetensors").write_text("WHOLE")
    checksums.verify_folder(tmp_path, weights=False)
    with pytest.raises(UserError, match=r"model.safetensors: is damaged"):
        checksums.verify_folder(tmp_path)
    (tmp_path / "config.json").write_text("WHOLE")
    with pytest.raises(UserError, match=r"config.json: is damaged"):
        checksums.verify_folder(tmp_path, weights=False)


def test_only_named_files_get_checksums_and_new_ones_replace_the_old(sealed: Path) -> None:
    (sealed / "config.yml").write_text("seed: 2\n")
    checksums.write_checksums(sealed, [sealed / "config.yml"])
    assert list(checksums.read_checksums(sealed) or {}) == ["config.yml"]
    checksums.verify_file(sealed / "config.yml")
    checksums.remove_checksums(sealed)
    checksums.remove_checksums(sealed)
    (sealed / "config.yml").write_text("seed: 3\n")
    checksums.verify_file(sealed / "config.yml")


def test_names_that_sha256sum_escapes_are_refused(tmp_path: Path) -> None:
    for name in ("a/b/c.json", "two\nlines", "back\\slash"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
        with pytest.raises(ValueError, match="cannot be listed"):
            checksums.write_checksums(tmp_path)
        (tmp_path / name).unlink()
    assert not (tmp_path / "SHA256SUMS").exists()


def test_checksums_are_written_after_everything_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, write = atomic.sync, atomic.write_bytes

    def synced(path: Path) -> None:
        order.append(path.relative_to(tmp_path).as_posix())
        sync(path)

    def written(path: Path, data: bytes) -> None:
        order.append("the seal")
        write(path, data)

    monkeypatch.setattr(atomic, "sync", synced)
    monkeypatch.setattr(atomic, "write_bytes", written)
    checksums.write_checksums(fill(tmp_path))
    assert set(order[: order.index("the seal")]) == {*FILES, ".", "rollouts"}


def test_a_file_is_read_once_a_process_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_text("one")
    first = checksums.file_sha256(path)
    assert first == hashlib.sha256(b"one").hexdigest()
    monkeypatch.setattr(checksums, "RECENT", 0)
    hits = checksums._digest.cache_info().hits
    assert {checksums.file_sha256(path) for _ in range(3)} == {first}
    assert checksums._digest.cache_info().hits >= hits + 2
    facts = path.stat()
    time.sleep(0.02)  # more than a tick of the disk's clock
    path.write_text("two")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert checksums.file_sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_two_changes_within_a_clock_tick_are_distinguished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    facts = path.stat()
    monkeypatch.setattr(Path, "stat", lambda self, **_: facts)
    for content in (b"one", b"two"):
        path.write_bytes(content)
        assert checksums.file_sha256(path) == hashlib.sha256(content).hexdigest()


# -- harken verify ----------------------------------------------------------------------------------


@pytest.fixture
def kept(sealed: Path) -> Path:
    """A folder with checksums, a checkpoint, one in quarantine, and a final with checksums."""
    checksums.write_checksums(fill(sealed / "final"))
    for step in (1, 2):
        checkpoint.save(sealed / "checkpoints", step, {}, {"step": step}, keep=2)
    (sealed / "checkpoints" / "quarantine").mkdir()
    shutil.move(sealed / "checkpoints" / "step-000001", sealed / "checkpoints" / "quarantine")
    (sealed / "checkpoints" / "quarantine" / "step-000001" / "state.json").write_text("{}")
    return sealed


def test_whole_folders_are_listed_with_their_files(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(kept)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{kept}: 3 of 3 files intact",
        f"{kept}/checkpoints/step-000002: checkpoint intact",
        f"{kept}/final: 3 of 3 files intact",
    ]


def test_each_damaged_and_missing_file_is_named(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (kept / "metrics.jsonl").unlink()
    (kept / "rollouts" / "a b.parquet").write_bytes(b"PAR2\0PAR1")
    (kept / "final" / "SHA256SUMS").write_text("")
    (kept / "checkpoints" / "step-000002" / "state.json").write_text('{"step": 3}')
    assert main(["verify", str(kept.parent)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{kept}: 1 of 3 files intact",
        "  metrics.jsonl is missing",
        "  rollouts/a b.parquet is damaged: its sha256 is not the one in SHA256SUMS",
        f"{kept}/checkpoints/step-000002: checkpoint damaged: a resumed run skips it",
        "  state.json has the wrong sha256",
        f"{kept}/final: cannot be verified",
        "  SHA256SUMS is damaged, so the files it lists cannot be verified",
    ]


@pytest.mark.parametrize("damage", ["final/config.yml", "checkpoints/step-000002/MANIFEST.json"])
def test_one_damaged_file_anywhere_is_exit_code_1(kept: Path, damage: str) -> None:
    (kept / damage).write_bytes((kept / damage).read_bytes()[:-1])
    assert main(["verify", str(kept)]) == 1
    (one,) = [one for one in verify.verify(kept) if one.problems]
    assert damage.startswith(one.folder.relative_to(kept).as_posix())


def test_a_folder_with_nothing_to_compare_with_is_an_error(
    sealed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (sealed.parent / "open", sealed.parent / "none"):
        assert main(["verify", str(folder)]) == 2
        assert "neither checksums nor checkpoints are here" in capsys.readouterr().err


def test_verify_accepts_a_checkpoint(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kept / "checkpoints" / "step-000002")
    assert [one.summary for one in verify.verify(Path("."))] == ["checkpoint intact"]
    with pytest.raises(UserError):
        verify.verify(kept / "checkpoints" / "quarantine")
