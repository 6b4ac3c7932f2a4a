"""`AutoencoderVAE`: the Gaussian VAE as a diffusers autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from ..arguments import Whole, accepts
from ..models.affine import CannotStandardizeError, fold_into_input, fold_into_output
from ..models.exact import exact, rounded_to
from ..models.likelihoods import ScaleSetting
from ..models.networks import MLPDecoder, MLPEncoder, resnet_decoder, resnet_encoder
from ..models.posteriors import GENERATORS, DiagonalGaussian, standard_normal
from ..models.vae import VAE
from ..objectives import Generators, elbo, importance_weighted_bound
from .base import (
    AutoencoderBase,
    check_block_types,
    check_config,
    check_norm_groups,
    height_and_width,
    make_likelihood,
    note_equal_channels,
)
from .decoders import check_decoder_widths
from .kl_model import from_autoencoder_kl, plain_block_types
from .padding import use_recorded_padding
from .presented import Presented
from .scaling import LEAST_SPREAD, LatentChange

NETWORKS = ("conv", "mlp")


class AutoencoderVAE(  # type: ignore[misc]  # `forward` is diffusers', not the pass of training of `VAE`
    Presented, AutoencoderBase, VAE, ModelMixin, AttentionMixin, ConfigMixin, PeftAdapterMixin
):
    r"""Variational autoencoder with a diagonal Gaussian posterior, loaded by pipelines as `AutoencoderKL` is.

    Kingma & Welling 2013 with a choice of likelihoods. A pipeline needs a denoiser that was trained on these latents.
    The fields have the names of `AutoencoderKL` where they mean the same. With the Gaussian or Laplace likelihood the
    weights of the convolutional networks are those of an `AutoencoderKL` of the same configuration, name by name.

    Args:
        in_channels: channels of the image: 1, 3, 4 or any other number. (A pipeline's image-to-image call takes a
            4-channel image tensor for latents and skips `encode`: give such pipelines PIL images or latents. Those of
            SD3 and Flux do so with any image of `latent_channels` channels, which is said when such a model is made.)
        out_channels: the same as `in_channels`; `AutoencoderKL` has the field.
        block_out_channels: channels of each level; the spatial compression ratio is f = 2^(levels - 1).
        layers_per_block: residual blocks of each level (the decoder has one more).
        act_fn: activation of the convolutional networks, a name that diffusers knows.
        latent_channels: C of the latents (B, C, H/f, W/f).
        norm_num_groups: groups of the group norms.
        sample_size: height and width (or the two) that the model is made for; images of other sizes are accepted,
            padded to a multiple of f by their last row and column. `sample` draws images of this size.
        scaling_factor: pipelines multiply latents by it; the model itself does not use it.
        shift_factor: SD3-like pipelines subtract it first; never None, which they cannot read.
        latents_mean, latents_std: per channel; SDXL pipelines use them where given and need 4 channels then.
        force_upcast: let SDXL pipelines run a float16 model in float32.
        use_quant_conv, use_post_quant_conv: 1x1 convolutions around the latents, as in `AutoencoderKL`.
        mid_block_add_attention: self-attention in the middle of encoder and decoder.
        encoder_block_out_channels: the same as `block_out_channels`, under the name that Sana pipelines read.
        decoder_block_out_channels: those of the decoder, where they are others, as in `AutoencoderKLFlux2`.
        down_block_types, up_block_types: for `AutoencoderKL`, which opens the folder of an equal model by them.
        network: "conv", or "mlp": fully connected for images of exactly `sample_size`, latents (B, C, 1, 1).
            "mlp" does not work in pipelines, which compute f from `block_out_channels`.
        hidden_sizes: units of the hidden layers of the "mlp" network.
        mlp_act_fn: activation of the "mlp" network.
        likelihood: "gaussian", "bernoulli", "laplace" or "logistic_mixture", see `vae_plugin.models`.
        sigma: scale of the Gaussian or Laplace: a positive number (pixels range over [-1, 1]), "learned" or "optimal".
        num_mixtures: components of the "logistic_mixture".
        latent_statistics: `{"mean": [...], "std": [...]}` per channel, of the latents before they were standardised
            (see `standardize_latents`); a record that nothing reads.
        pipeline_family: whose autoencoder it presents itself as, a key of `presentation.PRESENTATIONS`: "flux2",
            "ideogram4", "qwenimage", "hunyuanimage", "sana"; None as `AutoencoderKL`. It changes no weight: the
            `config` then shows what those pipelines read (such as `z_dim`), the model has what they read from it (such
            as `bn`), and `encode` and `decode` take and give what they do. `from_pretrained` takes another one.

    Raises:
        ValueError: for a combination that cannot work; the message names it and says what to do.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("ResnetBlock2D",)
    _group_offload_block_modules = ("quant_conv", "post_quant_conv", "encoder", "decoder", "likelihood")

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int | None = None,
        block_out_channels: tuple[int, ...] = (32, 64, 64, 64),
        layers_per_block: int = 1,
        act_fn: str = "silu",
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        sample_size: int | tuple[int, int] = 64,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
        latents_mean: tuple[float, ...] | None = None,
        latents_std: tuple[float, ...] | None = None,
        force_upcast: bool = False,
        use_quant_conv: bool = True,
        use_post_quant_conv: bool = True,
        mid_block_add_attention: bool = True,
        encoder_block_out_channels: tuple[int, ...] | None = None,
        decoder_block_out_channels: tuple[int, ...] | None = None,
        down_block_types: tuple[str, ...] | None = None,
        up_block_types: tuple[str, ...] | None = None,
        network: str = "conv",
        hidden_sizes: tuple[int, ...] = (200, 200),
        mlp_act_fn: str = "tanh",
        likelihood: str = "gaussian",
        sigma: ScaleSetting = "optimal",
        num_mixtures: int = 10,
        latent_statistics: dict[str, list[float]] | None = None,
        pipeline_family: str | None = None,
    ) -> None:
        check_config(in_channels, out_channels, block_out_channels, encoder_block_out_channels, shift_factor)
        likelihood_module = make_likelihood(likelihood, sigma, num_mixtures)
        decoder_widths = tuple(decoder_block_out_channels or block_out_channels)
        block_types = plain_block_types(network, likelihood, block_out_channels, decoder_widths)
        check_block_types(block_types, down_block_types=down_block_types, up_block_types=up_block_types)
        decoder_channels = in_channels * likelihood_module.parameters_per_channel
        height, width = height_and_width(sample_size)
        image_shape = (in_channels, height, width)
        if network == "conv":
            given = "decoder_block_out_channels" if decoder_block_out_channels else "block_out_channels"
            check_decoder_widths(decoder_widths, len(block_out_channels), norm_num_groups, given)
            for widths in (block_out_channels, decoder_widths):
                check_norm_groups((height, width), widths, norm_num_groups)
            note_equal_channels(in_channels, latent_channels)
            shape: dict[str, Any] = {
                "layers_per_block": layers_per_block,
                "norm_num_groups": norm_num_groups,
                "act_fn": act_fn,
                "mid_block_add_attention": mid_block_add_attention,
            }
            super().__init__(
                encoder=resnet_encoder(in_channels, latent_channels, block_out_channels, **shape),
                decoder=resnet_decoder(latent_channels, decoder_channels, decoder_widths, **shape),
                likelihood=likelihood_module,
                quant_conv=nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1) if use_quant_conv else None,
                post_quant_conv=nn.Conv2d(latent_channels, latent_channels, 1) if use_post_quant_conv else None,
                spatial_compression_ratio=2 ** (len(block_out_channels) - 1),
            )
        elif network == "mlp":
            super().__init__(
                encoder=MLPEncoder(image_shape, latent_channels, hidden_sizes, mlp_act_fn, spatial=True),
                decoder=MLPDecoder(latent_channels, (decoder_channels, height, width), hidden_sizes, mlp_act_fn),
                likelihood=likelihood_module,
                spatial_compression_ratio=max(height, width),
            )
            self._supports_gradient_checkpointing = False
        else:
            raise ValueError(f"network is {network!r}: it must be one of {', '.join(NETWORKS)}.")
        if pipeline_family is not None:
            self.presentation.check(pipeline_family, network, (height, width), self.spatial_compression_ratio)
        # Pipelines read these from the config, whatever the caller left out.
        self.register_to_config(out_channels=in_channels, encoder_block_out_channels=block_out_channels, **block_types)

        self._init_tiles()
        use_recorded_padding(self)

    @classmethod
    def from_autoencoder_kl(cls, model: AutoencoderKL, **changes: Any) -> AutoencoderVAE:
        """The model with the architecture and the weights of diffusers' `AutoencoderKL`; it encodes and decodes alike.

        Device, precision and mode stay; a `shift_factor` of None becomes 0.0, which means the same.

        Args:
            model: as `AutoencoderKL.from_pretrained` gives it.
            changes: fields of the config to set otherwise: `likelihood` ("gaussian" or "laplace") and `sigma`, which an
                `AutoencoderKL` does not have, `sample_size`, `force_upcast`, and what pipelines do to the latents
                (`scaling_factor`, `shift_factor`, `latents_mean`, `latents_std`, `pipeline_family`).

        Raises:
            ValueError: if its architecture is not one that this class has, or a change would not fit the weights.
        """
        return from_autoencoder_kl(cls, model, changes)

    def to_autoencoder_kl(self) -> AutoencoderKL | AutoencoderKLFlux2:
        """An `AutoencoderKL` that encodes and decodes alike, for those who do not have this package.

        It is an `AutoencoderKLFlux2` where the `pipeline_family` has that class.

        The likelihood with its scale and the `latent_statistics`, for which it has no fields, are lost. The sides of
        images must be multiples of the spatial compression ratio (this class pads others, `AutoencoderKL` crops them).

        Raises:
            ValueError: if that class lacks something that this model has, or the `pipeline_family` has a class with
                another architecture; the message says what.
        """
        return self.presentation.plain(self)

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.config.network == "mlp" else super()._padded(x)

    def _check_images(self, x: torch.Tensor) -> None:
        super()._check_images(x)
        if self.config.network == "mlp" and tuple(x.shape[-2:]) != self._sample_hw:
            height, width = self._sample_hw
            raise ValueError(
                f"got images of shape {tuple(x.shape)}: this mlp takes images of exactly {height}x{width}."
            )

    def _check_latents(self, z: torch.Tensor) -> None:
        super()._check_latents(z)
        if self.config.network == "mlp" and tuple(z.shape[-2:]) != (1, 1):
            channels = self.config.latent_channels
            raise ValueError(f"got latents of shape {tuple(z.shape)}: this mlp decodes (batch, {channels}, 1, 1).")

    @apply_forward_hook
    def encode(self, x: torch.Tensor, return_dict: bool = True) -> Any:
        """q(z|x) for images (B, C, H, W) in [-1, 1].

        Returns:
            `AutoencoderKLOutput` whose `latent_dist` has `sample(generator)`, `mode()` and `kl()`, or a tuple of it.
            With `pipeline_family` "sana" there is the `latent`, too, and it comes first. With "qwenimage" a video of
            one frame (B, C, 1, H, W) is accepted, and its latents have that axis as well.

        Raises:
            ValueError: if x has another rank or number of channels than the model.
        """
        family = self.presentation
        parameters = family.like(self._encode(family.still(x)), x)
        encoded = family.encoded(DiagonalGaussian.from_parameters(parameters, dtype=x.dtype))
        return encoded if return_dict else encoded.to_tuple()

    @apply_forward_hook
    def decode(
        self, z: torch.Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[torch.Tensor]:
        """E[x|z], images (B, C, h * f, w * f) in about [-1, 1], for latents (B, latent_channels, h, w).

        Args:
            z: latents, unscaled; with an axis of time where `encode` gives it, which the images have then.
            return_dict: return a `DecoderOutput` rather than a tuple.
            generator: ignored, the mean is deterministic; pipelines pass it.

        Raises:
            ValueError: if z has another rank or number of channels than the model's latents.
        """
        family = self.presentation
        latents = family.still(z)
        self._check_latents(latents)
        sample = family.like(self._decode(latents), z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    @apply_forward_hook
    def elbo(self, x: torch.Tensor, generator: Generators = None) -> torch.Tensor:
        """The evidence lower bound on log p(x) by one sample of z per image: (B,) nats, with every constant."""
        return elbo(self, x, generator).value

    @apply_forward_hook
    @torch.no_grad()
    @accepts(num_samples=Whole(), samples_per_pass=Whole(optional=True))
    def log_likelihood(
        self,
        x: torch.Tensor,
        num_samples: int = 100,
        generator: Generators = None,
        samples_per_pass: int | None = None,
    ) -> torch.Tensor:
        """The importance-weighted bound on log p(x): (B,) nats, see `objectives.importance_weighted_bound`."""
        training = self.likelihood.training
        self.likelihood.eval()  # else an "optimal" sigma would adapt to the images that it is measured on
        try:
            return importance_weighted_bound(self, x, num_samples, generator, samples_per_pass)
        finally:
            self.likelihood.train(training)

    @apply_forward_hook
    @torch.no_grad()
    @accepts(n=Whole(1), generator=GENERATORS)
    def sample(self, n: int = 1, generator: torch.Generator | None = None) -> torch.Tensor:
        """E[x|z] for n latents from the prior N(0, I): images (n, C, H, W) of `sample_size`, in about [-1, 1]."""
        z = standard_normal(self.latent_shape(n), generator, self._input_device).to(self.dtype)
        return self.likelihood.mean(self.decoder_output(z, self._sample_hw))

    @torch.no_grad()
    def standardize_latents(self, mean: torch.Tensor, std: torch.Tensor) -> LatentChange:
        """Change the latents to (z - mean) / std per channel, without changing what the model reconstructs.

        The affine map is folded into the last layer before the latents and the first after them, and `scaling_factor`
        becomes 1 and `shift_factor` 0: every pipeline then sees latents of mean 0 and variance 1, those that ignore the
        shift and those that ignore per-channel statistics too. Of all Gaussian priors that are independent per channel,
        N(0, I) is then the one that fits the measured latents best, so the ELBO over them does not fall.

        Args:
            mean: of samples of q(z|x) over the training data, (latent_channels,).
            std: likewise; a channel below 1 % of the channels' root mean square is not scaled up further than that.

        Returns:
            The mean and standard deviation that were taken.

        Raises:
            CannotStandardizeError: if there is no 1x1 convolution after the latents, because the zero padding of the
                decoder's first 3x3 convolution cannot take a shift; set `scaling_factor` and `shift_factor` then.
        """
        self._check_statistics(mean, std)
        mean, std = exact(mean), exact(std)
        if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std > 0).any()):
            raise ValueError("the latents' mean and standard deviation must be finite, and not all channels constant.")
        std = std.clamp_min(LEAST_SPREAD * std.square().mean().sqrt())
        before: Any
        after: Any
        if isinstance(self.encoder, MLPEncoder) and isinstance(self.decoder, MLPDecoder):
            before, after = self.encoder.layers[-1], self.decoder.layers[0]
        elif self.post_quant_conv is None:
            raise CannotStandardizeError(
                "use_post_quant_conv is False: the latents' shift cannot be folded into the weights."
            )
        else:
            before = self.quant_conv if self.quant_conv is not None else self.encoder.conv_out
            after = self.post_quant_conv

        channels = self.config.latent_channels
        fold_into_output(before, mean, std)
        log_variance = before.bias[channels:]
        log_variance.copy_(rounded_to(log_variance, exact(log_variance) - 2 * std.log()))
        fold_into_input(after, mean, std)

        # SDXL pipelines reshape these to (1, 4, 1, 1); with any other number of channels they must stay None, which
        # says the same to every pipeline.
        known = channels == 4
        self.register_to_config(
            scaling_factor=1.0,
            shift_factor=0.0,
            latents_mean=[0.0] * channels if known else None,
            latents_std=[1.0] * channels if known else None,
            latent_statistics={"mean": mean.tolist(), "std": std.tolist()},
        )
        return LatentChange(mean, std)
