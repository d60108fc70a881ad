"""Releases through the public door, on a real MLflow store: bundles, promotion, rollback, retirement, history."""

import json
import shutil
import sqlite3

import pytest

import llmops_lab as lab
from llmops_lab import settings as _settings
from llmops_lab.cli import main
from llmops_lab.errors import BadInput, Conflict, GateFailed, TamperedPrompt, TamperedRelease, UnknownName
from llmops_lab.flows.resolve import pointer, resolve
from llmops_lab.governance.gate import GateResult, Measured, Side, Suite, decide
from llmops_lab.store import audit
from llmops_lab.store.ledger import open_ledger
from llmops_lab.track import connect

MODEL = "tiny"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, empty_mlflow):
    """A ledger's folder with MLflow's store in it, and three versions of the prompt qa."""
    home = tmp_path_factory.mktemp("prepared") / "home"
    home.mkdir()
    for name in ("mlflow.db", ".mlflow.db.version"):
        shutil.copy(empty_mlflow / name, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")
        patch.setenv("LLMOPS_LAB_HOME", str(home))
        for words in ("one word", "two words", "three words"):
            lab.prompts.save(f"Answer {{{{ question }}}} in {words}.", "qa", author="paul")
    return home


@pytest.fixture
def at(tmp_path, monkeypatch):
    """Makes a folder the ledger's, for anna; nothing of the machine's own settings."""

    def use(home):
        for name in ("MLFLOW_TRACKING_URI", "LLMOPS_LAB_RELEASE", "LLMOPS_LAB_GATES"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("LLMOPS_LAB_HOME", str(home))
        monkeypatch.setenv("LLMOPS_LAB_REVIEWER", "anna")
        return home

    return use


@pytest.fixture
def home(prepared, at, tmp_path):
    """A project of the test's own."""
    return at(shutil.copytree(prepared, tmp_path / "home"))


@pytest.fixture(scope="module")
def common(prepared, tmp_path_factory):
    """A second copy, which tests may leave as they like."""
    return shutil.copytree(prepared, tmp_path_factory.mktemp("common") / "home")


@pytest.fixture
def shared(common, at):
    """One project for all tests in which everything is refused. It has the bundle bot/1."""
    at(common)
    bot()
    return common


def log(kind=""):
    return audit.entries(open_ledger(_settings.load()), kind=kind)


def bot(version=1, **parts):
    return lab.bundle("bot", prompts={"answer": f"qa/{version}"}, **{"model": MODEL, "params": {"temperature": 0}, **parts})


def evidence(digest, *, passed=True, suite="route", when="", first_release=False, champion=None, **measured):
    """A gate's result for this content: 30 rows, a mean of 0.9 against a floor that it clears, or not; a first release has no floor.

    ``champion``: the version of bot that it was held against; None for no champion.
    """
    suite = Suite(suite, "exact", floor=None if first_release else 0.5 if passed else 0.99)
    decided = decide(suite, Measured(30, 30, None, 0.9, 0.8, 0.95, **measured), first_release=first_release)
    against = champion and Side("bundle", f"bot/{champion}", resolve("bot", champion, _settings.load()).digest, "bot", str(champion))
    return GateResult(Side("bundle", "given", digest), against or None, (decided,), when=when)


def release(version, alias, champion=None):
    digest = resolve("bot", version, _settings.load()).digest
    return lab.promote("bot", version, alias, gate=evidence(digest, champion=champion))


# -- bundles ---------------------------------------------------------------------------------------------------------------
def test_a_bundle_pins_versions_and_digests_and_equal_content_is_one_version(home, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("question,answer\n1+1,2\n")
    lab.prompts.alias("qa", "dev", 2)
    made = lab.bundle("bot", prompts={"answer": "qa@dev"}, model=MODEL, params={"temperature": 0}, dataset=rows, index="ab" * 32, note="x")
    assert made.content["prompts"]["answer"]["version"] == 2 and len(made.content["prompts"]["answer"]["sha256"]) == 64
    assert made.content["model"]["spec"] == "tiny" and made.content["model"]["identity"].startswith("tiny:")
    assert len(made.content["dataset"]) == 64 and made.content["index"] == "ab" * 32
    lab.prompts.alias("qa", "dev", 3)
    again = lab.bundle("bot", prompts={"answer": "qa/2"}, model=MODEL, params={"temperature": 0}, dataset=rows, index="ab" * 32)
    assert (again.name, again.version, again.digest) == (made.name, made.version, made.digest) == ("bot", 1, made.digest)
    assert lab.bundle("bot", prompts={"answer": "qa/2"}, model=MODEL).version == 2
    assert lab.bundle("bot/1").content == made.content
    assert [entry.body["version"] for entry in log("registered")] == [1, 2]


def test_a_bundle_can_be_asked(home):
    made = bot()
    answer = lab.ask(made.prompts["answer"], made.model, params=made.params, question="1+1", track=False)
    assert answer.prompt.sha256 == made.content["prompts"]["answer"]["sha256"] and answer.text


def test_a_bundle_is_not_asked_as_a_model(home):
    bot()
    with pytest.raises(BadInput, match="is a bundle, not a model"):
        lab.model("models:/bot/1")
    with pytest.raises(BadInput, match="does not say which version"):
        lab.model("models:/bot")


def test_the_diff_of_bundles_shows_words_and_what_else_changed(home):
    one, two = bot(), bot(2, params={"temperature": 0.5})
    diff = one.diff(two)
    assert diff.changed and "[-one-]{+two+}" in repr(diff) and "bot/1 params" in repr(diff) and "model" not in repr(diff)
    assert "<del" in diff._repr_html_() and "<ins" in diff._repr_html_()
    assert not one.diff("bot/1").changed and one.diff(2).changed
    more = lab.bundle("bot", prompts={"answer": "qa/1", "<b>": "qa/2"}, model=MODEL, params={"temperature": 0})
    (part,) = one.diff(more).parts
    assert part.parts[0][0] == "insert" and "<b>" not in one.diff(more)._repr_html_().replace("<b>bundle", "")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"prompts": {"answer": "qa/9"}}, "no version of prompt 'qa' called '9'"),
        ({"prompts": {"answer": "qb/1"}}, "Did you mean qa"),
        ({"prompts": {"answer": 3}}, "NAME/VERSION"),
        ({"prompts": ["qa/1"]}, "dict of slots"),
        ({"model": "tinny"}, "Did you mean tiny"),
        ({"model": "models:/nothing/1"}, "no registered model"),
        ({"model": "models:/qa/1"}, "is a prompt, not a model"),
        ({"model": "models:/qa"}, "does not say which version"),
        ({"model": MODEL, "params": {"x": object()}}, "params must be JSON"),
        ({"model": MODEL, "params": {"key": "sk-live-0123456789abcdef0123456789"}}, "holds a secret"),
        ({"model": MODEL, "dataset": "no-such.csv"}, "neither a file nor a digest"),
        ({"params": {"temperature": 0}}, "at least one prompt or a model"),
    ],
)
def test_what_cannot_be_pinned_is_refused(shared, parts, message):
    with pytest.raises(BadInput, match=message):
        lab.bundle("other", **parts)
    assert "other" not in [name.name for name in connect.client(_settings.load()).search_registered_models()]


