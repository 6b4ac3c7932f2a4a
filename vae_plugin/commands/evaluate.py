"""Measure one model, or several on the same images."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from .. import metrics
from ..autoencoders import Adapter
from ..datasets import ImageDataset, draw, shared_batches
from ..datasets.framing import RESIZED
from ..datasets.survey import clipped
from ..datasets.trained_on import find_record, held_out_of
from ..errors import NotFiniteError, UserError
from ..files import json_text, write_json
from ..metrics.decoding import device_name
from ..metrics.precision import PRECISIONS
from ..metrics.reconstruction import MS_SSIM_SIDE
from ..metrics.throughput import throughput
from ..models.distributed import objects_over_processes, on_first_process, rank
from ..models.shares import Share
from ..notices import say, some
from ..options import LARGEST_SEED, option, parse
from ..training.buckets import image_sizes
from ..training.progress import Progress
from ..training.settings.data import circles_for
from ..version import library_versions
from .images import Images
from .latent_quality import LatentQuality, MeasuredLatents
from .looking import Looking
from .models import Models
from .networks import MeasuredMore
from .outputs import check_output_files
from .processes import first_before_others, processes
from .report import print_table
from .source import ModelSources

PICTURES = ("picture", "factor_picture")
WRITTEN = ("output_file", "page", *PICTURES)
NOT_MEASURING = {*WRITTEN, "json", "page_images", "push_to_space", "private", "pretrained_model_name_or_path"}


@dataclass
class EvaluateOptions(LatentQuality, Looking, Images, ModelSources):
    """Options of `vae-plugin evaluate`."""

    circles_hue: bool = option(False, "Use coloured circles (RGB) instead of gray ones.", when={"circles": (True,)})
    max_images: int = option(
        1000, "Largest number of images to measure on, drawn by the seed.", at_most=10**8, at_least=1
    )
    batch_size: int = option(
        32, "Number of images that are measured together, by all processes.", at_most=10**5, at_least=1
    )
    num_importance_samples: int = option(0, "Importance samples for the bound on log p(x); 0 skips it.", at_least=0)
    seed: int = option(
        1,
        "Seed of the posterior samples, the circles and what is drawn by --max_images.",
        at_most=LARGEST_SEED,
        at_least=0,
    )
    flat_colours: bool = option(
        True, "Measure what images of one colour get: a shift, grids of the compression ratio, borders."
    )
    drift_images: int = option(
        0,
        "Number of images, the first ones, that go round 1, 2 and 5 times for their drift; each is decoded four times "
        "more. 0 skips it.",
        at_least=0,
        at_most=10**8,
    )
    perceptual: tuple[str, ...] = option(
        (),
        "Perceptual distances too: lpips-vgg, lpips-alex, lpips-squeeze, or MODULE:FUNCTION of your own, as of "
        "finetune's --perceptual_loss.",
    )
    fid: str | None = option(
        None,
        "The Fréchet distance too: inception (rFID), or MODULE:FUNCTION of your own, which returns a torch module that "
        "maps images (B, C, H, W) in [-1, 1] to features (B, D).",
    )
    precisions: tuple[str, ...] = option(
        (), "Measure what the round trip loses in these precisions too.", choices=tuple(PRECISIONS)
    )
    throughput: bool = option(
        False, "Measure how many images are encoded and decoded per second, and the memory that takes, too."
    )
    output_file: str | None = option(
        None, "Also write all numbers, with their intervals and those of each channel, to this JSON file.", path=True
    )
    json: bool = option(False, "Print the numbers as JSON, as in the output file, instead of a table.")

    def facts(self) -> dict[str, bool]:
        """Facts that decide which options apply: whether the images are generated circles (the default)."""
        return {"circles": self.circles_by_default, "scores_factors": self.scores_factors}

    @property
    def phrases(self) -> dict[tuple[str, bool], str]:
        """How an error states these facts."""
        return {**super().phrases, ("scores_factors", True): "needs --factors or --factor_columns"}


def run(argv: Sequence[str] | None, prog: str) -> dict[str, Any]:
    """Parse the options, measure and print."""
    argv = sys.argv[1:] if argv is None else argv
    options = parse(EvaluateOptions, argv, prog=prog, description=__doc__)
    with processes("evaluate", argv) as device:
        options.check_space()
        check_output_files({name: getattr(options, name) for name in WRITTEN}, PICTURES)
        models = Models(options.places)
        size = options.resolution or models.natural_resolution
        models.check_image_size(size, size, f"--resolution {size}")
        _check_importance_samples(options, models)
        circles = options.facts()["circles"]
        crop = RESIZED if circles else options.crop_or_that_of_training(it.record() for it in models.places.values())
        sizes = image_sizes(models, crop, size)
        more = MeasuredMore(options.perceptual, options.fid, options.precisions, models.in_channels, sizes, device)
        images = MeasuredImages(_images(options, models, size, crop), options.batch_size)
        latents = MeasuredLatents(options, images.images, options.seed)
        evaluations: dict[str, metrics.Evaluation] = {}
        failures: dict[str, NotFiniteError] = {}
        for name in models.places:
            with models.opened(name) as adapter:
                adapter.model.to(device)
                try:
                    evaluations[name] = _measured(options, adapter, images, more, latents)
                    if options.throughput:
                        evaluations[name] |= on_first_process(lambda: throughput(adapter, size, size))
                except NotFiniteError as error:
                    if len(models.places) == 1:
                        raise
                    failures[name] = error
                    say(f"{name} is left out: {error}")
        if not evaluations:
            raise UserError("none of the models gives numbers: " + "; ".join(map(str, failures.values())))
        result = _result(options, evaluations, failures) | {"setting": _setting(options, images.images, size, device)}
        unreadable, beyond = images.left_out()
        options.look(models, images.images, evaluations, device)
        if rank() == 0:
            _report(options, result, unreadable, len(models.places) > 1)
            latents.report(evaluations)
            if beyond and (value_range := options.range_of(models)) is not None:
                say(clipped(beyond, value_range))
        return result


class MeasuredImages:
    """The images that every model is measured on, in batches that all processes go through together.

    Args:
        images: the data set.
        batch_size: images of all processes together.
    """

    def __init__(self, images: Dataset, batch_size: int) -> None:
        self.images, self.batch_size = images, batch_size
        self._unreadable: set[str] = set()
        self._clipped: set[str] = set()

    def batches(self) -> Iterator[Share]:
        """This process's share of each batch, while a bar shows how far all have come."""
        batch_size = self.batch_size
        shares = shared_batches(self.images, batch_size, self._unreadable, together=batch_size, clipped=self._clipped)
        total = len(self.images)  # type: ignore[arg-type]  # torch's declares none, but all of ours have one
        progress = Progress(total, visible=rank() == 0, unit="image", tells_end=False)
        try:
            for share in shares:
                yield share
                progress.step({}, share.total)
        finally:
            progress.close()

    def left_out(self) -> tuple[set[str], set[str]]:
        """The names of images that could not be read, and of those with values beyond the range, of all processes."""
        unreadable, beyond = zip(*objects_over_processes((self._unreadable, self._clipped)), strict=True)
        return set[str]().union(*unreadable), set[str]().union(*beyond)


