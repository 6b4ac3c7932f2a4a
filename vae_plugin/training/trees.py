"""The state of an object in a safetensors file: its tensors by name, and as JSON what holds them. Nothing can run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

STRUCTURE = "structure"  # key of the metadata
_SCALARS = (bool, int, float, str, type(None))


def write_tree(path: Path, tree: Any) -> None:
    """Write a tree of dicts, lists and tuples whose leaves are tensors, numbers, strings and None.

    The file of a flat dict of tensors is the one that safetensors would write.

    Raises:
        TypeError: for another leaf or key.
    """
    tensors: dict[str, torch.Tensor] = {}
    structure = _packed(tree, "", tensors)
    save_file(tensors, path, metadata={"format": "pt", STRUCTURE: json.dumps(structure)})


def read_tree(path: Path) -> Any:
    """What `write_tree` wrote; of any other safetensors file its tensors by name. Tensors are on the CPU.

    Raises:
        ValueError: if it is no such file.
        OSError: if it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return _unpacked(json.loads(metadata[STRUCTURE]), tensors) if STRUCTURE in metadata else tensors
    except (SafetensorError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        raise ValueError(f"not the state that it should be: {error}") from error


def _packed(node: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, torch.Tensor):
        name = path or "value"
        while name in tensors:
            name += "_"
        # safetensors holds contiguous tensors: the order of the dimensions in memory stands beside them.
        order = sorted(range(node.dim()), key=node.stride().__getitem__, reverse=True)
        plain = node.is_contiguous()
        stored = node.detach().cpu()
        tensors[name] = (stored if plain else stored.permute(order)).clone(memory_format=torch.contiguous_format)
        return {"tensor": name} if plain else {"tensor": name, "order": order}
    if isinstance(node, Mapping):
        if not all(type(key) in (str, int) for key in node):
            raise TypeError(f"keys at {path!r} are not strings and integers.")
        return {"dict": [[key, _packed(value, _join(path, key), tensors)] for key, value in node.items()]}
    if isinstance(node, (list, tuple)):
        kind = "list" if isinstance(node, list) else "tuple"
        return {kind: [_packed(value, _join(path, i), tensors) for i, value in enumerate(node)]}
    if type(node) not in _SCALARS:
        raise TypeError(f"{type(node).__name__} at {path!r} cannot be stored.")
    return node


def _unpacked(node: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if type(node) in _SCALARS:
        return node
    if not isinstance(node, dict) or not node:
        raise ValueError("not the state that it should be: its structure has no kind")
    kind = next(iter(node))
    if kind == "tensor":
        tensor = tensors[node["tensor"]]
        order = node.get("order")
        return tensor if order is None else tensor.permute([order.index(d) for d in range(len(order))])
    if kind == "dict":
        return {key: _unpacked(value, tensors) for key, value in node["dict"]}
    make: Callable[[Any], Any] = {"list": list, "tuple": tuple}[kind]
    return make(_unpacked(value, tensors) for value in node[kind])


def _join(path: str, key: str | int) -> str:
    return f"{path}.{key}" if path else str(key)
