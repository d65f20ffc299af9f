"""List the settings in which two runs or evaluations differ, by what they can change, and report confounding.

No torch. A path whose fingerprint is equal on both sides is not a difference: the same weights or rows are stored
elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harken.run.manifest import redact

Effect = Literal[
    "starting weights", "prompts and data", "trained weights", "objective", "KL control", "sampling",
    "credit assignment",    "optimisation", "checkpoint choice", "scorers", "policies", "comparison", "random draws",
    "rounding", "software", "unknown settings",
    "records",
]  # fmt: skip

MEANING: dict[Effect, str] = {
    "starting weights": "the model that training starts from",
    "prompts and data": "which rows are read, and how long they may be",
    "trained weights": "which weights are trained",
    "objective": "what is rewarded and penalised",
    "KL control": "how far the policy may move from its reference",
    "sampling": "how responses are generated",
    "credit assignment": "how a reward becomes advantages of tokens",
    "optimisation": "how the loss is minimised",
    "checkpoint choice": "which step is kept, and when training ends early",
    "scorers": "what judges the responses",
    "policies": "what is compared",
    "comparison": "how scores are counted as wins",
    "random draws": "chance alone",
    "rounding": "rounding alone, which can still change greedy responses",
    "software": "versions of libraries and of Harken",
    "unknown settings": "settings of another version of Harken, which may change anything",
    "records": "what is recorded; no result",
}
"""Description of each effect of a setting."""
WITHOUT_EFFECT: frozenset[Effect] = frozenset({"records"})
INTENDED: frozenset[Effect] = frozenset({"policies"})
"""Differences that a comparison is made for."""

_PREFIXES: tuple[tuple[str, Effect], ...] = (
    # An evaluation
    ("policies", "policies"), ("fingerprints.judge ", "scorers"), ("fingerprints.reward model", "scorers"),
    ("fingerprints", "policies"), ("judges", "scorers"), ("reward_model", "scorers"), ("prompts", "prompts and data"),
    ("max_gen_len", "sampling"), ("temperature", "sampling"), ("samples", "sampling"), ("budgets", "records"),
    ("batch_sensitivity", "records"), ("slices", "records"), ("audit", "records"), ("tie_epsilon", "comparison"),
    ("cluster_by", "comparison"), ("leave_out", "prompts and data"),
    ("batch_shape", "rounding"), ("device_kind", "rounding"), ("template_time", "prompts and data"),
    # The suites of sycophancy
    ("suite", "prompts and data"), ("probes", "prompts and data"), ("limit", "prompts and data"),
    ("max_length", "prompts and data"), ("generate", "records"), ("reference", "policies"), ("steering", "policies"),
    ("directions", "policies"), ("micro_batch_tokens", "rounding"),
    # Responses that are generated or scored
    ("type", "policies"), ("keep", "records"), ("responses", "policies"), ("columns", "policies"),
    # A training run
    ("model_name", "starting weights"), ("lineage.data", "prompts and data"), ("lineage.ptx", "prompts and data"),
    ("lineage.judges", "checkpoint choice"), ("lineage.reward", "objective"), ("lineage.frozen", "starting weights"),
    ("lineage", "starting weights"), ("data", "prompts and data"), ("lora", "trained weights"),
    ("training.reward_model", "objective"), ("training.rewards", "objective"),
    ("training.type", "objective"), ("training.strength", "objective"), ("training.margin_scale", "objective"),
    ("training.centre_coef", "objective"), ("training.label_smoothing", "objective"), ("training.ties", "objective"),
    ("training.normalise", "objective"), ("training.card", "records"),
    ("training.eval_every", "checkpoint choice"), ("training.patience", "checkpoint choice"),
    ("training.micro_batch_tokens", "rounding"), ("training.gradient_checkpointing", "rounding"),
    ("training.max_skipped_steps", "checkpoint choice"),
    ("training.ppo.trace_every", "records"), ("training.ppo.judges", "checkpoint choice"),
    ("training.ppo.kl_estimator", "KL control"), ("training.ppo.kl_", "KL control"),
    ("training.ppo.update_kl_limit", "KL control"), ("training.ppo.target_kl_per_token", "KL control"),
    ("training.ppo.reference", "KL control"),
    ("training.ppo.score_clip", "objective"), ("training.ppo.truncated", "objective"),
    ("training.ppo.missing_eos", "objective"), ("training.ppo.length_penalty", "objective"),
    ("training.ppo.repetition_penalty", "objective"), ("training.ppo.ptx", "objective"),
    ("training.ppo.overlong", "objective"),
    ("training.ppo.entropy_coef", "objective"),
    ("training.ppo.prompts_per_update", "sampling"), ("training.ppo.samples_per_prompt", "sampling"),
    ("training.ppo.max_gen_len", "sampling"), ("training.ppo.temperature", "sampling"),
    ("training.ppo.gamma", "credit assignment"), ("training.ppo.lam", "credit assignment"),
    ("training.ppo.advantage", "credit assignment"), ("training.ppo.whiten_advantages", "credit assignment"),
    ("training.ppo.critic", "credit assignment"), ("training.ppo.scale_rewards", "credit assignment"),
    ("training.ppo.drop_uniform_groups", "credit assignment"),
    ("training.ppo.loss_aggregation", "credit assignment"),
    ("training.ppo.importance_sampling_level", "credit assignment"),
    ("training", "optimisation"),
    ("seed", "random draws"), ("dtype", "rounding"), ("device", "rounding"), ("versions.platform", "records"),
    ("versions", "software"), ("health", "checkpoint choice"), ("checkpoints", "records"),
    ("tensorboard", "records"), ("trackers", "records"), ("output_dir", "records"),
)  # fmt: skip
"""The effect of the settings whose key has this prefix; the first match is used."""

_FINGERPRINTS = (
    ("model_name", "lineage.fingerprint"),
    ("data.path", "lineage.data.fingerprint"),
    ("data.path", "prompts"),
    ("data", "probes"),
    ("training.reward_model.checkpoint_path", "lineage.reward_model.fingerprint"),
    ("reward_model", "fingerprints.reward model"),
)
"""Settings that are paths, and the key of the fingerprint of their contents."""
_PLACES = (
    "lineage.model",
    "lineage.folder",
    "lineage.kind",
    "lineage.data.name",
    "lineage.reward_model.name",
)


@dataclass(frozen=True)
class Difference:
    """One setting that differs. `left` and `right` are None where the side does not have it."""

    key: str
    left: Any
    right: Any
    effect: Effect


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """List the settings that differ between two configurations with `lineage`, `fingerprints` and `versions`.

    A setting that this version does not know, because another one wrote the folder, has the effect "unknown settings".
    """
    left_settings, right_settings = dict(_flat(left)), dict(_flat(right))
    same_content = {
        path
        for path, digest in _FINGERPRINTS
        if digest in left_settings and left_settings.get(digest) == right_settings.get(digest)
    }
    return [
        Difference(
            key,
            redact(left_settings.get(key), key),
            redact(right_settings.get(key), key),
            _effect_if_known(key),
        )
        for key in dict.fromkeys([*left_settings, *right_settings])
        if left_settings.get(key) != right_settings.get(key)
        and key not in same_content
        and not key.startswith(_PLACES)
    ]


def effect_of(key: str) -> Effect:
    """Return what a setting can change. Raises KeyError for an unknown one."""
    for prefix, effect in _PREFIXES:
        if key == prefix or key.startswith(prefix):
            return effect
    raise KeyError(f"no effect is known of the setting {key}")


def _effect_if_known(key: str) -> Effect:
    try:
        return effect_of(key)
    except KeyError:
        return "unknown settings"


def by_effect(differing: Sequence[Difference]) -> dict[Effect, list[Difference]]:
    """Group differences by what they can change, in the order of `MEANING`."""
    groups: dict[Effect, list[Difference]] = {}
    for effect in MEANING:
        if members := [difference for difference in differing if difference.effect == effect]:
            groups[effect] = members
    return groups


def confounding(differing: Sequence[Difference], *, intended: frozenset[Effect] = frozenset()) -> str:
    """Say in one sentence whether a difference in results can be attributed to one setting.

    `intended` are the effects that the comparison is about, such as the policies of two evaluations.
    """
    groups = {
        effect: members
        for effect, members in by_effect(differing).items()
        if effect not in WITHOUT_EFFECT and effect not in intended
    }
    keys = [
        difference.key
        for members in groups.values()
        for difference in members
        if not difference.key.startswith(("lineage.", "fingerprints."))
    ]
    kinds = ", ".join(groups)
    if not groups:
        return "Controlled: no setting that can change a result differs."
    if set(groups) == {"random draws"}:
        return "Controlled: only the seed differs, so differences in results are chance."
    if len(keys) == 1 and len(groups) == 1:
        return f"Controlled: only {keys[0]} differs ({kinds})."
    if len(groups) == 1:
        return f"Partly controlled: only settings of one kind differ ({kinds}): {', '.join(keys) or 'their content'}."
    return (
        f"Confounded: settings of {len(groups)} kinds differ ({kinds}), so a difference in results cannot be "
        "attributed to one of them."
    )


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value
