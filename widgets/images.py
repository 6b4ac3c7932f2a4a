"""Images in any common form, as the tensors that an autoencoder takes."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from vae_plugin.arguments import ArgumentError, Tensor, Whole, accepts, check
from vae_plugin.datasets import Circles, DataError, load_images
from vae_plugin.datasets.files import SHARDS
from vae_plugin.datasets.framing import Framing
from vae_plugin.datasets.reading import ImageReader
from vae_plugin.datasets.rows import stored_type
from vae_plugin.datasets.transforms import MODES
from vae_plugin.json_types import is_finite
from vae_plugin.widgets.outlet import plain_words
from vae_plugin.wording import NO_VIDEOS, shown

if TYPE_CHECKING:
    import datasets

MAX_CATEGORIES = 20  # whole numbers with more distinct values count as a quantity
INDEX = Whole(-(2**31))
IMAGE_KEYS = ("pixel_values", "image", "img", "images")


@dataclass
class Labels:
    """One label of a set of images.

    Attributes:
        values: (N,) float64; for categories, positions in `names`.
        names: names of the categories; None for a quantity.
    """

    values: np.ndarray
    names: list[str] | None = None

    @classmethod
    def of(cls, values: Sequence[Any]) -> Labels:
        """Make labels of any values: numbers are a quantity unless they are a few whole ones, the rest categories."""
        items = [_label(v) for v in values]
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in items)
        distinct = sorted(set(items)) if numbers else sorted({str(v) for v in items})
        if numbers and not (all(float(v).is_integer() for v in distinct) and len(distinct) <= MAX_CATEGORIES):
            return cls(np.array(items, dtype=np.float64))
        index = {v: i for i, v in enumerate(distinct)}
        return cls(
            np.array([index[v if numbers else str(v)] for v in items], dtype=np.float64), [str(v) for v in distinct]
        )

    def describe(self, i: int) -> str:
        """The label of image i, as text."""
        return self.names[int(self.values[i])] if self.names is not None else f"{self.values[i]:.3g}"


class ImageSet:
    """A fixed selection of images of one size: item i is (C, H, W), float32 in [-1, 1].

    Args:
        source: anything with a length and items. An item is what `as_image` takes, a mapping with the image under
            "pixel_values" or "image", or a tuple with the image first.
        channels: channels of the images.
        size: height and width.
        limit: how many to select, evenly spread over the source.
        labels: `{name: one value per image of the source}`, or one such sequence.
        value_range: see `as_image`.

    Attributes:
        generated: whether these are generated circles, as no source was given.

    Raises:
        DataError: if there are no images, or not one label per image.
    """

    def __init__(
        self,
        source: Any,
        channels: int,
        size: tuple[int, int],
        limit: int,
        labels: Mapping[str, Sequence[Any]] | Sequence[Any] | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        self.channels = channels
        self.value_range = value_range
        self.size = size
        self.generated = source is None
        self._items = _open_source(_without_frames(source), channels, size, value_range)
        total = len(self._items)
        if total == 0:
            raise DataError("no image was given to LatentLab: give at least one.")
        self._chosen = np.linspace(0, total - 1, min(total, limit)).round().astype(int)
        self.labels = self._labels(labels, total)

    def __len__(self) -> int:
        return len(self._chosen)

    @accepts(i=INDEX)
    def __getitem__(self, i: int) -> torch.Tensor:
        # An image from other code may be a view of memory that it changes later.
        row = int(self._chosen[range(len(self))[operator.index(i)]])
        return as_image(_image_of(self._items[row]), self.channels, self.size, self.value_range).clone()

    @accepts(i=INDEX)
    def name(self, i: int) -> str:
        """Name of image i: its file name, or its number in the source."""
        row = int(self._chosen[i])
        item = self._items[row] if isinstance(self._items, (list, tuple)) else None
        return plain_words(Path(item).name) if isinstance(item, (str, Path)) else f"image {row}"

    def describe(self, i: int) -> str:
        """Name and labels of image i, in one line."""
        return ", ".join([self.name(i), *(f"{name} {labels.describe(i)}" for name, labels in self.labels.items())])

    def _labels(self, given: Any, total: int) -> dict[str, Labels]:
        columns: dict[str, Sequence[Any]] = {}
        if given is None:
            columns = _labels_of_source(self._items, self._chosen)
        else:
            for name, values in (given if isinstance(given, Mapping) else {"label": given}).items():
                if isinstance(values, (str, bytes, Mapping)) or not _is_column(values):
                    raise DataError(f"labels were given as {type(values).__name__}: give a list, one value per image.")
                if len(values) != total:
                    raise DataError(
                        f"{len(values)} labels ({name}) were given for {total} images: give one label per image."
                    )
                columns[str(name)] = [values[int(i)] for i in self._chosen]
        return {name: Labels.of(values) for name, values in columns.items()}


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
    if isinstance(source, (bytes, Path, Image.Image)) or _is_row(source):
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
    return _fit(_with_channels(_signed(source), channels), size)


def _without_frames(source: Any) -> Any:
    """A batch of videos (B, C, 1, H, W) as one of images; anything else as it is.

    Raises:
        DataError: if there are more frames.
    """
    if isinstance(source, torch.Tensor) and source.ndim == 5 and source.shape[2] == 1 and not source.is_nested:
        return source[:, :, 0]
    if isinstance(source, (torch.Tensor, np.ndarray)) and source.ndim == 5:
        kinds = "(B, C, H, W)" if isinstance(source, torch.Tensor) else "(B, H, W, C)"
        raise DataError(
            f"images were given with the shape {tuple(source.shape)}: {NO_VIDEOS}, so give one frame of each, {kinds}."
        )
    return source


def _of(dimensions: int) -> str:
    """The reason why an image of four dimensions or more is refused."""
    return f"{NO_VIDEOS}, so of one frame " if dimensions > 3 else ""


def _is_column(values: Any) -> bool:
    """Whether values have a length and are found by number; an array without an axis and a nested tensor have none."""
    if isinstance(values, torch.Tensor) and values.is_nested:
        return False
    shape = getattr(values, "shape", (1,))
    return hasattr(values, "__len__") and hasattr(values, "__getitem__") and len(shape) > 0


def _label(value: Any) -> Any:
    """The label of one image as Python has it."""
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        size = value.numel() if isinstance(value, torch.Tensor) else value.size
        if size != 1 or (isinstance(value, torch.Tensor) and value.is_meta):
            raise DataError(f"a label was given as an array of shape {tuple(value.shape)}: give one value per image.")
        value = value.item()
    if isinstance(value, int) and not is_finite(value):
        raise DataError(f"a label is {shown(value)}: give a number that a float can hold.")
    return value


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


def _with_channels(tensor: torch.Tensor, channels: int) -> torch.Tensor:
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


def _open_source(source: Any, channels: int, size: tuple[int, int], value_range: tuple[float, float] | None) -> Any:
    """The source as something with a length and items."""
    if source is None:
        return _circles(channels, size)
    if isinstance(source, (str, Path)):
        path = Path(os.path.expanduser(source))
        if os.path.isfile(path) and path.suffix.lower() not in SHARDS:
            return [path]
        return load_images(
            train_data_dir=path,
            resolution=min(size),
            channels=channels,
            center_crop=True,
            value_range=value_range,
        )
    if isinstance(source, Image.Image):
        return [source]
    if isinstance(source, torch.Tensor):
        check({"images": Tensor(integer=None)}, {"images": source})
    if isinstance(source, (np.ndarray, torch.Tensor)) and source.ndim <= 3 and not _is_stack(source):
        return [source]
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")) or isinstance(source, Mapping):
        raise DataError(
            f"images were given as {type(source).__name__}: give a list, a batch (N, C, H, W), a folder, a parquet "
            "file, or a data set with a length."
        )
    import datasets

    return _undecoded(source) if isinstance(source, datasets.Dataset) else source


def _undecoded(table: datasets.Dataset) -> datasets.Dataset:
    """The table with its images as they are stored: `datasets` would open any address and any format."""
    import datasets

    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, stored_type())
    return table


def _is_row(value: Any) -> bool:
    """Whether a value is an image as `datasets` stores it."""
    return isinstance(value, Mapping) and bool({"bytes", "path"} & value.keys())


def _is_stack(source: np.ndarray | torch.Tensor) -> bool:
    """Whether an array with three axes is a stack of gray images (N, H, W) rather than one image."""
    channel_axis = 0 if isinstance(source, torch.Tensor) else -1
    return source.ndim == 3 and source.shape[channel_axis] > 16


def _circles(channels: int, size: tuple[int, int], length: int = 1024) -> Any:
    """Generated circles with as many channels as the model takes: images for any model, without a file."""
    circles = Circles(length, max(8, *size), 1 if channels == 1 else 3, seed=1, hue=channels != 1)
    if channels in (1, 3):
        return circles
    images = [circles[i]["pixel_values"] for i in range(min(length, 256))]
    if channels == 4:
        return [_with_channels(image, 4) for image in images]
    return [image.mean(0, keepdim=True).expand(channels, -1, -1) for image in images]


def _image_of(item: Any) -> Any:
    if isinstance(item, Mapping):
        for key in IMAGE_KEYS:
            if key in item:
                return item[key]
        if _is_row(item):
            return item
        kinds = (Image.Image, torch.Tensor, np.ndarray)
        found = [value for value in item.values() if isinstance(value, kinds) or _is_row(value)]
        if len(found) == 1:
            return found[0]
        raise DataError(
            f"a row of the data set has the columns {', '.join(map(str, item))}: name that of the image 'image' or "
            "'pixel_values'."
        )
    return item[0] if isinstance(item, (tuple, list)) and len(item) else item


def _labels_of_source(items: Any, chosen: np.ndarray) -> dict[str, Sequence[Any]]:
    if isinstance(items, Circles):
        return {name: items.factors[chosen, i].tolist() for i, name in enumerate(items.factor_names)}
    import datasets

    if isinstance(items, datasets.Dataset):
        return _labels_of_table(items, chosen)
    first = items[int(chosen[0])]
    single = (int, float, str, np.generic)
    if (
        isinstance(first, tuple)
        and len(first) == 2
        and (isinstance(first[1], single) or (isinstance(first[1], torch.Tensor) and first[1].numel() == 1))
    ):
        return {"label": [items[int(i)][1] for i in chosen]}
    return {}


def _labels_of_table(table: datasets.Dataset, chosen: np.ndarray) -> dict[str, Sequence[Any]]:
    import datasets

    labels: dict[str, Sequence[Any]] = {}
    for name, feature in table.features.items():
        if isinstance(feature, datasets.ClassLabel):
            numbers = table.select_columns([name])[chosen.tolist()][name]
            labels[name] = [feature.int2str(v) if v is not None and v >= 0 else "none" for v in numbers]
        elif isinstance(feature, datasets.Value) and feature.dtype.startswith(("int", "uint", "float", "bool")):
            values = table.select_columns([name])[chosen.tolist()][name]
            if all(v is not None for v in values):
                labels[name] = values
    return labels
