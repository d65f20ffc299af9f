"""Build the page's examples: one prompt each, with the responses of the policies side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean, pstdev
from typing import Any

Rows = Sequence[Mapping[str, Any]]
Audited = Mapping[tuple[str, int, str], Mapping[str, Any]]
"""Audit results of responses by (prompt_id, sample, policy): "flags" and "loop"."""

_OWN_COLUMNS = frozenset(
    [
        *("policy", "prompt_id", "sample", "domain", "language", "prompt", "messages", "response"),
        *("prompt_tokens", "response_tokens", "stop", "reward", "repeated_4grams", "empty", "cap_hit"),
        *("source", "kl"),
    ]
)
"""Columns of a response that the page shows separately, as well as score_…."""


def example_data(
    rows: Rows,
    policies: Sequence[str],
    judges: Sequence[str],
    audited: Audited,
    queues: Sequence[str],
    tie_epsilon: float = 0.0,
) -> list[dict[str, Any]]:
    """Return one entry per prompt and sample, with responses in the order of `policies`.

    `rows` have the columns of responses.parquet; `reward` may be None. `queues` are the flags that are queues.
    """
    groups: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["prompt_id"], row["sample"]), {})[row["policy"]] = row
    has_samples = len({sample for _, sample in groups}) > 1
    gaps = _disagreements(rows, judges[0]) if judges else {}
    examples = []
    for index, ((prompt, sample), group) in enumerate(groups.items()):
        rows_of_policies = [group[policy] for policy in policies if policy in group]
        responses = [
            _response(row, audited.get((prompt, sample, row["policy"]), {}), judges)
            for row in rows_of_policies
        ]
        prompt_gaps = [gaps[id(row)] for row in rows_of_policies if id(row) in gaps]
        flagged = {flag for response in responses for flag in response["flags"]}
        examples.append(
            {
                "id": f"{prompt}/{sample}" if has_samples else prompt,
                "index": index,
                "domain": rows_of_policies[0]["domain"] or "",
                "language": rows_of_policies[0]["language"] or "",
                "messages": _messages(rows_of_policies[0]),
                "winner": _winner(rows_of_policies, tie_epsilon),
                "responses": responses,
                "queues": [queue for queue in queues if queue in flagged],
                "disagreement": round(max(prompt_gaps), 4) if prompt_gaps else None,
                "same": [
                    [left_index, right_index]
                    for (left_index, left), (right_index, right) in combinations(enumerate(responses), 2)
                    if left["text"] == right["text"]
                ],
                "extra": _extra(rows_of_policies[0]),
            }
        )
    return examples


def first_example(examples: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the id of the example to show first: responses that differ, and the scorers disagree most.

    Without a second scorer: the largest difference of rewards; without rewards: the most flags. Ties keep the first.
    """

    def interest(example: Mapping[str, Any]) -> tuple[bool, float, float, int]:
        responses = example["responses"]
        count = len(responses)
        differs = count < 2 or len(example["same"]) < count * (count - 1) // 2
        rewards = [response["reward"] for response in responses if response["reward"] is not None]
        spread = max(rewards) - min(rewards) if rewards else 0.0
        flags = sum(len(response["flags"]) for response in responses)
        return differs, example["disagreement"] or 0.0, spread, flags

    return max(examples, key=interest)["id"] if examples else None


def _winner(rows: Rows, epsilon: float) -> str | None:
    """Return the policy whose reward exceeds all others by more than epsilon; None also where a reward is missing."""
    if any(row["reward"] is None for row in rows):
        return None
    best = max(rows, key=lambda row: float(row["reward"]))
    near_best = [row for row in rows if row["reward"] >= best["reward"] - epsilon]
    return str(best["policy"]) if len(near_best) == 1 else None


def _messages(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return role and content of each turn; the page does not show other keys, such as tool calls."""
    turns = json.loads(row["messages"])
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def _response(row: Mapping[str, Any], measures: Mapping[str, Any], judges: Sequence[str]) -> dict[str, Any]:
    response = {
        "policy": row["policy"],
        "text": row["response"],
        "tokens": row["response_tokens"],
        "stop": row["stop"],
        "reward": row["reward"],
        "scores": {judge: row.get(f"score_{judge}") for judge in judges},
        "repeated_4grams": row["repeated_4grams"],
        "loop": measures["loop"].times if measures.get("loop") else None,
        "flags": measures.get("flags", []),
    }
    return response | {key: row[key] for key in ("source", "kl") if row.get(key) is not None}


def _extra(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str | int | float | None) else json.dumps(value, default=str)
        for name, value in row.items()
        if name not in _OWN_COLUMNS and not name.startswith("score_")
    }


def _disagreements(rows: Rows, judge: str) -> dict[int, float]:
    """Return |z of the reward − z of the judge| of each row that has both, by the row's id()."""
    scored = [row for row in rows if row["reward"] is not None and row.get(f"score_{judge}") is not None]
    rewards, scores = (
        _standardised([float(row[column]) for row in scored]) for column in ("reward", f"score_{judge}")
    )
    return {id(row): abs(reward - score) for row, reward, score in zip(scored, rewards, scores, strict=True)}


def _standardised(values: Sequence[float]) -> list[float]:
    """Return standard scores; zeros where the values do not vary."""
    if not values:
        return []
    mean, spread = fmean(values), pstdev(values)
    return [(value - mean) / spread if spread else 0.0 for value in values]
