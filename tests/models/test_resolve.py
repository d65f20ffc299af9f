"""Names to models: what each kind of folder is taken for, and every way in which a name can be wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tiny_gguf import write_tiny_gguf

from harken.errors import UserError
from harken.models import resolve as subject
from harken.models.resolve import ModelSource, require_use, resolve


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def full(folder: Path, hidden_size: int = 32, weights: bytes = b"weights") -> Path:
    write_json(folder / "config.json", {"model_type": "llama", "hidden_size": hidden_size})
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def adapter(folder: Path, base: str | Path, weights: bytes = b"adapter") -> Path:
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": str(base)})
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def reward(folder: Path, base: str | Path, hidden_size: int = 32) -> Path:
    adapter(folder, base)
    write_json(folder / "reward.json", {"offset": 0.0, "base": str(base), "hidden_size": hidden_size})
    (folder / "reward_head.safetensors").write_bytes(b"head")
    return folder


def test_a_model_folder(tmp_path: Path) -> None:
    source = resolve(str(full(tmp_path / "base")))
    assert (source.kind, source.folder, source.base) == ("full", tmp_path / "base", None)
    assert source.chain() == [source]


def test_a_run_and_its_final_are_the_same_model(tmp_path: Path) -> None:
    """S1-02, S1-20: an SFT run folder loads directly."""
    full(tmp_path / "sft" / "final")
    (tmp_path / "sft" / "config.yml").write_text("")
    run, final = resolve(str(tmp_path / "sft")), resolve(str(tmp_path / "sft" / "final"))
    assert run.folder == final.folder == tmp_path / "sft" / "final"
    assert run.name == str(tmp_path / "sft")
    assert run.kind == "full"


def test_any_number_of_links(tmp_path: Path) -> None:
    """S1-22: base ← adapter ← adapter ← adapter, named by run folder and relative to itself."""
    full(tmp_path / "base")
    adapter(tmp_path / "one" / "final", tmp_path / "base")
    adapter(tmp_path / "two" / "final", tmp_path / "one")
    adapter(tmp_path / "three" / "final", "../../two/final")
    source = resolve(str(tmp_path / "three"))
    assert [link.folder.relative_to(tmp_path).parts[0] for link in source.chain()] == [
        "base",
        "one",
        "two",
        "three",
    ]
    assert [link.kind for link in source.chain()] == ["full", "adapter", "adapter", "adapter"]


def test_a_moved_pair_stays_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base given relative to the adapter is found from any working directory."""
    full(tmp_path / "runs" / "base")
    adapter(tmp_path / "runs" / "ppo", "../base")
    (tmp_path / "runs").rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    source = resolve(str(tmp_path / "moved" / "ppo"))
    assert source.base is not None
    assert source.base.folder == tmp_path / "moved" / "base"


def test_a_reward_run(tmp_path: Path) -> None:
    """S1-03: backbone, adapter and head are found from the run folder alone."""
    full(tmp_path / "base")
    reward(tmp_path / "rm" / "final", tmp_path / "base")
    source = resolve(str(tmp_path / "rm"))
    assert (source.kind, source.folder) == ("reward", tmp_path / "rm" / "final")
    assert source.base is not None
    assert (source.base.kind, source.base.folder) == ("full", tmp_path / "base")


def test_a_ppo_run_is_an_adapter_with_a_value_head(tmp_path: Path) -> None:
    full(tmp_path / "base")
    adapter(tmp_path / "ppo" / "final", tmp_path / "base")
    (tmp_path / "ppo" / "final" / "value_head.safetensors").write_bytes(b"value")
    assert resolve(str(tmp_path / "ppo")).kind == "adapter"


def test_a_sharded_model(tmp_path: Path) -> None:
    folder = full(tmp_path / "big")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    write_json(folder / "model.safetensors.index.json", index)
    with pytest.raises(UserError, match=r"weight files are missing: model-00002-of-00002\.safetensors"):
        resolve(str(folder))
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"")
    assert resolve(str(folder)).kind == "full"
    elsewhere = {"weight_map": {"a": f"../{folder.name}/model-00001-of-00002.safetensors"}}
    write_json(folder / "model.safetensors.index.json", elsewhere)
    with pytest.raises(UserError, match="weight files are missing"):
        resolve(str(folder))


