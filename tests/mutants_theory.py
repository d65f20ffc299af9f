"""Mistakes in the theory that runs, and in formulas that a known optimum or an exact gradient gives away."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

OPTIMUM = [
    ("optimum tilted the wrong way", '_tilted: log_ref + kl_penalty * (r - r.max(-1, keepdims=True))', 'log_ref - kl_penalty * (r - r.max(-1, keepdims=True))'),
    ("optimum not normalised", "_tilted: log_p - logsumexp(log_p, axis=-1, keepdims=True)", "log_p"),
    ("prompts share one normaliser", "_tilted: logsumexp(log_p, axis=-1, keepdims=True)", "logsumexp(log_p)"),
    ("coefficient and its inverse confused", "optimal_policy: 1.0 / _positive(beta)", "_positive(beta)"),
    ("value of the optimum without beta", "optimal_value: beta * weighed", "weighed"),
    ("rewards overflow", "optimal_value: best + beta * weighed", "beta * np.log((np.exp(log_ref) * np.exp(r / beta)).sum(-1))"),
    ("KL of the reference to the policy", "kl_divergence: gap = np.where(possible, p, 0.0) - np.where(possible, q, 0.0)\nreturn float((np.exp(p) * gap).sum(-1).mean())", "gap = np.where(possible, q, 0.0) - np.where(possible, p, 0.0)\nreturn float((np.exp(q) * gap).sum(-1).mean())"),
    ("variance under the reference", "optimum: p * (r - mean[..., None]) ** 2", "np.exp(log_ref) * (r - mean[..., None]) ** 2"),
    ("limit of the likeliest response", "kl_limit: np.where(r == r.max(-1, keepdims=True), log_ref, -np.inf)", "np.where(log_ref == log_ref.max(-1, keepdims=True), log_ref, -np.inf)"),
    ("budget above the limit accepted", "beta_for_kl: MIN_KL_BUDGET <= budget < limit", "MIN_KL_BUDGET <= budget"),
    ("solver returns 1 / beta", "beta_for_kl: -brentq(excess, low, high, xtol=1e-13, rtol=1e-14)", "brentq(excess, low, high, xtol=1e-13, rtol=1e-14)"),
    ("best of n: worst of n", "best_of_n: other <= r[..., None]", "other >= r[..., None]"),
    ("best of n without ties", "best_of_n: other <= r[..., None]", "other == r[..., None]"),
    ("best-of-n KL without its correction", "best_of_n_kl: math.log(n) - (n - 1) / n", "math.log(n)"),
    ("normal budget without the 2", "normal_beta_for_kl: 2 * budget", "budget"),
    ("reward of an impossible response read", "_checked: np.where(possible, r, lowest)", "r"),
]  # fmt: skip

THEORY = [
    *(Mutant(name, "maths/theory.py", old, new, "maths/test_theory.py") for name, old, new in OPTIMUM),
    Mutant("upper clip ignored", "maths/policy_loss.py", "clipped_policy_loss: ratio.clamp(1.0 - clip_range, 1.0 + high)", "ratio.clamp(1.0 - clip_range, 1.0 + clip_range)", "maths/test_policy_gradients.py"),
    Mutant("uneven clip swapped", "maths/policy_loss.py", "clipped_policy_loss: ratio.clamp(1.0 - clip_range, 1.0 + high)", "ratio.clamp(1.0 - high, 1.0 + clip_range)", "maths/test_policy_gradients.py"),
    Mutant("clip stops every gradient outside", "maths/policy_loss.py", "clipped_policy_loss: torch.maximum(-advantages * ratio, -advantages * clipped)", "-advantages * clipped", "maths/test_policy_gradients.py"),
    Mutant("RLOO with itself in its baseline", "maths/advantage.py", "group_advantages: (held.sum(-1, keepdim=True) - held) / (among - 1).clamp(min=1)", "held.sum(-1, keepdim=True) / among.clamp(min=1)", "maths/test_policy_gradients.py"),
    Mutant("KL paid out, not paid, in a token task", "maths/advantage.py", 'token_rewards: -kl_coef', 'kl_coef', "core/test_token_mdp.py"),
    Mutant("reward one token early in a token task", "maths/advantage.py", "token_rewards: position == last", "position == last - 1", "core/test_token_mdp.py"),
    Mutant("V read after the token in a token task", "maths/advantage.py", 'gae: torch.where(response_mask[:, t], values[:, t], next_value)', "next_value", "core/test_token_mdp.py"),
    Mutant("k3 in the place of k1", "maths/kl.py", 'k1: logprobs - ref_logprobs', 'torch.expm1(ref_logprobs - logprobs) + logprobs - ref_logprobs', "maths/test_policy_gradients.py"),
    Mutant("min instead of max on a point mass", "maths/policy_loss.py", "clipped_policy_loss: torch.maximum", "torch.minimum", "core/test_control.py"),
    Mutant("no credit for later steps on a point mass", "maths/advantage.py", "gae: delta + gamma * lam * next_advantage", "delta", "core/test_control.py"),
]  # fmt: skip
