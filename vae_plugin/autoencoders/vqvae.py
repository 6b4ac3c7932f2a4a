"""`AutoencoderVQVAE`: the vector-quantised autoencoder as a diffusers autoencoder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import VQModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.autoencoders.vae import DecoderOutput, IdentityDistribution
from diffusers.models.autoencoders.vq_model import VQEncoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from ..arguments import Real, Tensor, Whole, accepts, check
from ..models.affine import CannotStandardizeError, fold_into_input, fold_into_output
from ..models.exact import exact
from ..models.likelihoods import ScaleSetting
from ..models.networks import resnet_decoder, resnet_encoder
from ..models.posteriors import GENERATORS
from ..models.quantizers.entropy import perplexity
from ..models.quantizers.settings import CodebookSettings, make_quantizer, takes_codebook_settings
from ..models.vqvae import VQVAE
from ..objectives import elbo
from .base import (
    AutoencoderBase,
    check_block_types,
    check_config,
    check_norm_groups,
    height_and_width,
    make_likelihood,
    note_equal_channels,
)
from .padding import copy_padding, use_recorded_padding
from .records import copy_records
from .scaling import LatentChange
from .vq_model import config_from_vq_model, like, to_vq_model, weights_from_vq_model

LATENTS_OR_INDICES = Tensor(integer=None)


@dataclass
class AutoencoderVQVAEOutput(VQEncoderOutput):
    """The result of `AutoencoderVQVAE.encode`.

    Attributes:
        latents: before quantisation, (B, latent_channels, h, w), as `VQModel` has it; `decode` quantises them.
        indices: of the nearest codes, (B, h, w) int64, or (B, h, w, num_quantizers) for a residual quantiser.
        latent_dist: the latents as the posterior that `AutoencoderKL` returns: `sample` and `mode`.
    """

    indices: torch.Tensor | None = None
    latent_dist: IdentityDistribution | None = None


class AutoencoderVQVAE(  # type: ignore[misc]  # `forward` is diffusers', not the pass of training of `VQVAE`
    AutoencoderBase, VQVAE, ModelMixin, AttentionMixin, ConfigMixin, PeftAdapterMixin
):
    r"""Autoencoder with discrete latents, loaded by pipelines as `VQModel` or `AutoencoderKL` is.

    Van den Oord et al. 2017 with a choice of quantisers and likelihoods. A pipeline needs a denoiser that was trained
    on these latents. The fields have the names of `VQModel` and `AutoencoderKL` where they mean the same.

    Args:
        in_channels: channels of the image. With as many `latent_channels`, image-to-image pipelines of SD3 and Flux
            take images for latents, which is said when such a model is made.
        out_channels: the same as `in_channels`; diffusers' classes have the field.
        block_out_channels: channels of each level; the spatial compression ratio is f = 2^(levels - 1).
        layers_per_block: residual blocks of each level (the decoder has one more).
        act_fn: activation, a name that diffusers knows.
        latent_channels: C of the latents (B, C, H/f, W/f), which is what pipelines see.
        encoder_out_channels: between the networks and the 1x1 convolutions. Default: `latent_channels`. (`VQModel`
            calls this one `latent_channels`.)
        norm_num_groups: groups of the group norms.
        sample_size: height and width (or the two) that the model is made for; other sizes are accepted.
        codebook: the fields of `CodebookSettings`: `quantizer_type`, `num_vq_embeddings`, `commitment_weight`, ...
        scaling_factor, shift_factor, latents_mean, latents_std, force_upcast: as in `AutoencoderVAE`.
        lookup_from_codebook: a field of `VQModel`; integer latents are always looked up.
        use_quant_conv, use_post_quant_conv: 1x1 convolutions around the latents.
        mid_block_add_attention: self-attention in the middle of encoder and decoder.
        encoder_block_out_channels: the same as `block_out_channels`, under the name that Sana pipelines read.
        down_block_types, up_block_types: always None, so that `VQModel` does not open the folder: it has other weights.
        likelihood: "gaussian", "bernoulli", "laplace" or "logistic_mixture", see `vae_plugin.models`.
        sigma: scale of the Gaussian or Laplace: a positive number (pixels range over [-1, 1]), "learned" or "optimal".
        num_mixtures: components of the "logistic_mixture".
        latent_statistics: as in `AutoencoderVAE`.
        image_range: (low, high) of the images that `encode` takes and `decode` returns. Pipelines of continuous latents
            expect (-1, 1), Amused pipelines (0, 1): see `set_image_range`.

    Raises:
        ValueError: for a combination that cannot work; the message names it and says what to do.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("ResnetBlock2D", "quantizer")
    _group_offload_block_modules = ("quant_conv", "post_quant_conv", "encoder", "decoder", "likelihood", "quantizer")
    _keep_in_fp32_modules: ClassVar[list[str]] = ["quantizer"]  # diffusers accepts only a list here
    _skip_layerwise_casting_patterns = ("quantizer",)

    @register_to_config
    @takes_codebook_settings
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int | None = None,
        block_out_channels: tuple[int, ...] = (32, 64, 64),
        layers_per_block: int = 1,
        act_fn: str = "silu",
        latent_channels: int = 4,
        encoder_out_channels: int | None = None,
        norm_num_groups: int = 32,
        sample_size: int | tuple[int, int] = 64,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
        latents_mean: tuple[float, ...] | None = None,
        latents_std: tuple[float, ...] | None = None,
        force_upcast: bool = False,
        lookup_from_codebook: bool = True,
        use_quant_conv: bool = True,
        use_post_quant_conv: bool = True,
        mid_block_add_attention: bool = True,
        encoder_block_out_channels: tuple[int, ...] | None = None,
        down_block_types: None = None,
        up_block_types: None = None,
        likelihood: str = "gaussian",
        sigma: ScaleSetting = "optimal",
        num_mixtures: int = 10,
        latent_statistics: dict[str, list[float]] | None = None,
        image_range: tuple[float, float] = (-1.0, 1.0),
        **codebook: Any,
    ) -> None:
        check_config(in_channels, out_channels, block_out_channels, encoder_block_out_channels, shift_factor)
        check_block_types({}, down_block_types=down_block_types, up_block_types=up_block_types)
        check_norm_groups(height_and_width(sample_size), block_out_channels, norm_num_groups)
        note_equal_channels(in_channels, latent_channels)
        hidden = encoder_out_channels or latent_channels
        if hidden != latent_channels and not (use_quant_conv and use_post_quant_conv):
            raise ValueError(
                f"encoder_out_channels ({hidden}) and latent_channels ({latent_channels}) differ: that needs "
                "use_quant_conv and use_post_quant_conv."
            )
        likelihood_module = make_likelihood(likelihood, sigma, num_mixtures)
        quantizer = make_quantizer(CodebookSettings(**codebook), latent_channels)
        shape: dict[str, Any] = {
            "block_out_channels": block_out_channels,
            "layers_per_block": layers_per_block,
            "norm_num_groups": norm_num_groups,
            "act_fn": act_fn,
            "mid_block_add_attention": mid_block_add_attention,
        }
        super().__init__(
            encoder=resnet_encoder(in_channels, hidden, double_z=False, **shape),
            decoder=resnet_decoder(hidden, in_channels * likelihood_module.parameters_per_channel, **shape),
            likelihood=likelihood_module,
            quantizer=quantizer,
            quant_conv=nn.Conv2d(hidden, latent_channels, 1) if use_quant_conv else None,
            post_quant_conv=nn.Conv2d(latent_channels, hidden, 1) if use_post_quant_conv else None,
            spatial_compression_ratio=2 ** (len(block_out_channels) - 1),
        )
        # Others read these from the config, whatever the caller left out.
        self.register_to_config(
            out_channels=in_channels,
            encoder_block_out_channels=block_out_channels,
            num_vq_embeddings=quantizer.codebook_size,
            vq_embed_dim=quantizer.code_dim,
            fsq_levels=getattr(quantizer, "levels", None),
        )
        self._init_tiles()
        use_recorded_padding(self)

    @classmethod
    def from_vq_model(cls, model: VQModel, **changes: Any) -> AutoencoderVQVAE:
        """The model with the architecture and the weights of diffusers' `VQModel`; it reconstructs the same.

        The codebook is trained by moving averages unless `quantizer_type="vq"`, either way with the paper's weights.

        Args:
            model: as `VQModel.from_pretrained` gives it.
            changes: fields of the config to set otherwise, such as `quantizer_type` or `likelihood="laplace"`.

        Raises:
            ValueError: if its architecture is not one that this class has.
        """
        ours = cls(**{**config_from_vq_model(model), **changes})
        ema = getattr(ours.quantizer, "codebook_update", None) == "ema"
        state, has = weights_from_vq_model(model, ema), ours.state_dict()
        misfits = [name for name in state if name not in has or state[name].shape != has[name].shape]
        # The codes' statistics and the likelihood's scale are not known of a VQModel, and begin as in a new model.
        begins = ("quantizer.counts", "quantizer.num_", "likelihood.")
        misfits += [name for name in has if name not in state and not name.startswith(begins)]
        if misfits:
            raise ValueError(f"with {changes} the weights do not fit: {', '.join(misfits[:5])}.")
        ours.load_state_dict(state, strict=False)
        copy_padding(model, ours)
        copy_records(model, ours)
        return like(ours, model)

    def to_vq_model(self) -> VQModel:
        """A `VQModel` that reconstructs the same, for those who do not have this package.

        Raises:
            ValueError: if `VQModel` lacks something that this model has; the message says what.
        """
        return to_vq_model(self)

    @property
    def codebook_size(self) -> int:
        """Number of codes, of each stage if there are several."""
        return self.quantizer.codebook_size

    @accepts(low=Real(), high=Real())
    def set_image_range(self, low: float, high: float) -> None:
        """Let `encode` take and `decode` give images from `low` for black to `high` for white, without new weights.

        The range is kept in the config. An Amused pipeline works with (0, 1): set that before the model goes into one.
        """
        if not low < high:
            raise ValueError(f"an image range from {low} to {high} is empty: low must be below high.")
        self.register_to_config(image_range=(float(low), float(high)))

    def to_signed(self, x: torch.Tensor) -> torch.Tensor:
        """Images from the `image_range` to [-1, 1]."""
        low, high = self.config.image_range
        return x if (low, high) == (-1, 1) else (x - low) * (2 / (high - low)) - 1

    def from_signed(self, x: torch.Tensor) -> torch.Tensor:
        """Images from [-1, 1] to the `image_range`."""
        low, high = self.config.image_range
        return x if (low, high) == (-1, 1) else (x + 1) * ((high - low) / 2) + low

    @apply_forward_hook
    def encode(self, x: torch.Tensor, return_dict: bool = True) -> AutoencoderVQVAEOutput | tuple[torch.Tensor]:
        """Latents and codes of images (B, C, H, W) in [-1, 1], or the `image_range`.

        Returns:
            `AutoencoderVQVAEOutput`, or a tuple of its `latents`.

        Raises:
            ValueError: if x has another rank or number of channels than the model.
        """
        latents = self._encode(self.to_signed(x))
        if not return_dict:
            return (latents,)
        _, indices, _ = self.quantizer(latents, update=False)
        return AutoencoderVQVAEOutput(latents=latents, indices=indices, latent_dist=IdentityDistribution(latents))

    @apply_forward_hook
    def quantize(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple]:
        """Quantise latents (B, latent_channels, h, w), with the result that `VQModel.quantize` has.

        Returns:
            The quantised latents; the sum of the quantiser's losses; and a tuple of the perplexity of the codes in this
            batch, None, and their indices (B, h, w).
        """
        quantized, indices, losses = self.quantizer(z, update=False)
        loss = sum(losses.values(), z.new_zeros((), dtype=torch.float32))
        return quantized, loss, (perplexity(torch.bincount(indices.flatten())), None, indices)

    @apply_forward_hook
    def decode(
        self,
        z: torch.Tensor,
        force_not_quantize: bool = False,
        return_dict: bool = True,
        shape: tuple[int, ...] | None = None,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[torch.Tensor, torch.Tensor]:
        """E[x|z], images (B, C, h * f, w * f) in about [-1, 1], or the `image_range`.

        Args:
            z: latents (B, latent_channels, h, w), which are quantised; or indices of codes, of an integer type, as
                `encode(x).indices` or flat with a `shape`.
            force_not_quantize: decode latents as they are.
            return_dict: return a `DecoderOutput` rather than a tuple (sample, commit_loss).
            shape: (B, h, w, ...) of indices, what `VQModel` takes.
            generator: ignored, the mean is deterministic; pipelines pass it.

        Raises:
            ValueError: if z has another shape than the model's latents, or indices are outside the codebook.
        """
        if not torch.compiler.is_compiling():
            check({"latents": LATENTS_OR_INDICES}, {"latents": z})
        commit_loss = torch.zeros((), device=z.device)
        if not z.is_floating_point():
            z = self.quantizer.indices_to_codes(z if shape is None else self._grid_of_indices(z, shape)).to(self.dtype)
        else:
            self._check_latents(z)
            if not force_not_quantize:
                z, _, losses = self.quantizer(z, update=False)
                commit_loss = losses.get("commitment", commit_loss)
        sample = self.from_signed(self._decode(z))
        return DecoderOutput(sample=sample, commit_loss=commit_loss) if return_dict else (sample, commit_loss)

    def _grid_of_indices(self, indices: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Indices in any shape as (B, h, w), or (B, h, w, num_quantizers); `shape` begins with (B, h, w)."""
        several = self.quantizer.codes_per_position
        positions = math.prod(shape[:3])
        if indices.numel() != positions * several:
            raise ValueError(
                f"got {indices.numel()} indices for {positions} positions, and this {self.config.quantizer_type!r} "
                f"quantiser has {several} code(s) at each: a pipeline of one code per position cannot have 'rvq'."
            )
        return indices.reshape(*shape[:3], *((several,) if several > 1 else ()))

    @apply_forward_hook
    def decode_indices(self, indices: torch.Tensor) -> torch.Tensor:
        """E[x|k], images (B, C, h * f, w * f), for codes (B, h, w), or (B, h, w, num_quantizers)."""
        return self.from_signed(self._decode(self.quantizer.indices_to_codes(indices).to(self.dtype)))

    @apply_forward_hook
    def elbo(self, x: torch.Tensor) -> torch.Tensor:
        """The bound on log p(x) with a uniform prior over codes, log p(x|k) - positions * log K: (B,) nats."""
        return elbo(self, self.to_signed(x)).value

    @apply_forward_hook
    @torch.no_grad()
    @accepts(n=Whole(1), generator=GENERATORS)
    def sample(self, n: int = 1, generator: torch.Generator | None = None) -> torch.Tensor:
        """E[x|k] for codes drawn from the uniform prior: images (n, C, H, W) of `sample_size`.

        The prior of training knows nothing of how codes go together: what images look like is for a second model to
        learn (section 3.3 of the paper).
        """
        _, _, height, width = self.latent_shape(n)
        several = (self.quantizer.codes_per_position,) if self.quantizer.codes_per_position > 1 else ()
        device = self._input_device if generator is None else generator.device
        shape = (n, height, width, *several)
        indices = torch.randint(self.codebook_size, shape, generator=generator, device=device).to(self._input_device)
        return self.decode_indices(indices)[..., : self._sample_hw[0], : self._sample_hw[1]]

    @torch.no_grad()
    def standardize_latents(self, mean: torch.Tensor, std: torch.Tensor) -> LatentChange:
        """Change the latents to (z - mean) / std, without changing what the model reconstructs.

        The change is folded into the 1x1 convolutions and the codebook, and `scaling_factor` becomes 1 and
        `shift_factor` 0. Codes that are compared in the latents' own space allow one scale only, the root mean square
        of the channels' `std`.

        Args:
            mean: of the latents over the training data, (latent_channels,).
            std: likewise.

        Returns:
            The mean and standard deviation that were taken.

        Raises:
            CannotStandardizeError: if there are no 1x1 convolutions, or the codes are fixed (cosine distance, or
                the codes of "fsq" and "lfq", without linear layers around them).
        """
        self._check_statistics(mean, std)
        before, after = self.quant_conv, self.post_quant_conv
        if not isinstance(before, nn.Conv2d) or not isinstance(after, nn.Conv2d):
            raise CannotStandardizeError("standardised latents need use_quant_conv and use_post_quant_conv.")
        mean, std = exact(mean), exact(std)
        pooled = std.square().mean().sqrt().expand(std.shape)
        scale = std.clamp_min(0.01 * pooled) if self.quantizer.projects else pooled
        self.quantizer.standardize(mean, scale)
        fold_into_output(before, mean, scale)
        fold_into_input(after, mean, scale)
        known = self.config.latent_channels == 4  # else SDXL pipelines cannot read them
        self.register_to_config(
            scaling_factor=1.0,
            shift_factor=0.0,
            latents_mean=[0.0] * 4 if known else None,
            latents_std=(std / scale).tolist() if known else None,
            latent_statistics={"mean": mean.tolist(), "std": std.tolist()},
        )
        return LatentChange(mean, scale)
