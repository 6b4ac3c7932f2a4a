"""`vae-plugin evaluate`: measure a model on images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Subset

from .. import metrics
from ..autoencoders import load_autoencoder
from ..datasets import Circles, image_batches, load_images
from ..errors import UserError
from ..files import write_json
from ..options import option, parse


@dataclass
class EvaluateOptions:
    """Options of `vae-plugin evaluate`."""

    pretrained_model_name_or_path: str | None = option(None, "The model: a folder or a Hub id.")
    subfolder: str | None = option(None, "Folder of the model inside that repository, e.g. vae.")
    revision: str | None = option(None, "Branch, tag or commit of that repository.")
    dataset_name: str | None = option(None, "'circles' (generated, the default) or a data set on the Hub.")
    data_dir: str | None = option(None, "Folder of images or of parquet shards, or one parquet file.")
    split: str = option("train", "Split of the data set.")
    image_column: str | None = option(None, "Column of the images. Default: the only one there is.")
    resolution: int | None = option(
        None, "Side of the centre crop in pixels. Default: sample_size of ours, 256 of others."
    )
    circles_hue: bool = option(False, "Coloured circles (RGB) instead of gray ones.")
    max_images: int = option(1000, "Measure on no more images than these.")
    num_importance_samples: int = option(0, "Samples of the bound on log p(x); 0 leaves it out.")
    seed: int = option(1, "Of the samples, and of the circles.")
    output_file: str | None = option(None, "Write the metrics there as JSON; they are printed anyway.")

    def __post_init__(self) -> None:
        if not self.pretrained_model_name_or_path:
            raise UserError("no model given: add --pretrained_model_name_or_path with a folder or a Hub id.")
        if self.dataset_name is not None and self.data_dir is not None:
            raise UserError("--dataset_name and --data_dir are both given: give the one to measure on.")
        for name, least in (("max_images", 1), ("num_importance_samples", 0), ("seed", 0), ("resolution", 8)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} is {value}: it must be at least {least}.")


def run(argv: Sequence[str] | None, prog: str) -> dict[str, float]:
    """Parse the options, measure, print."""
    options = parse(EvaluateOptions, argv, prog=prog, description="Measure a model on images.")
    adapter = load_autoencoder(options.pretrained_model_name_or_path, options.subfolder, options.revision)
    channels, size = adapter.in_channels, options.resolution or adapter.natural_resolution
    if options.data_dir is None and options.dataset_name in (None, "circles"):
        if options.circles_hue and channels != 3:
            raise UserError(f"--circles_hue makes images of 3 channels, the model has {channels}: leave it out.")
        images = Circles(options.max_images, size, channels, seed=options.seed, hue=options.circles_hue)
    else:
        images = load_images(
            dataset_name=options.dataset_name,
            train_data_dir=options.data_dir,
            image_column=options.image_column,
            split=options.split,
            resolution=size,
            channels=channels,
            center_crop=True,
        )
        images = Subset(images, range(min(len(images), options.max_images)))
    reason = metrics.no_importance_weighted_bound(adapter)
    if options.num_importance_samples and reason is not None:
        raise UserError(f"{reason}: leave --num_importance_samples out.")
    unreadable: set[str] = set()
    result = metrics.evaluate(
        adapter,
        image_batches(images, unreadable=unreadable),
        num_importance_samples=options.num_importance_samples,
        seed=options.seed,
    )
    print(json.dumps(result, indent=2))
    if unreadable:
        print(
            f"{len(unreadable)} file(s) could not be read as images and were left out: {', '.join(sorted(unreadable))}"
        )
    if options.output_file:
        write_json(Path(options.output_file), result)
        print(f"Written to {options.output_file}.")
    return result
