"""The numbers of metrics.json: what is measured of a model over a set of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import torch
from diffusers.models.modeling_utils import ModelMixin

from ..arguments import Instance, check
from ..autoencoders import Adapter, adapt, evaluation_mode
from ..errors import NotFiniteError
from ..models.distributed import objects_over_processes
from ..models.exact import exact
from ..models.posteriors import DiagonalGaussian
from ..models.shares import Share, as_share
from ..models.vqvae import CodePosterior
from ..objectives import bits_per_dim, bits_per_dim_bound, elbo, importance_weighted_bound
from .clips import CLIPS, ClipMeasure
from .codebook import CodebookUsage
from .latent import active_units
from .reconstruction import psnr, ssim

BATCHES = Instance((Iterable,), "batches of images, such as a list of tensors (B, C, H, W)")


class Evaluation(dict[str, float]):
    """Metrics by name, as metrics.json has them.

    Attributes:
        per_image: the values of each image, in order, by the names of the metrics that are means over images; of
            "clip_psnr" those of the first images.
        numbers: of the images in their data set, in the same order.
    """

    def __init__(
        self, metrics: dict[str, float], per_image: dict[str, list[float]], numbers: Sequence[int] | None = None
    ) -> None:
        super().__init__(metrics)
        self.per_image = per_image
        self.numbers = list(range(len(per_image["psnr"])) if numbers is None else numbers)


@torch.no_grad()
def evaluate(
    model: Adapter | ModelMixin,
    batches: Iterable[torch.Tensor | Share],
    *,
    num_importance_samples: int = 0,
    seed: int = 0,
    reconstruct: Callable[[torch.Tensor], torch.Tensor] | None = None,
    compare: Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]] | None = None,
    shared: bool = False,
    clips: int = CLIPS,
) -> Evaluation:
    """Measure reconstruction, likelihood and latents over a set of images; each metric is the mean over images.

    Args:
        model: any image autoencoder, or its adapter; in evaluation mode for the time of the call.
        batches: images (B, C, H, W) in [-1, 1].
        num_importance_samples: K of the importance-weighted bound; 0 leaves it out.
        seed: of the samples of q(z|x).
        reconstruct: images -> what they are compared with. Default: the decoded mode of q(z|x).
        compare: what else to measure: (images, reconstructions) -> values (B,) by name.
        shared: whether all processes call this, each with its own `Share` of the same batches; every one of them gets
            the result, which is that of one process.
        clips: how many images short clips are made of, the first ones, for a model of videos; 0 leaves them out.

    Returns:
        "psnr" (dB) and "ssim" of the reconstruction after rounding to 8 bits, and what `compare` returns; "psnr_std",
        "psnr_worst", "psnr_median" and "psnr_best" over the images; "num_images". Of a model with a likelihood
        "elbo_nats" and "kl_nats" per image by one sample of z, and of that ELBO "bits_per_dim", or "bits_per_dim_bound"
        where the likelihood is a density (version 0.1 called another number of it "bits_per_dim"); of others with a
        Gaussian posterior "kl_nats". With a Gaussian posterior "active_units" (Burda et al. 2016; of two or more
        images, all of one size) and, with a likelihood and where asked for, "log_likelihood_nats" with
        "num_importance_samples". Of a codebook what `CodebookUsage.result` returns. Of a class of videos "clip_psnr"
        (dB), of the frames after the first in short clips made of some of the images, through the whole model: see
        `ClipMeasure`.

    Raises:
        ValueError: if there is no image, or the importance-weighted bound is asked for of a model that has none.
        NotFiniteError: if a reconstruction or a measure is NaN or infinite.
    """
    adapter = adapt(model)
    if num_importance_samples and (reason := no_importance_weighted_bound(adapter)) is not None:
        raise ValueError(f"{reason}: leave num_importance_samples out.")
    check({"batches": BATCHES}, {"batches": batches})
    measured, clip_measure = Measured(), ClipMeasure(adapter, clips)
    generator = torch.Generator().manual_seed(seed)
    with evaluation_mode(adapter.model):
        for batch in batches:
            share = as_share(batch, measured.num_images)
            batch_measured = _measure(adapter, share, generator, num_importance_samples, reconstruct, compare)
            batch_measured.clips = clip_measure(share.images, share.numbers)
            measured.add(batch_measured)
    if shared:
        measured = Measured.together(objects_over_processes(measured))
    usage = CodebookUsage(adapter.model.codebook_size) if adapter.discrete else None
    result = measured.result(usage)
    if num_importance_samples:
        result["num_importance_samples"] = num_importance_samples
    return result


@dataclass
class Batch:
    """What is measured of the images of one process in a batch.

    Attributes:
        numbers: of the images in their data set.
        values: (B,) float64 by name of the metric; "finite", whether the reconstruction is.
        means: of a Gaussian posterior, (B, ...).
        indices: of a codebook, (B, ...).
        clips: of some of the images, see `ClipMeasure`.
    """

    numbers: tuple[int, ...]
    values: dict[str, torch.Tensor]
    means: torch.Tensor | None = None
    indices: torch.Tensor | None = None
    clips: torch.Tensor = field(default_factory=lambda: torch.zeros(0))


def _measure(
    adapter: Adapter,
    share: Share,
    generator: torch.Generator,
    num_importance_samples: int,
    reconstruct: Callable[[torch.Tensor], torch.Tensor] | None,
    compare: Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]] | None,
) -> Batch:
    network, noise = adapter.model, share.noise(generator)
    x = share.images.to(network.device, network.dtype)
    reconstruction = (reconstruct or adapter.reconstruct)(x)
    values = {"psnr": psnr(reconstruction, x), "ssim": ssim(reconstruction, x)}
    if compare is not None:
        values |= compare(x, reconstruction)
    if adapter.likelihood is not None:
        terms = elbo(network, x, noise)
        values |= {"elbo_nats": terms.value, "kl_nats": terms.kl}
        if adapter.likelihood.is_density:
            values["bits_per_dim_bound"] = bits_per_dim_bound(terms.value, x.shape[1:])
        else:
            values["bits_per_dim"] = bits_per_dim(terms.value, x.shape[1:])
    q = adapter.posterior(x)
    if num_importance_samples:
        values["log_likelihood_nats"] = importance_weighted_bound(network, x, num_importance_samples, noise)
    if isinstance(q, DiagonalGaussian):
        values.setdefault("kl_nats", q.kl())
    values["finite"] = reconstruction.isfinite().flatten(1).all(1)
    count = len(share.numbers)  # what has no number does not count
    return Batch(
        share.numbers,
        {name: exact(value[:count]) for name, value in values.items()},
        q.mean[:count].cpu() if isinstance(q, DiagonalGaussian) else None,
        q.indices[:count].cpu() if isinstance(q, CodePosterior) else None,
    )


class Measured:
    """What was measured of batches, in order."""

    def __init__(self, batches: Iterable[Batch] = ()) -> None:
        self.batches = list(batches)

    @property
    def num_images(self) -> int:
        """Images so far."""
        return sum(len(batch.numbers) for batch in self.batches)

    def add(self, batch: Batch) -> None:
        """Take the next batch."""
        self.batches.append(batch)

    @classmethod
    def together(cls, processes: Sequence[Measured]) -> Measured:
        """What all processes have measured, in the order of the images."""
        rounds = zip_longest(*(one.batches for one in processes))
        return cls(batch for one_round in rounds for batch in one_round if batch is not None)

    def result(self, usage: CodebookUsage | None) -> Evaluation:
        """The metrics over all images, see `evaluate`; `usage` counts the indices of a codebook."""
        if not self.num_images:
            raise ValueError("there is no image to evaluate on.")
        values = {name: torch.cat([b.values[name] for b in self.batches]) for name in self.batches[0].values}
        _require_finite(values)
        metrics: dict[str, float] = {name: value.mean().item() for name, value in values.items()}
        metrics |= spread(values["psnr"])
        clips = torch.cat([b.clips for b in self.batches])
        if len(clips):
            if not clips.isfinite().all():
                raise NotFiniteError(f"the reconstruction of {int((~clips.isfinite()).sum())} of {len(clips)} clips")
            metrics["clip_psnr"] = clips.mean().item()
            values["clip_psnr"] = clips
        means = [b.means for b in self.batches if b.means is not None]
        of_one_size = len({each.shape[1:] for each in means}) == 1
        if usage is not None:
            for batch in self.batches:
                assert batch.indices is not None
                usage.update(batch.indices)
            metrics |= usage.result()
        elif of_one_size and sum(map(len, means)) > 1:  # a variance over images takes two of them
            metrics["active_units"] = active_units(torch.cat(means))
        metrics["num_images"] = self.num_images
        numbers = [number for batch in self.batches for number in batch.numbers]
        return Evaluation(metrics, {name: value.tolist() for name, value in values.items()}, numbers)


def _require_finite(values: dict[str, torch.Tensor]) -> None:
    """Remove "finite" from the values of all images, and refuse what is not.

    Raises:
        NotFiniteError: naming the measure, and how many images it fails on.
    """
    finite = values.pop("finite").bool()
    for name, ok in {"reconstruction": finite, **{name: value.isfinite() for name, value in values.items()}}.items():
        if not ok.all():
            raise NotFiniteError(f"the {name} of {int((~ok).sum())} of {len(ok)} images")


def no_importance_weighted_bound(adapter: Adapter) -> str | None:
    """Why a model has no importance-weighted bound; None if it has one."""
    if adapter.likelihood is None:
        return f"{adapter.class_name} has no likelihood"
    return None if adapter.gaussian else "the posterior of a VQ-VAE is certain, so that its ELBO is its bound"


def spread(psnr: torch.Tensor) -> dict[str, float]:
    """The spread of the PSNR (N,) over images, in dB: standard deviation (of two or more), worst, median and best."""
    result = {"psnr_worst": psnr.min().item(), "psnr_median": psnr.quantile(0.5).item(), "psnr_best": psnr.max().item()}
    return {"psnr_std": psnr.std().item(), **result} if len(psnr) > 1 else result
