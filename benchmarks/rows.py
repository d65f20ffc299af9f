"""Provide the rows for both sides of a comparison: from HARKEN_DATA, or else the embedded demo data."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from harken.config.base import DataConfig
from harken.data import sources
from harken.data.chat import Renderer
from harken.records import Message, Preference, Prompt
from harken.seeds import permutation

DOLLY = "prompts/dolly_ppo_prompts.jsonl.gz", "demo:prompts"
HH = "preferences/hh_helpful_short.rm_train.jsonl.gz", "demo:preferences"
SEED = 839


def name(of: tuple[str, str]) -> str:
    """Return their name in a result, without the folder."""
    return of[0] if os.environ.get("HARKEN_DATA") else of[1]


def source(of: tuple[str, str]) -> str:
    """Return the file in HARKEN_DATA, or the demo's rows."""
    folder = os.environ.get("HARKEN_DATA")
    return str(Path(folder) / of[0]) if folder else of[1]


def prompts(renderer: Renderer, limit: int) -> list[Prompt]:
    """Return every Dolly prompt that renders to at most `limit` tokens, in an order drawn by the seed."""
    found, _ = sources.load_prompts(DataConfig(path=source(DOLLY), task="prompt_only"))
    fitting = [prompt for prompt in found if len(renderer.encode_prompt(prompt.messages)) <= limit]
    return [fitting[i] for i in permutation(len(fitting), SEED, "benchmark prompts")]


def long_prompts(renderer: Renderer, limit: int, count: int) -> list[Prompt]:
    """Return `count` prompts of nearly `limit` tokens each: Dolly's, as many as fit, one after the other.

    When all are used up they come again in another order. None where no prompt fits.
    """
    short = [prompt.messages[-1].content for prompt in prompts(renderer, limit)]
    made: list[Prompt] = []
    text = ""
    for turn in itertools.count() if short else ():
        for number in permutation(len(short), SEED, "benchmark long prompts", turn):
            longer = f"{text}\n\n{short[number]}" if text else short[number]
            if text and len(renderer.encode_prompt((Message("user", longer),))) > limit:
                made.append(Prompt(id=f"long-{len(made)}", messages=(Message("user", text),)))
                longer = short[number]
            if len(made) == count:
                return made
            text = longer
    return made


def spread(renderer: Renderer, count: int, limit: int) -> list[Prompt]:
    """Return `count` prompts whose lengths are spread as evenly as those of all, in an order drawn by the seed."""
    by_length = sorted(
        prompts(renderer, limit), key=lambda prompt: len(renderer.encode_prompt(prompt.messages))
    )
    chosen = [by_length[(2 * i + 1) * len(by_length) // (2 * count)] for i in range(count)]
    return [chosen[i] for i in permutation(count, SEED, "benchmark spread")]


def pairs(renderer: Renderer, count: int, limit: int) -> list[Preference]:
    """Return `count` HH pairs of at most `limit` tokens per side, without responses that look like transcripts."""
    found, _ = sources.load_preferences(DataConfig(path=source(HH), task="preference"))
    plain = [pair for pair in found if isinstance(pair, Preference) and pair.label == 1.0]
    said = [p for p in plain if not any("Human:" in side for side in (p.chosen, p.rejected))]
    fitting = [pair for pair in said if renderer.count_tokens(pair) <= limit]
    return [fitting[i] for i in permutation(len(fitting), SEED, "benchmark pairs")[:count]]


def write(path: Path, lines: Iterable[object]) -> Path:
    """Write JSON, one object a line."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_prompts(path: Path, of: Sequence[Prompt]) -> Path:
    """Write prompts as Harken reads them."""
    return write(path, ({"messages": _turns(prompt.messages)} for prompt in of))


def write_pairs(path: Path, of: Sequence[Preference]) -> Path:
    """Write pairs as Harken reads them: for a reward model, or their chosen responses for SFT."""
    rows = (
        {"prompt": _turns(p.prompt.messages), "chosen": p.chosen, "rejected": p.rejected}
        for p in of
    )  # fmt: skip
    return write(path, rows)


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
