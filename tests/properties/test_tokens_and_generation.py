"""Properties 1–10 of a right PPO: tokens, prompts and generation (docs/correctness.md)."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from oracles import alone, likely_to_end, move_policy, watched_step
from ppo_stage import ppo_config
from pydantic import ValidationError
from tiny import END, PAD, tiny_backbone, tiny_model, tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from harken.config import RunConfig
from harken.data.chat import Renderer, RenderFailure
from harken.models.backbone import Backbone
from harken.models.roles import RewardModel, ScalarHead
from harken.models.tokenizer import load_tokenizer
from harken.records import Demonstration, Message, Preference, Prompt
from harken.reward.learned import LearnedReward
from harken.rollout.decoder import Decoder
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine
from harken.rollout.sampler import sample_tokens
from harken.seeds import derive_seed, generator
from harken.train.ppo.stage import PPOStage
from harken.train.sampler import batch_indices
from harken.train.sft import SupervisedStage

MakeStage = Callable[..., PPOStage]


def ask(text: str, name: str = "p") -> Prompt:
    return Prompt(name, (Message("user", text),))


def sft(rows: list[Demonstration]) -> SupervisedStage:
    config = RunConfig.model_validate(
        {
            "dtype": "float32",
            "data": {"path": "rows"},
            "lora": {"rank": 4},
            "training": {"type": "sft", "micro_batch_tokens": 64},
        }
    )
    renderer = Renderer(tiny_tokenizer())
    encoded = [renderer.encode_demonstration(row, 100) for row in rows]
    return SupervisedStage(config, tiny_backbone(), encoded, encoded)  # type: ignore[arg-type]


def with_positions() -> Backbone:
    """A model with learned absolute positions: rotary ones would hide a shift."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tiny_tokenizer()), n_embd=32, n_layer=2, n_head=4, n_positions=128,
        initializer_range=0.3, bos_token_id=1, eos_token_id=END, pad_token_id=PAD,
    )  # fmt: skip
    return Backbone(GPT2LMHeadModel(config), tiny_tokenizer())


def test_property_01_pad_is_no_end_and_the_end_is_learnt(tmp_path: Path) -> None:
    """What fills padding is neither eos nor an end of turn, whatever the tokenizer; the end token carries SFT loss.

    Oracle of the loss: transformers' own, with labels that leave out the prompt and nothing else.
    """
    for bad in ("<|im_end|>", None):
        tokenizer = copy.deepcopy(tiny_tokenizer())
        tokenizer.pad_token = bad
        assert Renderer(tokenizer).pad not in (tokenizer.eos_token_id, END, None)
    tokenizer.pad_token = "<|im_end|>"
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert Renderer(loaded).pad not in (loaded.eos_token_id, END, None)

    rows = [Demonstration(ask("hi"), "yes"), Demonstration(ask("why is it so?"), "no")]
    stage = sft(rows)
    total, count = 0.0, 0
    for row in stage.rows:
        tokens = torch.tensor([row.tokens])
        labels = torch.where(torch.tensor([row.response_mask]), tokens, -100)
        assert int(labels[0, -1]) == END
        loss = tiny_model()(input_ids=tokens, labels=labels).loss
        total += float(loss.detach()) * int((labels != -100).sum())
        count += int((labels != -100).sum())
    assert count == len("yes") + len("no") + 2
    assert stage.evaluate(0)["eval/loss"] == pytest.approx(total / count, rel=1e-5)


