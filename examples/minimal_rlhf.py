"""RLHF in one file: supervised fine-tuning, a reward model, PPO under a KL penalty. Only PyTorch is needed.

    python examples/minimal_rlhf.py          under a minute on one core

The task. A prompt is four different letters, "bdfa:". The people who wrote the demonstrations copied it,
"bdfa.", or reversed it, "afdb.", equally often. Asked which of two responses they prefer, they
mostly prefer the one that is more like the reversed prompt. So
  1. supervised fine-tuning (SFT) learns to do both,
  2. the reward model learns the preference from pairs of the SFT model's own responses,
  3. PPO makes the model reverse every prompt, and keeps it close to the SFT model otherwise.
Expected KL: reversing always instead of half of the time is log 2 = 0.69 nats per sequence from the SFT model.

Entry t of every [n, RESPONSE] tensor describes token t of the response: `logprobs[t]` is the log-probability
it was sampled with, `values[t]` what the critic expected before it. `mask`, the response mask, is True up to and at
the end token "."; what follows is never read. The formulas are those of `harken.maths`; a test compares them.
"""

import copy
import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LETTERS, PAD, COLON, END = "abcdefgh", 8, 9, 10
PROMPT, RESPONSE, VOCABULARY = 5, 6, 11


def make_prompts(count: int, rng: random.Random) -> Tensor:
    """[count, PROMPT]: four different letters and a colon."""
    return torch.tensor([[*rng.sample(range(len(LETTERS)), 4), COLON] for _ in range(count)])


def demonstrate(prompts: Tensor, rng: random.Random) -> Tensor:
    """[count, RESPONSE]: demonstrations: half copy, half reverse; then the end token."""
    rows = [[*letters[:: rng.choice((1, -1))], END, PAD] for letters in prompts[:, :4].tolist()]
    return torch.tensor(rows)


def gold_score(prompts: Tensor, responses: Tensor) -> Tensor:
    """The gold score in [0, 1]: the share of positions that agree with "dcba.". Training never sees it."""
    liked = torch.cat([prompts[:, :4].flip(1), torch.full((len(prompts), 1), END)], 1)
    return (responses[:, :5] == liked).float().mean(1)


def response_mask_of(responses: Tensor) -> Tensor:
    """Return the response mask: True up to and at the first end token."""
    ended = (responses == END).cumsum(1)
    return (ended == 0) | ((ended == 1) & (responses == END))


