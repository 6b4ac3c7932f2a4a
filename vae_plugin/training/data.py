"""From the options to the images of training and validation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from ..datasets import Circles, ImageStream, collate, load_images, stream_images
from ..errors import UserError
from .checkpoints import TrainingState
from .finetune_options import FinetuneOptions
from .interrupts import leave_signals_to_the_parent
from .sampler import GlobalBatchSampler


def default_channels(options: FinetuneOptions) -> int:
    """Image channels of a new model: gray circles have 1, everything else 3."""
    return 1 if options.dataset_name == "circles" and not options.circles_hue else 3


def load_data(options: FinetuneOptions, channels: int) -> tuple[Dataset | ImageStream, Dataset]:
    """Training and held-out images, (C, resolution, resolution) in [-1, 1] with C = `channels`.

    Raises:
        DataError, UserError: if there are none, or they cannot have that many channels.
    """
    if options.dataset_name == "circles":
        if options.circles_hue and channels != 3:
            raise UserError(f"--circles_hue makes images of 3 channels, the model has {channels}: leave it out.")
        if channels not in (1, 3):
            raise UserError(f"circles have 1 or 3 channels, the model has {channels}: train it on other images.")
        circles = {"resolution": options.resolution, "channels": channels, "hue": options.circles_hue}
        try:
            train = Circles(options.circles_length, seed=2 * options.seed, **circles)
            validation = Circles(max(1, options.num_validation_images), seed=2 * options.seed + 1, **circles)
        except ValueError as error:
            raise UserError(str(error)) from error
    else:
        source = {
            "dataset_name": options.dataset_name,
            "train_data_dir": options.train_data_dir,
            "image_column": options.image_column,
            "resolution": options.resolution,
            "channels": channels,
            "center_crop": options.center_crop,
            "random_flip": options.random_flip,
            "seed": options.seed,
        }
        if options.streaming:
            held_out = max(1, options.num_validation_images)
            stream = stream_images(**source, shuffle_window=options.shuffle_buffer, num_validation=held_out)
            return stream, stream.validation()
        images = load_images(**source)
        train, validation = images.split(max(1, min(options.num_validation_images, len(images) // 10)))
    if options.max_train_samples is not None and options.max_train_samples < len(train):
        train = Subset(train, range(options.max_train_samples))
    return train, validation


def epoch_batches(
    dataset: Dataset | ImageStream, options: FinetuneOptions, state: TrainingState, rank: int, num_processes: int
) -> Iterable[dict[str, Any]]:
    """What is left of the epoch that `state` is in, for one process; of a stream all that is to come."""
    if isinstance(dataset, ImageStream):
        return dataset.batches(
            options.train_batch_size,
            first_image=state.images,
            positions={int(lane): tuple(position) for lane, position in state.stream.items()},
            rank=rank,
            num_processes=num_processes,
            num_threads=max(1, options.dataloader_num_workers),
        )
    owner = dataset.dataset if isinstance(dataset, Subset) else dataset
    if hasattr(owner, "set_epoch"):
        owner.set_epoch(state.epoch)
    sampler = GlobalBatchSampler(
        len(dataset),
        options.train_batch_size,
        rank=rank,
        num_processes=num_processes,
        seed=options.seed,
        epoch=state.epoch,
        first_image=state.images_in_epoch,
        accumulation=options.gradient_accumulation_steps,
    )
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=options.dataloader_num_workers,
        worker_init_fn=leave_signals_to_the_parent,
        pin_memory=torch.cuda.is_available(),
    )


def image_batches(
    dataset: Dataset | ImageStream, batch_size: int = 32, unreadable: set[str] | None = None, limit: int | None = None
) -> Iterator[torch.Tensor]:
    """Batches (B, C, H, W) in order, each image once: what stands in for one that cannot be read is left out.

    Args:
        dataset: of items with "pixel_values" and perhaps "unreadable".
        batch_size: of all batches but the last.
        unreadable: gets the names of the images that cannot be read.
        limit: take so many images, spread evenly over the set; of a stream, which needs it, over its lanes.
    """
    if isinstance(dataset, ImageStream):
        dataset = dataset.first(limit)
    if limit is not None and limit < len(dataset):
        dataset = Subset(dataset, [i * len(dataset) // limit for i in range(limit)])
    batch: list[torch.Tensor] = []
    for i in range(len(dataset)):
        item = dataset[i]
        if item.get("unreadable"):
            if unreadable is not None:
                unreadable.update(item["unreadable"])
            continue
        batch.append(item["pixel_values"])
        if len(batch) == batch_size:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)
