"""Every mode of PPO: what sets it apart, by an oracle of its own, on the tiny model in float32."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_stage import build_stage, ppo_config
from pydantic import ValidationError
from tiny import END, save_tiny, tiny_backbone

from harken.batches import PolicyOutputs
from harken.config.ppo import PPOSettings, PtxSettings
from harken.errors import UserError
from harken.models.resolve import resolve
from harken.records import TokenDemonstration
from harken.run.tables import read_rows
from harken.train.ppo.learner import Ptx
from harken.train.ppo.reference import load_reference
from harken.train.ppo.stage import PPOStage
from harken.train.ppo.targets import compute_targets

MODES: dict[str, dict[str, Any]] = {
    "abs": {"kl_estimator": "abs"},
    "k2": {"kl_estimator": "k2"},
    "k3": {"kl_estimator": "k3"},
    "full in both": {"kl_estimator": "full", "kl_in": "both"},
    "k2 in the loss": {"kl_estimator": "k2", "kl_in": "loss"},
    "full in the loss": {"kl_estimator": "full", "kl_in": "loss"},
    "moving reference": {"reference_update_every": 2},
    "critic on an adapter": {"critic": "adapter"},
    "critic on a model": {"critic": "model"},
    "critic warm-up": {"critic_warmup_updates": 1, "critic_warmup_until": 1.0},
    "separate critic warm-up": {"critic": "adapter", "critic_warmup_updates": 1, "critic_warmup_until": 1.0},
    "reward minus V": {"advantage": "reward_minus_value"},
    "rloo": {"advantage": "rloo", "samples_per_prompt": 3},
    "grpo": {"advantage": "grpo", "samples_per_prompt": 3},
    "reinforce++ baseline": {"advantage": "reinforce_plus_plus_baseline", "samples_per_prompt": 3},
    "dropped groups": {"advantage": "rloo", "samples_per_prompt": 3, "drop_uniform_groups": True},
    "Dr. GRPO": {
        "advantage": "grpo",
        "samples_per_prompt": 3,
        "scale_rewards": "none",
        "loss_aggregation": "constant",
    },
    "GSPO": {
        "advantage": "grpo",
        "samples_per_prompt": 3,
        "loss_aggregation": "sequence",
        "importance_sampling_level": "sequence",
    },
    "overlong": {"overlong": {"buffer": 4}},
    "bootstrap": {"truncated": "bootstrap"},
    "clip higher": {"clip_range_high": 0.3},
    "entropy": {"entropy_coef": 0.01},
    "linear KL": {"kl_control": "linear", "kl_coef_final": 0.0},
    "update limit": {"update_kl_limit": 0.5},
    "budget": {"kl_budget": 50.0},
}


def weights(stage: PPOStage) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in stage.learner.tensors().items() if n.startswith("parameter/")}


def policy_moved(stage: PPOStage, before: dict[str, torch.Tensor]) -> bool:
    return any(
        not torch.equal(t, before[n]) for n, t in weights(stage).items() if ".policy." in n or ".model." in n
    )


def foresee(stage: PPOStage) -> None:
    """A critic that says something: where every response is truncated and bootstrapped, only values teach."""
    head = stage.critic.head if stage.critic else stage.policy.value_head
    if head is not None:
        with torch.no_grad():
            head.weight.copy_(torch.linspace(-1, 1, len(head.weight)))


@pytest.mark.sample(6)
@pytest.mark.parametrize("name", MODES)
def test_resume_is_exact_in_every_mode(tmp_path: Path, name: str) -> None:
    """Property 38 in every mode: three updates ≡ two, a fresh process's objects, one. Every mode learns."""
    config = ppo_config(ppo={"epochs": 1, "updates": 3, "trace_every": 2} | MODES[name])
    straight = build_stage(tmp_path, config, folder="a")
    foresee(straight)
    start = weights(straight)
    whole = [straight.step(n) for n in range(3)]
    assert policy_moved(straight, start)
    first = build_stage(tmp_path, config, folder="b")
    foresee(first)
    halves = [first.step(n) for n in range(2)]
    tensors = {k: v.clone() for k, v in first.tensors().items()}
    second = build_stage(tmp_path, config, folder="c")
    second.load(tensors, first.state())
    halves.append(second.step(2))
    for a, b in zip(whole, halves, strict=True):
        keys = [k for k in a if not k.startswith("time/")]
        assert {k: a[k] for k in keys} == {k: b[k] for k in keys}
        assert all(math.isfinite(a[k]) for k in keys)
    one, two = straight.tensors(), second.tensors()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[n], two[n]) for n in one)


