"""Serve a review to its raters: a page, and two routes that carry texts, opaque ids and votes. No torch.

Starlette and uvicorn are an optional extra; `require.require_server` says how to install them.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from harken.errors import UserError
from harken.review.guard import HEADERS, RequestGuard
from harken.review.links import RaterLinks, open_links, write_links
from harken.review.page import server_page, static_text
from harken.review.session import LOCKED, ReviewSession
from harken.review.study import FIX_SERVED, Study
from harken.review.votes import VoteRefused, VoteStore
from harken.run.folder import ReviewFolder
from harken.run.lock import write_lock
from harken.run.terminal import say

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8339
TOKEN_HEADER = "x-harken-token"
PROGRESS_SECONDS = 15.0
"""Seconds between lines of progress while votes arrive."""
ASSETS = {"review.js": "text/javascript; charset=utf-8", "review.css": "text/css; charset=utf-8"}
"""The page's files, with their content types."""


def review_application(session: ReviewSession, links: RaterLinks, hosts: Collection[str]) -> Any:
    """Return the ASGI application of a review, behind the checks of `guard`."""

    def rater_of(request: Request) -> str | None:
        return links.rater_of(request.headers.get(TOKEN_HEADER, ""))

    async def page(request: Request) -> Response:
        return Response(server_page(), headers={"content-type": "text/html; charset=utf-8"})

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:  # serve nothing else, whatever the path
            return PlainTextResponse("no such page", 404)
        return Response(static_text(name), headers={"content-type": ASSETS[name]})

    async def state(request: Request) -> Response:
        rater = rater_of(request)
        if rater is None:
            return _refused(401, "this link is not valid: ask for a new one")
        return JSONResponse(await run_in_threadpool(session.state, rater))

    async def vote(request: Request) -> Response:
        rater = rater_of(request)
        if rater is None:
            return _refused(401, "this link is not valid: ask for a new one")
        try:
            fields = json.loads(await request.body())
        except (ValueError, RecursionError):
            return _refused(400, "expected JSON")
        if not isinstance(fields, dict):
            return _refused(400, "expected a JSON object")
        try:
            await run_in_threadpool(session.submit, rater, fields)
        except VoteRefused as error:
            return _refused(error.status, str(error))
        except sqlite3.Error:
            return _refused(503, "the vote could not be stored: try again")
        return JSONResponse(await run_in_threadpool(session.state, rater))

    @asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[None]:
        watcher = asyncio.create_task(_say_progress(session))
        yield
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher

    routes = [
        Route("/", page),
        Route("/api/state", state),
        Route("/api/votes", vote, methods=["POST"]),
        Route("/{name}", asset),
    ]
    return RequestGuard(Starlette(routes=routes, lifespan=lifespan), hosts)


def serve_review(
    study: Study,
    folder: ReviewFolder,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    accepted: Collection[str] = (),
    browser: bool = True,
) -> None:
    """Serve until Ctrl-C. `port` 0: the previous port, else DEFAULT_PORT or the next free one.

    Raises UserError if the review is locked, another process serves it, the port is taken, or `host` stands for every
    address.
    """
    if host in ("0.0.0.0", "::", ""):
        raise UserError(
            "raters need the address that they will use, and the server refuses all others",
            where="--host",
            fix="name it, for example --host 192.168.1.20",
        )
    if unknown := sorted(set(accepted) - set(study.tasks)):
        raise UserError(
            f"no rater is called {unknown[0]!r}",
            where="--accept",
            fix=f"name one of {', '.join(study.tasks)}",
        )
    with write_lock(folder.root, FIX_SERVED):
        if folder.lock.exists():
            raise UserError(LOCKED, where=str(folder.root), fix=f"read {folder.markdown}")
        if folder.links.exists() and not folder.votes.exists():
            raise UserError(
                "it is missing, although this review was served: the votes were in it",
                where=str(folder.votes),
                fix=f"restore it, or delete {folder.links} to begin without votes and with new links",
            )
        store = VoteStore(folder.votes, study.hash)
        try:
            links = open_links(folder.links, list(study.tasks), port)
            session = ReviewSession(study, store, accepted)
            _serve(session, folder, links, host, browser)
            say(f"\n{session.progress()}")
        finally:
            store.close()
    say(f"continue: harken review {folder.root}    finish: harken review report {folder.root}")


def allowed_hosts(host: str, port: int) -> set[str]:
    """Return the Host headers of a review: its address, and on loopback the usual names of it."""
    names = {LOOPBACK, "localhost", "[::1]"} if host in (LOOPBACK, "localhost", "::1") else set()
    return {f"{name}:{port}" for name in names | {f"[{host}]" if ":" in host else host}}


class _ReviewServer(uvicorn.Server):
    """Print the links when the port is open, and distinguish a taken port from a signal."""

    port_taken = False
    announce: Callable[[], None]

    async def startup(self, sockets: list[Any] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            self.port_taken = True
            raise
        self.announce()


def _serve(session: ReviewSession, folder: ReviewFolder, links: RaterLinks, host: str, browser: bool) -> None:
    requested_port = [links.port] if links.port else [DEFAULT_PORT + i for i in range(20)]
    for number in requested_port:
        origin = replace(links, port=number)
        server = _ReviewServer(
            uvicorn.Config(
                review_application(session, origin, allowed_hosts(host, number)),
                host=host,
                port=number,
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                lifespan="on",
                ws="none",
                h11_max_incomplete_event_size=32_768,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=3,
                limit_concurrency=200,
            ),
        )
        server.announce = partial(_announce, origin, folder, host, browser)
        with suppress(KeyboardInterrupt, SystemExit):  # Ctrl-C and SIGTERM end the server normally
            server.run()
        if not server.port_taken:
            return
    raise UserError(
        f"port {requested_port[0]} is taken"
        if len(requested_port) == 1
        else f"ports {requested_port[0]} to {requested_port[-1]} are taken",
        where=f"{host}",
        fix="choose another with --port; raters need the new links then",
    )


def _announce(links: RaterLinks, folder: ReviewFolder, host: str, browser: bool) -> None:
    """Store the port for the next start, and print the links."""
    write_links(folder.links, links)
    say("Each rater has a link. It is a password: send it to that rater alone.")
    for rater in links.tokens:
        say(f"  {rater}: {links.url(rater, host)}")
    if host not in (LOOPBACK, "localhost", "::1"):
        say(
            "warning: texts and votes travel unencrypted over this network. On a network you do not trust keep "
            "127.0.0.1 and use a tunnel: ssh -L"
        )
    say("Ctrl-C ends the server; every vote is on the disk already.")
    if browser and len(links.tokens) == 1:
        threading.Thread(
            target=webbrowser.open, args=(links.url(next(iter(links.tokens)), host),), daemon=True
        ).start()


async def _say_progress(session: ReviewSession) -> None:
    """Print the counts of votes when they change."""
    printed = len(session.store.votes())
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        count = len(session.store.votes())
        if count != printed:
            printed = count
            say(session.progress())


def _refused(status: int, reason: str) -> Response:
    return JSONResponse({"error": reason}, status, headers=HEADERS)
