"""Mistakes in data made by models, in the chat and in exported models."""

from mutant import Mutant

RULES, STAGES = "generation/test_candidates.py", "generation/test_stages_of_data.py"
CHAT, EXPORT = "generation/test_chat.py", "export/test_export.py"
CHOICE, GENERATE, SCORE, PAIRS = (
    f"generation/{name}.py" for name in ("candidates", "generate", "score", "pairs")
)
TALK, CARD, FILE = "generation/chat.py", "export/model_card.py", "export/gguf_file.py"

GENERATION = [
    Mutant(
        "pairs: the worst is chosen",
        CHOICE,
        "choose_pairs: (first, second) if tie or first.score >= second.score else (second, first)",
        "(first, second) if tie or first.score < second.score else (second, first)",
        RULES,
    ),
    Mutant(
        "pairs: the order of a tie is that of the scores",
        CHOICE,
        "choose_pairs: tie or first.score >= second.score",
        "first.score >= second.score",
        RULES,
    ),
    Mutant(
        "pairs: a difference of the epsilon is no tie",
        CHOICE,
        "choose_pairs: abs(first.score - second.score) <= config.tie_epsilon",
        "abs(first.score - second.score) < config.tie_epsilon",
        RULES,
    ),
    Mutant("pairs: equal texts are paired", CHOICE, "choose_pairs: len(texts) == 1", "False", RULES),
    Mutant("pairs: a pair of texts is written twice", CHOICE, "choose_pairs: texts in seen", "False", RULES),
    Mutant(
        "pairs: ties are kept always", CHOICE, "choose_pairs: tie and config.ties == 'drop'", "False", RULES
    ),
    Mutant(
        "pairs: a difference of the margin is below it",
        CHOICE,
        "choose_pairs: difference < config.margin",
        "difference <= config.margin",
        RULES,
    ),
    Mutant(
        "pairs: a kept tie has a strength",
        CHOICE,
        "choose_pairs: 0.0 if tie else strength",
        "strength",
        RULES,
    ),
    Mutant(
        "pairs: the strength is 1 always",
        CHOICE,
        "choose_pairs: difference if config.strength == 'difference' else 1.0",
        "1.0",
        RULES,
    ),
    Mutant(
        "pairs: the worst may have the best one's text",
        CHOICE,
        "_compared: others or [one for one in candidates if one is not best]",
        "[one for one in candidates if one is not best]",
        RULES,
    ),
    Mutant(
        "pairs: the threshold itself is bad",
        CHOICE,
        "_compared: one.score >= config.threshold",
        "one.score > config.threshold",
        RULES,
    ),
    Mutant(
        "pairs: white space makes another text",
        CHOICE,
        "_text: candidate.text.strip()",
        "candidate.text",
        RULES,
    ),
    Mutant(
        "pairs: the last of equal scores is best",
        CHOICE,
        "choose_best: max(candidates, key=lambda one: one.score)",
        "max(reversed(candidates), key=lambda one: one.score)",
        RULES,
    ),
    Mutant(
        "pairs: a best response at the threshold is dropped",
        CHOICE,
        "choose_best: best.score < threshold",
        "best.score <= threshold",
        RULES,
    ),
    Mutant(
        "pairs: truncated responses stay",
        PAIRS,
        "_why_left_out: config.truncated == 'drop' and response.stop == 'length'",
        "False",
        STAGES,
    ),
    Mutant(
        "pairs: a missing score is 0",
        PAIRS,
        "_why_left_out: score is None or not math.isfinite(score)",
        "False",
        STAGES,
    ),
    Mutant(
        "pairs: the sources are swapped",
        PAIRS,
        "_pair: {'chosen': chosen, 'rejected': rejected}",
        "{'rejected': chosen, 'chosen': rejected}",
        STAGES,
    ),
    Mutant(
        "pairs: the tools are lost",
        PAIRS,
        "_prompt: json.loads(prompt.tools) if prompt.tools else None",
        "None",
        STAGES,
    ),
    Mutant(
        "pairs: always by the primary score",
        PAIRS,
        "_rows: response.values.get(config.score)",
        "response.values.get('reward')",
        STAGES,
    ),
    Mutant(
        "pairs: the scorer is not named",
        PAIRS,
        "_scorer: primary if isinstance(primary, str) else score",
        "score",
        STAGES,
    ),
    Mutant(
        "generate: policies share their draws", GENERATE, "_generate: f'{PURPOSE} {name}'", "PURPOSE", STAGES
    ),
    Mutant(
        "generate: every policy at one temperature",
        GENERATE,
        "_run: config.model_dump(mode='json', exclude={'output_dir'})",
        "config.model_dump(mode='json', exclude={'output_dir', 'temperature'})",
        STAGES,
    ),
    Mutant(
        "generate: details of the prompts are lost",
        GENERATE,
        "_rows: json.dumps(further, ensure_ascii=False, default=str) if further else ''",
        "''",
        STAGES,
    ),
    Mutant("generate: references are lost", GENERATE, "_rows: prompt.reference", "None", STAGES),
    Mutant(
        "generate: other weights pass",
        GENERATE,
        "_run: lineage_fingerprint(source)",
        "name",
        "generation/test_stages_of_data.py::test_other_weights_are_refused",
    ),
    Mutant(
        "score: the primary score is the last one", SCORE, "_table: own[names[0]]", "own[names[-1]]", STAGES
    ),
    Mutant(
        "score: a score is replaced", SCORE, "_run: _require_new(names, rows.values(), path)", "pass", STAGES
    ),
    Mutant("score: other responses pass", SCORE, "_run: fingerprint_rows(read)", "'same'", STAGES),
    Mutant(
        "score: the responses' own reward is lost",
        SCORE,
        "_has_own_reward: not any(all(row.get(key) == row.get(PRIMARY_SCORE) for row in rows) for key in scores)",
        "False",
        STAGES,
    ),
    Mutant(
        "score: failed responses are left out of the table",
        SCORE,
        "_by_policy: prompt is None or response.text is None",
        "prompt is None",
        STAGES,
    ),
    Mutant(
        "score: columns of objects are lost",
        SCORE,
        "_other_columns: key not in known",
        "key not in known and not isinstance(value, dict)",
        STAGES,
    ),
    Mutant(
        "score: tools of the prompts are not read",
        "data/external_responses.py",
        "_parse_row: fields.parse_tools(row)",
        "''",
        STAGES,
    ),
    Mutant(
        "once: a manifest before the results",
        "generation/once.py",
        "write_once: made = make()",
        "manifest.write_manifest(RunFolder(folder.root), settings, {}, {}); made = make()",
        STAGES,
    ),
    Mutant(
        "chat: each turn begins a conversation",
        TALK,
        "Speaker.respond: [*self.messages, Message('user', said)]",
        "[Message('user', said)]",
        CHAT,
    ),
    Mutant(
        "chat: the response is not remembered",
        TALK,
        "Speaker.respond: [*asked, Message('assistant', rollout.text)]",
        "asked",
        CHAT,
    ),
    Mutant(
        "chat: a reset keeps the turns",
        TALK,
        "Speaker.begin: [Message('system', system)] if system else []",
        "[*self.messages, *([Message('system', system)] if system else [])]",
        CHAT,
    ),
    Mutant(
        "chat: the system turn is lost",
        TALK,
        "Speaker.begin: [Message('system', system)] if system else []",
        "[]",
        CHAT,
    ),
    Mutant(
        "chat: pieces repeat what was shown",
        TALK,
        "_Streamed.__call__: text[len(self._shown):]",
        "text",
        CHAT,
    ),
    Mutant(
        "chat: prompts take the room of the response",
        TALK,
        "load_speaker: positions - settings.max_gen_len",
        "10 * positions",
        CHAT,
    ),
    Mutant(
        "chat: the temperature does nothing",
        TALK,
        "Speaker.respond: Sampling(settings.max_gen_len, settings.temperature, settings.seed)",
        "Sampling(settings.max_gen_len, 1.0, settings.seed)",
        CHAT,
    ),
    Mutant(
        "chat: columns are as wide as the terminal",
        TALK,
        "side_by_side: (width - GAP * (len(blocks) - 1)) // len(blocks)",
        "width",
        CHAT,
    ),
    Mutant(
        "export: q and k keep their order",
        FILE,
        "_permuted: interleave_heads(tensor, config.num_attention_heads)",
        "tensor",
        EXPORT,
    ),
    Mutant(
        "export: k is ordered by the heads of q",
        FILE,
        "_permuted: interleave_heads(tensor, config.num_key_value_heads)",
        "interleave_heads(tensor, config.num_attention_heads)",
        EXPORT,
    ),
    Mutant(
        "export: heads interleave the other way",
        FILE,
        "interleave_heads: weight.reshape(heads, 2, rows // heads // 2, features)",
        "weight.reshape(heads, rows // heads // 2, 2, features)",
        EXPORT,
    ),
    Mutant(
        "export: scaled rotary positions pass",
        FILE,
        "require_llama: rope.get('rope_type', 'default') != 'default'",
        "False",
        EXPORT,
    ),
    Mutant(
        "export: biases pass",
        FILE,
        "require_llama: getattr(config, 'attention_bias', False) or getattr(config, 'mlp_bias', False)",
        "False",
        EXPORT,
    ),
    Mutant("export: digits are split as in GPT-2", FILE, "_byte_level_bpe: 'smollm'", "'gpt-2'", EXPORT),
    Mutant(
        "export: special tokens are plain text", FILE, "_add_tokenizer: number in special", "False", EXPORT
    ),
    Mutant(
        "export: the base of an adapter is not named",
        "export/export.py",
        "_write_adapter: base.name if on_hub else str(base.folder.resolve())",
        "'base'",
        EXPORT,
    ),
    Mutant(
        "export: an existing folder is replaced",
        "export/export.py",
        "export: any(out.iterdir())",
        "False",
        EXPORT,
    ),
    Mutant(
        "export: a licence is guessed",
        CARD,
        "_licences: _licence_of(source.chain()[0].folder) or UNKNOWN",
        "_licence_of(source.chain()[0].folder) or 'apache-2.0'",
        EXPORT,
    ),
    Mutant(
        "export: the licence of the starting model is lost",
        CARD,
        "_licences: _licence_of(source.chain()[0].folder) or UNKNOWN",
        "UNKNOWN",
        EXPORT,
    ),
    Mutant(
        "export: the data are not named", CARD, "_data: data.get('fingerprint', UNKNOWN)", "UNKNOWN", EXPORT
    ),
    Mutant(
        "export: the reward model is not named",
        CARD,
        "_lineage: isinstance(reward, Mapping)",
        "False",
        EXPORT,
    ),
]
