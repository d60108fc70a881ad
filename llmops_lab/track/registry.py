"""MLflow's registry as releases see it: models, prompts and bundles under one set of names, with versions and aliases.

MLflow keeps no digest, no author on SQLite and no history of aliases. Digests and authors are tags of ours; the history is the audit log.
Every read goes to the store itself, so an alias that another process moved is seen at once.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, LabError, UnknownName
from llmops_lab.escapes import storable
from llmops_lab.records import canonical
from llmops_lab.settings import Settings
from llmops_lab.track import connect
from llmops_lab.track.prompts import AUTHOR_TAG, HASH_TAG, AliasMove
from llmops_lab.track.prompts import Registry as Prompts
from llmops_lab.track.runs import experiment_id

KIND_TAG = "llmops_lab.kind"
BODY_TAG = "llmops_lab.content"
RETIRED_TAG = "llmops_lab.retired"
HEAD_TAG = "llmops_lab.audit."
ABOUT = "llmops_lab.json"
"""The file in which a version's content lies beside its own files, for whoever looks at it in MLflow."""
MAX_CHARS = 100_000
_IS_PROMPT = "mlflow.prompt.is_prompt"
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,200}")


@dataclass(frozen=True, slots=True)
class Head:
    """An audit entry that MLflow has seen: its number and hash, and the hash of the log's first entry, which tells logs apart.

    ``of``: the alias that it moved, or where else the mark was left.
    """

    log: str
    seq: int
    hash: str
    of: str = ""


