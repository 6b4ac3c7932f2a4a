"""What the repository promises about itself."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_has_nothing_to_say(command):
    result = subprocess.run([sys.executable, "-m", "ruff", *command, str(ROOT)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_ci_calls_the_test_command_of_the_readme():
    commands = re.findall(r"^python -m venv .*$", (ROOT / "README.md").read_text(), re.M)
    assert len(commands) == 2
    assert commands[0].endswith("vae-plugin demo")
    assert commands[1].endswith("pytest")
    assert "README.md" in (ROOT / ".ci" / "run").read_text()
    assert "run: bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_every_package_is_installed():
    tomllib = pytest.importorskip("tomllib")
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    elsewhere = setuptools["package-dir"]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "vae_plugin").rglob("__init__.py")}
    assert set(setuptools["packages"]) == folders | set(elsewhere)
    for folder in elsewhere.values():
        assert (ROOT / folder / "__init__.py").is_file()


GROUP = """
import os, pathlib, pytest
@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("i", range(8))
def test(i):
    with pathlib.Path("workers").open("a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
"""


def test_tests_of_a_group_run_in_one_process(tmp_path):
    """By the options of the suite; groups come to nothing, without a word, where the workers do not get them."""
    (tmp_path / "test_group.py").write_text(GROUP)
    options = ["-c", str(ROOT / "pyproject.toml"), "-n", "2"]
    command = [sys.executable, "-m", "pytest", *options, "test_group.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "8 passed" in result.stdout, result.stdout
    assert len(set((tmp_path / "workers").read_text().split())) == 1
