"""Write replies to conversations by a local policy or by a chat endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

from harken.config.constitution import ConstitutionConfig, EndpointWriter, LocalWriter
from harken.data.parse import content_hash
from harken.errors import RunFailed
from harken.evaluation.responses import load_engine
from harken.judging.endpoint import ChatEndpoint, reply_text
from harken.judging.http import RequestFailed
from harken.models.resolve import require_use, resolve
from harken.models.roles import lineage_fingerprint
from harken.records import Message, Prompt
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine
from harken.run.terminal import say


class Writer(Protocol):
    """Reply to conversations."""

    @property
    def identity(self) -> dict[str, Any]:
        """Return the inputs of its replies as JSON."""
        ...

    def write(self, conversations: Sequence[Sequence[Message]], purpose: str) -> list[str]:
        """Return a reply to each conversation, "" without one."""
        ...


class LocalPolicyWriter:
    """Sample replies of a local policy. A reply depends only on weights, seed, purpose and conversation."""

    def __init__(self, config: ConstitutionConfig, writer: LocalWriter) -> None:
        self._config, self._source = config, require_use(resolve(writer.model_name), "policy")
        say(f"writer: {self._source.describe()}")

    @property
    def identity(self) -> dict[str, Any]:
        """Return the model's name and fingerprint."""
        return {"type": "local", "model": self._source.name, "fingerprint": lineage_fingerprint(self._source)}

    @cached_property
    def _engine(self) -> InProcessEngine:
        return load_engine(self._source, self._config)

    def write(self, conversations: Sequence[Sequence[Message]], purpose: str) -> list[str]:
        """Return a sampled reply to each conversation."""
        prompts = [Prompt(content_hash(tuple(turns)), tuple(turns)) for turns in conversations]
        sampling = Sampling(self._config.max_gen_len, self._config.temperature, self._config.seed)
        return [rollout.text for rollout in self._engine.generate(prompts, sampling, "writer", purpose)]


class ChatEndpointWriter:
    """Ask a chat endpoint for replies."""

    def __init__(self, config: ConstitutionConfig, writer: EndpointWriter) -> None:
        self._config, self._endpoint = config, ChatEndpoint(writer)

    @property
    def identity(self) -> dict[str, Any]:
        """Return address and model."""
        settings = self._endpoint.settings
        return {"type": "endpoint", "url": settings.url, "model": settings.model}

    def write(self, conversations: Sequence[Sequence[Message]], purpose: str) -> list[str]:
        """Return a reply to each conversation. Raises RunFailed when the endpoint does not reply."""
        return self._endpoint.map(self._reply, list(conversations))

    def _reply(self, turns: Sequence[Message]) -> str:
        settings = self._endpoint.settings
        request = {"temperature": self._config.temperature, "max_tokens": self._config.max_gen_len, "n": 1}
        try:
            reply = self._endpoint.complete(turns, request)
        except RequestFailed as failure:
            raise RunFailed(
                f"a request failed: {failure.problem}",
                where=settings.url,
                fix="run the same command again: the steps so far are kept",
            ) from None
        _, problem = self._endpoint.model_problem(reply)
        if problem is not None:
            raise RunFailed(
                problem, where=settings.url, fix="name that model in accept_models if it is right"
            )
        return reply_text(reply)[0]


def load_writer(config: ConstitutionConfig) -> Writer:
    """Find the writer of a configuration. Weights are loaded when they are first needed."""
    if isinstance(config.writer, EndpointWriter):
        return ChatEndpointWriter(config, config.writer)
    return LocalPolicyWriter(config, config.writer)
