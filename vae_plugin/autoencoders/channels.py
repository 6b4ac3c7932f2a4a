"""Give a trained autoencoder another number of image channels."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..errors import UserError

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)  # one over time too treats each channel of the image alike
OPAQUE = 4  # so many channels are red, green, blue and alpha


@torch.no_grad()
def replace_image_convolutions(
    encoder: nn.Module, decoder: nn.Module, before: int, channels: int, outputs_per_channel: int = 1
) -> bool:
    """Replace the first and the last convolution so that images have `channels` channels, in place.

    The model keeps what it knows. To gray: it encodes and decodes as before an image of equal channels, and returns
    their mean. From gray: each new channel carries its share of the old one, and is decoded as the old one was.
    Otherwise the first channels stay as they were and an added one is not encoded yet (weight 0); it is decoded as
    opaque where it is alpha (the fourth of four), and as the mean of the old ones in any other case. Channels beyond
    the new number are dropped.

    Args:
        encoder: whose first convolution reads the image.
        decoder: whose last convolution writes the image.
        before: channels of the image.
        channels: the new number.
        outputs_per_channel: channels of the decoder's output for each channel of the image.

    Returns:
        Whether it was done: not if there are no convolutions that read and write the image alone.
    """
    convolutions = [m for m in encoder.modules() if isinstance(m, CONVOLUTIONS)]
    first = next((m for m in convolutions if m.in_channels == before), None)
    last = [m for m in decoder.modules() if isinstance(m, CONVOLUTIONS)][-1]
    alone = first is not None and first is convolutions[0] and last.out_channels == before
    if first is None or not alone or outputs_per_channel != 1:
        return False
    _replace(encoder, first, _adapted(first, channels, reads=True))
    _replace(decoder, last, _adapted(last, channels, reads=False))
    return True


def _adapted(conv: nn.Conv2d | nn.Conv3d, channels: int, reads: bool) -> nn.Conv2d | nn.Conv3d:
    """The convolution with `channels` inputs if it `reads` the image, outputs if it writes it."""
    dim = 1 if reads else 0
    weight = conv.weight.movedim(dim, 0)
    before = len(weight)
    rows, bias = weight.new_zeros(channels, *weight.shape[1:]), weight.new_zeros(channels)
    old_bias = weight.new_zeros(before) if reads or conv.bias is None else conv.bias
    if channels == 1:
        rows[0] = weight.sum(0) if reads else weight.mean(0)
        bias[0] = old_bias.mean()
    elif before == 1:
        rows[:] = weight / channels if reads else weight
        bias[:] = old_bias[0]
    else:
        kept = min(before, channels)
        rows[:kept] = weight[:kept]
        bias[:kept] = old_bias[:kept]
        if not reads:
            bias[kept:] = 1.0 if channels == OPAQUE else old_bias.mean()
            rows[kept:] = 0.0 if channels == OPAQUE else weight.mean(0)
    new = copy.deepcopy(conv)
    new.weight = nn.Parameter(rows.movedim(0, dim).contiguous())
    if reads:
        new.in_channels = channels
    else:
        new.out_channels = channels
        if conv.bias is not None:
            new.bias = nn.Parameter(bias)
    return new


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for module in root.modules():
        for name, child in module.named_children():
            if child is old:
                setattr(module, name, new)
                return


def cannot_change_channels(class_name: str, before: int, channels: int, reason: str) -> UserError:
    """The error for a number of image channels that a model cannot have."""
    return UserError(
        f"--in_channels {channels} cannot be given to this {class_name} of {before} channels: {reason}. Use images of "
        f"{before} channels."
    )
