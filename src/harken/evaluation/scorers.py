"""Score the responses of an evaluation: the first scorer gives the reward, the others have their own columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from harken.config import EvaluationConfig, WeightDtypeName
from harken.config.evaluation import ColumnPart
from harken.config.rewards import ModelPart, RewardPart, RulePart
from harken.errors import UserError
from harken.evaluation.responses import BATCH_SHAPE, SCORING_TOKENS, PolicyResponses
from harken.evaluation.verdict import REWARD_COLUMNS, REWARD_MODEL_SCORER
from harken.models.device import choose_device
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import ModelSource, require_use, resolve
from harken.models.roles import RewardModel, lineage_fingerprint
from harken.records import Rollout
from harken.reward.build import ResolvedSources, RewardLoader, resolve_sources
from harken.reward.learned import LearnedReward, trained_max_length
from harken.reward.source import score_all
from harken.run.shards import load_or_make_shard
from harken.run.tracking import counter, say

DEFAULT_RULE = "intact"


class ScorerSettings(Protocol):
    """The settings that loading a scorer takes; an evaluation's configuration has them."""

    @property
    def device(self) -> str:
        """Return `cpu`, `cuda` or `auto`."""
        ...

    @property
    def dtype(self) -> WeightDtypeName:
        """Return the dtype of the weights."""
        ...


Scores = dict[str, list[float | None]]
"""Each response's score, by policy."""


@dataclass(frozen=True)
class Scorers:
    """The scorers of an evaluation, resolved but not loaded."""

    first: str
    """The name of the scorer whose score is the reward."""
    reward_model: ModelSource | None
    """The first scorer, if it is a reward model."""
    first_part: RewardPart | ColumnPart | None
    """The first scorer, if it is anything else."""
    further: tuple[RewardPart | ColumnPart, ...]
    sources: ResolvedSources

    @property
    def judges(self) -> list[str]:
        """Return the names of all but the first."""
        return [part.column for part in self.further]

    def fingerprints(self) -> dict[str, Any]:
        """Return the fingerprint of each scorer, for the fingerprints of the evaluation."""
        fingerprints: dict[str, Any] = {
            f"judge {name}": part for name, part in self.sources.lineage().items()
        }
        if self.reward_model is not None:
            fingerprints["reward model"] = lineage_fingerprint(self.reward_model)
        return fingerprints


def find_scorers(config: EvaluationConfig, file_columns: Sequence[Mapping[str, int]]) -> Scorers:
    """Find every scorer's model or function, before any weights are loaded.

    `file_columns` maps, for each system of a file, its columns of numbers to how many responses have none.
    Without a scorer in the configuration, a column of scores that all policies have is used, else the rule `intact`.
    Raises UserError as `resolve_sources` does, and for such a column in which some responses have no number.
    """
    parts: list[RewardPart | ColumnPart] = list(config.judges)
    if config.reward_model is None and not parts:
        parts = [_default_scorer(config, file_columns)]
    return resolve_scorers(config.reward_model, parts, file_columns)


def resolve_scorers(
    model: str | None, judges: Sequence[RewardPart | ColumnPart], file_columns: Sequence[Mapping[str, int]]
) -> Scorers:
    """Find the reward model `model` and the judges; without a model the first judge gives the reward.

    Raises UserError as `resolve_sources` does, and for a column that no response file has.
    """
    parts = list(judges)
    name = REWARD_MODEL_SCORER
    first: RewardPart | ColumnPart | None = None
    if model is None:
        first = parts.pop(0)
        name = first.column
        if isinstance(first, ModelPart) and first.clip is None:
            name, model, first = REWARD_MODEL_SCORER, first.checkpoint_path, None
    everything = [*([first] if first else []), *parts]
    for part in everything:
        if isinstance(part, ColumnPart) and not any(part.path in names for names in file_columns):
            raise UserError(
                f"no response file has numbers in a column {part.path!r}; "
                f"there are {', '.join(sorted({name for names in file_columns for name in names})) or 'none'}",
                where="judges",
                fix="name one of these columns, or another scorer",
            )
    resolved = resolve_sources([part for part in everything if not isinstance(part, ColumnPart)])
    source = require_use(resolve(model), "reward") if model is not None else None
    return Scorers(name, source, first, tuple(parts), resolved)


def _default_scorer(
    config: EvaluationConfig, file_columns: Sequence[Mapping[str, int]]
) -> RewardPart | ColumnPart:
    if all(policy.responses is not None for policy in config.policies.values()):
        for column in REWARD_COLUMNS:
            if not all(column in names for names in file_columns):
                continue
            if missing := sum(names[column] for names in file_columns):
                raise UserError(
                    f"the column {column!r} has no number in {missing:,} of the rows with a response",
                    where="policies",
                    fix=f"give every response a {column}, or choose the scorer yourself: `--scorer {DEFAULT_RULE}`",
                )
            return ColumnPart(type="column", path=column)
    return RulePart(type="rule", name=DEFAULT_RULE)