def test_every_weight_trains_without_lora(tmp_path: Path) -> None:
    """Full fine-tuning: embeddings and layers move, the reference does not, the KL to it appears."""
    stage = build_stage(tmp_path, ppo_config(lora=None, lr=1e-3))
    before = weights(stage)
    reference = [p.clone() for p in stage.reference.model.backbone.model.parameters()]
    assert stage.step(0)["kl/mean"] == pytest.approx(0.0, abs=1e-5)
    moved = [n for n, t in weights(stage).items() if not torch.equal(t, before[n])]
    assert len(moved) == len(before)
    assert all(
        torch.equal(a, b)
        for a, b in zip(reference, stage.reference.model.backbone.model.parameters(), strict=True)
    )
    assert abs(stage.step(1)["kl/mean"]) > 1e-4


# -- credit ---------------------------------------------------------------------------------------


def old_evaluation(rows: list[list[float]], values: list[list[float]], final: list[float]) -> PolicyOutputs:
    logprobs, v = torch.tensor(rows), torch.tensor(values)
    return PolicyOutputs(logprobs, torch.zeros_like(logprobs), v, torch.tensor(final))


def credit(
    settings: PPOSettings, reward: list[float], truncated: list[bool], beta: float = 0.0, **given: Any
) -> Any:
    rows = len(reward)
    response_mask = torch.tensor([[False, True, True]] * rows)
    old = old_evaluation([[0.0, -1.0, -2.0]] * rows, [[9.0, 0.5, 0.25]] * rows, [0.125] * rows)
    reference = torch.tensor([[0.0, -1.5, -1.0]] * rows)
    return compute_targets(
        old, reference, response_mask, torch.tensor(truncated), torch.tensor(reward), beta, settings, **given
    )


@pytest.mark.parametrize(
    ("estimator", "first", "second"),
    [("k1", 0.5, -1.0), ("abs", 0.5, 1.0), ("k2", 0.125, 0.5), ("k3", math.exp(-0.5) - 0.5, math.exp(1.0) - 2.0)],
)  # fmt: skip
def test_each_estimator_is_the_kl_penalty_of_a_token(estimator: str, first: float, second: float) -> None:
    """S4-23, property 17: Δ = 0.5 and −1 by hand. What is logged stays k1, whatever is paid."""
    settings = PPOSettings(kl_estimator=estimator, whiten_advantages=False)
    got = credit(settings, [1.0], [False], beta=2.0)
    assert got.rewards[0].tolist() == pytest.approx([0.0, -2 * first, 1 - 2 * second], abs=1e-6)
    assert got.kl[0].tolist() == pytest.approx([0.0, 0.5, -1.0])


def test_the_full_distribution_is_taken_as_given() -> None:
    settings = PPOSettings(kl_estimator="full", kl_in="both", whiten_advantages=False)
    exact = torch.tensor([[torch.nan, 0.3, 0.2]])
    got = credit(settings, [1.0], [False], beta=2.0, full_kl=exact)
    assert got.rewards[0].tolist() == pytest.approx([0.0, -0.6, 0.6])


def test_a_kl_paid_in_the_loss_is_not_paid_in_the_reward() -> None:
    settings = PPOSettings(kl_estimator="k2", kl_in="loss", whiten_advantages=False)
    assert credit(settings, [1.0], [False], beta=2.0).rewards[0].tolist() == [0.0, 0.0, 1.0]


