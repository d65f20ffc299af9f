"""Collect the pairs of responses that a review may show, and draw items from them by strata. No torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from harken.config import DataConfig
from harken.config.review import ReviewConfig
from harken.data.parse import parse_preference_rows
from harken.errors import UserError
from harken.evaluation.response_files import MatchedFiles, fingerprint_rows, match_files, read_policies
from harken.records import Message, Preference, Prompt
from harken.run import trained_prompts
from harken.seeds import permutation

CHOSEN, REJECTED = "chosen", "rejected"
"""Names of the two sides where preference pairs are judged again."""
MAX_PAIR_TOKENS = 10**9
"""No pair is too long to show: limits of tokens belong to training."""
EQUAL_TEXTS = "equal texts"
_ASSISTANTS = re.compile(
    r"\b(?:chatgpt|gpt-?\d|openai|claude|anthropic|gemini|bard|llama|qwen|mistral|deepseek|smollm|alibaba)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """Hold two responses to one prompt: `texts[i]` is that of `policies[i]`.

    `gold` is the index of the better text where it is known, else None. `names_model`: a text names an assistant, so
    that a rater might guess its policy.
    """

    id: str
    prompt_id: str
    sample: int
    prompt: tuple[dict[str, Any], ...]
    policies: tuple[str, str]
    texts: tuple[str, str]
    stratum: str = ""
    gold: int | None = None
    gold_source: str = ""
    names_model: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the item as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ReviewItem:
        """Read an item written by `to_dict`."""
        pair = {name: tuple(fields[name]) for name in ("policies", "texts", "prompt")}
        return cls(**{**fields, **pair})

    def prompt_digest(self) -> str:
        """Return the hash by which runs record their training prompts."""
        return trained_prompts.digest([Message.from_dict(turn) for turn in self.prompt])


@dataclass(frozen=True)
class ItemPool:
    """Hold every pair that may be drawn, the policies in order, and what was left out."""

    policies: list[str]
    items: list[ReviewItem]
    left_out: dict[str, int]
    fingerprints: dict[str, str]
    matched: MatchedFiles | None = field(default=None, repr=False)


def collect_items(config: ReviewConfig) -> ItemPool:
    """Read the responses, and pair those to the same prompt and sample; pairs of equal text are left out.

    Raises UserError when there is one policy only, when files cannot be read or share no prompt, and when every pair
    has equal texts.
    """
    pool = _pool_of_pairs(config) if config.pairs_path else _pool_of_policies(config)
    if not pool.items:
        raise UserError(
            f"no two responses to one prompt differ: {pool.left_out.get(EQUAL_TEXTS, 0):,} pairs have equal texts",
            where="review",
            fix="name policies whose responses are not the same",
        )
    return pool


def draw_items(
    pool: Sequence[ReviewItem], count: int, seed: int
) -> tuple[list[ReviewItem], list[ReviewItem]]:
    """Draw `count` items at random, in proportion from each stratum and pair of policies; return them and the rest.

    The largest remainders get what rounding leaves. The same seed draws the same items, in the order of the pool.
    """
    groups: dict[tuple[str, tuple[str, str]], list[int]] = {}
    for place, item in enumerate(pool):
        groups.setdefault((item.stratum, item.policies), []).append(place)
    quotas = {key: len(places) * min(count, len(pool)) / len(pool) for key, places in groups.items()}
    shares = {key: int(quota) for key, quota in quotas.items()}
    missing = min(count, len(pool)) - sum(shares.values())
    for key in sorted(quotas, key=lambda key: (shares[key] - quotas[key], key))[:missing]:
        shares[key] += 1
    chosen: set[int] = set()
    for key, places in groups.items():
        order = permutation(len(places), seed, "review items", *key[1], key[0])
        chosen |= {places[i] for i in order[: shares[key]]}
    return (
        [item for i, item in enumerate(pool) if i in chosen],
        [item for i, item in enumerate(pool) if i not in chosen],
    )


def find_model_names(text: str, policies: Sequence[str]) -> bool:
    """Return whether a text names an assistant or one of the policies (of three letters or more)."""
    name_patterns = [
        re.escape(name) for name in policies if len(name) >= 3 and name not in (CHOSEN, REJECTED)
    ]
    named = bool(name_patterns) and re.search(rf"\b(?:{'|'.join(name_patterns)})\b", text) is not None
    return named or _ASSISTANTS.search(text) is not None


def _pool_of_policies(config: ReviewConfig) -> ItemPool:
    systems = read_policies(config.policies)
    files = {name: rows for system_files in systems.values() for name, rows in system_files.items()}
    policies = list(files)
    if len(policies) < 2:
        raise UserError(
            f"there is one policy only ({policies[0]})",
            where="review",
            fix="name two files of responses, or an evaluation of two policies",
        )
    matched = match_files(files, None, None)
    compared = (
        [(policies[0], other) for other in policies[1:]]
        if config.compare == "baseline"
        else list(combinations(policies, 2))
    )
    items: list[ReviewItem] = []
    left_out: Counter[str] = Counter()
    for prompt in matched.prompts:
        for left, right in compared:
            sample_pairs = zip(
                matched.responses[left][prompt.id], matched.responses[right][prompt.id], strict=True
            )
            for sample, (a, b) in enumerate(sample_pairs):
                texts = (str(a.text), str(b.text))
                if texts[0].strip() == texts[1].strip():
                    left_out[EQUAL_TEXTS] += 1
                    continue
                items.append(
                    ReviewItem(
                        id=f"i{len(items):06d}",
                        prompt_id=prompt.id,
                        sample=sample,
                        prompt=tuple(m.to_dict() for m in prompt.messages),
                        policies=(left, right),
                        texts=texts,
                        stratum=_stratum(prompt, a.details, config.strata),
                        names_model=any(find_model_names(text, policies) for text in texts),
                    )
                )
    prints = {name: fingerprint_rows(rows) for name, rows in files.items()}
    return ItemPool(policies, items, dict(left_out), prints, matched)


def _pool_of_pairs(config: ReviewConfig) -> ItemPool:
    assert config.pairs_path is not None
    items: list[ReviewItem] = []
    left_out: Counter[str] = Counter()
    pairs = read_pairs(config.pairs_path)
    for pair in pairs:
        if pair.chosen.strip() == pair.rejected.strip():
            left_out[EQUAL_TEXTS] += 1
            continue
        items.append(
            ReviewItem(
                id=f"i{len(items):06d}",
                prompt_id=pair.prompt.id,
                sample=0,
                prompt=tuple(m.to_dict() for m in pair.prompt.messages),
                policies=(CHOSEN, REJECTED),
                texts=(pair.chosen, pair.rejected),
                stratum=_stratum(pair.prompt, {}, config.strata),
                names_model=any(find_model_names(text, ()) for text in (pair.chosen, pair.rejected)),
            )
        )
    return ItemPool([CHOSEN, REJECTED], items, dict(left_out), {"pairs_path": _fingerprint_pairs(pairs)})


def _fingerprint_pairs(pairs: Sequence[Preference]) -> str:
    """Compute the sha256 of prompts and texts of pairs."""
    values = [[[m.to_dict() for m in p.prompt.messages], p.chosen, p.rejected] for p in pairs]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def read_pairs(path: str) -> list[Preference]:
    """Read preference pairs in any layout. Raises UserError as training does, and for pairs of token ids."""
    data = DataConfig(path=path, task="preference", max_length=MAX_PAIR_TOKENS)
    preferences = [pair for pair in parse_preference_rows(data)[0] if isinstance(pair, Preference)]
    if not preferences:
        raise UserError(
            "it has no pairs of texts", where=path, fix="name a file with chosen and rejected texts"
        )
    return preferences


def _stratum(prompt: Prompt, details: Mapping[str, str], columns: Sequence[str]) -> str:
    """Return the values of the columns that a prompt has, joined."""
    strata: dict[str, Any] = {
        **details, **prompt.details, "domain": prompt.domain, "language": prompt.language
    }  # fmt: skip
    return " / ".join(str(strata[name]) for name in columns if strata.get(name))
