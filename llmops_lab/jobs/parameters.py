"""The parameters of a template: what its cell tagged ``parameters`` declares, and whether given values fit.

A line ``name: type = default  # help`` declares one; without a default it is required. The cell is read, never run. Values are JSON and
nothing else, names are those that are declared, and the cell that brings the values into the kernel is written here: so no name and no
value can become code.
"""

from __future__ import annotations

import ast
import copy
import io
import json
import math
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, UnknownName, meant
from llmops_lab.escapes import inert
from llmops_lab.jobs.shapes import ANY, Shape, fitted, of_value, read_text, shape_of, short
from llmops_lab.redact import Redactor, is_secret_name

RESERVED = frozenset({"template", "parameters", "kernel", "timeout", "retries", "gpus", "after", "out", "wait", "json", "settings"})
"""Names that ``lab.run`` and the command line keep for the job itself."""
MARKS = ("file", "folder", "rows", "prompts", "model", "base", "scorer", "grid", "column of")
"""What ``Annotated[str, "..."]`` may say that a value names; ``rows: a, b | c`` and ``column of NAME`` say more."""
_MOST_CHARACTERS, _MOST_NESTED = 1_000_000, 50
_JSON_TYPES = (str, int, float, bool, type(None), list, dict)
_HOLD = "# Values of this job stand in the next cell"
_SECRETS = "Secrets are no parameters: the notebook would show them. Name the environment variable of a key in [tool.llmops_lab.keys]."


@dataclass(frozen=True)
class Parameter:
    """One declared parameter. ``type`` is the text of its type, ``marks`` what the value names, ``shape`` what ``check`` uses."""

    name: str
    type: str
    default: Any
    required: bool
    help: str
    marks: tuple[str, ...] = ()
    shape: Shape = ANY

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a ``Literal``; empty where any value of the type will do."""
        return self.shape.choices


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook file as a dict. Raises BadInput where it is none."""
    try:
        notebook = json.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no notebook: {error}.") from error
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list) or notebook.get("nbformat") != 4:
        raise BadInput(f"{path} is no notebook of format 4. Open it in JupyterLab and save it.")
    return notebook


def declared(notebook: Mapping[str, Any] | str | Path) -> list[Parameter]:
    """What a template declares, in its order; nothing where it has no cell tagged ``parameters``. Raises BadInput that names the line."""
    where = "the notebook" if isinstance(notebook, Mapping) else str(notebook)
    content = notebook if isinstance(notebook, Mapping) else read_notebook(Path(notebook))
    tagged = [number for number, cell in enumerate(content["cells"]) if _tagged(cell, "parameters")]
    if len(tagged) > 1:
        raise BadInput(f"{where} has {len(tagged)} cells tagged 'parameters'. Keep one.")
    language = content.get("metadata", {}).get("kernelspec", {}).get("language", "python")
    if tagged and str(language).lower() != "python":
        raise BadInput(f"{where} is a notebook in {language}: templates are in Python.")
    return _from_source(_source(content["cells"][tagged[0]]), where) if tagged else []


def _tagged(cell: Mapping[str, Any], tag: str) -> bool:
    return cell.get("cell_type") == "code" and tag in cell.get("metadata", {}).get("tags", ())


def _source(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def _from_source(source: str, where: str) -> list[Parameter]:
    try:
        tree = ast.parse(source)
        comments = _comments(source)
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise BadInput(f"{where}: the cell tagged 'parameters' is no plain Python: {error}.") from error
    found: dict[str, Parameter] = {}
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module in ("typing", "__future__"):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring
        try:
            parameter = _declaration(statement, comments.get(statement.end_lineno or 0, ""))
        except BadInput as error:
            raise BadInput(f"{where}, cell tagged 'parameters', line {statement.lineno}: {error}") from error
        if parameter.name in found:
            raise BadInput(f"{where}: {parameter.name} is declared twice in the cell tagged 'parameters'.")
        found[parameter.name] = parameter
    _check_references(found, where)
    return list(found.values())


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}


