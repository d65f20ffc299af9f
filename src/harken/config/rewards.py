"""The keys of `training.rewards`: the parts whose weighted sum is a rollout's reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from harken.config.base import NonNegative, Positive, PositiveInt, Signed, Strict

OTHER_SOURCES = ("reward_model", "missing_eos", "length", "repetition")
"""Names that `training.reward_model` and the penalties of `training.ppo` write under."""


def _a_name(text: str) -> str:
    if not text.isidentifier():
        raise ValueError(f"a name is made of letters, digits and _, not {text!r}")
    return text


def _a_function(text: str) -> str:
    file, _, function = text.rpartition(":")
    if not file.endswith(".py") or not function.isidentifier():
        raise ValueError(f"expected file.py:function, for example my_reward.py:score, given {text!r}")
    return text


def _as_text(label: object) -> object:
    return str(label) if isinstance(label, int) and not isinstance(label, bool) else label


PartName = Annotated[str, AfterValidator(_a_name)]
Weight = Signed


class PythonPart(Strict):
    """A Python function of the user's own: docs/rewards.md has its form."""

    type: Literal["python"]
    path: Annotated[str, AfterValidator(_a_function)]
    """`file.py:function`, from the working directory. Its code is run: name only files you trust."""
    weight: Weight = 1.0
    """0: the part is recorded, and nothing is learnt from it."""
    name: PartName | None = None
    """Of its column and metric. Left out: the function's name."""
    timeout_s: Annotated[Positive, Field(le=86_400)] | None = None
    """Seconds that scoring one answer may take; a longer call ends the run, with its line. Left out: no limit."""

    @property
    def column(self) -> str:
        """The name its scores go by."""
        return self.name or self.path.rpartition(":")[2]


class ModelPart(Strict):
    """A reward model that Harken trained, of any family, size and tokenizer."""

    type: Literal["model"]
    checkpoint_path: str = Field(min_length=1)
    """The run folder of a reward model (or its `final`)."""
    weight: Weight = 1.0
    name: PartName | None = None
    """Left out: `model`."""
    clip: Positive | None = None
    """Hold its score within ± this, before it is weighted."""

    @property
    def column(self) -> str:
        """The name its scores go by."""
        return self.name or "model"


class EnsemblePart(Strict):
    """Several reward models as one. Their spread is recorded beside it, as `<name>_sd` of weight 0."""

    type: Literal["ensemble"]
    checkpoint_paths: list[str] = Field(min_length=2)
    """Run folders of reward models, each in its own units: train them with `normalise: standardise`."""
    combine: Literal["mean", "min", "mean_minus_sd"] = "mean"
    """The members' mean, the least of them, or their mean less `k` times their spread."""
    k: NonNegative = 1.0
    weight: Weight = 1.0
    name: PartName | None = None
    """Left out: `ensemble`."""
    clip: Positive | None = None
    """Hold the combined score within ± this, before it is weighted."""

    @property
    def column(self) -> str:
        """The name its scores go by."""
        return self.name or "ensemble"

    @model_validator(mode="after")
    def _consistent(self) -> EnsemblePart:
        if self.k != 1.0 and self.combine != "mean_minus_sd":
            raise ValueError("k belongs to combine: mean_minus_sd")
        if len(set(self.checkpoint_paths)) < len(self.checkpoint_paths):
            raise ValueError("checkpoint_paths names the same reward model twice")
        return self


class ClassifierPart(Strict):
    """A sequence classifier (any transformers model for sequence classification, encoders among them)."""

    type: Literal["classifier"]
    model_name: str = Field(min_length=1)
    """A model folder or a hub name."""
    label: Annotated[str | None, BeforeValidator(_as_text)] = None
    """The class whose log-odds are the score, by name or number. Left out: the model must have a single output."""
    text: Literal["answer", "prompt_and_answer"] = "prompt_and_answer"
    """What it reads."""
    max_length: PositiveInt | None = None
    """Tokens it reads; an answer is never cut. Left out: as many as the model takes."""
    weight: Weight = 1.0
    name: PartName | None = None
    """Left out: `classifier`."""
    clip: Positive | None = None
    """Hold its score within ± this, before it is weighted."""

    @property
    def column(self) -> str:
        """The name its scores go by."""
        return self.name or "classifier"


class RulePart(Strict):
    """A judge that ships with Harken."""

    type: Literal["rule"]
    name: PartName
    """For example `demo_gold`."""
    weight: Weight = 1.0

    @property
    def column(self) -> str:
        """The name its scores go by."""
        return self.name


RewardPart = Annotated[
    PythonPart | ModelPart | EnsemblePart | ClassifierPart | RulePart, Field(discriminator="type")
]


def _rule_by_name(judges: object) -> object:
    if not isinstance(judges, list):
        return judges
    return [{"type": "rule", "name": judge} if isinstance(judge, str) else judge for judge in judges]


def _plain_judges(judges: list[RewardPart]) -> list[Any]:
    """A rule goes back to its bare name, as it was written."""
    return [judge.name if isinstance(judge, RulePart) else judge.model_dump(mode="json") for judge in judges]


def _one_name_each(judges: list[RewardPart]) -> list[RewardPart]:
    if (twice := name_clash(judges, taken=())) is not None:
        raise ValueError(f"two judges are called {twice}: give one of them another name")
    if weighted := [judge.column for judge in judges if judge.weight != 1.0]:
        raise ValueError(f"judge {weighted[0]} has a weight: judges are never summed, leave weight out")
    return judges


Judges = Annotated[
    list[RewardPart],
    BeforeValidator(_rule_by_name),
    AfterValidator(_one_name_each),
    PlainSerializer(_plain_judges, when_used="always"),
]
"""Scorers that nothing is trained on: any reward part; a bare name such as `demo_gold` means that rule."""


def name_clash(parts: Sequence[RewardPart], taken: Sequence[str] = OTHER_SOURCES) -> str | None:
    """Return the first name that would be written under twice, None when there is none."""
    names = set(taken)
    for part in parts:
        columns = [part.column] + ([f"{part.column}_sd"] if isinstance(part, EnsemblePart) else [])
        for column in columns:
            if column in names:
                return column
            names.add(column)
    return None
