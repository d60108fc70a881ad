"""A model that MLflow keeps: ``mlflow:URI`` (models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID, runs:/RUN/PATH).

An alias is resolved once, when the model is opened, and the version that it meant is what a grid records. The model is loaded
on first use and runs in one thread of this process. It must take chat messages (a ``messages`` column, as chat models,
chat agents and transformers' llm/v1/chat do) or one text. Parameters that its signature does not declare are not passed.

Models stored as pickle are refused, for opening one runs whatever code is in it, unless the user has set
MLFLOW_ALLOW_PICKLE_DESERIALIZATION=true. Models from code are the registry's own code, and run. Transformers models that need
code from their own folder are always refused.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput, MissingExtra, ProviderFault, UnknownName
from llmops_lab.models._prices import price_of
from llmops_lab.models._wire import body, reply
from llmops_lab.records import Reply, Request
from llmops_lab.remote.faults import short
from llmops_lab.settings import Settings
from llmops_lab.track.connect import client, tracking_uri

_EXAMPLE = "mlflow:models:/NAME@ALIAS, mlflow:models:/NAME/VERSION or mlflow:runs:/RUN_ID/PATH"
_NO_PICKLE = frozenset({"mlflow.transformers", "mlflow.openai", "mlflow.onnx"})  # loaders that open no pickle
_TEXT_FIELDS = ("content", "text", "generated_text", "output", "answer", "response")


def connect(target: str, *, settings: Settings) -> MLflow:
    """The model at a URI: asks the registry which version it is and reads its description, not its weights.

    Raises UnknownName (no such model), BadInput (a malformed URI, pickle, inputs that are neither chat nor text), MissingExtra.
    """
    if not target.startswith(("models:/", "runs:/")):
        raise BadInput(f"mlflow:{target} is no model that MLflow keeps. Write it as {_EXAMPLE}.")
    place, description = _described(target, settings)
    flavours = description.flavors
    if "python_function" not in flavours:
        raise BadInput(f"mlflow:{target} cannot be asked: it was logged without the python_function flavour.")
    _check_trust(target, flavours)
    return MLflow(target, place, description, settings)


@dataclass(frozen=True, slots=True)
class Place:
    """A model's URI without alias, and the MLflow store that holds it."""

    store: str
    uri: str
    folder: str = ""  # where files of models:/m-ID lie; MLflow takes a path behind every other URI

    def fetch(self, path: str = "") -> str:
        """The local path of the model's folder or of one file in it; downloads what is not on this machine."""
        import mlflow.artifacts

        uri = f"{self.folder or self.uri}/{path}" if path else self.uri
        return str(mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=self.store, registry_uri=self.store))


class MLflow:
    """One version of one model, in one worker thread."""

    local = True

    def __init__(self, target: str, place: Place, description: Any, settings: Settings) -> None:
        self.identity = f"mlflow:{place.uri}#{description.model_uuid}"
        self.pool = f"mlflow:{place.uri}"
        self.price = price_of(f"mlflow:{target}", settings)
        self._place = place
        self._takes = _takes(target, description)
        self._params = frozenset(each.name for each in description.get_params_schema() or ())
        self._model: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlflow-model")

    async def ask(self, request: Request, *, timeout: float, on_text: Callable[[str], None] | None = None) -> Reply:
        """One try; ``timeout`` is for the prediction, not for loading or for waiting until it is this request's turn. Raises ProviderFault.

        With ``on_text`` the whole text is handed over at once.
        """
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        await loop.run_in_executor(self._thread, self._load)

        def work() -> Reply:
            loop.call_soon_threadsafe(begun.set)
            return self._predict(request)

        pending = loop.run_in_executor(self._thread, work)
        try:
            await begun.wait()
            found = await asyncio.wait_for(pending, timeout)
        except TimeoutError:
            # The thread cannot be stopped: leave it to end by itself, so that the next request does not wait for it.
            self._thread.shutdown(wait=False)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlflow-model")
            raise ProviderFault("timeout", f"no answer within {timeout:g} s", answered=True) from None
        finally:
            pending.cancel()
        if on_text is not None and found.text:
            on_text(found.text)
        return found

    async def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _load(self) -> None:
        if self._model is not None:
            return
        import mlflow.pyfunc

        try:
            self._model = mlflow.pyfunc.load_model(self._place.fetch(), suppress_warnings=True)
        except Exception as error:  # whatever the model's own libraries raise
            raise ProviderFault("bad_request", f"{self._place.uri} cannot be loaded: {short(str(error))}", retryable=False) from error

    def _predict(self, request: Request) -> Reply:
        params = {name: value for name, value in request.params.items() if name in self._params}
        given = self._input(request)
        started = time.perf_counter()
        try:
            made = self._model.predict(given, params=params or None)
        except Exception as error:  # whatever the model's own code raises
            raise ProviderFault("server_error", f"{type(error).__name__}: {short(str(error))}", retryable=False) from error
        return _reply(made, time.perf_counter() - started)

    def _input(self, request: Request) -> Any:
        if self._takes != "messages":
            return [{self._takes: request.text}] if self._takes else [request.text]
        wanted = body("", request)
        del wanted["model"]
        return wanted


