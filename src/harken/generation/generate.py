"""Generate responses of several policies to prompts, as a table that other commands score, pair and evaluate."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.config import GenerationConfig
from harken.data import sources
from harken.errors import UserError
from harken.evaluation import fixed_inputs
from harken.evaluation.responses import BATCH_SHAPE, PolicyResponses, generate_responses, response_row
from harken.generation.once import WrittenResults, write_once
from harken.models.device import choose_device, device_kind
from harken.models.resolve import ModelSource, require_use, resolve
from harken.models.roles import lineage_fingerprint
from harken.records import Prompt
from harken.rollout.engine import Sampling
from harken.run import signals
from harken.run.counted import counted
from harken.run.folder import ResponsesFolder
from harken.run.lock import write_lock
from harken.run.tables import write_rows
from harken.run.tracking import say

PURPOSE = "generate"
"""Makes draws independent of those of training and evaluation, and of other policies' for the same prompt."""


def run_generate(config: GenerationConfig, output: Path) -> ResponsesFolder:
    """Generate `config.samples` responses of every policy to every prompt. With the same folder, it resumes.

    A response is a function of (weights, seed, the policy's name, prompt id, sample): other prompts, policies and the
    number of samples affect only rounding. Raises UserError when a policy cannot generate, no prompt is usable,
    the folder holds responses of other settings, weights or prompts, or another process writes it.
    """
    with write_lock(output):
        with signals.handle_signals():
            folder = _run(config, ResponsesFolder(output))
        signals.raise_if_pending()
        return folder


def _run(config: GenerationConfig, folder: ResponsesFolder) -> ResponsesFolder:
    models = {
        name: require_use(resolve(policy.model_name), "policy") for name, policy in config.policies.items()
    }
    prompts, report = sources.load_prompts(config.data, seed=config.seed, keep=config.keep)
    _check_kept(config.keep, prompts)
    settings = config.model_dump(mode="json", exclude={"output_dir"}) | {
        "fingerprints": {name: lineage_fingerprint(source) for name, source in models.items()},
        "prompts": fixed_inputs.fingerprint_prompts(prompts),
        "batch_shape": BATCH_SHAPE,
        "device_kind": device_kind(choose_device(config.device)),
    }

    def make() -> WrittenResults:
        for line in report.summary():
            say(line)
        responses = {
            name: _generate(number, name, models[name], prompts, config, folder.shards)
            for number, name in enumerate(models)
        }
        rows = _rows(responses, config.keep)
        write_rows(folder.responses, rows)
        counts = count_by_policy(rows)
        lines = [f"{name}: {_sentence(count)}" for name, count in counts.items()]
        lines.append(
            f"{folder.responses}: {counted(len(rows), 'response')} to {counted(len(prompts), 'prompt')}"
        )
        return WrittenResults(_lineage(config, models, settings), counts, lines)

    with fixed_inputs.freeze_template_clock(list(models.values()), folder.config, settings):
        write_once(folder, settings, make)
    return folder


def _generate(
    number: int,
    name: str,
    source: ModelSource,
    prompts: Sequence[Prompt],
    config: GenerationConfig,
    shards: Path,
) -> PolicyResponses:
    sampling = Sampling(
        config.max_gen_len, config.temperature_of(config.policies[name]), config.seed, config.samples
    )
    return generate_responses(number, name, source, prompts, config, shards, sampling, f"{PURPOSE} {name}")


def _rows(responses: Mapping[str, PolicyResponses], keep: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row per response, with the details of the prompt that scorers may read."""
    rows = []
    for name, generated in responses.items():
        for number, rollout in enumerate(generated.rollouts):
            prompt = rollout.prompt
            further = {key: value for key, value in prompt.details.items() if key not in keep}
            rows.append(
                response_row(name, generated, number, {}, keep)
                | {
                    "reference": prompt.reference,
                    "tools": prompt.tools,
                    "details": json.dumps(further, ensure_ascii=False, default=str) if further else "",
                }
            )
    unused = [key for key in ("reference", "tools", "details") if not any(row[key] for row in rows)]
    return [{key: value for key, value in row.items() if key not in unused} for row in rows]


def _check_kept(keep: Sequence[str], prompts: Sequence[Prompt]) -> None:
    for name in keep:
        if all(name not in prompt.details for prompt in prompts):
            raise UserError(
                f"no prompt has a column {name!r}", where="keep", fix="name a column of the prompts"
            )


def count_by_policy(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Count each policy's responses: all, truncated, empty, and equal to another one to the same prompt."""
    counts: dict[str, dict[str, int]] = {}
    responses_seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        policy_counts = counts.setdefault(
            row["policy"], {"responses": 0, "truncated": 0, "empty": 0, "repeated": 0, "tokens": 0}
        )
        prompt_responses = responses_seen[row["policy"], row["prompt_id"]]
        policy_counts["responses"] += 1
        policy_counts["truncated"] += row["cap_hit"] is True
        policy_counts["empty"] += row["empty"]
        policy_counts["repeated"] += row["response"] in prompt_responses
        policy_counts["tokens"] += row["response_tokens"] or 0
        prompt_responses.add(row["response"])
    return counts


def _sentence(count: Mapping[str, int]) -> str:
    total = count["responses"]
    return (
        f"{counted(total, 'response')}, {count['tokens'] / total:.1f} tokens each; {count['truncated']:,} truncated, "
        f"{count['empty']:,} empty, {count['repeated']:,} equal to another one to their prompt"
    )


def _lineage(
    config: GenerationConfig, models: Mapping[str, ModelSource], settings: Mapping[str, Any]
) -> dict[str, Any]:
    policies = {
        name: {"name": source.name, "fingerprint": settings["fingerprints"][name]}
        for name, source in models.items()
    }
    return {"policies": policies, "data": {"name": config.data.path, "fingerprint": settings["prompts"]}}
