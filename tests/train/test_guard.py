"""A number that is not finite: the step changes nothing, is written down and skipped; too many in a row end the run."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_stage import ppo_config
from safetensors.torch import load_file
from tiny import tiny_backbone
from torch import Tensor

from harken.batches import TokenBatch, TokenEvaluation
from harken.config import CheckpointSettings, HealthSettings, RunConfig
from harken.config_base import DataConfig
from harken.config_ppo import PtxSettings
from harken.errors import NonFinite, UserError
from harken.models.backbone import Backbone
from harken.models.roles import Critic, Policy
from harken.records import TokenDemonstration, TokenPair
from harken.run import atomic
from harken.run.folder import RunFolder
from harken.run.tracking import logged
from harken.train import guard
from harken.train.guard import KEPT, Guard, require_finite
from harken.train.loop import run_stage
from harken.train.optimiser import Optimiser
from harken.train.order import batch_rows
from harken.train.ppo import PPOStage
from harken.train.ppo_learn import Ptx
from harken.train.reward_model import RewardStage
from harken.train.sft import SupervisedStage

MakeStage = Callable[..., PPOStage]
Trained = SupervisedStage | RewardStage | PPOStage
BAD = 251
"""A token at which a poisoned trunk gives NaN."""
DEMONSTRATIONS = [
    TokenDemonstration(f"r{i}", (*range(9, 12 + i), 40 + i, 2), (*[False] * (3 + i), True, True))
    for i in range(12)
]
PAIRS = [TokenPair(f"p{i}", (*range(9, 10 + i), 40, 2), (*range(9, 10 + i), 90, 2)) for i in range(12)]


def poisoned(made: Backbone, value: float = math.nan) -> Backbone:
    """Its trunk gives `value` wherever it reads the token BAD, and nowhere else."""
    forward = made.forward

    def ill(*kernel: Any, **inputs: Any) -> Tensor:
        hidden = forward(*kernel, **inputs)
        bad = (inputs["input_ids"] == BAD).view(*hidden.shape[:-1], 1)
        return torch.where(bad, torch.full_like(hidden, value), hidden)

    made.forward = ill  # type: ignore[method-assign]
    return made


def config(kind: str, **keys: Any) -> RunConfig:
    training = {"type": kind, "lr": 1e-2, "lr_schedule": "constant", "batch_size": 4, "epochs": 2, **keys}
    return RunConfig.model_validate(
        {"dtype": "float32", "data": {"path": "rows"}, "lora": {"rank": 4}, "training": training}
    )


def supervised(rows: list[TokenDemonstration] = DEMONSTRATIONS, **keys: Any) -> SupervisedStage:
    return SupervisedStage(config("sft", **keys), poisoned(tiny_backbone()), rows, rows[:2])


def rewarding(pairs: list[TokenPair] = PAIRS, value: float = math.nan, **keys: Any) -> RewardStage:
    made = poisoned(tiny_backbone(), value)
    return RewardStage(config("reward", **keys), made, Path("base"), pairs, pairs[:2])


def with_bad_rows(of: dict[int, int]) -> list[TokenDemonstration]:
    """The demonstrations, with BAD at a place in some of them."""
    rows = list(DEMONSTRATIONS)
    for row, place in of.items():
        tokens = list(rows[row].tokens)
        tokens[place] = BAD
        rows[row] = TokenDemonstration(rows[row].id, tuple(tokens), rows[row].action)
    return rows


def everything(stage: Trained) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that a step may change: state, every weight (frozen ones too), gradients, modes."""
    policy = stage.policy if isinstance(stage, PPOStage) else None
    backbone = policy.backbone if policy else stage.backbone  # type: ignore[union-attr]
    tensors = {name: t.detach().clone() for name, t in stage.tensors().items()}
    tensors |= {f"model/{name}": p.detach().clone() for name, p in backbone.model.named_parameters()}
    state = json.loads(json.dumps(stage.state())) | {
        "grads": [name for name, p in backbone.model.named_parameters() if p.grad is not None],
        "trains": [name for name, p in backbone.model.named_parameters() if p.requires_grad],
        "modes": [module.training for module in backbone.model.modules()],
        "role": backbone._role,
        "ready": isinstance(stage, PPOStage) and stage.learner._ready is not None,
    }
    return tensors, state


