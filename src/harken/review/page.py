"""Build the rater's page: the one that the server serves, and an offline pack. No torch.

A pack is one file with all of a rater's items, for raters without a network. It holds texts and opaque ids only, as the
wire does; but its reader can look ahead, compare repeats and edit votes, so its blinding is weaker.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from harken.errors import UserError
from harken.review.session import shown_task
from harken.review.study import FIX_SERVED, Study
from harken.review.tool_exports import FIX_EXPORT, read_tool_export, vote_uuid, votes_of_raters
from harken.review.votes import Vote, VoteRefused, VoteStore, parse_vote
from harken.run import atomic, bounded_read, json_io
from harken.run.folder import ReviewFolder
from harken.run.json_io import Schema
from harken.run.lock import write_lock
from harken.run.terminal import say

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{policy}<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Review</title>
{style}
</head>
<body>
<div id="review"></div>
<noscript>This page needs JavaScript.</noscript>
{data}{script}
</body>
</html>
"""
FIX_VOTE_FILE = (
    "export the votes again: on the rater's page, as JSON, JSON_MIN or CSV in Label Studio, or by export.py of the "
    "pack for Argilla"
)


class _VoteFile(Schema):
    study: str
    votes: list[dict[str, Any]]


def static_text(name: str) -> str:
    """Return a built asset of the page."""
    return (resources.files("harken.explorer") / "static" / name).read_text(encoding="utf-8")


def server_page() -> str:
    """Return the page that the server serves; its policy is a header."""
    return _PAGE.format(
        policy="",
        style='<link rel="stylesheet" href="review.css">',
        data="",
        script='<script src="review.js"></script>',
    )


def pack_page(study: Study, rater: str) -> str:
    """Return the offline page of one rater. It makes no request: the policy allows its own script and style alone."""
    content = {
        "study": study.hash,
        "rubric": study.config.rubric,
        "reasons": list(study.config.reasons),
        "tasks": [shown_task(study, task) for task in study.tasks[rater]],
    }
    script, style = static_text("review.js"), static_text("review.css")
    policy = (
        f"default-src 'none'; script-src '{_sha256(script)}'; style-src '{_sha256(style)}'; img-src data:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'; object-src 'none'"
    )
    data = base64.b64encode(json.dumps(content).encode("utf-8", "surrogatepass")).decode()
    return _PAGE.format(
        policy=f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
        style=f"<style>{style}</style>",
        data=f'<script type="application/json+base64" id="pack">{data}</script>\n',
        script=f"<script>{script}</script>",
    )


def write_packs(study: Study, out: Path) -> dict[str, Path]:
    """Write a pack for every rater: `out` for a single one, else `out` with the rater's name before its ending."""
    raters = list(study.tasks)
    pages = {}
    for rater in raters:
        path = out if len(raters) == 1 else out.with_name(f"{out.stem}-{rater}{out.suffix or '.html'}")
        atomic.write_text(path, pack_page(study, rater))
        pages[rater] = path
    return pages


def import_votes(study: Study, folder: ReviewFolder, path: Path) -> tuple[int, int]:
    """Add the votes of a pack to a study; return how many were new, and how many were there already.

    `path`: the votes of an offline page, or an export of Label Studio or Argilla. In an export a vote that differs from
    the standing one revises it; `votes_of_raters` says what is left out. Raises UserError if
    the review is locked, the file is no pack's or of another study, or a vote is refused; the votes before it are kept
    then.
    """
    page = _is_vote_file(path)
    if page:
        vote_file = json_io.read_object(path, FIX_VOTE_FILE)
        json_io.validate(vote_file, _VoteFile, str(path), FIX_VOTE_FILE)
        if vote_file["study"] != study.hash:
            raise UserError(
                "these votes are of another study", where=str(path), fix="name the study's own folder"
            )
        votes, client, fix = vote_file["votes"], "pack", FIX_VOTE_FILE
    else:
        export = read_tool_export(path)
        votes, left_out = votes_of_raters(study, export, str(path))
        client, fix = export.tool, FIX_EXPORT
        if left_out:
            say(f"{path}: left out {', '.join(f'{n:,} {reason}' for reason, n in left_out.items())}")
    added_count = 0
    with write_lock(folder.root, FIX_SERVED):
        if folder.lock.exists():
            raise UserError(
                "the review is locked",
                where=str(folder.root),
                fix="start another review: a lock is final",
            )
        store = VoteStore(folder.votes, study.hash)
        try:
            before = {vote.uuid for vote in store.votes()}
            for index, fields in enumerate(votes, start=1):
                try:
                    vote = _own_vote(study, fields if page else _revision(study, store, fields), client)
                    added_count += store.append(vote).uuid not in before
                except VoteRefused as error:
                    raise UserError(f"vote {index} is refused: {error}", where=str(path), fix=fix) from None
        finally:
            store.close()
    return added_count, len(votes) - added_count


def _is_vote_file(path: Path) -> bool:
    """Return whether a file is the votes of an offline page, one JSON object; exports are arrays or tables."""
    try:
        return bounded_read.read_bytes(path).lstrip()[:1] == b"{"
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})",
            where=str(path),
            fix="name a file of votes (records.json in a folder of Dataset.to_disk)",
        ) from None


def _revision(study: Study, store: VoteStore, fields: dict[str, Any]) -> dict[str, Any]:
    """Return an exported vote with its uuid: that of the standing vote if both are the same, else it revises that."""
    rater_task = study.by_task.get(str(fields.get("task")))
    current = store.current().get((rater_task[0], fields["task"])) if rater_task else None
    if current is not None and all(
        getattr(current, name) == (tuple(value) if name == "reasons" else value)
        for name, value in fields.items()
        if name != "task"
    ):
        return {**fields, "uuid": current.uuid, "supersedes": current.supersedes}
    supersedes = current.uuid if current else ""
    return {**fields, "uuid": vote_uuid(study, fields, supersedes), "supersedes": supersedes}


def _own_vote(study: Study, fields: dict[str, Any], client: str) -> Vote:
    """Return a vote of the rater whose task it is, marked by the client that it comes from."""
    rater_task = study.by_task.get(str(fields.get("task")))
    if rater_task is None:
        raise VoteRefused("no such item", 404)
    return parse_vote({**fields, "client": client}, rater_task[0], study.config.reasons)


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
