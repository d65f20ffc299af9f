"""Judge pairs batch by batch, with canaries in every batch, and summarise verdicts and cost. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harken.config.judge import EndpointJudge, JudgingConfig
from harken.judging.both_orders import (
    INCONSISTENT,
    POSITION_FIRST,
    POSITION_SECOND,
    JudgedPair,
    judge_both_orders,
    order_figures,
)
from harken.judging.cache import VerdictCache
from harken.judging.canaries import CanaryResult, count_wins, make_canaries
from harken.judging.pair import PairJudge, ResponsePair
from harken.run import signals
from harken.run.terminal import counter

BIAS_WORDS = {
    POSITION_FIRST: "prefers the response that is shown first",
    POSITION_SECOND: "prefers the response that is shown second",
    INCONSISTENT: "changes most verdicts with the order",
}


@dataclass(frozen=True)
class Judgements:
    """Hold the verdicts of a run in the order of its pairs, and those of its canaries.

    `void` has the numbers of the pairs whose batch is void: their verdicts do not count.
    """

    judged: list[JudgedPair]
    void: frozenset[int]
    canaries: list[CanaryResult]
    canary_verdicts: list[JudgedPair]

    @property
    def valid(self) -> list[JudgedPair]:
        """Return the pairs of batches that are not void."""
        return [pair for index, pair in enumerate(self.judged) if index not in self.void]


def judge_pairs(
    judge: PairJudge, pairs: Sequence[ResponsePair], config: JudgingConfig, cache: VerdictCache
) -> Judgements:
    """Ask for every pair in both orders, with canaries among each batch."""
    judged: list[JudgedPair] = []
    void_indices: set[int] = set()
    results: list[CanaryResult] = []
    verdicts: list[JudgedPair] = []
    with counter(f"judge {config.judge.column}", 2 * len(pairs)) as count:
        for start in range(0, len(pairs), config.batch):
            signals.raise_if_stopped()
            batch = pairs[start : start + config.batch]
            batch_index = start // config.batch
            canaries = make_canaries(batch, batch_index, config.seed) if config.canaries else []
            judged_canaries = judge_both_orders(judge, [canary.pair for canary in canaries], cache)
            result = count_wins(batch_index, canaries, judged_canaries)
            judged += judge_both_orders(judge, batch, cache, count.update)
            results, verdicts = [*results, result], [*verdicts, *judged_canaries]
            if canaries and result.is_void(config.max_canary_wins):
                void_indices |= set(range(start, start + len(batch)))
    return Judgements(judged, frozenset(void_indices), results if config.canaries else [], verdicts)


def summarise(judgements: Judgements, config: JudgingConfig, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary of a judge for JSON: identity, order effects, canaries and cost."""
    return {
        "judge": config.judge.column,
        "identity": dict(identity),
        "orders": order_figures(judgements.valid),
        "problems": _problems(judgements),
        "void_pairs": len(judgements.void),
        "canaries": _canary_figures(judgements, config),
        "models": sorted(
            {
                verdict.model
                for pair in judgements.judged
                for verdict in (pair.original, pair.swapped)
                if verdict.model
            }
        ),
        "cost": _cost(judgements, config),
    }


def _problems(judgements: Judgements) -> dict[str, int]:
    """Count why verdicts are missing, over pairs, canaries and void batches."""
    pairs = (*judgements.judged, *judgements.canary_verdicts)
    problems = [verdict.problem for pair in pairs for verdict in (pair.original, pair.swapped)]
    return dict(Counter(problem for problem in problems if problem is not None).most_common())


