"""Accuracy by distance from the SFT model: bins by hand, log-probabilities of plain transformers, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from card import made_pairs as made
from card.test_card_command import lines, pair_rows, read, settings
from tiny import save_tiny
from transformers import AutoModelForCausalLM

from harken.card.build import CardJob, build_card
from harken.card.distance import SFTReference, distance_section
from harken.card.markdown import card_lines, to_markdown
from harken.card.reference import mean_response_logprobs, sft_of
from harken.card.scored import ScoredPairs
from harken.card.sets import PairSet
from harken.cli.main import main
from harken.models.backbone import Backbone
from harken.models.find_tokenizer import renderer_of
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import ModelSource, resolve
from harken.models.roles import Policy
from harken.records import Message, Preference, Prompt, TokenPair


def pair(name: str, **keys: Any) -> Preference:
    return Preference(Prompt(name, (Message("user", name),)), "yes", "no", **keys)


def section(rows: list[tuple[float, float, float, float]], **keys: Any) -> dict[str, Any]:
    """Rows of rewards and log-probabilities: chosen, rejected, chosen, rejected."""
    table = np.array(rows)
    scored = ScoredPairs([pair(f"q{i}", **keys) for i in range(len(rows))], table[:, :2])
    reference = SFTReference("sft", "option", lambda pairs: table[: len(pairs), 2:])
    found = distance_section(scored, reference)
    assert found is not None
    return found


def test_bins_go_from_the_nearest_to_the_farthest_pair():
    """S2-65: 50 pairs, right where the SFT model finds the responses likely and wrong where it does not."""
    rows = [(float(i < 25), 0.5, -1.0 - i, -1.0 - i) for i in range(50)]
    np.random.default_rng(0).shuffle(rows)
    found = section(rows)
    assert [part["pairs"] for part in found["bins"]] == [10] * 5
    assert [part["share"] for part in found["bins"]] == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert [(part["from"], part["to"]) for part in found["bins"]] == [
        (-1.0 - 10 * i, -10.0 - 10 * i) for i in range(5)
    ]
    assert all(part["low"] <= part["share"] <= part["high"] for part in found["bins"])
    assert found["bins"][0]["low"] > 0.6 and found["bins"][4]["high"] < 0.4


def test_a_pair_stands_at_the_mean_of_its_two_responses():
    found = section([(1.0, 0.0, -1.0, -3.0)] * 6 + [(0.0, 1.0, -4.0, -8.0)] * 6)
    assert [part["from"] for part in found["bins"]] == [-2.0], "12 pairs make one bin"
    assert (found["preferred_logprob"], found["other_logprob"]) == (-2.5, -5.5)
    assert found["bins"][0]["mean"] == -4.0 and found["bins"][0]["share"] == 0.5


def test_a_label_below_one_half_turns_the_pair_round():
    found = section([(0.0, 1.0, -3.0, -1.0)] * 4, label=0.0)
    assert found["bins"][0]["share"] == 1.0
    assert (found["preferred_logprob"], found["other_logprob"]) == (-1.0, -3.0)


def test_pairs_that_the_reference_cannot_score_are_counted_and_left_out():
    found = section([(1.0, 0.0, -1.0, -1.0)] * 3 + [(0.0, 1.0, np.nan, -1.0)] * 2)
    assert (found["pairs"], found["unscored"]) == (3, 2)
    assert found["bins"][0]["share"] == 1.0
    nothing = SFTReference("sft", "option", lambda pairs: np.full((len(pairs), 2), np.nan))
    assert distance_section(ScoredPairs([pair("q")], np.zeros((1, 2))), nothing) is None
    tied = ScoredPairs([pair("q", label=0.5)], np.zeros((1, 2)))
    assert distance_section(tied, nothing) is None


def test_equal_log_probabilities_are_one_bin():
    found = section([(1.0, 0.0, -2.0, -2.0)] * 60)
    assert len(found["bins"]) == 1 and found["bins"][0]["pairs"] == 60


def test_log_probabilities_are_those_of_plain_transformers(tmp_path: Path):
    save_tiny(tmp_path / "model")
    source = resolve(str(tmp_path / "model"))
    renderer = renderer_of(source)
    policy = Policy(Backbone.load(source, WEIGHT_DTYPES["float32"], "cpu"), None)
    pairs: list[Any] = [
        Preference(Prompt("a", (Message("user", "Say a word"),)), "a longer response than", "short"),
        Preference(Prompt("b", (Message("user", "And"),)), "x", "y " * 400),
        TokenPair("c", (5, 6, 7, 8), (5, 6, 9)),
    ]
    found = mean_response_logprobs(policy, renderer, pairs, 64)
    assert np.isnan(found[1]).all(), "a pair that does not fit is not scored"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    for number, start in ((0, None), (2, 2)):
        row = renderer.encode_preference(pairs[number], 64)
        begin = row.prompt_length if start is None else start
        for side, tokens in enumerate((row.chosen_tokens, row.rejected_tokens)):
            with torch.no_grad():
                logits = model(torch.tensor([tokens])).logits[0].double()
            each = torch.log_softmax(logits, -1)
            own = [float(each[i - 1, tokens[i]]) for i in range(begin, len(tokens))]
            assert found[number, side] == pytest.approx(np.mean(own), abs=1e-5)


def test_the_card_says_where_it_is_right():
    """S2-65, in the terminal and in card.md: by source policy, and by distance from the SFT model."""
    pairs = [
        Preference(p.prompt, p.chosen, p.rejected, written_by=("sft", ["sft", "ppo"][i % 2]))
        for i, p in enumerate(made.made_pairs(60))
    ]
    near = {p.prompt.id: -1.0 if i < 30 else -4.0 for i, p in enumerate(pairs)}

    def logprobs(given: Any) -> np.ndarray:
        return np.array([[near[p.prompt.id]] * 2 for p in given])

    job = CardJob(
        scorer=made.MadeScorer(made.healthy),
        sets=[PairSet("held out", pairs, "")],
        facts={"parameters": 1},
        reference=SFTReference("outputs/01_sft", "lineage", logprobs),
    )
    card = build_card(job)
    assert [part["pairs"] for part in card["distance"]["bins"]] == [30, 30]
    shown, written = "\n".join(card_lines(card)), to_markdown(card)
    for text in (shown, written):
        assert "outputs/01_sft" in text and "-4.00 to -4.00" in text
        assert "ppo / sft" in text
    assert "## Accuracy by distance from the SFT model" in written
    assert "nearest first" in shown and "accuracy by source policy" in shown


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SFT run, and a reward model that was trained on it."""
    root = tmp_path_factory.mktemp("distance")
    save_tiny(root / "model")
    lines(root / "train.jsonl", pair_rows(12, 1))
    lines(root / "held_out.jsonl", pair_rows(30, 2))
    lines(root / "sft.jsonl", [{"prompt": f"Say {i}", "response": f"word {i}"} for i in range(8)])
    sft = {**settings(root), "data": {"path": str(root / "sft.jsonl"), "max_length": 64}}
    sft["training"] = {"type": "sft", "max_steps": 1, "batch_size": 4}
    for name, config in (
        ("sft", sft),
        ("rm", {**settings(root, max_steps=1), "model_name": str(root / "sft")}),
    ):
        (root / f"{name}.yml").write_text(json.dumps(config))
        assert main(["train", "--preset", str(root / f"{name}.yml"), "--output-dir", str(root / name)]) == 0
    return root


