"""Which model is trained, and which part of it."""

from __future__ import annotations

from dataclasses import dataclass

from ...autoencoders.base import LIKELIHOODS
from ...autoencoders.parts import PARTS
from ...autoencoders.presentation import FAMILY_NAMES
from ...autoencoders.vae import NETWORKS
from ...errors import UserError
from ...models.likelihoods import ScaleSetting
from ...options import GIVEN, Except, option, plain_number
from .opening import padding_mode

CONV = {"network": ("conv",), "kind": Except("tiny")}
MLP = {"kind": ("vae",), "network": ("mlp",)}
LIKELIHOOD = {"kind": ("vae", "vqvae")}


@dataclass
class ModelSettings:
    """Settings of the model of a run."""

    pretrained_model_name_or_path: str | None = option(
        None,
        "Model to start from, one of diffusers' image autoencoders or of ours: a folder, a Hub id or a .safetensors "
        "file. Without it a new model is trained.",
        path=True,
        common=True,
    )
    subfolder: str | None = option(
        None,
        "Folder of the model inside its repository, such as vae.",
        when={"pretrained_model_name_or_path": GIVEN},
    )
    revision: str | None = option(
        None,
        "Branch, tag or commit of the model's repository on the Hub.",
        when={"pretrained_model_name_or_path": GIVEN},
    )
    variant: str | None = option(
        None,
        "Variant of the model's weights, such as fp16 of diffusion_pytorch_model.fp16.safetensors; they are trained in "
        "float32.",
        when={"pretrained_model_name_or_path": GIVEN},
    )
    model_type: str = option("vae", "Kind of a new model.", choices=("vae", "vqvae", "tiny"), common=True)
    model_config: str | None = option(
        None, "config.json of a new model of the class that it names, or of the model in a single file.", path=True
    )
    train: str = option(
        "all", "Part of the model to train; 'decoder' locks the latent space.", choices=PARTS, common=True
    )
    lora_rank: int | None = option(
        None,
        "Train low-rank changes (LoRA) of this rank instead of the weights. They are merged into them at the end.",
        at_most=2**16,
        at_least=1,
        when={"pretrained_model_name_or_path": GIVEN},
    )
    lora_alpha: float | None = option(
        None,
        "Scale of the low-rank changes, times the rank. By default the rank.",
        at_least=0,
        when={"lora_rank": GIVEN},
    )
    teacher: str | None = option(
        None,
        "Autoencoder whose latents a new --model_type tiny learns, or --decoder_block_out_channels decode: a folder, a "
        "Hub id or a file.",
        path=True,
    )
    teacher_subfolder: str | None = option(
        None, "Folder of the teacher inside its repository.", when={"teacher": GIVEN}
    )
    network: str = option(
        "conv",
        "Convolutional or fully connected networks of a new model.",
        choices=NETWORKS,
        when={"kind": ("vae",)},
        of_new_model="network",
    )
    in_channels: int | None = option(
        None,
        "Channels of the images. By default those of the model; for a new model 1 for gray circles, otherwise 3. The "
        "first and last convolution of a model with another number are adapted.",
        at_most=2**12,
        at_least=1,
    )
    block_out_channels: tuple[int, ...] = option(
        (32, 64, 64, 64),
        "Channels of each level of a new conv model; n levels reduce each side 2^(n-1) times. By default 64 at each "
        "level of a tiny model.",
        at_most=2**16,
        at_least=1,
        when={"network": ("conv",)},
        of_new_model="block_out_channels",
    )
    decoder_block_out_channels: tuple[int, ...] | None = option(
        None,
        "Channels of each level of the decoder, if they are not those of --block_out_channels. With --teacher, of a "
        "new decoder for the latents of that model, whose encoder is kept to the bit.",
        at_most=2**16,
        at_least=1,
        when={"network": ("conv",), "kind": Except("vqvae", "tiny")},
        of_new_model="decoder_block_out_channels",
        since="0.2",
    )
    layers_per_block: int = option(
        1,
        "Residual blocks of each level of a new conv model.",
        at_most=256,
        at_least=1,
        when=CONV,
        of_new_model="layers_per_block",
    )
    norm_num_groups: int = option(
        16, "Groups of the group norms of a new conv model.", at_least=1, when=CONV, of_new_model="norm_num_groups"
    )
    mid_block_add_attention: bool = option(
        True,
        "Self-attention in the middle of a new conv model.",
        when=CONV,
        of_new_model="mid_block_add_attention",
    )
    latent_channels: int = option(
        4,
        "Channels of the latents of a new model.",
        at_most=2**16,
        at_least=1,
        when={"teacher": (None,)},
        of_new_model="latent_channels",
    )
    hidden_sizes: tuple[int, ...] = option(
        (200, 200),
        "Units of the hidden layers of a new mlp model.",
        at_most=2**20,
        at_least=1,
        when=MLP,
        of_new_model="hidden_sizes",
    )
    mlp_act_fn: str = option(
        "tanh",
        "Activation of a new mlp model.",
        choices=("tanh", "relu", "softplus", "silu", "gelu"),
        when=MLP,
        of_new_model="mlp_act_fn",
    )
    likelihood: str = option(
        "gaussian",
        "Likelihood p(x|z) of a new model.",
        choices=LIKELIHOODS,
        when=LIKELIHOOD,
        of_new_model="likelihood",
    )
    sigma: str = option(
        "optimal",
        "Scale of the gaussian or laplace likelihood of a new model: a positive number, learned, or optimal.",
        when={**LIKELIHOOD, "likelihood": ("gaussian", "laplace")},
        of_new_model="sigma",
    )
    num_mixtures: int = option(
        10,
        "Components of the logistic_mixture likelihood of a new model.",
        at_most=2**10,
        at_least=1,
        when={**LIKELIHOOD, "likelihood": ("logistic_mixture",)},
        of_new_model="num_mixtures",
    )
    padding_mode: str | None = padding_mode(when={"network": ("conv",)}, since="0.2")
    pipeline_family: str | None = option(
        None,
        "Family of pipelines that a new model presents itself to as their own autoencoder; by default it is as "
        "AutoencoderKL.",
        choices=FAMILY_NAMES,
        when={"kind": ("vae",)},
        of_new_model="pipeline_family",
        since="0.2",
    )
    gradient_checkpointing: bool = option(
        False, "Recompute activations in the backward pass, which saves memory and costs time.", on_resume=True
    )

    @property
    def is_new(self) -> bool:
        """Whether the model starts with random weights."""
        return self.pretrained_model_name_or_path is None

    @property
    def new_decoder(self) -> bool:
        """Whether a new decoder is trained for the latents of the teacher, which stay."""
        return self.teacher is not None and self.decoder_block_out_channels is not None

    @property
    def distils(self) -> bool:
        """Whether the model learns to encode and decode the latents of the teacher."""
        return self.teacher is not None and not self.new_decoder

    @property
    def base(self) -> str | None:
        """The existing model that the result is made from, and compared with."""
        return self.teacher if self.new_decoder else self.pretrained_model_name_or_path

    @property
    def base_subfolder(self) -> str | None:
        """Folder of that model inside its repository."""
        return self.teacher_subfolder if self.new_decoder else self.subfolder

    @property
    def source(self) -> str | None:
        """What decides the architecture instead of the options of a new model."""
        return self.base or self.model_config

    @property
    def sigma_setting(self) -> ScaleSetting:
        """`sigma` as the models take it.

        Raises:
            UserError: if it is none of the accepted values.
        """
        if self.sigma == "learned":
            return "learned"
        if self.sigma == "optimal":
            return "optimal"
        try:
            return plain_number(self.sigma, float)
        except ValueError:
            raise UserError(f"--sigma is {self.sigma!r}: give a positive number, 'learned' or 'optimal'.") from None