@pytest.mark.parametrize("name", ["", "a/b", "a@b", "../x", "a b", "x" * 201, 3, "a\nb"])
def test_what_cannot_be_a_name_is_refused(shared, name):
    with pytest.raises(BadInput):
        lab.bundle(name, model=MODEL)


def test_the_name_of_a_prompt_is_no_bundles_name(shared):
    with pytest.raises(BadInput, match="belongs to a prompt"):
        lab.bundle("qa", model=MODEL)


def test_a_part_that_is_no_longer_what_was_pinned_is_refused(home):
    made = bot()
    client = connect.client(_settings.load())
    client.set_prompt_version_tag("qa", 1, "mlflow.prompt.text", "Say yes.")
    with pytest.raises(TamperedPrompt):
        lab.bundle("bot/1")
    other = {**made.content, "params": {"temperature": 2}}
    client.set_model_version_tag("bot", "1", "llmops_lab.content", json.dumps(other))
    with pytest.raises(TamperedRelease, match="changed after it was made"):
        lab.bundle("bot/1")


def test_a_model_that_was_trained_anew_in_its_folder_is_refused(home, tmp_path):
    from llmops_lab.models import tiny

    shutil.copytree(tiny.FOLDER, tmp_path / "model")
    made = lab.bundle("bot", prompts={"answer": "qa/1"}, model=f"hf:{tmp_path / 'model'}")
    assert lab.bundle("bot/1").digest == made.digest
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace("{", '{"retrained": true,', 1))
    with pytest.raises(TamperedRelease, match="Put the old one back, or make a bundle with the new one"):
        lab.bundle("bot/1")
    with pytest.raises(TamperedRelease):
        lab.promote("bot", 1, "dev")
    assert log("refused")[-1].body["error"] == "TamperedRelease"