def same(one: tuple[dict[str, Tensor], Any], other: tuple[dict[str, Tensor], Any]) -> bool:
    """To the last bit."""
    assert one[0].keys() == other[0].keys()
    return one[1] == other[1] and all(torch.equal(t, other[0][name]) for name, t in one[0].items())


def clip_nan(patch: pytest.MonkeyPatch, call: int, of: str = "lora_A") -> None:
    """NaN in one parameter's gradient at the call-th clip (from 0) of an optimiser that has such a parameter."""
    clip, calls = Optimiser.clip, [0]

    def ill(self: Optimiser) -> float:
        names = [name for name, p in self.parameters.items() if of in name and p.grad is not None]
        if names:
            if calls[0] == call:
                gradient = self.parameters[names[-1]].grad
                assert gradient is not None
                gradient.view(-1)[0] = math.nan
            calls[0] += 1
        return clip(self)

    patch.setattr(Optimiser, "clip", ill)


# -- supervised and reward-model training ---------------------------------------------------------------


def first_batch(stage: SupervisedStage | RewardStage, number: int) -> list[int]:
    """The rows of a step, in the stage's order."""
    rows = stage.rows if isinstance(stage, SupervisedStage) else stage.pairs
    return list(batch_rows(number, len(rows), stage.settings.batch_size, stage.seed, stage.label))


@pytest.mark.parametrize("micro_batch_tokens", [4096, 12])
def test_a_poisoned_row_of_sft_is_named_and_changes_nothing(micro_batch_tokens: int) -> None:
    keys = {"micro_batch_tokens": micro_batch_tokens}
    ill = first_batch(supervised(**keys), 1)[2]
    place = len(DEMONSTRATIONS[ill].tokens) - 2  # read to say the last token
    stage = supervised(with_bad_rows({ill: place}), **keys)
    stage.step(0)
    before = everything(stage)
    with pytest.raises(
        NonFinite, match=rf"training, row r{ill}, token {place + 1}: the logprob is nan"
    ) as told:
        stage.step(1)
    assert same(before, everything(stage))
    fault = told.value
    assert (fault.quantity, fault.token) == ("logprob", place + 1)
    assert fault.row is not None
    shown = fault.tensors["tokens"][fault.row].tolist()
    assert shown[: place + 2] == list(stage.rows[ill].tokens)
    if micro_batch_tokens == 12:
        assert len(fault.tensors["tokens"]) < 4
    assert math.isfinite(stage.step(2)["loss"])


def test_a_gradient_that_is_not_finite_names_its_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = supervised()
    stage.step(0)
    before = everything(stage)
    clip_nan(monkeypatch, 0)
    with pytest.raises(NonFinite, match=r"lora_A.*: the gradient is nan") as told:
        stage.step(1)
    assert same(before, everything(stage))
    rows = [list(DEMONSTRATIONS[i].tokens) for i in first_batch(stage, 1)]
    tokens, real = told.value.tensors["tokens"], told.value.tensors["real"]
    assert [t[r].tolist() for t, r in zip(tokens, real, strict=True)] == rows


@pytest.mark.parametrize(("value", "centre"), [(math.nan, 0.01), (math.inf, 0.01), (math.inf, 0.0)])
def test_a_pair_with_a_reward_that_is_not_finite_changes_nothing(value: float, centre: float) -> None:
    """Bradley–Terry of an infinite reward may be 0: the reward itself is looked at."""
    ill = first_batch(rewarding(), 1)[3]
    pairs = list(PAIRS)
    pairs[ill] = TokenPair(pairs[ill].id, pairs[ill].chosen_tokens, (*pairs[ill].rejected_tokens[:-1], BAD))
    stage = rewarding(pairs, value, centre_coef=centre)
    stage.step(0)
    before = everything(stage)
    with pytest.raises(NonFinite, match=rf"row p{ill}, rejected: the reward is") as told:
        stage.step(1)
    assert same(before, everything(stage))
    fault = told.value
    assert fault.row is not None
    shown = fault.tensors["tokens"][fault.row][fault.tensors["real"][fault.row]].tolist()
    assert shown == list(pairs[ill].rejected_tokens)
    assert {"label", "strength"} <= fault.tensors.keys()
    assert math.isfinite(stage.step(2)["loss"])


