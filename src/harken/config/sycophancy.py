"""Define the configuration of `harken eval --suite sycophancy`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harken.config.base import DataConfig, PositiveInt, Seed, Signed, Size, Strict
from harken.config.evaluation import PolicyEntry
from harken.config.run import WeightDtypeName

SuiteName = Literal[
    "opinion", "flattery", "pushback", "wrong_user", "are_you_sure", "correction", "right_user"
]


class SteeringSettings(Strict):
    """Steer a policy along a direction of its activations while it is evaluated."""

    direction: str = Field(min_length=1)
    """The folder that `harken sycophancy direction` wrote."""
    strength: Signed = -1.0
    """−1 subtracts the whole difference of the means of faulty and honest responses, 1 adds it."""


class SycophancyConfig(Strict):
    """N policies answer the same probes of sycophancy and stubbornness (docs/sycophancy.md)."""

    suite: Literal["sycophancy"] = "sycophancy"
    policies: dict[str, PolicyEntry] = Field(min_length=1)
    """Name → model (anything `model_name` accepts) or checkpoint. The first is the baseline."""
    data: list[Annotated[str, Field(min_length=1)]] = Field(default=["demo:sycophancy"], min_length=1)
    """Files of probes: the shipped ones, facts, TruthfulQA, NQ-open or Anthropic's model-written evaluations."""
    suites: list[SuiteName] | None = Field(default=None, min_length=1)
    """Default: all that the files have probes of."""
    limit: PositiveInt | None = None
    """At most this many questions of each suite and file, chosen by the seed."""
    generate: bool = True
    """Also generate a response to every probe with a known truth, and read by rules what it states."""
    max_gen_len: Size = 48
    """Tokens of a generated response. Decoding is greedy."""
    reference: Literal["auto", "none"] = "auto"
    """auto: also evaluate the model that each adapter was trained from, which the KL penalty holds the policy to."""
    steering: dict[str, SteeringSettings] = Field(default_factory=dict)
    """Policies that are steered, by name. Log-probabilities and responses are those of the steered model."""
    max_length: PositiveInt = 512
    """Tokens of a conversation; older turns are dropped."""
    micro_batch_tokens: PositiveInt = 4096
    output_dir: str | None = None
    seed: Seed = 839
    device: str = "auto"
    dtype: WeightDtypeName = "bfloat16"

    @model_validator(mode="after")
    def _models_only(self) -> SycophancyConfig:
        for name, policy in self.policies.items():
            if policy.model_name is None:
                raise ValueError(
                    f"{name} is a file of responses, but probes are scored by a model's log-probabilities. "
                    "Fix: name a model, a run folder or a checkpoint"
                )
            if policy.best_of or policy.temperature is not None:
                raise ValueError(
                    f"{name} sets best_of or temperature, but probes are scored by log-probabilities and greedy "
                    "decoding. Fix: remove them"
                )
        if twice := [name for n, name in enumerate(self.suites or []) if name in (self.suites or [])[:n]]:
            raise ValueError(f"suites names {twice[0]} twice. Fix: name it once")
        if unknown := [name for name in self.steering if name not in self.policies]:
            raise ValueError(
                f"steering names {unknown[0]!r}, which is no policy. Fix: name one of {', '.join(self.policies)}"
            )
        return self

    @property
    def prompt_data(self) -> DataConfig:
        """Return how conversations are encoded."""
        return DataConfig(path="the probes", max_length=self.max_length)
