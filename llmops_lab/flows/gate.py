"""A candidate stands at the gate: each suite's two grids become a verdict, the rule decides, and what it found is kept as evidence."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_lab.errors import BadInput
from llmops_lab.flows import compare as comparing
from llmops_lab.flows.audit import mark, person
from llmops_lab.flows.deliver import deliver
from llmops_lab.flows.resolve import resolve
from llmops_lab.governance.gate import GateResult, Measured, Side, Suite, decide, to_dict
from llmops_lab.models._ask import open_model
from llmops_lab.records import Verdict, nan_as_null
from llmops_lab.redact import Redactor
from llmops_lab.settings import Settings
from llmops_lab.store import audit
from llmops_lab.store.ledger import Ledger
from llmops_lab.track.registry import Registry

_KEPT = 100  # rows without a score that the record names


@dataclass(frozen=True)
class Asked:
    """One side's grid of a suite, ended: its cells, how it was asked, and where it is.

    ``called``: row id -> what a message calls the row.
    """

    grid: str
    run_id: str | None
    cells: Sequence[Mapping[str, Any]]
    plan: Mapping[str, Any]
    called: Mapping[str, str]


@dataclass(frozen=True)
class Ran:
    """A suite and the grids of both sides on the same rows; ``champion`` is None where there is none yet."""

    suite: Suite
    candidate: Asked
    champion: Asked | None


def gate(
    ran: Sequence[Ran], candidate: Side, champion: Side | None, *, ledger: Ledger, settings: Settings,
    alias: str = "", alpha: float = 0.05, first_release: bool = False,
) -> GateResult:  # fmt: skip
    """Decide on what was asked, keep the evidence, and tell MLflow. Raises DoesNotPair, and BadInput for a scorer without a direction."""
    names = (champion.name if champion else "", candidate.name)
    if names[0] == names[1]:
        names = (f"{names[0]} (champion)", f"{names[1]} (candidate)")
    decided = tuple(decide(each.suite, measure(each, names, alpha), first_release=first_release) for each in ran)
    asked = {each.suite.name for each in ran}
    result = GateResult(
        candidate, champion, decided, alias,
        missing=tuple(name for name in required(settings, alias) if name not in asked),
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        job=os.environ.get("LLMOPS_LAB_JOB", ""),
    )  # fmt: skip
    keep(result, ledger, settings)
    return result


def required(settings: Settings, alias: str) -> list[str]:
    """The suites that settings require for this alias: ``[tool.llmops_lab.gates]``, alias = list of names. Raises BadInput."""
    named = settings.gates.get(alias, ()) if alias else ()
    if isinstance(named, str) or not isinstance(named, Sequence) or not all(isinstance(each, str) for each in named):
        raise BadInput(f"[tool.llmops_lab.gates] {alias} is a list of suites' names, such as ['support', 'safety'], not {named!r}.")
    return list(named)


def measure(ran: Ran, names: tuple[str, str], alpha: float) -> Measured:
    """What a suite's grids say: the verdict, the candidate's own mean with its interval, and which rows could not be scored."""
    from llmops_lab.stats.intervals import mean_interval

    scorer, sides = ran.suite.scorer, {"candidate": ran.candidate, **({"champion": ran.champion} if ran.champion else {})}
    judge = next(each for each in ran.candidate.plan["judges"] if each["name"] == scorer)
    up = comparing.direction(judge)
    rows = list(dict.fromkeys(cell["row_id"] for cell in ran.candidate.cells))
    lost = _unscored(rows, scorer, sides)
    paired = ran.champion if len(lost) < len(rows) else None  # where no row has two scores there is nothing to compare: that fails
    verdict = _verdict(ran.candidate, paired, judge, names, ran.suite.margin, alpha) if paired else None
    own = [(float(cell[scorer]), cell["row_id"]) for cell in ran.candidate.cells if cell[scorer] is not None]
    found = mean_interval([value for value, _ in own], alpha=alpha) if own else None
    dataset = ran.candidate.plan["dataset"]
    return Measured(
        rows=len(rows), scored=len(rows) - len(lost), verdict=verdict, higher_is_better=up, missing=tuple(lost[:_KEPT]), lost=len(lost),
        mean=found.value if found else None, low=nan_as_null(found.low) if found else None, high=nan_as_null(found.high) if found else None,
        source=_place(str(dataset["source"])), data=str(dataset["digest"]),
        prompts={side: str(asked.plan["prompts"][0]["sha256"]) for side, asked in sides.items()},
        models={side: str(asked.plan["models"][0]["identity"]) for side, asked in sides.items()},
        same=ran.champion is not None and _asked_of(ran.candidate) == _asked_of(ran.champion),
        runs={side: asked.run_id for side, asked in sides.items() if asked.run_id},
        grids={side: asked.grid for side, asked in sides.items()},
    )  # fmt: skip


def _asked_of(side: Asked) -> tuple[Any, ...]:
    prompt, model = side.plan["prompts"][0], side.plan["models"][0]
    return prompt["sha256"], model["identity"], model["params"], side.plan["params"]


def _verdict(
    candidate: Asked, champion: Asked, judge: Mapping[str, Any], names: tuple[str, str], margin: float | None, alpha: float
) -> Verdict:
    comparing.check_answers(champion.plan["dataset"], candidate.plan["dataset"])
    return comparing.compare(champion.cells, candidate.cells, judge=judge, names=names, alpha=alpha, margin=margin)


def _unscored(rows: Sequence[str], scorer: str, sides: Mapping[str, Asked]) -> list[str]:
    scored = {side: {cell["row_id"] for cell in asked.cells if cell[scorer] is not None} for side, asked in sides.items()}
    called = sides["candidate"].called
    return [called.get(row, row) for row in rows if not all(row in there for there in scored.values())]


def _place(source: str) -> str:
    return os.path.abspath(source) if os.path.isfile(source) else source  # a promotion looks at it from another folder


def keep(result: GateResult, ledger: Ledger, settings: Settings) -> None:
    """Put the result into the audit log, where a promotion looks for it, and on the MLflow runs of its grids."""
    record(result, ledger, settings)
    grids = [grid for each in result.suites for grid in each.measured.grids.values()]
    ledger.outbox_add("gate", {"gate": Redactor().tree(to_dict(result)), "grids": grids, "experiment": settings.experiment})
    deliver(ledger, settings)


def record(result: GateResult, ledger: Ledger, settings: Settings) -> None:
    """Add the result to the audit log, under the registered name and version of its candidate where it has them."""
    side = result.candidate
    run_id = next((run for each in result.suites for run in each.measured.runs.values()), "")
    body: dict[str, Any] = {
        "name": side.registered,
        "version": int(side.version) if side.version else None,
        "digest": side.digest,
        "alias": result.alias,
    }
    body |= {"passed": result.passed, "reason": "; ".join(result.reasons), "run_id": run_id, "result": to_dict(result)}
    entry = audit.append(ledger, "gate", person(settings), body)
    if side.registered:
        mark(ledger, Registry(settings), entry)


def file(result: GateResult, name: str, version: int | str, *, ledger: Ledger, settings: Settings) -> GateResult:
    """Record the result for a registered version too, once that version is seen to be what stood at the gate. Raises BadInput."""
    found = resolve(name, version, settings)
    content = open_model(found.model, settings).identity if found.kind == "model" else found.digest
    if result.digest not in (content, found.digest):
        raise BadInput(
            f"{found.address} is not what stood at the gate as {result.candidate.name}: its content is {content[:24]}, and that was "
            f"{result.digest[:24]}. Let {found.address} stand at the gate itself."
        )
    side = dataclasses.replace(result.candidate, digest=found.digest, registered=found.name, version=str(found.version))
    filed = dataclasses.replace(result, candidate=side)
    record(filed, ledger, settings)
    return filed