def test_a_reward_models_gradient_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = rewarding()
    stage.step(0)
    before = everything(stage)
    clip_nan(monkeypatch, 0, "head")
    with pytest.raises(NonFinite, match=r"head\.bias: the gradient is nan") as told:
        stage.step(1)
    assert same(before, everything(stage))
    assert len(told.value.tensors["tokens"]) == 8


def test_dropout_is_off_again_after_a_fault() -> None:
    settings = config("sft").model_copy(
        update={"lora": config("sft").lora.model_copy(update={"dropout": 0.3})}
    )  # type: ignore[union-attr]
    rows = with_bad_rows({i: len(DEMONSTRATIONS[i].tokens) - 2 for i in range(12)})
    stage = SupervisedStage(settings, poisoned(tiny_backbone()), rows, rows)
    before = everything(stage)
    with pytest.raises(NonFinite):
        stage.step(0)
    assert same(before, everything(stage))


def test_a_good_step_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many micro-batches: a look is a wait for the device. Only the gradient's norm is looked at."""
    looks = []
    look = torch.isfinite
    monkeypatch.setattr(torch, "isfinite", lambda t: looks.append(t.shape) or look(t))
    supervised(micro_batch_tokens=8).step(0)
    assert looks == [()]


# -- PPO ------------------------------------------------------------------------------------------------


def evaluate_nan(patch: pytest.MonkeyPatch, call: int, what: str = "logprobs", bad: float = math.nan) -> None:
    """A policy whose call-th forward with gradients (from 0) gives NaN at row 0's last action token."""
    evaluate, calls = Policy.evaluate, [0]

    def ill(self: Policy, batch: TokenBatch, *args: Any, **keys: Any) -> TokenEvaluation:
        now = evaluate(self, batch, *args, **keys)
        if self.value_head is None or not torch.is_grad_enabled():
            return now
        calls[0] += 1
        if calls[0] - 1 != call:
            return now
        parts = dict(vars(now))
        place = int(batch.action[0].nonzero()[-1])
        spoilt = parts[what].clone()
        spoilt[0, place] = bad
        return TokenEvaluation(**parts | {what: spoilt})

    patch.setattr(Policy, "evaluate", ill)


def one_row_nan(role: str, at: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Of update 1's old evaluation (at 0) or a later optimiser step's forward."""
    return lambda patch: evaluate_nan(patch, at, role)


def reference_nan(patch: pytest.MonkeyPatch) -> None:
    evaluate = Policy.evaluate

    def ill(self: Policy, batch: TokenBatch, *args: Any, **keys: Any) -> TokenEvaluation:
        now = evaluate(self, batch, *args, **keys)
        if self.value_head is None and self.adapter is None:
            now.logprobs[batch.action] = math.inf
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
WHOLE = {"micro_batch_tokens": 100_000}
"""An optimiser step is one micro-batch: forwards with gradients are the optimiser steps."""


@pytest.mark.parametrize("name", FAULTS)
def test_an_update_that_meets_a_number_that_is_not_finite_never_was(
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
        with pytest.raises(NonFinite) as told:
            stage.step(1)
    assert told.value.quantity == quantity
    assert {"tokens", "real", "action"} <= told.value.tensors.keys()
    assert same(before, everything(stage))
    assert not (stage.run.rollouts / "update-000002.parquet").exists()
    metrics, wanted = stage.step(2), plain.step(2)
    kept = [key for key in wanted if not key.startswith("time/")]
    assert {key: metrics[key] for key in kept} == {key: wanted[key] for key in kept}
    assert same(everything(stage), everything(plain))


def test_a_single_optimiser_step_needs_no_copy(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All gradients are looked at before any optimiser moves: the critic's is bad, the policy stays."""
    stage = make_stage(ppo_config(ppo={"epochs": 1, "minibatches": 1, "critic": "adapter"}))
    stage.step(0)
    before = everything(stage)
    began = []
    monkeypatch.setattr(Optimiser, "move", lambda self, factor: began.append(factor))
    clip_nan(monkeypatch, 0, "critic")
    with pytest.raises(NonFinite, match="critic"):
        stage.step(1)
    assert not began
    assert not stage.control._before
    assert same(before, everything(stage))


def test_the_copy_lives_as_long_as_the_update(make_stage: MakeStage) -> None:
    stage = make_stage(ppo_config())
    during: list[int] = []
    learn = stage.learner.learn
    stage.learner.learn = lambda *a, **k: during.append(len(stage.control._before)) or learn(*a, **k)  # type: ignore[func-returns-value, method-assign]
    stage.step(0)
    assert during == [len(stage.learner.tensors())] or during[0] > 0
    assert not stage.control._before


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
    assert stage.warming
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
        return torch.where(batch.action, math.nan, got) if spoils else got, last

    stage = make_stage(ppo_config(ppo={"critic": "model"}, **WHOLE))
    stage.step(0)
    before = everything(stage)
    monkeypatch.setattr(Critic, "values", ill)
    with pytest.raises(NonFinite, match=r"row .* of the update, token .*: the value is nan"):
        stage.step(1)
    assert same(before, everything(stage))


def test_the_supervised_mix_is_looked_at(make_stage: MakeStage) -> None:
    rows = with_bad_rows({3: len(DEMONSTRATIONS[3].tokens) - 2})
    mixed = Ptx(rows, PtxSettings(data=DataConfig(path="rows"), batch_size=12))
    stage = make_stage(ppo_config(), ptx=mixed)
    poisoned(stage.policy.backbone)
    before = everything(stage)
    with pytest.raises(NonFinite, match=r"the supervised mix, row r3, token .*: the logprob is nan"):
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
    ) as told:
        stage.step(1)
    fault = told.value
    rows = TokenBatch(*(fault.tensors[name] for name in ("tokens", "real", "action")))
    assert math.isnan(float(stage.policy.evaluate(rows).logprobs[fault.row, fault.token]))
    with torch.no_grad():
        norm.weight.copy_(kept)
    before[0]["model/" + next(n for n, p in backbone.model.named_parameters() if p is norm.weight)] = kept
    assert same(before, everything(stage))


