"""One of our classes as a single module, for `trust_remote_code=True` where this package is not installed."""

from __future__ import annotations

import ast
import json
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

from ..errors import UserError
from ..files import write_json, write_text
from ..version import __version__

PACKAGE = __package__.partition(".")[0]
SOURCES = {
    "AutoencoderVAE": f"{PACKAGE}.autoencoders.vae",
    "AutoencoderVQVAE": f"{PACKAGE}.autoencoders.vqvae",
}
HEADER = '''"""{name} of vae-plugin {version} in one module, for those who load it by trust_remote_code=True.

Made by `--export_remote_code`: the package's modules one after the other, nothing added. Apache-2.0.
"""

from __future__ import annotations

'''


def write_remote_code(folder: Path) -> Path:
    """Put the module beside the weights, and its name into config.json, where `diffusers.AutoModel` looks for it.

    Args:
        folder: of one of our models.

    Raises:
        UserError: if it is a class that diffusers has itself.
    """
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    name = config.get("_class_name")
    if name not in SOURCES:
        raise UserError(
            f"an {name} needs no code beside its weights, diffusers has it: leave --export_remote_code out."
        )
    module = SOURCES[name].rpartition(".")[2]
    path = folder / f"autoencoder_{module}.py"
    write_text(path, single_module(name))
    write_json(config_file, {**config, "auto_map": {"AutoModel": f"{path.stem}.{name}"}})
    return path


def single_module(name: str) -> str:
    """The source of one class with all that it needs of this package."""
    modules: list[ModuleType] = []
    _collect(import_module(SOURCES[name]), modules, set())
    outside: dict[str, set[str]] = {}  # module -> names from it, "" for the module itself
    parts = [_part(module, outside) for module in modules]
    lines = [f"import {module}\n" for module, names in sorted(outside.items()) if "" in names]
    for module, names in sorted(outside.items()):
        if wanted := sorted(names - {""}):
            lines.append(f"from {module} import {', '.join(wanted)}\n")
    return HEADER.format(name=name, version=__version__) + "".join(lines) + "".join(parts)


def _collect(module: ModuleType, found: list[ModuleType], seen: set[str]) -> None:
    """The modules of this package that one imports, each after those that it needs."""
    if module.__name__ in seen:
        return
    seen.add(module.__name__)
    tree = _tree(module)
    for node in tree.body:
        for inner in () if _is_for_types(node) else ast.walk(node):
            if isinstance(inner, ast.ImportFrom) and inner.level:
                _collect(_imported(inner, module), found, seen)
    found.append(module)


def _imported(node: ast.ImportFrom, module: ModuleType) -> ModuleType:
    return import_module(resolve_name("." * node.level + (node.module or ""), module.__package__))


def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(Path(module.__file__).read_text(encoding="utf-8"))


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _part(module: ModuleType, outside: dict[str, set[str]]) -> str:
    """The lines of a module but for its docstring and imports; what it imports from elsewhere is added to `outside`."""
    lines = Path(module.__file__).read_text(encoding="utf-8").splitlines(keepends=True)
    tree = _tree(module)
    dropped: list[ast.stmt] = [tree.body[0]]  # the docstring
    dropped += [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    for node in tree.body:
        names_itself = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if isinstance(node, (ast.Import, ast.ImportFrom)) or _is_for_types(node) or names_itself:
            dropped.append(node)
        if isinstance(node, ast.Import):
            for alias in node.names:
                outside.setdefault(ast.unparse(ast.Import([alias])).removeprefix("import "), set()).add("")
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module != "__future__":
            names = {ast.unparse(alias) for alias in node.names} - {"TYPE_CHECKING"}
            outside.setdefault(node.module, set()).update(names)
    for node in dropped:
        lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    text = "".join(lines).strip()
    return f"\n\n# --- {module.__name__} ---\n\n\n{text}\n" if text else ""
