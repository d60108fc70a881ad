"""The form of a template in JupyterLab: an input for each parameter, a button that starts the job, and what it says."""

from __future__ import annotations

import json
import textwrap
from importlib.util import find_spec
from typing import Any

from llmops_lab.api.job_form import JobForm, shown_default
from llmops_lab.errors import LabError
from llmops_lab.escapes import inert
from llmops_lab.jobs.parameters import Parameter
from llmops_lab.redact import redact
from llmops_lab.widgets import watched

_WIDE = {"width": "36em"}
_CHARACTERS = 80


def shown(form: JobForm) -> tuple[str, str]:
    """(the model id of the live form, or ""; what keeps it from being live, or ""). Static where nobody watches."""
    if not watched():
        return "", ""
    if find_spec("ipywidgets") is None:
        return "", "For a form to fill in, type: pip install 'llmops-lab[lab]' and restart the kernel"
    return Form(form).box.model_id, ""


class Form:
    """The inputs of one form. Everything that a template or an error says is shown as text."""

    def __init__(self, form: JobForm) -> None:
        import ipywidgets

        self._form = form
        self._inputs = {each.name: _input(each) for each in form.parameters}
        self._first = {name: field.value for name, field in self._inputs.items()}
        known = form.kernels
        self._kernel = ipywidgets.Dropdown(options=[("the template's own", ""), *((inert(each), each) for each in known)])
        self._run = ipywidgets.Button(description="Run", button_style="primary", tooltip="start the job")
        self._run.on_click(self._start)
        self._said, self._job = _text("", "llmops-lab-form-said"), ipywidgets.Output()
        rows = [_row(f"{each.name}: {each.type}", self._inputs[each.name], each.help) for each in form.parameters]
        head = _text(f"{form.template}: {form.summary}", "llmops-lab-form-head")
        kernel = _row("kernel", self._kernel, "")
        self.box = ipywidgets.VBox([head, *rows, kernel, ipywidgets.HBox([self._run]), self._said, self._job])
        self.box.add_class("llmops-lab-form")

    def _start(self, _: object) -> None:
        self._run.disabled = True
        self._say("starting ...")
        try:
            job = self._form.run(self._typed(), kernel=self._kernel.value or None)
            self._say(f"started: job {getattr(job, 'id', '')}")
            self._job.outputs = ()
            self._job.append_display_data(job)
        except LabError as error:
            self._say(f"{type(error).__name__}: {error}")
        except Exception as error:  # a fault of ours must not leave the button dead and the person without a word
            self._say(f"{type(error).__name__}: {redact(str(error))}")
        finally:
            self._run.disabled = False

    def _typed(self) -> dict[str, str]:
        # What was left as it was is not given: the default counts, and a required one is missed.
        found = {name: field.value for name, field in self._inputs.items() if field.value != self._first[name]}
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}

    def _say(self, text: str) -> None:
        self._said.children = _lines(text)


def _input(parameter: Parameter) -> Any:
    import ipywidgets

    default = "" if parameter.required else shown_default(parameter)
    if parameter.shape.kind == "bool":
        return ipywidgets.Checkbox(value=bool(parameter.default))
    if parameter.choices:
        texts = [each if isinstance(each, str) else json.dumps(each) for each in parameter.choices]
        return ipywidgets.Dropdown(options=[(inert(each), each) for each in texts], value=default or None, layout=_WIDE)
    large = parameter.shape.kind in ("list", "dict") or "\n" in default
    return (ipywidgets.Textarea if large else ipywidgets.Text)(
        value=default, placeholder="required" if parameter.required else "", continuous_update=True, layout=_WIDE
    )


def _row(title: str, field: Any, help: str) -> Any:
    import ipywidgets

    field.description, field.description_allow_html = inert(title), False
    field.style.description_width = "16em"
    field.layout.width = "52em"
    return ipywidgets.VBox([field, *([_text(help, "llmops-lab-form-help")] if help else [])])


def _text(text: str, kind: str) -> Any:
    import ipywidgets

    made = ipywidgets.VBox(_lines(text, "var(--jp-ui-font-color2, #616161)" if kind.endswith("help") else None))
    made.layout.margin = "0 0 0 16.6em" if kind.endswith("help") else "0"
    made.add_class(kind)
    return made


def _lines(text: str, colour: str | None = None) -> tuple[Any, ...]:
    import ipywidgets

    parts = [part for line in inert(text).splitlines() for part in textwrap.wrap(line, _CHARACTERS) or [""]]
    made = tuple(ipywidgets.Label(value=part, layout={"width": "auto"}) for part in parts)
    for label in made:  # a label is one line; what is longer would be cut off
        label.style.text_color = colour
        label.add_class("mathjax_ignore")  # it typesets formulas, and a sum is written with a dollar sign
    return made