def test_a_reward_too_large_for_the_device_is_a_fault(make_stage: MakeStage) -> None:
    """Finite for Python, infinite in float32."""
    stage = make_stage(ppo_config(), rule=lambda r: 1e39)
    with pytest.raises(NonFinite, match=r"rollouts, row of prompt p.*: the reward is inf"):
        stage.step(0)


# -- the loop -------------------------------------------------------------------------------------------


class Counted:
    """A stage whose weight counts its good steps, and whose steps in `ill` meet a NaN."""

    label = "count"

    def __init__(self, ill: set[int], total: int = 8) -> None:
        self.ill, self.total = ill, total
        self.weight = torch.zeros(1)
        self.evaluated: list[int] = []

    def step(self, number: int) -> dict[str, float]:
        if number in self.ill:
            fault = NonFinite("gradient", math.nan, where="weight")
            fault.tensors = {"tokens": torch.tensor([[number]])}
            raise fault
        self.weight = self.weight + 1
        return {"loss": 1.0 / (1 + number), "grad_norm": 1.0}

    def before(self) -> None: ...

    def evaluate(self, done: int) -> dict[str, float]:
        self.evaluated.append(done)
        return {}

    def quality(self, metrics: Mapping[str, float]) -> float | None:
        return None

    def stop_reason(self) -> str | None:
        return None

    def summary(self, metrics: Mapping[str, float]) -> str:
        return f"loss {metrics['loss']:.2f}"

    def tensors(self) -> dict[str, Tensor]:
        return {"parameter/weight": self.weight, "adam/moment": -self.weight}

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        self.weight = tensors["parameter/weight"]

    def save(self, folder: Path) -> None:
        (folder / "weight").write_text(str(float(self.weight)))


def run(
    root: Path, stage: Any, most: int = 3, every: int = 50, stop_on: tuple[str, ...] = (), kind: str = "sft"
) -> RunFolder:
    folder = RunFolder(root)
    run_stage(
        stage, folder, seed=7, checkpoints=CheckpointSettings(every=every), eval_every=1, tensorboard=False,
        kind=kind, health=HealthSettings(stop_on=list(stop_on)), dtype="float32", max_skipped_steps=most,
    )  # fmt: skip
    return folder


def status(folder: RunFolder) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(folder.status.read_text())
    return told


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    """Of metrics.jsonl, without what was measured with a clock."""
    read = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read]


