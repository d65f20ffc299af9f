"""Lock a review, unblind its votes, and write the report. No torch.

The lock records the hash of the last vote: no further vote is accepted, and a vote that is changed later is detected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from harken.errors import UserError
from harken.review.live import live_line, publish_votes, run_behind
from harken.review.outcomes import unblind
from harken.review.plan import detectable_text
from harken.review.report_page import write_report_page
from harken.review.statistics import review_figures
from harken.review.study import FIX_SERVED, FIX_STUDY, Study, read_study
from harken.review.votes import GENESIS, Vote, read_votes
from harken.run import atomic, json_io
from harken.run.folder import ReviewFolder
from harken.run.json_io import Schema
from harken.run.lock import write_lock


class _LockFile(Schema):
    study: str
    votes: int
    head: str
    locked_at: str


def lock_and_report(folder: ReviewFolder, *, early: bool = False) -> dict[str, Any]:
    """Lock the review unless it is locked, unblind it, and write its report. Return the figures.

    The report is `report.json`, `report.md` and `report.html`. The votes of a review of a training run are also passed
    to that run.

    Raises UserError if a server is running, items are open (unless `early`), there are no votes, or the votes are not
    those that were locked.
    """
    with write_lock(folder.root, FIX_SERVED):
        study = read_study(folder)
        votes = read_votes(folder.votes, study.hash)
        if folder.lock.exists():
            require_locked(folder, study, votes)
        else:
            _require_complete(folder, study, votes, early)
            locked = {
                "study": study.hash,
                "votes": len(votes),
                "head": votes[-1].hash if votes else GENESIS,
                "locked_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            atomic.write_json(folder.lock, locked)
        figures = review_figures(study, votes)
        if (run := run_behind(study.config)) is not None and (
            live_votes := publish_votes(run, figures)
        ) is not None:
            figures["live"] = {**live_votes, "sentence": live_line(live_votes, run)}
        atomic.write_json(folder.report, figures)
        lines = report_lines(figures)
        atomic.write_text(folder.markdown, "\n".join(lines) + "\n")
        write_report_page(folder.page, figures, lines)
        return figures


def require_locked(folder: ReviewFolder, study: Study, votes: Sequence[Vote]) -> None:
    """Raise UserError unless the review is locked, and the votes are those that were locked."""
    if not folder.lock.exists():
        raise UserError(
            "this review is not locked: votes are unblinded after it has ended",
            where=str(folder.root),
            fix=f"finish it: harken review report {folder.root}",
        )
    lock_record = json_io.read_object(folder.lock, FIX_STUDY)
    json_io.validate(lock_record, _LockFile, str(folder.lock), FIX_STUDY)
    head = votes[-1].hash if votes else GENESIS
    if (lock_record["study"], lock_record["votes"], lock_record["head"]) != (study.hash, len(votes), head):
        raise UserError(
            f"the votes are not those that were locked ({len(votes)} rows, {lock_record['votes']} at the lock)",
            where=str(folder.votes),
            fix="restore votes.sqlite",
        )


def read_locked_votes(folder: ReviewFolder) -> tuple[Study, list[Vote]]:
    """Return study and votes of a locked review. Raises UserError as `require_locked`."""
    study = read_study(folder)
    votes = read_votes(folder.votes, study.hash)
    require_locked(folder, study, votes)
    return study, votes


def report_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return the report in Markdown, headline first."""
    lines = ["# Blinded review", "", _headline(figures), ""]
    if live := figures.get("live"):
        lines += [live["sentence"], ""]
    for pair in figures["pairs"]:
        lines += _pair_lines(pair)
    if figures["strengths"]:
        lines += ["## Strengths", "", "Bradley–Terry, in nats of the odds against the first policy:", ""]
        if any(entry["low"] is None for entry in figures["strengths"]):
            lines += ["Too few prompts or votes that vary too little give no interval.", ""]
        lines += [f"- {entry['policy']}: {_between(entry)}" for entry in figures["strengths"]]
        lines.append("")
    lines += _agreement_lines(figures["agreement"])
    lines += ["## Raters", ""]
    for entry in figures["raters"]:
        lines += _rater_lines(entry)
    lines += ["", "## Calibration", ""]
    lines += [
        f"- {entry['rater']}: {entry['status']}, {entry['gold_right']} of {entry['gold']} gold right"
        for entry in figures["calibration"]
    ]
    items = figures["items"]
    lines += ["", "## Study", ""]
    lines.append(
        f"{items['voted']} of {items['items']} items have votes; {items['candidates']} pairs could be drawn"
        + "".join(f"; left out: {count} with {reason}" for reason, count in items["left_out"].items())
        + f". Items that name a model in a response: {items['names_model']}. Study {figures['study'][:16]}."
    )
    return lines


def _require_complete(folder: ReviewFolder, study: Study, votes: Sequence[Vote], early: bool) -> None:
    done = {(vote.vote.rater, vote.task.id) for vote in unblind(study, votes)}
    total = len(study.by_task)
    if not done:
        raise UserError("there are no votes", where=str(folder.root), fix=f"run: harken review {folder.root}")
    if len(done) < total and not early:
        raise UserError(
            f"{total - len(done)} of {total} items are open, and a lock is final",
            where=str(folder.root),
            fix="wait until they are done, or lock what there is with --early",
        )


