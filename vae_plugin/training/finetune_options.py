"""The options of `vae_plugin/finetune.py`, with the names that diffusers' users know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..autoencoders.base import LIKELIHOODS
from ..autoencoders.quantizers import QUANTIZERS
from ..autoencoders.vae import NETWORKS
from ..errors import UserError
from ..models.likelihoods import ScaleSetting
from ..options import option
from .discriminator import LOSSES as DISCRIMINATOR_LOSSES
from .discriminator import REGULARIZATIONS
from .hub_options import HubOptions
from .image_loss import PIXEL_LOSSES
from .option_groups import (
    CODEBOOK_OPTIONS,
    CONFIG_NAMES,
    DISCRIMINATOR_OPTIONS,
    KL_OPTIONS,
    NEW_MODEL_OPTIONS,
    RECIPE_OPTIONS,
)

TRACKERS = ("tensorboard", "wandb", "trackio")
SCHEDULERS = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")


@dataclass
class FinetuneOptions(HubOptions):
    """One training run. Every field is a flag of the command line and a key of the YAML file of `--config`."""

    # What is trained
    pretrained_model_name_or_path: str | None = option(
        None,
        "Model to start from: folder, Hub id or .safetensors file of any 2-D image autoencoder of diffusers. Without "
        "it one is made.",
        group="model",
    )
    subfolder: str | None = option(None, "Folder of the model inside that repository, e.g. vae.", group="model")
    revision: str | None = option(None, "Branch, tag or commit of that repository.", group="model")
    model_type: str = option("vae", "Kind of a new model.", choices=("vae", "vqvae", "tiny"), group="model")
    model_config: str | None = option(
        None, "config.json of a new model of any class (_class_name), or of a single file's.", group="model"
    )
    train: str = option(
        "all", "Part to train; 'decoder' locks the latent space.", choices=("all", "decoder", "encoder"), group="model"
    )
    lora_rank: int | None = option(
        None, "Train low-rank changes (LoRA) of that rank instead of the weights; merged at the end.", group="model"
    )
    lora_alpha: float | None = option(None, "Scale of these changes, times the rank. Default: the rank.", group="model")
    teacher: str | None = option(
        None, "Autoencoder whose latents a new --model_type tiny learns: folder, Hub id or file.", group="model"
    )
    teacher_subfolder: str | None = option(None, "Folder of the teacher inside that repository.", group="model")
    network: str = option("conv", "Networks of a new model.", choices=NETWORKS, group="model")
    in_channels: int | None = option(
        None,
        "Channels of the images. Default: the model's; of a new one 1 for circles, else 3. A model that has others is "
        "adapted.",
        group="model",
    )
    block_out_channels: tuple[int, ...] = option(
        (32, 64, 64, 64), "Channels of each level of a new conv model; n levels shrink 2^(n-1) times.", group="model"
    )
    layers_per_block: int = option(1, "Residual blocks of each level of a new conv model.", group="model")
    norm_num_groups: int = option(16, "Groups of the group norms of a new conv model.", group="model")
    mid_block_add_attention: bool = option(True, "Self-attention in the middle of a new conv model.", group="model")
    latent_channels: int = option(4, "Channels of the latents of a new model.", group="model")
    hidden_sizes: tuple[int, ...] = option((200, 200), "Hidden layers of a new mlp model.", group="model")
    mlp_act_fn: str = option(
        "tanh", "Activation of a new mlp model.", choices=("tanh", "relu", "softplus", "silu", "gelu"), group="model"
    )
    likelihood: str = option("gaussian", "p(x|z) of a new model.", choices=LIKELIHOODS, group="model")
    sigma: str = option(
        "optimal",
        "Scale of the gaussian or laplace likelihood of a new model: a positive number, learned, or optimal.",
        group="model",
    )
    num_mixtures: int = option(10, "Components of a new model's logistic_mixture likelihood.", group="model")
    gradient_checkpointing: bool = option(False, "Recompute activations in the backward pass.", group="model")

    # The codebook
    quantizer: str = option(
        "ema",
        "Quantiser of a new vqvae: codes by moving averages, by gradient (vq), of finite scalars, of signs, residual, "
        "or by one learned layer.",
        choices=QUANTIZERS,
        group="codebook",
    )
    codebook_size: int | None = option(None, "Codes of a new vqvae. Default: 512; 1024 for fsq.", group="codebook")
    codebook_dim: int | None = option(
        None, "Numbers in a code of a new vqvae. Default: --latent_channels.", group="codebook"
    )
    commitment_weight: float = option(0.25, "Weight of the commitment loss of a new vqvae.", group="codebook")
    ema_decay: float = option(0.99, "Decay of the codes' moving averages (ema, rvq) of a new vqvae.", group="codebook")
    codebook_distance: str = option(
        "euclidean", "Distance to the codes (ema, vq, rvq).", choices=("euclidean", "cosine"), group="codebook"
    )
    quantizer_gradient: str = option(
        "straight_through", "Gradient through the codes.", choices=("straight_through", "rotation"), group="codebook"
    )
    kmeans_init: bool = option(
        True, "Place the codes by k-means on the first batches (ema, vq, rvq).", group="codebook"
    )
    dead_code_threshold: float = option(
        0.1, "Share of the mean use below which a code is moved to a token (ema, vq, rvq); 0: never.", group="codebook"
    )
    entropy_weight: float | None = option(
        None, "Weight of the entropy loss (ema, vq, rvq, lfq). Default: 0.1 for lfq, else 0.", group="codebook"
    )
    num_quantizers: int = option(4, "Stages of a new rvq.", group="codebook")
    fsq_levels: tuple[int, ...] | None = option(
        None, "Levels of a new fsq, instead of --codebook_size.", group="codebook"
    )

    # The data
    dataset_name: str | None = option(
        None, "'circles' (generated, the default without --train_data_dir) or a data set on the Hub.", group="data"
    )
    train_data_dir: str | None = option(
        None, "Folder of images or of shards (parquet, WebDataset's tar), or one shard.", group="data"
    )
    image_column: str | None = option(None, "Column of the images. Default: the only one there is.", group="data")
    streaming: bool = option(
        False, "Read shards in order and without a copy on the disk; for sets that are large or far away.", group="data"
    )
    shuffle_buffer: int = option(4096, "Images that are shuffled with each other when streaming.", group="data")
    resolution: int | None = option(
        None,
        "Shorter side after resizing, and side of the square crop, in pixels. Default: 64 for a new model, the "
        "sample_size of one of ours, 256 for another.",
        group="data",
    )
    center_crop: bool = option(False, "Crop the centre rather than a random square.", group="data")
    random_flip: bool = option(False, "Mirror half of the images.", group="data")
    max_train_samples: int | None = option(None, "Train on no more images than these.", group="data")
    num_validation_images: int = option(
        256, "Images held out of training and used for metrics.json and samples; at most a tenth of all.", group="data"
    )
    circles_length: int = option(10_000, "Circles to train on.", group="data")
    circles_hue: bool = option(False, "Coloured circles (RGB) instead of gray ones.", group="data")
    dataloader_num_workers: int = option(
        0, "Processes (threads of a stream) that load images, for each training process.", group="data"
    )

    # The loss
    reconstruction_loss: str | None = option(
        None,
        "The ELBO (default of AutoencoderVAE and AutoencoderVQVAE), or the mean error of pixels (of all others, l1).",
        choices=("elbo", *PIXEL_LOSSES),
        group="loss",
    )
    learned_variance: bool = option(False, "Weigh l1 or l2 by a learned variance: a log-likelihood.", group="loss")
    kl_scale: float = option(1e-6, "Weight of the KL in nats beside l1 or l2 summed over the image.", group="loss")
    perceptual_loss: str | None = option(
        None,
        "Perceptual distance beside l1 or l2: lpips-vgg, lpips-alex, lpips-squeeze, or MODULE:FUNCTION of your own.",
        group="loss",
    )
    perceptual_scale: float = option(1.0, "Its weight.", group="loss")
    latent_anchor: float = option(
        0.0, "Weight of the mean squared distance of the latents from the original model's.", group="loss"
    )
    latent_scale: float = option(1.0, "Weight of the latents' error in a distillation.", group="loss")
    disc_start: int | None = option(
        None, "Step from which on a patch discriminator is trained too, beside l1 or l2. Default: never.", group="loss"
    )
    disc_loss: str = option("hinge", "What it is trained on.", choices=DISCRIMINATOR_LOSSES, group="loss")
    disc_scale: float = option(0.5, "Weight of the adversarial loss.", group="loss")
    disc_adaptive_weight: bool = option(
        True, "Times the ratio of the gradients' lengths at the last layer (VQGAN).", group="loss"
    )
    disc_channels: int = option(64, "Channels of the discriminator's first layer.", group="loss")
    disc_layers: int = option(3, "Layers of the discriminator with stride 2, the first not counted.", group="loss")
    disc_learning_rate: float | None = option(None, "Of the discriminator. Default: --learning_rate.", group="loss")
    disc_regularization: str = option("none", "Of the discriminator.", choices=REGULARIZATIONS, group="loss")
    disc_regularization_scale: float = option(1e-3, "Its weight.", group="loss")

    # The objective
    alpha: float = option(1.0, "Weight of -log p(x|z) in the ELBO.", group="objective")
    beta: float = option(
        1.0, "Weight of the KL; 1 trains on the ELBO, 0 a deterministic autoencoder.", group="objective"
    )
    kl_weight: float | None = option(None, "Another name of --beta.", group="objective")
    kl_warmup_steps: int = option(0, "Steps over which the weight of the KL rises from 0.", group="objective")
    free_bits: float = option(0.0, "Nats that every latent channel may cost for free.", group="objective")
    capacity: float | None = option(None, "Nats that the KL is drawn to.", group="objective")
    capacity_steps: int = option(0, "Steps over which that target rises from 0.", group="objective")

    # The optimisation
    train_batch_size: int = option(32, "Images per step and process.", group="optimisation")
    gradient_accumulation_steps: int = option(1, "Batches per optimiser step.", group="optimisation")
    max_train_steps: int | None = option(None, "Optimiser steps. Default: --num_train_epochs.", group="optimisation")
    num_train_epochs: int = option(10, "Passes over the data, unless --max_train_steps is given.", group="optimisation")
    learning_rate: float | None = option(
        None,
        "Peak learning rate of AdamW. Default: 1e-3 for a new model of ours, 1e-4 for another and for LoRA, 1e-5 to "
        "fine-tune.",
        group="optimisation",
    )
    lr_scheduler: str = option("cosine", "Course of the learning rate.", choices=SCHEDULERS, group="optimisation")
    lr_warmup_steps: int = option(100, "Steps over which the learning rate rises from 0.", group="optimisation")
    adam_beta1: float = option(0.9, "Decay of AdamW's first moment.", group="optimisation")
    adam_beta2: float = option(0.99, "Decay of AdamW's second moment.", group="optimisation")
    adam_weight_decay: float = option(0.0, "Weight decay of AdamW.", group="optimisation")
    adam_epsilon: float = option(1e-8, "Epsilon of AdamW.", group="optimisation")
    max_grad_norm: float = option(1.0, "Gradients are clipped to this norm; 0 leaves them.", group="optimisation")
    use_8bit_adam: bool = option(
        False, "AdamW with moments of 8 bits, by bitsandbytes (GPU only).", group="optimisation"
    )
    compile: bool = option(False, "Compile encoder and decoder by torch.compile.", group="optimisation")
    channels_last: bool = option(False, "Weights and images in the channels_last format.", group="optimisation")
    use_ema: bool = option(False, "Keep a moving average of the weights; it becomes the result.", group="optimisation")
    ema_max_decay: float = option(0.999, "Decay of that average.", group="optimisation")
    mixed_precision: str | None = option(
        None,
        "Precision of forward and backward; the weights stay float32. Default: that of accelerate launch.",
        choices=("no", "fp16", "bf16"),
        group="optimisation",
    )
    seed: int = option(
        0, "Of the weights, the order of the data, its augmentation and the noise.", group="optimisation"
    )

    # The output
    output_dir: str = option("vae-output", "Folder of the result; from_pretrained opens it.", group="output")
    checkpointing_steps: int = option(500, "Steps between checkpoints.", group="output")
    checkpoints_total_limit: int = option(3, "Checkpoints kept, the newest.", group="output")
    resume_from_checkpoint: str | None = option(None, "'latest', a name in OUT/checkpoints, or a path.", group="output")
    validation_steps: int | None = option(None, "Steps between evaluations during training.", group="output")
    report_to: str | None = option(None, "Tracker of the curves.", choices=TRACKERS, group="output")
    latent_scaling: str = option(
        "auto",
        "Latent statistics of the training data: write them (ours: fold them into the weights), or keep the model's. "
        "'auto' keeps them where the latent space is meant to stay: a locked one, an anchor, a teacher.",
        choices=("auto", "write", "keep"),
        group="output",
    )

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_hub()
        if self.dataset_name is None and self.train_data_dir is None:
            self.dataset_name = "circles"
        if self.dataset_name is not None and self.train_data_dir is not None:
            raise UserError("--dataset_name and --train_data_dir are both given: give the one to train on.")
        if self.streaming:
            self._check_streaming()
        if self.kl_weight is not None:
            if self.beta not in (1.0, self.kl_weight):
                raise UserError(
                    f"--kl_weight {self.kl_weight} is another name of --beta ({self.beta}): give one of them."
                )
            self.beta = self.kl_weight
        self._check_model_options()
        new = self.pretrained_model_name_or_path is None
        if self.resolution is None and new:
            self.resolution = 64
        if self.learning_rate is None:
            ours = self.model_config is None and self.model_type != "tiny"
            self.learning_rate = 1e-4 if self.lora_rank else (1e-3 if ours else 1e-4) if new else 1e-5

    def _check_streaming(self) -> None:
        if self.dataset_name == "circles":
            raise UserError("circles are generated, there is nothing to read: leave --streaming out.")
        if self.max_train_steps is None:
            raise UserError("the length of a stream is not known: give --max_train_steps with --streaming.")
        if self.max_train_samples is not None:
            raise UserError("--max_train_samples is of a set that is not streamed: leave it or --streaming out.")

    def _check_model_options(self) -> None:
        if self.teacher is not None and (self.pretrained_model_name_or_path is None) and self.model_type != "tiny":
            raise UserError("--teacher is for --model_type tiny, or a tiny model to go on with: add it.")
        if self.teacher is None and self.teacher_subfolder is not None:
            raise UserError("--teacher_subfolder is given without --teacher.")
        new = self.pretrained_model_name_or_path is None
        if new and self.train != "all" and self.teacher is None:
            raise UserError(f"--train {self.train} of a new model would leave half of it random: leave it out.")
        for name in ("lora_rank", "latent_anchor"):
            if new and getattr(self, name):
                raise UserError(f"--{name} is for a model that there is: add --pretrained_model_name_or_path.")
        if self.lora_alpha is not None and self.lora_rank is None:
            raise UserError("--lora_alpha is given without --lora_rank.")
        if self.latent_anchor and self.train == "decoder":
            raise UserError("--latent_anchor has nothing to hold with --train decoder, which locks the latents.")
        if self.model_config is not None and new and self.model_type != "vae":
            raise UserError("--model_type and --model_config are both given: the config names the class.")
        if self.perceptual_loss is None and self.perceptual_scale != 1.0:
            raise UserError("--perceptual_scale is given without --perceptual_loss.")
        if self.disc_start is None:
            for name in DISCRIMINATOR_OPTIONS:
                if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                    raise UserError(f"--{name} is given without --disc_start: no discriminator is trained.")

    def pixel_loss(self, ours: bool) -> str:
        """What is trained on, "elbo", "l1" or "l2"; `ours` says whether the model has a likelihood.

        Raises:
            UserError: for a combination that cannot be.
        """
        distilled = self.teacher is not None
        loss = self.reconstruction_loss or ("elbo" if ours and not distilled else "l1")
        if loss == "elbo" and (not ours or distilled):
            raise UserError("--reconstruction_loss elbo needs a model with a likelihood (AutoencoderVAE or -VQVAE).")
        idle = RECIPE_OPTIONS if loss == "elbo" else KL_OPTIONS
        for name in idle:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                needs = "l1 or l2" if loss == "elbo" else "elbo"
                raise UserError(f"--{name} means nothing to --reconstruction_loss {loss}: it goes with {needs}.")
        return loss

    def keeps_latents(self) -> bool:
        """Whether the model's latent statistics stay as they are."""
        if self.latent_scaling == "auto":
            return self.train != "all" or self.latent_anchor > 0 or self.teacher is not None
        return self.latent_scaling == "keep"

    def check_model_type(self, model_type: str) -> None:
        """Refuse options that say nothing about a model of this kind, rather than leave them aside in silence.

        Raises:
            UserError: naming the first of them.
        """
        idle = {"vae": CODEBOOK_OPTIONS, "vqvae": (*KL_OPTIONS, "network")}.get(
            model_type, (*CODEBOOK_OPTIONS, *KL_OPTIONS)
        )
        default = FinetuneOptions(output_dir=self.output_dir)
        for name in idle:
            if getattr(self, name) != getattr(default, name):
                hint = f"it is for --model_type {'vqvae' if name in CODEBOOK_OPTIONS else 'vae'}"
                if name == "ema_decay":
                    hint += "; the weights' average is --use_ema --ema_max_decay"
                raise UserError(f"--{name} means nothing to a {model_type}: {hint}.")

    def check_against(self, config: Mapping[str, Any], source: str) -> None:
        """Refuse what is said of a new model when there is one already, unless it is so.

        Raises:
            UserError: naming the first of them.
        """
        default = FinetuneOptions(output_dir=self.output_dir)
        for name in (*NEW_MODEL_OPTIONS, *CODEBOOK_OPTIONS):
            given, fact = getattr(self, name), config.get(CONFIG_NAMES.get(name, name))
            fact = tuple(fact) if isinstance(fact, list) else fact
            if given not in (getattr(default, name), fact) and str(given) != str(fact):
                raise UserError(f"--{name} {given} is of a new model, that of {source} has {fact}: leave it out.")

    def _check_ranges(self) -> None:
        at_least_one = (
            "resolution", "max_train_samples", "circles_length", "train_batch_size", "gradient_accumulation_steps",
            "max_train_steps", "num_train_epochs", "checkpointing_steps", "checkpoints_total_limit", "validation_steps",
            "latent_channels", "layers_per_block", "norm_num_groups", "num_mixtures", "in_channels", "codebook_size",
            "codebook_dim", "num_quantizers", "shuffle_buffer",
            "lora_rank", "disc_channels", "disc_layers",
        )  # fmt: skip
        not_negative = (
            "alpha", "beta", "kl_weight", "kl_warmup_steps", "free_bits", "capacity", "capacity_steps", "learning_rate",
            "lr_warmup_steps", "max_grad_norm", "adam_weight_decay", "num_validation_images", "dataloader_num_workers",
            "commitment_weight", "dead_code_threshold", "entropy_weight", "adam_epsilon", "seed", "kl_scale",
            "perceptual_scale", "latent_anchor", "latent_scale", "disc_start", "disc_scale", "disc_learning_rate",
            "disc_regularization_scale", "lora_alpha",
        )  # fmt: skip
        for names, least in ((at_least_one, 1), (not_negative, 0)):
            for name in names:
                value = getattr(self, name)
                if value is not None and not value >= least:
                    raise UserError(f"--{name} is {value}: it must be at least {least}.")
        for name in ("block_out_channels", "hidden_sizes", "fsq_levels"):
            if any(value < 1 for value in getattr(self, name) or ()):
                raise UserError(f"--{name} is {getattr(self, name)}: each number must be at least 1.")
        for name in ("ema_decay", "ema_max_decay", "adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}: it must be at least 0 and below 1.")

    def sigma_setting(self) -> ScaleSetting:
        """`sigma` as the models take it."""
        if self.sigma in ("learned", "optimal"):
            return self.sigma
        try:
            return float(self.sigma)
        except ValueError:
            raise UserError(f"--sigma is {self.sigma!r}: give a positive number, 'learned' or 'optimal'.") from None
