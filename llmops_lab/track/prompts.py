"""MLflow's prompt registry as plain data: what the prompt library stands on.

MLflow keeps the versions; it has no content hash, no author on SQLite and no history of aliases, so these are tags of ours. Every
read goes to the store itself: MLflow's own ``load_prompt`` keeps serving an alias for 60 s after it was moved elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from llmops_lab.errors import BadInput, LabError, UnknownName
from llmops_lab.records import canonical
from llmops_lab.settings import Settings
from llmops_lab.track import connect

HASH_TAG = "llmops_lab.sha256"
REST_TAG = "llmops_lab.prompt"
AUTHOR_TAG = "llmops_lab.author"
MOVE_TAG = "llmops_lab.alias."
MAX_CHARS = 100_000
_IS_PROMPT = "tags.`mlflow.prompt.is_prompt` = 'true'"
_VERSION_IS_PROMPT = "tag.`mlflow.prompt.is_prompt` = 'true'"


@dataclass(frozen=True, slots=True)
class StoredPrompt:
    """One version as it lies in MLflow. ``template`` is a text or chat messages; ``rest`` is our own part of the content, None for a
    version that was not saved by this project, and so is ``sha256``. ``created`` is UTC.
    """

    name: str
    version: int
    template: str | list[dict[str, Any]]
    rest: dict[str, Any] | None
    sha256: str | None
    author: str
    message: str
    created: datetime
    aliases: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class PromptName:
    """A prompt's name, its latest version, where its aliases point, and when it last changed (UTC)."""

    name: str
    latest: int
    aliases: Mapping[str, int]
    updated: datetime


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One entry of an alias' history: it was moved to ``version`` (None: taken away) from ``previous`` (None: it was new)."""

    alias: str
    version: int | None
    previous: int | None
    at: datetime
    author: str
    rollback: bool = False


