"""Checks of where the models come from: SFT before PPO, a reward model that fits the policy (S0-27)."""

from __future__ import annotations

from harken.doctor.check import ALL, Check, check
from harken.doctor.context import Context
from harken.doctor.finding import Outcome, error, note, ok, warning
from harken.doctor.ppo_context import PPOContext
from harken.models.find_tokenizer import tokenizer_of
from harken.models.roles import lineage_fingerprint
from harken.models.tokenizer import same_tokenizer
from harken.run import json_io
from harken.train.launch import has_sft


@check(
    ALL,
    what="the model that training starts from, and what it stands on",
    why="Everything that is learnt stands on this model: it must be the one that was meant.",
    items="S0-27, S1-20",
)
def model_found(context: Context) -> Outcome:
    """Its weights are not read."""
    source = context.source
    chain = " on ".join(f"{link.name} [{link.fingerprint[:12]}]" for link in reversed(source.chain()))
    if context.around.untuned:
        return note(f"{chain} stands in: {context.around.untuned}")
    return ok(chain)


@check(
    ("ppo",),
    what="whether supervised fine-tuning comes before PPO",
    why="PPO sharpens what the policy already writes; untuned answers make scores meaningless and the KL grow.",
    items="S0-27",
)
def sft_first(context: PPOContext) -> Outcome:
    """By the records of the runs that made the model, or by the pipeline."""
    if context.around.tuned:
        return ok("this pipeline tunes it first")
    if has_sft(context.source):
        return ok(f"{context.source.name} was fine-tuned")
    return warning(
        f"{context.source.name} has no supervised fine-tuning behind it that Harken knows of",
        "harken train --preset …_sft first, and set model_name to its final",
    )


@check(
    ("ppo",),
    what="whether the reward model is there, and made of what it says",
    why="A reward model that is missing, or another than was meant, is what the whole run would learn from.",
    items="S0-27, S1-49",
)
def reward_found(context: PPOContext) -> Outcome:
    """Names and fingerprints; Python functions are run once."""
    lineage = context.found.lineage()
    parts = [lineage["reward_model"]] if lineage["reward_model"] else []
    parts += lineage["rewards"].values()
    named = ", ".join(f"{p['name']} [{(p['fingerprint'] or 'none')[:12]}]" for p in parts)
    if context.around.unrewarded:
        return note(f"an untrained head stands in: {context.around.unrewarded}")
    return ok(named)


@check(
    ("ppo",),
    what="the base the reward model was trained on against the policy and what it stands on",
    why="A reward model of another family has never seen this policy's kind of answers: it may be fooled sooner.",
    items="S0-27",
)
def reward_base(context: PPOContext) -> Outcome:
    """Weights first, then tokenizers: with other tokens the answer crosses as text."""
    reward = context.found.reward_model
    if reward is None:
        return ok("no trained reward model")
    assert reward.base is not None
    said = json_io.read_object(reward.folder / "reward.json").get("base_fingerprint")
    base = reward.base
    if said is not None and said != lineage_fingerprint(base):
        return error(
            f"{base.name} has changed since the reward model was trained on it",
            "train the reward model again, or restore the base",
        )
    if lineage_fingerprint(base) in {lineage_fingerprint(link) for link in context.source.chain()}:
        return ok(f"{base.name} is the policy's own")
    same = same_tokenizer(tokenizer_of(reward), context.renderer.tokenizer)
    fix = "train the reward model on the policy's supervised model, or watch a held-out judge"
    if same:
        return note(f"{base.name} is another model of the policy's tokenizer", fix)
    return note(f"{base.name} is another model with another tokenizer: answers cross as text", fix)


LINEAGE: tuple[Check, ...] = (model_found, sft_first, reward_found, reward_base)
