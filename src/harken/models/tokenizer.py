"""Load a folder's tokenizer, and determine its padding and end tokens."""

from __future__ import annotations

import functools
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from harken.chat import template as chat_template
from harken.chat.turn_end import find_end_of_turn, padding_id
from harken.errors import UserError
from harken.models.load_errors import load_errors
from harken.run import checksums
from harken.run.terminal import say

_RESPONSE = "the answer"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer in `folder`, with a pad token that does not end a turn, if it has one.

    A folder whose pad token is missing or is one of those gets another of its special tokens as pad
    (see `choose_pad`), reported once on stderr. Nothing in Harken pads through the tokenizer: pad only fills
    masked positions. Code shipped in the folder is never run.
    Raises UserError when the folder has no readable tokenizer, or a damaged one.
    """
    checksums.verify_folder(folder, weights=False)
    fix = "copy tokenizer.json and tokenizer_config.json from the model it was trained from"
    with load_errors("no tokenizer can be read here", str(folder), fix):
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        tokenizer("a probe")
    chat_template.record_time(tokenizer)
    original_pad = tokenizer.pad_token
    if choose_pad(tokenizer, where=str(folder)):
        _say_once(
            f"{folder}: pad token was {original_pad!r}; using {tokenizer.pad_token!r}, which ends no turn"
        )
    return tokenizer


def choose_pad(tokenizer: PreTrainedTokenizerBase, *, where: str) -> bool:
    """Give the tokenizer a pad token that is neither eos nor ends a turn; return whether it was changed.

    Order of preference: a special token with "pad" in its name, `<|endoftext|>`, unk, any other special
    token that the chat template does not write, one that it does, bos. A tokenizer without any (GPT-2 has one
    special token) stays as it is: an ordinary token must not become special. `pad_token` still returns an id.
    """
    ends = {tokenizer.eos_token_id, *_turn_ends(tokenizer, where)}
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in ends:
        return False
    special = {i: t.content for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    special |= {i: t for t, i in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)}
    conversation = _conversation(tokenizer, where)

    def preference(candidate: int) -> tuple[int, int]:
        name = special[candidate]
        order = [
            "pad" in name.lower(),
            name == "<|endoftext|>",
            candidate == tokenizer.unk_token_id,
            candidate != tokenizer.bos_token_id and name not in conversation,
            candidate != tokenizer.bos_token_id,
            True,
        ]
        return order.index(True), candidate

    candidates = sorted((i for i in special if i not in ends), key=preference)
    if not candidates:
        return False
    tokenizer.pad_token = special[candidates[0]]
    return True


def pad_token(tokenizer: PreTrainedTokenizerBase, *, where: str) -> int:
    """Return the padding id: the pad token if it ends no turn, else an ordinary id."""
    return padding_id(tokenizer.pad_token_id, {tokenizer.eos_token_id, *_turn_ends(tokenizer, where)})


def response_end_tokens(tokenizer: PreTrainedTokenizerBase, *, where: str) -> list[int]:
    """Return the tokens that end a response in training: the template's end of turn first, then eos."""
    after = _conversation(tokenizer, where).rpartition(_RESPONSE)[2]
    ends = [find_end_of_turn(tokenizer, after) if after else None, tokenizer.eos_token_id]
    return list(dict.fromkeys(int(end) for end in ends if end is not None))


def same_tokenizer(left: PreTrainedTokenizerBase, right: PreTrainedTokenizerBase) -> bool:
    """Return whether two tokenizers assign the same ids, so that token ids can be reused without re-tokenising.

    Compares the vocabulary, bos, eos, unk, which tokens are special, and the chat template. Pad is not compared,
    since no model reads it.
    """
    return (
        left.get_vocab() == right.get_vocab()
        and (left.bos_token_id, left.eos_token_id, left.unk_token_id)
        == (right.bos_token_id, right.eos_token_id, right.unk_token_id)
        and _special_ids(left) == _special_ids(right)
        and left.chat_template == right.chat_template
    )


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    return {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}


def _conversation(tokenizer: PreTrainedTokenizerBase, where: str) -> str:
    """Render one user turn and one response with the chat template; "" without a template."""
    if not tokenizer.chat_template:
        return ""
    turns = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": _RESPONSE}]
    try:
        return chat_template.render(tokenizer, turns)
    except chat_template.TemplateRefusal as error:
        raise UserError(
            f"its chat template cannot render a user turn and a response ({error.message})",
            where=where,
            fix=chat_template.FIX,
        ) from error


def _turn_ends(tokenizer: PreTrainedTokenizerBase, where: str) -> list[int]:
    """Return the special tokens after a response, and the end of the turn, which may not be special."""
    after = _conversation(tokenizer, where).rpartition(_RESPONSE)[2]
    special = [
        i for i, token in tokenizer.added_tokens_decoder.items() if token.special and token.content in after
    ]
    end = find_end_of_turn(tokenizer, after) if after else None
    return special if end is None else [*special, end]


@functools.cache
def _say_once(message: str) -> None:
    say(message)
