"""Our own `AutoencoderVAE` and `AutoencoderVQVAE`, and diffusers' `VQModel`, which runs as the latter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin

from ...errors import UserError
from ...models.affine import CannotStandardizeError
from ...models.likelihoods import Likelihood
from ...models.posteriors import DiagonalGaussian
from ...models.vae import VAE
from ...models.vqvae import VQVAE, CodePosterior
from ...objectives import ELBO, Generators, elbo
from ..adapter import Adapter
from ..base import height_and_width
from ..decoders import with_decoder
from ..papers import QUANTIZERS, VQGAN, Paper
from ..papers import VAE as VAE_PAPER
from ..papers import VQVAE as VQVAE_PAPER
from ..passes import TrainingPass
from ..presentation import PRESENTATIONS, Presentation
from ..resolution import usual_resolution
from ..scaling import LatentChange
from ..vae import AutoencoderVAE
from ..vqvae import AutoencoderVQVAE
from .kl_file import OtherDecoderFile


class OwnAdapter(Adapter):
    """What our two classes have in common: a likelihood, images of any size, latents standardised in the weights."""

    remote_code = True
    model: AutoencoderVAE | AutoencoderVQVAE

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        return self.model.spatial_compression_ratio

    @property
    def natural_resolution(self) -> int:
        """The smaller side of `sample_size`, which the model is made for."""
        return min(height_and_width(self.config.sample_size))

    @property
    def pads_images(self) -> bool:
        """Our models take images of any size."""
        return True

    @property
    def likelihood(self) -> Likelihood:
        """p(x|z)."""
        return self.model.likelihood

    def latent_shape(self, batch_size: int, height: int, width: int) -> tuple[int, ...]:
        """Shape (B, c, h, w) of the latents of `batch_size` images of that size."""
        return self.model.latent_shape(batch_size, height, width)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """Decode the mode of q(z|x): images of the shape of x."""
        return self.model(x).sample

    @property
    def presentation(self) -> Presentation:
        """How the model presents itself to pipelines."""
        return PRESENTATIONS[None]

    def elbo(self, x: torch.Tensor, generator: Generators = None) -> ELBO:
        """The evidence lower bound by one sample of z, per image in nats."""
        return elbo(self.model, x, generator)

    @property
    def output_channels_per_channel(self) -> int:
        """Parameters of p(x|z) for each channel of the image."""
        return self.likelihood.parameters_per_channel

    def write_latent_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> LatentChange | None:
        """Fold the statistics into the weights (`standardize_latents`).

        A model that cannot take them exactly, without 1x1 convolutions or with fixed codes, gets fields of the config
        that do it: one `scaling_factor` and `shift_factor` for all channels, or what its pipelines read instead.
        """
        try:
            return self.model.standardize_latents(mean, std)
        except CannotStandardizeError:
            fields = {"latents_mean": None, "latents_std": None, **self.presentation.scaling(mean, std)}
            statistics = {"mean": mean.tolist(), "std": std.tolist()}
            self.model.register_to_config(**fields, latent_statistics=statistics)
            return None


class VAEAdapter(OwnAdapter):
    """`AutoencoderVAE`."""

    class_name = "AutoencoderVAE"
    papers = (VAE_PAPER,)
    kind = "vae"
    single_file = OtherDecoderFile()
    model: AutoencoderVAE

    @classmethod
    def model_class(cls) -> type[ModelMixin]:
        """`AutoencoderVAE`."""
        return AutoencoderVAE

    @property
    def only_image_size(self) -> tuple[int, int] | None:
        """The `sample_size` of a fully connected model."""
        return height_and_width(self.config.sample_size) if self.config.network == "mlp" else None

    @property
    def standardizes_channels(self) -> bool:
        """Each channel has its own scale."""
        return True

    @property
    def presentation(self) -> Presentation:
        """That of its `pipeline_family`."""
        return self.model.presentation

    @property
    def pipelines(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of its `pipeline_family`."""
        return self.presentation.pipelines

    @property
    def student_class(self) -> str:  # type: ignore[override]
        """That of its `pipeline_family`."""
        return self.presentation.student_class

    def posterior(self, x: torch.Tensor) -> DiagonalGaussian:
        """q(z|x)."""
        return self.model.posterior(x)

    def training_pass(self, x: torch.Tensor, noise: torch.Tensor) -> TrainingPass:
        """Encode, sample, decode."""
        # VAE.forward, not the model's own forward: that one is diffusers' and gives the reconstruction only.
        output, q = VAE.forward(self.model, x, noise)
        return TrainingPass(self.likelihood.mean(output), q.mean, q.kl())

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the activations of convolutional networks."""
        if self.config.network == "mlp":
            raise UserError("gradient checkpointing has nothing to recompute in an mlp: leave it out.")
        super().enable_gradient_checkpointing()

    @property
    def fixed_channels_reason(self) -> str | None:
        """A fully connected network has no convolutions."""
        return "its network reads every pixel of every channel" if self.config.network == "mlp" else None

    def with_decoder(self, widths: Sequence[int]) -> VAEAdapter:
        """Convolutional networks have a field for them."""
        if self.config.network == "mlp":
            raise UserError("--decoder_block_out_channels: an mlp has no such widths. Give another --teacher.")
        # By the block types AutoencoderKL would open the result, and has no such decoder.
        return VAEAdapter(with_decoder(self.model, widths, down_block_types=None, up_block_types=None))

    def to_diffusers(self) -> ModelMixin:
        """An `AutoencoderKL`, or the class that its `pipeline_family` has for such weights."""
        return self.model.to_autoencoder_kl()


class VQVAEAdapter(OwnAdapter):
    """`AutoencoderVQVAE`."""

    class_name = "AutoencoderVQVAE"
    first_paper = VQVAE_PAPER
    kind = "vqvae"
    gaussian = False
    discrete = True
    latents_expression = ".latents"
    model: AutoencoderVQVAE

    @classmethod
    def model_class(cls) -> type[ModelMixin] | None:
        """`AutoencoderVQVAE`."""
        return AutoencoderVQVAE

    @property
    def papers(self) -> tuple[Paper, ...]:  # type: ignore[override]
        """That of the model, and that of its quantiser where it is a later one."""
        later = QUANTIZERS.get(self.config.quantizer_type)
        return (self.first_paper,) if later is None else (self.first_paper, later)

    @property
    def standardizes_channels(self) -> bool:
        """Codes in the latents' own space allow one scale for all channels."""
        return self.model.quantizer.projects

    def posterior(self, x: torch.Tensor) -> CodePosterior:
        """q(k|x)."""
        return self.model.posterior(x)

    def latents(self, x: torch.Tensor) -> torch.Tensor:
        """The vectors before quantisation."""
        return self.model.encoder_output(x)

    def sample_latents(self, x: torch.Tensor, generator: Generators = None) -> torch.Tensor:
        """The vectors before quantisation: what `encode` gives."""
        return self.model.encode(self._in_range(x)).latents

    def decode(self, z: torch.Tensor, image_size: tuple[int, ...] | None = None) -> torch.Tensor:
        """Quantise latents and decode them, cropped to `image_size` (height, width) where that is given."""
        return self._signed(super().decode(z, image_size))

    def decode_indices(self, indices: torch.Tensor) -> torch.Tensor:
        """Images of indices (B, h, w), or (B, h, w, stages) of a residual quantiser."""
        return self._signed(self.model.decode_indices(indices))

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """Decode the nearest codes: images of the shape of x."""
        return self._signed(super().reconstruct(self._in_range(x)))

    def training_pass(self, x: torch.Tensor, noise: torch.Tensor) -> TrainingPass:
        """Encode, quantise, decode; in training mode the codebook follows."""
        output, _, losses = VQVAE.forward(self.model, x)
        return TrainingPass(self.likelihood.mean(output), codebook_losses=losses)

    def use_signed_images(self) -> None:
        """Set the image range of the config."""
        self.model.set_image_range(-1, 1)

    def _in_range(self, x: torch.Tensor) -> torch.Tensor:
        return self.model.from_signed(x)

    def _signed(self, x: torch.Tensor) -> torch.Tensor:
        return self.model.to_signed(x)

    def to_diffusers(self) -> ModelMixin:
        """A `VQModel`."""
        return self.model.to_vq_model()

    @property
    def onnx_outputs(self) -> tuple[str, ...]:
        """Vectors before quantisation, and the indices of the nearest codes."""
        return ("latents", "indices")

    def onnx_encode(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The encoder as an ONNX file has it."""
        encoded = self.model.encode(image)
        return encoded.latents, encoded.indices

    def onnx_latents(self, encoded: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The codes, from which no other code is as near."""
        return self.model.quantize(encoded[0])[0]


class VQModelAdapter(VQVAEAdapter):
    """diffusers' `VQModel`, which runs as an `AutoencoderVQVAE` with the same weights and is saved as what it was.

    Its own loss is not the paper's (the commitment weight is on the wrong side, and the codebook has no averages).
    """

    class_name = "VQModel"
    first_paper = VQGAN
    remote_code = False

    def __init__(self, model: ModelMixin) -> None:
        try:
            ours = AutoencoderVQVAE.from_vq_model(model, dead_code_threshold=0.0)
        except ValueError as error:
            raise UserError(f"this VQModel cannot be trained: {error}") from error
        self._left_open = [name for name, value in model.config.items() if value is None]
        super().__init__(ours)
        self.use_signed_images()

    @classmethod
    def model_class(cls) -> type[ModelMixin] | None:
        """diffusers' own."""
        return super(VQVAEAdapter, cls).model_class()

    @property
    def natural_resolution(self) -> int:
        """As of diffusers' other classes."""
        return usual_resolution(self.spatial_compression_ratio)

    def latent_scaling(self) -> dict[str, Any]:
        """The `scaling_factor`, the only such field that a `VQModel` has."""
        return {"scaling_factor": self.config.scaling_factor}

    def to_saved(self) -> ModelMixin:
        """A `VQModel` again, whose fields that were None still are."""
        model = self.model.to_vq_model()
        model.register_to_config(**dict.fromkeys(self._left_open))
        return model
