"""Generate and score the responses of an evaluation, in shards that are kept when the process is killed.

Batch composition affects rounding and can change sampled tokens, so shards are fixed by the configuration. A missing
shard is generated again with the same contents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from harken.config import EvaluationConfig
from harken.data.chat import Renderer
from harken.models.backbone import Backbone
from harken.models.check_logits import check_vocabulary
from harken.models.device import choose_device
from harken.models.find_tokenizer import tokenizer_of
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import ModelSource
from harken.models.roles import RewardModel
from harken.records import Prompt, Rollout
from harken.reward.build import ResolvedSources, RewardLoader
from harken.reward.learned import LearnedReward, trained_max_length
from harken.reward.source import score_all
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine
from harken.rollout.slots import MAX_SLOTS
from harken.run.shards import load_or_make_shard
from harken.run.tracking import counter, say

SCORING_TOKENS = 4096
BATCH_SHAPE = {
    "slots": MAX_SLOTS,  # responses generated at once
    "prompts": 128,  # per shard of responses
    "sequences": 512,  # per shard of scores
    "scoring_tokens": SCORING_TOKENS,  # per scoring forward
}
"""Maxima."""


@dataclass(frozen=True)
class PolicyResponses:
    """Hold a policy's rollouts and its renderer."""

    rollouts: list[Rollout]
    renderer: Renderer


def generate_responses(
    number: int,
    name: str,
    source: ModelSource,
    prompts: Sequence[Prompt],
    config: EvaluationConfig,
    shards: Path,
) -> PolicyResponses:
    """Generate one response per prompt with policy number `number`.

    An adapter is not merged, because merging would round it. The model is loaded only when a shard is missing.
    """
    say(f"{name}: {source.describe()}")
    size = BATCH_SHAPE["prompts"]
    groups = {
        shards / f"responses-{number:02d}-{start:06d}.jsonl": prompts[start : start + size]
        for start in range(0, len(prompts), size)
    }
    engine = cache(partial(_engine, source, config))
    sampling = Sampling(config.max_gen_len, config.temperature, config.seed)
    rollouts: list[Rollout] = []
    with counter(f"{name} responses", len(prompts)) as count:

        def generate(batch: Sequence[Prompt]) -> list[dict[str, Any]]:
            made = engine().generate(batch, sampling, name, "evaluation", on_progress=count.update)
            return [_to_json(rollout) for rollout in made]

        for path, batch in groups.items():
            shard = load_or_make_shard(path, partial(generate, batch))
            rollouts += [_from_json(fields, prompt) for fields, prompt in zip(shard, batch, strict=True)]
    return PolicyResponses(rollouts, Renderer(tokenizer_of(source), config.data.keep_special_tokens))


def score_responses(
    source: ModelSource, responses: dict[str, PolicyResponses], config: EvaluationConfig, shards: Path
) -> dict[str, list[float]]:
    """Return each policy's standardised rewards. Equal sequences are scored once, so that equal responses tie."""
    model = RewardModel.load(source, WEIGHT_DTYPES[config.dtype], choose_device(config.device))
    sequences: list[tuple[int, ...]] = []
    for generated in responses.values():
        learned = LearnedReward(model, generated.renderer, max_length=trained_max_length(source))
        sequences += [tuple(learned.tokenize(rollout)) for rollout in generated.rollouts]
    distinct = list(dict.fromkeys(sequences))
    size = BATCH_SHAPE["sequences"]
    scores: dict[tuple[int, ...], float] = {}
    with counter(f"scoring {len(sequences)} responses with {source.name}", len(distinct)) as count:
        for start in range(0, len(distinct), size):
            rows = distinct[start : start + size]
            path = shards / f"scores-{start:06d}.jsonl"
            raw = load_or_make_shard(path, partial(model.raw_scores, rows, SCORING_TOKENS))
            scores |= zip(rows, raw, strict=True)
            count.update(len(rows))
    values = iter([model.standardize(scores[sequence]) for sequence in sequences])
    return {name: [next(values) for _ in generated.rollouts] for name, generated in responses.items()}


def judge_responses(
    found: ResolvedSources, responses: dict[str, PolicyResponses], config: EvaluationConfig, shards: Path
) -> dict[str, list[dict[str, float | None]]]:
    """Return every judge's score of each response, by policy; None where a judge gives no score.

    Models are loaded only when a shard is missing.
    """
    loader = cache(
        partial(RewardLoader, None, WEIGHT_DTYPES[config.dtype], choose_device(config.device), SCORING_TOKENS)
    )
    judged: dict[str, list[dict[str, float | None]]] = {}
    size = BATCH_SHAPE["sequences"]
    for number, (policy, generated) in enumerate(responses.items()):
        rollouts = generated.rollouts
        judged[policy] = [{} for _ in rollouts]
        for index, part in enumerate(found.parts):
            judge = found.only(part)
            with counter(f"judge {part.column}: {policy}", len(rollouts)) as count:

                def make(
                    batch: Sequence[Rollout],
                    judge: ResolvedSources = judge,
                    generated: PolicyResponses = generated,
                ) -> list[float | None]:
                    (source,) = loader().sources(judge, generated.renderer, role="judge")
                    return [row.scores[0].value for row in score_all([source], batch)]

                for start in range(0, len(rollouts), size):
                    batch = rollouts[start : start + size]
                    path = shards / f"judge-{index:02d}-{number:02d}-{start:06d}.jsonl"
                    values = load_or_make_shard(path, partial(make, batch))
                    for row, value in zip(judged[policy][start:], values, strict=False):
                        row[part.column] = value
                    count.update(len(batch))
    return judged


def _engine(source: ModelSource, config: EvaluationConfig) -> InProcessEngine:
    device, weight_dtype = choose_device(config.device), WEIGHT_DTYPES[config.dtype]
    if source.kind == "adapter":
        assert source.base is not None
        backbone, role = Backbone.load(source.base, weight_dtype, device), "policy"
        backbone.load_adapter(role, source.folder)
        backbone.set_tokenizer(source, tokenizer_of(source))
    else:
        backbone, role = Backbone.load(source, weight_dtype, device), None
    check_vocabulary(backbone.tokenizer, backbone.output_weight, source.name)
    return InProcessEngine(
        backbone,
        Renderer(backbone.tokenizer, config.data.keep_special_tokens),
        role,
        config.data.max_length,
        BATCH_SHAPE["slots"],
    )


def _to_json(rollout: Rollout) -> dict[str, Any]:
    fields = asdict(rollout)
    return {"prompt_id": rollout.prompt.id} | {k: v for k, v in fields.items() if k != "prompt"}


def _from_json(fields: dict[str, Any], prompt: Prompt) -> Rollout:
    values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items() if k != "prompt_id"}
    return Rollout(prompt=prompt, **values)
