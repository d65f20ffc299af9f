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
    ("blocks summed in half precision", "in_blocks.sum(-1).double()", "in_blocks.bfloat16().sum(-1).double()"),
    ("the caller's logits change", "mass[:, :vocab] = logits", "mass[:, :vocab] = logits.mul_(2).div(2)"),
]  # fmt: skip

ENGINE = [
    ("every step draws the same number", "row.uniforms[len(row.tokens)]", "row.uniforms[0]"),
    ("samples draw the same numbers", "purpose, prompt.id, sample)", "purpose, prompt.id)"),
    ("purposes draw the same numbers", "generator(sampling.seed, purpose, ", "generator(sampling.seed, "),
    ("the seed is not read", "generator(sampling.seed, purpose", "generator(0, purpose"),
    ("the tokens of moved rows go to their old slots", "chosen[kept]", "chosen[: len(kept)]"),
    ("rows and slots lose each other", "live, chosen = [live[i] for i in kept]", "live, chosen = [live[i] for i in sorted(kept)]"),
    ("the temperature is ignored", "draw(self.backbone.unembed(states).float(), uniforms, temperature)", "draw(self.backbone.unembed(states).float(), uniforms, 1.0)"),
    ("more prompts in a pass than may be", "(prompts + 1) * len(", "prompts * len("),
    ("a long prompt is read for every sample", "if together and not again and (", "if together and ("),
    ("sampled in half precision", "self.backbone.unembed(states).float()", "self.backbone.unembed(states).bfloat16()"),
    ("an answer is one token too long", "len(row.tokens) == sampling.max_tokens", "len(row.tokens) > sampling.max_tokens"),
    ("eos does not end an answer", "{renderer.end_of_turn, *backbone.ends}", "{renderer.end_of_turn}"),
    ("the end token is dropped", "response_tokens=tuple(row.tokens)", "response_tokens=tuple(row.tokens[:-1] or row.tokens)"),
    ("dropout while sampling", "    model.eval()\n", "    model.train()\n"),
    ("training mode is lost", "            module.training = True", "            pass"),
    ("the adapter is off", "self.backbone.role(self.role)", "self.backbone.role(None)"),
    ("answers in the order they were made", "[self._rollout(row, policy_version) for row in rows]", "[self._rollout(row, policy_version) for row in sorted(rows, key=lambda row: -len(row.prompt_tokens))]"),
    ("NaN goes unnoticed", "if not np.isfinite(row.logprobs).all():", "if False:"),
    ("different prompts share a reading", "if prompts and prompts[-1] == row.prompt_tokens:", "if prompts and len(prompts[-1]) == len(row.prompt_tokens):"),
    ("progress is counted twice", "on_progress(len(over))", "on_progress(2 * len(over))"),
]  # fmt: skip

LOGITS_HEAD = [
    ("a head of another kind is let through", "off[best] > tolerance(weight.dtype)", "off[best] > 1e9"),
    ("a head is only asked about ordinary logits", "SIZES = (0.0, 0.01, 1.0, 30.0, 1000.0)", "SIZES = (1.0,)"),
    ("a scale only ever multiplies", "scales += [number, 1 / number]", "scales += [number]"),
    ("numbers are believed by their names", "best = min(range(len(heads)), key=off.__getitem__)", "best = len(heads) - 1"),
]  # fmt: skip

WAYS = [
    ("decoding is not compared with the trunk", "next((way for way in ways if _agrees(backbone, way)), None)", "ways[0]"),
    ("only the first positions are tried", "if limits and offset > 0 and way != PLAIN:", "if False:"),
    ("all rows are of one length", "yield [long, min(2, long)], 0, shortened", "yield [long, long], 0, shortened"),
    ("long windows are not tried", "if size and size > LONG}", "if False}"),
    ("a window stays as it was tried", "for name, value in before.items():", "for name, value in values.items():"),
    ("a model that no way is right for goes on", "        if found is None:", "        found = found or PLAIN\n        if found is None:"),
]  # fmt: skip

KERNEL = [
    ("arguments are swallowed", "    require_known(others, masked={\"sliding_window\"})\n", ""),
    ("sinks take no weight", "if s_aux is not None:", "if False:"),
    ("scores are not capped", "if softcap is not None:", "if False:"),
]  # fmt: skip