def _check_importance_samples(options: EvaluateOptions, models: Models) -> None:
    """Refuse importance samples where no model has such a bound, and name the models that have none."""
    if not options.num_importance_samples:
        return
    reasons = {
        name: reason
        for name, shell in models.shells.items()
        if (reason := metrics.no_importance_weighted_bound(shell)) is not None
    }
    if len(reasons) == len(models.shells):
        raise UserError(f"{next(iter(reasons.values()))}: leave --num_importance_samples out.")
    for name, reason in reasons.items():
        say(f"{name} gets no importance-weighted bound: {reason}.")


def _measured(
    options: EvaluateOptions, adapter: Adapter, images: MeasuredImages, more: MeasuredMore, latents: MeasuredLatents
) -> metrics.Evaluation:
    """What is measured of one model."""
    measures = more.measures()
    if options.flat_colours:
        measures.append(metrics.FlatColourCheck())
    if options.drift_images:
        measures.append(metrics.Drift(count=options.drift_images))
    measures += latents.measures(adapter)
    has_bound = metrics.no_importance_weighted_bound(adapter) is None
    return metrics.evaluate(
        adapter,
        images.batches(),
        num_importance_samples=options.num_importance_samples if has_bound else 0,
        seed=options.seed,
        compare=more.compare,
        measures=measures,
        shared=True,
    )


