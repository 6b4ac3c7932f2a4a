"""What a run trains on: each loss is one module together with its model."""

from .base import TrainingLoss
from .discriminator import DiscriminatorLoss, PatchDiscriminator
from .distillation import DistillationLoss
from .elbo import CodebookLoss, ELBOLoss
from .image import Adversary, ImageLoss
from .perceptual import PerceptualDistance, load_perceptual
from .reconstruction import ReconstructionLoss

__all__ = [
    "Adversary",
    "CodebookLoss",
    "DiscriminatorLoss",
    "DistillationLoss",
    "ELBOLoss",
    "ImageLoss",
    "PatchDiscriminator",
    "PerceptualDistance",
    "ReconstructionLoss",
    "TrainingLoss",
    "load_perceptual",
]
