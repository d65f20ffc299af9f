"""Define judges that compare two responses, and the settings that every use of a judge has."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from harken.config.base import Fraction, NonNegative, Positive, Seed, Size, Strict
from harken.config.rewards import PartName, PythonPart
from harken.config.run import WeightDtypeName

LOOPBACK_HOST = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")
JUDGE_RUBRIC = (
    "The better response is the one that is more helpful, more correct and more honest. Its length, its layout and its "
    "place do not matter."
)
"""What `better` means in the prompt of a judge that is a language model, unless `rubric` says otherwise."""


def _check_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"{text!r} is not the address of an endpoint. Fix: write for example http://127.0.0.1:8000/v1"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "an address with a user, a password, a query or a fragment would be written into files. Fix: remove it, "
            "and name the environment variable of the key as api_key_env"
        )
    return text.rstrip("/")


def _check_environment_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError(
            "expected the name of an environment variable, not a key. Fix: write for example OPENAI_API_KEY, and set "
            "that variable in the shell"
        )
    return text


class EndpointSettings(Strict):
    """An OpenAI-compatible chat endpoint: vLLM, llama.cpp, Ollama, or a hosted one."""

    url: Annotated[str, AfterValidator(_check_url)]
    """The address before /chat/completions, for example http://127.0.0.1:8000/v1."""
    model: str = Field(min_length=1)
    """The model's name at the endpoint."""
    api_key_env: Annotated[str, AfterValidator(_check_environment_name)] | None = None
    """The environment variable that holds the key. The key itself is written nowhere."""
    allow_http: bool = False
    """Allow http to another machine: prompts, responses and the key then cross the network unencrypted."""
    accept_models: list[str] = Field(default_factory=list)
    """Names that the endpoint may give its model in a reply, besides `model` and names that begin with it."""
    timeout_s: Annotated[Positive, Field(le=3600)] = 60.0
    """Seconds that one request may take."""
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    """Further requests after a failed one: a busy or failing endpoint, a timeout, an unreadable reply."""
    backoff_s: NonNegative = 1.0
    """Seconds before the first retry; they double with each one. `Retry-After` of the endpoint replaces them."""
    max_wait_s: NonNegative = 60.0
    """Longest wait before a retry."""
    requests_per_minute: Positive | None = None
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    """Requests at one time."""
    price_in: NonNegative | None = None
    """Price of a million prompt tokens, for the printed cost."""
    price_out: NonNegative | None = None
    """Price of a million response tokens."""

    @model_validator(mode="after")
    def _encrypted(self) -> EndpointSettings:
        parts = urlsplit(self.url)
        if (
            parts.scheme == "http"
            and not LOOPBACK_HOST.fullmatch(parts.hostname or "")
            and not self.allow_http
        ):
            raise ValueError(
                f"http to {parts.hostname} is not encrypted. Fix: write https, or set allow_http: true for a machine "
                "of your own network"
            )
        return self


class EndpointJudge(EndpointSettings):
    """A language model at an endpoint, asked for one letter."""

    type: Literal["endpoint"]
    rubric: str = Field(default=JUDGE_RUBRIC, min_length=1)
    """What makes a response better: part of the prompt."""
    reply: Literal["letter", "json"] = "letter"
    """`json` asks for {"better": "A"} with a schema, for endpoints that constrain their output."""
    logprobs: bool = True
    """With `reply: letter`: ask for the log-probabilities of the letters. Where the endpoint gives none, the letter
    alone counts."""
    min_letter_mass: Fraction = 0.5
    """Least probability of the two letters together for a verdict."""
    max_tokens: Size = 16
    """Tokens of a reply. A model that reasons first needs more."""
    max_chars: Size = 40_000
    """Longest prompt in characters; longer pairs are not asked, and counted."""
    name: PartName | None = None
    """Default: `endpoint`."""

    @property
    def column(self) -> str:
        """The judge's name."""
        return self.name or "endpoint"


class LocalJudge(Strict):
    """A local language model: the log-odds of the letters A and B at the position of the reply."""

    type: Literal["local"]
    model_name: str = Field(min_length=1)
    """Anything a run's `model_name` accepts."""
    rubric: str = Field(default=JUDGE_RUBRIC, min_length=1)
    max_length: Size = 4096
    """Tokens of the judge's prompt; longer pairs are not asked, and counted."""
    name: PartName | None = None
    """Default: `local`."""

    @property
    def column(self) -> str:
        """The judge's name."""
        return self.name or "local"


class RewardModelJudge(Strict):
    """A reward model that Harken trained: the response with the higher reward is better."""

    type: Literal["reward_model"]
    checkpoint_path: str = Field(min_length=1)
    temperature: Positive = 1.0
    """The probability of a preference is the logistic function of the difference of scores divided by it."""
    name: PartName | None = None
    """Default: `reward_model`."""

    @property
    def column(self) -> str:
        """The judge's name."""
        return self.name or "reward_model"


class RuleJudge(Strict):
    """A rule that ships with Harken, such as `intact`."""

    type: Literal["rule"]
    rule: PartName
    temperature: Positive = 1.0
    name: PartName | None = None
    """Default: the rule's name."""

    @property
    def column(self) -> str:
        """The judge's name."""
        return self.name or self.rule


class PythonJudge(Strict):
    """A Python function that scores one response, as a reward does (docs/rewards.md)."""

    type: Literal["python"]
    path: Annotated[str, AfterValidator(lambda text: PythonPart(type="python", path=text).path)]
    """`file.py:function`. The code is executed: use only files you trust."""
    temperature: Positive = 1.0
    timeout_s: Annotated[Positive, Field(le=86_400)] | None = None
    name: PartName | None = None
    """Default: the function's name."""

    @property
    def column(self) -> str:
        """The judge's name."""
        return self.name or self.path.rpartition(":")[2]


JudgeConfig = Annotated[
    EndpointJudge | LocalJudge | RewardModelJudge | RuleJudge | PythonJudge, Field(discriminator="type")
]


class JudgingConfig(Strict):
    """What every use of a judge has: the judge, and the canaries among its pairs."""

    judge: JudgeConfig
    batch: Size = 50
    """Pairs that share one set of canaries."""
    canaries: bool = True
    """Put canaries into every batch: an empty response, one that begs for the vote, one that repeats the prompt, and
    a wrong response to a question with a known one."""
    max_canary_wins: Fraction = 0.02
    """Share of a batch's canary comparisons that the canary may win; above it the batch is void. 1: never void."""
    seed: Seed = 839
    device: str = "auto"
    dtype: WeightDtypeName = "bfloat16"
    output_dir: str | None = None
