"""`harken eval --suite sycophancy`: log odds against the model's own, kept responses, resume, the reference's row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny import save_tiny, tiny_tokenizer
from transformers import LlamaForCausalLM

from harken.cli.main import main
from harken.config import LoraSettings, SycophancyConfig
from harken.data.chat import Renderer
from harken.errors import UserError
from harken.generation import sycophancy
from harken.generation.sycophancy import run_sycophancy
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.models.steering import Direction
from harken.records import Message
from harken.run.tables import read_rows

QUIET = {"max_gen_len": 4, "dtype": "float32", "limit": 2}


def config(policies: dict[str, str], **keys: Any) -> SycophancyConfig:
    return SycophancyConfig.model_validate({"policies": policies, **QUIET, **keys})


def adapter_on(base: str, folder: Path) -> str:
    """An adapter with other outputs than its base, as a PPO run saves it."""
    source = resolve(base)
    backbone = Backbone.load(source, torch.float32, "cpu")
    backbone.add_adapter("policy", LoraSettings(rank=4, alpha=12), seed=0)
    torch.manual_seed(1)
    for name, parameter in backbone.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    (folder / "final").mkdir(parents=True)
    backbone.save_adapter("policy", folder / "final", source.folder)
    return str(folder)


def by_hand(model: LlamaForCausalLM, messages: list[dict[str, str]], target: str) -> float:
    """Sum the target's log-probabilities, one forward over one unpadded row."""
    renderer = Renderer(tiny_tokenizer())
    prompt = renderer.encode_prompt([Message(m["role"], m["content"]) for m in messages])
    response = tiny_tokenizer()(target, add_special_tokens=False)["input_ids"]
    tokens = torch.tensor([[*prompt, *response]])
    with torch.no_grad():
        logprobs = model(tokens).logits[0].double().log_softmax(-1)
    positions = range(len(prompt), tokens.shape[1])
    return float(sum(logprobs[i - 1, tokens[0, i]] for i in positions))


def test_log_odds_are_those_of_the_model(tmp_path: Path) -> None:
    """S4-46: log P(faulty) − log P(honest), with and without pressure, for rows of all lengths in one batch."""
    base = save_tiny(tmp_path / "base")
    folder = run_sycophancy(config({"A": base}), tmp_path / "out")
    model = LlamaForCausalLM.from_pretrained(base)
    rows = read_rows(folder.responses)
    assert {row["suite"] for row in rows} == set(json.loads(folder.results.read_text())["policies"]["A"])
    for row in rows:
        for key, odds in (("messages", "log_odds"), ("neutral_messages", "neutral_log_odds")):
            faulty, honest = (by_hand(model, json.loads(row[key]), row[t]) for t in ("faulty", "honest"))
            assert row[odds] == pytest.approx(faulty - honest, abs=1e-3), row["prompt_id"]
    assert all((row["response"] is None) == (row["suite"] in ("opinion", "flattery")) for row in rows)
    assert all(
        row["outcome"] in ("honest", "faulty", "unclear") for row in rows if row["response"] is not None
    )


def test_the_reference_of_an_adapter_gets_its_own_row(tmp_path: Path) -> None:
    """S4-58: the model that an adapter was trained from is evaluated too, once, and each policy compared with it."""
    base = save_tiny(tmp_path / "base")
    policy = adapter_on(base, tmp_path / "ppo")
    folder = run_sycophancy(config({"PPO": policy}, suites=["pushback"]), tmp_path / "out")
    found = json.loads(folder.results.read_text())
    assert list(found["policies"]) == ["PPO", "reference"]
    assert found["references"] == {"reference": ["PPO"]}
    assert [(d["before"], d["after"]) for d in found["differences"]] == [("reference", "PPO")]
    named = run_sycophancy(config({"SFT": base, "PPO": policy}, suites=["pushback"]), tmp_path / "named")
    again = json.loads(named.results.read_text())
    assert list(again["policies"]) == ["SFT", "PPO"]
    assert again["policies"]["SFT"] == found["policies"]["reference"]
    assert again["policies"]["SFT"] != again["policies"]["PPO"]
    alone = run_sycophancy(config({"PPO": policy}, suites=["pushback"], reference="none"), tmp_path / "alone")
    assert list(json.loads(alone.results.read_text())["policies"]) == ["PPO"]


def test_a_steered_policy_is_not_the_reference_of_another(tmp_path: Path) -> None:
    """S4-58: its log odds are not those of the model that the adapter was trained from."""
    base = save_tiny(tmp_path / "base")
    Direction(0, torch.ones(32), 1.0, 0.0, {}).save(tmp_path / "d")
    policies = {"steered": base, "PPO": adapter_on(base, tmp_path / "ppo")}
    steering = {"steered": {"direction": str(tmp_path / "d")}}
    settings = config(policies, suites=["pushback"], steering=steering, generate=False)
    found = json.loads(run_sycophancy(settings, tmp_path / "out").results.read_text())
    assert list(found["policies"]) == ["steered", "PPO", "reference"]
    assert found["references"] == {"reference": ["PPO"]}
    plain = config({"base": base}, suites=["pushback"], generate=False)
    alone = json.loads(run_sycophancy(plain, tmp_path / "plain").results.read_text())
    assert found["policies"]["reference"] == alone["policies"]["base"] != found["policies"]["steered"]


