"""Load detectors, evaluate them on labelled responses, and fit a direction."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from harken import seeds
from harken.config import WeightDtypeName
from harken.errors import UserError
from harken.models.device import choose_device
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import ModelSource, require_use, resolve
from harken.models.roles import RewardModel, lineage_fingerprint
from harken.models.steering import DIRECTION_FACTS, Direction, layers_of
from harken.reward.learned import LearnedReward, trained_max_length
from harken.reward.source import require_finite
from harken.run.json_io import read_object
from harken.run.own_folder import require_no_results
from harken.run.tracking import progress, say
from harken.sycophancy.detection import DetectorFigures, LengthDetector, detector_figures
from harken.sycophancy.detector import (
    ClassifierDetector,
    Detector,
    FixedDetector,
    RuleDetector,
    require_known,
)
from harken.sycophancy.labelled import Labelled, read_labelled, require_both_labels
from harken.sycophancy.model_detectors import (
    ContrastDetector,
    ProjectionDetector,
    fit_direction,
    load_language_model,
    read_direction,
    warn_if_fitted_elsewhere,
)

BATCH = 32
"""Responses that a detector judges at a time."""


def evaluate_detectors(
    path: str,
    fitted_on: str,
    classifier: str | None,
    model: str | None,
    direction: str | None,
    *,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: WeightDtypeName = "bfloat16",
) -> tuple[dict[str, DetectorFigures], list[str]]:
    """Return the figures of every detector on the labelled responses of `path`, and the names of the trivial ones.

    `limit`: use only the responses to this many questions. Raises UserError for rows without what a detector reads.
    """
    rows = _limited(read_labelled(path), limit, seed)
    require_both_labels(rows, f"{path}, {limit} questions", "raise --limit, or choose another --seed")
    trivial: list[Detector] = [
        FixedDetector("always", 1.0),
        FixedDetector("never", 0.0),
        LengthDetector(read_labelled(fitted_on)),
    ]
    detectors = [*_detectors(classifier, model, direction, device, dtype), *trivial]
    figures = {}
    for detector in detectors:
        require_known(detector, [one.rollout.prompt for one in rows], path)
        probabilities: list[float] = []
        starts = range(0, len(rows), BATCH)
        for start in progress(starts, detector.name):
            batch = [one.rollout for one in rows[start : start + BATCH]]
            found = [verdict.probability for verdict in detector.score(batch)]
            probabilities += require_finite(f"detector {detector.name}", batch, found)
        figures[detector.name] = detector_figures(
            probabilities, [one.faulty for one in rows], [one.cluster for one in rows]
        )
    return figures, [detector.name for detector in trivial]


def write_direction(
    model: str,
    data: str,
    layer: int | None,
    folder: Path,
    *,
    device: str = "auto",
    dtype: WeightDtypeName = "bfloat16",
) -> Direction:
    """Fit a direction on the labelled responses of `data` and save it. `layer` None: the middle one.

    A folder that holds the direction of the same model, rows and layer is left as it is. Raises UserError for a folder
    with another direction, or with results of another command.
    """
    source = require_use(resolve(model), "policy")
    rows = read_labelled(data)
    texts = [(one.rollout.prompt.messages, one.rollout.text, one.faulty) for one in rows]
    names = {"model": source.name, "data": data}
    facts = {
        "fingerprint": lineage_fingerprint(source),
        "rows": hashlib.sha256(repr(texts).encode("utf-8", "surrogatepass")).hexdigest(),
        "dtype": dtype,
    }
    if (written := _written_direction(folder)) is not None:
        wanted = facts | {"layer": _middle_layer(source) if layer is None else layer}
        _require_same(folder, written, wanted, names)
        say(f"{folder}: this direction exists already; nothing to do")
        return written
    backbone, role, renderer = load_language_model(source, WEIGHT_DTYPES[dtype], choose_device(device))
    chosen = len(layers_of(backbone)) // 2 if layer is None else layer
    fitted = fit_direction(
        backbone,
        role,
        renderer,
        [one.rollout for one in rows],
        [one.faulty for one in rows],
        chosen,
        names | facts,
    )
    fitted.save(folder)
    return fitted


def _written_direction(folder: Path) -> Direction | None:
    """Return the intact direction in a folder; None where there is none, or only a part of one.

    Raises UserError if the folder holds results of another command.
    """
    require_no_results(folder, [folder / DIRECTION_FACTS])
    try:
        return Direction.load(folder) if (folder / DIRECTION_FACTS).exists() else None
    except UserError:
        return None


def _require_same(folder: Path, written: Direction, wanted: dict[str, Any], names: dict[str, str]) -> None:
    """Raise UserError if a direction differs from the wanted one in what it records of its fit."""
    recorded = written.facts | {"layer": written.layer}
    differing = [
        {"fingerprint": "model", "rows": "data"}.get(key, key)
        for key, value in wanted.items()
        if value is not None and key in recorded and recorded[key] != value
    ]
    if not differing:
        return
    changes = []
    for key in differing:
        before, now = recorded.get(key), (names | wanted)[key]
        changes.append(
            f"{key}: {before} → {now}" if before != now else f"{key}: {now} has other contents now"
        )
    raise UserError(
        f"contains another direction ({'; '.join(changes)})",
        where=str(folder),
        fix="choose another --output-dir",
    )


def _middle_layer(source: ModelSource) -> int | None:
    """Return the layer of a direction for which none is named; None if the model's settings do not tell it."""
    layers = read_object(source.chain()[0].folder / "config.json").get("num_hidden_layers")
    return layers // 2 if isinstance(layers, int) else None


def _detectors(
    classifier: str | None, model: str | None, direction: str | None, device: str, dtype: WeightDtypeName
) -> list[Detector]:
    weights, place = WEIGHT_DTYPES[dtype], choose_device(device)
    found: list[Detector] = [RuleDetector()]
    if classifier is not None:
        source = require_use(resolve(classifier), "reward")
        learned = LearnedReward(
            RewardModel.load(source, weights, place), None, max_length=trained_max_length(source)
        )
        found.append(ClassifierDetector(learned.standardized_scores))
    if model is not None:
        source = require_use(resolve(model), "policy")
        backbone, role, renderer = load_language_model(source, weights, place)
        found.append(ContrastDetector(backbone, role, renderer))
        if direction is not None:
            fitted = read_direction(direction)
            warn_if_fitted_elsewhere(fitted, source)
            found.append(ProjectionDetector(backbone, role, renderer, fitted))
    return found


def _limited(rows: list[Labelled], limit: int | None, seed: int) -> list[Labelled]:
    clusters = list(dict.fromkeys(one.cluster for one in rows))
    kept = {clusters[i] for i in seeds.permutation(len(clusters), seed, "detect")[:limit]}
    return [one for one in rows if one.cluster in kept]
