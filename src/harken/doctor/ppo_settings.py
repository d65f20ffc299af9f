"""Check PPO settings: ranges, units, and combinations that fail."""

from __future__ import annotations

from harken.doctor.check import Check, check
from harken.doctor.finding import CheckOutcome, error, note, ok, warning
from harken.doctor.ppo_context import PPOContext
from harken.models.roles import lineage_fingerprint
from harken.reward.build import ResolvedSources, resolve_sources

PER_TOKEN = 0.5
"""A target below this many nats per sequence was probably meant per token."""


@check(
    ("ppo",),
    what="training.ppo.kl_coef against 0.01 … 0.1",
    why="The KL penalty keeps the policy near its reference. Without it, PPO exploits the reward model.",
)
def kl_coefficient(context: PPOContext) -> CheckOutcome:
    """Count kl_budget, update_kl_limit and an adaptive coefficient as limits too."""
    settings = context.settings
    measured = f"kl_coef {settings.kl_coef:g}, {settings.kl_control} (advised 0.01 to 0.1)"
    if settings.kl_coef == 0 or settings.kl_coef_final == 0:
        limits = [key for key in ("kl_budget", "update_kl_limit") if getattr(settings, key) is not None]
        limits += ["kl_control adaptive"] if settings.kl_control == "adaptive" else []
        if limits:
            return note(f"{measured}; limited by {', '.join(limits)}")
        return warning(f"{measured}: nothing limits the KL", "set training.ppo.kl_coef to 0.01 … 0.1")
    if not 0.001 <= settings.kl_coef <= 1:
        return warning(measured, "set training.ppo.kl_coef to 0.01 … 0.1")
    if not 0.01 <= settings.kl_coef <= 0.1:
        return note(
            measured,
            "watch kl/mean: below the range the KL grows without limit, above it the policy does not learn",
        )
    return ok(measured)


@check(
    ("ppo",),
    what="KL target, bounds, budget and limit, in nats per sequence",
    why="Every KL setting of Harken is in nats per sequence; a target per token is about fifty times too strict.",
)
def kl_units(context: PPOContext) -> CheckOutcome:
    """Warn about targets that are probably per token."""
    settings = context.settings
    budgets = {"kl_target": settings.kl_target} if settings.kl_control == "adaptive" else {}
    limits = {"kl_budget": settings.kl_budget, "update_kl_limit": settings.update_kl_limit}
    budgets |= {key: value for key, value in limits.items() if value is not None}
    if not budgets:
        return ok("no target, budget or limit is set")
    measured = ", ".join(f"{key} {value:g}" for key, value in budgets.items()) + " nats per sequence"
    small = [key for key, value in budgets.items() if value < PER_TOKEN and key != "update_kl_limit"]
    if small:
        longest = settings.max_gen_len
        fix = f"multiply {small[0]} by the responses' tokens (at most {longest}) if it was meant per token"
        return warning(measured, fix)
    if settings.kl_control != "adaptive":
        return ok(measured)
    if settings.kl_budget is not None and settings.kl_budget <= settings.kl_target:
        return warning(measured, "set kl_budget above kl_target: the KL oscillates around its target")
    if not settings.kl_coef_min <= settings.kl_coef <= settings.kl_coef_max:
        return warning(
            f"{measured}; kl_coef {settings.kl_coef:g} outside {settings.kl_coef_min:g} … {settings.kl_coef_max:g}",
            "set training.ppo.kl_coef between kl_coef_min and kl_coef_max",
        )
    return ok(measured)


@check(
    ("ppo",),
    what="epochs per rollout batch, minibatches, and rollouts per minibatch",
    why="Rollouts are stale after a few epochs, and a minibatch of few responses is mostly noise.",
)
def epochs_and_batches(context: PPOContext) -> CheckOutcome:
    """Count responses, not tokens."""
    settings = context.settings
    rollouts = settings.prompts_per_update * settings.samples_per_prompt
    minibatch_size = rollouts / settings.minibatches
    measured = (
        f"{rollouts} responses per update, {settings.epochs} epochs (advised 1 to 4) "
        f"of {minibatch_size:g} per minibatch"
    )
    if settings.epochs > 8:
        return warning(measured, "set training.ppo.epochs to 1 … 4")
    if minibatch_size < 2:
        return warning(measured, "lower training.ppo.minibatches or raise prompts_per_update")
    if settings.epochs > 4 or minibatch_size < 8:
        return note(
            measured, "watch policy/clipfrac and kl/mean; fewer epochs or larger minibatches lower them"
        )
    return ok(measured)


