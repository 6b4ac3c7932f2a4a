"""An image in any common form, as the tensor that an autoencoder takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from vae_plugin.arguments import ArgumentError, Tensor, check
from vae_plugin.datasets import DataError
from vae_plugin.datasets.framing import Framing
from vae_plugin.datasets.reading import ImageReader
from vae_plugin.datasets.transforms import MODES
from vae_plugin.widgets.recipe import Expression
from vae_plugin.wording import NO_VIDEOS


def as_image(
    source: Any, channels: int, size: tuple[int, int], value_range: tuple[float, float] | None = None
) -> torch.Tensor:
    """Convert an image in any form to (C, H, W), float32 in [-1, 1].

    The shorter side is resized and the longer one centre-cropped, as in fine-tuning.

    Args:
        source: a PIL image; a file's path; a file's bytes, or a mapping with either; an array (H, W) or (H, W, C),
            8-bit or floats in [0, 1]; a tensor (C, H, W), or a batch of one, floats in [-1, 1] or 8-bit.
        channels: C. Gray, RGB and RGBA are converted into each other.
        size: height and width.
        value_range: the values of files that become -1 and 1, where their type does not say it.

    Raises:
        DataError: if the source is none of these.
    """
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    elif isinstance(source, str):
        source = Path(os.path.expanduser(source))
    if isinstance(source, (bytes, Path, Image.Image)) or is_row(source):
        return _fit(
            ImageReader(value_range=value_range).tensor(source, channels, Framing(min(size), center_crop=True).view),
            size,
        )
    if isinstance(source, np.ndarray):
        source = _tensor_of_array(source)
    if not isinstance(source, torch.Tensor):
        raise DataError(
            f"an image was given as {type(source).__name__}: give a PIL image, a file's path, an array (H, W, C) or a "
            "tensor (C, H, W)."
        )
    try:
        check({"an image": Tensor(integer=None)}, {"an image": source})
    except ArgumentError as error:
        raise DataError(str(error)) from error
    return _fit(with_channels(_signed(source), channels), size)


def _of(dimensions: int) -> str:
    """The reason why an image of four dimensions or more is refused."""
    return f"{NO_VIDEOS}, so of one frame " if dimensions > 3 else ""


def _tensor_of_array(array: np.ndarray) -> torch.Tensor:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3:
        raise DataError(
            f"an image was given as an array of shape {array.shape}: {_of(array.ndim)}give (H, W) or (H, W, C)."
        )
    if array.dtype == np.uint8:
        return torch.from_numpy(array.copy()).permute(2, 0, 1)
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"an image was given as an array of {array.dtype}: give 8-bit values or floats in [0, 1].")
    if not array.size:
        raise DataError(f"an image was given as an array of shape {array.shape}: give one with pixels.")
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        raise DataError(
            f"an array with values from {array.min():.3g} to {array.max():.3g} was given: give floats in [0, 1], or a "
            "tensor (C, H, W) with floats in [-1, 1]."
        )
    return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1) * 2 - 1


def _signed(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu()
    if tensor.ndim == 4 and len(tensor) == 1:
        tensor = tensor[0]
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim != 3 or not tensor.numel():
        raise DataError(
            f"an image was given as a tensor of shape {tuple(tensor.shape)}: {_of(tensor.ndim)}give (C, H, W)."
        )
    if tensor.dtype == torch.uint8:
        return tensor.float() / 127.5 - 1
    if not tensor.is_floating_point():
        raise DataError(f"an image was given as a tensor of {tensor.dtype}: give floats in [-1, 1], or 8-bit values.")
    tensor = tensor.float()
    if not torch.isfinite(tensor).all() or tensor.abs().max() > 1.001:
        low, high = tensor.min().item(), tensor.max().item()
        raise DataError(f"an image with values from {low:.3g} to {high:.3g} was given: give floats in [-1, 1].")
    return tensor


def with_channels(tensor: torch.Tensor, channels: int) -> torch.Tensor:
    given = len(tensor)
    if given == channels:
        return tensor
    if given not in MODES or channels not in MODES:
        raise DataError(f"the image has {given} channels and the model takes {channels}: give images with {channels}.")
    if given == 1:
        tensor = tensor.expand(3, -1, -1)
    elif channels == 1:
        weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # ITU-R 601, as PIL uses for image files
        return (tensor[:3] * weights).sum(0, keepdim=True)
    if channels == 4:
        return torch.cat([tensor[:3], torch.ones_like(tensor[:1])])
    return tensor[:3]


def _fit(tensor: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    height, width = tensor.shape[-2:]
    if (height, width) == tuple(size):
        return tensor
    scale = max(size[0] / height, size[1] / width)
    inner = [max(1, min(side, round(to / scale))) for side, to in zip((height, width), size, strict=True)]
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    cut = tensor[None, :, top : top + inner[0], left : left + inner[1]]
    resized = F.interpolate(cut, size=tuple(size), mode="bicubic", antialias=True, align_corners=False)
    return resized[0].clamp(-1, 1)


def is_row(value: Any) -> bool:
    """Whether a value is an image as `datasets` stores it."""
    return isinstance(value, Mapping) and bool({"bytes", "path"} & value.keys())


def image_expression(
    path: Path, channels: int, size: tuple[int, int], value_range: tuple[float, float] | None
) -> Expression:
    """Python that yields the image of a file as `as_image` does, in any working directory."""
    ranged = "" if value_range is None else f", {value_range}"
    text = f"as_image({str(path.expanduser().absolute())!r}, {channels}, {tuple(size)}{ranged})"
    return Expression(text, ("vae_plugin.widgets.images.as_image",))
