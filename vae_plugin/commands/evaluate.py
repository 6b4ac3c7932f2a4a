"""Measure a model on images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset

from .. import metrics
from ..autoencoders import Adapter
from ..datasets import ImageDataset, draw, shared_batches
from ..datasets.survey import clipped
from ..datasets.trained_on import find_record, held_out_of
from ..errors import UserError
from ..files import json_text, write_json
from ..models.distributed import objects_over_processes, rank
from ..notices import say, some
from ..options import LARGEST_SEED, option, parse
from ..training.settings.data import circles_for
from .images import ImageSource
from .processes import first_before_others, processes

BATCH = 32  # images of all processes together


@dataclass
class EvaluateOptions(ImageSource):
    """Options of `vae-plugin evaluate`."""

    circles_hue: bool = option(False, "Use coloured circles (RGB) instead of gray ones.", when={"circles": (True,)})
    max_images: int = option(
        1000, "Largest number of images to measure on, drawn by the seed.", at_most=10**8, at_least=1
    )
    num_importance_samples: int = option(0, "Importance samples for the bound on log p(x); 0 skips it.", at_least=0)
    seed: int = option(
        1,
        "Seed of the posterior samples, the circles and what is drawn by --max_images.",
        at_most=LARGEST_SEED,
        at_least=0,
    )
    output_file: str | None = option(None, "Also write the metrics to this JSON file.", path=True)

    def facts(self) -> dict[str, bool]:
        """Facts that decide which options apply: whether the images are generated circles (the default)."""
        return {"circles": self.train_data_dir is None and self.dataset_name in (None, "circles")}


def run(argv: Sequence[str] | None, prog: str) -> metrics.Evaluation:
    """Parse the options, measure and print."""
    argv = sys.argv[1:] if argv is None else argv
    options = parse(EvaluateOptions, argv, prog=prog, description=__doc__)
    with processes("evaluate", argv) as device:
        adapter = first_before_others(options.open)
        channels, size = adapter.in_channels, options.resolution or adapter.natural_resolution
        adapter.check_image_size(size, size, f"--resolution {size}")
        reason = metrics.no_importance_weighted_bound(adapter)
        if options.num_importance_samples and reason is not None:
            raise UserError(f"{reason}: leave --num_importance_samples out.")
        images: Dataset
        if options.facts()["circles"]:
            images = circles_for(channels, options.max_images, size, seed=options.seed, hue=options.circles_hue)
        else:
            found = first_before_others(lambda: _images(options, adapter, size))
            images = draw(found, options.max_images, options.seed)
        adapter.model.to(device)
        own_unreadable: set[str] = set()
        own_clipped: set[str] = set()
        result = metrics.evaluate(
            adapter,
            shared_batches(images, BATCH, own_unreadable, together=BATCH, clipped=own_clipped),
            num_importance_samples=options.num_importance_samples,
            seed=options.seed,
            shared=True,
        )
        unreadable = set[str]().union(*objects_over_processes(own_unreadable))
        beyond = set[str]().union(*objects_over_processes(own_clipped))
        if rank() == 0:
            _report(options, result, unreadable)
            if beyond and (value_range := options.range_of(adapter)) is not None:
                say(clipped(beyond, value_range))
        return result


def _report(options: EvaluateOptions, result: metrics.Evaluation, unreadable: set[str]) -> None:
    print(json_text(result, "the metrics", indent=2))
    if unreadable:
        say(f"{len(unreadable)} file(s) could not be read as images and were left out: {some(unreadable)}")
    if options.output_file:
        write_json(Path(options.output_file), result)
        say(f"written to {options.output_file}.")


def _images(options: EvaluateOptions, adapter: Adapter, size: int) -> ImageDataset:
    """The images to measure on: where the model was trained on them, those that its run held out."""
    record, crop = find_record(options.pretrained_model_name_or_path), options.crop_or_that_of_training()
    if record is not None:
        found = held_out_of(options.load(adapter, size, crop, record.rules), record)
        if found is not None:
            images, sentence = found
            say(sentence)
            return images
    return options.load(adapter, size, crop)
