"""Images that look alike: near-duplicates, found by a hash of what is seen.

The hash is the difference hash (N. Krawetz, "Kind of Like That", 2013) of rows and columns, as the package `dhash` has
it: of 9 x 9 gray pixels, whether each is darker than the one to its right, and than the one below. Of 128 such bits,
photographs that were compressed anew (JPEG, quality 30), resized to a third, or made 15% darker or 10% lighter differ
in at most 9, 99 of 100 in at most 8, and different ones in 37 and more (150 photographs). Of the 50,000 images of
CIFAR-10, 303 are linked to others, nearly all of them pictures of the same thing. Mirrored, turned or cropped copies
are not found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from .errors import DataError
from .framing import Size, View
from .images import ImageDataset
from .rasters import COLOURS, to_channels

SIDE = 8
BITS = 2 * SIDE * SIDE
MOST = 8  # bits in which near-duplicates differ
TOGETHER = 32  # images that are read together
BLOCK = 2048  # rows of a bucket that are compared with the others at once


def hashes(
    images: ImageDataset, indices: Sequence[int], threads: int = 1, advanced: Callable[[int], None] = lambda count: None
) -> np.ndarray:
    """The hashes of images, bool (N, 128). Those that cannot be read have no bit, and a 129th says so: (N, 129).

    Args:
        images: to look at.
        indices: of them.
        threads: that decode.
        advanced: told how many more are done.
    """
    found = np.zeros((len(indices), BITS + 1), dtype=bool)

    def read(start: int) -> int:
        values = images.stored(indices[start : start + TOGETHER])
        for place, value in enumerate(values, start):
            found[place, BITS] = True
            with suppress(DataError):
                found[place] = (*_bits(_gray(images, value)), False)
        return len(values)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        for count in pool.map(read, range(0, len(indices), TOGETHER)):
            advanced(count)
    return found


def groups_by_hash(found: np.ndarray, most: int = MOST) -> np.ndarray:
    """The group of each image, (N,): images are of one group that differ in few bits, or are linked by others that do.

    Groups are numbered by their first images. Two hashes that differ in at most `most` bits agree in one of most + 1
    parts (Manku, Jain and Das Sarma 2007, "Detecting near-duplicates for web crawling"): only these are compared.

    Args:
        found: see `hashes`; an image that cannot be read is a group of its own.
        most: bits in which near-duplicates differ.
    """
    unreadable = np.flatnonzero(found[:, BITS])
    # Equal hashes need no comparison; those of flat images are often many.
    kinds, kind = np.unique(np.packbits(found, axis=1), axis=0, return_inverse=True)
    bits = np.unpackbits(kinds, axis=1, count=BITS)
    labels = np.arange(len(kinds))
    for part in range(most + 1):
        # Every (most + 1)th bit: parts of neighbouring pixels would be alike in too many images with a plain margin.
        for bucket in _buckets(np.packbits(bits[:, part :: most + 1], axis=1)):
            for one, other in _alike(bits[bucket], most):
                _join(labels, bucket[one], bucket[other])
    groups = _roots(labels)[kind.reshape(-1)]
    groups[unreadable] = len(kinds) + unreadable
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse.reshape(-1)]


def _gray(images: ImageDataset, value: object) -> np.ndarray:
    """The whole image in gray, (9, 9) in [-1, 1]."""
    seen = images.reader.tensor(value, images.channels, _whole)  # type: ignore[arg-type]
    pixels = seen.permute(1, 2, 0).numpy()
    return to_channels(pixels, 1)[..., 0] if images.channels in COLOURS else pixels.mean(axis=-1)


def _whole(size: Size) -> View:
    return View((0, 0, *size), (SIDE + 1, SIDE + 1))


def _bits(gray: np.ndarray) -> np.ndarray:
    corner = gray[:SIDE, :SIDE]
    return np.concatenate([(corner < gray[:SIDE, 1:]).ravel(), (corner < gray[1:, :SIDE]).ravel()])


def _buckets(keys: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of equal keys, where there are at least two."""
    _, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(inverse.reshape(-1), kind="stable")
    for rows in np.split(order, np.cumsum(counts)[:-1]):
        if len(rows) > 1:
            yield rows


def _alike(bits: np.ndarray, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows that differ in at most so many bits, block by block."""
    signs = bits.astype(np.float32) * 2 - 1  # whose products count the bits that agree, minus those that do not
    for start in range(0, len(bits), BLOCK):
        products = signs[start : start + BLOCK] @ signs[start:].T
        one, other = np.nonzero(products >= BITS - 2 * most)
        later = other > one
        yield one[later] + start, other[later] + start


def _join(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> None:
    """Note that pairs are of one group: a label is the number of another of the group, and the smallest is its own."""
    while len(one):
        roots = _roots(labels)
        one, other = roots[one], roots[other]
        apart = one != other
        one, other = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
        np.minimum.at(labels, other, one)


def _roots(labels: np.ndarray) -> np.ndarray:
    """The smallest number of the group of each."""
    while not np.array_equal(further := labels[labels], labels):
        labels[:] = further
    return labels
