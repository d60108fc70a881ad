"""What a server's refusal means: HTTP statuses, error objects and Retry-After, as ProviderFaults.

| answer | kind | another try |
|---|---|---|
| 401, 403 | unauthorized | no |
| 404, 405, 410, any redirect | not_found | no |
| 408 | timeout | yes |
| 409, 5xx | server_error | yes, but for 501 and 505 |
| 429 | rate_limited | yes, but for a used-up quota |
| 402 | rate_limited | no: the account is empty |
| a filter's error code | content_filter | no |
| other 4xx | bad_request | no |

An ``x-should-retry`` header overrules the last column. The same table serves error objects inside an answer of 200.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from llmops_lab.errors import ProviderFault

NO_HEADERS: Mapping[str, str] = {}
_MESSAGE_LENGTH = 300
_STATUS_KINDS = {
    401: "unauthorized",
    402: "rate_limited",
    403: "unauthorized",
    404: "not_found",
    405: "not_found",
    408: "timeout",
    409: "server_error",
    410: "not_found",
    429: "rate_limited",
}
_FINAL_STATUSES = frozenset({402, 501, 505})
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation_blocked"})
QUOTA_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated", "insufficient_balance"}
)
_CODE_STATUSES = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "too_many_requests": 429,
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "model_not_found": 404,
    "overloaded_error": 529,
}


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> ProviderFault:
    """The fault for an HTTP answer that is no 2xx."""
    if 300 <= status < 400:
        return ProviderFault(
            "not_found", f"HTTP {status}: the server redirects, which is not followed. Set BASE_URL to where the API is.", status=status
        )
    error = error_object(_json(body)) or {"message": _plain_text(body)}
    return _fault(status, headers, error, f"HTTP {status}")


def refusal_inside(error: Mapping[str, Any], headers: Mapping[str, str] = NO_HEADERS, *, in_doubt: bool = False) -> ProviderFault:
    """The fault for an error object that came inside an answer of 200. ``in_doubt``: part of a reply had come before it."""
    codes = [error.get(name) for name in ("code", "status", "status_code", "type")]
    numbers = (int(code) for code in codes if isinstance(code, int | str) and re.fullmatch(r"[45]\d\d", str(code)))
    words = (_CODE_STATUSES[word] for code in codes if (word := str(code).lower()) in _CODE_STATUSES or word in QUOTA_CODES)
    status = next(numbers, None) or (429 if _has(error, QUOTA_CODES) else next(words, 400 if _has(error, _FILTER_CODES) else 500))
    return _fault(status, headers, error, "the server answered 200 with an error", in_doubt=in_doubt)


def error_object(payload: Any) -> dict[str, Any] | None:
    """The error in an answer, whatever its dialect: {"error": {...}}, {"error": "text"}, {"object": "error", ...}, {"detail": ...}."""
    if not isinstance(payload, dict):
        return None
    error = payload.get("error")
    if isinstance(error, dict):
        return error
    if error:
        return {**payload, "message": error}
    if payload.get("object") == "error" or (("message" in payload or "detail" in payload) and "choices" not in payload):
        return payload
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as an HTTP date (RFC 9110, 10.2.3)."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "nan")) * scale
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    wanted = _date(headers.get("retry-after", ""))
    if wanted is None:
        return None
    now = _date(headers.get("date", "")) or datetime.now(UTC)  # by the server's own clock: ours may be off
    return max(0.0, (wanted - now).total_seconds())


def short(text: str) -> str:
    """A message of one line and at most 300 characters."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text[: 4 * _MESSAGE_LENGTH]).split())
    return line if len(line) <= _MESSAGE_LENGTH else line[: _MESSAGE_LENGTH - 1] + "…"


def _fault(status: int, headers: Mapping[str, str], error: Mapping[str, Any], what: str, *, in_doubt: bool = False) -> ProviderFault:
    kind = _STATUS_KINDS.get(status, "server_error" if status >= 500 else "bad_request")
    if kind in ("bad_request", "unauthorized", "server_error") and _has(error, _FILTER_CODES):
        kind = "content_filter"
    retryable: bool | None = None
    if status in _FINAL_STATUSES or (kind == "rate_limited" and _has(error, QUOTA_CODES)):
        retryable = False
    asked = headers.get("x-should-retry", "").lower()
    if asked in ("true", "false"):
        retryable = asked == "true"
    message = error.get("message") or error.get("detail") or error.get("code") or ""
    said = short(message if isinstance(message, str) else json.dumps(message))
    return ProviderFault(
        kind,
        f"{what}: {said}" if said else what,
        status=status,
        retryable=retryable,
        retry_after=retry_after(headers),
        answered=True,
        in_doubt=in_doubt,
    )


def _has(error: Mapping[str, Any], codes: frozenset[str]) -> bool:
    inner = error.get("innererror")
    named = (error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, Mapping) else None)
    return any(str(code).lower() in codes for code in named)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _plain_text(body: bytes) -> str:
    text = body[:2000].decode("utf-8", "replace").strip()
    return "an HTML page" if text.startswith("<") else text


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
