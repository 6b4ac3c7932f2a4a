"""The front end: readable JavaScript modules, joined into the one module that a widget sends."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "js"
ENTRY = "index.js"
IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.M)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) )", re.M)


@cache
def script() -> str:
    """The JavaScript of the lab.

    The modules share one scope: each is written once, after those that it imports, without `import` and `export`. So a
    module imports by name and from its neighbours only, and no two modules define the same name at their top level.
    """
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        if name in parts:
            return
        source = (FOLDER / name).read_text(encoding="utf-8")
        for needed in IMPORT.findall(source):
            add(needed)
        parts[name] = EXPORT.sub("", IMPORT.sub("", source))

    add(ENTRY)
    return "\n".join(f"// {name}\n{source}" for name, source in parts.items())


@cache
def style() -> str:
    """The style sheet of the lab."""
    return (FOLDER / "style.css").read_text(encoding="utf-8")