def test_a_skipped_step_is_told_everywhere_and_the_run_goes_on(tmp_path: Path, capfd: Any) -> None:
    """S0-39: status, metrics line, health, printed line; no evaluation of what did not move."""
    stage = Counted({2, 3, 4, 6})
    folder = run(tmp_path, stage)
    assert status(folder) == {
        "state": "completed", "requested": 8, "completed": 4, "skipped": 4, "stopped_because": "finished",
    }  # fmt: skip
    assert (folder.final / "weight").read_text() == "4.0"
    third = lines(folder)[2]
    assert third["gradient"] is None and third["nonfinite"] == ["gradient"]
    assert third["skipped"].startswith("weight: the gradient is nan. ")
    assert third["health/not_finite"] == 2.0 and "loss" not in third
    assert [line["step"] for line in lines(folder) if "skipped" in line] == [3, 4, 5, 7]
    assert lines(folder)[7]["health/not_finite"] == 0.0
    assert stage.evaluated == [1, 2, 6, 8]
    assert "skipped: weight: the gradient is nan" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("ill", "most", "ends"),
    [({2, 3, 4, 5}, 3, 6), ({2}, 0, 3), ({1, 3, 5, 7}, 1, None), ({0, 1, 2}, 3, None), (set(range(3)), 2, 3)],
)
def test_too_many_in_a_row_end_the_run(tmp_path: Path, ill: set[int], most: int, ends: int | None) -> None:
    if ends is None:
        run(tmp_path, Counted(ill), most)
        return
    with pytest.raises(
        UserError, match=rf"max_skipped_steps is {most}; the last: weight: the gradient is nan"
    ) as e:
        run(tmp_path, Counted(ill), most)
    assert "\n" not in str(e.value)
    told, folder = status(RunFolder(tmp_path)), RunFolder(tmp_path)
    assert told["state"] == "failed" and told["stopped_because"].startswith("failed: ")
    assert (told["completed"], told["skipped"]) == (ends - most - 1, most + 1)
    assert len(lines(folder)) == ends and not folder.final.exists()
    assert (folder.faults / f"step-{ends:06d}").is_dir()


def test_a_run_of_which_every_step_was_skipped_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 steps in a row"):
        run(tmp_path, Counted({0, 1}, total=2))


def test_a_streak_pushes_out_no_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        run(tmp_path, Counted({4, 5, 6, 7}), every=1)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000003", "step-000004"]


def test_a_checkpoint_that_fell_due_in_a_streak_is_made_up_for(tmp_path: Path) -> None:
    run(tmp_path, Counted({1, 3, 5}), every=2)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000007", "step-000008"]


class Killed(Exception):
    """A process that is gone."""


def killed_at(stage: Counted, number: int) -> Counted:
    step = stage.step

    def until(at: int) -> dict[str, float]:
        if at == number:
            raise Killed
        return step(at)

    stage.step = until  # type: ignore[method-assign]
    return stage


@pytest.mark.parametrize("kill", [3, 4, 5, 7])
def test_a_resumed_run_counts_as_if_never_stopped(tmp_path: Path, kill: int) -> None:
    """In the middle of a streak and behind it: metrics, counts, bundles, weights."""
    ill = {2, 3, 4, 6}
    whole = run(tmp_path / "whole", Counted(ill), every=2)
    with pytest.raises(Killed):
        run(tmp_path / "cut", killed_at(Counted(ill), kill), every=2)
    cut = run(tmp_path / "cut", Counted(ill), every=2)
    assert lines(cut) == lines(whole)
    assert status(cut) == status(whole)
    assert files(cut.faults) == files(whole.faults)
    assert (cut.final / "weight").read_text() == (whole.final / "weight").read_text()


def test_a_streak_goes_on_behind_a_checkpoint(tmp_path: Path) -> None:
    """Counted from metrics.jsonl, up to the checkpoint's step: lines of later steps and torn ones do not count."""
    folder = RunFolder(tmp_path)
    atomic.write_text(folder.metrics, "".join(
        json.dumps({"step": n} | ({"skipped": "x"} if n in (1, 3, 4, 5) else {})) + "\n" for n in range(1, 6)
    ) + '{"step": 4, "sk')  # fmt: skip
    counted = Guard(folder, 0, 3, 9)
    counted.replay(logged(folder.metrics, 4))
    assert (counted.skipped, counted.in_a_row) == (3, 2)


