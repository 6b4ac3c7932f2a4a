"""What users bring of their own, by MODULE:FUNCTION or MODULE:CLASS."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ...errors import UserError


def own_network(option: str, name: str) -> nn.Module:
    """Call the function that an option names by "module:function", see `own_object`.

    Raises:
        UserError: if it cannot be imported, fails, or returns no torch module.
    """
    network = own_object(option, name, "FUNCTION", lambda function: function())
    if not isinstance(network, nn.Module):
        raise UserError(f"--{option} {name} returns a {type(network).__name__}: it must return a torch module.")
    return network


def own_object(option: str, name: str, kind: str, use: Callable[[Any], Any]) -> Any:
    """What an option names by "module:name".

    Args:
        option: for errors, such as "perceptual_loss".
        name: its value; the module is found as `python -m` would, also in the working directory.
        kind: for errors: "FUNCTION" or "CLASS".
        use: is given what is found there; its result is returned.

    Raises:
        UserError: if it cannot be imported or used.
    """
    module, _, attribute = name.partition(":")
    try:
        with _working_directory():
            return use(getattr(importlib.import_module(module), attribute))
    except Exception as error:  # whatever the code of the user raises
        reason = (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
        raise UserError(f"--{option} {name}: {reason}. Give MODULE:{kind} that can be imported.") from error


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