def _canary_figures(judgements: Judgements, config: JudgingConfig) -> dict[str, Any] | None:
    if not judgements.canaries:
        return None
    by_kind: Counter[str] = Counter()
    for result in judgements.canaries:
        by_kind.update(result.by_kind)
    comparisons = sum(result.comparisons for result in judgements.canaries)
    wins = sum(result.wins for result in judgements.canaries)
    return {
        "batches": len(judgements.canaries),
        "void_batches": [
            result.batch for result in judgements.canaries if result.is_void(config.max_canary_wins)
        ],
        "comparisons": comparisons,
        "wins": wins,
        "share": wins / comparisons if comparisons else None,
        "failed": sum(result.failed for result in judgements.canaries),
        "max_wins": config.max_canary_wins,
        "by_kind": {kind: count for kind, count in sorted(by_kind.items()) if count},
    }


def _cost(judgements: Judgements, config: JudgingConfig) -> dict[str, Any]:
    calls = [
        verdict
        for pair in (*judgements.judged, *judgements.canary_verdicts)
        for verdict in (pair.original, pair.swapped)
    ]
    cost: dict[str, Any] = {
        "verdicts": len(calls),
        "tokens_in": sum(verdict.tokens_in for verdict in calls),
        "tokens_out": sum(verdict.tokens_out for verdict in calls),
        "seconds": round(sum(verdict.seconds for verdict in calls), 3),
    }
    judge = config.judge
    if isinstance(judge, EndpointJudge) and (judge.price_in is not None or judge.price_out is not None):
        cost["price"] = (
            cost["tokens_in"] * (judge.price_in or 0.0) + cost["tokens_out"] * (judge.price_out or 0.0)
        ) / 1e6
    return cost


def judge_lines(summary: Mapping[str, Any]) -> list[str]:
    """Format a summary for the terminal; the last lines are warnings about the judge."""
    orders, canaries, cost = summary["orders"], summary["canaries"], summary["cost"]
    lines = [
        f"judge {summary['judge']}: {orders['pairs']:,} pairs in both orders; {orders['first'] + orders['second']:,} "
        f"consistent, {orders['inconsistent']:,} inconsistent, {orders['tie']:,} ties, {orders['failed']:,} without a "
        "verdict",
    ]
    if orders["flips"] is not None:
        lines.append(
            f"  verdict changes with the order: {format_share(orders['flips'])}; response shown first preferred: "
            f"{format_share(orders['first_shown'])} (50 % without a position bias)"
        )
    if canaries is not None and canaries["comparisons"]:
        won = f"{canaries['wins']:g} of {canaries['comparisons']:,} comparisons won"
        kinds = f" ({_join_counts(canaries['by_kind'])})" if canaries["by_kind"] else ""
        lines.append(f"  canaries: {won}{kinds}")
    price = f", price {cost['price']:.4g}" if "price" in cost else ""
    lines.append(
        f"  cost: {cost['verdicts']:,} verdicts, {cost['tokens_in']:,} tokens read, {cost['tokens_out']:,} written, "
        f"{cost['seconds']:.1f} s{price}; verdicts of earlier runs included"
    )
    return [*lines, *_warnings(summary)]


def _warnings(summary: Mapping[str, Any]) -> list[str]:
    orders, canaries = summary["orders"], summary["canaries"]
    lines = [f"warning: {summary['judge']} {BIAS_WORDS[name]} ({name})" for name in orders["biases"]]
    if summary["problems"]:
        lines.append(f"warning: no verdict for: {_join_counts(summary['problems'])}")
    if canaries is not None and canaries["void_batches"]:
        lines.append(
            f"warning: {len(canaries['void_batches'])} of {canaries['batches']} batches are void: canaries won more "
            f"than {100 * canaries['max_wins']:g} % of their comparisons, or got no verdict. {summary['void_pairs']:,} "
            "pairs do not count. Fix: choose another judge, or --set max_canary_wins=1 to count them"
        )
    return lines


def _join_counts(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:g}" for name, count in counts.items())


def format_share(rate: Mapping[str, float] | None) -> str:
    """Format a share with its interval: ``62.3 % [57.5, 67.0]``."""
    if rate is None:
        return "none"
    return f"{100 * rate['share']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
