"""What scorers that ask a model share: the material is marked, the model is asked, its verdict is read, its bill is kept.

The text under judgement was written by others. It stands between marks that hold a nonce drawn anew for each call, so that it
cannot end its own part and go on as the judge. The nonce is no part of what is hashed: the same question is the same call.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llmops_lab.errors import BadInput
from llmops_lab.records import Message, Outcome, Reply, Request, Score, digest
from llmops_lab.scorers._run import versions
from llmops_lab.scorers._text import expected_text, is_missing, well_formed

INPUTS = ("input", "question", "query", "prompt")
"""Columns that are shown to a judge as the row's input where nobody says which."""
_LONGEST_REASON = 2_000
Parts = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Call:
    """One question to a judge's model. ``recorded``: its reply was in the ledger already, and nothing was sent."""

    key: str
    outcome: Outcome
    recorded: bool = False


class Ask(Protocol):
    """The model that judges. ``identity`` names model and parameters; ``at_once`` is how many calls it takes side by side."""

    @property
    def identity(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def at_once(self) -> int: ...

    def __call__(self, request: Request, *, same: Any = None, row_id: str = "", usable: Callable[[str], bool] | None = None) -> Call:
        """Ask, with retries, redaction and a record of the call.

        ``same``: what is hashed in place of the request; a recorded reply to it is returned when it is ``usable``.
        """
        ...


class Unjudged(Exception):
    """There is no verdict. ``score`` says why, and holds the bill and what the model wrote."""

    def __init__(self, score: Score) -> None:
        super().__init__(score.error or score.reason)
        self.score = score


@dataclass(frozen=True, slots=True)
class Form:
    """What a verdict may be: ``label -> (level, its score)``, the label in lower case, or any number within ``bounds``."""

    levels: Mapping[str, tuple[Any, bool | float]]
    bounds: tuple[float, float]

    @property
    def words(self) -> str:
        """The possible verdicts, for the judge."""
        if self.levels:
            return "one of " + ", ".join(json.dumps(label) for label in self.levels)
        return f"a number from {self.bounds[0]:g} to {self.bounds[1]:g}"

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a judge's reply. The reason stands first, so that it is written before the verdict."""
        verdict: dict[str, Any] = {"type": "string", "enum": list(self.levels)} if self.levels else {"type": "number"}
        return {
            "title": "verdict",
            "type": "object",
            "properties": {"reason": {"type": "string"}, "verdict": verdict},
            "required": ["reason", "verdict"],
            "additionalProperties": False,
        }

    def read(self, verdict: Any) -> tuple[Any, bool | float] | None:
        """The level of a verdict and its score; None for one that is none of ours."""
        if self.levels:
            return self.levels.get(_label(verdict))
        if isinstance(verdict, str):
            try:
                verdict = float(verdict)
            except ValueError:
                return None
        if isinstance(verdict, bool) or not isinstance(verdict, int | float) or not self.bounds[0] <= verdict <= self.bounds[1]:
            return None
        return verdict, float(verdict)


def _label(verdict: Any) -> str:
    if isinstance(verdict, bool):
        return "yes" if verdict else "no"
    if isinstance(verdict, float) and verdict.is_integer():
        verdict = int(verdict)
    return str(verdict).strip().lower() if isinstance(verdict, str | int | float) else ""


def marked(system: str, parts: Parts, closing: str, *, schema: Mapping[str, Any] | None, params: Mapping[str, Any]) -> Request:
    """The request with its material between marks of a fresh nonce. ``system`` and ``closing`` may hold ``{mark}``."""
    nonce = secrets.token_hex(8)
    while any(nonce in text for _, text in parts):
        nonce = secrets.token_hex(8)
    return _request(nonce, system, parts, closing, schema, params)


def unmarked(system: str, parts: Parts, closing: str, *, schema: Mapping[str, Any] | None, params: Mapping[str, Any]) -> Any:
    """What the same request is hashed as: without the nonce."""
    return _request("", system, parts, closing, schema, params)


def _request(nonce: str, system: str, parts: Parts, closing: str, schema: Mapping[str, Any] | None, params: Mapping[str, Any]) -> Request:
    material = "\n\n".join(f"<<<{name} {nonce}\n{well_formed(text)}\n{name} {nonce}>>>" for name, text in parts)
    messages = (Message("system", system.replace("{mark}", nonce)), Message("user", f"{material}\n\n{closing.replace('{mark}', nonce)}"))
    return Request(messages, params, schema)


def asked(ask: Ask, row: Mapping[str, Any], *what: Any, usable: Callable[[str], bool], **how: Any) -> Call:
    """Ask what ``marked`` makes of these arguments. Raises Unjudged where the model gave no reply."""
    call = ask(marked(*what, **how), same=unmarked(*what, **how), row_id=row_id_of(row), usable=usable)
    _reply(ask, call)
    return call


def question(ask: Ask, row: Mapping[str, Any], request: Request, fits: Callable[[str], Any]) -> tuple[Any, Call]:
    """For a library that words its own questions: what ``fits`` makes of the reply, and the call.

    ``fits`` raises ValueError for a reply that is none. Raises Unjudged, with the whole reply, where it is none or there is none.
    """

    def usable(text: str) -> bool:
        try:
            fits(text)
        except ValueError:
            return False
        return True

    call = ask(request, row_id=row_id_of(row), usable=usable)
    reply = _reply(ask, call)
    try:
        return fits(reply.text), call
    except ValueError as problem:
        cut = " (cut by its token limit: raise max_tokens)" if reply.finish_reason == "length" else ""
        reason = f"the judge's reply is not what was asked for: {problem}"[:500] + cut
        raise Unjudged(Score(None, reason=reason, detail={**bill(ask, call), "raw": reply.text})) from None


def _reply(ask: Ask, call: Call) -> Reply:
    if call.outcome.reply is None:
        error = f"the judge {ask.model} gave no reply: {call.outcome.error}: {call.outcome.message}"
        raise Unjudged(Score(None, error=error[:500], detail=bill(ask, call)))
    return call.outcome.reply


def row_id_of(row: Mapping[str, Any]) -> str:
    """What the row is called in a grid, as far as its columns tell, so that a row that is forgotten takes its verdicts along."""
    if not row:
        return ""
    return str(row["id"]) if not is_missing(row.get("id")) and row.get("id") != "" else digest(dict(row))[:12]


def verdict(ask: Ask, call: Call, form: Form, parts: Parts) -> tuple[Any, bool | float, str]:
    """Level, score and reason out of a reply. Raises Unjudged, with the whole reply, where there is not exactly one verdict."""
    reply = _reply(ask, call)
    try:
        return read(reply.text, form, [each for _, each in parts])
    except ValueError as problem:
        cut = " (cut by its token limit: raise max_tokens)" if reply.finish_reason == "length" else ""
        reason = f"the judge's reply holds no verdict: {problem}{cut}"
        raise Unjudged(Score(None, reason=reason, detail={**bill(ask, call), "raw": reply.text})) from None


def usable(form: Form, parts: Parts) -> Callable[[str], bool]:
    """Whether a recorded reply holds a verdict; one that holds none may be asked for again."""

    def holds(text: str) -> bool:
        try:
            read(text, form, [each for _, each in parts])
        except ValueError:
            return False
        return True

    return holds


def read(text: str, form: Form, judged: Sequence[str]) -> tuple[Any, bool | float, str]:
    """The one verdict of a judge's reply: its level, score and reason. Raises ValueError where there is none, or more.

    A verdict that stands word for word in a judged text is a quotation of it and does not count.
    """
    found = [each for each in objects(text) if "verdict" in each]
    quoted = [found for part in judged if "verdict" in part for each in objects(part) for found in _verdicts(each)] if found else []
    own = [each for each in found if each not in quoted]
    if not own:
        raise ValueError("it only repeats what the judged text says" if found else "no JSON object with a verdict")
    values = []
    for each in own:
        value = form.read(each["verdict"])
        if value is None:
            raise ValueError(f"{each['verdict']!r:.80} is not {form.words}")
        values.append(value)
    if len(set(map(repr, values))) > 1:
        raise ValueError(f"{len(own)} verdicts that differ")
    return *values[-1], str(own[-1].get("reason") or "")[:_LONGEST_REASON]


def objects(text: str) -> list[dict[str, Any]]:
    """All JSON objects in a text that are not inside another one. Raises ValueError for a text that takes too long to search."""
    found, decoder = [], json.JSONDecoder(parse_constant=_refuse)
    effort, begin = _EFFORT * len(text) + _LEAST_EFFORT, _BEGIN.search(text)
    while begin is not None:
        at = begin.start()
        try:
            value, end = decoder.raw_decode(text, at)
            found.append(value)
        except (ValueError, RecursionError) as problem:
            pos = getattr(problem, "pos", at + _DEEP)
            effort -= pos - at + pos // 50 + 50  # an error counts the lines before it
            if effort < 0:
                raise ValueError("too many braces that begin no JSON object") from None
            end = at + 1
        begin = _BEGIN.search(text, end)
    return found


def _verdicts(value: Any) -> list[dict[str, Any]]:
    """All objects with a verdict inside a JSON value, itself among them."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    own = [value] if isinstance(value, dict) and "verdict" in value else []
    return [*own, *(found for each in inner for found in _verdicts(each))]


_BEGIN = re.compile(r'\{\s*["}]')
_EFFORT, _LEAST_EFFORT, _DEEP = 50, 100_000, 10_000
"""Characters read again at most, for each of a text and besides; and what nesting too deep to read counts for."""


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def bill(ask: Ask, *calls: Call) -> dict[str, Any]:
    """What a score's detail keeps of the calls that it took."""
    return {"calls": [_billed(ask.model, call) for call in calls if call.outcome.status != "skipped"]}


def _billed(model: str, call: Call) -> dict[str, Any]:
    outcome, reply = call.outcome, call.outcome.reply
    tokens = [(usage.input_tokens, usage.output_tokens) for usage in (outcome.usage, *([reply.usage] if reply else []))]
    given, made = ([count for count in column if count is not None] for column in zip(*tokens, strict=True))
    return {
        "key": call.key,
        "model": model,
        "input_tokens": sum(given) if given else None,
        "output_tokens": sum(made) if made else None,
        "cost_usd": outcome.total_usd,
        "recorded": call.recorded,
        **({"failed": outcome.error} if reply is None else {}),
    }


def kinds(library: Any, base: type) -> dict[str, Any]:
    """The classes of a library's module that are a ``base``, by their names."""
    found = {name: getattr(library, name) for name in dir(library)}
    return {name: each for name, each in found.items() if isinstance(each, type) and issubclass(each, base) and each is not base}


def fingerprint(package: str, judge: Any, told: Mapping[str, Any]) -> str | None:
    """Names all that decides what a scorer of another package measures; None where an option is a live object."""
    try:
        return digest({**told, "judge": judge, "versions": versions("llmops-lab", package)})
    except TypeError:
        return None


def calls_of(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """The calls behind some scores, each once: the same question about two rows was one call."""
    return list({call["key"]: call for score in scores for call in score.detail.get("calls", ())}.values())


def totals(scores: Sequence[Score]) -> dict[str, Any]:
    """What a judge adds to a summary: its calls, tokens and cost (None: a reply without a known price), and replies without a verdict."""
    calls = calls_of(scores)
    if not calls:
        return {}
    costs = [call["cost_usd"] for call in calls if "failed" not in call or call["cost_usd"] is not None]
    return {
        "judge_calls": len(calls),
        "judge_tokens": sum((call["input_tokens"] or 0) + (call["output_tokens"] or 0) for call in calls),
        "judge_cost_usd": None if None in costs else sum(costs),
        "unparsed": sum("raw" in score.detail for score in scores),
    }


def shown_parts(row: Mapping[str, Any], show: Sequence[str] | None) -> list[tuple[str, str]]:
    """The columns that a judge sees. Raises BadInput where it is not said which, or one is missing."""
    if not row.keys() - {"id"} and not show:
        return []
    if show is None:
        name = next((each for each in INPUTS if each in row), None)
        if name is None:
            raise BadInput(
                "nobody says which columns the judge sees. Say show=['NAME', ...], or show=[] for the reply alone. "
                f"Columns: {', '.join(row)}."
            )
        show = [name]
    for name in show:
        if name not in row:
            raise BadInput(f"the judge is to see the column {name!r}, which the row has not. Columns: {', '.join(row)}.")
    return [(name.upper(), _text(row[name])) for name in show]


def _text(value: Any) -> str:
    if is_missing(value):
        return ""
    if isinstance(value, Mapping | list | tuple):
        return "\n\n".join(map(str, value)) if not isinstance(value, Mapping) else json.dumps(value, ensure_ascii=False, default=str)
    return expected_text(value)
