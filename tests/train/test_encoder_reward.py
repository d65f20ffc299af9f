"""A reward model on an encoder, trained, carded and optimised against by the command line; nothing else of it fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import save_tiny
from tiny_encoders import encoder_tokenizer, save_encoder, score_by_hand, tiny_encoder
from transformers import AutoModel

from harken.cli.main import main
from harken.config import RunConfig
from harken.data.encoder_renderer import EncoderRenderer
from harken.models.encoder import Encoder
from harken.records import Message, Preference, Prompt, TokenPair
from harken.run.tables import read_rows
from harken.run.tracking import CURVES
from harken.train.reward_model import RewardStage

REWARD = {
    "dtype": "float32", "tensorboard": True,
    "training": {"type": "reward", "max_steps": 3, "batch_size": 8, "lr": 3e-3, "normalise": "standardise"},
}  # fmt: skip


def write_config(root: Path, name: str, settings: dict[str, object]) -> str:
    (root / f"{name}.yml").write_text(yaml.safe_dump(settings))
    return str(root / f"{name}.yml")


def train(root: Path, name: str, settings: dict[str, object]) -> int:
    return main(["train", "--preset", write_config(root, name, settings), "--output-dir", str(root / name)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter (rm) and a whole model (whole) trained on an encoder, and a policy trained against both (ppo)."""
    root = tmp_path_factory.mktemp("encoder")
    save_encoder(root / "bert")
    save_tiny(root / "llama")
    rows = [
        {"prompt": f"Number {i}?", "chosen": f"good {i}", "rejected": f"bad {i}{i}", "domain": "ab"[i % 2]}
        for i in range(40)
    ]
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "prompts.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Count {i}"}) + "\n" for i in range(4))
    )
    data = {"path": str(root / "pairs.jsonl"), "max_length": 100, "eval_fraction": 0.3}
    shared = {**REWARD, "model_name": str(root / "bert"), "data": data}
    assert train(root, "rm", shared | {"lora": {"rank": 4}}) == 0
    assert train(root, "whole", shared | {"lora": None}) == 0
    rewards = {
        "reward_model": {"checkpoint_path": str(root / "rm"), "model_name": str(root / "bert")},
        "rewards": [
            {"type": "model", "checkpoint_path": str(root / "whole"), "name": "whole", "weight": 2.0}
        ],
    }
    ppo = {"updates": 1, "prompts_per_update": 4, "epochs": 1, "max_gen_len": 8}
    settings = {
        "model_name": str(root / "llama"), "dtype": "float32", "tensorboard": True, "lora": {"rank": 4},
        "data": {"path": str(root / "prompts.jsonl"), "max_length": 96, "eval_path": str(root / "prompts.jsonl")},
        "training": {"type": "ppo", "lr": 1e-3, "ppo": ppo, **rewards},
    }  # fmt: skip
    assert train(root, "ppo", settings) == 0
    return root


def test_the_rewards_of_a_ppo_run_are_those_of_plain_transformers(trained: Path) -> None:
    """S3-04, S3-06, S3-12: each rollout's text is tokenised again, scored by the encoder and standardised."""
    rows = read_rows(trained / "ppo" / "rollouts" / "update-000001.parquet")
    adapted = PeftModel.from_pretrained(
        AutoModel.from_pretrained(trained / "bert"), trained / "rm" / "final"
    ).eval()
    whole = AutoModel.from_pretrained(trained / "whole" / "final").eval()
    assert len(rows) == 4
    for row in rows:
        question = json.loads(row["messages"])[-1]["content"] if "messages" in row else row["prompt"]
        for column, model, folder in (("score_reward_model", adapted, "rm"), ("score_whole", whole, "whole")):
            card = json.loads((trained / folder / "final" / "reward.json").read_text())
            raw = score_by_hand(model, trained / folder / "final", question, row["response"])
            assert row[column] == pytest.approx((raw - card["offset"]) * card["scale"], abs=1e-5)


def test_the_card_and_the_manifest_are_those_of_any_reward_model(trained: Path) -> None:
    card = json.loads((trained / "rm" / "card" / "card.json").read_text())
    assert json.dumps(card).count("accuracy")
    roles = json.loads((trained / "ppo" / "manifest.json").read_text())["roles"]
    frozen = {row["component"]: row["trainable"] for row in roles}
    assert (
        frozen["reward base"] is False
        and frozen["reward model"] is False
        and frozen["reward base 2"] is False
    )
    assert not (trained / "whole" / "final" / "adapter_config.json").exists()
    assert main(["card", str(trained / "whole"), "--output-dir", str(trained / "card")]) == 0
    assert main(["verify", str(trained / "whole")]) == 0


def test_tensorboard_has_the_five_curves_of_the_recipe(trained: Path) -> None:
    """S3-22 … S3-26: as scalars, and as charts of the tab "Custom scalars"."""
    found: dict[str, set[str]] = {}
    for run in ("rm", "ppo"):
        events = EventAccumulator(str(trained / run / "tensorboard"))
        events.Reload()
        found[run] = set(events.Tags()["scalars"])
        assert "custom_scalars__config__" in events.Tags()["tensors"]
    assert {"loss", "reward/mean"} <= found["rm"]
    assert {"ppo_loss", "value/loss", "reward/mean", "eval/reward_mean"} <= found["ppo"]
    assert set(CURVES.values()) <= found["rm"] | found["ppo"]


