"""A promoter in a process of its own. Reads a JSON object a line (for promote, rollback or bundle), answers each with how it ended.

With ``--die before|after`` it is killed at the moment when it is about to move the alias in MLflow, or has just moved it.
"""

import json
import os
import signal
import sys

from llmops_lab.api.release import bundle, promote, rollback
from llmops_lab.errors import LabError
from llmops_lab.track import registry


def die(when):
    point = registry.Registry.point

    def killed(self, *arguments):
        if when == "after":
            point(self, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    registry.Registry.point = killed


def answer(asked):
    try:
        if "model" in asked:
            return {"version": bundle(**asked).version}
        done = promote(**asked) if "version" in asked else rollback(**asked)
    except LabError as error:
        return {"error": type(error).__name__, "message": str(error), "current": getattr(error, "current", None)}
    return {"version": done.version, "moved": done.moved, "entry": done.entry}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--die"]:
        die(sys.argv[2])
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