def test_property_02_an_end_is_taught_and_never_forged() -> None:
    """At every length limit a target is whole and ends with the end token, or the row is refused.

    A truncated response has no end token, on the way to a reward model with another tokenizer neither.
    """
    renderer = Renderer(tiny_tokenizer())
    prompt, response = ask("tell me a long story of a fox"), "once upon a time"
    whole = [*tiny_tokenizer()(response)["input_ids"], END]
    kept = 0
    for limit in range(1, 90):
        row = renderer.encode_demonstration(Demonstration(prompt, response), limit)
        pair = renderer.encode_preference(Preference(prompt, response, "no"), limit)
        if isinstance(row, RenderFailure):
            assert row.reason == "response_too_long"
            continue
        kept += 1
        assert list(row.tokens[-len(whole) :]) == whole
        assert row.response_mask.count(True) == len(whole)
        assert not isinstance(pair, RenderFailure)
        assert list(pair.chosen_tokens[-len(whole) :]) == whole
        assert pair.rejected_tokens[-1] == END
    assert 10 < kept < 80
    truncated = renderer.encode_response(response, ended=False)
    assert truncated == whole[:-1]

    foreign = copy.deepcopy(tiny_tokenizer())
    foreign.add_tokens(["fox"])
    reward = RewardModel(tiny_backbone(), None, ScalarHead(32, 0.1))
    bridged = LearnedReward(reward, Renderer(foreign))
    policy = InProcessEngine(tiny_backbone(), renderer, None, 100)
    rollout = policy.generate([prompt], Sampling(3, temperature=0), "v", "test")[0]
    assert rollout.stop == "length"
    assert bridged.tokenize(rollout)[-1] != END


def test_property_03_padding_changes_nothing() -> None:
    """Logits of a sequence do not depend on how long its neighbours are, whatever pads stand beside it: 1e-5.

    Positions count the sequence's own tokens. Rotary and absolute positions; the first token and three after it;
    also for a sequence that joins while others are under way, and for one that was moved into another's slot.
    """
    prompt = Renderer(tiny_tokenizer()).encode_prompt(ask("hello").messages)
    for backbone in (tiny_backbone(), with_positions()):
        with torch.no_grad():
            for padding in (0, 1, 7, 40):
                mate = [7] * (len(prompt) + padding)
                decoder = Decoder(backbone, 4, capacity=len(mate) + 8)
                decoder.prefill([mate, prompt], [1, 1])
                message = {0: list(mate), 1: list(prompt)}
                for step in range(4):
                    if step == 2:
                        decoder.prefill([prompt], [1])
                        message[2] = list(prompt)
                    if step == 3:
                        assert decoder.drop([0]) == [2, 1]
                        message = {0: message[2], 1: message[1]}
                    for row, tokens in message.items():
                        exact = backbone.model(input_ids=torch.tensor([tokens])).logits[0, -1]
                        torch.testing.assert_close(
                            backbone.logits(decoder.last_states)[row], exact, atol=1e-5, rtol=1e-5
                        )
                    decoder.append(torch.tensor([20 + step + 9 * row for row in message]))
                    for row, tokens in message.items():
                        tokens.append(20 + step + 9 * row)
                    assert decoder.lengths == [len(tokens) for tokens in message.values()]


@pytest.mark.parametrize("serves", [True, False], ids=["one token at a time", "the library's layers"])
def test_property_04_generation_passes_its_own_positions_to_the_trunk(serves: bool) -> None:
    """transformers' `generate`, which would add positions of its own, is never called.

    Every turn of queries and keys is by given positions, and they count a sequence's own tokens alone.
    """
    backbone = tiny_backbone()
    assert backbone._has_decode_step
    vars(backbone)["_serves_one_token"] = serves
    calls: list[torch.Tensor] = []

    def forbidden(*arguments: object, **keys: object) -> None:
        raise AssertionError("generate was called")

    backbone.model.generate = forbidden
    backbone.trunk.rotary_emb.register_forward_pre_hook(
        lambda module, given, keys: calls.append(keys.get("position_ids", given[-1])), with_kwargs=True
    )
    engine = InProcessEngine(backbone, Renderer(tiny_tokenizer()), None, 100)
    engine.generate([ask("first", "tried")], Sampling(1), "v", "test")  # the ways of decoding are tried here
    calls.clear()
    prompts = [ask("a", "short"), ask("a much longer question than that", "long")]
    short, long = engine.generate(prompts, Sampling(5), "v", "test")
    assert len(calls) == 5
    widths = len(long.prompt_tokens), len(short.prompt_tokens)
    # Both in one line, one after the other: they begin alike, but not for long enough to share it.
    [positions] = calls[0].tolist()
    each = [list(range(width)) for width in widths]
    assert positions in ([*each[0], *each[1]], [*each[1], *each[0]])
    for step, given in enumerate(calls[1:]):
        assert given.flatten().tolist() == [width + step for width in widths]


