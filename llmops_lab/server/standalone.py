"""A Jupyter server on this machine alone that has the review page of a project and nothing else: no kernels, no files, no terminals.

Each rater has a link of their own, and whoever opens it is that rater until the server ends.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.serverapp import ServerApp
from tornado.ioloop import IOLoop
from traitlets import Dict, Unicode
from traitlets.config import Config

from llmops_lab.errors import BadInput
from llmops_lab.records import digest
from llmops_lab.server.routes import BODY_BYTES, RESOURCE, Bundle

HOST = "127.0.0.1"
_USUAL = 10_000  # so many ports from here on, below those that systems give away by themselves


def serve(queue: str, raters: Sequence[str], folder: Path, *, port: int | None, ready: Callable[[Mapping[str, str]], None]) -> None:
    """Serve the page of a queue of the project in ``folder`` until KeyboardInterrupt. ``ready`` gets rater -> link.

    ``port`` None: the queue's usual one, or any that is free. Raises BadInput for one that is taken.
    """
    port = _free(port, queue, folder)
    tokens = {secrets.token_urlsafe(24): rater for rater in raters}
    app = ReviewServer(config=_config(queue, folder, port, tokens))
    app.initialize(argv=[], find_extensions=False)
    path = f"{app.base_url}llmops-lab/review/{quote(queue, safe='')}"
    IOLoop.current().add_callback(ready, {rater: f"http://{HOST}:{port}{path}?token={token}" for token, rater in tokens.items()})
    try:
        IOLoop.current().start()
    finally:
        app.http_server.stop()


class ReviewServer(ServerApp):
    """Jupyter's server without its services, and without what is configured for the user's other servers."""

    name = "llmops-lab-review"
    default_services = ("auth", "security")  # type: ignore[assignment]  # it is read as any tuple

    def load_config_file(self, suppress_errors: bool = True) -> None:
        """Load none: a setting for another server could open this one to the network."""

    def init_signal(self) -> None:
        """Leave Ctrl-C to the command, which asks nothing."""


class Links(IdentityProvider):
    """Whoever has a link is the rater that it was made for."""

    raters = Dict(help="Token -> rater.", config=True)

    async def get_user_token(self, handler: Any) -> User | None:
        """The rater of the token that came with the request."""
        return self._rater(self.get_token(handler))

    def process_login_form(self, handler: Any) -> User | None:
        """The rater of the token that was typed into the login page."""
        return self._rater(handler.get_argument("password", default=""))

    def _rater(self, given: str | None) -> User | None:
        found = [rater for token, rater in self.raters.items() if hmac.compare_digest(token.encode(), (given or "").encode())]
        return User(found[0]) if found else None


class ReviewOnly(Authorizer):
    """A rater may use the page of this queue, and nothing else that a Jupyter server has."""

    queue = Unicode(help="The queue's name.", config=True)

    def is_authorized(self, handler: Any, user: User, action: str, resource: str) -> bool:
        """Whether it is ours: the queue in the folder that is served, or what the page is made of."""
        if resource != RESOURCE or handler.get_query_argument("project", ""):
            return False
        return isinstance(handler, Bundle) or handler.path_args == [self.queue]


def _config(queue: str, folder: Path, port: int, tokens: Mapping[str, str]) -> Config:
    server = {
        "ip": HOST,
        "port": port,
        "port_retries": 0,
        "root_dir": str(folder),
        "open_browser": False,
        "allow_root": True,
        "jpserver_extensions": {"llmops_lab.server": True},
        "identity_provider_class": Links,
        "authorizer_class": ReviewOnly,
        "allow_unauthenticated_access": False,
        "cookie_secret": os.urandom(32),  # so that no login outlives the server
        "max_body_size": 2 * BODY_BYTES,
        "log_level": "ERROR",
    }
    links = {"token": "", "raters": dict(tokens)}  # no token but the raters' own
    return Config({"ReviewServer": server, "Links": links, "ReviewOnly": {"queue": queue}})


def _free(port: int | None, queue: str, folder: Path) -> int:
    if port is not None:
        try:
            return _bound(port)
        except (OSError, OverflowError) as error:
            said = getattr(error, "strerror", None) or error
            raise BadInput(f"port {port} cannot be used: {said}. Name another one with --port, or none.") from error
    # The same one each time: what a browser has not sent yet it keeps for this address alone.
    usual = _USUAL + int(digest([str(folder), queue])[:8], 16) % _USUAL
    try:
        return _bound(usual)
    except OSError:
        return _bound(0)


def _bound(port: int) -> int:
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        asked.bind((HOST, port))
        return int(asked.getsockname()[1])