def test_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "embedded_folder", lambda: full(tmp_path / "smollm2"))
    source = resolve("embedded")
    assert (source.kind, source.name, source.folder) == ("full", "embedded", tmp_path / "smollm2")


def test_a_gguf_file_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = write_tiny_gguf(tmp_path / "weights.q4")
    source = resolve(str(path))
    assert source.kind == "full"
    assert source.folder.parent == tmp_path / "cache" / "harken"
    assert (source.folder / "model.safetensors").is_file()


def test_a_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def hub(name: str) -> Path:
        asked.append(name)
        return full(tmp_path / "snapshot")

    monkeypatch.setattr(subject, "hub_folder", hub)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name").folder == tmp_path / "snapshot"
    assert asked == ["org/name"]
    full(tmp_path / "org" / "name")
    assert resolve("org/name").folder == tmp_path / "org" / "name"
    assert asked == ["org/name"]


@pytest.mark.parametrize(
    "name",
    ["outputs/x", "./x", "../x", "/nowhere/x", "~/no-such-folder", "a/b/c", "x", "runs/x", "x/", "/", ""],
)
def test_a_name_like_a_path_never_reaches_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S0-14: a bad path is an error, never the base model and never another's model of that name."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subject, "hub_folder", lambda _: pytest.fail("asked the hub"))
    monkeypatch.setattr(subject, "embedded_folder", lambda: pytest.fail("took the embedded model"))
    with pytest.raises(UserError):
        resolve(name)


def test_the_nearest_that_exists_is_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(tmp_path / "outputs" / "smollm2_sft" / "final")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"^outputs/smollm2_stf: no such model\. Fix: write outputs/smollm2_sft$"
    ):
        resolve("outputs/smollm2_stf")
    with pytest.raises(UserError, match=r"Fix: write outputs/smollm2_sft$"):
        resolve("outputs/smollm_sft/final")
    with pytest.raises(UserError, match=r"name `embedded`, .*; there is no qqq in"):
        resolve("qqq")
    full(tmp_path / "outputs" / "smollm2-135m_rm" / "final")
    with pytest.raises(UserError, match=r"train it first: harken train --preset smollm2-135m_sft$"):
        resolve("outputs/smollm2-135m_sft/final")  # what its preset writes, and not what is called much alike
    with pytest.raises(UserError, match=r"Fix: write outputs/smollm2-135m_rm/final$"):
        resolve("outputs/smollm2-135m_rm/finale")  # it is trained already


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (None, "this run has not finished."),
        ({"requested": 100, "completed": 7, "stopped_because": None}, "has not finished (7 of 100 steps)."),
        (
            {"requested": 9, "completed": 3, "stopped_because": "interrupted"},
            "(3 of 9 steps, interrupted). Fix: run its command again",
        ),
    ],
)
def test_an_unfinished_run(tmp_path: Path, status: dict[str, Any] | None, message: str) -> None:
    (tmp_path / "config.yml").write_text("")
    if status:
        write_json(tmp_path / "status.json", status)
    with pytest.raises(UserError) as caught:
        resolve(str(tmp_path))
    assert message in str(caught.value)


def test_a_pipeline_folder_names_its_stages(tmp_path: Path) -> None:
    full(tmp_path / "01_sft" / "final")
    full(tmp_path / "03_ppo" / "final")
    with pytest.raises(UserError, match="name one of them: 01_sft, 03_ppo"):
        resolve(str(tmp_path))


def empty(folder: Path) -> None:
    folder.mkdir()


def pickled(folder: Path) -> None:
    (full(folder) / "model.safetensors").rename(folder / "pytorch_model.bin")


