"""Report on the rows of a source: kept, dropped, shortened and changed, with reasons."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from harken.data.preferences import Agreement
from harken.run.counted import counted

REASONS = {
    "not_an_object": "the row is not a JSON object",
    "missing_field": "a field that the layout needs is absent or null",
    "wrong_type": "a field has another type than its layout needs",
    "not_unicode": "a text contains half of a surrogate pair, which no tokenizer can encode",
    "unknown_role": "a message's role is none of system, user, assistant and tool",
    "no_prompt": "there is no user turn with text to respond to",
    "no_response": "there is no assistant turn to learn from",
    "empty_response": "a response is empty or blank",
    "identical_responses": "both responses are the same",
    "prompts_differ": "the two sides respond to different conversations",
    "turn_marker_in_response": "a response contains the human's next turn",
    "text_too_short": "a labelled text has nothing after its prompt, its first data.prompt_tokens or prompt_words",
    "unlabelled": "the row has neither of the two labels",
    "no_partner": "a labelled text is left over: the file has fewer texts of the other label",
    "no_newline": "a {text} row has no newline between prompt and response",
    "unscored": "there is neither a score nor a rater's judgement",
    "unknown_label": "a label names neither side nor a tie",
    "labelled_bad": "the response is labelled as bad",
    "no_thumb": "no label says whether the response is good or bad",
    "tie": "a target response is needed, and neither side is better",
    "duplicate_prompt": "an earlier row has the same conversation",
    "duplicate_id": "another prompt in an earlier row has this id",
    "text_too_long": "a text is far too long for this token limit",
    "response_too_long": "the response and the shortest prompt exceed the token limit; responses are not truncated",
    "prompt_too_long": "no token of the last user turn would be left within the token limit",
    "template_refuses": "the model's chat template cannot render this conversation",
    "unsupported_content": "a message contains content other than text",
    "tool_call_response": "the target response is a tool call, not text",
    "token_outside_vocabulary": "a pre-tokenised row contains an id that the tokenizer does not have",
    "over_limit": "more rows than data.limit allows",
    "over_balance": "its domain or language has more rows than the smallest one (data.balance)",
}
"""All reasons to drop a row. Reasons about one field are counted per field: "missing_field:chosen"."""

DROP_FIXES = {
    "text_too_long": "raise data.max_length",
    "text_too_short": "lower data.prompt_tokens or data.prompt_words",
    "response_too_long": "raise data.max_length",
    "prompt_too_long": "raise data.max_length",
    "template_refuses": "remove or merge such turns in the rows, or use a model whose chat template takes them",
    "unsupported_content": "remove these rows: only text can be trained on",
    "tool_call_response": "end the rows with an assistant turn of text",
    "token_outside_vocabulary": "tokenise the rows with this model's tokenizer, or give them as text",
    "unscored": "add a score or votes; if annotations have criteria, set their weights as data.criteria",
    "tie": "use a data set with preferences or demonstrations: these rows prefer neither side",
}
"""The fix when a reason leaves no row."""
MAX_LISTED_ROWS = 20
"""Number of dropped rows that are listed one by one; rejects.jsonl has all of them."""
_PER_FIELD = ("missing_field", "wrong_type", "not_unicode", "unknown_role", "unsupported_content")
MAX_COLUMNS = 6
"""Columns named in the summary."""
MAX_REASONS = 3
"""Reasons named in the summary; the others are counted."""
MAX_DETAILS = 12
"""Distinct chat template messages that are counted separately."""


@dataclass(frozen=True)
class DroppedRow:
    """Describe one dropped row: its location (``path:line`` or a prompt id), field ("" for none) and reason."""

    where: str
    field: str
    reason: str
    detail: str = ""
    """The chat template's own message in one line."""

    def line(self) -> str:
        """Format the row as ``file:row:field: message``."""
        place = ":".join(part for part in (self.where, self.field) if part)
        return f"{place}: {self.reason}: {REASONS[self.reason]}" + (
            f" ({self.detail})" if self.detail else ""
        )