POSITIONS = [
    ("a long row changes its batch", "if limit is not None and tokens > limit:", "if False:"),
    ("a dynamic rotation has no limit", 'elif "dynamic" in kind:', "elif False:"),
]  # fmt: skip

CHECK_OUTPUT = [
    ("logits of ordinary tokens may be 2 % off", "> tolerance(head.weight.dtype)", "> 0.1"),
]  # fmt: skip

DECODER = [
    ("a token stands one position late", "position_ids=at[:, None]", "position_ids=at[:, None] + 1"),
    ("free slots keep their states", "self.last = self._states(tokens, at, places)[:live]", "self.last = self._states(tokens, at, places)"),
    ("what lies beyond a row's end is attended to", "device=at.device) > at[:, None]", "device=at.device) > at.max()"),
    ("a row does not see its newest token", "device=at.device) > at[:, None]", "device=at.device) >= at[:, None]"),
    ("windows are not kept", "first = at - self._window + 1", "first = 0 * at"),
    ("windows one too long", "first = at - self._window + 1", "first = at - self._window"),
    ("a prompt ends at its padding", "torch.tensor(lengths, device=device)[:, None] - 1", "torch.full((count, 1), max(lengths) - 1)"),
    ("copies read the wrong prompt", "layout.where[source]", "layout.where[source.flip(0)]"),
    ("newcomers overwrite the first slots", "torch.arange(began, began + count, device=device)", "torch.arange(count, device=device)"),
    ("a hole keeps the old row's cache", "            self.cache.move(movers, holes)", "            pass"),
    ("lengths do not move", "[self.lengths[slot] for slot in order]", "self.lengths[:live]"),
    ("states do not move", "self.last = self.last[order]", "self.last = self.last[:live]"),
]  # fmt: skip

CACHE = [
    ("a row writes at its neighbours' place", "of_values[plan.rows, :, plan.at]", "of_values[plan.rows, :, plan.at.max()]"),
    ("values of one prompt serve all", "of_values[plan.slots, :, :width] = new_values.transpose(0, 1)", "of_values[plan.slots, :, :width] = new_values.transpose(0, 1)[:1]"),
    ("only the first line of a forward is kept", "t.transpose(0, 1).flatten(1, 2)[:, plan.where]", "t[:1].transpose(0, 1).flatten(1, 2)[:, plan.where % t.shape[2]]"),
    ("only values move", "for store in (*self.keys, *self.values):", "for store in self.values:"),
    ("what was never written may be anything", "keys.new_zeros((self.slots, heads, features, self.width), dtype=kept_as)", "keys.new_full((self.slots, heads, features, self.width), torch.nan, dtype=kept_as)"),
    ("what is new may be anything", "resized = store.new_zeros(shape)", "resized = store.new_full(shape, torch.nan)"),
    ("a wider table forgets", "resized.narrow(places, 0, kept).copy_(store.narrow(places, 0, kept))", "kept"),
    ("it never shrinks", " or 2 * longest <= self.width", ""),
]  # fmt: skip

ATTENTION = [
    ("no mask", ".add_(attention_mask)", ""),
    ("no scale", ".mul_(scale)", ""),
    ("a model's own scale is ignored", "features**-0.5 if scaling is None else scaling", "features**-0.5"),
    ("heads of a group stand apart", "query.reshape(rows, groups, heads // groups, features)", "query.reshape(rows, heads // groups, groups, features).transpose(1, 2)"),
]  # fmt: skip

PACKING = [
    ("positions go on from row to row", "packing.positions += range(start, end)", "packing.positions += range(place, place + end - start)"),
    ("rows share less than they agree in", "until = _agreed(rows[group[0]], rows[group[-1]])", "until = max(depth + 1, _agreed(rows[group[0]], rows[group[-1]]) - 1)"),
    ("rows share more than they agree in", "until = _agreed(rows[group[0]], rows[group[-1]])", "until = min(len(rows[group[0]]), _agreed(rows[group[0]], rows[group[-1]]) + 1)"),
    ("a cut row forgets its beginning", "before = (*before[:-1], (before[-1][0], here[1])) if joins else (*before, here)", "before = (here,)"),
    ("rows do not see what they share", "packing.segments.append(Segment(*here, before))", "packing.segments.append(Segment(*here, ()))"),
    ("sharing cannot be turned off", "_lay(packing, [tuple(row) for row in rows], order, 0, (), share)", "_lay(packing, rows, sorted(order, key=lambda row: rows[row]), 0, (), True)"),
    ("nothing is shared", "near = bool(groups) and share", "near = False and share"),
]  # fmt: skip

