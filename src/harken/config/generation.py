"""Define the configurations of generated data: generate responses, score them, make pairs from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from harken.config.base import DataConfig, NonNegative, Positive, Seed, Signed, Size, Strict
from harken.config.evaluation import ScorerList
from harken.config.run import WeightDtypeName


class GeneratingPolicy(Strict):
    """A model that generates responses."""

    model_name: str = Field(min_length=1)
    """Anything a run's `model_name` accepts, or a checkpoint: `outputs/03_ppo/checkpoints/step-000040`."""
    temperature: NonNegative | None = None
    """Default: that of all policies."""


def _expand_model(policy: object) -> object:
    return {"model_name": policy} if isinstance(policy, str) else policy


def _serialise_model(policy: GeneratingPolicy) -> Any:
    """Serialise a policy that has only a name as that name, as users write it."""
    return policy.model_name if policy.temperature is None else policy.model_dump()


class GenerationConfig(Strict):
    """Policies respond to prompts, several times each."""

    type: Literal["generate"] = "generate"
    policies: dict[
        str,
        Annotated[
            GeneratingPolicy,
            BeforeValidator(_expand_model),
            PlainSerializer(_serialise_model, when_used="always"),
        ],
    ] = Field(min_length=1)
    """Name → model. Each responds to every prompt; the name is the column `policy` of its rows."""
    data: DataConfig
    """The prompts."""
    samples: Size = 4
    """Responses per prompt and policy."""
    max_gen_len: Size = 64
    """Tokens per response."""
    temperature: NonNegative = 1.0
    """0: greedy decoding."""
    keep: list[str] = Field(default_factory=list)
    """Columns of the prompts' rows that become columns of the responses."""
    output_dir: str | None = None
    seed: Seed = 839
    device: str = "auto"
    dtype: WeightDtypeName = "bfloat16"

    @model_validator(mode="after")
    def _consistent(self) -> GenerationConfig:
        data = self.data
        if data.eval_path or data.eval_split or data.eval_fraction or data.eval_limit:
            raise ValueError(
                "prompts are read from data.path and data.split; the keys eval_* are for training. "
                "Fix: remove eval_path, eval_split, eval_fraction and eval_limit"
            )
        if self.samples > 1 and any(self.temperature_of(p) == 0 for p in self.policies.values()):
            raise ValueError(
                "greedy responses to one prompt are all equal. Fix: set temperature, for example 1.0, or samples: 1"
            )
        return self

    @property
    def prompt_data(self) -> DataConfig:
        """Return how prompts are encoded."""
        return self.data

    def temperature_of(self, policy: GeneratingPolicy) -> float:
        """Return the temperature that a policy samples at."""
        return self.temperature if policy.temperature is None else policy.temperature


class ScoringConfig(Strict):
    """Scorers judge responses that exist already; each adds the column `score_<name>`."""

    type: Literal["score"] = "score"
    responses: str = Field(min_length=1)
    """The folder of generated or scored responses or of an evaluation, or a file of responses (docs/evaluation.md)."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names of the file's columns: `{response: text, prompt: question}`."""
    data: DataConfig | None = None
    """The prompts, where the responses have only their ids. Default: those of the responses."""
    reward_model: str | None = None
    """The run folder of the reward model that is the primary scorer. Default: the first of `judges`."""
    judges: ScorerList = Field(default_factory=list)
    """Further scorers: any entry that `training.rewards` accepts, the name of a rule, or a column of the responses
    (`{type: column, path: length}`)."""
    output_dir: str | None = None
    seed: Seed = 839
    """Chooses the prompts under `data.limit`."""
    device: str = "auto"
    dtype: WeightDtypeName = "bfloat16"

    @model_validator(mode="after")
    def _has_scorer(self) -> ScoringConfig:
        if self.reward_model is None and not self.judges:
            raise ValueError("there is no scorer. Fix: set reward_model, or list one in judges")
        return self


class PairsConfig(Strict):
    """Make preference pairs, or demonstrations, of scored responses to the same prompts."""

    type: Literal["pairs"] = "pairs"
    responses: str = Field(min_length=1)
    """The folder of scored responses or of an evaluation, or a file of responses with a column of scores."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names of the file's columns: `{response: text, prompt: question}`."""
    score: str = "reward"
    """The column of scores: `reward` is the primary scorer's, `score_<name>` that of another one."""
    how: Literal["best-worst", "all", "margin", "threshold", "best"] = "best-worst"
    """Which responses to one prompt become pairs (docs/generated_data.md); `best`: demonstrations, not pairs."""
    margin: Positive | None = None
    """With `how: margin`: the smallest difference of scores of a pair."""
    threshold: Signed | None = None
    """With `how: threshold`: chosen responses score at least this, rejected ones less. With `how: best`: prompts whose
    best response scores less give no demonstration."""
    ties: Literal["drop", "keep"] = "drop"
    """Keep ties as pairs of strength 0, which training reads with label 1/2; or drop them."""
    tie_epsilon: NonNegative = 0.0
    """Scores that differ by at most this are a tie."""
    strength: Literal["one", "difference"] = "one"
    """The strength of a pair that is not a tie: 1, or the difference of its scores."""
    truncated: Literal["keep", "drop"] = "keep"
    """Whether responses that were truncated at the token limit take part."""
    output_dir: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> PairsConfig:
        if (self.how == "margin") != (self.margin is not None):
            raise ValueError(
                "how: margin and the key margin belong together. Fix: set both, or remove margin"
            )
        if self.how == "threshold" and self.threshold is None:
            raise ValueError("how: threshold needs a score. Fix: set threshold")
        if self.threshold is not None and self.how not in ("threshold", "best"):
            raise ValueError(f"threshold is not read with how: {self.how}. Fix: remove it")
        if self.margin is not None and self.margin <= self.tie_epsilon:
            raise ValueError("scores that differ by the margin would be ties. Fix: lower tie_epsilon")
        if self.how == "best" and (self.ties == "keep" or self.strength != "one" or self.tie_epsilon):
            raise ValueError(
                "demonstrations have no ties and no strength. Fix: remove ties, tie_epsilon and strength"
            )
        return self
