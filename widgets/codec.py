"""An autoencoder as the lab uses it: float32 latents on the CPU in and out, pictures as 8-bit RGBA."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional as F

from ..autoencoders import Adapter, adapt, load_autoencoder
from ..autoencoders.registry import accepted_classes
from ..datasets.transforms import to_uint8
from ..errors import UserError

# Above this a decode is too slow to follow a drag, and the lab answers with a smaller picture first.
SLOW = 0.08  # seconds
TRIALS = 3  # decodes with all threads, then with one, of which the faster way is kept
SMALLEST_PREVIEW = 4  # places of the latent, along one side


class Superseded(Exception):
    """A newer request has come while the decoder worked."""


@dataclass
class Encoded:
    """What an encoder says of a batch of images.

    Attributes:
        mean: the latents (B, C, h, w), float32 on the CPU; of a vector-quantised model those before quantisation.
        std: sigma of the posterior, same shape, or None where the posterior is certain.
        kl: KL(q(z|x) || N(0, I)) of every dimension in nats, same shape, or None likewise.
    """

    mean: torch.Tensor
    std: torch.Tensor | None
    kl: torch.Tensor | None

    def sample(self, seed: int) -> torch.Tensor:
        """A sample of the posterior of one image, (C, h, w): what diffusers' gives with a generator of that seed."""
        noise = torch.randn(1, *self.mean.shape, generator=torch.Generator().manual_seed(seed))[0]
        return self.mean if self.std is None else self.mean + self.std * noise


def open_model(model: object) -> Adapter:
    """The autoencoder that a user gave: a model, a pipeline that holds one, or a folder, file or id on the Hub.

    Raises:
        UserError: if it is none of these, or an autoencoder of another kind.
    """
    if isinstance(model, (str, PathLike)):
        return load_autoencoder(str(model))
    part = getattr(model, "vae", None) or getattr(model, "vqvae", None)
    if part is not None and not isinstance(model, nn.Module):
        model = part
    try:
        if isinstance(model, (nn.Module, Adapter)):
            return adapt(model)
    except ValueError:
        pass
    raise UserError(
        f"LatentLab was given {_describe(model)}: give an autoencoder, a pipeline that has one, or the folder or Hub "
        "id "
        f"of one; {accepted_classes()}"
    )


def _describe(thing: object) -> str:
    name = type(thing).__name__
    return f"a{'n' if name[:1].upper() in 'AEIOU' else ''} {name}"