def _described(target: str, settings: Settings) -> tuple[Place, Any]:
    """Where the model is, its alias replaced by the version that it means now, and its MLmodel file."""
    registry, store = client(settings), tracking_uri(settings)
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    name, at, alias = target.removeprefix("models:/").rstrip("/").partition("@")
    try:
        if at and target.startswith("models:/"):
            place = Place(store, f"models:/{name}/{registry.get_model_version_by_alias(name, alias).version}")
        elif re.fullmatch(r"m-[0-9a-f]+", name):
            place = Place(store, f"models:/{name}", registry.get_logged_model(name).artifact_location)
        else:
            place = Place(store, target.rstrip("/"))
        return place, Model.load(place.fetch("MLmodel"))
    except (MlflowException, OSError) as error:
        raise _unknown(target, name.split("/")[0], alias, registry, error) from error


def _unknown(target: str, name: str, alias: str, registry: Any, error: Exception) -> BadInput:
    why = f"mlflow:{target} cannot be opened: {short(str(error))} Write it as {_EXAMPLE}."
    missing = getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
    if not missing or not target.startswith("models:/") or name.startswith("m-"):
        return BadInput(why)
    known = {model.name: model.aliases for model in registry.search_registered_models(max_results=200)}
    if name not in known:
        return UnknownName("MLflow model", name, known)
    return UnknownName(f"alias of the MLflow model {name}", alias, known[name]) if alias else BadInput(why)


def _check_trust(target: str, flavours: Mapping[str, Mapping[str, Any]]) -> None:
    loader = str(flavours["python_function"].get("loader_module", ""))
    from_code = "model_code_path" in flavours["python_function"] and loader.startswith("mlflow.pyfunc.")
    allowed = os.environ.get("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "").lower() in ("true", "1")
    if not (from_code or allowed or loader in _NO_PICKLE):
        raise BadInput(
            f"mlflow:{target} is stored as pickle ({', '.join(sorted(flavours))}): opening it runs whatever code is in it. Log it as a "
            "model from code or with the transformers flavour; or, if you trust who made it, set MLFLOW_ALLOW_PICKLE_DESERIALIZATION=true."
        )
    if "transformers" in flavours:
        _check_transformers(target, flavours["transformers"])


def _check_transformers(target: str, flavour: Mapping[str, Any]) -> None:
    for package in ("transformers", "torch"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "hf")
    import transformers

    classes = [name for key, name in flavour.items() if key.endswith("_type") and key != "instance_type" and isinstance(name, str)]
    foreign = [name for name in classes if not hasattr(transformers, name)]  # MLflow would load these with trust_remote_code
    if foreign:
        raise BadInput(
            f"mlflow:{target} needs code from its own folder ({', '.join(foreign)}), which is not run. Use a model of transformers' own."
        )


def _takes(target: str, description: Any) -> str:
    """What to give the model: "messages", the name of its one text column, or "" for a list of texts."""
    task = str(description.flavors.get("transformers", {}).get("inference_task", "") or (description.metadata or {}).get("task", ""))
    schema = description.get_input_schema()
    names = [name for name in schema.input_names() if isinstance(name, str)] if schema else []
    if "messages" in names or task.startswith("llm/v1/chat"):
        return "messages"
    if len(names) > 1:
        raise BadInput(f"mlflow:{target} takes the columns {', '.join(names)}; a prompt can only be given to chat messages or to one text.")
    return names[0] if names else ""


def _reply(made: Any, latency_s: float) -> Reply:
    """A prediction as a Reply: a chat completion, a chat agent's messages, or a text in the usual wrappings."""
    first = _first(made)
    if isinstance(first, Mapping):
        if "choices" in first:
            return reply(first, latency_s=latency_s)
        if first.get("messages"):
            first = _first(first["messages"][-1:])
        first = next((first[name] for name in _TEXT_FIELDS if isinstance(first.get(name), str)), first)
    if not isinstance(first, str):
        raise ProviderFault("malformed", f"the model answered with a {type(first).__name__}, not with text", retryable=False)
    return Reply(text=first, finish_reason="stop", latency_s=latency_s)


def _first(made: Any) -> Any:
    if hasattr(made, "model_dump"):
        return made.model_dump()
    if hasattr(made, "to_dict") and hasattr(made, "columns"):
        made = made.to_dict("records")
    if hasattr(made, "tolist"):
        made = made.tolist()
    return made[0] if isinstance(made, list | tuple) and len(made) == 1 else made
