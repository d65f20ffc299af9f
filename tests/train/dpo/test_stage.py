"""DPO's stage: what a step computes and changes, what is kept, and that a resumed run is the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from dpo_stage import PAIRS, dpo_config, dpo_stage, examples_for, models_for
from tiny import tiny_backbone, tiny_tokenizer
from unhealthy_stages import BAD, poisoned

from harken.config.base import DataConfig
from harken.config.preference_training import DPOTraining
from harken.data.chat import Renderer
from harken.data.classified import parse_thumb
from harken.data.parse import holds_pairs
from harken.errors import NonFinite
from harken.records import TokenPair
from harken.run.folder import RunFolder
from harken.train.dpo.build import build_dpo_stage
from harken.train.dpo.examples import pair_examples, rated_examples, rated_from_pairs
from harken.train.dpo.metrics import accuracy_interval
from harken.train.dpo.reference_scores import kept_scores
from harken.train.dpo.stage import DPOStage

LOSSES = ("dpo", "ipo", "hinge", "simpo", "orpo", "kto")


def loss_settings(loss: str) -> dict[str, object]:
    return {"loss": loss} | ({"label_smoothing": 0.1} if loss == "robust" else {})


def learns(stage: DPOStage, steps: int) -> tuple[float, float]:
    before = stage.evaluate(1)["eval/loss"]
    for number in range(steps):
        stage.step(number)
    return before, stage.evaluate(steps)["eval/loss"]


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_at_the_start_the_policy_is_its_reference(tmp_path: Path, loss: str) -> None:
    stage = dpo_stage(tmp_path, dpo_config(dpo={"loss": loss}))
    stage.on_train_begin()
    metrics = stage.step(0) | stage.sampled.measure(0)
    assert metrics["rewards/chosen"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["loss"] == pytest.approx(0.6931472 if loss == "dpo" else 0.5, abs=1e-5)
    assert metrics["eval/tokens_change"] == 1.0


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_orders_the_pairs(tmp_path: Path, loss: str) -> None:
    """Each loss, with the defaults of its other settings, makes chosen responses likelier than rejected ones."""
    stage = dpo_stage(tmp_path, dpo_config(dpo=loss_settings(loss), epochs=4))
    before, after = learns(stage, 12)
    assert after < before
    rows = stage.evaluate(12)
    assert rows["eval/rewards/accuracies"] == 1.0
    assert rows["eval/rewards/margins"] > 0


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_a_step_does_not_depend_on_its_micro_batches(tmp_path: Path, loss: str) -> None:
    gradients = []
    for place, tokens in enumerate((4096, 12)):
        config = dpo_config(dpo={"loss": loss, "beta": 0.7}, micro_batch_tokens=tokens)
        stage = dpo_stage(tmp_path / str(place), config)
        stage.step(0)
        stage.learner.accumulate_gradients(stage.examples[:5], stage.reference[:5])
        gradients.append({n: p.grad.clone() for n, p in stage.learner.optimiser.parameters.items()})  # type: ignore[union-attr]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4)


def test_both_sides_of_a_pair_share_their_prompt(tmp_path: Path) -> None:
    """The packed forward holds the prompt once."""
    pair = TokenPair("p", (*range(9, 40), 50, 2), (*range(9, 40), 60, 61, 2), prompt_length=31)
    stage = dpo_stage(tmp_path, pairs=[pair])
    batch = stage.learner.collate(stage.examples)
    packed = stage.learner.policy.backbone.pack(batch.sequences())
    assert packed.tokens.numel() == 31 + 2 + 3


def test_only_response_tokens_are_scored(tmp_path: Path) -> None:
    stage = dpo_stage(tmp_path, pairs=PAIRS[:2])
    batch = stage.learner.collate(stage.examples)
    kept = [batch.tokens[row][batch.response_mask[row]].tolist() for row in range(4)]
    assert kept == [list(side.tokens[side.prompt_length :]) for side in (e.first for e in stage.examples)] + [
        list(e.second.tokens[e.second.prompt_length :]) for e in stage.examples
    ]


def test_a_resumed_run_takes_the_same_steps(tmp_path: Path) -> None:
    whole = dpo_stage(tmp_path / "a")
    whole.on_train_begin()
    for number in range(2):
        whole.step(number)
    tensors = {name: t.clone() for name, t in whole.tensors().items()}
    state = json.loads(json.dumps(whole.state()))
    expected = whole.step(2), whole.evaluate(3)
    again = dpo_stage(tmp_path / "b")
    again.load(tensors, state)
    assert (again.step(2), again.evaluate(3)) == expected


def test_the_reference_scores_the_rows_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dpo_stage(tmp_path).reference
    second = dpo_stage(tmp_path)
    monkeypatch.setattr(second.learner, "scores", lambda *_, **__: pytest.fail("scored again"))
    assert torch.equal(second.reference, first)


def test_the_kept_file_is_the_same_in_every_process(tmp_path: Path) -> None:
    """safetensors writes several entries of metadata in any order: this file has one."""
    for number in range(8):
        kept_scores(tmp_path / f"{number}.safetensors", "f" * 64, 2, lambda: torch.ones(2, 2))
    assert len({path.read_bytes() for path in tmp_path.glob("*.safetensors")}) == 1


@pytest.mark.parametrize("change", ["rows", "averages", "loss", "byte", "empty"])
def test_kept_scores_of_another_run_or_damaged_are_not_used(
    tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = dpo_stage(tmp_path).reference
    path = tmp_path / "reference_scores.safetensors"
    pairs, config = PAIRS, dpo_config()
    if change == "rows":
        pairs = [TokenPair("p0", (9, 10, 11, 99, 2), (9, 10, 11, 90, 2), prompt_length=3), *PAIRS[1:]]
    elif change == "averages":
        config = dpo_config(dpo={"length_normalise": True})
    elif change == "loss":
        config = dpo_config(dpo={"loss": "ipo"})  # averages over tokens
    elif change == "byte":
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(b"")
    again = dpo_stage(tmp_path, config, pairs).reference
    assert "the reference scores the rows again" in capsys.readouterr().err
    assert torch.equal(again, first) == (change in ("byte", "empty"))


def test_the_base_and_the_reference_do_not_change(tmp_path: Path) -> None:
    stage = dpo_stage(tmp_path)
    stage.step(0)
    stage.models.check_frozen()


def test_all_weights_train_against_a_frozen_copy(tmp_path: Path) -> None:
    stage = dpo_stage(tmp_path, dpo_config(lora=None, lr=1e-3))
    before, after = learns(stage, 4)
    assert after < before
    stage.models.check_frozen()
    assert stage.step(0)["rewards/margins"] > 0


def test_a_step_with_nan_changes_nothing(tmp_path: Path) -> None:
    bad = TokenPair("bad", (9, 10, BAD, 40, 2), (9, 10, 11, 90, 2), prompt_length=2)
    stage = dpo_stage(tmp_path, dpo_config(batch_size=2), PAIRS[:1], poisoned(tiny_backbone()))
    stage.examples = pair_examples([bad, *PAIRS[:1]])
    stage.__dict__["reference"] = torch.zeros(3, 2)
    before = {name: t.clone() for name, t in stage.tensors().items()}
    with pytest.raises(NonFinite, match="bad"):
        stage.step(0)
    assert all(torch.equal(t, before[name]) for name, t in stage.tensors().items())
    assert all(p.grad is None for p in stage.learner.optimiser.parameters.values())


def test_selection_is_by_loss_or_by_accuracy(tmp_path: Path) -> None:
    metrics = {"eval/loss": 0.5, "eval/rewards/accuracies": 0.75}
    assert dpo_stage(tmp_path).selection_metric(metrics) == -0.5
    by_accuracy = dpo_stage(tmp_path, dpo_config(dpo={"selection": "accuracy"}))
    assert by_accuracy.selection_metric(metrics) == 0.75
    assert by_accuracy.selection_metric({}) is None


def test_accuracy_by_domain_and_language(tmp_path: Path) -> None:
    """S0-17: each group's accuracy is that of its pairs alone; ties count nowhere."""
    rows = [
        dataclasses.replace(
            p, domain="ab"[i % 2], language=("", "en", "de")[i % 3], label=0.5 if i == 0 else 1.0
        )
        for i, p in enumerate(PAIRS)
    ]
    stage = dpo_stage(tmp_path, pairs=rows)
    stage.step(0)
    found = stage.evaluate(1)
    groups: dict[str, list[int]] = {
        "a": [], "b": [], "language_none": [], "language_en": [], "language_de": [],
    }  # fmt: skip
    for i in range(1, 4):  # the held-out ones, without the tie
        groups["ab"[i % 2]].append(i)
        groups[("language_none", "language_en", "language_de")[i % 3]].append(i)
    policy = stage.learner.scores(stage.models.policy, stage.examples)
    gap = ((policy - stage.reference[: len(rows)]) @ torch.tensor([1.0, -1.0])).tolist()
    for name, own in groups.items():
        expected = sum(gap[i] > 0 for i in own) / len(own)
        assert found[f"eval/rewards/accuracies_{name}"] == pytest.approx(expected), name
    assert (
        len([name for name in found if name.startswith("eval/rewards/accuracies_")]) == 7
    )  # with low and high


