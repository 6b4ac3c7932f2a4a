"""The table of the layouts."""

from __future__ import annotations

from .kohya import KohyaLayout
from .layout import Layout
from .lightningdit import LightningDiTLayout
from .parquet import ParquetLayout
from .tar import TarLayout

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        TarLayout(),
        ParquetLayout(),
        LightningDiTLayout(),
        *(KohyaLayout(family) for family in ("sd", "sdxl", "sd3", "flux")),
    )
}
