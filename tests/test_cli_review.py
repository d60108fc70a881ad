"""``llmops-lab review`` as a person runs it: the links it prints, what they open and what they do not, and how it ends."""

import signal
import socket
import subprocess
import sys

import pytest

import llmops_lab as lab
from llmops_lab import settings
from tests.commands import Place
from tests.server.conftest import Browser

pytest.importorskip("jupyter_server", reason="jupyter_server is not installed")
ROWS = [
    {"id": f"r{number}", "question": f"What is {number}?", "x": f"reply {number} of x", "y": f"reply {number} of y"} for number in range(4)
]


def make_queue(place, name="tone", **given):
    with pytest.MonkeyPatch.context() as patch, settings.at(place.folder):
        for variable in ("LLMOPS_LAB_LEDGER", "LLMOPS_LAB_HOME"):
            patch.delenv(variable, raising=False)
        patch.setenv("LLMOPS_LAB_HOME", str(place.home))
        return lab.rate(ROWS, lab.Rubric("Which is better?"), mode="pairwise", a="x", b="y", name=name, **given)


class Review:
    """A running command: rater -> link."""

    def __init__(self, place, *words):
        self.process = place.start("review", *words)
        self.links = {}

    def read(self, number):
        for _ in range(number):
            rater, _, link = self.process.stdout.readline().rstrip("\n").partition("\t")
            assert link.startswith("http://127.0.0.1:"), self.process.communicate(timeout=30)
            self.links[rater] = link
        return self

    def open(self, rater):
        """A browser in which the rater has opened the link."""
        link = self.links[rater]
        browser = Browser(f"http://{link.split('/')[2]}/")
        assert browser.get(link).status == 200
        return browser

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("review"))


@pytest.fixture(scope="module")
def queue(place):
    make_queue(place, "other")
    return make_queue(place, raters=["ann", "bob"])


@pytest.fixture(scope="module")
def review(place, queue):
    pytest.importorskip("jupyter_server")
    made = Review(place, "tone").read(2)
    yield made
    made.process.kill()
    made.process.communicate(timeout=30)


def call(browser, method, params=None, queue="tone"):
    return browser.post(f"llmops-lab/api/rating/{queue}?project=", {"method": method, "params": params or {}})


def test_each_rater_has_a_link_and_rates_as_that_name(review, queue):
    assert list(review.links) == ["ann", "bob"]
    ann, bob = review.open("ann"), review.open("bob")
    assert call(ann, "submit", {"item": "r0", "value": "a", "comment": "only-for-the-owner", "rater": "bob"}).status == 200
    assert call(bob, "submit", {"item": "r0", "value": "b", "user": "ann"}).status == 200
    said = queue.ratings().set_index("rater")["value"]
    assert dict(said[said.index.isin(["ann", "bob"])]) == {"ann": "a", "bob": "b"}
    told = "".join(call(bob, method, {"item": "r0"}).text for method in ("open", "task", "items", "next", "help"))
    assert "only-for-the-owner" not in told and "ann" not in told
    assert call(bob, "ratings").status == 404 and call(bob, "close").status == 400


def test_a_link_opens_this_queue_and_nothing_else_of_a_jupyter_server(review, place):
    ann = review.open("ann")
    (place.folder / "secret.txt").write_text("a secret file")
    (place.folder / "below").mkdir(exist_ok=True)
    for path in ("llmops-lab/review/other", "llmops-lab/review/tone?project=below", "llmops-lab/review/tone?project=."):
        assert ann.get(path).status == 403, path
    assert call(ann, "open", queue="other").status == 403
    for path in ("api/contents", "api/contents/secret.txt", "files/secret.txt", "view/secret.txt", "api/kernels", "api/kernelspecs"):
        assert ann.get(path).status in (403, 404), path
    for path in ("api/kernels", "api/sessions", "api/terminals", "api/shutdown", "api/contents"):
        assert ann.post(path, {}).status in (403, 404, 405), path
    assert review.process.poll() is None


def test_without_a_link_or_with_a_wrong_one_there_is_the_login_page_where_the_links_token_can_be_typed(review):
    link = review.links["bob"]
    url, token = f"http://{link.split('/')[2]}/", link.partition("token=")[2]
    for wrong in ("", "?token=", f"?token={token[:-1]}", f"?token={token}x"):
        assert 'name="password"' in Browser(url).get(f"llmops-lab/review/tone{wrong}").text
    bob = Browser(url)
    bob.get("login")
    form = f"password={token}&_xsrf={bob.xsrf}".encode()
    page = bob.request("POST", "login?next=%2Fllmops-lab%2Freview%2Ftone", form, {"Content-Type": "application/x-www-form-urlencoded"})
    assert page.status == 200 and "user=bob" in page.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_130_a_signal_ends_it_and_says_that_ratings_are_kept(place, queue, number):
    running = Review(place, "other", "--rater", "zoe").read(1)
    assert running.open("zoe").get("llmops-lab/review/other").status == 200
    code, said = running.end(number)
    assert code == 130 and "kept" in said and "Traceback" not in said


def test_without_named_raters_the_link_is_for_whoever_started_it(place, queue):
    running = place.start("review", "other", LLMOPS_LAB_REVIEWER="me myself")
    try:
        assert running.stdout.readline().startswith("me myself\thttp://127.0.0.1:")
    finally:
        running.kill()
        running.communicate(timeout=30)


def test_a_queue_has_its_usual_port_and_takes_another_one_where_that_is_taken(place, queue):
    ports = []
    running = [Review(place, "other", "--rater", "zoe").read(1) for _ in range(2)]
    for each in running:
        ports.append(each.links["zoe"].split("/")[2])
        assert each.open("zoe").get("llmops-lab/review/other").status == 200
    assert ports[0] != ports[1]
    for each in running:
        assert each.end()[0] == 130
    again = Review(place, "other", "--rater", "zoe").read(1)
    assert again.links["zoe"].split("/")[2] == ports[0]
    assert again.end()[0] == 130


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tona"], "Did you mean tone?"),
        (["tone", "--rater", "anne"], "Did you mean ann?"),
        (["tone", "--port", "0"], "1 or more"),
        (["tone", "--port", "70000"], "port 70000 cannot be used"),
        (["other", "--rater", ""], "a rater is a name"),
        ([], "QUEUE"),
    ],
)
def test_2_wrong_use_is_said_before_anything_is_served(place, queue, words, said):
    done = place.run("review", *words)
    assert done.code == 2 and said in done.err and done.out == ""


def test_2_a_closed_queue_is_not_served_and_the_export_is_named(place, queue):
    make_queue(place, "done").close()
    done = place.run("review", "done")
    assert done.code == 2 and "is closed" in done.err and "llmops-lab export done --html" in done.err


def test_2_a_port_that_is_taken_is_named(place, queue):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = place.run("review", "tone", "--port", taken.getsockname()[1])
    assert done.code == 2 and "cannot be used" in done.err and "--port" in done.err


def test_2_a_core_installation_is_told_what_to_install(place, queue):
    code = "import sys; sys.modules['jupyter_server'] = None; from llmops_lab.cli import main; sys.exit(main(['review', 'tone']))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place.folder, env=place.environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "pip install 'llmops-lab[lab]'" in done.stderr
