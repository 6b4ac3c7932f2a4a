"""The structure of the package: imports point one way, and types are right. On a built wheel, as users have it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from support.built import ROOT, unpacked_wheel

pytestmark = pytest.mark.xdist_group("house")
PACKAGE = "vae_plugin"
LAYERS = (  # each may import from those below it
    ("cli",),
    ("commands",),
    ("finetune",),
    ("training", "widgets"),
    ("options", "hub", "export"),
    ("pictures", "metrics"),
    ("autoencoders", "datasets", "latents"),
    ("objectives",),
    ("models",),
    ("files", "hub_cards"),
    ("errors", "version"),
)
RANK = {room: len(LAYERS) - i for i, layer in enumerate(LAYERS) for room in layer}
BESIDE = {("widgets", "training"), ("hub", "options"), ("export", "options")}  # of one layer, but not for each other


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of the built package."""
    return unpacked_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def graph(site):
    """Every import of every module, those for type checkers too."""
    sys.path.insert(0, str(site))
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == PACKAGE}
    try:
        return grimp.build_graph(PACKAGE, cache_dir=None)
    finally:
        sys.path.remove(str(site))
        sys.modules.update(before)


def room(module: str) -> str:
    return ([*module.split("."), ""])[1]


def test_every_room_has_a_place(graph):
    assert {room(module) for module in graph.modules} - {""} == RANK.keys()


def test_imports_point_one_way(graph):
    wrong = []
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            one, other = room(module), room(imported)
            if (one and (one, other) in BESIDE) or (one and one != other and (not other or RANK[one] < RANK[other])):
                wrong.append(f"{module} -> {imported}")
    assert not wrong


def test_no_module_imports_itself_through_others(graph):
    cycles = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            chain = graph.find_shortest_chain(imported, module)
            if chain:
                cycles.add(" -> ".join(sorted({module, *chain})))
    assert not cycles


def test_nothing_of_the_package_is_imported_by_name(site):
    """Which would hide a cycle from the two tests above; only the bundler reads the sources that it bundles."""
    found = [
        f"{path.relative_to(site)}: {line.strip()}"
        for path in (site / PACKAGE).rglob("*.py")
        if path.name != "remote_code.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"(import_module|__import__)\(.*vae_plugin", line)
    ]
    assert not found


def test_only_the_adapters_ask_which_class_a_model_is(site):
    """Neither by isinstance nor by the name of a class, nor by an attribute that somebody has set."""
    names = r"Autoencoder\w+|AsymmetricAutoencoderKL|VQModel"
    asked = re.compile(rf"isinstance\([^()]*\b({names})\b|type\(\w+\) (is|==|in) \(?({names})|\.saved_as\b")
    found = [
        f"{path.relative_to(site)}: {line.strip()}"
        for path in (site / PACKAGE).rglob("*.py")
        if "autoencoders" not in path.parts
        for line in path.read_text(encoding="utf-8").splitlines()
        if asked.search(line)
    ]
    assert not found


def test_types(site):
    """mypy with its defaults, over everything that is shipped."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml"),
            *("--cache-dir", ROOT / ".mypy_cache", "-p", PACKAGE),
        ],
        cwd=site,
        env={**os.environ, "MYPYPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
