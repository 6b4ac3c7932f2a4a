"""Encoders (image -> parameters of q(z|x)) and decoders (latent -> parameters of p(x|z))."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import Decoder, Encoder
from torch import nn

from ..arguments import Several, Whole, accepts

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def _mlp(sizes: Sequence[int], activation: str) -> nn.Sequential:
    """Linear layers with activations in between; Glorot-uniform weights and zero biases, as in Burda et al. 2016."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}: it must be one of {', '.join(ACTIVATIONS)}.")
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        linear = nn.Linear(inputs, outputs)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


SHAPE, SIZES = Several(Whole(1), least=3), Several(Whole(1), least=0)


class MLPEncoder(nn.Module):
    """Fully connected encoder, as in Kingma & Welling 2013 (appendix C) and Burda et al. 2016: (B, C, H, W) -> (B, 2D).

    Args:
        image_shape: (C, H, W).
        latent_dim: D; the output holds D means, then D log-variances.
        hidden_sizes: number of units in each hidden layer.
        activation: "tanh" (both papers), "relu", "softplus", "silu" or "gelu".
        spatial: return (B, 2D, 1, 1) instead, the shape that diffusers expects of latents.

    Raises:
        ValueError: if the activation is unknown.
    """

    @accepts(image_shape=SHAPE, latent_dim=Whole(1), hidden_sizes=SIZES)
    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        hidden_sizes: Sequence[int] = (200, 200),
        activation: str = "tanh",
        spatial: bool = False,
    ) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.spatial = spatial
        self.layers = _mlp([math.prod(image_shape), *hidden_sizes, 2 * latent_dim], activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if tuple(x.shape[1:]) != self.image_shape:
            shape = ", ".join(map(str, self.image_shape))
            raise ValueError(f"got images of shape {tuple(x.shape)}: this MLP encodes only (batch, {shape}).")
        parameters = self.layers(x.flatten(1))
        return parameters[:, :, None, None] if self.spatial else parameters


class MLPDecoder(nn.Module):
    """Fully connected decoder: (B, D) or (B, D, 1, 1) -> (B, C, H, W).

    Args:
        latent_dim: D.
        output_shape: (C, H, W), where C is the number of image channels times the likelihood's
            `parameters_per_channel`.
        hidden_sizes: number of units in each hidden layer.
        activation: as in `MLPEncoder`.

    Raises:
        ValueError: if the activation is unknown.
    """

    @accepts(latent_dim=Whole(1), output_shape=SHAPE, hidden_sizes=SIZES)
    def __init__(
        self,
        latent_dim: int,
        output_shape: tuple[int, int, int],
        hidden_sizes: Sequence[int] = (200, 200),
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        self.output_shape = tuple(output_shape)
        self.layers = _mlp([latent_dim, *hidden_sizes, math.prod(output_shape)], activation)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        if z.ndim < 2 or z[0].numel() != self.layers[0].in_features:
            raise ValueError(f"got latents of shape {tuple(z.shape)}: expected (batch, {self.layers[0].in_features}).")
        return self.layers(z.flatten(1)).unflatten(1, self.output_shape)


@accepts(
    in_channels=Whole(1),
    latent_channels=Whole(1),
    block_out_channels=SIZES,
    layers_per_block=Whole(),
    norm_num_groups=Whole(1),
)
def resnet_encoder(
    in_channels: int,
    latent_channels: int,
    block_out_channels: Sequence[int] = (32, 64, 64),
    layers_per_block: int = 1,
    norm_num_groups: int = 32,
    act_fn: str = "silu",
    mid_block_add_attention: bool = True,
    double_z: bool = True,
) -> Encoder:
    """Convolutional ResNet encoder of `AutoencoderKL`: (B, C, H, W) -> (B, 2 * latent_channels, H/f, W/f).

    With `double_z=False` it is the encoder of `VQModel`, whose output is (B, latent_channels, H/f, W/f).

    f = 2^(len(block_out_channels) - 1). Each level has `layers_per_block` residual blocks with group norm, and the
    middle block can have self-attention. The class is diffusers' own, so `AutoencoderKL.encoder` has the same weights.

    Raises:
        ValueError: if `block_out_channels` is empty or not multiples of `norm_num_groups`.
    """
    _check_groups(block_out_channels, norm_num_groups)
    return Encoder(
        in_channels=in_channels,
        out_channels=latent_channels,
        down_block_types=("DownEncoderBlock2D",) * len(block_out_channels),
        block_out_channels=tuple(block_out_channels),
        layers_per_block=layers_per_block,
        norm_num_groups=norm_num_groups,
        act_fn=act_fn,
        double_z=double_z,
        mid_block_add_attention=mid_block_add_attention,
    )


@accepts(
    latent_channels=Whole(1),
    out_channels=Whole(1),
    block_out_channels=SIZES,
    layers_per_block=Whole(),
    norm_num_groups=Whole(1),
)
def resnet_decoder(
    latent_channels: int,
    out_channels: int,
    block_out_channels: Sequence[int] = (32, 64, 64),
    layers_per_block: int = 1,
    norm_num_groups: int = 32,
    act_fn: str = "silu",
    mid_block_add_attention: bool = True,
) -> Decoder:
    """Convolutional ResNet decoder of `AutoencoderKL`: (B, latent_channels, h, w) -> (B, out_channels, h*f, w*f).

    `block_out_channels` starts at the image side, as in `resnet_encoder`; each level has `layers_per_block` + 1
    residual blocks. `out_channels` is the number of image channels times the likelihood's `parameters_per_channel`.

    Raises:
        ValueError: if `block_out_channels` is empty or not multiples of `norm_num_groups`.
    """
    _check_groups(block_out_channels, norm_num_groups)
    return Decoder(
        in_channels=latent_channels,
        out_channels=out_channels,
        up_block_types=("UpDecoderBlock2D",) * len(block_out_channels),
        block_out_channels=tuple(block_out_channels),
        layers_per_block=layers_per_block,
        norm_num_groups=norm_num_groups,
        act_fn=act_fn,
        mid_block_add_attention=mid_block_add_attention,
    )


def _check_groups(block_out_channels: Sequence[int], norm_num_groups: int) -> None:
    if not block_out_channels:
        raise ValueError("block_out_channels is empty: give the channels of at least one level.")
    for channels in block_out_channels:
        if channels % norm_num_groups:
            raise ValueError(
                f"block_out_channels is {tuple(block_out_channels)}: give multiples of norm_num_groups "
                f"({norm_num_groups})."
            )


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad images (B, C, H, W) with their last row and column until height and width are multiples of `multiple`."""
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def cropped(images: torch.Tensor, size: tuple[int, ...] | None) -> torch.Tensor:
    """The top left part of images (B, C, H, W) with this height and width; all of it for None."""
    return images if size is None else images[..., : size[0], : size[1]]
