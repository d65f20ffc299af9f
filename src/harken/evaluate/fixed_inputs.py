"""Fix what the text of a prompt depends on: the prompts themselves, and the time that a chat template reads."""

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
    """Give templates that read the clock one time inside, where the model recorded none.

    It is `template_time` of the configuration `locked`, or else now, and is added to `settings`, where a template of
    `models` reads the clock.
    """
    moment = datetime.now(UTC).replace(microsecond=0)
    links = [link for source in models for link in (source, source.base) if link]
    if any(chat_template.folder_reads_clock(link.folder) for link in links):
        before = read_locked_config(locked).get("template_time") if locked.exists() else None
        moment = datetime.fromisoformat(before) if isinstance(before, str) else moment
        settings["template_time"] = moment.isoformat()
    with chat_template.freeze_clock(moment):
        yield


def _messages_and_tools(prompt: Prompt) -> list[object]:
    plain: list[object] = [
        (m.role, m.content, m.extra) if m.extra else (m.role, m.content) for m in prompt.messages
    ]
    return [*plain, prompt.tools] if prompt.tools else plain
