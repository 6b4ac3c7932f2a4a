"""Nearest-code search that never holds the whole distance matrix."""

from __future__ import annotations

import torch

from ...arguments import Tensor, accepts

# Vectors and codes per tile of float32 distances. On a CPU 1024 x 1024 values stay in the cache between the matrix
# product that writes them and the argmin that reads them, so tiles are faster than the whole matrix.
CPU_TILE = (1024, 1024)
GPU_TILE = (8192, 4096)


@accepts(vectors=Tensor("N D"), codebook=Tensor("K D"))
def nearest_code(vectors: torch.Tensor, codebook: torch.Tensor, tile: tuple[int, int] | None = None) -> torch.Tensor:
    """Index of the code nearest to each vector by Euclidean distance; ties go to the lowest index.

    Memory is one tile of distances plus a few numbers per vector and per code, whatever N and K. Distances are compared
    as |e|^2 / 2 - z.e, with z and e centred close to the codebook's mean. Leaving out |z|^2, which all codes share, and
    the common offset lets float32 separate codes that the textbook formula rounds to the same distance.

    Args:
        vectors: (N, D), float32.
        codebook: (K, D), float32.
        tile: number of vectors and of codes compared at a time.

    Returns:
        (N,) int64.
    """
    if vectors.dtype != codebook.dtype:
        raise ValueError(
            f"vectors are of {vectors.dtype}, the codebook of {codebook.dtype}: convert one by .to(dtype)."
        )
    rows, columns = tile or (CPU_TILE if vectors.device.type == "cpu" else GPU_TILE)
    if _is_exporting():
        return _whole_search(vectors, codebook)
    if torch.compiler.is_compiling():
        return _opaque_search(vectors, codebook, rows, columns)
    return _tiled_search(vectors, codebook, rows, columns)


@torch.no_grad()
def _whole_search(vectors: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """Search in one piece: a loop over tiles would fix the number of vectors in the exported graph."""
    centred, origin, half_norms = _centre(codebook)
    return torch.addmm(half_norms, vectors - origin, centred.T, alpha=-1).argmin(1)


@torch.library.custom_op("vae_plugin::nearest_code", mutates_args=())
def _opaque_search(vectors: torch.Tensor, codebook: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The search as one operator to `torch.compile`, which would unroll the loop anew for every number of vectors."""
    return _tiled_search(vectors, codebook, rows, columns)


@_opaque_search.register_fake
def _(vectors: torch.Tensor, codebook: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    return vectors.new_empty(vectors.shape[0], dtype=torch.long)  # len() would fix the number


@torch.no_grad()
def _tiled_search(vectors: torch.Tensor, codebook: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    centred, origin, half_norms = _centre(codebook)
    nearest = torch.empty(len(vectors), dtype=torch.long, device=vectors.device)
    for first_vector in range(0, len(vectors), rows):
        z = vectors[first_vector : first_vector + rows] - origin
        best = z.new_empty(0)
        for first_code in range(0, len(codebook), columns):
            codes = slice(first_code, first_code + columns)
            distances = torch.addmm(half_norms[codes], z, centred[codes].T, alpha=-1)
            index = distances.argmin(1)
            if first_code == 0:
                best_index = index
                if columns >= len(codebook):
                    break
                best = distances.gather(1, index[:, None])[:, 0]
                continue
            distance = distances.gather(1, index[:, None])[:, 0]
            closer = distance < best  # not "<=": the lowest index wins a tie
            best = torch.where(closer, distance, best)
            best_index = torch.where(closer, index + first_code, best_index)
        nearest[first_vector : first_vector + rows] = best_index
    return nearest


def _centre(codebook: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The codes less an origin, the origin, and half their squared norms."""
    origin = _round_mean(codebook)
    centred = codebook - origin
    return centred, origin, centred.square().sum(1) / 2


def _round_mean(codebook: torch.Tensor) -> torch.Tensor:
    """Mean of the codebook, rounded to a multiple of a power of two no larger than its spread: (D,).

    Subtracting the exact mean would round every code, and equal distances would come out different.
    """
    spread = codebook.std(0, correction=0).mean()
    if _is_exporting():  # ONNX has no frexp
        unit = spread.clamp_min(1e-30).log2().floor().exp2()
        return (codebook.mean(0) / unit).round() * unit
    unit = torch.ldexp(torch.ones_like(spread), torch.frexp(spread).exponent - 1)
    return (codebook.mean(0) / unit).round() * unit


def _is_exporting() -> bool:
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()
