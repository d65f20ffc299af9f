"""Mistakes in the theory that runs, and in formulas that a known optimum or an exact gradient gives away."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

OPTIMUM = [
    ("optimum tilted the wrong way", "log_ref + price * (r - r.max(-1, keepdims=True))", "log_ref - price * (r - r.max(-1, keepdims=True))"),
    ("optimum not normalised", "np.asarray(log_p - logsumexp(log_p, axis=-1, keepdims=True), dtype=np.float64)", "np.asarray(log_p, dtype=np.float64)"),
    ("prompts share one normaliser", "logsumexp(log_p, axis=-1, keepdims=True)", "logsumexp(log_p)"),
    ("price and its inverse confused", "return _tilted(log_ref, r, 1.0 / _positive(beta))", "return _tilted(log_ref, r, _positive(beta))"),
    ("value of the optimum without beta", "float((best + beta * weighed).mean())", "float((best + weighed).mean())"),
    ("rewards overflow", "float((best + beta * weighed).mean())", "float((beta * np.log((np.exp(log_ref) * np.exp(r / beta)).sum(-1))).mean())"),
    ("KL of the reference to the policy", "gap = np.where(possible, p, 0.0) - np.where(possible, q, 0.0)\n    return float((np.exp(p) * gap)", "gap = np.where(possible, q, 0.0) - np.where(possible, p, 0.0)\n    return float((np.exp(q) * gap)"),
    ("variance under the reference", "variance = (p * (r - mean", "variance = (np.exp(log_ref) * (r - mean"),
    ("limit of the likeliest answer", "np.where(r == r.max(-1, keepdims=True), log_ref, -np.inf)", "np.where(log_ref == log_ref.max(-1, keepdims=True), log_ref, -np.inf)"),
    ("budget above the limit accepted", "<= budget < limit:", "<= budget:"),
    ("solver returns 1 / beta", "return math.exp(-brentq(", "return math.exp(brentq("),
    ("best of n: worst of n", "other <= r[..., None]", "other >= r[..., None]"),
    ("best of n without ties", "other <= r[..., None], reference", "other == r[..., None], reference"),
    ("best-of-n KL without its correction", "return math.log(n) - (n - 1) / n", "return math.log(n)"),
    ("normal budget without the 2", "deviation / math.sqrt(2 * budget)", "deviation / math.sqrt(budget)"),
    ("reward of an impossible answer read", "np.where(possible, r, lowest)", "r"),
]  # fmt: skip

THEORY = [
    *(Mutant(name, "maths/theory.py", old, new, "maths/test_theory.py") for name, old, new in OPTIMUM),
    Mutant("upper clip ignored", "maths/policy_loss.py", "ratio.clamp(1.0 - clip_range, 1.0 + high)", "ratio.clamp(1.0 - clip_range, 1.0 + clip_range)", "maths/test_policy_gradients.py"),
    Mutant("uneven clip swapped", "maths/policy_loss.py", "ratio.clamp(1.0 - clip_range, 1.0 + high)", "ratio.clamp(1.0 - high, 1.0 + clip_range)", "maths/test_policy_gradients.py"),
    Mutant("clip stops every gradient outside", "maths/policy_loss.py", "return torch.maximum(-advantages * ratio, -advantages * clipped)", "return -advantages * clipped", "maths/test_policy_gradients.py"),
    Mutant("RLOO with itself in its baseline", "maths/advantage.py", "baseline = (held.sum(-1, keepdim=True) - held) / (among - 1).clamp(min=1)", "baseline = held.sum(-1, keepdim=True) / among.clamp(min=1)", "maths/test_policy_gradients.py"),
    Mutant("KL paid out, not paid, in a token task", "maths/advantage.py", "price = -kl_coefficient", "price = kl_coefficient", "core/test_token_mdp.py"),
    Mutant("reward one token early in a token task", "maths/advantage.py", "position == last, reward", "position == last - 1, reward", "core/test_token_mdp.py"),
    Mutant("V read after the token in a token task", "maths/advantage.py", "next_value = torch.where(action[:, t], values[:, t], next_value)", "next_value = next_value", "core/test_token_mdp.py"),
    Mutant("k3 in the place of k1", "maths/kl.py", "return logprobs - reference_logprobs", "return torch.expm1(reference_logprobs - logprobs) + logprobs - reference_logprobs", "maths/test_policy_gradients.py"),
    Mutant("min instead of max on a point mass", "maths/policy_loss.py", "torch.maximum(-advantages * ratio", "torch.minimum(-advantages * ratio", "core/test_control.py"),
    Mutant("no credit for later steps on a point mass", "maths/advantage.py", "delta + gamma * lam * next_advantage", "delta", "core/test_control.py"),
]  # fmt: skip
