"""Mistakes where formulas meet models: alignment, credit, the update, sampling, roles, rendering."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

PPO, CREDIT, ROLES = "train/ppo/test_stage.py", "train/ppo/test_targets.py", "models/test_roles.py"

PIPELINE = [
    Mutant("credit: KL against itself", "train/ppo/targets.py", 'compute_targets: k1(old.logprobs, reference_logprobs)', "k1(old.logprobs, old.logprobs)", CREDIT),
    Mutant("credit: KL of the prompt counts", "train/ppo/targets.py", 'compute_targets: torch.where(response_mask, k1(old.logprobs, reference_logprobs), 0.0)', "k1(old.logprobs, reference_logprobs)", CREDIT),
    Mutant("credit: returns made after whitening", 'train/ppo/targets.py', 'compute_targets: PPOTargets(old.logprobs, old.values, advantages, returns, policy_mask, value_mask, rewards, kl, kl_penalty)', 'PPOTargets(old.logprobs, old.values, advantages, advantages + old.values, policy_mask, value_mask, rewards, kl, kl_penalty)', CREDIT),
    Mutant("credit: gamma and lambda swapped", "train/ppo/targets.py", '_advantages: gae(rewards, old.values, response_mask, settings.gamma, settings.lam, final_values)', 'gae(rewards, old.values, response_mask, settings.lam, settings.gamma, final_values)', CREDIT),
    Mutant("credit: masked answers whitened too", "train/ppo/targets.py", 'compute_targets: whiten(advantages, policy_mask)', 'whiten(advantages, response_mask)', CREDIT),
    Mutant("credit: truncated responses kept", "train/ppo/targets.py", 'compute_targets: response_mask & ~truncated[:, None]', 'response_mask', CREDIT),
    Mutant("update: micro-batch means averaged", 'train/ppo/learner.py', 'Learner._backward: loss = loss + value_loss(values, targets, self.settings, stats) / max(counts.value, 1)', 'loss = loss + value_loss(values, targets, self.settings, stats) / max(int(targets.value_mask.sum()), 1)', PPO),
    Mutant("update: temperature ignored in the old log-probabilities", 'train/ppo/evaluator.py', 'Evaluator.old_logprobs_and_values: self.policy.evaluate(piece, self.settings.temperature)', 'self.policy.evaluate(piece)', PPO),
    Mutant("update: temperature ignored in the reference", 'train/ppo/evaluator.py', 'Evaluator.logprobs: model.evaluate(piece, self.settings.temperature)', 'model.evaluate(piece)', PPO),
    Mutant("update: repeated prompts answered alike", "train/ppo/stage.py", "PPOStage.generate: f'ppo/{number}/{repeat}' if repeat else f'ppo/{number}'", "f'ppo/{number}'", PPO),
    Mutant("update: KL coefficient not saved", "train/ppo/kl_control.py", "KLControl.state: self.coefficient", "self.settings.kl_coef", PPO),
    Mutant("update: bounds of the coefficient ignored", 'train/ppo/kl_control.py', 'KLCoefficient.adapt: min(max(proposed, s.kl_coef_min), s.kl_coef_max)', 'proposed', PPO),
    Mutant("update: KL per token given to the controller", "train/ppo/metrics.py", "_kl: {'kl/mean': float(kl.sum()) / n, 'kl/per_token': float(masked_mean(kl, batch.response_mask)), 'kl/k3_mean': float(k3.sum()) / n, 'kl/k3_per_token': float(masked_mean(k3, batch.response_mask))}", "{'kl/mean': float(masked_mean(kl, batch.response_mask)), 'kl/per_token': float(masked_mean(kl, batch.response_mask)), 'kl/k3_mean': float(k3.sum()) / n, 'kl/k3_per_token': float(masked_mean(k3, batch.response_mask))}", PPO),
    Mutant("loss: value loss subtracted", "train/ppo/loss.py", "value_loss: settings.vf_coef * per_token.sum()", "-settings.vf_coef * per_token.sum()", "train/ppo/test_loss.py"),
    Mutant("loss: entropy penalised", "train/ppo/loss.py", "policy_loss: per_token - settings.entropy_coef * entropy", "per_token + settings.entropy_coef * entropy", "train/ppo/test_loss.py"),
    Mutant("loss: advantages and returns swapped", "train/ppo/loss.py", 'policy_loss: targets.advantages', 'targets.returns', "train/ppo/test_loss.py"),
    Mutant("optimiser: moments not saved", "train/optim/optimiser.py", 'Optimiser.tensors: STATE_KEYS', "('step',)", "train/optim/test_optimiser.py"),
    Mutant("optimiser: no clipping", "train/optim/optimiser.py", "Optimiser.clip: self.settings.max_grad_norm", "math.inf", "train/optim/test_optimiser.py"),
    Mutant("order: the same order every pass", "train/sampler.py", "batch_indices: permutation(rows, seed, label, 'epoch', epoch)", "permutation(rows, seed, label, 'epoch', 0)", "train/test_sampler.py"),
    Mutant("roles: value after the token, not before", "models/roles.py", 'Policy.evaluate: if self.value_head is not None:\n    last = last_states(hidden, batch)\n    if detach_states:\n        response_states, last = (response_states.detach(), last.detach())\n    values, final_values = (self.value_head(response_states), self.value_head(last))', 'if self.value_head is not None:\n    last = last_states(hidden, batch)\n    if detach_states:\n        response_states, last = (response_states.detach(), last.detach())\n    values, final_values = (self.value_head(self.backbone.hidden(batch)[batch.response_mask]), self.value_head(last))', ROLES),
    Mutant("roles: reward read one token early", "batches.py", 'last_states: batch.attention_mask.sum(-1) - 1', '(batch.attention_mask.sum(-1) - 2).clamp(min=0)', ROLES),
    Mutant("roles: reward read at the padded end", "batches.py", 'last_states: batch.attention_mask.sum(-1)', 'batch.attention_mask.sum(-1) * 0 + batch.attention_mask.shape[1]', ROLES),
    Mutant("roles: reward under the policy's adapter", "models/roles.py", "RewardModel.rewards: self.adapter", "None", ROLES),
    Mutant("roles: any base will do for a reward model", "models/roles.py", "RewardModel.load: same_base and lineage_fingerprint(share.source) == card.base_fingerprint", "same_base or lineage_fingerprint(share.source) == card.base_fingerprint", ROLES),
    Mutant("backbone: the role of no adapter has one", "models/adapted_model.py", "AdaptedModel._switch: adapter is None", "False", "models/test_backbone.py"),
    Mutant("backbone: a role is never left", "models/adapted_model.py", "AdaptedModel.role: self._switch(outer)", "pass", "models/test_backbone.py"),
    Mutant("rules: the missing-EOS penalty rewards", "reward/rules.py", "MissingEos.score: -self.penalty", "self.penalty", "reward/test_rules.py"),
    Mutant("learned: clipped after weighting", "reward/source.py", 'clip_score: min(clip, value)', "value", "reward/test_learned.py"),
    Mutant("learned: a truncated response gets a forged end", "reward/learned.py", "LearnedReward.tokenize: rollout.stop == 'end_of_turn'", "True", "reward/test_learned.py"),
    Mutant("preferences: ties alone are trained on", "train/load_data.py", "encode_preferences_and_prompts: row.label == 0.5", "False", "end_to_end/test_bad_input.py::test_ties_alone_are_no_preferences"),
    Mutant("reward model: no pair has an accuracy of 0", "train/reward_model.py", "RewardStage._evaluate_held_out: pair.label != 0.5", "True", "train/test_reward_model.py::test_ties_alone_have_no_accuracy"),
    Mutant("reward model: accuracy counts ties as right", "train/reward_model.py", '_num_correct: gap * wants > 0', "gap * wants >= 0", "train/test_reward_model.py"),
    Mutant("reward model: soft labels ignored", "train/reward_model.py", "RewardStage.loss: pair.label", "1.0", "train/test_reward_model.py"),
    Mutant("reward model: no centring", "train/reward_model.py", 'RewardStage.loss: self.settings.centre_coef * (chosen + rejected) ** 2', '0 * chosen', "train/test_reward_model.py"),
    Mutant("SFT: the prompt is learnt too", "train/sft.py", 'SupervisedStage._backward: logprobs[batch.response_mask]', "self.policy.evaluate(TokenBatch(batch.tokens, batch.real, batch.real)).logprobs", "train/test_sft.py"),
    Mutant("SFT: mean of micro-batch means", "train/sft.py", 'SupervisedStage._backward: -logprobs[batch.response_mask].sum() / count', '-logprobs[batch.response_mask].mean()', "train/test_sft.py"),
    Mutant("chat: a truncated response gets a forged end", "data/chat.py", 'Renderer.encode_response: [*tokens, self.end_of_turn] if ended else tokens', "[*tokens, self.end_of_turn]", "data/test_chat.py"),
    Mutant("chat: no end is taught", "data/chat.py", 'Renderer.encode_response: [*tokens, self.end_of_turn] if ended else tokens', "tokens", "data/test_chat.py"),
    Mutant("chat: the newest turns are dropped", "data/chat.py", "Renderer.fit_prompt: turns = later", "turns = turns[:-1]", "data/test_chat.py"),
]  # fmt: skip