# -- promotion -------------------------------------------------------------------------------------------------------------
def test_dev_is_free_and_staging_and_production_ask_for_a_gate_and_the_order(home):
    made = bot()
    assert str(lab.promote("bot", 1, "dev")).startswith("bot@dev is bundle version 1 (before: none)")
    for alias in ("staging", "production"):
        with pytest.raises((GateFailed, BadInput)):
            lab.promote("bot", 1, alias)
    assert lab.promote("bot", 1, "staging", gate=evidence(made.digest)).moved
    done = lab.promote("bot", 1, "production", why="it is better")  # the gate is in the log already
    assert (done.previous, done.version, done.kind, done.digest) == (None, 1, "bundle", made.digest)
    assert lab.bundle("bot@production").digest == made.digest and pointer("bot", "production", _settings.load()) == 1
    line = list(lab.history("bot"))[-1]
    assert (line.what, line.actor, line.version, line.previous, line.why) == ("promoted", "anna", 1, None, "it is better")
    assert log()[line.gate - 1].kind == "gate"
    assert [
        entry.kind for entry in log()
    ] == "registered promoting promoted refused refused gate promoting promoted promoting promoted".split()


def test_production_asks_that_the_version_was_in_staging_unless_settings_say_otherwise(home, monkeypatch):
    made = bot()
    with pytest.raises(BadInput, match="has not been in staging"):
        lab.promote("bot", 1, "production", gate=evidence(made.digest))
    monkeypatch.setenv("LLMOPS_LAB_RELEASE", '{"in_order": false}')
    assert lab.promote("bot", 1, "production", gate=evidence(made.digest)).moved


def test_the_newest_gate_decides_and_it_speaks_for_one_content_only(home):
    one, two = bot(1), bot(2)
    with pytest.raises(BadInput, match="is not what stood at the gate"):
        lab.promote("bot", 2, "staging", gate=evidence(one.digest))
    with pytest.raises(GateFailed, match="does not clear the floor"):
        lab.promote("bot", 2, "staging", gate=evidence(two.digest, passed=False))
    release(1, "staging")
    with pytest.raises(GateFailed):
        lab.promote("bot", 1, "staging", gate=evidence(one.digest, passed=False))
    with pytest.raises(GateFailed, match="the gate failed"):
        lab.promote("bot", 1, "production")  # it has been in staging, but failed since
    assert lab.history("bot").now == {"staging": 1}


def test_a_gate_that_was_held_earlier_and_is_filed_later_does_not_take_back_a_failure(home):
    one = bot(1)
    passed, failed = evidence(one.digest, when="2026-01-01"), evidence(one.digest, passed=False, when="2026-01-02")
    for held in (failed, passed):
        with pytest.raises(GateFailed, match="does not clear the floor"):
            lab.promote("bot", 1, "staging", gate=held)
    assert lab.promote("bot", 1, "staging", gate=evidence(one.digest, when="2026-01-03")).moved


def test_a_first_release_is_one_only_while_the_alias_points_nowhere(home):
    one, two = bot(1), bot(2)
    assert lab.promote("bot", 1, "staging", gate=evidence(one.digest, first_release=True)).moved
    assert not lab.promote("bot", 1, "staging").moved
    with pytest.raises(GateFailed, match="that of a first release, which compares nothing, and the alias is at bot/1"):
        lab.promote("bot", 2, "staging", gate=evidence(two.digest, first_release=True))
    assert lab.history("bot").now == {"staging": 1}


def test_a_gate_counts_only_while_the_alias_is_where_its_champion_was(home):
    one, two, three = bot(1), bot(2), bot(3)
    release(1, "staging")
    with pytest.raises(GateFailed, match="bot/2 cannot go to staging: its gate had no champion, and the alias is at bot/1"):
        lab.promote("bot", 2, "staging", gate=evidence(two.digest))
    release(2, "staging", champion=1)
    with pytest.raises(GateFailed) as told:
        lab.promote("bot", 3, "staging", gate=evidence(three.digest, champion=1))
    assert "its gate compared it with bot/1, and the alias is at bot/2 now" in str(told.value)
    assert "llmops-lab run gate -p candidate=bot/3 -p champion=bot@staging -p alias=staging" in str(told.value)
    assert log("refused")[-1].body["error"] == "GateFailed" and lab.history("bot").now == {"staging": 2}
    assert lab.promote("bot", 3, "staging", gate=evidence(three.digest, champion=2)).previous == 2
    assert lab.promote("bot", 3, "production").moved  # nothing was there: any gate that passed counts
    assert lab.rollback("bot", "staging").version == 2  # which asks for none
    with pytest.raises(GateFailed, match="its gate had no champion, and the alias is at bot/2"):
        lab.promote("bot", 1, "staging", gate=evidence(one.digest))


