"""A real Jupyter server with our extension, and somebody who talks to it as a browser does: with cookies, and XSRF's token in a header."""

import contextlib
import http.cookiejar
import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass

import pytest

from tests.local_server import end, free_port, wait_for


@dataclass
class Reply:
    """What the server answered."""

    status: int
    headers: object
    body: bytes

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


class Browser:
    """Cookies of one person, and no token unless one is given."""

    def __init__(self, url):
        self.url, self.last, self.cookies = url, None, http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def request(self, method, path, body=None, headers=None):
        url = path if path.startswith("http") else f"{self.url}{path}"
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        asked = urllib.request.Request(url, data, dict(headers or {}), method=method)
        try:
            with self._opener.open(asked, timeout=30) as reply:
                self.last = reply.url
                return Reply(reply.status, reply.headers, reply.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.headers, error.read())

    def get(self, path, **headers):
        return self.request("GET", path, headers=headers)

    @property
    def xsrf(self):
        return next((cookie.value for cookie in self.cookies if cookie.name == "_xsrf"), "")

    def post(self, path, body, **headers):
        """As a page of ours does it."""
        own = {"Content-Type": "application/json", "X-XSRFToken": self.xsrf}
        return self.request("POST", path, body, {name: value for name, value in (own | headers).items() if value is not None})


def clean_environment(folder):
    """The environment of a person who has configured nothing."""
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "LLMOPS_LAB_", "JUPYTER"))}
    return {**clean, **own, "OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def jupyter_server(folder, root, *more):
    """``jupyter server`` over ``root``: its address, and its token."""
    port = free_port()
    token = secrets.token_hex(16)
    options = ["--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    options += [f"--ServerApp.root_dir={root}", "--ServerApp.allow_unauthenticated_access=False", *more]
    told = (folder / "server.log").open("wb")
    command = [sys.executable, "-m", "jupyter_server", *options]
    server = subprocess.Popen(command, cwd=folder, env=clean_environment(folder), stdin=subprocess.DEVNULL, stdout=told, stderr=told)
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_for(f"{url}api/status?token={token}", server, folder / "server.log")
        yield url, token
    finally:
        end(server)
        told.close()


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """One server for a module: address, token, and the folder that it serves."""
    pytest.importorskip("jupyter_server", reason="jupyter_server is not installed")
    folder = tmp_path_factory.mktemp("jupyter")
    root = folder / "root"
    root.mkdir()
    with jupyter_server(folder, root) as (url, token):
        yield url, token, root
