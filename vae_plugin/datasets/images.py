"""Image files as training data."""

from __future__ import annotations

import copy
import operator
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..notices import printable, say_once
from .decoded import tensors_of
from .errors import DataError
from .framing import Framing, ViewOf, nearest
from .kept import KeptImages
from .members import UNKNOWN_ORIGIN, Origin, find_held_out
from .paths import RefusedError
from .reading import DEFAULT_READER, ImageReader
from .rows import array_type, undecoded, value_of
from .transforms import check_channels

if TYPE_CHECKING:
    import datasets

MOST_SUBSTITUTES = 1000  # images that are tried in place of one that cannot be read
LISTED = ("unreadable", "side", "clipped")


@dataclass(frozen=True)
class _Found:
    """What is seen in the place of an item.

    Attributes:
        pixels: (H, W) or (H, W, C), uint8 or float32.
        side: the shorter side of the whole image, in pixels.
        unreadable: names of the images skipped on the way.
        clipped: the name of the image, if it has values beyond the range that was given.
    """

    pixels: np.ndarray
    side: int
    unreadable: tuple[str, ...]
    clipped: tuple[str, ...]


class ImageDataset(Dataset):
    """Square images in [-1, 1] from a column of encoded images.

    Item i is a dict with "pixel_values", float32 (C, resolution, resolution), and "unreadable". The next readable image
    replaces one that cannot be decoded, and "unreadable" names the images skipped on the way. Random crop and flip
    depend only on (seed, epoch, i), so neither an interruption nor the number of loading processes changes what a model
    sees.

    Args:
        table: data set with a column that holds images as paths, bytes or both.
        image_column: name of that column.
        framing: which part of an image is seen.
        channels: see `ImageReader.tensor`.
        seed: random seed of crop, flip and `split`, not negative.
        origin: of the table: what its rows are called.
        reader: how an image is opened.
        keep_bytes: memory for decoded images, see `KeptImages`; what an item is does not depend on it.

    Raises:
        DataError: for an empty table, or a number of channels or seed out of range. Also when an item is
            requested and no image at all can be read.
    """

    def __init__(
        self,
        table: datasets.Dataset,
        image_column: str,
        *,
        framing: Framing,
        channels: int,
        seed: int = 0,
        origin: Origin = UNKNOWN_ORIGIN,
        reader: ImageReader = DEFAULT_READER,
        keep_bytes: int = 0,
    ) -> None:
        if seed < 0:
            raise DataError(f"seed is {seed}: it must not be negative.")
        if len(table) == 0:
            raise DataError("the table has no rows: give data with at least one image.")
        self.image_column = image_column
        self.table = undecoded(table, image_column)
        self.source = table  # with the columns beside the images
        self._dtype = array_type(table.features[image_column])
        self.framing = framing
        self.channels = check_channels(channels, reader.rules)
        self.seed = seed
        self.origin = origin
        self.reader = reader
        self.kept = KeptImages(len(table), keep_bytes)
        self.rows = np.arange(len(table))
        self.sizes = self._sizes() if framing.buckets else None
        self.survey: Any = None  # see `survey.survey`
        self.counts_small = False  # whether items say that they are enlarged
        self._epoch = _shared_zero()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The items of these indices, converted together; a `DataLoader` asks for its batches so."""
        items = []
        for item in self._items(indices, MOST_SUBSTITUTES):
            if isinstance(item, DataError):
                raise item
            items.append(item)
        return items

    def without_substitutes(self, indices: Sequence[int]) -> list[dict[str, Any] | DataError]:
        """As `__getitems__`, but in the place of an image that cannot be read there is the reason."""
        return self._items(indices, 1)

    def _items(self, indices: Sequence[int], most_tried: int) -> list[dict[str, Any] | DataError]:
        every = range(len(self))
        places = [every[operator.index(index)] for index in indices]
        whole = self._kept_whole(places)
        if whole is not None:
            return whole
        items: list[dict[str, Any] | DataError] = []
        alike: dict[Any, list[tuple[dict[str, Any], np.ndarray]]] = {}
        values = self._values(self.rows[places].tolist())
        for place, value, drawn in zip(places, values, self._draws(places).tolist(), strict=True):
            try:
                found = self._find(place, value, self._view_of(place, drawn), most_tried)
            except DataError as error:
                items.append(error)
                continue
            item = self._beside(found.side, found.unreadable, found.clipped)
            alike.setdefault((found.pixels.shape, found.pixels.dtype), []).append((item, found.pixels))
            items.append(item)
        for group in alike.values():
            for (item, _), image in zip(group, tensors_of([pixels for _, pixels in group]), strict=True):
                item["pixel_values"] = image
        return items

    def _beside(self, side: int, unreadable: tuple[str, ...] = (), clipped: tuple[str, ...] = ()) -> dict[str, Any]:
        """What an item says beside its pixels."""
        item: dict[str, Any] = {"unreadable": unreadable}
        if self.reader.value_range is not None:
            item["clipped"] = clipped
        if self.counts_small:
            item["side"] = side
        return item

    def _draws(self, places: list[int]) -> np.ndarray:
        """The random numbers by which the images of these places are seen in this epoch."""
        return self.framing.draws((self.seed, int(self._epoch)), self.rows[places])

    def _kept_whole(self, places: list[int]) -> list[dict[str, Any] | DataError] | None:
        """The items of images that are all kept and have the size at which they are seen; else None."""
        side = self.framing.resolution
        pixels = None if self.sizes is not None else self.kept.alike(self.rows[places], (side, side))
        if pixels is None:
            return None
        if self.framing.random_flip:
            turned = self.framing.mirrored(self._draws(places))
            pixels[turned] = pixels[turned, :, ::-1]
        beside = self._beside(side)
        return [{**beside, "pixel_values": image} for image in tensors_of(pixels).unbind()]

    def _values(self, rows: list[int]) -> list[Any]:
        """What the table holds in some rows; None for those whose image is kept."""
        wanted = [row for row in rows if row not in self.kept]
        read = self.table[wanted][self.image_column] if wanted else []
        values = {row: value_of(value, self._dtype) for row, value in zip(wanted, read, strict=True)}
        return [values.get(row) for row in rows]

    def _find(self, index: int, value: Any, view_of: ViewOf, most_tried: int) -> _Found:
        """What is seen in the place of an index: of its own image, or else of the next that can be read.

        Args:
            index: of an item.
            value: of its row in the table, or None if that was not read.
            view_of: what is seen.
            most_tried: number of images, the first of which is its own.
        """
        unreadable: list[str] = []
        for step in range(min(len(self), most_tried)):
            row = int(self.rows[(index + step) % len(self)])
            image = self.kept.get(row)
            try:
                if image is None or not image.serves(view_of, self.reader.rules):
                    found = value if step == 0 and value is not None else self._value(row)
                    image = self.reader.decode(found, self.channels, view_of)
                    self.kept.put(row, image)
                clipped = (self.origin.name_of(row),) if image.clipped else ()
                return _Found(image.seen(view_of, self.reader.rules), min(image.size), tuple(unreadable), clipped)
            except DataError as error:
                unreadable.append(self._name(row, found, error))
                say_if_refused(unreadable[-1], error)
                reason = error
        nothing = DataError(
            f"none of the {len(unreadable)} image(s) from {unreadable[0]} to {unreadable[-1]} can be read. The last: "
            f"{str(reason).rstrip('.')}."
        )
        nothing.reason = reason.reason or str(reason)
        raise nothing

    def framed(self, framing: Framing) -> ImageDataset:
        """The same images, seen otherwise but without buckets."""
        view = self._view(self.rows)
        view.framing, view.sizes = framing, None
        return view

    def bucket_numbers(self) -> np.ndarray | None:
        """The bucket of each image, by its number in the framing; None without buckets."""
        return None if self.sizes is None else nearest(self.sizes[self.rows], self.framing.buckets)

    def set_epoch(self, epoch: int) -> None:
        """Select the random crops and flips of an epoch, counted from 0."""
        self._epoch.fill_(epoch)

    def split(self, num_validation: int) -> tuple[ImageDataset, ImageDataset]:
        """Split into disjoint (training, validation) sets, with `num_validation` images drawn by the seed.

        Validation images are cropped at the centre and never flipped.

        Raises:
            DataError: if either set would be empty.
        """
        if not 0 < num_validation < len(self):
            raise DataError(
                f"num_validation is {num_validation} of {len(self)} image(s): hold out at least one image, and leave "
                "at least one to train on."
            )
        order = np.random.default_rng(self.seed).permutation(self.rows)
        return self._split_at(order[:num_validation])

    def split_by_names(self, held_out: Mapping[str, str], same_files: bool) -> tuple[ImageDataset, ImageDataset]:
        """Split into (training, validation) sets, of which the second has the samples that were held out before.

        Args:
            held_out: name -> SHA-256 of the encoded image, of samples of these data or of what they were before.
            same_files: whether they are as they were, so that the names suffice.

        Raises:
            DataError: if none of them is left, or nothing to train on.
        """
        rows = find_held_out(self.origin.sample_names(), self.content, held_out, same_files)
        if not 0 < len(rows) < len(self):
            raise DataError(
                f"{len(rows)} of the {len(self)} image(s) in {self.origin.location} were held out of training before: "
                "give data with at least one of these, and with others to train on."
            )
        return self._split_at(np.array(rows))

    def sides(self, most: int | None = None) -> Iterator[tuple[str, int | DataError]]:
        """Name, and shorter side in pixels or why it cannot be read, of each of the first images by its header.

        Args:
            most: number of rows to look at, without those that name a member of an archive, which take as long to find
                as to read; None for all.
        """
        for row in self.rows[:most].tolist():
            value = self._value(row)
            is_chain = value.get("bytes") is None and "::" in (value.get("path") or "")
            if most is not None and is_chain and self.reader.places.roots is not None:
                continue
            try:
                yield self._name(row, value), min(self.reader.size(value, self.channels))
            except DataError as error:
                yield self._name(row, value, error), error

    def at_least(self, side: int) -> ImageDataset:
        """The images whose shorter side has so many pixels, and those that cannot be read.

        Raises:
            DataError: if all are smaller.
        """
        sides = [found for _, found in self.sides()]
        kept = [not isinstance(found, int) or found >= side for found in sides]
        if not any(isinstance(found, int) and found >= side for found in sides):
            raise DataError(
                f"no image in {self.origin.location} has {side} pixels along its shorter side: give a smaller "
                "--min_image_size."
            )
        return self._view(self.rows[np.array(kept)])

    def only(self, names: Collection[str]) -> ImageDataset:
        """The samples of these names."""
        return self._view(np.array([row for row, name in enumerate(self.origin.sample_names()) if name in names]))

    def named_contents(self) -> dict[str, str]:
        """Name -> SHA-256 of the encoded image, of all samples here."""
        rows = set(self.rows.tolist())
        return {name: self.content(row) for row, name in enumerate(self.origin.sample_names()) if row in rows}

    def contents(self, names: Collection[str]) -> dict[str, str]:
        """Name -> SHA-256 of the encoded image, of the samples of these names that are there."""
        found = {name: row for row, name in enumerate(self.origin.sample_names()) if name in names}
        return {name: self.content(row) for name, row in found.items()}

    def contents_elsewhere(self, names: Collection[str]) -> dict[str, str]:
        """As `contents`, of the samples that have these names in any folder."""
        files = {_file_name(name) for name in names}
        return self.contents({name for name in self.origin.sample_names() if _file_name(name) in files})

    def stored(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The images of these indices as the table has them, for the reader."""
        return [value_of(value, self._dtype) for value in self.table[self.rows[indices].tolist()][self.image_column]]

    def content(self, row: int) -> str:
        """SHA-256 of the encoded image of a row; empty if it cannot be read."""
        return self.reader.content(self._value(row))

    def without(self, rows: np.ndarray) -> ImageDataset:
        """The samples that are not in some rows of the table."""
        return self._view(np.setdiff1d(self.rows, rows))  # sorted

    def measured(self, rows: np.ndarray) -> ImageDataset:
        """The samples in some rows of the table, cropped at the centre and never flipped."""
        view = self._view(np.sort(rows))
        view.framing = self.framing.centred()
        return view

    def _view_of(self, index: int, draws: Sequence[float]) -> ViewOf:
        """What is seen in place `index`, whichever image it is of in the end; its size is that of its own image."""
        if self.sizes is None:
            return self.framing.drawn(draws)
        sizes = self.sizes[[int(self.rows[index])]]
        return self.framing.drawn(draws, self.framing.buckets[nearest(sizes, self.framing.buckets)[0]])

    def _sizes(self) -> np.ndarray:
        """Width and height of each upright image, (N, 2), by its header; a square of what cannot be read."""
        sizes = np.ones((len(self.rows), 2), dtype=np.int64)
        for row in range(len(sizes)):
            with suppress(DataError):
                sizes[row] = self.reader.size(value_of(self.table[row][self.image_column]), self.channels, as_seen=True)
        return sizes

    def _split_at(self, held_out: np.ndarray) -> tuple[ImageDataset, ImageDataset]:
        return self.without(held_out), self.measured(held_out)

    def _value(self, row: int) -> dict[str, Any]:
        return value_of(self.table[row][self.image_column], self._dtype)

    def _view(self, rows: np.ndarray) -> ImageDataset:
        view = copy.copy(self)
        view.rows, view._epoch = rows, _shared_zero()
        return view

    def _name(self, row: int, value: dict[str, Any], error: DataError | None = None) -> str:
        if value.get("bytes") is None and value.get("path") and not isinstance(error, RefusedError):
            return printable(value["path"])
        sources = [(name, length or 0) for name, length in self.origin.sources]
        ends = list(accumulate(length for _, length in sources))
        if not ends:
            return f"row {row}"
        source = bisect_right(ends, row)
        name, length = sources[source]
        return f"row {row - ends[source] + length} of {name}"


