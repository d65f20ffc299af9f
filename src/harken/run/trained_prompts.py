"""Store hashes of a run's training prompts, so that an evaluation can detect prompts that were trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from harken.records import Message
from harken.run import atomic, bounded_read, checksums
from harken.run.folder import RunFolder


def digest(messages: Sequence[Message]) -> str:
    """Hash a prompt by the roles and texts of its turns; its id and a system turn do not count."""
    turns = [[m.role, " ".join(m.content.split())] for m in messages if m.role != "system"]
    return hashlib.sha256(json.dumps(turns).encode()).hexdigest()[:32]


def write_prompt_hashes(run: RunFolder, prompts: Iterable[Sequence[Message]]) -> None:
    """Write the hashes of a run's training prompts, each once, sorted."""
    digests = sorted({digest(messages) for messages in prompts if messages})
    atomic.write_text(run.trained_prompts, "".join(f"{prompt_hash}\n" for prompt_hash in digests))


def read_prompt_hashes(run: RunFolder) -> set[str]:
    """Read the hashes; empty for a run of an older version. Raises UserError if the file is damaged."""
    return (
        set(checksums.read_verified_text(run.trained_prompts, bounded_read.MAX_LINES).split())
        if run.trained_prompts.exists()
        else set()
    )
