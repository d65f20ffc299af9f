"""A bidirectional encoder (BERT, RoBERTa, DeBERTa, ModernBERT …) as the trunk of a reward model.

Every token attends to every other, so rows are padded with an attention mask, and a row is pooled at its first token
([CLS]). Rows are not packed, prefixes are not shared and an encoder does not generate: `Encoder` has none of those
methods.
Source: Devlin et al. 2019 (arXiv:1810.04805).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers import logging as transformers_logging

from harken.batches import TokenBatch, collate, micro_batches
from harken.config import LoraSettings
from harken.data.encoder_renderer import EncoderRenderer
from harken.errors import UserError
from harken.kernels import fp32_linear
from harken.kernels.allocator import keep_freed_memory
from harken.kernels.attention import probe_tokens
from harken.kernels.gradient_checkpointing import checkpointed_layers
from harken.models.adapted_model import AdaptedModel
from harken.models.find_tokenizer import tokenizer_of
from harken.models.load_errors import load_errors, save_errors
from harken.models.lora_targets import is_linear
from harken.models.positions import position_limits
from harken.models.quantised import Quantised, WeightDtype
from harken.models.resolve import ModelSource
from harken.models.weights import COPY_MODEL_FIX, require_all
from harken.run import signals

CHOOSE_ANOTHER = "choose another encoder, or a causal language model"


class Encoder(AdaptedModel):
    """A bidirectional encoder, frozen, and the adapters that turn it into reward models.

    Raises UserError for a model whose first state does not depend on later tokens, and for one whose states depend on
    padding despite the attention mask.
    """

    TASK_TYPE = "FEATURE_EXTRACTION"

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: ModelSource | None = None
    ) -> None:
        super().__init__(model, source)
        if getattr(model, "pooler", None) is not None:
            self.model.pooler = None  # its output is not used, so its weights would get no gradient
        self.tokenizer = tokenizer
        self._frame = self.renderer()
        self.pad_token = self._frame.pad
        self.max_length = min(position_limits(model), default=None)
        """Maximum tokens of a row; None without a limit."""
        self._has_types = self._takes_token_types()
        fp32_linear.install(self.model)
        self._check_structure()

    @classmethod
    def load(cls, source: ModelSource, weight_dtype: WeightDtype, device: torch.device | str) -> Encoder:
        """Read an encoder from a transformers folder. Heads for other tasks are left out.

        Raises UserError for weights that cannot be read, are damaged or missing, and for a quantised dtype.
        """
        if isinstance(weight_dtype, Quantised):
            raise UserError(
                "an encoder is not quantised", where="dtype", fix="set dtype: bfloat16, or float32"
            )
        keep_freed_memory()
        source.check()
        folder = source.folder
        with load_errors("this model cannot be read", str(folder), COPY_MODEL_FIX), _without_load_report():
            model, loading_info = AutoModel.from_pretrained(
                folder,
                dtype=weight_dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
        require_all(
            [key for key in loading_info["missing_keys"] if "pooler" not in key], folder, COPY_MODEL_FIX
        )
        return cls(model.to(device), tokenizer_of(source), source)

    @property
    def trunk(self) -> nn.Module:
        """Return the model: it has no output embedding."""
        trunk: nn.Module = self.model
        return trunk

    @property
    def config(self) -> PretrainedConfig:
        """Return the configuration of the model."""
        config: PretrainedConfig = self.model.config
        return config

    @property
    def hidden_size(self) -> int:
        """Return the size of a hidden state, which may differ from that of an embedding."""
        return int(self.config.hidden_size)

    def renderer(
        self,
        keep_special_tokens: bool | Sequence[str] | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> EncoderRenderer:
        """Return the renderer that writes the pair (conversation, response) as the tokenizer frames it."""
        return EncoderRenderer(tokenizer or self.tokenizer, keep_special_tokens)

    def add_adapter(self, name: str, settings: LoraSettings, seed: int) -> None:
        """Add a trainable adapter; by default on every linear layer."""
        if settings.target_modules is None:
            layers = {key.rsplit(".", 1)[-1] for key, part in self.model.named_modules() if is_linear(part)}
            names = sorted(layers - {"base_layer", "default"} - {n for n in layers if n.startswith("lora_")})
            settings = settings.model_copy(update={"target_modules": names})
        super().add_adapter(name, settings, seed)

    def hidden(self, batch: TokenBatch) -> Float[Tensor, "batch time features"]:
        """Return the hidden states at every position; padding is masked, and its own states are meaningless.

        Raises UserError for a row that is longer than the position embeddings.
        """
        signals.raise_if_stopped()
        self.check_length(batch.tokens.shape[1])
        inputs: dict[str, Any] = {"attention_mask": batch.attention_mask.long()}
        if self._has_types:
            inputs["token_type_ids"] = self._token_types(batch)
        compute = self._compute or self.dtype
        recompute_context: AbstractContextManager[None] = nullcontext()
        if self.gradient_checkpointing:
            recompute_context = checkpointed_layers(self.model, lambda: self._role)
        mixed = compute != torch.float32
        with recompute_context, torch.autocast(self.device.type, compute, enabled=mixed):
            output: Tensor = self.model(input_ids=batch.tokens, **inputs).last_hidden_state
        return output.to(self.dtype)

    def check_length(self, tokens: int) -> None:
        """Raise UserError for a row of `tokens` tokens if there are fewer position embeddings."""
        if self.max_length is not None and tokens > self.max_length:
            raise UserError(
                f"a row may have {tokens} tokens, and this encoder reads {self.max_length}",
                where="data.max_length",
                fix=f"lower it to {self.max_length}",
            )

    def pooled(
        self, hidden: Float[Tensor, "batch time features"], batch: TokenBatch
    ) -> Float[Tensor, "batch features"]:
        """Return the hidden state of each row's first token."""
        return hidden[:, 0]

    def micro_batches(self, items: Sequence[Sequence[Sequence[int]]], token_budget: int) -> list[list[int]]:
        """Split items, lists of rows that stay together, into padded micro-batches of at most `token_budget` tokens."""
        sides = max((len(item) for item in items), default=1)
        longest = [max(len(row) for row in item) for item in items]
        return micro_batches(longest, max(token_budget // sides, 1))

    def forward_size(self, rows: Sequence[Sequence[int]]) -> int:
        """Return the number of tokens, padding included, that one forward over these rows computes."""
        return len(rows) * max(map(len, rows))

    def save_model(self, folder: Path) -> None:
        """Save the encoder, without a pooler, as a plain transformers folder, with the tokenizer."""
        if self._peft is not None:
            raise ValueError("an encoder with adapters is saved as an adapter on its base")
        self.round_trained_weights()
        with save_errors(folder):
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def _takes_token_types(self) -> bool:
        """Return whether rows have token types: 0 to the first separator, 1 after it, as its tokenizer writes."""
        takes = "token_type_ids" in inspect.signature(self.model.forward).parameters
        if not takes or getattr(self.config, "type_vocab_size", 0) < 2:
            return False
        encoding = self.tokenizer("a probe", "another text", return_token_type_ids=True, verbose=False)
        (row,) = self._token_types(self._collate([encoding["input_ids"]])).tolist()
        if row != list(encoding["token_type_ids"]):
            raise UserError(
                "its tokenizer writes other token types of a pair than 0 for the first text and 1 for the second",
                where=str(self._folder or self.config.model_type),
                fix=CHOOSE_ANOTHER,
            )
        return True

    def _token_types(self, batch: TokenBatch) -> Int[Tensor, "batch time"]:
        separator = batch.tokens == self._frame.separator
        separators_before = separator.cumsum(-1) - separator.long()
        types: Tensor = (
            separators_before >= self._frame.middle.count(self._frame.separator)
        ) & batch.attention_mask
        return types.long()

    @torch.no_grad()
    def _check_structure(self) -> None:
        """Run a short row, the same row with another end, and the short row padded next to a longer one."""
        where = str(self._folder or self.config.model_type)
        short, end, longer = probe_tokens(int(self.config.vocab_size), 6, 2, 14)
        rows = [[*short], [*short[:-2], *end], [*longer]]
        with load_errors("this model cannot be run over a few tokens", where, CHOOSE_ANOTHER):
            unpadded, other = (self.hidden(self._collate([row]))[0].float() for row in rows[:2])
            padded = self.hidden(self._collate([rows[0], rows[2]]))[0, : len(short)].float()
        if not torch.isfinite(unpadded).all():
            raise UserError(
                "this model's hidden states are not finite numbers", where=where, fix=COPY_MODEL_FIX
            )
        tolerance = (1e-4 if self.dtype == torch.float32 else 0.05) * float(unpadded.abs().max())
        if torch.equal(unpadded[0], other[0]):
            raise UserError(
                "the first state of this model does not depend on later tokens: it is not an encoder",
                where=where,
                fix=CHOOSE_ANOTHER,
            )
        if float((padded - unpadded).abs().max()) > tolerance:
            raise UserError(
                "the states of this model depend on padding, in spite of its attention mask",
                where=where,
                fix=CHOOSE_ANOTHER,
            )

    def _collate(self, rows: Sequence[Sequence[int]]) -> TokenBatch:
        batch = collate(rows, [[False] * len(row) for row in rows], self.pad_token)
        return batch.to(self.device)


@contextmanager
def _without_load_report() -> Iterator[None]:
    """Keep transformers from listing heads that are left out: what is missing is checked instead."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
