"""The review page's routes on a real Jupyter server: who gets in, who is who, and what a request can reach."""

import os

import pytest

import llmops_lab as lab
from llmops_lab import settings
from tests.server.conftest import Browser

pytest.importorskip("jupyter_server", reason="jupyter_server is not installed")
RUBRIC = lab.Rubric("How polite is it?", levels={1: "rude: hurts", 2: "polite: helps"})


def make_queue(folder, name="tone", **given):
    rows = [{"id": f"r{number}", "text": f"{folder.name} says {number}"} for number in range(4)]
    with settings.at(folder):
        return lab.rate(rows, RUBRIC, name=name, **given)


@pytest.fixture(scope="module")
def projects(jupyter):
    """Two projects below the server's root, each with a ledger and a queue of the same name; and a folder without."""
    _, _, root = jupyter
    queues = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("LLMOPS_LAB_", "MLFLOW_"))]:
            patch.delenv(name)
        for name in ("one", "deep/two"):
            folder = root / name
            folder.mkdir(parents=True)
            (folder / "pyproject.toml").write_text("[project]\nname = 'p'\n")
            queues[name] = make_queue(folder, raters=2)
        (root / "empty").mkdir()
        (root / "link").symlink_to(root / "one")
        (root / "out").symlink_to(root.parent)
    return queues


@pytest.fixture
def person(jupyter, projects):
    """Somebody who has logged in by the server's link."""
    url, token, _ = jupyter
    made = Browser(url)
    assert made.get(f"llmops-lab/review/tone?project=one&token={token}").status == 200
    return made


CALL = "llmops-lab/api/rating/tone?project=one"


def call(person, method, params=None, path=CALL, **headers):
    return person.post(path, {"method": method, "params": params or {}}, **headers)


def rows(queue):
    return len(queue.ratings())


class TestWhoGetsIn:
    def test_every_verb_of_every_handler_asks_for_a_login(self):
        from tornado.web import RequestHandler, authenticated

        from llmops_lab.server.routes import handlers

        decorated = authenticated(lambda handler: None).__code__
        found = []
        for _, handler, *_ in handlers("/"):
            for verb in handler.SUPPORTED_METHODS:
                method = getattr(handler, verb.lower())
                if method is not RequestHandler._unimplemented_method and method is not getattr(handler.__mro__[1], verb.lower(), None):
                    found.append((handler.__name__, verb))
                    assert method.__code__ is decorated, f"{handler.__name__}.{verb.lower()} lacks @tornado.web.authenticated"
        assert found == [("ReviewPage", "GET"), ("RatingCalls", "POST"), ("Bundle", "GET"), ("Bundle", "HEAD")]

    def test_a_stranger_gets_the_login_page_and_then_the_queue(self, jupyter, projects):
        url, token, _ = jupyter
        stranger = Browser(url)
        reply = stranger.get("llmops-lab/review/tone?project=one")
        assert reply.status == 200 and 'name="password"' in reply.text and "llmops-lab-data" not in reply.text
        form = f"password={token}&_xsrf={stranger.xsrf}".encode()
        after = "login?next=%2Fllmops-lab%2Freview%2Ftone%3Fproject%3Done"
        page = stranger.request("POST", after, form, {"Content-Type": "application/x-www-form-urlencoded"})
        assert page.status == 200 and 'data-view="rating"' in page.text

    @pytest.mark.parametrize("path", [CALL, "llmops-lab/api/rating/nosuch"])
    def test_a_call_of_a_stranger_is_refused_and_nothing_is_stored(self, jupyter, projects, path):
        stranger = Browser(jupyter[0])
        stranger.get("login")  # for XSRF's cookie
        before = rows(projects["one"])
        assert call(stranger, "submit", {"item": "r0", "value": 1}, path).status == 403
        assert rows(projects["one"]) == before

    def test_the_files_of_the_page_are_for_those_who_are_logged_in_and_there_are_no_others(self, jupyter, person):
        assert 'name="password"' in Browser(jupyter[0]).get("llmops-lab/static/page.js").text
        for name in ("../server/routes.py", "..%2f__init__.py", "rating.js", "page.js%00.txt", "."):
            assert person.get(f"llmops-lab/static/{name}").status in (400, 404)

    def test_the_link_with_the_token_leaves_no_token_in_the_address_bar(self, jupyter, projects):
        url, token, _ = jupyter
        opened = Browser(url)
        reply = opened.get(f"llmops-lab/review/tone?project=one&token={token}")
        assert reply.status == 200 and token not in reply.text
        assert opened.last == f"{url}llmops-lab/review/tone?project=one"


