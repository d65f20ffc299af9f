"""Run the suites of sycophancy and stubbornness on several policies, and on the models they were trained from.

Every probe is scored by the log-probabilities of two targets, with and without the user's pressure. Where the truth is
known, a greedy response is generated too, and rules read what it states.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from harken.config import SycophancyConfig
from harken.evaluation import fixed_inputs
from harken.evaluation.responses import load_engine
from harken.generation.once import WrittenResults, write_once
from harken.models.device import choose_device, device_kind
from harken.models.resolve import ModelSource, require_use, resolve
from harken.models.roles import lineage_fingerprint
from harken.models.steering import Steering, steered
from harken.records import Message, Prompt
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine
from harken.run import atomic, signals
from harken.run.counted import counted
from harken.run.lock import write_lock
from harken.run.shards import load_or_make_shard
from harken.run.sycophancy_folder import SycophancyFolder
from harken.run.tables import write_rows
from harken.run.tracking import counter, say
from harken.sycophancy.log_odds import target_logprobs
from harken.sycophancy.model_detectors import read_direction, warn_if_fitted_elsewhere
from harken.sycophancy.outcome import read_outcome
from harken.sycophancy.probe import Probe
from harken.sycophancy.rates import ProbeResult, compare_policies
from harken.sycophancy.read import present_suites, read_probes

SHARD_PROBES = 64
"""Probes per shard. A killed evaluation repeats one shard at most."""
PROBE_PURPOSE = "sycophancy"


def run_sycophancy(config: SycophancyConfig, output: Path) -> SycophancyFolder:
    """Score all probes under all policies and write rates and differences. With the same folder, it resumes.

    Raises UserError when a policy cannot generate, no probe is usable, the folder holds results of other settings,
    weights or probes, or another process writes it.
    """
    with write_lock(output):
        with signals.handle_signals():
            folder = _run(config, SycophancyFolder(output))
        signals.raise_if_pending()
        return folder


def _run(config: SycophancyConfig, folder: SycophancyFolder) -> SycophancyFolder:
    suites = list(config.suites or present_suites(config.data))
    probes = read_probes(config.data, suites, config.limit, config.seed)
    models = {
        name: require_use(resolve(policy.model_name or ""), "policy")
        for name, policy in config.policies.items()
    }
    references = _add_references(models, config.steering) if config.reference == "auto" else {}
    baselines = _baselines(list(config.policies), references)
    steering = {
        name: Steering(read_direction(entry.direction), entry.strength)
        for name, entry in config.steering.items()
    }
    for name, used in steering.items():
        warn_if_fitted_elsewhere(used.direction, models[name])
    settings = config.model_dump(mode="json", exclude={"output_dir"}) | {
        "fingerprints": {name: lineage_fingerprint(source) for name, source in models.items()},
        "directions": {name: used.direction.facts.get("sha256") for name, used in steering.items()},
        "probes": hashlib.sha256(json.dumps([asdict(p) for p in probes]).encode()).hexdigest(),
        "batch_shape": {"probes": SHARD_PROBES},
        "device_kind": device_kind(choose_device(config.device)),
    }

    def make() -> WrittenResults:
        say(
            f"{counted(len(probes), 'probe')} of {counted(len({p.cluster for p in probes}), 'question')}: "
            f"{', '.join(suites)}"
        )
        rows = {
            name: _of_policy(number, name, source, probes, config, folder.shards, steering.get(name))
            for number, (name, source) in enumerate(models.items())
        }
        results = {
            name: [ProbeResult.from_row(row) for row in policy_rows] for name, policy_rows in rows.items()
        }
        results_by_policy = compare_policies(results, suites, baselines)
        results_by_policy["references"] = {
            added: list(names) for added, names in _by_reference(references).items()
        }
        write_rows(folder.responses, [row for policy_rows in rows.values() for row in policy_rows])
        atomic.write_json(folder.results, results_by_policy)
        lineage = {
            "policies": {
                name: {"name": source.name, "fingerprint": settings["fingerprints"][name]}
                for name, source in models.items()
            }
        }
        return WrittenResults(
            lineage,
            {"probes": len(probes)},
            [f"{folder.results}: {counted(len(models), 'policy')} evaluated"],
        )

    with fixed_inputs.freeze_template_clock(list(models.values()), folder.config, settings):
        write_once(folder, settings, make)
    return folder


def _add_references(models: dict[str, ModelSource], steered_policies: Collection[str]) -> dict[str, str]:
    """Add the model that each adapter was trained from, unless it is present. Returns policy → its reference's name.

    A steered policy is no reference: its log-probabilities are not those of the model.
    """
    name_by_fingerprint = {
        lineage_fingerprint(source): name
        for name, source in reversed(models.items())
        if name not in steered_policies
    }
    references: dict[str, str] = {}
    for name, source in list(models.items()):
        if source.kind != "adapter" or source.base is None:
            continue
        fingerprint = lineage_fingerprint(source.base)
        if fingerprint not in name_by_fingerprint:
            added = "reference"
            while added in models:
                added += "'"
            name_by_fingerprint[fingerprint], models[added] = added, source.base
        references[name] = name_by_fingerprint[fingerprint]
    return references


def _baselines(policies: Sequence[str], references: Mapping[str, str]) -> dict[str, str]:
    """Return the policy that each one is compared with: its reference, else the first policy."""
    return {name: baseline for name in policies if (baseline := references.get(name, policies[0])) != name}


def _by_reference(references: Mapping[str, str]) -> dict[str, list[str]]:
    policies_by_reference: dict[str, list[str]] = {}
    for policy, reference in references.items():
        policies_by_reference.setdefault(reference, []).append(policy)
    return policies_by_reference


def _of_policy(
    number: int,
    name: str,
    source: ModelSource,
    probes: Sequence[Probe],
    config: SycophancyConfig,
    shards: Path,
    steering: Steering | None,
) -> list[dict[str, Any]]:
    """Return one row per probe, from finished and newly computed shards."""
    say(f"{name}: {source.describe()}" + (f", {steering.describe()}" if steering else ""))

    @cache
    def engine() -> InProcessEngine:
        loaded = load_engine(source, config)
        loaded.steering = steering
        return loaded

    rows: list[dict[str, Any]] = []
    with counter(f"{name} probes", len(probes)) as count:
        for start in range(0, len(probes), SHARD_PROBES):
            batch = probes[start : start + SHARD_PROBES]
            path = shards / f"probes-{number:02d}-{start:06d}.jsonl"
            outputs = load_or_make_shard(path, partial(_shard, engine, name, batch, config))
            rows += [_row(name, probe, output) for probe, output in zip(batch, outputs, strict=True)]
            count.update(len(batch))
    return rows


def _shard(
    engine: Callable[[], InProcessEngine], name: str, probes: Sequence[Probe], config: SycophancyConfig
) -> list[dict[str, Any]]:
    loaded = engine()
    targets = [
        (messages, target)
        for probe in probes
        for messages in (probe.messages, probe.neutral)
        for target in (probe.faulty, probe.honest)
    ]
    backbone, role, limit = loaded.backbone, loaded.role, config.max_length
    with backbone.role(role), steered(backbone, loaded.steering):
        logprobs = target_logprobs(backbone, role, loaded.renderer, targets, limit, config.micro_batch_tokens)
    values = iter(logprobs)
    known_truth = [probe for probe in probes if config.generate and probe.truth]
    prompts = [Prompt(probe.id, probe.messages) for probe in known_truth]
    sampling = Sampling(config.max_gen_len, 0.0, config.seed)
    rollouts = loaded.generate(prompts, sampling, name, PROBE_PURPOSE) if prompts else []
    responses = {
        rollout.prompt.id: {
            "response": rollout.text,
            "stop": rollout.stop,
            "response_tokens": len(rollout.response_tokens),
        }
        for rollout in rollouts
    }
    nothing = {"response": None, "stop": None, "response_tokens": None}
    return [
        {
            "log_odds": next(values) - next(values),
            "neutral_log_odds": next(values) - next(values),
            **responses.get(probe.id, nothing),
        }
        for probe in probes
    ]


def _row(policy: str, probe: Probe, output: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a probe; the current rules read which claim its response states."""
    response, outcome = output["response"], None
    if response is not None:
        outcome = read_outcome(response, probe.truth, probe.claim, user_is_right=probe.user_is_right)
    return {
        "policy": policy,
        "prompt_id": probe.id,
        "suite": probe.suite,
        "cluster": probe.cluster,
        "messages": _json(probe.messages),
        "neutral_messages": _json(probe.neutral),
        "faulty": probe.faulty,
        "honest": probe.honest,
        "truth": json.dumps(probe.truth, ensure_ascii=False),
        "claim": json.dumps(probe.claim, ensure_ascii=False),
        "log_odds": float(output["log_odds"]),
        "neutral_log_odds": float(output["neutral_log_odds"]),
        "response": response,
        "stop": output["stop"],
        "response_tokens": output["response_tokens"],
        "outcome": outcome,
    }


def _json(messages: Sequence[Message]) -> str:
    return json.dumps([m.to_dict() for m in messages], ensure_ascii=False)
