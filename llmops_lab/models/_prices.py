"""What a token costs: the user's own prices first, then the price lists that MLflow and litellm ship, read as data.

A list is only asked about the provider's own server: a model behind another base URL is somebody else's machine. A price
that nobody knows is None, never 0. Prices in the lists are the plain ones: no discount for cached or batched input.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.models._provider import Price
from llmops_lab.remote.keys import OPENAI_URL, default_url
from llmops_lab.settings import Settings

_UNITS = {"input": 1e-6, "output": 1e-6, "gpu_hour": 1.0}
_MILLION = 1e6


def price_of(spec: str, settings: Settings) -> Price | None:
    """The price of a model, or None when unknown. Raises BadInput for a price in settings that is none.

    Own prices (``settings.prices``; USD per million tokens, or per hour of the machine) are looked up by the whole spec or by
    its beginning up to one of ``: / @ +``, the longest first: "openai:NAME" covers that model on every server, "hf:" all local ones.
    """
    own = [key for key in settings.prices if _covers(key, spec)]
    if own:
        key = max(own, key=len)
        return _own(key, settings.prices[key])
    listed = _listed_name(spec)
    return _from_mlflow(*listed) or _from_litellm(*listed) if listed else None


def _covers(key: str, spec: str) -> bool:
    return bool(key) and spec.startswith(key) and (len(spec) == len(key) or key[-1] in ":/@+" or spec[len(key)] in ":/@+")


def _own(key: str, table: Mapping[str, float]) -> Price:
    known = ", ".join(_UNITS)
    if not isinstance(table, Mapping) or not table or not set(table) <= set(_UNITS):
        raise BadInput(f"the price of {key!r} must be a table of {known} (USD per million tokens, or per hour); it is {table!r}.")
    for name, value in table.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise BadInput(f"the price of {key!r}: {name} must be a number of USD, 0 or more, not {value!r}.")
    return Price(**{name: value * _UNITS[name] for name, value in table.items()})


def _listed_name(spec: str) -> tuple[str, str] | None:
    """The provider and model names of a spec in the lists; None for a server that is not the provider's own."""
    kind, _, target = spec.partition(":")
    if kind == "openai":
        name, _, url = target.partition("@")
        return ("openai", name) if (url or default_url()).rstrip("/") == OPENAI_URL else None
    provider, slash, name = target.partition("/")
    if kind != "litellm" or not slash or not re.fullmatch(r"[a-z0-9_\-]+", provider):
        return None
    return (provider, name) if provider == "azure" or not own_server(provider) else None  # azure: each customer has a server


def own_server(provider: str) -> str:
    """The base URL that the user's environment gives one of litellm's providers; empty for the provider's usual one."""
    names = [f"{provider.upper()}_API_BASE", f"{provider.upper()}_BASE_URL"]
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")


def _from_mlflow(provider: str, name: str) -> Price | None:
    pricing = _read("mlflow", f"utils/model_catalog/{provider}.json").get("models", {}).get(name, {}).get("pricing", {})
    return _listed(pricing.get("input_per_million_tokens"), pricing.get("output_per_million_tokens"), _MILLION)


def _from_litellm(provider: str, name: str) -> Price | None:
    models = _read("litellm", "model_prices_and_context_window_backup.json")
    entry = models.get(f"{provider}/{name}") or models.get(name, {})
    if entry.get("litellm_provider") != provider:
        return None
    return _listed(entry.get("input_cost_per_token"), entry.get("output_cost_per_token"), 1.0)


def _listed(given: Any, made: Any, tokens: float) -> Price | None:
    # 0 for both is how the lists write "runs on your own machine": that is unknown, not free.
    if isinstance(given, int | float) and isinstance(made, int | float) and (given or made):
        return Price(input=given / tokens, output=made / tokens)
    return None


@cache
def _read(package: str, path: str) -> dict[str, Any]:
    """A JSON file inside an installed package, without importing it; empty when there is none."""
    found = find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        file = Path(folder) / path
        if file.is_file():
            data: dict[str, Any] = json.loads(file.read_text("utf-8"))
            return data
    return {}
