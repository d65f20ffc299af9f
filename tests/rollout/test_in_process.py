"""The decoding loop against transformers' `generate`, full forwards and the definition of each property."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy import stats
from tiny import END, PAD, tiny_model, tiny_tokenizer, with_adapters
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from harken.batches import collate
from harken.config import LoraSettings
from harken.data.chat import Renderer
from harken.errors import NonFinite, UserError
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.models.roles import Policy
from harken.records import Message, Prompt, Rollout
from harken.rollout import choose_decoder, in_process
from harken.rollout.decoder import Decoder
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine

LIMIT = 200
TEXTS = [
    "a",
    "What is it?",
    "Tell me a long story about a fox.",
    "Why?",
    "One two three four five six.",
    "Hi!",
]
PROMPTS = [Prompt(f"p{i}", (Message("user", text),)) for i, text in enumerate(TEXTS)]


def tiny(seed: int = 0) -> Backbone:
    return Backbone(tiny_model(seed), tiny_tokenizer())


def engine(backbone: Backbone, role: str | None = None, batch_size: int = 32) -> InProcessEngine:
    return InProcessEngine(backbone, Renderer(backbone.tokenizer), role, LIMIT, batch_size)


def answers(
    maker: InProcessEngine,
    sampling: Sampling,
    prompts: Sequence[Prompt] = PROMPTS,
    purpose: str = "test",
) -> list[Rollout]:
    return maker.generate(prompts, sampling, "v0", purpose)


def full_forward_logprobs(backbone: Backbone, rollout: Rollout, temperature: float) -> torch.Tensor:
    """By the definition: one unpadded sequence through transformers' own forward, no cache."""
    tokens = torch.tensor([[*rollout.prompt_tokens, *rollout.response_tokens]])
    with torch.no_grad():
        logits = backbone.model(input_ids=tokens).logits[0].double() / temperature
    first = len(rollout.prompt_tokens)
    chosen = tokens[0, first:]
    return torch.log_softmax(logits[first - 1 : -1], -1).gather(-1, chosen[:, None])[:, 0]


def likely_to_end(backbone: Backbone, step: float = 6.0) -> Backbone:
    """Pull the end token's row towards the mean hidden state, so that responses end after a few tokens."""
    tokens = torch.arange(3, 259)[None]
    with torch.no_grad():
        hidden = backbone.trunk(input_ids=tokens).last_hidden_state[0].mean(0)
        backbone.model.lm_head.weight = nn.Parameter(backbone.model.lm_head.weight.clone())
        backbone.model.lm_head.weight[END] += step * hidden / hidden.norm() ** 2
    backbone.model.requires_grad_(False)
    return backbone


@pytest.mark.parametrize("ending", [False, True])
def test_greedy_is_transformers_greedy(ending: bool) -> None:
    """Token for token in float32, prompts of mixed length in one batch."""
    backbone = likely_to_end(tiny()) if ending else tiny()
    rollouts = answers(engine(backbone), Sampling(24, temperature=0))
    for rollout in rollouts:
        prompt = torch.tensor([rollout.prompt_tokens])
        own = backbone.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=24,
            do_sample=False,
            pad_token_id=PAD,
            eos_token_id=END,
        )
        assert list(rollout.response_tokens) == own[0, prompt.shape[1] :].tolist()


def test_the_prompt_is_the_renderers() -> None:
    rollout = answers(engine(tiny()), Sampling(1))[1]
    written = tiny_tokenizer().decode(rollout.prompt_tokens)
    assert written == "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.5])
def test_logprobs_are_those_of_a_full_forward_at_the_temperature(temperature: float) -> None:
    """P3, P5, P6, P28: left padding, cache and compaction change nothing; in float32 to 1e-5."""
    backbone = likely_to_end(tiny(), step=3.0)
    rollouts = answers(engine(backbone), Sampling(20, temperature, samples=3))
    assert len({len(r.response_tokens) for r in rollouts}) > 3
    for rollout in rollouts:
        expected = full_forward_logprobs(backbone, rollout, temperature)
        np.testing.assert_allclose(rollout.sampler_logprobs, expected, atol=1e-5)


