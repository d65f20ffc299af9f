"""A report says of a run what its health monitor said at the last step."""

from __future__ import annotations

import health_series

from harken.evaluation.run_health import health_sentences
from harken.health.limits import limits_for


def recorded(bent: health_series.Bent, steps: int = 40) -> list[dict[str, float]]:
    made = health_series.lines("ppo", steps, bent)
    return [{"step": number, **metrics} for number, metrics in enumerate(made, 1)]


def test_a_healthy_run_has_none() -> None:
    assert health_sentences("PPO", "ppo", "bfloat16", recorded({})) == []


def test_each_unhealthy_finding_is_a_warning_with_cause_and_fix() -> None:
    bent = {"kl/mean": health_series.then(1.0, 30, 50.0), "kl/k3_mean": health_series.then(1.0, 30, 50.0)}
    expected = health_series.run("ppo", 40, bent, limits_for("bfloat16"))[-1].findings
    unhealthy = [f for f in expected if f.level == "unhealthy"]
    found = health_sentences("my PPO", "ppo", "bfloat16", recorded(bent))
    assert unhealthy and len(found) == len(unhealthy)
    for finding, sentence in zip(unhealthy, found, strict=True):
        assert sentence.startswith(f"Warning: my PPO at step 40: {finding.name}: ")
        assert all(text in sentence for text in (finding.what, finding.cause, f"Fix: {finding.fix}"))


def test_what_has_cleared_is_not_repeated() -> None:
    bent = {"kl/mean": lambda step: 50.0 if step < 10 else 1.0}
    assert health_sentences("PPO", "ppo", "bfloat16", recorded(bent)) == []


def test_lines_of_skipped_steps_are_read() -> None:
    assert health_sentences("PPO", "ppo", "bfloat16", [*recorded({}), {"step": 41, "skipped": "a NaN"}]) == []
    broken = {"step": 41, "skipped": "a NaN", "kl/mean": None, "nonfinite": ["kl/mean"]}
    [sentence] = health_sentences("PPO", "ppo", "bfloat16", [*recorded({}), broken])
    assert sentence.startswith("Warning: PPO at step 41: not_finite: ") and "kl/mean" in sentence
