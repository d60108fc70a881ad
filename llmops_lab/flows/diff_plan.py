"""What a grid's record says of how its variants were asked, and of the rows that they were asked about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_lab.settings import Settings
from llmops_lab.store.ledger import open_ledger
from llmops_lab.store.rows import rows_of

_PARTS = ("examples", "pattern", "params", "schema")


def asked(plan: Mapping[str, Any], by: str, labels: Sequence[str]) -> str:
    """The prompts (or models, with their parameters) of these labels as a person reads them; "" for what the plan does not have."""
    entries = [each for each in plan.get(f"{by}s", ()) if each["label"] in labels]
    texts = [_prompt(each) if by == "prompt" else _model(each, plan.get("params") or {}) for each in entries]
    if len(texts) < 2:
        return "".join(texts)
    return "\n\n".join(f"[{entry['label']}]\n{text}" for entry, text in zip(entries, texts, strict=True))


def version(plan: Mapping[str, Any], by: str, labels: Sequence[str]) -> str:
    """``name/version`` of a registered prompt; "" for any other."""
    entries = [each for each in plan.get(f"{by}s", ()) if each["label"] in labels]
    if len(entries) != 1 or not entries[0].get("version"):
        return ""
    return f"{entries[0]['name']}/{entries[0]['version']}"


def row_values(settings: Settings, dataset: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The columns of each row of a grid's ``dataset``, masked, by row id; empty where this ledger does not have them."""
    if not dataset.get("digest"):
        return {}
    order = {name: number for number, name in enumerate(dataset.get("columns") or ())}
    kept = rows_of(open_ledger(settings), dataset["digest"])
    return {row_id: dict(sorted(row.items(), key=lambda item: order.get(item[0], len(order)))) for row_id, row in kept}


def title_column(values: Mapping[str, Mapping[str, Any]], dataset: Mapping[str, Any]) -> str | None:
    """The column by which a person knows a row: of those with text, except id and expected answer, the one with the longest."""
    sample = list(values.values())[:50]
    lengths = {
        name: sum(len(row[name]) for row in sample if isinstance(row.get(name), str))
        for name in dict.fromkeys(name for row in sample for name in row)
        if name not in ("id", dataset.get("expected"))
    }
    return max(lengths, key=lambda name: lengths[name], default=None)


def _prompt(entry: Mapping[str, Any]) -> str:
    template, system = entry.get("template"), entry.get("system")
    turns = [{"role": "user", "content": template}] if isinstance(template, str) else list(template or ())
    turns = [{"role": "system", "content": system}, *turns] if system else turns
    if len(turns) == 1 and turns[0]["role"] == "user":
        sections = [_content(turns[0])]
    else:
        sections = [f"[{turn['role']}]\n{_content(turn)}" for turn in turns]
    sections += [f"[{name}]\n{_text(entry[name])}" for name in _PARTS if entry.get(name)]
    return "\n\n".join(sections)


def _content(turn: Mapping[str, Any]) -> str:
    return _text(turn["content"])


def _model(entry: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    params = {**shared, **(entry.get("params") or {})}
    lines = [str(entry.get("identity") or entry["label"]), *(f"{name} = {json.dumps(value)}" for name, value in sorted(params.items()))]
    return "\n".join(lines)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=str)
