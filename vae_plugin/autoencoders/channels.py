"""Give a trained autoencoder another number of image channels."""

from __future__ import annotations

import torch
from diffusers import AsymmetricAutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..errors import UserError
from .interface import OURS

OPAQUE = 4  # so many channels are red, green, blue and alpha


@torch.no_grad()
def adapt_channels(model: ModelMixin, channels: int) -> None:
    """Replace the first and the last convolution so that images have `channels` channels, in place.

    The model keeps what it knows. To gray: it sees and gives what it did for an image of equal channels, their mean.
    From gray: each new channel carries its share of the old one, and is given as the old one was. Else the first
    channels stay what they were and what is added is not seen yet (weight 0); it is given as opaque where it is alpha
    (the fourth of four), and as the mean of the old ones in any other case. Channels that are too many are dropped.

    Raises:
        UserError: if the model has no convolution that reads or writes the image alone.
    """
    before = model.config.in_channels
    if channels == before:
        return
    if model.config.get("network") == "mlp" or isinstance(model, AsymmetricAutoencoderKL):
        reason = "reads every pixel of every channel" if model.config.get("network") == "mlp" else "reads it twice"
        raise UserError(
            f"--in_channels {channels}: a {type(model).__name__} of {before} channels cannot be given others, because "
            f"its network {reason}: use images of {before} channels."
        )
    per_channel = model.likelihood.parameters_per_channel if isinstance(model, OURS) else 1
    convolutions = [m for m in model.encoder.modules() if isinstance(m, nn.Conv2d)]
    first = next((m for m in convolutions if m.in_channels == before), None)
    last = [m for m in model.decoder.modules() if isinstance(m, nn.Conv2d)][-1]
    if first is not convolutions[0] or first is None or last.out_channels != before * per_channel or per_channel != 1:
        raise UserError(
            f"--in_channels {channels}: this {type(model).__name__} has no first and last convolution of {before} "
            f"channels alone: use images of {before} channels."
        )
    _replace(model.encoder, first, _adapted(first, channels, 1, False))
    _replace(model.decoder, last, _adapted(last, channels, 0, True))
    changes = {"in_channels": channels}
    if "out_channels" in model.config:
        changes["out_channels"] = channels
    model.register_to_config(**changes)


def _adapted(conv: nn.Conv2d, channels: int, dim: int, gives: bool) -> nn.Conv2d:
    """The convolution with `channels` inputs (`dim` 1) or outputs (`dim` 0)."""
    weight = conv.weight.movedim(dim, 0)
    before = len(weight)
    shape = (channels, conv.out_channels) if dim else (conv.in_channels, channels)
    new = nn.Conv2d(*shape, conv.kernel_size, conv.stride, conv.padding, bias=conv.bias is not None)
    new = new.to(conv.weight.device, conv.weight.dtype)
    rows, bias = weight.new_zeros(channels, *weight.shape[1:]), weight.new_zeros(channels)
    old_bias = conv.bias if conv.bias is not None else weight.new_zeros(before)
    if channels == 1:
        rows[0] = weight.mean(0) if gives else weight.sum(0)
        bias[0] = old_bias.mean() if gives else 0
    elif before == 1:
        rows[:] = weight if gives else weight / channels
        bias[:] = old_bias[0] if gives else 0
    else:
        kept = min(before, channels)
        rows[:kept] = weight[:kept]
        if gives:
            bias[:kept] = old_bias[:kept]
            bias[kept:] = 1.0 if channels == OPAQUE else old_bias.mean()
            rows[kept:] = 0.0 if channels == OPAQUE else weight.mean(0)
    new.weight.copy_(rows.movedim(0, dim))
    if new.bias is not None:
        new.bias.copy_(bias if gives else conv.bias)
    return new


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for module in root.modules():
        for name, child in module.named_children():
            if child is old:
                setattr(module, name, new)
                return
