"""What the autoencoders of FLUX.2's pipelines have in common: a batch norm over patches of 2 x 2 latents."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch.nn import functional as F

from ...models.exact import rounded_to
from ..adapter import Adapter


class PatchedNorm(Adapter):
    """A model whose pipelines read `bn.running_mean` and `bn.running_var`."""

    def __init__(self, model: ModelMixin) -> None:
        super().__init__(model)
        height, width = self.config.patch_size
        self.statistics_patch = height, width

    def pipeline_latents(self, z: torch.Tensor) -> torch.Tensor:
        """The latents after the batch norm, (B, c, h, w) as before: pipelines patchify them."""
        bn, (height, width) = self.model.bn, self.config.patch_size
        rows, columns = z.shape[-2:]
        grid = -(-rows // height), -(-columns // width)
        patched = (v.to(z.device).to(z.dtype) for v in (bn.running_mean, (bn.running_var + bn.eps).sqrt()))
        places = (v.view(1, -1, 1, 1).expand(-1, -1, *grid) for v in patched)
        mean, std = (F.pixel_shuffle(v, height)[..., :rows, :columns] for v in places)
        return (z - mean) / std

    def statistics_vectors(self, z: torch.Tensor) -> torch.Tensor:
        """Patches of 2 x 2 latents, (B, 4c, h / 2, w / 2); a last odd row or column is left out."""
        height, width = self.config.patch_size
        if z.shape[2] % height or z.shape[3] % width:
            z = z[..., : z.shape[2] // height * height, : z.shape[3] // width * width]
        return F.pixel_unshuffle(z, height)

    def write_latent_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Set the running mean and variance of the batch norm."""
        bn = self.model.bn
        bn.running_mean.copy_(rounded_to(bn.running_mean, mean))
        bn.running_var.copy_(rounded_to(bn.running_var, std.square()))

    def latent_scaling(self) -> dict[str, Any]:
        """The statistics of the batch norm."""
        bn = self.model.bn
        return {"bn.running_mean": bn.running_mean.tolist(), "bn.running_var": bn.running_var.tolist()}

    def pipeline_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation after the batch norm."""
        scale = (self.model.bn.running_var + self.model.bn.eps).sqrt().cpu()
        return (mean - self.model.bn.running_mean.cpu()) / scale, std / scale
