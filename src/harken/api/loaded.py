"""Load a policy or a reward model by name, to generate and score in a Python program."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from harken.api.rows import PromptLike, as_prompts
from harken.batches import PolicyOutputs, TokenBatch, collate
from harken.config import WeightDtypeName
from harken.config.base import DataConfig
from harken.errors import UserError
from harken.evaluation.responses import SCORING_TOKENS, load_engine
from harken.models.device import choose_device
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import ModelSource, require_use, resolve
from harken.models.roles import Policy, RewardModel, ScalarHead
from harken.models.value_head import load_value_head
from harken.records import Prompt, Rollout
from harken.reward.learned import LearnedReward, trained_max_length
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine

T = TypeVar("T")


class LoadedPolicy:
    """A policy that generates responses. Its weights are read when they are first needed."""

    def __init__(self, source: ModelSource, dtype: WeightDtypeName, device: str, max_length: int) -> None:
        self._source, self.dtype, self.device = source, dtype, device
        self.prompt_data = DataConfig(path="prompts given in Python", max_length=max_length)

    @property
    def name(self) -> str:
        """The name that it was loaded by, as in `model_name`."""
        return self._source.name

    @cached_property
    def _engine(self) -> InProcessEngine:
        return load_engine(self._source, self)

    @cached_property
    def _value_head(self) -> ScalarHead:
        return load_value_head(self._source.folder, self._engine.backbone)

    def generate(
        self,
        prompts: Sequence[PromptLike],
        *,
        max_gen_len: int = 64,
        samples: int = 1,
        temperature: float = 1.0,
        seed: int = 839,
    ) -> list[list[str]]:
        """Generate responses: for each prompt a list of `samples` texts of at most `max_gen_len` tokens.

        Temperature 0 is greedy. Equal arguments give equal texts. Raises UserError for a prompt that does not fit.
        """
        rollouts = self.rollouts(
            prompts, max_gen_len=max_gen_len, samples=samples, temperature=temperature, seed=seed
        )
        texts = [rollout.text for rollout in rollouts]
        return [texts[start : start + samples] for start in range(0, len(texts), samples)]

    def rollouts(
        self,
        prompts: Sequence[PromptLike],
        *,
        max_gen_len: int = 64,
        samples: int = 1,
        temperature: float = 1.0,
        seed: int = 839,
    ) -> list[Rollout]:
        """Generate as `generate` does; return tokens, their log-probabilities and the stop reason with each text."""
        if temperature == 0 and samples > 1:
            raise UserError(
                "greedy responses to one prompt are all equal", where="samples", fix="set temperature above 0"
            )
        sampling = Sampling(max_gen_len, temperature, seed, samples)
        generated: list[Rollout] = []
        for draw, prompt in _with_draws(as_prompts(prompts)):
            generated += self._engine.generate(prompt, sampling, self.name, f"api/{draw}")
        return generated

    def logprobs(
        self, prompts: Sequence[PromptLike], responses: Sequence[str], *, temperature: float = 1.0
    ) -> list[NDArray[np.float32]]:
        """Compute the log-probability of each token of each response, end of turn included, in nats."""
        return self._per_token(prompts, responses, temperature, None)

    def values(self, prompts: Sequence[PromptLike], responses: Sequence[str]) -> list[NDArray[np.float32]]:
        """Compute the value head's estimate of the return before each token of each response.

        Raises UserError if the policy has no value head on its own states; PPO with `critic: shared` saves one.
        """
        return self._per_token(prompts, responses, 1.0, self._value_head)

    @torch.no_grad()
    def _per_token(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[str],
        temperature: float,
        head: ScalarHead | None,
    ) -> list[NDArray[np.float32]]:
        engine = self._engine
        policy, values = Policy(engine.backbone, engine.role, head), []
        for prompt, response in _paired(as_prompts(prompts), responses):
            prompt_tokens = engine.renderer.encode_prompt(prompt.messages, prompt.tools)
            tokens = engine.renderer.encode_response(response)
            mask = [False] * len(prompt_tokens) + [True] * len(tokens)
            batch: TokenBatch = collate([[*prompt_tokens, *tokens]], [mask], engine.backbone.pad_token)
            outputs: PolicyOutputs = policy.evaluate(batch.to(engine.backbone.device), temperature)
            chosen = outputs.logprobs if head is None else outputs.values
            values.append(chosen[0, len(prompt_tokens) :].float().cpu().numpy())
        return values


class LoadedRewardModel:
    """A reward model that scores responses. Its weights are read when they are first needed."""

    def __init__(self, source: ModelSource, dtype: WeightDtypeName, device: str) -> None:
        self._source, self.dtype, self.device = source, dtype, device

    @property
    def name(self) -> str:
        """The name that it was loaded by, as in `checkpoint_path`."""
        return self._source.name

    @cached_property
    def _scorer(self) -> LearnedReward:
        model = RewardModel.load(self._source, WEIGHT_DTYPES[self.dtype], choose_device(self.device))
        limit = trained_max_length(self._source)
        return LearnedReward(model, None, micro_batch_tokens=SCORING_TOKENS, name=self.name, max_length=limit)

    def score(
        self, prompts: Sequence[PromptLike], responses: Sequence[str] | Sequence[Sequence[str]]
    ) -> NDArray[np.float64]:
        """Score responses: one number for each prompt, or, for lists of samples, one row for each prompt.

        Scores are standardised, as in PPO. Raises UserError if the lists differ in length, and for
        a conversation that the chat template refuses.
        """
        nested = [[response] if isinstance(response, str) else list(response) for response in responses]
        pairs = _paired(as_prompts(prompts), nested)
        rollouts = [
            Rollout(prompt, sample, (), (), (), text, "end_of_turn", "")
            for prompt, texts in pairs
            for sample, text in enumerate(texts)
        ]
        scores = np.array([score.value for score in self._scorer.score(rollouts)], dtype=np.float64)
        if all(isinstance(response, str) for response in responses):
            return scores
        if len({len(texts) for texts in nested}) > 1:
            raise UserError(
                "the prompts have different numbers of responses",
                where="responses",
                fix="give each prompt as many responses as the others, or one list with a prompt for each",
            )
        return scores.reshape(len(nested), -1)


def load_policy(
    name: str | Path, *, dtype: WeightDtypeName = "bfloat16", device: str = "auto", max_length: int = 1024
) -> LoadedPolicy:
    """Find a policy: anything `model_name` accepts (a run or model folder, a hub name, a GGUF file, `embedded`).

    `max_length` is the maximum number of tokens of a prompt; older turns are dropped. Raises UserError if it does not
    exist or cannot generate.
    """
    return LoadedPolicy(require_use(resolve(str(name)), "policy"), _dtype(dtype), device, max_length)


def load_reward_model(
    name: str | Path, *, dtype: WeightDtypeName = "bfloat16", device: str = "auto"
) -> LoadedRewardModel:
    """Find a reward model: the folder of a run that trained one. Raises UserError if it is not one."""
    return LoadedRewardModel(require_use(resolve(str(name)), "reward"), _dtype(dtype), device)


def _dtype(dtype: str) -> WeightDtypeName:
    if dtype not in WEIGHT_DTYPES:
        raise UserError(f"unknown dtype {dtype}", where="dtype", fix=f"choose {', '.join(WEIGHT_DTYPES)}")
    return cast(WeightDtypeName, dtype)


def _with_draws(prompts: Sequence[Prompt]) -> list[tuple[int, list[Prompt]]]:
    """Split prompts into runs in which each occurs once, so that a repeated prompt gets other random draws."""
    runs: list[tuple[int, list[Prompt]]] = []
    draws: dict[str, int] = {}
    for prompt in prompts:
        draw = draws.get(prompt.id, 0)
        draws[prompt.id] = draw + 1
        if not runs or runs[-1][0] != draw:
            runs.append((draw, []))
        runs[-1][1].append(prompt)
    return runs


def _paired(prompts: Sequence[Prompt], responses: Sequence[T]) -> list[tuple[Prompt, T]]:
    if len(prompts) != len(responses):
        raise UserError(
            f"{len(prompts)} prompts and {len(responses)} responses",
            where="responses",
            fix="give one response, or one list of responses, for each prompt",
        )
    return list(zip(prompts, responses, strict=True))
