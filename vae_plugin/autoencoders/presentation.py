"""As whose autoencoder an `AutoencoderVAE` presents itself to pipelines.

The weights and their mathematics are the same for all of them. What differs is what the code of pipelines reads: fields
of the config, attributes of the model, the axis of time that some keep for a single frame, and where they look for the
statistics of the latents. A family of pipelines is one class here, and one line of `PRESENTATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLFlux2
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn

from ..models.posteriors import DiagonalGaussian
from .frames import only_frame
from .kl_model import to_autoencoder_kl, to_autoencoder_kl_flux2
from .scaling import channel_scaling, channel_statistics, pooled_scaling

PATCH = 2  # latents along one side of the patches that these pipelines make tokens of
UNSHIFTED: dict[str, Any] = {"shift_factor": 0.0, "latents_mean": None, "latents_std": None}
ERNIE_EPS = 1e-5  # ERNIE-Image's pipeline has it in its code, the others read `batch_norm_eps`


@dataclass
class AutoencoderLatentOutput(BaseOutput):
    """What `encode` gives pipelines of a deterministic autoencoder.

    Attributes:
        latent: the mode of q(z|x).
        latent_dist: q(z|x).
    """

    latent: torch.Tensor
    latent_dist: DiagonalGaussian


class Presentation:
    """As `AutoencoderKL`. Other families override what differs.

    Attributes:
        pipelines: of diffusers that read an autoencoder in this way only.
        patch: latents along one side of the patches that the pipelines cannot do without.
        attributes: what they read from the model itself: name -> function of the model.
        student_class: see `Adapter.student_class`.
    """

    pipelines: ClassVar[tuple[str, ...]] = ()
    patch: ClassVar[int] = 1
    attributes: ClassVar[dict[str, Callable[[Any], Any]]] = {}
    student_class: ClassVar[str] = "AutoencoderTiny"

    def check(self, name: str, network: str, sample_size: tuple[int, int], ratio: int) -> None:
        """Refuse a model that these pipelines could not use.

        Raises:
            ValueError: naming the field, and what to do.
        """
        if network != "conv":
            raise ValueError(
                f"pipeline_family is {name!r}: pipelines need a grid of latents, which network {network!r} does not "
                "have. Use network 'conv', or leave pipeline_family out."
            )
        if any(side % (self.patch * ratio) for side in sample_size):
            raise ValueError(
                f"pipeline_family is {name!r}: its pipelines take the latents in patches of {self.patch}x{self.patch}, "
                f"so that sample_size ({sample_size[0]}x{sample_size[1]}) must be a multiple of {self.patch * ratio}."
            )

    def fields(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What the model's `config` shows beside the fields that are saved, or in place of them."""
        return {}

    def scaling(self, mean: torch.Tensor, std: torch.Tensor) -> dict[str, Any]:
        """The saved fields by which these pipelines see latents with about mean 0 and variance 1.

        Args:
            mean: of each channel, (c,).
            std: likewise.
        """
        return pooled_scaling(mean, std, shifts=True)

    def still(self, given: torch.Tensor) -> torch.Tensor:
        """Images or latents without an axis of time, (B, C, H, W)."""
        return given

    def like(self, result: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """A result with an axis of time, if that was given with one."""
        return result

    def encoded(self, posterior: DiagonalGaussian) -> BaseOutput:
        """What `encode` returns."""
        return AutoencoderKLOutput(latent_dist=posterior)

    def plain(self, model: Any) -> ModelMixin:
        """A model of the class of diffusers that these pipelines name, with the same weights.

        Raises:
            ValueError: if that class cannot have them.
        """
        return to_autoencoder_kl(model)


class _Foreign(Presentation):
    """A family whose own class has another architecture."""

    own_class: ClassVar[str]

    def plain(self, model: Any) -> ModelMixin:
        """There is none."""
        raise ValueError(
            f"its pipelines name {self.own_class}, which has another architecture: for an AutoencoderKL, which they do "
            "not take, open the model with from_pretrained(..., pipeline_family=None)."
        )


class Flux2Presentation(Presentation):
    """As `AutoencoderKLFlux2`: pipelines normalise patches of 2x2 latents by the statistics of a batch norm."""

    pipelines: ClassVar[tuple[str, ...]] = (
        "Flux2Pipeline",
        "Flux2KleinPipeline",
        "Flux2KleinInpaintPipeline",
        "Flux2KleinKVPipeline",
        "ErnieImagePipeline",
        "BriaFibo2Pipeline",
    )
    patch = PATCH
    student_class = "AutoencoderTinyFlux2"

    def fields(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The epsilon of the batch norm."""
        return {"batch_norm_eps": ERNIE_EPS}

    def scaling(self, mean: torch.Tensor, std: torch.Tensor) -> dict[str, Any]:
        """Statistics of each channel."""
        return channel_scaling(mean, std)

    def patched(self, values: torch.Tensor) -> torch.Tensor:
        """A value for each channel (c,) as one for each channel of patches, (4c,)."""
        return values.repeat_interleave(PATCH**2)  # (channel, row, column)

    def plain(self, model: Any) -> AutoencoderKLFlux2:
        """An `AutoencoderKLFlux2`."""
        return to_autoencoder_kl_flux2(model, batch_norm(model))


def batch_norm(model: Any) -> nn.BatchNorm2d:
    """The statistics of the config as FLUX.2's pipelines read them, made anew at each call.

    Nothing of it is kept, so that precision, offloading and files cannot change it. To change it, change
    `scaling_factor` and `shift_factor`, or `latents_mean` and `latents_std`, of the config.
    """
    mean, std = channel_statistics(model.config)
    bn = nn.BatchNorm2d(PATCH**2 * len(mean), eps=model.config.batch_norm_eps, affine=False).eval()
    patched = model.presentation.patched
    bn.running_mean = patched(mean)
    bn.running_var = patched((std.square() - bn.eps).clamp_min(0))  # the pipelines add it again
    return bn.to(model._input_device, model.dtype)


Flux2Presentation.attributes = {"bn": batch_norm}


class Ideogram4Presentation(Flux2Presentation):
    """As the `AutoencoderKLFlux2` of Ideogram 4, which has the channels of patches in another order."""

    pipelines: ClassVar[tuple[str, ...]] = ("Ideogram4Pipeline",)

    def patched(self, values: torch.Tensor) -> torch.Tensor:
        """A value for each channel (c,) as one for each channel of patches, (4c,)."""
        return values.repeat(PATCH**2)  # (row, column, channel)


class QwenImagePresentation(_Foreign):
    """As `AutoencoderKLQwenImage`: images are videos of one frame, and each channel has statistics of its own."""

    own_class = "AutoencoderKLQwenImage"
    pipelines: ClassVar[tuple[str, ...]] = (
        "QwenImagePipeline",
        "QwenImageImg2ImgPipeline",
        "QwenImageInpaintPipeline",
        "QwenImageEditPipeline",
        "QwenImageEditInpaintPipeline",
        "QwenImageEditPlusPipeline",
        "QwenImageControlNetPipeline",
        "QwenImageControlNetInpaintPipeline",
        "Krea2Pipeline",
        "NucleusMoEImagePipeline",
    )
    patch = PATCH
    attributes: ClassVar = {"temperal_downsample": lambda model: model.config.temperal_downsample}  # their spelling

    def fields(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Channels, levels and statistics, under their names; nothing is left for `scaling_factor` to do."""
        mean, std = channel_statistics(config)
        return {
            "z_dim": len(mean),
            "temperal_downsample": [False] * (len(config["block_out_channels"]) - 1),  # one of each level
            "latents_mean": mean.tolist(),
            "latents_std": std.tolist(),
            "scaling_factor": 1.0,
            "shift_factor": 0.0,
        }

    def scaling(self, mean: torch.Tensor, std: torch.Tensor) -> dict[str, Any]:
        """Statistics of each channel."""
        return channel_scaling(mean, std)

    def still(self, given: torch.Tensor) -> torch.Tensor:
        """Images or latents (B, C, H, W), which may be given as (B, C, 1, H, W).

        Raises:
            UserError: if they have more than one frame.
        """
        return only_frame(given)

    def like(self, result: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """A result of as many axes as was given."""
        return result.unsqueeze(2) if given.ndim == 5 else result


class HunyuanImagePresentation(_Foreign):
    """As `AutoencoderKLHunyuanImage`: pipelines read the ratio from the config, and do not subtract a shift."""

    own_class = "AutoencoderKLHunyuanImage"
    pipelines: ClassVar[tuple[str, ...]] = ("HunyuanImagePipeline",)

    def fields(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The ratio, and that there is no shift."""
        return {"spatial_compression_ratio": 2 ** (len(config["block_out_channels"]) - 1), **UNSHIFTED}

    def scaling(self, mean: torch.Tensor, std: torch.Tensor) -> dict[str, Any]:
        """One scale for all."""
        return pooled_scaling(mean, std, shifts=False)


class SanaPresentation(_Foreign):
    """As `AutoencoderDC`: `encode` gives the latents themselves, and pipelines do not subtract a shift."""

    own_class = "AutoencoderDC"
    pipelines: ClassVar[tuple[str, ...]] = ("SanaControlNetPipeline", "SanaSprintImg2ImgPipeline")

    def fields(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """That there is no shift."""
        return dict(UNSHIFTED)

    def scaling(self, mean: torch.Tensor, std: torch.Tensor) -> dict[str, Any]:
        """One scale for all."""
        return pooled_scaling(mean, std, shifts=False)

    def encoded(self, posterior: DiagonalGaussian) -> BaseOutput:
        """The mode of q(z|x), and q(z|x)."""
        return AutoencoderLatentOutput(latent=posterior.mode(), latent_dist=posterior)


PRESENTATIONS: dict[str | None, Presentation] = {
    None: Presentation(),
    "flux2": Flux2Presentation(),
    "ideogram4": Ideogram4Presentation(),
    "qwenimage": QwenImagePresentation(),
    "hunyuanimage": HunyuanImagePresentation(),
    "sana": SanaPresentation(),
}
FAMILY_NAMES = tuple(name for name in PRESENTATIONS if name is not None)
_SMALLEST = {"latent_channels": 1, "block_out_channels": (1,)}
SHOWN = frozenset(name for presentation in PRESENTATIONS.values() for name in presentation.fields(_SMALLEST))
