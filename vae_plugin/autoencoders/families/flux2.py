"""`AutoencoderKLFlux2`: FLUX.2 normalises patches of 2 x 2 latents by the statistics of a batch norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ...models.exact import rounded_to
from ..adapter import Adapter
from ..decoders import with_decoder


class Flux2Adapter(Adapter):
    """An `AutoencoderKL` whose pipelines read `bn.running_mean` and `bn.running_var`."""

    class_name = "AutoencoderKLFlux2"
    from_single_file = True

    def with_decoder(self, widths: Sequence[int]) -> Flux2Adapter:
        """The class has a field for them."""
        return Flux2Adapter(with_decoder(self.model, widths))

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
