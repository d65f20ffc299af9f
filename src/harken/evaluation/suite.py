"""Evaluate policies: all respond to the same held-out prompts, and the same scorers judge every response.

A policy is a model that generates here, a checkpoint, or a file of responses that another system generated.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harken.config import EvaluationConfig
from harken.data import sources
from harken.data.report import DataReport
from harken.errors import UserError
from harken.evaluation import audit, batch_sensitivity, best_of_n, compare, fixed_inputs, trained_prompts
from harken.evaluation.left_out import leave_out_prompts
from harken.evaluation.response_files import (
    MatchedFiles,
    fingerprint_rows,
    match_files,
    number_columns,
    read_policies,
    repeated_texts,
)
from harken.evaluation.responses import (
    BATCH_SHAPE,
    PolicyResponses,
    file_responses,
    generate_responses,
    response_row,
    truncate_responses,
)
from harken.evaluation.scorers import Scorers, find_scorers, first_scores, further_scores
from harken.models.device import choose_device, device_kind
from harken.models.resolve import ModelSource, require_use, resolve
from harken.models.roles import lineage_fingerprint
from harken.records import Prompt
from harken.rollout.engine import Sampling
from harken.run import atomic, checksums, manifest, signals
from harken.run.config_lock import lock_config, read_locked_config, write_config
from harken.run.counted import counted
from harken.run.folder import EvaluationFolder, RunFolder
from harken.run.lock import write_lock
from harken.run.tables import write_rows
from harken.run.tracking import say

PROMPT_COLUMNS = ("domain", "language")
"""Columns of every table of responses that describe the prompt."""
RESPONSE_TABLE_COLUMNS = frozenset(
    {
        "prompt_id", "policy", "sample", "prompt", "messages", "response", "prompt_tokens", "response_tokens", "stop",
        "reward", "repeated_4grams", "empty", "cap_hit",
    }
)  # fmt: skip


@dataclass(frozen=True)
class _Evaluation:
    """An evaluation whose prompts, policies and scorers have been resolved."""

    config: EvaluationConfig
    folder: EvaluationFolder
    prompts: Sequence[Prompt]
    report: DataReport | None
    """None where the prompts are those of the response files."""
    models: dict[str, ModelSource]
    systems: dict[str, list[str]]
    """Policies of the response file of each configured policy, by its name."""
    matched: MatchedFiles | None
    scorers: Scorers

    @property
    def samples(self) -> int:
        """Return the number of responses per prompt."""
        return self.matched.samples if self.matched else self.config.samples or 1


def run_evaluation(config: EvaluationConfig, output: Path) -> EvaluationFolder:
    """Generate, score, compare and write. A finished evaluation of the same configuration is not changed.

    An interrupted evaluation is resumed: its finished shards are reused, and responses of other settings, weights or
    prompts are never mixed in. Raises UserError when a policy or the reward model is a model of another kind, a file
    of responses does not fit the prompts, the folder holds another evaluation, or another process writes it.
    """
    with write_lock(output):
        with signals.handle_signals():
            folder = _run(config, EvaluationFolder(output))
        signals.raise_if_pending()
        return folder


def _run(config: EvaluationConfig, folder: EvaluationFolder) -> EvaluationFolder:
    systems = read_policies(config.policies)
    files = {system: rows for by_system in systems.values() for system, rows in by_system.items()}
    scorers = find_scorers(config, [number_columns(rows) for rows in files.values()])
    models = {
        name: require_use(resolve(policy.model_name), "policy")
        for name, policy in config.policies.items()
        if policy.model_name is not None
    }
    prompts, report = None, None
    if config.data is not None:
        prompts, report = sources.load_prompts(config.data, seed=config.seed, keep=config.kept_columns)
    samples = config.samples or (1 if models else None)
    matched = match_files(files, prompts, samples) if files else None
    prompts = matched.prompts if matched else prompts
    assert prompts is not None
    if config.leave_out:
        prompts = leave_out_prompts(prompts, config.leave_out, config.seed)
        matched = match_files(files, prompts, samples) if files else None
    _check_columns(config.kept_columns, prompts)
    policies = {name: list(by_system) for name, by_system in systems.items()}
    evaluation = _Evaluation(config, folder, prompts, report, models, policies, matched, scorers)
    # The responses depend on the weights too; fingerprints keep an evaluation from mixing two models of the same name.
    fingerprints = {name: lineage_fingerprint(source) for name, source in models.items()}
    fingerprints |= {name: fingerprint_rows(rows) for name, rows in files.items()}
    settings = config.model_dump(mode="json", exclude={"output_dir"}) | {
        "fingerprints": fingerprints | scorers.fingerprints(),
        "prompts": fixed_inputs.fingerprint_prompts(evaluation.prompts),
        "batch_shape": BATCH_SHAPE,
        "device_kind": device_kind(choose_device(config.device)),
    }
    all_models = [*models.values(), *([scorers.reward_model] if scorers.reward_model else [])]
    with fixed_inputs.freeze_template_clock(all_models, folder.config, settings):
        return _evaluate(evaluation, settings)


def _check_columns(names: Sequence[str], prompts: Sequence[Prompt]) -> None:
    """Raise UserError for a column that the table of responses already has, or that no prompt has."""
    for name in names:
        if name in RESPONSE_TABLE_COLUMNS or name.startswith("score_"):
            raise UserError(
                f"{name} is a column of the responses, not of the prompts",
                where="slices, cluster_by",
                fix="name a column of the prompts' rows; domain, language and lengths are always sliced",
            )
        if name not in PROMPT_COLUMNS and all(name not in prompt.details for prompt in prompts):
            available = sorted({key for prompt in prompts for key in prompt.details})
            raise UserError(
                f"no prompt has a column {name!r}"
                + (f"; there are {', '.join(available)[:300]}" if available else ""),
                where="slices, cluster_by",
                fix="name a column of the prompts' rows",
            )


def _evaluate(evaluation: _Evaluation, settings: dict[str, Any]) -> EvaluationFolder:
    config, folder, scorers = evaluation.config, evaluation.folder, evaluation.scorers
    own = folder.checksummed_files()
    if (
        lock_config(folder.config, settings, folder.summary, folder.shards, own=own)
        and folder.summary.exists()
    ):
        shutil.rmtree(folder.shards, ignore_errors=True)
        if checksums.read_checksums(folder.root) is None:  # the process ended before it wrote them
            checksums.write_checksums(folder.root, folder.checksummed_files())
        say(f"{folder.root}: this evaluation is finished; nothing to do")
        return folder
    checksums.remove_checksums(folder.root)
    if read_locked_config(folder.config) != settings:  # its paths moved with the folder
        write_config(folder.config, settings)
    _record(evaluation, settings)
    _say_data(evaluation)
    trained_counts = trained_prompts.count_trained_prompts(_trained_models(evaluation), evaluation.prompts)
    if warning := trained_prompts.trained_prompts_warning(trained_counts, len(evaluation.prompts)):
        say(f"warning: {warning}")
    responses = _all_responses(evaluation)
    rows, rewards = _score(evaluation, responses)
    extra = {
        "scorer": scorers.first,
        "trained_on": trained_counts,
        "files": evaluation.matched.to_dict() if evaluation.matched else {},
        "best_of": best_of_n.kl_bounds(config),
    }
    repeatability = None
    if config.batch_sensitivity:
        sensitivity = batch_sensitivity.measure(
            config, evaluation.models, scorers.reward_model, evaluation.prompts, responses, rewards
        )
        extra["batch_sensitivity"], repeatability = sensitivity, sensitivity["score_p99"]
    write_rows(folder.responses, rows)
    summary = _compare(evaluation, rows, repeatability)
    if config.budgets:
        atomic.write_json(folder.budgets, {"budgets": _budgets(evaluation, responses, summary)})
    atomic.write_json(folder.audit, _audit(config, rows, summary))
    _record(evaluation, settings, finished=manifest.current_time())
    atomic.write_json(folder.summary, summary | extra)
    checksums.write_checksums(folder.root, folder.checksummed_files())
    shutil.rmtree(folder.shards, ignore_errors=True)
    say(f"{folder.root}: {counted(summary['n'], 'response')} per policy compared")
    return folder


def _record(evaluation: _Evaluation, settings: dict[str, Any], **fields: str) -> None:
    """Write the manifest; a resumed evaluation keeps its start time."""
    kind = str(settings["device_kind"])
    manifest.write_manifest(RunFolder(evaluation.folder.root), settings, {}, {"device_kind": kind, **fields})


def _say_data(evaluation: _Evaluation) -> None:
    """Print how many rows of prompts and of the response files are used, and why others are not."""
    config, report = evaluation.config, evaluation.report
    for line in report.summary() if report else ():
        say(line)
    if report and config.data and report.dropped:
        say(f"  each dropped row: harken data {config.data.path} --task prompt_only")
    for name, counts in (evaluation.matched.counts if evaluation.matched else {}).items():
        say(counts.sentence(name))
    if evaluation.matched and (repeated := repeated_texts(evaluation.prompts)):
        say(
            f"warning: {repeated:,} prompts have the text of another one and count as independent prompts. "
            "If the ids are those of responses, leave them out of the files: the rows become samples"
        )
    if evaluation.scorers.reward_model is None:
        say(f"first scorer: {evaluation.scorers.first}")


def _trained_models(evaluation: _Evaluation) -> dict[str, ModelSource]:
    reward = evaluation.scorers.reward_model
    return evaluation.models | ({"the reward model": reward} if reward else {})


def _all_responses(evaluation: _Evaluation) -> dict[str, PolicyResponses]:
    """Generate the responses of every model and read those of the files, in the order of the configuration."""
    config, prompts, matched = evaluation.config, evaluation.prompts, evaluation.matched
    responses: dict[str, PolicyResponses] = {}
    for number, (name, policy) in enumerate(config.policies.items()):
        if policy.responses is not None:
            assert matched is not None
            responses |= {
                system: file_responses(system, matched.responses[system], prompts)
                for system in evaluation.systems[name]
            }
            continue
        sampling = Sampling(
            config.max_gen_len,
            config.temperature_of(policy),
            config.seed,
            evaluation.samples * (policy.best_of or 1),
        )
        source = evaluation.models[name]
        responses[name] = generate_responses(
            number, name, source, prompts, config, evaluation.folder.shards, sampling
        )
        if policy.best_of:
            candidates = {name: responses[name]}
            scores = first_scores(
                evaluation.scorers, candidates, config, evaluation.folder.shards, f"best-of-{number:02d}-"
            )
            responses[name] = best_of_n.choose(
                responses[name], scores[name], policy.best_of, evaluation.samples
            )
    return responses


def _score(
    evaluation: _Evaluation, responses: dict[str, PolicyResponses], label: str = ""
) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:
    """Return one row per response with all its scores, and each policy's scores by the first scorer."""
    config, scorers, shards = evaluation.config, evaluation.scorers, evaluation.folder.shards
    chosen = {name: best.chosen_scores for name, best in responses.items() if best.chosen_scores is not None}
    unscored = {name: generated for name, generated in responses.items() if name not in chosen}
    rewards = {**first_scores(scorers, unscored, config, shards, label), **chosen}
    scores_by_judge = further_scores(scorers, responses, config, shards, label)
    columns = [name for name in config.kept_columns if name not in PROMPT_COLUMNS]
    rows = []
    for name, generated in responses.items():
        for number, reward in enumerate(rewards[name]):
            scores = {
                f"score_{judge}": values_of[name][number] for judge, values_of in scores_by_judge.items()
            }
            rows.append(response_row(name, generated, number, {"reward": reward, **scores}, columns))
    return rows, rewards


