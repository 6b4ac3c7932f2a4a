"""The nearest code, without ever holding all distances."""

from __future__ import annotations

import torch

# One tile of distances, float32. On a CPU 1024 x 1024 numbers stay in the cache between the product that writes them
# and the minimum that reads them, which is why tiles are faster there than the whole matrix.
CPU_TILE = (1024, 1024)
GPU_TILE = (8192, 4096)


@torch.no_grad()
def nearest_code(tokens: torch.Tensor, codebook: torch.Tensor, tile: tuple[int, int] | None = None) -> torch.Tensor:
    """Index of the code with the smallest Euclidean distance to each token; of equal distances the lowest index.

    Memory: one tile of distances and a few numbers per token and code, whatever N and K. Distances are compared as
    |e|^2 / 2 - z.e, both taken from about the codebook's mean: without |z|^2, which all codes share, and without a
    common offset, float32 tells codes apart that the textbook formula rounds together.

    Args:
        tokens: (N, D), float32.
        codebook: (K, D), float32.
        tile: tokens and codes that are compared at a time.

    Returns:
        (N,) int64.
    """
    rows, columns = tile or (CPU_TILE if tokens.device.type == "cpu" else GPU_TILE)
    origin = _round_mean(codebook)
    centred = codebook - origin
    half_norms = centred.square().sum(1) / 2
    if _is_exporting():  # a loop over tiles would fix the number of tokens
        return torch.addmm(half_norms, tokens - origin, centred.T, alpha=-1).argmin(1)
    nearest = torch.empty(len(tokens), dtype=torch.long, device=tokens.device)
    for first_token in range(0, len(tokens), rows):
        z = tokens[first_token : first_token + rows] - origin
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
        nearest[first_token : first_token + rows] = best_index
    return nearest


def _round_mean(codebook: torch.Tensor) -> torch.Tensor:
    """The codebook's mean to the nearest multiple of a power of two not above its spread: (D,).

    Taking away the mean itself would round every code, and make equal distances differ by that rounding.
    """
    spread = codebook.std(0, correction=0).mean()
    if _is_exporting():  # ONNX has no frexp
        unit = spread.clamp_min(1e-30).log2().floor().exp2()
        return (codebook.mean(0) / unit).round() * unit
    unit = torch.ldexp(torch.ones_like(spread), torch.frexp(spread).exponent - 1)
    return (codebook.mean(0) / unit).round() * unit


def _is_exporting() -> bool:
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()