def test_property_05_sampling_uses_the_full_softmax() -> None:
    """A grid of uniforms covers every token by exactly its probability at τ, however unlikely.

    Nothing that warps the distribution can be asked for: not of the sampler, not in a PPO configuration.
    """
    logits, points = torch.randn(50, generator=torch.Generator().manual_seed(1)) * 3, 20_000
    grid = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    for temperature in (0.5, 1.0, 2.0):
        drawn, logprobs = sample_tokens(logits.expand(points, -1), grid, temperature)
        p = torch.softmax(logits.double() / temperature, -1)
        share = torch.bincount(drawn, minlength=len(p)) / points
        # A stretch of length p holds between ⌊p·n⌋ and ⌈p·n⌉ + 1 grid points.
        assert ((share - p).abs() <= 1.01 / points).all()
        torch.testing.assert_close(logprobs, p.log()[drawn], rtol=1e-5, atol=1e-5)
    assert {field.name for field in fields(Sampling)} == {"max_tokens", "temperature", "seed", "samples"}
    for warp in ({"top_k": 50}, {"top_p": 0.7}, {"min_p": 0.1}, {"do_sample": False}, {"num_beams": 2}):
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            ppo_config(ppo=warp)

    backbone = tiny_backbone()
    asked = InProcessEngine(backbone, Renderer(tiny_tokenizer()), None, 100)
    plain = asked.generate([ask("q")], Sampling(6, samples=3), "v", "test")
    settings = backbone.model.generation_config
    settings.top_k, settings.top_p, settings.repetition_penalty, settings.temperature = 1, 0.1, 5.0, 0.2
    assert asked.generate([ask("q")], Sampling(6, samples=3), "v", "test") == plain


def test_property_06_every_logprob_is_at_the_sampling_temperature(make_stage: MakeStage) -> None:
    """Sampler, old and reference log-probabilities equal log softmax(logits/τ) of unpadded rows.

    The new ones are the old ones at the first step: the ratio there is 1.
    """
    for temperature in (0.6, 1.7):
        stage = make_stage(ppo_config(ppo={"temperature": temperature, "prompts_per_update": 4}))
        move_policy(stage)
        seen = watched_step(stage)
        backbone = stage.policy.backbone
        # The step has moved the policy: what it was is in the old log-probabilities of the sampler.
        for row, rollout in enumerate(seen.rollouts):
            sampled = torch.tensor(rollout.sampler_logprobs, dtype=torch.float64)
            torch.testing.assert_close(seen.of_row(seen.old.logprobs, row), sampled, atol=1e-5, rtol=1e-5)
            base = alone(backbone, rollout, temperature)
            torch.testing.assert_close(seen.of_row(seen.reference, row), base.logprobs, atol=1e-5, rtol=1e-5)
        assert seen.metrics["policy/first_ratio_gap"] < 1e-5
        again = make_stage(ppo_config(ppo={"temperature": temperature, "prompts_per_update": 4}))
        move_policy(again)
        for row, rollout in enumerate(seen.rollouts):
            policy = alone(again.policy.backbone, rollout, temperature, role="policy")
            torch.testing.assert_close(
                seen.of_row(seen.old.logprobs, row), policy.logprobs, atol=1e-5, rtol=1e-5
            )


def test_property_07_the_tokens_that_train_are_those_that_were_sampled(make_stage: MakeStage) -> None:
    """Ids go from the sampler to the loss and to the reward model as they are.

    The random model writes broken UTF-8: decoding and encoding again would give other ids.
    """
    stage = make_stage(ppo_config())
    seen = watched_step(stage)
    renderer = Renderer(tiny_tokenizer())
    other = [r for r in seen.rollouts if renderer.encode_response(r.text, False) != list(r.response_tokens)]
    assert len(other) > len(seen.rollouts) / 2
    reward = LearnedReward(RewardModel(tiny_backbone(), None, ScalarHead(32, 0.1)), renderer)
    for row, rollout in enumerate(seen.rollouts):
        assert seen.batch.tokens[row][seen.batch.response_mask[row]].tolist() == list(rollout.response_tokens)
        whole = [*rollout.prompt_tokens, *rollout.response_tokens]
        assert seen.batch.tokens[row][seen.batch.attention_mask[row]].tolist() == whole
        assert reward.tokenize(rollout) == whole


