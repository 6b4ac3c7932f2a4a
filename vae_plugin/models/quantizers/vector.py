"""The vector quantiser of van den Oord et al. 2017, "Neural Discrete Representation Learning"."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..affine import CannotStandardizeError
from ..distributed import gather_over_processes, rows_over_processes, sum_over_processes, world_size
from .base import Losses, Quantizer
from .clustering import count_and_sum, kmeans, random_rows
from .entropy import entropy_loss
from .gradients import GRADIENTS
from .search import nearest_code

TOKENS_PER_CENTRE = 2


class VectorQuantizer(Quantizer):
    """Each token becomes its nearest code of a learned codebook.

    The loss is the paper's (eq. 3), ||sg[z] - e||^2 + beta ||z - sg[e]||^2, as "codebook" and "commitment", each the
    mean over its elements. With `codebook_update="ema"` the first term is not there: each code follows the mean of the
    tokens that choose it (appendix A.1).

    Under several processes counts, sums, k-means and revival use the tokens of all of them: the codebooks stay equal to
    the bit, and are those of one process with the whole batch. That needs batches of equal size. Every pass in training
    mode is a step of the averages: with gradient accumulation there are several to a step of the optimiser.

    Args:
        codebook_size: K.
        dim: channels of the latents.
        codebook_dim: D, numbers in a code. Default: `dim`. Fewer (8, say) keep more codes of a large book in use.
        codebook_update: "ema" or "gradient".
        commitment_weight: beta.
        decay: gamma of the moving averages, per step.
        epsilon: of the Laplace smoothing of the counts.
        distance: "euclidean", or "cosine": tokens and codes are scaled to norm 1.
        gradient: "straight_through" or "rotation", see `gradients`.
        kmeans_init: place the codes by k-means on the tokens of the first training batch, or of the first batches, in
            portions, if one has fewer than 2 K tokens. Without, they begin as N(0, 1 / D).
        kmeans_iterations: of each k-means.
        dead_code_threshold: a code that is chosen less often than this share of K-th part of all tokens (over some
            1 / (1 - decay) steps) is moved to a random token of the batch; 0 leaves it where it is.
        entropy_weight: of the loss "entropy", the mean entropy of a token's soft choice minus the entropy of the mean
            choice (Yu et al. 2023, "Language Model Beats Diffusion", eq. 5), which spreads the tokens over the codes.
        entropy_temperature: of that soft choice: softmax of -||z - e||^2 / temperature.
        seed: of k-means and revival.

    Raises:
        ValueError: for a name or number that is not one of these.
    """

    counts: torch.Tensor
    sums: torch.Tensor
    num_placed: torch.Tensor
    num_updates: torch.Tensor

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
        # Moving averages that begin as if each code had been chosen once, by itself. With 0 the first steps would
        # divide a code that nobody chose by next to nothing.
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

    def quantize_vectors(self, tokens: torch.Tensor, update: bool) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        tokens = self._on_sphere(tokens)
        if update and (placed := int(self.num_placed)) < self.codebook_size:
            self._place_codes(tokens, placed)
        indices = nearest_code(tokens.detach(), self._searched_codes(update))
        codes = self.lookup(indices)
        losses = {"commitment": self.commitment_weight * F.mse_loss(tokens, codes.detach())}
        if self.codebook_update == "gradient":
            losses["codebook"] = F.mse_loss(codes, tokens.detach())
        if self.entropy_weight and torch.is_grad_enabled():
            codebook = self._on_sphere(self.codebook)
            losses["entropy"] = self.entropy_weight * entropy_loss(tokens, codebook, self.entropy_temperature)
        quantized = GRADIENTS[self.gradient](tokens, codes)
        if update:  # after the choice: a step must not see the codes that it makes
            self._follow(tokens.detach(), indices)
        return quantized, indices, losses

    def _searched_codes(self, update: bool) -> torch.Tensor:
        codebook = self._on_sphere(self.codebook.detach())
        # Until k-means has placed them all, training chooses from the placed ones only.
        return codebook[: int(self.num_placed)] if update else codebook

    @torch.no_grad()
    def _place_codes(self, tokens: torch.Tensor, placed: int) -> None:
        tokens = gather_over_processes(tokens)
        clusters = min(self.codebook_size - placed, max(1, len(tokens) // TOKENS_PER_CENTRE))
        centres, counts = kmeans(
            tokens, clusters, self.kmeans_iterations, self.seed + placed, normalize=self.distance == "cosine"
        )
        # A portion has all tokens of its batch: scaled, the counts of all portions are those of one batch again.
        share = clusters / self.codebook_size
        self._set_codes(slice(placed, placed + clusters), centres, share * counts.clamp_min(1))
        self.num_placed += clusters

    def _set_codes(self, which: slice | torch.Tensor, codes: torch.Tensor, counts: torch.Tensor) -> None:
        """New codes with new statistics: a code without its counts and sums would be pulled back at once."""
        self.codebook.data[which] = codes
        self.counts[which] = counts
        if self.codebook_update == "ema":
            self.sums[which] = codes * counts[:, None]

    @torch.no_grad()
    def _standardize_codes(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        if self.distance == "cosine" or not torch.allclose(std, std[0]):
            raise CannotStandardizeError("only Euclidean codes can be moved, and scaled by one number.")
        mean, std = mean.to(self.codebook), std.to(self.codebook)
        self.codebook.copy_((self.codebook - mean) / std)
        if self.codebook_update == "ema":
            self.sums.copy_((self.sums - self.counts[:, None] * mean) / std)

    @torch.no_grad()
    def _follow(self, tokens: torch.Tensor, indices: torch.Tensor) -> None:
        """One step of the moving averages over the tokens of all processes, then the revival of dead codes."""
        counts, sums = count_and_sum(indices, tokens, self.codebook_size)
        self.counts.lerp_(sum_over_processes(counts), 1 - self.decay)
        if self.codebook_update == "ema":
            self.sums.lerp_(sum_over_processes(sums), 1 - self.decay)
            total = self.counts.sum()
            smoothed = (self.counts + self.epsilon) / (total + self.codebook_size * self.epsilon) * total
            self.codebook.data.copy_(self._on_sphere(self.sums / smoothed[:, None]))
        self.num_updates += 1
        if self.dead_code_threshold and int(self.num_placed) == self.codebook_size:
            self._revive(tokens)

    def _revive(self, tokens: torch.Tensor) -> None:
        share = self.counts.sum() / self.codebook_size
        dead = (self.counts < self.dead_code_threshold * share).nonzero()[:, 0]
        if not len(dead):  # the counts, and so this decision, are the same on all processes
            return
        rows = random_rows(len(tokens) * world_size(), len(dead), self.seed + int(self.num_updates), tokens.device)
        dead = dead[: len(rows)]
        self._set_codes(dead, rows_over_processes(tokens, rows), share.expand(len(dead)))
