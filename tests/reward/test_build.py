"""What a configuration's rewards become: bases that are shared, weights that are frozen, contents that are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_stage import ppo_config
from tiny import save_tiny, tiny_tokenizer
from tiny_rewards import answer, save_reward_model

from harken.config import LoraSettings
from harken.config.ppo import PPOTraining
from harken.data.chat import Renderer
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.models.roles import RewardModel, fingerprint_tensors
from harken.reward.build import ResolvedRewards, Rewards, load_rewards, resolve_rewards
from harken.reward.ensemble import EnsembleReward
from harken.reward.learned import LearnedReward
from harken.reward.source import score_all

CPU = torch.device("cpu")


def found(**keys: Any) -> ResolvedRewards:
    keys.setdefault("reward_model", None)
    training = ppo_config(**keys).training
    assert isinstance(training, PPOTraining)
    return resolve_rewards(training)


def loaded(base: str, share: bool = True, **keys: Any) -> tuple[Rewards, Backbone]:
    """The rewards of a policy on `base`, whose own adapter comes after them, as in a run."""
    keys.setdefault("reward_model", None)
    source, config = resolve(base), ppo_config(**keys)
    assert isinstance(config.training, PPOTraining)
    backbone = Backbone.load(source, torch.float32, CPU)
    renderer = Renderer(backbone.tokenizer)
    rewards = load_rewards(
        resolve_rewards(config.training),
        config,
        source,
        backbone if share else None,
        renderer,
        torch.float32,
        CPU,
    )
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    return rewards, backbone


def alone(folder: str, texts: list[str]) -> list[float]:
    """What a reward model on disk says by itself, in its own process of loading."""
    model = RewardModel.load(resolve(folder), torch.float32, "cpu")
    rollouts = [answer(text) for text in texts]
    raw = model.raw_scores([[*r.prompt_tokens, *r.response_tokens] for r in rollouts], 1000)
    return [model.standardize(value) for value in raw]


def test_members_on_the_policys_base_move_in_and_stay_apart(tmp_path: Path) -> None:
    """S2-50: three reward models and the policy on one base, each scoring as it does alone."""
    base = save_tiny(tmp_path / "base")
    folders = [save_reward_model(tmp_path / f"rm{i}", base, seed=i) for i in range(3)]
    rewards, backbone = loaded(
        base,
        reward_model={"checkpoint_path": folders[0], "weight": 2.0},
        rewards=[{"type": "ensemble", "checkpoint_paths": folders, "combine": "min"}],
    )
    learned, ensemble, *_ = rewards.sources
    assert isinstance(learned, LearnedReward)
    assert isinstance(ensemble, EnsembleReward)
    assert all(m.model.backbone is backbone for m in [learned, *ensemble.members])
    texts = ["one", "another answer"]
    message = [alone(folder, texts) for folder in folders]
    scored = score_all(rewards.sources[:2], [answer(text) for text in texts])
    for i, row in enumerate(scored):
        values = {s.source: s.value for s in row.scores}
        assert values["reward_model"] == pytest.approx(message[0][i], abs=1e-5)
        column = torch.tensor([member[i] for member in message])
        assert values["ensemble"] == pytest.approx(column.min().item(), abs=1e-5)
        assert values["ensemble_sd"] == pytest.approx(column.std(correction=0).item(), abs=1e-5)
        assert row.reward == pytest.approx(2 * message[0][i] + column.min().item(), abs=1e-4)
    assert len({round(member[0], 4) for member in message}) == 3


def test_reward_models_of_another_family_bring_one_base_for_all(tmp_path: Path) -> None:
    """S1-14, S1-15: another size; two members on it share it, and it is frozen and in the table."""
    base, other = save_tiny(tmp_path / "base"), save_tiny(tmp_path / "other", seed=3, hidden=48)
    folders = [save_reward_model(tmp_path / f"rm{i}", other, seed=i, max_length=40 + i) for i in range(2)]
    rewards, backbone = loaded(
        base,
        rewards=[{"type": "model", "name": f"m{i}", "checkpoint_path": f} for i, f in enumerate(folders)],
    )
    first, second = rewards.sources[:2]
    assert isinstance(first, LearnedReward)
    assert isinstance(second, LearnedReward)
    assert first.model.backbone is second.model.backbone is not backbone
    assert (first.max_length, second.max_length) == (40, 41)
    for source, folder in ((first, folders[0]), (second, folders[1])):
        assert source.standardized_scores([answer("abc")]) == pytest.approx(alone(folder, ["abc"]), abs=1e-5)
    assert [row.component for row in rewards.role_rows()] == ["reward base", "reward m0", "reward m1"]
    assert not any(row.trainable for row in rewards.role_rows())
    whole = sum(p.numel() for p in Backbone.load(resolve(other), torch.float32, CPU).model.parameters())
    assert rewards.role_rows()[0].parameters == whole


def test_a_base_that_is_trained_is_no_rewards_base(tmp_path: Path) -> None:
    """P37: under full fine-tuning (`share` None) reward models and the random head get a copy."""
    base = save_tiny(tmp_path / "base")
    folder = save_reward_model(tmp_path / "rm", base)
    for keys in ({"checkpoint_path": folder}, {"random_for_debugging": True}):
        rewards, backbone = loaded(base, share=False, reward_model=keys)
        assert rewards.reward_model is not None
        assert rewards.reward_model.backbone is not backbone
        assert "reward base" in rewards.frozen_parameters


def test_frozen_fingerprints_cover_every_scoring_weight(tmp_path: Path) -> None:
    """S0-13: one changed number in any member, its base or its head is seen by the fingerprints."""
    base, other = save_tiny(tmp_path / "base"), save_tiny(tmp_path / "other", seed=3)
    folders = [save_reward_model(tmp_path / "a", base), save_reward_model(tmp_path / "b", other)]
    rewards, backbone = loaded(base, rewards=[{"type": "ensemble", "checkpoint_paths": folders}])
    assert set(rewards.frozen_parameters) == {"reward ensemble 1", "reward base", "reward ensemble 2"}
    ensemble = rewards.sources[0]
    assert isinstance(ensemble, EnsembleReward)
    watched = {id(p) for parameters in rewards.frozen_parameters.values() for p in parameters}
    assert not watched & {id(p) for p in backbone.adapter_parameters("policy").values()}
    for member in ensemble.members:
        for parameter in (*member.model.backbone.adapter_parameters(member.model.adapter or "").values(),):
            assert id(parameter) in watched
        assert id(member.model.head.weight) in watched
    before = {name: fingerprint_tensors(parameters) for name, parameters in rewards.frozen_parameters.items()}
    ensemble.members[1].model.backbone.model.get_input_embeddings().weight.data[0, 0] += 1e-3
    after = {name: fingerprint_tensors(parameters) for name, parameters in rewards.frozen_parameters.items()}
    assert [name for name in before if before[name] != after[name]] == ["reward base"]


def test_lineage_names_contents_and_not_names_alone(tmp_path: Path) -> None:
    """A changed function or reward model has another fingerprint under the same configuration."""
    base = save_tiny(tmp_path / "base")
    folder = save_reward_model(tmp_path / "rm", base)
    code = tmp_path / "mine.py"
    code.write_text("def score(prompt, response): return 1")
    keys: dict[str, Any] = {
        "rewards": [
            {"type": "python", "path": f"{code}:score"},
            {"type": "model", "checkpoint_path": folder},
            {"type": "rule", "name": "demo_gold"},
        ]
    }
    before = found(**keys).lineage()
    assert before["reward_model"] is None
    assert list(before["rewards"]) == ["score", "model", "demo_gold"]
    assert found(**keys).lineage() == before
    code.write_text("def score(prompt, response): return 2")
    save_reward_model(tmp_path / "rm", base, seed=1)
    after = found(**keys).lineage()["rewards"]
    changed = [name for name in after if after[name]["fingerprint"] != before["rewards"][name]["fingerprint"]]
    assert changed == ["score", "model"]
    assert found(reward_model={"random_for_debugging": True}).lineage()["reward_model"]["name"] == "random"


def test_mistakes_are_reported_before_weights_are_read(tmp_path: Path) -> None:
    """S1-08: no weights are read for a reward that cannot be."""
    base = save_tiny(tmp_path / "base")
    other = save_tiny(tmp_path / "other", seed=2)
    folder = save_reward_model(tmp_path / "rm", base)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"reward_model": {"checkpoint_path": base}}, "is not a reward model"),
        ({"reward_model": {"checkpoint_path": folder, "model_name": other}}, "was trained on .*, not on"),
        ({"rewards": [{"type": "model", "checkpoint_path": base}]}, "is not a reward model"),
        ({"rewards": [{"type": "ensemble", "checkpoint_paths": [folder, base]}]}, "is not a reward model"),
        ({"rewards": [{"type": "classifier", "model_name": base}]}, "is not a classifier"),
        ({"rewards": [{"type": "python", "path": "gone.py:score"}]}, "cannot be read"),
        ({"rewards": [{"type": "rule", "name": "gold"}]}, "unknown judge 'gold'"),
    ]
    for keys, message in wrong:
        with pytest.raises(UserError, match=message):
            found(**keys)
    assert found(reward_model={"checkpoint_path": folder, "model_name": base}).reward_model is not None


def test_order_weights_and_clips_follow_the_configuration(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    folder = save_reward_model(tmp_path / "rm", base)
    rewards, _ = loaded(
        base,
        reward_model={"checkpoint_path": folder, "weight": 0.5},
        rewards=[
            {"type": "rule", "name": "demo_gold", "weight": 0.0},
            {"type": "model", "checkpoint_path": folder, "clip": 0.01, "weight": -2.0},
        ],
        ppo={"score_clip": 0.02, "length_penalty": 0.1},
    )
    assert [source.name for source in rewards.sources] == ["reward_model", "demo_gold", "model", "length"]
    (row,) = score_all(rewards.sources, [answer("abc")])
    assert [abs(s.value or 0) for s in row.scores if s.source in ("reward_model", "model")] == [0.02, 0.01]
    assert [s.weight for s in row.scores] == [0.5, 0.0, -2.0, -0.1]


def test_renderers_of_one_tokenizer_need_no_bridge(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    rewards, _ = loaded(base, reward_model={"checkpoint_path": save_reward_model(tmp_path / "rm", base)})
    learned = rewards.sources[0]
    assert isinstance(learned, LearnedReward)
    rollout = answer("abc")
    assert learned.tokenize(rollout) == [*rollout.prompt_tokens, *rollout.response_tokens]
    assert Renderer(tiny_tokenizer()).pad == learned.model.pad_token
