"""Score responses with a sequence classifier: an encoder, or a language model with a classification head.

With a single output, or for a model trained for regression, the score is the output. With several classes it is the
log-odds of one class, ln(p / (1 − p)): the class's logit for multi-label models, and its logit minus the logsumexp of
the other logits for softmax models.

If the tokenizer has a chat template, the classifier reads the whole conversation rendered with it; otherwise it reads
the pair (conversation, response). A space is inserted into text that spells a special token, so that a response cannot
write a separator or a turn. Responses are never truncated; prompts are truncated on the left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from harken.batches import collate, micro_batches
from harken.chat import template as chat_template
from harken.config.rewards import ClassifierPart
from harken.data.encoder_renderer import join_turns
from harken.errors import UserError
from harken.models.load_errors import load_errors
from harken.models.positions import position_limits
from harken.models.resolve import ModelSource
from harken.models.tokenizer import load_tokenizer
from harken.records import Message, Rollout, Score
from harken.reward.source import clip_score, require_finite
from harken.run import json_io

FIX_LENGTH = "lower training.ppo.max_gen_len or data.max_length, or choose a classifier that reads more"


@dataclass(frozen=True)
class _Input:
    """The model's input for one response."""

    tokens: tuple[int, ...]
    types: tuple[int, ...]
    """Token type ids; empty if the model has none."""


