"""Secrets planted wherever a user or a provider could put one: sent as written, stored, shown, logged and exported nowhere.

Processes of their own do all that a person does (grid, ask, export, command line, mistakes) with logging at DEBUG; then every byte that
they left behind is read, Parquet files decoded, and so is all that they printed.
"""

import html
import json
import os
import subprocess
import sys
import urllib.parse

import pandas
import pytest

import llmops_lab as lab
from llmops_lab import cli
from llmops_lab.redact import MASK
from tests.faults.conftest import environment
from tests.servers import ModelServer, answers, completion, refuses, replies

HIDDEN = {  # in the environment, under names that say so, or that only the settings know
    "PLANTED_API_KEY": "planted-value-of-a-key-variable",
    "DB_PASSWORD": 'pa"ss\\wörd <&> 123',
    "FRONT_DOOR": "value-under-a-harmless-name",
}
SHAPES = {
    "openai": "sk-proj-Zm9vYmFyYmF6cXV4cXV1eA1234567890",
    "anthropic": "sk-ant-api03-Q29ycmVjdEhvcnNlQmF0dGVyeVN0YXBsZQ",
    "hub": "hf_ZxCvBnMaSdFgHjKlQwErTyUiOp",
    "github": "ghp_ZyXwVuTsRqPoNmLkJiHgFeDcBa9876543210",
    "github fine": "github_pat_11ABCDEFG0aBcDeFgHiJkLmNoPqRsTuVwXyZ",
    "gitlab": "glpat-aBcDeFgHiJkLmNoPqRsT",
    "groq": "gsk_ZmFrZWdyb3FrZXlmb3J0ZXN0aW5nMTIz",
    "google": "AIzaSyA-fakeFakeFakeFakeFakeFakeFake12",
    "aws": "AKIAFAKEFAKEFAKEFAKE",
    "slack": "xoxb-123456789012-abcdefghijkl",
    "langsmith": "lsv2_pt_0123456789abcdef0123456789",
    "databricks": "dapi0123456789abcdef0123456789abcdef",
    "nvidia": "nvapi-aBcDeFgHiJkLmNoPqRsTuVwXyZ",
    "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
}
PASSWORD_IN_URL = "hunter2-in-a-url"
SECRETS = {**HIDDEN, **SHAPES, "url": PASSWORD_IN_URL}

CHILD = """
import json, logging, os, sys, traceback, warnings
logging.basicConfig(level=logging.DEBUG, filename="debug.log")
warnings.simplefilter("always")
import llmops_lab as lab
from llmops_lab.errors import LabError

given = json.load(open("given/secrets.json"))
url = sys.argv[1]

def breaks(reply, row):
    raise ValueError("scorer broke on " + given["slack"])

def explains(reply, row):
    assert not any(value in reply.text for value in given.values()), "a scorer saw a secret that is not stored"
    assert not any(value in str(row) for value in given.values()), "a scorer saw a secret of a row that is not stored"
    return lab.Score(0.5, reason="because of " + given["langsmith"], detail={"why": given["langsmith"], given["hub"]: 1})

class Odd(dict):
    pass

spec = f"openai:m@{url}"
grid = lab.grid(
    {"plain": "{{ question }}", "keyed " + given["hub"]: lab.Prompt("Use " + given["openai"] + ": {{ question }}")},
    "given/rows-" + given["github"] + ".csv",
    models=[lab.model(spec, label="hot " + given["databricks"], user=given["aws"])],
    scorers=["exact", "contains", breaks, explains, lab.scorer("exact", label="same")],
    expected="answer", name="run " + given["gitlab"], retries=0, params={"metadata": {"k": [given["aws"]]}},
    progress=lambda progress: print(progress),
)
print(grid, repr(grid), grid._repr_html_(), grid.frame().to_string(max_colwidth=None), grid.frame().to_html(), grid.summary().to_string())
print(grid.state, grid.run_id, grid.maybe_paid_twice, grid.plot().to_json(), grid.records())
os.makedirs("out", exist_ok=True)
for ending in ("csv", "tsv", "json", "jsonl", "parquet"):
    grid.export(f"out/cells.{ending}")
grid.resume()
answer = lab.ask("Tell " + given["anthropic"] + " and " + given["PLANTED_API_KEY"], model=spec)
print(answer, repr(answer), answer._repr_html_(), answer.messages)

mistakes = [
    lambda: lab.ask("refuse: " + given["groq"], model=spec),
    lambda: lab.grid({"p": "{{ x }}"}, [{"x": "1"}], models=[given["anthropic"]]),
    lambda: lab.grid({"p": "{{ " + given["github"] + " }}"}, [{"x": "1"}], models=["echo"]),
    lambda: lab.grid({"p": "{{ x }}"}, [{"x": "1"}], models=["echo"], scorers=[given["nvidia"]]),
    lambda: lab.grid({"p": "{{ x }}"}, "given/" + given["github"] + "/none.csv", models=["echo"]),
    lambda: lab.grid({"p": "{{ x }}"}, "given/broken.jsonl", models=["echo"]),
    lambda: lab.grid({"p": "{{ x }}"}, [{"x": "1"}], models=["openai:m@https://me:" + given["url"] + "@127.0.0.1:1/v1"]),
    lambda: lab.load(given["gitlab"]),
    lambda: lab.configure(concurrency=given["google"]),
    lambda: lab.grid({"p": "{{ x }}"}, [{"x": "1"}], models=["echo"], budget=given["google"]),
]
for mistake in mistakes:
    try:
        mistake()
    except LabError as error:
        print("refused:", error)
        traceback.print_exc()
        logging.getLogger("user").exception("it broke")
    else:
        print("NOT REFUSED")
"""