@dataclass
class DataReport:
    """Count the records of one source; ``raw == kept + sum(dropped.values())`` always holds.

    `raw` counts the records of the rows: a ranking of k responses holds k·(k-1)/2 pairs, every other row one record.
    `shortened` counts kept records that lost a part, by the part; `changed` counts those whose rendering differs from
    the source.
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
    """Problems with rows that are used, for example prompts both trained on and held out."""
    agreement: Agreement | None = None
    notes: list[str] = field(default_factory=list)
    """How ambiguous rows were interpreted: the meaning of their labels."""
    unused: list[str] = field(default_factory=list)
    """Columns that have a value in some row and are never read."""

    def keep(self) -> None:
        """Count a record that is used."""
        self.raw += 1
        self.kept += 1

    def drop(self, where: str, reason: str, field: str = "", detail: str = "") -> None:
        """Count a dropped record; refusals of a chat template also by its message (`detail`).

        Raises ValueError for a reason outside `REASONS`.
        """
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is not a reason in harken.data.report.REASONS")
        self.raw += 1
        name = _count_key(reason, field, detail)
        if (
            detail
            and name not in self.dropped
            and sum(f"{reason}:" in earlier for earlier in self.dropped) >= MAX_DETAILS
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
        """Return why no row is left, and the fix, for the reason that dropped the most rows."""
        if not self.dropped:
            return "there are no rows", "set other data"
        counted, most_common = self.dropped.most_common(1)[0]
        reason, _, detail = counted.partition(":")
        suffix = f" ({detail.strip()})" if detail else ""
        return (
            f"no row is left: {most_common:,} of {self.raw:,} are dropped as {reason}, {REASONS[reason]}{suffix}",
            DROP_FIXES.get(reason, "correct the rows; rejects.jsonl names each with its reason"),
        )

    def summary(self) -> list[str]:
        """Summarise in two lines, plus one per warning, for a training run. `lines` gives the whole report."""
        parts = [f"dropped {_top_reasons(self.dropped)}"] if self.dropped else []
        parts += [f"shortened {_top_reasons(self.shortened)}"] if self.shortened else []
        parts += [f"changed {_top_reasons(self.changed)}"] if self.changed else []
        parts += self.notes
        parts += [self._unused_line(MAX_COLUMNS)] if self.unused else []
        parts += [self.agreement.line()] if self.agreement else []
        warnings = [f"  warning: {warning}" for warning in self.warnings]
        return [self._totals_line(), *([f"  {'; '.join(parts)}"] if parts else []), *warnings]

    def lines(self) -> list[str]:
        """Format the report for a terminal: totals, reasons, first dropped rows, warnings, rater agreement."""
        lines = [self._totals_line()]
        first = {
            _count_key(r.reason, r.field, r.detail): f"; first {r.where}" for r in reversed(self.dropped_rows)
        }
        for reason, count in self.dropped.most_common():
            meaning = REASONS[reason.partition(":")[0]]
            lines.append(f"  {count:,} dropped: {reason} ({meaning}{first.get(reason, '')})")
        lines += [f"  {reject.line()}" for reject in self.dropped_rows[:MAX_LISTED_ROWS]]
        if len(self.dropped_rows) > MAX_LISTED_ROWS:
            lines.append(f"  … and {len(self.dropped_rows) - MAX_LISTED_ROWS:,} more dropped rows")
        lines += [f"  {count:,} shortened: {change}" for change, count in self.shortened.most_common()]
        lines += [f"  {count:,} changed: {change}" for change, count in self.changed.most_common()]
        lines += [f"  {note}" for note in self.notes]
        lines += [f"  {self._unused_line(MAX_LISTED_ROWS)}"] if self.unused else []
        lines += [f"  warning: {warning}" for warning in self.warnings]
        return lines + ([f"  {self.agreement.line()}"] if self.agreement else [])

    def _unused_line(self, limit: int) -> str:
        suffix = f" and {len(self.unused) - limit} more" if len(self.unused) > limit else ""
        return f"columns not used: {', '.join(self.unused[:limit])}{suffix}"

    def _totals_line(self) -> str:
        dropped = self.dropped.total()
        head = f"{self.path}: {counted(self.raw, 'row')}, {self.kept:,} kept, {dropped:,} dropped"
        return head + (f" (layout {self.layout})" if self.layout else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON, without the single dropped rows."""
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
    """Format counts as ``2 tie, 1 no_prompt and 3 for 2 other reasons``."""
    top = counts.most_common(MAX_REASONS)
    text = ", ".join(f"{count:,} {reason}" for reason, count in top)
    other_reasons = len(counts) - len(top)
    if not other_reasons:
        return text
    remaining = counts.total() - sum(count for _, count in top)
    return f"{text} and {remaining:,} for {other_reasons} other reason{'s' if other_reasons > 1 else ''}"
