"""A causal language model's trunk with named adapters: load it, run it packed or padded, decode, save it.

Only this file, `adapted_model`, `encoder` and `weights` touch model code of transformers and peft.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers import logging as transformers_logging

from harken.batches import TokenBatch, last_states, micro_batches
from harken.chat.turn_end import padding_id
from harken.data.chat import Renderer
from harken.kernels import attention, decode_step, fp32_linear, fused, lora_linear, packed_linear, packing
from harken.kernels.allocator import keep_freed_memory
from harken.kernels.gradient_checkpointing import checkpointed_layers
from harken.kernels.shape_buckets import limit_kernel_cache
from harken.kernels.trunk import trunk_of
from harken.maths.logits import LogitsHead
from harken.models.adapted_model import AdaptedModel
from harken.models.check_logits import check_causal, check_logits
from harken.models.end_tokens import end_tokens
from harken.models.find_tokenizer import tokenizer_of
from harken.models.logits_head import detect_head
from harken.models.positions import check_position_limit
from harken.models.quantised import WeightDtype
from harken.models.resolve import ModelSource
from harken.models.save import write_model
from harken.models.weights import cast_parameters, load_adapter, merge_adapter, read_merged, read_model
from harken.run import signals

# Keep the terminal to the run's own messages: no loading bars, no deprecation warnings for library authors.
transformers_logging.disable_progress_bar()
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)


class Backbone(AdaptedModel):
    """A causal language model, frozen, and the adapters that turn it into policy, reward model or reference."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: ModelSource | None = None
    ) -> None:
        super().__init__(model, source)
        self.set_tokenizer(source, tokenizer)
        self._unembedding: packed_linear.PackedWeight | None = None
        self.decode_step: decode_step.LlamaDecodeStep | None = None
        """Inside `decoding`: the fast decode step, for a Llama-like model."""
        self.decoder_kind: str | None = None  # set at first use by `rollout.choose_decoder`
        self._install()
        where = str(source.folder if source else model.config.model_type)
        check_causal(model, self.trunk, where)
        head = detect_head(model, self.trunk, where)
        self._scale, self._softcap = head.scale, head.softcap
        self._layer_norms = any(isinstance(module, nn.LayerNorm) for module in model.modules())
        probe_args = self.forward, self.config, self.dtype
        self._short = attention.max_eager_length(*probe_args) if self.device.type == "cpu" else 0
        self.packs = self._short > 0 and attention.is_packing_equivalent(*probe_args)
        """Whether a batch runs as one packed sequence."""

    @classmethod
    def load(cls, source: ModelSource, weight_dtype: WeightDtype, device: torch.device | str) -> Backbone:
        """Read a model from disk. Adapters in its chain are merged in float32, then cast once to `weight_dtype`.

        Raises UserError for weights that cannot be read, are damaged or missing, and a model Harken cannot work with.
        """
        keep_freed_memory()
        limit_kernel_cache()
        source.check()
        model = read_merged(source, weight_dtype, torch.device(device))
        backbone = cls(model, tokenizer_of(source), source)
        check_logits(backbone.model, backbone.trunk, backbone.head, str(source.folder))
        return backbone

    @property
    def hidden_size(self) -> int:
        """Return the size of a hidden state."""
        return int(self.model.get_input_embeddings().weight.shape[1])

    @property
    def output_weight(self) -> Float[Tensor, "vocab features"]:
        """Return the weight of the output embedding."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    @property
    def head(self) -> LogitsHead:
        """Return the function from hidden states to logits."""
        bias = getattr(self.model.get_output_embeddings(), "bias", None)
        return LogitsHead(self.output_weight, bias, self._scale, self._softcap)

    def set_tokenizer(self, source: ModelSource | None, tokenizer: PreTrainedTokenizerBase) -> None:
        """Use this tokenizer, and the end tokens of `source`: the model itself or an adapter on it."""
        self.tokenizer, self.end_tokens = tokenizer, end_tokens(self.model, tokenizer, source)
        self.pad_token = padding_id(tokenizer.pad_token_id, self.end_tokens)

    # -- running ----------------------------------------------------------------------------------

    def hidden(self, batch: TokenBatch) -> Float[Tensor, "batch time features"]:
        """Return the trunk's hidden states at every position, under the active role.

        Attention is causal, so right padding needs no mask; hidden states at padding are meaningless.
        """
        if not self.packs:
            kernel = self._attention(batch.tokens.shape[1])
            return self.forward(kernel, input_ids=batch.tokens, use_cache=False)
        layout = self.pack(batch.sequences())
        states = self.forward_packed(layout, use_cache=False)
        where = nn.functional.pad(
            layout.token_index, (0, batch.tokens.shape[1] - layout.token_index.shape[1])
        )
        return states.index_select(0, where.flatten()).view(*where.shape, -1)

    def micro_batches(self, items: Sequence[Sequence[Sequence[int]]], token_budget: int) -> list[list[int]]:
        """Split items, lists of rows that stay together, into micro-batches of at most `token_budget` tokens.

        Returns item indices. An item above the budget gets a micro-batch of its own.
        """
        if self.packs:
            return packing.packed_micro_batches(items, token_budget)
        sides = max((len(item) for item in items), default=1)
        longest = [max(len(row) for row in item) for item in items]
        return micro_batches(longest, max(token_budget // sides, 1))

    def pooled(
        self, hidden: Float[Tensor, "batch time features"], batch: TokenBatch
    ) -> Float[Tensor, "batch features"]:
        """Return the hidden state at each row's last non-padding token: attention is causal."""
        return last_states(hidden, batch)

    def renderer(
        self,
        keep_special_tokens: bool | Sequence[str] | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> Renderer:
        """Return the renderer of the model's chat template."""
        return Renderer(tokenizer or self.tokenizer, keep_special_tokens)

    def forward_size(self, rows: Sequence[Sequence[int]]) -> int:
        """Return the number of tokens, padding included, that one forward over these rows computes."""
        return self.pack(rows).tokens.numel()

    def pack(self, rows: Sequence[Sequence[int]]) -> packing.PackedSequence:
        """Pack rows into model inputs. On a CPU they are packed without padding, and share common prefixes."""
        if self.packs:  # with dropout, equal prefixes get different masks
            return packing.pack_rows(rows, share=not lora_linear.has_active_dropout(self._layers))
        return packing.pad_rows(rows, self.pad_token)

    def forward_packed(
        self, layout: packing.PackedSequence, **inputs: Any
    ) -> Float[Tensor, "places features"]:
        """Return the trunk's hidden states at every token of packed inputs."""
        kernel = self._attention(layout.token_index.shape[1])
        if layout.segments is not None:
            kernel, inputs = attention.PACKED_ATTENTION, {**inputs, "layout": layout}
        tokens, positions = layout.tokens.to(self.device), layout.positions.to(self.device)
        return self.forward(kernel, input_ids=tokens, position_ids=positions, **inputs).flatten(0, 1)

    @contextmanager
    def decoding(self, *, pack: bool = True) -> Iterator[None]:
        """Prepare the layers for decoding inside, without gradients, with the currently active adapter."""
        packs = pack and packed_linear.can_pack(self.model)
        try:
            self._unembedding = packed_linear.PackedWeight(self.output_weight) if packs else None
            with (
                packed_linear.packed_linears(self.trunk)
                if packs
                else lora_linear.adapters_cast_once(self._layers)
            ):
                # Weights that train in float32 need autocast, which the trunk's own forward runs under.
                supported = self._compute is None and not self.quantised and self._has_decode_step
                self.decode_step = decode_step.LlamaDecodeStep(self.trunk) if supported else None
                yield
        finally:
            self._unembedding = self.decode_step = None

    def logits(self, states: Float[Tensor, "rows features"]) -> Float[Tensor, "rows vocab"]:
        """Return logits as training computes them: a matmul in the matmul dtype, float32 from there on."""
        return self.head.from_matmul(self._unembedding(states)) if self._unembedding else self.head(states)

    def forward(self, kernel: str | None = None, **inputs: Any) -> Float[Tensor, "batch time features"]:
        """Run the trunk; `kernel` is the registered name of an attention (None: the model's own).

        On a 16-bit base, adapters compute in 16 bits as well. Their parameters and gradients stay float32, as in
        any mixed-precision training. Every forward is a safe point for signals.
        """
        signals.raise_if_stopped()
        config = self.config
        configured = config._attn_implementation
        compute = self._compute or self.dtype
        try:
            config._attn_implementation = kernel or configured
            recompute_context: AbstractContextManager[None] = nullcontext()
            if self.gradient_checkpointing:
                recompute_context = checkpointed_layers(self.trunk, lambda: self._role)
            with recompute_context, torch.autocast(self.device.type, compute, enabled=self._mixes(compute)):
                output: Tensor = self.trunk(**inputs).last_hidden_state
        finally:
            config._attn_implementation = configured
        return output.to(
            self.dtype
        )  # autocast may have run the last norm in float32; the output embedding is 16-bit

    @property
    def trunk(self) -> nn.Module:
        """Return the model without its output embedding."""
        return trunk_of(self.model)

    # -- saving -----------------------------------------------------------------------------------

    def merge(self, name: str) -> None:
        """Merge the adapter into the base, permanently: computed in float32, rounded once to the base's dtype.

        Other adapters are lost.
        """
        assert self._peft is not None
        dtype, device = self.dtype, self.device
        self._switch(name)
        if self.quantised:  # merge into the original weights, not the quantised ones
            assert self.source is not None
            with tempfile.TemporaryDirectory() as folder:
                self.save_adapter(name, Path(folder), self.source.folder)
                base = load_adapter(read_model(self.source.folder, torch.float32), Path(folder))
            self.model = merge_adapter(base, name)
        else:
            self.model = merge_adapter(self._peft.float(), name)
        cast_parameters(self.model, dtype)
        self.model.to(device).requires_grad_(False).eval()
        self._peft, self._role, self._layers = None, None, []
        self._install()

    def save_model(self, folder: Path) -> None:
        """Save the base as a plain transformers folder, with the tokenizer. Raises ValueError while it has adapters.

        Weights that trained in float32 are rounded, permanently, to the dtype the model was loaded in.
        """
        if self._peft is not None:
            raise ValueError("merge the adapter before saving the whole model")
        self.round_trained_weights()
        write_model(self.model, self.tokenizer, self.end_tokens, folder)

    def _install(self) -> None:
        fp32_linear.install(self.model)
        fused.install(self.model)

    def _mixes(self, compute: torch.dtype) -> bool:
        """Return whether a forward needs autocast, which costs time per operation. Packed layers have one dtype."""
        return compute != torch.float32 and (self._unembedding is None or self._layer_norms)

    @cached_property
    def _has_decode_step(self) -> bool:
        return decode_step.is_equivalent(self.trunk, self.forward, self.dtype)

    def _attention(self, longest: int) -> str | None:
        """Return the attention for padded rows (None: the model's own). Raises UserError for a row that is too long."""
        check_position_limit(self.config, longest, "a row", "lower data.max_length to {limit}")
        return "eager" if longest <= self._short else None
