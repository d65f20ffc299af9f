"""Skipped steps: what is told of them, when they end the run, their dumps; and trip-wires that end a run."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from make_targets import make_targets
from ppo_stage import ppo_config
from safetensors.torch import load_file
from torch import Tensor
from unhealthy_stages import (
    DEMONSTRATIONS,
    WHOLE,
    MakeStage,
    evaluate_nan,
    first_batch,
    supervised,
    with_bad_rows,
)

from harken.batches import PolicyOutputs, TokenBatch
from harken.config import CheckpointSettings, HealthSettings
from harken.errors import NonFinite, UserError
from harken.run import atomic
from harken.run.folder import RunFolder
from harken.run.tracking import logged_lines
from harken.train import nonfinite
from harken.train.loop import run_stage
from harken.train.nonfinite import MAX_DUMPS, NonFiniteHandler, check_finite
from harken.train.ppo.loss import UpdateStats, policy_loss
from harken.train.ppo.minibatch import TokenCounts

# -- the loop -------------------------------------------------------------------------------------------


class Counted:
    """A stage whose weight counts its good steps, and whose steps in `ill` meet a NaN."""

    label = "count"

    def __init__(self, unhealthy: set[int], total: int = 8) -> None:
        self.ill, self.total = unhealthy, total
        self.weight = torch.zeros(1)
        self.evaluated: list[int] = []

    def step(self, number: int) -> dict[str, float]:
        if number in self.ill:
            error = NonFinite("gradient", math.nan, where="weight")
            error.tensors = {"tokens": torch.tensor([[number]])}
            raise error
        self.weight = self.weight + 1
        return {"loss": 1.0 / (1 + number), "grad_norm": 1.0}

    def on_train_begin(self) -> None: ...

    def evaluate(self, done: int) -> dict[str, float]:
        self.evaluated.append(done)
        return {}

    def selection_metric(self, metrics: Mapping[str, float]) -> float | None:
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
    reported: dict[str, Any] = json.loads(folder.status.read_text())
    return reported


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    """Of metrics.jsonl, without what was measured with a clock."""
    read = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read]


def test_a_skipped_step_is_reported_everywhere_and_the_run_continues(tmp_path: Path, capfd: Any) -> None:
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
    ("unhealthy", "most", "ends"),
    [({2, 3, 4, 5}, 3, 6), ({2}, 0, 3), ({1, 3, 5, 7}, 1, None), ({0, 1, 2}, 3, None), (set(range(3)), 2, 3)],
)
def test_too_many_in_a_row_end_the_run(
    tmp_path: Path, unhealthy: set[int], most: int, ends: int | None
) -> None:
    if ends is None:
        run(tmp_path, Counted(unhealthy), most)
        return
    with pytest.raises(
        UserError, match=rf"max_skipped_steps is {most}; the last: weight: the gradient is nan"
    ) as e:
        run(tmp_path, Counted(unhealthy), most)
    assert "\n" not in str(e.value)
    reported, folder = status(RunFolder(tmp_path)), RunFolder(tmp_path)
    assert reported["state"] == "failed" and reported["stopped_because"].startswith("failed: ")
    assert (reported["completed"], reported["skipped"]) == (ends - most - 1, most + 1)
    assert len(lines(folder)) == ends and not folder.final.exists()
    assert (folder.nan_dumps / f"step-{ends:06d}").is_dir()


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
    """In the middle of a streak and behind it: metrics, counts, dumps, weights."""
    unhealthy = {2, 3, 4, 6}
    whole = run(tmp_path / "whole", Counted(unhealthy), every=2)
    with pytest.raises(Killed):
        run(tmp_path / "cut", killed_at(Counted(unhealthy), kill), every=2)
    truncated = run(tmp_path / "cut", Counted(unhealthy), every=2)
    assert lines(truncated) == lines(whole)
    assert status(truncated) == status(whole)
    assert files(truncated.nan_dumps) == files(whole.nan_dumps)
    assert (truncated.final / "weight").read_text() == (whole.final / "weight").read_text()


def test_a_streak_of_skipped_steps_continues_after_a_resume(tmp_path: Path) -> None:
    """Counted from metrics.jsonl, up to the checkpoint's step: lines of later steps and torn ones do not count."""
    folder = RunFolder(tmp_path)
    atomic.write_text(folder.metrics, "".join(
        json.dumps({"step": n} | ({"skipped": "x"} if n in (1, 3, 4, 5) else {})) + "\n" for n in range(1, 6)
    ) + '{"step": 4, "sk')  # fmt: skip
    counted = NonFiniteHandler(folder, 0, 3, 9)
    counted.count_logged(logged_lines(folder.metrics, 4))
    assert (counted.skipped, counted.skipped_in_a_row) == (3, 2)


