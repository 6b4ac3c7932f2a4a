"""The model of a run, the part of it that is trained, and its losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ..autoencoders import Adapter, load_autoencoder, new_from_config
from ..autoencoders.padding import padding_mode
from ..datasets.framing import Size, shortest_side
from ..errors import UserError
from ..models.quantizers.settings import CodebookSettings
from ..notices import say
from ..objectives import TrainingObjective
from ..options import weights_of
from .discriminators import check_discriminator, make_discriminator
from .lora import add_lora
from .losses import (
    Adversary,
    CodebookLoss,
    DiscriminatorLoss,
    DistillationLoss,
    ELBOLoss,
    ImageLoss,
    ImportanceWeightedLoss,
    PerceptualTerm,
    ReconstructionLoss,
    TrainingLoss,
    check_perceptual,
    load_perceptual_terms,
)
from .losses.pixels import check_fits_windows
from .memory import check_model_fits
from .names import NAMES
from .new_model import new_model, new_tiny
from .settings import LossSettings, ModelSettings, OptimizationSettings

NEW_RESOLUTION = 64
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the dimensions of a weight


def load_teacher(settings: ModelSettings) -> Adapter | None:
    """The autoencoder of `--teacher`, which is not trained."""
    if settings.teacher is None:
        return None
    teacher = load_autoencoder(settings.teacher, settings.teacher_subfolder)
    teacher.model.requires_grad_(False).eval()
    return teacher


def make_model(
    settings: ModelSettings,
    codebook: CodebookSettings,
    *,
    resolution: int | None,
    default_channels: int,
    teacher: Adapter | None = None,
) -> Adapter:
    """The model of `--pretrained_model_name_or_path`, or a new one, in float32.

    Args:
        settings: of the model.
        codebook: of a new VQ-VAE.
        resolution: side of the images that a new model is made for. Default: 64.
        default_channels: image channels of a new model, unless they are given.
        teacher: of a distillation.

    Raises:
        UserError: if there is no such model.
    """
    if settings.pretrained_model_name_or_path is not None:
        return _load(settings, resolution)

    def make() -> Adapter:
        return _new(settings, codebook, resolution, default_channels, teacher)

    check_model_fits(lambda: make().model)
    return make()


def check_part(settings: ModelSettings, adapter: Adapter) -> None:
    """Refuse a `--train` of what the model does not let be trained.

    Raises:
        UserError: for such a part.
    """
    if settings.train not in adapter.parts:
        raise UserError(
            f"--train {settings.train} cannot be done with {adapter.class_name}, of which the rest is frozen: give "
            f"--train {' or '.join(adapter.parts)}."
        )


def check_teacher(settings: ModelSettings, adapter: Adapter, teacher: Adapter | None, resolution: int) -> None:
    """Refuse a teacher whose images or latents are not those of the model.

    Raises:
        UserError: for such a teacher, or a model that cannot be taught.
    """
    if teacher is None or settings.new_decoder:
        return
    source, name = settings.pretrained_model_name_or_path or "the new model", settings.teacher
    if not adapter.can_distill:
        raise UserError(f"--teacher is for a tiny autoencoder, and {source} holds {adapter.class_name}: leave it out.")
    if _latents(teacher) != _latents(adapter):
        raise UserError(
            f"the latents of --teacher {name} have {_latents(teacher)}, and those of {source} {_latents(adapter)}: "
            "give a teacher with the same."
        )
    if teacher.in_channels != adapter.in_channels:
        raise UserError(
            f"--teacher {name} takes images of {teacher.in_channels} channel(s), and {source} of "
            f"{adapter.in_channels}: give --in_channels {teacher.in_channels}, or a teacher with the same."
        )
    only = teacher.only_image_size
    if only not in (None, (resolution, resolution)):
        raise UserError(f"--teacher {name} takes images of {only[0]} x {only[1]} only: give --resolution {only[0]}.")
    teacher.check_image_size(resolution, resolution, f"--resolution {resolution}")


def give_padding_mode(settings: ModelSettings, adapter: Adapter, latents_stay: bool) -> None:
    """Let the model pad as `--padding_mode` says; that its weights were trained otherwise is said.

    Raises:
        UserError: if the model cannot, or if that would change latents that are to stay.
    """
    mode, before = settings.padding_mode, padding_mode(adapter.model)
    if mode is None:
        return
    if mode != before and latents_stay and not adapter.can_distill:
        raise UserError(
            f"--padding_mode {mode} would change the latents near the borders of images, which are padded by {before} "
            "so far, and this run keeps the latents (--train, --latent_anchor or --teacher): leave it out."
        )
    adapter.set_padding_mode(mode)
    if mode != before and not settings.is_new:
        say(
            f"the convolutions padded by {before} so far, and pad by {mode} from the first step on, also in what is "
            "measured of the base model. The config of the result records it."
        )


def settled_resolution(
    settings: ModelSettings, adapter: Adapter, resolution: int | None, base: Adapter | None = None
) -> int:
    """The side of the images that the run trains on.

    Args:
        settings: of the model.
        adapter: of the model.
        resolution: if it was given.
        base: of the model whose latents a new decoder is trained for.

    Raises:
        UserError: if the model does not take images of that size.
    """
    if resolution is None:
        fits_any = settings.base is None and adapter.only_image_size is None
        resolution = NEW_RESOLUTION if fits_any else (base or adapter).natural_resolution
    ratio = adapter.spatial_compression_ratio
    if not adapter.pads_images and resolution % ratio:
        raise UserError(
            f"--resolution {resolution} is not a multiple of {ratio}, the spatial compression ratio of this "
            f"{adapter.class_name}: give one."
        )
    adapter.check_image_size(resolution, resolution, f"--resolution {resolution}")
    return resolution


def default_learning_rate(settings: ModelSettings) -> float:
    """The peak learning rate, unless it is given."""
    if settings.lora_rank:
        return 1e-4
    if not settings.is_new:
        return 1e-5
    return 1e-4 if settings.model_config is not None or settings.model_type == "tiny" else 1e-3


def select_trained(
    adapter: Adapter, settings: ModelSettings, optimization: OptimizationSettings, learn_likelihood: bool
) -> None:
    """Leave gradients to what is trained; after it no weight is added."""
    adapter.select_part(settings.train, learn_likelihood)
    if settings.lora_rank is not None:
        add_lora(adapter.model, settings.lora_rank, settings.lora_alpha)
    if optimization.channels_last:
        for weight in adapter.model.parameters():
            if weight.ndim in CHANNELS_LAST:
                weight.data = weight.data.contiguous(memory_format=CHANNELS_LAST[weight.ndim])
    if optimization.compile:
        compile_parts(adapter.model.encoder)
        compile_parts(adapter.model.decoder, but=adapter.last_layer)


def compile_parts(module: nn.Module, but: nn.Module | None = None) -> None:
    """Compile a network in place; its weights keep their names.

    Args:
        module: the network.
        but: a layer to leave out. The adaptive weight of the adversarial loss needs the gradient of that layer alone,
            which costs the whole backward pass in a network that is compiled as a whole.
    """
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)) or any(part is but for part in module.modules()):
        for child in module.children():
            compile_parts(child, but)
    else:
        module.compile()


def make_losses(
    adapter: Adapter,
    settings: LossSettings,
    objective: TrainingObjective,
    *,
    pixels: Mapping[str, float],
    sizes: Sequence[Size],
    dataset_size: int | None = None,
    teacher: Adapter | None = None,
    perceptual: nn.Module | None = None,
    discriminator: nn.Module | None = None,
) -> tuple[TrainingLoss, DiscriminatorLoss | None]:
    """The loss of the model, and that of its discriminator, if there is one.

    Args:
        adapter: of the model, before `select_trained` where an anchor is wanted.
        settings: of the losses.
        objective: the weights of the ELBO.
        pixels: the weights of the losses of pixels, or of "elbo", see `LossSettings.pixels`.
        sizes: that the images can have, (width, height) in pixels.
        dataset_size: number of training images; None of a stream.
        teacher: of a distillation.
        perceptual: a perceptual distance (x, y) -> (B,) instead of those that the settings name; it is frozen.
        discriminator: a network, images (B, C, H, W) -> logits, instead of the one that the settings name.
    """
    if "elbo" in pixels:
        return _likelihood_loss(adapter, objective, dataset_size), None
    check_fits_windows(pixels, shortest_side(sizes))
    has_alpha = adapter.in_channels == 4 and settings.fourth_channel == "alpha"
    judged = 3 if has_alpha else adapter.in_channels
    distances: nn.Module | list[PerceptualTerm] | None = perceptual
    if perceptual is not None:
        check_perceptual("perceptual=", perceptual.requires_grad_(False).eval(), judged, sizes)
    elif settings.perceptual_loss is not None:
        distances = load_perceptual_terms(weights_of(settings.perceptual_loss), judged, sizes, taken=NAMES)
    discriminator_loss, adversary = None, None
    if discriminator is not None and settings.disc_start is None:
        raise UserError("a discriminator needs --disc_start, the step from which it is trained: give both.")
    if settings.disc_start is not None:
        network = make_discriminator(settings, judged, discriminator)
        check_discriminator(network, settings, judged, sizes)
        discriminator_loss = DiscriminatorLoss(
            network, settings.disc_loss, settings.disc_regularization, settings.disc_regularization_scale
        )
        adversary = Adversary(
            network,
            settings.disc_loss,
            settings.disc_start + settings.disc_warmup_steps,
            settings.disc_scale,
            settings.disc_adaptive_weight,
        )
    image_loss = ImageLoss(
        pixels,
        learned_variance=settings.learned_variance,
        perceptual=distances,
        perceptual_scale=settings.perceptual_scale,
        adversary=adversary,
        alpha_scale=settings.alpha_scale if has_alpha else None,
    )
    if teacher is not None:
        return DistillationLoss(adapter, teacher, image_loss, latent_scale=settings.latent_scale), discriminator_loss
    loss = ReconstructionLoss(adapter, image_loss, kl_scale=settings.kl_scale, anchor_scale=settings.latent_anchor)
    return loss, discriminator_loss


def _likelihood_loss(adapter: Adapter, objective: TrainingObjective, dataset_size: int | None) -> TrainingLoss:
    """The loss of a model by its likelihood."""
    if adapter.discrete:
        return CodebookLoss(adapter)
    if objective.num_importance_samples > 1:
        return ImportanceWeightedLoss(adapter, objective.num_importance_samples)
    return ELBOLoss(adapter, objective, dataset_size)


def _new(
    settings: ModelSettings,
    codebook: CodebookSettings,
    resolution: int | None,
    default_channels: int,
    teacher: Adapter | None,
) -> Adapter:
    """A model with random weights; see `make_model`."""
    if settings.decoder_block_out_channels is not None and teacher is not None:
        if settings.in_channels not in (None, teacher.in_channels):
            raise UserError(
                f"--in_channels is {settings.in_channels}, and --teacher {settings.teacher} has {teacher.in_channels}: "
                "leave it out."
            )
        return teacher.with_decoder(settings.decoder_block_out_channels)
    if settings.model_config is not None:
        adapter = new_from_config(settings.model_config)
        if settings.in_channels not in (None, adapter.in_channels):
            raise UserError(
                f"--in_channels is {settings.in_channels}, and {settings.model_config} says {adapter.in_channels}: "
                "leave it out."
            )
        return adapter
    channels = settings.in_channels or (default_channels if teacher is None else teacher.in_channels)
    if settings.model_type == "tiny":
        return new_tiny(settings, channels, teacher)
    try:
        return new_model(settings, codebook, channels, resolution or NEW_RESOLUTION)
    except ValueError as error:
        raise UserError(str(error)) from error


def _load(settings: ModelSettings, resolution: int | None) -> Adapter:
    source = settings.pretrained_model_name_or_path
    assert source is not None
    adapter = load_autoencoder(source, settings.subfolder, settings.revision, settings.model_config, settings.variant)
    if settings.in_channels is not None:
        adapter.adapt_channels(settings.in_channels)
    only = adapter.only_image_size
    if only is not None and resolution not in (None, only[0]):
        raise UserError(f"the model of {source} needs --resolution {only[0]}.")
    return adapter


def _latents(adapter: Adapter) -> str:
    return f"{adapter.latent_channels} channels at 1/{adapter.spatial_compression_ratio} of the resolution"