def first_scores(
    scorers: Scorers,
    responses: Mapping[str, PolicyResponses],
    config: ScorerSettings,
    shards: Path,
    label: str = "",
) -> dict[str, list[float]]:
    """Return each policy's scores by the first scorer; `label` keeps the shards of several calls apart.

    Raises UserError if it gives a response no score.
    """
    if scorers.reward_model is not None:
        return score_with_reward_model(scorers.reward_model, responses, config, shards, label)
    assert scorers.first_part is not None
    scores_by_policy = _part_scores(
        scorers.first_part, scorers.sources, responses, config, shards, f"{label}first"
    )
    for policy, values in scores_by_policy.items():
        if missing := [r for r, v in zip(responses[policy].rollouts, values, strict=True) if v is None]:
            raise UserError(
                f"{scorers.first} gives no score to {len(missing)} of {len(values)} responses of {policy}, "
                f"the first to prompt {missing[0].prompt.id}",
                where="judges",
                fix="set reward_model, or list a judge first that scores every response",
            )
    return {
        policy: [float(v) for v in values if v is not None] for policy, values in scores_by_policy.items()
    }


def further_scores(
    scorers: Scorers,
    responses: Mapping[str, PolicyResponses],
    config: ScorerSettings,
    shards: Path,
    label: str = "",
) -> dict[str, Scores]:
    """Return the scores of every further scorer by its name; None where it gives no score."""
    return {
        part.column: _part_scores(
            part, scorers.sources, responses, config, shards, f"{label}judge-{number:02d}"
        )
        for number, part in enumerate(scorers.further)
    }


def score_with_reward_model(
    source: ModelSource,
    responses: Mapping[str, PolicyResponses],
    config: ScorerSettings,
    shards: Path | None = None,
    label: str = "",
    *,
    one_at_a_time: bool = False,
) -> dict[str, list[float]]:
    """Return each policy's standardised rewards. Equal sequences are scored once, so equal responses tie.

    Without a folder of shards nothing is stored. `one_at_a_time` scores every sequence in its own forward.
    """
    model = RewardModel.load(source, WEIGHT_DTYPES[config.dtype], choose_device(config.device))
    readers = {policy: _learned_reward(model, source, generated) for policy, generated in responses.items()}
    sequences = [
        tuple(readers[policy].tokenize(rollout))
        for policy, generated in responses.items()
        for rollout in generated.rollouts
    ]
    for policy, reader in readers.items():
        if reader.longer:
            say(
                f"warning: {reader.longer} of {len(responses[policy].rollouts)} responses of {policy} are longer with "
                f"their prompts than the {reader.max_length} tokens that {source.name} was trained on; they are scored "
                "whole. Fix: train the reward model with a larger data.max_length"
            )
    distinct = list(dict.fromkeys(sequences))
    size = BATCH_SHAPE["sequences"]
    token_budget = 1 if one_at_a_time else SCORING_TOKENS
    scores: dict[tuple[int, ...], float] = {}
    with counter(f"scoring {len(sequences)} responses with {source.name}", len(distinct)) as count:
        for start in range(0, len(distinct), size):
            rows = distinct[start : start + size]
            make = partial(model.raw_scores, rows, token_budget)
            path = shards / f"{label}scores-{start:06d}.jsonl" if shards else None
            scores |= zip(rows, make() if path is None else load_or_make_shard(path, make), strict=True)
            count.update(len(rows))
    values = iter([model.standardize(scores[sequence]) for sequence in sequences])
    return {name: [next(values) for _ in generated.rollouts] for name, generated in responses.items()}


def _learned_reward(model: RewardModel, source: ModelSource, generated: PolicyResponses) -> LearnedReward:
    # The responses of a file may be longer than the pairs that the model was trained on.
    return LearnedReward(
        model,
        generated.renderer,
        max_length=trained_max_length(source),
        score_longer=generated.external is not None,
    )


def _part_scores(
    part: RewardPart | ColumnPart,
    sources: ResolvedSources,
    responses: Mapping[str, PolicyResponses],
    config: ScorerSettings,
    shards: Path,
    label: str,
) -> Scores:
    """Score with one part, policy by policy. A model is loaded only when a shard is missing."""
    if isinstance(part, ColumnPart):
        return {policy: _column(part, generated) for policy, generated in responses.items()}
    judge = sources.only(part)
    loader = cache(
        partial(RewardLoader, None, WEIGHT_DTYPES[config.dtype], choose_device(config.device), SCORING_TOKENS)
    )
    size = BATCH_SHAPE["sequences"]
    scores: Scores = {}
    for number, (policy, generated) in enumerate(responses.items()):
        scores[policy] = []
        with counter(f"judge {part.column}: {policy}", len(generated.rollouts)) as count:

            def make(batch: Sequence[Rollout], generated: PolicyResponses = generated) -> list[float | None]:
                (source,) = loader().sources(judge, generated.renderer, role="judge")
                return [row.scores[0].value for row in score_all([source], batch)]

            for start in range(0, len(generated.rollouts), size):
                batch = generated.rollouts[start : start + size]
                path = shards / f"{label}-{number:02d}-{start:06d}.jsonl"
                scores[policy] += load_or_make_shard(path, partial(make, batch))
                count.update(len(batch))
    return scores


def _column(part: ColumnPart, generated: PolicyResponses) -> list[float | None]:
    if generated.external is None:
        return [None] * len(generated.rollouts)
    return [response.values.get(part.path) for response in generated.external]