class ClassifierReward:
    """Score responses by the classifier's logits.

    Raises UserError if the model does not have the label, or `max_length` is more than it can read.
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
        self.max_length = self._find_max_length()
        self.label = self._find_label()
        specials = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
        longest_first = sorted({*specials, *tokenizer.all_special_tokens} - {""}, key=lambda t: (-len(t), t))
        self._special_tokens = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        # The first segment is truncated on the left, which drops the oldest text of the conversation.
        tokenizer.truncation_side = "left"
        self.pad_rows = self._is_padding_safe()
        """Whether rows of different lengths may share a batch; else a batch has rows of one length."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score all responses; equal inputs are scored once.

        Raises, naming the prompt, UserError for a response that is too long and NonFinite for a score that is NaN or
        infinite.
        """
        rows = [self._encode(rollout) for rollout in rollouts]
        distinct = list(dict.fromkeys(rows))
        values: dict[_Input, float] = {}
        for batch in self._batches(distinct):
            values |= zip(batch, self._row_scores(batch), strict=True)
        raw = require_finite(self.name, rollouts, [values[row] for row in rows])
        return [Score(self.name, clip_score(value, self.part.clip), self.weight) for value in raw]

    def _batches(self, rows: Sequence[_Input]) -> Iterator[list[_Input]]:
        lengths = sorted({len(row.tokens) for row in rows})
        length_groups = (
            [rows] if self.pad_rows else [[r for r in rows if len(r.tokens) == n] for n in lengths]
        )
        for rows_of_length in length_groups:
            for group in micro_batches([len(row.tokens) for row in rows_of_length], self.micro_batch_tokens):
                yield [rows_of_length[i] for i in group]

    def _row_scores(self, rows: Sequence[_Input]) -> list[float]:
        values: list[float] = self._label_scores(self._logits(rows)).tolist()
        return values

    @torch.no_grad()
    def _logits(self, rows: Sequence[_Input]) -> Tensor:
        """Return float32 logits [rows, outputs], those of each row as without padding."""
        flags = [[False] * len(row.tokens) for row in rows]
        with _pad_token(self.model, [row.tokens for row in rows]) as pad_id:
            batch = collate([row.tokens for row in rows], flags, pad_id)
            inputs = {"input_ids": batch.tokens, "attention_mask": batch.attention_mask.long()}
            if rows[0].types:
                inputs["token_type_ids"] = collate([row.types for row in rows], flags, 0).tokens
            device = self.model.device
            logits: Tensor = self.model(**{key: t.to(device) for key, t in inputs.items()}).logits.float()
        return logits

    def _is_padding_safe(self) -> bool:
        """Return whether padding leaves the logits unchanged: two rows in one batch against each alone.

        Some families read the last position of a padded row, or ignore the attention mask.
        """
        with load_errors("this classifier cannot read a text", self.name, "name another classifier"):
            texts = ("a probe", "another probe, and a longer one")
            rows = [self._input_of(self.tokenizer(text, verbose=False)) for text in texts]
            unpadded = torch.cat([self._logits([row]) for row in rows])
            try:
                padded = self._logits(rows)
            except Exception:  # noqa: BLE001  a family that cannot batch them gets rows of equal length
                return False
        tolerance = 1e-4 if self.model.dtype == torch.float32 else 0.05
        return float((padded - unpadded).abs().max()) <= tolerance * max(float(unpadded.abs().max()), 1.0)

    def _label_scores(self, logits: Tensor) -> Tensor:
        """Turn logits [responses, outputs] into scores [responses] by the module's rule."""
        label_logits = logits[:, self.label]
        independent = self.model.config.problem_type in ("regression", "multi_label_classification")
        if logits.shape[1] == 1 or independent:
            return label_logits
        other_logits = torch.cat([logits[:, : self.label], logits[:, self.label + 1 :]], dim=1)
        return label_logits - other_logits.logsumexp(dim=1)

    def _encode(self, rollout: Rollout) -> _Input:
        response = self._break_special_tokens(rollout.text)
        if self.part.text == "response":
            return self._checked_input(rollout, self.tokenizer(response, verbose=False))
        if self.tokenizer.chat_template:
            return self._apply_template(rollout, response)
        response_tokens = len(self.tokenizer("", response, verbose=False)["input_ids"])
        if self.max_length is not None and response_tokens >= self.max_length:
            raise self._too_long_error(rollout, response_tokens)
        truncation = (
            {} if self.max_length is None else {"truncation": "only_first", "max_length": self.max_length}
        )
        prompt = self._break_special_tokens(join_turns(rollout.prompt.messages))
        return self._checked_input(rollout, self.tokenizer(prompt, response, verbose=False, **truncation))

    def _apply_template(self, rollout: Rollout, response: str) -> _Input:
        """Render the conversation with the chat template. A truncated response gets no end of turn."""
        messages = list(rollout.prompt.messages)
        while True:
            turns = [{"role": m.role, "content": self._break_special_tokens(m.content)} for m in messages]
            try:
                turns.append({"role": "assistant", "content": response})
                text = chat_template.render(self.tokenizer, turns)
            except chat_template.TemplateRefusal as error:
                raise UserError(
                    f"the classifier's chat template refuses this conversation ({error.message})",
                    where=self._where(rollout),
                    fix="use text: response, or a classifier whose chat template accepts it",
                ) from error
            if rollout.stop == "length" and response and response in text:
                text = text[: text.rindex(response)] + response
            encoded = self.tokenizer(text, add_special_tokens=False, verbose=False)
            shorter = _drop_oldest_turn(messages)
            if self.max_length is None or len(encoded["input_ids"]) <= self.max_length or shorter is None:
                return self._checked_input(rollout, encoded)
            messages = shorter

    def _checked_input(self, rollout: Rollout, encoded: dict[str, list[int]]) -> _Input:
        tokens = tuple(encoded["input_ids"])
        if self.max_length is not None and len(tokens) > self.max_length:
            raise self._too_long_error(rollout, len(tokens))
        return self._input_of(encoded)

    @staticmethod
    def _input_of(encoded: Mapping[str, Sequence[int]]) -> _Input:
        return _Input(tuple(encoded["input_ids"]), tuple(encoded.get("token_type_ids", ())))

    def _too_long_error(self, rollout: Rollout, tokens: int) -> UserError:
        return UserError(
            f"this response takes {tokens} tokens, and the classifier reads {self.max_length}",
            where=self._where(rollout),
            fix=FIX_LENGTH,
        )

    def _where(self, rollout: Rollout) -> str:
        return f"{self.name}, prompt {rollout.prompt.id}"

    def _break_special_tokens(self, text: str) -> str:
        return self._special_tokens.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)

    def _find_max_length(self) -> int | None:
        """Return `max_length` of the part, else the model's own limit, if any.

        Tokenizers without a limit report a huge number.
        """
        limits = (*position_limits(self.model), self.tokenizer.model_max_length)
        limits_known = [int(limit) for limit in limits if limit is not None and limit < 10**9]
        limit = min(limits_known, default=None)
        if limit is not None and (self.part.max_length or 0) > limit:
            raise UserError(
                f"max_length {self.part.max_length} is more than this classifier reads",
                where=self.name,
                fix=f"lower max_length to {limit} tokens, which it reads, or leave it out",
            )
        return self.part.max_length or limit

    def _find_label(self) -> int:
        names: dict[int, str] = {int(i): str(n) for i, n in self.model.config.id2label.items()}
        options = ", ".join(f"{i} {name}" for i, name in sorted(names.items()))
        label = self.part.label
        if label is None and len(names) > 1:
            raise UserError(
                f"this classifier has {len(names)} outputs", where=self.name, fix=f"name a label: {options}"
            )
        if label is None:
            return 0
        by_name = {str(i): i for i in names} | {name: i for i, name in names.items()}
        if label not in by_name:
            raise UserError(
                f"this classifier has no label {label}", where=self.name, fix=f"choose among {options}"
            )
        return by_name[label]