@check(
    ("ppo",),
    what="clip_range, clip_range_high, value_clip_range",
    why="The clip keeps an update near the policy that sampled.",
)
def clip_range(context: PPOContext) -> CheckOutcome:
    """Check both bounds; the upper clip may be wider."""
    settings = context.settings
    high = settings.clip_range_high or settings.clip_range
    measured = f"ratios within {1 - settings.clip_range:g} … {1 + high:g} (advised 0.8 … 1.2)"
    least = 0.02 if settings.importance_sampling_level == "token" else 0.0
    if settings.clip_range > 0.5 or high > 1 or min(settings.clip_range, high) < least:
        return warning(measured, "set training.ppo.clip_range to 0.1 … 0.3")
    return ok(measured)


@check(
    ("ppo",),
    what="settings of group methods: group size, loss aggregation, clip of sequence ratios, overlong penalty",
    why="Each setting works together with the other settings of its own paper.",
)
def group_methods(context: PPOContext) -> CheckOutcome:
    """Report the first setting whose paper combines it differently."""
    settings = context.settings
    measured = f"advantage {settings.advantage}, {settings.samples_per_prompt} responses per prompt"
    if settings.importance_sampling_level == "sequence" and settings.clip_range > 0.01:
        return warning(
            f"clip_range {settings.clip_range:g} for ratios of responses, which stay near 1 and are rarely clipped",
            "set training.ppo.clip_range: 3e-4 and clip_range_high: 4e-4",
        )
    if (
        settings.overlong is not None
        and settings.truncated == "penalise"
        and settings.missing_eos_penalty > 0
    ):
        return note(
            f"a truncated response loses missing_eos_penalty {settings.missing_eos_penalty:g} and "
            f"overlong.penalty {settings.overlong.penalty:g}",
            "set training.ppo.missing_eos_penalty: 0 if one of them should count",
        )
    if settings.loss_aggregation == "sequence":
        return note(
            "loss_aggregation sequence weights a token by 1 / length: long bad responses are penalised less",
            "set training.ppo.loss_aggregation: token or constant",
        )
    if settings.group_baseline and settings.samples_per_prompt < 4:
        return note(
            f"{measured}: a baseline of few responses is mostly noise",
            "set training.ppo.samples_per_prompt to 4 … 16",
        )
    return ok(measured)


@check(
    ("ppo",),
    what="training.ppo.temperature",
    why="A low temperature leaves no variety, a high one gives noise; PPO learns little from either.",
)
def temperature(context: PPOContext) -> CheckOutcome:
    """Check the temperature of sampling, which also scales every log-probability."""
    value = context.settings.temperature
    measured = f"temperature {value:g} (advised 0.7 to 1)"
    if not 0.3 <= value <= 1.5:
        return warning(measured, "set training.ppo.temperature to 0.7 … 1")
    return ok(measured)


@check(
    ("ppo",),
    what="reward of a response that is truncated at max_gen_len",
    why="If truncation costs nothing, responses grow until all of them are truncated.",
)
def truncated_responses(context: PPOContext) -> CheckOutcome:
    """Warn if `penalise` has no penalty."""
    settings = context.settings
    if settings.truncated != "penalise":
        return ok(f"truncated: {settings.truncated}")
    if settings.missing_eos_penalty == 0 and settings.missing_eos_score is None:
        return note(
            "truncated responses cost nothing (missing_eos_penalty 0)",
            "set training.ppo.missing_eos_penalty: 1.0",
        )
    replaced = settings.missing_eos_score
    effect = f"score {replaced:g}" if replaced is not None else f"{settings.missing_eos_penalty:g} less"
    return ok(f"a truncated response gets {effect}")


