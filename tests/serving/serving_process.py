"""``llmops-lab serve`` as a process of its own, and what may be asked of it."""

import http.client
import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import openai

from tests.commands import Place


class Served:
    """A server that runs, from ``with`` to the end of it."""

    def __init__(self, folder, *names, key=None, options=(), files=None, **environment):
        folder.mkdir(parents=True, exist_ok=True)
        self.place = Place(folder)
        self.names, self.key, self._options, self._files, self._environment = names, key, options, files, environment

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def start(self, port=0):
        command = [sys.executable, "-m", "llmops_lab.cli", "serve", *self.names, "--port", str(port), *self._options]
        environment = self.place.environment(**self._environment)
        pipe = subprocess.PIPE
        if self._files is not None:  # so many files may it have open
            command = ["/bin/sh", "-c", f'ulimit -n {self._files}; exec "$@"', "serve", *command]
        self.process = subprocess.Popen(command, cwd=self.place.folder, env=environment, stdout=pipe, stderr=pipe, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http"), self.process.stderr.read()
        self._log = []
        self._reader = threading.Thread(target=lambda: self._log.extend(self.process.stderr), daemon=True)
        self._reader.start()

    @property
    def log(self):
        return "".join(self._log)

    def stop(self, number=signal.SIGTERM, timeout=60):
        """Ask it to end; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    @property
    def client(self):
        return openai.OpenAI(base_url=self.url, api_key=self.key or "none", max_retries=0, timeout=60)

    def chat(self, text="hello", model=None, **more):
        messages = [{"role": "user", "content": text}]
        return self.client.chat.completions.create(model=model or self.names[0], messages=messages, **more)

    def send(self, path, body=None, key=None, **headers):
        """Status, headers and JSON of a plain request; ``body`` bytes go as they are."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"Content-Type": "application/json"}
        if key or self.key:
            headers["Authorization"] = f"Bearer {key or self.key}"
        root = self.url.removesuffix("/v1")
        request = urllib.request.Request(f"{root}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, dict(refused.headers), refused.read()

    def refused(self, path, body=None, **more):
        """Status and error object of a request that must be refused in OpenAI's shape."""
        status, _, answer = self.send(path, body, **more)
        error = json.loads(answer)["error"]
        assert status >= 400 and set(error) == {"message", "type", "param", "code"} and error["message"] and error["code"]
        return status, error

    def counter(self, name, **labels):
        """The sum of a metric's samples that have these labels."""
        _, _, text = self.send("/metrics")
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = (line for line in text.decode().splitlines() if line.startswith((f"{name}{{", f"{name} ")))
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(each in line for each in wanted))

    def health(self):
        return json.loads(self.send("/health")[2])

    def raw(self, path, body):
        """An open connection that has sent a request and read nothing yet."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        connection.request("POST", path, json.dumps(body), headers)
        return connection


def body(model, text="hello", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}
