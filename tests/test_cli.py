"""``llmops-lab grid``, ``compare`` and ``ask`` as real processes against real servers: what they print, write, send, and how they exit."""

import contextlib
import json
import os
import pty
import signal
import time

import pytest

from tests.commands import Place
from tests.servers import ModelServer, refuses
from tests.waiting import until

ROWS = "id,question,answer\n" + "".join(f"{number},What is {number}?,What is {number}?\n" for number in range(12))
TOML = '[plain]\ntemplate = "{{ question }}"\n[polite]\ntemplate = "Please: {{ question }}"\n'


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    made.write("p.toml", TOML)
    made.write("one.toml", TOML.partition("[polite]")[0])
    made.write("r.csv", ROWS)
    return made


def grid(*more, prompts="p.toml", model="echo"):
    base = ("grid", "--prompts", prompts, "--rows", "r.csv", "--model", model, "--scorer", "exact", "--expected", "answer", "--no-track")
    return (*base, *more)


# -- exit codes ------------------------------------------------------------------------------------------------------------
def test_0_a_grid_that_is_done_prints_table_place_and_verdict_and_writes_its_cells(place):
    done = place.run(*grid("--json", "out.json", "--repeats", "2"))
    assert done.code == 0, done.err
    assert "state: done" in done.out and str(place.home / "lab.db") in done.out
    assert "verdict: worse: polite loses to plain on exact by -1.00" in done.out
    assert done.err.startswith("estimate: 48 cells: 48 calls")
    cells = json.loads((place.folder / "out.json").read_text())
    assert len(cells) == 48 and {cell["status"] for cell in cells} == {"ok"}
    assert {cell["prompt"]: cell["exact"] for cell in cells} == {"plain": True, "polite": False}


def test_1_failed_cells_are_named_with_the_providers_own_words(place):
    with ModelServer() as server:
        server.always("401")
        done = place.run(*grid(prompts="one.toml", model=f"openai:m@{server.url}"))
    assert done.code == 1
    assert "failed: 12 unauthorized" in done.out and "Incorrect API key provided" in done.out
    assert "12 of 12 cells failed. To ask those again: the same command." in done.err


def test_3_the_budget_stops_before_the_call_that_might_pass_it(place):
    with ModelServer() as server:
        spec = f"openai:m@{server.url}"
        place.write("pyproject.toml", f'[tool.llmops_lab.prices]\n"{spec}" = {{ input = 1000.0, output = 1000.0 }}\n')
        done = place.run(*grid("--budget", "0.08", "--param", "max_tokens=10", prompts="one.toml", model=spec))
        assert done.code == 3
        assert 0 < len(server.requests) < 12
    assert "stopped by the budget" in done.err and "a higher budget, and the same command" in done.err


def test_4_no_answer_from_any_call_is_resumable_by_the_same_command(place):
    server = ModelServer()
    with server:
        words = grid("--retries", "0", prompts="one.toml", model=f"openai:m@{server.url}")
    done = place.run(*words)
    assert done.code == 4
    assert "no call got any answer" in done.err and "the same command" in done.err
    with server:
        assert place.run(*words).code == 0
        assert len(server.requests) == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_130_a_signal_cancels_keeps_what_is_done_and_the_same_command_goes_on(place, number):
    with ModelServer(latency_ms=100) as server:
        words = grid("--concurrency", "2", prompts="one.toml", model=f"openai:m@{server.url}")
        process = place.start(*words)
        until(lambda: place.count("replies") >= 3)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        kept = place.count("replies")
        assert 3 <= kept < 12
        assert f"cancelled: {kept} of 12 cells are answered and kept. To go on: the same command." in err
        assert "state: cancelled" in out and "verdict" not in out
        assert place.run(*words).code == 0
        assert len(server.requests) == 12  # none of the recorded cells was asked again


def test_a_second_interrupt_ends_it_although_a_call_hangs(place):
    with ModelServer() as server:
        server.always("timeout")
        process = place.start(*grid("--timeout", "600", prompts="one.toml", model=f"openai:m@{server.url}"))
        until(lambda: server.requests)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "the same command" in err


