"""`AutoencoderVAE` from and to diffusers' `AutoencoderKL`, with the same weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2
from torch import nn

from .base import AutoencoderBase, like
from .padding import copy_padding
from .records import copy_records
from .weights import plain_state

Ours = TypeVar("Ours", bound=AutoencoderBase)
Plain = TypeVar("Plain", AutoencoderKL, AutoencoderKLFlux2)

ARCHITECTURE = (
    "in_channels",
    "block_out_channels",
    "layers_per_block",
    "act_fn",
    "latent_channels",
    "norm_num_groups",
    "use_quant_conv",
    "use_post_quant_conv",
    "mid_block_add_attention",
)
DESCRIPTION = ("sample_size", "scaling_factor", "latents_mean", "latents_std", "force_upcast")
CHANGEABLE = (*DESCRIPTION, "shift_factor", "likelihood", "sigma", "pipeline_family")
DOWN_BLOCK, UP_BLOCK = "DownEncoderBlock2D", "UpDecoderBlock2D"
MEAN_IS_OUTPUT = ("gaussian", "laplace")  # the likelihoods whose mean is what the decoder gives


def plain_block_types(
    network: str, likelihood: str, encoder: Sequence[int], decoder: Sequence[int]
) -> dict[str, tuple[str, ...] | None]:
    """The fields `down_block_types` and `up_block_types`, which only `AutoencoderKL` reads.

    With them it opens our folder and gives the same to the bit. Where it would not, they are None, and it fails.

    Args:
        network: kind of the networks.
        likelihood: its name.
        encoder: channels of each level.
        decoder: likewise.
    """
    equal = network == "conv" and likelihood in MEAN_IS_OUTPUT and tuple(encoder) == tuple(decoder)
    levels = len(encoder)
    return {
        "down_block_types": (DOWN_BLOCK,) * levels if equal else None,
        "up_block_types": (UP_BLOCK,) * levels if equal else None,
    }


def from_autoencoder_kl(cls: type[Ours], model: AutoencoderKL, changes: dict[str, Any]) -> Ours:
    """See `AutoencoderVAE.from_autoencoder_kl`."""
    if not isinstance(model, AutoencoderKL):
        raise ValueError(f"got an {type(model).__name__}: only an AutoencoderKL can become an AutoencoderVAE.")
    config = model.config
    _check_architecture(config)
    fixed = sorted(changes.keys() - set(CHANGEABLE))
    if fixed:
        raise ValueError(f"{', '.join(fixed)} cannot be changed: accepted are {', '.join(CHANGEABLE)}.")
    if changes.get("likelihood", "gaussian") not in MEAN_IS_OUTPUT:
        raise ValueError(
            f"likelihood is {changes['likelihood']!r}: the decoder of an AutoencoderKL gives the mean of a Gaussian "
            f"or a Laplace, one of {', '.join(MEAN_IS_OUTPUT)}."
        )
    fields = {name: config[name] for name in (*ARCHITECTURE, *DESCRIPTION)}
    # Its None says that nothing is subtracted, as 0.0 does; pipelines that subtract it cannot read None.
    fields["shift_factor"] = config.shift_factor or 0.0
    ours = cls(**{**fields, **changes})
    state, has = plain_state(model), ours.state_dict()
    misfits = [name for name in state if name not in has or has[name].shape != state[name].shape]
    misfits += [name for name in has if name not in state and not name.startswith("likelihood.")]
    if misfits:  # the weights of LoRA and of fused projections have names of their own
        raise ValueError(
            f"this AutoencoderKL does not have the weights of its own config ({', '.join(misfits[:3])}): merge or "
            "unload its adapters and unfuse its projections first."
        )
    ours.load_state_dict(state, strict=False)  # the likelihood's scale begins as in a new model
    copy_padding(model, ours)
    copy_records(model, ours)
    return like(ours, model)


def _check_architecture(config: Any) -> None:
    blocks = {*config.down_block_types, *config.up_block_types}
    if blocks != {DOWN_BLOCK, UP_BLOCK}:
        raise ValueError(
            f"this AutoencoderKL has blocks {', '.join(sorted(blocks))}: only {DOWN_BLOCK} and {UP_BLOCK} can be "
            "converted."
        )
    if not len(config.down_block_types) == len(config.up_block_types) == len(config.block_out_channels):
        raise ValueError("this AutoencoderKL has another number of blocks than of block_out_channels.")
    if config.out_channels != config.in_channels:
        raise ValueError(
            f"this AutoencoderKL makes {config.out_channels} channels of {config.in_channels}: a likelihood of the "
            "image needs equal ones."
        )


def to_autoencoder_kl(model: AutoencoderBase) -> AutoencoderKL:
    """See `AutoencoderVAE.to_autoencoder_kl`."""
    fields = _equal_architecture(model, "AutoencoderKL") | {name: model.config[name] for name in DESCRIPTION}
    # 0.0 stays 0.0: it means what None means, and pipelines that subtract it cannot read None.
    return _with_weights(model, AutoencoderKL(**fields, shift_factor=model.config.shift_factor))


def to_autoencoder_kl_flux2(model: AutoencoderBase, bn: nn.BatchNorm2d) -> AutoencoderKLFlux2:
    """An `AutoencoderKLFlux2` that encodes and decodes alike, with the statistics of `bn`.

    Raises:
        ValueError: if it lacks something that the model has; the message says what.
    """
    fields = _equal_architecture(model, "AutoencoderKLFlux2", decoder_widths=True)
    fields["decoder_block_out_channels"] = model.config.decoder_block_out_channels
    converted = AutoencoderKLFlux2(**fields, sample_size=max(model._sample_hw), batch_norm_eps=bn.eps)
    return _with_weights(model, converted, {f"bn.{name}": value for name, value in bn.state_dict().items()})


def _equal_architecture(model: AutoencoderBase, name: str, decoder_widths: bool = False) -> dict[str, Any]:
    """The fields of the class `name`, which may have a field for the widths of the decoder."""
    config = model.config
    lacking = []
    if config.network != "conv":
        lacking.append(f"a network of kind {config.network!r}")
    if config.likelihood not in MEAN_IS_OUTPUT:
        lacking.append(f"a {config.likelihood} likelihood, whose decoder does not give images")
    widths = config.block_out_channels
    other_widths = tuple(config.decoder_block_out_channels or widths) != tuple(widths)
    if config.network == "conv" and other_widths and not decoder_widths:
        lacking.append("a decoder of other widths than its encoder")
    if lacking:
        raise ValueError(f"an {name} cannot have {', nor '.join(lacking)}.")
    fields = {field: config[field] for field in ARCHITECTURE}
    block_types = plain_block_types(config.network, config.likelihood, widths, widths)
    return {**fields, "out_channels": config.in_channels, **block_types}


def _with_weights(model: AutoencoderBase, converted: Plain, more: Mapping[str, torch.Tensor] | None = None) -> Plain:
    """The converted model with our weights, and more."""
    state = {name: value for name, value in plain_state(model).items() if not name.startswith("likelihood.")}
    state.update(more or {})
    if state.keys() != converted.state_dict().keys():  # of LoRA, or fused projections
        raise ValueError(
            f"this model has weights that an {type(converted).__name__} does not know: merge or unload its adapters "
            "and unfuse its projections first."
        )
    converted.load_state_dict(state)
    copy_padding(model, converted)
    copy_records(model, converted)
    return like(converted, model)
