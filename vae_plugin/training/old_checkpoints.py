"""Checkpoints of release 0.1, whose files are accelerate's: pickles, of which nothing is opened that could run code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .trees import read_tree


def _empty_array(module: str) -> Any:
    """What a pickled numpy array begins as, under the name that it has in one version of numpy."""

    def _reconstruct(*_: Any) -> np.ndarray:
        return np.ndarray((0,), "b")

    _reconstruct.__module__, _reconstruct.__qualname__ = module, "_reconstruct"
    return _reconstruct


# What the state of numpy's random numbers is made of; everything else is torch's own list.
NUMPY: list[Any] = [
    _empty_array("numpy.core.multiarray"),
    _empty_array("numpy._core.multiarray"),
    np.ndarray,
    np.dtype,
    type(np.dtype(np.uint32)),
]


def read_old(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The states that a checkpoint of release 0.1 holds, by the names that they have in `RunParts`.

    Args:
        folder: the checkpoint.
        options: of the run that wrote it, which tell what it must hold.

    Raises:
        ValueError: if a file is damaged or not what it should be.
        OSError: if one is missing or cannot be read.
    """
    trees: dict[str, Any] = {}
    by_engine = (folder / "pytorch_model").is_dir()
    trainees = 1 if options.get("disc_start") is None else 2
    for i in range(trainees):
        ending = f"_{i}" if i else ""
        if not by_engine:
            trees[f"model{ending}"] = _of_one_process(_named(read_tree, folder / f"model{ending}.safetensors"))
            trees[f"optimizer{ending}"] = _named(_unpickled, folder / f"optimizer{ending}.bin")
        trees[f"scheduler{ending}"] = _named(_unpickled, folder / f"custom_checkpoint_{i}.pkl")
    if options.get("use_ema"):
        trees["average"] = _named(_unpickled, folder / f"custom_checkpoint_{trainees}.pkl")
    if (folder / "scaler.pt").exists():
        trees["scaler"] = _named(_unpickled, folder / "scaler.pt")
    processes = max(1, len(list(folder.glob("random_states_*.pkl"))))
    trees["random_states"] = [
        _named(_random_state, folder / f"random_states_{rank}.pkl", rank) for rank in range(processes)
    ]
    return trees


def _unpickled(path: Path) -> Any:
    """What `torch.save` wrote, made of tensors, numbers, strings and containers only.

    The sums of the archive are checked, which torch does not do.
    """
    with zipfile.ZipFile(path) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise ValueError("it is compressed, which torch never does")
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"its part {damaged} has another checksum")
    with torch.serialization.safe_globals(NUMPY):
        return torch.load(path, map_location="cpu", weights_only=True)


def _random_state(path: Path, rank: int) -> dict[str, Any]:
    state = _unpickled(path)
    generator, key, position, has_gauss, cached = state["numpy_random_seed"]
    of_devices = state.get("torch_cuda_manual_seed", [])
    return {
        "python": state["random_state"],
        "numpy": [generator, key.tolist(), position, has_gauss, cached],
        "torch": state["torch_manual_seed"],
        **({"cuda": of_devices[rank % len(of_devices)]} if of_devices else {}),
    }


def _named(read: Any, path: Path, *args: Any) -> Any:
    try:
        return read(path, *args)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its opcodes run into
        raise ValueError(f"{path.name} cannot be read ({(str(error).splitlines() or ['?'])[0].rstrip('.')})") from error


def _of_one_process(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights by the names that they have without the wrapper of several processes."""
    wrapper = "module."
    if all(name.startswith(wrapper) for name in weights):
        return {name.removeprefix(wrapper): value for name, value in weights.items()}
    return weights
