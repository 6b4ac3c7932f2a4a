"""`AutoencoderKL`: Stable Diffusion, SDXL, SD3, Flux, Z-Image and most others."""

from __future__ import annotations

from ..adapter import Adapter


class KLAdapter(Adapter):
    """What `Adapter` describes."""

    class_name = "AutoencoderKL"
    from_single_file = True
    has_single_file = True
