"""``llmops-lab doctor``: says where everything lies and why, what is broken and how to mend it; changes nothing; shows no secret."""

import socket

import pytest

from tests.commands import Place


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def lines(done, topic):
    found = [line.split(None, 2) for line in done.out.splitlines()]
    return [(each[0], each[2]) for each in found if len(each) == 3 and each[1] == topic]


def test_a_fresh_place_is_healthy_and_looking_makes_nothing(place):
    done = place.run("doctor")
    assert done.code == 0 and done.out.splitlines()[-1] == "healthy", done.out
    assert lines(done, "home") == [("ok", f"{place.home} (set by LLMOPS_LAB_HOME)")]
    assert lines(done, "ledger") == [("ok", f"{place.home / 'lab.db'}: not there yet, the first call makes it")]
    assert lines(done, "MLflow")[0][1].startswith(f"sqlite:///{place.home / 'mlflow.db'}")
    assert "mlflow 3." in done.out and "Python 3." in done.out
    assert list(place.folder.iterdir()) == []


def test_the_home_beside_a_project_or_in_the_working_directory_says_why(place):
    place.write("pyproject.toml", "")
    inner = Place(place.folder / "deep")
    inner.folder.mkdir()
    done = inner.run("doctor", LLMOPS_LAB_HOME="")
    assert lines(done, "home") == [("ok", f"{place.folder / '.llmops_lab'} (beside pyproject.toml)")]
    (place.folder / "pyproject.toml").unlink()
    done = inner.run("doctor", LLMOPS_LAB_HOME="")
    assert "in the working directory, because no pyproject.toml or .git was found" in lines(done, "home")[0][1]


def test_after_a_call_it_counts_checks_and_names_the_journal(place):
    assert place.run("ask", "hi", "--model", "echo", "--no-track").code == 0
    done = place.run("doctor")
    assert done.code == 0
    ((state, text),) = lines(done, "ledger")
    assert state == "ok" and "1 replies; SQLite, journal wal on " in text and text.endswith("integrity check passed")


def test_settings_are_shown_with_where_they_come_from_and_keys_by_name_alone(place):
    keys = '"https://api.example.com" = "EXAMPLE_KEY"\n"https://b.example" = "B_KEY"\n'
    path = place.write("pyproject.toml", f'[tool.llmops_lab]\nmodel = "echo"\n[tool.llmops_lab.keys]\n{keys}')
    done = place.run("doctor", LLMOPS_LAB_TIMEOUT="7", EXAMPLE_KEY="planted-value-1", MISTRAL_API_KEY="planted-value-2")
    settings = dict(text.split(" = ", 1) for _, text in lines(done, "setting"))
    assert settings["model"] == f"'echo'  ({path})"
    assert settings["timeout"] == "7.0  (environment)"
    assert settings["retries"] == "4  (default)"
    assert [text for _, text in lines(done, "key")] == [
        "EXAMPLE_KEY for https://api.example.com: set",
        "B_KEY for https://b.example: NOT SET",
        "MISTRAL_API_KEY: set",
    ]
    assert "planted-value" not in done.out + done.err


@pytest.mark.parametrize(
    "content", [b"this is no database, but it is long enough to be taken for one" * 100, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_a_broken_ledger_is_broken_and_left_as_it_is(place, content):
    place.home.mkdir()
    ledger = place.home / "lab.db"
    ledger.write_bytes(content)
    done = place.run("doctor")
    assert done.code == 1 and done.out.splitlines()[-1] == "1 broken"
    ((state, text),) = lines(done, "ledger")
    assert state == "BROKEN" and str(ledger) in text and "backup" in text
    assert ledger.read_bytes() == content
    assert "Traceback" not in done.err


def test_a_damaged_page_fails_the_integrity_check(place):
    for number in range(3):
        assert place.run("ask", f"{number} {'word ' * 3000}", "--model", "echo", "--no-track").code == 0
    ledger = place.home / "lab.db"
    data = bytearray(ledger.read_bytes())
    assert len(data) > 20 * 4096
    for page in range(4, len(data) // 4096 - 1):
        data[page * 4096 : page * 4096 + 200] = b"\x05" * 200
    ledger.write_bytes(data)
    done = place.run("doctor")
    assert done.code == 1 and "Traceback" not in done.err
    assert [state for state, _ in lines(done, "ledger")] == ["BROKEN"]


def test_a_ledger_in_postgresql_that_does_not_answer_hides_its_password(place):
    done = place.run("doctor", LLMOPS_LAB_LEDGER="postgresql://me:planted-value-3@127.0.0.1:9/lab")
    assert done.code == 1
    assert lines(done, "ledger")[0][0] == "BROKEN" and "127.0.0.1:9/lab" in lines(done, "ledger")[0][1]
    assert "planted-value-3" not in done.out + done.err


def test_mlflow_that_is_down_or_silent_is_broken_and_hides_its_password(place):
    done = place.run("doctor", MLFLOW_TRACKING_URI="http://me:planted-value-4@127.0.0.1:9")
    assert done.code == 1
    assert lines(done, "MLflow")[0][0] == "BROKEN" and "does not answer" in lines(done, "MLflow")[0][1]
    assert "planted-value-4" not in done.out + done.err
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = place.run("doctor", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert done.code == 1 and "does not answer" in done.out


@pytest.mark.parametrize(
    ("project", "topic", "expected"),
    [
        ("[tool.llmops_lab]\nmodle = 'x'\n", "settings", "Did you mean model"),
        ("[tool.llmops_lab\n", "settings", "pyproject.toml cannot be read"),
        ("[tool.llmops_lab]\nmodel = 'tinny'\n", "model", "Did you mean tiny"),
    ],
)
def test_wrong_settings_are_broken(place, project, topic, expected):
    place.write("pyproject.toml", project)
    done = place.run("doctor")
    assert done.code == 1
    assert [state for state, text in lines(done, topic) if expected in text] == ["BROKEN"], done.out


def test_a_home_that_cannot_be_made_is_broken(place):
    blocking = place.write("file", "")
    done = place.run("doctor", LLMOPS_LAB_HOME=str(blocking / "home"))
    assert done.code == 1 and "Set LLMOPS_LAB_HOME to another folder" in lines(done, "ledger")[0][1]


def test_what_waits_for_mlflow_and_what_may_have_been_paid_twice_is_told(place):
    place.write("p.toml", '[plain]\ntemplate = "{{ question }}"\n')
    place.write("r.csv", "id,question\n1,a\n")
    words = ("grid", "--prompts", "p.toml", "--rows", "r.csv", "--model", "echo")
    done = place.run(*words, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.code == 0 and "it waits in the outbox until http://127.0.0.1:9 answers" in done.out, done.out + done.err
    assert lines(place.run("doctor"), "outbox") == [("note", "1 entries wait for MLflow; they are sent when the next grid ends")]
