"""Chat with one policy, or with two side by side, in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TextIO

from pydantic import TypeAdapter
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from harken.config import DataConfig, WeightDtypeName
from harken.config.evaluation import ColumnPart, ScorerList
from harken.config.evaluation_options import judges_from, policies_from
from harken.data.parse import content_hash
from harken.errors import UserError
from harken.evaluation.responses import SCORING_TOKENS, load_engine
from harken.models.device import choose_device
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import require_use, resolve
from harken.records import Message, Prompt, Rollout
from harken.reward.build import RewardLoader, resolve_sources
from harken.reward.source import RewardSource
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine
from harken.run.terminal import columns, is_terminal, say, strip_control

HELP = """\
/reset            begin a new conversation, with the same system turn
/system TEXT      set the system turn and begin a new conversation; /system alone removes it
/temperature T    0: greedy decoding
/help             this list; end with Ctrl-D"""
GAP = 3
"""Columns between two responses side by side."""
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""Decoded text ends with this character while a character is incomplete."""


@dataclass(frozen=True)
class ChatSettings:
    """How responses are sampled and scored in a chat."""

    max_gen_len: int = 256
    temperature: float = 0.7
    seed: int = 839
    system: str = ""
    reward: str | None = None
    """A scorer written as for `harken score --with`."""
    device: str = "auto"
    dtype: WeightDtypeName = "bfloat16"

    @property
    def prompt_data(self) -> DataConfig:
        """Return how conversations are encoded."""
        return DataConfig(path="the terminal")


@dataclass
class Speaker:
    """One policy with its own side of the conversation."""

    name: str
    engine: InProcessEngine
    scorer: RewardSource | None = None
    messages: list[Message] = field(default_factory=list)

    def respond(self, text: str, settings: ChatSettings, on_text: Callable[[str], object] | None) -> Rollout:
        """Generate the response to `text` and append both turns; `on_text` gets each new piece of text.

        Old turns are left out of the prompt if they do not fit together with `max_gen_len` tokens. A conversation, seed
        and temperature always give the same response. If generation is interrupted, neither turn is appended.
        """
        messages = [*self.messages, Message("user", text)]
        prompt = Prompt(content_hash(tuple(messages)), tuple(messages))
        sampling = Sampling(settings.max_gen_len, settings.temperature, settings.seed)
        self.engine.on_token = None if on_text is None else _Streamed(self.engine, on_text)
        (rollout,) = self.engine.generate([prompt], sampling, self.name, "chat")
        self.messages = [*messages, Message("assistant", rollout.text)]
        return rollout

    def reward(self, rollout: Rollout) -> str:
        """Return the reward of a response as text, "" without a scorer."""
        if self.scorer is None:
            return ""
        score = self.scorer.score([rollout])[0]
        value = (score[0] if isinstance(score, tuple) else score).value
        return "no score" if value is None else f"{value:.3f}"

    def begin(self, system: str) -> None:
        """Begin a new conversation."""
        self.messages = [Message("system", system)] if system else []


class _Streamed:
    """Pass on the text of a growing response, without an incomplete last character."""

    def __init__(self, engine: InProcessEngine, on_text: Callable[[str], object]) -> None:
        self._engine, self._on_text, self._shown = engine, on_text, ""

    def __call__(self, tokens: Sequence[int]) -> None:
        has_ended = tokens[-1] in self._engine.stop_tokens
        text = self._engine.renderer.decode_response(tokens[:-1] if has_ended else tokens)
        text = text.rstrip(UNFINISHED)
        if text.startswith(self._shown):
            self._on_text(text[len(self._shown) :])
            self._shown = text


def chat(names: Sequence[str], settings: ChatSettings, lines: TextIO | None = None) -> None:
    """Read turns from `lines` (default: stdin) until they end, and print the responses of one or two policies.

    Raises UserError unless there are one or two policies, for one that cannot generate, and for an unknown scorer.
    """
    if len(names) not in (1, 2):
        raise UserError(f"{len(names)} models are named", where="chat", fix="name one, or two with --compare")
    source = sys.stdin if lines is None else lines
    speakers = [load_speaker(name, path, settings) for name, path in policies_from(names).items()]
    for speaker in speakers:
        speaker.begin(settings.system)
    if is_terminal(source):
        say(f"{' and '.join(speaker.name for speaker in speakers)}; /help lists commands, Ctrl-D ends")
    for line in _turns(source):
        if line.startswith("/"):
            settings = _command(line, speakers, settings)
        elif line:
            _respond_all(line, speakers, settings)


def load_speaker(name: str, path: str, settings: ChatSettings) -> Speaker:
    """Load a policy, and the scorer of its responses."""
    source = require_use(resolve(path), "policy")
    say(f"{name}: {source.describe()}")
    engine = load_engine(source, settings, slots=1)
    positions = getattr(engine.backbone.config, "max_position_embeddings", None)
    if positions is not None:
        if positions <= settings.max_gen_len:
            raise UserError(
                f"the model has {positions} positions", where="max_gen_len", fix=f"set less than {positions}"
            )
        engine.prompt_limit = positions - settings.max_gen_len
    return Speaker(name, engine, load_scorer(engine, settings))


