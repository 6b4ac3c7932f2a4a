"""The package as its users have it: built as a wheel and unpacked."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def unpacked_wheel(folder: Path) -> Path:
    """A folder that holds `vae_plugin`, with `widgets` and `hub_cards` inside, as a wheel has them.

    An editable install has those two elsewhere, where neither type checkers nor import graphs find them. It is built
    from a copy: setuptools leaves a `build` folder behind, whose files go into the next wheel even after they are
    deleted here.
    """
    source = folder / "source"
    for name in ("vae_plugin", "widgets", "hub_cards"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True,
        capture_output=True,
    )
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"
