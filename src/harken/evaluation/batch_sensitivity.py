"""Measure how much the batch size alone changes responses and scores, through rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harken.config import EvaluationConfig
from harken.evaluation.responses import PolicyResponses, load_engine
from harken.evaluation.scorers import score_with_reward_model
from harken.models.resolve import ModelSource
from harken.records import Prompt
from harken.rollout.engine import Sampling
from harken.run.tracking import counter

QUANTILE = 0.99
"""The scorer's repeatability is this quantile of |change of a score|."""


def measure(
    config: EvaluationConfig,
    models: Mapping[str, ModelSource],
    reward_model: ModelSource | None,
    prompts: Sequence[Prompt],
    responses: Mapping[str, PolicyResponses],
    rewards: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    """Generate and score the responses to the first `config.batch_sensitivity` prompts again, one at a time.

    Returns "prompts"; "policies", each with the number of "responses" and how many "changed"; and "score_p99" and
    "score_max", quantile and maximum of |change of the reward| of equal texts (None without a reward model).
    """
    probe_prompts = prompts[: config.batch_sensitivity]
    policies = {
        name: _changed(config, name, source, probe_prompts, responses[name])
        for name, source in models.items()
        if responses[name].chosen_scores is None
    }
    changes: list[float] = []
    if reward_model is not None:
        per_prompt = {name: len(generated.rollouts) // len(prompts) for name, generated in responses.items()}
        probe_responses = {
            name: generated.first(len(probe_prompts) * per_prompt[name])
            for name, generated in responses.items()
        }
        unbatched_scores = score_with_reward_model(reward_model, probe_responses, config, one_at_a_time=True)
        changes = [
            abs(a - b)
            for name, values in unbatched_scores.items()
            for a, b in zip(values, rewards[name], strict=False)
        ]
    return {
        "prompts": len(probe_prompts),
        "policies": policies,
        "score_p99": float(np.quantile(changes, QUANTILE)) if changes else None,
        "score_max": max(changes, default=None),
    }


def _changed(
    config: EvaluationConfig,
    name: str,
    source: ModelSource,
    prompts: Sequence[Prompt],
    batched: PolicyResponses,
) -> dict[str, int]:
    samples = len(batched.rollouts) // len({rollout.prompt.id for rollout in batched.rollouts})
    policy = config.policies[name]
    sampling = Sampling(config.max_gen_len, config.temperature_of(policy), config.seed, samples)
    with counter(f"{name} responses, one at a time", len(prompts) * samples) as count:
        unbatched = load_engine(source, config, slots=1).generate(
            prompts, sampling, name, "evaluation", on_progress=count.update
        )
    changed = sum(
        a.response_tokens != b.response_tokens for a, b in zip(unbatched, batched.rollouts, strict=False)
    )
    return {"responses": len(unbatched), "changed": changed}