def test_greedy_logprobs_are_at_temperature_one() -> None:
    backbone = tiny()
    rollout = answers(engine(backbone), Sampling(6, temperature=0))[0]
    expected = full_forward_logprobs(backbone, rollout, 1.0)
    np.testing.assert_allclose(rollout.sampler_logprobs, expected, atol=1e-5)


def test_positions_do_not_count_padding() -> None:
    """P3: seen only by a model with absolute positions, such as GPT-2; rotary ones hide a shift."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tiny_tokenizer()),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=256,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    backbone = Backbone(GPT2LMHeadModel(config), tiny_tokenizer())
    for rollout in answers(engine(backbone), Sampling(10)):
        expected = full_forward_logprobs(backbone, rollout, 1.0)
        np.testing.assert_allclose(rollout.sampler_logprobs, expected, atol=1e-5)


def test_a_response_does_not_depend_on_its_batch() -> None:
    """P3, P10: order, mates, batch size and the number of samples; one response is a function of its names."""
    backbone = likely_to_end(tiny(), step=3.0)
    sampling = Sampling(20, samples=2)
    reference = {(r.prompt.id, r.sample): r for r in answers(engine(backbone), sampling)}
    for size, prompts in ((1, PROMPTS), (3, PROMPTS[::-1]), (32, PROMPTS[2:4]), (5, PROMPTS)):
        for rollout in answers(engine(backbone, batch_size=size), sampling, prompts):
            same = reference[rollout.prompt.id, rollout.sample]
            assert rollout.response_tokens == same.response_tokens
            np.testing.assert_allclose(rollout.sampler_logprobs, same.sampler_logprobs, atol=1e-5)
    for rollout in answers(engine(backbone), replace(sampling, samples=5)):
        if rollout.sample < 2:
            assert rollout.response_tokens == reference[rollout.prompt.id, rollout.sample].response_tokens


def test_prompts_are_read_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more places in a pass than may be, one prompt that is too long alone; each once, however often sampled."""
    sampling = Sampling(6, samples=2)
    prompts = [*PROMPTS, Prompt("long", (Message("user", "Tell me. " * 5),))]
    backbone = tiny()  # which by now has been asked how it decodes
    expected = answers(engine(backbone), sampling, prompts)
    lengths = [len(rollout.prompt_tokens) for rollout in expected if rollout.sample == 0]
    passes: list[list[int]] = []
    admit = Decoder.prefill

    def noted(self: Decoder, prompts: Sequence[Sequence[int]], copies: Sequence[int]) -> None:
        passes.append([len(prompt) for prompt in prompts])
        admit(self, prompts, copies)

    monkeypatch.setattr(Decoder, "prefill", noted)
    monkeypatch.setattr(in_process, "MAX_PREFILL_TOKENS", 55)
    found = answers(engine(backbone), sampling, prompts)
    assert [r.response_tokens for r in found] == [r.response_tokens for r in expected]
    assert sorted(length for one in passes for length in one) == sorted(lengths)
    assert max(lengths) > 55
    assert all(max(one) * len(one) <= 55 or len(one) == 1 for one in passes)
    # Padding counts, for a GPU's rows have it: by their tokens alone two passes would have been one.
    assert any(sum(one) + two[0] <= 55 for one, two in pairwise(passes))
    assert any(len(one) > 1 for one in passes)


class AsOnAGPU(Decoder):
    """Shapes as there, the work of a step handed over to be recorded; what records does it at once."""

    shapes: ClassVar[set[tuple[object, ...]]] = set()

    def __init__(self, backbone: Backbone, slots: int, capacity: int, **settings: Any) -> None:
        super().__init__(backbone, slots, capacity, **settings)
        self.cache.trimmed, self.cache.width = False, capacity
        self.graphs = self._noted  # type: ignore[assignment]

    def _noted(self, kind: object, work: Callable[..., Any], *inputs: torch.Tensor) -> Any:
        self.shapes.add((kind, *(len(given) for given in inputs)))
        return work(*inputs)


