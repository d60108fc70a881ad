"""``%lab`` and ``%config LLMOpsLab`` in a real kernel."""

import pytest

ROWS = "id,question\n" + "".join(f"{number},q{number}\n" for number in range(4))


@pytest.fixture(scope="module", autouse=True)
def grids(kernel, server):
    (kernel.folder / "r.csv").write_text(ROWS)
    (kernel.folder / "pyproject.toml").write_text("[tool.llmops_lab]\nretries = 2\n")
    model = f"openai:m@{server.url}"
    kernel.run(f"import llmops_lab as lab\nlab.configure(prices={{'{model}': {{'input': 1e4, 'output': 1e4}}}})")
    kernel.run(f"a = lab.grid('{{{{ question }}}}', 'r.csv', models=['{model}', 'openai:free@{server.url}'], name='first', progress=False)")
    kernel.run("b = lab.grid('{{ question }}', 'r.csv', models='echo', name='<b>second</b>', track=False, progress=False)")
    return model


def test_status_says_where_things_lie_and_what_runs(kernel):
    for line in ("%lab", "%lab status"):
        ran = kernel.run(line)
        lines = dict(line.split(None, 1) for line in ran.text.splitlines() if line.strip())
        assert lines["home"] == str(kernel.folder / "home")
        assert lines["ledger"] == str(kernel.folder / "home" / "lab.db")
        assert lines["MLflow"] == f"sqlite:///{kernel.folder / 'home' / 'mlflow.db'}"
        assert "running grids       none" in ran.text and "waiting for MLflow  0" in ran.text
    kernel.run(
        "import time\ndef slow(reply, row):\n    time.sleep(0.5)\n    return 1\n"
        "r = lab.grid('{{ question }}', 'r.csv', models='echo', name='busy', scorers=[slow], track=False, wait=False)"
    )
    assert "running grids       busy (" in kernel.run("%lab").text
    assert kernel.run("_ = r.wait()").status == "ok"


def test_cost_is_told_by_grid_and_model_and_what_has_no_price_is_counted(kernel, grids):
    ran = kernel.run("%lab cost")
    lines = [line.split() for line in ran.text.splitlines()]
    priced = next(line for line in lines if grids in line)
    assert priced[:3] == ["first", grids, "4"] and priced[3].startswith("$0.0")
    free = next(line for line in lines if line[1].startswith("openai:free"))
    assert free[2:] == ["4", "cost", "unknown", "4"]
    total = lines[-1]
    assert total[0] == "all" and total[2] == priced[3]


def test_runs_shows_state_cells_cost_and_ids_that_can_be_loaded(kernel):
    ran = kernel.run("%lab runs")
    first = next(line for line in ran.text.splitlines() if line.startswith("first"))
    assert first.split()[1:3] == ["done", "8"]
    run_id, grid = first.split()[-2:]
    assert kernel.value(f"[lab.load('{run_id}').grid_id, lab.load('{grid}').run_id]") == [grid, run_id]
    assert "&lt;b&gt;second" in ran.html and "<b>second" not in ran.html
    assert len(kernel.run("%lab runs --last 1").text.splitlines()) == 2


def test_settings_say_where_each_value_comes_from(kernel):
    kernel.run("%config LLMOpsLab.timeout = 12")
    lines = {line.split()[0]: line.split(None, 1)[1] for line in kernel.run("%lab settings").text.splitlines()[1:]}
    assert lines["retries"].split() == ["2", str(kernel.folder / "pyproject.toml")]
    assert lines["home"].endswith("environment")
    assert lines["timeout"].split() == ["12.0", "configure()"]
    assert lines["tracking_uri"].endswith("default")
    assert lines["experiment"].split() == ["'llmops_lab'", "default"]


def test_config_sets_what_is_asked_reads_what_is_in_force_and_refuses_what_is_wrong(kernel):
    assert kernel.run("%config LLMOpsLab.model").text == "'tiny'"
    kernel.run("%config LLMOpsLab.model = 'echo'")
    assert kernel.run("%config LLMOpsLab.model").text == "'echo'"
    assert kernel.value("lab.ask('said', track=False).model") == "echo"
    assert "must be above 0" in kernel.run("%config LLMOpsLab.concurrency = -1").printed
    assert kernel.run("%config LLMOpsLab.concurrency").text == "16"
    kernel.run("lab.configure(model='tiny')")
    assert kernel.run("%config LLMOpsLab.model").text == "'tiny'"
    assert "Seconds for one try of one call" in kernel.run("%config LLMOpsLab").printed


@pytest.mark.parametrize(
    ("line", "expected"),
    [("%lab stauts", "Did you mean status"), ("%lab runs --last none", "--last must be a whole number"), ("%lab runs --lsat 1", "--last")],
)
def test_wrong_use_is_a_real_error(kernel, line, expected):
    ran = kernel.run(line)
    name, (text,) = ran.error
    assert name == "BadInput" and expected in text


def test_help_and_the_other_names(kernel):
    assert kernel.run("%lab --help").printed.startswith("usage: %lab")
    assert kernel.run("%llmops_lab status").text.count("ledger") == 1


def test_unloading_takes_all_away_and_loading_brings_it_back(kernel):
    kernel.run("%unload_ext llmops_lab")
    assert "not found" in kernel.run("%lab").printed
    assert "LLMOpsLab" not in kernel.run("%config").printed
    kernel.run("%load_ext llmops_lab")
    assert "ledger" in kernel.run("%lab").text and kernel.run("%config").printed.count("LLMOpsLab") == 1
