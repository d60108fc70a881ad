"""When a candidate may take a champion's place: the rule of a gate and the record of what it found. No store, no model.

A suite passes on its verdict, never on a mean:

- ``better`` passes; ``equivalent`` passes (the verdict showed the difference inside the margin).
- ``inconclusive`` passes only where a margin was given and the whole interval lies on its good side: whatever the difference is, it
  is no loss beyond the margin. Otherwise it fails, and the reason says how many rows would settle it.
- ``worse`` fails, also when the loss is smaller than the margin.
- A floor, where one is set, must be cleared by the lower end of the candidate's own interval (the upper end, where less is better).
- Without a champion a suite needs a floor. Without either nothing was compared: that fails, unless it is a first release.
- Too few rows, or too large a share of rows without a score, fail whatever the verdict says.

All suites must pass, so no suite's level is shared out among the others: a bad candidate has to be lucky in every one of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmops_lab.records import Verdict, digest, nan_as_null

_SAME = "candidate and champion are the same prompt, model and parameters, so there is nothing to find: "
NAMED = 10
"""As many rows without a score are named in a reason; the record holds more of them."""


@dataclass(frozen=True, slots=True)
class Side:
    """What stood at the gate. ``digest`` is its content: a model's identity, a prompt's SHA-256 or a bundle's digest.

    ``registered`` and ``version`` say where it is in the registry, when it was named from there.
    """

    kind: str
    name: str
    digest: str
    registered: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """What a suite asks for. ``max_missing`` is the largest share of rows without a score on either side that is borne."""

    name: str
    scorer: str
    margin: float | None = None
    floor: float | None = None
    min_rows: int = 20
    max_missing: float = 0.05


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found on a suite's rows: the verdict against the champion (None without one), and the candidate's own mean and interval.

    Of all ``rows``, ``scored`` have a score on both sides and ``lost`` have not; ``missing`` names the first of these. ``data`` is the
    rows' digest; ``same``: both sides were one prompt, one model and one set of parameters. By side: ``prompts`` and ``models`` that
    were asked, the ``grids`` and their MLflow ``runs``.
    """

    rows: int
    scored: int
    verdict: Verdict | None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True
    lost: int = 0
    missing: Sequence[str] = ()
    source: str = ""
    data: str = ""
    same: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[str, str] = field(default_factory=dict)
    grids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """How a suite ended, why, and all that it rests on."""

    suite: Suite
    measured: Measured
    passed: bool
    reason: str

    @property
    def outcome(self) -> str:
        """The verdict's outcome; ``unscored`` where no row has a score; ``floor`` or ``nothing`` where there was no champion."""
        if self.measured.verdict is not None:
            return self.measured.verdict.outcome
        if not self.measured.scored:
            return "unscored"
        return "nothing" if self.suite.floor is None else "floor"