def test_a_health_rule_may_end_the_run_at_the_first(tmp_path: Path) -> None:
    folder = run(tmp_path, Counted({2}), stop_on=("not_finite",))
    assert status(folder)["stopped_because"] == "health: not_finite: NaN or infinite: gradient"
    assert (status(folder)["completed"], status(folder)["skipped"]) == (2, 1)


# -- the bundle -----------------------------------------------------------------------------------------


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_bundle_shows_the_fault_again(tmp_path: Path) -> None:
    """From the files alone: the same quantity is not finite at the same row and token, and the loss with it."""
    ill = first_batch(supervised(), 1)[2]
    place = len(DEMONSTRATIONS[ill].tokens) - 2
    rows = with_bad_rows({ill: place})
    folder = run(tmp_path, supervised(rows, max_steps=3))
    bundle = folder.faults / "step-000002"
    assert sorted(p.name for p in bundle.iterdir()) == [
        "batch.safetensors",
        "fault.json",
        "parameters.safetensors",
    ]
    told = json.loads((bundle / "fault.json").read_text())
    assert (told["stage"], told["step"], told["quantity"], told["value"]) == ("SFT", 2, "logprob", "nan")
    assert (told["seed"], told["config"], told["token"]) == (7, "config.yml", place + 1)
    fresh = supervised(rows)
    fresh.step(0)  # the parameters of the bundle are those after it: wipe them first
    fresh.step(2)
    saved, shown = load_file(bundle / "parameters.safetensors"), load_file(bundle / "batch.safetensors")
    with torch.no_grad():
        for name, parameter in fresh.policy.parameters().items():
            parameter.copy_(saved[name])
    assert saved.keys() == fresh.policy.parameters().keys()
    once = supervised(rows)
    once.step(0)
    assert all(torch.equal(p, saved[name]) for name, p in once.policy.parameters().items())
    batch = TokenBatch(shown["tokens"], shown["real"], shown["action"])
    logprobs = fresh.policy.evaluate(batch).logprobs
    broken = (~torch.isfinite(logprobs) & batch.action).nonzero().tolist()
    assert broken == [[told["row"], told["token"]]]


