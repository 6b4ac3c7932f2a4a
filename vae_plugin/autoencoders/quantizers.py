"""From the fields of a config to a quantiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..models.quantizers import (
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    Quantizer,
    ResidualVectorQuantizer,
    SimVectorQuantizer,
    VectorQuantizer,
)

QUANTIZERS = ("ema", "vq", "fsq", "lfq", "rvq", "simvq")
FSQ_LEVELS = {  # table 1 of Mentzer et al. 2023
    2**8: (8, 6, 5),
    2**10: (8, 5, 5, 5),
    2**12: (7, 5, 5, 5, 5),
    2**14: (8, 8, 8, 6, 5),
    2**16: (8, 8, 8, 5, 5, 5),
}


def fsq_levels(codebook_size: int) -> tuple[int, ...]:
    """The levels of Mentzer et al. 2023, table 1, whose product is about `codebook_size`.

    Raises:
        ValueError: for a size that the table does not have.
    """
    if codebook_size not in FSQ_LEVELS:
        raise ValueError(
            f"there are no known levels of a finite scalar quantiser for {codebook_size} codes: give the levels "
            f"themselves, or one of {', '.join(map(str, FSQ_LEVELS))}."
        )
    return FSQ_LEVELS[codebook_size]


def make_quantizer(
    kind: str,
    dim: int,
    *,
    codebook_size: int,
    codebook_dim: int | None,
    commitment_weight: float,
    ema_decay: float,
    distance: str,
    gradient: str,
    kmeans_init: bool,
    dead_code_threshold: float,
    entropy_weight: float | None,
    num_quantizers: int,
    levels: Sequence[int] | None,
) -> Quantizer:
    """The quantiser that a config names; what does not concern that kind is left aside.

    Raises:
        ValueError: for a kind that is not known, or numbers that it cannot take.
    """
    vector: dict[str, Any] = {
        "codebook_dim": codebook_dim,
        "codebook_update": "gradient" if kind == "vq" else "ema",
        "commitment_weight": commitment_weight,
        "decay": ema_decay,
        "distance": distance,
        "gradient": gradient,
        "kmeans_init": kmeans_init,
        "dead_code_threshold": dead_code_threshold,
        "entropy_weight": entropy_weight or 0.0,
    }
    if kind in ("ema", "vq"):
        return VectorQuantizer(codebook_size, dim, **vector)
    if kind == "rvq":
        return ResidualVectorQuantizer(codebook_size, dim, num_quantizers=num_quantizers, **vector)
    if kind == "simvq":
        return SimVectorQuantizer(
            codebook_size, dim, codebook_dim=codebook_dim, commitment_weight=commitment_weight, gradient=gradient
        )
    if kind == "lfq":
        return LookupFreeQuantizer(
            codebook_size,
            dim,
            commitment_weight=commitment_weight,
            entropy_weight=0.1 if entropy_weight is None else entropy_weight,
        )
    if kind == "fsq":
        levels = fsq_levels(codebook_size) if levels is None else levels
        return FiniteScalarQuantizer(levels, dim)
    raise ValueError(f"quantizer_type is {kind!r}: it must be one of {', '.join(QUANTIZERS)}.")