def test_a_health_rule_may_end_the_run_at_the_first(tmp_path: Path) -> None:
    folder = run(tmp_path, Counted({2}), stop_on=("not_finite",))
    assert status(folder)["stopped_because"] == "health: not_finite: NaN or infinite: gradient"
    assert (status(folder)["completed"], status(folder)["skipped"]) == (2, 1)


# -- the dump -----------------------------------------------------------------------------------------


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_dump_reproduces_the_nan(tmp_path: Path) -> None:
    """From the files alone: the same quantity is not finite at the same row and token, and the loss with it."""
    unhealthy = first_batch(supervised(), 1)[2]
    place = len(DEMONSTRATIONS[unhealthy].tokens) - 2
    rows = with_bad_rows({unhealthy: place})
    folder = run(tmp_path, supervised(rows, max_steps=3))
    dump = folder.nan_dumps / "step-000002"
    assert sorted(p.name for p in dump.iterdir()) == [
        "batch.safetensors",
        "dump.json",
        "parameters.safetensors",
    ]
    reported = json.loads((dump / "dump.json").read_text())
    assert (reported["stage"], reported["step"], reported["quantity"], reported["value"]) == (
        "SFT",
        2,
        "logprob",
        "nan",
    )
    assert (reported["seed"], reported["config"], reported["token"]) == (7, "config.yml", place + 1)
    fresh = supervised(rows)
    fresh.step(0)  # the parameters of the dump are those after it: wipe them first
    fresh.step(2)
    saved, shown = load_file(dump / "parameters.safetensors"), load_file(dump / "batch.safetensors")
    with torch.no_grad():
        for name, parameter in fresh.policy.parameters().items():
            parameter.copy_(saved[name])
    assert saved.keys() == fresh.policy.parameters().keys()
    once = supervised(rows)
    once.step(0)
    assert all(torch.equal(p, saved[name]) for name, p in once.policy.parameters().items())
    batch = TokenBatch(shown["tokens"], shown["attention_mask"], shown["response_mask"])
    logprobs = fresh.policy.evaluate(batch).logprobs
    broken = (~torch.isfinite(logprobs) & batch.response_mask).nonzero().tolist()
    assert broken == [[reported["row"], reported["token"]]]


