"""Write the steps of the constitutional recipe as one HTML page without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from harken.run import atomic

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Critiques and revisions</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem;
  color-scheme: light dark; }
article { border-top: 1px solid; padding: 1rem 0; }
p { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 .75rem; }
h3 { font-size: 1rem; margin: 0; }
</style></head><body>
"""


def write_steps_page(path: Path, steps: Sequence[Mapping[str, Any]]) -> None:
    """Write every prompt with its response, and the principle, critique and revision of each round."""
    intro = (
        f"<h1>Critiques and revisions</h1><p>{len(steps):,} prompts. Every text was written by a model.</p>\n"
    )
    atomic.write_text(path, _HEAD + intro + "".join(map(_article, steps)) + "</body></html>\n")


def _article(step: Mapping[str, Any]) -> str:
    sections = [("Prompt", step["prompt"][-1]["content"]), (f"Response of {step['model']}", step["response"])]
    for step_round in step["rounds"]:
        sections += [
            (f"Critique: {step_round['principle']}", step_round["critique"]),
            ("Revision", step_round["revision"]),
        ]
    escaped = [(escape(title), escape(text)) for title, text in sections]
    body = "".join(f"<h3>{title}</h3><p>{text}</p>" for title, text in escaped)
    return f"<article>{body}</article>\n"
