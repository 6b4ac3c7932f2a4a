"""Quantisers that map continuous latents to one of finitely many codes per position, behind one interface."""

from .base import Quantizer
from .finite_scalar import FiniteScalarQuantizer
from .lookup_free import LookupFreeQuantizer
from .residual import ResidualVectorQuantizer
from .search import nearest_code
from .sim_vector import SimVectorQuantizer
from .vector import VectorQuantizer

__all__ = [
    "FiniteScalarQuantizer",
    "LookupFreeQuantizer",
    "Quantizer",
    "ResidualVectorQuantizer",
    "SimVectorQuantizer",
    "VectorQuantizer",
    "nearest_code",
]