PACKED = [
    ("no scale", "transpose(1, 2), alpha=scale)", "transpose(1, 2))"),
    ("what is shared learns from one row alone", "totals.index_add_(0, keys, ", "totals.index_copy_(0, keys, "),
    ("the softmax's mean is forgotten", "torch._softmax_backward_data(of_weights, weights, -1, of_weights.dtype)", "(of_weights * weights)"),
    ("the scale of queries is forgotten backward", "ctx.batches.back).mul_(ctx.scale)", "ctx.batches.back)"),
    ("the scale of keys is forgotten backward", "of_keys.mul_(ctx.scale)", "of_keys"),
    ("fillers learn", ".index_fill_(0, batch.fillers, 0.0)", ""),
    ("windows are ignored", "not windowed and getattr", "getattr"),
    ("kept weights go to other batches", "weights = for_product(next(of_short))", "weights = for_product(kept[-1])"),
    ("capped scores are ignored", 'not windowed and getattr(config, "attn_logit_softcapping", None) is None', "not windowed"),
    ("it is taken without a look", "return agree(found, torch.cat(own), dtype)", "return True"),
]  # fmt: skip

SEGMENTS = [
    ("tokens see what comes after", "masked_fill_(later, -torch.inf)", "masked_fill_(later, 0.0)"),
    ("padded queries and keys are off by one", "torch.arange(visible) > before[:, None, None]", "torch.arange(visible) > 1 + before[:, None, None]"),
    ("every segment sees as much as the first", "> before[:, None, None]", "> before[:1, None, None]"),
    ("a key is another group's", "(keys[:, None] * groups + of_group)", "(keys[:, None] * groups + of_group.flip(0))"),
    ("results go to the place beside", "mine = torch.arange(len(segment))[:, None]", "mine = torch.arange(len(segment)).roll(1)[:, None]"),
    ("all batches begin at the first", "        began += len(alike) * heads * length\n", ""),
    ("no segments together", "count = min(TOGETHER, ", "count = min(1, "),
    ("as many as there are", "        while count > 1 and _weights(segments[:count]) > WEIGHTS:\n            count //= 2\n", ""),
    ("any with any", "_in_vain([*waiting, segment]) > FILLER", "False"),
]  # fmt: skip

PACKED_LINEAR = [
    ("adapters are left out while decoding", "y[:, :outputs].addmm_(y[:, outputs:], up, alpha=scale)", "pass"),
    ("a bias is not filled up for the adapter", "torch.cat([bias, bias.new_zeros(len(down))])", "torch.cat([bias, bias[-len(down) :]])"),
    ("the adapter's scale is left out while decoding", "alpha=scale)", "alpha=1.0)"),
    ("the first input's answer is given to all", "if x is not group.read:", "if group.read is None:"),
    ("what was read is kept for ever", "        if self.place == len(group.sizes) - 1:\n", "        if False:\n"),
    ("every member is the first", "part = group.parts[self.place]", "part = group.parts[0]"),
    ("layers stay packed", "                layer.forward = forward\n", "                pass\n"),
    ("biases are left out", "if any(base.bias is not None for base in bases) else None", "if False else None"),
    ("a large model is copied", "return fits and kinds", "return kinds"),
]  # fmt: skip

ONE_TOKEN = [
    ("any model is read this way", "return agree(found, expected, dtype)", "return True"),
    ("a model of other parts is read this way", "if {name for name, _ in layer.named_children()} != LAYER:", "if False:"),
    ("positions turn the other way", "torch.cat([-left, right], -1)", "torch.cat([left, -right], -1)"),
    ("halves are not exchanged", "torch.cat([second, first], -1)", "x"),
    ("what is hidden is seen", "hidden.to(kept_as).repeat_interleave", "hidden.to(kept_as).clamp(min=0).repeat_interleave"),
    ("groups see other rows' masks", ".repeat_interleave(self.groups, 0)", ".repeat(self.groups, 1)"),
    ("norms of heads are left out", "        if self.norms:\n", "        if False:\n"),
    ("scores are not scaled", "keys.flatten(0, 1), alpha=self.scale)", "keys.flatten(0, 1))"),
    ("a run cannot stop here", "        stopping.check()\n", "        pass\n"),
]  # fmt: skip

