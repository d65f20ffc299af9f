"""A sequence classifier as a reward source: encoders, and language models with a classification head.

A single output is the score as it is, and so is an output of a model trained for regression. Of several classes the
score is the log-odds of one, ln(p / (1 − p)): the class's own logit where classes are judged apart (multi-label),
its logit less logsumexp of the others where they exclude each other (softmax).

A tokenizer with a chat template gets the whole conversation through it, as such reward models are used; one without
gets the pair (conversation, answer). Text that spells a special token is broken by a space, so that an answer
cannot write a separator or a turn. An answer is never cut; a prompt loses its beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from harken.batches import collate, micro_batches
from harken.chat import template as chat_template
from harken.config.rewards import ClassifierPart
from harken.errors import UserError
from harken.models.load_errors import load_errors
from harken.models.resolve import ModelSource
from harken.models.tokenizer import load_tokenizer
from harken.records import Message, Rollout, Score
from harken.reward.source import clipped, finite
from harken.run import json_io

FIX_LENGTH = "lower training.ppo.max_gen_len or data.max_length, or choose a classifier that reads more"


@dataclass(frozen=True)
class _Row:
    """What the model reads of one answer."""

    tokens: tuple[int, ...]
    types: tuple[int, ...]
    """Which segment a token is of; empty when the model does not ask."""


class ClassifierReward:
    """The classifier's opinion of each answer.

    Raises UserError when the label is none of the model's, or `max_length` is more than it can read.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        part: ClassifierPart,
        micro_batch_tokens: int = 8192,
    ) -> None:
        self.model = model.requires_grad_(False).eval()
        self.tokenizer, self.part, self.micro_batch_tokens = tokenizer, part, micro_batch_tokens
        self.name, self.weight = part.column, part.weight
        self.max_length = self._limit()
        self.label = self._find_label()
        specials = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
        longest_first = sorted({*specials, *tokenizer.all_special_tokens} - {""}, key=lambda t: (-len(t), t))
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        # Cutting a pair's first segment on the left drops the oldest of a conversation.
        tokenizer.truncation_side = "left"
        self.pads = self._agrees_when_padded()
        """Whether rows of several lengths go through the model together; else only rows of one length do."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One forward over all answers, equal ones once.

        Raises, naming the prompt, UserError for one too long and NonFinite for a score that is NaN or infinite.
        """
        rows = [self._encode(rollout) for rollout in rollouts]
        distinct = list(dict.fromkeys(rows))
        values: dict[_Row, float] = {}
        for batch in self._batches(distinct):
            values |= zip(batch, self._values(batch), strict=True)
        raw = finite(self.name, rollouts, [values[row] for row in rows])
        return [Score(self.name, clipped(value, self.part.clip), self.weight) for value in raw]

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        lengths = sorted({len(row.tokens) for row in rows})
        classes = [rows] if self.pads else [[r for r in rows if len(r.tokens) == n] for n in lengths]
        for some in classes:
            for group in micro_batches([len(row.tokens) for row in some], self.micro_batch_tokens):
                yield [some[i] for i in group]

    def _values(self, rows: Sequence[_Row]) -> list[float]:
        values: list[float] = self._of_label(self._logits(rows)).tolist()
        return values

    @torch.no_grad()
    def _logits(self, rows: Sequence[_Row]) -> Tensor:
        """[rows, outputs], each row's as the model gives them alone and without padding."""
        flags = [[False] * len(row.tokens) for row in rows]
        with _padding(self.model, [row.tokens for row in rows]) as filler:
            batch = collate([row.tokens for row in rows], flags, filler)
            inputs = {"input_ids": batch.tokens, "attention_mask": batch.attention_mask.long()}
            if rows[0].types:
                inputs["token_type_ids"] = collate([row.types for row in rows], flags, 0).tokens
            device = self.model.device
            logits: Tensor = self.model(**{key: t.to(device) for key, t in inputs.items()}).logits.float()
        return logits

    def _agrees_when_padded(self) -> bool:
        """Whether two rows of different lengths get together what each gets alone: some families read the last place
        of a padded row, or do not take the mask."""
        with load_errors("this classifier cannot read a text", self.name, "name another classifier"):
            texts = ("a probe", "another probe, and a longer one")
            rows = [self._row_of(self.tokenizer(text, verbose=False)) for text in texts]
            alone = torch.cat([self._logits([row]) for row in rows])
            try:
                together = self._logits(rows)
            except Exception:  # noqa: BLE001  whatever a family raises there: it reads rows of equal length
                return False
        tolerance = 1e-4 if self.model.dtype == torch.float32 else 0.05
        return float((together - alone).abs().max()) <= tolerance * max(float(alone.abs().max()), 1.0)

    def _of_label(self, logits: Tensor) -> Tensor:
        """[answers, outputs] → [answers], by the rule of the module."""
        own = logits[:, self.label]
        apart = self.model.config.problem_type in ("regression", "multi_label_classification")
        if logits.shape[1] == 1 or apart:
            return own
        others = torch.cat([logits[:, : self.label], logits[:, self.label + 1 :]], dim=1)
        return own - others.logsumexp(dim=1)

    def _encode(self, rollout: Rollout) -> _Row:
        answer = self._inert(rollout.text)
        if self.part.text == "answer":
            return self._row(rollout, self.tokenizer(answer, verbose=False))
        if self.tokenizer.chat_template:
            return self._templated(rollout, answer)
        alone = len(self.tokenizer("", answer, verbose=False)["input_ids"])
        if self.max_length is not None and alone >= self.max_length:
            raise self._too_long(rollout, alone)
        cut = {} if self.max_length is None else {"truncation": "only_first", "max_length": self.max_length}
        prompt = self._inert(_conversation(rollout.prompt.messages))
        return self._row(rollout, self.tokenizer(prompt, answer, verbose=False, **cut))

    def _templated(self, rollout: Rollout, answer: str) -> _Row:
        """The conversation through the chat template. An answer that was cut gets no forged end."""
        messages = list(rollout.prompt.messages)
        while True:
            turns = [{"role": m.role, "content": self._inert(m.content)} for m in messages]
            try:
                turns.append({"role": "assistant", "content": answer})
                text = chat_template.render(self.tokenizer, turns)
            except chat_template.TemplateRefusal as error:
                raise UserError(
                    f"the classifier's chat template refuses this conversation ({error.message})",
                    where=self._at(rollout),
                    fix="use text: answer, or a classifier whose template takes it",
                ) from error
            if rollout.stop == "length" and answer and answer in text:
                text = text[: text.rindex(answer)] + answer
            encoded = self.tokenizer(text, add_special_tokens=False, verbose=False)
            shorter = _without_oldest(messages)
            if self.max_length is None or len(encoded["input_ids"]) <= self.max_length or shorter is None:
                return self._row(rollout, encoded)
            messages = shorter

    def _row(self, rollout: Rollout, encoded: dict[str, list[int]]) -> _Row:
        tokens = tuple(encoded["input_ids"])
        if self.max_length is not None and len(tokens) > self.max_length:
            raise self._too_long(rollout, len(tokens))
        return self._row_of(encoded)

    @staticmethod
    def _row_of(encoded: Mapping[str, Sequence[int]]) -> _Row:
        return _Row(tuple(encoded["input_ids"]), tuple(encoded.get("token_type_ids", ())))

    def _too_long(self, rollout: Rollout, tokens: int) -> UserError:
        return UserError(
            f"this answer needs {tokens} of the {self.max_length} tokens the classifier reads",
            where=self._at(rollout),
            fix=FIX_LENGTH,
        )

    def _at(self, rollout: Rollout) -> str:
        return f"{self.name}, prompt {rollout.prompt.id}"

    def _inert(self, text: str) -> str:
        return self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def _limit(self) -> int | None:
        """What is asked for, or what the model takes. Tokenizers without a limit of their own name a huge number."""
        said = (*_positions(self.model), self.tokenizer.model_max_length)
        known = [int(limit) for limit in said if limit is not None and limit < 10**9]
        most = min(known, default=None)
        if most is not None and (self.part.max_length or 0) > most:
            raise UserError(
                f"max_length {self.part.max_length} is more than this classifier reads",
                where=self.name,
                fix=f"it reads {most} tokens: lower max_length, or leave it out",
            )
        return self.part.max_length or most

    def _find_label(self) -> int:
        names: dict[int, str] = {int(i): str(n) for i, n in self.model.config.id2label.items()}
        listed = ", ".join(f"{i} {name}" for i, name in sorted(names.items()))
        label = self.part.label
        if label is None and len(names) > 1:
            raise UserError(
                f"this classifier has {len(names)} outputs", where=self.name, fix=f"name a label: {listed}"
            )
        if label is None:
            return 0
        by_name = {str(i): i for i in names} | {name: i for i, name in names.items()}
        if label not in by_name:
            raise UserError(f"this classifier has no label {label}", where=self.name, fix=f"it has {listed}")
        return by_name[label]