def check_classifier(source: ModelSource) -> None:
    """Check by its config that a model is a sequence classifier. Raises UserError when it is not."""
    if source.kind != "full":
        raise UserError(
            f"is not a classifier: it is {source.description}",
            where=source.name,
            fix="use type: model for a reward model that Harken trained",
        )
    architectures = json_io.read_object(source.folder / "config.json").get("architectures")
    names = (
        [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    )
    if not any("ForSequenceClassification" in name for name in names):
        raise UserError(
            f"is not a classifier: its config names {', '.join(names) or 'no architecture'}",
            where=source.name,
            fix="name a sequence classification model; a plain language model has no trained head",
        )


def load_classifier(
    source: ModelSource,
    part: ClassifierPart,
    dtype: torch.dtype,
    device: torch.device,
    micro_batch_tokens: int,
) -> ClassifierReward:
    """Load a classifier. Raises UserError when it cannot be read, or weights are missing and would be random."""
    source.check()
    fix = "name a model that transformers supports without trust_remote_code"
    with load_errors("this classifier cannot be read", source.name, fix):
        model, loading_info = AutoModelForSequenceClassification.from_pretrained(
            source.folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    if missing := sorted(loading_info["missing_keys"]):
        raise UserError(
            f"weights are missing: {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}",
            where=source.name,
            fix="train its head, or name a classifier that has one",
        )
    return ClassifierReward(model.to(device), load_tokenizer(source.folder), part, micro_batch_tokens)


@contextmanager
def _pad_token(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> Iterator[int]:
    """Set the model's pad token for the rows of a batch; yields its id.

    transformers pools the last non-pad token. Pad with the config's pad id; if there is none in the vocabulary, with an
    id that occurs in no row.
    """
    configs = {id(c): c for c in (model.config, model.config.get_text_config())}.values()
    previous = [getattr(config, "pad_token_id", None) for config in configs]
    original, vocabulary = previous[-1], int(model.get_input_embeddings().weight.shape[0])
    pad_id = original
    if pad_id is None or not 0 <= pad_id < vocabulary:
        used = {token for row in rows for token in row}
        pad_id = next((i for i in range(vocabulary) if i not in used), 0)
    try:
        for config in configs:
            config.pad_token_id = pad_id
        yield pad_id
    finally:
        for config, pad in zip(configs, previous, strict=True):
            config.pad_token_id = pad


def _drop_oldest_turn(messages: Sequence[Message]) -> list[Message] | None:
    """Return the conversation from its second user turn on, with system turns; None without a second one."""
    users = [i for i, message in enumerate(messages) if message.role == "user"]
    if len(users) < 2:
        return None
    return [m for i, m in enumerate(messages) if m.role == "system" or i >= users[1]]