@pytest.mark.parametrize("swapped", [False, True])
def test_a_tie_counts_in_no_group(tmp_path: Path, swapped: bool) -> None:
    """Whichever of its sides is listed first."""
    tie = PAIRS[0]
    if swapped:
        tie = dataclasses.replace(tie, chosen_tokens=tie.rejected_tokens, rejected_tokens=tie.chosen_tokens)
    rows = [dataclasses.replace(tie, domain="a", label=0.5), dataclasses.replace(PAIRS[1], domain="a")]
    stage = dpo_stage(tmp_path, pairs=[*rows, *PAIRS[2:]])
    for number in range(3):
        stage.step(number)
    policy = stage.learner.scores(stage.models.policy, stage.examples[:2])
    gap = ((policy - stage.reference[:2]) @ torch.tensor([1.0, -1.0])).tolist()
    assert stage.evaluate(3)["eval/rewards/accuracies_a"] == float(gap[1] > 0)
    assert abs(gap[0]) > 1e-4


def test_held_out_rows_have_their_own_reference(tmp_path: Path) -> None:
    """The implicit rewards of held-out rows are differences to the reference's scores of the same rows."""
    config = dpo_config(dpo={"beta": 0.5})
    models = models_for(config, tmp_path)
    engine = models.engine(Renderer(tiny_tokenizer()), 64)
    train, held_out = examples_for(config, PAIRS[:8]), examples_for(config, PAIRS[8:])
    stage = DPOStage(config, models, train, held_out, engine, [], RunFolder(tmp_path))
    stage.step(0)
    policy = stage.learner.scores(models.policy, held_out)
    reference = stage.learner.scores(models.reference, held_out)
    expected = float(0.5 * (policy - reference)[:, 0].mean())
    assert stage.evaluate(1)["eval/rewards/chosen"] == pytest.approx(expected, abs=1e-5)
    assert abs(expected) > 1e-4


