"""A number that is not finite: a step of SFT, reward model or PPO that meets one changes nothing, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ppo_stage import ppo_config
from tiny import tiny_backbone
from torch import Tensor
from unhealthy_stages import (
    BAD,
    DEMONSTRATIONS,
    PAIRS,
    WHOLE,
    MakeStage,
    clip_nan,
    config,
    evaluate_nan,
    everything,
    first_batch,
    poisoned,
    rewarding,
    same,
    supervised,
    with_bad_rows,
)

from harken.batches import PolicyOutputs, TokenBatch
from harken.config.base import DataConfig
from harken.config.ppo import PtxSettings
from harken.errors import NonFinite
from harken.models.roles import Critic, Policy
from harken.records import TokenPair
from harken.train.optim.optimiser import Optimiser
from harken.train.ppo.learner import Ptx
from harken.train.sft import SupervisedStage

# -- supervised and reward-model training ---------------------------------------------------------------


@pytest.mark.parametrize("micro_batch_tokens", [4096, 12])
def test_a_poisoned_row_of_sft_is_named_and_changes_nothing(micro_batch_tokens: int) -> None:
    keys = {"micro_batch_tokens": micro_batch_tokens}
    unhealthy = first_batch(supervised(**keys), 1)[2]
    place = len(DEMONSTRATIONS[unhealthy].tokens) - 2  # read to say the last token
    stage = supervised(with_bad_rows({unhealthy: place}), **keys)
    stage.step(0)
    before = everything(stage)
    with pytest.raises(
        NonFinite, match=rf"training, row r{unhealthy}, token {place + 1}: the logprob is nan"
    ) as raised:
        stage.step(1)
    assert same(before, everything(stage))
    error = raised.value
    assert (error.quantity, error.token) == ("logprob", place + 1)
    assert error.row is not None
    shown = error.tensors["tokens"][error.row].tolist()
    assert shown[: place + 2] == list(stage.rows[unhealthy].tokens)
    if micro_batch_tokens == 12:
        assert len(error.tensors["tokens"]) < 4
    assert math.isfinite(stage.step(2)["loss"])


def test_a_gradient_that_is_not_finite_names_its_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = supervised()
    stage.step(0)
    before = everything(stage)
    clip_nan(monkeypatch, 0)
    with pytest.raises(NonFinite, match=r"lora_A.*: the gradient is nan") as raised:
        stage.step(1)
    assert same(before, everything(stage))
    rows = [list(DEMONSTRATIONS[i].tokens) for i in first_batch(stage, 1)]
    tokens, real = raised.value.tensors["tokens"], raised.value.tensors["attention_mask"]
    assert [t[r].tolist() for t, r in zip(tokens, real, strict=True)] == rows


@pytest.mark.parametrize(("value", "centre"), [(math.nan, 0.01), (math.inf, 0.01), (math.inf, 0.0)])
def test_a_pair_with_a_reward_that_is_not_finite_changes_nothing(value: float, centre: float) -> None:
    """Bradley–Terry of an infinite reward may be 0: the reward itself is checked."""
    unhealthy = first_batch(rewarding(), 1)[3]
    pairs = list(PAIRS)
    pairs[unhealthy] = TokenPair(
        pairs[unhealthy].id, pairs[unhealthy].chosen_tokens, (*pairs[unhealthy].rejected_tokens[:-1], BAD)
    )
    stage = rewarding(pairs, value, centre_coef=centre)
    stage.step(0)
    before = everything(stage)
    with pytest.raises(NonFinite, match=rf"row p{unhealthy}, rejected: the reward is") as raised:
        stage.step(1)
    assert same(before, everything(stage))
    error = raised.value
    assert error.row is not None
    shown = error.tensors["tokens"][error.row][error.tensors["attention_mask"][error.row]].tolist()
    assert shown == list(pairs[unhealthy].rejected_tokens)
    assert {"label", "strength"} <= error.tensors.keys()
    assert math.isfinite(stage.step(2)["loss"])


def test_a_reward_models_gradient_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = rewarding()
    stage.step(0)
    before = everything(stage)
    clip_nan(monkeypatch, 0, "head")
    with pytest.raises(NonFinite, match=r"head\.bias: the gradient is nan") as raised:
        stage.step(1)
    assert same(before, everything(stage))
    assert len(raised.value.tensors["tokens"]) == 8


def test_dropout_is_off_again_after_an_error() -> None:
    settings = config("sft").model_copy(
        update={"lora": config("sft").lora.model_copy(update={"dropout": 0.3})}
    )  # type: ignore[union-attr]
    rows = with_bad_rows({i: len(DEMONSTRATIONS[i].tokens) - 2 for i in range(12)})
    stage = SupervisedStage(settings, poisoned(tiny_backbone()), rows, rows)
    before = everything(stage)
    with pytest.raises(NonFinite):
        stage.step(0)
    assert same(before, everything(stage))


def test_a_finite_step_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many micro-batches: a look is a wait for the device. Only the gradient's norm is checked."""
    stage = supervised(micro_batch_tokens=8)  # a model's logits are checked when it is loaded
    looks = []
    look = torch.isfinite
    monkeypatch.setattr(torch, "isfinite", lambda t: looks.append(t.shape) or look(t))
    stage.step(0)
    assert looks == [()]