def load_scorer(engine: InProcessEngine, settings: ChatSettings) -> RewardSource | None:
    """Load the scorer of the settings for a policy's responses; None without one."""
    if settings.reward is None:
        return None
    (part,) = TypeAdapter(ScorerList).validate_python(judges_from([settings.reward]))
    if isinstance(part, ColumnPart):
        raise UserError(
            "a chat has no columns", where="--reward", fix="name a reward model, a function or a rule"
        )
    device = choose_device(settings.device)
    loader = RewardLoader(None, WEIGHT_DTYPES[settings.dtype], device, SCORING_TOKENS)
    return loader.sources(resolve_sources([part]), engine.renderer)[0]


def _turns(source: TextIO) -> Iterator[str]:
    """Yield the user's turns, one per line; a terminal shows a prompt and has line editing."""
    if not is_terminal(source):
        yield from (line.strip() for line in source)
        return
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            print()
            return


def _command(line: str, speakers: Sequence[Speaker], settings: ChatSettings) -> ChatSettings:
    """Run a command, which begins with a slash; return the settings for the next turns."""
    name, _, argument = line.partition(" ")
    if name == "/temperature":
        try:
            temperature = float(argument)
            Sampling(settings.max_gen_len, temperature)
        except ValueError:
            say(f"{argument!r} is not a temperature: write 0 or a positive number")
            return settings
        return replace(settings, temperature=temperature)
    if name in ("/reset", "/system"):
        settings = replace(settings, system=argument.strip()) if name == "/system" else settings
        for speaker in speakers:
            speaker.begin(settings.system)
        say("new conversation")
    else:
        say(HELP if name == "/help" else f"{name} is not a command.\n{HELP}")
    return settings


def _respond_all(text: str, speakers: Sequence[Speaker], settings: ChatSettings) -> None:
    try:
        if len(speakers) == 1:
            _stream(text, speakers[0], settings)
        else:
            rollouts = [(speaker, speaker.respond(text, settings, None)) for speaker in speakers]
            print(side_by_side([_block(*pair) for pair in rollouts], columns()), flush=True)
    except KeyboardInterrupt:
        if not is_terminal(sys.stdin):
            raise
        say("\ninterrupted; this turn is not part of the conversation")
    except UserError as error:  # the conversation goes on, for example after a turn that is too long
        say(f"{error}")


def _stream(message: str, speaker: Speaker, settings: ChatSettings) -> None:
    printed: list[str] = []

    def on_text(text: str) -> None:
        printed.append(text)
        print(strip_control(text), end="", flush=True)

    rollout = speaker.respond(message, settings, on_text)
    # A response may end within a character: print its incomplete end, too.
    print(strip_control(rollout.text.removeprefix("".join(printed))), flush=True)
    print(_facts(speaker, rollout), flush=True)


def _facts(speaker: Speaker, rollout: Rollout) -> str:
    """Return the line below a response: its length, whether it was truncated, and its reward."""
    parts = [f"{len(rollout.response_tokens)} tokens"]
    parts += ["truncated"] if rollout.stop == "length" else []
    parts += [f"reward {reward}"] if (reward := speaker.reward(rollout)) else []
    return f"[{', '.join(parts)}]"


def _block(speaker: Speaker, rollout: Rollout) -> tuple[str, str, str]:
    return speaker.name, strip_control(rollout.text), _facts(speaker, rollout)


def side_by_side(blocks: Sequence[tuple[str, str, str]], width: int) -> str:
    """Return blocks of (title, text, last line) side by side, wrapped to equal columns of a terminal's width."""
    share = (width - GAP * (len(blocks) - 1)) // len(blocks)
    wrapped = []
    for title, text, footer in blocks:
        lines = [title, "-" * min(share, cell_len(title)), *_wrap(text, share), footer]
        wrapped.append([line for logical in lines for line in (_wrap(logical, share) or [""])])
    height = max(map(len, wrapped))
    padded = [[*lines[:-1], *[""] * (height - len(lines)), lines[-1]] for lines in wrapped]
    rows = zip(*padded, strict=True)
    return "\n".join(
        (" " * GAP).join(cell + " " * (share - cell_len(cell)) for cell in row).rstrip() for row in rows
    )


def _wrap(text: str, width: int) -> list[str]:
    """Wrap text to a number of columns; wide characters take two."""
    console = Console(width=width, file=sys.stderr)
    return [
        line.plain.rstrip()
        for paragraph in text.expandtabs(4).split("\n")
        for line in Text(paragraph).wrap(console, width) or [Text("")]
    ]
