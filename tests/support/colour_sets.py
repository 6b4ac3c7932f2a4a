"""Data sets of images of one colour each, by which they are known, in every form that training reads."""

import io
import tarfile
from itertools import islice

import datasets
import numpy as np
from accelerate import Accelerator
from PIL import Image

from vae_plugin.datasets import ImageStream
from vae_plugin.datasets.members import DataRecord
from vae_plugin.datasets.transforms import to_uint8
from vae_plugin.training.data import TrainingData
from vae_plugin.training.settings import DataSettings, OptimizationSettings

BEFORE = {f"{i:02d}.png": i for i in range(40)}
KINDS = ["images", "parquet", "tar", "streamed parquet", "streamed tar"]


def encoded(number):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(folder, kind, samples):
    """Name -> colour; in shards of at most 20."""
    folder.mkdir(parents=True)
    for name, colour in samples.items():
        if kind == "images":
            (folder / name).write_bytes(encoded(colour))
    chunks = [list(samples.items())[start : start + 20] for start in range(0, len(samples), 20)]
    for number, chunk in enumerate(chunks if kind != "images" else ()):
        if "tar" in kind:
            with tarfile.open(folder / f"{number}.tar", "w") as archive:
                for name, colour in chunk:
                    info = tarfile.TarInfo(name)
                    info.size = len(encoded(colour))
                    archive.addfile(info, io.BytesIO(encoded(colour)))
        else:
            values = [{"bytes": encoded(colour), "path": None} for _, colour in chunk]
            table = datasets.Dataset.from_dict({"image": values}, datasets.Features({"image": datasets.Image()}))
            table.to_parquet(folder / f"{number}.parquet")
    return folder


def open_data(folder, kind, record=None, seed=0, **changes):
    settings = DataSettings(
        train_data_dir=str(folder),
        resolution=8,
        num_validation_images=4,
        streaming="streamed" in kind,
        shuffle_buffer=8,
        **changes,
    )
    return TrainingData(
        settings, OptimizationSettings(train_batch_size=1, seed=seed), 3, Accelerator(cpu=True), record or DataRecord()
    )


def colours(items):
    return [int(to_uint8(item["pixel_values"])[0, 0, 0]) for item in items]


def trained_on(data):
    if isinstance(data.train, ImageStream):
        batches = islice(data.train.batches(4), 60)
        return {int(to_uint8(x)[0, 0, 0]) for batch in batches for x in batch["pixel_values"]}
    return set(colours(data.train[i] for i in range(len(data.train))))


def held_out(data):
    return set(colours(data.validation[i] for i in range(len(data.validation))))
