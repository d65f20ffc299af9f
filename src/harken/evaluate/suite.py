"""Evaluate policies: each responds once to every held-out prompt, and one reward model and the judges score."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harken.chat import template as chat_template
from harken.config import EvaluationConfig
from harken.data import sources
from harken.data.report import DataReport
from harken.evaluate import audit, compare, trained_prompts
from harken.evaluate.responses import BATCH_SHAPE, generate_responses, judge_responses, score_responses
from harken.models.resolve import ModelSource, require_use, resolve
from harken.models.roles import lineage_fingerprint
from harken.records import Prompt, Rollout
from harken.reward.build import ResolvedSources, resolve_sources
from harken.run import atomic, checksums, signals
from harken.run.config_lock import lock_config, read_locked_config, write_config
from harken.run.folder import EvaluationFolder
from harken.run.lock import write_lock
from harken.run.tables import write_rows
from harken.run.tracking import say


def run_evaluation(config: EvaluationConfig, output: Path) -> EvaluationFolder:
    """Generate, score, compare and write. A finished evaluation of the same configuration is not changed.

    An interrupted evaluation is resumed: its finished shards are reused, and responses of other settings, weights or
    prompts are never mixed in. Raises UserError when a policy or the reward model is a model of another kind, the
    folder holds another evaluation, or another process writes it.
    """
    with write_lock(output):
        with signals.handle_signals():
            folder = _run(config, EvaluationFolder(output))
        signals.raise_if_pending()
        return folder


def _run(config: EvaluationConfig, folder: EvaluationFolder) -> EvaluationFolder:
    judges = resolve_sources(config.judges)
    policies = {name: require_use(resolve(model), "policy") for name, model in config.policies.items()}
    reward = require_use(resolve(config.reward_model), "reward")
    prompts, report = sources.load_prompts(config.data, seed=config.seed)
    # The responses depend on the weights too; fingerprints keep an evaluation from mixing two models of one name.
    contents = {
        name: lineage_fingerprint(source) for name, source in [*policies.items(), ("reward model", reward)]
    }
    settings = config.model_dump(mode="json", exclude={"output_dir"}) | {
        "fingerprints": contents | {f"judge {name}": part for name, part in judges.lineage().items()},
        "prompts": _fingerprint(prompts),
        "batch_shape": BATCH_SHAPE,
    }
    # A template that reads the clock gets the start of this evaluation, where the model recorded no time.
    moment = datetime.now(UTC).replace(microsecond=0)
    links = [link for source in [*policies.values(), reward] for link in (source, source.base) if link]
    if any(chat_template.folder_reads_clock(link.folder) for link in links):
        before = read_locked_config(folder.config).get("template_time") if folder.config.exists() else None
        moment = datetime.fromisoformat(before) if isinstance(before, str) else moment
        settings["template_time"] = moment.isoformat()
    with chat_template.freeze_clock(moment):
        return _evaluate(config, folder, policies, reward, judges, prompts, report, settings)


def _evaluate(
    config: EvaluationConfig,
    folder: EvaluationFolder,
    policies: dict[str, ModelSource],
    reward: ModelSource,
    judges: ResolvedSources,
    prompts: Sequence[Prompt],
    report: DataReport,
    settings: dict[str, Any],
) -> EvaluationFolder:
    if lock_config(folder.config, settings, folder.summary, folder.shards) and folder.summary.exists():
        shutil.rmtree(folder.shards, ignore_errors=True)
        if (
            checksums.read_checksums(folder.root) is None
        ):  # the process that finished the evaluation ended before it wrote them
            checksums.write_checksums(folder.root, folder.checksummed_files())
        say(f"{folder.root}: this evaluation is finished; nothing to do")
        return folder
    checksums.remove_checksums(folder.root)
    if read_locked_config(folder.config) != settings:  # its paths moved with the folder
        write_config(folder.config, settings)
    for line in report.summary():
        say(line)
    if report.dropped:
        say(f"  each dropped row: harken data {config.data.path} --task prompt_only")
    known = trained_prompts.count_trained_prompts({**policies, "the reward model": reward}, prompts)
    if text := trained_prompts.trained_prompts_warning(known, len(prompts)):
        say(f"warning: {text}")
    responses = {
        name: generate_responses(number, name, source, prompts, config, folder.shards)
        for number, (name, source) in enumerate(policies.items())
    }
    rewards = score_responses(reward, responses, config, folder.shards)
    judged = judge_responses(judges, responses, config, folder.shards)
    rows = [
        _row(name, rollout, value, scores)
        for name, generated in responses.items()
        for rollout, value, scores in zip(generated.rollouts, rewards[name], judged[name], strict=True)
    ]
    write_rows(folder.responses, rows)
    names = [part.column for part in judges.parts]
    summary = compare.compare(rows, judges=names, tie_epsilon=config.tie_epsilon, seed=config.seed)
    atomic.write_json(folder.summary, summary | {"trained_on": known})
    checksums.write_checksums(folder.root, folder.checksummed_files())
    shutil.rmtree(folder.shards, ignore_errors=True)
    say(f"{folder.root}: {summary['n']} responses per policy compared")
    return folder


def _fingerprint(prompts: Sequence[Prompt]) -> str:
    """Compute the sha256 of all ids, messages and tools, in order."""
    texts = [[p.id, *_messages_and_tools(p)] for p in prompts]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _messages_and_tools(prompt: Prompt) -> list[object]:
    plain: list[object] = [
        (m.role, m.content, m.extra) if m.extra else (m.role, m.content) for m in prompt.messages
    ]
    return [*plain, prompt.tools] if prompt.tools else plain


def _row(policy: str, rollout: Rollout, reward: float, judged: dict[str, float | None]) -> dict[str, Any]:
    prompt = rollout.prompt
    return {
        "prompt_id": prompt.id,
        "policy": policy,
        "sample": rollout.sample,
        "domain": prompt.domain,
        "language": prompt.language,
        "prompt": prompt.last_user_message,
        "messages": json.dumps([m.to_dict() for m in prompt.messages], ensure_ascii=False),
        "response": rollout.text,
        "prompt_tokens": len(rollout.prompt_tokens),
        "response_tokens": len(rollout.response_tokens),
        "stop": rollout.stop,
        "reward": reward,
        **{f"score_{name}": value for name, value in judged.items()},
        "repeated_4grams": audit.repetition(rollout.text),
        "empty": not rollout.text.strip(),
        "cap_hit": rollout.stop == "length",
    }