class Model(nn.Module):
    """A small causal transformer with two heads: the next token's logits, and one scalar (value or reward)."""

    def __init__(self, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(VOCABULARY, width), nn.Embedding(PROMPT + RESPONSE, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.trunk = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.logits, self.head = nn.Linear(width, VOCABULARY), nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute hidden states [n, time, width]; the state at t has read the tokens up to and at t."""
        time = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(time)
        return self.trunk(self.token(tokens) + self.place.weight[:time], mask=mask, is_causal=True)

    def evaluate(self, prompts: Tensor, responses: Tensor) -> tuple[Tensor, Tensor]:
        """Compute (logprobs, values), each [n, RESPONSE]. The one shift: the state before a token describes it."""
        before = self(torch.cat([prompts, responses], 1))[:, PROMPT - 1 : -1]
        logprobs = F.log_softmax(self.logits(before), -1).gather(-1, responses[..., None])[..., 0]
        return logprobs, self.head(before)[..., 0]

    def reward(self, prompts: Tensor, responses: Tensor) -> Tensor:
        """Compute rewards [n]: the head's output at the last response token."""
        last = PROMPT - 1 + response_mask_of(responses).sum(1)
        states = self(torch.cat([prompts, responses], 1))
        return self.head(states[torch.arange(len(responses)), last])[:, 0]


def fine_tune(model: Model, rng: random.Random, steps: int = 300, batch: int = 64) -> None:
    """Train on demonstrations (SFT). The end token is one of the targets, so the model learns to end."""
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        prompts = make_prompts(batch, rng)
        responses = demonstrate(prompts, rng)
        logprobs, _ = model.evaluate(prompts, responses)
        loss = -logprobs[response_mask_of(responses)].mean()
        adam.zero_grad()
        loss.backward()
        adam.step()


def preference_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Compute the Bradley-Terry loss -log σ(chosen - rejected), one value a pair."""
    return -F.logsigmoid(chosen - rejected)


def train_reward_model(
    model: Model, policy: Model, rng: random.Random, steps: int = 120, batch: int = 64
) -> None:
    """Train the reward model on two responses of the policy to each prompt and a person's preference."""
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        prompts = make_prompts(batch, rng)
        pair = generate_with_logprobs(policy, prompts.repeat(2, 1))[0].chunk(2)
        first_is_better = torch.sigmoid(8 * (gold_score(prompts, pair[0]) - gold_score(prompts, pair[1])))
        swap = torch.bernoulli(first_is_better)[:, None] == 0  # raters are not always consistent
        chosen, rejected = torch.where(swap, pair[1], pair[0]), torch.where(swap, pair[0], pair[1])
        loss = preference_loss(model.reward(prompts, chosen), model.reward(prompts, rejected)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()


@torch.no_grad()
def generate_with_logprobs(model: Model, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Sample responses [n, RESPONSE] with their log-probabilities: whole softmax, no top-k, no top-p."""
    tokens, ended, logprobs = prompts, torch.zeros(len(prompts), dtype=torch.bool), []
    for _ in range(RESPONSE):
        log_p = F.log_softmax(model.logits(model(tokens)[:, -1]), -1)
        token = torch.multinomial(log_p.exp(), 1)[:, 0]
        logprobs.append(log_p.gather(-1, token[:, None])[:, 0])
        tokens = torch.cat([tokens, torch.where(ended, PAD, token)[:, None]], 1)
        ended = ended | (token == END)
    return tokens[:, PROMPT:], torch.stack(logprobs, 1)


def compute_kl(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """Compute log π - log π_ref of each sampled token: nats, unclamped; its sum over a response estimates the KL."""
    return torch.where(mask, logprobs - ref_logprobs, 0.0)


def compute_advantages(
    reward: Tensor, kl: Tensor, values: Tensor, mask: Tensor, beta: float, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Compute (advantages, returns), each [n, RESPONSE]: KL penalty on each token, the reward on the last.

    delta_t = r_t + V_{t+1} - V_t        A_t = delta_t + λ A_{t+1}        return_t = A_t + V_t
    """
    last = mask.sum(1) - 1
    rewards = -beta * torch.where(mask, kl, 0.0)
    rewards[torch.arange(len(reward)), last] += reward
    advantages, next_value, next_advantage = torch.zeros_like(values), torch.zeros(()), torch.zeros(())
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + next_value - values[:, t]
        advantages[:, t] = torch.where(mask[:, t], delta + lam * next_advantage, 0.0)
        next_value = torch.where(mask[:, t], values[:, t], 0.0)
        next_advantage = advantages[:, t]
    returns = torch.where(mask, advantages + values, 0.0)
    mean, spread = advantages[mask].mean(), advantages[mask].std(correction=0)
    return torch.where(mask, (advantages - mean) / (spread + 1e-8), 0.0), returns


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float = 0.2) -> Tensor:
    """Compute PPO's clipped loss, one value a token."""
    ratio = (logprobs - old_logprobs).exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


class MinimalRLHF:
    """PPO: `policy` is trained; `reference` and `reward_model` are frozen."""

    def __init__(self, policy: Model, reward_model: Model, beta: float = 0.1, lr: float = 3e-4) -> None:
        self.policy, self.beta = policy, beta
        self.reference = copy.deepcopy(policy).requires_grad_(False)
        self.reward_model = reward_model.requires_grad_(False)
        self.adam = torch.optim.Adam(policy.parameters(), lr=lr, eps=1e-5)

    def ppo_step(self, prompts: Tensor, epochs: int = 4) -> dict[str, float]:
        """Run one update: sample, score, compute advantages, then `epochs` optimiser steps on the same responses."""
        responses, _ = generate_with_logprobs(self.policy, prompts)
        mask = response_mask_of(responses)
        with torch.no_grad():
            old, values = self.policy.evaluate(prompts, responses)
            kl = compute_kl(old, self.reference.evaluate(prompts, responses)[0], mask)
            reward = self.reward_model.reward(prompts, responses)
            advantages, returns = compute_advantages(reward, kl, values, mask, self.beta)
        for _ in range(epochs):
            logprobs, new_values = self.policy.evaluate(prompts, responses)
            loss = policy_loss(logprobs[mask], old[mask], advantages[mask]).mean()
            value_loss = 0.5 * (new_values[mask] - returns[mask]).square().mean()
            self.adam.zero_grad()
            (loss + 0.1 * value_loss).backward()
            nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
            self.adam.step()
        return {
            "reward": reward.mean().item(),
            "kl": kl.sum(1).mean().item(),  # nats per sequence
            "gold score": gold_score(prompts, responses).mean().item(),
            "policy loss": loss.item(),
            "value loss": value_loss.item(),
        }

    def train(self, rng: random.Random, updates: int = 10, batch: int = 256) -> list[dict[str, float]]:
        """Run `updates` updates, each on new prompts, and return the metrics of each."""
        history = []
        for update in range(updates):
            history.append(self.ppo_step(make_prompts(batch, rng)))
            print(f"update {update:2}  " + "  ".join(f"{k} {v:+.3f}" for k, v in history[-1].items()))
        return history


def spell(tokens: Tensor) -> str:
    """Return tokens as text without padding."""
    return "".join((LETTERS + " :.")[t] for t in tokens.tolist()).replace(" ", "")


def main(seed: int = 0) -> tuple[MinimalRLHF, list[dict[str, float]]]:
    """Run the three stages."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    policy = Model()
    fine_tune(policy, rng)
    reward_model = copy.deepcopy(policy)
    train_reward_model(reward_model, policy, rng)
    rlhf = MinimalRLHF(policy, reward_model)
    history = rlhf.train(rng)
    prompts = make_prompts(5, rng)
    before, after = (generate_with_logprobs(m, prompts)[0] for m in (rlhf.reference, rlhf.policy))
    for p, b, a in zip(prompts, before, after, strict=True):
        print(f"{spell(p)}   SFT {spell(b):7} PPO {spell(a)}")
    return rlhf, history


if __name__ == "__main__":
    main()