@dataclass(frozen=True, slots=True)
class GateResult:
    """What a gate found, to be kept as evidence. ``alias`` is the release it was for; ``missing`` the required suites that were not run."""

    candidate: Side
    champion: Side | None
    suites: tuple[SuiteResult, ...]
    alias: str = ""
    missing: tuple[str, ...] = ()
    when: str = ""
    job: str = ""

    @property
    def passed(self) -> bool:
        """Whether every suite passed, and none that is required is missing."""
        return bool(self.suites) and not self.missing and all(each.passed for each in self.suites)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it failed, a line for each suite that did; empty when it passed."""
        failed = [f"{each.suite.name}: {each.reason}" for each in self.suites if not each.passed]
        absent = [f"{name}: this suite is required{self._required_for} and was not run" for name in self.missing]
        return (*failed, *absent)

    @property
    def _required_for(self) -> str:
        return f" for {self.alias}" if self.alias else ""

    @property
    def digest(self) -> str:
        """The digest of the candidate: the content that this result speaks for."""
        return self.candidate.digest

    @property
    def sha256(self) -> str:
        """SHA-256 of all that the record holds."""
        return digest(nan_as_null(self))


def to_dict(result: GateResult) -> dict[str, Any]:
    """The record as plain data, for a store; what follows from it (passed, reasons, sha256) stands beside it for readers."""
    return {**nan_as_null(result), "passed": result.passed, "reasons": list(result.reasons), "sha256": result.sha256}


def from_dict(data: Mapping[str, Any]) -> GateResult:
    """The record that ``to_dict`` gave. What follows from it is worked out again, never read."""
    champion = Side(**data["champion"]) if data["champion"] else None
    suites = tuple(_suite(each) for each in data["suites"])
    plain = {name: str(data[name]) for name in ("alias", "when", "job")}
    return GateResult(Side(**data["candidate"]), champion, suites, missing=tuple(data["missing"]), **plain)


def _suite(data: Mapping[str, Any]) -> SuiteResult:
    measured = dict(data["measured"])
    said = measured.pop("verdict")
    if said:  # an open end of its interval
        said = {**said, "ci_low": -math.inf if said["ci_low"] is None else said["ci_low"]}
        said["ci_high"] = math.inf if said["ci_high"] is None else said["ci_high"]
    found = Measured(verdict=Verdict(**said) if said else None, **{**measured, "missing": tuple(measured["missing"])})
    return SuiteResult(Suite(**data["suite"]), found, bool(data["passed"]), str(data["reason"]))


def decide(suite: Suite, found: Measured, *, first_release: bool = False) -> SuiteResult:
    """Apply the rule to one suite."""
    for reason in (_too_few(suite, found), _too_many_missing(suite, found), _below_floor(suite, found)):
        if reason:
            return SuiteResult(suite, found, False, reason)
    if found.verdict is not None:
        passed, reason = _by_verdict(found.verdict)
    elif suite.floor is not None:
        passed, reason = True, f"{_own(suite, found)} clears the floor of {suite.floor:g}; there is no champion to compare with"
    elif first_release:
        passed, reason = True, f"first release: there was nothing to compare with; {_own(suite, found)}"
    else:
        passed, reason = False, "there was nothing to compare with: no champion and no floor. Set floor=..., or say first_release=True"
    return SuiteResult(suite, found, passed, f"{_SAME}{reason}" if found.same else reason)


def _by_verdict(verdict: Verdict) -> tuple[bool, str]:
    from llmops_lab.stats.verdict import sentence

    said = sentence(verdict)
    if verdict.outcome in ("better", "equivalent"):
        return True, said
    if verdict.outcome == "inconclusive" and not_worse(verdict):
        return True, f"not worse by more than the margin of {verdict.margin:g}, whatever the difference is: {said}"
    if verdict.outcome == "inconclusive" and verdict.margin is None:
        return False, f"{said}. Without a margin only better passes: set margin=... to the largest loss that does not matter"
    return False, said


def not_worse(verdict: Verdict) -> bool:
    """Whether the whole interval lies on the good side of the margin: the loss, if there is one, is smaller."""
    if verdict.margin is None:
        return False
    return verdict.ci_low > -verdict.margin if verdict.higher_is_better else verdict.ci_high < verdict.margin


def _too_few(suite: Suite, found: Measured) -> str:
    if found.scored >= suite.min_rows:
        return ""
    return f"{found.scored:,} rows have a score and {suite.min_rows:,} are asked for (min_rows){_named(found)}"


def _too_many_missing(suite: Suite, found: Measured) -> str:
    lost = found.lost
    if lost <= suite.max_missing * found.rows:
        return ""
    borne = f"{suite.max_missing:.0%}" if suite.max_missing >= 0.01 or not suite.max_missing else f"{suite.max_missing:g}"
    return f"{lost:,} of {found.rows:,} rows could not be scored on both sides, more than the {borne} that is borne{_named(found)}"


def _named(found: Measured) -> str:
    if not found.missing:
        return ""
    more = found.lost - NAMED
    return f"; without a score: {', '.join(found.missing[:NAMED])}{f' and {more:,} more' if more > 0 else ''}"


def _below_floor(suite: Suite, found: Measured) -> str:
    if suite.floor is None:
        return ""
    bound = found.low if found.higher_is_better else found.high
    cleared = bound is not None and (bound >= suite.floor if found.higher_is_better else bound <= suite.floor)
    end = "lower" if found.higher_is_better else "upper"
    return "" if cleared else f"the {end} end of {_own(suite, found)} does not clear the floor of {suite.floor:g}"


def _own(suite: Suite, found: Measured) -> str:
    if found.mean is None or found.low is None or found.high is None:
        return f"its own {suite.scorer} (no score)"
    return f"its own {suite.scorer} of {found.mean:.3g} [{found.low:.3g}, {found.high:.3g}] on {found.scored:,} rows"


def counts(result: GateResult, *, digest: str, required: Iterable[str] = (), present: Side | None = None) -> str:
    """Why this result does not let the content with that digest through; empty when it does.

    ``required``: suites that must be in it. ``present``: what the alias points at now, where that is other content.
    """
    if not result.passed:
        return f"the gate failed: {'; '.join(result.reasons) or 'it had no suite'}"
    if result.digest != digest:
        return f"the gate passed for other content ({result.digest[:20]}, not {digest[:20]})"
    if present is not None and (stale := _stale(result, present)):
        return stale
    absent = [name for name in required if name not in {each.suite.name for each in result.suites}]
    return f"the gate lacks suites that settings require: {', '.join(absent)}" if absent else ""


def _stale(result: GateResult, present: Side) -> str:
    if any(each.outcome == "nothing" for each in result.suites):
        return f"its gate was that of a first release, which compares nothing, and the alias is at {present.name}"
    if result.champion is None:
        return f"its gate had no champion, and the alias is at {present.name}"
    if result.champion.digest != present.digest:
        return f"its gate compared it with {result.champion.name}, and the alias is at {present.name} now"
    return ""
