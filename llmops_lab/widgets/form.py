"""The form of a template in JupyterLab: an input for each parameter, a button that starts the job, and what it says."""

from __future__ import annotations

import json
import time
from importlib.util import find_spec
from typing import Any

from llmops_lab.api.job_form import JobForm, shown_default
from llmops_lab.api.shown import mimebundle
from llmops_lab.api.views.job import Card
from llmops_lab.errors import LabError
from llmops_lab.escapes import inert
from llmops_lab.jobs.parameters import Parameter
from llmops_lab.redact import redact
from llmops_lab.widgets import watched

_RUN = "Run"
_SECONDS_BETWEEN = 0.5  # a click that waited while a job was started is the second half of a double click
_STYLE = """<style>
.llmops-lab-form { max-width: 54em; gap: 8px; }
.llmops-lab-form .widget-vbox { overflow: visible; }
.llmops-lab-form .widget-label { text-align: right; }
.llmops-lab-form-lines .widget-label { height: auto; line-height: 1.4; margin: 0; text-align: left;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.llmops-lab-form-head { margin-bottom: 4px; }
.llmops-lab-form-head .widget-label:first-child { font-weight: 600; }
.llmops-lab-form-help, .llmops-lab-form-below { margin-left: calc(16em + 10px); }
.llmops-lab-form-help .widget-label { color: var(--jp-ui-font-color2, #616161); }
.llmops-lab-form-said { margin-top: 4px; }
.llmops-lab-form-wrong { padding-left: 8px; border-left: 3px solid var(--jp-error-color1, #b3261e); }
.llmops-lab-form button:focus-visible { outline: 2px solid var(--jp-brand-color1, #0b5cad); outline-offset: 2px; }
@media (max-width: 800px) {
  .llmops-lab-form .widget-inline-hbox { flex-flow: column; align-items: stretch; height: auto; }
  .llmops-lab-form .widget-inline-hbox > .widget-label { text-align: left; width: auto !important; }
  .llmops-lab-form .widget-inline-hbox > select { flex: none; min-height: 28px; }
  .llmops-lab-form .widget-checkbox > .widget-label:first-child { display: none; }
  .llmops-lab-form-help, .llmops-lab-form-below { margin-left: 2px; }
}
</style>"""  # a label of ipywidgets is one line, and what is longer is cut off


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
        self._run = ipywidgets.Button(description=_RUN, button_style="primary", tooltip="start the job")
        self._run.on_click(self._start)
        self._free = 0.0
        self._said, self._job = _text("", "said"), ipywidgets.Output()
        rows = [_row(_title(each), self._inputs[each.name], each.help) for each in form.parameters]
        head = _text(f"{form.template}\n{form.summary}", "head")
        below = ipywidgets.VBox([ipywidgets.HBox([self._run]), self._said])
        below.add_class("llmops-lab-form-below")
        kernel = _row("kernel", self._kernel, "")
        self.box = ipywidgets.VBox([ipywidgets.HTML(_STYLE, layout={"display": "none"}), head, *rows, kernel, below, self._job])
        self.box.add_class("llmops-lab-form")

    def _start(self, _: object) -> None:
        if time.monotonic() < self._free:
            return
        self._run.description = "Starting ..."  # not disabled: a button that is, loses the keyboard
        self._say("")
        try:
            job = self._form.run(self._typed(), kernel=self._kernel.value or None)
            self._say(f"started: job {job.id}")
            self._show(job)
            self._free = time.monotonic() + _SECONDS_BETWEEN
        except LabError as error:
            self._say(f"{type(error).__name__}: {error}", wrong=True)
        except Exception as error:  # a fault of ours must not leave the button dead and the person without a word
            self._say(f"{type(error).__name__}: {redact(str(error))}", wrong=True)
        finally:
            self._run.description = _RUN

    def _show(self, job: Any) -> None:
        # A click is no cell: what is displayed while it is served has no place of its own, and so it is put here.
        data, metadata = mimebundle(Card(job))
        self._job.outputs = ({"output_type": "display_data", "data": data, "metadata": metadata},)

    def _typed(self) -> dict[str, str]:
        # What was left as it was is not given: the default counts, and a required one is missed.
        found = {name: field.value for name, field in self._inputs.items() if field.value != self._first[name]}
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}

    def _say(self, text: str, *, wrong: bool = False) -> None:
        self._said.children = _lines(text)
        (self._said.add_class if wrong else self._said.remove_class)("llmops-lab-form-wrong")


def _title(parameter: Parameter) -> str:
    return f"{parameter.name}: {parameter.type}{', required' if parameter.required else ''}"


def _input(parameter: Parameter) -> Any:
    import ipywidgets

    unset = parameter.required or parameter.default is None
    default = "" if unset else shown_default(parameter)
    if parameter.shape.kind == "bool":
        return ipywidgets.Checkbox(value=bool(parameter.default))
    if parameter.choices:
        texts = [each if isinstance(each, str) else json.dumps(each) for each in parameter.choices]
        return ipywidgets.Dropdown(options=[(inert(each), each) for each in texts], value=default or None)
    large = parameter.shape.kind in ("list", "dict") or "\n" in default
    return (ipywidgets.Textarea if large else ipywidgets.Text)(
        value=default, placeholder="required" if parameter.required else "none" if unset else "", continuous_update=True
    )


def _row(title: str, field: Any, help: str) -> Any:
    import ipywidgets

    field.description, field.description_allow_html = inert(title), False
    field.style.description_width = "16em"
    field.layout.width = "auto"
    return ipywidgets.VBox([field, *([_text(help, "help")] if help else [])])


def _text(text: str, kind: str) -> Any:
    import ipywidgets

    made = ipywidgets.VBox(_lines(text))
    made.add_class("llmops-lab-form-lines")
    made.add_class(f"llmops-lab-form-{kind}")
    return made


def _lines(text: str) -> tuple[Any, ...]:
    import ipywidgets

    made = tuple(ipywidgets.Label(value=line) for line in inert(text).splitlines())
    for label in made:
        label.add_class("mathjax_ignore")  # it typesets formulas, and a sum is written with a dollar sign
    return made
