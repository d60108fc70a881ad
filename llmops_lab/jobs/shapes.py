"""The types that a template may declare: what an annotation means, which values are of it, and how a text is read as one.

Read from the syntax tree alone. A type is made of ``str int float bool None Any``, ``list[T]``, ``dict[str, T]``, ``A | B``,
``Literal[...]`` and ``Annotated[T, "mark", ...]``; the marks say what the value names (a file, rows, a model, ...).
"""

from __future__ import annotations

import ast
import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from llmops_lab.errors import BadInput, clipped

_SIMPLE = {"str": str, "int": int, "float": float, "bool": bool, "None": type(None)}
_BRACKETS = {"list": "list", "List": "list", "dict": "dict", "Dict": "dict", "Optional": "Optional", "Union": "|"}
_BRACKETS |= {"Literal": "Literal", "Annotated": "Annotated"}
KNOWN = "str, int, float, bool, None, Any, list[T], dict[str, T], A | B, Literal[...], Annotated[T, ...]"


@dataclass(frozen=True)
class Shape:
    """One type: ``kind`` (a simple type's name, ``Any``, ``list``, ``dict``, ``|`` or ``Literal``), its parts, and a Literal's values."""

    kind: str
    of: tuple[Shape, ...] = ()
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.kind == "|":
            return " | ".join(map(str, self.of))
        if self.kind == "Literal":
            return " | ".join(json.dumps(each, ensure_ascii=False) for each in self.choices)
        if self.kind == "dict" and self.of:
            return f"dict[str, {self.of[0]}]"
        return f"{self.kind}[{self.of[0]}]" if self.of else self.kind

    def has(self, kind: str) -> bool:
        """Whether a value of this simple kind may stand here."""
        return self.kind in (kind, "Any") or (self.kind == "|" and any(part.has(kind) for part in self.of))


ANY = Shape("Any")