# -- PPO ------------------------------------------------------------------------------------------------


def one_row_nan(role: str, at: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Of update 1's old evaluation (at 0) or a later optimiser step's forward."""
    return lambda patch: evaluate_nan(patch, at, role)


def reference_nan(patch: pytest.MonkeyPatch) -> None:
    evaluate = Policy.evaluate

    def ill(self: Policy, batch: TokenBatch, *args: Any, **keys: Any) -> PolicyOutputs:
        now = evaluate(self, batch, *args, **keys)
        if self.value_head is None and self.adapter is None:
            now.logprobs[batch.response_mask] = math.inf
        return now

    patch.setattr(Policy, "evaluate", ill)


FAULTS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "reference": ("reference_logprob", reference_nan),
    "old log-probability": ("logprob", one_row_nan("logprobs", 0)),
    "old value": ("value", one_row_nan("values", 0)),
    "log-probability at the third optimiser step": ("logprob", one_row_nan("logprobs", 2)),
    "value at the fourth optimiser step": ("value", one_row_nan("values", 3)),
    "gradient at the first optimiser step": ("gradient", lambda p: clip_nan(p, 0)),
    "gradient at the fourth optimiser step": ("gradient", lambda p: clip_nan(p, 3)),
}
ONE = {"kl_control": "adaptive", "kl_target": 0.001, "kl_horizon": 20.0}


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", FAULTS)
def test_an_update_with_a_non_finite_number_is_undone(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Weights, moments, KL control, reference and files; and the run goes on as if the update had done nothing."""
    quantity, plant = FAULTS[name]
    stage, plain = (make_stage(ppo_config(ppo=ONE, **WHOLE), folder=folder) for folder in ("ill", "plain"))
    for one in (stage, plain):
        one.step(0)
    before = everything(stage)
    assert before[0].keys() >= {n for n in before[0] if n.startswith("adam/")} != set()
    with monkeypatch.context() as patch:
        plant(patch)
        with pytest.raises(NonFinite) as raised:
            stage.step(1)
    assert raised.value.quantity == quantity
    assert {"tokens", "attention_mask", "response_mask"} <= raised.value.tensors.keys()
    assert same(before, everything(stage))
    assert not (stage.recorder.run.rollouts / "update-000002.parquet").exists()
    metrics, wanted = stage.step(2), plain.step(2)
    kept = [key for key in wanted if not key.startswith("time/")]
    assert {key: metrics[key] for key in kept} == {key: wanted[key] for key in kept}
    assert same(everything(stage), everything(plain))


def test_a_single_optimiser_step_needs_no_copy(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All gradients are checked before any optimiser moves: the critic's is bad, the policy stays."""
    stage = make_stage(ppo_config(ppo={"epochs": 1, "minibatches": 1, "critic": "adapter"}))
    stage.step(0)
    before = everything(stage)
    began = []
    monkeypatch.setattr(Optimiser, "step", lambda self, lr_scale: began.append(lr_scale))
    clip_nan(monkeypatch, 0, "critic")
    with pytest.raises(NonFinite, match="critic"):
        stage.step(1)
    assert not began
    assert not stage.snapshot.tensors
    assert same(before, everything(stage))


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_copy_lives_as_long_as_an_update_of_several_steps(make_stage: MakeStage, epochs: int) -> None:
    stage = make_stage(ppo_config(ppo={"epochs": epochs, "minibatches": 1}))
    during: list[int] = []
    learn = stage.learner.learn
    stage.learner.learn = lambda *a, **k: during.append(len(stage.snapshot.tensors)) or learn(*a, **k)  # type: ignore[func-returns-value, method-assign]
    stage.step(0)
    assert (during[0] > 0) == (epochs > 1)
    assert not stage.snapshot.tensors


def test_a_schedule_and_a_warm_up_are_taken_back(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {
        "kl_control": "linear",
        "kl_coef_final": 0.9,
        "critic_warmup_updates": 2,
        "critic_warmup_until": -9.0,
    }
    stage = make_stage(ppo_config(ppo=keys))
    before = everything(stage)
    assert stage.warming_up
    clip_nan(monkeypatch, 0, "value_head")
    with pytest.raises(NonFinite, match="value_head"):
        stage.step(1)
    assert same(before, everything(stage))


def test_an_own_critics_value_is_named(make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    values, calls = Critic.values, [0]

    def ill(self: Critic, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        got, last = values(self, batch)
        calls[0] += torch.is_grad_enabled()
        spoils = torch.is_grad_enabled() and calls[0] == 2
        return torch.where(batch.response_mask, math.nan, got) if spoils else got, last

    stage = make_stage(ppo_config(ppo={"critic": "model"}, **WHOLE))
    stage.step(0)
    before = everything(stage)
    monkeypatch.setattr(Critic, "values", ill)
    with pytest.raises(NonFinite, match=r"row .* of the update, token .*: the value is nan"):
        stage.step(1)
    assert same(before, everything(stage))


def test_the_supervised_mix_is_checked(make_stage: MakeStage) -> None:
    rows = with_bad_rows({3: len(DEMONSTRATIONS[3].tokens) - 2})
    mixed = Ptx(rows, PtxSettings(data=DataConfig(path="rows"), batch_size=12))
    stage = make_stage(ppo_config(), ptx=mixed)
    poisoned(stage.policy.backbone)
    before = everything(stage)
    with pytest.raises(NonFinite, match=r"PPO-ptx, row r3, token .*: the logprob is nan"):
        stage.step(0)
    assert same(before, everything(stage))


def test_a_sampler_that_gives_nan(make_stage: MakeStage) -> None:
    """The very tokens: read again, the same log-probability is NaN. Nothing was learnt, so nothing is taken back."""
    stage = make_stage(ppo_config())
    stage.step(0)
    for prompt in (stage.prompts[0], stage.prompts[3]):
        assert prompt.id
    backbone = stage.policy.backbone
    norm = backbone.model.get_submodule("model.norm")
    kept = norm.weight.detach().clone()
    with torch.no_grad():
        norm.weight.fill_(math.inf)
    before = everything(stage)
    with pytest.raises(
        NonFinite, match=r"prompt p.*, sample 0, token .*: the sampler logprob is nan"
    ) as raised:
        stage.step(1)
    error = raised.value
    rows = TokenBatch(*(error.tensors[name] for name in ("tokens", "attention_mask", "response_mask")))
    assert math.isnan(float(stage.policy.evaluate(rows).logprobs[error.row, error.token].detach()))
    with torch.no_grad():
        norm.weight.copy_(kept)
    before[0]["model/" + next(n for n, p in backbone.model.named_parameters() if p is norm.weight)] = kept
    assert same(before, everything(stage))


def test_a_reward_too_large_for_the_device_is_non_finite(make_stage: MakeStage) -> None:
    """Finite for Python, infinite in float32."""
    stage = make_stage(ppo_config(), rule=lambda r: 1e39)
    with pytest.raises(NonFinite, match=r"rollouts, row of prompt p.*: the reward is inf"):
        stage.step(0)
