"""What the round trip of images loses where a model computes in half precision."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ..autoencoders import Adapter
from ..errors import is_out_of_memory
from ..models.distributed import objects_over_processes
from ..models.exact import exact
from ..notices import say
from .measures import Seen
from .reconstruction import psnr

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16}


class LowPrecision:
    """A `Measure`: the PSNR between the reconstruction in low precision and that of the model as it is.

    All weights and activations are converted, as `from_pretrained(..., torch_dtype=...)` does, in a copy. An image that
    overflows is counted, and left out of the mean.

    Args:
        precision: one of `PRECISIONS`.
    """

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self._copy: Adapter | None = None
        self._sum, self._worst, self._count, self._broken = 0.0, float("inf"), 0, 0
        self._refusal: str | None = None

    @torch.no_grad()
    def update(self, seen: Seen) -> None:
        """Send a batch round."""
        if self._refusal is not None:
            return
        dtype = PRECISIONS[self.precision]
        if self._copy is None:
            self._copy = copy.deepcopy(seen.adapter)
            nn.Module.to(self._copy.model, dtype)
            self._copy.model.eval()
        try:
            back = self._copy.reconstruct(seen.images.to(dtype)).float()
        except RuntimeError as error:  # an operation that this device has not in this precision
            if is_out_of_memory(error):
                raise
            self._refusal = " ".join(str(error).split()).rstrip(".")[:200]
            return
        finite = back.isfinite().flatten(1).all(1)
        self._broken += int((~finite).sum())
        if finite.any():
            values = exact(psnr(back[finite], seen.reconstructions[finite]))
            self._sum, self._count = self._sum + values.sum().item(), self._count + len(values)
            self._worst = min(self._worst, values.min().item())

    def all_reduce(self) -> None:
        """Add what all processes have seen."""
        state = (self._sum, self._worst, self._count, self._broken, self._refusal)
        sums, worst, counts, broken, refusals = zip(*objects_over_processes(state), strict=True)
        self._sum, self._worst, self._count, self._broken = sum(sums), min(worst), sum(counts), sum(broken)
        self._refusal = next((refusal for refusal in refusals if refusal is not None), None)

    def result(self) -> dict[str, Any]:
        """With the name of the precision before them: "..._psnr" (dB), "..._psnr_worst", "..._not_finite" (images)."""
        self._copy = None
        if self._refusal is not None:
            say(f"{self.precision} is absent, as the model does not run in it here: {self._refusal}.")
            return {}
        if self._broken:
            say(
                f"in {self.precision} the reconstruction of {self._broken} of {self._broken + self._count} images is "
                "NaN or infinite: use bf16 or fp32, or keep the model that overflows in fp32 (force_upcast)."
            )
        values: dict[str, Any] = {"psnr": self._sum / self._count, "psnr_worst": self._worst} if self._count else {}
        return {f"{self.precision}_{name}": value for name, value in {**values, "not_finite": self._broken}.items()}
