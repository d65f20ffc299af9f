"""Mistakes in the formulas, the batches and the seeds. Many are bugs that published trainers have had."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

MASKED = [
    ("whitening keeps the mean", "    return centred * torch.rsqrt(masked_mean(centred.square(), mask) + eps)", "    return torch.where(mask, centred * torch.rsqrt(masked_mean(centred.square(), mask) + eps) + masked_mean(x, mask), 0.0)"),
    ("whitening with the unbiased variance", "masked_mean(centred.square(), mask) + eps", "centred.square().sum() / (mask.sum() - 1) + eps"),
    ("whitening by row", "x - masked_mean(x, mask)", "x - torch.where(mask, x, 0.0).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)"),
    ("whitening leaves the padding", "torch.where(mask, x - masked_mean(x, mask), 0.0)", "x - masked_mean(x, mask)"),
    ("whitening divides by the variance", "torch.rsqrt(masked_mean(centred.square(), mask) + eps)", "1 / (masked_mean(centred.square(), mask) + eps)"),
    ("mask multiplied, not selected", "torch.where(mask, x, 0.0).sum() /", "(x * mask).sum() /"),
    ("mean over padding too", "mask.sum().clamp(min=1)", "mask.numel()"),
]  # fmt: skip

LOGPROBS = [
    ("temperature ignored", "_wide(logits) / temperature", "_wide(logits)"),
    ("temperature ignored when projecting", "if temperature == 1 else logits.div_(temperature)", "if temperature else logits"),
    ("temperature ignored in the whole distribution", "head(hidden).div_(temperature)", "head(hidden)"),
    ("temperature ignored in the gradient", "of_step / ctx.temperature", "of_step"),
    ("logits multiplied by the temperature", "_wide(logits) / temperature", "_wide(logits) * temperature"),
    ("log-softmax in half precision", "torch.log_softmax(_wide(logits)", "torch.log_softmax((logits)"),
    ("entropy negative", "total.log() - mean,", "mean - total.log(),"),
    ("tiles are not shifted to one peak", "shift = (peaks - top).exp()", "shift = torch.ones_like(peaks)"),
    ("the mean logit is not shifted", "dots + (peaks - top) * sums", "dots"),
    ("a token of another tile is taken", "torch.where(inside, logits.gather(-1, at), picked[:, None])", "logits.gather(-1, at)"),
    ("a token is added in every tile", "torch.where(inside, token_slope, 0.0)", "token_slope"),
    ("entropy gradient flipped", ".mul_(-entropy_slope)", ".mul_(entropy_slope)"),
    ("entropy gradient without the entropy", "log_p.add_(entropy[rows, None])", "log_p"),
    ("gradient of the other tokens lost", ".sub_(token_slope)", ""),
    ("all logits at once", "torch.split(hidden, chunk), torch.split(tokens, chunk)", "[hidden], [tokens]"),
    ("the head's slope at other logits", "head.slope(logits if ctx.temperature == 1 else logits * ctx.temperature)", "head.slope(logits)"),
    ("no gradient of the bias", "of_bias[place : place + len(tile)] += slope.sum(0)", "pass"),
    ("weight gradient of the last chunk only", "of_weight[place : place + len(tile)] += of_products.T @ states", "of_weight[place : place + len(tile)] = (of_products.T @ states).float()"),
]  # fmt: skip

LOGITS = [
    ("the bias is dropped", "if self.bias is not None:", "if False:"),
    ("every tile takes the first one's bias", "self.bias[start : start + product.shape[-1]]", "self.bias[: product.shape[-1]]"),
    ("the bias is not scaled", "logits = logits.mul_(self.scale)", "logits = logits.mul_(self.scale) + (0 if self.bias is None else (1 - self.scale) * self.bias[start : start + product.shape[-1]])"),
    ("logits are cut at the cap", "logits = logits.div_(self.softcap).tanh_() * self.softcap", "logits = logits.clamp(-self.softcap, self.softcap)"),
    ("no gradient through the cap", "(logits / self.softcap).square_().neg_().add_(1.0).mul_(self.scale)", "self.scale"),
    ("no gradient through the scale", ".neg_().add_(1.0).mul_(self.scale)", ".neg_().add_(1.0)"),
]  # fmt: skip

KL = [
    ("KL sign flipped", "return logprobs - reference_logprobs", "return reference_logprobs - logprobs"),
    ("KL clamped at zero", "return logprobs - reference_logprobs", "return (logprobs - reference_logprobs).clamp(min=0)"),
    ("KL absolute", "return logprobs - reference_logprobs", "return (logprobs - reference_logprobs).abs()"),
    ("k2 without the half", ".square() / 2", ".square()"),
    ("k3 sign", "torch.expm1(-delta) + delta", "torch.expm1(delta) - delta"),
    ("k3 without the linear term", "torch.expm1(-delta) + delta", "torch.expm1(-delta)"),
    ("adaptive without clip", "min(max(observed / target - 1.0, -0.2), 0.2)", "observed / target - 1.0"),
    ("adaptive the wrong way", "observed / target - 1.0", "1.0 - observed / target"),
    ("adaptive ignores the sequences", "error * sequences / horizon", "error / horizon"),
    ("adaptive divides by the target twice", "observed / target - 1.0", "(observed - 1.0) / target"),
]  # fmt: skip

ADVANTAGE = [
    ("reward on the first token", "torch.where(action, position, -1).amax(dim=1, keepdim=True)", "action.int().argmax(dim=1, keepdim=True)"),
    ("reward one place after the end token", "position == last, reward", "position == last + 1, reward"),
    ("reward one token early: end token masked", "position == last, reward", "position == last - 1, reward"),
    ("reward at the end of the batch", "position == last, reward", "position == action.shape[1] - 1, reward"),
    ("reward on every token", "position == last, reward", "action, reward"),
    ("KL paid out, not paid", "price = -kl_coefficient", "price = kl_coefficient"),
    ("KL of the prompt counted", "torch.where(action, kl, 0.0)", "kl"),
    ("value off by one", "gamma * next_value - values[:, t]", "gamma * values[:, t] - next_value"),
    ("gamma and lambda swapped", "+ gamma * next_value", "+ lam * next_value"),
    ("lambda without gamma", "gamma * lam * next_advantage", "lam * next_advantage"),
    ("time runs forward", "for t in reversed(action.any(0).nonzero()[:, 0].tolist())", "for t in action.any(0).nonzero()[:, 0].tolist()"),
    ("value of a gap is carried", "next_value = torch.where(action[:, t], values[:, t], next_value)", "next_value = values[:, t]"),
    ("advantage of a gap is carried", "next_advantage = torch.where(action[:, t], advantage, next_advantage)", "next_advantage = advantage"),
    ("advantage at padding", "advantages[:, t] = torch.where(action[:, t], advantage, 0.0)", "advantages[:, t] = advantage"),
    ("bootstraps after the end", "next_value = torch.zeros_like(values[:, 0])", "next_value = values[:, 0]"),
    ("explained variance of the values", "spread = _variance(returns, action)", "spread = _variance(values, action)"),
    ("explained variance keeps the bias", "(x - masked_mean(x, mask)).square()", "x.square()"),
    ("explained variance of the padding too", "masked_mean(x, mask)).square(), mask)", "masked_mean(x, mask)).square(), torch.ones_like(mask))"),
]  # fmt: skip

POLICY_LOSS = [
    ("min instead of max", "torch.maximum(-advantages * ratio", "torch.minimum(-advantages * ratio"),
    ("loss sign flipped", "torch.maximum(-advantages * ratio, -advantages * clipped)", "-torch.maximum(-advantages * ratio, -advantages * clipped)"),
    ("ratio upside down", "(logprobs - old_logprobs).clamp", "(old_logprobs - logprobs).clamp"),
    ("ratio without exp", "log_ratio.exp()", "log_ratio + 1.0"),
    ("clip on one side", "ratio.clamp(1.0 - clip_range, 1.0 + high)", "ratio.clamp(max=1.0 + high)"),
    ("no clip", "ratio.clamp(1.0 - clip_range, 1.0 + high)", "ratio"),
    ("log-ratio unguarded", ".clamp(-LOG_RATIO_GUARD, LOG_RATIO_GUARD)", ""),
    ("value clip around the return", "old_values - clip_range, old_values + clip_range)\n    return", "returns - clip_range, returns + clip_range)\n    return"),
    ("value loss takes the smaller", "torch.maximum(plain, (held", "torch.minimum(plain, (held"),
    ("value loss without the half", "0.5 * torch.maximum(plain", "torch.maximum(plain"),
    ("unclipped value loss without the half", "return 0.5 * plain", "return plain"),
]  # fmt: skip

PREFERENCE_LOSS = [
    ("margin sign", "-logsigmoid(chosen - rejected - margin)", "-logsigmoid(chosen - rejected + margin)"),
    ("chosen and rejected swapped", "-logsigmoid(chosen - rejected - margin)", "-logsigmoid(rejected - chosen - margin)"),
    ("log of a sigmoid that underflows", "-logsigmoid(chosen - rejected - margin)", "-(chosen - rejected - margin).sigmoid().log()"),
    ("soft label for the other side", "-label * logsigmoid(difference) - (1.0 - label) *", "-(1.0 - label) * logsigmoid(difference) - label *"),
    ("soft label forgets the other side", " - (1.0 - label) * logsigmoid(-difference)", ""),
    ("dpo without its reference", "(policy_chosen - reference_chosen), beta * (policy_rejected - reference_rejected)", "(policy_chosen), beta * (policy_rejected)"),
    ("dpo beta on one side", "beta * (policy_rejected", "(policy_rejected"),
]  # fmt: skip

STATISTICS = [
    ("wilson without its z² term", "(share + z**2 / (2 * n)) / (1 + z**2 / n)", "share"),
    ("wilson one-sided", "inv_cdf(0.5 + confidence / 2)", "inv_cdf(confidence)"),
    ("bootstrap unpaired", "return bootstrap_mean(second - first, draws, seed, confidence)", "a, b = bootstrap_mean(first, draws, seed, confidence), bootstrap_mean(second, draws, seed + 1, confidence)\n    return Interval(b.mean - a.mean, b.low - a.high, b.high - a.low)"),
    ("left minus right", "second - first", "first - second"),
    ("bootstrap of half samples", "(min(rows, draws - done), len(sample))", "(min(rows, draws - done), len(sample) // 2 + 1)"),
    ("bootstrap one-sided", "[0.5 - confidence / 2, 0.5 + confidence / 2]", "[1 - confidence, confidence]"),
    ("bootstrap seed ignored", "default_rng(seed)", "default_rng(0)"),
    ("bootstrap lets NaN in", "if not np.isfinite(array).all()", "if np.isposinf(array).any()"),
    ("sign test one-sided", "2 * tail / 2**n", "tail / 2**n"),
    ("sign test without the observed count", "for k in range(fewer)", "for k in range(fewer - 1)"),
]  # fmt: skip

REPETITION = [
    ("three-grams", "n: int = 4", "n: int = 3"),
    ("last n-gram forgotten", "len(items) - n + 1", "len(items) - n"),
    ("unique share, not repeated", "1.0 - len(set(grams)) / len(grams)", "len(set(grams)) / len(grams)"),
]  # fmt: skip

BATCHES = [
    ("no shift by one", "torch.cat([first, at_position[:, :-1]], dim=1)", "at_position"),
    ("shift to the left", "torch.cat([first, at_position[:, :-1]], dim=1)", "torch.cat([at_position[:, 1:], first], dim=1)"),
    ("shift rolls the last to the front", "torch.zeros_like(at_position[:, :1])", "at_position[:, -1:]"),
    ("padding is real", "real = torch.zeros(len(sequences), width, dtype=torch.bool)", "real = torch.ones(len(sequences), width, dtype=torch.bool)"),
    ("padding is an action", "action = torch.zeros(len(sequences), width, dtype=torch.bool)", "action = torch.ones(len(sequences), width, dtype=torch.bool)"),
    ("end token masked", "action[row, : len(sequence)] = torch.as_tensor(list(flags), dtype=torch.bool)", "action[row, : len(sequence) - 1] = torch.as_tensor(list(flags)[:-1], dtype=torch.bool)"),
    ("padded with zeros", "(len(sequences), width), pad_token,", "(len(sequences), width), 0,"),
    ("rows keep the width of the batch", "max(int(real.sum(-1).max()), 1) if len(index) else 0", "real.shape[1]"),
    ("budget without the row to come", "(len(groups[-1]) + 1) * longest <= token_budget", "len(groups[-1]) * longest <= token_budget"),
    ("budget of the shortest row", "lengths[groups[-1][0]]", "lengths[row]"),
    ("a group loses its first row", "groups.append([row])", "groups.append([row] if not groups else [])"),
    ("rows in the order they came", "key=lambda i: (-lengths[i], i)", "key=lambda i: i"),
]  # fmt: skip

SEEDS = [
    ("names run together", '"\\x1f".join', '"".join'),
    ("seed from Python's salted hash", 'int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1', "hash(text) >> 1 & (2**62 - 1)"),
    ("root ignored", "[str(root), *map(str, names)]", "[*map(str, names)]"),
    ("permutation the same every epoch", 'generator(root, "permutation", *names)', 'generator(root, "permutation")'),
    ("no shuffle", '[int(i) for i in generator(root, "permutation", *names).permutation(count)]', "list(range(count))"),
]  # fmt: skip

TABLES = {
    ("maths/masked.py", "maths/test_masked.py"): MASKED,
    ("maths/logprobs.py", "maths/test_logprobs.py maths/test_logits.py"): LOGPROBS,
    ("maths/logits.py", "maths/test_logits.py"): LOGITS,
    ("maths/kl.py", "maths/test_kl.py"): KL,
    ("maths/advantage.py", "maths/test_advantage.py"): ADVANTAGE,
    ("maths/policy_loss.py", "maths/test_policy_loss.py"): POLICY_LOSS,
    ("maths/preference_loss.py", "maths/test_preference_loss.py"): PREFERENCE_LOSS,
    ("maths/statistics.py", "maths/test_statistics.py"): STATISTICS,
    ("maths/repetition.py", "maths/test_repetition.py"): REPETITION,
    ("batches.py", "test_batches.py"): BATCHES,
    ("seeds.py", "test_seeds.py"): SEEDS,
}

MATHS = [
    Mutant(name, file, old, new, tests)
    for (file, tests), rows in TABLES.items()
    for name, old, new in rows
]  # fmt: skip
