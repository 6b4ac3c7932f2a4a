"""Encode a data set: every process has whole shards of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..autoencoders import Adapter, evaluation_mode
from ..datasets import ImageDataset
from ..datasets.labels import Labels
from ..datasets.latents import Shard, ShardWriter
from ..errors import UserError
from ..files import json_text, write_json
from ..locks import FolderLock
from ..metrics import RunningMoments
from ..models.distributed import objects_over_processes, on_first_process, rank, world_size
from ..version import __version__
from .latents import encode_batch
from .output import Output
from .plan import Plan
from .reading import Batches, Found, NumberedImages, read_batches


@dataclass
class Work:
    """What is encoded.

    Attributes:
        adapter: of the model.
        images: the data set.
        labels: of its images.
        plan: of what is written.
        model: facts about the model, see `model_facts`.
        data: facts about the data, see `data_facts`.
        view: facts about which part of an image is encoded, such as its resolution.
        split: a word for the names of the files.
        batch_size: images that are encoded together.
        num_workers: processes that read images, for each that encodes.
    """

    adapter: Adapter
    images: ImageDataset
    labels: Labels
    plan: Plan
    model: dict[str, Any]
    data: dict[str, Any]
    view: dict[str, Any]
    split: str = "train"
    batch_size: int = 16
    num_workers: int = 0

    def manifest(self) -> dict[str, Any]:
        """What is known before the first image is encoded."""
        known = {
            "vae_plugin": __version__,
            "complete": False,
            **asdict(self.plan),
            **self.view,
            "model": self.model,
            "latent_scaling": self.adapter.latent_scaling(),
            "data": self.data,
            "labels": {"label_column": self.labels.column, "classes": self.labels.classes},
        }
        found: dict[str, Any] = json.loads(json_text(known, "the index"))  # as it is read again, lists for tuples
        return found

    def shards(self) -> list[range]:
        """The numbers of the images of each shard."""
        size, count = self.plan.shard_size, len(self.images)
        return [range(start, min(start + size, count)) for start in range(0, count, size)]


def encode(
    work: Work, folder: Path, *, overwrite: bool = False, advanced: Callable[[int, int], None] | None = None
) -> tuple[dict[str, Any], bool]:
    """Encode all images, or those whose shard is not there yet; all processes call this.

    A shard is written beside and then renamed, and what says that it is whole is written after it. So a run that was
    killed at any moment goes on with the first shard that is not whole, and no image is lost or there twice.

    Args:
        work: what is encoded.
        folder: where the files go.
        overwrite: replace latents that are there, rather than continue or refuse.
        advanced: called with the number of images that this process has just done, and of all that are done before the
            first.

    Returns:
        The manifest, and whether there was anything left to do.

    Raises:
        UserError: if the folder holds something else, or a process failed.
    """
    shards = work.shards()
    output, lock = Output(folder, work.manifest(), len(shards)), FolderLock(folder)

    def begin() -> tuple[dict[str, Any], list[int] | None, int]:
        folder.mkdir(parents=True, exist_ok=True)
        if not lock.take():
            raise UserError(f"another process writes latents into {folder}: wait until it has ended.")
        check_layout(work)
        missing = output.missing() if output.begin(overwrite) else None
        return output.manifest, missing, output.whole()

    try:
        output.manifest, missing, done = on_first_process(begin)  # of one moment, for all
        if missing is not None:
            own = missing[rank() :: world_size()]
            failure = _failure(lambda: _encode_shards(work, output, shards, own, advanced or _nothing, done))
            for other in objects_over_processes(failure):
                if other is not None:
                    raise other
            output.manifest = on_first_process(output.finish)
    finally:
        lock.release()
    return output.manifest, missing is not None


def check_layout(work: Work) -> None:
    """Refuse data whose names or labels the layout has no place for.

    Raises:
        UserError: if so.
    """
    if work.plan.layout.needs_integers and not work.labels.integers:
        raise UserError(
            f"readers of --format {work.plan.format} expect classes, and {work.labels.column!r} holds captions: give a "
            "--label_column of integers."
        )
    if work.plan.layout.needs_one_size and work.images.framing.buckets:
        raise UserError(
            f"--crop whole gives latents of several sizes, and --format {work.plan.format} has one: change one."
        )
    if not work.plan.layout.needs_image_files:
        return
    names = work.images.origin.names
    if names is None or any("::" in name or name[:2].rstrip("0123456789") == ":" for name in names):
        raise UserError(
            f"--format {work.plan.format} has a file for each image file of a folder: give one folder of images."
        )
    seen: dict[str, str] = {}
    for name in names:
        stem = name.rpartition(".")[0]
        if stem in seen:
            raise UserError(
                f"{seen[stem]} and {name} would share a file of --format {work.plan.format}: rename one of them."
            )
        seen[stem] = name


def _failure(work: Callable[[], None]) -> Exception | None:
    """What went wrong with the shards of this process, for all: none may wait for one that has left."""
    try:
        work()
    except (UserError, OSError, RuntimeError, MemoryError) as error:
        if world_size() == 1:
            raise
        return error
    return None


def _encode_shards(
    work: Work, output: Output, shards: list[range], own: list[int], advanced: Callable[[int, int], None], done: int
) -> None:
    images = NumberedImages(work.images, work.labels, sizes=work.plan.layout.needs_image_files)
    batches = Batches([shards[shard] for shard in own], work.batch_size, work.images.bucket_numbers())
    with evaluation_mode(work.adapter.model):
        found = read_batches(images, batches, work.num_workers)
        for shard in own:
            moments, count = RunningMoments(), 0
            left_out: dict[str, str] = {}
            clipped: list[str] = []
            place = Shard(output.folder, work.split, shard, output.count, work.labels.integers)
            with work.plan.layout.writer(place) as writer:
                for batch in islice(found, len(batches.of(shards[shard]))):
                    left_out |= {one.name: one.reason for one in batch if one.pixels is None}
                    clipped += [one.name for one in batch if one.clipped]
                    count += _write(work, batch, moments, writer)
                    advanced(len(batch), done)
            part = {"images": count, "left_out": left_out, "clipped": clipped, "moments": moments.state()}
            write_json(output.part(shard), part)


def _write(work: Work, batch: list[Found], moments: RunningMoments, writer: ShardWriter) -> int:
    for one in batch:
        if one.failure:
            raise UserError(one.failure)
    encoded = encode_batch(work.adapter, batch, work.plan, moments)
    writer.add(encoded)
    return len(encoded)


def _nothing(count: int, before: int) -> None:
    pass
