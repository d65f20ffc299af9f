"""Define the supported row layouts: how to recognise them, and how to parse their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from harken.data import arena_layouts, labelled_texts, pair_layouts, response_layouts
from harken.data.conversations import Conversation
from harken.data.fields import Row
from harken.data.preferences import Comparison
from harken.data.token_pairs import is_token_pair
from harken.errors import UserError

TOKENISED = "tokenised_pairs"

LAYOUT_SAMPLE_ROWS = 100
"""Rows from which `auto` infers the layout."""


@dataclass(frozen=True)
class Layout:
    """Define one row layout. Its parsers raise `fields.RowError` for an invalid row; None where it has no such part."""

    name: str
    description: str
    """Its fields, as printed by `harken data --layouts`."""
    matches: Callable[[Row], bool]
    prompt: Callable[[Row], Conversation] | None
    """Parses the conversation to respond to, without the row's response."""
    demonstration: Callable[[Row], tuple[Conversation, str]] | None = None
    comparisons: Callable[[Row], tuple[Conversation, list[Comparison]]] | None = None
    make_comparisons: (
        Callable[[Sequence[Row], str, str], Callable[[Row], tuple[Conversation, list[Comparison]]]] | None
    ) = None
    """Builds `comparisons` from all rows of a file, `data.label_scale` and the file's name: one scale per file."""

    @property
    def has_comparisons(self) -> bool:
        """Return whether its rows hold comparisons of text."""
        return self.comparisons is not None or self.make_comparisons is not None


def _has(*names: str) -> Callable[[Row], bool]:
    return lambda row: all(name in row for name in names)


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        TOKENISED,
        "input_ids_chosen, input_ids_rejected; attention_mask_chosen, attention_mask_rejected optional",
        is_token_pair,
        None,
    ),
    Layout(
        "helpsteer3",
        "context, response1, response2, overall_preference (below 0: response1 is better; 0: tie), "
        "individual_preference, domain, language; common aliases are accepted",
        pair_layouts.is_helpsteer3,
        pair_layouts.helpsteer3_prompt,
        comparisons=pair_layouts.helpsteer3,
    ),
    Layout(
        "prompt_chosen_rejected",
        "prompt (text, dialogue or messages) or instruction (+ input) or question, chosen, rejected (text or "
        "messages); preference_strength optional (0: tie)",
        pair_layouts.is_prompt_chosen_rejected,
        pair_layouts.prompt_chosen_rejected_prompt,
        comparisons=pair_layouts.prompt_chosen_rejected,
    ),
    Layout(
        "chosen_rejected",
        "chosen, rejected: whole dialogues, as text (HH-RLHF) or messages; "
        "preference_strength optional (0: tie)",
        _has("chosen", "rejected"),
        pair_layouts.chosen_rejected_prompt,
        comparisons=pair_layouts.chosen_rejected,
    ),
    Layout(
        "a_b_label",
        "prompt or input or instruction; response_a, response_b (or output_1, output_2, …); "
        "label, preference, winner, better_response_id or preference_strength (numbers: data.label_scale), "
        "or votes annotator1, annotator2, …",
        pair_layouts.is_a_b_label,
        pair_layouts.a_b_label_prompt,
        make_comparisons=pair_layouts.a_b_label_reader,
    ),
    Layout(
        "battle",
        "prompt, response_a, response_b (a text, or a list of turns), winner_model_a, winner_model_b, winner_tie; or "
        "conversation_a, conversation_b, winner",
        arena_layouts.is_battle,
        arena_layouts.battle_prompt,
        comparisons=arena_layouts.battle,
    ),
    Layout(
        "scored_list",
        "prompt, answers or completions: a list of {text, rank} (1 is the best) or {text, score}",
        arena_layouts.is_scored_list,
        arena_layouts.scored_list_prompt,
        comparisons=arena_layouts.scored_list,
    ),
    Layout(
        "ranking",
        "prompt, responses (list), ranking (list of ranks, 1 is the best, equal ranks are ties)",
        _has("responses", "ranking"),
        pair_layouts.ranking_prompt,
        comparisons=pair_layouts.ranking,
    ),
    Layout(
        "messages",
        "messages or conversations: a list of {role, content}; the last assistant turn is the response",
        response_layouts.has_messages,
        response_layouts.messages_prompt,
        response_layouts.messages,
    ),
    Layout(
        "instances",
        "instruction, instances: a list of {input, output}, of which the first is used (self-instruct)",
        _has("instruction", "instances"),
        response_layouts.instances_prompt,
        response_layouts.instances,
    ),
    Layout(
        "instruction",
        "instruction, context or input (optional), response or output",
        _has("instruction"),
        response_layouts.prompt_response_prompt,
        response_layouts.prompt_response,
    ),
    Layout(
        "prompt",
        "prompt (text, dialogue or messages); response, completion, answer or output (text or messages) optional",
        _has("prompt"),
        response_layouts.prompt_response_prompt,
        response_layouts.prompt_response,
    ),
    Layout(
        "question",
        "question; answer optional",
        _has("question"),
        response_layouts.prompt_response_prompt,
        response_layouts.prompt_response,
    ),
    Layout(
        "turns",
        "turns: a list of user texts, of which the first is used",
        _has("turns"),
        response_layouts.turns_prompt,
    ),
    Layout(
        labelled_texts.LAYOUT,
        "text, label (two labels, such as pos and neg): the first data.prompt_tokens or data.prompt_words are the "
        "prompt; pairs join a positive and a negative text",
        labelled_texts.is_labelled_text,
        None,
    ),
    Layout(
        "text",
        "text: the prompt, a newline, the response",
        _has("text"),
        response_layouts.text_prompt,
        response_layouts.text,
    ),
)


