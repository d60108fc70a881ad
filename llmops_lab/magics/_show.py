"""How things look in a notebook: as ``text/html`` and ``text/plain``, every text inert."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.api import display
from llmops_lab.api.answer import Answer, metadata
from llmops_lab.api.display import literal, money, note, pre, shortened
from llmops_lab.escapes import inert
from llmops_lab.flows.ask import Partial
from llmops_lab.prompts.diff import Diff
from llmops_lab.records import Estimate, Request, content_text

Bundle = dict[str, str]


def show(bundle: Bundle, about: Mapping[str, Any] | None = None, *, handle: str = "", update: bool = False) -> None:
    """Display a bundle; with a ``handle`` it can be shown again in the same place."""
    from IPython.display import publish_display_data

    transient = {"display_id": handle} if handle else {}
    publish_display_data(dict(bundle), metadata=dict(about or {}), transient=transient, update=update)


class Screen:
    """One place in a cell's output. While somebody watches, it shows what has come; in a batch run only what is final."""

    def __init__(self, live: bool) -> None:
        import uuid

        self.live, self._handle, self._begun = live, uuid.uuid4().hex if live else "", False

    def partial(self, partial: Partial) -> None:
        """What has come so far."""
        if not self.live or not (any(partial.texts) or partial.doing != "asking"):
            return
        texts = [shortened(text) for text in partial.texts]
        self._put(
            {
                "text/plain": "\n\n".join([*texts, f"[{partial.doing}]"]),
                "text/html": literal("".join(map(pre, texts)) + note([partial.doing])),
            }
        )

    def final(self, bundle: Bundle, about: Mapping[str, Any] | None = None) -> None:
        """What stays."""
        self._put(bundle, about)

    def stopped(self, partial: Partial | None, why: str) -> None:
        """What had come when it ended badly; nothing where nothing was shown yet."""
        if self._begun and partial is not None:
            texts = [shortened(text) for text in partial.texts if text]
            self._put({"text/plain": "\n\n".join([*texts, f"[{why}]"]), "text/html": literal("".join(map(pre, texts)) + note([], why))})

    def _put(self, bundle: Bundle, about: Mapping[str, Any] | None = None) -> None:
        show(bundle, about, handle=self._handle, update=self._begun)
        self._begun = bool(self._handle)


def answers(found: Sequence[Answer], notes: Sequence[str], diff: Diff | None, *, unfold: bool = False) -> Bundle:
    """One or several answers, each with its footer; ``notes`` and the diff belong to all of them."""
    several = len(found) > 1
    plain, rich = [], []
    for number, answer in enumerate(found, 1):
        footer = [*([f"{number} of {len(found)}"] if several else []), *answer.footer]
        footer += [] if several else notes
        mark = f"[{answer.warning}]\n" if answer.warning else ""
        plain.append(f"{answer.shown}\n{mark}[{inert(' · '.join(footer))}]")
        rich.append(pre(answer.shown) + note(footer, answer.warning))
    if several and notes:
        plain.append(f"[{inert(' · '.join(notes))}]")
        rich.append(note(notes))
    if diff is not None and diff.changed:
        plain += [inert(f"{diff.a} → {diff.b}\n{diff.text}")] if unfold else []
        opened = " open" if unfold else ""
        rich.append(f"<details{opened}><summary>{html.escape(f'what changed since {diff.a}')}</summary>{diff.html}</details>")
    return {"text/plain": "\n\n".join(plain), "text/html": literal("".join(rich))}


def about(found: Sequence[Answer]) -> Mapping[str, Any]:
    """The output's metadata: where the record of the (first) answer lies."""
    return metadata(found[0])


def dry_run(request: Request, estimate: Estimate, model: str) -> Bundle:
    """What would be sent and what it would take."""
    messages = [(inert(message.role), shortened(content_text(message.content))) for message in request.messages]
    cost = "cost unknown: no price is known" if estimate.cost_usd is None else f"at most about {money(estimate.cost_usd)}"
    calls = f"{estimate.calls} call{'s' if estimate.calls > 1 else ''} to {model}"
    tokens = f"about {estimate.input_tokens} tokens in, at most {estimate.output_tokens} out"
    footer = ["dry run: nothing was sent", calls, tokens, cost, "params " + ", ".join(f"{k}={v}" for k, v in request.params.items())]
    plain = "\n\n".join([*(f"[{role}]\n{text}" for role, text in messages), f"[{inert(' · '.join(footer))}]"])
    rich = "".join(f"<strong>{html.escape(role)}</strong>{pre(text)}" for role, text in messages)
    return {"text/plain": plain, "text/html": literal(rich + note(footer))}


def table(columns: Sequence[str], lines: Sequence[Sequence[object]], empty: str = "nothing here yet") -> Bundle:
    """A table. None and empty cells stay empty; ``empty`` says what to do when there is no line."""
    if not lines:
        return said(empty)
    plain, rich = display.table(columns, lines)
    return {"text/plain": plain, "text/html": literal(rich)}


def said(text: str) -> Bundle:
    """One sentence."""
    return {"text/plain": inert(text), "text/html": literal(html.escape(inert(text)))}


def laid_out(thing: Any) -> Bundle:
    """What has a text and an HTML form of its own: a version, a diff."""
    return {"text/plain": inert(str(thing)), "text/html": literal(inert(thing._repr_html_()))}
