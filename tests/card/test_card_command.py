"""`harken card` on a tiny reward run, and the card that its training ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from card import made_pairs as made
from tiny import save_tiny

from harken.cli.main import main
from harken.run.verify import verify


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair_rows(count: int, seed: int) -> list[dict[str, Any]]:
    return [
        {
            "prompt": pair.prompt.messages[0].content,
            "chosen": pair.chosen[:60],
            "rejected": pair.rejected[:60] + "!",
            "domain": "ab"[i % 2],
            "chosen_model": "sft",
            "rejected_model": ["sft", "other"][i % 2],
        }
        for i, pair in enumerate(made.made_pairs(count, seed))
    ]


def settings(root: Path, **training: Any) -> dict[str, Any]:
    return {
        "model_name": str(root / "model"),
        "dtype": "float32",
        "tensorboard": False,
        "data": {
            "path": str(root / "train.jsonl"),
            "eval_path": str(root / "held_out.jsonl"),
            "max_length": 256,
        },
        "lora": {"rank": 2},
        "training": {
            "type": "reward",
            "max_steps": 4,
            "batch_size": 4,
            "lr": 1e-3,
            "eval_every": 2,
            **training,
        },
    }


def trained(root: Path, name: str, **training: Any) -> Path:
    (root / f"{name}.yml").write_text(json.dumps(settings(root, **training)))
    assert main(["train", "--preset", str(root / f"{name}.yml"), "--output-dir", str(root / name)]) == 0
    return root / name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("card")
    save_tiny(root / "model")
    lines(root / "train.jsonl", pair_rows(24, 1))
    lines(root / "held_out.jsonl", pair_rows(30, 2))
    trained(root, "rm")
    return root


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "card.json").read_text())
    return found


def test_a_reward_stage_ends_with_its_card(world: Path):
    card = read(world / "rm" / "card")
    assert card["sets"][0]["note"] == "the last weights were kept, so no held-out row chose them"
    assert card["accuracy"]["pairs"] == 30
    assert set(card["slices"]["domain"]) == {"a", "b"}
    assert set(card["slices"]["source_policy"]) == {"sft", "other / sft"}
    assert "# Report card" in (world / "rm" / "card" / "card.md").read_text()
    assert not [one for one in verify(world / "rm") if one.problems]


def test_its_accuracy_and_calibration_are_those_that_training_logged(world: Path):
    """S2-22, S2-29, S2-32."""
    card = read(world / "rm" / "card")
    last = json.loads((world / "rm" / "metrics.jsonl").read_text().splitlines()[-1])
    assert card["accuracy"]["share"] == pytest.approx(last["eval/accuracy"], abs=1e-12)
    assert card["margin"]["mean"] == pytest.approx(last["eval/margin"], abs=1e-5)
    assert card["calibration"]["nll"] == pytest.approx(last["eval/nll"], abs=1e-5)
    assert card["calibration"]["ece"]["error"] == pytest.approx(last["eval/ece"], abs=1e-5)
    assert card["calibration"]["brier"]["score"] == pytest.approx(last["eval/brier"], abs=1e-5)
    assert card["spread"]["std"] == pytest.approx(last["eval/reward/std"], abs=1e-5)
    assert card["spread"]["mean"] == pytest.approx(last["eval/reward/mean"], abs=1e-5)


def test_the_command_writes_the_same_figures_from_the_saved_model(world: Path, tmp_path: Path):
    assert main(["card", str(world / "rm"), "--output-dir", str(tmp_path), "--probe-pairs", "24"]) == 0
    before, after = read(world / "rm" / "card"), read(tmp_path)
    assert after["accuracy"] == before["accuracy"]
    assert after["calibration"]["nll"] == pytest.approx(before["calibration"]["nll"], abs=1e-6)
    assert after["prompt"]["flips"] == before["prompt"]["flips"]
    for old, new in zip(before["probes"], after["probes"], strict=True):
        assert new["change"]["mean"] == pytest.approx(old["change"]["mean"], abs=1e-5)


def test_every_option(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """S2-05, S2-24, S2-65, S2-66, S2-89: further sets, samples, learning curve and size."""
    bench = lines(
        tmp_path / "rewardbench.jsonl",
        [
            {"prompt": "q", "chosen": "good", "rejected": "bad", "subset": s, "id": i}
            for i, s in enumerate("xy")
        ],
    )
    best = lines(
        tmp_path / "rewardbench2.jsonl",
        [{"id": "1", "prompt": "q", "chosen": ["a"], "rejected": ["b", "c", "d"], "subset": "Math"}],
    )
    styles = lines(
        tmp_path / "rmbench.jsonl",
        [
            {
                "id": "1",
                "prompt": "q",
                "chosen": ["a", "aa", "aaa"],
                "rejected": ["b", "bb", "bbb"],
                "domain": "code",
            }
        ],
    )
    samples = lines(
        tmp_path / "samples.jsonl",
        [{"prompt": f"q{i}", "response": f"r{k}", "score_gold": k} for i in range(3) for k in range(4)],
    )
    save_tiny(tmp_path / "policy", hidden=96)
    given = [word for path in (world / "train.jsonl", bench, best, styles) for word in ("--data", str(path))]
    options = [
        "--samples",
        str(samples),
        "--learning-curve",
        "--policy",
        str(tmp_path / "policy"),
        "--pairs",
        "20",
    ]
    assert main(["card", str(world / "rm"), *given, *options, "--output-dir", str(tmp_path / "out")]) == 0
    card = read(tmp_path / "out")
    assert [found["kind"] for found in card["sets"]] == ["pairs", "pairs", "pairs", "best_of_n", "styles"]
    assert card["accuracy"]["pairs"] == 20
    assert card["sets"][1]["trained_prompts"] == 20
    assert set(card["sets"][2]["slices"]["domain"]) == {"x", "y"}
    assert card["sets"][3]["chance"] == 0.25
    assert set(card["sets"][4]["by_domain"]) == {"code"}
    assert [entry["n"] for entry in card["best_of_n"]] == [1, 2, 4]
    assert card["best_of_n"][2]["reward"]["mean"] >= card["best_of_n"][0]["reward"]["mean"]
    assert card["best_of_n"][0]["score_gold"]["mean"] == 1.5
    assert [p["training_pairs"] for p in card["learning_curve"]["curve"]] == [3, 6, 12, 24]
    assert card["size"]["policy"] > 4 * card["size"]["reward_model"]
    warned = " ".join(warning["what"] for warning in card["warnings"])
    assert card["faults"] or ("times the reward model" in warned and "were trained on" in warned)
    shown = capsys.readouterr().out
    assert "reward model card" in shown and "card.md" in shown


def test_the_card_can_be_switched_off(world: Path):
    assert not (trained(world, "no_card", card={"pairs": 0}) / "card").exists()


def test_without_held_out_pairs_there_is_a_card_of_given_ones(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = tmp_path
    save_tiny(root / "model")
    lines(root / "train.jsonl", pair_rows(8, 1))
    config = settings(root, max_steps=1)
    del config["data"]["eval_path"]
    (root / "rm.yml").write_text(json.dumps(config))
    assert main(["train", "--preset", str(root / "rm.yml"), "--output-dir", str(root / "rm")]) == 0
    assert "no report card. Fix: set data.eval_fraction" in capsys.readouterr().err
    assert not (root / "rm" / "card").exists()
    assert main(["card", str(root / "rm")]) == 2
    assert "the run has no held-out pairs" in capsys.readouterr().err
    assert main(["card", str(root / "rm"), "--data", str(world / "held_out.jsonl")]) == 0
    assert read(root / "rm" / "card")["sets"][0]["note"] == "given with --data"


def test_the_rows_that_chose_the_best_checkpoint_are_left_out(world: Path):
    """S0-24: the best checkpoint is chosen on a split that is not the reported one."""
    run = trained(world, "selected", selection_fraction=0.4, eval_every=1, card={"probe_pairs": 4})
    card = read(run / "card")
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert card["accuracy"]["pairs"] == 18 == logged[-1]["eval/pairs"]
    assert card["sets"][0]["note"] == "the rows that chose the best checkpoint are left out"
    best = min(logged, key=lambda line: line["select/loss"])
    assert card["calibration"] is None  # too few pairs
    assert card["margin"]["mean"] == pytest.approx(best["eval/margin"], abs=1e-5)
    assert sum(probe["pairs"] for probe in card["probes"]) <= 4 * len(card["probes"])


@pytest.mark.parametrize(("name", "problem"), [("model", "is not a reward model"), ("nothing", "nothing")])
def test_what_is_no_reward_run(world: Path, name: str, problem: str, capsys: pytest.CaptureFixture[str]):
    assert main(["card", str(world / name)]) == 2
    assert problem in capsys.readouterr().err