@dataclass(frozen=True, slots=True)
class Name:
    """A registered name. ``kind`` is model, prompt or bundle; ``heads``: what was seen of audit logs."""

    name: str
    kind: str
    latest: int
    aliases: Mapping[str, int]
    heads: tuple[Head, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """One version. ``digest`` is "" and ``body`` empty for one that another tool registered. ``created`` is UTC."""

    name: str
    version: int
    kind: str
    digest: str
    body: Mapping[str, Any]
    author: str
    note: str
    created: datetime
    retired: str = ""
    source: str = ""
    run_id: str = ""


class Registry:
    """The registry that the settings point to. Nothing is opened before the first use.

    Every method raises Unreachable when the tracking server does not answer, BadInput for what MLflow refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def names(self) -> list[Name]:
        """All registered names, sorted."""
        with connect.answering(self._settings) as client:
            plain = connect.pages(client.search_registered_models, None)
            prompts = connect.pages(client.search_registered_models, f"tags.`{_IS_PROMPT}` = 'true'")
            return sorted([*map(_name, plain), *(_name(found, "prompt") for found in prompts)], key=lambda item: item.name)

    def find(self, name: str) -> Name:
        """What a name is, its latest version and its aliases as they are now. Raises UnknownName."""
        found = self._found(name)
        if found is None:
            raise UnknownName("registered model, prompt or bundle", name, [item.name for item in self.names()])
        return found

    def get(self, name: str, version: int) -> Version:
        """One version. Raises UnknownName."""
        kind = self.find(name).kind
        from mlflow.exceptions import MlflowException

        with connect.answering(self._settings) as client:
            try:
                found = client.get_prompt_version(name, version) if kind == "prompt" else client.get_model_version(name, str(version))
                return _version(found, kind)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                known = [str(item.version) for item in self._search(client, name, kind)]
                raise UnknownName(f"version of {name!r}", str(version), known) from error

    def versions(self, name: str) -> list[Version]:
        """All versions, newest first. Raises UnknownName."""
        kind = self.find(name).kind
        with connect.answering(self._settings) as client:
            found = [_version(item, kind) for item in self._search(client, name, kind)]
        return sorted(found, key=lambda item: -item.version)

    def create(self, draft: Version, folder: Path | None) -> tuple[int, bool]:
        """Register a version with the files of ``folder`` and its content as JSON; its number, and whether it is new.

        Equal content (the digest) is registered once: where there is such a version, also one that another process made at the same
        time, its number is returned. ``draft.version`` is not used.
        """
        check_name(draft.name)
        found = self._found(draft.name)
        if found is not None and found.kind != draft.kind:
            raise BadInput(f"the name {draft.name!r} belongs to a {found.kind}; a {draft.kind} needs another name.")
        known = self._with_digest(draft.name, draft.digest) if found else []
        if known:
            return known[0], False
        with connect.answering(self._settings) as client:
            if found is None:
                _create_name(client, draft)
            made = self._add(client, draft, folder)
            first = self._with_digest(draft.name, draft.digest)[0]
            if first < made:
                client.delete_model_version(draft.name, str(made))
            return first, first == made

    def point(self, found: Name, move: AliasMove) -> None:
        """Point an alias at a version, or take it away."""
        if found.kind == "prompt":
            Prompts(self._settings).set_alias(move, found.name)  # keeps the prompt library's own history true
            return
        with connect.answering(self._settings) as client:
            if move.version is None:
                client.delete_registered_model_alias(found.name, move.alias)
            else:
                client.set_registered_model_alias(found.name, move.alias, str(move.version))

    def saw(self, name: str, alias: str, head: Head) -> None:
        """Keep an entry of the audit log beside the alias that it moved, or elsewhere: who cuts the log off has to change it here too."""
        from mlflow.exceptions import MlflowException

        tag = (f"{HEAD_TAG}{alias}", f"{head.log}:{head.seq}:{head.hash}")
        with connect.answering(self._settings) as client:
            try:
                client.set_registered_model_tag(name, *tag)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                client.set_prompt_tag(name, *tag)  # which the call above does not find

    def retire(self, name: str, version: int, said: str) -> None:
        """Mark a version as retired."""
        tag = (RETIRED_TAG, storable(said))
        prompt = self.find(name).kind == "prompt"
        with connect.answering(self._settings) as client:
            if prompt:
                client.set_prompt_version_tag(name, version, *tag)
            else:
                client.set_model_version_tag(name, str(version), *tag)

    def fetch(self, version: Version, folder: Path) -> Path:
        """Copy the files of a version into an empty folder, and return where in it they are. Raises LabError where they are gone."""
        from mlflow import artifacts
        from mlflow.exceptions import MlflowException

        uris = dict.fromkeys(("tracking_uri", "registry_uri"), connect.tracking_uri(self._settings))
        with connect.answering(self._settings):
            try:
                return Path(artifacts.download_artifacts(artifact_uri=version.source, dst_path=str(folder), **uris))
            except (MlflowException, OSError) as error:
                raise LabError(f"the files of {version.name}/{version.version} cannot be had from MLflow: {error}") from error

    def _found(self, name: str) -> Name | None:
        from mlflow.exceptions import MlflowException

        with connect.answering(self._settings) as client:
            try:
                return _name(client.get_registered_model(name))
            except MlflowException as error:
                if not _NAME.fullmatch(name):
                    return None
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                # MLflow's own look-up hides prompts; its search does not.
                prompts = client.search_registered_models(f"name = '{name}' AND tags.`{_IS_PROMPT}` = 'true'")
                return _name(prompts[0], "prompt") if prompts else None

    def _search(self, client: Any, name: str, kind: str) -> list[Any]:
        if kind == "prompt":
            return list(connect.pages(client.search_prompt_versions, name))
        return list(connect.pages(client.search_model_versions, f"name = '{check_name(name)}'"))

    def _with_digest(self, name: str, digest: str) -> list[int]:
        where = f"name = '{check_name(name)}' AND tags.`{HASH_TAG}` = '{digest}'"
        with connect.answering(self._settings) as client:
            return sorted(int(item.version) for item in connect.pages(client.search_model_versions, where))

    def _add(self, client: Any, draft: Version, folder: Path | None) -> int:
        tags = {HASH_TAG: draft.digest, KIND_TAG: draft.kind, AUTHOR_TAG: storable(draft.author), BODY_TAG: canonical(draft.body)}
        if len(tags[BODY_TAG]) > MAX_CHARS:
            raise BadInput(f"{draft.name!r}: its content has {len(tags[BODY_TAG]):,} characters as JSON; MLflow keeps {MAX_CHARS:,}.")
        experiment = experiment_id(client, self._settings.experiment)
        run = draft.run_id or None
        logged = client.create_logged_model(experiment, name=draft.name, source_run_id=run, tags=_short(tags), model_type=draft.kind)
        with _finished(client, logged.model_id), tempfile.TemporaryDirectory(prefix="llmops-lab-") as made:
            (Path(made) / ABOUT).write_text(json.dumps(json.loads(tags[BODY_TAG]), indent=1) + "\n", encoding="utf-8")
            client.log_model_artifacts(logged.model_id, made)
            if folder is not None:
                client.log_model_artifacts(logged.model_id, str(folder))
        version = client.create_model_version(
            draft.name, logged.artifact_location, run_id=run, tags=tags, description=storable(draft.note) or None, model_id=logged.model_id
        )
        return int(version.version)


def check_name(name: str) -> str:
    """The name, when MLflow and an address such as NAME@ALIAS can hold it. Raises BadInput."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadInput(f"{name!r:.80} cannot be a name. Use letters a-z, digits, _, - and . (at most 200, no spaces, slashes or @).")
    return name


@contextmanager
def _finished(client: Any, model_id: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        client.finalize_logged_model(model_id, "FAILED")
        raise
    client.finalize_logged_model(model_id, "READY")


def _create_name(client: Any, draft: Version) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(draft.name, tags={KIND_TAG: draft.kind})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _short(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if name != BODY_TAG}  # a logged model's tags hold less


def _name(found: Any, kind: str = "") -> Name:
    tags = found.tags or {}  # without MLflow's own: they do not tell a prompt
    kind = kind or tags.get(KIND_TAG, "model")
    latest = max((int(item.version) for item in found.latest_versions or ()), default=0)
    heads = [(key.removeprefix(HEAD_TAG), *value.split(":")) for key, value in sorted(tags.items()) if key.startswith(HEAD_TAG)]
    seen = tuple(Head(head[1], int(head[2]), head[3], head[0]) for head in heads if len(head) == 4 and head[2].isdecimal())
    return Name(found.name, kind, latest, {alias: int(version) for alias, version in sorted((found.aliases or {}).items())}, seen)


def _version(found: Any, kind: str) -> Version:
    tags = found.tags or {}
    try:
        body = json.loads(tags.get(BODY_TAG) or "{}")
    except ValueError:
        body = {}
    return Version(
        name=found.name,
        version=int(found.version),
        kind=kind,
        digest=tags.get(HASH_TAG, ""),
        body=body,
        author=tags.get(AUTHOR_TAG) or found.user_id or "",
        note=(found.commit_message if kind == "prompt" else found.description) or "",
        created=datetime.fromtimestamp((found.creation_timestamp or 0) / 1000, UTC),
        retired=tags.get(RETIRED_TAG, ""),
        source=getattr(found, "source", "") or "",
        run_id=getattr(found, "run_id", "") or "",
    )