def find_layout(name: str, rows: Sequence[Row], *, where: str) -> Layout:
    """Return the layout of this name; for "auto", the one that most of the first rows match, the most specific first.

    Raises UserError with the first row's fields when no layout has the name or matches.
    """
    names = [layout.name for layout in LAYOUTS]
    if name != "auto":
        if name in names:
            return LAYOUTS[names.index(name)]
        near = get_close_matches(name, names, n=1)
        raise UserError(
            f"there is no layout {name!r}",
            where="data.layout",
            fix=(f"write {near[0]!r}, or " if near else "") + f"choose among auto, {', '.join(names)}",
        )
    votes: dict[str, int] = {}
    for row in rows[:LAYOUT_SAMPLE_ROWS]:
        match = next((layout.name for layout in LAYOUTS if layout.matches(row)), None)
        if match:
            votes[match] = votes.get(match, 0) + 1
    if not votes:
        available = ", ".join(map(str, rows[0])) if rows and rows[0] else "none"
        raise UserError(
            f"no layout fits its rows; the first has the fields: {available[:300]}",
            where=where,
            fix=f"map its columns: {_proposal(rows)} (or data.prompt_column for prompts alone; "
            "`harken data --layouts` lists the layouts)",
        )
    return LAYOUTS[names.index(max(votes, key=lambda layout: votes[layout]))]


_WORDS = {
    "prompt": (
        "prompt",
        "question",
        "query",
        "input",
        "instruction",
        "ask",
        "post",
        "request",
        "user",
        "source",
    ),
    "chosen": ("chosen", "better", "preferred", "best", "win", "good", "positive", "accepted"),
    "rejected": ("rejected", "worse", "dispreferred", "worst", "los", "bad", "negative"),
    "response": ("response", "answer", "output", "completion", "reply", "target", "assistant", "summary"),
}
"""Parts of column names that suggest what a column holds."""


def _proposal(rows: Sequence[Row]) -> str:
    """Propose a `--set data.columns=…` from the names of the first row's columns."""
    columns = [str(key) for key, value in (rows[0] if rows else {}).items() if isinstance(value, str | list)]
    columns_by_field: dict[str, str] = {}
    for name, words in _WORDS.items():
        if name == "response" and "chosen" in columns_by_field and "rejected" in columns_by_field:
            continue
        match = next(
            (
                c
                for word in words
                for c in columns
                if word in c.lower() and c not in columns_by_field.values()
            ),
            None,
        )
        if match is not None:
            columns_by_field[name] = match
    if "prompt" not in columns_by_field or len(columns_by_field) == 1:
        first, second, *_ = [*columns, "your_prompt", "your_response"]
        columns_by_field = {"prompt": first, "response": second}
    return (
        "--set 'data.columns={"
        + ", ".join(f"{name}: {column}" for name, column in columns_by_field.items())
        + "}'"
    )
