"""Images from any data set of Python's, in the form of `ImageDataset`."""

from __future__ import annotations

import copy
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

from ..notices import say_once
from .errors import DataError
from .members import digest_of, from_python

LOOKED_AT = 16  # items that are read when a data set is given, spread evenly over it
ROUNDING = 1e-2  # by which values may leave [-1, 1]
ACCEPTED = "a data set has a length and gives, by number, tensors (C, H, W) or dicts with them as 'pixel_values'"


class OwnImages(Dataset):
    """The images of a data set that was made in Python.

    Item i is a dict with "pixel_values", float32 (C, H, W), and "unreadable", which is empty. What an item draws from
    the generators of torch, NumPy and `random` depends on (seed, epoch, i) alone, so that random augmentation is the
    same however many processes load, and when a run is continued.

    Args:
        dataset: of images in [-1, 1], all of one size: tensors (C, H, W) of floats, or dicts with them as
            "pixel_values", or tuples that begin with them.
        name: what errors call it.
        seed: of the items and of `split`.

    Attributes:
        shape: (C, H, W) of the images.
        digest: of the number of images, their shape, and some of them.

    Raises:
        DataError: if it is no such data set, is empty, or has images that are none in [-1, 1].
    """

    def __init__(self, dataset: Any, name: str, seed: int) -> None:
        if isinstance(dataset, IterableDataset) or not all(hasattr(dataset, f"__{it}__") for it in ("len", "getitem")):
            raise DataError(
                f"{name} is a {type(dataset).__name__}, whose items have no numbers, so that none can be held out, "
                f"shuffled or found again: {ACCEPTED}."
            )
        self.dataset, self.name, self.seed = dataset, name, seed
        self.rows = np.arange(_length(dataset, name))
        if not len(self.rows):
            raise DataError(f"{name} is empty: give at least one image.")
        self._epoch = _shared_zero()
        self.shape: tuple[int, ...] | None = None
        with generators_kept():
            first = self._image(0)
            self.shape = tuple(first.shape)
            self.digest = self._look(first)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The items of these indices; a `DataLoader` asks for its batches so."""
        with generators_kept():
            return [{"pixel_values": self._image(int(self.rows[index])), "unreadable": ()} for index in indices]

    def set_epoch(self, epoch: int) -> None:
        """Select the random numbers of an epoch, counted from 0."""
        self._epoch.fill_(epoch)

    def names(self) -> dict[str, str]:
        """Name -> nothing, of all items: what was held out is found by its number in the same data set."""
        return {f"item {row}": "" for row in self.rows.tolist()}

    def drawn(self, count: int) -> OwnImages:
        """So many items, drawn by the seed, without random augmentation of later epochs."""
        order = np.random.default_rng(self.seed).permutation(self.rows)
        return self._view(np.sort(order[:count]))

    def named(self, names: Mapping[str, str]) -> OwnImages:
        """The items of these names."""
        return self._view(np.array([row for row in self.rows.tolist() if f"item {row}" in names], dtype=int))

    def without(self, others: OwnImages) -> OwnImages:
        """The items that are not among others of the same data set."""
        return self._view(np.setdiff1d(self.rows, others.rows))

    def _view(self, rows: np.ndarray) -> OwnImages:
        view = copy.copy(self)
        view.rows, view._epoch = rows, _shared_zero()
        return view

    def _image(self, row: int) -> torch.Tensor:
        """The image of an item. It seeds the generators, which the caller keeps."""
        seed_generators((self.seed, int(self._epoch), row))
        try:
            found = self.dataset[row]
        except Exception as error:  # whatever the code of the user raises
            reason = " ".join(str(error).split()).rstrip(".")
            raise DataError(
                f"item {row} of {self.name} cannot be read: {type(error).__name__}{': ' * bool(reason)}{reason}."
            ) from error
        image = _tensor_in(found)
        if image is None:
            raise DataError(f"item {row} of {self.name} is a {type(found).__name__} without a tensor: {ACCEPTED}.")
        if not image.is_floating_point():
            raise DataError(
                f"item {row} of {self.name} has the type {image.dtype}: give floats in [-1, 1], such as "
                "image / 127.5 - 1 of bytes."
            )
        expected = image.shape if self.shape is None else self.shape
        if image.ndim != 3 or 0 in image.shape or image.shape != expected:
            one_size = "" if self.shape is None else f", and item 0 is {_shown(self.shape)}: give images of one size"
            wanted = "" if image.ndim == 3 and 0 not in image.shape else ": give tensors (C, H, W)"
            raise DataError(f"item {row} of {self.name} is {_shown(image.shape)}{wanted or one_size}.")
        low, high = (float(bound) for bound in image.detach().aminmax())
        if not (low >= -1 - ROUNDING and high <= 1 + ROUNDING):
            raise DataError(f"item {row} of {self.name} {_out_of_range(low, high)}.")
        return image.detach().to("cpu", torch.float32)

    def _look(self, first: torch.Tensor) -> str:
        """Read some of the items: their digest."""
        count = min(LOOKED_AT, len(self))
        images = [self._image(i * len(self) // count) for i in range(count)]
        if min(float(image.min()) for image in images) >= 0 and max(float(image.max()) for image in images) > 0:
            raise DataError(
                f"the values of {self.name} seem to be in [0, 1] (none of {count} items has one below 0): give images "
                "in [-1, 1], such as 2 * image - 1."
            )
        contents = [hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in images]
        if not torch.equal(first, images[0]):
            contents = []
            say_once(
                f"varying {self.name}",
                f"item 0 of {self.name} is another image whenever it is read, by random numbers that are not those of "
                "torch, NumPy or random: a continued run will not repeat these.",
            )
        return from_python(digest_of([len(self), *first.shape, *contents]))


def _length(dataset: Any, name: str) -> int:
    try:
        return len(dataset)
    except Exception as error:  # whatever the code of the user raises
        raise DataError(
            f"the length of {name} cannot be told ({type(error).__name__}: {error}): {ACCEPTED}."
        ) from error


def _tensor_in(found: Any) -> torch.Tensor | None:
    if isinstance(found, Mapping):
        found = found.get("pixel_values")
    elif isinstance(found, Sequence) and not isinstance(found, str) and len(found):
        found = found[0]  # an image and its label
    return found if isinstance(found, torch.Tensor) else None


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _out_of_range(low: float, high: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "has values that are not finite: give images in [-1, 1]"
    remedy = "image / 127.5 - 1" if low >= 0 and 2 < high <= 255 else "image.clamp(-1, 1) if that is by resizing"
    return f"has values from {low:g} to {high:g}: give images in [-1, 1], such as {remedy}"


@contextmanager
def generators_kept() -> Iterator[None]:
    """Leave the generators of torch (on the CPU), NumPy and `random` after a block as they were before it.

    Reading and setting their states takes ten times as long as seeding them, so that it is done once for many items.
    """
    torch_state, numpy_state, state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(state)


def seed_generators(key: Sequence[int]) -> None:
    """Let what is drawn next by torch (on the CPU), NumPy and `random` depend on the key alone."""
    seed = int(np.random.SeedSequence(list(key)).generate_state(1)[0])
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _shared_zero() -> torch.Tensor:
    return torch.zeros((), dtype=torch.int64).share_memory_()  # a change reaches loading processes
