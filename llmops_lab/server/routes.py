"""The routes: the review page, its calls, and the files that it is made of.

Whoever is not logged in gets the login page, or 403 for a call. Who rates is who the server's identity provider says it is, and nothing
that a request contains. A call needs Jupyter's XSRF token and comes from a page of this server.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

from llmops_lab import settings as _settings
from llmops_lab.errors import BadInput, LabError, StoreError, UnknownName
from llmops_lab.server.page import refusal, review_page
from llmops_lab.server.projects import folder_below, rating_view

RESOURCE = "llmops_lab"
BODY_BYTES = 1_000_000
STATIC = Path(__file__).parent.parent / "widgets" / "static"
_threads = ThreadPoolExecutor(4, thread_name_prefix="llmops-lab-review")  # ledgers are read and written here, never on the event loop


def handlers(base_url: str) -> list[tuple[Any, ...]]:
    """Pattern and handler of every route."""
    base = url_path_join(base_url, "llmops-lab")
    return [
        (f"{base}/review/([^/]+)", ReviewPage),
        (f"{base}/api/rating/([^/]+)", RatingCalls),
        (f"{base}/static/(page\\.(?:js|css))", Bundle, {"path": str(STATIC)}),
    ]


class ReviewPage(JupyterHandler):
    """The page of a queue, for a person in a tab of its own."""

    auth_resource = RESOURCE

    @web.authenticated
    @authorized
    async def get(self, queue: str) -> None:
        """Send the page. A queue that is not there is a 404."""
        project, user = self.get_query_argument("project", ""), self.current_user
        try:
            await _with_queue(self.settings["serverapp"].root_dir, project, queue, lambda view: None)
            if not (STATIC / "page.js").is_file():
                raise LabError("The page's script is missing: `pip install` builds it where node is. Rate in a notebook meanwhile.")
        except LabError as error:
            self.set_status(_status(error))
            await self._send(*refusal(str(error)))
            return
        if self.get_query_argument("token", ""):  # it has logged this browser in, and need stand in no address bar and no history
            self.redirect(f"{self.request.path}?{urlencode({'project': project})}")
            return
        ours, query = url_path_join(self.base_url, "llmops-lab"), urlencode({"project": project, "user": user.username})
        _ = self.xsrf_token  # reading it sets the cookie that the page's calls must show
        calls = f"{ours}/api/rating/{quote(queue, safe='')}?{query}"
        await self._send(*review_page(title=queue, static=f"{ours}/static", calls=calls))

    async def _send(self, page: str, policy: str) -> None:
        for name, value in (("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store")):
            self.set_header(name, value)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        await self.finish(page)


class RatingCalls(APIHandler):
    """What the page asks: ``{"method", "params"}``, answered with ``{"ok", "data", "buffers"}`` or ``{"ok", "error"}``."""

    auth_resource = RESOURCE

    @web.authenticated
    @authorized
    async def post(self, queue: str) -> None:
        """Call the queue's rating view as the user who is logged in."""
        user = self.current_user.username
        if self.get_query_argument("user", user) != user:  # a page that is still open, in a browser where somebody else has logged in since
            raise web.HTTPError(403, "this page belongs to another user. Open your own link again.")
        try:
            method, params = _asked(self.request)
            project = self.get_query_argument("project", "")
            answer = await _with_queue(
                self.settings["serverapp"].root_dir, project, queue, lambda view: view.call(method, params, user=user)
            )
        except LabError as error:
            self._refuse(_status(error), type(error).__name__, str(error))
            return
        buffers = [base64.b64encode(each).decode("ascii") for each in answer.buffers]
        self._say({"ok": True, "data": answer.data, "buffers": buffers})

    def _refuse(self, status: int, kind: str, message: str) -> None:
        self.set_status(status)
        self._say({"ok": False, "error": {"type": kind, "message": message}})

    def _say(self, told: dict[str, Any]) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(told))


class Bundle(JupyterHandler, web.StaticFileHandler):
    """The page's script and style; no other file."""

    auth_resource = RESOURCE

    @web.authenticated
    @authorized
    async def get(self, path: str, include_body: bool = True) -> None:  # type: ignore[override]  # decorators forget the parameters
        """Send the file."""
        await web.StaticFileHandler.get(self, path, include_body)

    @web.authenticated
    @authorized
    async def head(self, path: str) -> None:  # type: ignore[override]
        """Send its headers."""
        await web.StaticFileHandler.get(self, path, include_body=False)

    def get_content_type(self) -> str:
        """From our own table: a system's may say something else, and the browser would refuse the script."""
        return "text/css" if str(self.absolute_path).endswith(".css") else "text/javascript"

    def set_extra_headers(self, path: str) -> None:
        """A new version of the package is asked for at once."""
        self.set_header("Cache-Control", "no-cache")


def _asked(request: Any) -> tuple[str, dict[str, Any]]:
    if len(request.body) > BODY_BYTES:
        raise BadInput(f"a call has {BODY_BYTES:,} bytes at most, not {len(request.body):,}. Shorten the comment or the correction.")
    if request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        raise BadInput("a call is JSON: send it with Content-Type: application/json.")
    try:
        asked = json.loads(request.body)
        method, params = asked["method"], asked.get("params", {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput('a call is {"method": ..., "params": {...}} in JSON.') from error
    if not isinstance(method, str) or not isinstance(params, dict):
        raise BadInput('a call is {"method": ..., "params": {...}} in JSON.')
    return method, params


async def _with_queue(root: str, project: str, queue: str, do: Callable[[Any], Any]) -> Any:
    def inside() -> Any:
        folder = folder_below(root, project)
        with _settings.at(folder):
            return do(rating_view(queue))

    return await asyncio.get_running_loop().run_in_executor(_threads, inside)


def _status(error: LabError) -> int:
    if isinstance(error, UnknownName):
        return 404
    if isinstance(error, StoreError):
        return 503
    return 400 if isinstance(error, BadInput) else 500
