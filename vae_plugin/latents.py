"""Arithmetic on latents.

A latent is flat, (D,), or spatial, (C, H, W); a batch of them has one more axis in front. What is computed keeps the
gradient, the device and the dtype of its arguments; half precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

# Between these, slerp turns into lerp: of (pi - angle) in radians, and of the ratio of the two norms.
LERP_BELOW, SLERP_ABOVE = 1e-3, 1e-2


def lerp(a: torch.Tensor, b: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
    """Linear interpolation (1 - t) a + t b; a at t = 0 and b at t = 1 exactly.

    Half-way between two independent samples of N(0, I) it has 0.71 of their norm, where the prior has next to no
    mass; `slerp` keeps the norm.

    Args:
        a: (D,), (B, D), (C, H, W) or (B, C, H, W).
        b: same shape.
        t: a number, or (B,) or (B, 1, ...), one for each of the batch; outside [0, 1] it extrapolates.

    Returns:
        The shape of `a`.

    Raises:
        ValueError: if the shapes do not fit, or the latents are not floating point.
    """
    _check(a, b)
    return _lerp(a, b, _per_sample(t, a, b))


def slerp(a: torch.Tensor, b: torch.Tensor, t: float | torch.Tensor, *, per_location: bool = True) -> torch.Tensor:
    """Spherical linear interpolation; a at t = 0 and b at t = 1 exactly.

    The direction moves along the great circle at constant speed (Shoemake 1985; White 2016 for latents), the norm
    linearly from |a| to |b|.

    Parallel vectors give what `lerp` gives. There is no one great circle through opposite vectors, and a zero vector
    has no direction: there slerp is `lerp`, within 0.001 rad of opposite and where one norm is less than 0.001 of the
    other. From there to 0.01 the two are blended (smoothstep), so that the result is continuous in a and b.

    Args:
        a: (D,), (B, D), (C, H, W) or (B, C, H, W).
        b: same shape.
        t: a number, or (B,) or (B, 1, ...), one for each of the batch; outside [0, 1] it extrapolates.
        per_location: the vectors of a spatial latent are those over C at each location; otherwise each latent is one
            vector of C * H * W. No difference to flat latents.

    Returns:
        The shape of `a`.

    Raises:
        ValueError: if the shapes do not fit, or the latents are not floating point.
    """
    _check(a, b)
    return _slerp(a, b, _per_sample(t, a, b), per_location)


def interpolate(
    a: torch.Tensor,
    b: torch.Tensor,
    steps: int,
    method: Literal["slerp", "lerp"] = "slerp",
    *,
    per_location: bool = True,
) -> torch.Tensor:
    """A path of `steps` latents from a to b, both included exactly.

    Args:
        a: (D,), (B, D), (C, H, W) or (B, C, H, W).
        b: same shape.
        steps: at least 2.
        method: "slerp" or "lerp".
        per_location: see `slerp`.

    Returns:
        (steps, *a.shape).

    Raises:
        ValueError: if an argument is not as above.
    """
    _check(a, b)
    if steps < 2:
        raise ValueError(f"got steps={steps}: a path has at least 2, its ends.")
    if method not in ("slerp", "lerp"):
        raise ValueError(f"got method={method!r}: accepted are 'slerp' and 'lerp'.")
    t = torch.linspace(0, 1, steps, dtype=_compute_dtype(a, b), device=a.device).view(-1, *[1] * a.ndim)
    return _slerp(a, b, t, per_location) if method == "slerp" else _lerp(a, b, t)


def traverse(z: torch.Tensor, dim: int | tuple[int, int, int], values: Sequence[float] | torch.Tensor) -> torch.Tensor:
    """Copies of one latent in which one coordinate takes each of `values`.

    Args:
        z: one latent, (D,) or (C, H, W), or a batch of one.
        dim: the coordinate: an index of D; for a spatial latent a channel, set at every location, or (c, y, x), one
            place.
        values: (N,).

    Returns:
        (N, D) or (N, C, H, W).

    Raises:
        ValueError: if z is not one latent, or it has no such coordinate, or `values` is not one-dimensional.
    """
    _check(z)
    if z.ndim in (2, 4):
        if len(z) != 1:
            raise ValueError(f"got a batch of {len(z)} latents {tuple(z.shape)}: traverse takes one, e.g. z[0].")
        z = z[0]
    values = torch.as_tensor(values, dtype=z.dtype, device=z.device)
    if values.ndim != 1:
        raise ValueError(f"got values of shape {tuple(values.shape)}: expected (N,).")
    index = dim if isinstance(dim, tuple) else (dim,)
    if len(index) not in (1, z.ndim) or not all(-n <= i < n for i, n in zip(index, z.shape, strict=False)):
        accepted = "an index of D" if z.ndim == 1 else "a channel or (c, y, x)"
        raise ValueError(f"got dim={dim} for a latent of shape {tuple(z.shape)}: expected {accepted} within it.")
    path = z.expand(len(values), *z.shape).clone()
    path[(slice(None), *index)] = values.view(-1, *[1] * (z.ndim - len(index)))
    return path


def attribute_vector(with_: torch.Tensor, without: torch.Tensor) -> torch.Tensor:
    """The direction of an attribute: mean latent of images that have it minus mean of those that do not.

    Larsen et al. 2016 (visual attribute vectors). Add it to a latent to add the attribute.

    Args:
        with_: (N, D) or (N, C, H, W), N at least 1.
        without: (M, D) or (M, C, H, W), M at least 1.

    Returns:
        (D,) or (C, H, W).

    Raises:
        ValueError: if the shapes do not fit, a batch is empty, or the latents are not floating point.
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


def analogy(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The latent a - b + c: what is to c as a is to b.

    Args:
        a: (D,), (B, D), (C, H, W) or (B, C, H, W).
        b: same shape.
        c: same shape.

    Returns:
        The shape of `a`.

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
    """`t` with an axis for each axis of the latents, in the precision to compute with."""
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
    # What a zero vector would divide by is replaced before the division: a NaN that is masked out afterwards would
    # still be a NaN in the gradient.
    directed = shorter > LERP_BELOW * longer
    ratio = torch.where(directed, shorter, 0) / torch.where(directed, longer, 1)
    norm_a, norm_b = torch.where(directed, norm_a, 1), torch.where(directed, norm_b, 1)
    unit_a, unit_b = a / norm_a, b / norm_b
    # Kahan's angle: acos of the dot product loses half of the digits near 0 and pi, and has no gradient there.
    chord, opposite = norm(unit_a - unit_b), torch.where(directed, norm(unit_a + unit_b), 1)
    angle = (2 * torch.atan2(chord, opposite)).clamp(max=torch.pi - LERP_BELOW)

    # sin(s angle) / sin(angle), whose limit at angle 0 is s
    def weight(s: torch.Tensor) -> torch.Tensor:
        return s * torch.sinc(s * angle / torch.pi) / torch.sinc(angle / torch.pi)

    length = (1 - t) * norm_a + t * norm_b
    on_sphere = weight(1 - t) * (length / norm_a) * a + weight(t) * (length / norm_b) * b
    straight = (1 - t) * a + t * b
    blend = _smoothstep(ratio) * _smoothstep(opposite)
    return (straight + blend * (on_sphere - straight)).to(dtype)


def _smoothstep(x: torch.Tensor) -> torch.Tensor:
    x = ((x - LERP_BELOW) / (SLERP_ABOVE - LERP_BELOW)).clamp(0, 1)
    return x * x * (3 - 2 * x)
