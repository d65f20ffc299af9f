"""Mistakes in reward models on encoders, in their rendering, and in rows of a text and a label."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

TESTS = "models/test_encoder.py"
LABELLED = "data/test_labelled_texts.py"
TRAINED = "train/test_encoder_reward.py"

ENCODER = [
    ("pooled at the last token", "Encoder.pooled: hidden[:, 0]", "hidden[:, -1]", "test_pooled_is_the_first_token_and_reads_all_of_the_row"),
    ("padding is attended to", "Encoder.hidden: batch.attention_mask.long()", "torch.ones_like(batch.tokens)", "test_scores_do_not_depend_on_batch_mates_or_padding[bert]"),
    ("no token types", "Encoder.hidden: self._has_types", "False", "test_scores_are_those_of_plain_transformers_and_the_head[False-bert]"),
    ("types begin one token early", "Encoder._token_types: separator.cumsum(-1) - separator.long()", "separator.cumsum(-1)", "test_token_types_are_the_tokenizers"),
    ("a head is added to what the pooler gives", "Encoder.__init__: self.model.pooler = None", "pass", "test_heads_and_poolers_of_other_tasks_are_left_out_and_missing_weights_are_not"),
    ("missing weights are drawn at random", "Encoder.load: require_all([key for key in told['missing_keys'] if 'pooler' not in key], folder, COPY_MODEL_FIX)", "pass", "test_heads_and_poolers_of_other_tasks_are_left_out_and_missing_weights_are_not"),
    ("a causal trunk is pooled at its first token", "Encoder._check_structure: torch.equal(alone[0], other[0])", "False", "test_a_model_without_the_structure_of_an_encoder_is_refused"),
    ("padding that changes states is not noticed", "Encoder._check_structure: float((padded - alone).abs().max()) > tolerance", "False", "test_a_model_without_the_structure_of_an_encoder_is_refused"),
    ("rows past the last position", "Encoder.check_length: self.max_length is not None and tokens > self.max_length", "False", "test_the_position_limit_is_the_models_own"),
    ("a budget for one side", "Encoder.micro_batches: max(token_budget // sides, 1)", "token_budget", "test_an_encoder_has_no_way_to_pack_or_to_generate"),
    ("forwards counted without padding", "Encoder.forward_size: len(rows) * max(map(len, rows))", "sum(map(len, rows))", "test_an_encoder_has_no_way_to_pack_or_to_generate"),
    ("a quantised encoder", "Encoder.load: isinstance(weight_dtype, Quantised)", "False", "test_an_encoder_is_no_policy_and_is_not_quantised"),
]  # fmt: skip

RENDERER = [
    ("a response without its separator", "EncoderRenderer.encode_response: [*self._encode(self._escape(text, response=True)), *self.suffix]", "self._encode(self._escape(text, response=True))", "test_prompt_and_response_are_the_pair_that_the_tokenizer_writes"),
    ("a response spells a separator", "EncoderRenderer._escape: self.special.escape(text, response=response)", "text", "test_prompt_and_response_are_the_pair_that_the_tokenizer_writes"),
    ("a prompt without its first token", "EncoderRenderer.encode_prompt: [*self.prefix, *self._encode(self._escape(join_turns(messages))), *self.middle]", "[*self._encode(self._escape(join_turns(messages))), *self.middle]", "test_prompt_and_response_are_the_pair_that_the_tokenizer_writes"),
    ("tools are left out", "EncoderRenderer.encode_prompt: tools or any((message.role == 'tool' or message.extra for message in messages))", "False", "test_pairs_keep_the_response_and_the_end_of_the_prompt"),
    ("any tokenizer frames a pair", "pair_frame: min(begin, end) < 0 or not (prefix and middle and suffix)", "False", "test_a_tokenizer_without_a_frame_is_refused"),
]  # fmt: skip

LABELLED_TEXTS = [
    ("the rarer label is positive", "judge_labels: _meaning(counts, good[0], why)", "_meaning(counts, min(counts, key=counts.__getitem__), why)"),
    ("1 is positive whatever it is called", "judge_labels: numbers_are_clear and (not names) and set(counts) in ({'0', '1'}, {'-1', '1'}, {'true', 'false'})", "set(counts) in ({'0', '1'}, {'-1', '1'}, {'true', 'false'})"),
    ("labels 1 and 2 are guessed", "judge_labels: set(counts) in ({'0', '1'}, {'-1', '1'}, {'true', 'false'})", "'1' in counts"),
    ("three labels are read", "judge_labels: len(counts) != 2", "len(counts) < 2"),
    ("the named label is not asked for", "judge_labels: positive is not None", "False"),
    ("a label's declared name is not read", "judge_labels: (('its name', named), ('its word', {key: key for key in counts}))", "(('its word', {key: key for key in counts}),)"),
    ("the prompt is always the winner's", "to_pairs: number % 2 == 0", "True"),
    ("the loser is chosen", "to_pairs: {'prompt': _user(prompt), 'chosen': winner[3], 'rejected': loser[3]}", "{'prompt': _user(prompt), 'chosen': loser[3], 'rejected': winner[3]}"),
    ("pairs in the order of the file", "to_pairs: permutation(len(texts), seed, 'labelled texts', name)", "range(len(texts))"),
    ("left-over texts are not counted", "to_pairs: (*good[count:], *bad[count:])", "()"),
    ("1 and 1.0 are two labels", "label_key: f'{number:g}'", "str(value)"),
]  # fmt: skip

PROMPT_RULE = [
    ("the first letter is left out", "PromptRule.split: text[:end].strip()", "text[1:end].strip()"),
    ("an empty response is kept", "PromptRule.split: not prompt or not response", "not prompt"),
    ("one token more", "PromptRule.split: offsets[self.count - 1][1]", "offsets[min(self.count, len(offsets) - 1)][1]"),
    ("a character may be cut", "PromptRule.split: offsets[self.count - 1][1]", "offsets[self.count - 1][0]"),
    ("words although tokens are asked for", "prompt_rule: data.prompt_tokens is None", "True"),
    ("the default is seven words", "prompt_rule: data.prompt_words or DEFAULT_PROMPT_WORDS", "data.prompt_words or 7"),
]  # fmt: skip

RECIPE = [
    *(Mutant(f"encoder: {name}", "models/encoder.py", old, new, f"{TESTS}::{test}") for name, old, new, test in ENCODER),
    *(Mutant(f"encoder's pairs: {name}", "data/encoder_renderer.py", old, new, f"{TESTS}::{test}") for name, old, new, test in RENDERER),
    *(Mutant(f"labelled texts: {name}", "data/labelled_texts.py", old, new, LABELLED) for name, old, new in LABELLED_TEXTS),
    *(Mutant(f"prompt rule: {name}", "data/prompt_rule.py", old, new, LABELLED) for name, old, new in PROMPT_RULE),
    Mutant("prompt rule: frames count as tokens", "models/find_tokenizer.py", "token_offsets.offsets: tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)", "tokenizer(text, add_special_tokens=True, return_offsets_mapping=True, verbose=False)", LABELLED),
    Mutant("prompt rule: both rules are taken", "config/base.py", "DataConfig._one_prompt_rule: self.prompt_tokens is not None and self.prompt_words is not None", "False", LABELLED),
    Mutant("structure: a decoder by its own word is an encoder", "models/structure.py", "is_bidirectional: kind not in MODEL_FOR_CAUSAL_LM_MAPPING or not decoder", "True", f"{TESTS}::test_an_encoder_is_no_policy_and_is_not_quantised"),
    Mutant("encoder: taken as a policy", "models/resolve.py", "require_use: use != 'reward' and source.is_encoder", "False", f"{TESTS}::test_an_encoder_is_no_policy_and_is_not_quantised"),
    Mutant("encoder: the policy's tokens are read", "reward/learned.py", "LearnedReward.__init__: None if same else model.renderer()", "None", f"{TESTS}::test_scores_are_those_of_plain_transformers_and_the_head[False-bert]"),
    Mutant("whole reward model: its head is not needed", "models/resolve.py", "_from_folder: ('config.json' if whole else 'adapter_config.json', 'reward_head.safetensors')", "()", f"{TESTS}::test_a_fully_trained_language_model_is_saved_whole_and_scores_as_before"),
    Mutant("whole reward model: only the head is trained", "train/head_stage.py", "HeadStage.__init__: backbone.adapter_parameters(ADAPTER) if config.lora else backbone.trainable_parameters()", "backbone.adapter_parameters(ADAPTER)", f"{TRAINED}::test_a_resumed_run_is_the_run_that_never_stopped"),
]  # fmt: skip