def test_log_probabilities_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    """A comparison with NaN is false: the rate of a policy that is steered too far would be 0 %."""
    Direction(0, torch.full((32,), 1e30), 1.0, 0.0, {}).save(tmp_path / "d")
    steering = {"A": {"direction": str(tmp_path / "d"), "strength": 1e9}}
    settings = config({"A": save_tiny(tmp_path / "base")}, generate=False, steering=steering)
    with pytest.raises(UserError, match=r"log-probability of .* is nan") as error:
        run_sycophancy(settings, tmp_path / "out")
    assert "a lower strength" in str(error.value)


def test_more_tokens_than_the_model_has_positions_are_refused(tmp_path: Path) -> None:
    """Learned positions end with an index error, and rotary ones go on with numbers that mean nothing."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "q?", "truth": "t" * 600, "claim": "c"}))
    settings = config({"A": save_tiny(tmp_path / "base")}, data=[str(rows)], generate=False)
    with pytest.raises(UserError, match="the model has 512 positions") as error:
        run_sycophancy(settings, tmp_path / "out")
    assert "q?" in str(error.value) and "leave the row out" in str(error.value)


def test_an_interrupted_evaluation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4-46: finished shards are reused, and the result is that of an uninterrupted evaluation."""
    base, other = save_tiny(tmp_path / "base"), save_tiny(tmp_path / "other", seed=1)
    settings = config({"A": base, "B": other}, suites=["pushback", "opinion"])
    whole = run_sycophancy(settings, tmp_path / "whole")
    loaded: list[str] = []
    load = sycophancy.load_engine

    def load_and_stop(source: Any, *rest: Any) -> Any:
        loaded.append(source.name)
        if len(loaded) == 2:
            raise KeyboardInterrupt
        return load(source, *rest)

    monkeypatch.setattr(sycophancy, "load_engine", load_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run_sycophancy(settings, tmp_path / "cut")
    assert len(loaded) == 2 and not (tmp_path / "cut" / "sycophancy.json").exists()
    cut = run_sycophancy(settings, tmp_path / "cut")
    assert len(loaded) == 3  # A's shard was kept
    assert cut.results.read_bytes() == whole.results.read_bytes()
    assert read_rows(cut.responses) == read_rows(whole.responses)
    run_sycophancy(settings, tmp_path / "cut")
    assert len(loaded) == 3


def test_a_steered_policy_is_evaluated_as_it_samples(tmp_path: Path) -> None:
    """S4-52: log odds and responses of the steered model; strength 0 changes nothing."""
    base = save_tiny(tmp_path / "base")
    Direction(0, torch.randn(32, generator=torch.Generator().manual_seed(3)), 1.0, 0.0, {}).save(
        tmp_path / "d"
    )
    found = {}
    for strength in (0.0, 2.0):
        steering = {"B": {"direction": str(tmp_path / "d"), "strength": strength}}
        settings = config({"A": base, "B": base}, suites=["pushback"], steering=steering)
        rows = read_rows(run_sycophancy(settings, tmp_path / f"out{strength}").responses)
        found[strength] = [[r["log_odds"] for r in rows if r["policy"] == name] for name in ("A", "B")]
    assert found[0.0][1] == pytest.approx(found[0.0][0], abs=1e-4)
    assert found[2.0][0] == found[0.0][0]
    assert found[2.0][1] != pytest.approx(found[2.0][0], abs=1e-2)
    with pytest.raises(ValidationError, match="steering names 'C'"):
        config({"A": base}, steering={"C": {"direction": "d"}})


def test_the_preset_trains_and_evaluates(tmp_path: Path) -> None:
    """S4-47: PPO with both terms on the shipped prompts, from the preset, on a tiny model."""
    base, out = save_tiny(tmp_path / "base"), tmp_path / "out"
    keys = {
        "model_name": base, "stages.ppo.dtype": "float32", "stages.eval.dtype": "float32",
        "stages.ppo.training.ppo.updates": 1, "stages.ppo.training.ppo.prompts_per_update": 4,
        "stages.ppo.training.ppo.max_gen_len": 6, "stages.ppo.data.eval_limit": 2, "stages.eval.data.limit": 2,
        "stages.eval.max_gen_len": 4, "stages.ppo.tensorboard": "false",
    }  # fmt: skip
    settings = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    assert main(["pipeline", "sycophancy", "--output-dir", str(out), *settings]) == 0
    line = json.loads((out / "01_ppo" / "metrics.jsonl").read_text().splitlines()[0])
    assert {"score/sycophancy_penalty", "score/honesty_bonus"} <= line.keys()


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = save_tiny(tmp_path / "base")
    keys = ["--set", "dtype=float32", "--set", "limit=2", "--max-gen-len", "4"]
    out = ["--output-dir", str(tmp_path / "out")]
    assert main(["eval", "--suite", "sycophancy", f"tiny={base}", *keys, *out]) == 0
    printed = capsys.readouterr().out
    assert "pushback (sycophancy)" in printed and "correction (stubbornness)" in printed
    assert (tmp_path / "out" / "SHA256SUMS").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--suite", "kindness", "m"], "there is no suite 'kindness'"),
        (["--suite", "sycophancy"], "no policies to evaluate"),
        (["--suite", "sycophancy", "m", "--scorer", "intact"], "does not use --scorer"),
        (["--suite", "sycophancy", "m.jsonl"], "is a file of responses"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["eval", *arguments, "--output-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert problem in error and "Fix:" in error