def _shared_zero() -> torch.Tensor:
    """Epoch counter in shared memory, so that a change reaches loading processes that outlive an epoch."""
    return torch.zeros((), dtype=torch.int64).share_memory_()


def say_if_refused(name: str, error: DataError) -> None:
    """Say once why a row that names another place is left out: there may be nothing wrong with the image."""
    if isinstance(error, RefusedError):
        say_once("refused row", f"{name} is left out, and so are others like it: {error}")


def collate(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack items of `ImageDataset` or `Circles` into a batch.

    Returns:
        A dict with "pixel_values" (B, C, H, W), "factors" (B, F) if the items have them, and "unreadable", a single
        list of names; and "sides", the shorter side of each image, and "clipped", names, if the items have them.
    """
    stacked = {name: torch.stack([item[name] for item in batch]) for name in batch[0] if name not in LISTED}
    listed: dict[str, list[Any]] = {"unreadable": [name for item in batch for name in item.get("unreadable", ())]}
    if "side" in batch[0]:
        listed["sides"] = [item["side"] for item in batch]
    if "clipped" in batch[0]:
        listed["clipped"] = [name for item in batch for name in item["clipped"]]
    return {**stacked, **listed}


def _file_name(sample: str) -> str:
    return sample.rpartition("/")[2]
