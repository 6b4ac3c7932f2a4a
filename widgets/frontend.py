"""The front end: small JavaScript modules, joined into the one module that a widget sends."""

from __future__ import annotations

import posixpath
import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "js"
ENTRY = "index.js"
IMPORT = re.compile(r'^import \{[^}]*\} from "(\.\.?/[\w./-]+\.js)";\n', re.M)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) )", re.M)


@cache
def script(entry: str = ENTRY) -> str:
    """The JavaScript of the lab, or that of a page that is a lab.

    All modules share one scope. Each appears once, after the modules it imports, stripped of `import` and `export`.
    Therefore a module imports names only, in one line, from files of ours, and no two modules define the same name at
    their top level.

    Args:
        entry: the module that comes last.
    """
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        if name in parts:
            return
        source = (FOLDER / name).read_text(encoding="utf-8")
        for needed in IMPORT.findall(source):
            add(posixpath.normpath(posixpath.join(posixpath.dirname(name), needed)))
        parts[name] = EXPORT.sub("", IMPORT.sub("", source))

    add(entry)
    return "\n".join(f"// {name}\n{source}" for name, source in parts.items())


@cache
def style() -> str:
    """The style sheet of the lab."""
    return (FOLDER / "style.css").read_text(encoding="utf-8")


def source(name: str) -> str:
    """A script that runs alone, such as that of a worker."""
    return (FOLDER / name).read_text(encoding="utf-8")
