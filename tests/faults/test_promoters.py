"""Two promoters at once, promoters that are killed, and a registry that goes away: one winner, everything told, nothing half done."""

import contextlib
import json
import subprocess
import sys

import pytest

import llmops_lab as lab
from llmops_lab import settings as _settings
from llmops_lab.errors import Unreachable
from llmops_lab.flows.audit import verify
from llmops_lab.store import audit
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track import connect
from tests.faults.conftest import ROOT, environment, full
from tests.mlflow_server import MlflowServer
from tests.postgres import PostgresServer, Unavailable


class Promoter:
    """tests/faults/promoter.py as a process, under a name of its own."""

    def __init__(self, home, who, *options, **changes):
        command = [sys.executable, "-m", "tests.faults.promoter", *options]
        variables = environment(home, LLMOPS_LAB_REVIEWER=who, **changes)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=variables)
        self.who = who
        assert self._process.stdout.readline() == "ready\n"

    def ask(self, **asked):
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()

    def answer(self):
        return json.loads(self._process.stdout.readline())

    def wait(self):
        return self._process.wait(timeout=120)

    def stop(self):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


@pytest.fixture
def promoter():
    """Starts promoters, and ends them."""
    with contextlib.ExitStack() as running:

        def start(*arguments, **changes):
            made = Promoter(*arguments, **changes)
            running.callback(made.stop)
            return made

        yield start


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request, monkeypatch):
    """The ledger's place as the variable LLMOPS_LAB_LEDGER has it; empty for SQLite."""
    if request.param == "sqlite":
        yield ""
        return
    try:
        with PostgresServer() as server:
            monkeypatch.setenv("LLMOPS_LAB_LEDGER", url := server.database())
            yield url
    except Unavailable as reason:
        pytest.skip(str(reason))


def bundles():
    for temperature in (0, 0.5, 1):
        lab.bundle("bot", model="tiny", params={"temperature": temperature})


def log():
    return audit.entries(open_ledger(_settings.load()), name="bot")


def test_of_two_promoters_who_saw_the_same_one_wins_and_the_other_is_told(home, mlflow_store, promoter, ledger):
    mlflow_store(home)
    bundles()
    pair = [promoter(home, who, LLMOPS_LAB_LEDGER=ledger) for who in ("anna", "ben")]
    now, rounds = 0, full(3 if ledger else 5, 100)
    winners = []
    for _ in range(rounds):
        before = len(log())
        wanted = [version for version in (1, 2, 3) if version != now][:2]
        for each, version in zip(pair, wanted, strict=True):
            each.ask(name="bot", version=version, alias="dev", expect=now)
        said = [each.answer() for each in pair]
        won = [number for number in (0, 1) if "error" not in said[number]]
        assert len(won) == 1, said
        winner, loser = won[0], 1 - won[0]
        assert said[winner]["version"] == wanted[winner] and said[winner]["moved"]
        assert said[loser]["error"] == "Conflict" and said[loser]["current"]["version"] in (wanted[winner], None), said[loser]
        new = [(entry.kind, entry.actor) for entry in log()[before:]]
        assert ("promoted", pair[winner].who) in new and ("refused", pair[loser].who) in new
        assert [kind for kind, _ in new].count("promoted") == 1
        now = wanted[winner]
        assert lab.history("bot").now == {"dev": now}
        winners.append(winner)
    moved = [line.version for line in lab.history("bot") if line.what == "promoted"]
    assert len(moved) == rounds and moved[-1] == now
    found, note = verify(_settings.load())
    assert found.whole and note == ""


