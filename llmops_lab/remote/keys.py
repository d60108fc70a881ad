"""Which server a target names, and which key that server may see.

One rule: OPENAI_API_KEY belongs to the server of OPENAI_BASE_URL (api.openai.com when that is not set) and is sent nowhere
else. Every other server has the key that ``[tool.llmops_lab.keys]`` names for it, "" meaning that it needs none;
a loopback server needs no entry. No key travels over plain http, except to this machine.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from llmops_lab.errors import BadInput
from llmops_lab.redact import name_secrets

OPENAI_URL = "https://api.openai.com/v1"
_TARGET = re.compile(r"(?P<name>.+)@(?P<url>https?://.*)", re.DOTALL | re.IGNORECASE)
_EXAMPLE = "openai:NAME@http://127.0.0.1:8000/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model's name and the normal form of its base URL (lower-case host, no trailing slash)."""

    name: str
    base_url: str

    @property
    def loopback(self) -> bool:
        """Whether the server is this machine."""
        return _is_loopback(urlsplit(self.base_url).hostname or "")


def endpoint(target: str) -> Endpoint:
    """Split ``NAME@BASE_URL`` at the last ``@`` that begins a URL; NAME alone means OPENAI_BASE_URL. Raises BadInput."""
    found = _TARGET.fullmatch(target)
    name, url = (found["name"], found["url"]) if found else (target, default_url())
    if not name.strip() or target.lower().startswith(("http://", "https://", "@")):
        raise BadInput(f"openai:{target} names no model. Write it as {_EXAMPLE}.")
    if found is None and "@" in name:
        raise BadInput(f"openai:{target}: what follows '@' must be a base URL that begins with http:// or https://, as in {_EXAMPLE}.")
    return Endpoint(name.strip(), normal_url(url))


def default_url() -> str:
    """The server of a target without a URL: OPENAI_BASE_URL, else api.openai.com."""
    return os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI_URL


def normal_url(url: str) -> str:
    """A base URL in its normal form. Raises BadInput for one that holds a password, a query, or no host."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadInput(f"{url!r} is not a URL: {error}. Write it as http://HOST:PORT/v1.") from error
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f]", url.strip()):
        raise BadInput(f"{url!r} is not a base URL. Write it as http://HOST:PORT/v1.")
    if "@" in parts.netloc:
        raise BadInput(f"the base URL of {host} holds a user name or password. Name the key's variable in [tool.llmops_lab.keys] instead.")
    if parts.query or parts.fragment:
        raise BadInput(f"the base URL of {host} has a query or fragment; /chat/completions is put at its end. Leave that part out.")
    shown = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{shown}{_port(parts, port)}{path}"


def key_for(server: Endpoint, keys: Mapping[str, str]) -> str | None:
    """The key to send to a server, or None. Raises BadInput when one is needed and not there, or could be overheard."""
    variable = _variable(server, keys)
    if variable is None:
        raise BadInput(
            f"no key is named for {server.base_url}. Put the name of the environment variable that holds it into pyproject.toml, "
            f'[tool.llmops_lab.keys]: "{server.base_url}" = "NAME_OF_VARIABLE" ("" when the server needs none). '
            f"OPENAI_API_KEY is only sent to {default_url()}."
        )
    if not variable:
        return None
    name_secrets([variable])
    key = os.environ.get(variable, "").strip()
    if not key:
        raise BadInput(f"{variable} is not set, and {server.base_url} needs a key. Type: export {variable}=...")
    if not key.isascii() or not key.isprintable():
        raise BadInput(f"{variable} holds characters that no key has (a line break or an accent?). Set it again.")
    if not server.loopback and not server.base_url.startswith("https://"):
        raise BadInput(
            f"{server.base_url} is plain http: anybody on the way could read the key in {variable}. Use https or a tunnel to 127.0.0.1."
        )
    return key


def _variable(server: Endpoint, keys: Mapping[str, str]) -> str | None:
    """The variable's name; "" for none needed; None when nobody said."""
    named = [prefix for prefix in keys if _begins(server.base_url, prefix)]
    if named:
        return keys[max(named, key=len)].strip()
    if _begins(server.base_url, _origin(default_url())):
        return "" if server.loopback and not os.environ.get("OPENAI_API_KEY") else "OPENAI_API_KEY"
    return "" if server.loopback else None


def _begins(url: str, prefix: str) -> bool:
    # At a boundary only: https://api.example.com is no beginning of https://api.example.com.evil.net
    prefix = prefix.strip().rstrip("/")
    scheme, _, rest = prefix.partition("://")
    host, slash, path = rest.partition("/")
    prefix = f"{scheme.lower()}://{host.lower()}{slash}{path}"
    return bool(host) and (url == prefix or (url.startswith(prefix) and url[len(prefix)] in "/:"))


def _origin(url: str) -> str:
    parts = urlsplit(normal_url(url))
    return f"{parts.scheme}://{parts.netloc}"


def _port(parts: SplitResult, port: int | None) -> str:
    usual = {"http": 80, "https": 443}[parts.scheme]
    return "" if port is None or port == usual else f":{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified  # 0.0.0.0 is what servers print when they listen everywhere
