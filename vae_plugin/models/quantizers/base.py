"""What all quantisers have in common: shapes, projections and precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from ..affine import CannotStandardizeError, fold_into_input, fold_into_output

Losses = dict[str, torch.Tensor]


class Quantizer(nn.Module):
    """Base of the quantisers: latents (B, dim, H, W) -> one code of `code_dim` numbers at every place.

    Where `dim` and `code_dim` differ, a linear layer stands before the codes and one after them (factorised codes, Yu
    et al. 2022, "Vector-quantized Image Modeling with Improved VQGAN").

    Everything is computed in float32, under autocast too, and the parameters and buffers stay float32 when the model is
    cast: in bfloat16 one nearest code in ten is another one, and indices above 256 cannot be counted.

    A subclass gives `quantize_vectors` and `lookup`, and owns its codebook: offloading moves the parameters of a module
    when its `forward` is called, which is why looking up codes goes through `forward` too.

    Attributes:
        codebook_size: number of codes K, of every stage if there are several.
        codes_per_position: indices at every place, 1 but for residual quantisers.
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
        """Whether linear layers stand around the codes."""
        return self.dim != self.code_dim

    @property
    def nats_per_position(self) -> float:
        """KL of a code from the uniform prior over codes: log K (van den Oord et al. 2017, section 3.1)."""
        return self.codes_per_position * math.log(self.codebook_size)

    def forward(
        self, z: torch.Tensor | None = None, *, indices: torch.Tensor | None = None, update: bool | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, Losses] | torch.Tensor:
        """Quantise latents.

        Args:
            z: (B, dim, H, W).
            indices: instead of z, what `indices_to_codes` takes; the result is then what it gives.
            update: let the batch change the codebook's statistics (moving averages, initialisation, revival). Default:
                in training mode.

        Returns:
            quantised: (B, dim, H, W) in z's dtype, with the quantiser's gradient with respect to z;
            indices: (B, H, W) int64, or (B, H, W, codes_per_position) if there are several;
            losses: scalars by name, each with its weight: their sum is the quantiser's part of the training loss.
                Every one is a mean over batch, places and dimensions of the code, so that it does not depend on the
                batch's size or the image's.

        Raises:
            ValueError: for a z of another shape.
        """
        if indices is not None:
            return self._codes(indices)
        if z is None:
            raise ValueError("got neither latents nor indices: give one of them.")
        if z.ndim != 4 or z.shape[1] != self.dim:
            raise ValueError(f"got latents of shape {tuple(z.shape)}: expected (batch, {self.dim}, height, width).")
        batch, _, height, width = z.shape
        with torch.autocast(z.device.type, enabled=False):
            tokens = self.project_in(z.float().movedim(1, -1).reshape(-1, self.dim))
            codes, indices, losses = self.quantize_vectors(tokens, self.training if update is None else update)
            quantized = self.project_out(codes)
        quantized = quantized.unflatten(0, (batch, height, width)).movedim(-1, 1).contiguous()
        return quantized.to(z.dtype), indices.unflatten(0, (batch, height, width)), losses

    def indices_to_codes(self, indices: torch.Tensor) -> torch.Tensor:
        """The quantised latents (B, dim, H, W), float32, of indices (B, H, W) or (B, H, W, codes_per_position).

        Raises:
            ValueError: for indices of another shape or outside the codebook.
        """
        return self(indices=indices)

    def _codes(self, indices: torch.Tensor) -> torch.Tensor:
        several = self.codes_per_position > 1
        if indices.ndim != 3 + several or (several and indices.shape[-1] != self.codes_per_position):
            shape = f"(batch, height, width{f', {self.codes_per_position}' if several else ''})"
            raise ValueError(f"got indices of shape {tuple(indices.shape)}: expected {shape}.")
        if not torch.compiler.is_compiling() and ((indices < 0) | (indices >= self.codebook_size)).any():
            low, high = indices.min().item(), indices.max().item()
            raise ValueError(f"got indices from {low} to {high}: the codebook has 0 to {self.codebook_size - 1}.")
        with torch.autocast(indices.device.type, enabled=False):
            return self.project_out(self.lookup(indices)).movedim(-1, 1).contiguous()

    def standardize(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Quantise (z - mean) / std from now on as z was quantised before.

        Args:
            mean: (dim,).
            std: (dim,); without projections the same number for all, as another metric would choose other codes.

        Raises:
            CannotStandardizeError: if these codes cannot be moved or scaled.
        """
        if isinstance(self.project_in, nn.Linear) and isinstance(self.project_out, nn.Linear):
            fold_into_input(self.project_in, mean, std)
            fold_into_output(self.project_out, mean, std)
        else:
            self._standardize_codes(mean, std)

    def _standardize_codes(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        raise CannotStandardizeError(f"the codes of a {type(self).__name__} cannot be moved.")

    def quantize_vectors(self, tokens: torch.Tensor, update: bool) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        """Codes (N, code_dim), indices (N,) or (N, codes_per_position), and losses of tokens (N, code_dim)."""
        raise NotImplementedError

    def lookup(self, indices: torch.Tensor) -> torch.Tensor:
        """Codes (B, H, W, code_dim) of indices."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Quantizer:
        """Move, but never cast: see the class."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)