def _compare(
    evaluation: _Evaluation, rows: Sequence[dict[str, Any]], repeatability: float | None
) -> dict[str, Any]:
    config = evaluation.config
    return compare.compare(
        rows,
        judges=evaluation.scorers.judges,
        tie_epsilon=config.tie_epsilon,
        repeatability=repeatability,
        slices=config.slices,
        cluster=config.cluster_by,
        seed=config.seed,
    )


def _audit(
    config: EvaluationConfig, rows: Sequence[dict[str, Any]], summary: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the contents of `audit.json`: a description in words, every kind's rate, and the responses by flag."""
    audited = audit.audit(rows, summary["baseline"], config.audit)
    return {
        "description": audit.describe(rows, audited, summary),
        "rates": [asdict(rate) for rate in audit.kind_rates(rows, audited, summary["baseline"])],
        "flags": {
            flag: [list(key) for key in keys] for flag, keys in audit.responses_by_flag(audited).items()
        },
        "meanings": audit.FLAG_MEANINGS,
    }


def _budgets(
    evaluation: _Evaluation, responses: Mapping[str, PolicyResponses], full_summary: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Compare the same responses truncated at each budget, the smallest first; the last entry is the whole evaluation.

    Only the budget differs between the entries: prompts, random draws and batches are the same.
    """
    entries = []
    for budget in sorted(set(evaluation.config.budgets)):
        truncated = {name: truncate_responses(generated, budget) for name, generated in responses.items()}
        rows, _ = _score(evaluation, truncated, f"budget-{budget}-")
        entries.append({"max_gen_len": budget, "summary": _compare(evaluation, rows, None)})
    return [*entries, {"max_gen_len": evaluation.config.max_gen_len, "summary": dict(full_summary)}]
