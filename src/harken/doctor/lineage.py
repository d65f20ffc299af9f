"""Check where the models come from: SFT before PPO, a reward model that fits the policy."""

from __future__ import annotations

from harken.doctor.check import ALL, Check, check
from harken.doctor.context import Context
from harken.doctor.dpo_context import DPOContext
from harken.doctor.finding import CheckOutcome, error, note, ok, warning
from harken.doctor.ppo_context import PPOContext
from harken.models.find_tokenizer import tokenizer_of
from harken.models.roles import lineage_fingerprint
from harken.models.tokenizer import same_tokenizer
from harken.run import json_io
from harken.train.launch import has_sft


@check(
    ALL,
    what="the model that training starts from, and its base",
    why="Training starts from this model, so it must be the intended one.",
)
def model_found(context: Context) -> CheckOutcome:
    """Resolve the model without reading its weights."""
    source = context.source
    chain = " on ".join(f"{link.name} [{link.fingerprint[:12]}]" for link in reversed(source.chain()))
    if context.pipeline.sft_missing:
        return note(f"{chain} is used instead: {context.pipeline.sft_missing}")
    return ok(chain)


@check(
    ("ppo", "dpo", "online_dpo"),
    what="whether supervised fine-tuning comes before",
    why="PPO and DPO improve what the policy already writes. Without SFT, scores mean little and the KL grows.",
)
def sft_first(context: Context) -> CheckOutcome:
    """Look for SFT in the pipeline or in the records of the runs that made the model."""
    if context.pipeline.sft_before:
        return ok("this pipeline runs SFT first")
    if has_sft(context.source):
        return ok(f"{context.source.name} was fine-tuned")
    return warning(
        f"{context.source.name} has no recorded SFT",
        "harken train --preset …_sft first, and set model_name to its final",
    )


@check(
    ("ppo", "online_dpo"),
    what="whether the reward model exists, and its recorded parts",
    why="The whole run learns from the reward model, so it must be the intended one.",
)
def reward_found(context: PPOContext | DPOContext) -> CheckOutcome:
    """Report names and fingerprints; Python functions run once."""
    lineage = context.found_rewards.lineage()
    parts = [lineage["reward_model"]] if lineage["reward_model"] else []
    parts += lineage["rewards"].values()
    sources = ", ".join(f"{p['name']} [{(p['fingerprint'] or 'none')[:12]}]" for p in parts)
    if context.pipeline.reward_model_missing:
        return note(f"an untrained head is used instead: {context.pipeline.reward_model_missing}")
    return ok(sources)


@check(
    ("ppo", "online_dpo"),
    what="base of the reward model, compared with the policy and its base",
    why="A reward model of another model family has not seen this policy's responses and may be exploited sooner.",
)
def reward_base(context: PPOContext | DPOContext) -> CheckOutcome:
    """Compare weights, then tokenizers: with another tokenizer the response is decoded and tokenised again."""
    reward = context.found_rewards.reward_model
    if reward is None:
        return ok("no trained reward model")
    if reward.base is None:
        return ok(f"{reward.name} has no base: all its weights were trained")
    recorded = json_io.read_object(reward.folder / "reward.json").get("base_fingerprint")
    base = reward.base
    if recorded is not None and recorded != lineage_fingerprint(base):
        return error(
            f"{base.name} has changed since the reward model was trained on it",
            "train the reward model again, or restore the base",
        )
    if lineage_fingerprint(base) in {lineage_fingerprint(link) for link in context.source.chain()}:
        return ok(f"{base.name} is the policy's own")
    same_tokens = same_tokenizer(tokenizer_of(reward), context.renderer.tokenizer)
    fix = "train the reward model on the policy's SFT model, or watch a held-out judge"
    if same_tokens:
        return note(f"{base.name} is another model with the policy's tokenizer", fix)
    return note(
        f"{base.name} is another model with another tokenizer: responses are decoded and tokenised again", fix
    )


LINEAGE_CHECKS: tuple[Check, ...] = (model_found, sft_first, reward_found, reward_base)