def forms(secret):
    """Every way in which a file or a page may spell it."""
    spelt = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], html.escape(secret), repr(secret)[1:-1]}
    spelt |= {json.dumps(json.dumps(secret)[1:-1])[1:-1], urllib.parse.quote(secret), secret.replace('"', '""')}
    return {form.encode() for form in spelt}


def assert_none_in(data, where):
    for name, secret in SECRETS.items():
        for form in forms(secret):
            at = data.find(form)
            assert at < 0, f"the {name} secret lies in {where}: ...{data[max(0, at - 120) : at + len(form) + 40]!r}..."


def assert_clean(folder, given):
    seen = []
    for path in sorted(folder.rglob("*")):
        if given in path.parents or path == given:
            continue
        assert_none_in(str(path.relative_to(folder)).encode(), f"the name of {path}")
        if path.is_file():
            seen.append(path.name)
            assert_none_in(path.read_bytes(), path)
            if path.suffix == ".parquet":
                assert_none_in(pandas.read_parquet(path).to_json().encode(), f"{path}, decoded")
    return seen


@pytest.fixture
def project(tmp_path, mlflow_store):
    mlflow_store(tmp_path / "home")
    given = tmp_path / "given"
    given.mkdir()
    (given / "secrets.json").write_text(json.dumps(SECRETS))
    (given / "child.py").write_text(CHILD)
    questions = [
        ("1", f"variable {HIDDEN['PLANTED_API_KEY']}", f"variable {HIDDEN['PLANTED_API_KEY']}"),
        ("2", f"awkward {HIDDEN['DB_PASSWORD']}", "x"),
        ("3", f"harmless {HIDDEN['FRONT_DOOR']}", "x"),
        ("4", "leak", "x"),
        ("5", "call", "x"),
        ("6", "refuse", "x"),
        (f"7 {SHAPES['google']}", f"https://me:{PASSWORD_IN_URL}@example.org/db", SHAPES["token"]),
        ("8", "filtered", "x"),
    ]
    table = pandas.DataFrame(questions, columns=["id", "question", "answer"])
    table.to_csv(given / f"rows-{SHAPES['github']}.csv", index=False)
    (given / "broken.jsonl").write_text('{"x": "1"}\n"' + SHAPES["token"] + '"\n')
    (given / "prompts.toml").write_text(
        '[plain]\ntemplate = "{{ question }}"\n\n[keyed]\ntemplate = "Use ' + SHAPES["openai"] + ': {{ question }}"\n'
    )
    return tmp_path


@pytest.fixture
def server():
    secret = SHAPES["groq"]
    call = {"id": "c1", "type": "function", "function": {"name": "pay", "arguments": json.dumps({"key": SHAPES["github fine"]})}}

    async def says_too_much(request, body):
        return await refuses(401, f"Incorrect API key provided: {request.headers['Authorization'].split()[1]} {SHAPES['token']}")(
            request, body
        )

    with ModelServer() as server:
        for prefix in ("", f"Use {SHAPES['openai']}: "):
            leak = completion(f"my key is {secret}", {"messages": [{"content": ""}], "model": f"m {secret}"})
            server.always(answers(200, leak), text=f"{prefix}leak")
            server.always(replies(None, message={"role": "assistant", "content": None, "tool_calls": [call]}), text=f"{prefix}call")
            server.always(says_too_much, text=f"{prefix}refuse")
            server.always(replies(f"half {secret}", finish_reason=f"odd {secret}"), text=f"{prefix}filtered")
        server.always(says_too_much, text=f"refuse: {secret}")
        yield server


def surroundings(project, server):
    (project / "pyproject.toml").write_text(f'[tool.llmops_lab.keys]\n"{server.url}" = "FRONT_DOOR"\n')
    return environment(project / "home", **HIDDEN, HF_TOKEN=SHAPES["hub"])


def run(project, server, *command):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env=surroundings(project, server),
        capture_output=True,
        timeout=180,
        stdin=subprocess.DEVNULL,
    )
    assert_none_in(done.stdout, f"stdout of {command[:3]}")
    assert_none_in(done.stderr, f"stderr of {command[:3]}")
    return done


