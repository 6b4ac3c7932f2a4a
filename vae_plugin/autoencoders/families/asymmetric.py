"""`AsymmetricAutoencoderKL`: a decoder that is conditioned on an image and a mask (Zhu et al. 2023)."""

from __future__ import annotations

import math

import torch
from torch import nn

from ...models.posteriors import DiagonalGaussian
from ..adapter import Adapter
from ..papers import ASYMMETRIC
from ..passes import TrainingPass


class AsymmetricAdapter(Adapter):
    """An `AutoencoderKL` with another decoder, which is trained with random masks, and measured with one."""

    class_name = "AsymmetricAutoencoderKL"
    papers = (ASYMMETRIC,)

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        return 2 ** (len(self.config.down_block_out_channels) - 1)

    def noise_shape(self, batch_size: int, height: int, width: int) -> tuple[int, ...]:
        """The shape of the latents with one more channel, from which masks are drawn."""
        _, channels, *positions = self.latent_shape(batch_size, height, width)
        return (batch_size, channels + 1, *positions)

    def training_pass(self, x: torch.Tensor, noise: torch.Tensor) -> TrainingPass:
        """Encode, sample, and decode with the image around a random rectangle."""
        q = self.posterior(x)
        assert isinstance(q, DiagonalGaussian)
        z = q.rsample(noise[:, :-1]).to(x.dtype)
        image = self._padded(x)
        mask = rectangles(noise[:, -1], image.shape[-2:]).to(x.dtype)
        images = self.model.decode(z, image=image, mask=mask).sample
        return TrainingPass(images[..., : x.shape[-2], : x.shape[-1]], q.mean, q.kl())

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """Decode the mode of q(z|x) as inpainting does: the middle quarter is painted, the rest of the image given."""
        image = self._padded(x)
        height, width = image.shape[-2:]
        mask = torch.zeros_like(image[:, :1])
        mask[..., height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
        z = self.posterior(x).mode()
        return self.model.decode(z, image=image, mask=mask).sample[..., : x.shape[-2], : x.shape[-1]]

    @property
    def recomputed_blocks(self) -> list[nn.Module]:
        """Each level of encoder and decoder: diffusers' networks could do it, but the class says that it does not."""
        encoder, decoder = self.model.encoder, self.model.decoder
        middle = (encoder.mid_block, decoder.mid_block, decoder.condition_encoder)
        return [*encoder.down_blocks, *middle, *decoder.up_blocks]

    @property
    def fixed_channels_reason(self) -> str | None:
        """The decoder reads the image as well."""
        return "its network reads the image twice"

    @property
    def onnx_refusal(self) -> str | None:
        """The decoder has more inputs than latents."""
        return "its decoder needs an image and a mask beside the latents"


def rectangles(noise: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Masks (B, 1, H, W), each 1 in a random rectangle (the part to be painted) and 0 around it.

    Args:
        noise: standard normal (B, h, w), of which four numbers for each image are used (all, if there are fewer).
        size: height and width.
    """
    uniform = 0.5 * (1 + torch.erf(noise.flatten(1) / math.sqrt(2)))
    uniform = uniform.repeat(1, math.ceil(4 / uniform.shape[1]))[:, :4]
    low, high = uniform.view(-1, 2, 2).sort(dim=2).values.unbind(2)  # each (B, 2): y, x
    inside = []
    for axis, length in enumerate(size):
        pixels = (torch.arange(length, device=noise.device) + 0.5) / length
        inside.append((pixels >= low[:, axis, None]) & (pixels <= high[:, axis, None]))
    return (inside[0][:, :, None] & inside[1][:, None, :]).float()[:, None]
