"""Mistakes that only a whole update shows, each caught by the test of the property it breaks (docs/correctness.md)."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

import re
from pathlib import Path

from mutant import Mutant

CHAT, ROLES, CREDIT, PPO, LEARN = (
    "data/chat.py",
    "models/roles.py",
    "train/ppo/targets.py",
    "train/ppo/stage.py",
    "train/ppo/learner.py",
)
LOSS, CONFIG, CRITIC, CONTROL = (
    "train/ppo/loss.py",
    "config/ppo.py",
    "train/ppo/critic.py",
    "train/ppo/kl_control.py",
)

# Property, mistake, file, what stands there, what is planted.
TABLE = [
    (1, "the renderer takes pad = eos", "chat/turn_end.py", "padding_id: pad is not None and pad not in ends", "pad is not None"),
    (2, "a long response is truncated and given an end token", CHAT, 'Renderer.encode_demonstration: answer = self.encode_response(row.response)', 'answer = [*self.encode_response(row.response, ended=False)[:max(max_length - 1 - len(self.encode_prompt(row.encode_prompt.messages)), 1)], self.end_of_turn]'),
    (3, "a generated token stands one position late", "rollout/decoder.py", "Decoder._states: positions[:, None]", "positions[:, None] + 1"),
    (4, "no positions for packed rows", "models/backbone.py", 'Backbone.forward_packed: self.forward(kernel, input_ids=tokens, position_ids=positions, **inputs)', "self.forward(kernel, input_ids=tokens, **inputs)"),
    (5, "top-k by default", "rollout/sampler.py", 'sample_tokens: mass[:, :vocab] = logits', "mass[:, :vocab] = torch.where(logits >= logits.topk(min(20, vocab)).values[:, -1:], logits, -torch.inf)"),
    (6, "the reference is scored at temperature 1", 'train/ppo/evaluator.py', 'Evaluator.logprobs: model.evaluate(piece, self.settings.temperature)', 'model.evaluate(piece)'),
    (7, "the reward model reads the decoded text", "reward/learned.py", "LearnedReward.__init__: None if same else model.renderer()", "model.renderer()"),
    (8, "the end token is no action", PPO, "PPOStage._collate: [False] * len(r.prompt_tokens) + [True] * len(r.response_tokens)", "[False] * len(r.prompt_tokens) + [True] * (len(r.response_tokens) - 1) + [False]"),
    (9, "rollouts are greedy", PPO, "PPOStage.generate: self.settings.temperature", "0.0"),
    (10, "all stages see one order of rows", "train/sampler.py", "batch_indices: permutation(rows, seed, label, 'epoch', epoch)", "permutation(rows, seed, 'epoch', epoch)"),
    (11, "the score is a mean over all tokens", ROLES, "RewardModel.rewards: self.head(self.backbone.pooled(hidden, batch))", "self.head(hidden).mean(1)"),
    (12, "the reward head starts at 0.02", "train/head_stage.py", "HeadStage.initial_deviation: float((width + 1) ** (-0.5))", "0.02"),
    (12, "the rate stops at a tenth", "train/optim/optimiser.py", 'lr_multiplier: 1.0 - done', "max(1.0 - done, 0.1)"),
    (13, "pad = eos moves the score one token early", "batches.py", 'last_states: batch.attention_mask', '(batch.tokens != 2) & batch.attention_mask'),
    (14, "offset and scale are forgotten at loading", ROLES, "RewardModel.load: cls(backbone, name, head, card.offset, card.scale, tokenizer_of(source))", "cls(backbone, adapter, head, 0.0, 1.0, tokenizer_of(source))"),
    (15, "the score is spread over the response", "maths/advantage.py", "token_rewards: torch.where(position == last, reward.unsqueeze(1), 0.0)", 'torch.where(response_mask, reward.unsqueeze(1) / response_mask.sum(1, keepdim=True), 0.0)'),
    (16, "k3 in the reward", CREDIT, '_kl_estimate: ESTIMATORS[settings.kl_estimator]', "ESTIMATORS['k3']"),
    (17, "k1 may stand in the loss", CONFIG, "_contradiction: ('k2', 'full')", "('k1', 'k2', 'full')"),
    (18, "the controller is given nats per response, divided twice", PPO, 'PPOStage._rollback_or_adapt_kl: self.kl.coefficient.adapt(kl_mean, len(batch.tokens))', 'self.kl.coefficient.adapt(kl_mean / len(batch.tokens), len(batch.tokens))'),
    (18, "the controller forgets its horizon", CONTROL, 'KLCoefficient.adapt: adaptive_coefficient(self.value, kl, s.kl_target, s.kl_horizon, sequences)', 'adaptive_coefficient(self.value, kl, s.kl_target, sequences, sequences)'),
    (19, "the score is not clipped", "reward/learned.py", 'LearnedReward.score: clip_score(value, self.clip)', "value"),
    (19, "score and KL are clipped together", CREDIT, "compute_targets: token_rewards(reward, kl_penalty, response_mask, 0.0 if settings.kl_in == 'loss' else kl_coef)", "token_rewards(reward, kl_penalty, response_mask, 0.0 if settings.kl_in == 'loss' else kl_coef).clamp(-1, 1)"),
    (20, "ended responses are penalised for a missing end", "reward/rules.py", "MissingEos.score: 'length'", "'end_of_turn'"),
    (20, "a replaced score is penalised as well", "reward/rules.py", "penalties: settings.missing_eos_penalty > 0 and settings.truncated == 'penalise' and (not replaced)", "settings.missing_eos_penalty > 0 and settings.truncated == 'penalise'"),
    (20, "every score is replaced", "reward/learned.py", 'LearnedReward.score: self.truncated_score if c else s', 'self.truncated_score'),
    (21, "rewards are whitened", CREDIT, "compute_targets: token_rewards(reward, kl_penalty, response_mask, 0.0 if settings.kl_in == 'loss' else kl_coef)", "whiten(token_rewards(reward, kl_penalty, response_mask, 0.0 if settings.kl_in == 'loss' else kl_coef), response_mask)"),
    (22, "a truncated response gets its score and a bootstrap", CREDIT, 'compute_targets: reward = torch.where(truncated, 0.0, reward)', "pass"),
    (22, "ended responses bootstrap too", CREDIT, 'compute_targets: torch.where(truncated, old.final_values, 0.0)', "old.final_values"),
    (23, "returns without the values", CREDIT, "_advantages: advantages + old.values", "advantages"),
    (24, "the bootstrap of an ended response is multiplied away", CREDIT, 'compute_targets: torch.where(truncated, old.final_values, 0.0)', "old.final_values * truncated"),
    (25, "values read the state after their token", ROLES, 'Policy.evaluate: if self.value_head is not None:\n    last = last_states(hidden, batch)\n    if detach_states:\n        response_states, last = (response_states.detach(), last.detach())\n    values, final_values = (self.value_head(response_states), self.value_head(last))', 'if self.value_head is not None:\n    last = last_states(hidden, batch)\n    if detach_states:\n        response_states, last = (response_states.detach(), last.detach())\n    values, final_values = (self.value_head(hidden[batch.response_mask]), self.value_head(last))'),
    (26, "padding takes part in the whitening", CREDIT, 'compute_targets: whiten(advantages, policy_mask)', 'whiten(advantages, torch.ones_like(policy_mask))'),
    (27, "advantages are centred and not scaled", CREDIT, 'compute_targets: whiten(advantages, policy_mask)', 'advantages - advantages[policy_mask].mean()'),
    (28, "the ratio is to the reference", CREDIT, 'compute_targets: PPOTargets(old.logprobs, old.values, advantages, returns, policy_mask, value_mask, rewards, kl, kl_penalty)', 'PPOTargets(ref_logprobs, old.values, advantages, returns, policy_mask, value_mask, rewards, kl, kl_penalty)'),
    (29, "the upper clip is the lower one", "maths/policy_loss.py", "clipped_policy_loss: clip_range if clip_range_high is None else clip_range_high", "clip_range"),
    (29, "the clip fraction sees one side", LOSS, "policy_loss: (ratio > 1 + high) | (ratio < 1 - settings.clip_range)", "ratio > 1 + high"),
    (30, "the value is clipped around itself", LOSS, 'value_loss: clipped_value_loss(values[value_mask], targets.old_values[value_mask], targets.returns[value_mask], settings.value_clip_range)', 'clipped_value_loss(values[value_mask], values[value_mask].detach(), targets.returns[value_mask], settings.value_clip_range)'),
    (31, "a micro-batch is divided by its own count", LEARN, 'Learner._backward: policy_divisor(counts, self.settings)', 'targets.policy_mask.sum()'),
    (31, "advantages are centred again in every micro-batch", LOSS, 'policy_loss: targets.advantages[policy_mask]', 'targets.advantages[policy_mask] - targets.advantages[policy_mask].mean()'),
    (32, "KL is reported absolute", "train/ppo/metrics.py", '_kl: targets.kl', 'targets.kl.abs()'),
    (32, "values are averaged over padding", "train/ppo/metrics.py", 'rollout_metrics: masked_mean(old.values, batch.response_mask)', "old.values.mean()"),
    (33, "the base trains with its dropout on", "models/adapted_model.py", "AdaptedModel._freeze_all_but: self.model.eval", "self.model.train"),
    (33, "a little adapter dropout is let in", "config/run.py", "RunConfig._no_dropout_under_ppo: 0", "0.2"),
    (34, "the critic forgets the reward model's offset", CRITIC, "build_critic: rewards.head.bias - rewards.offset", "rewards.head.bias"),
    (34, "the policy learns during the warm-up", PPO, 'PPOStage._update: self.learner.learn(number, rollout_batch, lr_scale, kl_coef, train_policy=not self.warming_up)', 'self.learner.learn(number, rollout_batch, lr_scale, kl_coef, train_policy=True)'),
    (34, "the warm-up never ends early", PPO, 'PPOStage._still_warming_up: number < self.settings.critic_warmup_updates and explained < self.settings.critic_warmup_until', "number < self.settings.critic_warmup_updates"),
    (35, "eps stays PyTorch's default", "train/optim/optimiser.py", "Optimiser.__init__: OPTIMISERS[settings.optimizer](groups, eps=settings.adam_eps, weight_decay=settings.weight_decay)", "OPTIMISERS[settings.optimizer](groups, weight_decay=settings.weight_decay)"),
    (36, "the same order every epoch", 'train/ppo/minibatch.py', "minibatch_indices: permutation(size, seed, 'PPO minibatches', number, epoch)", "permutation(size, seed, 'PPO minibatches', number)"),
    (36, "every minibatch is the first", 'train/ppo/minibatch.py', 'minibatch_indices: order[position::settings.minibatches]', 'order[:size // settings.minibatches]'),
    (37, "the reward model looks through the policy's adapter", ROLES, "RewardModel.rewards: self.adapter", "'policy'"),
    (38, "a resumed critic starts anew", LEARN, "Learner.load: for optimiser in self.optimisers.values():\n    optimiser.load(tensors)", "self.optimisers['policy'].load(tensors)"),
    (38, "a resumed reference starts anew", "train/ppo/reference.py", "Reference.load: int(state['times_updated'])", "0"),
    (38, "a resumed coefficient starts anew", CONTROL, "KLControl.load: self.coefficient.value, self.rollback.in_a_row = (float(state['coefficient']), int(state['rollbacks']))", "self.rollback.in_a_row = int(state['rollbacks'])"),
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
