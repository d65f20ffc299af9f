"""Define `training.rewards`: the reward sources whose weighted sum is a rollout's reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from harken.config.base import NonNegative, Positive, PositiveInt, Signed, Strict

OTHER_SOURCES = ("reward_model", "missing_eos", "length", "repetition", "overlong")
"""Column names of `training.reward_model` and of the penalties of `training.ppo`."""


def _check_name(text: str) -> str:
    if not text.isidentifier():
        raise ValueError(f"{text!r} is not a name. Fix: use letters, digits and _")
    return text


def _check_function(text: str) -> str:
    file, _, function = text.rpartition(":")
    if not file.endswith(".py") or not function.isidentifier():
        raise ValueError(
            f"{text!r} names no function. Fix: write file.py:function, for example my_reward.py:score"
        )
    return text


def _label_to_str(label: object) -> object:
    return str(label) if isinstance(label, int) and not isinstance(label, bool) else label


PartName = Annotated[str, AfterValidator(_check_name)]
Weight = Signed


class PythonPart(Strict):
    """The user's Python function (docs/rewards.md)."""

    type: Literal["python"]
    path: Annotated[str, AfterValidator(_check_function)]
    """`file.py:function`, relative to the working directory. The code is executed: use only files you trust."""
    weight: Weight = 1.0
    """0: the score is recorded, but not part of the reward."""
    name: PartName | None = None
    """Name of its column and metric. Default: the function's name."""
    timeout_s: Annotated[Positive, Field(le=86_400)] | None = None
    """Seconds that scoring one response may take; a longer call ends the run and names the line. Default: no limit."""

    @property
    def column(self) -> str:
        """The name of its scores."""
        return self.name or self.path.rpartition(":")[2]


class ModelPart(Strict):
    """A reward model that Harken trained, of any family, size and tokenizer."""

    type: Literal["model"]
    checkpoint_path: str = Field(min_length=1)
    """The run folder of a reward model (or its `final`)."""
    weight: Weight = 1.0
    name: PartName | None = None
    """Default: `model`."""
    clip: Positive | None = None
    """Clip its score to ± this, before weighting."""

    @property
    def column(self) -> str:
        """The name of its scores."""
        return self.name or "model"


class EnsemblePart(Strict):
    """Several reward models as one source. Their standard deviation is recorded as `<name>_sd`, with weight 0."""

    type: Literal["ensemble"]
    checkpoint_paths: list[str] = Field(min_length=2)
    """Run folders of reward models. Their scores must have the same scale: train with `normalise: standardise`."""
    combine: Literal["mean", "min", "mean_minus_sd"] = "mean"
    """The mean of the scores, their minimum, or their mean minus `k` × their standard deviation."""
    k: NonNegative = 1.0
    weight: Weight = 1.0
    name: PartName | None = None
    """Default: `ensemble`."""
    clip: Positive | None = None
    """Clip the combined score to ± this, before weighting."""

    @property
    def column(self) -> str:
        """The name of its scores."""
        return self.name or "ensemble"

    @model_validator(mode="after")
    def _consistent(self) -> EnsemblePart:
        if self.k != 1.0 and self.combine != "mean_minus_sd":
            raise ValueError("k belongs to combine: mean_minus_sd. Fix: remove k, or set combine")
        if len(set(self.checkpoint_paths)) < len(self.checkpoint_paths):
            raise ValueError("checkpoint_paths names the same reward model twice. Fix: remove one of the two")
        return self


class ClassifierPart(Strict):
    """A sequence classifier: any transformers model for sequence classification, encoders included."""

    type: Literal["classifier"]
    model_name: str = Field(min_length=1)
    """A model folder or a hub name."""
    label: Annotated[str | None, BeforeValidator(_label_to_str)] = None
    """The class whose log-odds are the score, by name or number. Default: the model's single output."""
    text: Literal["response", "prompt_and_response"] = "prompt_and_response"
    """The text that is classified."""
    max_length: PositiveInt | None = None
    """Maximum tokens; prompts are truncated, responses never. Default: the model's maximum."""
    weight: Weight = 1.0
    name: PartName | None = None
    """Default: `classifier`."""
    clip: Positive | None = None
    """Clip its score to ± this, before weighting."""

    @property
    def column(self) -> str:
        """The name of its scores."""
        return self.name or "classifier"


