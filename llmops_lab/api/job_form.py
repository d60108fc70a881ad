"""``lab.job_form("finetune")``: a template's parameters as a form to fill in, made from its own declaration."""

from __future__ import annotations

import html
import importlib
import json
from collections.abc import Mapping
from typing import Any

from llmops_lab import settings as _settings
from llmops_lab.api.display import literal, note, pre, table
from llmops_lab.escapes import inert
from llmops_lab.flows import check_job
from llmops_lab.jobs import kernels
from llmops_lab.jobs.parameters import Parameter, from_text

_FACE = "llmops_lab.widgets.form"  # found by name, as a plugin is: a handle knows no face


def job_form(template: str) -> JobForm:
    """A form for a template's parameters: in JupyterLab to be filled in and run, elsewhere what can be given. Raises UnknownName."""
    path, declared = check_job.parameters_of(template)
    return JobForm(str(template), check_job.summary_of(path), declared)


class JobForm:
    """What a template can be given. ``run`` starts a job as ``lab.run`` does; the form's button calls it with what was typed."""

    def __init__(self, template: str, summary: str, parameters: list[Parameter]) -> None:
        self.template, self.summary, self.parameters = template, summary, parameters
        self.job: Any = None
        """The job that was started last; None before."""

    @property
    def kernels(self) -> list[str]:
        """The kernels that a job can have."""
        return list(kernels.names(_settings.load()))

    def run(self, texts: Mapping[str, str], *, kernel: str | None = None) -> Any:
        """Start a job with these parameters, given as text and read as the template declares them. Raises what ``lab.run`` raises."""
        given = from_text(self.parameters, [f"{name}={text}" for name, text in texts.items()])
        run = importlib.import_module("llmops_lab.api.job").run
        self.job = run(self.template, kernel=kernel, **given)
        return self.job

    def __repr__(self) -> str:
        return self._page()[0]

    def _page(self) -> tuple[str, str]:
        lines = [[each.name, each.type, shown_default(each), each.help] for each in self.parameters]
        plain, page = table(["parameter", "type", "default", "what it is"], lines) if lines else ("It has no parameters.",) * 2
        call = f"lab.run({', '.join([repr(self.template), *(f'{each.name}=...' for each in self.parameters if each.required)])})"
        head = f"{self.template}: {self.summary}"
        return (
            inert(f"{head}\n{plain}\n\nTo start it: {call}"),
            literal(f"<p><b>{html.escape(inert(self.template))}</b> {html.escape(inert(self.summary))}</p>{page}{pre(inert(call))}"),
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict[str, Any], dict[str, Any]]:
        plain, page = self._page()
        data: dict[str, Any] = {"text/plain": plain, "text/html": page}
        model_id, missing = importlib.import_module(_FACE).shown(self)
        if missing:
            data["text/html"] = page + note([missing])
        if model_id:
            data["application/vnd.jupyter.widget-view+json"] = {"version_major": 2, "version_minor": 0, "model_id": model_id}
        return data, {}


def shown_default(parameter: Parameter) -> str:
    """The default as it is typed in a form or on the command line; ``required`` where there is none."""
    if parameter.required:
        return "required"
    return parameter.default if isinstance(parameter.default, str) else json.dumps(parameter.default, ensure_ascii=False)
