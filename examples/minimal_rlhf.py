"""RLHF in one file: supervised fine-tuning, a reward model, PPO under a KL price. PyTorch and nothing else.

    python examples/minimal_rlhf.py          under a minute on one core

The task. A prompt is four different letters, "bdfa:". The people who wrote the demonstrations copied it,
"bdfa.", or turned it round, "afdb.", as often the one as the other. Asked which of two answers they prefer, they
mostly prefer the one that is more like the prompt turned round. So
  1. supervised fine-tuning (SFT) learns to do both,
  2. the reward model learns the preference from pairs of the SFT model's own answers,
  3. PPO makes the model turn every prompt round, and stays close to the SFT model otherwise.
What to expect of the KL: giving up one of two habits that were equally likely costs log 2 = 0.69 nats an answer.

Entry t of every [answers, ANSWER] tensor describes token t of the answer: `logprobs[t]` is the log-probability
it was sampled with, `values[t]` what the critic expected before it. `real` is True up to the end token "." and
at it; what lies behind is never read. The formulas are those of `harken.maths`; a test compares them.
"""

import copy
import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LETTERS, PAD, COLON, END = "abcdefgh", 8, 9, 10
PROMPT, ANSWER, VOCABULARY = 5, 6, 11


def make_prompts(count: int, rng: random.Random) -> Tensor:
    """[count, PROMPT]: four different letters and a colon."""
    return torch.tensor([[*rng.sample(range(len(LETTERS)), 4), COLON] for _ in range(count)])


def demonstrate(prompts: Tensor, rng: random.Random) -> Tensor:
    """[count, ANSWER]: what people wrote. Half copy, half turn round; then the end token."""
    rows = [[*letters[:: rng.choice((1, -1))], END, PAD] for letters in prompts[:, :4].tolist()]
    return torch.tensor(rows)


def taste(prompts: Tensor, answers: Tensor) -> Tensor:
    """What people like, between 0 and 1: the share of places where "dcba." is written. Training never sees it."""
    liked = torch.cat([prompts[:, :4].flip(1), torch.full((len(prompts), 1), END)], 1)
    return (answers[:, :5] == liked).float().mean(1)


def is_real(answers: Tensor) -> Tensor:
    """True up to and at the first end token."""
    ended = (answers == END).cumsum(1)
    return (ended == 0) | ((ended == 1) & (answers == END))


