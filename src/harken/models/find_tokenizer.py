"""Find the tokenizer and chat template of a model: one rule for every stage and command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from harken.data import prompt_rule
from harken.data.chat import Renderer
from harken.data.encoder_renderer import EncoderRenderer
from harken.errors import UserError
from harken.models.resolve import ModelSource, resolve
from harken.models.tokenizer import choose_pad, load_tokenizer
from harken.run import checksums

_FILES = (
    *(
        "tokenizer_config.json",
        "tokenizer.json",
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
    ),
    *("vocab.json", "vocab.txt", "tekken.json", "tiktoken.model"),
)
"""A folder with a tokenizer has at least one of these files."""
_TEMPLATE = "chat_template.jinja"


def tokenizer_folder(source: ModelSource) -> Path:
    """Return the folder of the tokenizer of `source`: its own, else that of the nearest model below it."""
    links = list(reversed(source.chain()))
    return next((link.folder for link in links if _has_tokenizer(link.folder)), links[-1].folder)


def tokenizer_of(source: ModelSource) -> PreTrainedTokenizerBase:
    """Load the tokenizer and chat template that `source` is trained, sampled, evaluated and scored with.

    Those of an adapter or reward model override those of its base; a folder may have only a chat template.
    Raises UserError as `load_tokenizer` does.
    """
    folder = tokenizer_folder(source)
    tokenizer = load_tokenizer(folder)
    for link in reversed(source.chain()):
        if link.folder == folder:
            break
        if (link.folder / _TEMPLATE).is_file():
            tokenizer.chat_template = checksums.read_verified_text(link.folder / _TEMPLATE)
            choose_pad(tokenizer, where=str(link.folder))
            break
    return tokenizer


def renderer_of(source: ModelSource, keep_special_tokens: bool | Sequence[str] | None = None) -> Renderer:
    """Return the renderer of a model without loading its weights: an encoder's frames pairs of texts."""
    kind = EncoderRenderer if source.is_encoder else Renderer
    return kind(tokenizer_of(source), keep_special_tokens)


def token_offsets(name: str) -> Callable[[str], Sequence[tuple[int, int]]]:
    """Return a function from a text to the characters of its tokens, without the special ones that frame it.

    Raises UserError if there is no such model, and for a tokenizer that does not tell them (one written in Python).
    """
    tokenizer = tokenizer_of(resolve(name))
    if not tokenizer.is_fast:
        raise UserError(
            "its tokenizer does not say which characters a token stands for",
            where=name,
            fix="write data.prompt_words instead of data.prompt_tokens",
        )

    def offsets(text: str) -> Sequence[tuple[int, int]]:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        spans: Sequence[tuple[int, int]] = found["offset_mapping"]
        return spans

    return offsets


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _FILES)


prompt_rule.provide_token_offsets(token_offsets)  # rows are read below this layer
