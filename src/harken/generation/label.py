"""Make preference pairs by a judge: both orders of every pair, canaries, soft labels, and biases of the labels."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.config.labelling import LabelConfig
from harken.data.pair_features import JUDGE_RATER, PAIR_FEATURES
from harken.errors import RunFailed, UserError
from harken.generation.once import WrittenResults, write_once
from harken.generation.pairs_to_label import PairSource, read_pairs_to_label
from harken.judging.both_orders import JudgedPair, share_interval
from harken.judging.cache import VerdictCache
from harken.judging.endpoint import TRANSPORT_PROBLEM
from harken.judging.load import load_judge
from harken.judging.measure import letter_lines
from harken.judging.pair import PairJudge
from harken.judging.session import Judgements, format_share, judge_lines, judge_pairs, summarise
from harken.run import atomic, signals
from harken.run.counted import counted
from harken.run.folder import PairsFolder
from harken.run.lock import write_lock


def run_label(config: LabelConfig, output: Path) -> PairsFolder:
    """Write `pairs.jsonl`: the better response of each pair by the judge, with its probability as the label.

    With the same folder it resumes: stored verdicts are not asked for again, and the pairs have the same bytes.
    Raises UserError when no pair can be made, RunFailed when the endpoint left pairs without a verdict, and as
    `write_once` does.
    """
    sources, counts = read_pairs_to_label(config)
    judge = load_judge(config.judge, config.device, config.dtype)
    with write_lock(output):
        with signals.handle_signals():
            folder = _run(config, sources, counts, judge, PairsFolder(output))
        signals.raise_if_pending()
        return folder


def _run(
    config: LabelConfig,
    sources: Sequence[PairSource],
    counts: Counter[str],
    judge: PairJudge,
    folder: PairsFolder,
) -> PairsFolder:
    settings = config.model_dump(mode="json", exclude={"output_dir"}) | {
        "fingerprints": {"pairs": _fingerprint(sources), "judge": dict(judge.identity)}
    }

    def make() -> WrittenResults:
        cache = VerdictCache(folder.judgements, judge.identity)
        judgements = judge_pairs(judge, [source.pair for source in sources], config, cache)
        _require_verdicts(judgements, folder)
        rows = _rows(config, sources, judgements)
        summary = summarise(judgements, config, judge.identity)
        if not rows:
            raise UserError(
                f"the judge gives no pair: {'; '.join(judge_lines(summary))}",
                where=str(folder.root),
                fix="choose another judge, or --set max_canary_wins=1 or inconsistent=tie",
            )
        ties = sum(not row["preference_strength"] for row in rows)
        favours = label_biases(rows)
        atomic.write_text(folder.pairs, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        atomic.write_json(folder.judge, {**summary, "favours": favours})
        lines = [*judge_lines(summary), *letter_lines(judge), *_bias_lines(favours)]
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in counts.items())
        lines += [f"left out: {reasons}"] if reasons else []
        tie_count = f", {ties:,} of them ties" if ties else ""
        lines.append(f"{folder.pairs}: {counted(len(rows), 'pair')} of {len(sources):,} compared{tie_count}")
        if ties == len(rows):
            lines.append("warning: the judge prefers no response: nothing can be learnt from ties alone")
        lineage = {
            "responses": {"name": config.responses, "fingerprint": settings["fingerprints"]["pairs"]},
            "judge": {"name": config.judge.column, **judge.identity},
        }
        return WrittenResults(lineage, {"pairs": len(rows), "compared": len(sources), **counts}, lines)

    write_once(folder, settings, make)
    return folder


def _fingerprint(sources: Sequence[PairSource]) -> str:
    return hashlib.sha256("".join(source.pair.content() for source in sources).encode()).hexdigest()


def _require_verdicts(judgements: Judgements, folder: PairsFolder) -> None:
    """Raise RunFailed if the endpoint did not reply to every pair; another run can complete them."""
    problems = [judged.problem or "" for judged in (*judgements.judged, *judgements.canary_verdicts)]
    if missing := [problem for problem in problems if problem.startswith(TRANSPORT_PROBLEM)]:
        raise RunFailed(
            f"{len(missing):,} pairs have no verdict ({missing[0]})",
            where=str(folder.root),
            fix="run the same command again: the verdicts so far are kept",
        )


def _rows(config: LabelConfig, sources: Sequence[PairSource], judgements: Judgements) -> list[dict[str, Any]]:
    rows = []
    for index, (source, judged) in enumerate(zip(sources, judgements.judged, strict=True)):
        outcome = judged.outcome
        if outcome == "inconsistent" and config.inconsistent == "tie":
            outcome = "tie"
        if index not in judgements.void and outcome in ("first", "second", "tie"):
            rows.append(_row(config, source, judged, outcome))
    return rows


def _row(config: LabelConfig, source: PairSource, judged: JudgedPair, outcome: str) -> dict[str, Any]:
    """Return one pair in the conversational form; `chosen_probability` is the soft label that training reads."""
    swap = outcome == "second"
    texts = (source.pair.second, source.pair.first) if swap else (source.pair.first, source.pair.second)
    origins = source.origins[::-1] if swap else source.origins
    probabilities = judged.probabilities
    assert probabilities is not None
    chosen = [1 - p for p in probabilities] if swap else list(probabilities)
    sides = dict(zip(("chosen", "rejected"), zip(texts, origins, strict=True), strict=True))
    return {
        **source.prompt_columns(),
        **{side: [{"role": "assistant", "content": text}] for side, (text, _) in sides.items()},
        "preference_strength": 0.0 if outcome == "tie" else 1.0,
        "chosen_probability": 0.5 if outcome == "tie" else max(sum(chosen) / 2, 0.5),
        **{f"{side}_{key}": value for side, (_, origin) in sides.items() for key, value in origin.items()},
        "rater": JUDGE_RATER + config.judge.column,
        "judge_probabilities": chosen,
        "consistent": judged.outcome != "inconsistent",
        "measured": judged.original.measured and judged.swapped.measured,
    }


def label_biases(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compute how often the chosen response has more of each feature, among pairs that differ in it."""
    biases: dict[str, Any] = {}
    for name, (_, count) in PAIR_FEATURES.items():
        gaps = [
            count(row["chosen"][-1]["content"]) - count(row["rejected"][-1]["content"])
            for row in rows
            if row["preference_strength"]
        ]
        biases[name] = share_interval([float(gap > 0) for gap in gaps if gap])
    return biases


def _bias_lines(favours: Mapping[str, Any]) -> list[str]:
    descriptions = [
        f"{PAIR_FEATURES[name][0]} {format_share(share)}"
        for name, share in favours.items()
        if share is not None
    ]
    return [f"  its labels favour: {'; '.join(descriptions)}"] if descriptions else []
