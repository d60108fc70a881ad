"""A small grid of hyperparameters: the recipes to try, each trained once, and which of them won, if any did."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, LabError, UnknownName
from llmops_lab.flows.tune import Planned, Tuned, model_of, recipe_for, tune
from llmops_lab.records import Verdict
from llmops_lab.store.whole import replacing
from llmops_lab.training import sft
from llmops_lab.training.sft import Recipe


@dataclass(frozen=True)
class Settled:
    """How a sweep ended. ``leader`` has the best mean; ``level`` are those that no verdict sets apart from it, the leader first.

    ``gained``: whether a verdict says that the leader is better than the base; None where the base was not asked.
    """

    leader: str
    level: tuple[str, ...]
    beaten: tuple[str, ...]
    gained: bool | None = None

    @property
    def winner(self) -> str | None:
        """The leader where every other is worse by a verdict; else None."""
        return None if len(self.level) > 1 else self.leader

    def __str__(self) -> str:
        told = {None: "", True: " It is better than the base.", False: f" No verdict says that {self.leader} is better than the base."}
        return self._among_themselves() + told[self.gained]

    def _among_themselves(self) -> str:
        if not self.beaten and len(self.level) == 1:
            return f"{self.leader} is the only one that came to its end."
        if self.winner:
            return f"{self.winner} won: each of the other {len(self.beaten)} is worse by its verdict."
        others = ", ".join(self.level[1:])
        beaten = f" Worse by their verdicts: {', '.join(self.beaten)}." if self.beaten else ""
        every = "None is distinguishable from the others" if not self.beaten else "There is no winner"
        best = f"{every}: {self.leader} has the best mean, and no verdict sets it apart from {others}."
        return f"{best}{beaten} Take the cheapest of these, or ask more rows."


def recipes(base: str, tried: Mapping[str, Sequence[Any]], *, most: int = 12, **common: Any) -> dict[str, Recipe]:
    """Every combination of the values in ``tried`` (field of the recipe -> values) by a label that tells it.

    Raises UnknownName for a field that no recipe has, BadInput for no values or more than ``most`` combinations.
    """
    fields = [field.name for field in dataclasses.fields(Recipe)]
    for name, values in tried.items():
        if name not in fields:
            raise UnknownName("field of a recipe", name, fields)
        if not isinstance(values, list | tuple) or not values:
            raise BadInput(f"{name}: give the values to try as a list, not {values!r}.")
    found = list(itertools.product(*tried.values()))
    if not 2 <= len(found) <= most:
        raise BadInput(f"the grid has {len(found)} combinations; a sweep takes 2 to {most} (most={most}). Each is a training of its own.")
    return {
        " ".join(f"{name}={value}" for name, value in zip(tried, values, strict=True)): recipe_for(
            base, **{**common, **dict(zip(tried, values, strict=True))}
        )
        for values in found
    }


def leader_of(means: Mapping[str, float], *, higher_is_better: bool = True) -> str:
    """The label with the best mean; of equal ones the first."""
    return (max if higher_is_better else min)(means, key=lambda label: means[label])


def settled(leader: str, labels: Sequence[str], verdicts: Sequence[Verdict], *, base: str = "") -> Settled:
    """Who won, of ``verdicts`` that judge every other label against the leader, the chance of any false one being held."""
    beaten = {each.b for each in verdicts if each.outcome == "worse"}
    level = [label for label in labels if label != leader and label not in beaten]
    gained = base in beaten if any(each.b == base for each in verdicts) else None
    return Settled(leader, (leader, *level), tuple(label for label in labels if label in beaten), gained)


def trained(
    planned: Mapping[str, Planned], *, resume: bool = True, tell: Callable[[str], object] = print
) -> tuple[dict[str, Tuned], dict[str, str]]:
    """(every tuned model by its label, why the others failed); with ``resume`` what an earlier sweep trained is not trained again.

    ``tell`` gets a line for each. Raises LabError when none came to its end.
    """
    done, failed = dict[str, Tuned](), dict[str, str]()
    for label, each in planned.items():
        before = _kept(each) if resume else None
        try:
            done[label] = before or tune(each, resume=resume)
        except Exception as error:  # a recipe that goes astray, or takes too much memory, is a finding: the others go on
            failed[label] = f"{type(error).__name__}: {error}"
            tell(f"{label}: failed, the others go on. {failed[label]}")
            continue
        _keep(each, done[label])
        took = done[label].trained
        ended = "trained by an earlier sweep" if before else f"{took.last_step} steps, {took.seconds:.0f} s"
        tell(f"{label}: validation loss {took.best:.4f}, {ended}")
    if not done:
        raise LabError(f"no training came to its end. {'; '.join(f'{label}: {why}' for label, why in failed.items())}")
    return done, failed


def _note(planned: Planned) -> Path:
    return planned.work.parent.parent / "tuned" / "trials" / f"{planned.key}.json"


def _keep(planned: Planned, tuned: Tuned) -> None:
    note = _note(planned)
    note.parent.mkdir(parents=True, exist_ok=True)
    with replacing(note) as draft:
        draft.write_text(json.dumps(dataclasses.asdict(tuned.trained), default=str), "utf-8")


def _kept(planned: Planned) -> Tuned | None:
    """What an earlier sweep trained by this very plan; None where its weights are gone or not the same any more."""
    try:
        made = sft.restored(json.loads(_note(planned).read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if sft.weights_digest(made.folder) != made.digest:
        return None
    return Tuned(model_of(planned, made.folder), made.folder, made.digest, made, planned)
