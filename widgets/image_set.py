"""The images of a lab: a fixed selection from any source, with names and labels."""

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

from vae_plugin.arguments import Tensor, Whole, accepts, check
from vae_plugin.datasets import Circles, DataError, load_images
from vae_plugin.datasets.files import SHARDS
from vae_plugin.datasets.images import ImageDataset
from vae_plugin.datasets.rows import stored_type
from vae_plugin.json_types import is_finite
from vae_plugin.widgets.images import as_image, image_expression, is_row, with_channels
from vae_plugin.widgets.outlet import plain_words
from vae_plugin.widgets.recipe import Expression
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
        names: of the images, see `name`.
        labels: of the images, by name.

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
        self.names = _names(self._items, self._chosen.tolist())

    def __len__(self) -> int:
        return len(self._chosen)

    @accepts(i=INDEX)
    def __getitem__(self, i: int) -> torch.Tensor:
        row = int(self._chosen[range(len(self))[operator.index(i)]])
        # An image from other code may be a view of memory that it changes later.
        return as_image(_image_of(_item(self._items, row)), self.channels, self.size, self.value_range).clone()

    @accepts(i=INDEX)
    def name(self, i: int) -> str:
        """The one name of image i: that of its file, or its number in the source."""
        return self.names[i]

    def describe(self, i: int) -> str:
        """Name and labels of image i, in one line."""
        return ", ".join(words for words in (self.name(i), self.labels_in_words(i)) if words)

    def labels_in_words(self, i: int) -> str:
        """The labels of image i, in one line."""
        return ", ".join(f"{name} {labels.describe(i)}" for name, labels in self.labels.items())

    def expression(self, i: int) -> Expression | None:
        """Python that yields image i, (C, H, W), in any kernel; None for an image that only this one has."""
        row = int(self._chosen[i])
        if self.generated:
            return _circle_expression(self._items, row, self.size)
        path = _path_of(self._items, row)
        return None if path is None else image_expression(path, self.channels, self.size, self.value_range)

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


def _item(items: Any, row: int) -> Any:
    """An item of the source; a `DataError` where another would stand in for an image that cannot be read."""
    if not isinstance(items, ImageDataset):
        return items[row]
    [item] = items.without_substitutes([row])
    if isinstance(item, DataError):
        raise DataError(item.reason or str(item)) from item
    return item


def _path_of(items: Any, row: int) -> Path | None:
    """The file of one image of the source; None if it is no file of its own."""
    item = items[row] if isinstance(items, (list, tuple)) else None
    if isinstance(items, ImageDataset):
        [item] = items.stored([row])
        item = item.get("path") if item.get("bytes") is None else None
        if item is not None and not os.path.isfile(item):  # a member of an archive
            item = None
    return Path(os.path.expanduser(item)) if isinstance(item, (str, Path)) else None


def _names(items: Any, rows: Sequence[int]) -> list[str]:
    """A name of each image: its file name, with the folders where several have the same; else its number."""
    if isinstance(items, ImageDataset):
        known = list(items.origin.sample_names())
        return [plain_words(known[int(items.rows[row])]) for row in rows]
    paths = [_path_of(items, row) for row in rows]
    short = [None if path is None else path.name for path in paths]
    return [
        f"image {row}" if path is None else plain_words(path.name if short.count(path.name) == 1 else str(path))
        for row, path in zip(rows, paths, strict=True)
    ]


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
        return [with_channels(image, 4) for image in images]
    return [image.mean(0, keepdim=True).expand(channels, -1, -1) for image in images]


def _circle_expression(circles: Any, row: int, size: tuple[int, int]) -> Expression | None:
    """Python for one of the generated circles, where it is an image as it is."""
    if not isinstance(circles, Circles) or size != (circles.resolution,) * 2:
        return None
    hue = ", hue=True" if "hue" in circles.factor_names else ""
    made = f"Circles({len(circles)}, {circles.resolution}, {circles.channels}, seed={circles.seed}{hue})"
    return Expression(f"{made}[{row}]['pixel_values']", ("vae_plugin.datasets.Circles",))


def _image_of(item: Any) -> Any:
    if isinstance(item, Mapping):
        for key in IMAGE_KEYS:
            if key in item:
                return item[key]
        if is_row(item):
            return item
        kinds = (Image.Image, torch.Tensor, np.ndarray)
        found = [value for value in item.values() if isinstance(value, kinds) or is_row(value)]
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
    if isinstance(items, ImageDataset):
        return {}
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
