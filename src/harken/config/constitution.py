"""Define the constitutional recipe: a model criticises and revises its own responses by written principles."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from harken.config.base import DataConfig, NonNegative, Seed, Size, Strict
from harken.config.judge import EndpointSettings
from harken.config.run import WeightDtypeName


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("there is nothing but white space in it. Fix: write a sentence")
    return text.strip()


def _check_names(principles: list[Principle]) -> list[Principle]:
    names = [principle.name for principle in principles]
    if double := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two principles are called {double[0]!r}. Fix: rename one of them")
    return principles


PrincipleText = Annotated[str, AfterValidator(_check_text)]


class LocalWriter(Strict):
    """A local policy that writes responses, critiques and revisions."""

    type: Literal["local"]
    model_name: str = Field(min_length=1)
    """Anything a run's `model_name` accepts."""


class EndpointWriter(EndpointSettings):
    """A model at a chat endpoint that writes responses, critiques and revisions."""

    type: Literal["endpoint"]


class Principle(Strict):
    """One principle: what a critique looks for, and what a revision changes."""

    name: PrincipleText = Field(max_length=80)
    critique: PrincipleText
    revision: PrincipleText


class Principles(Strict):
    """The principles of a file."""

    principles: Annotated[list[Principle], Field(min_length=1), AfterValidator(_check_names)]


class ConstitutionConfig(Strict):
    """Responses of a model, its critiques of them by principles, and its revisions."""

    type: Literal["constitution"] = "constitution"
    writer: Annotated[LocalWriter | EndpointWriter, Field(discriminator="type")]
    data: DataConfig
    """The prompts."""
    principles: str = Field(min_length=1)
    """A YAML file of principles (examples/principles.yml)."""
    rounds: Annotated[int, Field(ge=1, le=8)] = 1
    """Critiques and revisions of each response, each by a principle that the seed chooses."""
    max_gen_len: Size = 128
    """Tokens of a response, a critique or a revision."""
    temperature: NonNegative = 0.7
    gives: Literal["pairs", "demonstrations"] = "pairs"
    """Of a stage: whether `@name` is the pairs or the demonstrations; both are written."""
    output_dir: str | None = None
    seed: Seed = 839
    device: str = "auto"
    dtype: WeightDtypeName = "bfloat16"

    @property
    def prompt_data(self) -> DataConfig:
        """Return how conversations are encoded."""
        return self.data
