"""A pretrained model with named adapters: what a causal language model and an encoder have in common.

A *role* is the active adapter: `role("policy")`, `role("reward")`, or `role(None)`, the bare base. Forward and
backward of a role must both happen inside its scope: peft gives a gradient of zero, silently, when the adapter is
switched in between. `Backbone` is the causal language model, `Encoder` the bidirectional one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from harken.batches import TokenBatch
from harken.config import LoraSettings
from harken.data.chat import Renderer
from harken.kernels import lora_linear
from harken.kernels.trunk import text_config_of
from harken.maths.matmul_dtype import matmul_dtype
from harken.models.lora_targets import lora_config, require_switchable
from harken.models.quantised import is_quantised
from harken.models.resolve import ModelSource
from harken.models.save import write_adapter
from harken.models.weights import cast_parameters, load_adapter, new_adapter
from harken.run import atomic, checksums
from harken.seeds import derive_seed


class AdaptedModel(ABC):
    """One base model, frozen, and the adapters that give it roles. Without adapters all weights can be trained."""

    TASK_TYPE = "CAUSAL_LM"
    """Task type that peft records in an adapter's configuration; it determines the class that loads the adapter."""
    tokenizer: PreTrainedTokenizerBase
    pad_token: int

    def __init__(self, model: PreTrainedModel, source: ModelSource | None) -> None:
        self.model = model.requires_grad_(False).eval()
        self.source = source
        self.gradient_checkpointing = False
        """Whether forwards with gradients save only each layer's input (see `kernels.gradient_checkpointing`)."""
        self._peft: PeftModel | None = None
        self._role: str | None = None
        self._layers: list[BaseTunerLayer] = []
        self._compute: torch.dtype | None = None

    @property
    @abstractmethod
    def trunk(self) -> nn.Module:
        """Return the model without its output embedding."""

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """Return the size of a hidden state."""

    @abstractmethod
    def hidden(self, batch: TokenBatch) -> Float[Tensor, "batch time features"]:
        """Return the hidden states at every position, under the active role; those at padding are meaningless."""

    @abstractmethod
    def pooled(
        self, hidden: Float[Tensor, "batch time features"], batch: TokenBatch
    ) -> Float[Tensor, "batch features"]:
        """Return the one hidden state of each row that has read all of the row: a scalar head reads it."""

    @abstractmethod
    def renderer(
        self,
        keep_special_tokens: bool | Sequence[str] | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> Renderer:
        """Return the renderer that writes conversations as this model reads them; `tokenizer` replaces its own."""

    @abstractmethod
    def micro_batches(self, items: Sequence[Sequence[Sequence[int]]], token_budget: int) -> list[list[int]]:
        """Split items, lists of rows that stay together, into micro-batches of at most `token_budget` tokens.

        Returns item indices. An item above the budget gets a micro-batch of its own.
        """

    @abstractmethod
    def forward_size(self, rows: Sequence[Sequence[int]]) -> int:
        """Return the number of tokens, padding included, that one forward over these rows computes."""

    @abstractmethod
    def save_model(self, folder: Path) -> None:
        """Save the base as a plain transformers folder, with the tokenizer. Raises ValueError while it has adapters."""

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
        """Return whether layers of the base are quantised."""
        return any(is_quantised(parameter) for parameter in self.model.parameters())

    @property
    def config(self) -> PretrainedConfig:
        """Return the configuration of the text layers."""
        return text_config_of(self.model)

    @property
    def input_weight(self) -> Tensor:
        """Return the weight of the input embedding, [tokens, features]."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    # -- adapters ---------------------------------------------------------------------------------

    def add_adapter(self, name: str, settings: LoraSettings, seed: int) -> None:
        """Add a trainable adapter: A is random (from the seed alone), B is zero, both float32."""
        trainable = self._trainable_adapters()
        lora = lora_config(self.model, self.trunk, settings, self._folder, self.TASK_TYPE)
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

    def round_trained_weights(self) -> None:
        """Round weights that trained in float32, permanently, to the dtype the model was loaded in."""
        if self._compute is not None:
            cast_parameters(self.model, self._compute)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable weights by name; tied weights once."""
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

    def set_adapter_dropout(self, enabled: bool) -> None:
        """Switch adapter dropout on or off. The base stays in evaluation mode, without its own dropout."""
        for layer in self._layers:
            layer.lora_dropout.train(enabled)

    # -- saving -----------------------------------------------------------------------------------

    def save_adapter(self, name: str, folder: Path, base: Path) -> None:
        """Save the adapter as a peft folder on `base`, with the tokenizer."""
        assert self._peft is not None
        write_adapter(self._peft, name, self.tokenizer, folder, base)

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

    @property
    def _folder(self) -> Path | None:
        return self.source.folder if self.source else None

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
