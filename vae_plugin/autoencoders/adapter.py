"""The one view of an autoencoder that the rest of the package has, whichever class it is.

The classes of diffusers share no base: what `encode` returns has four names, the spatial compression ratio has to be
counted, statistics of the latents are kept in three ways, and `forward` is not what training needs (that of
`AutoencoderTiny` rounds the latents to bytes, which has no gradient). An adapter answers these questions for the family
of classes that it stands for; see `registry` for the table of families.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import diffusers
import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..errors import UserError
from ..models.likelihoods import Likelihood
from ..models.networks import cropped, pad_to_multiple
from ..models.posteriors import DiagonalGaussian, Generators
from ..models.vqvae import CodePosterior
from .channels import cannot_change_channels, replace_image_convolutions
from .checkpointing import enable_checkpointing
from .decoders import no_other_decoder
from .folding import no_factors
from .frames import only_frame
from .layouts import Layout
from .padding import check_reflected_size, recorded_padding, set_padding_mode
from .papers import LATENT_DIFFUSION, Paper
from .parts import PARTS, select_part, without_decoder
from .passes import Posterior, TrainingPass
from .resolution import usual_resolution
from .scaling import LatentChange, pooled_scaling, scaled, scaling_fields
from .value_range import record_range, recorded_range
from .weights import NOT_SAVED, check_finite, plain_names


class Adapter:
    """An `AutoencoderKL`, and what other families have in common with it.

    A family is a subclass that overrides what differs. Images are (B, C, H, W) in [-1, 1], latents (B, c, h, w) and
    unscaled, unless a method says otherwise.

    Args:
        model: of the class that the adapter stands for.

    Attributes:
        model: the module that runs and is trained.
        class_name: name of the class that the model is opened as and saved as.
        kind: what decides which training options apply: "vae", "vqvae", "tiny", or "diffusers" for any other.
        gaussian: whether q(z|x) is a Gaussian, rather than a point.
        discrete: whether the decoder sees the codes of a codebook.
        remote_code: whether diffusers lacks the class, so that it can be loaded without this package only by code
            that is saved beside the weights.
        single_file: how one file with the names of its original code holds such a model; None if there are none.
        taesd_architecture: fields of the one config that TAESD's code builds, for its two files; None if there is none.
        can_distill: whether the model can learn the latents of a teacher.
        student_class: of the small autoencoder that learns its latents, and that its pipelines take in its place.
        latents_expression: Python behind `vae.encode(x)` that gives the latents without sampling.
        has_frames: whether images and latents of the class have an axis of time, which the adapter adds and removes.
        channel_fields: of the config, for the number of image channels.
        parts: that can be trained, see `select_part`.
        unit_range: whether images are in [0, 1] to the class, which the adapter translates.
        clip_frames: of a class of videos, the frames of a short one in which time is compressed; None of images.
        papers: that introduced the architecture.
        statistics_patch: height and width of the patch of latents in which each place has statistics of its own.
    """

    class_name: ClassVar[str]
    kind: ClassVar[str] = "diffusers"
    gaussian: ClassVar[bool] = True
    discrete: ClassVar[bool] = False
    remote_code: ClassVar[bool] = False
    single_file: ClassVar[Layout | None] = None
    taesd_architecture: ClassVar[Mapping[str, Any] | None] = None
    can_distill: ClassVar[bool] = False
    student_class: ClassVar[str] = "AutoencoderTiny"
    latents_expression: ClassVar[str] = ".latent_dist.mode()"
    has_frames: ClassVar[bool] = False
    channel_fields: ClassVar[tuple[str, ...]] = ("in_channels", "out_channels")
    clip_frames: ClassVar[int | None] = None
    parts: ClassVar[tuple[str, ...]] = PARTS
    unit_range: ClassVar[bool] = False
    papers: tuple[Paper, ...] = (LATENT_DIFFUSION,)
    statistics_patch: tuple[int, int] = (1, 1)
    pipelines: tuple[str, ...] = ()  # that a setting of the model makes it fit for, by the names of their classes

    model: ModelMixin

    def __init__(self, model: ModelMixin) -> None:
        self.model = model
        if (mode := recorded_padding(self.config)) is not None:
            self.set_padding_mode(mode)
        recorded_range(self.config)  # is checked here, before it is used

    @classmethod
    def model_class(cls) -> type[ModelMixin] | None:
        """The class of models that the adapter takes; None if the installed diffusers does not have it."""
        return getattr(diffusers, cls.class_name, None)

    # --- geometry ---

    @property
    def config(self) -> Any:
        """The configuration of the model that runs."""
        return self.model.config

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.config.in_channels

    @property
    def num_parameters(self) -> int:
        """How many weights the model has."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.config.latent_channels

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    @property
    def natural_resolution(self) -> int:
        """Side of the images to train and measure on unless another is asked for, in pixels.

        The `sample_size` of diffusers' configs says little (32 for Stable Diffusion's, 1024 for SDXL's): here it is
        about 256, which most were trained on.
        """
        return usual_resolution(self.spatial_compression_ratio)

    @property
    def only_image_size(self) -> tuple[int, int] | None:
        """Height and width of the only images that the model takes; None for a model that takes any size."""
        return None

    @property
    def pads_images(self) -> bool:
        """Whether the model itself takes images whose sides are no multiples of the spatial compression ratio."""
        return False

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The values of image files that become -1 and 1, where the config records them, see `value_range`."""
        return recorded_range(self.config)

    def record_value_range(self, value_range: tuple[float, float] | None) -> None:
        """Record the values of image files that become -1 and 1; nothing for None."""
        record_range(self.model, value_range)

    def set_padding_mode(self, mode: str) -> None:
        """Let the convolutions pad in that mode, which the config records, see `padding.set_padding_mode`."""
        set_padding_mode(self.model, mode)

    def check_image_size(self, height: int, width: int, what: str) -> None:
        """Refuse images, which the error calls `what`, that are too small to be padded."""
        positions = self.latent_shape(1, height, width)[-2:]
        check_reflected_size(self.model, positions, self.spatial_compression_ratio, what)

    def latent_shape(self, batch_size: int, height: int, width: int) -> tuple[int, ...]:
        """Shape (B, c, h, w) of the latents of `batch_size` images of that size."""
        ratio = self.spatial_compression_ratio
        return (batch_size, self.latent_channels, -(-height // ratio), -(-width // ratio))

    def noise_shape(self, batch_size: int, height: int, width: int) -> tuple[int, ...]:
        """Shape of the standard normal noise that `training_pass` needs: by default that of the latents."""
        return self.latent_shape(batch_size, height, width)

    # --- encode and decode ---

    def posterior(self, x: torch.Tensor) -> Posterior:
        """q(z|x) for images padded to a multiple of the spatial compression ratio."""
        latent_dist = self.model.encode(self._padded(x)).latent_dist
        return DiagonalGaussian(latent_dist.mean, latent_dist.logvar, dtype=x.dtype)

    def latents(self, x: torch.Tensor) -> torch.Tensor:
        """The latents of images as a point: the mean of a Gaussian, the vectors before quantisation, the latents."""
        posterior = self.posterior(x)
        assert not isinstance(posterior, CodePosterior)  # those are a family with a method of its own
        return posterior.mean

    def decode(self, z: torch.Tensor, image_size: tuple[int, ...] | None = None) -> torch.Tensor:
        """Images of latents, cropped to `image_size` (height, width) where that is given."""
        return cropped(self.model.decode(only_frame(z)).sample, image_size)

    def decode_unclamped(self, z: torch.Tensor, image_size: tuple[int, ...] | None = None) -> torch.Tensor:
        """As `decode`, with a gradient for every value: what training decodes, also of classes that clamp images."""
        return self.decode(z, image_size)

    def decode_indices(self, indices: torch.Tensor) -> torch.Tensor:
        """Images of indices (B, h, w), or (B, h, w, stages), of a codebook; only for a `discrete` model."""
        raise UserError(f"{self.class_name} has no codebook, and so no indices to decode.")

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """Decode the mode of q(z|x): images of the shape of x."""
        return self.decode(self.posterior(x).mode(), x.shape[-2:])

    def pipeline_latents(self, z: torch.Tensor) -> torch.Tensor:
        """The latents as a pipeline gives them to its denoiser: shifted and scaled as the config says."""
        return scaled(self.config, z)

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        return pad_to_multiple(only_frame(x), self.spatial_compression_ratio)

    # --- training ---

    @property
    def likelihood(self) -> Likelihood | None:
        """p(x|z), of models that have one."""
        return None

    @property
    def last_layer(self) -> nn.Conv2d | nn.Conv3d | nn.Linear:
        """The decoder's last layer."""
        return [m for m in self.model.decoder.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d, nn.Linear))][-1]

    def training_pass(self, x: torch.Tensor, noise: torch.Tensor) -> TrainingPass:
        """Encode, sample, decode.

        Args:
            x: images.
            noise: standard normal, of `noise_shape`.
        """
        q = self.posterior(x)
        assert isinstance(q, DiagonalGaussian)  # families with another posterior have a pass of their own
        return TrainingPass(self.decode_unclamped(q.rsample(noise).to(x.dtype), x.shape[-2:]), q.mean, q.kl())

    def select_part(self, part: str, learn_likelihood: bool = False) -> None:
        """Leave gradients, and training mode, to one part of the model.

        Args:
            part: "all"; "decoder" locks the latent space: nothing before the latents changes, nor do the statistics of
                a codebook; "encoder" trains what computes the latents, for the decoder (and the codebook) as it is.
            learn_likelihood: whether the scale of p(x|z) is part of the objective.
        """
        select_part(self.model, part)
        if self.likelihood is not None and not learn_likelihood:
            self.likelihood.requires_grad_(False)

    @property
    def recomputed_blocks(self) -> list[nn.Module]:
        """What gradient checkpointing recomputes in a class where diffusers does not; empty where it does."""
        return []

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass; a UserError where neither diffusers nor the adapter can."""
        enable_checkpointing(self.model, self.recomputed_blocks, self.class_name)

    @property
    def output_channels_per_channel(self) -> int:
        """Channels of the decoder's output for each channel of the image."""
        return 1

    @property
    def fixed_channels_reason(self) -> str | None:
        """Why the number of image channels cannot be changed; None if it can."""
        return None

    def adapt_channels(self, channels: int) -> None:
        """Change the number of image channels in place, see `channels.replace_image_convolutions`.

        Raises:
            UserError: if the model has no convolution that reads or writes the image alone.
        """
        before = self.in_channels
        if channels == before:
            return
        reason = self.fixed_channels_reason
        if reason is None and not self.replace_image_convolutions(before, channels):
            reason = "it has no first and last convolution of the image's channels alone"
        if reason is not None:
            raise cannot_change_channels(self.class_name, before, channels, reason)
        self.model.register_to_config(**{name: channels for name in self.channel_fields if name in self.config})

    def replace_image_convolutions(self, before: int, channels: int) -> bool:
        """Change the convolutions that read and write the image, see `channels.replace_image_convolutions`."""
        encoder, decoder = self.model.encoder, self.model.decoder
        return replace_image_convolutions(encoder, decoder, before, channels, self.output_channels_per_channel)

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        """Channels of each level of the decoder, of classes with one width for each level."""
        return tuple(self.config.get("decoder_block_out_channels") or self.config.block_out_channels)

    def with_decoder(self, widths: Sequence[int]) -> Adapter:
        """A model with the same latents, to the bit, and a decoder of these widths, which is to be trained.

        Args:
            widths: channels of each level, from the image to the latents.

        Raises:
            UserError: if no class has such a decoder for these latents.
        """
        raise no_other_decoder(self.class_name)

    def frozen_encoder(self) -> Adapter:
        """A frozen copy of what computes the latents; it cannot decode."""
        with without_decoder(self.model):
            copied = copy.deepcopy(self)
        copied.model.requires_grad_(False).eval()
        return copied

    # --- statistics of the latents ---

    def statistics_vectors(self, z: torch.Tensor) -> torch.Tensor:
        """Latents as the tensor (B, C, h, w) whose channels have statistics of their own."""
        return z

    def sample_latents(self, x: torch.Tensor, generator: Generators = None) -> torch.Tensor:
        """The latents that a pipeline's training sees: a sample of what `encode` gives."""
        return self.posterior(x).sample(generator)

    def write_latent_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> LatentChange | None:
        """Make pipelines see latents of about mean 0 and variance 1, in the way that the pipelines of the family read.

        Here by one `scaling_factor` for all channels, and a `shift_factor` where the config has one already: pipelines
        of a model that has none do not subtract it. Where the latents themselves change, the result tells how.

        Args:
            mean: of each channel of `statistics_vectors`, (C,).
            std: likewise.
        """
        self.model.register_to_config(**pooled_scaling(mean, std, self.config.get("shift_factor") is not None))
        return None

    def latent_scaling(self) -> dict[str, Any]:
        """What pipelines scale the latents by, as names and plain values: the fields of the config that are set."""
        return scaling_fields(self.config)

    def pipeline_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation (C,) of each channel as pipelines see them, of latents that have these."""
        low, high = (self.pipeline_latents((mean + sign * std).view(1, -1, 1, 1)).flatten() for sign in (-1, 1))
        return (low + high) / 2, (high - low) / 2

    @property
    def standardizes_channels(self) -> bool:
        """Whether `write_latent_statistics` makes every channel standard, rather than all of them together."""
        return False

    def with_factors(self, scaling_factor: float, shift_factor: float) -> Adapter:
        """A copy whose latents fit the factors of a denoiser, see `folding.fold_factors`; a UserError if none can."""
        raise no_factors(self.class_name)

    # --- other forms ---

    def use_signed_images(self) -> None:
        """Let the model work with images in [-1, 1], where its config can say another range."""

    def to_diffusers(self) -> ModelMixin:
        """The model as a class of diffusers itself, which opens without this package.

        Raises:
            ValueError: if that class lacks something that the model has; the message says what.
        """
        return self.model

    def to_saved(self) -> ModelMixin:
        """The model in the class that it was opened as."""
        return self.model

    def save(self, folder: str | os.PathLike) -> None:
        """Write weights and configuration, in the class that the model was opened as.

        Raises:
            UserError: if a weight is NaN or infinite.
        """
        model = self.to_saved()
        check_finite(model.state_dict(), "the weights", NOT_SAVED)
        with plain_names(model):
            model.save_pretrained(folder)

    # --- ONNX ---

    @property
    def onnx_outputs(self) -> tuple[str, ...]:
        """Names of what `onnx_encode` returns."""
        return ("mean", "logvar") if self.gaussian else ("latents",)

    @property
    def onnx_refusal(self) -> str | None:
        """Why the model cannot be exported to ONNX; None if it can."""
        return None

    def onnx_encode(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The encoder as an ONNX file has it: image to the tensors of `onnx_outputs`."""
        encoded = self.model.encode(image)
        return (encoded.latent_dist.mean, encoded.latent_dist.logvar) if self.gaussian else (encoded[0],)

    def onnx_latents(self, encoded: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Latents to compare decoders on, from the result of `onnx_encode`."""
        return encoded[0]
