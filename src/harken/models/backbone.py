"""A causal language model's trunk with named adapters: load it, run it inside a role, save it.

With `weights` the only file that touches model code of transformers and peft. A *role* is which adapter is on:
`role("policy")`, `role("reward")`, or `role(None)`, the bare base. Forward and backward of a role must both happen
inside its scope: peft gives a gradient of zero, silently, when the adapter is switched in between.
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
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers import logging as transformers_logging

from harken.batches import TokenBatch, micro_batches
from harken.chat.turn_end import padding_id
from harken.config import LoraSettings
from harken.kernels import attention, decode_step, fp32_linear, fused, lora_linear, packed_linear, packing
from harken.kernels.allocator import keep_freed_memory
from harken.kernels.gradient_checkpointing import checkpointed_layers
from harken.kernels.shape_buckets import limit_kernel_cache
from harken.kernels.trunk import text_config_of, trunk_of
from harken.maths.logits import LogitsHead
from harken.maths.matmul_dtype import matmul_dtype
from harken.models.check_logits import check_causal, check_logits
from harken.models.end_tokens import end_tokens
from harken.models.find_tokenizer import tokenizer_of
from harken.models.logits_head import detect_head
from harken.models.lora_targets import lora_config, require_switchable
from harken.models.positions import check_position_limit
from harken.models.quantised import WeightDtype, is_quantised
from harken.models.resolve import ModelSource
from harken.models.save import write_adapter, write_model
from harken.models.weights import (
    cast_parameters,
    load_adapter,
    merge_adapter,
    new_adapter,
    read_merged,
    read_model,
)
from harken.run import atomic, checksums, signals
from harken.seeds import derive_seed as derive_seed

# Keep the terminal to the run's own messages: no loading bars, no deprecation warnings for library authors.
transformers_logging.disable_progress_bar()
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)


class Backbone:
    """One base model, frozen, and the adapters that turn it into policy, reward model or reference."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: ModelSource | None = None
    ) -> None:
        self.model = model.requires_grad_(False).eval()
        self.source = source
        self.set_tokenizer(source, tokenizer)
        self._peft: PeftModel | None = None
        self._role: str | None = None
        self._layers: list[BaseTunerLayer] = []
        self._compute: torch.dtype | None = None
        self._unembedding: packed_linear.PackedWeight | None = None
        self.decode_step: decode_step.LlamaDecodeStep | None = None
        """Inside `decoding`: the fast decode step, for a Llama-like model."""
        self.decoder_kind: str | None = None  # set at first use by `rollout.choose_decoder`
        self.gradient_checkpointing = False
        """Whether forwards with gradients save only each layer's input (see `kernels.gradient_checkpointing`)."""
        self._install()
        where = str(source.folder if source else model.config.model_type)
        check_causal(model, self.trunk, where)
        found = detect_head(model, self.trunk, where)
        self._scale, self._softcap = found.scale, found.softcap
        self._layer_norms = any(isinstance(module, nn.LayerNorm) for module in model.modules())
        probed = self.forward, self.config, self.dtype
        self._short = attention.max_eager_length(*probed) if self.device.type == "cpu" else 0
        self.packs = self._short > 0 and attention.is_packing_equivalent(*probed)
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
    def device(self) -> torch.device:
        """Return the device of the weights."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the weights that are not quantised."""
        dtype: torch.dtype = next(p.dtype for p in self.model.parameters() if not is_quantised(p))
        return dtype

    @property
    def quantised(self) -> bool:
        """Whether layers of the base are quantised."""
        return any(is_quantised(parameter) for parameter in self.model.parameters())

    @property
    def config(self) -> PretrainedConfig:
        """Return the configuration of the text layers."""
        return text_config_of(self.model)

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

    # -- adapters ---------------------------------------------------------------------------------

    def add_adapter(self, name: str, settings: LoraSettings, seed: int) -> None:
        """Add a trainable adapter: A is random (from the seed alone), B is zero, both float32."""
        trainable = self._trainable_adapters()
        lora = lora_config(self.model, self.trunk, settings, self.source.folder if self.source else None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "adapter", name))
            self._peft = new_adapter(self._peft or self.model, lora, name)
        self._freeze_all_but(trainable | {name})

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load a frozen adapter. Raises UserError when a file does not match its checksum."""
        checksums.verify_folder(folder)
        trainable = self._trainable_adapters()
        self._peft = load_adapter(self._peft or self.model, folder, name)
        self._freeze_all_but(trainable)

    def copy_adapter(self, source: str, name: str, *, trainable: bool) -> None:
        """Copy adapter `source` to `name`, which is added if it does not exist."""
        assert self._peft is not None
        trainable_now = self._trainable_adapters()
        if name not in self._peft.peft_config:
            self._peft.add_adapter(name, self._peft.peft_config[source])
        target, origin = self.adapter_parameters(name), self.adapter_parameters(source)
        with torch.no_grad():
            for key, parameter in target.items():
                parameter.data = parameter.data.float()
                parameter.copy_(origin[key.replace(f".{name}.", f".{source}.")])
        self._freeze_all_but(trainable_now | {name} if trainable else trainable_now - {name})

    def train_all_weights(self) -> None:
        """Make all weights float32 and trainable; computation stays in the base's matmul dtype."""
        self._compute = matmul_dtype(self.dtype, self.device)
        cast_parameters(self.model, torch.float32)
        self.model.requires_grad_(True)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable weights by name; a tied one once."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @contextmanager
    def role(self, adapter: str | None) -> Iterator[None]:
        """Activate only this adapter inside (None: none, like peft's disable_adapter). Exit restores the outer role."""
        outer = self._role
        self._switch(adapter)
        try:
            yield
        finally:
            self._switch(outer)

    def adapter_parameters(self, name: str) -> dict[str, nn.Parameter]:
        """Return the adapter's parameters by name."""
        mark = f".{name}."
        return {key: p for key, p in self.model.named_parameters() if "lora_" in key and mark in key}

    def set_adapter_dropout(self, on: bool) -> None:
        """Switch adapter dropout on or off. The base stays in evaluation mode, without its own dropout."""
        for layer in self._layers:
            layer.lora_dropout.train(on)

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

    def pack(self, rows: Sequence[Sequence[int]]) -> packing.PackedSequence:
        """Lay out rows as model inputs. On a CPU they are packed without padding, and share common prefixes."""
        if self.packs:  # with dropout, equal prefixes get different masks
            return packing.pack_rows(rows, share=not lora_linear.has_active_dropout(self._layers))
        return packing.pad_rows(rows, self.pad_token)

    def forward_packed(
        self, layout: packing.PackedSequence, **inputs: Any
    ) -> Float[Tensor, "places features"]:
        """Return the trunk's hidden states at every token of a layout."""
        kernel = self._attention(layout.token_index.shape[1])
        if layout.segments is not None:
            kernel, inputs = attention.PACKED_ATTENTION, {**inputs, "layout": layout}
        tokens, positions = layout.tokens.to(self.device), layout.positions.to(self.device)
        return self.forward(kernel, input_ids=tokens, position_ids=positions, **inputs).flatten(0, 1)

    @contextmanager
    def decoding(self, *, pack: bool = True) -> Iterator[None]:
        """Prepare the layers for decoding inside, without gradients, with the adapter now active."""
        packs = pack and packed_linear.can_pack(self.model)
        try:
            self._unembedding = packed_linear.PackedWeight(self.output_weight) if packs else None
            with (
                packed_linear.packed_linears(self.trunk)
                if packs
                else lora_linear.adapters_cast_once(self._layers)
            ):
                # Weights that train in float32 need autocast, which the trunk's own forward runs under.
                plain = self._compute is None and not self.quantised and self._has_decode_step
                self.decode_step = decode_step.LlamaDecodeStep(self.trunk) if plain else None
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
        usual = config._attn_implementation
        compute = self._compute or self.dtype
        try:
            config._attn_implementation = kernel or usual
            again: AbstractContextManager[None] = nullcontext()
            if self.gradient_checkpointing:
                again = checkpointed_layers(self.trunk, lambda: self._role)
            with again, torch.autocast(self.device.type, compute, enabled=self._mixes(compute)):
                output: Tensor = self.trunk(**inputs).last_hidden_state
        finally:
            config._attn_implementation = usual
        return output.to(
            self.dtype
        )  # autocast may have run the last norm in float32; the output embedding is 16-bit

    @property
    def trunk(self) -> nn.Module:
        """Return the model without its output embedding."""
        return trunk_of(self.model)

    # -- saving -----------------------------------------------------------------------------------

    def save_adapter(self, name: str, folder: Path, base: Path) -> None:
        """Save the adapter as a peft folder on `base`, with the tokenizer."""
        assert self._peft is not None
        write_adapter(self._peft, name, self.tokenizer, folder, base)

    def merge(self, name: str) -> None:
        """Make the adapter part of the base, for good: computed in float32, rounded once to the base's type.

        Other adapters are lost.
        """
        assert self._peft is not None
        dtype, device = self.dtype, self.device
        self._switch(name)
        if self.quantised:  # merge into the original weights, not the quantised ones
            assert self.source is not None
            with tempfile.TemporaryDirectory() as folder:
                self.save_adapter(name, Path(folder), self.source.folder)
                whole = load_adapter(read_model(self.source.folder, torch.float32), Path(folder))
            self.model = merge_adapter(whole, name)
        else:
            self.model = merge_adapter(self._peft.float(), name)
        cast_parameters(self.model, dtype)
        self.model.to(device).requires_grad_(False).eval()
        self._peft, self._role, self._layers = None, None, []
        self._install()

    def save_model(self, folder: Path) -> None:
        """Save the base as a plain transformers folder, with the tokenizer. Raises ValueError while it has adapters.

        Weights that trained in float32 are rounded, for good, to the type the model was loaded in.
        """
        if self._peft is not None:
            raise ValueError("merge the adapter before saving the whole model")
        if self._compute is not None:
            cast_parameters(self.model, self._compute)
        write_model(self.model, self.tokenizer, self.end_tokens, folder)

    def base_folder(self, copy: Path) -> Path:
        """Return the folder of the full model that adapters of this backbone refer to as their base.

        The source's own folder, or, when the source is itself an adapter, its merged weights written to `copy`:
        an adapter on an adapter could not be opened by `from_pretrained`. Call it before adding adapters.
        """
        assert self.source is not None
        if self.source.kind == "full":
            return self.source.folder.resolve()
        if not copy.exists():
            unfinished = copy.with_name(f".{copy.name}-unfinished")
            self.save_model(unfinished)
            checksums.write_checksums(unfinished)
            atomic.publish_folder(unfinished, copy)
        return copy.resolve()

    def _install(self) -> None:
        fp32_linear.install(self.model)
        fused.install(self.model)

    def _mixes(self, compute: torch.dtype) -> bool:
        """Whether a forward needs autocast. Packed layers have one dtype, and autocast costs time per operation."""
        return compute != torch.float32 and (self._unembedding is None or self._layer_norms)

    @cached_property
    def _has_decode_step(self) -> bool:
        return decode_step.is_equivalent(self.trunk, self.forward, self.dtype)

    def _attention(self, longest: int) -> str | None:
        """Return the attention for padded rows (None: the model's own). Raises UserError for a row that is too long."""
        check_position_limit(self.config, longest, "a row", "lower data.max_length to {limit}")
        return "eager" if longest <= self._short else None

    def _trainable_adapters(self) -> set[str]:
        names = self._peft.peft_config if self._peft else {}
        return {n for n in names if any(p.requires_grad for p in self.adapter_parameters(n).values())}

    def _freeze_all_but(self, trainable: set[str]) -> None:
        assert self._peft is not None
        self._layers = [m for m in self.model.modules() if isinstance(m, BaseTunerLayer)]
        self.model.eval()
        for name in self._peft.peft_config:
            for parameter in self.adapter_parameters(name).values():
                parameter.requires_grad_(name in trainable)
        for layer in self._layers:
            # Under autocast, peft's input cast would only convert to float32 and back.
            layer.cast_input_dtype_enabled = self.dtype == torch.float32
        require_switchable(self.model)
        lora_linear.install(self._layers)
        self._switch(self._role)

    def _switch(self, adapter: str | None) -> None:
        # Not by peft's own switches: they also set requires_grad of every parameter, which took 40 ms per scope.
        self._role = adapter
        for layer in self._layers:
            layer._disable_adapters = adapter is None
            if adapter is not None:
                layer._active_adapter = [adapter]
