"""PPO on a point mass, with the maths that trains the language models.

    python examples/control.py

A mass on a line is pushed so that it comes to rest at 0. Each of 20 steps costs x² + 0.1 v² + 0.1 u², with x
where it is, v its speed and u the push. The best push is known exactly (Riccati's recursion), so one can
measure how near PPO comes. Only `harken.maths` is used: a "token" is a push, a "response" an episode, and every
step is in the response mask. There is no reference and no KL.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from harken.maths.advantage import gae
from harken.maths.masked import whiten
from harken.maths.policy_loss import clipped_policy_loss, clipped_value_loss

STEPS, EPISODES, UPDATES, EPOCHS, MINIBATCHES = 20, 128, 60, 4, 4
MOVE = torch.tensor([[1.0, 0.3], [0.0, 1.0]])
PUSH = torch.tensor([0.0, 0.3])
STATE_COST = torch.tensor([1.0, 0.1])
PUSH_COST = 0.1


def best_gains() -> Tensor:
    """Compute gains [STEPS, 2] by Riccati's recursion: the push -gain · (x, v) has the least cost to go."""
    cost_to_go, gains = torch.zeros(2, 2), []
    for _ in range(STEPS):
        gain = (PUSH @ cost_to_go @ MOVE) / (PUSH_COST + PUSH @ cost_to_go @ PUSH)
        closed = MOVE - torch.outer(PUSH, gain)
        cost_to_go = closed.T @ cost_to_go @ closed + PUSH_COST * torch.outer(gain, gain)
        cost_to_go = cost_to_go + torch.diag(STATE_COST)
        gains.append(gain)
    return torch.stack(gains[::-1])


class Agent(nn.Module):
    """Two small networks on (x, v, elapsed share of time): the mean of the push, and the value."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.critic = (
            nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
            for _ in range(2)
        )
        self.log_spread = nn.Parameter(torch.tensor(-0.5))

    def logprob(self, seen: Tensor, push: Tensor) -> Tensor:
        """Compute the log density of each push under a normal distribution."""
        off = (push - self.mean(seen)[..., 0]) / self.log_spread.exp()
        logprob: Tensor = -0.5 * off.square() - self.log_spread - 0.5 * math.log(2 * math.pi)
        return logprob


@torch.no_grad()
def episodes(push_at: Callable[[int, Tensor], Tensor], start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Run episodes from `start` [n, 2]: observations [n, STEPS, 3], pushes and rewards [n, STEPS]; reward is -cost."""
    state, seen, pushes, rewards = start, [], [], []
    for t in range(STEPS):
        seen.append(torch.cat([state, torch.full((len(state), 1), t / STEPS)], dim=1))
        push = push_at(t, seen[-1])
        pushes.append(push)
        rewards.append(-(state.square() @ STATE_COST) - PUSH_COST * push.square())
        state = state @ MOVE.T + push[:, None] * PUSH
    return torch.stack(seen, 1), torch.stack(pushes, 1), torch.stack(rewards, 1)


def train(seed: int, report: Callable[[int, float], None] = lambda update, reward: None) -> Agent:
    """Train with PPO: sample, evaluate, compute advantages, minibatches. Same order as `harken.train.ppo.stage`."""
    torch.manual_seed(seed)
    agent = Agent()
    adam = torch.optim.Adam(agent.parameters(), lr=3e-3, eps=1e-5)
    decay = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.02, UPDATES)
    every = torch.ones(EPISODES, STEPS, dtype=torch.bool)

    def push_at(_: int, seen: Tensor) -> Tensor:
        push: Tensor = agent.mean(seen)[:, 0] + agent.log_spread.exp() * torch.randn(len(seen))
        return push

    for update in range(UPDATES):
        seen, push, rewards = episodes(push_at, start=2 * torch.rand(EPISODES, 2) - 1)
        with torch.no_grad():
            old = agent.logprob(seen, push)
            values = agent.critic(seen)[..., 0]
            advantages = gae(rewards, values, every, gamma=1.0, lam=0.95)
            returns = advantages + values
            advantages = whiten(advantages, every)
        for _ in range(EPOCHS):
            for rows in torch.randperm(EPISODES).chunk(MINIBATCHES):
                policy = clipped_policy_loss(
                    agent.logprob(seen[rows], push[rows]), old[rows], advantages[rows], 0.2
                )
                value = clipped_value_loss(
                    agent.critic(seen[rows])[..., 0], values[rows], returns[rows], None
                )
                adam.zero_grad()
                (policy + 0.5 * value).mean().backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 1.0)
                adam.step()
        decay.step()
        report(update, float(rewards.sum(1).mean()))
    return agent


def costs(agent: Agent) -> tuple[float, float, float]:
    """Compute the mean cost of an episode over a grid of starts: no push, the agent's mean push, the best push."""
    line = torch.linspace(-1, 1, 9)
    start = torch.cartesian_prod(line, line)
    gains = best_gains()
    policies = (
        lambda t, seen: torch.zeros(len(seen)),
        lambda t, seen: agent.mean(seen)[:, 0],
        lambda t, seen: -(seen[:, :2] @ gains[t]),
    )
    idle, learned, best = (-float(episodes(p, start)[2].sum(1).mean()) for p in policies)
    return idle, learned, best


def main() -> None:
    """Train with one seed and compare."""
    agent = train(
        1, lambda u, reward: print(f"update {u + 1:3}  reward {reward:8.2f}") if u % 10 == 9 else None
    )
    idle, learned, best = costs(agent)
    print(f"cost of an episode: no push {idle:.2f}, PPO {learned:.2f}, optimum {best:.2f}")


if __name__ == "__main__":
    main()
