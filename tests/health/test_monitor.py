"""The monitor as the training loop uses it: reports, what is printed, stopping, resuming."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
from health_series import always, level, lines, run, then, wobble

from harken.errors import UserError
from harken.health.findings import SEVERITY, STATUSES, Finding, Report, status_mark
from harken.health.monitor import RULES, Monitor
from harken.health.rule import TrainingType
from harken.run.folder import RunFolder
from harken.run.tracking import Tracker


def report(*findings: Finding) -> Report:
    return Report.of(7, findings, ("a", "b"))


def finding(name: str, level: str) -> Finding:
    return Finding(name, level, f"{name} is high", "a cause", "a mend")  # type: ignore[arg-type]


def test_the_status_is_that_of_the_worst_finding() -> None:
    assert report().status == "healthy"
    assert report(finding("a", "note")).status == "healthy"
    assert report(finding("a", "warning"), finding("b", "note")).status == "warning"
    assert report(finding("a", "warning"), finding("b", "unhealthy")).status == "unhealthy"


def test_columns_of_a_line() -> None:
    assert report(finding("b", "unhealthy")).metrics() == {"health/status": 2, "health/a": 0, "health/b": 2}
    assert report(finding("a", "warning")).metrics() == {"health/status": 1, "health/a": 1, "health/b": 0}
    assert report(finding("a", "note")).metrics() == {"health/status": 0, "health/a": 0, "health/b": 0}


@pytest.mark.parametrize("kind", ["sft", "reward", "ppo", "dpo", "online_dpo"])
def test_every_line_of_a_kind_has_the_same_columns(kind: TrainingType) -> None:
    """So that metrics.jsonl is a table."""
    unhealthy = {"grad_norm": then(1, 5, 1e9), "kl/mean": always(99), "loss": then(1, 20, math.nan)}
    columns = [list(r.metrics()) for r in run(kind, 40, unhealthy)]
    assert all(c == columns[0] for c in columns)
    assert set(columns[0]) == {"health/status"} | {f"health/{r.name}" for r in RULES if kind in r.kinds}
    assert all(isinstance(v, float) for v in run(kind, 1, unhealthy)[0].metrics().values())


def test_a_finding_is_printed_when_it_appears_worsens_or_ends() -> None:
    warning, unhealthy = report(finding("a", "warning")), report(finding("a", "unhealthy"))
    assert warning.changes(None) == ["warning a: a is high. Likely cause: a cause. Fix: a mend"]
    assert warning.changes(warning) == []
    assert unhealthy.changes(warning) == ["unhealthy a: a is high. Likely cause: a cause. Fix: a mend"]
    assert warning.changes(unhealthy) == []
    assert report().changes(unhealthy) == ["cleared a at 7"]
    assert report().changes(report(finding("a", "note"))) == []
    assert len(report(finding("a", "unhealthy"), finding("b", "warning")).changes(warning)) == 2


def test_a_finding_is_printed_as_one_line() -> None:
    """S4-59: what is wrong, with its unit; why; what to do."""
    printed = run("ppo", 3, {"kl/mean": always(17.2)})[0].changes(None)
    assert printed == [
        "unhealthy kl_explosion: KL from the reference is 17.2 nats per sequence, above 15. "
        "Likely cause: the learning rate is too high or kl_coef too low. "
        "Fix: raise training.ppo.kl_coef, lower training.lr, or set kl_control: adaptive with a kl_target"
    ]
    for rule in RULES:
        assert not {"\n", "."} & set(rule.cause[-1] + rule.fix[-1])


def test_the_mark_is_a_dot_on_a_terminal_and_a_word_in_a_log() -> None:
    assert [status_mark(status, terminal=False) for status in STATUSES] == ["healthy", "warning", "unhealthy"]
    assert [status_mark(status, terminal=True) for status in STATUSES] == ["🟢", "🟡", "🔴"]
    assert SEVERITY == {"note": 0, "warning": 1, "unhealthy": 2}


def test_a_run_stops_only_on_the_configured_findings() -> None:
    """S0-40: a guard that stops the run; a warning is no reason."""

    def after(stop_on: list[str], kl: float) -> str | None:
        monitor = Monitor(stop_on, "ppo")
        for step, metrics in enumerate(lines("ppo", 6, {"kl/mean": always(kl)}), 1):
            monitor.update(step, metrics)
        return monitor.stop_reason()

    assert after(["kl_explosion"], 16) == (
        "health: kl_explosion: KL from the reference is 16.0 nats per sequence, above 15"
    )
    assert after(["kl_explosion"], 14) is None
    assert after(["empty_responses"], 16) is None
    assert after([], 16) is None


def test_an_unknown_finding_in_stop_on_is_the_users_mistake() -> None:
    with pytest.raises(
        UserError, match=r"health\.stop_on: there is no finding 'kl_explosions'.*write kl_explosion"
    ):
        Monitor(["kl_explosions"], "ppo")
    with pytest.raises(UserError, match="choose among not_finite, gradient_explosion"):
        Monitor(["zzz"], "sft")
    Monitor(["kl_explosion", "overfitting"], "sft")


@pytest.mark.parametrize("truncated", [1, 7, 25])
def test_a_resumed_run_is_judged_as_if_never_stopped(tmp_path: Path, truncated: int) -> None:
    """Property 38: what the monitor knows is in metrics.jsonl, with NaN written as null."""
    bent = {
        "reward/mean": wobble,
        "kl/mean": lambda t: 0.7 * t,
        "policy/loss": lambda t: math.nan if t % 5 == 0 else 0.1 / 3,
        "response/unique": lambda t: 0.97**t,
        "critic/warming_up": then(1.0, 4, 0.0),
        "eval/loss": lambda t: None if t % 5 else 1.0 / t,
    }
    folder = RunFolder(tmp_path)
    monitor, reports = Monitor((), "ppo"), []
    with Tracker(folder, 30, "PPO", False) as tracker:
        tracker.start(0)
        for step, metrics in enumerate(lines("ppo", 30, bent), 1):
            reports.append(monitor.update(step, metrics))
            tracker.log(step, metrics | reports[-1].metrics())
    written = folder.metrics.read_text().splitlines()
    assert json.loads(written[4])["policy/loss"] is None
    again = Monitor((), "ppo")
    assert again.replay(written[:truncated]) == reports[truncated - 1]
    assert again.report == reports[truncated - 1]
    for step, metrics in list(enumerate(lines("ppo", 30, bent), 1))[truncated:]:
        assert again.update(step, metrics) == reports[step - 1]
    assert {r.status for r in reports} == {"healthy", "warning", "unhealthy"}


def test_nothing_to_replay() -> None:
    monitor = Monitor((), "ppo")
    assert (monitor.replay([]).status, monitor.report.findings) == ("healthy", ())


def test_one_cause_is_one_finding_and_both_can_stop_a_run() -> None:
    """Above 20 nats only kl_drift is shown; kl_explosion still has its column and still stops the run."""
    reports = run("ppo", 20, {"kl/mean": lambda t: 16.0 if t <= 6 or t > 12 else 30.0})
    shown = [[f.name for f in r.findings if f.name.startswith("kl_")] for r in reports]
    assert shown[5] == ["kl_explosion"] and shown[10] == ["kl_drift"] and shown[-1] == ["kl_explosion"]
    assert reports[10].metrics()["health/kl_explosion"] == reports[10].metrics()["health/kl_drift"] == 2.0
    lines = [line.split(":")[0] for a, b in itertools.pairwise(reports) for line in b.changes(a)]
    assert [line for line in lines if "kl_" in line and "unrewarded" not in line] == [
        "unhealthy kl_drift", "unhealthy kl_explosion", "cleared kl_drift at 14",
    ]  # fmt: skip
    for name in ("kl_explosion", "kl_drift"):
        monitor = Monitor([name], "ppo")
        monitor.update(1, {"kl/mean": 30.0})
        assert (monitor.stop_reason() or "").startswith(f"health: {name}: KL from the reference is 30.0")


def test_a_finding_clears_when_the_run_recovers() -> None:
    reports = run("ppo", 12, {"kl/mean": lambda t: 16.0 if 4 <= t <= 7 else 3.0})
    assert [level(r, "kl_explosion") for r in reports] == [None] * 4 + ["unhealthy"] * 4 + [None] * 4
    assert reports[8].changes(reports[7]) == ["cleared kl_explosion at 9"]
