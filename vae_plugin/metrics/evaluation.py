"""The numbers of metrics.json: what is measured of a model over a set of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin

from ..arguments import Instance, check
from ..autoencoders import Adapter, adapt, evaluation_mode
from ..errors import NotFiniteError, UserError
from ..models.distributed import objects_over_processes
from ..models.exact import exact
from ..models.posteriors import DiagonalGaussian
from ..models.shares import Share, as_share
from ..objectives import bits_per_dim, bits_per_dim_bound, elbo, importance_weighted_bound
from .clips import CLIPS, ClipMeasure
from .interval import half_width_95
from .measures import ActiveUnits, Codes, Measure, Seen
from .reconstruction import l1, mse, psnr, ssim
from .value_range import RangeCheck

BATCHES = Instance((Iterable,), "batches of images, such as a list of tensors (B, C, H, W)")
Compare = Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]


class Evaluation(dict[str, float]):
    """Metrics by name, as metrics.json has them.

    Attributes:
        per_image: the values of each image, in order, by the names of the metrics that are means over images; of
            "clip_psnr" those of the first images.
        numbers: of the images in their data set, in the same order.
        per_channel: what a measure gives for each latent channel, by name.
    """

    def __init__(
        self,
        metrics: dict[str, float],
        per_image: dict[str, list[float]],
        numbers: Sequence[int] | None = None,
        per_channel: dict[str, list[float]] | None = None,
    ) -> None:
        super().__init__(metrics)
        self.per_image = per_image
        self.numbers = list(range(len(per_image["psnr"])) if numbers is None else numbers)
        self.per_channel = per_channel or {}

    def half_widths(self) -> dict[str, float]:
        """Half the width of the 95 % confidence interval of each mean over two or more images, see `half_width_95`.

        It is what other images of the same kind would change. A value that all images share has no interval.
        """
        values = {name: torch.tensor(each, dtype=torch.float64) for name, each in self.per_image.items()}
        return {name: half_width_95(each) for name, each in values.items() if len(each) > 1 and (each != each[0]).any()}


@torch.no_grad()
def evaluate(
    model: Adapter | ModelMixin,
    batches: Iterable[torch.Tensor | Share],
    *,
    num_importance_samples: int = 0,
    seed: int = 0,
    reconstruct: Callable[[torch.Tensor], torch.Tensor] | None = None,
    compare: Compare | None = None,
    measures: Sequence[Measure] = (),
    shared: bool = False,
    clips: int = CLIPS,
) -> Evaluation:
    """Measure reconstruction, likelihood and latents over a set of images; each metric is the mean over images.

    No image, latent or index is kept: any number of images takes the memory of a batch, and a few numbers for each.

    Args:
        model: any image autoencoder, or its adapter; in evaluation mode for the time of the call.
        batches: images (B, C, H, W) in [-1, 1].
        num_importance_samples: K of the importance-weighted bound; 0 leaves it out.
        seed: of the samples of q(z|x).
        reconstruct: images -> what they are compared with. Default: the decoded mode of q(z|x).
        compare: what else to measure: (images, reconstructions) -> values (B,) by name.
        measures: what else to measure of the whole set, such as `FrechetDistance`; numbers become metrics, lists
            `per_channel`.
        shared: whether all processes call this, each with its own `Share` of the same batches; every one of them gets
            the result, which is that of one process.
        clips: how many images short clips are made of, the first ones, for a model of videos; 0 leaves them out.

    Returns:
        "psnr" (dB) and "ssim" of the reconstruction after rounding to 8 bits, "mse" and "l1" likewise for the range
        [-1, 1], and what `compare` returns; "psnr_std", "psnr_worst", "psnr_median" and "psnr_best" over the images;
        "num_images". Of a model with a likelihood "elbo_nats" and "kl_nats" per image by one sample of z, and of that
        ELBO "bits_per_dim", or "bits_per_dim_bound" where the likelihood is a density (version 0.1 called another
        number of it "bits_per_dim"); of others with a Gaussian posterior "kl_nats". With a Gaussian posterior
        "active_units" (Burda et al. 2016; of two or more images, all of one size) and, with a likelihood and where
        asked for, "log_likelihood_nats" with "num_importance_samples" and, of two or more images,
        "log_likelihood_nats_se", the standard error of that mean. Of a codebook what `CodebookUsage.result` returns.
        Of a class of videos "clip_psnr" (dB), of the frames after the first in short clips made of some of the images,
        through the whole model: see `ClipMeasure`.

    Raises:
        ValueError: if there is no image, or the importance-weighted bound is asked for of a model that has none.
        UserError: if the images are not in [-1, 1], or `compare` does not give a value for each of them.
        NotFiniteError: if a reconstruction or a measure is NaN or infinite.
    """
    adapter = adapt(model)
    if num_importance_samples and (reason := no_importance_weighted_bound(adapter)) is not None:
        raise ValueError(f"{reason}: leave num_importance_samples out.")
    check({"batches": BATCHES}, {"batches": batches})
    measured, clip_measure, value_range = Measured(), ClipMeasure(adapter, clips), RangeCheck()
    all_measures = [*_measures_of(adapter), *measures]
    generator = torch.Generator().manual_seed(seed)
    with evaluation_mode(adapter.model):
        for batch in batches:
            share = as_share(batch, measured.num_images)
            value_range.update(share.images)
            batch_measured, seen = _measure(adapter, share, generator, num_importance_samples, reconstruct, compare)
            batch_measured.clips = clip_measure(share.images, share.numbers)
            measured.add(batch_measured)
            if seen is not None:
                for measure in all_measures:
                    measure.update(seen)
    if shared:
        measured = Measured.together(objects_over_processes(measured))
        value_range.all_reduce()
        for measure in all_measures:
            measure.all_reduce()
    value_range.finish()
    result = measured.result([name_value for measure in all_measures for name_value in measure.result().items()])
    if num_importance_samples:
        result["num_importance_samples"] = num_importance_samples
    return result


def _measures_of(adapter: Adapter) -> list[Measure]:
    """What is always measured of a set."""
    if adapter.discrete:
        return [Codes(adapter.model.codebook_size)]
    return [ActiveUnits()] if adapter.gaussian else []


@dataclass
class Batch:
    """What is measured of the images of one process in a batch.

    Attributes:
        numbers: of the images in their data set.
        values: (B,) float64 by name of the metric; "finite", whether the reconstruction is.
        clips: of some of the images, see `ClipMeasure`.
    """

    numbers: tuple[int, ...]
    values: dict[str, torch.Tensor]
    clips: torch.Tensor = field(default_factory=lambda: torch.zeros(0))


def _measure(
    adapter: Adapter,
    share: Share,
    generator: torch.Generator,
    num_importance_samples: int,
    reconstruct: Callable[[torch.Tensor], torch.Tensor] | None,
    compare: Compare | None,
) -> tuple[Batch, Seen | None]:
    """What is measured of each image, and what the measures of the set see of those that count."""
    network, noise = adapter.model, share.noise(generator)
    x = share.images.to(network.device, network.dtype)
    reconstruction = (reconstruct or adapter.reconstruct)(x)
    values = {measure.__name__: measure(reconstruction, x) for measure in (psnr, ssim, mse, l1)}
    if compare is not None:
        compared = compare(x, reconstruction)
        for name, value in compared.items():
            if value.shape != (len(x),):
                shape = tuple(value.shape)
                raise UserError(
                    f"{name} gives values of shape {shape} for {len(x)} image(s): it must give one for each."
                )
        values |= compared
    q: Any = adapter.posterior(x)
    if adapter.likelihood is not None:
        terms = elbo(network, x, noise, q)
        values |= {"elbo_nats": terms.value, "kl_nats": terms.kl}
        if adapter.likelihood.is_density:
            values["bits_per_dim_bound"] = bits_per_dim_bound(terms.value, x.shape[1:])
        else:
            values["bits_per_dim"] = bits_per_dim(terms.value, x.shape[1:])
    if num_importance_samples:
        values["log_likelihood_nats"] = importance_weighted_bound(
            network, x, num_importance_samples, noise, posterior=q
        )
    if isinstance(q, DiagonalGaussian):
        values.setdefault("kl_nats", q.kl())
    values["finite"] = reconstruction.isfinite().flatten(1).all(1)
    count = len(share.numbers)  # what has no number does not count
    batch = Batch(share.numbers, {name: exact(value[:count]) for name, value in values.items()})
    if not count or not values["finite"][:count].all():
        return batch, None
    whole = count == len(x)
    posterior = q if whole else adapter.posterior(x[:count])
    return batch, Seen(adapter, x[:count], reconstruction[:count], posterior, share.numbers)


class Measured:
    """What was measured of batches, in order."""

    def __init__(self, batches: Iterable[Batch] = ()) -> None:
        self.batches = list(batches)
        self.num_images = sum(len(batch.numbers) for batch in self.batches)

    def add(self, batch: Batch) -> None:
        """Take the next batch."""
        self.batches.append(batch)
        self.num_images += len(batch.numbers)

    @classmethod
    def together(cls, processes: Sequence[Measured]) -> Measured:
        """What all processes have measured, in the order of the images."""
        rounds = zip_longest(*(one.batches for one in processes))
        return cls(batch for one_round in rounds for batch in one_round if batch is not None)

    def result(self, of_the_set: Iterable[tuple[str, Any]]) -> Evaluation:
        """The metrics over all images, see `evaluate`, and those that measures of the set have given."""
        if not self.num_images:
            raise ValueError("there is no image to evaluate on.")
        values = {name: torch.cat([b.values[name] for b in self.batches]) for name in self.batches[0].values}
        _require_finite(values)
        metrics: dict[str, float] = {name: value.mean().item() for name, value in values.items()}
        metrics |= spread(values["psnr"])
        if "log_likelihood_nats" in values and self.num_images > 1:
            error = values["log_likelihood_nats"].std().item() / self.num_images**0.5
            metrics["log_likelihood_nats_se"] = error
        clips = torch.cat([b.clips for b in self.batches])
        if len(clips):
            if not clips.isfinite().all():
                raise NotFiniteError(f"the reconstruction of {int((~clips.isfinite()).sum())} of {len(clips)} clips")
            metrics["clip_psnr"] = clips.mean().item()
            values["clip_psnr"] = clips
        per_channel = {}
        for name, value in of_the_set:
            if isinstance(value, list):
                per_channel[name] = value
            else:
                metrics[name] = value
        metrics["num_images"] = self.num_images
        numbers = [number for batch in self.batches for number in batch.numbers]
        return Evaluation(metrics, {name: value.tolist() for name, value in values.items()}, numbers, per_channel)


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
