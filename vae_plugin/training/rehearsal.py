"""A trial of an optimiser on a few numbers: whether it fits the way in which runs here train, save and continue."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from ..errors import UserError
from .trees import read_tree, write_tree

SHAPES = ((8, 3, 3, 3), (8,), (6, 5))  # of a convolution, a bias, a linear layer
STEPS = 6  # before it is saved and after: some act only at every fifth


def rehearse(name: str, make: Callable[[list[nn.Parameter]], Optimizer], device: torch.device) -> None:
    """Take some steps, save, continue from what was saved, and compare with the steps that were not interrupted.

    Random numbers of torch are left as they were.

    Args:
        name: of the optimiser, for the error.
        make: it, of parameters.
        device: of the run.

    Raises:
        UserError: if the optimiser cannot be used here; the message says why.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        reason = _reason(make, device)
    if reason is not None:
        raise UserError(f"--optimizer {name} does not fit this training: {reason.rstrip('.')}.")


def _reason(make: Callable[[list[nn.Parameter]], Optimizer], device: torch.device) -> str | None:
    """Why it does not fit; None if it does."""
    parameters = _parameters(device)
    try:
        optimizer = make(parameters)
    except Exception as error:  # whatever a library raises at arguments and shapes
        return f"it cannot be made for convolutions, biases and linear layers ({_said(error)})"
    if callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):
        return (
            "the weights that it trains are not those to evaluate, and a run has one set of them; for an average of "
            "the weights give --use_ema"
        )
    if any("lr" not in group for group in optimizer.param_groups):
        return "it has no learning rate that a schedule could set"
    try:
        _train(parameters, optimizer)
    except Exception as error:
        return f"its step does not do with the gradients of one backward pass ({_said(error)})"
    others = _parameters(device)
    _train(others, make(others), seed=2)
    if not all(map(torch.equal, parameters, others)):
        return "it draws random numbers of its own, which each process would draw otherwise"
    with tempfile.TemporaryDirectory() as folder:
        try:
            write_tree(Path(folder) / "state", optimizer.state_dict())
            saved = read_tree(Path(folder) / "state")
        except (TypeError, ValueError) as error:
            return f"its state cannot be kept in a checkpoint ({_said(error)})"
    copies = [nn.Parameter(p.detach().clone()) for p in parameters]
    again = make(copies)
    try:
        again.load_state_dict(saved)
        _train(copies, again)
        _train(parameters, optimizer)
    except Exception as error:
        return f"it does not continue from its own state ({_said(error)})"
    if not all(map(torch.equal, parameters, copies)):
        return "its state does not hold all that it goes on with"
    return None


def _parameters(device: torch.device) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(device)) for shape in SHAPES]


def _train(parameters: list[nn.Parameter], optimizer: Optimizer, seed: int = 1) -> None:
    torch.manual_seed(seed)  # what draws no random numbers does not notice
    for step in range(STEPS):
        torch.stack([(p - step).square().sum() for p in parameters]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def _said(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
