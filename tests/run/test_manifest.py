"""What a run was made with; fingerprints; secrets; differences."""

import hashlib
import json
import sys
from importlib.metadata import version

import pytest

from harken.errors import UserError
from harken.run import checksums, manifest
from harken.run.folder import RunFolder

HF = "hf_" + "aB3" * 12


def test_versions_lineage_and_hash_are_written(tmp_path, monkeypatch):
    """S0-69: a published run says what it was made with and from."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr(sys, "argv", ["harken", "train", "--set", "training.lr=1e-6"])
    run = RunFolder(tmp_path / "run")
    manifest.write_manifest(run, {"b": 1, "a": 2}, {"model": "embedded", "sft": True}, {"device": "cpu"})
    written = manifest.read_manifest(run.manifest)
    assert written == json.loads(run.manifest.read_text())
    assert written["torch"] == version("torch") and written["peft"] == version("peft")
    assert written["transformers"] == version("transformers")
    assert written["python"] == ".".join(map(str, sys.version_info[:3]))
    assert written["created"] == "2023-11-14T22:13:20+00:00"
    assert written["command"] == ["harken", "train", "--set", "training.lr=1e-6"]
    assert written["config_sha256"] == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    assert written["lineage"] == {"model": "embedded", "sft": True} and written["device"] == "cpu"
    assert written["harken"] and written["platform"]


def test_a_resumed_run_keeps_the_time_it_was_created(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    manifest.write_manifest(run, {}, {}, {})
    first = run.manifest.read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    manifest.write_manifest(run, {}, {}, {})
    assert run.manifest.read_bytes() == first


def test_extra_may_not_hide_a_key(tmp_path):
    with pytest.raises(ValueError, match="lineage"):
        manifest.write_manifest(RunFolder(tmp_path), {}, {}, {"lineage": {}})


def test_bad_times_and_manifests_are_user_errors(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    with pytest.raises(UserError, match="no manifest"):
        manifest.read_manifest(run.manifest)
    for text in ("{", "[]", "{}", "\x00"):
        run.manifest.write_text(text)
        with pytest.raises(UserError):
            manifest.read_manifest(run.manifest)
    run.manifest.unlink()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UserError, match="yesterday"):
        manifest.write_manifest(run, {}, {}, {})


@pytest.mark.parametrize(
    "name", ["token", "hf_token", "HF_TOKEN", "api_key", "openai-api-key", "password", "db.password",
             "client_secret", "Authorization", "aws_secret_access_key", "wandb_api_key", "hub.token"]
)  # fmt: skip
def test_values_under_secret_names_are_redacted(name):
    assert manifest.redact({"a": [{name: "tiny"}]}) == {"a": [{name: "[redacted]"}]}
    assert manifest.redact({name: {"inner": "seen"}}) == {name: {"inner": "seen"}}
    assert manifest.redact({name: None}) == {name: None}


def test_ordinary_names_and_values_stay():
    config = {
        "micro_batch_tokens": 4096,
        "pad_token": "<|endoftext|>",
        "target_kl_per_token": 0.1,
        "kl/per_token": 0.2,
        "max_tokens": 64,
        "tokenizer": "x",
        "author": "me",
        "key": "value",
        "monkey": "risk-assessment-of-a-very-long-name-2",
        "model_name": "/runs/my_hf_smollm2instruct135mlongnameindeed0001/sft",
        "flag": True,
        "text": "https://example.org/a:b@c and the bearer of news",
        "list": [1, 2.5, None],
    }
    assert manifest.redact(config) == config


@pytest.mark.parametrize(
    "secret", [HF, "ghp_" + "a1" * 18, "sk-proj-" + "a1" * 12, "AKIAABCDEFGHIJKLMNOP", "xoxb-1234567890-abc",
               "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl"]
)  # fmt: skip
def test_values_that_look_like_secrets_are_redacted_inside_text(secret):
    assert manifest.redact(f"see {secret} here") == "see [redacted] here"


def test_secrets_in_addresses_and_headers():
    assert manifest.redact("https://me:pw@host/x") == "https://[redacted]@host/x"
    assert manifest.redact("Bearer abcdef123456") == "Bearer [redacted]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://hf_abc123def456ghi789@host/x", "https://[redacted]@host/x"),
        ("https://host/x?token=abc&n=1", "https://host/x?token=[redacted]&n=1"),
        (
            "s3?X-Amz-Credential=AK/1&X-Amz-Signature=ff&n=2",
            "s3?X-Amz-Credential=[redacted]&X-Amz-Signature=[redacted]&n=2",
        ),
        ("https://a.blob/x?sv=1&sig=a%2Fb%3D", "https://a.blob/x?sv=1&sig=[redacted]"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [redacted]"),
        ("a title with sk-proj-" + "a1" * 12, "a title with [redacted]"),
        ("x?max_tokens=5&pad_token_id=3", "x?max_tokens=5&pad_token_id=3"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("a basic english text", "a basic english text"),
        ("Basic English", "Basic English"),
    ],
)
def test_addresses_and_titles_keep_no_secret(text, shown):
    assert manifest.redact_text(text) == manifest.redact({"a": [text]})["a"][0] == shown


def test_a_command_line_keeps_no_secret(tmp_path, monkeypatch):
    words = [
        "harken",
        "train",
        "--token",
        "tiny",
        "--set",
        "hub.token=tiny",
        "--api-key=tiny",
        HF,
        "--set",
        "a=1",
    ]
    gone = "[redacted]"
    shown = [
        *("harken", "train", "--token", gone, "--set", f"hub.token={gone}"),
        *(f"--api-key={gone}", gone, "--set", "a=1"),
    ]
    assert manifest.redact_command(words) == shown
    monkeypatch.setattr(sys, "argv", words)
    run = RunFolder(tmp_path)
    manifest.write_manifest(run, {}, {"url": "https://me:pw@host"}, {"note": HF})
    text = run.manifest.read_text()
    assert HF not in text and "tiny" not in text and "pw" not in text


def test_the_config_hash_ignores_the_order_of_keys_alone():
    one = manifest.config_sha256({"a": {"x": 1, "y": [1, 2]}, "b": 2})
    assert one == manifest.config_sha256({"b": 2, "a": {"y": [1, 2], "x": 1}})
    assert one != manifest.config_sha256({"b": 2, "a": {"y": [2, 1], "x": 1}})
    with pytest.raises(ValueError):
        manifest.config_sha256({"a": float("inf")})


def test_differences_are_named_by_their_path():
    old = {"seed": 1, "training": {"lr": 1e-6, "ppo": {"lam": 0.95}}, "gone": True, "list": [1], "same": {}}
    new = {"seed": 1, "training": {"lr": 2e-6, "ppo": {"lam": None}}, "list": [1, 2], "new": "é", "same": {}}
    assert manifest.config_difference(old, new) == [
        "training.lr: 1e-06 → 2e-06",
        "training.ppo.lam: 0.95 → null",
        "gone: true → (absent)",
        "list: [1] → [1, 2]",
        'new: (absent) → "é"',
    ]
    assert manifest.config_difference(old, json.loads(json.dumps(old))) == []
    assert manifest.config_difference({"a": 1}, {"a": 1.0}) == []
    assert manifest.config_difference({"a": 1}, {"a": True}) == ["a: 1 → true"]
    assert manifest.config_difference({"a": {"b": 1}}, {"a": {}}) == ["a.b: 1 → (absent)", "a: (absent) → {}"]


def weights(folder):
    folder.mkdir()
    (folder / "model-1.safetensors").write_bytes(b"one")
    (folder / "model-2.safetensors").write_bytes(b"two")
    (folder / "config.json").write_text("{}")
    return folder


def test_a_fingerprint_changes_with_bytes_and_names_of_weights_alone(tmp_path):
    """S0-13: frozen weights are told by their fingerprint."""
    folder = weights(tmp_path / "a")
    before = manifest.fingerprint_folder(folder)
    assert before == manifest.fingerprint_folder(weights(tmp_path / "b"))
    (folder / "config.json").write_text('{"changed": 1}')
    assert manifest.fingerprint_folder(folder) == before
    (folder / "model-2.safetensors").write_bytes(b"twO")
    changed = manifest.fingerprint_folder(folder)
    assert changed != before
    (folder / "model-2.safetensors").rename(folder / "model-3.safetensors")
    assert manifest.fingerprint_folder(folder) not in {before, changed}
    (folder / "model-3.safetensors").unlink()
    assert manifest.fingerprint_folder(folder) not in {before, changed}


def test_a_fingerprint_is_the_hash_of_names_and_hashes(tmp_path):
    folder = weights(tmp_path / "a")
    listed = "".join(
        f"{name}\0{hashlib.sha256(content).hexdigest()}\n"
        for name, content in (("model-1.safetensors", b"one"), ("model-2.safetensors", b"two"))
    )
    assert manifest.fingerprint_folder(folder) == hashlib.sha256(listed.encode()).hexdigest()


def test_an_unchanged_file_is_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, "RECENT", 0)
    folder = weights(tmp_path / "a")
    before = manifest.fingerprint_folder(folder)

    def fail(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(hashlib, "file_digest", fail)
    assert manifest.fingerprint_folder(folder) == before


def test_a_folder_without_weights_has_no_fingerprint(tmp_path):
    with pytest.raises(UserError, match=r"no \*\.safetensors"):
        manifest.fingerprint_folder(tmp_path)
