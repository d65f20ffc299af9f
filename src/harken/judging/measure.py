"""Run a judge over pairs that people labelled, and write its agreement with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harken import seeds
from harken.config.labelling import AgreementConfig
from harken.data import sources
from harken.errors import UserError
from harken.judging.agreement import judge_agreement_lines, labelled_pair, people_agreement
from harken.judging.cache import VerdictCache
from harken.judging.load import load_judge
from harken.judging.local import LocalPairJudge
from harken.judging.pair import PairJudge
from harken.judging.session import judge_lines, judge_pairs, summarise
from harken.records import Preference
from harken.run import atomic, signals
from harken.run.lock import write_lock
from harken.run.terminal import say

VERDICTS = "judgements.jsonl"
"""File name of the cache of verdicts in an output folder."""


def measure_judge_agreement(config: AgreementConfig, output: Path) -> dict[str, Any]:
    """Judge labelled pairs, print the agreement, and write agreement.json and agreement.md into `output`.

    With the same folder it resumes: stored verdicts are not asked for again. Raises UserError when the pairs
    cannot be read or the judge cannot be loaded.
    """
    rows = _read(config)
    judge = load_judge(config.judge, config.device, config.dtype)
    with write_lock(output):
        with signals.handle_signals():
            figures = _measure(config, rows, judge, output)
        signals.raise_if_pending()
    return figures


def _read(config: AgreementConfig) -> list[Preference]:
    pairs, report = sources.load_preferences(config.data, None, config.seed)
    texts = [pair for pair in pairs if isinstance(pair, Preference)]
    if len(texts) < len(pairs):
        raise UserError(
            "its pairs are token ids, which a judge cannot read",
            where=config.data.path,
            fix="give pairs of texts",
        )
    for line in report.summary():
        say(line)
    if config.limit is not None and config.limit < len(texts):
        indices = sorted(seeds.permutation(len(texts), config.seed, "judge")[: config.limit])
        texts = [texts[i] for i in indices]
    return texts


def _measure(
    config: AgreementConfig, rows: list[Preference], judge: PairJudge, output: Path
) -> dict[str, Any]:
    labelled = [labelled_pair(row, config.seed) for row in rows]
    cache = VerdictCache(output / VERDICTS, judge.identity)
    judgements = judge_pairs(judge, [pair.pair for pair in labelled], config, cache)
    valid = [pair for index, pair in enumerate(labelled) if index not in judgements.void]
    summary = summarise(judgements, config, judge.identity)
    figures = people_agreement(valid, judgements.valid, config.bootstrap, config.seed)
    result = {"data": config.data.path, **summary, "agreement": figures}
    lines = [*judge_lines(summary), *letter_lines(judge), *judge_agreement_lines(figures)]
    atomic.write_json(output / "agreement.json", result)
    atomic.write_text(output / "agreement.md", _markdown(config, lines))
    for line in lines:
        say(line)
    say(f"{output / 'agreement.md'}")
    return result


def letter_lines(judge: PairJudge) -> list[str]:
    """Return a line on the probability that a local judge replies with a letter; [] for other judges."""
    if not isinstance(judge, LocalPairJudge) or not judge.letter_mass:
        return []
    mass = sorted(judge.letter_mass)[len(judge.letter_mass) // 2]
    low = (
        "warning: the judge rarely replies with a letter: it may be too small to judge. "
        if mass < 0.5
        else "  "
    )
    return [f"{low}probability of the letters A and B together: median {mass:.3f}"]


def _markdown(config: AgreementConfig, lines: list[str]) -> str:
    body = "\n".join(f"- {line.strip()}" for line in lines)
    return f"# Agreement of {config.judge.column} with people\n\n{config.data.path}\n\n{body}\n"
