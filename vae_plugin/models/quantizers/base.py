"""Shapes, projections and precision shared by all quantisers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from ...arguments import Tensor, check
from ..affine import CannotStandardizeError, fold_into_input, fold_into_output

LATENTS, INDICES = Tensor(), Tensor(integer=True)
Losses = dict[str, torch.Tensor]


class Quantizer(nn.Module):
    """Base class of the quantisers: latents (B, dim, H, W) -> one code of dimension `code_dim` at each position.

    If `dim` and `code_dim` differ, the codes sit between two linear layers (factorised codes, Yu et al. 2022,
    "Vector-quantized Image Modeling with Improved VQGAN").

    All computation is in float32, even under autocast, and parameters and buffers stay float32 when the model is cast:
    bfloat16 would change one nearest code in ten and cannot count above 256.

    A subclass implements `quantize_vectors` and `lookup` and owns its codebook. Looking up codes goes through `forward`
    as well, because offloading moves a module's parameters when its `forward` is called.

    Attributes:
        codebook_size: number of codes K, per stage if there are several.
        codes_per_position: number of indices at each position; 1 except for residual quantisers.
    """

    codebook_size: int
    codes_per_position: int = 1

    def __init__(self, dim: int, code_dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.code_dim = code_dim
        self.project_in = nn.Linear(dim, code_dim) if code_dim != dim else nn.Identity()
        self.project_out = nn.Linear(code_dim, dim) if code_dim != dim else nn.Identity()

    @property
    def projects(self) -> bool:
        """Whether the codes sit between two linear layers."""
        return self.dim != self.code_dim

    @property
    def nats_per_position(self) -> float:
        """KL from the uniform prior over codes, in nats: log K per code (van den Oord et al. 2017, section 3.1)."""
        return self.codes_per_position * math.log(self.codebook_size)

    def forward(
        self, z: torch.Tensor | None = None, *, indices: torch.Tensor | None = None, update: bool | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, Losses] | torch.Tensor:
        """Quantise latents, or look up indices.

        Args:
            z: latents (B, dim, H, W).
            indices: indices to look up instead of quantising z; the result is that of `indices_to_codes`.
            update: let the batch update the codebook's statistics (moving averages, initialisation, revival). Defaults
                to the module's training mode.

        Returns:
            quantised: (B, dim, H, W) in the dtype of z, with the quantiser's gradient with respect to z.
            indices: (B, H, W) int64, or (B, H, W, codes_per_position) if there are several.
            losses: weighted scalars by name, whose sum is the quantiser's part of the training loss. Each is a mean
                over batch, positions and code dimensions, so it depends on neither batch size nor image size.

        Raises:
            ValueError: if z or the indices have the wrong shape, or an index is outside the codebook.
        """
        if indices is not None:
            if not torch.compiler.is_compiling():
                check({"indices": INDICES}, {"indices": indices})
            return self._codes(indices)
        if z is None:
            raise ValueError("got neither latents nor indices: give one of them.")
        if not torch.compiler.is_compiling():
            check({"latents": LATENTS}, {"latents": z})
        if z.ndim != 4 or z.shape[1] != self.dim:
            raise ValueError(f"got latents of shape {tuple(z.shape)}: expected (batch, {self.dim}, height, width).")
        batch, _, height, width = z.shape
        with torch.autocast(z.device.type, enabled=False):
            vectors = self.project_in(z.float().movedim(1, -1).reshape(-1, self.dim))
            codes, indices, losses = self.quantize_vectors(vectors, self.training if update is None else update)
            quantized = self.project_out(codes)
        quantized = quantized.unflatten(0, (batch, height, width)).movedim(-1, 1).contiguous()
        return quantized.to(z.dtype), indices.unflatten(0, (batch, height, width)), losses

    def indices_to_codes(self, indices: torch.Tensor) -> torch.Tensor:
        """Look up indices (B, H, W) or (B, H, W, codes_per_position): quantised latents (B, dim, H, W) in float32.

        Raises:
            ValueError: if the indices have the wrong shape or are outside the codebook.
        """
        return self(indices=indices)

    def _codes(self, indices: torch.Tensor) -> torch.Tensor:
        several = self.codes_per_position > 1
        if indices.ndim != 3 + several or (several and indices.shape[-1] != self.codes_per_position):
            shape = f"(batch, height, width{f', {self.codes_per_position}' if several else ''})"
            raise ValueError(f"got indices of shape {tuple(indices.shape)}: expected {shape}.")
        if not torch.compiler.is_compiling() and not indices.numel():
            raise ValueError(f"got indices of shape {tuple(indices.shape)}: no side of them may be 0.")
        if not torch.compiler.is_compiling() and ((indices < 0) | (indices >= self.codebook_size)).any():
            low, high = indices.min().item(), indices.max().item()
            raise ValueError(f"got indices from {low} to {high}: the codebook has 0 to {self.codebook_size - 1}.")
        with torch.autocast(indices.device.type, enabled=False):
            return self.project_out(self.lookup(indices)).movedim(-1, 1).contiguous()

    def standardize(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Change the codes so that (z - mean) / std is quantised as z was before.

        Args:
            mean: (dim,).
            std: (dim,). Without projections all channels must have the same value: scaling them differently would
                change which code is nearest.

        Raises:
            CannotStandardizeError: if the codes cannot be shifted or scaled like this.
        """
        if isinstance(self.project_in, nn.Linear) and isinstance(self.project_out, nn.Linear):
            fold_into_input(self.project_in, mean, std)
            fold_into_output(self.project_out, mean, std)
        else:
            self._standardize_codes(mean, std)

    def _standardize_codes(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        raise CannotStandardizeError(f"the codes of a {type(self).__name__} are fixed.")

    def quantize_vectors(self, vectors: torch.Tensor, update: bool) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        """Quantise vectors (N, code_dim): codes (N, code_dim), indices (N,) or (N, codes_per_position), and losses."""
        raise NotImplementedError

    def lookup(self, indices: torch.Tensor) -> torch.Tensor:
        """Codes (B, H, W, code_dim) of indices (B, H, W) or (B, H, W, codes_per_position)."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Quantizer:
        """Move tensors to another device but never cast them, see the class docstring."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)
