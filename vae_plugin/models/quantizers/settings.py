"""The settings of a codebook, in one place for model, command line and card, and the quantiser that they describe."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from .base import Quantizer
from .finite_scalar import FiniteScalarQuantizer
from .lookup_free import LookupFreeQuantizer
from .residual import ResidualVectorQuantizer
from .sim_vector import SimVectorQuantizer
from .vector import VectorQuantizer

Init = TypeVar("Init", bound=Callable[..., Any])

QUANTIZERS: dict[str, tuple[type[Quantizer], dict[str, Any]]] = {  # name -> class, and what the name fixes
    "ema": (VectorQuantizer, {"codebook_update": "ema"}),
    "vq": (VectorQuantizer, {"codebook_update": "gradient"}),
    "fsq": (FiniteScalarQuantizer, {}),
    "lfq": (LookupFreeQuantizer, {}),
    "rvq": (ResidualVectorQuantizer, {"codebook_update": "ema"}),
    "simvq": (SimVectorQuantizer, {}),
}
ARGUMENTS = {  # setting -> argument of the quantisers, where the names differ
    "num_vq_embeddings": "codebook_size",
    "vq_embed_dim": "codebook_dim",
    "ema_decay": "decay",
    "codebook_distance": "distance",
    "quantizer_gradient": "gradient",
    "fsq_levels": "levels",
}
DEFAULT_CODES, DEFAULT_FSQ_CODES = 512, 1024
FSQ_LEVELS = {  # table 1 of Mentzer et al. 2023
    2**8: (8, 6, 5),
    2**10: (8, 5, 5, 5),
    2**12: (7, 5, 5, 5, 5),
    2**14: (8, 8, 8, 6, 5),
    2**16: (8, 8, 8, 5, 5, 5),
}


@dataclass
class CodebookSettings:
    """The quantiser of an `AutoencoderVQVAE`, under the names of its config.

    A setting that the arguments of a quantiser do not have is not for that quantiser, see `quantizers_with`.

    Attributes:
        quantizer_type: codes that follow moving averages (ema) or the gradient (vq), a grid of finite scalars (fsq),
            signs (lfq), a residual of several stages (rvq), or fixed codes moved by one learned layer (simvq).
        num_vq_embeddings: number of codes K, in each stage of rvq. By default 512, and 1024 for fsq.
        vq_embed_dim: numbers in a code. By default `latent_channels`; with another number linear layers stand around
            the quantiser.
        commitment_weight: weight of the commitment loss, the beta of van den Oord et al. 2017, eq. 3.
        ema_decay: decay of the codes' moving averages.
        codebook_distance: distance between latents and codes.
        quantizer_gradient: gradient through the quantiser.
        kmeans_init: place the codes by k-means on the first training batches.
        dead_code_threshold: share of the mean use below which a code is moved to a latent; 0 never moves one.
        entropy_weight: weight of the entropy loss. By default 0.1 for lfq, otherwise 0.
        num_quantizers: stages of rvq.
        fsq_levels: levels of each number of an fsq code. By default those of its paper for `num_vq_embeddings`.
    """

    quantizer_type: str = "ema"
    num_vq_embeddings: int | None = None
    vq_embed_dim: int | None = None
    commitment_weight: float = 0.25
    ema_decay: float = 0.99
    codebook_distance: str = "euclidean"
    quantizer_gradient: str = "straight_through"
    kmeans_init: bool = True
    dead_code_threshold: float = 0.1
    entropy_weight: float | None = None
    num_quantizers: int = 4
    fsq_levels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.quantizer_type not in QUANTIZERS:
            raise ValueError(f"quantizer_type is {self.quantizer_type!r}: it must be one of {', '.join(QUANTIZERS)}.")
        for name in ("num_vq_embeddings", "vq_embed_dim", "num_quantizers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: it must be at least 1.")
        for name in ("commitment_weight", "dead_code_threshold", "entropy_weight"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} is {value}: it must be at least 0.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}: it must be at least 0 and below 1.")


def make_quantizer(settings: CodebookSettings, dim: int) -> Quantizer:
    """The quantiser of latents with `dim` channels that the settings describe.

    Raises:
        ValueError: for numbers that it cannot take.
    """
    cls, fixed = QUANTIZERS[settings.quantizer_type]
    accepted = _arguments(cls)
    given = {ARGUMENTS.get(field.name, field.name): getattr(settings, field.name) for field in fields(settings)}
    if "levels" in accepted and given["levels"] is None:
        given["levels"] = fsq_levels(settings.num_vq_embeddings or DEFAULT_FSQ_CODES)
    if given["codebook_size"] is None:
        given["codebook_size"] = DEFAULT_CODES
    arguments = {name: value for name, value in given.items() if name in accepted and value is not None}
    return cls(dim=dim, **arguments, **fixed)


def quantizers_with(setting: str) -> tuple[str, ...]:
    """The names of the quantisers for which a setting has an effect."""
    if setting == "quantizer_type":
        return tuple(QUANTIZERS)
    argument = ARGUMENTS.get(setting, setting)
    also = ("fsq",) if setting == "num_vq_embeddings" else ()  # which chooses its levels by it
    return tuple(name for name, (cls, _) in QUANTIZERS.items() if argument in _arguments(cls) or name in also)


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


def takes_codebook_settings(init: Init) -> Init:
    """Let an `__init__` that ends in `**codebook` show the fields of `CodebookSettings` as its own arguments.

    diffusers reads the fields of a config from the signature.
    """
    signature = inspect.signature(init)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    settings = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(CodebookSettings)
    ]
    init.__signature__ = signature.replace(parameters=[*own, *settings])  # type: ignore[attr-defined]
    return init


def _arguments(cls: type[Quantizer]) -> set[str]:
    """The arguments of a quantiser, and of the stages of one that hands the others on."""
    parameters = inspect.signature(cls).parameters
    names = {name for name, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    hands_on = len(names) < len(parameters)
    return names | (_arguments(VectorQuantizer) if hands_on else set())
