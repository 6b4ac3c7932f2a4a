"""The pictures of `vae-plugin demo`."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image

from .. import pictures
from ..autoencoders import AutoencoderVAE, AutoencoderVQVAE
from ..datasets import Circles
from ..latents import interpolate, traverse
from ..metrics.disentanglement import information, leading_latents

COLUMNS = 8
SPREAD = 1.5  # standard deviations to each side that a latent is moved


def draw_pictures(
    folder: Path,
    vae: AutoencoderVAE,
    disentangled: AutoencoderVAE,
    vqvae: AutoencoderVQVAE,
    drawn: torch.Tensor,
    seed: int,
) -> None:
    """Write a picture of each model, and overview.png with all of them.

    Args:
        folder: of the pictures.
        vae: whose latents the diffusion model learnt.
        disentangled: a VAE with a latent for each factor of circles.
        vqvae: the VQ-VAE.
        drawn: samples of the pipeline, (N, 3, H, W) in [-1, 1].
        seed: of held-out circles.
    """
    held_out = Circles(COLUMNS, drawn.shape[-1], 3, seed=seed, hue=True)
    images = held_out.render(held_out.factors)
    left = {
        "reconstructions": (
            "Circles that were not trained on, and what a VAE makes of them",
            pictures.with_names(pictures.reconstructions(vae, images), ["original", "decoded"]),
        ),
        "interpolation": (
            "The decoded way from one latent to another",
            pictures.with_names(_interpolation(vae, images[1], images[3]), ["A to B"]),
        ),
        "pipeline": (
            "New circles, by a small diffusion transformer in these latents",
            pictures.with_names(pictures.grid(drawn, COLUMNS), ["samples"]),
        ),
    }
    names, moved = factor_rows(disentangled, seed)
    right = {
        "latents": (
            "A VAE trained to have one factor in a latent: each is moved alone",
            pictures.with_names(pictures.grid(moved, COLUMNS), names),
        ),
        "indices": (
            "A VQ-VAE: discrete codes, in false colours",
            pictures.with_names(pictures.index_map(vqvae, images), ["original", "codes", "decoded"]),
        ),
        "code_changes": (
            "One code exchanged for others",
            pictures.with_names(pictures.code_changes(vqvae, images[4:5]), ["decoded", "difference"]),
        ),
    }
    for name, (_, picture) in {**left, **right}.items():
        pictures.save_png(picture, folder / f"{name}.png")
    columns = [pictures.labelled(list(part.values())) for part in (left, right)]
    pictures.save_png(pictures.beside(columns), folder / "overview.png")


@torch.no_grad()
def factor_rows(vae: AutoencoderVAE, seed: int) -> tuple[list[str], torch.Tensor]:
    """Names and decoded rows of x, y, radius and hue: the latent that tells most of a factor is moved, the others stay.

    The hue is periodic, so that two latents go around a circle.

    Returns:
        The names, and `COLUMNS` images for each, (4 * COLUMNS, 3, H, W).
    """
    circles = Circles(2000, vae.config.sample_size, 3, seed=seed, hue=True)
    means = torch.cat([vae.posterior(circles.render(factors)).mean for factors in circles.factors.split(500)]).flatten(
        1
    )
    shares = information(means, circles.factors).normalised
    leading = leading_latents(shares)
    start = means[0]
    rows = []
    for factor, latent in enumerate(leading[:3]):
        grows = torch.corrcoef(torch.stack([means[:, latent], circles.factors[:, factor]]))[0, 1].sign()
        reach = grows * SPREAD * means[:, latent].std() * torch.linspace(-1, 1, COLUMNS)
        rows.append(traverse(start, latent, means[:, latent].mean() + reach))
    others = [latent for latent in range(means.shape[1]) if latent not in leading]
    pair = [leading[3], max(others, key=lambda latent: shares[latent, 3])]
    turn = 2 * math.pi * torch.arange(COLUMNS) / COLUMNS
    around = start.repeat(COLUMNS, 1)
    radius = math.sqrt(2) * means[:, pair].std(0)
    around[:, pair] = means[:, pair].mean(0) + radius * torch.stack([turn.cos(), turn.sin()], 1)
    latents = torch.cat([*rows, around])
    return ["x", "y", "radius", "hue"], vae.decode(latents[:, :, None, None]).sample


@torch.no_grad()
def _interpolation(vae: AutoencoderVAE, a: torch.Tensor, b: torch.Tensor) -> Image.Image:
    z = vae.posterior(torch.stack([a, b])).mode()
    return pictures.grid(vae.decode(interpolate(z[0], z[1], COLUMNS)).sample, COLUMNS)
