"""Image files as training data."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import datasets
import fsspec
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from .transforms import DataError, check_channels, open_image, to_tensor
from .webdataset import read_member


class ImageDataset(Dataset):
    """Square images in [-1, 1] from the encoded images in a table's column.

    Item i is a dict of "pixel_values", float32 (C, resolution, resolution), and "unreadable", the names of the damaged
    images that were met on the way to it: the next readable image stands in for one that cannot be decoded. Random
    crop and flip are a function of (seed, epoch, i) alone, so that neither an interrupted run nor the number of
    loading processes changes what a model sees.

    Args:
        table: of which one column holds images as files, bytes or both.
        image_column: its name.
        resolution: side of the square in pixels; the shorter side of an image is resized to it.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA).
        center_crop: cut the square from the middle, rather than at random along the longer side.
        random_flip: mirror half of the images left to right.
        seed: of crop and flip, and of `split`; not negative.
        sources: name and number of rows of what the table was read from, in order; they name an image that is no file.
        ignored_files: files lying among the images that are none.

    Raises:
        DataError: for another number of channels; when an item is asked for and no image at all can be read.
    """

    def __init__(
        self,
        table: datasets.Dataset,
        image_column: str,
        *,
        resolution: int,
        channels: int,
        center_crop: bool = False,
        random_flip: bool = False,
        seed: int = 0,
        sources: Sequence[tuple[str, int]] = (),
        ignored_files: Sequence[str] = (),
    ) -> None:
        if resolution < 1:
            raise DataError(f"resolution is {resolution}: give the side of the images in pixels, at least 1.")
        if seed < 0:
            raise DataError(f"seed is {seed}: give one that is not negative.")
        if len(table) == 0:
            raise DataError("the table has no row: give data with at least one image.")
        self.image_column = image_column
        self.table = table.select_columns([image_column]).cast_column(image_column, datasets.Image(decode=False))
        self.resolution = resolution
        self.channels = check_channels(channels)
        self.center_crop = center_crop
        self.random_flip = random_flip
        self.seed = seed
        self.sources = tuple(sources)
        self.ignored_files = tuple(ignored_files)
        self.rows = np.arange(len(table))
        # In shared memory, so that a change reaches loading processes that live longer than an epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[operator.index(index)]
        crop, flip = self._augmentation(int(self.rows[index]))
        unreadable = []
        for step in range(len(self)):
            row = int(self.rows[(index + step) % len(self)])
            value = self.table[row][self.image_column] or {}
            try:
                pixels = to_tensor(decode(value), self.resolution, self.channels, crop, flip)
            except DataError as error:
                unreadable.append(self._name(row, value))
                reason = error
                continue
            return {"pixel_values": pixels, "unreadable": tuple(unreadable)}
        raise DataError(
            f"none of the {len(self)} image(s) can be read, from {unreadable[0]} to {unreadable[-1]} ({reason}): give "
            "data with images that an image viewer opens."
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the crops and flips of an epoch (from 0)."""
        self._epoch.fill_(epoch)

    def split(self, num_validation: int) -> tuple[ImageDataset, ImageDataset]:
        """Hold out `num_validation` images, drawn by the seed: (training, validation), which share none.

        The validation images are centre crops and never flipped.

        Raises:
            DataError: unless that leaves both with an image.
        """
        if not 0 < num_validation < len(self):
            raise DataError(
                f"{num_validation} of {len(self)} image(s) cannot be held out: at least one must be held out and one "
                "left to train on."
            )
        order = np.random.default_rng(self.seed).permutation(self.rows)
        train, validation = (self._view(np.sort(rows)) for rows in (order[num_validation:], order[:num_validation]))
        validation.center_crop, validation.random_flip = True, False
        return train, validation

    def _view(self, rows: np.ndarray) -> ImageDataset:
        view = ImageDataset(
            self.table,
            self.image_column,
            resolution=self.resolution,
            channels=self.channels,
            center_crop=self.center_crop,
            random_flip=self.random_flip,
            seed=self.seed,
            sources=self.sources,
            ignored_files=self.ignored_files,
        )
        view.rows = rows
        return view

    def _augmentation(self, row: int) -> tuple[tuple[float, float], bool]:
        """Position of the crop, and whether to mirror."""
        draws = np.random.default_rng((self.seed, int(self._epoch), row)).random(3)
        crop = (0.5, 0.5) if self.center_crop else (draws[0], draws[1])
        return crop, self.random_flip and draws[2] < 0.5

    def _name(self, row: int, value: dict[str, Any]) -> str:
        if value.get("bytes") is None and value.get("path"):
            return value["path"]
        ends = list(accumulate(length for _, length in self.sources))
        if not ends:
            return f"row {row}"
        source = bisect_right(ends, row)
        name, length = self.sources[source]
        return f"row {row - ends[source] + length} of {name}"


def decode(value: dict[str, Any]) -> Image.Image:
    """The image of a row, which has its "bytes", or the "path" to them.

    Raises:
        DataError: if it cannot be read.
    """
    if value.get("bytes") is not None:
        return open_image(value["bytes"])
    path = value.get("path")
    if not path:
        raise DataError("the row holds no image.")
    if (encoded := read_member(path)) is not None:
        return open_image(encoded)
    if "://" not in path:
        return open_image(path)
    try:  # `datasets` leaves images of an archive on the Hub where they are, e.g. zip://a.png::/cache/images.zip
        with fsspec.open(path, "rb") as file:
            encoded = file.read()
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return open_image(encoded)


def collate(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Items of `ImageDataset` or `Circles` as a batch.

    Returns:
        "pixel_values" (B, C, H, W), "factors" (B, F) if the items have them, and "unreadable", one list of names.
    """
    stacked = {name: torch.stack([item[name] for item in batch]) for name in batch[0] if name != "unreadable"}
    return {**stacked, "unreadable": [name for item in batch for name in item.get("unreadable", ())]}
