"""Settings of a codebook, shared by model, command line and card, and the quantiser built from them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_type_hints

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
    """Settings of the quantiser of an `AutoencoderVQVAE`, under the names of its config.

    A setting applies to a quantiser if it is one of its arguments, see `quantizers_with`.

    Attributes:
        quantizer_type: type of the quantiser: codes updated by moving averages (ema) or by gradient (vq), a grid of
            finite scalars (fsq), signs (lfq), several residual stages (rvq), or fixed codes transformed by one learned
            layer (simvq).
        num_vq_embeddings: number of codes K, per stage for rvq. By default 512, and 1024 for fsq.
        vq_embed_dim: dimension of a code. By default `latent_channels`; any other number adds linear layers before and
            after the codes.
        commitment_weight: weight of the commitment loss, the beta of van den Oord et al. 2017, eq. 3.
        ema_decay: decay of the codes' moving averages.
        codebook_distance: distance between latents and codes.
        quantizer_gradient: gradient estimator of the quantiser.
        kmeans_init: initialise the codes by k-means on the first training batches.
        dead_code_threshold: fraction of the mean use below which a code is replaced by a random latent; 0 never
            replaces one.
        entropy_weight: weight of the entropy loss. By default 0.1 for lfq and 0 otherwise.
        num_quantizers: number of stages of rvq.
        fsq_levels: number of levels of each channel of an fsq code. By default those of the FSQ paper for
            `num_vq_embeddings`.
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
    """Build the quantiser described by the settings, for latents with `dim` channels.

    Raises:
        ValueError: if the quantiser rejects a value.
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
    """Names of the quantisers that a setting applies to."""
    if setting == "quantizer_type":
        return tuple(QUANTIZERS)
    argument = ARGUMENTS.get(setting, setting)
    also = ("fsq",) if setting == "num_vq_embeddings" else ()  # its levels are chosen by this number
    return tuple(name for name, (cls, _) in QUANTIZERS.items() if argument in _arguments(cls) or name in also)


def fsq_levels(codebook_size: int) -> tuple[int, ...]:
    """Levels from table 1 of Mentzer et al. 2023, whose product is about `codebook_size`.

    Raises:
        ValueError: if the table has no such size.
    """
    if codebook_size not in FSQ_LEVELS:
        raise ValueError(
            f"no levels are known for a finite scalar quantiser with {codebook_size} codes: give the levels "
            f"themselves, or one of {', '.join(map(str, FSQ_LEVELS))} codes."
        )
    return FSQ_LEVELS[codebook_size]


def takes_codebook_settings(init: Init) -> Init:
    """Give an `__init__` that ends in `**codebook` the fields of `CodebookSettings` in its signature.

    diffusers reads the fields of a config from the signature.
    """
    signature = inspect.signature(init)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    types = get_type_hints(CodebookSettings)
    settings = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
        )
        for field in fields(CodebookSettings)
    ]
    init.__signature__ = signature.replace(parameters=[*own, *settings])  # type: ignore[attr-defined]
    return init


def _arguments(cls: type[Quantizer]) -> set[str]:
    """Arguments of a quantiser, including those that it passes on to its stages."""
    parameters = inspect.signature(cls).parameters
    names = {name for name, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    passes_on = len(names) < len(parameters)
    return names | (_arguments(VectorQuantizer) if passes_on else set())
