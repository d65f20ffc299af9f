"""Mistakes in the group methods: aggregation, scale, sequence ratios, dropped groups, overlong penalty."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

TESTS = "train/ppo/test_group_methods.py"
ADVANTAGE, POLICY_LOSS, LOSS = "maths/advantage.py", "maths/policy_loss.py", "train/ppo/loss.py"
TARGETS, GROUPS, RULES, CONFIG = (
    "train/ppo/targets.py",
    "train/ppo/groups.py",
    "reward/rules.py",
    "config/ppo.py",
)

GROUP_METHODS = [
    Mutant(name, file, old, new, TESTS)
    for name, file, old, new in [
        ("rloo takes the mean of the whole group", ADVANTAGE, "group_advantages: kind == 'rloo'", "kind == 'loo'"),
        ("grpo without its scale", ADVANTAGE, "group_advantages: 'group' if kind == 'grpo' else 'none'", "'none'"),
        ("every method scaled by the group", ADVANTAGE, "group_advantages: 'group' if kind == 'grpo' else 'none'", "'group'"),
        ("batch scale is the variance", ADVANTAGE, "group_advantages: _variance(returns, valid).sqrt()", "_variance(returns, valid)"),
        ("batch scale counts left-out rows", ADVANTAGE, "group_advantages: _variance(returns, valid)", "_variance(returns, valid | True)"),
        ("a group of one has an advantage", ADVANTAGE, "group_advantages: count > 1", "count > 0"),
        ("a left-out reward gives a group spread", ADVANTAGE, "groups_with_spread: torch.where(mask, grouped, -torch.inf).amax(-1)", "grouped.amax(-1)"),
        ("spread of rewards is never small", ADVANTAGE, "groups_with_spread: highest - lowest > 1e-06", "highest - lowest >= 0"),
        ("sequence ratio is the product", POLICY_LOSS, "sequence_log_ratio: mask.sum(-1, keepdim=True).clamp(min=1)", "1"),
        ("sequence ratio over padding", POLICY_LOSS, "sequence_log_ratio: mask.sum(-1, keepdim=True).clamp(min=1)", "mask.shape[-1]"),
        ("sequence ratio upside down", POLICY_LOSS, "sequence_log_ratio: logprobs - old_logprobs", "old_logprobs - logprobs"),
        ("gradient of every token through the mean too", POLICY_LOSS, "sequence_log_ratio: mean.detach()", "mean"),
        ("no gradient through the ratio", POLICY_LOSS, "sequence_log_ratio: mean.detach() + log_ratio - log_ratio.detach()", "mean.detach() + 0 * log_ratio"),
        ("weights sum to the number of tokens", POLICY_LOSS, "response_weights: mask / mask.sum(-1, keepdim=True).clamp(min=1)", "mask / 1"),
        ("weights by the padded length", POLICY_LOSS, "response_weights: mask.sum(-1, keepdim=True).clamp(min=1)", "mask.shape[-1]"),
        ("sequence mean without its weights", LOSS, "policy_loss: settings.loss_aggregation == 'sequence'", "settings.loss_aggregation == 'response'"),
        ("sequence mean divided by tokens", LOSS, "policy_divisor: settings.loss_aggregation == 'token'", "settings.loss_aggregation != 'constant'"),
        ("constant without max_gen_len", LOSS, "policy_divisor: settings.max_gen_len if settings.loss_aggregation == 'constant' else 1", "1"),
        ("constant divided by max_gen_len alone", LOSS, "policy_divisor: counts.responses * (settings.max_gen_len if settings.loss_aggregation == 'constant' else 1)", "settings.max_gen_len if settings.loss_aggregation == 'constant' else counts.responses"),
        ("GSPO clips token ratios", LOSS, "policy_loss: settings.importance_sampling_level == 'sequence'", "settings.importance_sampling_level == 'response'"),
        ("clip fraction of the token ratios", LOSS, "policy_loss: log_ratio.detach().exp()", "ratio"),
        ("responses that are left out are counted", "train/ppo/minibatch.py", "TokenCounts.of: policy_mask.any(-1).sum()", "len(policy_mask)"),
        ("the logged loss is not weighted", LOSS, "UpdateStats.add_loss: values.sum() if weights is None else (weights * values).sum()", "values.sum()"),
        ("dropped groups stay in the loss", TARGETS, "compute_targets: policy_mask & rows_with_spread(reward, truncated, settings)[:, None]", "policy_mask"),
        ("the kept groups are dropped", TARGETS, "compute_targets: rows_with_spread(reward, truncated, settings)[:, None]", "~rows_with_spread(reward, truncated, settings)[:, None]"),
        ("groups are interleaved", GROUPS, "rows_with_spread: _spread(reward, truncated, settings).repeat_interleave(settings.samples_per_prompt)", "_spread(reward, truncated, settings).repeat(settings.samples_per_prompt)"),
        ("a truncated response counts for the spread", GROUPS, "_spread: ~truncated if settings.truncated == 'mask' else truncated | True", "truncated | True"),
        ("the groups with spread are counted", GROUPS, "group_metrics: (~spread).sum()", "spread.sum()"),
        ("the buffer begins at its end", RULES, "Overlong.score: self.longest - self.buffer", "self.longest"),
        ("the overlong penalty is a bonus", RULES, "Overlong.score: -self.penalty", "self.penalty"),
        ("the overlong penalty is below zero before the buffer", RULES, "Overlong.score: max(0, len(r.response_tokens) - begins)", "(len(r.response_tokens) - begins)"),
        ("the overlong penalty counts tokens", RULES, "Overlong.score: max(0, len(r.response_tokens) - begins) / self.buffer", "max(0, len(r.response_tokens) - begins)"),
        ("reinforce++ is not whitened", CONFIG, "PPOSettings.whitens: self.advantage not in ('rloo', 'grpo')", "not self.group_baseline"),
        ("scale_rewards is not read", CONFIG, "PPOSettings.reward_scale: self.scale_rewards or ('group' if self.advantage == 'grpo' else 'none')", "'group' if self.advantage == 'grpo' else 'none'"),
    ]
]  # fmt: skip
