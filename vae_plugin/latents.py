"""Arithmetic on latents.

A latent is flat, (D,), or spatial, (C, H, W); a batch has one more axis in front. Results keep the gradient, device and
dtype of the arguments; half precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from .arguments import Tensor, Whole, accepts

# Slerp turns into lerp between these values of (pi - angle) in radians, and of the ratio of the two norms.
LERP_BELOW, SLERP_ABOVE = 1e-3, 1e-2
LATENT, NUMBERS = Tensor(), Tensor(integer=None, also_numbers=True)


@accepts(a=LATENT, b=LATENT, t=NUMBERS)
def lerp(a: torch.Tensor, b: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
    """Linear interpolation (1 - t) a + t b, which is exactly a at t = 0 and exactly b at t = 1.

    Halfway between two independent samples of N(0, I) its norm is 0.71 of theirs, where the prior has almost no mass;
    `slerp` keeps the norm.

    Args:
        a: (D,), (B, D), (C, H, W) or (B, C, H, W).
        b: same shape.
        t: a number, or one for each latent of a batch, (B,) or (B, 1, ...); values outside [0, 1] extrapolate.

    Returns:
        Latents of the same shape as `a`.

    Raises:
        ValueError: if the shapes do not match or the latents are not floating point.
    """
    _check(a, b)
    return _lerp(a, b, _per_sample(t, a, b))


@accepts(a=LATENT, b=LATENT, t=NUMBERS)
def slerp(a: torch.Tensor, b: torch.Tensor, t: float | torch.Tensor, *, per_location: bool = True) -> torch.Tensor:
    """Spherical linear interpolation, which is exactly a at t = 0 and exactly b at t = 1.

    The direction moves along the great circle at constant speed (Shoemake 1985; White 2016 for latents) while the norm
    changes linearly from |a| to |b|.

    For parallel vectors the result is that of `lerp`. Opposite vectors have no unique great circle and a zero vector
    has no direction, so slerp is `lerp` within 0.001 rad of opposite, and where one norm is less than 0.001 of the
    other. Between these values and 0.01 the two are blended (smoothstep), which keeps the result continuous in a and b.

    Args:
        a: (D,), (B, D), (C, H, W) or (B, C, H, W).
        b: same shape.
        t: a number, or one for each latent of a batch, (B,) or (B, 1, ...); values outside [0, 1] extrapolate.
        per_location: treat a spatial latent as one vector over C per position. Otherwise each latent is a single vector
            of C * H * W numbers. Makes no difference for flat latents.

    Returns:
        Latents of the same shape as `a`.

    Raises:
        ValueError: if the shapes do not match or the latents are not floating point.
    """
    _check(a, b)
    return _slerp(a, b, _per_sample(t, a, b), per_location)


@accepts(a=LATENT, b=LATENT, steps=Whole())
def interpolate(
    a: torch.Tensor,
    b: torch.Tensor,
    steps: int,
    method: Literal["slerp", "lerp"] = "slerp",
    *,
    per_location: bool = True,
) -> torch.Tensor:
    """Path of `steps` latents from a to b, including both exactly.

    Args:
        a: (D,), (B, D), (C, H, W) or (B, C, H, W).
        b: same shape.
        steps: number of latents on the path, at least 2.
        method: "slerp" or "lerp".
        per_location: see `slerp`.

    Returns:
        Latents (steps, *a.shape).

    Raises:
        ValueError: if the shapes do not match, the latents are not floating point, `steps` is below 2 or `method` is
            unknown.
    """
    _check(a, b)
    if steps < 2:
        raise ValueError(f"got steps={steps}: a path has at least 2 steps, its two ends.")
    if method not in ("slerp", "lerp"):
        raise ValueError(f"got method={method!r}: accepted are 'slerp' and 'lerp'.")
    t = torch.linspace(0, 1, steps, dtype=_compute_dtype(a, b), device=a.device).view(-1, *[1] * a.ndim)
    return _slerp(a, b, t, per_location) if method == "slerp" else _lerp(a, b, t)


@accepts(z=LATENT)
def traverse(z: torch.Tensor, dim: int | tuple[int, int, int], values: Sequence[float] | torch.Tensor) -> torch.Tensor:
    """Copy one latent with one coordinate set to each of `values`.

    Args:
        z: a single latent, (D,) or (C, H, W), or a batch of one.
        dim: coordinate to set: an index into D; for a spatial latent a channel, set at every position, or (c, y, x) for
            a single position.
        values: (N,).

    Returns:
        Latents (N, D) or (N, C, H, W).

    Raises:
        ValueError: if z is not a single latent, has no such coordinate, or `values` is not one-dimensional.
    """
    _check(z)
    if z.ndim in (2, 4):
        if len(z) != 1:
            raise ValueError(f"got a batch of {len(z)} latents {tuple(z.shape)}: traverse takes one, e.g. z[0].")
        z = z[0]
    try:
        values = torch.as_tensor(values, dtype=z.dtype, device=z.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"got values of {type(values).__name__}: expected numbers, (N,).") from error
    if values.ndim != 1:
        raise ValueError(f"got values of shape {tuple(values.shape)}: expected (N,).")
    index = dim if isinstance(dim, tuple) else (dim,)
    whole = all(isinstance(i, int) and not isinstance(i, bool) for i in index)
    if not whole or len(index) not in (1, z.ndim) or not all(-n <= i < n for i, n in zip(index, z.shape, strict=False)):
        accepted = "an index of D" if z.ndim == 1 else "a channel or (c, y, x)"
        raise ValueError(f"got dim={dim} for a latent of shape {tuple(z.shape)}: expected {accepted} within it.")
    path = z.expand(len(values), *z.shape).clone()
    path[(slice(None), *index)] = values.view(-1, *[1] * (z.ndim - len(index)))
    return path


@accepts(with_=LATENT, without=LATENT)
def attribute_vector(with_: torch.Tensor, without: torch.Tensor) -> torch.Tensor:
    """Direction of an attribute: mean latent of images that have it minus mean latent of images that do not.

    Adding it to a latent adds the attribute (the visual attribute vectors of Larsen et al. 2016).

    Args:
        with_: latents with the attribute, (N, D) or (N, C, H, W), N at least 1.
        without: latents without it, (M, D) or (M, C, H, W), M at least 1.

    Returns:
        One latent, (D,) or (C, H, W).

    Raises:
        ValueError: if the shapes do not match, a batch is empty, or the latents are not floating point.
    """
    if with_.ndim not in (2, 4) or with_.shape[1:] != without.shape[1:] or not (len(with_) and len(without)):
        raise ValueError(
            f"got latents {tuple(with_.shape)} and {tuple(without.shape)}: expected two batches, each of at least one "
            "latent, (N, D) and (M, D) or (N, C, H, W) and (M, C, H, W)."
        )
    _check(with_[:1], without[:1])
    compute = _compute_dtype(with_, without)
    difference = with_.to(compute).mean(0) - without.to(compute).mean(0)
    return difference.to(_result_dtype(with_, without))


@accepts(a=LATENT, b=LATENT, c=LATENT)
def analogy(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Latent a - b + c, which is to c as a is to b.

    Args:
        a: (D,), (B, D), (C, H, W) or (B, C, H, W).
        b: same shape.
        c: same shape.

    Returns:
        Latents of the same shape as `a`.

    Raises:
        ValueError: if the shapes differ, or the latents are not floating point.
    """
    _check(a, b, c)
    compute = _compute_dtype(a, b, c)
    return (a.to(compute) - b.to(compute) + c.to(compute)).to(_result_dtype(a, b, c))


