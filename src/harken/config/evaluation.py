"""Define the configuration of an evaluation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from harken.config.audit import AuditSettings
from harken.config.base import Count, DataConfig, NonNegative, Seed, Size, Strict
from harken.config.rewards import PartName, RewardPart, check_judges, expand_rule_names, serialise_judges
from harken.config.run import WeightDtypeName

FILE_ENDINGS = (".jsonl", ".json", ".ndjson", ".parquet", ".arrow", ".csv", ".tsv")
COMPRESSED_ENDINGS = ("", ".gz", ".xz", ".bz2", ".zst")


class EvaluatedPolicy(Strict):
    """A model that generates responses, or a file of responses that another system generated."""

    model_name: str | None = Field(default=None, min_length=1)
    """Anything a run's `model_name` accepts, or a checkpoint: `outputs/03_ppo/checkpoints/step-000040`."""
    best_of: Annotated[int, Field(ge=2, le=1024)] | None = None
    """Generate this many responses and keep the one that the first scorer prefers."""
    temperature: NonNegative | None = None
    """Default: the evaluation's, or 1.0 with `best_of`."""
    responses: str | None = Field(default=None, min_length=1)
    """JSONL, JSON, parquet or CSV, with a response and its prompt or prompt_id in every row (docs/evaluation.md)."""
    generator: str | None = None
    """For a file with several systems: read the rows whose `policy`, `generator` or `model` column has this value."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names of the file's columns: `{response: text, prompt: question}`."""

    @model_validator(mode="after")
    def _one_source(self) -> EvaluatedPolicy:
        if (self.model_name is None) == (self.responses is None):
            raise ValueError("a policy is a model or a file of responses. Fix: set model_name or responses")
        if self.responses is not None and (self.best_of or self.temperature is not None):
            raise ValueError("its responses exist already. Fix: remove best_of and temperature")
        if self.model_name is not None and (self.generator is not None or self.columns):
            raise ValueError("a model has no columns. Fix: remove generator and columns")
        if self.best_of and self.temperature == 0:
            raise ValueError("greedy responses are all equal. Fix: set temperature, for example 1.0")
        return self


class ColumnPart(Strict):
    """Scores in a column of the response files."""

    type: Literal["column"]
    path: str = Field(min_length=1)
    """The column of numbers."""
    name: PartName | None = None
    """Default: the column's name."""

    @property
    def weight(self) -> float:
        """Return 1: scorers are not summed."""
        return 1.0

    @property
    def column(self) -> str:
        """The name of its scores."""
        return self.name or "".join(c if c.isalnum() else "_" for c in self.path)


def names_response_file(path: str) -> bool:
    """Return whether a policy is a file of responses, by the ending of its name."""
    endings = tuple(end + compressed for end in FILE_ENDINGS for compressed in COMPRESSED_ENDINGS)
    return path.lower().endswith(endings)


def _expand_policy(policy: object) -> object:
    if not isinstance(policy, str):
        return policy
    return {"responses": policy} if names_response_file(policy) else {"model_name": policy}


def _serialise_policy(policy: EvaluatedPolicy) -> Any:
    """Serialise a policy that has only a name as that name, as users write it."""
    fields = policy.model_dump(exclude_defaults=True)
    (name, *other_values) = fields.values()
    return name if not other_values and _expand_policy(name) == fields else fields


PolicyEntry = Annotated[
    EvaluatedPolicy, BeforeValidator(_expand_policy), PlainSerializer(_serialise_policy, when_used="always")
]
ScorerList = Annotated[
    list[Annotated[RewardPart | ColumnPart, Field(discriminator="type")]],
    BeforeValidator(expand_rule_names),
    AfterValidator(check_judges),
    PlainSerializer(serialise_judges, when_used="always"),
]
"""Any reward source, a rule's name, or a column of the response files."""


class EvaluationConfig(Strict):
    """N policies respond to the same held-out prompts, and scorers judge all responses."""

    policies: dict[str, PolicyEntry] = Field(min_length=1)
    """Name → model (anything `model_name` accepts), checkpoint, or file of responses. The first is the baseline."""
    reward_model: str | None = None
    """The run folder of the reward model whose score is the reward. Default: the score of the first of `judges`."""
    judges: ScorerList = Field(default_factory=list)
    """Further scorers: any entry that `training.rewards` accepts, the name of a rule, or a column of the response
    files (`{type: column, path: reward}`). The verdict reports the first."""
    data: DataConfig | None = None
    """The prompts. Default: those of the response files."""
    leave_out: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """Files of rows whose prompts became training data, such as exported pairs of a review: they are not evaluated."""
    samples: Size | None = None
    """Responses per prompt. Default: 1, or as many as all response files have."""
    max_gen_len: Size = 64
    temperature: NonNegative = 0.0
    """0: greedy decoding."""
    budgets: list[Size] = Field(default_factory=list)
    """Also compare the same responses truncated at each of these numbers of tokens, below `max_gen_len`."""
    slices: list[str] = Field(default_factory=list)
    """Columns of the prompts' rows: results are also given for each of their values, as for domain and language."""
    cluster_by: str | None = None
    """A column of the prompts' rows that labels clusters of prompts: only different clusters are independent."""
    tie_epsilon: NonNegative = 0.0
    """Rewards that differ by at most this are a tie."""
    batch_sensitivity: Count = 0
    """Generate and score the responses to this many prompts again, one at a time, and report the differences."""
    audit: AuditSettings = AuditSettings()
    output_dir: str | None = None
    seed: Seed = 839
    device: str = "auto"
    dtype: WeightDtypeName = "bfloat16"

    @model_validator(mode="after")
    def _consistent(self) -> EvaluationConfig:
        data, generated = self.data, [p for p in self.policies.values() if p.model_name is not None]
        if data and (data.eval_path or data.eval_split or data.eval_fraction or data.eval_limit):
            raise ValueError(
                "an evaluation reads data.path and data.split; the keys eval_* are for training. "
                "Fix: remove eval_path, eval_split, eval_fraction and eval_limit"
            )
        if data is None and len(generated) == len(self.policies):
            raise ValueError("there are no prompts to respond to. Fix: set data.path")
        if (self.samples or 1) > 1 and any(self.temperature_of(p) == 0 for p in generated):
            raise ValueError(
                "greedy responses to one prompt are all equal. Fix: set temperature, for example 1.0"
            )
        if over := [budget for budget in self.budgets if budget >= self.max_gen_len]:
            raise ValueError(
                f"budget {over[0]} does not truncate responses of at most {self.max_gen_len} tokens. "
                "Fix: raise max_gen_len to the largest budget, and list the smaller ones"
            )
        if self.budgets and len(generated) < len(self.policies):
            raise ValueError("responses of files have no tokens to truncate. Fix: remove budgets")
        return self

    @property
    def prompt_data(self) -> DataConfig:
        """Return how prompts are encoded; the defaults where they come from response files."""
        return self.data or DataConfig(path="the response files")

    @property
    def kept_columns(self) -> list[str]:
        """Return the columns of the prompts' rows that the table of responses has."""
        return list(dict.fromkeys([*self.slices, *([self.cluster_by] if self.cluster_by else [])]))

    def temperature_of(self, policy: EvaluatedPolicy) -> float:
        """Return the temperature that a policy samples at."""
        if policy.temperature is not None:
            return policy.temperature
        return self.temperature or 1.0 if policy.best_of else self.temperature
