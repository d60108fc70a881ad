"""The reply is JSON that satisfies a JSON schema.

A reply that is not JSON is False: that is what is measured. A reply in a code fence counts as the fence's content
unless ``fences=False``. The draft is the schema's ``$schema``, else 2020-12. ``format`` is an annotation and not
checked (as the standard has it). Nothing is fetched: a ``$ref`` must lie inside the schema or in a published draft.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.records import Reply, Score, canonical
from llmops_lab.scorers._json import read_json

higher_is_better = True
PACKAGES = ("jsonschema",)


def check(*, schema: Mapping[str, Any], fences: bool = True) -> None:
    """Raises BadInput for a schema that is no schema, or whose references lead nowhere."""
    from jsonschema.exceptions import SchemaError

    if not isinstance(schema.get("$schema", ""), str):
        raise BadInput(f"the scorer json_schema: $schema must be the address of a draft, not {schema['$schema']!r}.")
    try:
        validator = _validator(canonical(schema))
        type(validator).check_schema(validator.schema)
        stray = _unresolved(validator.schema)
    except SchemaError as error:
        raise BadInput(f"the scorer json_schema: the schema is wrong at {error.json_path}: {error.message[:200]}.") from error
    except TypeError as error:
        raise BadInput(f"the scorer json_schema: the schema cannot be written as JSON: {error}.") from error
    if stray is not None:
        raise BadInput(f"the scorer json_schema: {stray!r} is referred to and not in the schema; nothing is fetched.")


def score(reply: Reply, target: Any, *, schema: Mapping[str, Any], fences: bool = True) -> Score:
    """True or False; the reason names the first place that does not fit."""
    try:
        value = read_json(reply.text, fences=fences)
    except ValueError as error:
        return Score(False, reason=f"not JSON: {error}"[:200])
    fault = next(_validator(canonical(schema)).iter_errors(value), None)
    return Score(fault is None, reason=f"{fault.json_path}: {fault.message[:200]}" if fault else "")


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    from jsonschema.validators import Draft202012Validator, validator_for
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # ships no types

    content = json.loads(schema)
    return validator_for(content, default=Draft202012Validator)(content, registry=REGISTRY)


def _unresolved(schema: Any) -> str | None:
    """The first reference that leads nowhere."""
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = DRAFT202012.create_resource(schema)
    if isinstance(schema, Mapping) and "$schema" in schema:
        resource = type(resource).from_contents(schema, default_specification=DRAFT202012)
    waiting = [(resource, REGISTRY.resolver_with_root(resource))]
    while waiting:
        resource, resolver = waiting.pop()
        if isinstance(resource.contents, Mapping) and isinstance(reference := resource.contents.get("$ref"), str):
            try:
                resolver.lookup(reference)
            except Unresolvable:
                return reference
        waiting.extend((each, resolver.in_subresource(each)) for each in resource.subresources())
    return None
