"""The images of training and validation, and the batches of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset, Subset

from ..datasets import ImageDataset, ImageStream, collate, draw, load_images, shared_batches, stream_images
from ..datasets.batches import bucket_numbers
from ..datasets.errors import DataError
from ..datasets.framing import WHOLE, aspect_buckets
from ..datasets.members import DataRecord
from ..datasets.survey import clipped
from ..errors import UserError
from ..models.distributed import objects_over_processes
from ..models.shares import Share
from ..notices import show, some
from ..signals import leave_signals_to_the_parent
from .buckets import fill_buckets
from .failures import DataFailed
from .hold_out import copies_left, hold_out
from .intake import Intake
from .overview import look_over, unreadable_limit
from .own_data import OwnData, split_own
from .sampler import BucketSampler, GlobalBatchSampler, filled, image_backgrounds, image_noise
from .settings import DataSettings, OptimizationSettings
from .settings.data import circles_for
from .settings.opening import checked_range
from .state import TrainingState
from .validation_set import check_kept, open_validation_set

STATISTICS_IMAGES = 2048
NEW = DataRecord()


@dataclass
class Batch:
    """One batch of one process.

    Attributes:
        images: (B, C, H, W) in [-1, 1], on the device.
        noise: standard normal of the shape that the loss needs, on the device.
        backgrounds: colours that the images are seen over, (B, 3) in [-1, 1], on the device; None if they are opaque.
        positions: where the lanes of a stream stand after it.
    """

    images: torch.Tensor
    noise: torch.Tensor
    backgrounds: torch.Tensor | None = None
    positions: dict[int, tuple[int, ...]] = field(default_factory=dict)


class TrainingData:
    """The images of a run, cut into the same batches whatever the number of processes.

    Args:
        settings: of the data, with the resolution of the run.
        optimization: for the sizes of batches and steps, and the seed.
        channels: of the images.
        accelerator: for the processes and the device.
        record: of the checkpoint that a run continues from.
        multiple: of which the sides of images are whole multiples, where they have several sizes.
        own: data sets that were given from Python, instead of those that the settings name.

    Attributes:
        record: for the checkpoints of this run.
        changed: whether the data are not those of the checkpoint that it continues from.
        regrouped: whether they are, in other batches of images of one size.

    Raises:
        DataError, UserError: if there are no such images, or too few for one step.
    """

    def __init__(
        self,
        settings: DataSettings,
        optimization: OptimizationSettings,
        channels: int,
        accelerator: Accelerator,
        record: DataRecord = NEW,
        multiple: int = 1,
        own: OwnData | None = None,
    ) -> None:
        self.settings, self.optimization, self.accelerator = settings, optimization, accelerator
        loaded = load_data(settings, optimization.seed, channels, record, multiple, own)
        self.train, self.validation = loaded.train, loaded.validation
        self.record, self.changed = loaded.record, loaded.changed
        self.batch_size = optimization.train_batch_size
        self.global_batch = self.batch_size * accelerator.num_processes
        self.images_per_step = self.global_batch * optimization.gradient_accumulation_steps
        self.intake = Intake(unreadable_limit(settings, record.rules), settings.resolution or 0, self.size)
        self.notes = loaded.notes
        self.regrouped = False
        if settings.crop == WHOLE:
            self.notes += (fill_buckets(self.train, self.global_batch),)
            self.record = replace(self.record, global_batch=self.global_batch)
            self.regrouped = record.global_batch not in (None, self.global_batch)
        self.buckets = None if isinstance(self.train, ImageStream) else bucket_numbers(self.train)
        self.unreadable: set[str] = set()
        self.clipped: set[str] = set()
        self.passed_over: set[str] = set()
        if self.images_per_epoch is not None and self.images_per_epoch < self.images_per_step:
            of_one_size = "" if self.buckets is None else " of one size"
            raise UserError(
                f"{self.size} training images{of_one_size} do not fill one step of {self.images_per_step}: give a "
                "smaller --train_batch_size or --gradient_accumulation_steps."
            )

    @property
    def lanes(self) -> int:
        """Number of lanes of a stream, 0 of other data."""
        return self.train.lanes if isinstance(self.train, ImageStream) else 0

    @property
    def size(self) -> int | None:
        """Number of training images; None of a stream."""
        return None if isinstance(self.train, ImageStream) else len(self.train)  # type: ignore[arg-type]

    @property
    def images_per_epoch(self) -> int | None:
        """Number of images that are shown in a pass over the data, but for its last step; None of a stream."""
        return self.size if self.buckets is None else filled(self.buckets, self.global_batch)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the run."""
        if self.optimization.max_train_steps is not None:
            return self.optimization.max_train_steps
        assert self.images_per_epoch is not None  # a stream needs --max_train_steps
        return self.optimization.num_train_epochs * (self.images_per_epoch // self.images_per_step)

    def batches(
        self, state: TrainingState, noise_shape: Callable[..., tuple[int, ...]], has_alpha: bool = False
    ) -> Iterator[Batch]:
        """The batches of this process from where the state stands, for ever; the state follows the epochs.

        Args:
            state: of the run.
            noise_shape: (B, H, W) -> the shape of the noise.
            has_alpha: whether the images are seen over backgrounds.

        Raises:
            DataFailed: if there are no more that can be read.
        """
        while True:
            for loaded in _failing_as_a_step(self._epoch(state)):
                self.unreadable.update(loaded["unreadable"])
                self.clipped.update(loaded.get("clipped", ()))
                self.intake.add(len(loaded["pixel_values"]), loaded)
                x = loaded["pixel_values"].to(self.accelerator.device, non_blocking=True)
                if self.optimization.channels_last:
                    x = x.contiguous(memory_format=torch.channels_last)
                first = state.images + self.accelerator.process_index * self.batch_size
                numbers = loaded.get("images", range(first, first + len(x)))
                noise = image_noise(self.optimization.seed, numbers, noise_shape(len(x), *x.shape[-2:]))
                seen_over = image_backgrounds(self.optimization.seed, numbers).to(x.device) if has_alpha else None
                yield Batch(x, noise.to(x.device), seen_over, loaded.get("positions", {}))
            state.epoch += 1
            state.images_in_epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Select the random crops and flips of an epoch, counted from 0; a stream has them from its positions."""
        owner = self.train.dataset if isinstance(self.train, Subset) else self.train
        if hasattr(owner, "set_epoch"):
            owner.set_epoch(epoch)

    def statistics_images(self, limit: int = STATISTICS_IMAGES) -> Iterator[Share]:
        """This process's shares of so many training images to measure latents on, spread evenly over the set."""
        return shared_batches(self.train, self.batch_size, limit=limit)

    def validation_images(self) -> Iterator[Share]:
        """This process's shares of the images held out, each that can be read once."""
        return shared_batches(self.validation, self.batch_size, self.unreadable, clipped=self.clipped)

    def check_readable(self) -> None:
        """Stop the run if too many of the images that all processes have read are not readable.

        Raises:
            StepFailed: if so.
        """
        counted = [self.intake.read, self.intake.unreadable]
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(torch.tensor(counted, dtype=torch.float32, device=self.accelerator.device))
            counted = [int(value) for value in sums.tolist()]
        self.intake.check(*counted)

    def gather_unreadable(self) -> None:
        """Let every process know which images were left out."""
        self.unreadable.update(*objects_over_processes(self.unreadable))
        self.clipped.update(*objects_over_processes(self.clipped))
        if isinstance(self.train, ImageStream):
            self.passed_over.update(*objects_over_processes(self.train.passed_over))
        self.intake.merge(objects_over_processes(self.intake.enlarged))

    def report_unreadable(self) -> None:
        """Say which images were left out, passed over, clipped or enlarged."""
        owner = getattr(self.train, "dataset", self.train)
        ignored = owner.origin.ignored_files if isinstance(owner, ImageDataset) else ()
        for kind, files in (("could not be read as images", self.unreadable), ("are not images", ignored)):
            if files:
                show(f"{len(files)} file(s) {kind} and were skipped: {some(files)}")
        if self.passed_over:
            show(f"{len(self.passed_over)} image(s) of the stream are in the validation set too and were passed over.")
        if self.clipped:
            value_range = checked_range(self.settings.value_range)
            assert value_range is not None  # else nothing is clipped
            show(clipped(self.clipped, value_range))
        if (sentence := self.intake.sentence()) is not None:
            show(sentence)

    def _epoch(self, state: TrainingState) -> Any:
        """What is left of the epoch that `state` is in; of a stream all that is to come."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        if isinstance(self.train, ImageStream):
            return self.train.batches(
                self.batch_size,
                first_image=state.images,
                positions={int(lane): (at[0], at[1], at[2]) for lane, at in state.stream.items()},
                rank=rank,
                num_processes=processes,
                num_threads=max(1, self.settings.dataloader_num_workers),
            )
        self.set_epoch(state.epoch)
        assert self.size is not None
        where = {
            "rank": rank,
            "num_processes": processes,
            "seed": self.optimization.seed,
            "epoch": state.epoch,
            "first_image": state.images_in_epoch,
            "accumulation": self.optimization.gradient_accumulation_steps,
        }
        if self.buckets is None:
            sampler = GlobalBatchSampler(self.size, self.batch_size, **where)
        else:
            sampler = BucketSampler(self.buckets, self.batch_size, **where)
        return DataLoader(
            self.train,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=self.settings.dataloader_num_workers,
            worker_init_fn=leave_signals_to_the_parent,
            pin_memory=torch.cuda.is_available(),
        )


def _failing_as_a_step(batches: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from batches
    except DataError as error:
        reason = str(error).strip().splitlines()[-1].rpartition("DataError: ")[2]  # a worker's has its traceback before
        remedy = "Continue with --resume_from_checkpoint latest when that is mended"
        raise DataFailed(reason.rstrip("."), remedy) from error


def default_channels(settings: DataSettings) -> int:
    """Image channels of a new model: gray circles have 1, everything else 3."""
    return 1 if settings.circles and not settings.circles_hue else 3


@dataclass
class LoadedData:
    """The images of a run.

    Attributes:
        train: to train on.
        validation: held out.
        record: of them.
        changed: whether they are not those of the checkpoint that the run continues from.
        notes: what a user should know of them at the start.
    """

    train: Dataset | ImageStream
    validation: Dataset
    record: DataRecord
    changed: bool = False
    notes: tuple[str, ...] = ()


def load_data(
    settings: DataSettings,
    seed: int,
    channels: int,
    record: DataRecord,
    multiple: int = 1,
    given: OwnData | None = None,
) -> LoadedData:
    """Training and held-out images, (C, resolution, resolution) in [-1, 1] with C = `channels`.

    Args:
        settings: of the data.
        seed: of the run.
        channels: of the images.
        record: of the checkpoint that the run continues from: what it held out stays held out.
        multiple: see `TrainingData`.
        given: from Python.

    Raises:
        DataError, UserError: if there are none, they cannot have that many channels, or they changed.
    """
    resolution = settings.resolution
    assert resolution is not None
    if given is not None:
        images_given, measured, now = split_own(given, settings, record)
        return LoadedData(draw(images_given, settings.max_train_samples, seed), measured, now)
    if record.of_python:
        raise DataError(
            "the checkpoint was made with a data set given from Python: continue by train(options, dataset=...)."
        )
    if settings.circles:
        record.check(False, "generated circles", None, allow_changed=False)
        return LoadedData(*_circles(settings, seed, channels), DataRecord(record.rules))
    source: dict[str, Any] = {
        "dataset_name": settings.dataset_name,
        "config_name": settings.dataset_config_name,
        "split": settings.dataset_split,
        "train_data_dir": settings.train_data_dir,
        "image_column": settings.image_column,
        "revision": None if settings.allow_changed_data else record.revision,
        "resolution": resolution,
        "channels": channels,
        "crop": settings.crop,
        "buckets": aspect_buckets(resolution, multiple) if settings.crop == WHOLE else (),
        "center_crop": settings.center_crop,
        "random_flip": settings.random_flip,
        "seed": seed,
        "rules": record.rules,
        "max_image_pixels": settings.max_image_pixels,
        "value_range": checked_range(settings.value_range),
        "remote_images": settings.remote_images,
    }
    check_kept(record, settings)
    images: ImageStream | ImageDataset
    if settings.streaming:
        count = 0 if settings.has_validation_set else max(1, settings.num_validation_images)
        window, smallest = settings.shuffle_buffer, settings.min_image_size or 1
        images = stream_images(**source, shuffle_window=window, min_image_size=smallest, num_validation=count)
        size, notes = None, []
    else:
        every = load_images(**source, keep_bytes=settings.image_cache_mib << 20)
        images = every if settings.min_image_size is None else every.at_least(settings.min_image_size)
        size, notes = len(images), look_over(every, images, settings, record.rules)
    own = open_validation_set(settings, source, seed, record) if settings.has_validation_set else None
    origin, then = images.origin, record.held_out
    same = origin.digest == record.digest and (own is not None or images.contents(then or {}) == then)
    changed = record.check(same, origin.location, size, settings.allow_changed_data)
    train: Dataset | ImageStream
    if own is not None:
        train, told = own.leave_out(images)
        validation, notes = own.measured, [*notes, *told]
    elif isinstance(images, ImageDataset):
        train, validation, told = hold_out(images, settings, record, same_files=not changed)
        notes = [*notes, *told]
    elif then is not None:
        train, validation = images.split_by_names(then, same_files=not changed)
    else:
        train, validation = images, images.validation()
    if isinstance(train, ImageDataset):
        most = settings.max_train_samples
        train = draw(train, most, seed) if record.rules.draw_samples else _first(train, most)
        notes = notes if own is not None else [*notes, *copies_left(train, validation)]
    if own is not None:
        held_out, changed = own.contents, changed or own.changed
    else:
        held_out = images.held_out_contents() if isinstance(images, ImageStream) else validation.named_contents()
    of_own = None if own is None else own.digest
    now = DataRecord(record.rules, origin.digest, origin.revision, size, held_out, of_own)
    return LoadedData(train, validation, now, changed, tuple(notes))


def _circles(settings: DataSettings, seed: int, channels: int) -> tuple[Dataset, Dataset]:
    assert settings.resolution is not None
    resolution, hue, held_out = settings.resolution, settings.circles_hue, max(1, settings.num_validation_images)
    train = circles_for(channels, settings.circles_length, resolution, seed=2 * seed, hue=hue)
    validation = circles_for(channels, held_out, resolution, seed=2 * seed + 1, hue=hue)
    return _first(train, settings.max_train_samples), validation


def _first(images: Dataset, most: int | None) -> Dataset:
    if most is None or most >= len(images):  # type: ignore[arg-type]  # all of ours have a length
        return images
    return Subset(images, range(most))
