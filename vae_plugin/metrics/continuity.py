"""Continuity of a latent space: how evenly decoded images change along paths between images."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from diffusers.models.modeling_utils import ModelMixin

from ..arguments import Tensor, Whole, accepts
from ..autoencoders import Adapter, adapt, evaluation_mode
from ..errors import NotFiniteError
from ..latents import interpolate
from ..models.exact import exact

STEPS = 16


class Continuity(NamedTuple):
    """How far decoded images move per step, 1 being a step of the straight path between the same ends in pixel space.

    Attributes:
        mean: over steps and pairs: the length of the path over the distance of its ends. Never below 1.
        worst: the largest step of each path, averaged over pairs, from 1 to the number of steps, which means that
            all happens in one step. What jumps is a hole, or the border of a code.
        largest: the largest step of all pairs; it grows with their number.
        pairs: counted; those whose ends decode to the same image have no path and are left out.
    """

    mean: float
    worst: float
    largest: float
    pairs: int


@torch.no_grad()
@accepts(first=Tensor("N C H W"), second=Tensor("N C H W"), steps=Whole(2))
def continuity(
    model: ModelMixin | Adapter,
    first: torch.Tensor,
    second: torch.Tensor,
    steps: int = STEPS,
    method: Literal["lerp", "slerp"] = "lerp",
) -> Continuity:
    """Decode paths between the latents of pairs of images, and measure their steps.

    For a pair, z_0 ... z_K is the path from the latent of the one image to that of the other (posterior means), and
    x_k = decode(z_k), clamped to [-1, 1]. Step k moves m_k = K |x_k - x_(k-1)| / |x_K - x_0| in the Euclidean norm over
    pixels. On the straight path in pixel space, a cross-fade, every m_k is 1. A decoder that moves an object rather
    than fading it has longer paths, of even steps: judge `worst` beside `mean`. Compare at one number of steps.

    Args:
        model: any autoencoder, or its adapter; in evaluation mode for the time of the call.
        first: images (N, C, H, W) in [-1, 1].
        second: the other ends of the paths.
        steps: K.
        method: the path in latent space, see `vae_plugin.latents.interpolate`.

    Raises:
        ValueError: if all pairs decode to one and the same image.
        NotFiniteError: if a decoded image is NaN or infinite.
    """
    adapter = adapt(model)
    movements = []
    with evaluation_mode(adapter.model):
        for a, b in zip(first.split(1), second.split(1), strict=True):
            movements.append(_movement(adapter, a, b, steps, method))
    moved = [movement for movement in movements if movement is not None]
    if not moved:
        raise ValueError(f"the two images of each of {len(first)} pair(s) decode to the same image: give other images.")
    found = torch.stack(moved)
    worst = found.max(1).values
    return Continuity(float(found.mean()), float(worst.mean()), float(worst.max()), len(found))


def _movement(
    adapter: Adapter, a: torch.Tensor, b: torch.Tensor, steps: int, method: Literal["lerp", "slerp"]
) -> torch.Tensor | None:
    """How far each of the steps between two images (1, C, H, W) moves, (steps,) float64; None without any distance."""
    start, end = (adapter.latents(image.to(adapter.model.device, adapter.model.dtype)) for image in (a, b))
    path = interpolate(start, end, steps + 1, method).flatten(0, 1)
    # One at a time: latents of large images fill the memory otherwise.
    decoded = torch.cat([exact(adapter.decode(z, a.shape[-2:]).clamp(-1, 1)).flatten(1) for z in path.split(1)])
    if not decoded.isfinite().all():
        raise NotFiniteError("an image on the path between two latents")
    distance = (decoded[-1] - decoded[0]).norm()
    return None if distance < 1e-6 else decoded.diff(dim=0).norm(dim=1) * (steps / distance)
