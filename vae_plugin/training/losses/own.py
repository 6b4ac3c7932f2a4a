"""Networks of one's own, by MODULE:FUNCTION."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ...errors import UserError


def own_network(option: str, name: str) -> nn.Module:
    """Call the function that an option names.

    Args:
        option: for errors, such as "perceptual_loss".
        name: "module:function"; the module is found as `python -m` would, also in the working directory.

    Raises:
        UserError: if it cannot be imported, fails, or returns no torch module.
    """
    module, _, function = name.partition(":")
    try:
        with _working_directory():
            network = getattr(importlib.import_module(module), function)()
    except Exception as error:  # whatever the code of the user raises
        reason = (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
        raise UserError(f"--{option} {name}: {reason}. Give MODULE:FUNCTION that can be imported.") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"--{option} {name} returns a {type(network).__name__}: it must return a torch module.")
    return network


@contextmanager
def _working_directory() -> Iterator[None]:
    """Let modules be found in the working directory, after everything that is installed."""
    folder = os.getcwd()
    added = not {"", folder} & set(sys.path)
    if added:
        sys.path.append(folder)
    try:
        yield
    finally:
        if added:
            sys.path.remove(folder)