def test_few_shapes_are_recorded_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Powers of two rows and one width of the past, and the responses are the same."""
    backbone, sampling = with_adapters(likely_to_end(tiny(), step=3.0)), Sampling(40, samples=4)
    expected = answers(engine(backbone, "policy", batch_size=20), sampling)
    monkeypatch.setattr(choose_decoder, "Decoder", AsOnAGPU)
    monkeypatch.setattr(AsOnAGPU, "shapes", set())
    found = answers(engine(backbone, "policy", batch_size=20), sampling)
    assert [r.response_tokens for r in found] == [r.response_tokens for r in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.sampler_logprobs, other.sampler_logprobs, atol=1e-5)
    assert {rows for _, *inputs in AsOnAGPU.shapes for rows in inputs} == {8, 16, 20}
    assert len({kind for kind, *_ in AsOnAGPU.shapes if kind != "sample"}) == 1


def test_a_longer_limit_only_adds() -> None:
    backbone = tiny()
    short, long = (answers(engine(backbone), Sampling(n))[0] for n in (5, 12))
    assert long.response_tokens[:5] == short.response_tokens


def test_samples_seeds_and_purposes_differ() -> None:
    """P10: no two of them draw the same numbers."""
    maker = engine(tiny())
    base = [r.response_tokens for r in answers(maker, Sampling(12, samples=4), PROMPTS[:1])]
    assert len(set(base)) == 4
    again = answers(maker, Sampling(12, samples=4), PROMPTS[:1])
    assert [r.response_tokens for r in again] == base
    other_seed = answers(maker, Sampling(12, samples=4, seed=1), PROMPTS[:1])
    other_purpose = answers(maker, Sampling(12, samples=4), PROMPTS[:1], purpose="elsewhere")
    for others in (other_seed, other_purpose):
        assert not {r.response_tokens for r in others} & set(base)


def test_first_tokens_follow_the_softmax() -> None:
    """P5, P9: chi-square of 3,000 sampled first tokens against softmax(logits / temperature)."""
    backbone, temperature = tiny(), 0.8
    rollouts = answers(
        engine(backbone, batch_size=1000), Sampling(1, temperature, seed=11, samples=3000), PROMPTS[:1]
    )
    with torch.no_grad():
        logits = backbone.model(input_ids=torch.tensor([rollouts[0].prompt_tokens])).logits[0, -1]
    expected = torch.softmax(logits.double() / temperature, -1).numpy() * len(rollouts)
    counts = np.bincount([r.response_tokens[0] for r in rollouts], minlength=len(expected))
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    assert len(counts) > 10
    assert stats.chisquare(counts, expected).pvalue > 0.01


def test_a_response_ends_at_its_first_end_token() -> None:
    """P8: the end is an action with a log-probability, nothing follows it, and the text does not show it."""
    rollouts = answers(engine(likely_to_end(tiny(), step=3.0)), Sampling(20, samples=4))
    ended = [r for r in rollouts if r.stop == "end_of_turn"]
    truncated = [r for r in rollouts if r.stop == "length"]
    assert ended and truncated
    for rollout in ended:
        assert rollout.response_tokens.index(END) == len(rollout.response_tokens) - 1
        assert len(rollout.sampler_logprobs) == len(rollout.response_tokens)
    for rollout in truncated:
        assert END not in rollout.response_tokens
        assert len(rollout.response_tokens) == 20
    for rollout in rollouts:
        assert "<|im_end|>" not in rollout.text
        assert rollout.text == tiny_tokenizer().decode(rollout.response_tokens, skip_special_tokens=True)


def test_an_end_on_the_last_token_is_an_end() -> None:
    """P22: it was not cut."""
    maker = engine(likely_to_end(tiny(), step=3.0))
    ended = next(r for r in answers(maker, Sampling(20, samples=4)) if 1 < len(r.response_tokens) < 20)
    limit = Sampling(len(ended.response_tokens), samples=4)
    again = next(
        r
        for r in answers(maker, limit, [ended.prompt])
        if (r.prompt.id, r.sample) == (ended.prompt.id, ended.sample)
    )
    assert (again.response_tokens, again.stop) == (ended.response_tokens, "end_of_turn")


def test_eos_ends_a_response_too() -> None:
    """Some models say eos where the template ends turns with another token."""
    backbone = tiny()
    maker = engine(backbone)
    greedy = answers(maker, Sampling(8, temperature=0), PROMPTS[:1])[0].response_tokens
    stopping = InProcessEngine(backbone, _Renderer(backbone.tokenizer, end=greedy[3]), None, LIMIT)
    assert stopping.stop_tokens == sorted({END, greedy[3]})
    rollout = answers(stopping, Sampling(8, temperature=0), PROMPTS[:1])[0]
    assert rollout.response_tokens == greedy[: greedy.index(greedy[3]) + 1]
    assert rollout.stop == "end_of_turn"


class _Renderer(Renderer):
    """A template that ends turns with a token of the test's choice."""

    def __init__(self, tokenizer: object, end: int) -> None:
        super().__init__(tokenizer)  # type: ignore[arg-type]
        self.end_of_turn = end