def test_of_several_gates_the_one_against_the_alias_counts_unless_a_later_one_failed(home):
    for version in (1, 2, 3):
        made = bot(version)
    release(1, "staging")
    lab.promote("bot", 1, "production")
    release(2, "staging", champion=1)
    with pytest.raises(GateFailed, match="compared it with bot/1, and the alias is at bot/2 now"):
        lab.promote("bot", 3, "staging", gate=evidence(made.digest, champion=1, when="2026-01-01"))
    lab.promote("bot", 3, "staging", gate=evidence(made.digest, champion=2, when="2026-01-02"))
    assert lab.promote("bot", 3, "production").previous == 1
    older, newer = log("gate")[-2:]
    assert [entry.body["gate"] for entry in log("promoted")][-2:] == [newer.seq, older.seq]
    lab.rollback("bot", "production")
    with pytest.raises(GateFailed, match="the gate failed"):
        lab.promote("bot", 3, "production", gate=evidence(made.digest, passed=False, champion=2, when="2026-01-03"))


def test_of_two_promoters_with_gates_against_the_same_champion_the_second_holds_his_again(home):
    for version in (1, 2, 3):
        bot(version)
    release(1, "staging")
    anna, ben = (evidence(resolve("bot", version, _settings.load()).digest, champion=1) for version in (2, 3))
    assert lab.promote("bot", 2, "staging", gate=anna, expect=1).moved
    with pytest.raises(Conflict, match="is at version 2 now, not version 1 as you saw it"):
        lab.promote("bot", 3, "staging", gate=ben, expect=1)
    with pytest.raises(GateFailed, match="compared it with bot/1, and the alias is at bot/2 now"):
        lab.promote("bot", 3, "staging", gate=ben)
    assert lab.history("bot").now == {"staging": 2}


def test_a_required_suite_whose_rows_are_others_by_now_is_asked_again(home, tmp_path, monkeypatch):
    from llmops_lab.grids.rows import read_rows

    made, rows = bot(1), tmp_path / "safety.csv"
    rows.write_text("question,answer\n1+1,2\n")
    seen = {"source": str(rows), "data": read_rows(rows).digest}
    monkeypatch.setenv("LLMOPS_LAB_GATES", '{"staging": ["safety"]}')
    lab.promote("bot", 1, "dev", gate=evidence(made.digest, suite="safety", **seen))
    rows.write_text("question,answer\n1+1,3\n")
    with pytest.raises(GateFailed, match=r"other rows of the suite safety: .*safety.csv is [0-9a-f]{12} now and was [0-9a-f]{12} then"):
        lab.promote("bot", 1, "staging")
    rows.write_text("")
    with pytest.raises(GateFailed, match="rows of the suite safety cannot be read any more"):
        lab.promote("bot", 1, "staging")
    rows.unlink()  # on another machine nobody can tell
    assert lab.promote("bot", 1, "staging").moved


def test_a_try_that_ends_in_an_error_that_nobody_foresaw_is_in_the_log_too(home, monkeypatch):
    bot()
    monkeypatch.setenv("LLMOPS_LAB_RELEASE", '{"gates": []}')
    with pytest.raises(BadInput):
        lab.promote("bot", 1, "dev")
    with pytest.raises(BadInput):
        lab.rollback("bot", "dev")
    monkeypatch.delenv("LLMOPS_LAB_RELEASE")
    with pytest.raises(AttributeError):
        lab.promote("bot", 1, "staging", gate="passed, believe me")
    with pytest.raises(BadInput, match="an approver is named by a text"):
        lab.promote("bot", 1, "dev", approver=5)
    assert [entry.body["error"] for entry in log("refused")] == ["BadInput", "BadInput", "AttributeError"]


def test_a_suite_that_the_settings_require_must_be_in_the_gate(home, monkeypatch):
    made = bot()
    monkeypatch.setenv("LLMOPS_LAB_GATES", '{"staging": ["safety"]}')
    with pytest.raises(GateFailed, match="safety"):
        lab.promote("bot", 1, "staging", gate=evidence(made.digest))
    assert lab.promote("bot", 1, "staging", gate=evidence(made.digest, suite="safety")).moved


