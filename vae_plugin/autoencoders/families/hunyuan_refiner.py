"""`AutoencoderKLHunyuanImageRefiner`: the refiner of HunyuanImage 2.1, which sees an image as a video of one frame."""

from __future__ import annotations

import torch

from ...models.networks import cropped
from ...models.posteriors import DiagonalGaussian
from ..adapter import Adapter
from ..frames import only_frame
from ..papers import DEEP_COMPRESSION, LATENT_DIFFUSION


class HunyuanRefinerAdapter(Adapter):
    """A class of one frame: no pipeline of diffusers gives it more.

    Its convolutions repeat the first frame before itself, so that all their taps in time see the image, and all
    weights are trained. The pipeline repeats the latents in time too, folds the two frames into twice the channels, and
    multiplies them by the `scaling_factor`, which therefore is that of the latents here.
    """

    class_name = "AutoencoderKLHunyuanImageRefiner"
    has_frames = True
    papers = (LATENT_DIFFUSION, DEEP_COMPRESSION)  # the latter's shortcuts between resolutions

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        return self.config.spatial_compression_ratio

    def posterior(self, x: torch.Tensor) -> DiagonalGaussian:
        """q(z|x) for images padded to a multiple of the spatial compression ratio."""
        latent_dist = self.model.encode(self._padded(x)[:, :, None]).latent_dist
        return DiagonalGaussian(latent_dist.mean[:, :, 0], latent_dist.logvar[:, :, 0], dtype=x.dtype)

    def decode(self, z: torch.Tensor, image_size: tuple[int, ...] | None = None) -> torch.Tensor:
        """Images of latents, cropped to `image_size` (height, width) where that is given."""
        return cropped(self.model.decode(only_frame(z)[:, :, None]).sample[:, :, 0], image_size)

    @property
    def onnx_refusal(self) -> str | None:
        """The files are of images."""
        return "its networks read and write videos, and these files images"