def test_the_order_is_prompt_by_prompt() -> None:
    rollouts = answers(engine(tiny(), batch_size=4), Sampling(2, samples=2))
    assert [(r.prompt.id, r.sample) for r in rollouts] == [(p.id, s) for p in PROMPTS for s in (0, 1)]
    assert {r.policy_version for r in rollouts} == {"v0"}


def test_prompts_of_one_length_are_read_each() -> None:
    alike = [Prompt(text, (Message("user", text),)) for text in ("abc", "xyz", "abc!", "xyz!")]
    maker = engine(tiny())
    assert len({len(r.prompt_tokens) for r in answers(maker, Sampling(1), alike)}) == 2
    together = answers(maker, Sampling(6, temperature=0), alike)
    for prompt, rollout in zip(alike, together, strict=True):
        alone = answers(maker, Sampling(6, temperature=0), [prompt])[0]
        np.testing.assert_allclose(rollout.sampler_logprobs, alone.sampler_logprobs, atol=1e-5)
        assert rollout.response_tokens == alone.response_tokens


def test_no_prompts_no_responses() -> None:
    assert answers(engine(tiny()), Sampling(4), []) == []


@pytest.mark.parametrize("step", [0.0, 3.0, 6.0])
def test_progress_counts_every_response_once(step: float) -> None:
    reported: list[int] = []
    maker = engine(likely_to_end(tiny(), step), batch_size=5)
    maker.generate(PROMPTS, Sampling(10, samples=2), "v", "test", reported.append)
    assert sum(reported) == 2 * len(PROMPTS)
    assert min(reported) > 0


def test_it_samples_from_its_role() -> None:
    """The adapter's policy under its role, the base without one; the role in force outside comes back."""
    backbone = tiny()
    bare = answers(engine(backbone), Sampling(8, temperature=0))
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    for name, parameter in backbone.adapter_parameters("policy").items():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    with_role = answers(engine(backbone, "policy"), Sampling(8, temperature=0))
    assert answers(engine(backbone), Sampling(8, temperature=0)) == bare
    assert [r.response_tokens for r in with_role] != [r.response_tokens for r in bare]
    with backbone.role("policy"):
        expected = full_forward_logprobs(backbone, with_role[0], 1.0)
    np.testing.assert_allclose(with_role[0].sampler_logprobs, expected, atol=1e-5)


