"""Measure response tokens per second of Harken's engine, transformers' `generate` and `generate_batch`.

    python benchmarks/rollouts.py
    python benchmarks/rollouts.py --model outputs/demo/01_sft --repeats 5

64 Dolly prompts of spread lengths, whole softmax at temperature 1, in bfloat16, without an adapter and with LoRA 16.
`generate` takes them in the order given, left-padded, `--batch` at a time; the other two keep `--batch` responses
active. Medians over repeats, each with its own random draws; response tokens are counted up to and with the end
token. Then greedy responses in float32, which must be the same token for token.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import result
import rows
import sides
import torch
from machine import once
from peft import PeftModel
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig, PreTrainedModel

from harken.config import LoraSettings
from harken.data.chat import Renderer
from harken.models.backbone import Backbone
from harken.models.device import choose_device
from harken.models.resolve import resolve
from harken.models.tokenizer import load_tokenizer
from harken.records import Prompt
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine

Responses = list[list[int]]
SEED, ADAPTER, PAGE = 839, "policy", 32


class Transformers:
    """Run the same model and adapter with transformers and peft."""

    def __init__(self, model: PreTrainedModel, renderer: Renderer, stops: Sequence[int], batch: int) -> None:
        self.model, self.renderer, self.stops, self.batch = model, renderer, list(stops), batch
        # What the model's own settings say of sampling must not get in.
        model.generation_config = GenerationConfig()

    def settings(self, response: int, temperature: float) -> GenerationConfig:
        """Return settings for the whole softmax at a temperature; 0: greedy."""
        how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
        return GenerationConfig(
            max_new_tokens=response, eos_token_id=self.stops, pad_token_id=self.renderer.pad, **how
        )

    @torch.no_grad()
    def generate(self, prompts: Sequence[Prompt], response: int, temperature: float = 1.0) -> Responses:
        """Generate left-padded batches in the order given."""
        ids = [self.renderer.encode_prompt(prompt.messages) for prompt in prompts]
        responses: Responses = []
        for start in range(0, len(ids), self.batch):
            some = ids[start : start + self.batch]
            width = max(len(prompt) for prompt in some)
            tokens = torch.tensor([[self.renderer.pad] * (width - len(p)) + p for p in some])
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in some])
            tokens, mask = tokens.to(self.model.device), mask.to(self.model.device)
            how = self.settings(response, temperature)
            found = self.model.generate(tokens, attention_mask=mask, generation_config=how)
            responses += [self.ended(row) for row in found[:, width:].tolist()]
        return responses

    @torch.no_grad()
    def generate_batch(self, prompts: Sequence[Prompt], response: int, temperature: float = 1.0) -> Responses:
        """Generate with continuous batching, with a KV cache of one batch (its default is over half of the memory).

        Raises RuntimeError when it loses responses.
        """
        ids = [self.renderer.encode_prompt(prompt.messages) for prompt in prompts]
        longest = max(len(prompt) for prompt in ids)
        cache = ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=self.batch * (-(-(longest + response) // PAGE) + 1),
            max_requests_per_batch=self.batch,
            max_batch_tokens=max(self.batch * 16, longest),
        )
        how = self.settings(response, temperature)
        found = self.model.generate_batch(
            ids, generation_config=how, continuous_batching_config=cache, warmup=False
        )
        if len(found) != len(ids) or any(one.error for one in found.values()):
            errors = [str(one.error) for one in found.values() if one.error]
            raise RuntimeError(errors[0] if errors else f"{len(ids) - len(found)} responses are missing")
        return [self.ended(list(one.generated_tokens)) for one in found.values()]

    def ended(self, tokens: list[int]) -> list[int]:
        """Truncate a row after the first end token."""
        end = next((i for i, token in enumerate(tokens) if token in self.stops), len(tokens))
        return tokens[: end + 1]


class Pair:
    """Hold both sides with the same weights, and the same adapter if there is one."""

    def __init__(
        self, given: argparse.Namespace, dtype: torch.dtype, adapter: bool, renderer: Renderer, folder: Path
    ) -> None:
        source, device = resolve(given.model), choose_device("auto")
        backbone = Backbone.load(source, dtype, device)
        theirs = torch.float32 if given.peer_dtype == "float32" else dtype
        model = AutoModelForCausalLM.from_pretrained(source.folder, dtype=theirs).to(device)
        if adapter:
            backbone.add_adapter(ADAPTER, LoraSettings(), SEED)
            perturb(backbone)
            backbone.save_adapter(ADAPTER, folder, source.folder)
            model = PeftModel.from_pretrained(model, folder).get_base_model()
        role = ADAPTER if adapter else None
        self.engine = InProcessEngine(backbone, renderer, role, given.prompt_limit, given.batch)
        self.peer = Transformers(model, renderer, self.engine.stop_tokens, given.batch)

    def harken(self, prompts: Sequence[Prompt], response: int, temperature: float, repeat: int) -> Responses:
        """Generate with Harken."""
        sampling = Sampling(response, temperature, SEED)
        rollouts = self.engine.generate(prompts, sampling, "benchmark", f"repeat {repeat}")
        return [list(rollout.response_tokens) for rollout in rollouts]


def perturb(backbone: Backbone) -> None:
    """Set B, which is zero at first, to small values, as after training."""
    draw = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in backbone.adapter_parameters(ADAPTER).items():
            if "lora_B" in name:
                parameter.copy_(0.01 * torch.randn(parameter.shape, generator=draw))


def sampled(pair: Pair, given: argparse.Namespace, prompts: Sequence[Prompt]) -> dict[str, dict[str, object]]:
    """Measure tokens per second of each engine in turns, so that a slow minute affects all equally."""
    response, peer = given.response, pair.peer
    engines: dict[str, Callable[[int, int], Responses]] = {
        "Harken": lambda repeat, most: pair.harken(prompts, most, 1.0, repeat),
        "generate": lambda repeat, most: peer.generate(prompts, most),
        "generate_batch": lambda repeat, most: peer.generate_batch(prompts, most),
    }
    figures: dict[str, dict[str, object]] = {name: {"rates": [], "tokens": []} for name in engines}
    for name, generate in list(engines.items()):
        try:
            generate(0, 2)
        except (RuntimeError, ImportError, ValueError, TypeError, NotImplementedError) as error:
            if name != "generate_batch":
                raise
            figures[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
            del engines[name]
    for repeat in range(given.repeats):
        for name, generate in engines.items():
            torch.manual_seed(repeat)
            counts: list[int] = []
            took = once(lambda a=generate, c=counts, r=repeat: c.extend(len(one) for one in a(r, response)))
            figures[name]["rates"].append(sum(counts) / took)
            figures[name]["tokens"].append(sum(counts))
    for figure in figures.values():
        if "rates" in figure:
            figure["tokens_per_second"] = median(figure["rates"])
    return figures


def greedy(pair: Pair, given: argparse.Namespace, prompts: Sequence[Prompt]) -> dict[str, int]:
    """Count greedy responses, and their tokens, that equal those of `generate`."""
    ours = pair.harken(prompts, given.greedy_tokens, 0.0, 0)
    theirs = pair.peer.generate(prompts, given.greedy_tokens, 0.0)
    same = [a == b for a, b in zip(ours, theirs, strict=True)]
    return {
        "responses": len(same),
        "same responses": sum(same),
        "tokens": sum(map(len, theirs)),
        "same tokens": sum(len(a) for a, equal in zip(theirs, same, strict=True) if equal),
    }


def show(figures: dict[str, dict[str, dict[str, object]]]) -> None:
    """Print a table; Harken's rate as a multiple of each other's."""
    lines = []
    for adapter, engines in figures.items():
        ours = engines["Harken"]["tokens_per_second"]
        for name, figure in engines.items():
            if "failed" in figure:
                lines.append([f"{name}, {adapter}", "-", "-", "-"])
                continue
            rate = figure["tokens_per_second"]
            ratio = "" if name == "Harken" else f"{ours / rate:.2f} x"
            mean = f"{sum(figure['tokens']) / len(figure['tokens']):.0f}"
            lines.append([f"{name}, {adapter}", f"{rate:.0f}", ratio, mean])
    print()
    result.table(["", "response tokens/s", "Harken is", "tokens a repeat"], lines)
    for adapter, engines in figures.items():
        for name, figure in engines.items():
            if "failed" in figure:
                print(f"{name}, {adapter}: does not run here: {figure['failed']}")


def main() -> None:
    """Measure, print, write; exit code 1 when greedy responses differ."""
    asked = result.arguments(__doc__)
    asked.add_argument("--prompts", type=int, default=64)
    asked.add_argument("--prompt-limit", type=int, default=128, help="most tokens of a prompt")
    asked.add_argument("--response", type=int, default=128, help="most tokens of a response")
    asked.add_argument("--batch", type=int, default=32)
    asked.add_argument("--repeats", type=int, default=2)
    asked.add_argument(
        "--peer-dtype", choices=["bfloat16", "float32"], default="bfloat16", help="of sampling"
    )
    asked.add_argument("--greedy-prompts", type=int, default=16)
    asked.add_argument("--greedy-tokens", type=int, default=48)
    quick = {"prompts": 4, "response": 8, "batch": 2, "repeats": 1, "greedy_prompts": 4, "greedy_tokens": 8}
    given = result.parsed(asked, quick)
    renderer = Renderer(load_tokenizer(sides.whole_model(given.model)))
    prompts = rows.spread(renderer, given.prompts, given.prompt_limit)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for adapter, words in ((False, "no adapter"), (True, "LoRA 16")):
            pair = Pair(given, torch.bfloat16, adapter, renderer, folder / "bf16")
            figures[words] = sampled(pair, given, prompts)
        pair = Pair(given, torch.float32, True, renderer, folder / "fp32")
        same = greedy(pair, given, prompts[: given.greedy_prompts])
    show(figures)
    print(
        f"greedy in float32: {same['same responses']} of {same['responses']} responses equal "
        f"({same['same tokens']} of {same['tokens']} tokens)"
    )
    lengths = sorted(len(renderer.encode_prompt(prompt.messages)) for prompt in prompts)
    settings = {"prompts from": rows.name(rows.DOLLY), "prompt tokens": lengths}
    result.save("rollouts", given, settings, {"sampled": figures, "greedy": same})
    if same["same responses"] < same["responses"]:
        raise SystemExit("greedy responses differ from those of transformers")


if __name__ == "__main__":
    main()