def _result(
    options: EvaluateOptions, evaluations: dict[str, metrics.Evaluation], failures: dict[str, NotFiniteError]
) -> dict[str, Any]:
    """The content of the JSON file: of one model its metrics, of several each one's and what is between them."""
    each: dict[str, dict[str, Any]] = {
        name: {**evaluation, "ci95": evaluation.half_widths(), "per_channel": evaluation.per_channel}
        for name, evaluation in evaluations.items()
    }
    if len(each) + len(failures) == 1:
        return next(iter(each.values()))
    names = options.places
    models = {name: each.get(name, {"error": str(failures.get(name))}) for name in names}
    return {"models": models, "paired": metrics.paired_differences(evaluations, options.seed)}


def _setting(options: EvaluateOptions, images: Dataset, size: int, device: torch.device) -> dict[str, Any]:
    """How the numbers came about, for whoever wants to repeat them."""
    setting = {
        "date": datetime.date.today().isoformat(),
        "models": [vars(place) for place in options.places.values()],
        "images": options.train_data_dir or options.dataset_name or "circles",
        "split": options.split,
        "resolution": size,
        "max_images": options.max_images,
        "seed": options.seed,
        "perceptual": options.perceptual,
        "fid": options.fid,
        "options": _given(options),
        "device": device_name(device),
        "versions": library_versions(),
    }
    framing = getattr(getattr(images, "dataset", images), "framing", None)
    return setting if framing is None else {**setting, "framing": asdict(framing)}


def _given(options: EvaluateOptions) -> dict[str, Any]:
    """The options that are not the defaults, without the models and where the result goes."""
    values = {field.name: (getattr(options, field.name), field.default) for field in fields(options)}
    return {name: value for name, (value, usual) in values.items() if value != usual and name not in NOT_MEASURING}


def _report(options: EvaluateOptions, result: dict[str, Any], unreadable: set[str], several: bool) -> None:
    if options.json:
        print(json_text(result, "the metrics", indent=2))
    else:
        models = result["models"] if several else {next(iter(options.places)): result}
        count = max(values.get("num_images", 0) for values in models.values())
        caption = (
            f"{count:,} image(s), {result['setting']['resolution']} pixels. ± is half of a 95 % interval of the mean"
        )
        beside = f"; in brackets the difference from {next(iter(models))} on the same images" if several else ""
        small = all("ms_ssim" not in values for values in models.values())
        absent = f" MS-SSIM needs images of {MS_SSIM_SIDE} pixels a side." if small else ""
        print_table(models, result.get("paired", {}), f"{caption}{beside}.{absent}")
    if unreadable:
        say(f"{len(unreadable)} file(s) could not be read as images and were left out: {some(unreadable)}")
    if options.output_file:
        write_json(Path(options.output_file), result)
        say(f"written to {options.output_file}.")


def _images(options: EvaluateOptions, models: Models, size: int, crop: str) -> Dataset:
    """The images to measure on, see `_held_out`, at most `--max_images` of them."""
    if options.facts()["circles"]:
        return circles_for(models.in_channels, options.max_images, size, seed=options.seed, hue=options.circles_hue)
    return draw(first_before_others(lambda: _held_out(options, models, size, crop)), options.max_images, options.seed)


def _held_out(options: EvaluateOptions, models: Models, size: int, crop: str) -> ImageDataset:
    """The images to measure on: where models were trained on them, those that their runs all held out."""
    places = models.places.values()
    records = [record for place in places if (record := find_record(place.source)) is not None]
    if not records:
        return options.load(models, size, crop)
    images = options.load(models, size, crop, records[0].rules)
    for record in records:
        found = held_out_of(images, record)
        if found is not None:
            images, sentence = found
            say(sentence)
        if not len(images):
            raise UserError("no image is left that none of the models was trained on: give other images.")
    return images
