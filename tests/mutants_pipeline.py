"""Mistakes where formulas meet models: alignment, credit, the update, sampling, roles, rendering."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

PPO, CREDIT, ROLES = "train/test_ppo.py", "train/test_credit.py", "models/test_roles.py"

PIPELINE = [
    Mutant("credit: KL against itself", "train/credit.py", "k1(old.logprobs, reference_logprobs)", "k1(old.logprobs, old.logprobs)", CREDIT),
    Mutant("credit: KL of the prompt counts", "train/credit.py", "torch.where(action, k1(old.logprobs, reference_logprobs), 0.0)", "k1(old.logprobs, reference_logprobs)", CREDIT),
    Mutant("credit: returns made after whitening", "train/credit.py", "    credit = Credit(old.logprobs, old.values, advantages, returns)", "    credit = Credit(old.logprobs, old.values, advantages, advantages + old.values)", CREDIT),
    Mutant("credit: gamma and lambda swapped", "train/credit.py", "settings.gamma, settings.lam", "settings.lam, settings.gamma", CREDIT),
    Mutant("credit: masked answers whitened too", "train/credit.py", "standardise(advantages, learnable)", "standardise(advantages, action)", CREDIT),
    Mutant("credit: truncated answers kept", "train/credit.py", "action & ~truncated[:, None]", "action", CREDIT),
    Mutant("update: micro-batch means averaged", "train/ppo_learn.py", "of_values / max(counts[1], 1)\n                loss", "of_values / max(int(valued.sum()), 1)\n                loss", PPO),
    Mutant("update: temperature ignored in the old log-probabilities", "train/ppo.py", "now = self.policy.evaluate(piece, self.settings.temperature)", "now = self.policy.evaluate(piece)", PPO),
    Mutant("update: temperature ignored in the reference", "train/ppo.py", "now = policy.evaluate(piece, self.settings.temperature)", "now = policy.evaluate(piece)", PPO),
    Mutant("update: repeated prompts answered alike", "train/ppo.py", 'purpose = f"ppo/{number}/{again}" if again else f"ppo/{number}"', 'purpose = f"ppo/{number}"', PPO),
    Mutant("update: KL coefficient not saved", "train/kl_control.py", '"coefficient": self.coefficient, ', '"coefficient": self.settings.kl_coef, ', PPO),
    Mutant("update: bounds of the coefficient ignored", "train/kl_control.py", "self.coefficient = min(max(proposed, s.kl_coef_min), s.kl_coef_max)", "self.coefficient = proposed", PPO),
    Mutant("update: KL per token given to the controller", "train/ppo_metrics.py", '"kl/mean": float(kl.sum()) / n', '"kl/mean": float(masked_mean(kl, batch.action))', PPO),
    Mutant("loss: value loss subtracted", "train/ppo_loss.py", "return settings.vf_coef * per_token.sum()", "return -settings.vf_coef * per_token.sum()", "train/test_ppo_loss.py"),
    Mutant("loss: entropy penalised", "train/ppo_loss.py", "per_token - settings.entropy_coef * entropy", "per_token + settings.entropy_coef * entropy", "train/test_ppo_loss.py"),
    Mutant("loss: advantages and returns swapped", "train/ppo_loss.py", "credit.advantages[learnable], settings.clip_range", "credit.returns[learnable], settings.clip_range", "train/test_ppo_loss.py"),
    Mutant("optimiser: moments not saved", "train/optimiser.py", "for part in MOMENTS if part in moments}", 'for part in ("step",) if part in moments}', "train/test_optimiser.py"),
    Mutant("optimiser: no clipping", "train/optimiser.py", "self.settings.max_grad_norm, norm)", "math.inf, norm)", "train/test_optimiser.py"),
    Mutant("order: the same order every pass", "train/order.py", 'order = permutation(rows, seed, label, "epoch", epoch)\n    return', 'order = permutation(rows, seed, label, "epoch", 0)\n    return', "train/test_order.py"),
    Mutant("roles: value after the token, not before", "models/roles.py", "values = self.value_head(states)", "values = self.value_head(self.backbone.hidden(batch)[batch.action])", ROLES),
    Mutant("roles: reward read one token early", "models/roles.py", "last = batch.real.sum(-1) - 1", "last = (batch.real.sum(-1) - 2).clamp(min=0)", ROLES),
    Mutant("roles: reward read at the padded end", "models/roles.py", "last = batch.real.sum(-1) - 1", "last = batch.real.sum(-1) * 0 + batch.real.shape[1] - 1", ROLES),
    Mutant("roles: reward under the policy's adapter", "models/roles.py", "with self.backbone.role(self.adapter):\n            hidden = self.backbone.hidden(batch)\n            rewards", "with self.backbone.role(None):\n            hidden = self.backbone.hidden(batch)\n            rewards", ROLES),
    Mutant("roles: any base will do for a reward model", "models/roles.py", "same_base = same_base and lineage_fingerprint", "same_base = same_base or lineage_fingerprint", ROLES),
    Mutant("backbone: the role of no adapter has one", "models/backbone.py", "layer._disable_adapters = adapter is None", "layer._disable_adapters = False", "models/test_backbone.py"),
    Mutant("backbone: a role is never left", "models/backbone.py", "self._switch(outer)", "pass", "models/test_backbone.py"),
    Mutant("rules: the missing-EOS penalty rewards", "reward/rules.py", 'float(r.stop == "length"), -self.penalty', 'float(r.stop == "length"), self.penalty', "reward/test_rules.py"),
    Mutant("learned: clipped after weighting", "reward/source.py", "max(-clip, min(clip, value))", "max(-clip, value)", "reward/test_learned.py"),
    Mutant("learned: a cut answer gets a forged end", "reward/learned.py", 'ended=rollout.stop == "end_of_turn"', "ended=True", "reward/test_learned.py"),
    Mutant("reward model: accuracy counts ties as right", "train/reward_model.py", "((gap * wants) > 0).sum()", "((gap * wants) >= 0).sum()", "train/test_reward_model.py"),
    Mutant("reward model: soft labels ignored", "train/reward_model.py", "label = better.new_tensor([pair.label for pair in pairs])", "label = better.new_tensor([1.0 for pair in pairs])", "train/test_reward_model.py"),
    Mutant("reward model: no centring", "train/reward_model.py", "self.settings.centre_coef * (better + worse) ** 2", "0 * better", "train/test_reward_model.py"),
    Mutant("SFT: the prompt is learnt too", "train/sft.py", "-logprobs[batch.action].sum() / count", "-self.policy.evaluate(TokenBatch(batch.tokens, batch.real, batch.real)).logprobs.sum() / count", "train/test_sft.py"),
    Mutant("SFT: mean of micro-batch means", "train/sft.py", "logprobs[batch.action].sum() / count", "logprobs[batch.action].mean()", "train/test_sft.py"),
    Mutant("chat: a cut answer gets a forged end", "data/chat.py", "return [*tokens, self.end_of_turn] if ended else tokens", "return [*tokens, self.end_of_turn]", "data/test_chat.py"),
    Mutant("chat: no end is taught", "data/chat.py", "return [*tokens, self.end_of_turn] if ended else tokens", "return tokens", "data/test_chat.py"),
    Mutant("chat: the newest turns are dropped", "data/chat.py", "turns = later\n", "turns = turns[:-1]\n", "data/test_chat.py"),
]  # fmt: skip