def test_an_evaluation_scores_with_it(trained: Path) -> None:
    settings = {
        "policies": {"Start": str(trained / "llama"), "PPO": str(trained / "ppo")}, "dtype": "float32",
        "reward_model": str(trained / "rm"), "max_gen_len": 6,
        "data": {"path": str(trained / "prompts.jsonl"), "max_length": 96},
    }  # fmt: skip
    output = trained / "evaluation"
    assert (
        main(["eval", "--config", write_config(trained, "eval", settings), "--output-dir", str(output)]) == 0
    )
    (table,) = output.glob("responses.parquet")
    model = PeftModel.from_pretrained(
        AutoModel.from_pretrained(trained / "bert"), trained / "rm" / "final"
    ).eval()
    card = json.loads((trained / "rm" / "final" / "reward.json").read_text())
    for row in read_rows(table):
        raw = score_by_hand(model, trained / "rm" / "final", row["prompt"], row["response"])
        assert row["reward"] == pytest.approx((raw - card["offset"]) * card["scale"], abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"training": {"type": "sft", "max_steps": 1}}, "cannot generate responses"),
        (
            {"training": {"type": "ppo", "rewards": [{"type": "rule", "name": "demo_gold"}]}},
            "cannot generate",
        ),
        (
            {"data": {"path": "pairs.jsonl", "max_length": 512}},
            "this encoder reads 132. Fix: lower it to 132",
        ),
        ({"dtype": "nf4"}, "an encoder is not quantised. Fix: set dtype: bfloat16"),
    ],
)
def test_what_an_encoder_cannot_do_is_refused_at_the_first_stage_in_one_line(
    settings: dict[str, object], said: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(trained)
    data = {"path": "pairs.jsonl", "max_length": 100}
    whole = {**REWARD, "model_name": str(trained / "bert"), "data": data} | settings
    assert train(tmp_path, "run", whole) == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("harken:")]
    assert said in line
    assert not (tmp_path / "run" / "final").exists()


def test_a_critic_cannot_start_from_an_encoder_and_plan_says_that_it_cannot_count(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load((trained / "ppo.yml").read_text())
    settings["training"]["ppo"] |= {"critic": "model", "critic_init": "reward_model"}
    assert train(tmp_path, "critic", settings) == 2
    assert "it has no adapter for values of prefixes. Fix: set critic_init: zero" in capsys.readouterr().err
    assert main(["plan", str(trained / "rm.yml")]) == 2
    assert "memory and time of an encoder (bert) are not predicted" in capsys.readouterr().err


def test_the_doctor_checks_a_reward_model_on_an_encoder(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", str(trained / "rm.yml")])
    lines = capsys.readouterr().out
    assert "an encoder's pair: [CLS] conversation [SEP] response [SEP]" in lines
    assert "not checked" not in lines
    assert "12 of 12 compared tensors changed" in lines


def new_stage(lora: bool) -> RewardStage:
    encoder = Encoder(tiny_encoder("bert"), encoder_tokenizer("bert"))
    renderer = EncoderRenderer(encoder.tokenizer)
    rows = [
        renderer.encode_preference(
            Preference(Prompt(f"p{i}", (Message("user", f"{i}?"),)), "good " * i, "bad"), 100
        )
        for i in range(1, 9)
    ]
    config = RunConfig.model_validate(
        {
            "dtype": "float32", "data": {"path": "rows"}, "lora": {"rank": 4} if lora else None,
            "training": {"type": "reward", "lr": 5e-3, "batch_size": 4, "epochs": 2, "micro_batch_tokens": 100},
        }
    )  # fmt: skip
    return RewardStage(config, encoder, Path("base"), [row for row in rows if isinstance(row, TokenPair)], [])


@pytest.mark.parametrize("lora", [True, False])
def test_a_resumed_run_is_the_run_that_never_stopped(lora: bool) -> None:
    straight, first, second = new_stage(lora), new_stage(lora), new_stage(lora)
    whole = [straight.step(number) for number in range(4)]
    pieces = [first.step(0), first.step(1)]
    torch.rand(7)
    second.load({name: tensor.clone() for name, tensor in first.tensors().items()}, first.state())
    pieces += [second.step(2), second.step(3)]
    assert whole == pieces
    tensors = second.tensors()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in straight.tensors().items())
    assert len(tensors) == len(straight.tensors()) > 10
    assert ("head.weight" in straight.optimiser.parameters) and len(straight.optimiser.parameters) > 12
    for name, parameter in straight.optimiser.parameters.items():
        moved = not torch.equal(parameter, new_stage(lora).optimiser.parameters[name])
        unused = "token_type" not in name and "embeddings" not in name  # rows of tokens that do not occur
        assert moved or not unused or "key.bias" in name, name