def _check(*latents: torch.Tensor) -> None:
    shapes = [tuple(z.shape) for z in latents]
    if len(set(shapes)) > 1:
        raise ValueError(f"got latents of shapes {' and '.join(map(str, shapes))}: expected the same shape.")
    if not 1 <= len(shapes[0]) <= 4:
        raise ValueError(f"got a latent of shape {shapes[0]}: expected (D,), (B, D), (C, H, W) or (B, C, H, W).")
    if not all(z.is_floating_point() for z in latents):
        raise ValueError(f"got latents of {latents[0].dtype}: expected floating point; decode indices to codes first.")


def _result_dtype(*latents: torch.Tensor) -> torch.dtype:
    dtype = latents[0].dtype
    for z in latents[1:]:
        dtype = torch.promote_types(dtype, z.dtype)
    return dtype


def _compute_dtype(*latents: torch.Tensor) -> torch.dtype:
    return torch.promote_types(_result_dtype(*latents), torch.float32)


def _per_sample(t: float | torch.Tensor, *latents: torch.Tensor) -> torch.Tensor:
    """Reshape `t` to broadcast against the latents, in the dtype used for computation."""
    z = latents[0]
    t = torch.as_tensor(t, dtype=_compute_dtype(*latents), device=z.device)
    batch = len(z) if z.ndim in (2, 4) else 1
    if t.numel() not in (1, batch) or (t.ndim > 1 and t.shape != (t.numel(), *[1] * (z.ndim - 1))):
        raise ValueError(
            f"got t of shape {tuple(t.shape)} for latents {tuple(z.shape)}: expected a number or, for a batch, (B,)."
        )
    return t.reshape(-1, *[1] * (z.ndim - 1))


