"""Scores of the latents of a model on images whose factors are known, as one of the measures of `evaluate`."""

from __future__ import annotations

from typing import Any

import torch

from ..datasets import Factors
from ..errors import UserError
from ..models.distributed import objects_over_processes
from .disentanglement import FixedFactors, beta_vae_score, dci, factor_vae_score, modularity, sap
from .disentanglement.information import Information, information
from .disentanglement.learners import is_installed
from .disentanglement.mig import gaps
from .measures import ACTIVE_VARIANCE, Seen

MOST_FOR_TREES = 64  # latents that trees learn from; with more they take hours
MOST_FOR_VOTES = 256  # of which groups are kept in memory
FEW_IMAGES = 5000
INFORMATION = "information_"  # begins the names of the lists with what each latent tells of a factor


class FactorScores:
    """MIG, SAP, DCI, modularity and the scores of FactorVAE and beta-VAE (see `metrics.disentanglement`).

    The codes are posterior means, or the latents of models without a posterior; latents on a grid count each channel at
    each position. Modularity and the score of FactorVAE look at active units only (variance above 0.01), since noise
    has a vote there otherwise. With one image for each of few values of a factor nothing is measured well: give
    thousands of images.

    Args:
        factors: of the images, by their numbers in the data set.
        seed: of what is drawn and held out.

    Attributes:
        notes: sentences about what is missing in `result`, or how far to trust it.
    """

    def __init__(self, factors: Factors, seed: int = 0) -> None:
        self._factors, self._seed = factors, seed
        self._codes: dict[int, torch.Tensor] = {}
        self.notes: list[str] = []

    def update(self, seen: Seen) -> None:
        """Take the codes of the images."""
        self._codes |= zip(seen.numbers, seen.point.flatten(1).float().cpu(), strict=True)

    def all_reduce(self) -> None:
        """Add what all processes have seen."""
        gathered: dict[int, torch.Tensor] = {}
        for codes in objects_over_processes(self._codes):
            gathered |= codes
        self._codes = gathered

    def result(self) -> dict[str, Any]:
        """The scores by name, and lists "information_<factor>": I(z; v) / H(v) of each latent, in [0, 1].

        What is not known is absent, and `notes` says why.
        """
        numbers = sorted(self._codes)
        self.notes = []
        if len({codes.shape for codes in self._codes.values()}) != 1:
            self.notes.append("no scores of factors: the images have several sizes, and so have their latents.")
            return {}
        codes, factors = torch.stack([self._codes[number] for number in numbers]), self._factors.of(numbers).varying()
        if constant := [name for name in self._factors.names if name not in factors.names]:
            are = "is" if len(constant) == 1 else "are"
            self.notes.append(f"{', '.join(constant)} {are} the same in all images, and left out.")
        if not factors.names:
            self.notes.append("no scores of factors: none differs between the images.")
            return {}
        if len(codes) < FEW_IMAGES:
            self.notes.append(
                f"the scores of factors come from {len(codes)} images, which are few and bias them: 10,000 are usual "
                "(--max_images)."
            )
        return self._scores(codes, factors)

    def _scores(self, codes: torch.Tensor, factors: Factors) -> dict[str, Any]:
        values, kinds = factors.values, factors.kinds
        active = codes[:, codes.var(0, correction=0) > ACTIVE_VARIANCE]
        active = active if active.shape[1] else codes
        found = information(codes, values, kinds)
        result: dict[str, Any] = {"mig": float(gaps(found).mean())}
        if len(factors.names) > 1:
            result["modularity"] = modularity(active, values, kinds)
            result |= self._by_votes(active, values, kinds)
        result |= self._learnt(codes, values, kinds)
        return result | lists_of(found, factors.names)

    def _by_votes(self, active: torch.Tensor, values: torch.Tensor, kinds: tuple[str, ...]) -> dict[str, float]:
        """The scores that need images with a factor in common."""
        if active.shape[1] > MOST_FOR_VOTES:
            self.notes.append(
                f"no scores of FactorVAE and beta-VAE: {active.shape[1]} active latents are more than {MOST_FOR_VOTES}."
            )
            return {}
        fixed = FixedFactors(active, values, kinds, seed=self._seed)
        result = {"factor_vae_score": factor_vae_score(active, fixed.groups())} if (active.var(0) > 0).any() else {}
        if is_installed():
            result["beta_vae_score"] = beta_vae_score(fixed.pairs())
        return result

    def _learnt(self, codes: torch.Tensor, values: torch.Tensor, kinds: tuple[str, ...]) -> dict[str, float]:
        """The scores by what predicts the factors."""
        result: dict[str, float] = {}
        if not is_installed():
            self.notes.append(
                "no DCI, no score of beta-VAE and no SAP of categories: these need scikit-learn, pip install "
                "'vae-plugin[factors]'."
            )
        try:
            if is_installed() or "categorical" not in kinds:
                result["sap"] = sap(codes, values, kinds, self._seed)
            if is_installed() and codes.shape[1] <= MOST_FOR_TREES:
                of_trees = dci(codes, values, kinds, self._seed)
                result |= {f"dci_{name}": score for name, score in of_trees._asdict().items()}
        except UserError:
            raise
        except ValueError as error:  # of too few images of a category
            self.notes.append(f"no SAP or DCI: {error}")
        if codes.shape[1] > MOST_FOR_TREES:
            self.notes.append(f"no DCI: {codes.shape[1]} latents are more than the {MOST_FOR_TREES} that trees take.")
        return result


def lists_of(found: Information, names: tuple[str, ...]) -> dict[str, list[float]]:
    """What each latent tells of each factor, as lists by name."""
    return {f"{INFORMATION}{name}": column.tolist() for name, column in zip(names, found.normalised.T, strict=True)}