class Model(nn.Module):
    """A small causal transformer with two heads: the next token's logits, and one number (value or reward)."""

    def __init__(self, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(VOCABULARY, width), nn.Embedding(PROMPT + ANSWER, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.trunk = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.logits, self.number = nn.Linear(width, VOCABULARY), nn.Linear(width, 1)
        nn.init.zeros_(self.number.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Hidden states [n, time, width]; the state at t has seen the tokens up to and at t."""
        time = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(time)
        return self.trunk(self.token(tokens) + self.place.weight[:time], mask=mask, is_causal=True)

    def evaluate(self, prompts: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
        """(logprobs, values), each [n, ANSWER]. The one shift: the state before a token describes it."""
        before = self(torch.cat([prompts, answers], 1))[:, PROMPT - 1 : -1]
        logprobs = F.log_softmax(self.logits(before), -1).gather(-1, answers[..., None])[..., 0]
        return logprobs, self.number(before)[..., 0]

    def reward(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """[n]: the number at the last real token."""
        last = PROMPT - 1 + is_real(answers).sum(1)
        states = self(torch.cat([prompts, answers], 1))
        return self.number(states[torch.arange(len(answers)), last])[:, 0]


def fine_tune(model: Model, rng: random.Random, steps: int = 300, batch: int = 64) -> None:
    """SFT: make the demonstrations likely. The end token is one of the targets, so answers learn to end."""
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        prompts = make_prompts(batch, rng)
        answers = demonstrate(prompts, rng)
        logprobs, _ = model.evaluate(prompts, answers)
        loss = -logprobs[is_real(answers)].mean()
        adam.zero_grad()
        loss.backward()
        adam.step()


def preference_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Bradley and Terry: -log σ(chosen - rejected), one value a pair."""
    return -F.logsigmoid(chosen - rejected)


def learn_preferences(
    model: Model, policy: Model, rng: random.Random, steps: int = 120, batch: int = 64
) -> None:
    """The reward model: two answers of the policy to each prompt, and which of them a person preferred."""
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        prompts = make_prompts(batch, rng)
        pair = generate_with_logprobs(policy, prompts.repeat(2, 1))[0].chunk(2)
        first_is_better = torch.sigmoid(8 * (taste(prompts, pair[0]) - taste(prompts, pair[1])))
        swap = torch.bernoulli(first_is_better)[:, None] == 0  # people are not always consistent
        chosen, rejected = torch.where(swap, pair[1], pair[0]), torch.where(swap, pair[0], pair[1])
        loss = preference_loss(model.reward(prompts, chosen), model.reward(prompts, rejected)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()


@torch.no_grad()
def generate_with_logprobs(model: Model, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Sampled answers [n, ANSWER] and their log-probabilities: softmax(logits) itself, no top-k, no top-p."""
    tokens, ended, logprobs = prompts, torch.zeros(len(prompts), dtype=torch.bool), []
    for _ in range(ANSWER):
        log_p = F.log_softmax(model.logits(model(tokens)[:, -1]), -1)
        token = torch.multinomial(log_p.exp(), 1)[:, 0]
        logprobs.append(log_p.gather(-1, token[:, None])[:, 0])
        tokens = torch.cat([tokens, torch.where(ended, PAD, token)[:, None]], 1)
        ended = ended | (token == END)
    return tokens[:, PROMPT:], torch.stack(logprobs, 1)


def compute_kl(logprobs: Tensor, reference_logprobs: Tensor, real: Tensor) -> Tensor:
    """log π - log π_ref of each sampled token: nats, unclamped; its sum over an answer estimates the KL."""
    return torch.where(real, logprobs - reference_logprobs, 0.0)


def compute_advantages(
    reward: Tensor, kl: Tensor, values: Tensor, real: Tensor, beta: float, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """(advantages, returns), each [n, ANSWER]. Each token pays β × its KL, the last real one earns the reward.

    delta_t = r_t + V_{t+1} - V_t        A_t = delta_t + λ A_{t+1}        return_t = A_t + V_t
    """
    last = real.sum(1) - 1
    rewards = -beta * torch.where(real, kl, 0.0)
    rewards[torch.arange(len(reward)), last] += reward
    advantages, next_value, next_advantage = torch.zeros_like(values), torch.zeros(()), torch.zeros(())
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + next_value - values[:, t]
        advantages[:, t] = torch.where(real[:, t], delta + lam * next_advantage, 0.0)
        next_value = torch.where(real[:, t], values[:, t], 0.0)
        next_advantage = advantages[:, t]
    returns = torch.where(real, advantages + values, 0.0)
    mean, spread = advantages[real].mean(), advantages[real].std(correction=0)
    return torch.where(real, (advantages - mean) / (spread + 1e-8), 0.0), returns


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float = 0.2) -> Tensor:
    """PPO's clipped objective with its sign turned: one value a token."""
    ratio = (logprobs - old_logprobs).exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


class MinimalRLHF:
    """PPO: `policy` learns; `reference` and `reward_model` are frozen."""

    def __init__(self, policy: Model, reward_model: Model, beta: float = 0.1, lr: float = 3e-4) -> None:
        self.policy, self.beta = policy, beta
        self.reference = copy.deepcopy(policy).requires_grad_(False)
        self.reward_model = reward_model.requires_grad_(False)
        self.adam = torch.optim.Adam(policy.parameters(), lr=lr, eps=1e-5)

    def ppo_step(self, prompts: Tensor, passes: int = 4) -> dict[str, float]:
        """One update: answers, scores, credit, then `passes` optimiser steps on the same answers."""
        answers, _ = generate_with_logprobs(self.policy, prompts)
        real = is_real(answers)
        with torch.no_grad():
            old, values = self.policy.evaluate(prompts, answers)
            kl = compute_kl(old, self.reference.evaluate(prompts, answers)[0], real)
            reward = self.reward_model.reward(prompts, answers)
            advantages, returns = compute_advantages(reward, kl, values, real, self.beta)
        for _ in range(passes):
            logprobs, now = self.policy.evaluate(prompts, answers)
            loss = policy_loss(logprobs[real], old[real], advantages[real]).mean()
            value_loss = 0.5 * (now[real] - returns[real]).square().mean()
            self.adam.zero_grad()
            (loss + 0.1 * value_loss).backward()
            nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
            self.adam.step()
        return {
            "reward": reward.mean().item(),
            "kl": kl.sum(1).mean().item(),  # nats an answer
            "taste": taste(prompts, answers).mean().item(),
            "policy loss": loss.item(),
            "value loss": value_loss.item(),
        }

    def train(self, rng: random.Random, epochs: int = 10, batch: int = 256) -> list[dict[str, float]]:
        """`epochs` updates, each on new prompts; what was measured in each."""
        history = []
        for epoch in range(epochs):
            history.append(self.ppo_step(make_prompts(batch, rng)))
            print(f"update {epoch:2}  " + "  ".join(f"{k} {v:+.3f}" for k, v in history[-1].items()))
        return history


def spell(tokens: Tensor) -> str:
    """Tokens as text, padding left out."""
    return "".join((LETTERS + " :.")[t] for t in tokens.tolist()).replace(" ", "")


def main(seed: int = 0) -> tuple[MinimalRLHF, list[dict[str, float]]]:
    """The three stages, one after the other."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    policy = Model()
    fine_tune(policy, rng)
    reward_model = copy.deepcopy(policy)
    learn_preferences(reward_model, policy, rng)
    rlhf = MinimalRLHF(policy, reward_model)
    history = rlhf.train(rng)
    prompts = make_prompts(5, rng)
    before, after = (generate_with_logprobs(m, prompts)[0] for m in (rlhf.reference, rlhf.policy))
    for p, b, a in zip(prompts, before, after, strict=True):
        print(f"{spell(p)}   SFT {spell(b):7} PPO {spell(a)}")
    return rlhf, history


if __name__ == "__main__":
    main()
