"""Mistakes in what is found for a model: its tokenizer, its end tokens, its base, its adapter's layers."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

TOKENIZERS = "models/test_find_tokenizer.py"

FOUND = [
    Mutant("an adapter is evaluated with its base's tokenizer", "evaluate/answers.py", "        backbone.speak_as(source, tokenizer_of(source))\n", "", TOKENIZERS),
    Mutant("the base's tokenizer comes first", "models/find_tokenizer.py", "links = list(reversed(source.chain()))", "links = source.chain()", TOKENIZERS),
    Mutant("a chat template alone is ignored", "models/find_tokenizer.py", "if (link.folder / _TEMPLATE).is_file():", "if False:", TOKENIZERS),
    Mutant("a shared base lends its chat template", "models/roles.py", "card.scale, tokenizer_of(source))", "card.scale)", TOKENIZERS),
    Mutant("generation settings' ends are ignored", "models/end_tokens.py", "*taught_ends(tokenizer, where=where), *said, *own", "*taught_ends(tokenizer, where=where)", TOKENIZERS),
    Mutant("the taught end is not saved", "models/end_tokens.py", "(ends[0] if len(ends) == 1 else ends) or None", "ends[1:] or None", TOKENIZERS),
    Mutant("an undeclared end of turn is passed over", "turn_end.py", "next((i for i in written if i in added), None))", "None)", "models/test_tokenizer.py"),
    Mutant("a classifier's padding is the tokenizer's", "reward/classifier.py", "    filler = own\n", "    filler = 0\n", "reward/test_classifier.py"),
    Mutant("a classifier's own pad is lost", "reward/classifier.py", "        for config, pad in zip(configs, kept, strict=True):\n            config.pad_token_id = pad\n", "        pass\n", "reward/test_classifier.py"),
    Mutant("rows are padded whatever the family", "reward/classifier.py", "[rows] if self.pads else", "[rows] if True else", "reward/test_classifier.py"),
    Mutant("padding's own position counts", "reward/classifier.py", "module.padding_idx + 1)", "0)", "reward/test_classifier.py"),
    Mutant("a moved project's base is taken unseen", "models/resolve.py", "and _is_the_base(folder, found):", "and True:", "models/test_resolve.py"),
    Mutant("a classifier is taken as a policy", "models/resolve.py", 'if use == "policy" and (heads :=', "if False and (heads :=", "models/test_resolve.py"),
    Mutant("half of latent attention is adapted", "models/projections.py", '"q_b_proj", "kv_a_proj_with_mqa", ', "", "models/test_projections.py"),
    Mutant("the manifest hashes another configuration", "train/run.py", "manifest.write(run, settings, lineage", 'manifest.write(run, config.model_dump(mode="json"), lineage', "end_to_end/test_changes.py"),
]  # fmt: skip
