"""A view in one HTML file that opens from disk: our script, the answers that it will ask for, and no way to reach anything else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import llmops_lab
from llmops_lab.errors import BadInput
from llmops_lab.escapes import encodable, inert
from llmops_lab.flows.export import whole

_STATIC = Path(llmops_lab.__file__).parent / "widgets" / "static"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main id="llmops-lab"></main>
<noscript><p>Without JavaScript this file shows its beginning only.</p>{twin}</noscript>
<script type="application/json" id="llmops-lab-data">{data}</script>
<script>{script}</script>
</body>
</html>
<!-- The script above holds parts of others, under these licences:

{licences}
-->
"""


def export_page(path: str | Path, *, view: str, title: str, answers: Mapping[str, Any], buffers: Sequence[bytes], twin: str) -> Path:
    """Write the page, whole or not at all; returns the absolute path.

    ``answers``: what ``recorded_as`` names -> {"data", "buffers": numbers of ``buffers``}. ``twin``: HTML for a reader without JavaScript,
    inert. Raises BadInput where the page's script was not built, or the file cannot be written.
    """
    script, style = (_bundle(f"page.{kind}") for kind in ("js", "css"))
    licences = _bundle("THIRD-PARTY.txt").replace("--", "- -")
    held = {"view": view, "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "answers": answers}
    data = json.dumps({**held, "buffers": [base64.b64encode(each).decode("ascii") for each in buffers]}, separators=(",", ":"))
    policy = (
        "default-src 'none'",
        f"script-src {_hash(script)}",
        f"style-src {_hash(style)}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    page = _PAGE.format(
        policy="; ".join(policy),
        title=html.escape(inert(title)),
        style=style,
        twin=twin,
        data=_closed(data),
        script=script,
        licences=licences,
    )
    return whole(path, lambda half: half.write_text(encodable(page), "utf-8", newline=""))


def _bundle(name: str) -> str:
    try:
        text = (_STATIC / name).read_text("utf-8")
    except OSError as error:
        raise BadInput(
            "an HTML file needs the views' script, and this installation has none: it is built by pip where node is installed. "
            "Install node and type: pip install --force-reinstall --no-deps llmops-lab. Or export to a .csv, .json or .parquet file."
        ) from error
    # In a string or a pattern, the only places where a script can hold these, the escape means the same and ends no element.
    return text.strip().replace("</script", "\\x3c/script").replace("<script", "\\x3cscript").replace("<!--", "\\x3c!--")


def _closed(data: str) -> str:
    # JSON in which no text can end the script element, or begin a comment in it.
    return data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode('ascii')}'"
