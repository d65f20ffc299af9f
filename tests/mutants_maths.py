"""Mistakes in the formulas, the batches and the seeds. Many are bugs that published trainers have had."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

MASKED = [
    ("whitening keeps the mean", "whiten: centred * torch.rsqrt(masked_mean(centred.square(), mask) + eps)", "torch.where(mask, centred * torch.rsqrt(masked_mean(centred.square(), mask) + eps) + masked_mean(x, mask), 0.0)"),
    ("whitening with the unbiased variance", "whiten: masked_mean(centred.square(), mask)", "centred.square().sum() / (mask.sum() - 1)"),
    ("whitening by row", "whiten: masked_mean(x, mask)", "torch.where(mask, x, 0.0).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)"),
    ("whitening leaves the padding", "whiten: torch.where(mask, x - masked_mean(x, mask), 0.0)", "x - masked_mean(x, mask)"),
    ("whitening divides by the variance", "whiten: centred * torch.rsqrt(masked_mean(centred.square(), mask) + eps)", "centred * 1 / (masked_mean(centred.square(), mask) + eps)"),
    ("mask multiplied, not selected", "masked_mean: torch.where(mask, x, 0.0)", "x * mask"),
    ("mean over padding too", "masked_mean: mask.sum().clamp(min=1)", "mask.numel()"),
]  # fmt: skip

LOGPROBS = [
    ("temperature ignored", 'token_logprobs: at_least_fp32(logits) / temperature', 'at_least_fp32(logits)'),
    ("temperature ignored when projecting", "_tiles: logits if temperature == 1 else logits.div_(temperature)", "logits if temperature else logits"),
    ("temperature ignored in the whole distribution", "_log_p: head(hidden).div_(temperature)", "head(hidden)"),
    ("temperature ignored in the gradient", '_LinearLogprobs.backward: head_derivative / ctx.temperature', "head_derivative"),
    ("logits multiplied by the temperature", 'token_logprobs: at_least_fp32(logits) / temperature', 'at_least_fp32(logits) * temperature'),
    ("log-softmax in half precision", 'token_logprobs: at_least_fp32(logits)', "logits"),
    ("entropy negative", "_logprob_stats: total.log() - mean", "mean - total.log()"),
    ("tiles are not shifted to one peak", "_logprob_stats: (peaks - top).exp()", "torch.ones_like(peaks)"),
    ("the mean logit is not shifted", "_logprob_stats: dots + (peaks - top) * sums", "dots"),
    ("a token of another tile is taken", "_logprob_stats: torch.where(inside, logits.gather(-1, at), picked[:, None])", "logits.gather(-1, at)"),
    ("a token is added in every tile", '_LinearLogprobs.backward: torch.where(inside, token_grad, 0.0)', "token_grad"),
    ("entropy gradient flipped", '_LinearLogprobs.backward: -entropy_grad', "entropy_grad"),
    ("entropy gradient without the entropy", '_LinearLogprobs.backward: log_p.add_(entropy[rows, None])', "log_p"),
    ("gradient of the other tokens lost", '_LinearLogprobs.backward: log_p.add_(entropy[rows, None]).mul_(-entropy_grad).sub_(token_grad)', "log_p.add_(entropy[rows, None]).mul_(-entropy_grad)"),
    ("all logits at once", '_LinearLogprobs.forward: zip(torch.split(hidden, chunk), torch.split(tokens, chunk), strict=True)', "zip([hidden], [tokens], strict=True)"),
    ("the head's slope at other logits", '_LinearLogprobs.backward: logits if ctx.temperature == 1 else logits * ctx.temperature', "logits"),
    ("no gradient of the bias", '_LinearLogprobs.backward: grad_bias[vocab_start:vocab_start + len(tile)] += logits_grad.sum(0)', "pass"),
    ("weight gradient of the last chunk only", '_LinearLogprobs.backward: grad_weight[vocab_start:vocab_start + len(tile)] += grad_matmul.T @ states', "grad_weight[vocab_start:vocab_start + len(tile)] = (grad_matmul.T @ states).float()"),
]  # fmt: skip

LOGITS = [
    ("the bias is dropped", "LogitsHead.from_matmul: self.bias is not None", "False"),
    ("every tile takes the first one's bias", "LogitsHead.from_matmul: self.bias[start:start + matmul.shape[-1]]", "self.bias[:matmul.shape[-1]]"),
    ("the bias is not scaled", "LogitsHead.from_matmul: logits.mul_(self.scale)", "logits.mul_(self.scale) + (0 if self.bias is None else (1 - self.scale) * self.bias[start:start + matmul.shape[-1]])"),
    ("logits are cut at the cap", "LogitsHead.from_matmul: logits.div_(self.softcap).tanh_() * self.softcap", "logits.clamp(-self.softcap, self.softcap)"),
    ("no gradient through the cap", "LogitsHead.derivative: (logits / self.softcap).square_().neg_().add_(1.0).mul_(self.scale)", "self.scale"),
    ("no gradient through the scale", "LogitsHead.derivative: (logits / self.softcap).square_().neg_().add_(1.0).mul_(self.scale)", "(logits / self.softcap).square_().neg_().add_(1.0)"),
]  # fmt: skip

KL = [
    ("KL sign flipped", 'k1: logprobs - ref_logprobs', 'ref_logprobs - logprobs'),
    ("KL clamped at zero", 'k1: logprobs - ref_logprobs', '(logprobs - ref_logprobs).clamp(min=0)'),
    ("KL absolute", 'k1: logprobs - ref_logprobs', '(logprobs - ref_logprobs).abs()'),
    ("k2 without the half", 'k2: (logprobs - ref_logprobs).square() / 2', '(logprobs - ref_logprobs).square()'),
    ("k3 sign", "k3: torch.expm1(-delta) + delta", "torch.expm1(delta) - delta"),
    ("k3 without the linear term", "k3: torch.expm1(-delta) + delta", "torch.expm1(-delta)"),
    ("adaptive without clip", "adaptive_coefficient: min(max(observed / target - 1.0, -0.2), 0.2)", "observed / target - 1.0"),
    ("adaptive the wrong way", "adaptive_coefficient: observed / target - 1.0", "1.0 - observed / target"),
    ("adaptive ignores the sequences", "adaptive_coefficient: error * sequences", "error"),
    ("adaptive divides by the target twice", "adaptive_coefficient: observed / target - 1.0", "(observed - 1.0) / target"),
]  # fmt: skip

ADVANTAGE = [
    ("reward on the first token", 'token_rewards: torch.where(response_mask, position, -1).amax', 'response_mask.int().argmax'),
    ("reward one place after the end token", "token_rewards: position == last", "position == last + 1"),
    ("reward one token early: end token masked", "token_rewards: position == last", "position == last - 1"),
    ("reward at the end of the batch", "token_rewards: position == last", 'position == response_mask.shape[1] - 1'),
    ("reward on every token", "token_rewards: position == last", 'response_mask'),
    ("KL paid out, not paid", 'token_rewards: -kl_coef', 'kl_coef'),
    ("KL of the prompt counted", 'token_rewards: torch.where(response_mask, kl, 0.0)', "kl"),
    ("value off by one", "gae: rewards[:, t] + gamma * next_value - values[:, t]", "rewards[:, t] + gamma * values[:, t] - next_value"),
    ("gamma and lambda swapped", "gae: gamma * next_value", "lam * next_value"),
    ("lambda without gamma", "gae: gamma * lam", "lam"),
    ("time runs forward", 'gae: reversed(response_mask.any(0).nonzero()[:, 0].tolist())', 'response_mask.any(0).nonzero()[:, 0].tolist()'),
    ("value of a gap is carried", 'gae: torch.where(response_mask[:, t], values[:, t], next_value)', "values[:, t]"),
    ("advantage of a gap is carried", 'gae: torch.where(response_mask[:, t], advantage, next_advantage)', "advantage"),
    ("advantage at padding", 'gae: torch.where(response_mask[:, t], advantage, 0.0)', "advantage"),
    ("bootstraps after the end", "gae: torch.zeros_like(values[:, 0])", "values[:, 0]"),
    ("explained variance of the values", 'explained_variance: _variance(returns, response_mask)', '_variance(values, response_mask)'),
    ("explained variance keeps the bias", "_variance: x - masked_mean(x, mask)", "x"),
    ("explained variance of the padding too", "_variance: masked_mean((x - masked_mean(x, mask)).square(), mask)", "masked_mean((x - masked_mean(x, mask)).square(), torch.ones_like(mask))"),
]  # fmt: skip

POLICY_LOSS = [
    ("min instead of max", "clipped_policy_loss: torch.maximum", "torch.minimum"),
    ("loss sign flipped", "clipped_policy_loss: torch.maximum(-advantages * ratio, -advantages * clipped)", "-torch.maximum(-advantages * ratio, -advantages * clipped)"),
    ("ratio upside down", "clipped_policy_loss: logprobs - old_logprobs", "old_logprobs - logprobs"),
    ("ratio without exp", "clipped_policy_loss: log_ratio.exp()", "log_ratio + 1.0"),
    ("clip on one side", "clipped_policy_loss: ratio.clamp(1.0 - clip_range, 1.0 + high)", "ratio.clamp(max=1.0 + high)"),
    ("no clip", "clipped_policy_loss: ratio.clamp(1.0 - clip_range, 1.0 + high)", "ratio"),
    ("log-ratio unguarded", "clipped_policy_loss: (logprobs - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)", "logprobs - old_logprobs"),
    ("value clip around the return", "clipped_value_loss: torch.clamp(values, old_values - clip_range, old_values + clip_range)", "torch.clamp(values, returns - clip_range, returns + clip_range)"),
    ("value loss takes the smaller", "clipped_value_loss: torch.maximum", "torch.minimum"),
    ("value loss without the half", "clipped_value_loss: 0.5 * torch.maximum(plain, (held - returns).square())", "torch.maximum(plain, (held - returns).square())"),
    ("unclipped value loss without the half", "clipped_value_loss: 0.5 * plain", "plain"),
]  # fmt: skip

PREFERENCE_LOSS = [
    ("margin sign", "bradley_terry: chosen - rejected - margin", "chosen - rejected + margin"),
    ("chosen and rejected swapped", "bradley_terry: chosen - rejected", "rejected - chosen"),
    ("log of a sigmoid that underflows", "bradley_terry: logsigmoid(chosen - rejected - margin)", "(chosen - rejected - margin).sigmoid().log()"),
    ("soft label for the other side", "soft_bradley_terry: -label * logsigmoid(difference) - (1.0 - label) * logsigmoid(-difference)", "-(1.0 - label) * logsigmoid(difference) - label * logsigmoid(-difference)"),
    ("soft label forgets the other side", "soft_bradley_terry: -label * logsigmoid(difference) - (1.0 - label) * logsigmoid(-difference)", "-label * logsigmoid(difference)"),
]  # fmt: skip

STATISTICS = [
    ("wilson without its z² term", 'score_bounds: (share + z ** 2 / (2 * n)) / (1 + z ** 2 / n)', "share"),
    ("wilson one-sided", "wilson_interval: 0.5 + confidence / 2", "confidence"),
    ("bootstrap lets NaN in", "_finite: not np.isfinite(array).all()", "np.isposinf(array).any()"),
]  # fmt: skip

PAIRED = [
    ("sign test one-sided", "sign_test: 2 * tail", "tail"),
    ("sign test without the observed count", "sign_test: range(fewer)", "range(fewer - 1)"),
]  # fmt: skip

REPETITION = [
    ("three-grams", "repeated_ngram_fraction: 4", "3"),
    ("last n-gram forgotten", "_ngrams: len(items) - n + 1", "len(items) - n"),
    ("unique share, not repeated", "repeated_ngram_fraction: 1.0 - len(set(grams)) / len(grams)", "len(set(grams)) / len(grams)"),
]  # fmt: skip

BATCHES = [
    ("no shift by one", 'shift_right: torch.cat([first, outputs[:, :-1]], dim=1)', 'outputs'),
    ("shift to the left", 'shift_right: [first, outputs[:, :-1]]', '[outputs[:, 1:], first]'),
    ("shift rolls the last to the front", 'shift_right: torch.zeros_like(outputs[:, :1])', 'outputs[:, -1:]'),
    ("padding is real", 'collate: attention_mask = torch.zeros(len(sequences), width, dtype=torch.bool)', 'attention_mask = torch.ones(len(sequences), width, dtype=torch.bool)'),
    ("padding is an action", 'collate: response_mask = torch.zeros(len(sequences), width, dtype=torch.bool)', 'response_mask = torch.ones(len(sequences), width, dtype=torch.bool)'),
    ("end token masked", 'collate: response_mask[row, :len(sequence)] = torch.as_tensor(list(flags), dtype=torch.bool)', 'response_mask[row, :len(sequence) - 1] = torch.as_tensor(list(flags)[:-1], dtype=torch.bool)'),
    ("padded with zeros", "collate: pad_token", "0"),
    ("rows keep the width of the batch", 'TokenBatch.select: max(int(attention_mask.sum(-1).max()), 1) if len(index) else 0', 'attention_mask.shape[1]'),
    ("budget without the row to come", "micro_batches: len(groups[-1]) + 1", "len(groups[-1])"),
    ("budget of the shortest row", "micro_batches: groups[-1][0]", "row"),
    ("a group loses its first row", "micro_batches: groups.append([row])", "groups.append([row] if not groups else [])"),
    ("rows in the order they came", "micro_batches: (-lengths[i], i)", "i"),
]  # fmt: skip

SEEDS = [
    ("names run together", "derive_seed: '\\x1f'", "''"),
    ("seed from Python's salted hash", "derive_seed: int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], 'big') >> 1", "hash(text) >> 1 & 2 ** 62 - 1"),
    ("root ignored", 'derive_seed: [str(root), *map(str, names)]', "[*map(str, names)]"),
    ("permutation the same every epoch", "permutation: generator(root, 'permutation', *names)", "generator(root, 'permutation')"),
    ("no shuffle", "permutation: [int(i) for i in generator(root, 'permutation', *names).permutation(count)]", "list(range(count))"),
]  # fmt: skip

TABLES = {
    ("maths/masked.py", "maths/test_masked.py"): MASKED,
    ("maths/logprobs.py", "maths/test_logprobs.py maths/test_logits.py"): LOGPROBS,
    ("maths/logits.py", "maths/test_logits.py"): LOGITS,
    ("maths/kl.py", "maths/test_kl.py"): KL,
    ("maths/advantage.py", "maths/test_advantage.py"): ADVANTAGE,
    ("maths/policy_loss.py", "maths/test_policy_loss.py"): POLICY_LOSS,
    ("maths/preference_loss.py", "maths/test_preference_loss.py"): PREFERENCE_LOSS,
    ("maths/statistics/intervals.py", "maths/test_statistics.py"): STATISTICS,
    ("maths/statistics/paired.py", "maths/test_statistics.py"): PAIRED,
    ("maths/repetition.py", "maths/test_repetition.py"): REPETITION,
    ("batches.py", "test_batches.py"): BATCHES,
    ("seeds.py", "test_seeds.py"): SEEDS,
}

MATHS = [
    Mutant(name, file, old, new, tests)
    for (file, tests), rows in TABLES.items()
    for name, old, new in rows
]  # fmt: skip