def pickled_adapter(folder: Path) -> None:
    full(folder.parent / "base")
    (adapter(folder, "../base") / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def weightless(folder: Path) -> None:
    (full(folder) / "model.safetensors").unlink()


def headless(folder: Path) -> None:
    full(folder.parent / "base")
    (reward(folder, "../base") / "reward_head.safetensors").unlink()


def adapterless(folder: Path) -> None:
    full(folder.parent / "base")
    (reward(folder, "../base") / "adapter_config.json").unlink()


def baseless(folder: Path) -> None:
    adapter(folder, "")


def lost_base(folder: Path) -> None:
    adapter(folder, "/gone/for/good")


def broken_card(folder: Path) -> None:
    (adapter(folder, "x") / "adapter_config.json").write_text("{")


def on_a_reward_model(folder: Path) -> None:
    full(folder.parent / "base")
    reward(folder.parent / "rm", "../base")
    adapter(folder, "../rm")


def misfit(folder: Path) -> None:
    full(folder.parent / "base", hidden_size=576)
    reward(folder, "../base", hidden_size=960)


def round_and_round(folder: Path) -> None:
    adapter(folder, "../other")
    adapter(folder.parent / "other", "../model")


def on_itself(folder: Path) -> None:
    adapter(folder, folder)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty, r"no model is here: neither config\.json, adapter_config\.json nor a final"),
        (pickled, r"pickle \(pytorch_model\.bin\).*Fix: save it as safetensors"),
        (pickled_adapter, r"pickle \(adapter_model\.bin\)"),
        (weightless, r"has no model\.safetensors"),
        (headless, r"this reward model has no reward_head\.safetensors"),
        (adapterless, r"this reward model has no adapter_config\.json"),
        (baseless, r"adapter_config\.json: names no base model"),
        (lost_base, r"model: its base model: /gone/for/good: no such model"),
        (broken_card, r"adapter_config\.json: is not JSON"),
        (on_a_reward_model, r"its base .*rm is a reward model"),
        (misfit, r"the reward head takes hidden size 960, its base .* has 576"),
        (round_and_round, r"bases form a cycle: .*model → .*other → .*model"),
        (on_itself, r"bases form a cycle"),
    ],
)
def test_a_folder_that_is_not_whole(make: Any, message: str, tmp_path: Path) -> None:
    """S1-16, S1-26: contents are checked before any load, and each line says what is wrong."""
    make(tmp_path / "model")
    with pytest.raises(UserError, match=message) as caught:
        resolve(str(tmp_path / "model"))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"not one")
    with pytest.raises(UserError, match="is a file, but not a GGUF file"):
        resolve(str(tmp_path / "model.gguf"))


def test_each_link_is_one_line_naming_the_loaded_model(tmp_path: Path) -> None:
    """S0-14: name, kind, folder and the beginning of its own fingerprint."""
    full(tmp_path / "base")
    adapter(tmp_path / "ppo" / "final", tmp_path / "base")
    base, top = resolve(str(tmp_path / "ppo")).chain()
    assert base.describe() == f"{tmp_path}/base: a full model in {tmp_path}/base [{base.fingerprint[:12]}]"
    assert top.describe() == (
        f"{tmp_path}/ppo: an adapter on {tmp_path}/base in {tmp_path}/ppo/final [{top.fingerprint[:12]}]"
    )


def test_a_fingerprint_is_of_the_models_own_weights(tmp_path: Path) -> None:
    full(tmp_path / "base")
    adapter(tmp_path / "one", "../base")
    before = resolve(str(tmp_path / "one"))
    assert before.base is not None
    ids = (before.fingerprint, before.base.fingerprint)
    (tmp_path / "base" / "model.safetensors").write_bytes(b"other weights")
    after = resolve(str(tmp_path / "one"))
    assert after.base is not None
    assert after.fingerprint == ids[0]
    assert after.base.fingerprint != ids[1]


def test_the_folder_is_always_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(tmp_path / "base")
    os.symlink(tmp_path / "base", tmp_path / "link")
    monkeypatch.chdir(tmp_path)
    assert resolve("base").folder == resolve("link").folder == tmp_path / "base"


