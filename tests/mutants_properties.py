"""Mistakes that only a whole update shows, each caught by the test of the property it breaks (docs/correctness.md)."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

import re
from pathlib import Path

from mutants_record import Mutant

CHAT, ROLES, CREDIT, PPO, LEARN = (
    "data/chat.py",
    "models/roles.py",
    "train/credit.py",
    "train/ppo.py",
    "train/ppo_learn.py",
)
LOSS, CONFIG, CRITIC, CONTROL = (
    "train/ppo_loss.py",
    "config_ppo.py",
    "train/ppo_critic.py",
    "train/kl_control.py",
)

# Property, mistake, file, what stands there, what is planted.
TABLE = [
    (1, "the renderer takes pad = eos", "turn_end.py", "if pad is not None and pad not in ends:", "if pad is not None:"),
    (2, "a long answer is cut and given an end", CHAT, "answer = self.response(row.response)\n", "answer = self.response(row.response, ended=False)\n        room = max(max_length - 1 - len(self.prompt(row.prompt.messages)), 1)\n        answer = [*answer[:room], self.end_of_turn]\n"),
    (3, "a generated token stands one position late", "rollout/decoder.py", "position_ids=at[:, None]", "position_ids=at[:, None] + 1"),
    (4, "no positions for packed rows", "models/backbone.py", "position_ids=positions, **inputs", "**inputs"),
    (5, "top-k by default", "rollout/sampler.py", "    mass[:, :vocab] = logits\n", "    mass[:, :vocab] = torch.where(logits >= logits.topk(min(20, vocab)).values[:, -1:], logits, -torch.inf)\n"),
    (6, "the reference is scored at temperature 1", PPO, "now = policy.evaluate(piece, self.settings.temperature)\n            logprobs[rows", "now = policy.evaluate(piece)\n            logprobs[rows"),
    (7, "the reward model reads the decoded text", "reward/learned.py", "self._bridge = None if same_tokenizer(tokenizer, policy_renderer.tokenizer) else Renderer(tokenizer)", "self._bridge = Renderer(tokenizer)"),
    (8, "the end token is no action", PPO, "[True] * len(r.response_tokens) for r", "[True] * (len(r.response_tokens) - 1) + [False] for r"),
    (9, "rollouts are greedy", PPO, "            temperature=self.settings.temperature,\n", "            temperature=0.0,\n"),
    (10, "all stages see one order of rows", "train/order.py", 'permutation(rows, seed, label, "epoch", epoch)\n    return', 'permutation(rows, seed, "epoch", epoch)\n    return'),
    (11, "the score is a mean over all tokens", ROLES, "rewards: Tensor = self.head(_last_states(hidden, batch))", "rewards: Tensor = self.head(hidden).mean(1)"),
    (12, "the reward head starts at 0.02", "train/reward_model.py", "(backbone.hidden_size + 1) ** -0.5, config.seed)", "0.02, config.seed)"),
    (12, "the rate stops at a tenth", "train/optimiser.py", "return 1.0 - done if", "return max(1.0 - done, 0.1) if"),
    (13, "pad = eos moves the score one token early", ROLES, "last = batch.real.sum(-1) - 1", "last = ((batch.tokens != 2) & batch.real).sum(-1) - 1"),
    (14, "offset and scale are forgotten at loading", ROLES, "card.offset, card.scale", "0.0, 1.0"),
    (15, "the score is spread over the answer", "maths/advantage.py", "torch.where(position == last, reward.unsqueeze(1), 0.0)", "torch.where(action, reward.unsqueeze(1) / action.sum(1, keepdim=True), 0.0)"),
    (16, "k3 in the reward", CREDIT, "ESTIMATORS[settings.kl_estimator]", 'ESTIMATORS["k3"]'),
    (17, "k1 may stand in the loss", CONFIG, 's.kl_estimator not in ("k2", "full")', 's.kl_estimator not in ("k1", "k2", "full")'),
    (18, "the controller is given nats per answer and answer", CONTROL, "self._adapt(kl_to_reference, sequences)", "self._adapt(kl_to_reference / sequences, sequences)"),
    (18, "the controller forgets its horizon", CONTROL, "s.kl_horizon, sequences", "sequences, sequences"),
    (19, "the score is not clipped", "reward/learned.py", "[clipped(value, self.clip) for value", "[value for value"),
    (19, "score and KL are clipped together", CREDIT, "rewards = token_rewards(reward, price, action, coefficient)", "rewards = token_rewards(reward, price, action, coefficient).clamp(-1, 1)"),
    (20, "ended answers pay for a missing end", "reward/rules.py", 'float(r.stop == "length")', 'float(r.stop == "end_of_turn")'),
    (20, "a replaced score is penalised as well", "reward/rules.py", 'settings.truncated == "penalise" and not replaced', 'settings.truncated == "penalise"'),
    (20, "every score is replaced", "reward/learned.py", "[self.cut_score if c else s for", "[self.cut_score for"),
    (21, "rewards are whitened", CREDIT, "rewards = token_rewards(reward, price, action, coefficient)", "rewards = standardise(token_rewards(reward, price, action, coefficient), action)"),
    (22, "a cut answer earns its score and a bootstrap", CREDIT, "reward = torch.where(truncated, 0.0, reward)", "pass"),
    (22, "ended answers bootstrap too", CREDIT, "torch.where(truncated, old.final_values, 0.0)", "old.final_values"),
    (23, "returns without the values", CREDIT, "torch.where(action, advantages + old.values, 0.0)", "torch.where(action, advantages, 0.0)"),
    (24, "the bootstrap of an ended answer is multiplied away", CREDIT, "torch.where(truncated, old.final_values, 0.0)", "old.final_values * truncated"),
    (25, "values read the state after their token", ROLES, "values, final_values = self.value_head(states)", "values, final_values = self.value_head(hidden[batch.action])"),
    (26, "padding takes part in the whitening", CREDIT, "advantages = standardise(advantages, learnable)", "advantages = standardise(advantages, torch.ones_like(learnable))"),
    (27, "advantages are centred and not scaled", CREDIT, "advantages = standardise(advantages, learnable)", "advantages = advantages - advantages[learnable].mean()"),
    (28, "the ratio is to the reference", CREDIT, "Credit(old.logprobs, old.values", "Credit(reference_logprobs, old.values"),
    (29, "the upper clip is the lower one", "maths/policy_loss.py", "high = clip_range if clip_range_high is None else clip_range_high", "high = clip_range"),
    (29, "the clip fraction sees one side", LOSS, "outside = (ratio > 1 + high) | (ratio < 1 - settings.clip_range)", "outside = ratio > 1 + high"),
    (30, "the value is clipped around itself", LOSS, "credit.old_values[valued]", "values[valued].detach()"),
    (31, "a micro-batch is divided by its own count", LEARN, "measures, price) / counts[0]", "measures, price) / learnable.sum()"),
    (31, "advantages are centred again in every micro-batch", LOSS, "credit.advantages[learnable], settings.clip_range", "credit.advantages[learnable] - credit.advantages[learnable].mean(), settings.clip_range"),
    (32, "KL is reported absolute", "train/ppo_metrics.py", "kl = torch.where(batch.action, assigned.kl, 0.0)", "kl = torch.where(batch.action, assigned.kl.abs(), 0.0)"),
    (32, "values are averaged over padding", "train/ppo_metrics.py", "masked_mean(old.values, batch.action)", "old.values.mean()"),
    (33, "the base trains with its dropout on", "models/backbone.py", "self.model.eval()\n        for name", "self.model.train()\n        for name"),
    (33, "a little adapter dropout is let in", "config.py", "self.lora.dropout > 0:", "self.lora.dropout > 0.2:"),
    (34, "the critic forgets the reward model's offset", CRITIC, "(rewards.head.bias - rewards.offset) * rewards.scale", "rewards.head.bias * rewards.scale"),
    (34, "the policy learns during the warm-up", PPO, "critic_alone=self.warming", "critic_alone=False"),
    (34, "the warm-up never ends early", PPO, "and explained < self.settings.critic_warmup_until", ""),
    (35, "eps stays PyTorch's default", "train/optimiser.py", "eps=settings.adam_eps, ", ""),
    (36, "the same order every epoch", LEARN, '"PPO minibatches", number, epoch)', '"PPO minibatches", number)'),
    (36, "every minibatch is the first", LEARN, "list(order[part :: self.settings.minibatches])", "list(order[: size // self.settings.minibatches])"),
    (37, "the reward model looks through the policy's adapter", ROLES, "        with self.backbone.role(self.adapter):\n            hidden = self.backbone.hidden(batch)\n            rewards", '        with self.backbone.role("policy"):\n            hidden = self.backbone.hidden(batch)\n            rewards'),
    (38, "a resumed critic starts anew", LEARN, "        for optimiser in self.optimisers.values():\n            optimiser.load(tensors)", '        self.optimisers["policy"].load(tensors)'),
    (38, "a resumed reference starts anew", "train/reference.py", 'self.moved = int(state["moved"])', "self.moved = 0"),
    (38, "a resumed coefficient starts anew", CONTROL, 'self.coefficient, self._rollbacks = float(state["coefficient"]), int(state["rollbacks"])', 'self._rollbacks = int(state["rollbacks"])'),
]  # fmt: skip


def _tests() -> dict[int, str]:
    """Pytest's name of every property's test, by number."""
    found = {}
    for path in sorted((Path(__file__).parent / "properties").glob("test_*.py")):
        for name, number in re.findall(r"^def (test_property_(\d\d)_\w+)", path.read_text(), re.MULTILINE):
            found[int(number)] = f"properties/{path.name}::{name}"
    return found


TESTS = _tests()
PROPERTIES = [
    Mutant(f"property {number:02d}: {name}", file, old, new, TESTS[number])
    for number, name, file, old, new in TABLE
]
