"""Ask a language model behind an OpenAI-compatible chat endpoint. No torch."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from harken.config.judge import EndpointJudge, EndpointSettings
from harken.errors import RunFailed, UserError
from harken.judging.http import JsonClient, RequestFailed
from harken.judging.pair import PairVerdict, ResponsePair
from harken.judging.prompt import REPLY_SCHEMA, judge_prompt, letter_probability, prompt_hash, read_reply
from harken.records import Message
from harken.run import signals
from harken.run.terminal import say

TRANSPORT_PROBLEM = "endpoint: "
"""Prefix of problems that another attempt may solve; they are not cached for the next run."""
MAX_FAILURES = 8
"""Requests in a row that may fail, with all their retries, before the run ends."""
CONFIGURATION_FIXES = {
    401: "set the environment variable that judge.api_key_env names to a valid key",
    403: "set the environment variable that judge.api_key_env names to a key with access to the model",
    404: "check judge.url, which ends before /chat/completions, and judge.model",
    405: "check judge.url, which ends before /chat/completions",
}
POLL_S = 0.2
"""Seconds between two checks for a signal while requests are running."""
T = TypeVar("T")


class ChatEndpoint:
    """Send conversations to a chat endpoint, with retries, a rate limit and a limit on failures in a row."""

    def __init__(self, settings: EndpointSettings, sleep: Callable[[float], object] | None = None) -> None:
        """Read the key from the environment. Raises UserError where the variable is not set."""
        self.settings = settings
        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self._client = JsonClient(settings.url, read_api_key(settings.api_key_env), settings.timeout_s)
        self._rate_limiter = _RateLimiter(settings.requests_per_minute)
        self._lock, self._failures = threading.Lock(), 0
        if settings.allow_http and settings.url.startswith("http:"):
            say(f"warning: {settings.url}: prompts, responses and the key cross the network unencrypted")
        self.requests = 0
        """Requests sent, retries included."""

    def complete(self, messages: Sequence[Message], extra_fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the endpoint's reply to a conversation.

        Raises RequestFailed after the last retry, UserError where the settings are wrong (key, address, redirect), and
        RunFailed once MAX_FAILURES requests in a row failed.
        """
        body = {"model": self.settings.model, "messages": [m.to_dict() for m in messages], **extra_fields}
        try:
            reply = self._post_with_retries(body)
        except RequestFailed as failure:
            self._note_failure(failure)
            raise
        except UserError:
            self._stop.set()  # further requests would fail in the same way
            raise
        with self._lock:
            self._failures = 0
        return reply

    def map(self, ask: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        """Call `ask` for each item, `parallel` at one time; the results are in order.

        An exception or a signal ends the requests that are running.
        """
        pool = ThreadPoolExecutor(max_workers=self.settings.parallel)
        try:
            futures: list[Future[T]] = [pool.submit(ask, item) for item in items]
            for future in futures:
                while not future.done():
                    wait([future], timeout=POLL_S)
                    signals.raise_if_stopped()
            return [future.result() for future in futures]
        except BaseException:
            self._stop.set()
            self._client.abort()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def model_problem(self, reply: Mapping[str, Any]) -> tuple[str, str | None]:
        """Return the model's name in a reply, and a problem if it is not the configured one."""
        reported = reply.get("model")
        if not isinstance(reported, str) or not reported:
            return "", None
        requested = self.settings.model
        if reported.startswith(requested) or reported in self.settings.accept_models:
            return reported, None
        return reported, f"reply of another model ({reported[:80]})"

    def _post_with_retries(self, body: Mapping[str, Any]) -> dict[str, Any]:
        for attempt in range(self.settings.retries + 1):
            if self._stop.is_set():
                raise RequestFailed("the run is ending", False)
            self._rate_limiter.wait(self._sleep)
            with self._lock:
                self.requests += 1
            try:
                return self._client.post("/chat/completions", body)
            except RequestFailed as failure:
                self._raise_if_misconfigured(failure)
                if not failure.retry or attempt == self.settings.retries:
                    raise
                self._back_off(attempt, failure)
        raise AssertionError("unreachable")

    def _back_off(self, attempt: int, failure: RequestFailed) -> None:
        seconds = self.settings.backoff_s * 2**attempt * (1 + random.random() / 4)
        if failure.retry_after is not None:
            seconds = failure.retry_after
        seconds = min(seconds, self.settings.max_wait_s)
        if failure.status == 429:
            self._rate_limiter.pause(seconds)  # the limit applies to all requests
        self._sleep(seconds)

    def _raise_if_misconfigured(self, failure: RequestFailed) -> None:
        if failure.status in CONFIGURATION_FIXES:
            raise UserError(
                f"the endpoint replies {failure.problem} ({failure.detail})",
                where=self.settings.url,
                fix=CONFIGURATION_FIXES[failure.status],
            ) from None
        if 300 <= failure.status < 400:
            raise UserError(
                f"the endpoint redirects to {failure.detail or 'another address'}, which is not followed",
                where=self.settings.url,
                fix="write that address as judge.url if you trust it",
            ) from None

    def _note_failure(self, failure: RequestFailed) -> None:
        if self._stop.is_set():  # another thread has raised already
            return
        with self._lock:
            self._failures += 1
            failures = self._failures
        if failures == MAX_FAILURES:
            self._stop.set()
            raise RunFailed(
                f"{failures} requests in a row failed, the last with: {failure.problem} {failure.detail}".strip(),
                where=self.settings.url,
                fix=_fix_for(failure),
            ) from None


def _fix_for(failure: RequestFailed) -> str:
    again = "then run the same command again: the verdicts so far are kept"
    if failure.status in (400, 422):
        return f"set judge.logprobs: false or another judge.reply if the endpoint does not know them, {again}"
    return f"check that the endpoint runs, {again}"


class _RateLimiter:
    """Keep requests at least an interval apart, and pause all of them when the endpoint asks for it."""

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._next, self._lock = 0.0, threading.Lock()

    def wait(self, sleep: Callable[[float], object]) -> None:
        with self._lock:
            now = time.monotonic()
            start_at = max(self._next, now)
            self._next = start_at + self._interval
        if start_at > now:
            sleep(start_at - now)

    def pause(self, seconds: float) -> None:
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class EndpointPairJudge:
    """Compare pairs by a chat endpoint: by the log-probabilities of A and B if it returns them, else by the letter."""

    def __init__(self, config: EndpointJudge, endpoint: ChatEndpoint | None = None) -> None:
        self.config = config
        self.endpoint = endpoint or ChatEndpoint(config)
        self.batch_size = 4 * config.parallel

    @property
    def identity(self) -> dict[str, Any]:
        """Return the inputs of its verdicts, without the key."""
        keys = ("type", "url", "model", "reply", "logprobs", "min_letter_mass", "max_tokens", "max_chars")
        settings = {key: getattr(self.config, key) for key in keys}
        accepted = {"accept_models": list(self.config.accept_models)}
        return settings | accepted | {"prompt": prompt_hash(self.config.rubric, self.config.reply)}

    def prefer_first(self, pairs: Sequence[ResponsePair]) -> list[PairVerdict]:
        """Return a verdict on each pair, as the letter A for the response shown first."""
        return self.endpoint.map(self._ask, pairs)

    def _ask(self, pair: ResponsePair) -> PairVerdict:
        messages = judge_prompt(pair, self.config.rubric, self.config.reply)
        if sum(len(message.content) for message in messages) > self.config.max_chars:
            return PairVerdict(None, "too long")
        start_time = time.monotonic()
        try:
            reply = self.endpoint.complete(messages, self._request())
        except RequestFailed as failure:
            return PairVerdict(
                None, TRANSPORT_PROBLEM + failure.problem, seconds=time.monotonic() - start_time
            )
        model, problem = self.endpoint.model_problem(reply)
        probability, measured = None, False
        if problem is None:
            probability, problem, measured = self._verdict(reply)
        usage = reply.get("usage")
        tokens = usage if isinstance(usage, Mapping) else {}
        return PairVerdict(
            probability,
            problem,
            reported_count(tokens, "prompt_tokens"),
            reported_count(tokens, "completion_tokens"),
            time.monotonic() - start_time,
            measured,
            model,
        )

    def _request(self) -> dict[str, Any]:
        request: dict[str, Any] = {"temperature": 0, "max_tokens": self.config.max_tokens, "n": 1}
        if self.config.reply == "json":
            schema = {"name": "verdict", "strict": True, "schema": REPLY_SCHEMA}
            return request | {"response_format": {"type": "json_schema", "json_schema": schema}}
        return request | ({"logprobs": True, "top_logprobs": 20} if self.config.logprobs else {})

    def _verdict(self, reply: Mapping[str, Any]) -> tuple[float | None, str | None, bool]:
        """Return the probability of the first response, a problem, and whether the endpoint measured it."""
        text, choice, problem = reply_text(reply)
        if problem is not None:
            return None, problem, False
        letter, problem = read_reply(text, self.config.reply)
        if letter is None:
            return None, problem, False
        if self.config.reply == "letter" and self.config.logprobs:
            probability, problem = letter_probability(choice, self.config.min_letter_mass)
            if problem is not None:
                return None, problem, False
            if probability is not None:
                if (probability > 0.5) != (letter == "A") and probability != 0.5:
                    return None, "letter and log-probabilities disagree", False
                return probability, None, True
        return float(letter == "A"), None, False


def reply_text(reply: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], str | None]:
    """Return the text of a chat reply, its choice, and a problem if it has no text."""
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        return "", {}, "reply without a message"
    if message.get("refusal"):
        return "", choice, "refusal"
    text = message.get("content")
    if not isinstance(text, str) or not text.strip():
        return "", choice, "empty reply"
    return text, choice, None


def reported_count(values: Mapping[str, Any], name: str) -> int:
    """Return a count of tokens that an endpoint reports, 0 without one."""
    value = values.get(name)
    return value if type(value) is int and 0 <= value < 10**9 else 0


def read_api_key(variable: str | None) -> str | None:
    """Return the key in an environment variable; None without a variable. Raises UserError if it is not usable."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise UserError(
            f"the environment variable {variable} " + ("holds no usable key" if key else "is not set"),
            where="judge.api_key_env",
            fix=f"set it in the shell: export {variable}=…",
        )
    return key
