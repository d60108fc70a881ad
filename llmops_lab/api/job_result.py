"""``lab.job_result(value)``: what a template's job came to, for whoever started it."""

from __future__ import annotations

import importlib
import json
from typing import Any

from llmops_lab.api import shown
from llmops_lab.errors import BadInput
from llmops_lab.jobs.client import RESULT_MIME
from llmops_lab.jobs.parameters import check_json
from llmops_lab.redact import Redactor

_MOST_CHARACTERS = 4_000_000
_SHOWN_CHARACTERS = 4_000


def job_result(value: Any) -> None:
    """Give this to whoever started the job: ``job.result``, and ``result`` in run.json. The last one counts; secrets in it are masked.

    ``value``: JSON and nothing else. Raises BadInput for what is none, or for more than 4 MB: name a file then.
    """
    try:
        check_json(value)
    except ValueError as error:
        raise BadInput(f"a job's result {error}.") from None
    kept = Redactor().tree(value)
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    if len(text) > _MOST_CHARACTERS:
        raise BadInput(f"a job's result takes {len(text):,} characters; at most {_MOST_CHARACTERS:,}. Write a file, and name it.")
    told = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}\n... {len(text) - _SHOWN_CHARACTERS:,} more characters"
    if not shown.in_kernel():
        print(f"result: {told}")
        return
    importlib.import_module("IPython.display").display({RESULT_MIME: kept, "text/plain": f"result: {told}"}, raw=True)
