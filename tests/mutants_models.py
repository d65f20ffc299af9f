"""Mistakes in finding the parts of a model: its tokenizer, end tokens, base and adapted layers."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

TOKENIZERS = "models/test_find_tokenizer.py"

MODELS = [
    Mutant("an adapter is evaluated with its base's tokenizer", "evaluation/responses.py", "load_engine: backbone.set_tokenizer(source, tokenizer_of(source))", "pass", TOKENIZERS),
    Mutant("the base's tokenizer comes first", "models/find_tokenizer.py", "tokenizer_folder: list(reversed(source.chain()))", "source.chain()", TOKENIZERS),
    Mutant("a chat template alone is ignored", "models/find_tokenizer.py", "tokenizer_of: (link.folder / _TEMPLATE).is_file()", "False", TOKENIZERS),
    Mutant("a shared base lends its chat template", "models/roles.py", "RewardModel.load: cls(backbone, name, head, card.offset, card.scale, tokenizer_of(source))", "cls(backbone, name, head, card.offset, card.scale)", TOKENIZERS),
    Mutant("generation settings' ends are ignored", "models/end_tokens.py", "end_tokens: [*response_end_tokens(tokenizer, where=where), *said, *own]", "[*response_end_tokens(tokenizer, where=where)]", TOKENIZERS),
    Mutant("the taught end is not saved", "models/end_tokens.py", "generation_settings: ends[0] if len(ends) == 1 else ends", "ends[1:]", TOKENIZERS),
    Mutant("an undeclared end of turn is passed over", "chat/turn_end.py", "find_end_of_turn: next((i for i in written if i in added), None)", "None", "models/test_tokenizer.py"),
    Mutant("a classifier's padding is the tokenizer's", "reward/classifier.py", '_pad_token: filler = own', "filler = 0", "reward/test_classifier.py"),
    Mutant("a classifier's own pad is lost", "reward/classifier.py", '_pad_token: for config, pad in zip(configs, kept, strict=True):\n    config.pad_token_id = pad', "pass", "reward/test_classifier.py"),
    Mutant("rows are padded whatever the family", "reward/classifier.py", 'ClassifierReward._batches: self.pad_rows', "True", "reward/test_classifier.py"),
    Mutant("padding's own position counts", "models/positions.py", 'position_limits: module.padding_idx + 1', "0", "reward/test_classifier.py"),
    Mutant("a moved project's base is taken unseen", "models/resolve.py", "_find_moved_base: _is_the_base(folder, found)", "True", "models/test_resolve.py"),
    Mutant("a classifier is taken as a policy", "models/resolve.py", "require_use: use != 'reward' and (heads := _other_architectures(source.chain()[0].folder))", "False and (heads := _other_architectures(source.chain()[0].folder))", "models/test_resolve.py"),
    Mutant("half of latent attention is adapted", "models/lora_targets.py", "<module>: ('q_a_proj', 'q_b_proj', 'kv_a_proj_with_mqa', 'kv_b_proj')", "('q_a_proj', 'kv_b_proj')", "models/test_lora_targets.py"),
    Mutant("the manifest hashes another configuration", "train/launch.py", "_train: manifest.write_manifest(run, settings, lineage, extra, began)", "manifest.write_manifest(run, config.model_dump(mode='json'), lineage, extra, began)", "end_to_end/test_changes.py"),
]  # fmt: skip
