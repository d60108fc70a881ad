"""Fenced blocks of a reply: what stands between lines of three or more backticks or tildes (CommonMark 4.5)."""

from __future__ import annotations


def blocks(text: str, languages: frozenset[str]) -> list[str]:
    """The blocks in one of ``languages``, else those that name no language; the whole text when it has no fence at all.

    A block that is never closed (a reply cut by the token limit) runs to the end. Linear in the length of the text.
    """
    found = _fenced(text)
    if not found:
        return [text]
    named = [body for language, body in found if language in languages]
    return named or [body for language, body in found if not language]


def _fenced(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    fence, indent, language = "", 0, ""
    body: list[str] = []
    for line in text.split("\n"):
        stripped = line.strip()
        if not fence:
            fence = _opening(stripped)
            if fence:
                indent = len(line) - len(line.lstrip())
                language = (stripped[len(fence) :].split() or [""])[0].lower().strip("{}.")
                body = []
        elif stripped.startswith(fence) and not stripped.strip(fence[0]):
            found.append((language, "\n".join(body)))
            fence = ""
        else:
            body.append(line[indent:] if not line[:indent].strip() else line)
    if fence:
        found.append((language, "\n".join(body)))
    return found


def _opening(line: str) -> str:
    """The run of fence characters that this line opens with; empty when it opens none."""
    for mark in ("`", "~"):
        run = len(line) - len(line.lstrip(mark))
        if run >= 3 and (mark == "~" or "`" not in line[run:]):
            return mark * run
    return ""
