"""The curves of a run, a line of JSON for every step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..files import write_text


class CurveLog:
    """OUT/logs/train.jsonl.

    Args:
        path: the file.
        first_step: lines of this step and later ones, left by a run that is continued from before them, are removed.
    """

    def __init__(self, path: Path, first_step: int) -> None:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] < first_step]
        write_text(path, "".join(line + "\n" for line in kept))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open for as long as the run lasts

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append the values of a step."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