def test_a_soft_label_below_half_prefers_the_other_side(tmp_path: Path) -> None:
    swapped = [
        TokenPair(p.id, p.chosen_tokens, p.rejected_tokens, 0.0, prompt_length=p.prompt_length) for p in PAIRS
    ]
    stage = dpo_stage(tmp_path, pairs=swapped)
    learns(stage, 4)
    found = stage.evaluate(4)
    assert found["eval/rewards/accuracies"] == 1.0 and found["eval/rewards/margins"] > 0
    policy = stage.learner.scores(stage.models.policy, stage.examples)
    assert ((policy - stage.reference[: len(PAIRS)]).diff(dim=1) > 0).all()


def test_pairs_become_two_rated_responses_and_ties_none() -> None:
    tie = TokenPair("t", (9, 10, 2), (9, 11, 2), 0.5, prompt_length=1)
    swapped = TokenPair("s", (9, 10, 2), (9, 11, 2), 0.2, prompt_length=1)
    rated = rated_from_pairs([tie, swapped])
    assert [(r.response.tokens, r.desirable) for r in rated] == [((9, 10, 2), False), ((9, 11, 2), True)]


def test_the_baseline_pairs_a_prompt_with_another_prompts_response() -> None:
    config = dpo_config(dpo={"loss": "kto"})
    prompts = {e.first.tokens[: e.first.prompt_length] for e in examples_for(config, PAIRS)}
    assert len(prompts) == 3
    responses = {p: set() for p in prompts}
    made = examples_for(config, PAIRS)
    for e in made:
        responses[e.first.tokens[: e.first.prompt_length]].add(e.first.tokens[e.first.prompt_length :])
    for e in made:
        own = e.second.tokens[: e.second.prompt_length]
        assert own == e.first.tokens[: e.first.prompt_length]
        other = e.second.tokens[e.second.prompt_length :]
        assert any(other in found for prompt, found in responses.items() if prompt != own)