def test_no_dropout_and_no_trace() -> None:
    """P33: dropout is off while sampling; modes and gradients are as before, also after an error."""
    backbone = tiny()
    backbone.add_adapter("policy", LoraSettings(rank=4, dropout=0.9), seed=0)
    for name, parameter in backbone.adapter_parameters("policy").items():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    maker = engine(backbone, "policy")
    quiet = answers(maker, Sampling(8))
    backbone.set_adapter_dropout(True)
    backbone.model.get_submodule("model.norm").eval()
    before = [module.training for module in backbone.model.modules()]
    grads = {n: p.requires_grad for n, p in backbone.model.named_parameters()}
    assert answers(maker, Sampling(8)) == quiet
    with torch.no_grad():
        backbone.model.get_submodule("model.norm").weight.fill_(torch.nan)
    with pytest.raises(NonFinite, match="prompt p"):
        answers(maker, Sampling(8))
    assert [module.training for module in backbone.model.modules()] == before
    assert {n: p.requires_grad for n, p in backbone.model.named_parameters()} == grads
    assert backbone._role is None


def test_a_models_generation_settings_are_not_read() -> None:
    """P5: what a model's folder says of top-k, penalties or temperature never reaches a rollout."""
    backbone = tiny()
    plain = answers(engine(backbone), Sampling(8))
    settings = backbone.model.generation_config
    settings.top_k, settings.repetition_penalty, settings.temperature, settings.do_sample = 1, 9.0, 0.1, True
    assert answers(engine(backbone), Sampling(8)) == plain


def test_a_prompt_that_does_not_fit_is_the_users_error() -> None:
    backbone = tiny()
    small = InProcessEngine(backbone, Renderer(backbone.tokenizer), None, prompt_limit=3)
    with pytest.raises(UserError, match=r"prompt p0: this prompt does not fit in 3 tokens"):
        answers(small, Sampling(4))
    with pytest.raises(UserError, match=r"prompt p0: .*600 of the response exceed the model's 512 positions"):
        answers(engine(backbone), Sampling(600))


def test_the_mean_logprob_is_minus_the_entropy() -> None:
    """P6, another oracle: E[log p(first token)] = −H, within four standard errors of 2,000 samples."""
    backbone, temperature = tiny(), 1.3
    rollouts = answers(
        engine(backbone, batch_size=1000), Sampling(1, temperature, seed=2, samples=2000), PROMPTS[1:2]
    )
    with torch.no_grad():
        logits = backbone.model(input_ids=torch.tensor([rollouts[0].prompt_tokens])).logits[0, -1].double()
    entropy = float(torch.distributions.Categorical(logits=logits / temperature).entropy())
    observed = np.array([r.sampler_logprobs[0] for r in rollouts])
    assert abs(observed.mean() + entropy) < 4 * observed.std() / math.sqrt(len(observed))


def test_the_downloaded_model_generates(smollm2: Path) -> None:
    """SmolLM2-135M-Instruct, greedy: knows a capital and ends its turn; in bfloat16 the training forward agrees.

    What it says is read in float32: its first two candidates are 0.1 apart, and bfloat16 rounds logits to 0.125. The
    gap is bfloat16 rounding: sampler and trainer add up the same numbers in another order (P28).
    """
    questions = ["What is the capital of France?", "What is two plus two? Answer with one number."]
    prompts = [Prompt(text, (Message("user", text),)) for text in questions]
    precise = Backbone.load(resolve(str(smollm2)), torch.float32, "cpu")
    capital = answers(engine(precise), Sampling(32, temperature=0), prompts[:1])[0]
    assert "Paris" in capital.text
    assert capital.stop == "end_of_turn"
    backbone = Backbone.load(resolve(str(smollm2)), torch.bfloat16, "cpu")
    for rollout in answers(engine(backbone), Sampling(32, temperature=0), prompts):
        tokens = [*rollout.prompt_tokens, *rollout.response_tokens]
        response_mask = [False] * len(rollout.prompt_tokens) + [True] * len(rollout.response_tokens)
        batch = collate([tokens], [response_mask], backbone.tokenizer.pad_token_id)
        with torch.no_grad():
            trained = Policy(backbone, None).evaluate(batch).logprobs[batch.response_mask]
        assert (trained - torch.tensor(rollout.sampler_logprobs)).abs().mean() < 0.05
