"""Policy, value head, reference and reward model: one alignment, one forward, last real token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import END, PAD, save_tiny, tiny_backbone

from harken.batches import collate
from harken.config import LoraSettings
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.models.roles import Policy, RewardModel, ScalarHead, fingerprint_tensors, lineage_fingerprint

ROWS = [[5, 6, 7, 8, 9], [10, 11, END], [12, 13, 14, 15, 16, 17, END]]
ACTIONS = [[False, False, True, True, True], [False, True, True], [False] * 4 + [True] * 3]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_entropy_and_values_by_definition(temperature: float) -> None:
    """P6, P25: entry t is log π(token t | tokens before t) and V(tokens before t), one row at a time, in float64."""
    backbone = tiny_backbone()
    head = ScalarHead(backbone.hidden_size, 0.1, seed=3)
    batch = collate(ROWS, ACTIONS, PAD)
    got = Policy(backbone, None, head).evaluate(batch, temperature)
    model = backbone.model.double()
    for i, (row, response_mask) in enumerate(zip(ROWS, ACTIONS, strict=True)):
        for t in range(len(row)):
            if not response_mask[t]:
                assert got.logprobs[i, t] == 0
                continue
            state = model.model(torch.tensor([row[:t]])).last_hidden_state[0, -1]
            p = torch.softmax(model.lm_head(state) / temperature, -1)
            assert float(got.logprobs[i, t].detach()) == pytest.approx(float(p[row[t]].log()), abs=1e-5)
            assert float(got.entropy[i, t].detach()) == pytest.approx(float(-(p * p.log()).sum()), abs=1e-4)
            assert float(got.values[i, t].detach()) == pytest.approx(
                float((state @ head.weight.double() + head.bias).detach()), abs=1e-5
            )


def test_a_new_value_head_gives_zero_and_the_reference_is_the_base() -> None:
    backbone = tiny_backbone()
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    batch = collate(ROWS, ACTIONS, PAD)
    policy = Policy(backbone, "policy", ScalarHead(backbone.hidden_size, 0.0)).evaluate(batch)
    reference = Policy(backbone, None).evaluate(batch)
    assert torch.equal(policy.values, torch.zeros_like(policy.values))
    assert torch.equal(policy.logprobs, reference.logprobs)


def reward_model(backbone: Backbone) -> RewardModel:
    backbone.add_adapter("reward", LoraSettings(rank=4), seed=0)
    for key, parameter in backbone.adapter_parameters("reward").items():
        if "lora_B" in key:  # zero at first: the adapter would have no effect to see
            parameter.data += 0.05
    return RewardModel(backbone, "reward", ScalarHead(backbone.hidden_size, 0.5, seed=1))


def test_a_reward_is_read_at_the_last_token_before_the_padding() -> None:
    """P13, S0-22: padding, batch mates and micro-batches change nothing."""
    model = reward_model(tiny_backbone())
    together = model.raw_scores(ROWS, micro_batch_tokens=1000)
    alone = [model.raw_scores([row], micro_batch_tokens=1000)[0] for row in ROWS]
    split = model.raw_scores(ROWS, micro_batch_tokens=8)
    assert together == pytest.approx(alone, abs=1e-5)
    assert split == pytest.approx(alone, abs=1e-5)
    with model.backbone.role("reward"):
        state = model.backbone.trunk(torch.tensor([ROWS[1]])).last_hidden_state[0, -1]
    assert alone[1] == pytest.approx(float(state @ model.head.weight + model.head.bias), abs=1e-5)
    assert len({round(x, 6) for x in alone}) == 3


def test_a_reward_model_survives_saving_and_moves_in_with_its_base(tmp_path: Path) -> None:
    """S1-03, S1-12, S1-21: whole from disk; the shared base is the same object when it is the same weights."""
    base = resolve(save_tiny(tmp_path / "base"))
    model = reward_model(Backbone.load(base, torch.float32, "cpu"))
    for key, parameter in model.backbone.adapter_parameters("reward").items():
        if "lora_B" in key:
            parameter.data += 0.05
    model.offset, model.scale = 0.25, 2.0
    model.save(tmp_path / "rm" / "final", base.folder, lineage_fingerprint(base), {})
    source = resolve(str(tmp_path / "rm"))
    policy = Backbone.load(base, torch.float32, "cpu")
    shared = RewardModel.load(source, torch.float32, "cpu", share=policy)
    alone = RewardModel.load(source, torch.float32, "cpu")
    assert shared.backbone is policy
    assert alone.backbone is not policy
    want = model.raw_scores(ROWS, 100)
    assert shared.raw_scores(ROWS, 100) == pytest.approx(want, abs=1e-5)
    assert alone.raw_scores(ROWS, 100) == pytest.approx(want, abs=1e-5)
    assert shared.standardize(1.25) == 2.0
    other = Backbone.load(resolve(save_tiny(tmp_path / "other", seed=5)), torch.float32, "cpu")
    assert RewardModel.load(source, torch.float32, "cpu", share=other).backbone is not other


def test_a_head_of_another_size_is_refused_naming_both(tmp_path: Path) -> None:
    """S1-16: never a random head with a warning."""
    base = resolve(save_tiny(tmp_path / "base"))
    model = reward_model(Backbone.load(base, torch.float32, "cpu"))
    final = tmp_path / "rm" / "final"
    model.save(final, base.folder, lineage_fingerprint(base), {})
    save_file({"weight": torch.zeros(48), "bias": torch.zeros(())}, final / "reward_head.safetensors")
    with pytest.raises(UserError, match=r"48 inputs.*hidden size 32"):
        RewardModel.load(resolve(str(final)), torch.float32, "cpu")


def test_a_changed_base_is_refused(tmp_path: Path) -> None:
    base = resolve(save_tiny(tmp_path / "base"))
    model = reward_model(Backbone.load(base, torch.float32, "cpu"))
    final = tmp_path / "rm" / "final"
    model.save(final, base.folder, lineage_fingerprint(base), {})
    card = json.loads((final / "reward.json").read_text())
    (final / "reward.json").write_text(json.dumps({**card, "base_fingerprint": "0" * 64}))
    with pytest.raises(UserError, match="base model has changed"):
        RewardModel.load(resolve(str(final)), torch.float32, "cpu")


def test_a_fingerprint_sees_one_bit() -> None:
    tensors = [torch.zeros(3), torch.ones(2, dtype=torch.bfloat16), torch.tensor(1.0)]
    before = fingerprint_tensors(tensors)
    tensors[1].view(torch.int16)[0] ^= 1
    assert fingerprint_tensors(tensors) != before
