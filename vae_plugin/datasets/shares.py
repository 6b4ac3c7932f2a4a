"""Images that several processes go through together, once, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Dataset

from ..errors import UserError
from ..models.distributed import objects_over_processes, rank, world_size
from ..models.shares import Share
from .batches import by_size, evenly, items_of
from .streaming import ImageStream


def shared_batches(
    dataset: Dataset | ImageStream,
    batch_size: int,
    unreadable: set[str] | None = None,
    limit: int | None = None,
    together: int | None = None,
    clipped: set[str] | None = None,
) -> Iterator[Share]:
    """Yield this process's share of every batch; each image is read by one process, and unreadable ones by none.

    A batch is the next `batch_size` images of each process, so what is in it depends on the product alone. All
    processes have to go through all batches. No process waits for more than the reading of one batch, and then without
    a time-out. In the last batch, of each size of images, the last processes can be without a share.

    Args:
        dataset: data set whose items have "pixel_values" and possibly "unreadable".
        batch_size: images of one process.
        unreadable: set to which the names of the unreadable images of this process are added.
        limit: maximum number of images, as of `image_batches`.
        together: images of all processes, instead of `batch_size` times their number: what is in a batch is then the
            same for any number of processes.
        clipped: set to which the names of images with values beyond the range that was given are added.

    Raises:
        UserError: on every process, if the images of one of them cannot be read.
    """
    dataset = evenly(dataset, limit)
    processes, own = world_size(), rank()
    whole = batch_size * processes if together is None else together
    for indices, start in ((each, at) for each in by_size(dataset) for at in range(0, len(each), whole)):
        first, end = (start + part * whole // processes for part in (own, own + 1))
        found = _read(dataset, indices[first:end], unreadable, clipped)
        counts = objects_over_processes(found if isinstance(found, UserError) else len(found[1]))
        for failure in counts:
            if isinstance(failure, UserError):
                raise failure
        assert not isinstance(found, UserError)
        if sum(counts) and len(found[0]):
            yield Share(*found, first=sum(counts[:own]), total=sum(counts))


def _read(
    dataset: Dataset, numbers: Sequence[int], unreadable: set[str] | None, clipped: set[str] | None
) -> tuple[torch.Tensor, tuple[int, ...]] | UserError:
    """The images that can be read, and their numbers; without any a substitute, which has no number."""
    images, read, substitute = [], [], None
    try:
        for number, item in zip(numbers, items_of(dataset, numbers), strict=True):
            if item.get("unreadable"):
                substitute = item["pixel_values"]
                if unreadable is not None:
                    unreadable.update(item["unreadable"])
                continue
            if clipped is not None:
                clipped.update(item.get("clipped", ()))
            images.append(item["pixel_values"])
            read.append(number)
    except UserError as error:
        return error
    if not images and substitute is not None:
        images = [substitute]  # so that this process makes the same steps as the others
    return torch.stack(images) if images else torch.empty(0), tuple(read)
