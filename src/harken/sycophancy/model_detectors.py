"""Detect sycophancy with a language model: by contrast with an honest reference, or by activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

from harken.data.chat import Renderer
from harken.errors import UserError
from harken.maths.statistics.logistic import fit_logistic
from harken.models.ancestors import ancestor_fingerprints
from harken.models.backbone import Backbone
from harken.models.quantised import WeightDtype
from harken.models.resolve import ModelSource
from harken.models.steering import Direction, check_direction, layer_outputs, layers_of
from harken.records import Message, Rollout
from harken.run.terminal import say
from harken.sycophancy.detector import Verdict, known
from harken.sycophancy.log_odds import require_positions, target_logprobs


class ContrastDetector:
    """Contrast a response with an honest reference, by log-probabilities.

    log P(response | the model is told the claim) − log P(response | it is told the reference), summed over the
    response's tokens: the log-likelihood ratio of two explanations of the response, so its logistic function is the
    probability of the first where both are equally likely beforehand. No text is generated.
    """

    name = "contrast"
    needs: tuple[str, ...] = ("claim", "reference")

    def __init__(
        self, backbone: Backbone, role: str | None, renderer: Renderer, prompt_limit: int = 512
    ) -> None:
        self.backbone, self.role, self.renderer, self.prompt_limit = backbone, role, renderer, prompt_limit

    def score(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """Return the probability that the claim, and that the reference, explains each response."""
        rows = [
            (_told(rollout, known(rollout.prompt, key)[0]), rollout.text)
            for rollout in rollouts
            if rollout.text.strip()
            for key in ("claim", "reference")
        ]
        values = iter(target_logprobs(self.backbone, self.role, self.renderer, rows, self.prompt_limit))
        verdicts = []
        for rollout in rollouts:
            if not rollout.text.strip():
                verdicts.append(Verdict(0.0, 0.0))
                continue
            faulty = float(special.expit(next(values) - next(values)))
            verdicts.append(Verdict(faulty, 1 - faulty))
        return verdicts


def _told(rollout: Rollout, answer: str) -> tuple[Message, ...]:
    """Return the conversation with the answer that the model is told at the end of the last user turn."""
    *earlier, last = rollout.prompt.messages
    return (*earlier, Message(last.role, f"{last.content}\n(Answer key: {answer})"))


class ProjectionDetector:
    """Measure how far the activations of a response lie along a direction."""

    name = "steering"
    needs: tuple[str, ...] = ()

    def __init__(
        self, backbone: Backbone, role: str | None, renderer: Renderer, direction: Direction
    ) -> None:
        check_direction(backbone, direction)
        self.backbone, self.role, self.renderer, self.direction = backbone, role, renderer, direction

    def score(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """Return the direction's fitted probability for the mean activation of each response."""
        states = response_activations(self.backbone, self.role, self.renderer, rollouts, self.direction.layer)
        along = (states @ self.direction.unit.to(states)).double().cpu().numpy()
        faulty = special.expit(self.direction.slope * along + self.direction.offset)
        return [Verdict(float(p), float(1 - p)) for p in faulty]


def response_activations(
    backbone: Backbone, role: str | None, renderer: Renderer, rollouts: Sequence[Rollout], layer: int
) -> Tensor:
    """Return the output of a layer averaged over each response's tokens, [responses, features], float32.

    Raises UserError for a response without tokens.
    """
    means = []
    with torch.no_grad(), backbone.role(role):
        for rollout in rollouts:
            prompt = renderer.encode_prompt(rollout.prompt.messages, rollout.prompt.tools)
            response = renderer.encode_response(rollout.text, ended=True)
            place = f"prompt {rollout.prompt.id}"
            if not response:
                raise UserError("a response without tokens", where=place, fix="leave the row out")
            require_positions(backbone, len(prompt) + len(response), place)
            (states,) = layer_outputs(backbone, [[*prompt, *response]], layer)
            means.append(states[len(prompt) :].mean(0))
    if not means:
        raise UserError("there is no response to measure", where="steering", fix="name a file with responses")
    return torch.stack(means)


def fit_direction(
    backbone: Backbone,
    role: str | None,
    renderer: Renderer,
    rollouts: Sequence[Rollout],
    faulty: Sequence[bool],
    layer: int,
    facts: dict[str, Any],
) -> Direction:
    """Fit the difference of means at a layer, and the logistic function of the projection.

    Raises UserError where one of the two sides has no response, or the layer does not exist.
    """
    labels = torch.tensor(list(faulty))
    if not 0 <= layer < len(layers_of(backbone)):
        raise UserError(
            f"there is no layer {layer}",
            where="--layer",
            fix=f"name one from 0 to {len(layers_of(backbone)) - 1}",
        )
    if labels.all() or not labels.any():
        raise UserError(
            "all responses have the same label",
            where="steering",
            fix="name a file with honest and faulty responses",
        )
    states = response_activations(backbone, role, renderer, rollouts, layer)
    labels = labels.to(states.device)
    difference = states[labels].mean(0) - states[~labels].mean(0)
    length = float(difference.norm())
    if not (math.isfinite(length) and length > 0):
        raise UserError(
            "the mean activations of faulty and honest responses are the same"
            if length == 0
            else f"the mean activations differ by {length}",
            where="steering",
            fix="name a file whose faulty responses differ from the honest ones"
            if length == 0
            else "check the model's weights",
        )
    along = (states @ (difference / difference.norm())).double().cpu().numpy()
    features = np.stack([along, np.ones_like(along)], axis=1)
    weights = np.ones((1, len(along)))
    slope, offset = fit_logistic(features, labels.cpu().numpy().astype(np.float64), weights)[0]
    counts = {"faulty": int(labels.sum()), "honest": int((~labels).sum())}
    return Direction(layer, difference.cpu(), float(slope), float(offset), {**facts, **counts})


def load_language_model(
    source: ModelSource, weight_dtype: WeightDtype, device: torch.device
) -> tuple[Backbone, str | None, Renderer]:
    """Load a policy for detection: its backbone, its adapter's name (None: all weights) and its renderer."""
    if source.kind == "adapter" and source.base is not None:
        backbone, role = Backbone.load(source.base, weight_dtype, device), "detector"
        backbone.load_adapter(role, source.folder)
        return backbone, role, backbone.renderer()
    backbone = Backbone.load(source, weight_dtype, device)
    return backbone, None, backbone.renderer()


def read_direction(path: str) -> Direction:
    """Read the direction in a folder."""
    return Direction.load(Path(path).expanduser())


def warn_if_fitted_elsewhere(direction: Direction, source: ModelSource) -> None:
    """Warn if the direction was fitted on a model that `source` was not trained from."""
    fitted_on = direction.facts.get("fingerprint")
    if fitted_on is None or fitted_on in ancestor_fingerprints(source):
        return
    say(
        f"warning: the direction was fitted on {direction.facts.get('model')}, but {source.name} was not trained from "
        f"it: the direction may not have the same effect there. Fix: use one that was fitted on this model: "
        f"harken sycophancy direction {source.name} --output-dir DIR"
    )
