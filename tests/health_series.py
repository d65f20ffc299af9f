"""Made-up training runs: a healthy one of each kind, and how to bend a metric of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harken.health.findings import Level, Report
from harken.health.limits import Limits
from harken.health.monitor import Monitor
from harken.health.rule import TrainingType

Series = Callable[[int], float | None]
Bent = Mapping[str, Series]


def always(value: float) -> Series:
    return lambda step: value


def then(before: float, since: int, after: float) -> Series:
    """`before`, and from step `since` on `after`."""
    return lambda step: after if step >= since else before


def line(value: float, rise: float) -> Series:
    return lambda step: value + rise * step


def wobble(step: int) -> float:
    """Noise that everyone can recompute: ±1, its mean over any four steps is 0."""
    return (1.0, -1.0, -1.0, 1.0)[step % 4]


HEALTHY: dict[TrainingType, dict[str, Series]] = {
    "ppo": {
        "reward/mean": lambda t: min(0.05 * t, 1.0) + 0.05 * wobble(t),
        "reward/std": always(1.0),
        "kl/mean": lambda t: min(0.2 * (t - 1), 4.5),
        "kl/std_error": always(0.2),
        "sampler/logprob_gap": always(0.045),
        "policy/first_ratio_gap": always(0.0),
        "policy/entropy": lambda t: 2.3 - 0.005 * t,
        "policy/clipfrac": always(0.15),
        "value/explained_var": lambda t: min(0.02 * t, 0.7),
        "value/loss": always(0.2),
        "grad_norm": lambda t: 0.7 + 0.1 * wobble(t),
        "reward/length_correlation": lambda t: 0.3 * wobble(t),
        "response/tokens_mean": lambda t: max(38.0 - t, 26.0),
        "response/tokens_std": lambda t: max(21.0 - t, 13.0),
        "response/cap_hit": lambda t: max(0.3 - 0.03 * t, 0.02),
        "response/empty": always(0.0),
        "response/unique": always(1.0),
        "response/distinct_2": always(0.9),
        "response/repetition": always(0.005),
    },
    "sft": {"loss": lambda t: 2.2 - 0.008 * t + 0.3 * wobble(t), "grad_norm": always(0.5)},
    "reward": {
        "loss": lambda t: 0.65 - 0.001 * t + 0.05 * wobble(t),
        "grad_norm": always(1.5),
        "accuracy": lambda t: 0.68 + 0.1 * wobble(t),
    },
    "classifier": {
        "loss": lambda t: 0.65 - 0.001 * t + 0.05 * wobble(t),
        "grad_norm": always(1.5),
        "accuracy": lambda t: 0.68 + 0.1 * wobble(t),
    },
    "dpo": {
        "loss": lambda t: 0.69 - 0.001 * t + 0.03 * wobble(t),
        "grad_norm": always(2.0),
        "rewards/accuracies": lambda t: 0.66 + 0.1 * wobble(t),
        "rewards/margins": lambda t: 0.01 * t,
        "logps/chosen_change": lambda t: -0.001 * t,
    },
    "online_dpo": {
        "loss": lambda t: 0.69 - 0.001 * t + 0.05 * wobble(t),
        "grad_norm": always(2.0),
        "reward/mean": lambda t: 0.02 * t + 0.05 * wobble(t),
        "kl/mean": lambda t: min(0.1 * t, 3.0),
        "logps/chosen_change": always(-0.01),
    },
}


def lines(kind: TrainingType, steps: int, bent: Bent) -> list[dict[str, float]]:
    """Metrics of steps 1 … `steps` of the healthy run, with some replaced; None leaves one out of a line."""
    series = HEALTHY[kind] | dict(bent)
    made = ({name: value(t) for name, value in series.items()} for t in range(1, steps + 1))
    return [{name: value for name, value in metrics.items() if value is not None} for metrics in made]


def run(kind: TrainingType, steps: int, bent: Bent, limits: Limits | None = None) -> list[Report]:
    """What the monitor says after every step."""
    monitor = Monitor((), kind, limits)
    return [monitor.update(t, metrics) for t, metrics in enumerate(lines(kind, steps, bent), 1)]


def level(report: Report, name: str) -> Level | None:
    return next((f.level for f in report.findings if f.name == name), None)
