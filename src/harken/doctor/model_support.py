"""Find out what works with a model by loading it: training, decoding, packing and adapters.

The checks are those of the stages themselves, so a model is refused here with the same message as in a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from harken.config import LoraSettings
from harken.errors import UserError
from harken.kernels.trunk import tower_of
from harken.models.adapted_model import AdaptedModel
from harken.models.backbone import Backbone
from harken.models.encoder import Encoder
from harken.models.lora_targets import coverage, expert_parameters
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import ModelSource
from harken.rollout.choose_decoder import ROW_BY_ROW, require_decodable
from harken.run.terminal import columns, format_table

STAGES = ("supervised fine-tuning", "reward model", "PPO", "evaluation")
GENERATES_NOTHING = "an encoder cannot generate responses: its tokens attend to later tokens"
NOT_PACKED = "its attention is not plain causal attention, or this is not a CPU: rows are padded"


@dataclass(frozen=True)
class Support:
    """Support of one feature by a model, and how it works or why not."""

    name: str
    works: bool
    detail: str = ""


def support_table(supports: Sequence[Support]) -> str:
    """Format what works and what does not, and why, as a table."""
    cells = {
        "": [entry.name for entry in supports],
        "works": ["yes" if entry.works else "no" for entry in supports],
        "detail": [entry.detail for entry in supports],
    }
    return format_table(cells, width=columns(), wrap=True, header=False)


def support(source: ModelSource, dtype: str = "bfloat16") -> list[Support]:
    """Load a model and return what works with it, one line per feature."""
    if source.is_encoder and source.kind == "full":
        return _encoder_support(source, dtype)
    try:
        backbone = Backbone.load(source, WEIGHT_DTYPES[dtype], torch.device("cpu"))
    except UserError as error:
        return [Support(stage, False, error.what) for stage in STAGES]
    no_decoding = _refusal(lambda: require_decodable(backbone))
    supports = [Support(stage, not no_decoding, no_decoding) for stage in STAGES]
    supports[1] = Support(STAGES[1], True)
    decoder = f"{backbone.decoder_kind}{', which is slow' if backbone.decoder_kind == ROW_BY_ROW else ''}"
    supports.append(Support("decoding", not no_decoding, no_decoding or decoder))
    supports.append(Support("packing", backbone.packs, "" if backbone.packs else NOT_PACKED))
    supports.append(_adapter(backbone, "adapter", LoraSettings()))
    if supports[-1].works and expert_parameters(tower_of(backbone.trunk)):
        supports.append(_adapter(backbone, "with lora.experts", LoraSettings(experts=True)))
    return supports


def _encoder_support(source: ModelSource, dtype: str) -> list[Support]:
    """Return what works with an encoder: a reward model, as an adapter or with all its weights."""
    try:
        encoder = Encoder.load(source, WEIGHT_DTYPES[dtype], torch.device("cpu"))
    except UserError as error:
        return [Support(stage, False, error.what) for stage in STAGES]
    supports = [Support(stage, False, GENERATES_NOTHING) for stage in STAGES]
    supports[1] = Support(
        STAGES[1], True, f"an encoder, pooled at its first token; reads {encoder.max_length} tokens"
    )
    return [*supports, Support("packing", False, NOT_PACKED), _adapter(encoder, "adapter", LoraSettings())]


def support_to_dict(source: ModelSource, supports: list[Support] | None) -> dict[str, Any]:
    """Return a model's links, the base first, and what works with it."""
    links = [
        {
            "name": link.name,
            "what": link.description,
            "folder": str(link.folder),
            "fingerprint": link.fingerprint,
        }
        for link in source.chain()
    ]
    return {"models": links} | (
        {} if supports is None else {"support": [asdict(entry) for entry in supports]}
    )


def _adapter(backbone: AdaptedModel, name: str, settings: LoraSettings) -> Support:
    reason = _refusal(lambda: backbone.add_adapter(name.replace(".", "-"), settings, seed=0))
    if reason:
        return Support(name, False, reason)
    return Support(name, True, str(coverage(backbone.trunk, name.replace(".", "-"))).removeprefix("adapter "))


def _refusal(ask: Callable[[], object]) -> str:
    """Return the problem that a call raises, without its fix; "" if it succeeds."""
    try:
        ask()
    except UserError as error:
        return error.what
    return ""
