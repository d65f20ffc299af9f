"""S0-03: the maths of this project steers a point mass (examples/control.py) as well as theory allows."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from harken.maths.advantage import gae
from harken.maths.policy_loss import clipped_policy_loss

FILE = Path(__file__).parents[2] / "examples" / "control.py"


@pytest.fixture
def control():
    """The example as a fresh module, so that a mistake planted in it stays in one test."""
    spec = importlib.util.spec_from_file_location("control", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_best_push_is_the_best(control):
    """Riccati's gains cost what least squares over all 20 pushes at once costs, without any recursion."""
    start = np.array([0.7, -0.4])
    move, push = control.MOVE.double().numpy(), control.PUSH.double().numpy()
    states = [start]  # without pushes
    effect = [np.zeros((2, control.STEPS))]  # of each push on the state
    for t in range(control.STEPS - 1):
        states.append(move @ states[-1])
        effect.append(move @ effect[-1])
        effect[-1][:, t] += push
    root = np.sqrt(control.STATE_COST.double().numpy())[:, None]
    rows = np.concatenate([root * e for e in effect] + [np.sqrt(control.PUSH_COST) * np.eye(control.STEPS)])
    target = np.concatenate([-(root[:, 0] * s) for s in states] + [np.zeros(control.STEPS)])
    pushes, *_ = np.linalg.lstsq(rows, target, rcond=None)
    least = ((rows @ pushes - target) ** 2).sum()

    gains = control.best_gains()
    _, pushed, rewards = control.episodes(
        lambda t, seen: -(seen[:, :2] @ gains[t]), torch.tensor(start, dtype=torch.float32)[None]
    )
    assert -rewards.sum().item() == pytest.approx(least, rel=1e-4)
    assert pushed[0].numpy() == pytest.approx(pushes, abs=1e-4)


@pytest.mark.sample(1)
@pytest.mark.parametrize("seed", [2, 3])
def test_ppo_comes_near_the_best_there_is(control, seed):
    """S0-03. Two small networks, 60 updates, nothing known of the dynamics: within 15 % of the optimum."""
    idle, learned, best = control.costs(control.train(seed))
    assert best <= learned < 1.15 * best
    assert idle > 40 * best


MISTAKES = {
    "no credit for what comes later": ("gae", lambda r, v, on, gamma, lam: gae(r, v, on, 0.0, lam)),
    "whitened over every episode": (
        "whiten",
        lambda x, on: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True),
    ),
    "gradient upside down": ("clipped_policy_loss", lambda *given: -clipped_policy_loss(*given)),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", MISTAKES)
def test_with_a_mistake_it_does_not(control, name, monkeypatch):
    """S0-03. Each ends at many times the cost of the best."""
    monkeypatch.setattr(control, *MISTAKES[name])
    _, learned, best = control.costs(control.train(seed=1))
    assert not learned < 10 * best


@pytest.mark.sample(0)
def test_a_smooth_task_forgives(control, monkeypatch):
    """With every advantage one step late it learns all the same: that a run improves shows no correctness.

    The token task of test_token_mdp.py does not forgive this one.
    """
    monkeypatch.setattr(
        control, "gae", lambda r, v, on, gamma, lam: gae(r, v, on, gamma, lam).roll(1, dims=1)
    )
    idle, learned, best = control.costs(control.train(seed=1))
    assert best < learned < 0.1 * idle


@pytest.mark.sample(0)
def test_the_program_reports_its_distance_from_the_optimum(control, capsys):
    """S0-03, with seed 1."""
    control.main()
    lines = capsys.readouterr().out.splitlines()
    idle, learned, best = (float(number) for number in re.findall(r"\d+\.\d+", lines[-1]))
    assert best <= learned < 1.15 * best < idle
    assert len(lines) == 7
