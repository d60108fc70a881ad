"""No network but this machine's own loopback: everything works, nothing hangs, and nothing even tries to reach out.

Every attempt of any Python code of the process or its children is refused and written down with its stack; where the system lets us
(``unshare``), the processes also live in a network namespace of their own that has nothing but a loopback device, so native code can
reach nobody either, and the kernel's count of packets without a route says whether it tried. (It did: onnxruntime reports to its maker.)
"""

import shutil
import subprocess
import sys

import pytest

from tests.faults.conftest import environment, full

WATCH = """
import os, socket, sys, traceback

_busy = False

def _loopback(host):
    if host in (None, "", b"", "localhost", b"localhost", "::1", "::", "0.0.0.0"):
        return True
    return str(host if isinstance(host, str) else host.decode("latin-1")).startswith("127.")

def _watch(event, arguments):
    global _busy
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        inside = not isinstance(address, tuple) or _loopback(address[0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"):
        address = arguments[0][0] if isinstance(arguments[0], tuple) else arguments[0]
        inside = _loopback(address)
    else:
        return
    if inside or _busy:
        return
    _busy = True
    try:
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{event} {address!r}\\n" + "".join(traceback.format_stack(limit=25)) + "\\n")
    finally:
        _busy = False
    raise OSError(101, "Network is unreachable")

if "ATTEMPTS" in os.environ:
    sys.addaudithook(_watch)
"""

LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    flags, = struct.unpack("16xh14x", fcntl.ioctl(control, 0x8913, struct.pack("16sh14x", b"lo", 0)))
    fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""

# Packets, connections and look-ups that found no way out of the namespace, whichever code wanted them.
NO_WAY_OUT = """
def no_way_out():
    lines = [line.split() for line in open("/proc/net/snmp") if line.startswith("Ip:")]
    return int(dict(zip(*lines))["OutNoRoutes"])
"""

NATIVE = (
    NO_WAY_OUT
    + """
import ctypes
libc = ctypes.CDLL(None)
libc.gethostbyname(b"example.org")
print(no_way_out() > 0)
"""
)

START = """
import llmops_lab as lab
print("imported")
"""

WORK = (
    NO_WAY_OUT
    + """
import os, sys
import llmops_lab as lab
from llmops_lab import cli
from tests.servers import ModelServer

rows = [{"id": str(n), "question": f"What is {n}?", "answer": f"What is {n}?"} for n in range(3)]
tiny = lab.grid(
    {"plain": "{{ question }}"}, rows, models=["tiny"], scorers=["exact", "similarity"], expected="answer", params={"max_tokens": 8}
)
assert tiny.state == "done" and tiny.run_id, tiny
print("tiny ok")

import litellm  # as MLflow does by itself: what was set for its sake holds then, too
assert os.environ["LITELLM_MODE"] == "PRODUCTION" and "FROM_DOTENV" not in os.environ
print("litellm reads no .env")

with ModelServer() as server:
    os.environ.update(OPENAI_API_BASE=server.url, OPENAI_API_KEY="not-a-real-key")
    wide = lab.grid(
        {"plain": "{{ question }}"}, rows, models=["litellm:openai/m", f"openai:m@{server.url}"], expected="answer",
        scorers=["exact", lab.scorer("deepeval:ExactMatch", label="deep")],
    )
    assert set(wide.frame()["status"]) == {"ok"} and wide.frame()["deep"].notna().all(), wide.frame().to_string()
    assert len(server.requests) == 6
assert "FROM_DOTENV" not in os.environ
print("litellm, deepeval ok")

lab.ask("Hello {{ name }}", model="echo", name="you")
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "llmops_lab")
shell.run_cell_magic("prompt", "--model echo --out said", "Hello")
assert shell.user_ns["said"].text == "Hello"
print("magics ok")
if "--demo" in sys.argv:
    assert cli.main(["demo"]) == 0
    assert cli.main(["doctor"]) in (0, 1)
print("all ok")
if "--alone" in sys.argv:
    assert no_way_out() == 0, f"native code tried to reach out {no_way_out()} times: find it with strace -f -k -e trace=connect"
"""
)

TUNE = """
import llmops_lab as lab
from llmops_lab.flows import tune, tune_data
from tests.training import route

train, test = route.write("train.jsonl", route.rows(7, 16)), route.write("test.jsonl", route.rows(9, 4, fresh=True))
sets = tune_data.read_sets(train, validation=test, test=test)
tuned = tune.tune(tune.plan("tiny", sets, tune.recipe_for("tiny", epochs=1, rank=2)))
assert lab.ask("Hello", model=tuned.model, params={"max_tokens": 2}, track=False).text
print("tuned")
"""


@pytest.fixture(scope="module")
def namespace():
    """The command that takes the network away; empty where the system does not let us."""
    try:
        allowed = shutil.which("unshare") and not subprocess.run(["unshare", "-rn", "true"], capture_output=True, timeout=20).returncode
    except (OSError, subprocess.TimeoutExpired):
        allowed = False
    return ["unshare", "-rn", sys.executable, "-c", LOOPBACK_UP] if allowed else [sys.executable]


@pytest.fixture
def run(tmp_path, namespace):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(WATCH)
    (tmp_path / ".env").write_text("FROM_DOTENV=1\nLITELLM_LOG=DEBUG\n")
    surroundings = environment(tmp_path / "home", ATTEMPTS=str(tmp_path / "attempts.txt"))
    surroundings["PYTHONPATH"] = f"{tmp_path / 'hook'}:{surroundings['PYTHONPATH']}"
    for name in [name for name in surroundings if name.lower().endswith("_proxy")]:
        del surroundings[name]

    def work(script, *arguments, seconds=120):
        done = subprocess.run(
            [*namespace, "-c", script, *arguments], cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=seconds
        )
        attempts = tmp_path / "attempts.txt"
        assert not attempts.exists(), attempts.read_text()[:6000]
        return done

    return work


def test_the_watch_sees_and_refuses(run, tmp_path):
    script = "import urllib.request\ntry: urllib.request.urlopen('http://192.0.2.1/', timeout=20)\nexcept OSError as error: print(error)"
    with pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        run(script)
    (tmp_path / "attempts.txt").unlink()
    with pytest.raises(AssertionError, match=r"example\.org"):
        run("import socket\ntry: socket.getaddrinfo('example.org', 80)\nexcept OSError as error: print(error)")


@pytest.mark.timeout(full(240, 600))
def test_nothing_reaches_out_and_nothing_hangs(run, tmp_path, mlflow_store, namespace):
    mlflow_store(tmp_path / "home")
    started = run(START, seconds=60)
    assert (started.returncode, started.stdout.split()) == (0, ["imported"]), started.stderr
    counted = len(namespace) > 1 and "True" in run(NATIVE).stdout
    done = run(WORK, *full([], ["--demo"]), *(["--alone"] if counted else []), seconds=full(200, 500))
    assert done.returncode == 0 and done.stdout.rstrip().endswith("all ok"), done.stdout + done.stderr[-6000:]


@pytest.mark.timeout(full(240, 600))
def test_a_tuning_asks_no_hub_and_reports_to_nobody(run):
    pytest.importorskip("trl")
    done = run(TUNE, seconds=200)
    assert done.returncode == 0 and done.stdout.split() == ["tuned"], done.stdout + done.stderr[-6000:]
