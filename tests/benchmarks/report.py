"""How a result is shown and kept: with the day and the versions."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vae_plugin.files import write_json
from vae_plugin.version import library_versions


def report(result: dict[str, Any], output: Path | None) -> None:
    """Print a result as JSON, and write it to a file if one is named."""
    result = {
        **result,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), **library_versions()},
    }
    print(json.dumps(result, indent=2))
    if output:
        write_json(output, result)
