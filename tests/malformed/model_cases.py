"""Model folders with one thing wrong, met by the resolver, by the planner and by training."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from malformed.case import Case
from malformed.file_cases import train
from malformed.world import UNSEALED, World
from safetensors.torch import load_file, save_file

Spoil = Callable[[Path], object]


def _write(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content)


def _remove(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def _folder(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return spoil


def _keys(file: str, **changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        value = json.loads((folder / file).read_text())
        value = {key: kept for key, kept in {**value, **changes}.items() if kept is not ...}
        (folder / file).write_text(json.dumps(value))

    return spoil


def _cut(name: str, share: float = 0.5) -> Spoil:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return spoil


def _tensors(name: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Spoil:
    def spoil(folder: Path) -> None:
        save_file(change(load_file(folder / name)), folder / name, metadata={"format": "pt"})

    return spoil


def _without_first(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(sorted(tensors.items())[1:])


def _smaller(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: tensor[..., :1].contiguous() if tensor.dim() else tensor for name, tensor in tensors.items()
    }


def _nan(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(tensor, float("nan")) for name, tensor in tensors.items()}


HEADER = struct.pack("<Q", 2**62) + b"{}"
DEEP = b'{"a":' * 50_000
WEIGHTS = "model.safetensors"

FULL: dict[str, tuple[Spoil, str]] = {
    "no config.json": (_remove("config.json"), "no model is here"),
    "config.json is empty": (_write("config.json", b""), ""),
    "config.json is a list": (_write("config.json", b"[]"), ""),
    "config.json is cut short": (_cut("config.json"), ""),
    "config.json is not UTF-8": (_write("config.json", b"\xff\xfe{}"), ""),
    "config.json is nested deep": (_write("config.json", DEEP), ""),
    "config.json is a folder": (_folder("config.json"), ""),
    "config.json is an empty object": (_write("config.json", b"{}"), ""),
    "config.json holds NaN": (_keys("config.json", rms_norm_eps=float("nan")), ""),
    "an unknown architecture": (_keys("config.json", model_type="nothing"), ""),
    "a model type that is a list": (_keys("config.json", model_type=["llama"]), ""),
    "a model type that is a number": (_keys("config.json", model_type=7), ""),
    "an encoder": (_keys("config.json", model_type="vit"), ""),
    "a width that is text": (_keys("config.json", hidden_size="wide"), ""),
    "a width of null": (_keys("config.json", hidden_size=None), ""),
    "a width of zero": (_keys("config.json", hidden_size=0), ""),
    "a width below zero": (_keys("config.json", hidden_size=-8), ""),
    "another width": (_keys("config.json", hidden_size=64), ""),
    "a width beyond memory": (_keys("config.json", hidden_size=2**40), ""),
    "a width that is a list": (_keys("config.json", hidden_size=[32]), ""),
    "no heads": (_keys("config.json", num_attention_heads=0), ""),
    "heads that are text": (_keys("config.json", num_attention_heads="four"), ""),
    "more layers than weights": (_keys("config.json", num_hidden_layers=3), "missing"),
    "layers that are text": (_keys("config.json", num_hidden_layers="two"), ""),
    "an activation that is none": (_keys("config.json", hidden_act="nothing"), ""),
    "a vocabulary smaller than the tokenizer's": (_keys("config.json", vocab_size=100), ""),
    "a type that is none": (_keys("config.json", dtype="float33"), ""),
    "a rope that is none": (_keys("config.json", rope_parameters={"rope_type": "spiral"}), ""),
    "quantised by nothing known": (_keys("config.json", quantization_config={"quant_method": "x"}), ""),
    "code of its own": (
        _keys("config.json", model_type="own", auto_map={"AutoModelForCausalLM": "evil.Model"}),
        "",
    ),
    "no weights": (_remove(WEIGHTS), WEIGHTS),
    "weights that are empty": (_write(WEIGHTS, b""), ""),
    "weights that are text": (_write(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\n"), ""),
    "weights cut short": (_cut(WEIGHTS), ""),
    "weights cut within the header": (_cut(WEIGHTS, 0.001), ""),
    "weights with a header without end": (_write(WEIGHTS, HEADER), ""),
    "weights with a header that is no JSON": (_write(WEIGHTS, struct.pack("<Q", 4) + b"oops"), ""),
    "weights without tensors": (_tensors(WEIGHTS, lambda _: {}), "missing"),
    "a weight that is missing": (_tensors(WEIGHTS, _without_first), "missing"),
    "weights of another shape": (_tensors(WEIGHTS, _smaller), ""),
    "weights that are NaN": (_tensors(WEIGHTS, _nan), "not finite"),
    "weights that are a folder": (_folder(WEIGHTS), ""),
    "a pickle": (
        lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"),
        "pickle",
    ),
    "no tokenizer": (
        lambda folder: [p.unlink() for p in folder.glob("*token*")],
        "tokenizer",
    ),
    "no tokenizer.json": (_remove("tokenizer.json"), "tokenizer"),
    "tokenizer.json is empty": (_write("tokenizer.json", b""), "tokenizer"),
    "tokenizer.json is cut short": (_cut("tokenizer.json"), "tokenizer"),
    "tokenizer.json is another JSON": (_write("tokenizer.json", b'{"a": 1}'), "tokenizer"),
    "tokenizer.json is a list": (_write("tokenizer.json", b"[]"), "tokenizer"),
    "tokenizer.json without a model": (_keys("tokenizer.json", model=None), "tokenizer"),
    "tokenizer_config.json is a list": (_write("tokenizer_config.json", b"[]"), "tokenizer"),
    "tokenizer_config.json is cut short": (_cut("tokenizer_config.json"), "tokenizer"),
    "a tokenizer class that is none": (_keys("tokenizer_config.json", tokenizer_class=7), ""),
    "an eos token that is a number": (_keys("tokenizer_config.json", eos_token=7), ""),
    "an eos token that is a list": (_keys("tokenizer_config.json", eos_token=["a"]), ""),
    "a chat template that does not parse": (_write("chat_template.jinja", b"{% for %}"), "chat template"),
    "a chat template that divides by zero": (_write("chat_template.jinja", b"{{ 1 / 0 }}"), "chat template"),
    "a chat template that adds text to a number": (_write("chat_template.jinja", b"{{ 1 + 'a' }}"), "chat"),
    "a chat template that counts to the moon": (
        _write("chat_template.jinja", b"{% for i in range(9999999999) %}{% endfor %}"),
        "chat template",
    ),
    "a chat template that calls itself": (
        _write("chat_template.jinja", b"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
        "chat template",
    ),
    "a chat template that opens files": (
        _write("chat_template.jinja", b"{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        "chat template",
    ),
    "a chat template that is not UTF-8": (_write("chat_template.jinja", b"\xff\xfe"), ""),
}
SURVIVES = {
    # transformers fixes or ignores these itself, and the model is whole.
    "an eos token that is a number",
    "an eos token that is a list",
    "a type that is none",
    "quantised by nothing known",
    "a tokenizer class that is none",
}
INDEX = "model.safetensors.index.json"
RESOLVED: dict[str, tuple[Spoil, str]] = {
    "an index that is empty": (_write(INDEX, b""), INDEX),
    "an index that is a list": (_write(INDEX, b"[]"), INDEX),
    "an index without a map": (_write(INDEX, b"{}"), "weight files are missing"),
    "an index whose map is a list": (_write(INDEX, b'{"weight_map": [1]}'), "weight files are missing"),
    "an index of numbers": (_write(INDEX, b'{"weight_map": {"a": 1}}'), "weight files are missing"),
    "an index of lists": (_write(INDEX, b'{"weight_map": {"a": ["b"]}}'), "weight files are missing"),
    "an index of files elsewhere": (
        _write(INDEX, b'{"weight_map": {"a": "../model/model.safetensors"}}'),
        "weight files are missing",
    ),
    "an index of files that are not there": (
        _write(INDEX, b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}'),
        "model-00001-of-00002.safetensors",
    ),
}
CARD = "adapter_config.json"
ADAPTER: dict[str, tuple[Spoil, str]] = {
    "its settings are empty": (_write(CARD, b""), CARD),
    "its settings are a list": (_write(CARD, b"[]"), CARD),
    "its settings are cut short": (_cut(CARD), CARD),
    "its settings are nested deep": (_write(CARD, DEEP), CARD),
    "no base": (_keys(CARD, base_model_name_or_path=...), "names no base"),
    "a base that is null": (_keys(CARD, base_model_name_or_path=None), "names no base"),
    "a base that is a number": (_keys(CARD, base_model_name_or_path=7), "names no base"),
    "a base that is a list": (_keys(CARD, base_model_name_or_path=["a"]), "names no base"),
    "a base that is not there": (_keys(CARD, base_model_name_or_path="/no/such/base"), "/no/such/base"),
    "a base of 5,000 letters": (_keys(CARD, base_model_name_or_path="/" + "x" * 5000), "too long"),
    "a base with a NUL": (_keys(CARD, base_model_name_or_path="/a\0b"), "no such model"),
    "a base out of reach": (_keys(CARD, base_model_name_or_path="nobody/nothing"), "nobody/nothing"),
    "itself as its base": (_keys(CARD, base_model_name_or_path="."), "cycle"),
    "no weights": (_remove("adapter_model.safetensors"), "adapter_model.safetensors"),
    "a pickle": (
        lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"),
        "pickle",
    ),
}
ADAPTER_LOADED: dict[str, tuple[Spoil, str]] = {
    "weights that are empty": (_write("adapter_model.safetensors", b""), ""),
    "weights cut short": (_cut("adapter_model.safetensors"), ""),
    "a header without end": (_write("adapter_model.safetensors", HEADER), ""),
    "a weight that is missing": (_tensors("adapter_model.safetensors", _without_first), "missing"),
    "weights without tensors": (_tensors("adapter_model.safetensors", lambda _: {}), "missing"),
    "weights of another shape": (_tensors("adapter_model.safetensors", _smaller), ""),
    "a kind that is none": (_keys(CARD, peft_type="NOTHING"), ""),
    "a kind that is null": (_keys(CARD, peft_type=None), ""),
    "a rank that is text": (_keys(CARD, r="four"), ""),
    "a rank of zero": (_keys(CARD, r=0), ""),
    "a rank below zero": (_keys(CARD, r=-4), ""),
    "another rank": (_keys(CARD, r=3), ""),
    "layers that are not there": (_keys(CARD, target_modules=["nothing"]), ""),
    "layers that are a number": (_keys(CARD, target_modules=7), ""),
    "layers that are a broken pattern": (_keys(CARD, target_modules="(((("), ""),
    "an alpha that is text": (_keys(CARD, lora_alpha="big"), ""),
}
REWARD: dict[str, tuple[Spoil, str]] = {
    "its card is empty": (_write("reward.json", b""), "reward.json"),
    "its card is a list": (_write("reward.json", b"[]"), "reward.json"),
    "its card is cut short": (_cut("reward.json"), "reward.json"),
    "an offset that is text": (_keys("reward.json", offset="high"), "offset"),
    "an offset that is NaN": (_keys("reward.json", offset=float("nan")), "NaN"),
    "no scale": (_keys("reward.json", scale=...), "scale"),
    "a scale that is a list": (_keys("reward.json", scale=[1]), "scale"),
    "no fingerprint": (_keys("reward.json", base_fingerprint=...), "base_fingerprint"),
    "another fingerprint": (_keys("reward.json", base_fingerprint="0" * 64), "changed"),
    "a limit that is text": (_keys("reward.json", max_length="long"), "max_length"),
    "a hidden size that is text": (_keys("reward.json", hidden_size="wide"), "hidden size"),
    "no head": (_remove("reward_head.safetensors"), "reward_head.safetensors"),
    "a head that is empty": (_write("reward_head.safetensors", b""), "reward_head.safetensors"),
    "a head cut short": (_cut("reward_head.safetensors"), "reward_head.safetensors"),
    "a head without a bias": (
        _tensors("reward_head.safetensors", lambda t: {"weight": t["weight"]}),
        "bias",
    ),
    "a head of another size": (_tensors("reward_head.safetensors", _smaller), "1 inputs"),
    "a head that is a matrix": (
        _tensors("reward_head.safetensors", lambda t: {**t, "weight": t["weight"][None]}),
        "vector",
    ),
}
GGUF: dict[str, bytes] = {
    "the magic number alone": b"GGUF",
    "nonsense": b"GGUF" + b"\xff" * 200,
    "version 99": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    "no tensors": b"GGUF" + struct.pack("<IQQ", 3, 0, 0),
    "tensors without end": b"GGUF" + struct.pack("<IQQ", 3, 2**40, 2**40),
    "not GGUF": b"oops",
}


def _spoilt(source: str, corrupt: Spoil, words: Callable[[World, Path, Path], list[str]]) -> Any:
    def make(world: World, folder: Path) -> list[str]:
        corrupted = folder / "spoilt"
        shutil.copytree(world.root / source, corrupted, ignore=UNSEALED)
        corrupt(corrupted)
        return words(world, folder, corrupted)

    return make


def _sft(world: World, folder: Path, model: Path) -> list[str]:
    return train(world, "sft", folder, str(world.root / "pairs.jsonl"), f"model_name={model}")


def _ppo(world: World, folder: Path, reward: Path) -> list[str]:
    setting = f"training.reward_model.checkpoint_path={reward}"
    return train(world, "ppo", folder, str(world.root / "prompts.jsonl"), setting)


def _looked_up(_: World, __: Path, model: Path) -> list[str]:
    return ["model", str(model)]


def _planned(world: World, _: Path, model: Path) -> list[str]:
    config = str(world.pipeline / "01_sft" / "config.yml")
    return ["plan", config, "--no-measure", "--set", f"model_name={model}"]


def _gguf(content: bytes) -> Callable[[World, Path], list[str]]:
    def make(world: World, folder: Path) -> list[str]:
        (folder / "model.gguf").write_bytes(content)
        return ["model", str(folder / "model.gguf")]

    return make


def cases() -> list[Case]:
    found = []
    for name, (corrupt, named) in FULL.items():
        if name not in SURVIVES:
            found.append(Case(f"model, {name}", _spoilt("model", corrupt, _sft), ("spoilt", named)))
    for name in ("no config.json", "config.json is cut short", "config.json is a list", "no heads"):
        found.append(Case(f"plan, {name}", _spoilt("model", FULL[name][0], _planned), ("spoilt",)))
    for name, (corrupt, named) in RESOLVED.items():
        found.append(Case(f"index, {name}", _spoilt("model", corrupt, _looked_up), (named,)))
    adapter = "out/03_ppo/final"
    for name, (corrupt, named) in ADAPTER.items():
        found.append(Case(f"adapter, {name}", _spoilt(adapter, corrupt, _looked_up), (named,)))
    for name, (corrupt, named) in ADAPTER_LOADED.items():
        found.append(Case(f"adapter, {name}, loaded", _spoilt(adapter, corrupt, _sft), ("spoilt", named)))
    for name, (corrupt, named) in REWARD.items():
        found.append(Case(f"reward model, {name}", _spoilt("out/02_rm/final", corrupt, _ppo), (named,)))
    found += [Case(f"GGUF, {name}", _gguf(content), ("model.gguf",)) for name, content in GGUF.items()]
    return found
