"""A job's card in JupyterLab: it lives beside a busy cell, it cancels, and without its kernel it does not say that the job runs."""

from playwright.sync_api import TimeoutError as Late

from tests.browser.conftest import NOTEBOOK
from tests.jobs.queues import notebook, services

CARD = ".lj-card"
STATE = f"{CARD} [role=status]"


def has(page, selector, text):
    try:
        page.locator(selector, has_text=text).first.wait_for(timeout=150_000)
    except Late:
        raise AssertionError(f"no {text!r} in {page.locator(NOTEBOOK).inner_text()}") from None


def test_a_job_is_watched_and_cancelled_on_its_card_beside_a_busy_cell(lab):
    shown = "import time\nfor step in range(900):\n    print('<b>step</b>', step, flush=True)\n    time.sleep(0.1)"
    notebook(lab.folder / "slow.ipynb", "1", shown, "3")
    lab.start("import llmops_lab\njob = llmops_lab.run('slow.ipynb')\njob.show()\njob.wait()")
    page = lab.page
    has(page, STATE, "running")
    has(page, f"{CARD} pre", "<b>step</b> 3")
    assert page.locator(f"{CARD} pre b").count() == 0 and "1 of 3 cells" in page.locator(CARD).inner_text()
    page.locator(CARD).get_by_role("button", name="Cancel").click()
    has(page, STATE, "cancelled")
    has(page, f"{CARD} dl", "130")
    assert page.locator(CARD).count() == 1 and page.locator(CARD).get_by_role("button").count() == 0
    lab.finished(120)
    assert lab.value("[job.state, job.exit_code]") == ["cancelled", 130]
    assert (lab.dialogs, lab.elsewhere) == ([], [])


def test_a_job_outlives_the_kernel_that_asked_for_it(lab):
    lab.run("job = llmops_lab.run('slow.ipynb')\njob")
    page = lab.page
    has(page, STATE, "running")
    ident = lab.value("job.id")
    page.evaluate("() => window.panel.sessionContext.session.kernel.restart()")
    has(page, STATE, "running when this was last live")
    lab.run(f"import llmops_lab\nagain = llmops_lab.job('{ident}')\nagain")
    assert lab.value("again.state") == "running"
    assert lab.value("again.cancel().wait(30).state") == "cancelled"
    assert len(services(lab.folder.parent / "home")) == 1