def shape_of(node: ast.expr) -> tuple[Shape, tuple[str, ...]]:
    """What an annotation says: its type and its marks. Raises BadInput for what is no type of this grammar."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # a type in quotation marks
        try:
            return shape_of(ast.parse(node.value.strip(), mode="eval").body)
        except SyntaxError:
            _refuse(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        left, right = shape_of(node.left)[0], shape_of(node.right)[0]
        return Shape("|", (*_parts(left), *_parts(right))), ()
    if isinstance(node, ast.Subscript):
        return _bracketed(node)
    name = _name(node)
    if name in ("list", "List", "dict", "Dict"):
        return Shape(name.lower()), ()
    if name in _SIMPLE or name == "Any":
        return Shape(name), ()
    _refuse(node)


def of_value(value: Any) -> Shape:
    """The type of a default that was declared without one; None says nothing about it."""
    kind = type(value).__name__
    return Shape(kind) if value is not None and kind in (*_SIMPLE, "list", "dict") else ANY


def _bracketed(node: ast.Subscript) -> tuple[Shape, tuple[str, ...]]:
    kind = _BRACKETS.get(_name(node.value))
    inside = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if kind == "Annotated" and len(inside) > 1:
        return shape_of(inside[0])[0], tuple(_constant(each, str) for each in inside[1:])
    if kind == "Literal":
        return Shape("Literal", (), tuple(_constant(each, str, int, float, bool, type(None)) for each in inside)), ()
    if kind == "list" and len(inside) == 1:
        return Shape("list", (shape_of(inside[0])[0],)), ()
    if kind == "dict" and len(inside) == 2 and _name(inside[0]) == "str":
        return Shape("dict", (shape_of(inside[1])[0],)), ()
    if kind == "Optional" and len(inside) == 1:
        return Shape("|", (*_parts(shape_of(inside[0])[0]), Shape("None"))), ()
    if kind == "|":
        return Shape("|", tuple(part for each in inside for part in _parts(shape_of(each)[0]))), ()
    _refuse(node)


def _parts(shape: Shape) -> tuple[Shape, ...]:
    return shape.of if shape.kind == "|" else (shape,)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and node.value is None:
        return "None"
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("typing", "t"):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _constant(node: ast.expr, *kinds: type) -> Any:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        _refuse(node)
    if type(value) not in kinds:
        _refuse(node)
    return value


def _refuse(node: ast.expr) -> NoReturn:
    raise BadInput(f"{ast.unparse(node)} is no type that a parameter can have. Known: {KNOWN}.")


def fitted(shape: Shape, value: Any) -> Any:
    """The value as one of this type; a whole number where a float may stand becomes one. Raises ValueError that says what it is instead."""
    if shape.kind == "Any":
        return value
    if shape.kind == "|":
        return _fitted_to_one(shape, value)
    if shape.kind == "Literal":
        found = [each for each in shape.choices if type(each) is type(value) and each == value]
        if not found:
            raise ValueError(f"must be one of {shape}, not {short(value)}")
        return found[0]
    if shape.kind == "float" and type(value) is int:
        return _as_float(value)
    wanted = _SIMPLE.get(shape.kind) or {"list": list, "dict": dict}[shape.kind]
    if type(value) is not wanted:
        raise ValueError(f"must be {shape}, not {short(value)}{_near(shape, value)}")
    if isinstance(value, list) and shape.of:
        return [_item(shape.of[0], each, f"item {number}") for number, each in enumerate(value, 1)]
    if isinstance(value, dict) and shape.of:
        return {key: _item(shape.of[0], each, f"entry {short(key)}") for key, each in value.items()}
    return value


def _fitted_to_one(shape: Shape, value: Any) -> Any:
    # An exact fit wins: 3 stays 3 where int or float may stand.
    for part in sorted(shape.of, key=lambda part: part.kind == "float"):
        try:
            return fitted(part, value)
        except ValueError:
            continue
    raise ValueError(f"must be {shape}, not {short(value)}")


def _item(shape: Shape, value: Any, where: str) -> Any:
    try:
        return fitted(shape, value)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None


def _as_float(value: int) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if number != value:
        raise ValueError(f"must be float, and {short(value)} is no number that a float can hold exactly")
    return number


def _near(shape: Shape, value: Any) -> str:
    if shape.kind == "int" and type(value) is float and value.is_integer():
        return f"; write {int(value)}"
    if shape.kind == "list" and type(value) in (str, tuple):
        return "; write it as a list, in [ ]"
    return ""


def read_text(shape: Shape, text: str) -> Any:
    """A text of a command line as a value of this type. Raises ValueError that says what is wanted."""
    if shape.kind == "|":
        return _read_as_one(shape, text)
    if shape.kind == "Literal":
        found = [each for each in shape.choices if text == (each if isinstance(each, str) else json.dumps(each))]
        if not found:
            raise ValueError(f"must be one of {shape}, not {short(text)}")
        return found[0]
    return _READ[shape.kind](shape, text)


def _read_as_one(shape: Shape, text: str) -> Any:
    if not text.strip() and shape.has("None") and not shape.has("str"):
        return None  # an empty field of a form, where no text is wanted
    order = ["None", "bool", "int", "float", "Literal", "list", "dict", "Any", "str"]
    for part in sorted(shape.of, key=lambda part: order.index(part.kind)):
        if part.kind == "list" and not text.lstrip().startswith("[") and shape.has("str"):
            continue  # "A | list": what is no list is one A
        try:
            return read_text(part, text)
        except ValueError:
            continue
    raise ValueError(f"must be {shape}, not {short(text)}")


def _read_number(shape: Shape, text: str) -> Any:
    pattern = r"[+-]?[0-9]{1,4000}" if shape.kind == "int" else r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
    if not re.fullmatch(pattern, text.strip()):
        raise ValueError(f"must be {'a whole number' if shape.kind == 'int' else 'a number'}, not {short(text)}")
    value = int(text) if shape.kind == "int" else float(text)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be a number that is finite, not {short(text)}")
    return value


def _read_word(shape: Shape, text: str) -> Any:
    words = {"null": None} if shape.kind == "None" else {"true": True, "false": False}
    if text.strip().lower() not in words:
        raise ValueError(f"must be {' or '.join(words)}, not {short(text)}")
    return words[text.strip().lower()]


def _read_list(shape: Shape, text: str) -> Any:
    if text.lstrip().startswith("["):
        return _read_json(shape, text)
    return [read_text(shape.of[0] if shape.of else ANY, text)]  # one item; the option may be given again for the next


def _read_json(shape: Shape, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        if shape.kind == "Any":
            return text
        raise ValueError(f"must be {shape} as JSON, not {short(text)}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_READ: dict[str, Any] = {
    "str": lambda _, text: text,
    "int": _read_number,
    "float": _read_number,
    "bool": _read_word,
    "None": _read_word,
    "list": _read_list,
    "dict": _read_json,
    "Any": _read_json,
}


def short(value: Any) -> str:
    """A value in a message: its beginning, and its type where that is not plain."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except Exception:  # a stranger's repr, a number of too many digits
        text = "a value"
    plain = type(value).__module__ == "builtins"
    return clipped(text) if plain else f"{clipped(text)} (a {type(value).__module__}.{type(value).__name__})"
