"""`AutoencoderVAE`: the Gaussian VAE as a diffusers autoencoder."""

from __future__ import annotations

import math

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from .. import objectives
from ..models.likelihoods import Bernoulli, DiscretizedLogisticMixture, Gaussian, Laplace, Likelihood, ScaleSetting
from ..models.networks import MLPDecoder, MLPEncoder, pad_to_multiple, resnet_decoder, resnet_encoder
from ..models.posteriors import DiagonalGaussian, standard_normal
from ..models.vae import VAE

LIKELIHOODS = ("gaussian", "bernoulli", "laplace", "logistic_mixture")
NETWORKS = ("conv", "mlp")
MIN_TILE_LATENTS = 64


def _likelihood(name: str, sigma: ScaleSetting, num_mixtures: int) -> Likelihood:
    if name == "gaussian":
        return Gaussian(sigma)
    if name == "laplace":
        return Laplace(sigma)
    if name == "bernoulli":
        return Bernoulli()
    if name == "logistic_mixture":
        return DiscretizedLogisticMixture(num_mixtures)
    raise ValueError(f"likelihood is {name!r}: it must be one of {', '.join(LIKELIHOODS)}.")


class AutoencoderVAE(VAE, ModelMixin, AttentionMixin, AutoencoderMixin, ConfigMixin, PeftAdapterMixin):
    r"""Variational autoencoder with a diagonal Gaussian posterior that serves wherever `AutoencoderKL` does.

    Kingma & Welling 2013 with the likelihood of your choice. The fields have the names of `AutoencoderKL` where they
    mean the same, and with the Gaussian or Laplace likelihood the weights of the convolutional networks are those of
    an `AutoencoderKL` of the same configuration, name by name.

    Args:
        in_channels: channels of the image: 1, 3, 4 or any other number. (A pipeline's image-to-image call takes a
            4-channel image tensor for latents and skips `encode`: give such pipelines PIL images or latents.)
        out_channels: the same as `in_channels`, there for `AutoencoderKL`'s sake.
        block_out_channels: channels of each level; the down-sampling factor is f = 2^(levels - 1).
        layers_per_block: residual blocks of each level (the decoder has one more).
        act_fn: activation of the convolutional networks, a name that diffusers knows.
        latent_channels: C of the latents (B, C, H/f, W/f).
        norm_num_groups: groups of the group norms.
        sample_size: height and width (or the two) that the model is made for; images of other sizes are accepted,
            padded to a multiple of f by their last row and column. `sample` gives images of this size.
        scaling_factor: pipelines multiply latents by it; the model itself does not use it.
        shift_factor: SD3-like pipelines subtract it first; never None, which they cannot read.
        latents_mean, latents_std: per channel; SDXL pipelines use them where given and need 4 channels then.
        force_upcast: let SDXL pipelines run a float16 model in float32.
        use_quant_conv, use_post_quant_conv: 1x1 convolutions around the latents, as in `AutoencoderKL`.
        mid_block_add_attention: self-attention in the middle of encoder and decoder.
        encoder_block_out_channels: the same as `block_out_channels`, under the name that Sana pipelines read.
        network: "conv", or "mlp": fully connected for images of exactly `sample_size`, latents (B, C, 1, 1).
            The latter is not for pipelines, which take the factor f from `block_out_channels`.
        hidden_sizes: units of the hidden layers of the "mlp" network.
        mlp_act_fn: activation of the "mlp" network.
        likelihood: "gaussian", "bernoulli", "laplace" or "logistic_mixture", see `vae_plugin.models`.
        sigma: scale of the Gaussian or Laplace: a positive number (pixels range over [-1, 1]), "learned" or "optimal".
        num_mixtures: components of the "logistic_mixture".
        latent_statistics: `{"mean": [...], "std": [...]}` per channel, of the latents before they were standardised
            (see `standardize_latents`); a record, used by nothing.

    Raises:
        ValueError: for a combination that cannot work; the message says which and what to do.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("ResnetBlock2D",)
    _group_offload_block_modules = ("quant_conv", "post_quant_conv", "encoder", "decoder", "likelihood")

    # diffusers' own tiling, which needs no more than encoder, decoder, the 1x1 convolutions and the tile sizes.
    blend_v = AutoencoderKL.blend_v
    blend_h = AutoencoderKL.blend_h
    _tiled_encode = AutoencoderKL._tiled_encode
    tiled_decode = AutoencoderKL.tiled_decode

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
        network: str = "conv",
        hidden_sizes: tuple[int, ...] = (200, 200),
        mlp_act_fn: str = "tanh",
        likelihood: str = "gaussian",
        sigma: ScaleSetting = "optimal",
        num_mixtures: int = 10,
        latent_statistics: dict[str, list[float]] | None = None,
    ) -> None:
        if out_channels not in (None, in_channels):
            raise ValueError(
                f"out_channels is {out_channels}: a likelihood of the image needs in_channels ({in_channels})."
            )
        if shift_factor is None:
            raise ValueError("shift_factor is None: give a number, 0.0 for none (SD3 and Flux pipelines subtract it).")
        if encoder_block_out_channels not in (None, block_out_channels) and list(encoder_block_out_channels) != list(
            block_out_channels
        ):
            raise ValueError("encoder_block_out_channels is another name of block_out_channels: leave it out.")
        likelihood_module = _likelihood(likelihood, sigma, num_mixtures)
        decoder_channels = in_channels * likelihood_module.parameters_per_channel
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        image_shape = (in_channels, height, width)
        if network == "conv":
            factor = 2 ** (len(block_out_channels) - 1)
            if max(height, width) <= factor and block_out_channels[-1] == norm_num_groups:
                raise ValueError(
                    f"sample_size {sample_size} leaves 1x1 latents, where a group norm of one channel per group is "
                    f"always zero: give norm_num_groups below {block_out_channels[-1]}."
                )
            shape = {
                "block_out_channels": block_out_channels,
                "layers_per_block": layers_per_block,
                "norm_num_groups": norm_num_groups,
                "act_fn": act_fn,
                "mid_block_add_attention": mid_block_add_attention,
            }
            super().__init__(
                encoder=resnet_encoder(in_channels, latent_channels, **shape),
                decoder=resnet_decoder(latent_channels, decoder_channels, **shape),
                likelihood=likelihood_module,
                quant_conv=nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1) if use_quant_conv else None,
                post_quant_conv=nn.Conv2d(latent_channels, latent_channels, 1) if use_post_quant_conv else None,
                downsampling_factor=factor,
            )
        elif network == "mlp":
            super().__init__(
                encoder=MLPEncoder(image_shape, latent_channels, hidden_sizes, mlp_act_fn, spatial=True),
                decoder=MLPDecoder(latent_channels, (decoder_channels, height, width), hidden_sizes, mlp_act_fn),
                likelihood=likelihood_module,
            )
        else:
            raise ValueError(f"network is {network!r}: it must be one of {', '.join(NETWORKS)}.")
        # Pipelines read these from the config, whatever the caller left out.
        self.register_to_config(out_channels=in_channels, encoder_block_out_channels=block_out_channels)

        self.use_slicing = False
        self.use_tiling = False
        ratio = self.spatial_compression_ratio
        self.tile_latent_min_size = max(max(height, width) // ratio, MIN_TILE_LATENTS)
        self.tile_sample_min_size = self.tile_latent_min_size * ratio
        self.tile_overlap_factor = 0.25

    @property
    def likelihood(self) -> Likelihood:
        """p(x|z)."""
        # Else the config's field of that name would be found first by ModelMixin.
        return self._modules["likelihood"]

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per place of the latent, along one side."""
        return max(self._sample_hw) if self.config.network == "mlp" else self.downsampling_factor

    @property
    def _sample_hw(self) -> tuple[int, int]:
        size = self.config.sample_size
        return (size, size) if isinstance(size, int) else tuple(size)

    def latent_shape(self, batch_size: int, height: int | None = None, width: int | None = None) -> tuple[int, ...]:
        """Shape of the latents of `batch_size` images of that size (default: `sample_size`)."""
        height, width = height or self._sample_hw[0], width or self._sample_hw[1]
        ratio = self.spatial_compression_ratio
        return (batch_size, self.config.latent_channels, math.ceil(height / ratio), math.ceil(width / ratio))

    def _check_images(self, x: torch.Tensor) -> None:
        channels = self.config.in_channels
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(f"got images of shape {tuple(x.shape)}: expected (batch, {channels}, height, width).")
        if self.config.network == "mlp" and tuple(x.shape[-2:]) != self._sample_hw:
            height, width = self._sample_hw
            raise ValueError(
                f"got images of shape {tuple(x.shape)}: this mlp takes images of exactly {height}x{width}."
            )

    def posterior(self, x: torch.Tensor) -> DiagonalGaussian:
        """q(z|x) for images (B, C, H, W) in [-1, 1]."""
        self._check_images(x)
        return super().posterior(x)

    @apply_forward_hook
    def encode(self, x: torch.Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussian]:
        """q(z|x) for images (B, C, H, W) in [-1, 1].

        Returns:
            `AutoencoderKLOutput` whose `latent_dist` has `sample(generator)`, `mode()` and `kl()`, or a tuple of it.

        Raises:
            ValueError: if x has another rank or number of channels than the model.
        """
        self._check_images(x)
        x = pad_to_multiple(x, self.downsampling_factor)
        slices = x.split(1) if self.use_slicing else (x,)
        latent_dist = DiagonalGaussian.from_parameters(torch.cat([self._encode(s) for s in slices]), dtype=x.dtype)
        return AutoencoderKLOutput(latent_dist=latent_dist) if return_dict else (latent_dist,)

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        if self.use_tiling and max(x.shape[-2:]) > self.tile_sample_min_size:
            return self._tiled_encode(x)
        parameters = self.encoder(x)
        return parameters if self.quant_conv is None else self.quant_conv(parameters)

    @apply_forward_hook
    def decode(
        self, z: torch.Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[torch.Tensor]:
        """E[x|z], images (B, C, h * f, w * f) in about [-1, 1], for latents (B, latent_channels, h, w).

        Args:
            z: latents, unscaled.
            return_dict: give a `DecoderOutput` rather than a tuple.
            generator: ignored, the mean is deterministic; pipelines pass it.

        Raises:
            ValueError: if z has another rank or number of channels than the model's latents.
        """
        channels = self.config.latent_channels
        if z.ndim != 4 or z.shape[1] != channels:
            raise ValueError(f"got latents of shape {tuple(z.shape)}: expected (batch, {channels}, height, width).")
        if self.config.network == "mlp" and tuple(z.shape[-2:]) != (1, 1):
            raise ValueError(f"got latents of shape {tuple(z.shape)}: this mlp decodes (batch, {channels}, 1, 1).")
        slices = z.split(1) if self.use_slicing else (z,)
        sample = torch.cat([self.likelihood.mean(self._decode(s)) for s in slices])
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def _decode(self, z: torch.Tensor) -> torch.Tensor:
        if self.use_tiling and max(z.shape[-2:]) > self.tile_latent_min_size:
            return self.tiled_decode(z, return_dict=False)[0]
        return self.decoder_output(z)

    def forward(
        self,
        sample: torch.Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[torch.Tensor]:
        """Reconstruction of images (B, C, H, W), of the same size.

        Args:
            sample: images in [-1, 1].
            sample_posterior: decode a sample of q(z|x) rather than its mode.
            return_dict: give a `DecoderOutput` rather than a tuple.
            generator: for the sample.
        """
        posterior = self.encode(sample).latent_dist
        z = posterior.sample(generator) if sample_posterior else posterior.mode()
        reconstruction = self.decode(z).sample[..., : sample.shape[-2], : sample.shape[-1]]
        return DecoderOutput(sample=reconstruction) if return_dict else (reconstruction,)

    @apply_forward_hook
    def elbo(self, x: torch.Tensor, generator: objectives.Generators = None) -> torch.Tensor:
        """The evidence lower bound on log p(x) by one sample of z per image: (B,) nats, constants and all."""
        return objectives.elbo(self, x, generator).value

    @apply_forward_hook
    @torch.no_grad()
    def log_likelihood(
        self,
        x: torch.Tensor,
        num_samples: int = 100,
        generator: objectives.Generators = None,
        samples_per_pass: int = 1,
    ) -> torch.Tensor:
        """The importance-weighted bound on log p(x): (B,) nats, see `objectives.importance_weighted_bound`."""
        return objectives.importance_weighted_bound(self, x, num_samples, generator, samples_per_pass)

    @apply_forward_hook
    @torch.no_grad()
    def sample(self, n: int = 1, generator: torch.Generator | None = None) -> torch.Tensor:
        """E[x|z] for n latents from the prior N(0, I): images (n, C, H, W) of `sample_size`, in about [-1, 1]."""
        z = standard_normal(self.latent_shape(n), generator, self.device).to(self.dtype)
        return self.likelihood.mean(self.decoder_output(z, self._sample_hw))

    @torch.no_grad()
    def standardize_latents(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Change the latents to (z - mean) / std per channel, without changing what the model reconstructs.

        The affine map is folded into the last layer before the latents and the first after them, and `scaling_factor`
        becomes 1 and `shift_factor` 0: every pipeline then sees latents of mean 0 and variance 1, those that ignore the
        shift and those that ignore per-channel statistics too. Of all Gaussian priors that are independent per channel,
        N(0, I) is then the one that fits the measured latents best, so the ELBO over them does not fall.

        Args:
            mean: of samples of q(z|x) over the training data, (latent_channels,).
            std: likewise; a channel below 1 % of the channels' root mean square is not scaled up further than that.

        Raises:
            ValueError: if there is no 1x1 convolution after the latents, because the zero padding of the decoder's
                first 3x3 convolution cannot take a shift; set `scaling_factor` and `shift_factor` then.
        """
        mean, std = mean.to(self.device, torch.float64), std.to(self.device, torch.float64)
        if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std > 0).any()):
            raise ValueError("the latents' mean and standard deviation must be finite, and not all channels constant.")
        std = std.clamp_min(0.01 * std.square().mean().sqrt())
        if self.config.network == "mlp":
            before, after = self.encoder.layers[-1], self.decoder.layers[0]
        elif self.post_quant_conv is None:
            raise ValueError("use_post_quant_conv is False: the latents' shift cannot be folded into the weights.")
        else:
            before = self.quant_conv if self.quant_conv is not None else self.encoder.conv_out
            after = self.post_quant_conv

        channels = self.config.latent_channels
        per_row = std.reshape(-1, *[1] * (before.weight.ndim - 1))
        weight, bias = before.weight.double(), before.bias.double()
        weight[:channels] /= per_row
        bias[:channels] = (bias[:channels] - mean) / std
        bias[channels:] -= 2 * std.log()  # the rows of log sigma^2
        before.weight.copy_(weight)
        before.bias.copy_(bias)

        weight, bias = after.weight.double(), after.bias.double()
        matrix = weight.flatten(1)  # (out, latent_channels), of a linear layer or a 1x1 convolution
        after.bias.copy_(bias + matrix @ mean)
        after.weight.copy_((matrix * std).reshape(weight.shape))

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
