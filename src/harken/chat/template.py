"""Render chat templates as transformers does, with a frozen clock and limits on steps and size.

A chat template is a program in a model's folder. transformers runs it in a sandbox that reads the system clock and has
no limits. Here the clock is fixed at the time that the tokenizer records (or at the start of the run), random functions
are refused, and a template that does not terminate is refused after a fixed number of steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.utils import Namespace

from harken.chat.bounded_jinja import BoundedEnvironment, budget
from harken.errors import UserError
from harken.run import bounded_read

if TYPE_CHECKING:
    from jinja2 import Template
    from transformers import PreTrainedTokenizerBase

CLOCK = "strftime_now"
"""The function with which templates read the clock."""
RECORD = "harken"
"""The key of tokenizer_config.json under which Harken records how a model's prompts were rendered."""
FIX = "correct chat_template.jinja, or the chat_template of tokenizer_config.json"
_REASONING = ("reasoning_content", "thinking", "reasoning")
_MEMORY_ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-fA-F]+>")
TEMPLATE_ERRORS = (
    *(TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError),
    *(RuntimeError, TypeError, ValueError),
)
"""Exceptions that running a template may raise."""

_frozen: datetime | None = None
"""The time that templates see where a tokenizer records none; set at the first use in a process."""


class TemplateRefusal(UserError):
    """Report a chat template that cannot render a conversation; `message` is its own error message in one line."""

    def __init__(self, problem: str, message: str, *, where: str = "", fix: str = "") -> None:
        self.message = message
        super().__init__(problem, where=where, fix=fix)


def render(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Any] | None = None,
    add_generation_prompt: bool = False,
) -> str:
    """Render a conversation with the tokenizer's chat template, with the generation prompt on request.

    Raises TemplateRefusal when the template raises, draws at random, writes memory addresses, or exceeds its limits.
    """
    where = str(tokenizer.name_or_path)
    messages = [_with_reasoning({k: v for k, v in turn.items() if v is not None}) for turn in turns]
    size = sum(len(json.dumps(turn, default=str)) for turn in messages)
    moment = template_time(tokenizer)
    try:
        compiled = _compiled(_template(tokenizer, tools))
        with budget(size) as spent:
            pieces = []
            for piece in compiled.generate(
                **tokenizer.special_tokens_map,
                **{CLOCK: lambda form: moment.strftime(str(form))},
                messages=messages,
                tools=list(tools) if tools else None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
            ):
                spent.write(piece)
                pieces.append(piece)
        text = "".join(pieces)
    except TEMPLATE_ERRORS as error:
        reason = one_line(error)
        roles = ", ".join(str(turn.get("role")) for turn in messages)
        raise TemplateRefusal(
            f"the chat template refuses a conversation of {roles or 'no turns'} ({reason})",
            reason,
            where=where,
            fix="merge or remove turns, or use a model whose template takes them",
        ) from error
    if match := _MEMORY_ADDRESS.search(text):
        reason = f"it writes a memory address, {match[0]}, which differs in every process"
        raise TemplateRefusal(f"the chat template cannot be used: {reason}", reason, where=where, fix=FIX)
    return text


def one_line(error: BaseException) -> str:
    """Format an exception's message in one line, after its type unless it is a TemplateError."""
    message = " ".join(str(error).split())
    if isinstance(error, TemplateError) and message:
        return message
    return ": ".join(part for part in (type(error).__name__, message) if part)


# -- the clock --------------------------------------------------------------------------------------


def reads_clock(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the tokenizer's chat template reads the time."""
    template = tokenizer.chat_template
    return CLOCK in (json.dumps(template) if isinstance(template, dict) else template or "")


def folder_reads_clock(folder: Path) -> bool:
    """Return whether a chat template in a model's folder reads a time that the folder does not record."""
    config = folder / "tokenizer_config.json"
    files = [config, *folder.glob("chat_template*"), *folder.glob("*/*.jinja")]
    texts = [bounded_read.read_bytes(path).decode("utf-8", "replace") for path in files if path.is_file()]
    recorded = config.is_file() and '"template_time"' in texts[0]
    return any(CLOCK in text for text in texts) and not recorded


@contextmanager
def freeze_clock(moment: datetime) -> Iterator[None]:
    """Set the time that templates see inside, where their tokenizer records none."""
    global _frozen
    previous, _frozen = _frozen, moment
    try:
        yield
    finally:
        _frozen = previous


def template_time(tokenizer: PreTrainedTokenizerBase) -> datetime:
    """Return the time the chat template sees, in UTC: the recorded one, else `freeze_clock`'s, else the first use."""
    global _frozen
    recorded = get_record(tokenizer).get("template_time")
    if recorded is not None:
        try:
            return datetime.fromisoformat(str(recorded))
        except ValueError:
            raise UserError(
                f"{RECORD}.template_time is {recorded!r}, which is not a time",
                where=f"{tokenizer.name_or_path}/tokenizer_config.json",
                fix="write it as 2026-01-31T12:00:00+00:00, or remove the key",
            ) from None
    if _frozen is None:
        _frozen = datetime.now(UTC)
    return _frozen


def get_record(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return what tokenizer_config.json records under `harken`, {} for nothing."""
    record = getattr(tokenizer, "init_kwargs", {}).get(RECORD)
    return dict(record) if isinstance(record, Mapping) else {}


def set_record(tokenizer: PreTrainedTokenizerBase, **values: Any) -> None:
    """Record how prompts are rendered, to be saved with the tokenizer. None removes a value."""
    record = {k: v for k, v in (get_record(tokenizer) | values).items() if v is not None}
    tokenizer.init_kwargs.pop(RECORD, None)
    if record:
        tokenizer.init_kwargs[RECORD] = record


def record_time(tokenizer: PreTrainedTokenizerBase) -> None:
    """Record the time a template sees, if it reads one, so that prompts are rendered everywhere as in training."""
    if reads_clock(tokenizer):
        set_record(tokenizer, template_time=template_time(tokenizer).isoformat(timespec="seconds"))


# -- the rules of transformers ----------------------------------------------------------------------


def _template(tokenizer: PreTrainedTokenizerBase, tools: Sequence[Any] | None) -> str:
    return str(tokenizer.get_chat_template(tools=list(tools) if tools else None))


def _with_reasoning(turn: dict[str, Any]) -> dict[str, Any]:
    """Return the turn with its reasoning under the two names that templates use."""
    reasoning = next((turn[key] for key in _REASONING if key in turn), None)
    return turn if reasoning is None else {"thinking": reasoning, **turn, "reasoning_content": reasoning}


class _Generation(Extension):
    """Accept `{% generation %}`, which marks an assistant's text and changes nothing."""

    tags = {"generation"}  # noqa: RUF012  as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse the statements up to `{% endgeneration %}`."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(
            line
        )


class _Namespace(Namespace):
    """Refuse names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, values = args[0], dict(*args[1:], **kwargs)
        for name in values:
            _require_public(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _require_public(name)
        super().__setitem__(name, value)


def _require_public(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise TemplateError(f"a template may not set {name!r}")


class _Dict:
    """Provide `dict` to templates."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        """Return `dict.fromkeys(keys, value)`."""
        return dict.fromkeys(keys, value)


def _raise(message: object) -> None:
    raise TemplateError(str(message))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    environment = BoundedEnvironment(extensions=[_Generation, "jinja2.ext.loopcontrols"])
    environment.set_filter("tojson", _tojson)
    functions: dict[str, Callable[..., Any]] = {
        "raise_exception": _raise,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    environment.globals.update(functions)
    return environment.bounded(template)