def _lerp(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    compute = _compute_dtype(a, b)
    return ((1 - t) * a.to(compute) + t * b.to(compute)).to(_result_dtype(a, b))


def _slerp(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor, per_location: bool) -> torch.Tensor:
    dtype, compute = _result_dtype(a, b), _compute_dtype(a, b)
    a, b = a.to(compute), b.to(compute)
    axes = -1 if a.ndim <= 2 else -3 if per_location else (-3, -2, -1)

    def norm(x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(x, dim=axes, keepdim=True)

    norm_a, norm_b = norm(a), norm(b)
    shorter, longer = torch.minimum(norm_a, norm_b), torch.maximum(norm_a, norm_b)
    # Replace zero norms before dividing: a NaN that is masked out afterwards would still reach the gradient.
    directed = shorter > LERP_BELOW * longer
    ratio = torch.where(directed, shorter, 0) / torch.where(directed, longer, 1)
    norm_a, norm_b = torch.where(directed, norm_a, 1), torch.where(directed, norm_b, 1)
    unit_a, unit_b = a / norm_a, b / norm_b
    # Kahan's angle: acos of the dot product loses half of its digits near 0 and pi, and has no gradient there.
    chord, opposite = norm(unit_a - unit_b), torch.where(directed, norm(unit_a + unit_b), 1)
    angle = (2 * torch.atan2(chord, opposite)).clamp(max=torch.pi - LERP_BELOW)

    def weight(s: torch.Tensor) -> torch.Tensor:
        # sin(s * angle) / sin(angle), whose limit at angle 0 is s
        return s * torch.sinc(s * angle / torch.pi) / torch.sinc(angle / torch.pi)

    length = (1 - t) * norm_a + t * norm_b
    on_sphere = weight(1 - t) * (length / norm_a) * a + weight(t) * (length / norm_b) * b
    straight = (1 - t) * a + t * b
    blend = _smoothstep(ratio) * _smoothstep(opposite)
    return (straight + blend * (on_sphere - straight)).to(dtype)


def _smoothstep(x: torch.Tensor) -> torch.Tensor:
    x = ((x - LERP_BELOW) / (SLERP_ABOVE - LERP_BELOW)).clamp(0, 1)
    return x * x * (3 - 2 * x)