def test_a_dump_of_ppo_holds_what_its_loss_takes(
    tmp_path: Path, make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the files alone the loss of the micro-batch: before the update the ratio is 1, so it is −Σ advantage."""
    stage = make_stage(ppo_config(ppo={"updates": 2}, **WHOLE))
    evaluate_nan(monkeypatch, 2)
    folder = run(tmp_path / "run", stage, kind="ppo")
    shown = load_file(folder.nan_dumps / "step-000001" / "batch.safetensors")
    reported = json.loads((folder.nan_dumps / "step-000001" / "dump.json").read_text())
    assert reported["what"].startswith(
        f"learning, row {int(shown['rows'][0])} of the update, token {reported['token']}: "
    )
    assert bool(shown["policy_mask"][reported["row"], reported["token"]])
    assert {
        "advantages",
        "returns",
        "old_values",
        "old_logprobs",
        "reference_logprobs",
        "value_mask",
    } <= shown.keys()
    assert {len(tensor) for tensor in shown.values()} == {3}
    response = shown["response_mask"].bool()  # before the update the policy is the reference
    torch.testing.assert_close(
        shown["reference_logprobs"][response], shown["old_logprobs"][response], atol=1e-4, rtol=0
    )
    parameters = load_file(folder.nan_dumps / "step-000001" / "parameters.safetensors")
    fresh = make_stage(ppo_config(ppo={"updates": 2}, **WHOLE), folder="fresh")
    start = {
        n.removeprefix("parameter/"): t for n, t in fresh.tensors().items() if n.startswith("parameter/")
    }
    assert start.keys() == parameters.keys()
    assert all(torch.equal(t, parameters[name]) for name, t in start.items())
    batch = TokenBatch(shown["tokens"], shown["attention_mask"], shown["response_mask"])
    targets = make_targets(
        *(shown[name] for name in ("old_logprobs", "old_values", "advantages", "returns", "policy_mask"))
    )
    measures = UpdateStats()
    measures.begin_step(TokenCounts(1, 1, 1))
    now = fresh.policy.evaluate(batch)
    loss = policy_loss(now, targets, fresh.settings, measures).detach()
    assert float(loss) == pytest.approx(-float(shown["advantages"][shown["policy_mask"]].sum()), abs=1e-4)


def test_the_latest_few_dumps_are_kept(tmp_path: Path) -> None:
    folder = run(tmp_path, Counted({0, 1, 3, 5, 6, 7}, total=9))
    kept = [f"step-{n:06d}" for n in (2, 4, 6, 7, 8)][-MAX_DUMPS:]
    assert sorted(p.name for p in folder.nan_dumps.iterdir()) == kept


def test_a_full_disk_costs_the_dump_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nonfinite.atomic, "write_and_sync", full)
    watched = NonFiniteHandler(RunFolder(tmp_path), 0, 3, 9)
    metrics, why = watched.step(Counted({0}), 0)
    assert math.isnan(metrics["gradient"]) and why is not None
    assert list((tmp_path / "nan_dumps").iterdir()) == []
    assert "warning: no NaN dump of step 1, the run continues: No space left" in capfd.readouterr().err

    def broken(path: Path, data: bytes) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(nonfinite.atomic, "write_and_sync", broken)
    with pytest.raises(OSError, match="Input/output"):
        watched.step(Counted({1}), 1)


def test_unfinished_dumps_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    left = tmp_path / "nan_dumps" / ".unfinished-step-000001"
    left.mkdir(parents=True)
    (left / "batch.safetensors").write_bytes(b"torn")
    watched = NonFiniteHandler(RunFolder(tmp_path), 0, 3, 9)
    for _ in range(2):  # the second time in place of the first's dump
        watched.step(Counted({2}), 2)
    assert [p.name for p in (tmp_path / "nan_dumps").iterdir()] == ["step-000003"]


def test_the_first_in_order_is_named_and_what_does_not_count_is_not_read() -> None:
    values = torch.tensor([[math.nan, 1.0, 2.0], [3.0, -math.inf, math.nan]])
    counts = torch.tensor([[False, True, True], [True, True, True]])
    with pytest.raises(NonFinite, match="here, row 1, token 1: the b is -inf") as raised:
        check_finite(
            [("a", values.nan_to_num(), None), ("b", values, counts), ("c", values, None)], "here", dict
        )
    assert (raised.value.row, raised.value.token) == (1, 1)
    with pytest.raises(NonFinite, match="here, row second: the r is nan") as raised:
        check_finite([("r", torch.tensor([1.0, math.nan]), None)], "here", dict, ["first", "second"])
    assert (raised.value.row, raised.value.token) == (1, None)
    check_finite([("b", values, torch.zeros_like(counts))], "here", dict)


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
        ("empty_responses", {"response/empty": 0.2}, 10),
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
    reported = status(folder)
    assert reported["state"] == "stopped" and reported["completed"] == after
    assert reported["stopped_because"].startswith(f"health: {name}: ")
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
    evaluated = stage.evaluator.old_logprobs_and_values

    def stale(*args: Any, **keys: Any) -> PolicyOutputs:
        old = evaluated(*args, **keys)
        return PolicyOutputs(old.logprobs - 0.2, old.entropy, old.values, old.final_values)

    monkeypatch.setattr(stage.evaluator, "old_logprobs_and_values", stale)
    reported = status(run(tmp_path / "ill", stage, stop_on=("first_ratio",), kind="ppo"))
    assert reported["completed"] == 1
    assert reported["stopped_because"].startswith(
        "health: first_ratio: before the first optimiser step a ratio is 0.22"
    )