def _headline(figures: Mapping[str, Any]) -> str:
    decision = figures["headline"]
    if not figures["pairs"]:
        return f"No item was decided: {_why_undecided(figures)}."
    if not decision["allowed"]:
        return (
            f"**No headline:** {decision['why']}. The figures below describe these votes and no preference."
        )
    sentences = []
    for pair in figures["pairs"]:
        left, right, rate = pair["left"], pair["right"], pair["win_rate_decided"]
        if rate is None:
            sentences.append(f"All items of {right} against {left} are ties.")
        elif pair["holm_p"] < 1 - figures["confidence"] and not rate["low"] <= 0.5 <= rate["high"]:
            better, worse = (right, left) if rate["value"] > 0.5 else (left, right)
            value, low, high = (
                (rate["value"], rate["low"], rate["high"])
                if better == right
                else (1 - rate["value"], 1 - rate["high"], 1 - rate["low"])
            )
            sentences.append(
                f"Raters prefer **{better}** to {worse} in {value:.1%} of the decided items "
                f"(95 % interval {low:.1%} to {high:.1%})."
            )
        else:
            sentences.append(
                f"Raters are not shown to prefer {right} or {left}: {right} wins {rate['value']:.1%} of decided items "
                f"(95 % interval {rate['low']:.1%} to {rate['high']:.1%}); {detectable_text(rate['n'])}."
            )
    return " ".join(sentences)


def _why_undecided(figures: Mapping[str, Any]) -> str:
    return "all votes on compared items are skips" if figures["votes"] else "no compared item has a vote"


def _pair_lines(pair: Mapping[str, Any]) -> list[str]:
    lines = [f"## {pair['right']} against {pair['left']}", ""]
    lines.append(
        f"{pair['wins']} wins, {pair['ties']} ties, {pair['losses']} losses on {pair['n']} items "
        f"({pair['votes']} votes, {pair['both_bad']} of them both bad, and {pair['skips']} skips)."
    )
    for name, label in (
        ("win_rate_decided", "of decided items"),
        ("win_rate", "of all items"),
        ("win_share", "with ties as half a win"),
    ):
        if (rate := pair[name]) is not None:
            lines.append(
                f"- win rate {label}: {rate['value']:.1%}, 95 % interval {rate['low']:.1%} to {rate['high']:.1%}"
            )
    lines.append(
        f"- exact sign test over prompts: p = {pair['sign_test_p']:.3g}, after Holm {pair['holm_p']:.3g}"
    )
    for variant in pair["sensitivity"]:
        rate = variant["win_rate_decided"]
        lines.append(
            f"- {variant['label']}: {variant['wins']} wins, {variant['ties']} ties, {variant['losses']} losses"
            + ("" if rate is None else f", {rate:.1%} of decided items")
        )
    return [*lines, ""]


def _agreement_lines(agreement: Mapping[str, Any] | None) -> list[str]:
    lines = ["## Agreement of raters", ""]
    if agreement is None:
        return [*lines, "No item has two votes.", ""]
    lines.append(f"{agreement['items']} items were judged by two or more raters.")
    lines.append(f"- equal outcomes: {agreement['percent']:.1%} of pairs of raters")
    for name, label in (
        ("alpha_ordinal", "alpha, ordinal (strengths)"),
        ("alpha_nominal", "alpha, nominal (outcomes)"),
    ):
        if (alpha := agreement[name]) is not None:
            lines.append(f"- Krippendorff's {label}: {_between(alpha)}")
    if agreement["fleiss_kappa"] is not None:
        lines.append(f"- Fleiss' kappa: {agreement['fleiss_kappa']:.2f}")
    for kappas in agreement["cohen_kappa"]:
        kappa = "not defined" if kappas["kappa"] is None else f"{kappas['kappa']:.2f}"
        lines.append(
            f"- {' and '.join(kappas['raters'])}: equal in {kappas['agree']} of {kappas['items']}, "
            f"Cohen's kappa {kappa}"
        )
    if (ceiling := agreement["ceiling"]) is not None:
        lines.append(
            f"- a rater agrees with the other in {ceiling['agreement']:.1%} of decided cases "
            f"(95 % interval {ceiling['low']:.1%} to {ceiling['high']:.1%}): what a reward model can reach here"
        )
    return [*lines, ""]


def _rater_lines(rater: Mapping[str, Any]) -> list[str]:
    def part(label: str, counts: Mapping[str, Any] | None) -> str:
        return "" if counts is None else f"; {label} {counts['count']} of {counts['n']}"

    position, repeats = rater["position"], rater["repeats"]
    line = f"- **{rater['rater']}**: {rater['votes']} of {rater['tasks']} votes, {rater['skips']} skips"
    line += part("gold right", rater["gold"]) + part("faster than reading", rater["too_fast"])
    if rater["median_seconds"] is not None:
        line += f"; median {rater['median_seconds']:.0f} s an item"
    if repeats is not None:
        line += part("same on repeats", repeats["same"]) + part("same side on repeats", repeats["same_side"])
    if position is not None:
        line += f"; left in {position['count']} of {position['n']} decided votes"
        line += f" (p = {position['holm_p']:.2g} after Holm)"
    lines = [line]
    for name, drift in rater["drift"].items():
        if drift["p"] is not None and drift["holm_p"] < 0.05:
            first_half, second_half = drift["first_half"], drift["second_half"]
            lines.append(
                f"  - {name.replace('_', ' ')} changes over time: {first_half['value']:.0%} in the first half, "
                f"{second_half['value']:.0%} in the second (p = {drift['holm_p']:.2g} after Holm)"
            )
    return lines


def _between(figure: Mapping[str, Any]) -> str:
    if figure["low"] is None or figure["high"] is None:
        return f"{figure['value']:.2f}"
    return f"{figure['value']:.2f}, 95 % interval {figure['low']:.2f} to {figure['high']:.2f}"
