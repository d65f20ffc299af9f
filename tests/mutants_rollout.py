"""Mistakes in sampling, decoding, and finding models. Many are bugs that published trainers have had."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

SAMPLER = [
    ("sampling ignores the temperature", 'sample_tokens: mass.div_(temperature)', "mass.div_(1.0)"),
    ("temperature multiplies", 'sample_tokens: mass.div_', "mass.mul_"),
    ("a token without probability is drawn", '_first_exceeding: torch.searchsorted(cumulative, target, right=True)', "torch.searchsorted(cumulative, target)"),
    ("off by one block", 'sample_tokens: cumulative.gather(-1, block) - sums.gather(-1, block)', "cumulative.gather(-1, block)"),
    ("log-probability not normalised", 'sample_tokens: mass.gather(-1, tokens).double() / total', "mass.gather(-1, tokens).double() / 1.0"),
    ("uniforms not scaled to the sum", 'sample_tokens: uniforms.double()[:, None] * total', "uniforms.double()[:, None]"),
    ("blocks summed in half precision", 'sample_tokens: in_blocks.sum', "in_blocks.bfloat16().sum"),
    ("the caller's logits change", 'sample_tokens: mass[:, :vocab] = logits', "mass[:, :vocab] = logits.mul_(2).div(2)"),
]  # fmt: skip

ENGINE = [
    ("every step draws the same number", 'InProcessEngine._sample: len(row.tokens)', "0"),
    ("samples draw the same numbers", "InProcessEngine._rows: generator(sampling.seed, purpose, prompt.id, sample)", "generator(sampling.seed, purpose, prompt.id)"),
    ("purposes draw the same numbers", "InProcessEngine._rows: generator(sampling.seed, purpose, prompt.id, sample)", "generator(sampling.seed, prompt.id, sample)"),
    ("the seed is not read", "InProcessEngine._rows: sampling.seed", "0"),
    ("the tokens of moved rows go to their old slots", 'InProcessEngine._generate: chosen[kept]', "chosen[:len(kept)]"),
    ("rows and slots lose each other", 'InProcessEngine._generate: [live[i] for i in kept]', "[live[i] for i in sorted(kept)]"),
    ("the temperature is ignored", 'InProcessEngine._sample_tokens: temperature', "1.0"),
    ("more prompts in a pass than may be", '_prefill_batches: prompts + 1', "prompts"),
    ("a long prompt is read for every sample", '_prefill_batches: batch and (not repeated) and ((prompts + 1) * len(batch[0].prompt_tokens) > MAX_PREFILL_TOKENS)', 'batch and (prompts + 1) * len(batch[0].prompt_tokens) > MAX_PREFILL_TOKENS'),
    ("sampled in half precision", 'InProcessEngine._sample_tokens: self.backbone.logits(states).float', "self.backbone.logits(states).bfloat16"),
    ("a response is one token too long", 'InProcessEngine._generate: len(row.tokens) == sampling.max_tokens', "len(row.tokens) > sampling.max_tokens"),
    ("eos does not end a response", "InProcessEngine.__init__: {renderer.end_of_turn, *backbone.end_tokens}", "{renderer.end_of_turn}"),
    ("the end token is dropped", "InProcessEngine._rollout: tuple(row.tokens)", "tuple(row.tokens[:-1] or row.tokens)"),
    ("dropout while sampling", "_eval_mode: model.eval", "model.train"),
    ("training mode is lost", "_eval_mode: module.training = True", "pass"),
    ("the adapter is off", "InProcessEngine.generate: self.role", "None"),
    ("responses in the order they were made", "InProcessEngine.generate: [self._rollout(row, policy_version) for row in rows]", "[self._rollout(row, policy_version) for row in sorted(rows, key=lambda row: -len(row.prompt_tokens))]"),
    ("NaN goes unnoticed", "InProcessEngine.generate: not np.isfinite(row.logprobs).all()", "False"),
    ("different prompts share a reading", '_prefill: prompts[-1] == row.prompt_tokens', "len(prompts[-1]) == len(row.prompt_tokens)"),
    ("progress is counted twice", 'InProcessEngine._generate: len(finished)', "2 * len(finished)"),
]  # fmt: skip

LOGITS_HEAD = [
    ("a head of another kind is let through", 'detect_head: tolerance(weight.dtype)', "1000000000.0"),
    ("a head is only asked about ordinary logits", "<module>: (0.0, 0.01, 1.0, 30.0, 1000.0)", "(1.0,)"),
    ("a scale only ever multiplies", "_candidates: [number, 1 / number]", "[number]"),
    ("numbers are believed by their names", 'detect_head: min(range(len(heads)), key=off.__getitem__)', "len(heads) - 1"),
]  # fmt: skip

WAYS = [
    ("decoding is not compared with the trunk", 'fastest_decoder: next((way for way in ways if _is_exact(backbone, way)), None)', "ways[0]"),
    ("only the first positions are tried", '_cases: limits and offset > 0 and (way != ROW_BY_ROW)', "False"),
    ("all rows are of one length", "_cases: min(2, long)", "long"),
    ("long windows are not tried", '_cases: size and size > LONG_WINDOW', "False"),
    ("a window stays as it was tried", '_overridden: try:\n    for name, value in values.items():\n        setattr(config, name, value)\n    yield\nfinally:\n    for name, value in before.items():\n        setattr(config, name, value)', "try:\n    for name, value in values.items():\n        setattr(config, name, value)\n    yield\nfinally:\n    for name, value in values.items():\n        setattr(config, name, value)"),
    ("a model that no way is right for goes on", 'fastest_decoder: found = next((way for way in ways if _is_exact(backbone, way)), None)', 'found = next((way for way in ways if _is_exact(backbone, way)), None)\nfound = found or ROW_BY_ROW'),
]  # fmt: skip

KERNEL = [
    ("arguments are swallowed", "decode_attention: reject_unknown_arguments(others, masked={'sliding_window'})", "pass"),
    ("sinks take no weight", "decode_attention: s_aux is not None", "False"),
    ("scores are not capped", "decode_attention: softcap is not None", "False"),
]  # fmt: skip

POSITIONS = [
    ("a long row changes its batch", 'check_position_limit: tokens > limit', "False"),
    ("a dynamic rotation has no limit", "_limits: 'dynamic' in kind", "False"),
]  # fmt: skip

CHECK_OUTPUT = [
    ("logits of ordinary tokens may be 2 % off", 'check_logits: tolerance(head.weight.dtype)', "0.1"),
]  # fmt: skip

DECODER = [
    ("a token stands one position late", "Decoder._states: positions[:, None]", "positions[:, None] + 1"),
    ("free slots keep their states", "Decoder.append: self._states(tokens, positions, width)[:live]", "self._states(tokens, positions, width)"),
    ("what lies beyond a row's end is attended to", '_causal_mask: positions[:, None]', "positions.max()"),
    ("a row does not see its newest token", '_causal_mask: torch.arange(width, device=positions.device) > positions[:, None]', "torch.arange(width, device=positions.device) >= positions[:, None]"),
    ("windows are not kept", "Decoder._mask: positions - self._window + 1", "0 * positions"),
    ("windows one too long", "Decoder._mask: positions - self._window + 1", "positions - self._window"),
    ("a prompt ends at its padding", "Decoder.prefill: torch.tensor(lengths, device=device)[:, None] - 1", "torch.full((count, 1), max(lengths) - 1)"),
    ("copies read the wrong prompt", "Decoder.prefill: layout.token_index[source]", "layout.token_index[source.flip(0)]"),
    ("newcomers overwrite the first slots", "Decoder.prefill: torch.arange(first, first + count, device=device)", "torch.arange(count, device=device)"),
    ("a hole keeps the old row's cache", "Decoder.drop: self.cache.copy_slots(movers, holes)", "pass"),
    ("lengths do not move", "Decoder.drop: [self.lengths[slot] for slot in order]", "self.lengths[:live]"),
    ("states do not move", "Decoder.drop: self.last_states[order]", "self.last_states[:live]"),
]  # fmt: skip

CACHE = [
    ("a row writes at its neighbours' place", 'KVCache.append: all_values[plan.rows, :, plan.positions]', 'all_values[plan.rows, :, plan.positions.max()]'),
    ("values of one prompt serve all", 'KVCache.store: new_values.transpose(0, 1)', "new_values.transpose(0, 1)[:1]"),
    ("only the first line of a forward is kept", 'KVCache.store: t.transpose(0, 1).flatten(1, 2)[:, plan.token_index]', "t[:1].transpose(0, 1).flatten(1, 2)[:, plan.token_index % t.shape[2]]"),
    ("only values move", 'KVCache.copy_slots: (*self.keys, *self.values)', "self.values"),
    ("what was never written may be anything", 'KVCache.store: keys.new_zeros((self.slots, heads, features, self.width), dtype=dtype)', 'keys.new_full((self.slots, heads, features, self.width), torch.nan, dtype=dtype)'),
    ("what is new may be anything", '_resize: store.new_zeros(shape)', "store.new_full(shape, torch.nan)"),
    ("a wider table forgets", '_resize: resized.narrow(dim, 0, kept).copy_(store.narrow(dim, 0, kept))', "kept"),
    ("it never shrinks", 'KVCache.reserve: longest > self.width or 2 * longest <= self.width', "longest > self.width"),
]  # fmt: skip

ATTENTION = [
    ("no mask", "decode_attention: torch.baddbmm(mask.to(key.dtype), grouped, keys.transpose(1, 2), alpha=scale)", "(grouped @ keys.transpose(1, 2)) * scale"),
    ("no mask beside a cap", "decode_attention: scores.add_(mask)", "scores"),
    ("no scale", "decode_attention: torch.baddbmm(mask.to(key.dtype), grouped, keys.transpose(1, 2), alpha=scale)", "torch.baddbmm(mask.to(key.dtype), grouped, keys.transpose(1, 2))"),
    ("no scale beside a cap", "decode_attention: (grouped @ keys.transpose(1, 2)).float().mul_(scale)", "(grouped @ keys.transpose(1, 2)).float()"),
    ("a model's own scale is ignored", "decode_attention: features ** (-0.5) if scaling is None else scaling", "features ** (-0.5)"),
    ("heads of a group stand apart", "decode_attention: query.reshape(rows * groups, heads // groups, features)", "query.reshape(rows, heads // groups, groups, features).transpose(1, 2).flatten(0, 1)"),
]  # fmt: skip

PACKING = [
    ("positions go on from row to row", '_add_segments: range(start, end)', "range(index, index + end - start)"),
    ("rows share less than they agree in", '_pack_group: _common_prefix(rows[group[0]], rows[group[-1]])', 'max(depth + 1, _common_prefix(rows[group[0]], rows[group[-1]]) - 1)'),
    ("rows share more than they agree in", '_pack_group: _common_prefix(rows[group[0]], rows[group[-1]])', 'min(len(rows[group[0]]), _common_prefix(rows[group[0]], rows[group[-1]]) + 1)'),
    ("a truncated row forgets its beginning", '_add_segments: (*before[:-1], (before[-1][0], here[1])) if joins else (*before, here)', "(here,)"),
    ("rows do not see what they share", '_add_segments: Segment(*here, before)', "Segment(*here, ())"),
    ("sharing cannot be turned off", 'pack_rows: _pack_group(packing, [tuple(row) for row in rows], order, 0, (), share)', '_pack_group(packing, rows, sorted(order, key=lambda row: rows[row]), 0, (), True)'),
    ("nothing is shared", '_pack_group: bool(groups)', "False"),
]  # fmt: skip

PACKED = [
    ("no scale", '_weights: torch.baddbmm(mask, rows, _gather(keys, batch.keys, mask).transpose(1, 2), alpha=scale)', 'torch.baddbmm(mask, rows, _gather(keys, batch.keys, mask).transpose(1, 2))'),
    ("what is shared learns from one row alone", '_scatter_add: totals.index_add_', "totals.index_copy_"),
    ("the softmax's mean is forgotten", '_Attention.backward: torch._softmax_backward_data(grad_weights, weights, -1, grad_weights.dtype)', 'grad_weights * weights'),
    ("the scale of queries is forgotten backward", '_Attention.backward: grad_queries.index_select(0, ctx.batches.output_index).mul_(ctx.scale)', 'grad_queries.index_select(0, ctx.batches.back)'),
    ("the scale of keys is forgotten backward", '_Attention.backward: grad_keys.mul_(ctx.scale)', 'grad_keys'),
    ("fillers learn", '_Attention.backward: grad_tokens.index_select(0, batch.queries).index_fill_(0, batch.padding, 0.0)', 'grad_tokens.index_select(0, batch.queries)'),
    ("windows are ignored", "is_full_attention: not windowed and getattr(config, 'attn_logit_softcapping', None) is None", "getattr(config, 'attn_logit_softcapping', None) is None"),
    ("kept weights go to other batches", '_Attention.backward: next(saved_weights)', "saved[-1]"),
    ("capped scores are ignored", "is_full_attention: not windowed and getattr(config, 'attn_logit_softcapping', None) is None", "not windowed"),
    ("it is taken without a look", 'is_packing_equivalent: outputs_match(found, torch.cat(own), dtype)', "True"),
]  # fmt: skip

SEGMENTS = [
    ("tokens see what comes after", "batch_segments: -torch.inf", "0.0"),
    ("padded queries and keys are off by one", "batch_segments: before[:, None, None]", "1 + before[:, None, None]"),
    ("every segment sees as much as the first", "batch_segments: before[:, None, None]", "before[:1, None, None]"),
    ("a key is another group's", "batch_segments: keys[:, None] * groups + of_group", "keys[:, None] * groups + of_group.flip(0)"),
    ("results go to the place beside", "batch_segments: torch.arange(len(segment))", "torch.arange(len(segment)).roll(1)"),
    ("all batches begin at the first", 'batch_segments: began += len(bucket) * heads * length', "pass"),
    ("no segments together", '_split: MAX_BATCH', "1"),
    ("as many as there are", '_split: while count > 1 and _attention_weights(segments[:count]) > MAX_BATCH_WEIGHTS:\n    count //= 2', "pass"),
    ("any with any", '_bucket: _padding_waste([*waiting, segment]) > MAX_PADDING', "False"),
]  # fmt: skip

PACKED_LINEAR = [
    ("adapters are left out while decoding", '_FusedLinear.multiply: y[:, :outputs].addmm_(y[:, outputs:], up, alpha=scale)', "pass"),
    ("a bias is not filled up for the adapter", '_FusedLinear.__init__: bias.new_zeros(len(down))', "bias[-len(down):]"),
    ("the adapter's scale is left out while decoding", '_FusedLinear.multiply: y[:, :outputs].addmm_(y[:, outputs:], up, alpha=scale)', "y[:, :outputs].addmm_(y[:, outputs:], up, alpha=1.0)"),
    ("the first input's answer is given to all", '_FusedSlice.__call__: x is not group.last_input', "group.last_input is None"),
    ("what was read is kept for ever", '_FusedSlice.__call__: self.index == len(group.sizes) - 1', "False"),
    ("every member is the first", '_FusedSlice.__call__: group.outputs[self.index]', "group.outputs[0]"),
    ("layers stay packed", "packed_linears: layer.forward = forward", "pass"),
    ("biases are left out", '_FusedLinear.__init__: any((base.bias is not None for base in bases))', "False"),
    ("a large model is copied", "can_pack: fits and kinds == {('cpu', torch.bfloat16)} and (_multiplies_in_fp32() or _has_exact_packed_matmul(torch.bfloat16))", "kinds == {('cpu', torch.bfloat16)} and (_multiplies_in_fp32() or _has_exact_packed_matmul(torch.bfloat16))"),
]  # fmt: skip

ONE_TOKEN = [
    ("any model is read this way", "is_equivalent: outputs_match(found, expected, dtype)", "True"),
    ("a model of other parts is read this way", '_has_llama_layout: {name for name, _ in layer.named_children()} != LAYER_MODULES', "False"),
    ("positions turn the other way", 'LlamaDecodeStep.__call__: [-left, right]', "[left, -right]"),
    ("halves are not exchanged", '_apply_rotary: (x * cosines).add_(torch.cat([second, first], -1).mul_(sines))', "(x * cosines).add_(x.mul_(sines))"),
    ("what is hidden is seen", 'LlamaDecodeStep.__call__: mask.to(cache_dtype)', "mask.to(cache_dtype).clamp(min=0)"),
    ("groups see other rows' masks", 'LlamaDecodeStep.__call__: mask.to(cache_dtype).repeat_interleave(self.groups, 0)', "mask.to(cache_dtype).repeat(self.groups, 1)"),
    ("norms of heads are left out", '_DecoderLayer.__call__: if self.qk_norms:\n    ...', "if False:\n    ..."),
    ("scores are not scaled", '_DecoderLayer.__call__: torch.baddbmm(mask, queries, keys.flatten(0, 1), alpha=self.scale)', "torch.baddbmm(mask, queries, keys.flatten(0, 1))"),
    ("a run cannot stop here", 'LlamaDecodeStep.__call__: signals.raise_if_stopped()', "pass"),
]  # fmt: skip

SLOTS = [
    ("the cache may be of any size", 'slot_count: max(MIN_SLOTS, int(MAX_CACHE_BYTES // bytes_per_slot))', 'MAX_SLOTS'),
    ("a large cache leaves one slot", 'slot_count: MIN_SLOTS', "1"),
    ("more slots than responses", 'slot_count: min(responses, limit, slots)', 'min(limit, slots)'),
    ("the device's memory bounds nothing", 'slot_count: memory is not None', 'False'),
    ("a cache too large for the device leaves no slot", 'slot_count: max(1, int(MAX_CACHE_SHARE * memory // bytes_per_slot))', 'int(MAX_CACHE_SHARE * memory // bytes_per_slot)'),
    ("values are not counted", "cache_bytes: 2 * config.num_hidden_layers", "config.num_hidden_layers"),
    ("shared heads are counted each", "_cache_width: getattr(config, 'num_key_value_heads', None) or config.num_attention_heads", "config.num_attention_heads"),
]  # fmt: skip

LORA = [
    ("the scale is lost", '_LoraLinear.forward: y.addmm_(low, to_matmul_dtype(up).T, alpha=scale)', 'y.addmm_(low, to_matmul_dtype(up).T)'),
    ("inputs are never made again", 'LoraForward.__call__: get_recompute(x)', "None"),
    ("the scale is lost backward", '_LoraLinear.backward: (grad_y @ to_matmul_dtype(up)).mul_(ctx.scale)', 'grad_y @ to_matmul_dtype(up)'),
    ("the adapter sends no gradient on", '_LoraLinear.backward: (grad_y @ to_matmul_dtype(weight)).addmm_(grad_low, to_matmul_dtype(down))', 'grad_y @ to_matmul_dtype(weight)'),
    ("the base sends no gradient on", '_LoraLinear.backward: (grad_y @ to_matmul_dtype(weight)).addmm_(grad_low, to_matmul_dtype(down))', 'grad_low @ to_matmul_dtype(down)'),
    ("dropout is skipped", "LoraForward.__call__: dropping or base.weight.requires_grad", "base.weight.requires_grad"),
    ("adapters are always on", "LoraForward._active_adapter: active and (not self.layer.disable_adapters)", "active"),
    ("a kept cast outlives generation", 'adapters_cast_once: forward.cast_weights = None', "pass"),
    ("merged in half precision", '_LoraLinear.forward: with without_autocast(x.device):\n    low = flat @ to_matmul_dtype(down).T\n    y = F.linear(flat, to_matmul_dtype(weight), None if bias is None else to_matmul_dtype(bias))\n    y.addmm_(low, to_matmul_dtype(up).T, alpha=scale)', 'with without_autocast(x.device):\n    low = flat @ to_matmul_dtype(down).T\n    y = F.linear(flat, to_matmul_dtype(weight + scale * up @ down), bias)'),
]  # fmt: skip

MADE_AGAIN = [
    ("a changed tensor is made as it was", 'get_recompute: recipe is not None and recipe.version == tensor._version', "recipe is not None"),
    ("recipes hold the graph", 'attach_recompute: tuple((part.detach() for part in inputs))', "inputs"),
]  # fmt: skip

RESOLVE = [
    ("a bad path becomes the embedded model", "_resolve: raise UserError('no such model', where=name or 'model_name', fix=_suggest_fix(path))", "return _resolve('embedded', ()) or UserError('no such model', where=name or 'model_name', fix=_suggest_fix(path))"),
    ("a bad path goes to the hub", "_resolve: not name or _looks_like_path(name)", "not name"),
    ("a circle goes unnoticed", "_from_folder: folder in ancestors", "False"),
    ("a pickle is taken", '_check_weights: (folder / WEIGHTS_FILE).exists()', "list(folder.glob('*model*.*'))"),
    ("a misfit head is taken", "_check_head: trained_on != has", "False"),
    ("missing shards are ignored", "_check_weights: missing or not shards", "not shards"),
    ("a policy serves as reward model", "require_use: use == 'reward' and source.kind != 'reward'", "False"),
]  # fmt: skip

TOKENIZER = [
    ("pad = eos stays", "choose_pad: {tokenizer.eos_token_id, *_turn_ends(tokenizer, where)}", "set(_turn_ends(tokenizer, where))"),
    ("pad = end of turn stays", "choose_pad: {tokenizer.eos_token_id, *_turn_ends(tokenizer, where)}", "{tokenizer.eos_token_id}"),
    ("another vocabulary counts as the same", "same_tokenizer: left.get_vocab() == right.get_vocab()", "len(left) == len(right)"),
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
    ("kernels/packing.py", PACKING, "kernels/test_packing.py kernels/test_attention.py"),
    ("kernels/attention.py", PACKED, "kernels/test_attention.py"),
    ("kernels/recompute.py", MADE_AGAIN, "kernels/test_recompute.py"),
    ("kernels/segments.py", SEGMENTS, "kernels/test_segments.py kernels/test_attention.py"),
    (
        "models/backbone.py",
        [("rows share dropout", "Backbone.pack: not lora_linear.has_active_dropout(self._layers)", "True")],
        "kernels/test_packing.py",
    ),
    ("kernels/packed_linear.py", PACKED_LINEAR, "kernels/test_packed_linear.py"),
    ("rollout/slots.py", SLOTS, "rollout/test_slots.py"),
    ("rollout/choose_decoder.py", WAYS, "rollout/test_choose_decoder.py"),
    ("rollout/attention.py", KERNEL, "rollout/test_choose_decoder.py"),
    ("models/positions.py", POSITIONS, "rollout/test_choose_decoder.py"),
    ("models/logits_head.py", LOGITS_HEAD, "models/test_logits_head.py"),
    ("models/check_logits.py", CHECK_OUTPUT, "models/test_logits_head.py"),
    ("kernels/decode_step.py", ONE_TOKEN, "kernels/test_decode_step.py"),
    ("kernels/lora_linear.py", LORA, "kernels/test_lora_linear.py kernels/test_recompute.py"),
    ("rollout/kv_cache.py", CACHE, "rollout/test_kv_cache.py"),
    ("models/resolve.py", RESOLVE, "models/test_resolve.py"),
    ("models/tokenizer.py", TOKENIZER, "models/test_tokenizer.py"),
]
ROLLOUT = [Mutant(name, file, old, new, tests) for file, table, tests in TABLES for name, old, new in table]