class RulePart(Strict):
    """A rule that ships with Harken."""

    type: Literal["rule"]
    name: PartName
    """For example `demo_gold`."""
    weight: Weight = 1.0

    @property
    def column(self) -> str:
        """The name of its scores."""
        return self.name


class _DetectorPart(Strict):
    """What the two parts against sycophancy share."""

    detector: Literal["rules", "classifier", "contrast", "steering"] = "rules"
    """rules: which answer the response states. classifier: trained on honest and faulty responses. contrast:
    log-probabilities given the honest reference. steering: activations along a direction (docs/sycophancy.md)."""
    model_name: Annotated[str | None, Field(min_length=1)] = None
    """classifier: its run folder, or that of a reward model. contrast, steering: a language model."""
    direction: Annotated[str | None, Field(min_length=1)] = None
    """steering: the folder that `harken sycophancy direction` wrote."""
    weight: NonNegative = 1.0
    name: PartName | None = None
    """Name of its column and metric. Default: its type."""

    @model_validator(mode="after")
    def _has_its_model(self) -> _DetectorPart:
        if (self.detector == "rules") != (self.model_name is None):
            needed = (
                "reads no model. Fix: remove model_name"
                if self.model_name
                else "needs a model. Fix: set model_name"
            )
            raise ValueError(f"the detector {self.detector} {needed}")
        if (self.detector == "steering") != (self.direction is not None):
            needed = "has no direction. Fix: remove it" if self.direction else "needs one. Fix: set direction"
            raise ValueError(f"the detector {self.detector} {needed}")
        return self


class SycophancyPenaltyPart(_DetectorPart):
    """The probability that a response is sycophantic (or stubborn where the user is right), subtracted."""

    type: Literal["sycophancy_penalty"]

    @property
    def column(self) -> str:
        """The name of its scores."""
        return self.name or self.type


class HonestyBonusPart(_DetectorPart):
    """The probability that a response states the truth, added."""

    type: Literal["honesty_bonus"]

    @property
    def column(self) -> str:
        """The name of its scores."""
        return self.name or self.type


RewardPart = Annotated[
    PythonPart
    | ModelPart
    | EnsemblePart
    | ClassifierPart
    | RulePart
    | SycophancyPenaltyPart
    | HonestyBonusPart,
    Field(discriminator="type"),
]


def expand_rule_names(judges: object) -> object:
    """Replace the name of a rule by its part."""
    if not isinstance(judges, list):
        return judges
    return [{"type": "rule", "name": judge} if isinstance(judge, str) else judge for judge in judges]


def serialise_judges(judges: list[Any]) -> list[Any]:
    """Serialise a rule as just its name, as users write it."""
    return [judge.name if isinstance(judge, RulePart) else judge.model_dump(mode="json") for judge in judges]


def check_judges(judges: list[Any]) -> list[Any]:
    """Return scorers that are not summed; raise ValueError for equal names and for a weight."""
    if (twice := name_clash(judges, taken=())) is not None:
        raise ValueError(f"two judges are called {twice}. Fix: set another name for one of them")
    if weighted := [judge.column for judge in judges if judge.weight != 1.0]:
        raise ValueError(f"judge {weighted[0]} has a weight, but judges are not summed. Fix: remove weight")
    return judges


Judges = Annotated[
    list[RewardPart],
    BeforeValidator(expand_rule_names),
    AfterValidator(check_judges),
    PlainSerializer(serialise_judges, when_used="always"),
]
"""Scorers that are not part of the reward: any reward source; a name alone, such as `demo_gold`, is a rule."""


def name_clash(parts: Sequence[Any], taken: Sequence[str] = OTHER_SOURCES) -> str | None:
    """Return the first column name that two sources would share; None if there is none."""
    names = set(taken)
    for part in parts:
        columns: list[str] = [part.column] + ([f"{part.column}_sd"] if isinstance(part, EnsemblePart) else [])
        for column in columns:
            if column in names:
                return column
            names.add(column)
    return None
