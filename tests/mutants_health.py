"""Mistakes in what is called ill, and in what is measured to tell."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

HEALTH = [
    Mutant("KL level: the worst, not the median", "health/kl_rules.py", '_recent_kl: median', "max", "health/test_findings.py"),
    Mutant("negative KL without its noise", "health/kl_rules.py", "_negative: kl >= limits.kl_negative_warning or kl > -limits.kl_negative_errors * error", "kl >= limits.kl_negative_warning", "health/test_findings.py"),
    Mutant("reward trend against the updates just before", "health/reward_rules.py", 'reward_trend: welch_t(rewards[:first], rewards[-last:])', "welch_t(rewards[-last - first:-last], rewards[-last:])", "health/test_findings.py health/test_false_alarms.py"),
    Mutant("empty responses unhealthy from the first update", "health/response_rules.py", "_empty: share > limits.empty_unhealthy and history.step >= limits.empty_from", "share > limits.empty_unhealthy", "health/test_findings.py"),
    Mutant("shrinking counted from cut answers", "health/response_rules.py", "_shorter: lengths[first:first + limits.window]", "lengths[:limits.window]", "health/test_findings.py"),
    Mutant("a resumed monitor forgets what was not finite", "health/history.py", "History.add: broken = [str(name) for name in listed] if isinstance(listed, list | tuple) else []", "broken: list[str] = []", "health/test_history.py health/test_monitor.py"),
    Mutant("the critic's warm-up counts as learning", "health/history.py", 'History.after_warmup: self.values(name)[self.critic_warmup:]', "self.values(name)", "health/test_history.py health/test_findings.py"),
    Mutant("standard error of values, not of means", "health/history.py", 'welch_t: variance(before) / len(before) + variance(after) / len(after)', "variance(before) + variance(after)", "health/test_history.py health/test_findings.py"),
    Mutant("a warning stops a run", "health/monitor.py", "Monitor.stop_reason: f.level == 'unhealthy' and f.name in self.stop_on", "f.name in self.stop_on", "health/test_monitor.py"),
    Mutant("two findings of one cause", "health/monitor.py", "Monitor._evaluate: covered_names((finding.name for finding in findings))", "set()", "health/test_monitor.py"),
    Mutant("a covered finding stops no run", "health/monitor.py", "Monitor.stop_reason: (*self.report.findings, *self.report.covered)", "self.report.findings", "health/test_monitor.py"),
    Mutant("votes alarm without a rise of the reward", "health/reward_rules.py", "_votes: latest.get('decided', 0.0) < limits.votes_least or latest['reward_change_low'] <= 0", "latest.get('decided', 0.0) < limits.votes_least", "health/test_findings.py"),
    Mutant("votes alarm although raters follow the reward", "health/reward_rules.py", "_votes: latest['low'] > 0.5", "False", "health/test_findings.py review/test_live.py"),
    Mutant("a run does not read its votes", "train/loop.py", "_Loop.train: metrics |= live_vote_metrics(self.run)", "pass", "train/ppo/test_live_votes.py"),
    Mutant("distinct n-grams counted, not shared out", "maths/diversity.py", "distinct_n: len(set(grams)) / len(grams)", "float(len(set(grams)))", "maths/test_diversity.py"),
    Mutant("length correlates with the penalised reward", "train/ppo/metrics.py", "reward_metrics: judged = pairs", "pass", "train/ppo/test_metrics.py"),
    Mutant("standard error of the KL per token", "train/ppo/metrics.py", "_kl: kl.sum(-1)", 'kl[batch.response_mask]', "train/ppo/test_metrics.py"),
]  # fmt: skip
