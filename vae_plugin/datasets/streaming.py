"""Images read from shards in order, for data that is too large or too far away to be picked from at random."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import datasets
import numpy as np
import torch

from .images import ImageDataset, decode
from .transforms import DataError, check_channels, to_tensor

MAX_LANES = 64
PREFETCH = 2

Position = tuple[int, int, int]  # epoch, place among the shards of the lane, samples of that shard consumed


class ImageStream:
    """Square images in [-1, 1] from shards (parquet, WebDataset tars, ...), read once from front to end in each epoch.

    The shards are dealt to lanes; image i of the run comes from lane i mod L, so what a run sees depends on neither the
    number of processes nor of threads. A lane takes its shards in an order drawn for each epoch, and within a shard
    shuffles windows of consecutive samples. Where the number of processes divides L, and L their common batch, each
    process reads its own lanes only; otherwise each reads all of them and decodes its own part.

    A run goes on from the positions of the lanes exactly, with any number of processes, as long as the batch of all of
    them together stays the same or a multiple of L: nothing is repeated or lost. It reads again the window and, where
    the format cannot jump, the shard up to it.

    Args:
        table: a streaming data set; L is the largest power of two not above its number of shards (at most 64).
        image_column: its column of images.
        resolution: side of the square in pixels; the shorter side of an image is resized to it.
        channels: of the images.
        center_crop: cut the square from the middle, rather than at random along the longer side.
        random_flip: mirror half of the images left to right.
        seed: of shards, windows, crops and flips; not negative.
        shuffle_window: samples of the windows of all lanes together.
        num_validation: so many samples at the beginning of the first shard are held out.
    """

    def __init__(
        self,
        table: datasets.IterableDataset,
        image_column: str,
        *,
        resolution: int,
        channels: int,
        center_crop: bool = False,
        random_flip: bool = False,
        seed: int = 0,
        shuffle_window: int = 4096,
        num_validation: int = 0,
    ) -> None:
        self.image_column = image_column
        self.table = table.select_columns([image_column]).cast_column(image_column, datasets.Image(decode=False))
        self.num_shards = self.table.num_shards
        self.lanes = 1 << (min(self.num_shards, MAX_LANES).bit_length() - 1)
        self.resolution = resolution
        self.channels = check_channels(channels)
        self.center_crop = center_crop
        self.random_flip = random_flip
        self.seed = seed
        self.window = max(1, shuffle_window // self.lanes)
        self.held_out = num_validation
        self.ignored_files: tuple[str, ...] = ()

    def validation(self) -> ImageDataset:
        """The held-out samples, centre crops and never flipped.

        Raises:
            DataError: if there are none.
        """
        return self._in_memory(list(islice(self._samples(0, 0), self.held_out)))

    def first(self, count: int) -> ImageDataset:
        """The first images of the lanes, as `validation`: a set to measure statistics on."""
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
        """The part of one process of all batches to come, without end.

        Args:
            batch_size: of this process.
            first_image: images that the run has seen, over all processes.
            positions: where each lane stands; default: at the beginning.
            rank: which process this is.
            num_processes: how many there are, all with that batch size.
            num_threads: that decode images.

        Returns:
            "pixel_values" (B, C, H, W); "unreadable", names of damaged images, for which another one of their window
            stands in; "images", the numbers of these images in the run; "positions", of the lanes that this process
            reads, after the batch.
        """
        together = batch_size * num_processes
        own = self.own_lanes(batch_size, rank, num_processes)
        places: dict[int, Position] = {lane: (positions or {}).get(lane, (0, 0, 0)) for lane in own}
        readers = {lane: self._lane_samples(lane, places[lane]) for lane in own}
        waiting: deque[tuple[list[Future], list[int], dict[int, Position]]] = deque()
        with ThreadPoolExecutor(max(1, num_threads)) as pool:
            while True:
                while len(waiting) <= PREFETCH:
                    numbers, futures = [], []
                    for number in range(first_image, first_image + together):
                        lane = number % self.lanes
                        if lane not in readers:
                            continue
                        window, place = next(readers[lane])
                        places[lane] = place
                        if len(own) < self.lanes or (number - first_image) // batch_size == rank:
                            numbers.append(number)
                            futures.append(pool.submit(self._decode, window, number))
                    waiting.append((futures, numbers, dict(places)))
                    first_image += together
                futures, numbers, after = waiting.popleft()
                items = [future.result() for future in futures]
                yield {
                    "pixel_values": torch.stack([pixels for pixels, _ in items]),
                    "unreadable": [name for _, names in items for name in names],
                    "images": numbers,
                    "positions": after,
                }

    def own_lanes(self, batch_size: int, rank: int, num_processes: int) -> range:
        """The lanes that a process reads: its share of them if they can be shared, else all."""
        if self.lanes % num_processes or (batch_size * num_processes) % self.lanes:
            return range(self.lanes)
        share = self.lanes // num_processes
        return range(rank * share, (rank + 1) * share)

    def _lane_samples(self, lane: int, position: Position = (0, 0, 0)) -> Iterator[tuple[Any, Position]]:
        """(window with the sample first, position after it) of a lane, from a position, without end."""
        epoch, place, consumed = position
        while True:
            order = np.random.default_rng((self.seed, 1, epoch)).permutation(self.num_shards)[lane :: self.lanes]
            found = place > 0 or consumed > 0
            for here in range(place, len(order)):
                shard = int(order[here])
                for window, number in self._windows(shard, consumed // self.window):
                    rng = np.random.default_rng((self.seed, 2, epoch, shard, number))
                    shuffled = [window[i] for i in rng.permutation(len(window))]
                    for i in range(consumed - number * self.window, len(window)):
                        found = True
                        consumed += 1
                        yield shuffled[i:] + shuffled[:i], (epoch, here, consumed)
                consumed = 0
            if not found:
                raise DataError(
                    f"lane {lane} of {self.lanes} has no image left to train on: hold out fewer, or add some."
                )
            epoch, place = epoch + 1, 0

    def _windows(self, shard: int, first: int) -> Iterator[tuple[list[Any], int]]:
        held_out = self.held_out if shard == 0 else 0
        samples = self._samples(shard, held_out + first * self.window)
        while window := list(islice(samples, self.window)):
            yield window, first
            first += 1

    def _samples(self, shard: int, skip: int) -> Iterator[dict[str, Any]]:
        table = self.table.shard(num_shards=self.num_shards, index=shard)
        for row in table.skip(skip) if skip else table:
            yield row[self.image_column] or {}

    def _decode(self, window: Sequence[dict[str, Any]], number: int) -> tuple[torch.Tensor, list[str]]:
        draws = np.random.default_rng((self.seed, 3, number)).random(3)
        crop = (0.5, 0.5) if self.center_crop else (draws[0], draws[1])
        flip = self.random_flip and draws[2] < 0.5
        unreadable: list[str] = []
        for value in window:
            try:
                return to_tensor(decode(value), self.resolution, self.channels, crop, flip), unreadable
            except DataError as error:
                unreadable.append(value.get("path") or f"an image of the window of image {number}")
                reason = error
        raise DataError(f"none of {len(window)} images that follow each other can be read ({reason}).")

    def _in_memory(self, values: list[dict[str, Any]]) -> ImageDataset:
        # `first` gives windows, of which the sample itself is the first.
        values = [value[0] if isinstance(value, list) else value for value in values]
        table = datasets.Dataset.from_dict({"image": values}, datasets.Features({"image": datasets.Image()}))
        return ImageDataset(
            table, "image", resolution=self.resolution, channels=self.channels, center_crop=True, seed=self.seed
        )