class Codec:
    """Encode and decode with one autoencoder, wherever it is and in whatever precision.

    Args:
        model: as `open_model` gives it. It is asked for its device and dtype at every call, so that it may be moved.
        resolution: side of the images in pixels. Default: what the model is made for, at most 256.

    Attributes:
        decode_seconds: what a decode of one latent at full size takes, a moving average; None before the first.
    """

    def __init__(self, model: Adapter | ModelMixin, resolution: int | None = None) -> None:
        self.adapter = adapt(model)
        self.model = self.adapter.model
        if resolution is not None and resolution < 1:
            raise UserError(f"resolution is {resolution}: give the side of the images in pixels, at least 1.")
        self.image_size = self._image_size(resolution)
        self.channels = self.adapter.in_channels
        self.latent_shape = self.adapter.latent_shape(1, *self.image_size)[1:]
        self.decode_seconds: float | None = None
        self._trials: dict[int, list[float]] = {}

    def _image_size(self, resolution: int | None) -> tuple[int, int]:
        if self.adapter.only_image_size is not None:
            height, width = self.adapter.only_image_size
            if resolution not in (None, height) or height != width:
                raise UserError(
                    f"this model's fully connected networks take images of {height}x{width} only"
                    + (f", and resolution is {resolution}: leave it out." if height == width else ", not squares.")
                )
            return height, width
        side = resolution or self.adapter.natural_resolution
        return side, side

    @property
    def discrete(self) -> bool:
        """Whether a decoder sees codes rather than the latents themselves."""
        return self.adapter.discrete

    @property
    def flat(self) -> bool:
        """Whether the latent is a vector: one place."""
        return self.latent_shape[1:] == (1, 1)

    @property
    def factor(self) -> int:
        """Pixels per place of the latent, along one side."""
        return self.adapter.spatial_compression_ratio

    def _to_device(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.model.device, self.model.dtype)

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> Encoded:
        """The posterior of images (B, C, H, W) in [-1, 1]."""
        x = self._to_device(images)
        if not self.adapter.gaussian:
            return Encoded(_on_cpu(self.adapter.latents(x)), None, None)
        q = self.adapter.posterior(x)
        return Encoded(_on_cpu(q.mean), _on_cpu(q.std), _on_cpu(q.kl_per_dimension()))

    @torch.no_grad()
    def decode(self, z: torch.Tensor, indices: torch.Tensor | None = None) -> torch.Tensor:
        """Images (B, C, H, W) in about [-1, 1], float32 on the CPU.

        Args:
            z: latents (B, c, h, w) of any size.
            indices: codes (B, h, w, codes per place) to decode instead.
        """
        size = tuple(side * self.factor for side in z.shape[-2:])
        size = tuple(min(of, limit) for of, limit in zip(size, self.image_size, strict=True))
        if self.flat:
            size = self.image_size
        if indices is not None:
            images = self.adapter.decode_indices(self.native(indices).to(self.model.device))
            images = images[..., : size[0], : size[1]]
        else:
            images = self.adapter.decode(self._to_device(z), size)
        return _on_cpu(images)

    def decode_full(
        self, z: torch.Tensor, indices: torch.Tensor | None = None, superseded: Callable[[], bool] | None = None
    ) -> torch.Tensor:
        """Decode one latent (C, h, w) at full size, and note the time it takes.

        Args:
            z: the latent.
            indices: its codes, to decode instead.
            superseded: asked between the layers of a slow decoder; where it is true the rest is not computed.

        Raises:
            Superseded: then.
        """
        threads = self._threads()
        with _cpu_threads(threads), self._stopping(superseded):
            begin = time.perf_counter()
            image = self.decode(z[None], None if indices is None else indices[None])[0]
            seconds = time.perf_counter() - begin
        self._trials.setdefault(threads, []).append(seconds)
        if self.decode_seconds is None:
            self.decode_seconds = seconds
        # The first call of a model is slower than all others: a lower time is believed sooner than a higher one.
        weight = 0.5 if seconds < self.decode_seconds else 0.2
        self.decode_seconds += weight * (seconds - self.decode_seconds)
        return image

    def _threads(self) -> int:
        """How many CPU threads to decode with: all, or one if a small model has been faster with it."""
        every = torch.get_num_threads()
        tried = self._trials.get(every, [])
        if len(tried) < TRIALS or min(tried[:TRIALS]) > SLOW or self.model.device.type != "cpu":
            return every
        single = self._trials.get(1, [])
        return 1 if len(single) < TRIALS or min(single[:TRIALS]) < min(tried[:TRIALS]) else every

    def decode_preview(self, z: torch.Tensor, indices: torch.Tensor | None, shrink: int) -> torch.Tensor:
        """Decode one latent (C, h, w) at about 1 / `shrink` of its size: places are averaged, codes left out."""
        if indices is not None:
            return self.decode(z[None, :, ::shrink, ::shrink], indices[None, ::shrink, ::shrink])[0]
        return self.decode(F.avg_pool2d(z[None], shrink))[0]

    @property
    def preview_shrink(self) -> int:
        """By how much to shrink the latent for a picture within `SLOW`; 1 where a full one is fast enough."""
        shrink = 1
        side = min(self.latent_shape[1:])
        while (self.decode_seconds or 0.0) / shrink**2 > SLOW and side // (2 * shrink) >= SMALLEST_PREVIEW:
            shrink *= 2
        return shrink

    @torch.no_grad()
    def tokens(self, z: torch.Tensor) -> torch.Tensor:
        """The codes (h, w, codes per place) of one latent (C, h, w), on the CPU."""
        _, indices, _ = self.model.quantizer(self._to_device(z[None]), update=False)
        return indices.reshape(*indices.shape[1:3], -1).cpu()

    @torch.no_grad()
    def codes(self, indices: torch.Tensor) -> torch.Tensor:
        """The latent (C, h, w) of codes (h, w, codes per place), float32 on the CPU."""
        return _on_cpu(self.model.quantizer.indices_to_codes(self.native(indices)[None].to(self.model.device))[0])

    def native(self, indices: torch.Tensor) -> torch.Tensor:
        """Codes (..., codes per place) as the model wants them: without the last axis where there is one code."""
        return indices if self.model.quantizer.codes_per_position > 1 else indices[..., 0]

    @contextmanager
    def _stopping(self, superseded: Callable[[], bool] | None) -> Iterator[None]:
        if superseded is None or (self.decode_seconds or 0.0) <= SLOW:
            yield
            return

        thread = threading.get_ident()

        def stop(*_: object) -> None:
            if threading.get_ident() == thread and superseded():  # another thread may use the model meanwhile
                raise Superseded

        decoder = getattr(self.model, "decoder", self.model)
        layers = [module for module in decoder.modules() if not any(module.children())]
        hooks = [layer.register_forward_pre_hook(stop) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def _cpu_threads(count: int) -> Iterator[None]:
    """Compute with so many threads, in this thread only."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _on_cpu(x: torch.Tensor) -> torch.Tensor:
    return x.detach().float().cpu()


def to_rgba(images: torch.Tensor) -> np.ndarray:
    """Images (B, C, H, W) in [-1, 1] as 8-bit RGBA (B, H, W, 4): gray and RGB become opaque.

    Of 2 channels, or more than 4, the first is shown in gray.
    """
    pixels = to_uint8(images).permute(0, 2, 3, 1).numpy()
    channels = pixels.shape[-1]
    if channels not in (3, 4):
        pixels = np.repeat(pixels[..., :1], 3, axis=-1)
    if pixels.shape[-1] == 3:
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)
    return np.ascontiguousarray(pixels)
