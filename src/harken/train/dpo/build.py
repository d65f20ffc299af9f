"""Load the rows of a DPO or online DPO run and build its stage."""

from __future__ import annotations

from collections.abc import Sequence

from harken.config import RunConfig
from harken.config.preference_training import DPOTraining
from harken.data.chat import Renderer
from harken.data.parse import holds_pairs
from harken.models.positions import check_position_limit
from harken.records import TokenPair
from harken.run.folder import RunFolder
from harken.run.tracking import say
from harken.train import load_data
from harken.train.dpo.examples import (
    PreferenceExample,
    RatedResponse,
    pair_examples,
    rated_examples,
    rated_from_pairs,
    rated_from_rows,
)
from harken.train.dpo.models import PolicyModels
from harken.train.dpo.online import OnlineDPOStage
from harken.train.dpo.stage import DPOStage


def build_dpo_stage(
    config: RunConfig, models: PolicyModels, renderer: Renderer, run: RunFolder
) -> tuple[DPOStage | OnlineDPOStage, dict[str, str]]:
    """Return the stage, and what the manifest records of its rows."""
    engine = models.engine(renderer, config.data.max_length)
    if not isinstance(config.training, DPOTraining):
        prompts, held_out_prompts = load_data.fit_prompts(config, renderer, run)
        online = OnlineDPOStage(config, models, engine, prompts, held_out_prompts, run)
        return online, load_data.lineage(config, prompts, held_out_prompts)
    check_position_limit(
        models.policy.backbone.config,
        config.data.max_length,
        "a row of up to data.max_length",
        "lower it to {limit}",
    )
    if config.training.dpo.loss == "kto" and not holds_pairs(config.data):
        rows, held_out_rows, eval_prompts = load_data.encode_rated(config, renderer, run)
        rated, held_out_rated = rated_from_rows(rows), rated_from_rows(held_out_rows)
        examples, held_out_examples = (
            _rated(config, rated, "training"),
            _rated(config, held_out_rated, "held-out"),
        )
        data = load_data.lineage(config, rated, held_out_rated)
        return DPOStage(config, models, examples, held_out_examples, engine, eval_prompts, run), data
    pairs, held_out, eval_prompts = load_data.encode_preferences_and_prompts(config, renderer, run)
    examples, held_out_examples = (
        _examples(config, pairs, "training"),
        _examples(config, held_out, "held-out"),
    )
    return DPOStage(
        config, models, examples, held_out_examples, engine, eval_prompts, run
    ), load_data.lineage(config, pairs, held_out)


def _rated(config: RunConfig, rated: Sequence[RatedResponse], split: str) -> list[PreferenceExample]:
    """Make the examples of single responses, and print how many there are of each kind."""
    up = sum(row.desirable for row in rated)
    say(f"DPO: {len(rated):,} {split} responses for kto: {up:,} desirable, {len(rated) - up:,} undesirable")
    if split == "training" and up in (0, len(rated)):
        say(
            "warning: all training responses have the same thumb, but kto learns from the difference. "
            "Fix: add rows with the other thumb"
        )
    return rated_examples(rated, config.seed, config.data.max_length)


def pairs_to_examples(config: RunConfig, pairs: Sequence[TokenPair]) -> list[PreferenceExample]:
    """Make the examples of the configured loss: for kto two rated responses of each pair."""
    assert isinstance(config.training, DPOTraining)
    if config.training.dpo.loss == "kto":
        return rated_examples(rated_from_pairs(pairs), config.seed, config.data.max_length)
    return pair_examples(pairs, drop_ties=config.training.dpo.ties == "drop")


def _examples(config: RunConfig, pairs: Sequence[TokenPair], split: str) -> list[PreferenceExample]:
    """Make the examples, and print how many rows became pairs, responses or ties."""
    assert isinstance(config.training, DPOTraining)
    settings, examples = config.training.dpo, pairs_to_examples(config, pairs)
    ties = sum(pair.label == 0.5 for pair in pairs)
    if settings.loss == "kto":
        up = sum(example.label == 1.0 for example in examples)
        say(
            f"DPO: {len(pairs):,} {split} pairs taken as {len(examples):,} responses for kto: {up:,} desirable, "
            f"{len(examples) - up:,} undesirable; {ties:,} ties left out"
        )
    elif settings.ties == "drop" and ties:
        say(f"DPO: {ties:,} of {len(pairs):,} {split} pairs are ties and are left out (ties: drop)")
    return examples
