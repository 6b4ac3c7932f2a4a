"""The state of the random numbers of a process, as plain values and tensors."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import torch


def random_state(device: torch.device) -> dict[str, Any]:
    """Of Python, numpy, torch, and the device that this process computes on."""
    generator, key, position, has_gauss, cached = cast(tuple, np.random.get_state(legacy=True))
    state = {
        "python": random.getstate(),
        "numpy": [generator, key.tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    module = _of_device(device)
    if module is not None:
        state[device.type] = module.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Set what `random_state` gave; a device of another kind keeps its own.

    Raises:
        ValueError: if it is no such state; nothing is changed then.
    """
    before = random_state(device)
    try:
        _set(state, device)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError, AttributeError, IndexError) as error:
        _set(before, device)
        raise ValueError(f"not a state of random numbers: {error}") from error


def _set(state: dict[str, Any], device: torch.device) -> None:
    version, key, gauss = state["python"]
    random.setstate((version, tuple(key), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])
    module = _of_device(device)
    if module is not None and device.type in state:
        module.set_rng_state(state[device.type])


def _of_device(device: torch.device) -> Any:
    """The module of torch that holds the random numbers of a device; None for the CPU."""
    return None if device.type == "cpu" else torch.get_device_module(device)
