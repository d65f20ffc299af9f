"""Build a card: score every set of pairs, measure, name the faults, and judge. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from harken.card.accuracy import accuracy_slices, length_accuracy
from harken.card.baselines import MAX_TRAINING_PAIRS, baselines
from harken.card.best_of_n import best_of_n_curve
from harken.card.calibrated import calibration_section
from harken.card.ceiling import ceiling_section
from harken.card.distance import SFTReference, distance_section
from harken.card.edits import EDITS
from harken.card.judge_bias import judge_bias_section
from harken.card.judgement import judge_card
from harken.card.learning_curve import learning_curve
from harken.card.list_benchmarks import ListSet, score_lists
from harken.card.probes import probe_edits, prompt_section
from harken.card.rows import card_rows
from harken.card.scored import RewardArray, ScoredPairs, Section, score
from harken.card.sets import PairSet, Samples, prompts_of
from harken.card.spread import margin_section, spread_section
from harken.card.stability import TokenScorer, repeatability_section
from harken.card.write import ROWS
from harken.data.parse import Pair
from harken.errors import UserError
from harken.records import Prompt
from harken.run.terminal import say
from harken.seeds import permutation

CARD_VERSION = 1
RESPONSES_PER_PROBE = len(EDITS) + 8
"""Responses scored per probed pair: the edits, both sides under another prompt, and those for repeatability."""


@dataclass(frozen=True)
class CardJob:
    """The inputs of a card. `facts` describe the model; the first set is judged, the others are listed."""

    scorer: TokenScorer
    sets: Sequence[PairSet | ListSet]
    training: Sequence[Pair] = ()
    facts: Section = field(default_factory=dict)
    probe_pairs: int = 64
    minutes: float | None = None
    """Time limit of the probes, estimated from the time for scoring the pairs."""
    seed: int = 839
    is_trained: Callable[[Prompt], bool] = lambda prompt: False
    """Returns whether a prompt was trained on."""
    score_in_float32: Callable[[list[tuple[int, ...]]], RewardArray] | None = None
    policy_parameters: int | None = None
    samples: Samples | None = None
    reference: SFTReference | None = None
    """The SFT model, for accuracy by distance from it."""
    features: Callable[[Sequence[Pair]], RewardArray] | None = None
    """Returns frozen features of pairs, for the learning curve; None without a curve."""


def build_card(job: CardJob) -> Section:
    """Build card.json, and under "rows" the pairs of rows.json.

    Raises UserError when the first set has no pair that can be scored.
    """
    judged_set = job.sets[0]
    if isinstance(judged_set, ListSet):
        raise UserError(
            "its rows hold lists of responses, and the card needs pairs first",
            where=judged_set.name,
            fix="name a file with pairs before it, or set data.eval_fraction in the run",
        )
    start_time = time.monotonic()
    scored, unscored = score(job.scorer, judged_set.pairs)
    if not len(scored):
        raise UserError(
            f"none of its {len(judged_set.pairs)} pairs can be scored",
            where=judged_set.name,
            fix="raise data.max_length of the reward model, or give other pairs with --data",
        )
    probed = _probed(job, scored, time.monotonic() - start_time)
    repeatability = (
        repeatability_section(job.scorer, probed.pairs, job.score_in_float32) if len(probed) else None
    )
    edits = probe_edits(job.scorer, probed)
    tau = repeatability["repeatability"] if repeatability else 0.0
    card: Section = {
        "version": CARD_VERSION,
        "model": job.facts,
        "accuracy": scored.accuracy(),
        "slices": accuracy_slices(scored),
        "length": length_accuracy(scored),
        "baselines": baselines(scored, job.training),
        "margin": margin_section(scored),
        "calibration": calibration_section(scored),
        "spread": spread_section(scored, tau),
        "judge_bias": judge_bias_section(scored),
        "ceiling": ceiling_section(scored),
        "prompt": prompt_section(job.scorer, probed),
        "probes": [edit.section for edit in edits],
        "repeatability": repeatability,
        "sets": [_set_section(job, judged_set, scored, unscored)],
    }
    card["sets"] += [_further_set(job, further) for further in job.sets[1:]]
    if job.policy_parameters is not None:
        card["size"] = {"policy": job.policy_parameters, "reward_model": job.facts["parameters"]}
    if job.reference is not None:
        card["distance"] = distance_section(scored, job.reference)
    if job.samples is not None:
        card["best_of_n"] = _best_of_n(job.scorer, job.samples)
    if job.features is not None:
        card["learning_curve"] = _learning_curve(job, scored)
    return card | judge_card(card) | {ROWS: card_rows(scored, edits, job.seed)}


def _probed(job: CardJob, scored: ScoredPairs, seconds: float) -> ScoredPairs:
    """Return the pairs that are probed: at most `probe_pairs`, and no more than fit into the time."""
    count = min(job.probe_pairs, len(scored))
    if job.minutes is not None and seconds > 0:
        affordable = int(job.minutes * 60 / (seconds / (2 * len(scored)) * RESPONSES_PER_PROBE))
        if affordable < count:
            say(f"card: {affordable} instead of {count} pairs are probed, to take about {job.minutes:g} min")
            count = affordable
    chosen = set(permutation(len(scored), job.seed, "card probes")[:count])
    return scored.select(np.array([i in chosen for i in range(len(scored))], dtype=np.bool_))


def _set_section(job: CardJob, pair_set: PairSet, scored: ScoredPairs, unscored: int) -> Section:
    return {
        "name": pair_set.name,
        "kind": "pairs",
        "note": pair_set.note,
        "dropped": pair_set.dropped,
        "unscored": unscored,
        "trained_prompts": sum(map(job.is_trained, prompts_of(pair_set))),
        "accuracy": scored.accuracy(),
        "length": length_accuracy(scored),
        "slices": accuracy_slices(scored),
        "ceiling": ceiling_section(scored),
    }


def _further_set(job: CardJob, further_set: PairSet | ListSet) -> Section:
    if isinstance(further_set, ListSet):
        return {
            "name": further_set.name,
            "kind": further_set.report.layout,
            "dropped": further_set.report.dropped.total(),
            "trained_prompts": sum(map(job.is_trained, prompts_of(further_set))),
            **score_lists(job.scorer, further_set),
        }
    scored, unscored = score(job.scorer, further_set.pairs)
    return _set_section(job, further_set, scored, unscored)


def _best_of_n(scorer: TokenScorer, samples: Samples) -> list[Section]:
    flat = [
        (prompt, text)
        for prompt, texts in zip(samples.prompts, samples.responses, strict=True)
        for text in texts
    ]
    rewards = iter(
        scorer.score_responses([prompt for prompt, _ in flat], [text for _, text in flat]).tolist()
    )
    grouped = [[next(rewards) for _ in texts] for texts in samples.responses]
    finite = [i for i, row in enumerate(grouped) if np.isfinite(row).all()]
    judged = {name: [rows[i] for i in finite] for name, rows in samples.judged.items()}
    return best_of_n_curve([grouped[i] for i in finite], judged)


def _learning_curve(job: CardJob, scored: ScoredPairs) -> Section | None:
    assert job.features is not None
    training = list(job.training)[:MAX_TRAINING_PAIRS]
    features, held_out = job.features(training), job.features(scored.pairs)
    train_finite, test_finite = (np.atleast_1d(np.isfinite(x).all(axis=1)) for x in (features, held_out))
    labels = np.array([pair.label for pair in training], dtype=np.float64)
    return learning_curve(
        features[train_finite],
        labels[train_finite],
        held_out[test_finite],
        scored.select(test_finite),
        job.seed,
    )
