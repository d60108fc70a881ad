"""The documents of the review page: our one script and style, and where its calls go. Nothing else can run or be loaded in them."""

from __future__ import annotations

import html
import secrets

from llmops_lab.escapes import inert

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{static}/page.css" nonce="{nonce}">
</head>
<body>
<main id="llmops-lab" data-view="rating" data-calls="{calls}"><p>This page needs JavaScript.</p></main>
<script type="module" src="{static}/page.js" nonce="{nonce}"></script>
</body>
</html>
"""

_REFUSED = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>No queue to rate</title>
<link rel="icon" href="data:,">
<style nonce="{nonce}">body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 15vh auto; padding: 0 1em }}</style>
</head>
<body>
<h1>There is nothing to rate here</h1>
<p>{message}</p>
</body>
</html>
"""


def review_page(*, title: str, static: str, calls: str) -> tuple[str, str]:
    """The document, and the Content-Security-Policy that it is to be sent with. ``static``, ``calls``: addresses on this server."""
    nonce = secrets.token_urlsafe(16)
    page = _PAGE.format(title=html.escape(inert(title)), static=html.escape(static), calls=html.escape(calls), nonce=nonce)
    return page, _policy(nonce)


def refusal(message: str) -> tuple[str, str]:
    """The document that says why there is no page, and its policy."""
    nonce = secrets.token_urlsafe(16)
    return _REFUSED.format(message=html.escape(inert(message)), nonce=nonce), _policy(nonce)


def _policy(nonce: str) -> str:
    parts = (
        "default-src 'none'",
        f"script-src 'nonce-{nonce}'",
        f"style-src 'nonce-{nonce}'",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
    return "; ".join(parts)
