"""An autoencoder as the lab uses it: float32 latents on the CPU in and out, pictures as 8-bit RGBA."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional as F

from vae_plugin.arguments import Whole
from vae_plugin.autoencoders import Adapter, adapt, autoencoder_of, load_autoencoder
from vae_plugin.autoencoders.latent_names import NAMES_KEY, recorded_names
from vae_plugin.autoencoders.registry import accepted_classes
from vae_plugin.autoencoders.value_range import is_range
from vae_plugin.datasets.transforms import bands_to_show, to_uint8
from vae_plugin.errors import NotFiniteError, UserError
from vae_plugin.models.posteriors import DiagonalGaussian
from vae_plugin.widgets.bands import ShownBands
from vae_plugin.wording import shown

SLOW = 0.08  # seconds; a slower decode cannot follow a drag, and a smaller picture comes first
TRIALS = 3  # decodes with all threads, then with one; the faster way is kept
SEED = Whole(0, 2**63 - 1, optional=True)  # None for a posterior's mean
SMALLEST_PREVIEW = 4  # positions along one side of the latent grid


class Superseded(Exception):
    """A newer request has come while the decoder worked."""


@dataclass(frozen=True)
class Encoded:
    """The encoder's output for a batch of images, or for one.

    Attributes:
        mean: the latents (B, C, h, w), float32 on the CPU; for a vector-quantised model, those before quantisation.
        std: sigma of the posterior, same shape, or None if the posterior is a point.
        kl: KL(q(z|x) || N(0, I)) of every dimension in nats, same shape, or None likewise.
    """

    mean: torch.Tensor
    std: torch.Tensor | None
    kl: torch.Tensor | None

    def one(self, i: int) -> Encoded:
        """The output for image i of a batch, (C, h, w) each."""
        return Encoded(self.mean[i], None if self.std is None else self.std[i], None if self.kl is None else self.kl[i])

    def sample(self, seed: int) -> torch.Tensor:
        """A sample (C, h, w) of the posterior of one image: the one of diffusers with a generator of that seed."""
        noise = torch.randn(
            1, *self.mean.shape, generator=torch.Generator().manual_seed(int(seed)), dtype=torch.float32
        )[0]
        return self.mean if self.std is None else self.mean + self.std * noise


def open_model(model: object) -> Adapter:
    """The autoencoder that a user gave: a model, a pipeline that has one, or a folder, file or Hub id.

    Raises:
        UserError: if it is none of these, or an autoencoder of a class that is not supported.
    """
    if isinstance(model, (str, PathLike)):
        return load_autoencoder(str(model))
    part = autoencoder_of(model)
    if part is not None and not isinstance(model, nn.Module):
        model = part
    try:
        if isinstance(model, (nn.Module, Adapter)):
            return adapt(model)
    except ValueError:
        pass
    name = type(model).__name__
    raise UserError(
        f"LatentLab was given a{'n' if name[:1].upper() in 'AEIOU' else ''} {name}: give an autoencoder, a pipeline "
        f"that has one, or the folder or Hub id of one; {accepted_classes()}"
    )


class Codec:
    """Encode and decode with one autoencoder, on any device and in any precision.

    Args:
        model: the autoencoder. Its device and dtype are looked up at every call, so that it may be moved.
        resolution: side of the images in pixels. Default: what the model is made for, at most 256.
        bands: of the images to show, see `bands.check_bands`.
        value_range: see `LatentLab`.

    Attributes:
        shown: the bands of images that pictures show.
        value_range: the values of image files that become -1 and 1; None where their type says it.
        latent_names: what the model calls the channels of its latents, where its config records it.
        decode_seconds: duration of a decode of one latent at full size, a moving average; None before the first.
    """

    def __init__(
        self,
        model: Adapter | ModelMixin,
        resolution: int | None = None,
        bands: Sequence[int] | int | None = None,
        value_range: Sequence[float] | None = None,
    ) -> None:
        self.adapter = adapt(model)
        self.shown = ShownBands(bands, self.adapter.in_channels)
        if value_range is not None and not is_range(value_range):
            raise UserError(f"value_range is {shown(value_range)}: give two numbers, the lower one first.")
        self.value_range = self.adapter.value_range if value_range is None else (value_range[0], value_range[1])
        if resolution is not None and resolution < 1:
            raise UserError(f"resolution is {resolution}: give the side of the images in pixels, at least 1.")
        self.image_size = self._image_size(None if resolution is None else int(resolution))
        self.channels = self.adapter.in_channels
        self.latent_shape = self.adapter.latent_shape(1, *self.image_size)[1:]
        self.latent_names = recorded_names(self.adapter.config)
        if self.latent_names is not None and len(self.latent_names) != self.latent_shape[0]:
            raise UserError(
                f"{NAMES_KEY} in the config of this model has {len(self.latent_names)} names: give one for each of the "
                f"{self.latent_shape[0]} channels of its latents."
            )
        self.decode_seconds: float | None = None
        self._trials: dict[int, list[float]] = {}

    def _image_size(self, resolution: int | None) -> tuple[int, int]:
        if self.adapter.only_image_size is not None:
            height, width = self.adapter.only_image_size
            if resolution not in (None, height) or height != width:
                raise UserError(
                    f"this model takes images of {height}x{width} only"
                    + (f", and resolution is {resolution}: leave it out." if height == width else ", not squares.")
                )
            return height, width
        side = resolution or self.adapter.natural_resolution
        self.adapter.check_image_size(side, side, f"resolution={side}")
        return side, side

    @property
    def model(self) -> Any:
        """The module that runs."""
        return self.adapter.model

    @property
    def discrete(self) -> bool:
        """Whether the decoder sees codes of a codebook rather than the latents themselves."""
        return self.adapter.discrete

    @property
    def indices_per_position(self) -> int:
        """How many codes a discrete model has at each position."""
        return self.model.quantizer.codes_per_position

    @property
    def flat(self) -> bool:
        """Whether the latent is one vector: a grid with a single position."""
        return self.latent_shape[1:] == (1, 1)

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels per position of the latent grid, along one side."""
        return self.adapter.spatial_compression_ratio

    def to_rgba(self, images: torch.Tensor) -> np.ndarray:
        """Images (B, C, H, W) as pictures of the bands that are shown, see `to_rgba`."""
        return to_rgba(images, self.shown.chosen)

    @property
    def device(self) -> torch.device:
        """Where the model computes; of one that accelerate moves there part by part, not where its weights wait."""
        for module in self.model.modules():
            place = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
            if place is not None:
                return torch.device(place)
        return self.model.device

    def _to_device(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.device, self.model.dtype)

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> Encoded:
        """The posterior of images (B, C, H, W) in [-1, 1]."""
        x = self._to_device(images)
        if not self.adapter.gaussian:
            return Encoded(_on_cpu(self.adapter.latents(x)), None, None)
        q = self.adapter.posterior(x)
        assert isinstance(q, DiagonalGaussian)  # what `gaussian` means
        return Encoded(_on_cpu(q.mean), _on_cpu(q.std), _on_cpu(q.kl_per_dimension()))

    @torch.no_grad()
    def decode(self, z: torch.Tensor, indices: torch.Tensor | None = None) -> torch.Tensor:
        """Images (B, C, H, W), about in [-1, 1], float32 on the CPU.

        Args:
            z: latents (B, C, h, w) of any grid size.
            indices: (B, h, w, indices per position), decoded instead of the latents; or None.

        Raises:
            NotFiniteError: if there is no picture of it, which would be shown as black.
        """
        ratio = self.spatial_compression_ratio
        height, width = (min(side * ratio, full) for side, full in zip(z.shape[-2:], self.image_size, strict=True))
        if self.flat:
            height, width = self.image_size
        if indices is not None:
            images = self.adapter.decode_indices(self.native(indices).to(self.device))[..., :height, :width]
        else:
            images = self.adapter.decode(self._to_device(z), (height, width))
        images = _on_cpu(images)
        if not images.isfinite().all():
            raise NotFiniteError("what the decoder gives for this latent")
        return images

    def decode_full(
        self, z: torch.Tensor, indices: torch.Tensor | None = None, superseded: Callable[[], bool] | None = None
    ) -> torch.Tensor:
        """Decode one latent (C, h, w) at full size, and measure the time it takes.

        Args:
            z: the latent.
            indices: (h, w, indices per position), decoded instead; or None.
            superseded: asked between the layers of a slow decoder; once it returns true the rest is not computed.

        Raises:
            Superseded: if the rest was not computed.
        """
        threads = self._threads()
        with _cpu_threads(threads), self._stopping(superseded):
            begin = time.perf_counter()
            image = self.decode(z[None], None if indices is None else indices[None])[0]
            seconds = time.perf_counter() - begin
        self._trials.setdefault(threads, []).append(seconds)
        if self.decode_seconds is None:
            self.decode_seconds = seconds
        # The first call of a model is slower than all others: trust a lower time sooner than a higher one.
        weight = 0.5 if seconds < self.decode_seconds else 0.2
        self.decode_seconds += weight * (seconds - self.decode_seconds)
        return image

    def _threads(self) -> int:
        """How many CPU threads to decode with: all, or one if a small model has been faster with it."""
        every = torch.get_num_threads()
        tried = self._trials.get(every, [])
        if len(tried) < TRIALS or min(tried[:TRIALS]) > SLOW or self.device.type != "cpu":
            return every
        single = self._trials.get(1, [])
        return 1 if len(single) < TRIALS or min(single[:TRIALS]) < min(tried[:TRIALS]) else every

    def decode_preview(self, z: torch.Tensor, indices: torch.Tensor | None, shrink: int) -> torch.Tensor:
        """Decode one latent (C, h, w) at about 1 / `shrink` of its size: latents are averaged, indices skipped."""
        if indices is not None:
            return self.decode(z[None, :, ::shrink, ::shrink], indices[None, ::shrink, ::shrink])[0]
        return self.decode(F.avg_pool2d(z[None], shrink))[0]

    @property
    def preview_shrink(self) -> int:
        """How much to shrink the latent for a decode within `SLOW` seconds; 1 if a full decode is fast enough."""
        shrink = 1
        side = min(self.latent_shape[1:])
        while (self.decode_seconds or 0.0) / shrink**2 > SLOW and side // (2 * shrink) >= SMALLEST_PREVIEW:
            shrink *= 2
        return shrink

    @torch.no_grad()
    def indices(self, z: torch.Tensor) -> torch.Tensor:
        """Quantise one latent (C, h, w): the indices (h, w, indices per position), on the CPU."""
        _, indices, _ = self.model.quantizer(self._to_device(z[None]), update=False)
        return indices.reshape(*indices.shape[1:3], -1).cpu()

    @torch.no_grad()
    def codes(self, indices: torch.Tensor) -> torch.Tensor:
        """The latent (C, h, w) of indices (h, w, indices per position), float32 on the CPU."""
        return _on_cpu(self.model.quantizer.indices_to_codes(self.native(indices)[None].to(self.device))[0])

    def has_indices(self, indices: torch.Tensor) -> bool:
        """Whether indices (h, w, indices per position) can be decoded: int64, of this grid and this codebook."""
        if not self.discrete or indices.dtype != torch.int64:
            return False
        fits = tuple(indices.shape) == (*self.latent_shape[1:], self.indices_per_position)
        return fits and int(indices.min()) >= 0 and int(indices.max()) < self.model.codebook_size

    def native(self, indices: torch.Tensor) -> torch.Tensor:
        """Indices (..., indices per position) as the model takes them: without the last axis if it has length 1."""
        return indices if self.indices_per_position > 1 else indices[..., 0]

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
    """Compute with this number of threads, for calls from this thread only."""
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


def to_rgba(images: torch.Tensor, bands: Sequence[int] | None = None) -> np.ndarray:
    """Images (B, C, H, W) in [-1, 1] as 8-bit RGBA (B, H, W, 4); gray and RGB become opaque.

    Args:
        images: to show.
        bands: of them to show, one or three, see `bands.check_bands`. By default those of
            `bands_to_show`.
    """
    if (bands := bands or bands_to_show(images.shape[1])) is not None:
        images = images[:, list(bands)]
    pixels = to_uint8(images).permute(0, 2, 3, 1).numpy()
    channels = pixels.shape[-1]
    if channels not in (3, 4):
        pixels = np.repeat(pixels[..., :1], 3, axis=-1)
    if pixels.shape[-1] == 3:
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)
    return np.ascontiguousarray(pixels)