def test_a_bundle_of_ppo_makes_the_loss_again(
    tmp_path: Path, make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Advantages, returns and old values of the micro-batch: the loss of its tokens from the files alone."""
    stage = make_stage(ppo_config(ppo={"updates": 2}, **WHOLE))
    evaluate_nan(monkeypatch, 2)
    folder = run(tmp_path / "run", stage, kind="ppo")
    shown = load_file(folder.faults / "step-000001" / "batch.safetensors")
    told = json.loads((folder.faults / "step-000001" / "fault.json").read_text())
    assert told["what"].startswith(
        f"learning, row {int(shown['rows'][0])} of the update, token {told['token']}: "
    )
    assert bool(shown["learnable"][told["row"], told["token"]])
    assert {
        "advantages",
        "returns",
        "old_values",
        "old_logprobs",
        "reference_logprobs",
        "valued",
    } <= shown.keys()
    assert len(shown["rows"]) == len(shown["tokens"]) == 3
    parameters = load_file(folder.faults / "step-000001" / "parameters.safetensors")
    fresh = make_stage(ppo_config(ppo={"updates": 2}, **WHOLE), folder="fresh")
    start = {
        n.removeprefix("parameter/"): t for n, t in fresh.tensors().items() if n.startswith("parameter/")
    }
    assert start.keys() == parameters.keys()
    assert all(torch.equal(t, parameters[name]) for name, t in start.items())
    batch = TokenBatch(shown["tokens"], shown["real"], shown["action"])
    old = fresh.policy.evaluate(batch).logprobs.detach()
    assert torch.allclose(old[batch.action], shown["old_logprobs"][batch.action], atol=1e-5)


def test_the_latest_few_bundles_are_kept(tmp_path: Path) -> None:
    folder = run(tmp_path, Counted({0, 1, 3, 5, 6, 7}, total=9))
    kept = [f"step-{n:06d}" for n in (2, 4, 6, 7, 8)][-KEPT:]
    assert sorted(p.name for p in folder.faults.iterdir()) == kept


def test_a_full_disk_costs_the_bundle_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(guard.atomic, "write_new", full)
    watched = Guard(RunFolder(tmp_path), 0, 3, 9)
    metrics, why = watched.step(Counted({0}), 0)
    assert math.isnan(metrics["gradient"]) and why is not None
    assert list((tmp_path / "faults").iterdir()) == []
    assert (
        "warning: no bundle of the fault in step 1, the run goes on: No space left" in capfd.readouterr().err
    )

    def broken(path: Path, data: bytes) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(guard.atomic, "write_new", broken)
    with pytest.raises(OSError, match="Input/output"):
        watched.step(Counted({1}), 1)


def test_what_a_killed_run_left_is_cleaned_up(tmp_path: Path) -> None:
    left = tmp_path / "faults" / ".unfinished-step-000001"
    left.mkdir(parents=True)
    (left / "batch.safetensors").write_bytes(b"torn")
    watched = Guard(RunFolder(tmp_path), 0, 3, 9)
    for _ in range(2):  # the second time in place of the first's bundle
        watched.step(Counted({2}), 2)
    assert [p.name for p in (tmp_path / "faults").iterdir()] == ["step-000003"]


def test_the_first_in_order_is_named_and_what_does_not_count_is_not_read() -> None:
    values = torch.tensor([[math.nan, 1.0, 2.0], [3.0, -math.inf, math.nan]])
    counts = torch.tensor([[False, True, True], [True, True, True]])
    with pytest.raises(NonFinite, match="here, row 1, token 1: the b is -inf") as told:
        require_finite(
            [("a", values.nan_to_num(), None), ("b", values, counts), ("c", values, None)], "here", dict
        )
    assert (told.value.row, told.value.token) == (1, 1)
    with pytest.raises(NonFinite, match="here, row second: the r is nan") as told:
        require_finite([("r", torch.tensor([1.0, math.nan]), None)], "here", dict, ["first", "second"])
    assert (told.value.row, told.value.token) == (1, None)
    require_finite([("b", values, torch.zeros_like(counts))], "here", dict)


# -- trip-wires -----------------------------------------------------------------------------------------


class Scripted(Counted):
    """A stage whose every step gives these metrics."""

    def __init__(self, metrics: dict[str, float]) -> None:
        super().__init__(set(), total=14)
        self.metrics = metrics

    def step(self, number: int) -> dict[str, float]:
        return {"loss": 0.0, **self.metrics}


@pytest.mark.parametrize(
    ("name", "metrics", "after"),
    [
        ("empty_answers", {"response/empty": 0.2}, 10),
        ("kl_explosion", {"kl/mean": 16.0}, 1),
        ("kl_drift", {"kl/mean": 21.0}, 1),
        ("first_ratio", {"policy/first_ratio_gap": 0.2}, 1),
        ("sampler_gap", {"sampler/logprob_gap": 0.4}, 1),
    ],
)
def test_each_trip_wire_ends_a_run_that_asks_for_it(
    tmp_path: Path, name: str, metrics: dict[str, float], after: int
) -> None:
    """S0-40: with its name and its number in the status; a run that does not ask goes on."""
    folder = run(tmp_path / "asked", Scripted(metrics), stop_on=(name,), kind="ppo")
    told = status(folder)
    assert told["state"] == "stopped" and told["completed"] == after
    assert told["stopped_because"].startswith(f"health: {name}: ")
    assert status(run(tmp_path / "not", Scripted(metrics), kind="ppo"))["state"] == "completed"


def test_an_update_whose_first_ratio_is_not_1_ends_the_run(
    tmp_path: Path, make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Property 28: old log-probabilities that are not those of the policy that learns."""
    good = run(
        tmp_path / "good", make_stage(ppo_config(ppo={"updates": 2})), stop_on=("first_ratio",), kind="ppo"
    )
    assert status(good)["state"] == "completed"
    stage = make_stage(ppo_config(ppo={"updates": 2}), folder="ill")
    evaluated = stage._evaluate

    def stale(number: int, batch: TokenBatch) -> TokenEvaluation:
        old = evaluated(number, batch)
        return TokenEvaluation(old.logprobs - 0.2, old.entropy, old.values, old.final_values)

    monkeypatch.setattr(stage, "_evaluate", stale)
    told = status(run(tmp_path / "ill", stage, stop_on=("first_ratio",), kind="ppo"))
    assert told["completed"] == 1
    assert told["stopped_because"].startswith(
        "health: first_ratio: before the first optimiser step a ratio is 0.22"
    )
