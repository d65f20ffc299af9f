"""Write a small synthetic set of labelled reviews, and two small models with random weights, for the IMDB recipe.

    python scripts/make_labelled_reviews.py outputs/reviews

writes reviews.jsonl (text, label 0 or 1), heldout.jsonl, encoder/, a BERT of four layers with a word-piece vocabulary,
and language_model/, a Llama of four layers with a byte-pair vocabulary; both vocabularies are made from the reviews.
Nothing is downloaded, and the same seed gives the same files. The reviews are sentences of templates: they show that
the recipe runs and learns, and say nothing about real reviews.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 839
REVIEWS, HELD_OUT = 2400, 600
OPENINGS = (
    "I watched this {kind} {when}, and {seen}",
    "We saw the {kind} {when} because {reason}",
    "This {kind} from {year} tells of {theme}",
    "My {person} told me about this {kind}, so {seen}",
    "The {kind} begins with {theme}",
    "For years people have talked about this {kind}",
)
SLOTS = {
    "kind": ("film", "movie", "drama", "comedy", "thriller", "documentary", "picture"),
    "when": (
        "last night",
        "on a Sunday",
        "with friends",
        "at the cinema",
        "on a long flight",
        "again this week",
    ),
    "seen": ("I sat down with tea", "I had two free hours", "we bought tickets", "I stayed up late"),
    "reason": ("it rained", "the poster caught my eye", "my cousin works in sound", "we like old houses"),
    "year": ("1954", "1978", "1986", "1999", "2004", "2011"),
    "theme": (
        "a lighthouse keeper",
        "two sisters in a bakery",
        "a lost letter",
        "a small town",
        "a train robbery",
    ),
    "person": ("brother", "teacher", "neighbour", "boss", "aunt"),
    "part": (
        "acting",
        "story",
        "music",
        "camera work",
        "dialogue",
        "ending",
        "pace",
        "cast",
        "script",
        "direction",
    ),
}
GOOD = (
    "wonderful",
    "brilliant",
    "moving",
    "superb",
    "delightful",
    "excellent",
    "gripping",
    "beautiful",
    "perfect",
)
BAD = ("terrible", "boring", "awful", "dull", "clumsy", "dreadful", "painful", "lifeless", "ridiculous")
NEUTRAL = (
    "it runs for about two hours",
    "it was shot in winter",
    "the print was in colour",
    "there is a short break",
)
CLAUSES = (
    "the {part} is {word}", "I found the {part} {word}", "what {word} {part}", "a {word} {part} from start to end",
    "everyone agreed that the {part} was {word}",
)  # fmt: skip
VERDICTS = (
    (
        "I loved every minute of it",
        "I would gladly see it again",
        "go and see it",
        "one of the best in years",
    ),
    (
        "I hated every minute of it",
        "I want my evening back",
        "do not waste your time",
        "one of the worst in years",
    ),
)


def review(draw: random.Random, label: int) -> str:
    """Write one review: an opening that does not depend on the label, clauses, one of them of the other kind."""
    words, others = (GOOD, BAD) if label else (BAD, GOOD)
    clauses = [_clause(draw, words) for _ in range(draw.randint(2, 4))]
    if draw.random() < 0.4:
        clauses.append(_clause(draw, others))
    if draw.random() < 0.6:
        clauses.append(draw.choice(NEUTRAL))
    draw.shuffle(clauses)
    verdict = draw.choice(VERDICTS[1 - label])
    return f"{_fill(draw, draw.choice(OPENINGS))}: {', '.join(clauses)}. {verdict[0].upper()}{verdict[1:]}."


def main(folder: Path) -> None:
    """Write the reviews and the encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(SEED)
    rows = [{"text": review(draw, i % 2), "label": i % 2} for i in range(REVIEWS + HELD_OUT)]
    for name, part in (("reviews", rows[:REVIEWS]), ("heldout", rows[REVIEWS:])):
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in part), encoding="utf-8"
        )
    tokenizer = train_tokenizer([str(row["text"]) for row in rows[:REVIEWS]])
    tokenizer.save_pretrained(folder / "encoder")
    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=192, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder / "encoder")
    words = train_byte_pairs([str(row["text"]) for row in rows[:REVIEWS]])
    words.save_pretrained(folder / "language_model")
    torch.manual_seed(SEED)
    settings = LlamaConfig(
        vocab_size=len(words), hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(settings).save_pretrained(folder / "language_model")
    print(f"{folder}: {REVIEWS} reviews, {HELD_OUT} held out")
    print(f"an encoder with {len(tokenizer)} word pieces, a language model with {len(words)} tokens")


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train a lower-case word-piece tokenizer that writes [CLS] first [SEP] second [SEP]."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    letters = [*map(chr, range(33, 127))]
    inner.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=1000, special_tokens=specials, initial_alphabet=letters, show_progress=False
        ),
    )
    inner.decoder = decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def train_byte_pairs(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer of the language model."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    specials = ["<|pad|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        [f"\n\nHuman: {texts[0]}\n\nAssistant:", *texts],
        trainers.BpeTrainer(
            vocab_size=800, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<|pad|>", eos_token="<|end|>")


def _clause(draw: random.Random, words: tuple[str, ...]) -> str:
    return _fill(draw, draw.choice(CLAUSES).replace("{word}", draw.choice(words)))


def _fill(draw: random.Random, template: str) -> str:
    for slot, choices in SLOTS.items():
        while f"{{{slot}}}" in template:
            template = template.replace(f"{{{slot}}}", draw.choice(choices), 1)
    return template


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/reviews"))
