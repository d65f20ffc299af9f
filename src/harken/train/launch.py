"""Start a training run from its configuration: folder, models, data, manifest, loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harken.card.run_card import card_after_training
from harken.chat import template as chat_template
from harken.config import RunConfig
from harken.config.ppo import PPOTraining
from harken.config.preference_training import DPOTraining, OnlineDPOTraining
from harken.config.training import ClassifierTraining, HeadTraining, RewardTraining
from harken.data.chat import Renderer
from harken.errors import FrozenWeightsChanged
from harken.models.adapted_model import AdaptedModel
from harken.models.backbone import Backbone
from harken.models.check_logits import check_vocabulary
from harken.models.device import choose_device, device_kind
from harken.models.encoder import Encoder
from harken.models.lora_targets import coverage
from harken.models.positions import check_position_limit
from harken.models.quantised import WEIGHT_DTYPES, WeightDtype
from harken.models.resolve import ModelSource, Use, require_use, resolve
from harken.models.reward_base import load_reward_base
from harken.models.roles import RoleRow, lineage_fingerprint, role_row
from harken.reward.build import resolve_rewards
from harken.rollout.choose_decoder import require_decodable
from harken.run import checkpoint, checksums, config_lock, manifest, sinks, status
from harken.run.folder import RunFolder
from harken.run.lock import write_lock
from harken.run.own_folder import require_own_folder
from harken.run.resume_check import AcceptedChanges, version_differences
from harken.run.terminal import format_table, say
from harken.train import load_data
from harken.train.classifier import ClassifierStage
from harken.train.dpo.build import build_dpo_stage
from harken.train.dpo.models import build_policy_models
from harken.train.head_stage import ADAPTER
from harken.train.loop import Stage, run_stage
from harken.train.ppo.models import build_ppo_models
from harken.train.reward_model import RewardStage
from harken.train.sft import SupervisedStage


def train(config: RunConfig, output: Path, *, accept_changes: bool = False) -> RunFolder:
    """Train one stage in `output`. A second call with the same configuration resumes the run.

    Raises UserError if another process writes the folder, or if a model or the data do not fit the configuration. Also
    if the run in the folder began with another configuration, other weights, rows or versions, with the differences;
    `accept_changes` accepts them and records them in the manifest. A finished run is not changed.
    """
    sinks.require_packages(config.trackers)
    if not RunFolder(output).config.exists():
        _require_model(config)  # fail before the folder is created
    with write_lock(output):
        run = RunFolder(output)
        if not config_lock.is_locked(run.config, run.checkpoints, run.final):
            require_own_folder(run.config, (run.checkpoints, run.final, run.best))
        created = manifest.created_at(run)
        with chat_template.freeze_clock(created):
            return _train(config, run, accept_changes, created)


def _train(config: RunConfig, run: RunFolder, accept_changes: bool, created: datetime) -> RunFolder:
    settings = config.model_dump(mode="json", exclude={"output_dir"})
    finished = run.final.exists() and status.has_ended(run)
    changes = AcceptedChanges(accept_changes, can_accept=not finished)
    resumed = config_lock.lock_config(
        run.config, settings, run.checkpoints, run.final, own=[run.best], changes=changes
    )
    paths_changed = resumed and config_lock.read_locked_config(run.config) != settings
    if resumed and finished:
        if paths_changed:
            _check_lineage(manifest.read_lineage(run.manifest), _model_fingerprints(config), run, changes)
        _report_finished(config, run)
        return run
    checksums.remove_checksums(run.root)  # the files they list are about to change
    source = _require_model(config)
    say(f"model: {source.describe()}")
    stage, roles, lineage = _build_stage(config, source, run)
    print_roles(roles)
    if resumed and run.manifest.exists():
        _check_resume(lineage, run, changes)
    extra = _manifest_facts(config, source, run, roles, changes, created)
    manifest.write_manifest(run, settings, lineage, extra, created)
    # After the manifest: if the process is killed in between, the next call asks again.
    if changes.accepted or paths_changed:
        config_lock.write_config(run.config, settings)
    run_stage(
        stage,
        run,
        seed=config.seed,
        checkpoints=config.checkpoints,
        eval_every=config.training.eval_every,
        tensorboard=config.tensorboard,
        sinks=sinks.open_sinks(config.trackers, run, settings),
        kind=config.training.type,
        health=config.health,
        dtype=config.dtype,
        patience=config.training.patience,
        max_skipped_steps=config.training.max_skipped_steps,
        provenance={"config_sha256": manifest.config_sha256(settings), "harken_code": manifest.code_sha256()},
    )
    return run


def _report_finished(config: RunConfig, run: RunFolder) -> None:
    """Print that the run is finished. Warn if frozen weights changed during training, or a data file since."""
    say(f"{run.root}: this run is finished; nothing to do")
    recorded = manifest.find_lineage(run.manifest).get("data", {})
    for path in load_data.changed_files(config.data, recorded):
        say(
            f"warning: {path} has changed since this run began. "
            "Fix: choose another --output-dir to train on the new rows"
        )
    if changed := manifest.changed_frozen_components(run):
        say(f"warning: {FrozenWeightsChanged(changed, where=str(run.root))}")


def _build_stage(
    config: RunConfig, source: ModelSource, run: RunFolder
) -> tuple[Stage, list[RoleRow], dict[str, Any]]:
    """Load models and data of the configured training type; return the stage, its roles and its lineage."""
    device, weight_dtype = choose_device(config.device), WEIGHT_DTYPES[config.dtype]
    if isinstance(config.training, PPOTraining):
        return _ppo(config, source, run, weight_dtype, device)
    if isinstance(config.training, DPOTraining | OnlineDPOTraining):
        return _dpo(config, source, run, weight_dtype, device)
    if isinstance(config.training, HeadTraining):
        return _scalar_head(config, source, run, weight_dtype, device)
    return _supervised(config, source, run, weight_dtype, device)


def _check_resume(lineage: dict[str, Any], run: RunFolder, changes: AcceptedChanges) -> None:
    """Require the weights, rows and package versions that the run began with, or accepted changes of them."""
    _check_lineage(manifest.read_lineage(run.manifest), lineage, run, changes)
    changes.require_accepted(
        "this run began with other package versions",
        version_differences(manifest.read_manifest(run.manifest), manifest.versions()),
        where=run.root,
        fix="install them again, or train into another --output-dir",
    )


def _manifest_facts(
    config: RunConfig,
    source: ModelSource,
    run: RunFolder,
    roles: Sequence[RoleRow],
    changes: AcceptedChanges,
    created: datetime,
) -> dict[str, Any]:
    """Return what the manifest records besides settings and lineage, and print the accepted changes."""
    device = choose_device(config.device)
    facts: dict[str, Any] = {
        "roles": [vars(row) for row in roles],
        "device": str(device),
        "device_kind": device_kind(device),
    }
    if changes.accepted:
        step = checkpoint.newest_step(run.checkpoints)
        say(f"{run.root}: accepted after step {step}: {'; '.join(changes.accepted)}")
        facts["changes"] = [{"after_step": step, "accepted": changes.accepted}]
    if isinstance(config.training, PPOTraining | OnlineDPOTraining) and config.training.random_reward:
        facts["stamp"] = "random reward"
    if chat_template.folder_reads_clock(source.folder):
        facts["template_time"] = created.isoformat(timespec="seconds")
    return facts


def print_roles(rows: Sequence[RoleRow]) -> None:
    """Print which models are loaded, which of them are trained, and where each is from."""
    cells = {
        "component": [row.component for row in rows],
        "": ["trainable" if row.trainable else "frozen" for row in rows],
        "parameters": [f"{row.parameters:,}" for row in rows],
        "fingerprint": [row.fingerprint for row in rows],
        "source": [row.source for row in rows],
    }
    say(format_table(cells, right={"parameters"}))


def _require_model(config: RunConfig) -> ModelSource:
    """Find the model, and require that it can be trained as the configuration says."""
    use: Use = "reward_base" if isinstance(config.training, HeadTraining) else "policy"
    return require_use(resolve(config.model_name), use)


def _supervised(
    config: RunConfig, source: ModelSource, run: RunFolder, weight_dtype: WeightDtype, device: torch.device
) -> tuple[Stage, list[RoleRow], dict[str, Any]]:
    backbone = Backbone.load(source, weight_dtype, device)
    _check_rows_fit(config, backbone, source)
    require_decodable(backbone)  # PPO and evaluation will sample from this model
    renderer = Renderer(backbone.tokenizer, config.data.keep_special_tokens)
    demonstrations, held_out = load_data.encode_demonstrations(config, renderer, run)
    stage = SupervisedStage(config, backbone, demonstrations, held_out)
    data = load_data.lineage(config, demonstrations, held_out)
    rows = _role_rows(config, backbone, source, "policy")
    return stage, rows, _lineage(source, sft=True) | {"data": data}


def _scalar_head(
    config: RunConfig, source: ModelSource, run: RunFolder, weight_dtype: WeightDtype, device: torch.device
) -> tuple[Stage, list[RoleRow], dict[str, Any]]:
    backbone = load_reward_base(source, weight_dtype, device)
    _check_rows_fit(config, backbone, source)
    renderer = backbone.renderer(config.data.keep_special_tokens)
    base = backbone.base_folder(run.root / "base")
    stage: RewardStage | ClassifierStage
    if isinstance(config.training, ClassifierTraining):
        responses = load_data.encode_classified(config, renderer, run)
        stage = ClassifierStage(config, backbone, base, *responses)
        labels = ([row.desirable for row in rows] for rows in responses)
        data = load_data.lineage(config, *responses, *labels)
    else:
        assert isinstance(config.training, RewardTraining)
        pairs = load_data.encode_preferences(config, renderer, run)
        stage = RewardStage(config, backbone, base, *pairs)
        stage.on_saved = partial(card_after_training, config, run, stage.model)
        data = load_data.lineage(config, *pairs)
    rows = _role_rows(config, backbone, source, ADAPTER)
    rows.append(role_row("reward head", stage.model.head.parameters(), "new"))
    return stage, rows, _lineage(source, sft=False) | {"data": data}


def _check_rows_fit(config: RunConfig, model: AdaptedModel, source: ModelSource) -> None:
    """Require an embedding of every token, and a position for every token of the longest row."""
    check_vocabulary(model.tokenizer, model.input_weight, str(source.folder))
    if isinstance(model, Encoder):
        model.check_length(config.data.max_length)
    check_position_limit(
        model.config, config.data.max_length, "a row of up to data.max_length", "lower it to {limit}"
    )


def _role_rows(config: RunConfig, model: AdaptedModel, source: ModelSource, adapter: str) -> list[RoleRow]:
    base = [p for n, p in model.model.named_parameters() if "lora_" not in n]
    rows = [role_row("base", base, source.name)]
    if config.lora is not None:
        say(f"{adapter}: {coverage(model.trunk, adapter)}")
        rows.append(role_row(f"{adapter} adapter", model.adapter_parameters(adapter).values(), "new"))
    return rows


def _ppo(
    config: RunConfig, source: ModelSource, run: RunFolder, weight_dtype: WeightDtype, device: torch.device
) -> tuple[Stage, list[RoleRow], dict[str, Any]]:
    models = build_ppo_models(config, source, run, weight_dtype, device)
    backbone = models.policy.backbone
    check_vocabulary(backbone.tokenizer, backbone.output_weight, str(source.folder))
    require_decodable(backbone)
    if models.policy.adapter is not None:
        say(f"policy: {coverage(backbone.trunk, models.policy.adapter)}")
    renderer = Renderer(backbone.tokenizer, config.data.keep_special_tokens)
    prompts, held_out = load_data.fit_prompts(config, renderer, run)
    ptx = load_data.ptx_demonstrations(config, renderer, run)
    stage = models.stage(renderer, prompts, held_out, run, ptx)
    data = load_data.lineage(config, prompts, held_out, ptx.rows if ptx else ())
    lineage = (
        _lineage(source, sft=False)
        | models.found.lineage()
        | {"data": data, "frozen": models.frozen_fingerprints}
    )
    if not has_sft(source):
        say(
            "warning: no supervised fine-tuning of this policy is recorded. Without it, reward scores are unreliable "
            "and the KL grows. Fix: train --preset …_sft first"
        )
    return stage, models.role_table(), lineage


def _dpo(
    config: RunConfig, source: ModelSource, run: RunFolder, weight_dtype: WeightDtype, device: torch.device
) -> tuple[Stage, list[RoleRow], dict[str, Any]]:
    models = build_policy_models(config, source, run, weight_dtype, device)
    backbone = models.policy.backbone
    check_vocabulary(backbone.tokenizer, backbone.output_weight, str(source.folder))
    require_decodable(backbone)
    if models.policy.adapter is not None:
        say(f"policy: {coverage(backbone.trunk, models.policy.adapter)}")
    renderer = Renderer(backbone.tokenizer, config.data.keep_special_tokens)
    stage, data = build_dpo_stage(config, models, renderer, run)
    lineage = _lineage(source, sft=False) | {"data": data, "frozen": models.frozen_fingerprints}
    if models.found is not None:
        lineage |= models.found.lineage()
    if not has_sft(source):
        say(
            "warning: no supervised fine-tuning of this policy is recorded. Preference training assumes a policy that "
            "can produce such responses. Fix: train --preset …_sft first"
        )
    return stage, models.role_table(), lineage


def _check_lineage(
    before: dict[str, Any], now: dict[str, Any], run: RunFolder, changes: AcceptedChanges
) -> None:
    """Require a resumed run to have the weights and rows it began with, compared by content."""
    pairs = {
        "weights of its model": (before, now),
        "weights of its reward model": (before.get("reward_model"), now.get("reward_model")),
        "training rows": (before.get("data"), now.get("data")),
    }
    for kind, label in (("rewards", "reward part"), ("judges", "judge")):
        for name, source in now.get(kind, {}).items():
            pairs[f"{label} {name}"] = (before.get(kind, {}).get(name), source)
    for subject, (old, new) in pairs.items():
        if old and new and old["fingerprint"] != new["fingerprint"]:
            changes.require_accepted(
                f"the {subject} ({new.get('model') or new.get('name')}) changed since the run began",
                [f"{subject}: {old['fingerprint'][:12]} → {new['fingerprint'][:12]}"],
                where=run.root,
                fix="restore them, or train into another --output-dir",
            )
    _check_frozen(before.get("frozen", {}), now.get("frozen", {}), run, changes)


def _model_fingerprints(config: RunConfig) -> dict[str, Any]:
    """Fingerprint the models and reward functions that a configuration names, without loading weights."""
    lineage = {"model": config.model_name, "fingerprint": lineage_fingerprint(resolve(config.model_name))}
    if isinstance(config.training, PPOTraining | OnlineDPOTraining):
        return lineage | resolve_rewards(config.training).lineage()
    return lineage


def _check_frozen(
    before: Mapping[str, str], now: Mapping[str, str], run: RunFolder, changes: AcceptedChanges
) -> None:
    """Require the same frozen weights in memory: rounding, merging and quantising may differ between processors."""
    changes.require_accepted(
        "the frozen weights in memory differ from those at the start of the run",
        [
            f"{name}: {before[name][:12]} → {fingerprint[:12]}"
            for name, fingerprint in now.items()
            if name in before and before[name] != fingerprint
        ],
        where=run.root,
        fix="resume on the device and processor that it began on",
    )


def _lineage(source: ModelSource, *, sft: bool) -> dict[str, Any]:
    return {
        "model": source.name,
        "kind": source.kind,
        "folder": str(source.folder),
        "fingerprint": lineage_fingerprint(source),
        "sft": sft or has_sft(source),
    }


def has_sft(source: ModelSource) -> bool:
    """Return whether a manifest of this model, or of one it was trained from, records supervised fine-tuning."""
    manifests = (RunFolder(link.folder.parent).manifest for link in source.chain())
    return any(manifest.find_lineage(path).get("sft") for path in manifests)