def test_a_truncated_response_bootstraps_from_its_last_state() -> None:
    """Property 22: no score, V of the whole row (0.125) in its place; an ended response is untouched."""
    settings = PPOSettings(truncated="bootstrap", whiten_advantages=False, gamma=1.0, lam=1.0)
    got = credit(settings, [3.0, 3.0], [True, False])
    assert got.returns[0].tolist() == pytest.approx([0.0, 0.125, 0.125])
    assert got.advantages[0].tolist() == pytest.approx([0.0, 0.125 - 0.5, 0.125 - 0.25])
    assert got.returns[1].tolist() == pytest.approx([0.0, 3.0, 3.0])


def test_reward_minus_the_value_of_the_prompt() -> None:
    """S2-35: every token of a response gets Σ rewards − V(prompt), and the critic learns at the first token."""
    settings = PPOSettings(advantage="reward_minus_value", whiten_advantages=False)
    got = credit(settings, [2.0], [False], beta=1.0)
    assert got.advantages[0].tolist() == pytest.approx([0.0, 2.5 - 0.5, 2.5 - 0.5])
    assert got.value_mask[0].tolist() == [False, True, False]
    assert got.returns[0, 1] == pytest.approx(2.5)


@pytest.mark.parametrize("kind", ["rloo", "grpo"])
def test_group_baselines_by_hand(kind: str) -> None:
    """S3-18: groups of three; the baseline is the others' mean (RLOO) or the group's mean and spread (GRPO)."""
    settings = PPOSettings(advantage=kind, samples_per_prompt=3)
    rewards = [1.0, 2.0, 6.0, -1.0, -1.0, 5.0]
    got = credit(settings, rewards, [False] * 6)
    wanted = []
    for group in (rewards[:3], rewards[3:]):
        mean = sum(group) / 3
        spread = math.sqrt(sum((r - mean) ** 2 for r in group) / 3)
        for i, r in enumerate(group):
            others = [x for j, x in enumerate(group) if j != i]
            wanted.append(r - sum(others) / 2 if kind == "rloo" else (r - mean) / (spread + 1e-6))
    assert got.advantages[:, 1].tolist() == pytest.approx(wanted, rel=1e-5)
    assert got.advantages[:, 2].tolist() == pytest.approx(wanted, rel=1e-5)
    assert not got.value_mask.any()