def check_classifier(source: ModelSource) -> None:
    """That the model is a classifier, by its config alone. Raises UserError when it is anything else."""
    if source.kind != "full":
        raise UserError(
            f"is no classifier: it is {source.description}",
            where=source.name,
            fix="for a reward model that Harken trained write type: model",
        )
    named = json_io.read_object(source.folder / "config.json").get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    if not any("ForSequenceClassification" in name for name in names):
        raise UserError(
            f"is no classifier: its config names {', '.join(names) or 'no architecture'}",
            where=source.name,
            fix="name a model for sequence classification; a language model has no trained head to score with",
        )


def load_classifier(
    source: ModelSource,
    part: ClassifierPart,
    dtype: torch.dtype,
    device: torch.device,
    micro_batch_tokens: int,
) -> ClassifierReward:
    """Read it from disk, whole: weights that are missing would be random, so they are an error (UserError)."""
    source.check()
    fix = "only models that transformers knows without code of their own are loaded"
    with load_errors("this classifier cannot be read", source.name, fix):
        model, told = AutoModelForSequenceClassification.from_pretrained(
            source.folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    if missing := sorted(told["missing_keys"]):
        raise UserError(
            f"weights are missing: {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}",
            where=source.name,
            fix="train its head, or name a classifier that has one",
        )
    return ClassifierReward(model.to(device), load_tokenizer(source.folder), part, micro_batch_tokens)


@contextmanager
def _padding(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> Iterator[int]:
    """The id to fill padding with; inside, the model takes it for its pad.

    A language model finds the last token of a row as the last that is not its config's pad. Padding filled with that
    very id leaves a row's score what it is alone. Where the config names no token of the vocabulary, a row alone is
    read at its very end: an id that is in none of the rows gives the same.
    """
    configs = {id(c): c for c in (model.config, model.config.get_text_config())}.values()
    kept = [getattr(config, "pad_token_id", None) for config in configs]
    own, vocabulary = kept[-1], int(model.get_input_embeddings().weight.shape[0])
    filler = own
    if filler is None or not 0 <= filler < vocabulary:
        used = {token for row in rows for token in row}
        filler = next((i for i in range(vocabulary) if i not in used), 0)
    try:
        for config in configs:
            config.pad_token_id = filler
        yield filler
    finally:
        for config, pad in zip(configs, kept, strict=True):
            config.pad_token_id = pad


def _positions(model: PreTrainedModel) -> Iterator[int]:
    """What the model's positions allow. The RoBERTa family counts them from behind the padding's own position."""
    named = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(named, int) and named > 0:  # some write −1 for no limit
        yield named
    for key, module in model.named_modules():
        if isinstance(module, nn.Embedding) and key.rsplit(".", 1)[-1] in ("position_embeddings", "wpe"):
            yield module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)


def _conversation(messages: Sequence[Message]) -> str:
    """A lone turn is its text; several are told apart by their role."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


def _without_oldest(messages: Sequence[Message]) -> list[Message] | None:
    """The conversation from its second user turn on, system turns kept; None when there is no second one."""
    users = [i for i, message in enumerate(messages) if message.role == "user"]
    if len(users) < 2:
        return None
    return [m for i, m in enumerate(messages) if m.role == "system" or i >= users[1]]
