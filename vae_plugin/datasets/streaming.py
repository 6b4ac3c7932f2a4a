"""Sequential reading of images from shards, for data too large or too remote for random access."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..notices import printable, show
from .errors import DataError
from .framing import Framing
from .images import ImageDataset, say_if_refused
from .members import UNKNOWN_ORIGIN, Origin, find_held_out, member_name, row_name
from .reading import DEFAULT_READER, ImageReader
from .rows import encoded_type
from .shards import Sample, Shards
from .tars import Damage
from .transforms import check_channels

MAX_LANES = 64
PREFETCH = 2

Position = tuple[int, int, int]  # epoch, index among the shards of the lane, number of samples consumed of that shard


class ImageStream:
    """Square images in [-1, 1] from shards (parquet, WebDataset tar files, ...), read sequentially once per epoch.

    The shards are dealt to L lanes, and image i of the run comes from lane i mod L, so what a run sees depends on
    neither the number of processes nor the number of threads. Each lane reads its shards in an order drawn anew for
    every epoch, and shuffles windows of consecutive samples within a shard. If the number of processes divides L, and L
    divides their global batch, each process reads only its own lanes. Otherwise each process reads all lanes and
    decodes only its own images.

    A run can resume exactly from the positions of its lanes, with nothing repeated or lost. The number of processes can
    change as long as the global batch stays the same or is a multiple of L. Resuming reads the current window again,
    and the shard up to it if the format does not support seeking.

    Args:
        shards: L is the largest power of two that does not exceed their number, at most 64.
        framing: which part of an image is seen.
        channels: see `ImageReader.tensor`.
        seed: random seed of shard order, windows, crops and flips, not negative.
        shuffle_window: total number of samples in the windows of all lanes.
        min_image_size: shorter side in pixels that an image has at least; smaller ones are left out.
        num_validation: number of samples to hold out, taken from the beginning of the first shard.
        origin: of the shards.
        reader: how an image is opened.

    Raises:
        DataError: for another number of channels, or for buckets.
    """

    def __init__(
        self,
        shards: Shards,
        *,
        framing: Framing,
        channels: int,
        seed: int = 0,
        shuffle_window: int = 4096,
        min_image_size: int = 1,
        num_validation: int = 0,
        origin: Origin = UNKNOWN_ORIGIN,
        reader: ImageReader = DEFAULT_READER,
    ) -> None:
        if framing.buckets:
            raise DataError(
                "crop is 'whole', which needs the sizes of all images beforehand, and a stream reads them in order: "
                "give another crop, or leave out --streaming."
            )
        self.shards = shards
        self.num_shards = len(shards.names)
        self.lanes = 1 << (min(self.num_shards, MAX_LANES).bit_length() - 1)
        self.framing = framing
        self.channels = check_channels(channels, reader.rules)
        self.seed = seed
        self.window = max(1, shuffle_window // self.lanes)
        self.min_image_size = min_image_size
        self.num_validation = num_validation
        self.damaged: dict[str, dict[str, int]] = {}  # shard -> what is wrong -> number of samples lost by it
        self._reads_alone = False  # whether no other process reads the same shards
        self._lost = 0  # of these, since the last batch
        self.held_out: frozenset[str] | None = None  # names, where they are not the first ones
        self.left_out: frozenset[str] = frozenset()  # SHA-256 of encoded images that are not trained on
        self.passed_over: set[str] = set()  # of these, those that were met
        self.origin = origin
        self.reader = reader

    def validation(self) -> ImageDataset:
        """The held-out images, cropped at the centre and never flipped.

        Raises:
            DataError: if there are none.
        """
        names, values = [], []
        for name, value in self._held_out_samples():
            names.append(name)
            values.append(value)
        images = self._in_memory(values, Origin(location=self.origin.location, names=tuple(names)))
        return images.at_least(self.min_image_size) if self.min_image_size > 1 else images

    def held_out_contents(self) -> dict[str, str]:
        """Name -> SHA-256 of the encoded image, of the held-out samples, also of those that are too small."""
        return {name: self.reader.content(value) for name, value in self._held_out_samples()}

    def contents(self, names: Collection[str]) -> dict[str, str]:
        """Name -> SHA-256 of the encoded image, of the samples of these names that are there."""
        return {name: self.reader.content(value) for name, value in self._samples_named(frozenset(names))}

    def split_by_names(self, held_out: Mapping[str, str], same_files: bool) -> tuple[ImageStream, ImageDataset]:
        """See `ImageDataset.split_by_names`; where files changed, all are read for it. The stream is changed itself.

        Raises:
            DataError: if none of the samples is left.
        """
        if same_files:
            names = set(held_out)
        else:
            found = [
                (name, self.reader.content(value))
                for shard in range(self.num_shards)
                for name, value in self._named(shard)
            ]
            contents = [content for _, content in found]
            rows = find_held_out((name for name, _ in found), contents.__getitem__, held_out, same_files=False)
            names = {found[row][0] for row in rows}
        if not names:
            raise DataError(
                f"none of the images in {self.origin.location} was held out of training before: give data with at "
                "least one of these."
            )
        if names != {name for name, _ in self._held_out_samples()}:
            self.held_out = frozenset(names)
        return self, self.validation()

    def first(self, count: int) -> ImageDataset:
        """The first `count` images, spread over the lanes and prepared like `validation`, to measure statistics on."""
        per_lane = -(-count // self.lanes)
        found = []
        for lane in range(self.lanes):
            samples = self._lane_samples(lane)
            found += [value for value, _ in islice(samples, per_lane)]
        return self._in_memory(found[:count])

    def batches(
        self,
        batch_size: int,
        *,
        first_image: int = 0,
        positions: dict[int, Position] | None = None,
        rank: int = 0,
        num_processes: int = 1,
        num_threads: int = 2,
    ) -> Iterator[dict[str, Any]]:
        """Yield this process's share of every batch from here on, endlessly.

        Args:
            batch_size: batch size of a single process.
            first_image: number of images that the run has seen, over all processes.
            positions: position of each lane; defaults to the beginning.
            rank: index of this process.
            num_processes: number of processes, all with the same batch size.
            num_threads: number of threads that decode images.

        Returns:
            An iterator over dicts with "pixel_values" (B, C, H, W); "unreadable", the names of damaged images, each of
            which is replaced by another image of its window; "lost", the number of samples that damaged shards have
            lost since the last batch; "sides", the shorter side of each image in pixels; "clipped", the names of images
            with values beyond the range that was given; "images", the numbers of the
            images within the run; and "positions", the positions after the batch of the lanes that this process reads.
        """
        global_batch = batch_size * num_processes
        own = self.own_lanes(batch_size, rank, num_processes)
        self._reads_alone = len(own) < self.lanes
        current: dict[int, Position] = {lane: (positions or {}).get(lane, (0, 0, 0)) for lane in own}
        readers = {lane: self._lane_samples(lane, current[lane]) for lane in own}
        waiting: deque[tuple[list[Future], list[int], dict[int, Position]]] = deque()
        with ThreadPoolExecutor(max(1, num_threads)) as pool:
            while True:
                while len(waiting) <= PREFETCH:
                    numbers, futures = [], []
                    for number in range(first_image, first_image + global_batch):
                        lane = number % self.lanes
                        if lane not in readers:
                            continue
                        window, current[lane] = next(readers[lane])
                        if len(own) < self.lanes or (number - first_image) // batch_size == rank:
                            numbers.append(number)
                            futures.append(pool.submit(self._decode, window, number))
                    waiting.append((futures, numbers, dict(current)))
                    first_image += global_batch
                futures, numbers, after = waiting.popleft()
                items = [future.result() for future in futures]
                lost, self._lost = self._lost, 0
                yield {
                    "lost": lost,
                    "pixel_values": torch.stack([pixels for pixels, _, _, _ in items]),
                    "unreadable": [name for _, names, _, _ in items for name in names],
                    "sides": [side for _, _, side, _ in items],
                    "clipped": [name for _, _, _, names in items for name in names],
                    "images": numbers,
                    "positions": after,
                }

    def own_lanes(self, batch_size: int, rank: int, num_processes: int) -> range:
        """Lanes that a process reads: its own share if they can be divided evenly, otherwise all."""
        if self.lanes % num_processes or (batch_size * num_processes) % self.lanes:
            return range(self.lanes)
        share = self.lanes // num_processes
        return range(rank * share, (rank + 1) * share)

    def _lane_samples(self, lane: int, position: Position = (0, 0, 0)) -> Iterator[tuple[Any, Position]]:
        """Yield (window starting with the sample, position after it) of a lane, endlessly from a position."""
        epoch, first_shard, consumed = position
        empty: set[int] = set()
        while True:
            order = np.random.default_rng((self.seed, 1, epoch)).permutation(self.num_shards)[lane :: self.lanes]
            found = first_shard > 0 or consumed > 0
            for shard_index in range(first_shard, len(order)):
                shard = int(order[shard_index])
                for window, number in self._windows(shard, consumed // self.window):
                    rng = np.random.default_rng((self.seed, 2, epoch, shard, number))
                    shuffled = [window[i] for i in rng.permutation(len(window))]
                    for i in range(consumed - number * self.window, len(window)):
                        found = True
                        consumed += 1
                        yield shuffled[i:] + shuffled[:i], (epoch, shard_index, consumed)
                consumed = 0
            empty = empty.union(order.tolist()) if not found else set()
            if len(empty) == self.num_shards:  # each epoch gives the lane others, by chance
                raise DataError(
                    f"{self.origin.location} has no image left to train on: hold out fewer images or add more."
                )
            epoch, first_shard = epoch + 1, 0

    def _windows(self, shard: int, first: int) -> Iterator[tuple[list[Any], int]]:
        samples = self._training_samples(shard, first * self.window)
        while window := list(islice(samples, self.window)):
            yield window, first
            first += 1

    def _training_samples(self, shard: int, skip: int) -> Iterator[dict[str, Any]]:
        if self.left_out:
            return islice(filter(self._is_trained_on, self._samples(shard, 0)), skip, None)
        if self.held_out is None:
            return self._samples(shard, skip + (self.num_validation if shard == 0 else 0))
        held_out = self.held_out
        if not self._holds(shard, held_out):
            return self._samples(shard, skip)
        return islice((value for name, value in self._named(shard) if name not in held_out), skip, None)

    def _is_trained_on(self, value: dict[str, Any]) -> bool:
        content = self.reader.content(value)
        if content not in self.left_out:
            return True
        self.passed_over.add(content)
        return False

    def _held_out_samples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self.held_out is None:
            return islice(self._named(0), self.num_validation)
        return self._samples_named(self.held_out)

    def _samples_named(self, names: frozenset[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        named = (s for shard in range(self.num_shards) if self._holds(shard, names) for s in self._named(shard))
        return islice((sample for sample in named if sample[0] in names), len(names))

    def _holds(self, shard: int, names: Collection[str]) -> bool:
        source = self.shards.names[shard]
        return any(name.startswith((row_name(source, ""), member_name(source, ""))) for name in names)

    def _named(self, shard: int, skip: int = 0) -> Iterator[Sample]:
        for found in self.shards.samples(shard, skip):
            if isinstance(found, Damage):
                self._note(self.shards.names[shard], found)
            else:
                yield found

    def _note(self, name: str, damage: Damage) -> None:
        known = self.damaged.setdefault(name, {})
        if damage.reason not in known:
            known[damage.reason] = damage.lost
            self._lost += damage.lost
            if self._reads_alone or os.environ.get("RANK", "0") == "0":
                show(f"note: {name} in {self.origin.location} is damaged: {damage.reason}.", sys.stderr)

    def _samples(self, shard: int, skip: int) -> Iterator[dict[str, Any]]:
        return (value for _, value in self._named(shard, skip))

    def _decode(self, window: Sequence[dict[str, Any]], number: int) -> tuple[torch.Tensor, list[str], int, list[str]]:
        view_of = self.framing.keyed((self.seed, 3, number))
        unreadable: list[str] = []
        reason: object = f"it is smaller than --min_image_size {self.min_image_size}"
        for value in window:
            try:
                if value.get("bytes") is None:  # not fetched twice
                    value = {**value, "bytes": self.reader.encoded(value)}
                side = min(self.reader.size(value, self.channels))
                if side >= self.min_image_size:
                    found, clipped = self.reader.tensor_and_clipped(value, self.channels, view_of)
                    return found, unreadable, side, [_name(value, number)] if clipped else []
            except DataError as error:
                unreadable.append(_name(value, number))
                say_if_refused(unreadable[-1], error)
                reason = error
        raise DataError(f"none of {len(window)} consecutive images can be used. The last: {str(reason).rstrip('.')}.")

    def _in_memory(self, values: list[dict[str, Any]], origin: Origin = UNKNOWN_ORIGIN) -> ImageDataset:
        # `first` passes windows, which start with the sample itself.
        values = [value[0] if isinstance(value, list) else value for value in values]
        import datasets

        table = datasets.Dataset.from_dict({"image": values}, datasets.Features({"image": encoded_type()}))
        return ImageDataset(
            table,
            "image",
            framing=self.framing.centred(),
            channels=self.channels,
            seed=self.seed,
            origin=origin,
            reader=self.reader,
        )


def _name(value: dict[str, Any], number: int) -> str:
    """What an image of a window is called."""
    return printable(value.get("path") or "") or f"an image in the window of image {number}"
