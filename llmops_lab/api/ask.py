"""``lab.ask``: one question to one model, recorded and told to MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api.answer import Answer
from llmops_lab.errors import BadInput, ProviderFault, meant
from llmops_lab.flows.ask import Asked, Partial
from llmops_lab.flows.ask import ask as _ask
from llmops_lab.flows.plan_ask import Question
from llmops_lab.prompts.files import load_prompt
from llmops_lab.prompts.template import Prompt
from llmops_lab.records import ModelSpec
from llmops_lab.redact import redact


def ask(
    prompt: Any,
    model: str | ModelSpec | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    stream: bool = False,
    progress: Callable[[Partial], None] | None = None,
    track: bool = True,
    **more_values: Any,
) -> Answer:
    """Ask one model one question: ``lab.ask("Capital of {{ country }}?", "tiny", country="Peru").text``.

    ``prompt`` is a text, a list of messages, a ``Prompt`` or ``prompts:/NAME@ALIAS``. Keywords that are no argument fill its slots;
    ``values`` fills them too, also those called ``model`` or ``params``, and may hold more than the prompt uses (a row of a table).
    ``params`` (temperature, max_tokens, ...) win over the prompt's own. ``stream=True`` measures the time to the first token;
    ``progress`` streams and is called with the text so far, at most ten times a second, in the calling thread.

    Every call is sent anew, recorded in the ledger and traced in MLflow (``track=False``: not traced). Raises BadInput before anything
    is sent, ProviderFault when no try gave an answer (that is recorded too). An interrupt cancels the call.
    """
    loaded = fetch(prompt)
    _check_values(loaded, more_values)
    question = Question(
        loaded,
        {**(values or {}), **more_values},
        spec_of(model),
        params or {},
        stream=stream or progress is not None,
        track=track,
    )
    (asked,) = _ask(question, _settings.load(), progress=progress)
    if asked.outcome.reply is None:
        raise fault_of([asked])
    return Answer.of(asked)


def fetch(prompt: Any) -> Prompt:
    """A prompt in any of its forms; an address is looked up in the library."""
    from llmops_lab.api.calls import prompts_library

    return load_prompt(prompt, fetch=lambda uri: prompts_library().get(uri))


def spec_of(model: str | ModelSpec | None) -> ModelSpec:
    """A model as it was named; without a name, the one of the settings."""
    if isinstance(model, ModelSpec):
        return model
    if model is not None and not isinstance(model, str):
        raise BadInput(f"a model is named by text such as 'tiny' or 'openai:NAME@BASE_URL', not {model!r}.")
    return ModelSpec(model or _settings.load().model)


def fault_of(asked: Sequence[Asked]) -> ProviderFault:
    """The error that the failed ones among these calls make."""
    failed = [each.outcome for each in asked if each.outcome.reply is None]
    first = failed[0]
    tried = f" after {first.tries} tries" if first.tries > 1 else ""
    share = f"{len(failed)} of {len(asked)} calls failed; the first: " if len(asked) > 1 else ""
    message = redact(f"{share}{asked[0].model.name}: {first.error}{tried}: {first.message}")
    return ProviderFault(first.error, message, answered=any(each.answered for each in failed))


def _check_values(prompt: Prompt, values: Mapping[str, Any]) -> None:
    known = sorted(prompt.variables | ({prompt.examples.by} if prompt.examples and prompt.examples.by else set()))
    for name in values:
        if name not in known:
            close = meant(name, [*known, "params", "values", "model", "stream", "track"])
            slots = ", ".join(known) or "none"
            raise BadInput(
                f"the prompt has no slot {{{{ {name} }}}}.{close} Its slots: {slots}. "
                "Sampling parameters go into params={...}, a row with further columns into values=row."
            )
