"""Embeddings of any server that speaks OpenAI's protocol (vLLM, Ollama, llama.cpp, a hosted one): ``openai:NAME@BASE_URL``.

Texts go as ``POST BASE_URL/embeddings`` in batches of 64. What another try can cure is tried twice more, after Retry-After where the
server names it. OPENAI_API_KEY goes only to OPENAI_BASE_URL (api.openai.com by default); for other servers the table
``[tool.llmops_lab.keys]`` names the variable; this machine needs none. Redirects are not followed: the key must not travel on.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmops_lab.errors import BadInput, ProviderFault
from llmops_lab.redact import redact
from llmops_lab.settings import Settings

if TYPE_CHECKING:
    import numpy as np

_BATCH = 64
_TRIES = 3
_LONGEST_WAIT = 30.0
_OPENAI = "https://api.openai.com/v1"
_KINDS = {
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    405: "not_found",
    408: "timeout",
    409: "server_error",
    429: "rate_limited",
}


def connect(target: str, *, settings: Settings) -> Callable[[list[str]], np.ndarray[Any, Any]]:
    """The embedder; sends nothing yet. Raises BadInput for a malformed target or a key that is missing."""
    name, at, url = target.partition("@")
    url = (url if at else os.environ.get("OPENAI_BASE_URL") or _OPENAI).strip().rstrip("/")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        wrong = parts.scheme not in ("http", "https") or not host or bool(parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:
        host, wrong = "", True
    if not name or wrong:
        raise BadInput("an embedder of a server is written openai:NAME@BASE_URL, for example openai:nomic@http://127.0.0.1:8000/v1.")
    return Server(name, url, _key(url, host, settings.keys), settings.timeout)


class Server:
    """One embedding model of one server."""

    def __init__(self, name: str, url: str, key: str, timeout: float) -> None:
        self._name, self._url, self._timeout = name, f"{url}/embeddings", timeout
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        handlers: list[Any] = [_NoRedirect]
        if _is_loopback(urlsplit(url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))  # a proxy would look for this machine on its own side
        self._opener = urllib.request.build_opener(*handlers)

    def __call__(self, texts: list[str]) -> np.ndarray[Any, Any]:
        """Turn n texts into an (n, d) float32 array with rows of length 1. Raises ProviderFault when the server fails for good."""
        import numpy as np

        batches = [self._batch(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        if not batches:
            return np.zeros((0, 0), dtype=np.float32)
        try:
            rows = np.asarray([row for batch in batches for row in batch], dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ProviderFault("malformed", f"{self._url} answered vectors of different lengths, or no numbers.") from error
        if rows.ndim != 2 or not rows.shape[1] or not np.isfinite(rows).all():
            raise ProviderFault("malformed", f"{self._url} answered something that is no list of vectors.")
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)

    def _batch(self, texts: list[str]) -> list[Any]:
        for left in range(_TRIES - 1, -1, -1):
            try:
                return self._once(texts)
            except ProviderFault as fault:
                wait = fault.retry_after if fault.retry_after is not None else 0.5 * 2 ** (_TRIES - 1 - left)
                if not left or not fault.retryable or wait > _LONGEST_WAIT:
                    raise
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _once(self, texts: list[str]) -> list[Any]:
        data = json.dumps({"model": self._name, "input": texts, "encoding_format": "float"}).encode("ascii")
        request = urllib.request.Request(self._url, data, self._headers)  # noqa: S310 - http(s) only, see connect
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                found = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise _fault(self._url, error) from error
        except TimeoutError as error:
            raise ProviderFault("timeout", f"{self._url} did not answer within {self._timeout:g} s.", in_doubt=True) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            kind = "timeout" if isinstance(reason, TimeoutError) else "connection"
            raise ProviderFault(kind, f"{self._url} cannot be reached: {reason}.") from error
        except ValueError as error:
            raise ProviderFault("malformed", f"{self._url} answered no JSON: {error}.") from error
        return _vectors(self._url, found, len(texts))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def _vectors(url: str, found: Any, wanted: int) -> list[Any]:
    try:
        ordered = sorted(found["data"], key=lambda item: item["index"])
        vectors = [item["embedding"] for item in ordered]
    except (KeyError, TypeError) as error:
        said = found.get("error") if isinstance(found, Mapping) else None
        raise ProviderFault("malformed", f"{url} answered without embeddings{f': {redact(str(said))[:300]}' if said else ''}.") from error
    if len(vectors) != wanted or [item["index"] for item in ordered] != list(range(wanted)):
        raise ProviderFault("malformed", f"{url} answered {len(vectors)} vectors for {wanted} texts.")
    return vectors


def _fault(url: str, error: urllib.error.HTTPError) -> ProviderFault:
    try:
        said = redact(" ".join(error.read(2000).decode("utf-8", "replace").split()))[:300]
    except (OSError, http.client.HTTPException):
        said = ""
    if 300 <= error.code < 400:
        hint = f"{url}: HTTP {error.code}, a redirect, which is not followed. Set the base URL to where the API is."
        return ProviderFault("not_found", hint, status=error.code)
    kind = _KINDS.get(error.code, "server_error" if error.code >= 500 else "bad_request")
    try:
        wait = max(0.0, float(error.headers.get("Retry-After", "")))
    except ValueError:
        wait = None
    return ProviderFault(kind, f"{url}: HTTP {error.code} {said}".strip(), status=error.code, retry_after=wait)


def _key(url: str, host: str, keys: Mapping[str, str]) -> str:
    loopback = _is_loopback(host)
    named = [prefix for prefix in keys if _begins(url, prefix.rstrip("/"))]
    default = (os.environ.get("OPENAI_BASE_URL") or _OPENAI).strip().rstrip("/")
    if named:
        variable = keys[max(named, key=len)]
    elif url == default:
        variable = "" if loopback and not os.environ.get("OPENAI_API_KEY") else "OPENAI_API_KEY"
    elif loopback:
        variable = ""
    else:
        raise BadInput(
            f'no key is named for {url}. Put into pyproject.toml, [tool.llmops_lab.keys]: "{url}" = "NAME_OF_VARIABLE" ("" for none).'
        )
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and (not key or not key.isascii() or not key.isprintable()):
        raise BadInput(f"{variable} holds no usable key, and {url} needs one. Type: export {variable}=...")
    if key and not loopback and not url.startswith("https://"):
        raise BadInput(f"{url} is plain http: anybody on the way could read the key in {variable}. Use https.")
    return key


def _begins(url: str, prefix: str) -> bool:
    return bool(prefix) and (url == prefix or (url.startswith(prefix) and url[len(prefix)] in "/:"))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
