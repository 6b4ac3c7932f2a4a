"""The vector quantiser of van den Oord et al. 2017, "Neural Discrete Representation Learning"."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ...arguments import Real, Whole, accepts
from ..affine import CannotStandardizeError
from ..distributed import gather_over_processes, rows_over_processes, sum_over_processes, world_size
from ..exact import rounded_to
from .base import Losses, Quantizer
from .clustering import count_and_sum, kmeans, random_rows
from .entropy import entropy_loss
from .gradients import GRADIENTS
from .search import nearest_code

VECTORS_PER_CENTRE = 2


class VectorQuantizer(Quantizer):
    """Vector quantiser that maps each vector to its nearest code in a learned codebook.

    The loss is the paper's (eq. 3), ||sg[z] - e||^2 + beta ||z - sg[e]||^2, reported as "codebook" and "commitment",
    each a mean over elements. `codebook_update="ema"` drops the first term: each code follows a moving average of the
    vectors assigned to it (appendix A.1).

    In multi-process training, counts, sums, k-means and revival use the vectors of all processes. Every process holds
    bit-identical codes, equal to those of a single process with the whole batch. All processes need the same batch
    size. Every forward pass in training mode updates the averages, so gradient accumulation makes several updates per
    optimiser step.

    Args:
        codebook_size: number of codes, K.
        dim: number of latent channels.
        codebook_dim: dimension of a code, D; defaults to `dim`. A small one (such as 8) keeps more codes of a large
            codebook in use.
        codebook_update: "ema" or "gradient".
        commitment_weight: weight of the commitment loss, beta.
        decay: decay of the moving averages per step, gamma.
        epsilon: Laplace smoothing of the counts.
        distance: "euclidean", or "cosine", which scales vectors and codes to norm 1.
        gradient: "straight_through" or "rotation", see `gradients`.
        kmeans_init: initialise the codes by k-means on the first training batch. If a batch has fewer than 2 K
            vectors, the codes are initialised in portions over the first batches. Otherwise codes start as N(0, 1 / D).
        kmeans_iterations: number of iterations of each k-means.
        dead_code_threshold: move a code to a random vector of the batch when its use, averaged over about
            1 / (1 - decay) steps, falls below this fraction of the mean use of all codes; 0 disables this.
        entropy_weight: weight of the "entropy" loss, see `entropy_loss` (Yu et al. 2023, "Language Model Beats
            Diffusion", eq. 5). It spreads the vectors over the codes.
        entropy_temperature: temperature of the soft assignment, softmax of -||z - e||^2 / temperature.
        seed: random seed of k-means and revival.

    Raises:
        ValueError: if an argument has an unknown name or is out of range.
    """

    counts: torch.Tensor
    sums: torch.Tensor
    num_placed: torch.Tensor
    num_updates: torch.Tensor

    @accepts(
        codebook_size=Whole(),
        dim=Whole(1),
        codebook_dim=Whole(1, optional=True),
        commitment_weight=Real(0),
        decay=Real(),
        epsilon=Real(0),
        kmeans_iterations=Whole(),
        dead_code_threshold=Real(0),
        entropy_weight=Real(0),
        entropy_temperature=Real(above=0),
        seed=Whole(),
    )
    def __init__(
        self,
        codebook_size: int,
        dim: int,
        *,
        codebook_dim: int | None = None,
        codebook_update: str = "ema",
        commitment_weight: float = 0.25,
        decay: float = 0.99,
        epsilon: float = 1e-5,
        distance: str = "euclidean",
        gradient: str = "straight_through",
        kmeans_init: bool = True,
        kmeans_iterations: int = 10,
        dead_code_threshold: float = 0.1,
        entropy_weight: float = 0.0,
        entropy_temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        for name, value, accepted in (
            ("codebook_update", codebook_update, ("ema", "gradient")),
            ("distance", distance, ("euclidean", "cosine")),
            ("gradient", gradient, tuple(GRADIENTS)),
        ):
            if value not in accepted:
                raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(accepted)}.")
        if codebook_size < 1 or not 0 <= decay < 1:
            raise ValueError(f"codebook_size ({codebook_size}) must be at least 1 and decay ({decay}) in [0, 1).")
        super().__init__(dim, codebook_dim or dim)
        self.codebook_size = codebook_size
        self.codebook_update = codebook_update
        self.commitment_weight = commitment_weight
        self.decay = decay
        self.epsilon = epsilon
        self.distance = distance
        self.gradient = gradient
        self.kmeans_iterations = kmeans_iterations
        self.dead_code_threshold = dead_code_threshold
        self.entropy_weight = entropy_weight
        self.entropy_temperature = entropy_temperature
        self.seed = seed

        codebook = self._on_sphere(torch.randn(codebook_size, self.code_dim) / self.code_dim**0.5)
        self.codebook = nn.Parameter(codebook, requires_grad=codebook_update == "gradient")
        # The moving averages start as if each code had been assigned itself once. Starting from 0, the first steps
        # would divide an unused code by almost nothing.
        self.register_buffer("counts", torch.ones(codebook_size))
        if codebook_update == "ema":
            self.register_buffer("sums", codebook.clone())
        self.register_buffer("num_placed", torch.tensor(0 if kmeans_init else codebook_size))
        self.register_buffer("num_updates", torch.tensor(0))

    def extra_repr(self) -> str:
        return (
            f"{self.codebook_size}, {self.dim}, codebook_dim={self.code_dim}, codebook_update={self.codebook_update!r}"
        )

    def _on_sphere(self, vectors: torch.Tensor) -> torch.Tensor:
        return F.normalize(vectors, dim=-1) if self.distance == "cosine" else vectors

    def lookup(self, indices: torch.Tensor) -> torch.Tensor:
        return self._on_sphere(F.embedding(indices, self.codebook))

    def quantize_vectors(self, vectors: torch.Tensor, update: bool) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        vectors = self._on_sphere(vectors)
        if update and (placed := int(self.num_placed)) < self.codebook_size:
            self._place_codes(vectors, placed)
        indices = nearest_code(vectors.detach(), self._searched_codes(update))
        codes = self.lookup(indices)
        losses = {"commitment": self.commitment_weight * F.mse_loss(vectors, codes.detach())}
        if self.codebook_update == "gradient":
            losses["codebook"] = F.mse_loss(codes, vectors.detach())
        if self.entropy_weight and torch.is_grad_enabled():
            codebook = self._on_sphere(self.codebook)
            losses["entropy"] = self.entropy_weight * entropy_loss(vectors, codebook, self.entropy_temperature)
        quantized = GRADIENTS[self.gradient](vectors, codes)
        if update:  # after the assignment, so that a step does not use the codes it produces
            self._follow(vectors.detach(), indices)
        return quantized, indices, losses

    def _searched_codes(self, update: bool) -> torch.Tensor:
        codebook = self._on_sphere(self.codebook.detach())
        # Until k-means has placed all codes, training assigns vectors to the placed ones only.
        return codebook[: int(self.num_placed)] if update else codebook

    @torch.no_grad()
    def _place_codes(self, vectors: torch.Tensor, placed: int) -> None:
        vectors = gather_over_processes(vectors)
        clusters = min(self.codebook_size - placed, max(1, len(vectors) // VECTORS_PER_CENTRE))
        centres, counts = kmeans(
            vectors, clusters, self.kmeans_iterations, self.seed + placed, normalize=self.distance == "cosine"
        )
        # Each portion counts all vectors of its batch: scaled, the counts of all portions add up to one batch.
        share = clusters / self.codebook_size
        self._set_codes(slice(placed, placed + clusters), centres, share * counts.clamp_min(1))
        self.num_placed += clusters

    def _set_codes(self, which: slice | torch.Tensor, codes: torch.Tensor, counts: torch.Tensor) -> None:
        """Replace codes together with their statistics, whose old values would pull the codes back at once."""
        self.codebook.data[which] = codes
        self.counts[which] = counts
        if self.codebook_update == "ema":
            self.sums[which] = codes * counts[:, None]

    @torch.no_grad()
    def _standardize_codes(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        if self.distance == "cosine" or not torch.allclose(std, std[0]):
            raise CannotStandardizeError("only Euclidean codes can be shifted, and scaled by a single number.")
        mean, std = rounded_to(self.codebook, mean), rounded_to(self.codebook, std)
        self.codebook.copy_((self.codebook - mean) / std)
        if self.codebook_update == "ema":
            self.sums.copy_((self.sums - self.counts[:, None] * mean) / std)

    @torch.no_grad()
    def _follow(self, vectors: torch.Tensor, indices: torch.Tensor) -> None:
        """Update the moving averages with the vectors of all processes, then revive dead codes."""
        counts, sums = count_and_sum(indices, vectors, self.codebook_size)
        self.counts.lerp_(sum_over_processes(counts), 1 - self.decay)
        if self.codebook_update == "ema":
            self.sums.lerp_(sum_over_processes(sums), 1 - self.decay)
            total = self.counts.sum()
            smoothed = (self.counts + self.epsilon) / (total + self.codebook_size * self.epsilon) * total
            self.codebook.data.copy_(self._on_sphere(self.sums / smoothed[:, None]))
        self.num_updates += 1
        if self.dead_code_threshold and int(self.num_placed) == self.codebook_size:
            self._revive(vectors)

    def _revive(self, vectors: torch.Tensor) -> None:
        share = self.counts.sum() / self.codebook_size
        dead = (self.counts < self.dead_code_threshold * share).nonzero()[:, 0]
        if not len(dead):  # counts are equal on all processes, and therefore this decision is too
            return
        rows = random_rows(len(vectors) * world_size(), len(dead), self.seed + int(self.num_updates), vectors.device)
        dead = dead[: len(rows)]
        self._set_codes(dead, rows_over_processes(vectors, rows), share.expand(len(dead)))
