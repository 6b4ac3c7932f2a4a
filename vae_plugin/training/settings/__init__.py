"""The settings of a run in groups, each of which is handed to the part that it sets."""

from .data import DataSettings
from .hub import HubSettings
from .loss import LossSettings
from .model import ModelSettings
from .optimization import OptimizationSettings
from .output import OutputSettings
from .run import FinetuneOptions

__all__ = [
    "DataSettings",
    "FinetuneOptions",
    "HubSettings",
    "LossSettings",
    "ModelSettings",
    "OptimizationSettings",
    "OutputSettings",
]
