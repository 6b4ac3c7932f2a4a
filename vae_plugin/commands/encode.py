"""Encode a data set: its latents as files that trainers of diffusion models read."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..datasets.files import SPLITS
from ..datasets.labels import find_labels
from ..datasets.latents import LAYOUTS, MANIFEST
from ..datasets.paths import lies_under
from ..datasets.survey import clipped
from ..encoding import CONTENTS, Work, data_facts, encode, model_facts, plan_for
from ..errors import UserError
from ..files import make_folder
from ..models.distributed import rank, world_size
from ..notices import say, show, some
from ..options import LARGEST_SEED, option, parse
from ..signals import Interrupted, signal_of
from ..training.progress import Progress
from .images import ImageSource
from .processes import first_before_others, processes


@dataclass
class EncodeOptions(ImageSource):
    """Options of `vae-plugin encode`."""

    output: str = option(
        "",
        "Folder of the latents. Where a run was interrupted, the same command goes on with it.",
        path=True,
        positional="output",
        also=("output_dir",),
        required="no --output given: name the folder of the latents.",
    )
    format: str = option(
        "webdataset",
        "Layout of the files: webdataset (tar files with a .safetensors for each image), parquet, lightningdit "
        "(LightningDiT's shards with their statistics), or the caches of kohya's sd-scripts for a family of models.",
        choices=tuple(LAYOUTS),
    )
    content: str | None = option(
        None,
        "What is kept of an image: posterior (mean and log-variance), samples (one for each image), or indices of a "
        "codebook. By default what readers of the format expect, and otherwise the first that the model has.",
        choices=CONTENTS,
    )
    flips: bool | None = option(
        None,
        "Encode every image mirrored left to right too. By default where readers of the format expect it.",
    )
    scaled: bool = option(
        False,
        "Scale samples as pipelines give them to their denoiser. By default they are raw, which the trainers expect; "
        f"{MANIFEST} has the factors.",
    )
    dtype: str = option("float32", "Type of the latents in the files.", choices=("float32", "float16", "bfloat16"))
    label_column: str | None = option(
        None,
        "Column of the labels, classes or captions: of a WebDataset an ending (cls, txt) or a key of the .json. By "
        "default the column of classes, or one of a usual name; of a folder the names of its sub-folders.",
    )
    shard_size: int = option(1000, "Number of images of a shard.", at_least=1, at_most=10**6)
    batch_size: int = option(16, "Number of images that a process encodes together.", at_least=1, at_most=10**5)
    dataloader_num_workers: int = option(
        0, "Number of processes that read images, for each that encodes.", at_least=0, at_most=256
    )
    overwrite: bool = option(False, "Replace the latents that are in the output folder.")
    seed: int = option(
        0,
        "Seed of the samples, each of which depends on the number of its image alone.",
        at_least=0,
        at_most=LARGEST_SEED,
    )

    def check(self) -> None:
        """Refuse what there is nothing to encode of.

        Raises:
            UserError: if so.
        """
        if self.train_data_dir is None and self.dataset_name is None:
            raise UserError("no images given: name their folder by --data_dir, or a data set by --dataset_name.")
        if self.facts()["circles"]:
            raise UserError("circles are drawn anew whenever they are needed: name a folder by --data_dir.")


def run(argv: Sequence[str] | None, prog: str) -> dict[str, Any]:
    """Parse the options, encode, and print what was written."""
    argv = sys.argv[1:] if argv is None else argv
    options = parse(EncodeOptions, argv, prog=prog, description=__doc__)
    folder = Path(options.output)
    _check_outside(options, folder)
    with processes("encode", argv) as device:
        work = _work(options)
        work.adapter.model.to(device)
        progress = _Progress(len(work.images))
        make_folder(folder)
        try:
            manifest, did = encode(work, folder, overwrite=options.overwrite, advanced=progress.advance)
        except KeyboardInterrupt as error:
            raise Interrupted(signal_of(error), f"the same command goes on with what is whole in {folder}.") from error
        except OSError as error:
            if error.filename is None or error.strerror is None:
                raise
            raise UserError(
                f"{error.filename}: {error.strerror}. What is whole stays in {folder}, and the same command goes on "
                "with it."
            ) from error
        finally:
            progress.close()
        _report(manifest, folder, did, progress.rate)
        return manifest


def _work(options: EncodeOptions) -> Work:
    adapter = first_before_others(options.open)
    size = options.resolution or adapter.natural_resolution
    adapter.check_image_size(size, size, f"--resolution {size}")
    plan = plan_for(
        adapter,
        format=options.format,
        content=options.content,
        flips=options.flips,
        scaled=options.scaled,
        dtype=options.dtype,
        shard_size=options.shard_size,
        seed=options.seed,
    )
    crop = options.crop_or_that_of_training(place.record() for place in [options.place])
    images = first_before_others(lambda: options.load(adapter, size, crop))
    name = options.split if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", options.split) else "train"
    return Work(
        adapter,
        images,
        find_labels(images, options.label_column),
        plan,
        model_facts(adapter, options.pretrained_model_name_or_path, options.revision),
        data_facts(images, options.split),
        {**asdict(images.framing), "value_range": images.reader.value_range and list(images.reader.value_range)},
        SPLITS.get(name, name),
        options.batch_size,
        options.dataloader_num_workers,
    )


def _check_outside(options: EncodeOptions, folder: Path) -> None:
    """Refuse an output folder within the data, whose files the next run would take for images."""
    for path in options.train_data_dir or ():
        if Path(path).is_dir() and lies_under(folder, path):
            raise UserError(f"--output {folder} lies in the data, {path}: give a folder beside it.")


class _Progress:
    """How far all processes have come, by what the first has done."""

    def __init__(self, total: int) -> None:
        self._total, self._processes = total, world_size()
        self._bar: Progress | None = None
        self._started, self._count = time.perf_counter(), 0

    @property
    def rate(self) -> float:
        """Images per second."""
        return self._count / max(time.perf_counter() - self._started, 1e-9)

    def advance(self, count: int, before: int) -> None:
        """Count images of this process; `before` are those that were done before the first."""
        if self._bar is None:
            self._bar = Progress(self._total, before, visible=rank() == 0, unit="image")
        count = min(count * self._processes, self._total - self._bar.done)
        self._count += count
        self._bar.step({"images/s": f"{self.rate:.1f}"}, count)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _report(manifest: Mapping[str, Any], folder: Path, did: bool, rate: float) -> None:
    left_out = manifest["left_out"]
    if left_out:
        name = min(left_out)
        say(
            f"{len(left_out)} image(s) could not be read and were left out: {some(left_out)} "
            f"({name}: {left_out[name].rstrip('.')})."
        )
    if rank():
        return
    if manifest.get("clipped"):
        say(clipped(manifest["clipped"], manifest["value_range"]))
    if not did:
        show(f"{folder} has the latents of all {manifest['images']:,} images already: --overwrite encodes them again.")
        return
    speed = f", {rate:.1f} images/s" if rate else ""
    show(f"{folder}: the latents of {manifest['images']:,} images ({manifest['content']}){speed}; see {MANIFEST}.")