def test_a_model_serves_as_what_it_is(tmp_path: Path) -> None:
    base = ModelSource("full", "sft", tmp_path)
    judge = ModelSource("reward", "rm", tmp_path, base)
    ppo = ModelSource("adapter", "ppo", tmp_path, base)
    assert require_use(base, "policy") is base
    assert require_use(ppo, "policy") is ppo
    assert require_use(judge, "reward") is judge
    with pytest.raises(
        UserError, match=r"sft: is not a reward model: it is a full model\. Fix: train one with .*_rm"
    ):
        require_use(base, "reward")
    with pytest.raises(UserError, match="ppo: is not a reward model: it is an adapter on sft"):
        require_use(ppo, "reward")
    with pytest.raises(UserError, match="rm: cannot generate responses: it is a reward model on sft"):
        require_use(judge, "policy")


def _record(run: Path, base: Path) -> None:
    write_json(
        run / "manifest.json",
        {"lineage": {"folder": str(base), "fingerprint": resolve(str(base)).lineage_fingerprint}},
    )


def test_a_project_that_moved_as_a_whole_is_found_again(tmp_path: Path) -> None:
    """Moved, or copied and the original deleted: the base is found at its place in the project, by fingerprint."""
    old, new = tmp_path / "old" / "project", tmp_path / "elsewhere"
    full(old / "01_sft" / "final", weights=b"tuned")
    base = old / "01_sft" / "final"
    adapter(old / "03_ppo" / "final", base)
    _record(old / "03_ppo", base)
    reward(old / "02_rm" / "final", base)
    card = old / "02_rm" / "final" / "reward.json"
    print_of_base = resolve(str(base)).lineage_fingerprint
    write_json(card, {"hidden_size": 32, "base_fingerprint": print_of_base})
    (tmp_path / "old" / "project").rename(new)
    for name in ("02_rm", "03_ppo"):
        source = resolve(str(new / name))
        assert source.base is not None and source.base.folder == new / "01_sft" / "final"
    (new / "01_sft" / "final" / "model.safetensors").write_bytes(b"another")
    for name in ("02_rm", "03_ppo"):
        with pytest.raises(UserError, match="its base model"):
            resolve(str(new / name))


def test_a_base_that_is_still_there_is_the_one_that_is_meant(tmp_path: Path) -> None:
    base = full(tmp_path / "p" / "01_sft" / "final")
    adapter(tmp_path / "copy" / "03_ppo" / "final", base)
    full(tmp_path / "copy" / "01_sft" / "final", weights=b"another")
    source = resolve(str(tmp_path / "copy" / "03_ppo"))
    assert source.base is not None and source.base.folder == base


def test_the_runs_own_copy_of_a_base_moves_with_it(tmp_path: Path) -> None:
    full(tmp_path / "03_ppo" / "base")
    adapter(tmp_path / "03_ppo" / "final", tmp_path / "03_ppo" / "base")
    (tmp_path / "03_ppo").rename(tmp_path / "renamed")
    source = resolve(str(tmp_path / "renamed"))
    assert source.base is not None and source.base.folder == tmp_path / "renamed" / "base"


@pytest.mark.parametrize("head", ["LlamaForSequenceClassification", "BertForMaskedLM", "Qwen2ForRewardModel"])
def test_a_model_for_another_task_is_no_policy(tmp_path: Path, head: str) -> None:
    """With tied embeddings it would load as a language model without a missing weight."""
    folder = full(tmp_path / "classifier")
    write_json(folder / "config.json", {"model_type": "llama", "hidden_size": 32, "architectures": [head]})
    with pytest.raises(UserError, match=rf"cannot generate responses: its config\.json names {head}"):
        require_use(resolve(str(folder)), "policy")
    adapter(tmp_path / "on", folder)
    with pytest.raises(UserError, match="cannot generate responses"):
        require_use(resolve(str(tmp_path / "on")), "policy")


@pytest.mark.parametrize("named", [None, [], ["LlamaForCausalLM"], ["Gemma3ForConditionalGeneration"]])
def test_a_language_model_is_a_policy_despite_other_config_keys(tmp_path: Path, named: object) -> None:
    folder = full(tmp_path / "model")
    write_json(folder / "config.json", {"model_type": "llama", "hidden_size": 32, "architectures": named})
    require_use(resolve(str(folder)), "policy")
