"""What a run trains on: each loss is one module together with its model."""

from .base import TrainingLoss
from .discriminator import DiscriminatorLoss, PatchDiscriminator
from .distillation import DistillationLoss
from .elbo import CodebookLoss, ELBOLoss, ImportanceWeightedLoss
from .image import Adversary, ImageLoss
from .perceptual import PerceptualDistance, PerceptualTerm, check_perceptual, load_perceptual, load_perceptual_terms
from .pixels import PIXEL_LOSSES
from .reconstruction import ReconstructionLoss

__all__ = [
    "PIXEL_LOSSES",
    "Adversary",
    "CodebookLoss",
    "DiscriminatorLoss",
    "DistillationLoss",
    "ELBOLoss",
    "ImageLoss",
    "ImportanceWeightedLoss",
    "PatchDiscriminator",
    "PerceptualDistance",
    "PerceptualTerm",
    "ReconstructionLoss",
    "TrainingLoss",
    "check_perceptual",
    "load_perceptual",
    "load_perceptual_terms",
]