def test_a_masked_response_is_in_no_baseline() -> None:
    settings = PPOSettings(advantage="rloo", samples_per_prompt=3, truncated="mask")
    got = credit(settings, [1.0, 2.0, 600.0, 1.0, 5.0, 5.0], [False, False, True, False, True, True])
    assert got.advantages[:, 1].tolist() == pytest.approx([-1.0, 1.0, 0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kl_estimator": "full"}, "does not penalise the token itself"),
        ({"kl_in": "loss"}, "wrong gradient"),
        ({"kl_in": "both"}, "twice"),
        ({"advantage": "rloo"}, "2 or more"),
        ({"advantage": "grpo", "samples_per_prompt": 2, "critic": "adapter"}, "no critic"),
        ({"advantage": "grpo", "samples_per_prompt": 2, "truncated": "bootstrap"}, "no critic to bootstrap"),
        ({"scale_rewards": "group"}, "has no groups. Fix: set advantage: grpo"),
        ({"drop_uniform_groups": True}, "has none. Fix: set advantage: grpo or rloo"),
        (
            {"advantage": "reinforce_plus_plus_baseline", "samples_per_prompt": 2, "scale_rewards": "batch"},
            "remove scale_rewards",
        ),
        ({"max_gen_len": 8, "overlong": {"buffer": 9}}, "at most max_gen_len"),
        ({"critic_init": "reward_model"}, "a separate critic"),
        ({"reference": "base", "reference_update_every": 2}, "set reference: sft"),
        ({"kl_control": "linear"}, "set kl_coef_final"),
        ({"kl_coef_final": 0.1}, "set kl_control"),
        ({"missing_eos_score": -1.0, "truncated": "mask"}, "truncated: penalise"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PPOSettings(**keys)


# -- learning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("critic", ["shared", "adapter"])
def test_while_the_critic_warms_up_the_policy_stays_to_the_last_bit(tmp_path: Path, critic: str) -> None:
    """Property 34: at most so many updates, or until the explained variance passes the threshold."""
    warm = {"critic": critic, "critic_warmup_updates": 2, "critic_warmup_until": 1.0}
    stage = build_stage(tmp_path, ppo_config(ppo=warm))
    before = weights(stage)
    assert stage.step(0)["critic/warming_up"] == 1.0
    assert not policy_moved(stage, before)
    assert any(not torch.equal(t, before[n]) for n, t in weights(stage).items())
    stage.step(1)
    assert not policy_moved(stage, before)
    assert stage.step(2)["critic/warming_up"] == 0.0
    assert policy_moved(stage, before)


def test_a_critic_that_foresees_enough_ends_its_warm_up(tmp_path: Path) -> None:
    warm = {"critic_warmup_updates": 50, "critic_warmup_until": -1000.0}
    stage = build_stage(tmp_path, ppo_config(ppo=warm))
    assert stage.step(0)["critic/warming_up"] == 0.0


def test_a_separate_critic_leaves_the_policys_gradient_alone(tmp_path: Path) -> None:
    """S3-11: with a critic of its own, vf_coef does not change what the policy learns; with a shared one it does."""

    def learnt(critic: str, vf_coef: float) -> dict[str, torch.Tensor]:
        stage = build_stage(
            tmp_path, ppo_config(ppo={"critic": critic, "vf_coef": vf_coef, "epochs": 1, "minibatches": 1})
        )
        stage.step(0)
        return {n: t for n, t in weights(stage).items() if ".policy." in n}

    for critic, same in (("adapter", True), ("shared", False)):
        a, b = learnt(critic, 0.1), learnt(critic, 5.0)
        assert all(torch.equal(a[n], b[n]) for n in a) is same


def test_ptx_makes_the_demonstrations_likelier(tmp_path: Path) -> None:
    """Property of PPO-ptx: with no reward to earn, the mixed-in rows are learnt."""
    row = TokenDemonstration("d", (5, 6, 7, 100, 101, END), (False, False, False, True, True, True))
    settings = PtxSettings.model_validate({"data": {"path": "unused"}, "coef": 5.0, "batch_size": 2})
    stage = build_stage(
        tmp_path, ppo_config(lr=1e-2, ppo={"kl_coef": 0.0}), rule=lambda _: 0.0, ptx=Ptx([row], settings)
    )
    first, last = stage.step(0)["ptx/loss"], stage.step(1)["ptx/loss"]
    assert last < first - 0.1


@pytest.mark.sample(1)
@pytest.mark.parametrize("estimator", ["k2", "full"])
def test_a_kl_in_the_loss_pulls_back_to_the_reference(tmp_path: Path, estimator: str) -> None:
    """S4-23: without reward and with a high KL coefficient a moved policy returns; without the penalty it stays."""

    def kl_after(coefficient: float) -> float:
        keys = {"kl_estimator": estimator, "kl_in": "loss", "kl_coef": coefficient, "vf_coef": 0.0}
        keys |= {"whiten_advantages": False, "prompts_per_update": 24, "updates": 8}
        stage = build_stage(tmp_path, ppo_config(lr=3e-3, ppo=keys), rule=lambda _: 0.0)
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, p in stage.policy.parameters().items():
                if "lora_B" in name:
                    p.add_(torch.randn(p.shape, generator=draw) * 0.05)
        return [stage.step(n)["kl/k3_mean"] for n in range(8)][-1]

    assert kl_after(20.0) < 0.8 * kl_after(0.0)


def test_full_kl_in_an_update_is_that_of_the_whole_distribution(tmp_path: Path) -> None:
    """The KL penalty of a token under `full`, against a softmax over every logit of both models in float64."""
    stage = build_stage(tmp_path, ppo_config(ppo={"kl_estimator": "full", "kl_in": "both"}))
    stage.step(0)
    batch = stage._collate(stage._generate(1))
    got = stage.evaluator.full_kl(stage.reference.model, batch)
    model = stage.policy.backbone.model
    with torch.no_grad():
        both = []
        for role in ("policy", None):
            with stage.policy.backbone.role(role):
                both.append(model(input_ids=batch.tokens).logits.double().log_softmax(-1))
    exact = (both[0].exp() * (both[0] - both[1])).sum(-1)[:, :-1]
    at = batch.response_mask[:, 1:]
    assert torch.allclose(got[:, 1:][at].double(), exact[at], atol=1e-5)
    assert float(exact[at].mean()) > 1e-6


def test_the_upper_clip_may_differ() -> None:
    """S0-29: ratio 1.25 is inside 1 + 0.3 and outside 1 + 0.2."""
    from harken.maths.policy_loss import clipped_policy_loss

    new, old, one = torch.tensor([math.log(1.25)]), torch.zeros(1), torch.ones(1)
    assert float(clipped_policy_loss(new, old, one, 0.2)) == pytest.approx(-1.2)
    assert float(clipped_policy_loss(new, old, one, 0.2, 0.3)) == pytest.approx(-1.25)
    low = torch.tensor([math.log(0.7)])
    assert float(clipped_policy_loss(low, old, -one, 0.2, 0.5)) == pytest.approx(0.8)


# -- reference ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [{"rank": 8}, None])
def test_a_reference_that_moves_is_the_policy_of_then(tmp_path: Path, lora: dict[str, int] | None) -> None:
    """S4-21: right after a move the KL from the reference is 0; before it and without moves it is not."""

    def kl(every: int | None) -> list[float]:
        config = ppo_config(lr=3e-3, lora=lora, ppo={"reference_update_every": every})
        stage = build_stage(tmp_path, config)
        return [stage.step(n)["kl/k3_mean"] for n in range(3)]

    moving = kl(2)
    assert moving[1] > 1e-3 and moving[2] == pytest.approx(0.0, abs=1e-5)
    assert kl(None)[2] > 1e-3


# -- written ----------------------------------------------------------------------------------------


def test_another_model_may_be_the_reference(tmp_path: Path) -> None:
    """S4-21: `sft` shares the policy's base, a named model is loaded beside it."""
    source = resolve(save_tiny(tmp_path / "own"))
    save_tiny(tmp_path / "other", seed=1)
    shared, cpu = tiny_backbone(), torch.device("cpu")
    own = load_reference("sft", source, shared, shared, torch.float32, cpu)
    assert own.backbone is shared
    other = load_reference(str(tmp_path / "other"), source, shared, shared, torch.float32, cpu)
    assert torch.equal(other.backbone.output_weight, tiny_backbone(seed=1).output_weight)
    with pytest.raises(UserError, match="nothing records what"):
        load_reference("base", source, shared, shared, torch.float32, cpu)


def test_rewards_of_a_group_are_adjacent(tmp_path: Path) -> None:
    """Rollouts of one prompt are neighbours, so a group baseline compares answers to the same prompt."""
    keys = {"advantage": "rloo", "samples_per_prompt": 3, "prompts_per_update": 4}
    stage = build_stage(tmp_path, ppo_config(ppo=keys), prompts=3)
    stage.step(0)
    ids = [row["prompt_id"] for row in read_rows(stage.recorder.run.rollouts / "update-000001.parquet")]
    assert all(len(set(ids[i : i + 3])) == 1 for i in range(0, 12, 3))