def _declaration(statement: ast.stmt, help: str) -> Parameter:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        name, value = statement.target.id, statement.value
        shape, marks = shape_of(statement.annotation)
    elif isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        name, value = statement.targets[0].id, statement.value
        shape, marks = of_value(_default(value)), ()
    else:
        raise BadInput(f"only declarations 'name: type = default  # help' stand here, not {short(ast.unparse(statement))}.")
    _check_name(name)
    _check_marks(marks)
    default = None if value is None else _default(value)
    if value is not None:
        default = _fitted(name, shape, default, Redactor())
    return Parameter(name, str(shape), default, value is None, help, marks, shape)


def _default(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise BadInput(f"the default {short(ast.unparse(node))} is no plain value. Write the value; compute in the next cell.") from error


def _check_name(name: str) -> None:
    if name in RESERVED:
        raise BadInput(f"{name} is no name for a parameter: it says how the job itself is run. Name it otherwise.")
    if name.startswith("_"):
        raise BadInput(f"{name} is no name for a parameter: it begins with an underscore.")
    if is_secret_name(name):
        raise BadInput(f"{name} is no name for a parameter. {_SECRETS}")


def _check_marks(marks: Sequence[str]) -> None:
    for mark in marks:
        if mark.partition(":")[0].strip() not in MARKS[:-1] and not mark.startswith("column of "):
            raise BadInput(f"{mark!r} is nothing that a value can name.{meant(mark, MARKS)} Known: {', '.join(MARKS)} NAME.")


def _check_references(found: Mapping[str, Parameter], where: str) -> None:
    for parameter in found.values():
        for mark in parameter.marks:
            rows = mark.removeprefix("column of ").strip()
            if rows != mark and rows not in found:
                raise UnknownName("parameter", rows, found, f"{where} declares {parameter.name} as a column of it.")


def check(parameters: Sequence[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every parameter, given or default, in the order of their declaration. Raises BadInput, UnknownName."""
    known = {parameter.name: parameter for parameter in parameters}
    for name in given:
        if not isinstance(name, str) or name not in known:
            hint = "" if known else "The template declares none: it has no cell tagged 'parameters'."
            raise UnknownName("parameter", inert(short(name).strip("'\"")), known, hint)
    missing = [each for each in parameters if each.required and each.name not in given]
    if missing:
        told = "; ".join(f"{each.name} ({each.type}){': ' + inert(each.help) if each.help else ''}" for each in missing)
        raise BadInput(f"missing: {told}. All that there are: llmops-lab run TEMPLATE --help, or lab.job_form(TEMPLATE).")
    redact = Redactor()
    values = {
        each.name: _fitted(each.name, each.shape, given[each.name], redact) if each.name in given else copy.deepcopy(each.default)
        for each in parameters
    }
    size = len(json.dumps(values))
    if size > _MOST_CHARACTERS:
        raise BadInput(
            f"the parameters take {size:,} characters; at most {_MOST_CHARACTERS:,}. Put the content into a file and name the file."
        )
    return values


def _fitted(name: str, shape: Shape, value: Any, redact: Redactor) -> Any:
    try:
        check_json(value)
        if _holds_secret(value, redact):
            raise BadInput(f"{name} holds a secret. {_SECRETS}")
        return fitted(shape, value)
    except ValueError as error:
        raise BadInput(f"{name} {inert(str(error))}.") from None


def check_json(value: Any) -> None:
    """Raises ValueError that says what of a value is no JSON, or too large or too deep for a notebook."""
    waiting, seen = [(value, 0)], 0
    while waiting:
        each, depth = waiting.pop()
        seen += 1
        if depth > _MOST_NESTED or seen > _MOST_CHARACTERS:  # a list may also hold itself, or one list a thousand times
            raise ValueError(f"is nested more than {_MOST_NESTED} deep or has too many parts; put it into a file and name the file")
        _check_one(each)
        if isinstance(each, list):
            waiting += [(item, depth + 1) for item in each]
        elif isinstance(each, dict):
            waiting += [(item, depth + 1) for item in each.values()]


def _check_one(value: Any) -> None:
    if type(value) not in _JSON_TYPES:
        raise ValueError(f"must be JSON (text, number, true, false, null, list, object), not {short(value)}{_cure(value)}")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be a finite number, not {value}")
    elif isinstance(value, int) and abs(value) >= 10**4000:
        raise ValueError("is a number of more than 4,000 digits")
    elif isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise ValueError(f"has the key {short(key)}: keys are texts")
            _check_text(key)


def _check_text(text: str) -> None:
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"has {len(text):,} characters; at most {_MOST_CHARACTERS:,}: put it into a file and name the file")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"holds half a character (\\u{ord(text[error.start]):04x}) that no file can hold") from None


def _cure(value: Any) -> str:
    if isinstance(value, tuple | set | frozenset):
        return "; write it as a list"
    if hasattr(value, "tolist"):
        return "; .tolist() makes it plain"
    return "; str(...) makes it text" if hasattr(value, "__fspath__") else ""


def _holds_secret(value: Any, redact: Redactor) -> bool:
    if isinstance(value, str):
        return redact(value) != value
    if isinstance(value, list):
        return any(_holds_secret(each, redact) for each in value)
    if isinstance(value, dict):
        named = any(is_secret_name(key) and isinstance(each, str) and each for key, each in value.items())
        return named or any(_holds_secret(each, redact) for pair in value.items() for each in pair)
    return False


def from_text(parameters: Sequence[Parameter], pairs: Sequence[str]) -> dict[str, Any]:
    """What ``-p name=value`` options say, each value read as its declaration says; those of a list may be given one by one.

    Texts stay as they are written; lists and objects are JSON. Raises BadInput, UnknownName. ``check`` comes after it.
    """
    known, given = {parameter.name: parameter for parameter in parameters}, dict[str, Any]()
    for pair in pairs:
        name, mark, text = pair.partition("=")
        name = name.strip()
        if not mark:
            raise BadInput(f"-p {inert(short(pair))} wants name=value, as in -p epochs=2.")
        if name not in known:
            check(parameters, {name: text})  # says what is known
        shape = known[name].shape
        try:
            value = read_text(shape, text)
        except ValueError as error:
            raise BadInput(f"{name} {inert(str(error))}.") from None
        if name in given and not (isinstance(value, list) and isinstance(given[name], list)):
            raise BadInput(f"{name} is given twice, and it is no list.")
        given[name] = [*given[name], *value] if name in given else value
    return given


def usage(parameters: Sequence[Parameter]) -> str:
    """The declaration for a person who asks for help, one parameter a paragraph."""
    lines = []
    for each in parameters:
        end = "required" if each.required else f"({json.dumps(each.default, ensure_ascii=False)})"
        lines.append(f"  {each.name}: {each.type}  {end}")
        lines += [f"      {inert(each.help)}"] if each.help else []
    return "\n".join(inert(line) for line in lines) or "  none"


def inject(notebook: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook with one cell more, after the declaration, that gives the parameters these values.

    A cell that an earlier injection left is replaced. ``values`` are what ``check`` returned. A declaration of one line gets a second one.
    """
    from nbformat.v4 import new_code_cell

    for name, value in values.items():
        if not name.isidentifier():
            raise BadInput(f"{short(name)} is no name for a parameter.")
        _fitted(name, ANY, value, Redactor())
    source = "\n".join(["# Parameters of this job", *(f"{name} = {value!r}" for name, value in values.items())])
    cell = new_code_cell(source, metadata={"tags": ["injected-parameters"]})
    made = copy.copy(notebook)
    cells = [_held(each) for each in notebook["cells"] if not _tagged(each, "injected-parameters")]
    place = next((number + 1 for number, each in enumerate(cells) if _tagged(each, "parameters")), 0)
    made["cells"] = [*cells[:place], cell, *cells[place:]]  # type: ignore[index]
    return made  # type: ignore[return-value]


def _held(cell: Any) -> Any:
    # IPython takes a cell of one line that begins with the name of a magic for its call: ``rm: str = "data"`` would remove a file.
    if not _tagged(cell, "parameters") or len(_source(cell).strip().splitlines()) != 1:
        return cell
    made = copy.copy(cell)
    made["source"] = f"{_source(cell)}\n{_HOLD}"
    return made
