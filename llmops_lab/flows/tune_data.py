"""What a tuning job reads before it starts: files of rows as examples, parts held out where no file is named, and leaks between them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.escapes import inert
from llmops_lab.grids.rows import read_rows
from llmops_lab.training import data, leaks
from llmops_lab.training.data import Examples
from llmops_lab.training.leaks import Leaks

_DEEDS = ("stop", "drop", "keep")
HELD_OUT = 0.1
"""Share of the training rows that is held out for a set that no file is named for."""
NO_FILE = "no file of training rows was named. Give data=PATH: a .jsonl or .csv with the columns 'prompt' and 'completion'."
_CURE = "Mend the files, or leave those rows out of the training (leaks='drop'), or go on with them (leaks='keep')."


@dataclass(frozen=True)
class Sets:
    """The sets of a tuning. ``general`` are rows of what the base can do already, ``replay`` such rows that are trained on as well."""

    train: Examples
    validation: Examples
    test: Examples
    general: Examples | None
    replay: Examples | None
    leaks: tuple[Leaks, ...]

    def __str__(self) -> str:
        named = {"training": self.train, "replay": self.replay, "validation": self.validation, "test": self.test, "general": self.general}
        lines = [f"{name:<11}{len(each):>7,} rows  {each.digest[:12]}  {inert(each.source)}" for name, each in named.items() if each]
        missing = [] if self.general else ["forgetting will not be checked: no second set was named (general=...)"]
        return "\n".join([*lines, *(f"leak check, {inert(str(each))}" for each in self.leaks), *missing])


def examine(path: str | Path) -> Examples:
    """The examples in a file (.jsonl .csv .tsv .json .parquet). Raises BadInput for a file, a row or columns that will not do."""
    if not str(path).strip():
        raise BadInput(NO_FILE)
    rows = read_rows(path)
    return data.read(rows.items, rows.source, rows.ids)


def read_sets(
    train: str | Path, *, validation: str | Path = "", test: str | Path = "", general: str | Path = "", replay: str | Path = "",
    seed: int = 7, leaked: str = "stop",
) -> Sets:  # fmt: skip
    """Read every set; a tenth of the training rows is held out for each of ``validation`` and ``test`` where no file is named.

    ``leaked`` says what happens when a held-out question is also among the training rows, word for word: ``stop`` (BadInput), ``drop``
    (it is not trained on) or ``keep``. Near duplicates are named and stay. Raises BadInput for anything that is wrong with a file.
    """
    if leaked not in _DEEDS:
        raise UnknownName("deed for leaks", leaked, _DEEDS)
    rows = examine(train)
    named = {name: examine(path) for name, path in (("test", test), ("validation", validation)) if str(path)}
    for name in ("test", "validation"):
        if name not in named:
            rows, named[name] = data.split(rows, HELD_OUT, seed)
    more = {name: examine(path) if str(path) else None for name, path in (("general", general), ("replay", replay))}
    trained = leaks.Trained(data.mix(rows, more["replay"], seed))
    found = []
    for name, each in (*named.items(), ("general", more["general"])):
        if each is None:
            continue
        found.append(trained.met(each, name))
        if found[-1].exact and leaked == "drop":
            rows = leaks.without(rows, found[-1])
            more["replay"] = leaks.without(more["replay"], found[-1]) if more["replay"] else None
            found[-1] = dataclasses.replace(found[-1], dropped=True)
        elif found[-1].exact and leaked == "stop":
            raise BadInput(f"leak check, {found[-1]}. A verdict on them would flatter. {_CURE}")
    if not rows.items:
        raise BadInput(f"{rows.source}: every row is also held out, so nothing is left to learn from.")
    return Sets(rows, named["validation"], named["test"], more["general"], more["replay"], tuple(found))