def test_a_mismatched_response_is_shortened_to_fit() -> None:
    rated = rated_from_pairs(PAIRS)
    assert max(len(e.second.tokens) for e in rated_examples(rated, 0, 6)) <= 6


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing is for dpo and robust"),
        ({"loss": "robust"}, "robust needs the share of flipped labels"),
        ({"simpo_gamma": 0.5}, "simpo_gamma is for simpo"),
        ({"loss": "simpo", "length_normalise": False}, "defined on average log-probabilities"),
        ({"length_normalise": True, "ld_alpha": 0.5}, "ld_alpha weights tokens of a sum"),
        ({"loss": "kto", "ld_alpha": 0.5}, "kto has single responses"),
        ({"loss": "orpo", "nll_coef": 0.5}, "orpo includes it"),
        ({"loss": "kto", "nll_coef": 0.5}, "kto has no chosen response"),
        ({"desirable_weight": 2.0}, "are for kto"),
    ],
)
def test_settings_of_another_loss_are_refused(keys: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        DPOTraining.model_validate({"type": "dpo", "dpo": keys})


def test_defaults_of_the_losses() -> None:
    """beta 0.1, for simpo 2.0; averages for ipo, simpo and orpo."""
    made = {loss: dpo_config(dpo=loss_settings(loss)).training.dpo for loss in (*LOSSES, "robust")}  # type: ignore[union-attr]
    assert {loss for loss, s in made.items() if s.averages} == {"ipo", "simpo", "orpo"}
    assert {loss: s.strength for loss, s in made.items() if s.strength != 0.1} == {"simpo": 2.0}


def test_rows_with_thumbs_are_read_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """kto on unpaired rows: a label says whether the response is good; rows without one are dropped and counted."""
    rows = [
        {"prompt": "Ask 1", "completion": "Good.", "label": True},
        {"prompt": "Ask 2", "completion": "Bad.", "label": False},
        {"prompt": "Ask 3", "completion": "Fine.", "label": "up"},
        {"prompt": "Ask 4", "completion": "None."},
    ]
    path = tmp_path / "thumbs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not holds_pairs(DataConfig(path=str(path)))
    config = dpo_config(dpo={"loss": "kto"})
    config = config.model_copy(update={"data": DataConfig(path=str(path), max_length=64)})
    models = models_for(config, tmp_path)
    stage, data = build_dpo_stage(config, models, Renderer(tiny_tokenizer()), RunFolder(tmp_path / "run"))
    assert isinstance(stage, DPOStage)
    assert [e.label for e in stage.examples] == [1.0, 0.0, 1.0]
    assert "3 training responses for kto: 2 desirable, 1 undesirable" in capsys.readouterr().err
    assert "no_thumb" in (tmp_path / "run" / "data_report.json").read_text()
    flipped = [{**row, "label": not row.get("label", True)} for row in rows[:2]]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*flipped, rows[2]]))
    _, other = build_dpo_stage(
        config, models_for(config, tmp_path), Renderer(tiny_tokenizer()), RunFolder(tmp_path / "b")
    )
    assert other["fingerprint"] != data["fingerprint"]


@pytest.mark.parametrize(
    ("label", "thumb"),
    [(True, True), (False, False), ("False", False), ("up", True), (1, True), (0, False), (-1, False), ("x", None)],
)  # fmt: skip
def test_what_a_thumb_is(label: object, thumb: bool | None) -> None:
    assert parse_thumb(label) is thumb


def test_ties_alone_have_no_accuracy(tmp_path: Path) -> None:
    """An accuracy of 0 over no pair would be read as "ordered wrongly"."""
    ties = [dataclasses.replace(pair, label=0.5) for pair in PAIRS]
    stage = dpo_stage(tmp_path, dpo_config(dpo={"selection": "accuracy"}), pairs=ties)
    step = stage.step(0)
    held_out = {
        f"eval/{name}": value for name, value in accuracy_interval({}, stage.settings, stage.examples).items()
    }
    assert held_out == {"eval/rewards/pairs": 0.0}
    assert not [name for name in step if "accuracies" in name or "margins" in name]
    metrics = step | held_out | {"eval/loss": 0.7}
    assert stage.selection_metric(metrics) is None
    assert "accuracy" not in stage.summary(metrics) and "held-out 0.700" in stage.summary(metrics)