class Registry:
    """The prompt registry that the settings point to. Nothing is opened before the first use.

    Every method raises Unreachable when the tracking server does not answer, BadInput for what MLflow refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def names(self) -> list[PromptName]:
        """All prompts, sorted by name."""
        with self._client() as client:
            return sorted(
                (_name(found) for found in connect.pages(client.search_registered_models, _IS_PROMPT)), key=lambda item: item.name
            )

    def find(self, name: str) -> PromptName | None:
        """One prompt's latest version and aliases; None when there is no such prompt."""
        with self._client() as client:
            found = client.search_registered_models(f"{_IS_PROMPT} AND name = '{name}'")
        return _name(found[0]) if found else None

    def get(self, name: str, version: int) -> StoredPrompt:
        """One version. Raises UnknownName when it is not there."""
        with self._client() as client, _absent(f"version of prompt {name!r}", str(version), self._known_versions, name):
            return _stored(client.get_prompt_version(name, version))

    def versions(self, name: str) -> list[StoredPrompt]:
        """All versions, newest first."""
        found = self.find(name)
        with self._client() as client:
            stored = [_stored(item) for item in connect.pages(client.search_prompt_versions, name)]
        held: dict[int, list[str]] = {}
        for alias, version in (found.aliases if found else {}).items():
            held.setdefault(version, []).append(alias)
        # A search does not fill in the aliases.
        return [replace(item, aliases=tuple(sorted(held.get(item.version, ())))) for item in stored]

    def with_hash(self, name: str, sha256: str) -> list[int]:
        """The versions that were saved with this content hash, oldest first."""
        where = f"name = '{name}' AND tag.`{HASH_TAG}` = '{sha256}' AND {_VERSION_IS_PROMPT}"
        with self._client() as client:
            return sorted(int(item.version) for item in connect.pages(client.search_model_versions, where))

    def create(self, draft: StoredPrompt) -> int:
        """Write a new version, and the prompt when it is the first; returns the number that it got. ``draft.version`` is not used.

        Two processes that write the same content at once end up with the one older version.
        """
        tags = {HASH_TAG: str(draft.sha256), REST_TAG: canonical(draft.rest), AUTHOR_TAG: draft.author}
        content = {"template": draft.template, "model_config": dict(draft.config or {}) or None, "response_format": draft.schema or None}
        _check(draft, tags, content)
        with self._client() as client:
            if client.get_prompt(draft.name) is None:
                self._create_name(client, draft.name)
            made = int(client.create_prompt_version(draft.name, description=draft.message or None, tags=tags, **content).version)
        first = self.with_hash(draft.name, str(draft.sha256))[0]
        if first < made:
            with self._client() as client:
                client.delete_prompt_version(draft.name, str(made))
        return first

    def set_alias(self, move: AliasMove, name: str) -> None:
        """Point an alias at a version, or take it away, and add the move to the alias' history."""
        with self._client() as client:
            if move.version is None:
                client.delete_prompt_alias(name, move.alias)
            else:
                client.set_prompt_alias(name, move.alias, move.version)
            # One tag a move: two processes that move at once both stay in the history.
            key = f"{MOVE_TAG}{move.alias}.{move.at:%Y%m%dT%H%M%S%f}.{uuid.uuid4().hex[:8]}"
            entry = {
                "alias": move.alias,
                "version": move.version,
                "previous": move.previous,
                "author": move.author,
                "rollback": move.rollback,
            }
            client.set_prompt_tag(name, key, json.dumps({**entry, "at": move.at.isoformat()}))

    def moves(self, name: str, alias: str) -> list[AliasMove]:
        """The history of an alias, oldest first, as far as it was moved through this project."""
        with self._client() as client:
            prompt = client.get_prompt(name)
        found = [json.loads(value) for key, value in (prompt.tags if prompt else {}).items() if key.startswith(MOVE_TAG)]
        moves = [AliasMove(**{**entry, "at": datetime.fromisoformat(entry["at"])}) for entry in found if entry["alias"] == alias]
        return sorted(moves, key=lambda move: move.at)

    def _known_versions(self, name: str) -> list[str]:
        return [str(item.version) for item in self.versions(name)]

    def _create_name(self, client: Any, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_prompt(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            if client.get_prompt(name) is None:
                raise BadInput(
                    f"the name {name!r} belongs to a model in MLflow, and prompts and models share their names. Choose another."
                ) from error

    def _client(self) -> contextlib.AbstractContextManager[Any]:
        return connect.answering(self._settings)


def _check(draft: StoredPrompt, tags: Mapping[str, str], content: Mapping[str, Any]) -> None:
    # All before the first write: MLflow stores a version whose messages it then cannot read back.
    from mlflow.entities.model_registry import PromptVersion

    text = draft.template if isinstance(draft.template, str) else json.dumps(draft.template)
    for what, value in (("the template", text), ("examples, params and schema together", tags[REST_TAG])):
        if len(value) > MAX_CHARS:
            raise BadInput(f"prompt {draft.name!r}: {what} has {len(value):,} characters; MLflow keeps at most {MAX_CHARS:,}. Shorten it.")
    unstorable = re.search(r"[\x00\ud800-\udfff]", f"{text}{draft.message}{draft.author}")
    if unstorable:
        raise BadInput(
            f"prompt {draft.name!r} holds the character U+{ord(unstorable[0]):04X}, which cannot be stored as text. Take it out."
        )
    try:
        PromptVersion(draft.name, 1, **content)
    except ValueError as error:  # pydantic's errors are ValueErrors
        raise BadInput(f"prompt {draft.name!r} is not one that MLflow can keep: {error}") from error


@contextlib.contextmanager
def _absent(kind: str, name: str, known: Any, prompt: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        try:
            names = known(prompt)
        except LabError:
            names = []
        raise UnknownName(kind, name, names) from error


def _name(model: Any) -> PromptName:
    latest = max((int(item.version) for item in model.latest_versions or ()), default=0)
    aliases = {alias: int(version) for alias, version in sorted((model.aliases or {}).items())}
    return PromptName(model.name, latest, aliases, _utc(model.last_updated_timestamp))


def _stored(found: Any) -> StoredPrompt:
    tags = found.tags
    return StoredPrompt(
        name=found.name,
        version=int(found.version),
        template=found.template,
        rest=json.loads(tags[REST_TAG]) if REST_TAG in tags else None,
        sha256=tags.get(HASH_TAG),
        author=tags.get(AUTHOR_TAG) or found.user_id or "",
        message=found.commit_message or "",
        created=_utc(found.creation_timestamp),
        aliases=tuple(sorted(found.aliases or ())),
        config=found.model_config,
        schema=found.response_format,
    )


def _utc(milliseconds: int | None) -> datetime:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)