@pytest.mark.parametrize(
    ("approver", "message"),
    [
        (None, "asks for an approver"),
        (" \u200b", "asks for an approver"),
        ("anna", "promotes it"),
        (" ANNA ", "promotes it"),
        ("Ａnna", "promotes it"),  # the wide letters of East Asian fonts
        ("an\u200bna", "promotes it"),  # with a space that is not seen
        ("Paul", "wrote it"),
        ("rita", ""),
    ],
)
def test_an_approver_is_a_second_person(shared, monkeypatch, approver, message):
    monkeypatch.setenv("LLMOPS_LAB_RELEASE", '{"approval": ["dev"]}')
    if message:
        with pytest.raises(BadInput, match=message):
            lab.promote("qa", 1, "dev", approver=approver)
        assert lab.history("qa").now == {} and log("refused")[-1].body["reason"]
    else:
        assert lab.promote("qa", 1, "dev", approver=approver).moved
        assert list(lab.history("qa"))[-1].approver == "rita"


def test_the_author_is_also_who_the_log_says_it_is_whatever_mlflow_says_now(home, monkeypatch):
    bot()
    connect.client(_settings.load()).set_model_version_tag("bot", "1", "llmops_lab.author", "nobody")
    monkeypatch.setenv("LLMOPS_LAB_REVIEWER", "ben")
    monkeypatch.setenv("LLMOPS_LAB_RELEASE", '{"approval": ["dev"]}')
    for approver in ("anna", "nobody"):
        with pytest.raises(BadInput, match="the same person wrote it"):
            lab.promote("bot", 1, "dev", approver=approver)
    assert lab.promote("bot", 1, "dev", approver="rita").moved


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (("bot", 1, "prod"), UnknownName, "Did you mean production"),
        (("bto", 1, "dev"), UnknownName, "Did you mean bot"),
        (("bot", 7, "dev"), UnknownName, "Known: 1"),
        (("bot", "x", "dev"), BadInput, "a version is a number"),
        (("bot", 0, "dev"), BadInput, "a version is a number"),
        (("bot", True, "dev"), BadInput, "a version is a number"),
        (("bot", 1, "<script>"), UnknownName, "Known: dev, production, staging"),
        (("'; DROP TABLE audit; --", 1, "dev"), UnknownName, "Known: bot, qa"),
    ],
)
def test_a_refused_try_says_why_and_is_in_the_log(shared, asked, error, message):
    bot()
    with pytest.raises(error, match=message):
        lab.promote(*asked)
    last = log()[-1]
    assert (last.kind, last.actor, last.name, last.body["alias"]) == ("refused", "anna", asked[0], asked[2])
    assert last.body["error"] == error.__name__ and audit.verify(open_ledger(_settings.load())).whole


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('{"alias": ["x"]}', "Did you mean aliases"),
        ('{"aliases": []}', "aliases is empty"),
        ('{"aliases": "dev"}', "must be a list"),
        ('{"gate": ["prod"]}', "which is none of the aliases"),
        ('{"in_order": 1}', "true or false"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused(shared, monkeypatch, table, message):
    monkeypatch.setenv("LLMOPS_LAB_RELEASE", table)
    with pytest.raises(BadInput, match=message):
        lab.promote("qa", 1, "dev")


def test_other_aliases_are_the_settings_choice(home, monkeypatch):
    monkeypatch.setenv("LLMOPS_LAB_RELEASE", '{"aliases": ["canary", "live"], "gate": ["live"]}')
    assert lab.promote("qa", 1, "canary").moved
    with pytest.raises(UnknownName):
        lab.promote("qa", 1, "staging")
    with pytest.raises(GateFailed):
        lab.promote("qa", 1, "live")


def test_who_expects_the_alias_elsewhere_is_told_where_it_is(home):
    bot(1), bot(2), bot(3)
    assert lab.promote("bot", 1, "dev", expect=0).moved
    with pytest.raises(Conflict, match="is at version 1 now, not nowhere") as told:
        lab.promote("bot", 2, "dev", expect=0)
    assert told.value.current == {"version": 1}
    assert lab.promote("bot", 2, "dev", expect=1).previous == 1
    same = lab.promote("bot", 2, "dev")
    assert not same.moved and "as it was before" in str(same) and log()[-1].kind == "already_there"


def test_a_prompt_is_promoted_too_and_its_own_history_agrees(home):
    lab.promote("qa", 1, "dev")
    lab.promote("qa", 2, "dev")
    assert lab.prompts.get("qa@dev").version == 2
    assert [(move.previous, move.version) for move in lab.prompts.history("qa", "dev")] == [(None, 1), (1, 2)]
    assert lab.rollback("qa", "dev").version == 1 and lab.prompts.get("qa@dev").version == 1
    lab.prompts.alias("qa", "dev", 3, author="paul")
    last = list(lab.history("qa"))[-1]
    assert (last.what, last.actor, last.version) == ("elsewhere", "paul", 3) and "no gate" in last.why and last.at


@pytest.mark.parametrize(
    ("rules", "alias", "asks"),
    [
        ('{"gate": ["staging"]}', "staging", "a gate"),
        ('{"approval": ["dev"]}', "dev", "an approver"),
        ('{"approval": ["staging"]}', "staging", "a gate and an approver"),
    ],
)
def test_an_alias_that_the_settings_guard_is_moved_by_promote_alone(shared, monkeypatch, rules, alias, asks):
    monkeypatch.setenv("LLMOPS_LAB_RELEASE", rules)
    connect.client(_settings.load()).set_prompt_alias("qa", alias, 1)
    try:
        for by_hand, step in (
            (lambda: lab.prompts.alias("qa", alias, 2), f"lab.promote('qa', 2, '{alias}')"),
            (lambda: lab.prompts.save("A new one: {{ question }}", "qa", alias=alias), f"lab.promote('qa', VERSION, '{alias}')"),
            (lambda: lab.prompts.rollback("qa", alias), f"lab.rollback('qa', '{alias}')"),
            (lambda: lab.prompts.unalias("qa", alias), f"lab.rollback('qa', '{alias}')"),
        ):
            with pytest.raises(BadInput) as told:
                by_hand()
            assert f"qa@{alias} asks for {asks}," in str(told.value) and step in str(told.value)
        assert lab.prompts.get(f"qa@{alias}").version == 1 and lab.prompts.get("qa").version == 3  # nothing was saved either
        assert lab.prompts.alias("qa", "in-use", 2) == 2  # free
        monkeypatch.setenv("LLMOPS_LAB_RELEASE", "{}")  # a project without rules of its own
        assert lab.prompts.alias("qa", alias, 2) == 2
    finally:
        connect.client(_settings.load()).delete_prompt_alias("qa", alias)


# -- rollback, retirement, history ---------------------------------------------------------------------------------------------
def test_rollback_goes_back_step_by_step_and_never_to_what_was_rolled_back(home):
    for version in (1, 2, 3):
        bot(version)
        lab.promote("bot", version, "dev")
    assert lab.rollback("bot", "dev", why="it is slow").version == 2
    assert lab.rollback("bot", "dev").version == 1
    with pytest.raises(BadInput, match="no earlier version"):
        lab.rollback("bot", "dev")
    lab.promote("bot", 3, "dev")
    assert lab.rollback("bot", "dev").version == 1  # not 2, which was rolled back
    assert "it is slow" in [line.why for line in lab.history("bot") if line.what == "rolled_back"]
    assert lab.history("bot").now == {"dev": 1}


def test_a_retired_version_is_neither_promoted_nor_rolled_back_to(home, monkeypatch):
    for version in (1, 2, 3):
        bot(version)
        lab.promote("bot", version, "dev")
    with pytest.raises(BadInput, match="Move it elsewhere first"):
        lab.retire("bot", 3)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-live-0123456789abcdef0123456789")
    lab.retire("bot", 2, why="it leaks sk-live-0123456789abcdef0123456789")
    tags = connect.client(_settings.load()).get_model_version("bot", "2").tags
    assert "it leaks" in tags["llmops_lab.retired"] and "sk-live" not in str(tags)
    with pytest.raises(BadInput, match="retired already"):
        lab.retire("bot", 2)
    with pytest.raises(BadInput, match="bot/2 is retired"):
        lab.promote("bot", 2, "dev")
    assert lab.rollback("bot", "dev").version == 1
    with pytest.raises(UnknownName):
        lab.retire("bot", 9)


def test_a_bundle_whose_content_was_destroyed_does_not_keep_another_from_being_retired(home):
    bot()
    lab.promote("bot", 1, "dev")
    connect.client(_settings.load()).set_model_version_tag("bot", "1", "llmops_lab.content", "{}")
    lab.retire("qa", 3)
    assert log()[-1].kind == "retired"


def test_a_bundle_with_a_retired_part_is_not_made_not_promoted_and_not_gone_back_to(home):
    for version in (1, 2, 3):
        bot(version)
        lab.promote("bot", version, "dev")
    with pytest.raises(BadInput, match=r"bot@dev is bundle bot/3 and pins qa/3. Move that alias elsewhere first"):
        lab.retire("qa", 3)
    lab.retire("qa", 2, why="it leaks names")
    with pytest.raises(BadInput, match="qa/2 is retired, so no new bundle can pin it"):
        bot(2, params={"seed": 1})
    with pytest.raises(BadInput, match="bot/2 pins qa/2, which is retired"):
        lab.promote("bot", 2, "staging")
    assert lab.rollback("bot", "dev").version == 1


def test_a_bundle_whose_prompt_was_deleted_in_mlflow_says_which(home):
    bot(1), bot(2)
    lab.promote("bot", 1, "dev")
    connect.client(_settings.load()).delete_prompt_version("qa", "2")
    for use in (lambda: lab.bundle("bot/2"), lambda: lab.promote("bot", 2, "dev")):
        with pytest.raises(UnknownName, match="no version of prompt 'qa' called '2'"):
            use()
    assert lab.history("bot").now == {"dev": 1} and log()[-1].kind == "refused"


def test_a_move_by_another_tool_shows_in_the_history_and_can_be_rolled_back(home):
    bot(1), bot(2)
    lab.promote("bot", 1, "dev")
    connect.client(_settings.load()).set_registered_model_alias("bot", "dev", "2")
    last = list(lab.history("bot"))[-1]
    assert (last.what, last.previous, last.version, last.actor) == ("elsewhere", 1, 2, "")
    assert pointer("bot", "dev", _settings.load()) == 2  # no cache stands in between
    assert lab.rollback("bot", "dev").version == 1
    assert [line.what for line in lab.history("bot")][-2:] == ["elsewhere", "rolled_back"]


def test_a_move_that_is_under_way_is_called_so_and_keeps_others_out(home):
    bot(1), bot(2)
    lab.promote("bot", 1, "dev")
    ledger = open_ledger(_settings.load())
    body = {"name": "bot", "alias": "dev", "version": 2, "previous": 1, "digest": "", "owner": ledger.owner}
    begun = audit.append(ledger, "promoting", "ben", body)  # by a process that lives: this one
    connect.client(_settings.load()).set_registered_model_alias("bot", "dev", "2")
    assert [line.what for line in lab.history("bot")] == ["registered", "registered", "promoted", "promoting"]
    assert "being promoted @dev: 1 -> 2" in repr(lab.history("bot"))
    with pytest.raises(Conflict, match="ben is moving bot@dev to version 2 at this moment"):
        lab.rollback("bot", "dev")
    with pytest.raises(BadInput, match="Move it elsewhere first"):
        lab.retire("bot", 2)
    assert begun.seq in [line.seq for line in lab.history("bot")]


def test_the_history_is_laid_out_for_a_terminal_and_a_notebook(home):
    bot()
    lab.promote("bot", 1, "dev", why="<img src=x onerror=alert(1)> \x1b[2J")
    found = lab.history("bot")
    assert "promoted @dev: none -> 1" in repr(found) and "@dev -> 1" in repr(found) and "\x1b" not in repr(found)
    assert "<img" not in found._repr_html_() and "&lt;img" in found._repr_html_()
    assert list(found.frame()["what"]) == ["registered", "promoted"] and found.kind == "bundle"
    assert 'style="text-align:left;white-space:nowrap">20' in found._repr_html_()
    with pytest.raises(GateFailed):
        lab.promote("bot", 1, "staging", gate=evidence(bot().digest, passed=False, suite="s" * 400, champion=1))
    told = next(line for line in lab.history("bot") if line.what == "gate").why
    assert told.startswith("failed against bot/1: sss") and len(told) > 400 and "s" * 300 not in repr(lab.history("bot"))
    with pytest.raises(UnknownName, match="Did you mean bot"):
        lab.history("bto")


# -- the command -----------------------------------------------------------------------------------------------------------
def test_the_commands_promote_roll_back_and_tell(home, capsys):
    bot(1), bot(2)
    assert main(["promote", "bot", "1", "dev", "--why", "first"]) == 0
    assert main(["promote", "bot", "2", "dev", "--expect", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["previous"] == 1
    assert main(["promote", "bot", "1", "dev", "--expect", "1"]) == 2
    assert main(["promote", "bot", "2", "staging"]) == 5
    assert "has passed no gate" in capsys.readouterr().err
    assert main(["rollback", "bot", "dev"]) == 0
    assert "bot@dev is bundle version 1 (before: 2)" in capsys.readouterr().out
    assert main(["history", "bot", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["now"] == {"dev": 1} and [line["what"] for line in told["history"]].count("refused") == 2
    assert main(["history", "bot"]) == 0 and "rolled back @dev: 2 -> 1" in capsys.readouterr().out
    assert main(["audit", "list", "bot"]) == 0 and "refused bot/2 @staging" in capsys.readouterr().out
    assert main(["history", "bto"]) == 2


def test_audit_verify_finds_a_changed_byte_and_a_log_that_was_cut_off(home, capsys):
    assert main(["audit", "verify"]) == 0
    assert "nobody could tell whether the end" in capsys.readouterr().err
    bot()
    lab.promote("bot", 1, "dev")
    assert main(["audit", "verify"]) == 0 and capsys.readouterr().err == ""
    with sqlite3.connect(home / "lab.db") as ledger:
        (row,) = ledger.execute("SELECT * FROM audit ORDER BY seq DESC LIMIT 1").fetchall()
        ledger.execute("DELETE FROM audit WHERE seq = ?", row[:1])
    assert main(["audit", "verify"]) == 1 and "cut off after entry 2" in capsys.readouterr().out
    with sqlite3.connect(home / "lab.db") as ledger:
        ledger.execute(f"INSERT INTO audit VALUES ({', '.join('?' * len(row))})", row)
        ledger.execute("UPDATE audit SET body = replace(body, 'bot', 'bop') WHERE seq = 1")
    assert main(["audit", "verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["faults"][0].startswith("entry 1: its content no longer has the hash")


def test_cutting_off_the_promotion_of_a_prompt_is_found_too(home, capsys):
    lab.promote("qa", 1, "dev")
    assert main(["audit", "verify"]) == 0 and capsys.readouterr().err == ""
    with sqlite3.connect(home / "lab.db") as ledger:
        ledger.execute("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)")
    assert main(["audit", "verify"]) == 1 and "is gone, and MLflow (qa) has seen it" in capsys.readouterr().out


def test_cutting_off_a_refused_try_or_a_gate_is_found_too(home, capsys):
    made = bot()
    lab.promote("bot", 1, "dev")
    with pytest.raises(GateFailed):
        lab.promote("bot", 1, "staging", gate=evidence(made.digest, passed=False))
    assert main(["audit", "verify"]) == 0 and capsys.readouterr().err == ""
    for kind in ("refused", "gate"):
        with sqlite3.connect(home / "lab.db") as ledger:
            assert ledger.execute("SELECT kind FROM audit ORDER BY seq DESC LIMIT 1").fetchone() == (kind,)
            ledger.execute("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)")
        assert main(["audit", "verify"]) == 1 and "is gone, and MLflow (bot) has seen it" in capsys.readouterr().out


def test_a_log_that_was_begun_anew_is_suspected(home, capsys):
    bot(1), bot(2)
    lab.promote("bot", 1, "dev")
    with sqlite3.connect(home / "lab.db") as ledger:
        ledger.execute("DELETE FROM audit")
    assert main(["audit", "verify"]) == 0 and "another log speak of bot" in capsys.readouterr().err
    last = list(lab.history("bot"))[-1]  # as a second project with a ledger of its own sees the move of the first
    assert last.what == "elsewhere" and "moved through another ledger, it seems" in last.why and last.why.endswith("entry 4")
    lab.promote("bot", 2, "dev")
    assert [line.what for line in lab.history("bot")] == ["elsewhere", "promoted"]


def test_a_move_that_somebody_without_this_ledger_undoes_at_the_same_moment_is_not_called_done(home, monkeypatch):
    from llmops_lab.track.registry import Registry

    bot(1), bot(2), bot(3)
    lab.promote("bot", 1, "dev")
    point = Registry.point

    def overwritten(self, found, move):
        point(self, found, move)
        connect.client(_settings.load()).set_registered_model_alias("bot", "dev", "3")

    monkeypatch.setattr(Registry, "point", overwritten)
    with pytest.raises(Conflict, match=r"not through this project's audit log: it is at version 3 now.*should share a ledger") as told:
        lab.promote("bot", 2, "dev")
    assert told.value.current == {"version": 3} and [entry.kind for entry in log()][-2:] == ["abandoned", "refused"]
    assert [line.what for line in lab.history("bot")][-3:] == ["abandoned", "refused", "elsewhere"]
    assert "the alias is at version 3: somebody else moved it" in repr(lab.history("bot"))


def test_rollback_passes_over_a_version_that_was_deleted_in_mlflow(home):
    for version in (1, 2, 3):
        bot(version)
        lab.promote("bot", version, "dev")
    connect.client(_settings.load()).delete_model_version("bot", "2")
    assert lab.rollback("bot", "dev").version == 1


def test_who_is_forgotten_hears_that_the_audit_log_names_the_row(home):
    from llmops_lab.flows.forget import forget_row

    lab.grid("{{ question }}", [{"id": "r-7", "question": "1+1"}], models=["echo"], track=False)
    ledger = open_ledger(_settings.load())
    entry = audit.append(ledger, "gate", "anna", {"name": "bot", "result": {"suites": [{"measured": {"missing": ["r-7"]}}]}})
    assert f"audit log, which takes no change: entries {entry.seq}." in str(forget_row(_settings.load(), "r-7"))
