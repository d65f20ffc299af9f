"""A monitor that cries wolf is switched off: healthy runs, noise included, stay green."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from health_series import HEALTHY

from harken.health.monitor import Monitor
from harken.health.rule import TrainingType

DEMO = {
    "reward/mean": [-0.13, 0.29, 0.34, 0.63, 0.06, 0.57, 0.62, 0.40, 0.33, 0.56, 0.52, 0.77],
    "kl/mean": [0.00, 0.45, 0.61, 2.23, 1.59, 1.87, 2.48, 2.48, 3.06, 2.95, 2.86, 3.23],
    "response/tokens_mean": [37, 36, 24, 30, 30, 27, 28, 20, 26, 28, 29, 27],
    "response/cap_hit": [0.25, 0.12, 0.00, 0.03, 0.12, 0.00, 0.03, 0.00, 0.12, 0.12, 0.03, 0.03],
    "value/explained_var": [0.00, -0.11, -0.02, 0.17, 0.14, 0.32, 0.32, 0.47, -0.01, 0.21, 0.27, 0.30],
}
"""The shipped demo as docs/results/demo.md has it."""


def test_the_demo_is_green() -> None:
    monitor = Monitor((), "ppo")
    statuses = [
        monitor.update(t, {name: series[t - 1] for name, series in DEMO.items()}).status for t in range(1, 13)
    ]
    assert statuses == ["healthy"] * 12


def test_an_untuned_model_that_learns_to_end_is_green() -> None:
    """60 % truncated at the start, 2 % at the end, responses half as long: that is learning, not collapse."""
    monitor = Monitor((), "ppo")
    for t in range(1, 41):
        truncated = max(0.6 - 0.06 * t, 0.02)
        report = monitor.update(
            t,
            {
                "reward/mean": -1 + 0.05 * t,
                "reward/std": 1.0,
                "kl/mean": min(0.15 * (t - 1), 4.5),
                "response/cap_hit": truncated,
                "response/tokens_mean": 22 + 42 * truncated,
                "response/tokens_std": 12 + 10 * truncated,
            },
        )
        assert {f.level for f in report.findings} <= {"note"}, report.findings


NOISE = {
    "reward/mean": 0.15,
    "reward/std": 0.2,
    "kl/mean": 0.3,
    "policy/clipfrac": 0.03,
    "value/explained_var": 0.1,
    "grad_norm": 0.3,
    "reward/length_correlation": 0.2,
    "response/tokens_mean": 2.5,
    "response/tokens_std": 1.5,
    "response/cap_hit": 0.01,
    "response/repetition": 0.004,
    "loss": 0.1,
    "accuracy": 0.12,
}
"""Standard deviation between batches, about what 32 responses (or 16 pairs) give."""


@pytest.mark.parametrize("kind", HEALTHY)
def test_noise_raises_no_findings(kind: TrainingType) -> None:
    """30 runs of 120 steps: none unhealthy, warnings in at most one line of 200."""
    statuses: Counter[str] = Counter()
    for seed in range(30):
        draw, monitor = np.random.default_rng(seed), Monitor((), kind)
        for t in range(1, 121):
            metrics = {}
            for name, series in HEALTHY[kind].items():
                value = series(t)
                assert value is not None
                metrics[name] = value + NOISE.get(name, 0.0) * float(draw.normal())
            statuses[monitor.update(t, metrics).status] += 1
    assert statuses["unhealthy"] == 0
    assert statuses["warning"] <= 30 * 120 / 200


@pytest.mark.parametrize("start", [-3.0, 0.0, 3.0])
def test_a_slow_start_is_not_a_flat_reward(start: float) -> None:
    """An S-shaped rise over 100 updates, noise of a tenth of it; the reward's own zero does not matter."""
    for seed in range(10):
        draw, monitor = np.random.default_rng(seed), Monitor((), "ppo")
        for t in range(1, 101):
            rise = 1 / (1 + math.exp(-(t - 25) / 8))
            report = monitor.update(
                t,
                {
                    "reward/mean": start + rise + 0.1 * float(draw.normal()),
                    "reward/std": 1.0,
                    "kl/mean": 4.0 * rise,
                },
            )
            assert report.status == "healthy", report.findings
