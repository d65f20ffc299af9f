"""Load the model that a reward head is trained on: a causal language model or an encoder."""

from __future__ import annotations

import torch

from harken.models.adapted_model import AdaptedModel
from harken.models.backbone import Backbone
from harken.models.encoder import Encoder
from harken.models.quantised import WeightDtype
from harken.models.resolve import ModelSource


def load_reward_base(
    source: ModelSource, weight_dtype: WeightDtype, device: torch.device | str
) -> AdaptedModel:
    """Load an encoder as `Encoder` and any other model as `Backbone`, whose probes refuse models that are not causal.

    Raises UserError as `Encoder.load` and `Backbone.load` do.
    """
    kind: type[Encoder | Backbone] = Encoder if source.is_encoder else Backbone
    return kind.load(source, weight_dtype, device)
