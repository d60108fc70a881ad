"""Embeddings of any server that speaks OpenAI's protocol (vLLM, Ollama, llama.cpp, a hosted one): ``openai:NAME@BASE_URL``.

Texts go as ``POST BASE_URL/embeddings`` in batches of 64. What another try can cure is tried twice more, after Retry-After where the
server names it. Which key goes where is as for models, see ``remote.keys``. Redirects are not followed: the key must not travel on.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from llmops_lab.errors import ProviderFault
from llmops_lab.redact import redact
from llmops_lab.remote.faults import refusal
from llmops_lab.remote.keys import Endpoint, endpoint, key_for
from llmops_lab.settings import Settings

if TYPE_CHECKING:
    import numpy as np

_BATCH = 64
_TRIES = 3
_LONGEST_WAIT = 30.0
_ERROR_BODY = 2**16


def connect(target: str, *, settings: Settings) -> Callable[[list[str]], np.ndarray[Any, Any]]:
    """The embedder; sends nothing yet. Raises BadInput for a malformed target or a key that is missing."""
    server = endpoint(target)
    return Server(server, key_for(server, settings.keys), settings.timeout)


class Server:
    """One embedding model of one server."""

    def __init__(self, server: Endpoint, key: str | None, timeout: float) -> None:
        self._name, self._url, self._timeout = server.name, f"{server.base_url}/embeddings", timeout
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        handlers: list[Any] = [_NoRedirect]
        if server.loopback:
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
        request = urllib.request.Request(self._url, data, self._headers)  # noqa: S310 - http(s) only, see endpoint
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
        body = error.read(_ERROR_BODY)
    except (OSError, http.client.HTTPException):
        body = b""
    fault = refusal(error.code, {name.lower(): value for name, value in error.headers.items()}, body)
    fault.args = (f"{url}: {fault}",)
    return fault
