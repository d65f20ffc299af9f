"""Generate the responses of policies, in shards that survive when the process is killed.

Batch composition affects rounding and can change sampled tokens, so shards are fixed by the configuration. A missing
shard is generated again with the same contents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from harken.config import DataConfig, WeightDtypeName
from harken.data.chat import Renderer
from harken.data.external_responses import ExternalResponse
from harken.evaluation import audit
from harken.evaluation.response_files import ByPrompt
from harken.models.backbone import Backbone
from harken.models.check_logits import check_vocabulary
from harken.models.device import choose_device
from harken.models.find_tokenizer import renderer_of, tokenizer_of
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import ModelSource
from harken.records import Prompt, Rollout
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


class EngineSettings(Protocol):
    """The settings that loading a policy and encoding its prompts take; an evaluation's configuration has them."""

    @property
    def device(self) -> str:
        """Return `cpu`, `cuda` or `auto`."""
        ...

    @property
    def dtype(self) -> WeightDtypeName:
        """Return the dtype of the weights."""
        ...

    @property
    def prompt_data(self) -> DataConfig:
        """Return how prompts are encoded."""
        ...


@dataclass(frozen=True)
class PolicyResponses:
    """A policy's responses, prompt by prompt, sample 0 first."""

    rollouts: list[Rollout]
    renderer: Renderer | None
    """The policy's renderer; None for the responses of a file, of which only the text is known."""
    external: list[ExternalResponse] | None = None
    """The row of the file that each response came from."""
    chosen_scores: list[float] | None = None
    """The first scorer's scores where they chose the responses (best of n)."""

    def first(self, count: int) -> PolicyResponses:
        """Return the first `count` responses."""
        external = self.external[:count] if self.external else None
        return replace(self, rollouts=self.rollouts[:count], external=external)


def generate_responses(
    number: int,
    name: str,
    source: ModelSource,
    prompts: Sequence[Prompt],
    config: EngineSettings,
    shards: Path,
    sampling: Sampling,
    purpose: str = "evaluation",
) -> PolicyResponses:
    """Generate `sampling.samples` responses per prompt with policy number `number`.

    An adapter is not merged, because merging would round it. The model is loaded only when a shard is missing.
    Policies draw the same random numbers for a prompt and a sample where `purpose` is the same.
    """
    say(f"{name}: {source.describe()}")
    size = BATCH_SHAPE["prompts"]
    groups = {
        shards / f"responses-{number:02d}-{start:06d}.jsonl": prompts[start : start + size]
        for start in range(0, len(prompts), size)
    }
    engine = cache(partial(load_engine, source, config))
    rollouts: list[Rollout] = []
    with counter(f"{name} responses", len(prompts) * sampling.samples) as count:

        def generate(batch: Sequence[Prompt]) -> list[dict[str, Any]]:
            generated = engine().generate(batch, sampling, name, purpose, on_progress=count.update)
            return [_to_json(rollout) for rollout in generated]

        for path, batch in groups.items():
            shard = load_or_make_shard(path, partial(generate, batch))
            row_prompts = [prompt for prompt in batch for _ in range(sampling.samples)]
            rollouts += [
                _from_json(fields, prompt) for fields, prompt in zip(shard, row_prompts, strict=True)
            ]
    return PolicyResponses(rollouts, renderer_of(source, config.prompt_data.keep_special_tokens))


def file_responses(name: str, responses: ByPrompt, prompts: Sequence[Prompt]) -> PolicyResponses:
    """Return the responses of a file as rollouts without tokens.

    Where the file does not say why a response stopped, scorers get "end_of_turn"; its row has None.
    """
    external = [response for prompt in prompts for response in responses[prompt.id]]
    rollouts = [
        Rollout(prompt, sample, (), (), (), str(response.text), response.stop or "end_of_turn", name)
        for prompt in prompts
        for sample, response in enumerate(responses[prompt.id])
    ]
    return PolicyResponses(rollouts, None, external)


def truncate_responses(generated: PolicyResponses, limit: int) -> PolicyResponses:
    """Truncate the responses as `max_gen_len` = `limit` tokens would have done."""
    assert generated.renderer is not None
    decode = generated.renderer.decode_response
    return replace(
        generated,
        rollouts=[
            rollout
            if len(rollout.response_tokens) <= limit
            else replace(
                rollout,
                response_tokens=rollout.response_tokens[:limit],
                sampler_logprobs=rollout.sampler_logprobs[:limit],
                text=decode(rollout.response_tokens[:limit]),
                stop="length",
            )
            for rollout in generated.rollouts
        ],
        chosen_scores=None,
    )


def response_row(
    policy: str,
    generated: PolicyResponses,
    index: int,
    scores: Mapping[str, float | None],
    columns: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the row of response `index` in a table of responses; `scores` are its columns of scores.

    `columns` are details of the prompt that become columns of text. `prompt_tokens` and `response_tokens` are counts;
    for the response of a file they are the file's numbers.
    """
    rollout = generated.rollouts[index]
    external = generated.external[index] if generated.external else None
    prompt = rollout.prompt
    details = {name: prompt.details.get(name) for name in columns}
    stop = external.stop if external else rollout.stop
    return {
        "prompt_id": prompt.id,
        "policy": policy,
        "sample": rollout.sample,
        "domain": prompt.domain,
        "language": prompt.language,
        **{name: None if value is None else str(value) for name, value in details.items()},
        "prompt": prompt.last_user_message,
        "messages": json.dumps([m.to_dict() for m in prompt.messages], ensure_ascii=False),
        "response": rollout.text,
        "prompt_tokens": len(rollout.prompt_tokens) if external is None else None,
        "response_tokens": external.tokens if external else len(rollout.response_tokens),
        "stop": stop,
        **scores,
        "repeated_4grams": audit.repetition(rollout.text),
        "empty": not rollout.text.strip(),
        "cap_hit": None if stop is None else stop == "length",
    }


def load_engine(source: ModelSource, config: EngineSettings, slots: int = MAX_SLOTS) -> InProcessEngine:
    """Load a policy and return the engine that generates its responses, `slots` at once."""
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
        Renderer(backbone.tokenizer, config.prompt_data.keep_special_tokens),
        role,
        config.prompt_data.max_length,
        slots,
    )


def _to_json(rollout: Rollout) -> dict[str, Any]:
    fields = asdict(rollout)
    return {"prompt_id": rollout.prompt.id} | {k: v for k, v in fields.items() if k != "prompt"}


def _from_json(fields: dict[str, Any], prompt: Prompt) -> Rollout:
    values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items() if k != "prompt_id"}
    return Rollout(prompt=prompt, **values)
