"""Define the base model of all configurations, common value ranges, and where rows come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Task = Literal["sft", "preference", "prompt_only", "classifier", "unpaired_preference"]
"""classifier: responses of two labels. unpaired_preference: responses labelled good or bad, for the loss kto."""
MAX_NUMBER = 1e9
"""Limit of multipliers, distances and times. The square of a larger number is too large to add to in float32."""
NonNegative = Annotated[float, Field(ge=0, le=MAX_NUMBER)]
Positive = Annotated[float, Field(gt=0, le=MAX_NUMBER)]
Signed = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Rate = Annotated[float, Field(gt=0, le=10)]
"""A learning rate. An Adam step changes every weight by about this much: far above 1, weights become noise."""
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]
"""Logits are divided by it: below or above these limits, their differences are lost to rounding."""
PositiveInt = Annotated[int, Field(gt=0, le=10**9)]
"""A count. The limit is far above any use; it turns a typo into an error instead of running out of memory."""
Count = Annotated[int, Field(ge=0, le=10**9)]
Size = Annotated[int, Field(gt=0, le=10**6)]
"""A number of rows or tokens in memory at one time, or of passes over them."""
Rank = Annotated[int, Field(gt=0, le=2**16)]
"""The rank of an adapter. No layer of a known model is wider, and a rank above the width has no effect."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Fraction = Annotated[float, Field(ge=0, le=1)]
DEFAULT_PROMPT_WORDS = 8
"""Words of a labelled text that are its prompt if the data sets neither `prompt_words` nor `prompt_tokens`."""


class Strict(BaseModel):
    """A frozen model that rejects unknown keys and infinite numbers, and converts nothing but int to float."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class DataConfig(Strict):
    """Source of the rows and limits on their length."""

    path: str
    """A JSONL(.gz) or parquet file, a hub data set, or `demo:preferences`, `demo:prompts`, `demo:heldout`,
    `demo:sycophancy_train`."""
    format: Literal["raw"] = "raw"
    """Raw rows, rendered with the model's chat template when training starts."""
    task: Task | None = None
    """Task that rows are used for. Default: that of the training type."""
    layout: str = "auto"
    """The row layout (`harken data --layouts` lists them); `auto` detects it from the first rows."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names of the file's columns: `{prompt: question, chosen: good, rejected: bad}`.

    `outer.inner` reads a field of an object.
    """
    label_scale: Literal[
        "auto", "zero_first", "one_first", "probability_first", "one_two", "negative_first", "positive_first",
        "low_first", "high_first",
    ] = "auto"  # fmt: skip
    """Meaning of numeric labels of two responses (docs/input.md); `auto` detects it from all rows, or refuses."""
    raters: Literal["majority", "weighted", "dawid_skene"] | None = None
    """How the votes of several raters become one label (docs/people.md): `majority`, a hard label; `weighted`, the
    weighted share of votes; `dawid_skene`, the posterior of a model that estimates each rater's errors. Rows that are
    single votes on one pair are merged. Default: the label of the row, else the majority."""
    rater_weights: dict[str, NonNegative] | Literal["gold"] | None = None
    """With `raters: weighted`: weights by name or group of a rater, 1 for others; or `gold`, the log-odds of being
    right on rows with a column `gold`. Default: the weights in the rows (`rater_weight`, or `weight` of each vote)."""
    criteria: dict[str, NonNegative] | None = None
    """Weights of criteria, such as {usefulness: 2, clarity: 1}: the score of an annotation is their weighted mean."""
    split: str = "train"
    """The split of a hub data set, or of a folder that has several."""
    positive_label: bool | Annotated[int, Field(ge=-(10**9), le=10**9)] | str | None = None
    """For rows with a text and a label: the label whose texts are the better ones. Default: judged from all labels
    (pos and neg, 1 and 0, true and false, or the names that the data set declares), or refused. For a classifier: the
    label whose probability the score is the log-odds of; words such as honest and faulty need no key, 0 and 1 do."""
    prompt_tokens: PositiveInt | None = None
    """For rows with a text and a label: the tokens at the beginning of a text that are the prompt (docs/input.md)."""
    prompt_tokenizer: str | None = None
    """The model whose tokenizer counts `prompt_tokens`: the policy in every stage, so all read the same prompts."""
    prompt_words: PositiveInt | None = None
    """Words instead of tokens, which need no tokenizer. Without `prompt_tokens` the default is 8."""
    prompt_column: str | None = None
    """With `prompt_only`: use this column as the prompt and ignore all others."""
    max_length: PositiveInt = 1024
    """Tokens of prompt + response (for PPO: of the prompt). Prompts lose old turns; responses are never truncated."""
    keep_special_tokens: bool | list[str] | None = None
    """Special tokens of the model that may occur in responses as one token: a list, or true for all except the chat
    template's. Default: as recorded in the model's folder, else none. Others get a space inserted."""
    limit: PositiveInt | None = None
    """Use only this many rows, chosen by the seed: training rows, and (without `eval_limit`) held-out rows."""
    balance: Literal["domain", "language"] | None = None
    """Train on equally many rows of each domain or language, chosen by the seed: as many as the smallest has, and with
    `limit` its share. Held-out rows stay as they are."""
    eval_path: str | None = None
    """Held-out rows, in the same layout."""
    eval_split: str | None = None
    """The split of the held-out rows, in `eval_path` or else in `path`: `validation` holds that split out."""
    eval_fraction: Fraction = 0.0
    """Hold out this share of the prompts; not together with `eval_path` or `eval_split`."""
    eval_limit: PositiveInt | None = None
    """Use only this many held-out rows."""

    @model_validator(mode="after")
    def _one_prompt_rule(self) -> DataConfig:
        if self.prompt_tokens is not None and self.prompt_words is not None:
            raise ValueError(
                "prompt_tokens and prompt_words both say where a prompt ends. Fix: remove one of them (set it to null)"
            )
        if self.prompt_tokens is not None and self.prompt_tokenizer is None:
            raise ValueError(
                "prompt_tokens needs the tokenizer that counts them. Fix: set prompt_tokenizer to the policy's name "
                '(in a pipeline "@model"), or write prompt_words'
            )
        if self.prompt_tokenizer is not None and self.prompt_tokens is None:
            raise ValueError("prompt_tokenizer counts prompt_tokens. Fix: set prompt_tokens, or remove it")
        return self

    @model_validator(mode="after")
    def _weights_are_used(self) -> DataConfig:
        if self.rater_weights is not None and self.raters != "weighted":
            raise ValueError(
                "rater_weights weights votes. Fix: set raters to weighted, or remove rater_weights"
            )
        return self

    @model_validator(mode="after")
    def _a_criterion_counts(self) -> DataConfig:
        if self.criteria is not None and sum(self.criteria.values()) <= 0:
            raise ValueError("no criterion has a weight above 0. Fix: give one a weight, or remove criteria")
        return self

    @model_validator(mode="after")
    def _held_out_rows_are_others(self) -> DataConfig:
        sources = [key for key in ("eval_path", "eval_split") if getattr(self, key) is not None]
        if sources and self.eval_fraction > 0:
            raise ValueError(
                f"{sources[0]} and eval_fraction both define the held-out rows. Fix: remove one of them, "
                f"or set eval_fraction to 0"
            )
        if self.eval_path in (None, self.path) and self.eval_split == self.split:
            raise ValueError(f"eval_split {self.eval_split} is the training split. Fix: name another")
        return self
