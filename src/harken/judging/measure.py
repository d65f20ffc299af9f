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
"""The cache of verdicts in the folder of whatever a judge is used for."""


def measure_judge_agreement(config: AgreementConfig, output: Path) -> dict[str, Any]:
    """Judge labelled pairs, print the agreement, and write agreement.json and agreement.md into `output`.

    With the same folder it resumes: verdicts that are there are not asked for again. Raises UserError when the pairs
    cannot be read or the judge cannot be loaded.
    """
    rows = _read(config)
    judge = load_judge(config.judge, config.device, config.dtype)
    with write_lock(output):
        with signals.handle_signals():
            found = _measure(config, rows, judge, output)
        signals.raise_if_pending()
    return found


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
        kept = sorted(seeds.permutation(len(texts), config.seed, "judge")[: config.limit])
        texts = [texts[i] for i in kept]
    return texts


def _measure(
    config: AgreementConfig, rows: list[Preference], judge: PairJudge, output: Path
) -> dict[str, Any]:
    labelled = [labelled_pair(row, config.seed) for row in rows]
    cache = VerdictCache(output / VERDICTS, judge.identity)
    found = judge_pairs(judge, [one.pair for one in labelled], config, cache)
    valid = [one for number, one in enumerate(labelled) if number not in found.void]
    summary = summarise(found, config, judge.identity)
    figures = people_agreement(valid, found.valid, config.bootstrap, config.seed)
    result = {"data": config.data.path, **summary, "agreement": figures}
    lines = [*judge_lines(summary), *letter_lines(judge), *judge_agreement_lines(figures)]
    atomic.write_json(output / "agreement.json", result)
    atomic.write_text(output / "agreement.md", _markdown(config, lines))
    for line in lines:
        say(line)
    say(f"{output / 'agreement.md'}")
    return result


def letter_lines(judge: PairJudge) -> list[str]:
    """Return a line on how likely a local judge is to reply with a letter at all; [] for other judges."""
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
