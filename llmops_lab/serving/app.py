"""The application: its routes, what is told of its health, feedback, and typed errors for everything else."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

from llmops_lab.errors import LabError
from llmops_lab.redact import redact
from llmops_lab.serving import http
from llmops_lab.serving.asked import feedback_of
from llmops_lab.serving.desk import Desk
from llmops_lab.serving.keys import Books, is_own_name
from llmops_lab.serving.listen import is_loopback
from llmops_lab.serving.protocol import ApiError, encode
from llmops_lab.serving.release import Release
from llmops_lab.store.ledger import Ledger
from llmops_lab.store.served import feedback_row, request

Handle = Callable[[http.Scope, http.Receive, http.Send], Awaitable[None]]
_FORWARDED = (b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip")
_MODEL = "/v1/models/"


class Endpoint:
    """An ASGI application for one path, which Starlette calls as it is: no request or response objects are made."""

    def __init__(self, handle: Handle, say: Callable[[str], None]) -> None:
        self._handle, self._say = handle, say

    async def __call__(self, scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        """Answer one request; an error gets OpenAI's shape, also one that nobody foresaw."""
        begun = False

        async def noted(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._handle(scope, receive, noted)
        except http.Gone:
            return
        except ApiError as error:
            await http.refuse(send, error, [])
        except LabError as error:
            await http.refuse(send, ApiError(503, str(error), code="unavailable", kind="api_error"), [])
        except Exception:
            self._say(traceback.format_exc())
            if begun:
                raise  # half an answer must not look like a whole one: the connection is closed
            await http.refuse(send, ApiError(500, "this server broke; its log says how.", code="internal_error", kind="api_error"), [])


class Office:
    """All but chat: models, health, metrics, feedback."""

    def __init__(self, desk: Desk, ledger: Ledger) -> None:
        self._desk, self._ledger = desk, ledger

    async def models(self, scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        """GET /v1/models."""
        await self._desk.gate.admit(http.headers_of(scope))
        data = [_model(release) for release in self._desk.shelf.current.values()]
        await http.answer(send, 200, encode({"object": "list", "data": data}), [])

    async def model(self, scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        """GET /v1/models/{id}; an id may hold slashes."""
        await self._desk.gate.admit(http.headers_of(scope))
        release = self._desk.shelf.find(scope["path"].removeprefix(_MODEL))
        await http.answer(send, 200, encode(_model(release)), [])

    async def health(self, scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        """GET /health: ``ok``, or ``stuck`` while what is wanted cannot be known or served. Details for insiders alone."""
        shelf, unknown = self._desk.shelf, self._desk.gate.problem
        body: dict[str, Any] = {"status": "stuck" if shelf.problems or unknown else "ok"}
        with contextlib.suppress(ApiError, LabError):
            await self._insider(scope)
            body["keys"] = {"asked_for": self._desk.gate.guarded, "problem": redact(unknown)}
            body["releases"] = [
                {
                    "name": name,
                    "version": release.version,
                    "digest": release.digest,
                    "model": redact(release.model),
                    "since": release.since,
                    "in_flight": release.in_flight,
                    "problem": redact(shelf.problems.get(name, "")),
                }
                for name, release in shelf.current.items()
            ]
        await http.answer(send, 200, encode(body), [])

    async def metrics(self, scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        """GET /metrics."""
        await self._insider(scope)
        text, kind = self._desk.metrics.pages()
        await http.answer(send, 200, text, [], kind=kind.encode())

    async def feedback(self, scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        """POST /v1/feedback: what a caller says of a reply that it got."""
        headers = http.headers_of(scope)
        holder = await self._desk.gate.admit(headers)
        key = holder.key.id if holder else ""
        ident, said = feedback_of(await http.read_body(receive, headers))
        known = self._desk.journal.recent(ident) or await asyncio.to_thread(request, self._ledger, ident)
        if known is None or known["api_key"] != key:
            raise ApiError(404, f"no request {ident!r:.100} was answered under this key.", code="unknown_request", param="request_id")
        said = {name: redact(value) if isinstance(value, str) else value for name, value in said.items()}
        await asyncio.to_thread(self._ledger.write, feedback_row(ident, key, said))
        if known["traced"]:
            by = holder.key.name if holder else "caller"
            self._desk.journal.pass_on({"kind": "served_feedback", "request": ident, "by": by, **said})
        await http.answer(send, 200, encode({"object": "feedback", "request_id": ident, "traced": known["traced"]}), [])

    async def _insider(self, scope: http.Scope) -> None:
        # Whoever is on this machine may look; through a proxy, or from elsewhere, it takes a key.
        # So does a page in a browser of this machine that reaches it by a name of its own.
        headers, peer = http.headers_of(scope), (scope.get("client") or ("",))[0]
        if not is_loopback(peer) or not is_own_name(headers) or any(name in headers for name in _FORWARDED):
            await self._desk.gate.holder(headers)


def _model(release: Release) -> dict[str, Any]:
    return {"id": release.name, "object": "model", "created": int(release.since), "owned_by": "llmops-lab"}


def make_app(
    desk: Desk, ledger: Ledger, books: Books, *, tasks: Sequence[Callable[[], Coroutine[Any, Any, None]]], say: Callable[[str], None]
) -> Any:
    """The Starlette application. ``tasks`` run as long as it does."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    office = Office(desk, ledger)

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        running = [asyncio.create_task(task()) for task in (desk.gate.follow, *tasks)]
        try:
            yield
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await desk.shelf.close()
            desk.cache.flush()
            await asyncio.to_thread(books.close)
            await asyncio.to_thread(desk.journal.close)

    async def typed(_: Any, error: Any) -> Response:
        known = ", ".join(f"{method} {path.replace(':path', '')}" for method, path, _ in served)
        code, what = ("method_not_allowed", "another method") if error.status_code == 405 else ("unknown_url", "no such path")
        refused = ApiError(error.status_code, f"{what} is served here. Known: {known}.", code=code)
        return Response(encode(refused.body), error.status_code, headers=error.headers, media_type="application/json")

    served: list[tuple[str, str, Handle]] = [
        ("POST", "/v1/chat/completions", desk.chat),
        ("GET", "/v1/models", office.models),
        ("GET", "/v1/models/{id:path}", office.model),
        ("POST", "/v1/feedback", office.feedback),
        ("GET", "/health", office.health),
        ("GET", "/metrics", office.metrics),
    ]
    endpoints = {(method, path): Endpoint(handle, say) for method, path, handle in served}
    routes = [Route(path, endpoint, methods=[method]) for (method, path), endpoint in endpoints.items()]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: typed, 405: typed})

    async def direct(scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        # What is known goes straight to its endpoint; Starlette has the server's life, what is not known, and HEAD.
        known = endpoints.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        await (known or app)(scope, receive, send)

    return direct
