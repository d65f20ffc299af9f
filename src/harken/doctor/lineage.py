"""Checks of where the models come from: SFT before PPO, a reward model that fits the policy (S0-27)."""

from __future__ import annotations

from harken.doctor.check import ALL, Check, check
from harken.doctor.finding import Seen, error, note, ok, warning
from harken.doctor.ppo_subject import PPOSubject
from harken.doctor.subject import Subject
from harken.models.find_tokenizer import tokenizer_of
from harken.models.roles import lineage_fingerprint
from harken.models.tokenizer import same_tokenizer
from harken.run import stored
from harken.train.run import has_sft


@check(
    ALL,
    what="the model that training starts from, and what it stands on",
    why="Everything that is learnt stands on this model: it must be the one that was meant.",
    items="S0-27, S1-20",
)
def model_found(subject: Subject) -> Seen:
    """Its weights are not read."""
    source = subject.source
    chain = " on ".join(f"{link.name} [{link.fingerprint[:12]}]" for link in reversed(source.chain()))
    if subject.around.untuned:
        return note(f"{chain} stands in: {subject.around.untuned}")
    return ok(chain)


@check(
    ("ppo",),
    what="whether supervised fine-tuning comes before PPO",
    why="PPO sharpens what the policy already writes; untuned answers make scores meaningless and the KL grow.",
    items="S0-27",
)
def sft_first(subject: PPOSubject) -> Seen:
    """By the records of the runs that made the model, or by the pipeline."""
    if subject.around.tuned:
        return ok("this pipeline tunes it first")
    if has_sft(subject.source):
        return ok(f"{subject.source.name} was fine-tuned")
    return warning(
        f"{subject.source.name} has no supervised fine-tuning behind it that Harken knows of",
        "harken train --preset …_sft first, and set model_name to its final",
    )


@check(
    ("ppo",),
    what="whether the reward model is there, and made of what it says",
    why="A reward model that is missing, or another than was meant, is what the whole run would learn from.",
    items="S0-27, S1-49",
)
def reward_found(subject: PPOSubject) -> Seen:
    """Names and fingerprints; Python functions are run once."""
    lineage = subject.found.lineage()
    parts = [lineage["reward_model"]] if lineage["reward_model"] else []
    parts += lineage["rewards"].values()
    named = ", ".join(f"{p['name']} [{(p['fingerprint'] or 'none')[:12]}]" for p in parts)
    if subject.around.unrewarded:
        return note(f"an untrained head stands in: {subject.around.unrewarded}")
    return ok(named)


@check(
    ("ppo",),
    what="the base the reward model was trained on against the policy and what it stands on",
    why="A reward model of another family has never seen this policy's kind of answers: it may be fooled sooner.",
    items="S0-27",
)
def reward_base(subject: PPOSubject) -> Seen:
    """Weights first, then tokenizers: with other tokens the answer crosses as text."""
    reward = subject.found.reward_model
    if reward is None:
        return ok("no trained reward model")
    assert reward.base is not None
    said = stored.read_object(reward.folder / "reward.json").get("base_fingerprint")
    base = reward.base
    if said is not None and said != lineage_fingerprint(base):
        return error(
            f"{base.name} has changed since the reward model was trained on it",
            "train the reward model again, or restore the base",
        )
    if lineage_fingerprint(base) in {lineage_fingerprint(link) for link in subject.source.chain()}:
        return ok(f"{base.name} is the policy's own")
    same = same_tokenizer(tokenizer_of(reward), subject.renderer.tokenizer)
    mend = "train the reward model on the policy's supervised model, or watch a held-out judge"
    if same:
        return note(f"{base.name} is another model of the policy's tokenizer", mend)
    return note(f"{base.name} is another model with another tokenizer: answers cross as text", mend)


LINEAGE: tuple[Check, ...] = (model_found, sft_first, reward_found, reward_base)