# -- dry run, files, flags ---------------------------------------------------------------------------------------------------
def test_a_dry_run_sends_and_records_nothing_and_unknown_stays_unknown(place):
    with ModelServer() as server:
        done = place.run(*grid("--dry-run", "--json", "out.json", model=f"openai:m@{server.url}"))
        assert server.requests == []
    assert done.code == 0
    assert "cells: 24\ncalls: 24\n" in done.out
    assert "cost: unknown" in done.out and "time: unknown" in done.out and "nothing was sent" in done.out
    assert place.count("grids") == place.count("claims") == 0
    assert not (place.folder / "out.json").exists()


def test_a_dry_run_knows_what_the_ledger_answers_and_fresh_asks_anew(place):
    assert place.run(*grid(prompts="one.toml")).code == 0
    assert "calls: 12 (12 cells are answered from the ledger)" in place.run(*grid("--dry-run")).out
    assert "calls: 24\n" in place.run(*grid("--dry-run", "--fresh")).out


def test_the_estimate_knows_a_price_and_recorded_times(place):
    with ModelServer() as server:
        spec = f"openai:m@{server.url}"
        place.write("pyproject.toml", f'[tool.llmops_lab.prices]\n"{spec}" = {{ input = 1.0, output = 1.0 }}\n')
        assert place.run(*grid(model=spec, prompts="one.toml")).code == 0
        estimate = place.run(*grid("--dry-run", model=spec)).out
    assert "cost: at most about $0.00" in estimate
    assert "time: about " in estimate


@pytest.mark.parametrize("word", ["no/such/folder/out.json", "."])
def test_a_file_that_cannot_be_written_is_found_before_the_first_call(place, word):
    with ModelServer() as server:
        done = place.run(*grid("--json", word, model=f"openai:m@{server.url}"))
        assert server.requests == []
    assert done.code == 2 and word in done.err and "Traceback" not in done.err


def test_the_json_file_is_replaced_whole_and_strict(place):
    place.write("out.json", "old")
    with ModelServer(answer=lambda _: "\ud800 \x1b[31m") as server:
        assert place.run(*grid("--scorer", "length", "--json", "out.json", model=f"openai:m@{server.url}")).code == 0
    text = (place.folder / "out.json").read_text("ascii")
    cells = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert cells[0]["text"] == "\ud800 \x1b[31m"
    assert [path.name for path in place.folder.glob(".*")] == []


def test_a_scorer_takes_options_with_spaces_and_backslashes(place):
    done = place.run(*grid("--scorer", r"regex pattern=^What is \d+\?$ label=asks", "--json", "o.json", prompts="one.toml"))
    assert done.code == 0, done.err
    assert {cell["asks"] for cell in json.loads((place.folder / "o.json").read_text())} == {True}


def test_without_a_terminal_there_is_no_bar(place):
    done = place.run(*grid())
    assert "\r" not in done.err + done.out and "[#" not in done.err + done.out


def test_a_reader_that_goes_away_makes_no_traceback(place):
    process = place.start("grid", "--help")
    process.stdout.close()
    process.wait(60)
    assert "Traceback" not in process.stderr.read()


# -- compare -----------------------------------------------------------------------------------------------------------------
def test_compare_judges_two_runs_or_two_prompts_of_one_and_gives_strict_json(place):
    assert place.run(*grid("--name", "first", prompts="one.toml")).code == 0
    assert place.run(*grid("--name", "both")).code == 0
    within = place.run("compare", "plain", "polite", "--grid", "both", "--json")
    assert within.code == 0 and within.json["outcome"] == "worse" and within.json["n_pairs"] == 12
    assert (within.json["a"], within.json["b"]) == ("plain", "polite")
    across = place.run("compare", "first", "both", "--scorer", "exact")
    assert across.code == 0 and across.out.startswith("verdict: worse: both loses to first on exact by -0.50")


def test_compare_names_runs_and_scorers_that_are_not_there(place):
    assert place.run(*grid("--name", "first", prompts="one.toml")).code == 0
    done = place.run("compare", "frist", "first")
    assert done.code == 2 and "no grid called 'frist'. Did you mean first?" in done.err
    done = place.run("compare", "first", "first", "--scorer", "exakt")
    assert done.code == 2 and "exact" in done.err


# -- ask ---------------------------------------------------------------------------------------------------------------------
def test_ask_prints_the_answer_alone_on_stdout(place):
    done = place.run("ask", "Hello {{ name }}", "--set", "name=007", "--model", "echo", "--no-track")
    assert (done.code, done.out) == (0, "Hello 007\n")
    assert "echo" in done.err and "$0" in done.err


