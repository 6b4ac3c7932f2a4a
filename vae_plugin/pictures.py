"""Pictures of what a model does: originals beside reconstructions, samples of the prior, traversals of the latents."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image

from .autoencoders import AutoencoderVAE
from .datasets.transforms import to_uint8
from .latents import traverse

GAP = 2
BACKGROUND = 255


def grid(images: torch.Tensor, columns: int, min_side: int = 64) -> Image.Image:
    """Images (N, C, H, W) in [-1, 1] as one picture, row by row; small ones are enlarged to about `min_side` pixels.

    With 2 channels, or more than 4, the first is shown in gray.
    """
    pixels = to_uint8(images.detach().float().cpu())
    if pixels.shape[1] not in (1, 3, 4):
        pixels = pixels[:, :1]
    enlarge = max(1, math.ceil(min_side / max(pixels.shape[-2:])))
    pixels = pixels.repeat_interleave(enlarge, 2).repeat_interleave(enlarge, 3)
    count, channels, height, width = pixels.shape
    rows = math.ceil(count / columns)
    sheet = torch.full(
        (channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), BACKGROUND, dtype=torch.uint8
    )
    for i, image in enumerate(pixels):
        top = GAP + (i // columns) * (height + GAP)
        left = GAP + (i % columns) * (width + GAP)
        sheet[:, top : top + height, left : left + width] = image
    array = sheet.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if channels == 1 else array)


def save_png(image: Image.Image, path: Path) -> Path:
    """Write a picture beside its place, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    image.save(partial, format="PNG")
    partial.replace(path)
    return path


@torch.no_grad()
def reconstructions(model: AutoencoderVAE, images: torch.Tensor, columns: int = 8) -> Image.Image:
    """Each original (odd rows) above its reconstruction from the posterior's mode (even rows)."""
    images = images.to(model.device, model.dtype)
    decoded = model(images).sample
    rows = []
    for original, copy in zip(images.split(columns), decoded.split(columns), strict=True):
        blank = original.new_ones(columns - len(original), *original.shape[1:])
        rows += [original, blank, copy, blank]
    return grid(torch.cat(rows), columns)


@torch.no_grad()
def prior_samples(model: AutoencoderVAE, n: int = 32, seed: int = 0, columns: int = 8) -> Image.Image:
    """E[x|z] of n latents from N(0, I)."""
    return grid(model.sample(n, torch.Generator().manual_seed(seed)), columns)


@torch.no_grad()
def latent_traversal(
    model: AutoencoderVAE, images: torch.Tensor, rows: int = 6, steps: int = 9, extent: float = 2.5
) -> Image.Image:
    """One latent moved along single directions, a row each, from -extent to +extent standard deviations.

    With 1x1 latents the directions are the dimensions themselves, in the order of their KL over `images`; the image in
    the middle is decoded from the prior's mean. Spatial latents have too many dimensions to look at one by one: there
    the directions are the principal components of the posterior means, around their mean.
    """
    posterior = model.posterior(images.to(model.device, model.dtype))
    means = posterior.mean
    values = torch.linspace(-extent, extent, steps, device=means.device)
    if means.shape[-2:] == (1, 1):
        order = posterior.kl_per_dimension().mean(0).flatten().argsort(descending=True)[:rows]
        latents = torch.cat([traverse(torch.zeros_like(means[0]), int(dim), values) for dim in order])
    else:
        centre = means.mean(0)
        flat = (means - centre).flatten(1)
        _, scale, directions = torch.linalg.svd(flat, full_matrices=False)
        scale = scale / math.sqrt(max(1, len(flat) - 1))
        rows = min(rows, len(directions))
        moves = (scale[:rows, None] * directions[:rows])[:, None] * values[None, :, None]
        latents = centre + moves.flatten(0, 1).unflatten(1, centre.shape)
    size = images.shape[-2:]
    decoded = model.decode(latents.to(model.dtype)).sample[..., : size[0], : size[1]]
    return grid(decoded, steps)
