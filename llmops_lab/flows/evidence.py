"""The gate that lets a version go to an alias: it passed, for this content, against what the alias points at now, on the rows of today."""

from __future__ import annotations

from pathlib import Path

from llmops_lab.errors import BadInput, GateFailed
from llmops_lab.escapes import inert
from llmops_lab.flows.gate import required
from llmops_lab.flows.resolve import Resolved, resolve
from llmops_lab.governance.gate import GateResult, Side, counts, from_dict
from llmops_lab.governance.release import gates_of
from llmops_lab.grids.rows import READABLE, read_rows
from llmops_lab.settings import Settings
from llmops_lab.store import audit
from llmops_lab.store.audit import Entry
from llmops_lab.store.ledger import Ledger
from llmops_lab.track.registry import Registry


def evidence(version: Resolved, alias: str, now: int | None, *, ledger: Ledger, settings: Settings) -> Entry:
    """The newest gate that counts for the alias, which is at version ``now``. A failed one takes back what those before it allowed.

    Raises GateFailed with what is wrong with the newest one, and how to hold it again.
    """
    present = _present(version, now, settings)
    needed = required(settings, alias)
    refused = ""
    for entry in gates_of(audit.entries(ledger, name=version.name), version.digest):
        result = from_dict(entry.body["result"])
        why = counts(result, digest=version.digest, required=needed, present=present) or _other_rows(result, needed)
        if not why:
            return entry
        refused = refused or f"{version.address} cannot go to {alias}: {why} (audit entry {entry.seq}, {entry.at[:19]} UTC)."
        if not result.passed:
            break
    refused = refused or f"{version.address} has passed no gate, and {alias} asks for one."
    raise GateFailed(f"{refused} Hold it: {_how(version, alias, present, needed)}")


def _present(version: Resolved, now: int | None, settings: Settings) -> Side | None:
    """What the alias points at, to be compared with a gate's champion; None where that is nothing, or the version itself."""
    if now is None or now == version.version:
        return None
    held = Registry(settings).get(version.name, now)
    content = held.digest or resolve(version.name, now, settings).digest  # another tool's version has no digest of its own
    return Side(version.kind, f"{version.name}/{now}", content, version.name, str(now))


def _other_rows(result: GateResult, needed: list[str]) -> str:
    """Which required suite has other rows by now, as far as they lie in a file that is here."""
    for each in result.suites:
        path = Path(each.measured.source)
        if each.suite.name not in needed or path.suffix.lower() not in READABLE or not path.is_file():
            continue
        try:
            now = read_rows(path).digest
        except BadInput as error:
            return f"the rows of the suite {each.suite.name} cannot be read any more: {error}"
        if now != each.measured.data:
            before = each.measured.data[:12]
            return f"its gate was held on other rows of the suite {each.suite.name}: {path} is {now[:12]} now and was {before} then"
    return ""


def _how(version: Resolved, alias: str, present: Side | None, needed: list[str]) -> str:
    against = f" -p champion={version.name}@{alias}" if present else ""
    suites = f" (with the suites {', '.join(needed)})" if needed else ""
    return inert(f"llmops-lab run gate -p candidate={version.address}{against} -p alias={alias} -p data=...{suites}")