def test_promoters_who_did_not_look_never_leave_log_and_alias_apart(home, mlflow_store, promoter):
    mlflow_store(home)
    bundles()
    pair = [promoter(home, who) for who in ("anna", "ben")]
    said = []
    for number in range(full(4, 60)):
        for shift, each in enumerate(pair):
            each.ask(name="bot", version=1 + (number + shift) % 3, alias="dev")
        said += [each.answer() for each in pair]
    kinds = [entry.kind for entry in log()]
    assert kinds.count("promoted") == sum(bool(each.get("moved")) for each in said) > 0
    assert kinds.count("refused") == sum(each.get("error") == "Conflict" for each in said)
    assert len(said) == sum(kinds.count(kind) for kind in ("promoted", "refused", "already_there"))
    story = lab.history("bot")
    assert "elsewhere" not in [line.what for line in story]  # each move in the log begins where the one before ended
    assert story.now["dev"] == [line.version for line in story if line.what == "promoted"][-1]


def test_two_who_register_the_same_get_the_same_version(home, mlflow_store, promoter):
    mlflow_store(home)
    bundles()
    pair = [promoter(home, who) for who in ("anna", "ben")]
    for number in range(full(3, 30)):
        for each in pair:
            each.ask(name=f"bot-{number}", model="tiny", params={"seed": number})
        assert [each.answer() for each in pair] == [{"version": 1}] * 2
        story = lab.history(f"bot-{number}")
        assert [line.what for line in story] == ["registered"]
        versions = connect.client(_settings.load()).search_model_versions(f"name = 'bot-{number}'")
        assert len(versions) == 1


@pytest.mark.parametrize(("when", "told", "at"), [("before", "abandoned", 1), ("after", "promoted", 2)])
def test_a_promoter_that_is_killed_leaves_a_move_that_the_next_look_settles(home, mlflow_store, promoter, when, told, at):
    mlflow_store(home)
    bundles()
    lab.promote("bot", 1, "dev")
    victim = promoter(home, "anna", "--die", when)
    victim.ask(name="bot", version=2, alias="dev", why="half-way")
    assert victim.wait() == -9
    assert [entry.kind for entry in log()][-1] == "promoting"
    story = lab.history("bot")
    last = list(story)[-1]
    assert (last.what, last.version, last.actor, story.now) == (told, 2, "anna", {"dev": at})
    assert [entry.kind for entry in log()][-1] == told and verify(_settings.load())[0].whole
    assert lab.promote("bot", 3, "dev").previous == at


def test_a_rollback_of_a_bundle_that_is_killed_half_way_is_settled_as_one(home, mlflow_store, promoter):
    mlflow_store(home)
    bundles()
    for version in (1, 2):
        lab.promote("bot", version, "dev")
    victim = promoter(home, "anna", "--die", "after")
    victim.ask(name="bot", alias="dev", why="half-way")
    assert victim.wait() == -9
    assert lab.bundle("bot@dev").params == {"temperature": 0}  # all of the first bundle, nothing of the second
    story = lab.history("bot")
    last = list(story)[-1]
    assert (last.what, last.version, last.why, story.now) == ("rolled_back", 1, "half-way", {"dev": 1})
    assert verify(_settings.load())[0].whole


def test_without_mlflow_nothing_is_half_done_and_with_it_again_all_goes_on(home, tmp_path, mlflow_store, monkeypatch, capsys):
    from llmops_lab.cli import main

    (tmp_path / "server").mkdir()
    mlflow_store(tmp_path / "server")
    server = MlflowServer(tmp_path / "server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    server.start()
    try:
        bundles()
        lab.promote("bot", 1, "dev")
        server.kill()
        with pytest.raises(Unreachable):
            lab.promote("bot", 2, "dev")
        assert main(["rollback", "bot", "dev"]) == main(["history", "bot"]) == 4
        assert main(["audit", "verify"]) == 0 and "does not answer" in capsys.readouterr().err
        assert [entry.kind for entry in log()][-2:] == ["refused", "refused"]
        server.start()
        assert lab.history("bot").now == {"dev": 1}
        assert lab.promote("bot", 2, "dev").previous == 1 and lab.rollback("bot", "dev").version == 1
        assert connect.client(_settings.load()).get_model_version_by_alias("bot", "dev").version in (1, "1")
        assert verify(_settings.load()) == (audit.verify(open_ledger(_settings.load())), "")
    finally:
        server.kill()
