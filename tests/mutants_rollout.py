"""Mistakes in sampling, decoding, and finding models. Many are bugs that published trainers have had."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

SAMPLER = [
    ("sampling ignores the temperature", "        mass.div_(temperature)", "        mass.div_(1.0)"),
    ("temperature multiplies", "        mass.div_(temperature)", "        mass.mul_(temperature)"),
    ("a token without probability is drawn", "torch.searchsorted(cumulative, target, right=True)", "torch.searchsorted(cumulative, target)"),
    ("off by one block", "rest = target - (cumulative.gather(-1, block) - sums.gather(-1, block))", "rest = target - cumulative.gather(-1, block)"),
    ("log-probability not normalised", "/ total).log()", "/ 1.0).log()"),
    ("uniforms not scaled to the sum", "uniforms.double()[:, None] * total", "uniforms.double()[:, None]"),
    ("blocks summed in half precision", "in_blocks.sum(-1, dtype=torch.float64)", "in_blocks.bfloat16().sum(-1).double()"),
    ("the caller's logits change", "mass[:, :vocab] = logits", "mass[:, :vocab] = logits.mul_(2).div(2)"),
]  # fmt: skip

DECODING = [
    ("positions count padding", "self.positions = (self.mask.cumsum(-1) - 1).clamp(min=0)", "self.positions = torch.arange(self.mask.shape[1], device=self.mask.device).expand_as(self.mask)"),
    ("padding is attended to", "attention_mask=self.mask[:, : self.width]", "attention_mask=torch.ones_like(self.mask[:, : self.width])"),
    ("padded on the right", "tokens[row, self.width - len(prompt) :] = torch", "tokens[row, : len(prompt)] = torch"),
    ("a row draws its neighbour's numbers", "uniforms[live, step]", "uniforms[: len(live), step]"),
    ("every step draws the same number", "uniforms[live, step]", "uniforms[live, 0]"),
    ("samples draw the same numbers", "row.prompt.id, row.sample).random", "row.prompt.id).random"),
    ("purposes draw the same numbers", "generator(sampling.seed, purpose, row", "generator(sampling.seed, row"),
    ("the seed is not read", "generator(sampling.seed, purpose", "generator(0, purpose"),
    ("the cache keeps all rows' order wrong", "            batch.append(chosen)", "            batch.append(chosen.flip(0))"),
    ("the end token is dropped", "lengths[live[now]] = step + 1", "lengths[live[now]] = max(step, 1)"),
    ("an answer goes on after its end", "ended = ended | now\n", "ended = now\n"),
    ("the last of two ends counts", "torch.isin(chosen, stops) & ~ended", "torch.isin(chosen, stops)"),
    ("eos does not end an answer", "{renderer.end_of_turn} | ({eos} if eos is not None else set())", "{renderer.end_of_turn}"),
    ("dropout while sampling", "    model.eval()\n", "    model.train()\n"),
    ("training mode is lost", "            module.training = True", "            pass"),
    ("the adapter is off", "self.backbone.role(self.role)", "self.backbone.role(None)"),
    ("answers in the order they were made", "[self._rollout(row, policy_version) for row in rows]", "[self._rollout(rows[i], policy_version) for i in order]"),
    ("sampled in half precision", "return logits.float()", "return logits.bfloat16()"),
    ("NaN goes unnoticed", "if not np.isfinite(row.logprobs).all():", "if False:"),
]  # fmt: skip

CACHE = [
    ("old tokens are overwritten", "start = self.get_seq_length()\n", "start = 0\n"),
    ("rows are not selected", "self._keys, self._values = self._keys[indices], self._values[indices]", "pass"),
]  # fmt: skip

RESOLVE = [
    ("a bad path becomes the embedded model", 'raise UserError("no such model"', 'return _resolve("embedded", ()) or UserError("no such model"'),
    ("a bad path goes to the hub", "if not name or _looks_like_path(name):", "if not name:"),
    ("a circle goes unnoticed", "    if folder in on_the_way:", "    if False:"),
    ("a pickle is taken", '    elif not (folder / WEIGHTS).exists():', '    elif not list(folder.glob("*model*.*")):'),
    ("a misfit head is taken", "and trained_on != has", "and False"),
    ("missing shards are ignored", "if missing or not shards:", "if not shards:"),
    ("a policy serves as reward model", 'if use == "reward" and source.kind != "reward":', "if False:"),
]  # fmt: skip

TOKENIZER = [
    ("pad = eos stays", "ends = {tokenizer.eos_token_id, *_turn_ends(tokenizer, where)}", "ends = set(_turn_ends(tokenizer, where))"),
    ("pad = end of turn stays", "ends = {tokenizer.eos_token_id, *_turn_ends(tokenizer, where)}", "ends = {tokenizer.eos_token_id}"),
    ("another vocabulary counts as the same", "left.get_vocab() == right.get_vocab()\n", "len(left) == len(right)\n"),
]  # fmt: skip

TABLES = [
    ("rollout/sampler.py", SAMPLER, "rollout/test_sampler.py"),
    ("rollout/in_process.py", DECODING, "rollout/test_in_process.py"),
    ("rollout/cache.py", CACHE, "rollout/test_cache.py"),
    ("models/resolve.py", RESOLVE, "models/test_resolve.py"),
    ("models/tokenizer.py", TOKENIZER, "models/test_tokenizer.py"),
]
ROLLOUT = [Mutant(name, file, old, new, tests) for file, table, tests in TABLES for name, old, new in table]