def test_the_sft_model_is_known_by_lineage(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = sft_of(resolve(str(world / "rm")))
    assert found is not None and found.folder == (world / "sft" / "final").resolve()
    assert main(["card", str(world / "rm"), "--output-dir", str(tmp_path), "--probe-pairs", "2"]) == 0
    card = read(tmp_path)
    assert card["distance"]["found_by"] == "lineage"
    assert sum(part["pairs"] for part in card["distance"]["bins"]) == 30
    assert "accuracy by log-probability per token under" in capsys.readouterr().out


def test_a_reward_model_on_any_other_model_has_no_distance(world: Path, tmp_path: Path):
    (tmp_path / "rm.yml").write_text(json.dumps(settings(world, max_steps=1)))
    assert main(["train", "--preset", str(tmp_path / "rm.yml"), "--output-dir", str(tmp_path / "rm")]) == 0
    assert sft_of(resolve(str(tmp_path / "rm"))) is None
    assert main(["card", str(tmp_path / "rm"), "--probe-pairs", "0"]) == 0
    assert "distance" not in read(tmp_path / "rm" / "card")


@pytest.mark.parametrize("kind", ["sft", "ppo"])
def test_only_an_sft_run_is_the_sft_model(kind: str, tmp_path: Path):
    final = (tmp_path / "run" / "final").resolve()
    final.mkdir(parents=True)
    (tmp_path / "run" / "config.yml").write_text(f"training: {{type: {kind}}}\n")
    below = ModelSource("full", "run", final)
    found = sft_of(ModelSource("reward", "rm", tmp_path / "rm", below))
    assert found == (below if kind == "sft" else None)


def test_the_reference_is_given_by_an_option(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    given = ["--reference", str(world / "model"), "--output-dir", str(tmp_path), "--probe-pairs", "0"]
    assert main(["card", str(world / "rm"), *given]) == 0
    card = read(tmp_path)
    assert (card["distance"]["found_by"], card["distance"]["reference"]) == ("option", str(world / "model"))
    capsys.readouterr()
    assert main(["card", str(world / "rm"), "--reference", str(world / "rm")]) == 2
    assert "is a reward model" in (shown := capsys.readouterr().err) or "cannot generate" in shown


def test_token_pairs_need_the_reward_models_tokenizer(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    ids = [
        {"input_ids_chosen": [5, 6, 7 + i], "input_ids_rejected": [5, 6, 40 + i],
         "attention_mask_chosen": [1, 1, 1], "attention_mask_rejected": [1, 1, 1]}
        for i in range(4)
    ]  # fmt: skip
    lines(tmp_path / "ids.jsonl", ids)
    config = settings(world, max_steps=1)
    config["data"] = {"path": str(world / "train.jsonl"), "max_length": 256}
    (tmp_path / "rm.yml").write_text(json.dumps(config))
    assert main(["train", "--preset", str(tmp_path / "rm.yml"), "--output-dir", str(tmp_path / "rm")]) == 0
    wanted = ["card", str(tmp_path / "rm"), "--data", str(tmp_path / "ids.jsonl"), "--probe-pairs", "0"]
    assert main([*wanted, "--reference", str(world / "sft")]) == 0
    capsys.readouterr()
    assert main([*wanted, "--reference", "embedded"]) == 2
    assert "another tokenizer than the reward model" in capsys.readouterr().err
