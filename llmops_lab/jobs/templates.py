"""Templates are notebooks: the shipped ones are found by name, any other by its path. One file is one template."""

from __future__ import annotations

from pathlib import Path

from llmops_lab.errors import BadInput, UnknownName
from llmops_lab.jobs.parameters import read_notebook
from llmops_lab.jobs.shapes import short

ENDING = ".ipynb"
_HINT = f"A notebook of your own is named by its path, ending in {ENDING}."


def find(name: str | Path) -> Path:
    """The notebook of a template: a shipped one by name, else the file at this path. Raises UnknownName or BadInput."""
    text = str(name)
    if not isinstance(name, str | Path) or not text.strip():
        raise BadInput(f"a template is a name or the path of a notebook, not {name!r}. Known names: {', '.join(names_to_paths())}.")
    if not (text.endswith(ENDING) or isinstance(name, Path) or "/" in text or "\\" in text):
        if text not in names_to_paths():
            beside = f"./{text}{ENDING}"
            hint = f"To run the notebook {beside}, type its path." if Path(beside).is_file() else _HINT
            raise UnknownName("template", text, names_to_paths(), hint)
        return names_to_paths()[text]
    path = home_expanded(text)
    check_possible(path)
    if not path.is_file():
        nearby = sorted(each.name for each in path.parent.glob(f"*{ENDING}"))[:8] if path.parent.is_dir() else []
        near = f" In that folder: {', '.join(nearby)}." if nearby else ""
        raise BadInput(f"there is no notebook {text}.{near} Templates by name: {', '.join(names_to_paths())}.")
    if path.suffix != ENDING:
        raise BadInput(f"{text} is no notebook: a template's file ends in {ENDING}.")
    return path.absolute()


def home_expanded(text: str) -> Path:
    """The path that a text says, with ``~`` as the home folder; as it is where there is no such home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def check_possible(path: Path) -> None:
    """Raises BadInput for what can be the path of no file: too long, or with a character that none holds."""
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{short(str(path))} can be no path: {reason}.") from error


def names() -> dict[str, str]:
    """Every shipped template and what it does, in the order of the alphabet."""
    return {name: summary(path) for name, path in names_to_paths().items()}


def summary(path: Path) -> str:
    """What a template says of itself: the first line of its first text that is no heading, else that heading. Raises BadInput."""
    for cell in read_notebook(path)["cells"]:
        if cell.get("cell_type") == "markdown":
            source = cell.get("source", "")
            lines = [line.strip() for line in (source if isinstance(source, str) else "".join(source)).splitlines() if line.strip()]
            plain = [line for line in lines if not line.startswith("#")]
            return plain[0] if plain else lines[0].lstrip("# ") if lines else ""
    return ""


def names_to_paths() -> dict[str, Path]:
    """The shipped templates and where they lie."""
    package = Path(__file__).resolve().parents[1]
    # In a wheel they lie in the package; in a checkout beside it.
    folder = next((place for place in (package / "templates", package.parent / "templates") if place.is_dir()), package)
    return {path.stem: path for path in sorted(folder.glob(f"*{ENDING}"))}