@check(
    ("ppo",),
    what="combinations of settings that are known to fail",
    why="Each setting works alone, but the combination does not.",
)
def combinations(context: PPOContext) -> CheckOutcome:
    """Report the first combination found, errors before warnings."""
    training, settings = context.training, context.settings
    if training.random_reward and not context.pipeline.reward_model_missing:
        return warning(
            "an untrained head scores (random_for_debugging)", "set training.reward_model.checkpoint_path"
        )
    if settings.advantage == "gae" and not settings.whitens and settings.vf_coef == 0:
        return error(
            "advantages are not whitened and the critic does not learn (vf_coef 0)", "set vf_coef: 0.1"
        )
    if not settings.group_baseline and settings.vf_coef == 0:
        return warning("the critic does not learn (vf_coef 0)", "set vf_coef: 0.1, or advantage: rloo")
    if settings.entropy_coef > 0.05:
        return warning(
            f"entropy_coef {settings.entropy_coef:g} rewards noise more than rewards differ",
            "set training.ppo.entropy_coef to 0 … 0.01",
        )
    if settings.reference_update_every is not None and settings.kl_coef < 0.01:
        return warning(
            f"the reference follows the policy every {settings.reference_update_every} updates, "
            f"and kl_coef is {settings.kl_coef:g}",
            "raise kl_coef, or leave out reference_update_every",
        )
    if settings.score_clip is not None and settings.score_clip < 1:
        return warning(
            f"score_clip {settings.score_clip:g} is less than one standard deviation of a standardised reward",
            "set training.ppo.score_clip to 3 … 5",
        )
    if training.warmup_steps >= settings.updates:
        return warning(
            f"warm-up of {training.warmup_steps} in {settings.updates} updates", "lower training.warmup_steps"
        )
    return ok("none is set")


@check(
    ("ppo",),
    what="number of prompts, compared with what the run uses",
    why="With few prompts, the policy memorises responses to them.",
)
def enough_prompts(context: PPOContext) -> CheckOutcome:
    """Count how often each prompt is used in the whole run."""
    prompts, settings = len(context.rows.train), context.settings
    visits = settings.updates * settings.prompts_per_update / prompts
    measured = f"{prompts:,} prompts, each used {visits:.1f} times in {settings.updates} updates"
    if prompts < settings.prompts_per_update:
        return warning(measured, "add prompts, or lower training.ppo.prompts_per_update")
    if visits > 20:
        return note(measured, "add prompts, and hold some out: data.eval_path")
    return ok(measured)


@check(
    ("ppo",),
    what="the judges of held-out responses and of the evaluation",
    why="Only a judge that the policy is not trained on can tell improvement from reward hacking.",
)
def judges(context: PPOContext) -> CheckOutcome:
    """Resolve all judges, and warn if one is part of the reward."""
    parts = {part.column: part for part in [*context.pipeline.judges, *context.settings.judges]}
    resolve_sources(list(parts.values()))
    measured = ", ".join(parts) or "none is named"
    rewards = context.found_rewards
    trained_on = _contents(rewards.rewards)
    if rewards.reward_model is not None:
        trained_on.add(lineage_fingerprint(rewards.reward_model))
    shared = [name for name, part in parts.items() if _contents(resolve_sources([part])) & trained_on]
    if shared:
        return warning(
            f"{measured}; {shared[0]} is part of the reward",
            "name a judge that the policy does not learn from",
        )
    return ok(measured)


def _contents(resolved: ResolvedSources) -> set[str]:
    """Return the fingerprints of all models and functions of these parts."""
    models = {lineage_fingerprint(model) for members in resolved.models.values() for model in members}
    return models | {function.sha256 for function in resolved.functions.values()}


PPO_SETTINGS_CHECKS: tuple[Check, ...] = (
    kl_coefficient,
    kl_units,
    epochs_and_batches,
    clip_range,
    group_methods,
    temperature,
    truncated_responses,
    combinations,
    enough_prompts,
    judges,
)
