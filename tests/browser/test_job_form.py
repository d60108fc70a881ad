"""The form of a template in JupyterLab: what the declaration says becomes inputs, a wrong one is named, and the button starts a job."""

import json

from tests.browser.looks import grave

FORM = ".llmops-lab-form"
DECLARED = """from typing import Literal
who: str  # whom to greet; <img src=x onerror=alert(1)>
times: int = 2  # how often
method: Literal["loud", "quiet"] = "quiet"  # how
dots: bool = False
names: list[str] = []
"""
SAYS = "print((who + ' ') * times, method, dots, names)"


def write_template(path):
    cells = [
        {"cell_type": "markdown", "id": "m", "metadata": {}, "source": "# Greet\n\nGreets somebody for **$5** or $6."},
        *[
            {"cell_type": "code", "id": f"c{number}", "execution_count": None, "metadata": {"tags": tags}, "outputs": [], "source": source}
            for number, (source, tags) in enumerate([(DECLARED, ["parameters"]), (SAYS, [])])
        ],
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


def said(page, text):
    page.locator(".llmops-lab-form-said", has_text=text).wait_for()


def test_a_form_is_filled_in_and_run(lab):
    write_template(lab.folder / "greet.ipynb")
    lab.run("import llmops_lab\nform = llmops_lab.job_form('greet.ipynb')\nform")
    page = lab.page
    page.locator(FORM).wait_for()
    run = page.get_by_role("button", name="Run", exact=True)
    assert "<img src=x" in page.locator(FORM).inner_text() and page.locator(f"{FORM} img").count() == 0
    assert page.locator(".llmops-lab-form-head").inner_text().split("\n") == ["greet.ipynb", "Greets somebody for **$5** or $6."]
    page.set_viewport_size({"width": 600, "height": 1000})  # names stand above their fields then, and nothing is cut off
    name, field = page.get_by_text("method:").bounding_box(), page.get_by_label("method").bounding_box()
    assert name["y"] < field["y"] and field["height"] >= 24 and field["x"] + field["width"] <= 600
    assert page.locator(FORM).evaluate("form => form.scrollWidth <= form.clientWidth")
    page.set_viewport_size({"width": 1280, "height": 1000})
    run.click()
    said(page, "BadInput: missing: who")
    page.get_by_label("who: str").fill("you & I")
    page.get_by_label("times: int").fill("many")
    run.click()
    said(page, "BadInput: times must be a whole number, not 'many'.")
    page.get_by_label("times: int").fill("3")
    page.get_by_label("method").select_option("loud")
    page.get_by_label("dots: bool").check()
    page.get_by_label("names: list[str]").fill('["a", "b"]')
    run.dblclick()
    said(page, "started: job")
    page.locator(f"{FORM} .lj-card").wait_for()
    assert page.evaluate("() => document.activeElement.innerText") == "Run"  # the keyboard is where it was
    assert lab.value("(form.job.wait(), form.job.state)[1]") == "succeeded"
    found = json.loads(open(lab.value("str(form.job.notebook)"), encoding="utf-8").read())
    printed = "".join("".join(output.get("text", "")) for cell in found["cells"] for output in cell.get("outputs", []))
    assert printed == "you & I you & I you & I  loud True ['a', 'b']\n"
    page.locator(f"{FORM} .lj-card [role=status]", has_text="succeeded").wait_for()
    assert lab.value("len(llmops_lab.jobs())") == 1
    assert grave(page, page.locator(FORM)) == []
    assert (lab.dialogs, lab.elsewhere) == ([], [])
