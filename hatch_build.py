"""Builds the views' bundles while the package is built. Where node is not there, the package comes without them and shows its static views.

An sdist brings its bundles ready, so whoever installs from one needs no node.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUNDLES = ("grid", "diff", "rating", "job", "page")
_JLPM = "from jupyter_builder.jlpm import main; main()"  # yarn, as Jupyter ships it
_MINUTES = 10


class FrontEnd(BuildHookInterface):  # type: ignore[type-arg]
    """Hatch's hook."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the bundles unless they are newer than their sources. An sdist without them is an error, a wheel is not."""
        problem = refresh(Path(self.root))
        if not problem:
            return
        if self.target_name == "sdist":
            raise RuntimeError(f"{problem} An sdist brings the bundles of the views, so that others need no node.")
        self.app.display_warning(f"{problem} The package is built without the live views; what they show stands in static tables.")


def refresh(root: Path) -> str:
    """Build the bundles of this source tree unless they are newer than their sources; "" or what went wrong."""
    front = root / "labextension"
    return "" if _fresh(root / "llmops_lab" / "widgets" / "static", front) else _build(front)


def _fresh(static: Path, front: Path) -> bool:
    """Whether every bundle is there and none is older than a source. (In an unpacked sdist all times are equal.)"""
    bundles = [static / f"{name}.js" for name in BUNDLES]
    if not all(bundle.is_file() for bundle in bundles):
        return False
    sources = [front / "build.mjs", front / "package.json", front / "yarn.lock", *(front / "src").rglob("*")]
    newest = max((path.stat().st_mtime for path in sources if path.is_file() and ".test." not in path.name), default=0.0)
    return min(bundle.stat().st_mtime for bundle in bundles) >= newest


def _build(front: Path) -> str:
    """Install the locked packages and run the build; "" or what went wrong."""
    if not (shutil.which("node") or shutil.which("nodejs")):
        return "node was not found, so the bundles of the views are not built."
    for words in (["install", "--immutable"], ["build"]):
        try:
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-c", _JLPM, *words], cwd=front, capture_output=True, text=True, timeout=60 * _MINUTES, check=False
            )
        except subprocess.TimeoutExpired:
            return f"jlpm {' '.join(words)} did not end within {_MINUTES} minutes."
        if done.returncode:
            return f"jlpm {' '.join(words)} failed:\n{(done.stdout + done.stderr)[-4000:]}\n"
    return ""


if __name__ == "__main__":  # what `make front` does
    sys.exit(refresh(Path(__file__).resolve().parent) or 0)
