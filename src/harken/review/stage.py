"""Run a review as a stage of a pipeline: plan it, wait for the votes, export the pairs. No torch."""

from __future__ import annotations

from pathlib import Path

from harken.config.review import ReviewConfig
from harken.errors import RunFailed
from harken.review.added_pairs import rows_to_add
from harken.review.export import export_pairs, write_pairs
from harken.review.plan import study_lines
from harken.review.report import read_locked_votes
from harken.review.study import FIX_SERVED, open_study
from harken.review.votes import read_votes
from harken.run.folder import ReviewFolder
from harken.run.lock import write_lock
from harken.run.tracking import say


class WaitingForVotes(RunFailed):
    """Report that a pipeline cannot go on before people have voted. Its finished work is kept."""


def run_review_stage(config: ReviewConfig, output: Path) -> ReviewFolder:
    """Write `pairs.jsonl` of a locked review; without one, plan it and raise WaitingForVotes, which says what to do.

    Raises UserError if the folder holds a review of other settings, or no vote decides a pair.
    """
    folder = ReviewFolder(output)
    if folder.pairs.exists():
        say(f"{output}: finished; nothing to do")
        return folder
    with write_lock(output, FIX_SERVED):
        study = open_study(config, folder)
        votes = read_votes(folder.votes, study.hash)
    if not folder.lock.exists():
        for line in study_lines(study, votes):
            say(line)
        raise WaitingForVotes(
            "this pipeline waits for votes of people",
            where=str(output),
            fix=f"run: harken review {output}; after the votes: harken review report {output}; "
            "then the same pipeline again",
        )
    study, votes = read_locked_votes(folder)
    exported = export_pairs(study, votes)
    with write_lock(output, FIX_SERVED):
        added = rows_to_add(config.add_to, config.add_limit, config.seed)
        write_pairs(folder.pairs, exported, str(output), added)
    say(
        f"{folder.pairs}: {exported.line()}"
        + (f"; added to {len(added):,} of {config.add_to}" if added else "")
    )
    return folder
