"""A bootstrap of few clusters cannot reach 95 %: means have no interval then, and outputs say why. Synthetic rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from evaluation.test_pairs import row
from explorer.test_page_data import SCHEMA, faults

from harken.evaluation.compare import compare
from harken.evaluation.flip import flip_pair
from harken.evaluation.tables import tables
from harken.evaluation.verdict import headline
from harken.maths.statistics.bootstrap import (
    MIN_CLUSTERS,
    bca_interval,
    jackknife_ratio,
    percentile_interval,
    resample_ratios,
)
from harken.maths.statistics.intervals import TOO_FEW_PROMPTS, UNVARIED


def study(
    prompts: int, policies: str = "ABC", samples: int = 1, clusters: int | None = None
) -> dict[str, Any]:
    """Rewards, a judge, truncation and texts that all vary; `clusters` puts prompts into so many."""
    random = np.random.default_rng(prompts)
    rows = [
        row(
            policy, p, random.normal(), s, score_gold=float(random.normal()), cap_hit=bool((p + k) % 2),
            response="# Title\n" * int(random.integers(4)), response_tokens=int(random.integers(5, 60)),
            domain="xy"[p % 2], family=f"f{p % (clusters or prompts)}",
        )
        for k, policy in enumerate(policies)
        for p in range(prompts)
        for s in range(samples)
    ]  # fmt: skip
    return compare(rows, judges=["gold"], draws=300, refit_draws=50, cluster="family" if clusters else None)


def means(found: Any) -> Iterator[dict[str, Any]]:
    """Every mean of a bootstrap within a summary: that of a policy, pair or slice, and strengths."""
    if isinstance(found, dict):
        if "bca_low" in found or "no_interval" in found:
            yield found
        for value in found.values():
            yield from means(value)
    elif isinstance(found, list):
        for value in found:
            yield from means(value)


@pytest.mark.parametrize("clusters", [1, 2, 3, MIN_CLUSTERS - 1, MIN_CLUSTERS, 40])
def test_bootstrap_intervals_need_the_least_number_of_clusters(clusters: int):
    values = np.random.default_rng(clusters).exponential(size=clusters)
    replicates = resample_ratios(values[:, None], np.ones((clusters, 1)), 500, 0)[:, 0]
    jackknife = jackknife_ratio(values, np.ones(clusters))
    for low, high in (
        percentile_interval(replicates, clusters=clusters),
        bca_interval(float(values.mean()), replicates, jackknife, clusters=clusters),
    ):
        assert (low, high) == (-np.inf, np.inf) if clusters < MIN_CLUSTERS else -np.inf < low < high < np.inf


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("prompts", [2, MIN_CLUSTERS - 1])
def test_means_of_too_few_prompts_have_no_interval(prompts: int, samples: int):
    summary = study(prompts, samples=samples)
    found = list(means(summary))
    assert len(found) > 20
    # A rate that no response changed has the exact limit of a rate without a case.
    unchanged = [f for f in found if f.get("only_left") == f.get("only_right") == 0]
    assert all(f["low"] < 0 < f["high"] for f in unchanged)
    for figure in (f for f in found if f not in unchanged):
        assert (figure["low"], figure["high"], figure["no_interval"]) == (None, None, TOO_FEW_PROMPTS)
    # Rates have exact or adjusted intervals for any number.
    rate = summary["pairs"][0]["win_rate"]
    assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1 and rate["high"] - rate["low"] > 0.3
    controlled = summary["pairs"][0]["length"]["controlled"]
    assert controlled["high"] - controlled["low"] > 0.3
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_enough_prompts_have_intervals():
    summary = study(4 * MIN_CLUSTERS)
    assert all(figure["low"] is not None for figure in means(summary))
    assert "[–, –]" not in tables(summary, 200)


def test_what_counts_is_the_number_of_clusters():
    """A hundred prompts in two clusters are two."""
    summary = study(100, clusters=2)
    pair = summary["pairs"][0]
    assert (summary["prompts"], summary["clusters"]) == (100, 2)
    assert pair["reward"]["no_interval"] == TOO_FEW_PROMPTS
    assert study(100)["pairs"][0]["reward"]["low"] is not None


def test_a_slice_of_too_few_prompts_has_no_interval_though_the_whole_has_one():
    summary = study(2 * MIN_CLUSTERS - 1)
    pair = summary["pairs"][0]
    assert pair["reward"]["low"] is not None
    halves = {one["value"]: one for one in pair["slices"] if one["column"] == "domain"}
    assert halves["x"]["reward"]["low"] is not None
    assert halves["y"]["reward"]["no_interval"] == TOO_FEW_PROMPTS


def test_tables_and_sentences_say_why():
    summary = study(3)
    text = " ".join(tables(summary, 120).split())
    assert "[–, –]" in text and f"[–, –]: {TOO_FEW_PROMPTS}" in text
    alone = " ".join(tables(study(3, policies="A"), 120).split())
    assert f"[–, –]: {TOO_FEW_PROMPTS}" in alone
    lines = headline(summary, None, "A", "B", judge="gold")
    assert sum(TOO_FEW_PROMPTS in line for line in lines) >= 3, lines
    equal = compare([row(p, i, k) for k, p in enumerate("AB") for i in range(40)], draws=50, refit_draws=5)
    assert equal["pairs"][0]["reward"]["no_interval"] == UNVARIED
    assert f"[–, –]: {UNVARIED}" in " ".join(tables(equal, 120).split())


def test_the_exchanged_pair_says_it_too():
    pair = study(3)["pairs"][0]
    assert flip_pair(pair)["reward"]["no_interval"] == TOO_FEW_PROMPTS


@pytest.mark.parametrize("prompts", [2, 40])
def test_the_page_takes_both(prompts: int):
    summary = json.loads(json.dumps(study(prompts)))
    assert faults(summary, SCHEMA["$defs"]["summary"]) == []
