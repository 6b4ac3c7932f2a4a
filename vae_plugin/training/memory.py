"""What does not fit into memory: refused before it is made where that can be known, and told in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import torch
from torch import nn

from ..errors import UserError, is_out_of_memory
from .failures import StepFailed

SMALLER = "A smaller --train_batch_size, --resolution or model may help, or --gradient_checkpointing"
COPIES = 4  # of the weights in training: themselves, their gradients, and two moments of AdamW


@contextmanager
def fitting() -> Iterator[None]:
    """Tell in one sentence that there is no memory left for what a block makes.

    Raises:
        UserError: if torch, NumPy or the system has none.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"there is not enough memory for this run. {SMALLER}.") from error


def step_without_memory(error: Exception) -> StepFailed:
    """The failure of a step for which there was no memory; any other error is raised again."""
    if not is_out_of_memory(error):
        raise error
    return StepFailed("there is not enough memory", SMALLER)


def check_model_fits(make: Callable[[], nn.Module]) -> None:
    """Refuse a model that cannot be trained in the memory of this machine, before any of it is allocated.

    The kernel would end the process without a word when such weights are filled.

    Args:
        make: the model; called on torch's meta device, where weights take no memory.

    Raises:
        UserError: if it is too large.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = make()
    except (NotImplementedError, RuntimeError):  # needs values, or is beyond any address: the model itself will tell
        return
    weights, buffers = (sum(t.numel() for t in of) for of in (model.parameters(), model.buffers()))
    _check(
        4 * (COPIES * weights + buffers),
        f"a model of {weights + buffers:,} weights",
        "give smaller widths or fewer layers",
    )


def check_batch_fits(shape: tuple[int, int, int, int]) -> None:
    """Refuse a batch of images that alone is larger than the memory of this machine.

    Args:
        shape: of the images, (B, C, H, W).

    Raises:
        UserError: if it is.
    """
    images, channels, height, width = shape
    what = f"a batch of {images:,} images of {channels} x {height:,} x {width:,}"
    _check(4 * images * channels * height * width, what, "give a smaller --train_batch_size or --resolution")


def _check(needed: int, what: str, cure: str) -> None:
    there = psutil.virtual_memory().total + psutil.swap_memory().total
    if torch.cuda.is_available():
        there = max(there, torch.cuda.mem_get_info()[1])
    if needed > there:
        raise UserError(f"{what} needs {needed / 2**30:,.0f} GiB, and this machine has {there / 2**30:,.0f}: {cure}.")