def test_property_08_a_response_is_everything_up_to_its_first_end(make_stage: MakeStage) -> None:
    """The end token is an action and the last real token; a truncated response has none; after it nothing is real."""
    stage = make_stage(ppo_config(ppo={"max_gen_len": 12, "prompts_per_update": 10}))
    likely_to_end(stage.policy.backbone)
    seen = watched_step(stage)
    stops = Counter()
    for row, rollout in enumerate(seen.rollouts):
        tokens, response_mask, attention_mask = (
            x[row] for x in (seen.batch.tokens, seen.batch.response_mask, seen.batch.attention_mask)
        )
        last = int(attention_mask.sum()) - 1
        assert attention_mask[: last + 1].all()
        assert not attention_mask[last + 1 :].any()
        first = len(rollout.prompt_tokens)
        assert response_mask.tolist() == [first <= t <= last for t in range(len(response_mask))]
        ends = [t for t in range(first, last + 1) if int(tokens[t]) == END]
        assert ends == ([last] if rollout.stop == "end_of_turn" else [])
        assert last + 1 - first == 12 or ends
        stops[rollout.stop] += 1
    assert len(stops) == 2
    assert torch.equal(seen.targets.policy_mask, seen.batch.response_mask)


def test_property_09_rollouts_are_sampled_not_greedy(make_stage: MakeStage) -> None:
    """Temperature 0 is refused for PPO; the engine is asked for the configured one; responses to one prompt differ."""
    for temperature in (0.0, -1.0):
        with pytest.raises(ValidationError, match="temperature"):
            ppo_config(ppo={"temperature": temperature})
    stage = make_stage(ppo_config(ppo={"temperature": 1.3, "prompts_per_update": 2, "samples_per_prompt": 8}))
    asked: list[Sampling] = []
    generate = stage.engine.generate

    def listening(prompts: object, sampling: Sampling, *rest: object) -> object:
        asked.append(sampling)
        return generate(prompts, sampling, *rest)  # type: ignore[arg-type]

    stage.engine.generate = listening  # type: ignore[method-assign, assignment]
    rollouts = stage._generate(0)
    assert {sampling.temperature for sampling in asked} == {1.3}
    backbone = stage.policy.backbone
    for name in {r.prompt.id for r in rollouts}:
        responses = [r for r in rollouts if r.prompt.id == name]
        assert len({r.response_tokens for r in responses}) == 8
        with torch.no_grad():
            logits = backbone.model(input_ids=torch.tensor([responses[0].prompt_tokens])).logits[0, -1]
        assert {r.response_tokens[0] for r in responses} != {int(logits.argmax())}


def test_property_10_every_purpose_has_its_own_numbers(make_stage: MakeStage) -> None:
    """No two names share a stream (a rank of a distributed run would be one more name), the order of data none.

    5,000 seeds without a collision; neighbouring streams are uncorrelated.
    """
    names = [
        (p, i, s)
        for p in ("ppo/0", "ppo/1", "ppo/10", "rank 0", "rank 1")
        for i in range(250)
        for s in range(4)
    ]
    assert len({derive_seed(839, *name) for name in names}) == len(names) == 5000
    assert derive_seed(839, "a", "bc") != derive_seed(839, "ab", "c")
    left, right = (torch.from_numpy(generator(839, "ppo/0", "p0", s).random(20_000)) for s in (0, 1))
    assert abs(float(torch.corrcoef(torch.stack([left, right]))[0, 1])) < 4 / 20_000**0.5

    few = make_stage(ppo_config(ppo={"max_gen_len": 1}))
    many = make_stage(ppo_config(ppo={"max_gen_len": 3, "samples_per_prompt": 2, "temperature": 2.0}))
    for number in range(3):
        one = [r.prompt.id for r in few._generate(number)]
        two = [r.prompt.id for r in many._generate(number)]
        assert one == two[::2] == two[1::2]
        assert len(set(one)) == len(one)
    other = make_stage(ppo_config(seed=1, ppo={"max_gen_len": 1}))
    assert [r.prompt.id for r in other._generate(0)] != [r.prompt.id for r in few._generate(0)]
    assert batch_indices(0, 30, 8, 839, "SFT") != batch_indices(0, 30, 8, 839, "RM")
