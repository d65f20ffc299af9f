"""Responses made on a GPU, where steps are recorded and replayed, against those made on a CPU and full forwards."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tiny import tiny_backbone, tiny_model, tiny_tokenizer, with_adapters

from harken.data.chat import Renderer
from harken.kernels.cuda_graphs import CudaGraphs
from harken.models.backbone import Backbone
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import resolve
from harken.records import Message, Prompt, Rollout
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

PROMPTS = [Prompt(f"p{i}", (Message("user", "word " * (1 + 5 * i % 23)),)) for i in range(21)]


def answers(backbone: Backbone, temperature: float, role: str | None = "policy") -> list[Rollout]:
    """Fewer places than responses, so that some move in while others are under way; places beyond one recording."""
    engine = InProcessEngine(backbone, Renderer(tiny_tokenizer()), role, 200, batch_size=9)
    sampling = Sampling(max_tokens=200, temperature=temperature, seed=3, samples=2)
    return engine.generate(PROMPTS, sampling, "v0", "test")


def on_gpu(dtype: torch.dtype) -> Backbone:
    """Adapters are made on the CPU: a GPU draws other numbers."""
    made = with_adapters(tiny_backbone())
    backbone = with_adapters(Backbone(tiny_model().to(dtype).to("cuda"), tiny_tokenizer()))
    with torch.no_grad():
        for (name, here), there in zip(
            backbone.model.named_parameters(), made.model.parameters(), strict=True
        ):
            if "lora_" in name:
                here.copy_(there)
    return backbone


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was recorded."""
    made: list[object] = []
    record = CudaGraphs._capture

    def noted(self: CudaGraphs, *arguments: object) -> object:
        made.append(arguments)
        return record(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(CudaGraphs, "_capture", noted)
    return made


@pytest.mark.parametrize("role", ["policy", None])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_same_tokens_as_on_a_cpu(replays: list[object], temperature: float, role: str | None) -> None:
    """In float32, greedy and drawn from the same uniform numbers; log-probabilities within 1e-4."""
    here = answers(with_adapters(tiny_backbone()), temperature, role)
    assert not replays
    there = answers(on_gpu(torch.float32), temperature, role)
    assert len(replays) >= 4
    assert max(len(rollout.response_tokens) for rollout in here) == 200
    assert [r.response_tokens for r in here] == [r.response_tokens for r in there]
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(
            torch.tensor(one.sampler_logprobs), torch.tensor(other.sampler_logprobs), atol=1e-4, rtol=1e-4
        )


KINDS = [
    "bfloat16",
    pytest.param(
        "nf4", marks=pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
    ),
]


def kept_in(kind: str, folder: Path) -> Backbone:
    """A model as a run loads it, with an adapter that changes what it says."""
    tiny_model(hidden=128).bfloat16().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return with_adapters(Backbone.load(resolve(str(folder)), WEIGHT_DTYPES[kind], "cuda"))


def test_recorded_steps_are_the_steps(
    replays: list[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In bfloat16, where weights are laid side by side: to the bit what the operations give launched singly."""
    backbone = kept_in("bfloat16", tmp_path)
    replayed = answers(backbone, 1.0)
    assert len(replays) >= 4
    monkeypatch.setattr(CudaGraphs, "__call__", lambda self, kind, work, *inputs: work(*inputs))
    assert replayed == answers(backbone, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_responses_are_drawn_from_the_scored_distribution(tmp_path: Path, kind: str) -> None:
    """A token's log-probability as drawn is that of a full forward, up to rounding; also right behind the prompt."""
    backbone = kept_in(kind, tmp_path)
    far = []
    for rollout in answers(backbone, 1.0):
        tokens = torch.tensor([[*rollout.prompt_tokens, *rollout.response_tokens]], device="cuda")
        with torch.no_grad(), backbone.role("policy"):
            states = backbone.forward(input_ids=tokens, use_cache=False)[0]
            scored = (
                backbone.logits(states[:-1]).float().log_softmax(-1).gather(-1, tokens[0, 1:, None])[:, 0]
            )
        drawn = torch.tensor(rollout.sampler_logprobs, device="cuda")
        far.append((scored[-len(drawn) :] - drawn).abs())
    print(kind, float(torch.cat(far).mean()), float(torch.stack([row[0] for row in far]).mean()))
    assert float(torch.cat(far).mean()) < 0.1
    assert float(torch.stack([row[0] for row in far]).mean()) < 0.1