def test_sent_as_written_and_left_nowhere(project, server):
    done = run(project, server, "given/child.py", server.url)
    said = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    assert "NOT REFUSED" not in said and said.count("refused:") == 10 and MASK in said

    asked = {seen.text for seen in server.requests}
    assert {f"variable {HIDDEN['PLANTED_API_KEY']}", f"awkward {HIDDEN['DB_PASSWORD']}", f"harmless {HIDDEN['FRONT_DOOR']}"} <= asked
    assert any(text.startswith(f"Use {SHAPES['openai']}") for text in asked) and any(PASSWORD_IN_URL in text for text in asked)
    assert {seen.headers["Authorization"] for seen in server.requests} == {f"Bearer {HIDDEN['FRONT_DOOR']}"}
    assert all(seen.body["user"] == SHAPES["aws"] for seen in server.requests if seen.body.get("metadata"))

    seen = assert_clean(project, project / "given")
    assert {"lab.db", "mlflow.db", "cells.parquet", "cells.csv", "cells.json", "cells.jsonl", "debug.log"} <= set(seen)
    assert (project / "debug.log").stat().st_size > 10_000  # the logs were really on

    cells = pandas.read_csv(project / "out" / "cells.csv", dtype={"row_id": str}).set_index(["prompt", "row_id"])
    plain = cells.loc["plain"]
    assert plain.loc["1", "text"] == f"variable {MASK}" and plain.loc["4", "text"] == f"my key is {MASK}"
    assert plain.loc["6", "error"] == "unauthorized" and plain.loc["5", "status"] == "ok"
    # A scorer compares what is stored with the target as it would be stored, so a secret in both is no difference.
    assert bool(plain.loc["1", "exact"]) is True and bool(plain.loc["1", "same"]) is True and plain.loc["1", "explains"] == 0.5
    assert plain.loc["1", "breaks_error"].endswith(f"scorer broke on {MASK}")


def test_the_command_leaves_none_either(project, server, monkeypatch, capfd):
    for name in set(os.environ) - set(surroundings(project, server)):
        monkeypatch.delenv(name)
    for name, value in surroundings(project, server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project)
    spec, rows = f"openai:m@{server.url}", f"given/rows-{SHAPES['github']}.csv"
    base = ("grid", "--prompts", "given/prompts.toml", "--rows", rows, "--scorer", "exact", "--expected", "answer")

    def command(*arguments):
        code = cli.main([*arguments])
        said = "".join(capfd.readouterr())
        assert_none_in(said.encode(), f"what {arguments[:2]} printed")
        return code, said

    assert command(*base, "--model", spec, "--json", "out.json", "--name", f"n {SHAPES['gitlab']}")[0] == 1
    assert (project / "out.json").stat().st_size > 1000
    code, said = command("ask", f"Tell {SHAPES['anthropic']}", "--model", spec, "--json")
    assert code == 0 and MASK in said
    assert command("ask", f"refuse: {SHAPES['groq']}", "--model", spec)[0] == 1
    assert command(*base, "--model", SHAPES["anthropic"])[0] == 2
    assert command(*base, "--model", spec, "--param", SHAPES["google"])[0] == 2
    assert command("compare", SHAPES["gitlab"], SHAPES["hub"])[0] == 2
    command("doctor")
    assert_clean(project, project / "given")


def test_a_mistake_in_the_first_word_is_masked_too(project, server):
    done = run(project, server, "-m", "llmops_lab.cli", "grid", "--param", SHAPES["google"])
    assert done.returncode == 2 and MASK.encode() in done.stderr


def test_a_rotated_key_buys_nothing_again(home, monkeypatch):
    """Hashes are of the text as it is stored, so they do not change with a secret, and say nothing of it."""
    results = []
    with ModelServer() as server:
        for secret in ("first-value-of-the-key", "another-value-of-the-key"):
            monkeypatch.setenv("PLANTED_API_KEY", secret)
            rows = [{"id": "1", "question": f"with {secret}", "answer": f"with {secret}"}]
            results.append(
                lab.grid(
                    {"plain": "{{ question }}"}, rows, models=[f"openai:m@{server.url}"], scorers=["exact"], expected="answer",
                    params={"user": secret}, track=False,
                )
            )  # fmt: skip
        assert server.count("with first-value-of-the-key") == 1 and len(server.requests) == 1
    assert [grid.reused for grid in results] == [0, 1] and results[1].frame()["exact"].tolist() == [True]
    assert results[0].frame()["key"].tolist() == results[1].frame()["key"].tolist()


def test_every_shape_is_known_and_ordinary_text_is_left_alone():
    from llmops_lab.redact import redact

    for name, secret in SHAPES.items():
        for text in (secret, f"({secret})", f"key={secret}.", f'{{"key": "{secret}"}}', f"a\n{secret}\nb", f"ключ{secret}"):
            assert secret not in redact(text), name
    for text in (
        "the task-based sk-learn API, risk-free skills and a hf_model",
        "https://example.org/a:b@c and mailto:me@example.org",
        "AKIA and eyJ and dapi",
        "Bearer of bad news",
        "x" * 5000,
        os.environ.get("PATH", ""),
    ):
        assert redact(text) == text