class TestForgery:
    @pytest.mark.parametrize(
        "headers",
        [
            {"X-XSRFToken": None},
            {"X-XSRFToken": "2|00000000|00000000000000000000000000000000|1"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"X-XSRFToken": None, "Origin": "http://evil.example", "Content-Type": "text/plain"},
        ],
    )
    def test_a_call_from_elsewhere_is_refused_and_nothing_is_stored(self, person, projects, headers):
        before = rows(projects["one"])
        assert call(person, "submit", {"item": "r0", "value": 1}, **headers).status in (403, 404)
        assert rows(projects["one"]) == before

    def test_a_form_is_no_call(self, person, projects):
        before = rows(projects["one"])
        reply = person.post(CALL, b'{"method": "submit", "params": {"item": "r0", "value": 1}}', **{"Content-Type": "text/plain"})
        assert reply.status == 400 and "application/json" in reply.json["error"]["message"]
        assert rows(projects["one"]) == before

    def test_the_page_runs_our_script_and_loads_nothing_from_elsewhere(self, person):
        reply = person.get("llmops-lab/review/tone?project=one")
        policy = dict(part.split(" ", 1) for part in reply.headers["Content-Security-Policy"].split("; "))
        nonce = policy["script-src"].removeprefix("'nonce-").removesuffix("'")
        assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'" and policy["img-src"] == "data:"
        assert policy["style-src"] == policy["script-src"] and reply.text.count(f'nonce="{nonce}"') == 2
        assert reply.text.count("<script") == 1
        again = person.get("llmops-lab/review/tone?project=one")
        assert nonce not in again.text


class TestCalls:
    def test_a_rating_is_the_logged_in_users_whatever_the_body_says(self, person, projects):
        opened = call(person, "open").json["data"]
        reply = call(person, "submit", {"item": "r1", "value": 2, "rater": "bob", "user": "bob", "id": "one-two-three", "expects": 0})
        assert reply.status == 200 and reply.json["ok"] is True
        last = projects["one"].ratings().iloc[-1]
        assert (last["item"], last["rater"], last["value"]) == ("r1", opened["rater"], 2)
        again = call(person, "submit", {"item": "r1", "value": 2, "id": "one-two-three", "expects": 0})
        assert again.json["data"]["row"] == reply.json["data"]["row"]

    def test_another_rater_sees_nothing_of_it(self, person, jupyter, projects):
        call(person, "submit", {"item": "r2", "value": 1, "comment": "quite-a-secret"})
        other = Browser(jupyter[0])
        other.get(f"llmops-lab/review/tone?project=one&token={jupyter[1]}")
        mine, theirs = call(person, "open").json["data"], call(other, "open").json["data"]
        assert mine["rater"] != theirs["rater"]
        told = "".join(call(other, method, {"item": "r2"}).text for method in ("open", "task", "items", "next", "help"))
        assert "quite-a-secret" not in told and mine["rater"] not in told
        assert "quite-a-secret" in call(person, "task", {"item": "r2"}).text
        assert call(other, "close").status == 400 and not projects["one"].closed

    def test_the_same_name_in_two_projects_is_two_queues(self, person, projects):
        one = call(person, "task", {"item": "r3"}).json["data"]["task"]
        two = call(person, "task", {"item": "r3"}, "llmops-lab/api/rating/tone?project=deep/two").json["data"]["task"]
        assert (one["sides"][0]["text"], two["sides"][0]["text"]) == ("one says 3", "two says 3")

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 400),
            (b"{", 400),
            (b"[]", 400),
            (b"\xff\xfe", 400),
            (b'{"method": 3}', 400),
            (b'{"method": "open", "params": []}', 400),
            (b"[" * 100_000, 400),
            (b'{"method": "open", "params": {"x": "' + b"y" * 1_000_001 + b'"}}', 400),
            (b'{"method": "nosuch"}', 404),
            (b'{"method": "submit", "params": {"item": "nosuch", "value": 1}}', 404),
            (b'{"method": "submit", "params": {"item": "r0", "value": 9}}', 400),
        ],
    )
    def test_a_bad_call_gets_a_clear_answer(self, person, body, status):
        reply = person.post(CALL, body)
        assert reply.status == status and reply.json["ok"] is False
        assert len(reply.json["error"]["message"]) > 20 and "Traceback" not in reply.text


class TestProjects:
    @pytest.mark.parametrize("project", ["..", "one/..", "one/../../x", "/etc", "/", "out", "link", "out/root/one", "nosuch", "one/nosuch"])
    def test_no_folder_outside_the_root_and_no_link_is_a_project(self, person, jupyter, project):
        before = sorted(jupyter[2].rglob("*"))
        for reply in (
            person.get(f"llmops-lab/review/tone?project={project}"),
            call(person, "open", {}, f"llmops-lab/api/rating/tone?project={project}"),
        ):
            assert reply.status == 400
        assert sorted(jupyter[2].rglob("*")) == before

    def test_a_folder_without_a_ledger_gets_none(self, person, jupyter):
        reply = person.get("llmops-lab/review/tone?project=empty")
        assert reply.status == 404 and "no ledger" in reply.text
        assert not list((jupyter[2] / "empty").iterdir())

    def test_a_queue_that_is_not_there_is_named_with_a_close_one(self, person):
        reply = person.get("llmops-lab/review/tona?project=one")
        assert reply.status == 404 and "Did you mean tone?" in reply.text
        assert call(person, "open", {}, "llmops-lab/api/rating/tona?project=one").json["error"]["type"] == "UnknownName"

    def test_a_page_of_one_user_cannot_rate_as_the_next_who_logs_in(self, person):
        page = person.get("llmops-lab/review/tone?project=one").text
        (path,) = [part.split('"')[0] for part in page.split('data-calls="/')[1:]]
        path = path.replace("&amp;", "&")
        assert call(person, "open", {}, path).status == 200
        assert call(person, "open", {}, path.replace("user=", "user=x")).status == 403
