"""A server process of a test's own, on a free port of this machine."""

import socket
import subprocess
import time
import urllib.request


def free_port():
    """A port that nobody listens on at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(url, server, log, seconds=60):
    """Wait until the server answers; fails with its log where it ends before, or says nothing for so long."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def end(server):
    """End the server: first asked, after 20 s made to."""
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