SLOTS = [
    ("the cache may be of any size", "max(FEWEST, int(CACHE // of_one))", "SLOTS"),
    ("a large cache leaves one slot", "max(FEWEST, int(CACHE // of_one))", "max(1, int(CACHE // of_one))"),
    ("more slots than answers", "return min(answers, most,", "return min(most,"),
    ("values are not counted", "int(2 * config.num_hidden_layers", "int(config.num_hidden_layers"),
    ("shared heads are counted each", 'getattr(config, "num_key_value_heads", None) or config', "config"),
]  # fmt: skip

LORA = [
    ("the scale is lost", "y.addmm_(low, for_product(up).T, alpha=scale)", "y.addmm_(low, for_product(up).T)"),
    ("inputs are never made again", "recipe_of(x))  # type: ignore[no-untyped-call]", "None)  # type: ignore[no-untyped-call]"),
    ("the scale is lost backward", "of_low = (of_y @ for_product(up)).mul_(ctx.scale)", "of_low = of_y @ for_product(up)"),
    ("the adapter sends no gradient on", ".addmm_(of_low, for_product(down)).to(dtype)", ".to(dtype)"),
    ("the base sends no gradient on", "(of_y @ for_product(weight)).addmm_(of_low, for_product(down))", "(of_low @ for_product(down))"),
    ("dropout is skipped", "if dropping or", "if"),
    ("adapters are always on", " and not self.layer.disable_adapters else None", " else None"),
    ("a kept cast outlives generation", "            forward.kept = None", "            pass"),
    ("merged in half precision", "y = F.linear(flat, for_product(weight), None if bias is None else for_product(bias))\n            y.addmm_(low, for_product(up).T, alpha=scale)", "y = F.linear(flat, for_product(weight + scale * up @ down), bias)"),
]  # fmt: skip

MADE_AGAIN = [
    ("a changed tensor is made as it was", " and recipe.version == tensor._version", ""),
    ("recipes hold the graph", "tuple(part.detach() for part in of)", "of"),
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
    ("rollout/in_process.py", ENGINE, "rollout/test_in_process.py"),
    (
        "rollout/decoder.py",
        DECODER,
        "rollout/test_decoder.py rollout/test_in_process.py properties/test_tokens_and_generation.py",
    ),
    ("rollout/attention.py", ATTENTION, "rollout/test_decoder.py"),
    ("models/packing.py", PACKING, "models/test_packing.py models/test_attention.py"),
    ("models/attention.py", PACKED, "models/test_attention.py"),
    ("models/made_again.py", MADE_AGAIN, "models/test_made_again.py"),
    ("models/segments.py", SEGMENTS, "models/test_segments.py models/test_attention.py"),
    (
        "models/backbone.py",
        [("rows share dropout", "share=not lora_linear.drops(self._layers)", "share=True")],
        "models/test_packing.py",
    ),
    ("models/packed_linear.py", PACKED_LINEAR, "models/test_packed_linear.py"),
    ("rollout/slots.py", SLOTS, "rollout/test_slots.py"),
    ("rollout/ways.py", WAYS, "rollout/test_ways.py"),
    ("rollout/attention.py", KERNEL, "rollout/test_ways.py"),
    ("models/positions.py", POSITIONS, "rollout/test_ways.py"),
    ("models/logits_head.py", LOGITS_HEAD, "models/test_logits_head.py"),
    ("models/check_output.py", CHECK_OUTPUT, "models/test_logits_head.py"),
    ("models/one_token.py", ONE_TOKEN, "models/test_one_token.py"),
    ("models/lora_linear.py", LORA, "models/test_lora_linear.py models/test_made_again.py"),
    ("rollout/cache.py", CACHE, "rollout/test_cache.py"),
    ("models/resolve.py", RESOLVE, "models/test_resolve.py"),
    ("models/tokenizer.py", TOKENIZER, "models/test_tokenizer.py"),
]
ROLLOUT = [Mutant(name, file, old, new, tests) for file, table, tests in TABLES for name, old, new in table]
