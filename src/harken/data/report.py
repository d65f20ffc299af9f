"""What became of every row: read, kept, dropped and why, shortened and how."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from harken.data.preferences import Agreement

REASONS = {
    "not_an_object": "the row is not a JSON object",
    "missing_field": "a field the layout needs is absent or null",
    "wrong_type": "a field does not hold what its layout says",
    "not_unicode": "a text holds half of a surrogate pair, which no tokenizer can read",
    "unknown_role": "a message is neither from a system, a user, an assistant nor a tool",
    "no_prompt": "no user turn with text is left to answer",
    "no_response": "no assistant turn to learn from",
    "empty_response": "an answer is empty or blank",
    "identical_responses": "both answers are the same",
    "prompts_differ": "the two sides answer different conversations",
    "turn_marker_in_response": "an answer goes on to write the human's next turn",
    "no_newline": "a {text} row without a newline between prompt and answer",
    "unscored": "neither a score nor a rater's judgement",
    "unknown_label": "a label that names neither side nor a tie",
    "labelled_bad": "the response is marked as a bad one, and is not to be imitated",
    "tie": "an answer to imitate is wanted, and neither side is the better one",
    "duplicate_prompt": "the same conversation stands in an earlier row",
    "duplicate_id": "another prompt in an earlier row has this id",
    "text_too_long": "a text of more letters than are worth counting for this token limit",
    "response_too_long": "the answer and the shortest prompt exceed the token limit; answers are never cut",
    "prompt_too_long": "not one token of the last user turn would be left within the token limit",
    "template_refuses": "the model's chat template cannot write this conversation",
    "unsupported_content": "a message holds something else than text",
    "tool_call_response": "the answer to learn is a tool call, not a text",
    "token_outside_vocabulary": "a pre-tokenised row holds an id the tokenizer does not have",
    "over_limit": "left out on purpose: more rows than the limit asked for",
}
"""Every reason to drop a row. Faults of one field are counted per field: "missing_field:chosen"."""

FIXES = {
    "text_too_long": "raise data.max_length",
    "response_too_long": "raise data.max_length",
    "prompt_too_long": "raise data.max_length",
    "template_refuses": "remove or merge such turns in the rows, or use a model whose chat template takes them",
    "unsupported_content": "rows of text alone can be trained on: leave the others out",
    "tool_call_response": "let the last assistant turn be a text",
    "token_outside_vocabulary": "tokenise the rows with this model's tokenizer, or give them as text",
    "tie": "these rows prefer neither side: name a data set with preferences, or one of demonstrations",
}
"""What to do where a reason leaves no row."""
MAX_LISTED = 20
"""Dropped rows that are listed one by one; all of them stand in rejects.jsonl."""
_PER_FIELD = ("missing_field", "wrong_type", "not_unicode", "unknown_role", "unsupported_content")
MAX_COLUMNS = 6
"""Columns that the short account names."""
MAX_REASONS = 3
"""Reasons that the short account names; the others are counted."""
MAX_DETAILS = 12
"""Different messages of a chat template that are counted each under its own name."""


@dataclass(frozen=True)
class DroppedRow:
    """One dropped row: its place (``path:line`` or a prompt id), the field at fault ("" if none), why."""

    where: str
    field: str
    reason: str
    detail: str = ""
    """What a chat template said, in one line."""

    def line(self) -> str:
        """``file:row:field: message``."""
        place = ":".join(part for part in (self.where, self.field) if part)
        return f"{place}: {self.reason}: {REASONS[self.reason]}" + (
            f" ({self.detail})" if self.detail else ""
        )


@dataclass
class DataReport:
    """The account of one source; ``raw == kept + sum(dropped.values())`` at all times.

    `raw` counts the records the rows hold: a ranking of k answers holds k·(k-1)/2 pairs, every other row one.
    `shortened` counts kept records that lost something on the way, by what they lost; `changed` those that are written
    otherwise than the source has them.
    """

    path: str
    layout: str = ""
    raw: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    shortened: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    dropped_rows: list[DroppedRow] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What is wrong with rows that are used, for example prompts that are trained on and held out."""
    agreement: Agreement | None = None
    notes: list[str] = field(default_factory=list)
    """How the rows were read, where they could be read otherwise: what their labels mean."""
    unused: list[str] = field(default_factory=list)
    """Columns with a value in some row that nothing read."""

    def keep(self) -> None:
        """Count a record that is used."""
        self.raw += 1
        self.kept += 1

    def drop(self, where: str, reason: str, field: str = "", detail: str = "") -> None:
        """Count a record that is not used, refusals of a chat template by what it said (`detail`).

        Raises ValueError for a reason outside `REASONS`.
        """
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is no reason of harken.data.report.REASONS")
        self.raw += 1
        name = _count_key(reason, field, detail)
        if (
            detail
            and name not in self.dropped
            and sum(f"{reason}:" in known for known in self.dropped) >= MAX_DETAILS
        ):
            name = reason
        self.dropped[name] += 1
        if reason != "over_limit":
            self.dropped_rows.append(DroppedRow(where, field, reason, detail))

    def drop_kept(self, where: str, reason: str, field: str = "", detail: str = "") -> None:
        """Move a record counted as kept to the dropped ones, for example when its tokens do not fit."""
        self.raw -= 1
        self.kept -= 1
        self.drop(where, reason, field, detail)

    def explain_empty(self) -> tuple[str, str]:
        """Why not one row is left, and what to do about it: by the reason that most rows were dropped for."""
        if not self.dropped:
            return "there is not one row", "name other data"
        counted, number = self.dropped.most_common(1)[0]
        reason, _, detail = counted.partition(":")
        said = f" ({detail.strip()})" if detail else ""
        return (
            f"not one row is left: {number:,} of {self.raw:,} are dropped as {reason}, {REASONS[reason]}{said}",
            FIXES.get(reason, "correct the rows; rejects.jsonl names each with its reason"),
        )

    def summary(self) -> list[str]:
        """The account in two lines, and one a warning: what a training run prints. `lines` has all of it."""
        parts = [f"dropped {_top_reasons(self.dropped)}"] if self.dropped else []
        parts += [f"shortened {_top_reasons(self.shortened)}"] if self.shortened else []
        parts += [f"changed {_top_reasons(self.changed)}"] if self.changed else []
        parts += self.notes
        parts += [self._unused_line(MAX_COLUMNS)] if self.unused else []
        parts += [self.agreement.line()] if self.agreement else []
        warnings = [f"  warning: {warning}" for warning in self.warnings]
        return [self._totals_line(), *([f"  {'; '.join(parts)}"] if parts else []), *warnings]

    def lines(self) -> list[str]:
        """The account for a terminal: totals, each reason, the first dropped rows, warnings, what raters agreed on."""
        lines = [self._totals_line()]
        first = {
            _count_key(r.reason, r.field, r.detail): f"; first {r.where}" for r in reversed(self.dropped_rows)
        }
        for reason, count in self.dropped.most_common():
            meaning = REASONS[reason.partition(":")[0]]
            lines.append(f"  {count:,} dropped: {reason} ({meaning}{first.get(reason, '')})")
        lines += [f"  {reject.line()}" for reject in self.dropped_rows[:MAX_LISTED]]
        if len(self.dropped_rows) > MAX_LISTED:
            lines.append(f"  … and {len(self.dropped_rows) - MAX_LISTED:,} more dropped rows")
        lines += [f"  {count:,} shortened: {what}" for what, count in self.shortened.most_common()]
        lines += [f"  {count:,} changed: {what}" for what, count in self.changed.most_common()]
        lines += [f"  {note}" for note in self.notes]
        lines += [f"  {self._unused_line(MAX_LISTED)}"] if self.unused else []
        lines += [f"  warning: {warning}" for warning in self.warnings]
        return lines + ([f"  {self.agreement.line()}"] if self.agreement else [])

    def _unused_line(self, most: int) -> str:
        more = f" and {len(self.unused) - most} more" if len(self.unused) > most else ""
        return f"columns not used: {', '.join(self.unused[:most])}{more}"

    def _totals_line(self) -> str:
        dropped = self.dropped.total()
        head = f"{self.path}: {self.raw:,} rows, {self.kept:,} kept, {dropped:,} dropped"
        return head + (f" (layout {self.layout})" if self.layout else "")

    def to_dict(self) -> dict[str, Any]:
        """The account as JSON, without the single rejects."""
        return {
            "path": self.path,
            "layout": self.layout,
            "raw": self.raw,
            "kept": self.kept,
            "dropped": dict(self.dropped.most_common()),
            "shortened": dict(self.shortened.most_common()),
            "changed": dict(self.changed.most_common()),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "columns_not_used": list(self.unused),
            "agreement": self.agreement.to_dict() if self.agreement else None,
        }


def _count_key(reason: str, field: str, detail: str = "") -> str:
    name = f"{reason}:{field}" if field and reason in _PER_FIELD else reason
    return f"{name}: {detail}" if detail else name


def _top_reasons(counts: Counter[str]) -> str:
    """``2 tie, 1 no_prompt and 3 for 2 other reasons``."""
    named = counts.most_common(MAX_REASONS)
    text = ", ".join(f"{count:,} {what}" for what, count in named)
    others = len(counts) - len(named)
    if not others:
        return text
    left = counts.total() - sum(count for _, count in named)
    return f"{text} and {left:,} for {others} other reason{'s' if others > 1 else ''}"
