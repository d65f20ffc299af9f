"""Fix the inputs of a prompt's text: the prompts themselves, and the time that a chat template reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harken.chat import template as chat_template
from harken.models.resolve import ModelSource
from harken.records import Prompt
from harken.run.config_lock import read_locked_config


def fingerprint_prompts(prompts: Sequence[Prompt]) -> str:
    """Compute the sha256 of all ids, messages and tools, in order."""
    texts = [[p.id, *_messages_and_tools(p)] for p in prompts]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


@contextmanager
def freeze_template_clock(
    models: Sequence[ModelSource], locked: Path, settings: dict[str, Any]
) -> Iterator[None]:
    """Freeze the time that chat templates read inside the context, where the model recorded none.

    The time is `template_time` of the configuration `locked`, or else now. It is added to `settings` where a template
    of `models` reads the clock.
    """
    template_time = datetime.now(UTC).replace(microsecond=0)
    links = [link for source in models for link in (source, source.base) if link]
    if any(chat_template.folder_reads_clock(link.folder) for link in links):
        recorded_time = read_locked_config(locked).get("template_time") if locked.exists() else None
        template_time = (
            datetime.fromisoformat(recorded_time) if isinstance(recorded_time, str) else template_time
        )
        settings["template_time"] = template_time.isoformat()
    with chat_template.freeze_clock(template_time):
        yield


def _messages_and_tools(prompt: Prompt) -> list[object]:
    values: list[object] = [
        (m.role, m.content, m.extra) if m.extra else (m.role, m.content) for m in prompt.messages
    ]
    return [*values, prompt.tools] if prompt.tools else values
