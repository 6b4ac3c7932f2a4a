"""What users bring of their own, by MODULE:FUNCTION or MODULE:CLASS."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ...datasets.framing import Size
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


def check_own_network(
    what: str,
    network: nn.Module,
    channels: int,
    sizes: Sequence[Size],
    *,
    inputs: int,
    returns: str,
    one_each: bool,
    gradient: bool = True,
) -> None:
    """Refuse a network that a step of training, or a measure, could not use: it is shown two images of each size.

    Args:
        what: it is, for errors.
        network: takes `inputs` batches of images; nothing of it changes.
        channels: of the images.
        sizes: that they can have, (width, height) in pixels.
        inputs: batches that it takes.
        returns: what it must return, for errors.
        one_each: whether that is one number for each image, rather than any tensor (B, ...).
        gradient: whether it must have one, as a loss.

    Raises:
        UserError: if it fails, returns something else, or has no gradient towards the images.
    """
    for width, height in sizes:
        _check_of_size(what, network, (2, channels, height, width), inputs, returns, one_each, gradient)


def _check_of_size(
    what: str, network: nn.Module, of: tuple[int, ...], inputs: int, returns: str, one_each: bool, gradient: bool
) -> None:
    size = "images of {} x {} x {}".format(*of[1:])
    try:
        result = _tried(network, of, inputs)
    except Exception as error:  # whatever the code of the user raises
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200].rstrip(".")
        raise UserError(f"{what} does not take {size}: {reason}.") from error
    shape = tuple(result.shape) if isinstance(result, torch.Tensor) and result.is_floating_point() else None
    if shape is None or shape[:1] != (2,) or (one_each and result.numel() != 2):
        found = type(result).__name__ if shape is None else f"a tensor of shape {shape}"
        raise UserError(f"{what} returns {found} for 2 {size}: it must return {returns}.")
    if gradient and not result.requires_grad:
        raise UserError(f"{what} has no gradient towards the images, and so would train nothing: give one that has.")


def _tried(network: nn.Module, shape: tuple[int, ...], inputs: int) -> Any:
    """What it says of gray images, with a graph to them only, as in training."""
    modes = [(module, module.training) for module in network.modules()]
    frozen = {name: p.detach() for name, p in network.named_parameters()}
    device = next((p.device for p in frozen.values()), torch.device("cpu"))
    images = [torch.full(shape, gray, device=device, requires_grad=True) for gray in (0.0, 0.5)[:inputs]]
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            return torch.func.functional_call(network.eval(), frozen, tuple(images))
    finally:
        for module, training in modes:
            module.training = training


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
