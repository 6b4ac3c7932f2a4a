"""The types of the front end's JavaScript, as TypeScript's compiler checks them (`npm install -g typescript`)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def compiler() -> str:
    found = shutil.which("tsc", path=str(ROOT / "node_modules" / ".bin")) or shutil.which("tsc")
    if found is None or shutil.which("node") is None:
        pytest.skip("TypeScript is not installed: npm install -g typescript")
    return found


def test_the_types_of_the_javascript_fit():
    done = subprocess.run([compiler(), "-p", ROOT / "jsconfig.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_type_that_does_not_fit_is_found(tmp_path):
    """The check could be of nothing: a property that does not exist must fail it."""
    config = (ROOT / "jsconfig.json").read_text(encoding="utf-8").replace("widgets/js/**/*.js", "wrong.js")
    (tmp_path / "jsconfig.json").write_text(config, encoding="utf-8")
    (tmp_path / "wrong.js").write_text("const lab = [1];\nlab.rows();\nother.row;\n", encoding="utf-8")
    done = subprocess.run([compiler(), "-p", tmp_path / "jsconfig.json"], capture_output=True, text=True)
    assert "rows" in done.stdout
    assert "other" in done.stdout
