"""The structure of the package: imports point one way, and types are right. On a built wheel, as users have it."""

from __future__ import annotations

import ast
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
LAYERS = (  # each may import from those below it; what stands side by side knows nothing of each other
    ("cli",),
    ("commands",),
    ("finetune",),
    ("training", "widgets"),
    ("encoding", "export", "hub", "options"),
    ("pictures", "metrics"),
    ("autoencoders", "datasets", "latents"),
    ("objectives",),
    ("models",),
    ("arguments", "files", "hub_cards", "texts"),
    ("errors", "json_types", "locks", "near", "notices", "version"),
    ("distribution", "signals", "wording"),
)
RANK = {room: len(LAYERS) - i for i, layer in enumerate(LAYERS) for room in layer}
NARROWER = {  # may not use all that lies below
    "options": {"training", "finetune", "commands"},  # the only ones to know of it
    "hub": {"training", "commands"},
    "pictures": {"training", "commands"},
}
BY_NAME = {  # modules that import what is named at run time
    "export/remote_code.py",  # reads the sources that it bundles
    "training/losses/own.py",  # MODULE:FUNCTION and MODULE:CLASS of the user
}
MODEL_CLASS = re.compile(r"(Autoencoder\w+|AsymmetricAutoencoderKL|ConsistencyDecoderVAE|VQModel)$")


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


def may_import(one: str, other: str) -> bool:
    """Whether a module of a room may import one of another. Nothing imports the root of the package, `""`."""
    if one in ("", other):
        return True
    return other != "" and RANK[one] > RANK[other] and one in NARROWER.get(other, {one})


def test_imports_point_one_way(graph):
    wrong = [
        f"{module} -> {imported}"
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if not may_import(room(module), room(imported))
    ]
    assert not wrong


def test_no_module_imports_itself_through_others(graph):
    cycles = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            chain = graph.find_shortest_chain(imported, module)
            if chain:
                cycles.add(" -> ".join(sorted({module, *chain})))
    assert not cycles


def sources(site: Path):
    """(path inside the package, syntax tree) of every module."""
    for path in sorted((site / PACKAGE).rglob("*.py")):
        yield path.relative_to(site / PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def called(node: ast.AST) -> str:
    """The name of the function that a node calls."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_nothing_of_the_package_is_imported_by_name(site):
    """Which would hide a cycle from the two tests above."""
    found = []
    for path, tree in sources(site):
        for node in ast.walk(tree):
            if called(node) not in ("import_module", "__import__") or path in BY_NAME:
                continue
            name = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
            if name.partition(".")[0] in ("", PACKAGE):  # computed, relative, or ours
                found.append(f"{path}: {ast.unparse(node)}")
    assert not found


def test_only_one_module_shows_progress_bars(site):
    """Any other would fill a log with them, and show them once for every process."""
    bars = {"tqdm", "trange", "track"}
    found = [path for path, tree in sources(site) if any(called(node) in bars for node in ast.walk(tree))]
    assert found == ["training/progress.py"]


def test_only_the_adapters_ask_which_class_a_model_is(site):
    """Neither by isinstance nor by the name of a class, nor by an attribute that somebody has set."""
    found = []
    for path, tree in sources(site):
        if path.startswith("autoencoders/"):
            continue
        for node in ast.walk(tree):
            asked: list[ast.AST] = []
            if called(node) in ("isinstance", "issubclass"):
                asked = [node.args[1]]
            elif isinstance(node, ast.Compare):
                asked = [node.left, *node.comparators]
            names = {
                getattr(part, "id", None) or getattr(part, "attr", None) or str(getattr(part, "value", ""))
                for part in (part for expression in asked for part in ast.walk(expression))
            }
            if any(MODEL_CLASS.match(name) for name in names) or getattr(node, "attr", "") == "saved_as":
                found.append(f"{path}: {ast.unparse(node)}")
    assert not found


def test_every_file_of_the_package_is_shipped(site):
    rooms = {"vae_plugin": "", "widgets": "widgets/", "hub_cards": "hub_cards/"}
    files = {
        rooms[room] + path.relative_to(ROOT / room).as_posix()
        for room in rooms
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == {
        path.relative_to(site / PACKAGE).as_posix() for path in (site / PACKAGE).rglob("*") if path.is_file()
    }


@pytest.mark.slow  # it starts a process
def test_the_package_imports_no_more_than_diffusers_and_itself(site):
    code = (
        "import sys, torch; from diffusers import AutoencoderKL, AutoencoderKLFlux2\n"
        "from diffusers.loaders import PeftAdapterMixin; from diffusers.pipelines import pipeline_loading_utils\n"
        "before = set(sys.modules); import vae_plugin\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert set(ended.stdout.split()) <= {PACKAGE, "diffusers"}  # which imports its classes when they are asked for


@pytest.mark.slow
@pytest.mark.timeout(3600)  # without a cache it checks torch too: minutes, and more beside busy processes
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
