"""Encoding the lab's images in the background, and what they say of the latent space."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from vae_plugin.datasets import DataError
from vae_plugin.errors import UserError
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.images import ImageSet, Labels
from vae_plugin.widgets.space import LatentSpace
from vae_plugin.wording import shown

MAX_SECONDS = 20.0  # of encoding; then the images so far are enough
AT_LEAST = 16  # images that are encoded however long it takes
MAX_NUMBERS = 30_000_000  # in the matrix of all means; fewer images are encoded where it would be larger


@dataclass(frozen=True)
class EncodedBatch:
    """The posteriors of some images.

    Attributes:
        rows: numbers of these images in the set.
        mean: their means, (B, C, h, w).
        kl: KL(q(z|x) || N(0, I)) of every dimension in nats, same shape, or None.
    """

    rows: list[int]
    mean: torch.Tensor
    kl: torch.Tensor | None


def encode_in_batches(codec: Codec, images: ImageSet, batch: int = 8) -> Iterator[EncodedBatch]:
    """Encode the images, leaving out those that cannot be read or become NaN."""
    limit = max(2, MAX_NUMBERS // torch.Size(codec.latent_shape).numel())
    count = min(len(images), limit)
    for begin in range(0, count, batch):
        rows, chunk = [], []
        for i in range(begin, min(count, begin + batch)):
            with suppress(DataError):
                chunk.append(images[i])
                rows.append(i)
        if not rows:
            continue
        encoded = codec.encode(torch.stack(chunk))
        good = encoded.mean.flatten(1).isfinite().all(1)
        rows = [row for row, fine in zip(rows, good.tolist(), strict=True) if fine]
        yield EncodedBatch(rows, encoded.mean[good], None if encoded.kl is None else encoded.kl[good])


def merge(
    batches: Sequence[EncodedBatch],
    labels: Mapping[str, Labels] | None = None,
    names: Sequence[str] | None = None,
) -> LatentSpace:
    """The latent space of all batches together."""
    kls = [batch.kl for batch in batches if batch.kl is not None]
    return LatentSpace(
        torch.cat([batch.mean for batch in batches]),
        torch.cat(kls).mean(0) if kls else None,
        labels,
        [row for batch in batches for row in batch.rows],
        names,
    )


class Survey:
    """What the lab's images say of the latent space, once they are encoded.

    Args:
        codec: the model.
        images: the lab's images.
    """

    def __init__(self, codec: Codec, images: ImageSet) -> None:
        self._codec = codec
        self._images = images
        self._error: Exception | None = None
        self._space: LatentSpace | None = None

    @property
    def space(self) -> LatentSpace | None:
        """The latent space of the images; None until they are encoded."""
        return self._space

    def require_space(self) -> LatentSpace:
        """The latent space of the images.

        Raises:
            UserError: while they are not encoded.
        """
        if self._error is not None:
            raise UserError(f"the lab's images could not be encoded: {self._error}")
        if self._space is None:
            raise UserError("the lab's images are still being encoded: wait until all of them are.")
        return self._space

    def steps(self, progress: Callable[[int, int], None], done: Callable[[LatentSpace], None]) -> Iterator[None]:
        """Encode the images, one batch at each step, for at most `MAX_SECONDS` of computing.

        Args:
            progress: called after each batch with the number of images so far and of all.
            done: called at the end.
        """
        batches: list[EncodedBatch] = []
        seen, seconds = 0, 0.0
        coming = encode_in_batches(self._codec, self._images, 8 if self._codec.image_size[0] <= 128 else 1)
        while True:
            begin = time.perf_counter()
            try:
                batch = next(coming, None)
            except Exception as error:
                self._error = error
                raise
            seconds += time.perf_counter() - begin
            if batch is None or (seconds > MAX_SECONDS and seen >= AT_LEAST):
                break
            batches.append(batch)
            seen += len(batch.rows)
            progress(seen, len(self._images))
            yield
        if not seen:
            self._error = UserError("none of them can be read, or the encoder returns NaN for each.")
            self.require_space()
        try:
            self._space = merge(batches, self._images.labels, self._codec.latent_names)
        except Exception as error:
            self._error = error
            raise
        done(self._space)

    def group(self, name: str, value: str | None = None, inside: bool = True) -> torch.Tensor:
        """Latents (N, C, h, w) of the images with a label, or with `inside=False` of those without it.

        Args:
            name: name of the label.
            value: a category; None for a quantity, where the label is a value above the median.
            inside: whether to return the images with the label.

        Raises:
            UserError: if there is no such label, or no such image.
        """
        space = self.require_space()
        if name not in self._images.labels:
            known = ", ".join(self._images.labels) or "none"
            raise UserError(f"there is no label {shown(name)}: the labels of these images are {known}.")
        labels = self._images.labels[name]
        values = torch.from_numpy(labels.values[space.rows])
        if labels.names is None:
            chosen = values > values.median()
        elif value in labels.names:
            chosen = values == labels.names.index(value)
        else:
            raise UserError(f"{name} is never {shown(value)}: it is one of {', '.join(labels.names)}.")
        found = space.means[chosen if inside else ~chosen]
        if not len(found):
            label = f"{name} {value}" if labels.names is not None else f"a {name} above the median"
            raise UserError(
                f"no image {'with' if inside else 'without'} {label} was encoded: choose another label, or give more "
                "images."
            )
        return found
