"""What training on images has done to videos: short clips, made of images, through the whole model.

An image is one frame to a causal autoencoder of videos, so training on images changes only what one frame reaches. The
rest was trained to work with that as it was before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch.nn import functional as F

from ..autoencoders import Adapter
from ..autoencoders.clips import video_reconstruction
from ..models.exact import exact
from ..models.networks import pad_to_multiple
from .reconstruction import psnr

CLIPS = 8  # clips take several times the memory and time of an image: a few tell what happened
LONGEST_SIDE = 256  # pixels, likewise
NEARER = 0.1  # of the image's side, by which the view narrows from the first frame to the last
ASIDE = 0.05  # and moves to the right and down


def clip_of(images: torch.Tensor, frames: int) -> torch.Tensor:
    """Slow moves into images: videos (B, C, frames, H, W), whose first frames are the images.

    Args:
        images: (B, C, H, W).
        frames: of each video, at least 2.
    """
    made = [images]
    for step in torch.linspace(0, 1, frames, device=images.device)[1:]:
        scale, shift, zero = 1 - NEARER * step, ASIDE * step, torch.zeros_like(step)
        view = torch.stack([scale, zero, shift, zero, scale, shift]).view(1, 2, 3).expand(len(images), -1, -1)
        grid = F.affine_grid(view, list(images.shape), align_corners=False)
        made.append(F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False).to(images.dtype))
    return torch.stack(made, dim=2)


class ClipMeasure:
    """Measures clips of the first images of a set.

    Args:
        adapter: of the model, which `video_reconstruction` copies when the first clip is measured.
        count: clips to measure at most: those of the images numbered below it, none of a class of images.
    """

    def __init__(self, adapter: Adapter, count: int) -> None:
        self.adapter, self.count = adapter, count

    @cached_property
    def reconstruct(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Videos to their reconstruction."""
        return video_reconstruction(self.adapter)

    def __call__(self, images: torch.Tensor, numbers: tuple[int, ...]) -> torch.Tensor:
        """PSNR (N,) in dB, float64, of the clips of those images that have a number below the count.

        It is the mean over the frames after the first, which is an image, of the PSNR of the 8-bit frame. Of larger
        images the middle is taken, 256 pixels a side; one clip is in memory at a time.

        Args:
            images: (B, C, H, W) in [-1, 1].
            numbers: of the images.
        """
        if self.adapter.clip_frames is None:
            return torch.zeros(0, dtype=torch.float64)
        values = [
            self._psnr(image[None]) for image, number in zip(images, numbers, strict=False) if number < self.count
        ]
        return exact(torch.stack(values)) if values else torch.zeros(0, dtype=torch.float64)

    def _psnr(self, image: torch.Tensor) -> torch.Tensor:
        image = _middle(image)
        height, width = image.shape[-2:]
        clip = clip_of(image, self.adapter.clip_frames or 0)
        frames = clip.movedim(2, 1).flatten(0, 1)  # (T, C, H, W), to be padded as images are
        padded = pad_to_multiple(frames, self.adapter.spatial_compression_ratio)
        back = self.reconstruct(padded.movedim(0, 1)[None])[0].movedim(1, 0)[..., :height, :width]
        return psnr(back[1:], frames[1:]).mean()


def _middle(image: torch.Tensor) -> torch.Tensor:
    """The middle of an image (1, C, H, W), no side longer than `LONGEST_SIDE`."""
    for dim in (-2, -1):
        side = image.shape[dim]
        image = image.narrow(dim, max(0, side - LONGEST_SIDE) // 2, min(side, LONGEST_SIDE))
    return image
