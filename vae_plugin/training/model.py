"""The model of a run, the part of it that is trained, and its loss."""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..autoencoders import AutoencoderVAE, AutoencoderVQVAE
from ..autoencoders import adapt
from ..autoencoders.interface import OURS, compression, natural_resolution
from ..autoencoders.loading import load_autoencoder, new_from_config
from ..errors import UserError
from ..objectives import TrainingObjective
from .data import default_channels
from .discriminator import DiscriminatorLoss, PatchDiscriminator
from .finetune_options import FinetuneOptions
from .image_loss import Adversary, ImageLoss
from .losses import ELBOLoss, VQLoss
from .new_model import new_model, new_tiny
from .perceptual import load_perceptual
from .recipe_losses import DistillationLoss, ReconstructionLoss, last_convolution
from .trained_part import add_lora, checkpoint_activations, compile_parts, select_part

Loss = ELBOLoss | VQLoss | ReconstructionLoss | DistillationLoss


def make_model(options: FinetuneOptions, teacher: ModelMixin | None = None) -> ModelMixin:
    """The model of `--pretrained_model_name_or_path`, or a new one, in float32; `options.resolution` is set by it."""
    model = _make(options, teacher) if options.pretrained_model_name_or_path is None else _load(options)
    if options.resolution is None:
        options.resolution = natural_resolution(model)
    if not isinstance(model, OURS) and options.resolution % compression(model):
        raise UserError(
            f"--resolution {options.resolution} is not a multiple of {compression(model)}, by which this "
            f"{type(model).__name__} shrinks images."
        )
    if options.gradient_checkpointing:
        checkpoint_activations(model)
    return model


def load_teacher(options: FinetuneOptions) -> ModelMixin | None:
    """The autoencoder of `--teacher`, which is not trained."""
    if options.teacher is None:
        return None
    return load_autoencoder(options.teacher, options.teacher_subfolder).model.requires_grad_(False).eval()


def select_trained(options: FinetuneOptions, model: ModelMixin) -> None:
    """Leave gradients to what `--train` and `--lora_rank` say; after it no weight is added."""
    ours = isinstance(model, OURS)
    select_part(model, options.train, learn_likelihood=ours and options.pixel_loss(ours) == "elbo")
    if options.lora_rank is not None:
        add_lora(model, options.lora_rank, options.lora_alpha)
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
    if options.compile:
        compile_parts(model.encoder)
        compile_parts(model.decoder, but=last_convolution(model))


def make_losses(
    options: FinetuneOptions, model: ModelMixin, teacher: ModelMixin | None = None, perceptual: nn.Module | None = None
) -> tuple[Loss, DiscriminatorLoss | None]:
    """What the model is trained on, and what its discriminator is, if there is one.

    Args:
        options: of the run.
        model: what is trained, before `select_trained` where an anchor is wanted.
        teacher: of a distillation.
        perceptual: (x, y) -> (B,); default: what `--perceptual_loss` names.
    """
    pixel = options.pixel_loss(isinstance(model, OURS))
    if pixel == "elbo":
        return _elbo_loss(options, model), None
    if perceptual is None and options.perceptual_loss is not None:
        perceptual = load_perceptual(options.perceptual_loss)
    judge, adversary = None, None
    if options.disc_start is not None:
        discriminator = PatchDiscriminator(model.config.in_channels, options.disc_channels, options.disc_layers)
        if options.resolution < discriminator.smallest_image:
            raise UserError(
                f"--resolution {options.resolution} is too small for a discriminator of --disc_layers "
                f"{options.disc_layers}: it takes at least {discriminator.smallest_image} pixels."
            )
        judge = DiscriminatorLoss(
            discriminator, options.disc_loss, options.disc_regularization, options.disc_regularization_scale
        )
        adversary = Adversary(
            discriminator, options.disc_loss, options.disc_start, options.disc_scale, options.disc_adaptive_weight
        )
    image_loss = ImageLoss(
        pixel,
        learned_variance=options.learned_variance,
        perceptual=perceptual,
        perceptual_scale=options.perceptual_scale,
        adversary=adversary,
    )
    if teacher is not None:
        return DistillationLoss(model, teacher, image_loss, latent_scale=options.latent_scale), judge
    kl_scale, anchor = options.kl_scale, options.latent_anchor
    return ReconstructionLoss(model, image_loss, kl_scale=kl_scale, anchor_scale=anchor), judge


def _make(options: FinetuneOptions, teacher: ModelMixin | None) -> ModelMixin:
    if options.model_config is not None:
        model = new_from_config(options.model_config).model
        options.check_model_type(_kind(model))
        options.check_against({**model.config}, options.model_config)
        if options.in_channels not in (None, model.config.in_channels):
            raise UserError(
                f"--in_channels is {options.in_channels}, {options.model_config} says {model.config.in_channels}."
            )
        return model
    options.check_model_type(options.model_type)
    channels = options.in_channels or (teacher.config.in_channels if teacher is not None else default_channels(options))
    if options.model_type == "tiny":
        return new_tiny(options, channels, teacher)
    try:
        return new_model(options, channels)
    except ValueError as error:
        raise UserError(str(error)) from error


def _load(options: FinetuneOptions) -> ModelMixin:
    """The model to start from; it must fit the other options."""
    source = options.pretrained_model_name_or_path
    model = load_autoencoder(source, options.subfolder, options.revision, options.model_config).model
    if options.teacher is not None and not isinstance(model, AutoencoderTiny):
        raise UserError(f"--teacher is for an AutoencoderTiny, {source} holds an {type(model).__name__}.")
    options.check_model_type(_kind(model))
    options.check_against(model.config, source)
    if options.in_channels is not None:
        adapt(model).adapt_channels(options.in_channels)
    size = model.config.get("sample_size")
    if model.config.get("network") == "mlp" and options.resolution not in (None, size):
        raise UserError(f"the mlp model of {source} needs --resolution {size}.")
    return model


def _kind(model: ModelMixin) -> str:
    if isinstance(model, AutoencoderVQVAE):
        return "vqvae"
    return "vae" if isinstance(model, AutoencoderVAE) else type(model).__name__


def _elbo_loss(options: FinetuneOptions, model: ModelMixin) -> ELBOLoss | VQLoss:
    if isinstance(model, AutoencoderVQVAE):
        return VQLoss(model)
    try:
        objective = TrainingObjective(
            alpha=options.alpha,
            beta=options.beta,
            warmup_steps=options.kl_warmup_steps,
            free_bits=options.free_bits,
            capacity=options.capacity,
            capacity_steps=options.capacity_steps,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    return ELBOLoss(model, objective)
