"""Encoding the lab's images in the background, and what they say of the latent space."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from vae_plugin.datasets import DataError
from vae_plugin.errors import UserError
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.image_set import ImageSet, Labels
from vae_plugin.widgets.space import LatentSpace
from vae_plugin.wording import shown

MOST_NAMES = 5  # of images that are left out, in the sentence about them
FIRST = 16  # images whose latents give the first axes, while the others are being encoded
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


def count_to_encode(codec: Codec, images: ImageSet) -> int:
    """How many of the images are encoded: all whose means fit into memory."""
    return min(len(images), max(2, MAX_NUMBERS // torch.Size(codec.latent_shape).numel()))


def encode_in_batches(
    codec: Codec, images: ImageSet, batch: int = 8, left_out: Callable[[str, str], None] | None = None
) -> Iterator[EncodedBatch]:
    """Encode the images, leaving out those that cannot be read or become NaN.

    Args:
        codec: the model.
        images: to encode.
        batch: how many at once.
        left_out: called with the name of each image that is left out, and the reason.
    """
    tell = left_out or (lambda name, reason: None)
    count = count_to_encode(codec, images)
    for begin in range(0, count, batch):
        rows, chunk = [], []
        for i in range(begin, min(count, begin + batch)):
            try:
                chunk.append(images[i])
                rows.append(i)
            except DataError as error:
                tell(images.name(i), str(error))
        if not rows:
            continue
        encoded = codec.encode(torch.stack(chunk))
        good = encoded.mean.flatten(1).isfinite().all(1)
        for row, fine in zip(rows, good.tolist(), strict=True):
            if not fine:
                tell(images.name(row), "the encoder returned NaN or infinity for it.")
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

    Attributes:
        left_out: why each image was left out that cannot be used, by name.
        count: how many of the images are encoded in the end, with those that are left out.
    """

    def __init__(self, codec: Codec, images: ImageSet) -> None:
        self._codec = codec
        self._images = images
        self._error: Exception | None = None
        self._space: LatentSpace | None = None
        self._complete = False
        self.left_out: dict[str, str] = {}
        self.count = count_to_encode(codec, images)

    @property
    def space(self) -> LatentSpace | None:
        """The latent space of the images; of the first `FIRST` until all are encoded, and None before."""
        return self._space

    @property
    def complete(self) -> bool:
        """Whether nothing is left to encode."""
        return self._complete

    def require_space(self) -> LatentSpace:
        """The latent space of the images.

        Raises:
            UserError: while they are not encoded.
        """
        if self._error is not None:
            raise UserError(f"the lab's images could not be encoded: {self._error}")
        if self._space is None:
            raise UserError("the lab's images are still being encoded: wait until the first of them are.")
        return self._space

    def steps(
        self,
        progress: Callable[[int, int], None],
        found: Callable[[LatentSpace], None],
        incomplete: Callable[[UserError], None],
    ) -> Iterator[None]:
        """Encode the images, one batch at each step.

        Args:
            progress: called before the first batch and after each with the number of images so far and of all.
            found: called with the latent space, of the first `FIRST` images if there are many more, then of all.
            incomplete: called with a sentence if images were left out.
        """
        batches: list[EncodedBatch] = []
        seen, first = 0, FIRST if self.count >= 2 * FIRST else self.count
        coming = encode_in_batches(
            self._codec, self._images, 8 if self._codec.image_size[0] <= 128 else 1, self.left_out.__setitem__
        )
        progress(0, self.count)
        try:
            for batch in coming:
                batches.append(batch)
                seen += len(batch.rows)
                progress(seen + len(self.left_out), self.count)
                if self._space is None and first <= seen < self.count - len(self.left_out):
                    self._space = merge(batches, self._images.labels, self._codec.latent_names)
                    found(self._space)
                yield
            if not seen:
                raise UserError("none of them can be read, or the encoder returns NaN for each.")
            self._space = merge(batches, self._images.labels, self._codec.latent_names)
        except Exception as error:
            self._error = error
            self.require_space()
        finally:
            self._complete = True
        assert self._space is not None  # else there was an error
        if self.left_out:
            incomplete(self._left_out_in_words())
        found(self._space)

    def _left_out_in_words(self) -> UserError:
        (name, reason), count = next(iter(self.left_out.items())), len(self.left_out)
        names = ", ".join(list(self.left_out)[:MOST_NAMES]) + (
            f" and {count - MOST_NAMES} more" if count > MOST_NAMES else ""
        )
        return UserError(
            f"{count} of {self.count} images cannot be used and {'is' if count == 1 else 'are'} left out of axes, map "
            f"and KL: {names}. Of {name}: {reason}"
        )

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
