"""The grid as a table that a person looks through: pages of its cells, figures, one cell whole, and what can be done with cells."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmops_lab.api.views import _grid_figures as figuring
from llmops_lab.api.views._grid_cells import Cells, status_name
from llmops_lab.api.views._grid_deeds import queue_names, to_dataset, to_queue, tracking_uri
from llmops_lab.api.views._grid_detail import of_cell, provenance, run_link, shown
from llmops_lab.api.views._grid_page import lines_a_page, page
from llmops_lab.api.views._grid_query import Query, ordered, places, query_from
from llmops_lab.api.views._view import Answer
from llmops_lab.errors import BadInput, StoreError, UnknownName
from llmops_lab.escapes import inert

AT_ONCE = 2_000
"""Cells that are read at once, before the first answer; of more only a part is, and the rest in the background."""
_FRESH_S = 0.4
_WATCH_S = 0.5
_KEPT_ORDERS = 8


class GridView:
    """The view of one grid: ``handle`` is what a person holds of it (``api.grid.Grid`` or ``api.logged.LoggedGrid``)."""

    name = "grid"

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._judges, self._scorers = handle.judges, handle.scorers
        self._source = handle._source()
        self._wanted = _wanted(handle.plan)
        self._lock = threading.RLock()
        self._cells: Cells | None = None
        self._building: threading.Thread | None = None
        self._share, self._broken = 0.0, ""
        self._version, self._looked = 0, 0.0
        self._orders: dict[Any, Any] = {}
        self._columns: dict[str, list[Any]] | None = None
        self._verdict: tuple[str, dict[str, Any]] | None = None
        self._methods: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
            "open": self._open,
            "standing": lambda _: Answer(self._standing()),
            "page": self._page,
            "summary": self._summary,
            "groups": self._groups,
            "cell": self._cell,
            "select": self._select,
            "again": self._again,
            "cancel": self._cancel,
            "resume": self._resume,
            "dataset": self._dataset,
            "queues": self._queues,
            "queue": self._queue,
        }

    def _ipython_display_(self) -> None:
        self._handle._display_again()

    # -- the protocol ------------------------------------------------------------------------------------------------------
    def call(self, method: str, params: Mapping[str, Any], *, user: str) -> Answer:
        """Answer one call. Raises LabError; UnknownName for a method that is not there."""
        if method not in self._methods:
            raise UnknownName("method of the grid's view", method, self._methods)
        return self._methods[method](params)

    def listen(self, push: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Tell ``push`` whenever something changed, as ``standing`` says it, until what this returns is called."""
        stopped = threading.Event()
        threading.Thread(target=self._watch, args=(push, stopped), name="llmops_lab-grid-view", daemon=True).start()

        def stop() -> None:
            stopped.set()
            self._handle._stir()

        return stop

    def page(self) -> tuple[str, str]:
        """The static twin as (text/plain, text/html): figures, how it ended, and the first cells."""
        from llmops_lab.api.views._grid_static import twin

        return twin(self._handle, self._source, self._scorers)

    def recorded(self) -> tuple[dict[str, Any], list[bytes]]:
        """(answers, buffers) for a page without a kernel. Raises BadInput for a grid that is too large for one."""
        from llmops_lab.api.views._grid_recorded import recorded

        return recorded(self)

    def _watch(self, push: Callable[[dict[str, Any]], None], stopped: threading.Event) -> None:
        told: dict[str, Any] = {}
        while not stopped.is_set():
            try:
                standing = self._standing(now=True)
            except StoreError:  # a ledger that is away for a moment ends no view: whoever asks meanwhile is told
                stopped.wait(_WATCH_S)
                continue
            if standing != told:
                told = standing
                push(standing)
            if standing["state"] == "running" or self._building is not None:
                stopped.wait(_WATCH_S)
            else:
                self._handle._wait_for_work(stopped)

    # -- reading -----------------------------------------------------------------------------------------------------------
    def _ready(self, *, now: bool = False) -> Cells | None:
        """The cells, brought up to date (a moment may have passed, unless ``now``); None while they are still being read."""
        with self._lock:
            if self._cells is None:
                self._begin_to_read()
            cells = self._cells
            if cells is not None and (now or time.monotonic() - self._looked > _FRESH_S):
                self._looked = time.monotonic()
                if self._source.refresh(cells):
                    self._version += 1
                    self._orders.clear()
            return cells

    def _begin_to_read(self) -> None:
        if self._building is not None or self._broken:
            return
        if self._source.size() <= AT_ONCE:
            self._take(self._source.build(lambda _: None))
            return
        # Not a daemon: an interpreter that ends while numpy works in such a thread ends with an abort.
        self._building = threading.Thread(target=self._read, name="llmops_lab-grid-read", daemon=False)
        self._building.start()

    def _read(self) -> None:
        try:
            time.sleep(0.25)  # whoever asked first is served first
            cells = self._source.build(self._tell)
            cells.asked = [_asked(row, self._wanted) for row in self._in_order(cells)]
            self._take(cells, figuring.verdict(cells, self._judges, self._handle.state))
            self._handle._keep_figures(cells)
        except Exception as error:  # told where somebody waits for the cells; this thread has no caller
            self._broken = f"the cells could not be read: {type(error).__name__}: {error}"
        finally:
            self._building = None

    def _in_order(self, cells: Cells) -> list[Mapping[str, Any] | None]:
        found = dict(self._source.rows())
        return [found.get(row) for row in cells.row_ids]

    def _tell(self, share: float) -> None:
        if not threading.main_thread().is_alive():
            raise InterruptedError("the interpreter is ending")
        self._share = share

    def _take(self, cells: Cells, verdict: dict[str, Any] | None = None) -> None:
        with self._lock:
            self._cells, self._looked = cells, time.monotonic()
            self._version += 1
            self._verdict = None if verdict is None else (self._mark(), verdict)
            self._share = 1.0
            self._orders.clear()

    def _whole(self) -> Cells:
        """The cells, waited for a moment. Raises BadInput while they are still being read."""
        cells = self._ready()
        if cells is None:
            raise BadInput(self._broken or f"the cells are still being read ({self._share:.0%}). Try again in a moment.")
        return cells

    def _rows(self, cells: Cells) -> dict[str, list[Any]]:
        """Column -> value of each row, read once. Empty where the rows are not at hand."""
        with self._lock:
            if self._columns is None:
                rows = self._in_order(cells)
                names = [name for name in dict.fromkeys(name for row in rows if row for name in row) if name != "id"]
                self._columns = {name: [row.get(name) if row else None for row in rows] for name in names}
            return self._columns

    def _every_asked(self, cells: Cells) -> Sequence[str]:
        if cells.asked is None:
            cells.asked = [_asked(row, self._wanted) for row in self._in_order(cells)]
        return cells.asked

    def _labels(self, cells: Cells, column: str) -> list[str]:
        """The group of every cell in a column."""
        own: dict[str, Callable[[], list[str]]] = {
            "prompt": lambda: [inert(cells.variants[number][0]) for number in cells.variant],
            "model": lambda: [inert(cells.variants[number][1]) for number in cells.variant],
            "status": lambda: [status_name(code, self._handle.state) for code in cells.status],
            "finish reason": lambda: [figuring.label(name) for name in cells.finish],
        }
        columns = self._rows(cells)
        if column in columns:
            of_row = figuring.labels_of(columns[column])
            return [of_row[row] for row in cells.row]
        if column not in own:
            raise UnknownName("column to group by", column, [*columns, *own])
        return own[column]()

    def _query(self, given: Any, cells: Cells) -> Query:
        return query_from(given, self._scorers, len(cells.variants))

    def _found(self, cells: Cells, query: Query) -> Any:
        return places(cells, query, lambda column: self._labels(cells, column), lambda: self._every_asked(cells))

    def _order(self, cells: Cells, query: Query) -> tuple[Any, Any, Any]:
        """(cells found, cells in order, starts of the lines); the last few are kept."""
        if query not in self._orders:
            found = self._found(cells, query)
            while len(self._orders) >= _KEPT_ORDERS:
                self._orders.pop(next(iter(self._orders)))
            self._orders[query] = (found, *ordered(cells, query, found))
        made: tuple[Any, Any, Any] = self._orders[query]
        return made

    def _standing(self, *, now: bool = False) -> dict[str, Any]:
        """How the grid stands: its state, counts of its cells, and how far they are read."""
        state = self._handle.state  # before the cells: when it has ended, so has what they are told
        cells = self._ready(now=now)
        counts = cost = None
        if cells is not None:
            counts = cells.counts()
            known = [value for value in cells.numbers["cost_usd"] if not math.isnan(value)]
            cost = sum(known) if known else None
        told = {"state": state, "version": self._version, "ready": cells is not None, "share": round(self._share, 2)}
        total = len(cells) if cells is not None else self._source.size()
        return {**told, "total": total, "counts": counts, "cost": cost, "broken": inert(self._broken), **self._may(state, counts or {})}

    def _may(self, state: str, counts: Mapping[str, int]) -> dict[str, Any]:
        """What the buttons may do, and why not."""
        why = self._handle._why_not_again
        ended = state not in ("running", "planned")
        return {
            "can_cancel": state == "running" and not why,
            "can_resume": ended and (state not in ("done", "decided") or counts.get("failed", 0) > 0) and not why,
            "why": why,
        }

    # -- methods -----------------------------------------------------------------------------------------------------------
    def _open(self, params: Mapping[str, Any]) -> Answer:
        standing, plan = self._standing(), self._handle.plan
        variants = [[each["label"], other["label"]] for each in plan["prompts"] for other in plan["models"]]
        cells = self._cells
        if cells is not None and cells.variants:
            variants = [list(pair) for pair in cells.variants]
        told = {
            **standing,
            "name": inert(self._handle._title),
            "variants": [[inert(prompt), inert(model)] for prompt, model in variants],
            "scorers": [{"name": each["name"], "higher": each["higher_is_better"], "bounds": each["bounds"]} for each in self._judges],
            "columns": [inert(name) for name in plan["dataset"].get("columns", ()) if name != "id"],
            "repeats": int(plan.get("how", {}).get("repeats", 1)),
            "selected": list(self._handle._selection),
        }
        layout = params.get("layout") or ("rows" if 1 < len(variants) <= 4 else "cells")
        first = self._page({"query": {"layout": layout}, "start": 0})
        return Answer({**told, "layout": layout, "page": first.data}, first.buffers)

    def _page(self, params: Mapping[str, Any]) -> Answer:
        cells = self._ready()
        start = max(0, int(params.get("start", 0)))
        if cells is None:
            return self._early_page(params.get("query"), start)
        with self._lock:
            query = self._query(params.get("query"), cells)
            found, flat, borders = self._order(cells, query)
            kept = None
            if query.layout == "rows" and not query.filters_nothing:
                import numpy

                kept = numpy.zeros(len(cells), dtype=bool)
                kept[found] = True
            count = lines_a_page(query.layout, len(cells.variants))
            buffers = page(cells, flat, borders, start, count, kept=kept, asked=lambda rows: self._some_asked(cells, rows))
            told = {"start": start, "size": count, "lines": len(borders) - 1, "cells": len(found), "version": self._version}
        return Answer(told, buffers)

    def _early_page(self, given: Any, start: int) -> Answer:
        """A page before all cells are read: in plan order it is there at once; anything else has to wait."""
        total, plan = self._source.size(), self._handle.plan
        columns = max(1, len(plan["prompts"]) * len(plan["models"]))
        query = query_from(given, self._scorers, columns)
        if self._broken or not query.is_plain:
            raise BadInput(self._broken or f"the cells are still being read ({self._share:.0%}): sorting and filtering begin after that.")
        count, width = lines_a_page(query.layout, columns), 1 if query.layout == "cells" else columns
        some = self._source.stretch(start * width, count * width)
        import numpy

        if query.layout == "cells":
            flat, borders = numpy.arange(len(some)), numpy.arange(len(some) + 1)
        else:
            flat, borders = ordered(some, query, numpy.arange(len(some)))
        lines = -(-total // width)
        buffers = page(some, flat, borders, 0, count, kept=None, asked=lambda rows: self._some_asked(some, rows), shift=start)
        return Answer({"start": start, "size": count, "lines": lines, "cells": total, "version": self._version}, buffers)

    def _some_asked(self, cells: Cells, rows: Sequence[int]) -> Sequence[str]:
        if cells.asked is not None:
            return [cells.asked[row] for row in rows]
        found = dict(self._source.rows([cells.row_ids[row] for row in rows]))
        return [_asked(found.get(cells.row_ids[row]), self._wanted) for row in rows]

    def _summary(self, params: Mapping[str, Any]) -> Answer:
        cells = self._whole()
        with self._lock:
            query = self._query(params.get("query"), cells)
            found = self._order(cells, query)[0]
            scorer = str(params.get("scorer") or (self._scorers[0] if self._scorers else ""))
            if scorer and scorer not in self._scorers:
                raise UnknownName("score column", scorer, self._scorers)
            made = figuring.figures(cells, found, scorer) if scorer else None
            return Answer({"figures": made, "verdict": self._said(cells), "cells": len(found), "version": self._version})

    def _mark(self) -> str:
        return f"{self._version} {self._handle.state}"

    def _said(self, cells: Cells) -> dict[str, Any]:
        mark = self._mark()
        if self._verdict is None or self._verdict[0] != mark:
            self._verdict = (mark, figuring.verdict(cells, self._judges, self._handle.state))
        return self._verdict[1]

    def _groups(self, params: Mapping[str, Any]) -> Answer:
        cells = self._whole()
        with self._lock:
            query = self._query(params.get("query"), cells)
            scorer = str(params.get("scorer") or (self._scorers[0] if self._scorers else ""))
            labels = self._labels(cells, str(params.get("by")))
            return Answer(figuring.grouped(cells, self._order(cells, query)[0], labels, scorer))

    def _cell(self, params: Mapping[str, Any]) -> Answer:
        opened = self._handle._opened(_number(params.get("cell")))
        row = dict(self._source.rows([opened.line["row_id"]])).get(opened.line["row_id"])
        plan = self._handle.plan
        told = of_cell(opened, self._handle._sent(opened, row), row)
        ids = {"MLflow run": self._handle.run_id, "call key": opened.line["key"]}
        told["provenance"] = provenance(plan, opened.line["prompt"], opened.line["model"], ids)
        told["run_link"] = run_link(tracking_uri(), self._handle.run_id)
        expected = plan.get("how", {}).get("expected")
        told["expected"] = shown(row[expected]) if row and expected in row else ""
        return Answer(told)

    def _select(self, params: Mapping[str, Any]) -> Answer:
        """Select these cells, or with ``query`` all that it finds."""
        if "query" in params:
            cells = self._whole()
            with self._lock:
                wanted = [cells.cell[at] for at in self._order(cells, self._query(params["query"], cells))[0].tolist()]
        else:
            wanted = [_number(each) for each in params.get("cells", ())]
        self._handle._selection = wanted
        return Answer({"selected": wanted})

    # -- what changes something --------------------------------------------------------------------------------------------
    def _again(self, params: Mapping[str, Any]) -> Answer:
        self._handle.again([_number(each) for each in params.get("cells", ())])
        return Answer(self._standing())

    def _cancel(self, params: Mapping[str, Any]) -> Answer:
        self._handle.cancel()
        return Answer(self._standing())

    def _resume(self, params: Mapping[str, Any]) -> Answer:
        self._handle.start()
        return Answer(self._standing())

    def _dataset(self, params: Mapping[str, Any]) -> Answer:
        numbers = [_number(each) for each in params.get("cells", ())]
        expect, source = str(params.get("expect", "expected")), self._source
        return Answer(to_dataset(self._handle, source, self._handle._some(numbers), str(params.get("name", "")), expect))

    def _queues(self, params: Mapping[str, Any]) -> Answer:
        return Answer({"queues": queue_names()})

    def _queue(self, params: Mapping[str, Any]) -> Answer:
        return Answer(to_queue(self._handle, [_number(each) for each in params.get("cells", ())], str(params.get("name", ""))))


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInput(f"a cell is named by its number, not {value!r:.60}.")
    return value


def _asked(row: Mapping[str, Any] | None, wanted: Sequence[str]) -> str:
    """A row in a line: the values that go into its prompts."""
    values = [row[name] for name in wanted if name in row] if row else []
    return " · ".join(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str) for value in values if value)


def _wanted(plan: Mapping[str, Any]) -> list[str]:
    """The columns that the templates name; all but the id and the expected value, where they name none."""
    text = json.dumps([each.get("template") for each in plan.get("prompts", ())])
    columns = [name for name in plan.get("dataset", {}).get("columns", ()) if name != "id"]
    slots = " ".join(re.findall(r"{[{%].*?[%}]}", text))
    named = [name for name in columns if re.search(rf"\b{re.escape(name)}\b", slots)]
    return named or [name for name in columns if name != plan.get("how", {}).get("expected")]
