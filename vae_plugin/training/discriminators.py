"""The discriminator of a run: a new one, one that a run has saved, or a network of one's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..autoencoders.weights import header
from ..datasets.framing import Size, shortest_side
from ..errors import UserError
from ..files import write_json
from .losses import PatchDiscriminator
from .losses.own import check_own_network, own_network
from .memory import check_model_fits
from .settings import LossSettings

FOLDER = "discriminator"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
MOST_LAYERS = 16
_IN_A_CHECKPOINT = "discriminator."  # before the names of its weights, beside the averages of LeCam


def make_discriminator(settings: LossSettings, channels: int, given: nn.Module | None = None) -> nn.Module:
    """The discriminator of a run, not yet trained further.

    Args:
        settings: of the losses.
        channels: of the images that it is shown.
        given: a network instead of the one that the settings name.

    Raises:
        UserError: if it cannot be made, or is made for other images.
    """
    if given is not None:
        return given
    name = settings.discriminator
    if name is None:
        sizes = channels, settings.disc_channels, settings.disc_layers
        check_model_fits(lambda: PatchDiscriminator(*sizes))
        return PatchDiscriminator(*sizes)
    if not Path(name).exists() and ":" in name:
        return own_network("discriminator", name)
    return open_discriminator(Path(name), channels)


def check_discriminator(discriminator: nn.Module, settings: LossSettings, channels: int, sizes: Sequence[Size]) -> None:
    """Refuse a discriminator that cannot judge the images of a run.

    Args:
        discriminator: from `make_discriminator`.
        settings: of the losses.
        channels: of the images.
        sizes: that they can have, (width, height) in pixels.

    Raises:
        UserError: if they have other channels or are too small, or a network of one's own gives no logits for them.
    """
    if isinstance(discriminator, PatchDiscriminator):
        if (made_for := discriminator.sizes["in_channels"]) != channels:
            raise UserError(
                f"the discriminator is made for images of {made_for} channel(s), and this run shows it {channels}: "
                "give another one."
            )
        if (side := shortest_side(sizes)) >= discriminator.smallest_image:
            return
        layers = f"--disc_layers {settings.disc_layers}" if settings.discriminator is None else settings.discriminator
        raise UserError(
            f"images of {side} pixels are too small for a discriminator of {layers}: give at least "
            f"{discriminator.smallest_image}, or {'fewer layers' if settings.discriminator is None else 'another one'}."
        )
    what = f"the discriminator {settings.discriminator or type(discriminator).__name__}"
    if not any(p.requires_grad for p in discriminator.parameters()):
        raise UserError(f"{what} has no weights to train: give a network that has.")
    logits = "a tensor of logits, (B, ...), positive for real images"
    check_own_network(what, discriminator, channels, sizes, inputs=1, returns=logits, one_each=False)


def save_discriminator(discriminator: nn.Module, folder: Path, settings: LossSettings, step: int) -> None:
    """Write config.json and model.safetensors, which `open_discriminator` reads if the network is one of ours.

    Args:
        discriminator: the network.
        folder: a new one.
        settings: of the losses.
        step: optimiser steps of the run.
    """
    folder.mkdir(parents=True)
    facts: dict[str, Any] = {"_class_name": type(discriminator).__name__, "step": step}
    if isinstance(discriminator, PatchDiscriminator):
        facts |= discriminator.sizes
    elif settings.discriminator is not None:
        facts["function"] = settings.discriminator
    save_file({name: value.detach().cpu().contiguous() for name, value in _distinct(discriminator)}, folder / WEIGHTS)
    write_json(folder / CONFIG, facts)


def _distinct(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Its tensors by name; one that several names share is written under each, since safetensors shares nothing."""
    return [(name, value.clone()) for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)]


def open_discriminator(path: Path, channels: int) -> PatchDiscriminator:
    """A patch discriminator that a run has saved. Only safetensors are read: nothing in them can run.

    Args:
        path: the folder of a result, its folder `discriminator`, or a file, that of a checkpoint (model_1) too.
        channels: of the images that it is to be shown.

    Raises:
        UserError: if there is none, or it is made for images of other channels.
    """
    file = _file_of(path)
    try:
        shapes = {name.removeprefix(_IN_A_CHECKPOINT): shape for name, (_, shape) in header(file).items()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"--discriminator {file} cannot be read as safetensors ({error}): give another one.") from error
    shapes.pop("averages", None)
    sizes = _sizes_of(shapes)
    if sizes is None:
        raise UserError(
            f"--discriminator {file} does not hold the weights of a discriminator of this package: give one that a run "
            "has saved, or MODULE:FUNCTION of your own, which loads its weights itself."
        )
    if sizes[0] != channels:
        raise UserError(
            f"--discriminator {path} is made for images of {sizes[0]} channels, and this run shows it {channels}: give "
            "another one, or leave it out."
        )
    check_model_fits(lambda: PatchDiscriminator(*sizes))
    discriminator = PatchDiscriminator(*sizes)
    tensors = {name.removeprefix(_IN_A_CHECKPOINT): value for name, value in load_file(file).items()}
    tensors.pop("averages", None)
    if not all(value.is_floating_point() and value.float().isfinite().all() for value in tensors.values()):
        raise UserError(f"--discriminator {file} holds numbers that are not finite: give another one.")
    discriminator.load_state_dict(tensors)
    return discriminator


def _file_of(path: Path) -> Path:
    if path.is_file():
        return path
    found = [file for file in (path / WEIGHTS, path / FOLDER / WEIGHTS) if file.is_file()]
    if found:
        return found[0]
    if path.is_dir():
        raise UserError(
            f"--discriminator {path} has no {FOLDER}/{WEIGHTS}: give the result of a run that had one, or a file."
        )
    raise UserError(f"--discriminator {path} is no file or folder that exists, and no MODULE:FUNCTION.")


def _sizes_of(shapes: dict[str, tuple[int, ...]]) -> tuple[int, int, int] | None:
    """Image channels, channels and layers of the patch discriminator of these weights; None if it is none."""
    convolutions = [name for name, shape in shapes.items() if re.fullmatch(r"layers\.\d+\.weight", name) and shape[1:]]
    first, layers = shapes.get("layers.0.weight", ()), len(convolutions) - 2
    if len(first) != 4 or not 1 <= layers <= MOST_LAYERS or not first[0] or not first[1]:
        return None
    sizes = first[1], first[0], layers
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in PatchDiscriminator(*sizes).state_dict().items()}
    return sizes if shapes == expected else None
