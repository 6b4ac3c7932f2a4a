"""Causal autoencoders of videos as image pipelines use them: with one frame.

Such a network sees no frame before the first. Of a causal convolution over (time, height, width) only the last tap in
time meets that frame, the others meet zeros; and what changes the number of frames (`time_conv`) is passed over. So one
frame goes through two-dimensional convolutions, with a third of the weights, and the rest of a video's weights is out
of reach: of the gradient, of weight decay, of averages and of low-rank changes.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional as F

from .frames import only_frame

BETWEEN_FRAMES = "time_conv"  # the name of what only further frames reach


class FrameConv(nn.Module):
    """A causal convolution as it acts on one frame, (B, C, 1, H, W), with weights of its own.

    Args:
        causal: over (time, height, width), padded by zeros before the first frame; or over (height, width) already.
    """

    def __init__(self, causal: Any) -> None:
        super().__init__()
        left, _, top, _ = causal._padding[:4]
        self.conv = nn.Conv2d(
            causal.in_channels,
            causal.out_channels,
            causal.kernel_size[-2:],
            causal.stride[-2:],
            (top, left),
            bias=causal.bias is not None,
            device="meta",  # draws no random numbers
        )
        self.conv.weight = _copy(causal.weight, last_tap(causal.weight))
        if causal.bias is not None:
            self.conv.bias = _copy(causal.bias, causal.bias)
        self.train(causal.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.squeeze(2)).unsqueeze(2)

    @torch.no_grad()
    def write(self, causal: Any) -> None:
        """Give the causal convolution the weights, and leave its earlier taps as they are."""
        last_tap(causal.weight).copy_(self.conv.weight)
        if causal.bias is not None:
            causal.bias.copy_(self.conv.bias)


class OneFrame(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """The one-frame form of a causal autoencoder: images instead of videos.

    The configuration and the names of its parts are those of the whole model, apart from `conv` in convolutions.

    Args:
        whole: an autoencoder such as `AutoencoderKLWan`; it is not changed.
    """

    config_name = "config.json"

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.register_to_config(**whole.config)
        # copy.deepcopy takes what the memo has for an object
        memo = {id(conv): FrameConv(conv) for conv in causal_convolutions(whole).values()}
        for name, part in whole.named_children():
            self.add_module(name, copy.deepcopy(part, memo))
        for module in self.modules():
            module._modules.pop(BETWEEN_FRAMES, None)
        self.training = whole.training
        takes = inspect.signature(type(whole.decoder).forward).parameters
        self._first = {"first_chunk": True} if "first_chunk" in takes else {}

    @property
    def patch_size(self) -> int:
        """Side of the squares of pixels that are the channels of the first and of the last convolution."""
        return self.config.get("patch_size") or 1

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple:
        """q(z|x) of images (B, C, H, W), or (B, C, 1, H, W), which have latents with an axis of time too."""
        frame = patches(only_frame(x), self.patch_size)[:, :, None]
        moments = self.quant_conv(self.encoder(frame))
        q = DiagonalGaussianDistribution(moments if x.ndim == 5 else moments[:, :, 0])
        return AutoencoderKLOutput(latent_dist=q) if return_dict else (q,)

    def decode(self, z: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple:
        """Images of latents, clamped to [-1, 1] as by the whole; with an axis of time if the latents have one."""
        images = self.unclamped(z).clamp(-1, 1)
        images = images[:, :, None] if z.ndim == 5 else images
        return DecoderOutput(sample=images) if return_dict else (images,)

    def unclamped(self, z: torch.Tensor) -> torch.Tensor:
        """What `decode` clamps, which has a gradient everywhere."""
        frame = self.post_quant_conv(only_frame(z)[:, :, None])
        return pixels(self.decoder(frame, **self._first)[:, :, 0], self.patch_size)

    @torch.no_grad()
    def write(self, whole: Any) -> None:
        """Give the whole model the weights and the configuration; what one frame does not reach stays as it is."""
        state = self.state_dict()
        for name, conv in causal_convolutions(whole).items():
            if name.rpartition(".")[2] != BETWEEN_FRAMES:
                self.get_submodule(name).write(conv)
                state = {key: value for key, value in state.items() if not key.startswith(f"{name}.conv.")}
        whole.load_state_dict(state, strict=False)
        whole.register_to_config(**{name: value for name, value in self.config.items() if not name.startswith("_")})


def causal_convolutions(model: nn.Module) -> dict[str, Any]:
    """The causal convolutions of diffusers' classes by name; each file there has a class of its own for them."""
    return {name: m for name, m in model.named_modules() if type(m).__name__.endswith("CausalConv3d")}


def last_tap(weight: torch.Tensor) -> torch.Tensor:
    """The part of a convolution's weight that one frame reaches, (out, in, height, width)."""
    return weight[:, :, -1] if weight.ndim == 5 else weight


def patches(x: torch.Tensor, side: int) -> torch.Tensor:
    """Squares of pixels as channels, (B, C * side * side, H / side, W / side), columns before rows as Wan has them."""
    return x if side == 1 else F.pixel_unshuffle(x.mT, side).mT


def pixels(x: torch.Tensor, side: int) -> torch.Tensor:
    """The inverse of `patches`."""
    return x if side == 1 else F.pixel_shuffle(x.mT, side).mT


def _copy(parameter: nn.Parameter, part: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(part.detach().clone(memory_format=torch.contiguous_format), parameter.requires_grad)
