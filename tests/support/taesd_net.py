"""TAESD's networks, as its repository defines them, of any width: what reads its files independently of us."""

from functools import partial

import torch
from torch import nn


class Clamp(nn.Module):
    def forward(self, x):
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    """Three convolutions beside a skip; in the coarsest level of TAEF2 a bottleneck with group norm is added first."""

    def __init__(self, width, pooled=False):
        super().__init__()
        layers = conv(width, width), nn.ReLU(), conv(width, width), nn.ReLU(), conv(width, width)
        self.conv = nn.Sequential(*layers)
        if pooled:
            one, wide = partial(nn.Conv2d, kernel_size=1, bias=False), 4 * width
            self.pool = nn.Sequential(one(width, wide), nn.GroupNorm(4, wide), nn.ReLU(), one(wide, width))

    def forward(self, x):
        x = x + self.pool(x) if hasattr(self, "pool") else x
        return torch.relu(self.conv(x) + x)


def conv(inputs, outputs, **options):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def taesd(latent_channels, width=64, pooled=False):
    """Encoder and decoder; images are in [0, 1]."""
    same = partial(conv, width, width, bias=False)
    levels = [[Block(width, pooled and coarsest) for _ in range(3)] for coarsest in 2 * (False, False, True)]
    down = [layer for blocks in levels[:3] for layer in (same(stride=2), *blocks)]
    up = [layer for blocks in levels[:2:-1] for layer in (*blocks, nn.Upsample(scale_factor=2), same())]
    encoder = nn.Sequential(conv(3, width), Block(width), *down, conv(width, latent_channels))
    decoder = nn.Sequential(Clamp(), conv(latent_channels, width), nn.ReLU(), *up, Block(width), conv(width, 3))
    return encoder.eval(), decoder.eval()
