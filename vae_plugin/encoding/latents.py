"""The latents of a batch of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..autoencoders import Adapter
from ..datasets.latents import FLIP, Encoded
from ..errors import NotFiniteError
from ..metrics import RunningMoments
from .plan import Plan
from .reading import Found


@torch.no_grad()
def encode_batch(adapter: Adapter, found: Sequence[Found], plan: Plan, moments: RunningMoments) -> list[Encoded]:
    """Encode the images of a batch that could be read.

    Args:
        adapter: of the model.
        found: the batch, of one size.
        plan: of what is kept.
        moments: of the latents, without those of mirrored images.

    Raises:
        NotFiniteError: if a latent is NaN or infinite, as it is or in the dtype of the files.
    """
    encoded: list[Encoded] = []
    readable = [one for one in found if one.pixels is not None]
    if not readable:
        return []
    x = torch.stack([one.pixels for one in readable])  # type: ignore[misc]
    x = x.to(adapter.model.device, adapter.model.dtype)
    tensors, z = _tensors(adapter, x, [_generator(plan.seed, one.number) for one in readable], plan)
    moments.update(z.cpu())
    if plan.flips:
        generators = [_generator(plan.seed, one.number, 1) for one in readable]
        mirrored, _ = _tensors(adapter, x.flip(-1), generators, plan)
        tensors |= {name + FLIP: value for name, value in mirrored.items()}
    for i, one in enumerate(readable):
        own = {name: value[i] for name, value in tensors.items()}
        if not all(value.isfinite().all() for value in own.values()):
            raise NotFiniteError(f"the latents of {one.name} in {plan.dtype}")
        size = (x.shape[-1], x.shape[-2])
        encoded.append(Encoded(one.number, one.name, one.label, own, one.image_size, size))
    return encoded


def _tensors(
    adapter: Adapter, x: torch.Tensor, generators: list[torch.Generator], plan: Plan
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What is kept of images, on the CPU, and the latents that the statistics are of."""
    q = adapter.posterior(x)
    if plan.content == "indices":
        return {"indices": q.indices.to("cpu", torch.int32)}, q.mode()  # type: ignore[union-attr]
    z = adapter.sample_latents(x, generators) if adapter.discrete else q.sample(generators)
    if plan.scaled:
        z = adapter.pipeline_latents(z)
    dtype = getattr(torch, plan.dtype)
    if plan.content == "posterior":
        return {"mean": q.mean.to("cpu", dtype), "logvar": q.logvar.to("cpu", dtype)}, z  # type: ignore[union-attr]
    return {"latents": z.to("cpu", dtype)}, z


def _generator(*key: int) -> torch.Generator:
    """One for each image, so that neither batches nor processes change a sample."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