def test_ask_takes_a_prompt_of_a_file_or_standard_input_and_gives_json(place):
    assert place.run("ask", "p.toml#polite", "--set", "question=why", "--model", "echo", "--no-track").out == "Please: why\n"
    done = place.run("ask", "-", "--model", "echo", "--no-track", "--json", stdin="from a pipe")
    assert done.json["text"] == "from a pipe" and done.json["cost_usd"] == 0 and done.json["model"] == "echo"


def test_ask_shows_what_a_model_writes_inert(place):
    with ModelServer(answer=lambda _: "\x1b]0;owned\x07\x1b[2J\ud800 \u202eabc") as server:
        done = place.run("ask", "hi", "--model", f"openai:m@{server.url}", "--no-track")
    assert done.code == 0
    assert not set("\x1b\x07\u202e") & set(done.out) and "\\x1b]0;owned" in done.out


def test_ask_exits_1_for_a_refusal_and_4_for_silence(place):
    with ModelServer() as server:
        server.always("401")
        done = place.run("ask", "hi", "--model", f"openai:m@{server.url}", "--no-track")
    assert done.code == 1 and "Incorrect API key provided" in done.err
    place.write("pyproject.toml", "[tool.llmops_lab]\nretries = 0\n")
    done = place.run("ask", "hi", "--model", f"openai:m@{server.url}", "--no-track")
    assert done.code == 4 and "no connection" in done.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ask", "p.toml", "--model", "echo"), "p.toml holds 2 prompts. Say which: p.toml#plain. Known: plain, polite."),
        (("ask", "p.toml#pollite", "--model", "echo"), "Did you mean polite or plain?"),
        (("ask", "Hi {{ name }}", "--set", "nmae=x", "--model", "echo"), "no slot {{ nmae }}. Did you mean name?"),
        (("ask", "Hi {{ name }}", "--set", "name", "--model", "echo"), "--set wants name=value"),
        (("ask", "no.toml#x", "--model", "echo"), "no.toml cannot be read"),
        (("ask", "hi", "--model", "ecko"), "Did you mean echo"),
    ],
)
def test_ask_says_what_is_wrong_with_a_question(place, words, expected):
    done = place.run(*words)
    assert done.code == 2 and expected in done.err, done.err


def test_the_demo_ends_in_a_verdict(place):
    done = place.run("demo")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1].startswith("verdict: better: labels beats plain on exact by +")
    assert "small fixture" in done.out and str(place.home) in done.out


def test_a_key_that_a_server_or_a_word_repeats_is_not_printed(place):
    secret = "planted-value-98765"
    place.write("named.toml", f'["{secret}"]\ntemplate = "{{{{ question }}}}"\n')
    with ModelServer() as server:
        server.always(refuses(401, f"Incorrect API key provided: {secret}"))
        model = f"openai:m@{server.url}"
        for words in (
            ("ask", "hi", "--model", model, "--no-track"),
            ("ask", "hi", "--model", secret),
            grid("--json", "o.json", prompts="named.toml", model=model),
        ):
            done = place.run(*words, OPENAI_API_KEY=secret, OPENAI_BASE_URL=server.url)
            assert done.code in (1, 2) and secret not in done.out + done.err
            assert "[redacted]" in done.err + done.out
        assert server.requests[0].headers["Authorization"] == f"Bearer {secret}"
    assert secret not in (place.folder / "o.json").read_text()


def test_on_a_terminal_one_line_is_drawn_over_itself(place):
    ours, theirs = pty.openpty()
    with ModelServer(latency_ms=50) as server:
        process = place.start(*grid("--concurrency", "1", prompts="one.toml", model=f"openai:m@{server.url}"), stderr=theirs)
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # Linux's way of saying that the other side is gone
            while piece := os.read(ours, 4096):
                drawn += piece
        process.communicate()
        os.close(ours)
    assert process.returncode == 0
    first, *lines = drawn.decode().split("\r\n")
    assert first.startswith("estimate: ")
    bars = [line for line in "".join(lines).split("\r") if line.strip()]
    assert bars[0].startswith("[....................]   0%  0/12 cells")
    assert any("s left" in line for line in bars) and bars[-1].startswith("done: 12/12 cells")
    assert len(lines) == 2  # the bar is one line
