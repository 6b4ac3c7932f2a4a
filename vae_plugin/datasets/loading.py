"""Images from a folder, from parquet shards or from the Hub, through the `datasets` library."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from .files import find_files
from .images import ImageDataset
from .streaming import ImageStream
from .transforms import DataError
from .webdataset import index_shards


def load_images(
    *,
    dataset_name: str | None = None,
    train_data_dir: str | Path | None = None,
    image_column: str | None = None,
    split: str = "train",
    resolution: int,
    channels: int,
    center_crop: bool = False,
    random_flip: bool = False,
    seed: int = 0,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
) -> ImageDataset:
    """Images of a data set on the Hub, or of a local folder or parquet file.

    A folder holds either image files or shards, parquet or WebDataset's tar, at any depth; hidden files are not looked
    at. Its splits are the sub-folders directly in it that are named so ("train", "val", "test", ...) and, for shards,
    the split in a file's name ("test-00000-of-00001.parquet"); where there are none, everything is "train". A single
    file is the split in its name and "train" too.

    Args:
        dataset_name: id of a data set on the Hub. Either this or `train_data_dir`.
        train_data_dir: a folder, or one .parquet or .tar file.
        image_column: column of the images, of tar files their ending. Default: the only one there is.
        split: which part to load.
        resolution: see `ImageDataset`, as for the four that follow.
        channels: see `ImageDataset`.
        center_crop: see `ImageDataset`.
        random_flip: see `ImageDataset`.
        seed: see `ImageDataset`.
        revision: branch, tag or commit of the data set on the Hub.
        cache_dir: where `datasets` keeps its copies. Default: its own.

    Raises:
        DataError: if there is no such data, split or column, or no image in it that can be read.
    """
    if (dataset_name is None) == (train_data_dir is None):
        raise DataError("give either dataset_name, a data set on the Hub, or train_data_dir, a folder or a shard.")
    place: str | Path
    ignored: Sequence[Path] = ()
    if dataset_name is not None:
        place = dataset_name
        table = _load_dataset(place, dataset_name, split=split, revision=revision, cache_dir=cache_dir)
        sources = [(f"{dataset_name} ({split})", len(table))]
    else:
        assert train_data_dir is not None
        place = folder = Path(train_data_dir).expanduser()
        kind, files, ignored = find_files(folder, split)
        if kind == "parquet":
            sources = [(path.name, _parquet_rows(path)) for path in files]
            if not any(rows for _, rows in sources):
                raise DataError(f"{place} has no row in split {split!r}: give data with at least one image.")
            with _no_progress_bars():
                # `datasets` reads file names as glob patterns.
                patterns = {"train": [glob.escape(str(path)) for path in files]}
                table = _load_dataset(place, "parquet", data_files=patterns, split="train", cache_dir=cache_dir)
        else:
            sources = []
            names = [str(path) for path in files]
            if kind == "tar":
                names, image_column = index_shards(files, image_column), None
            features = datasets.Features({"image": datasets.Image()})
            table = datasets.Dataset.from_dict({"image": names}, features)
    images = ImageDataset(
        table,
        _find_image_column(table, image_column, place),
        resolution=resolution,
        channels=channels,
        center_crop=center_crop,
        random_flip=random_flip,
        seed=seed,
        sources=sources,
        ignored_files=[str(path) for path in ignored],
    )
    images[0]  # says now, rather than in a loading process, that no image at all can be read
    return images


def stream_images(
    *,
    dataset_name: str | None = None,
    train_data_dir: str | Path | None = None,
    image_column: str | None = None,
    split: str = "train",
    revision: str | None = None,
    **settings: Any,
) -> ImageStream:
    """The same sources (shards, or a data set on the Hub) read in order, without a copy on the disk.

    Args:
        dataset_name: see `load_images`, as for the four that follow.
        train_data_dir: see `load_images`; not of image files, of which there are no shards to read in order.
        image_column: see `load_images`.
        split: see `load_images`.
        revision: see `load_images`.
        settings: of `ImageStream`.

    Raises:
        DataError: as `load_images`.
    """
    if (dataset_name is None) == (train_data_dir is None):
        raise DataError("give either dataset_name, a data set on the Hub, or train_data_dir, a folder or a shard.")
    place: str | Path
    if dataset_name is not None:
        place = dataset_name
        table = _load_dataset(place, dataset_name, split=split, revision=revision, streaming=True)
    else:
        assert train_data_dir is not None
        place = folder = Path(train_data_dir).expanduser()
        kind, files, _ = find_files(folder, split)
        if kind == "images":
            raise DataError(f"{place} holds image files, which are read at random without --streaming: leave it out.")
        builder = "webdataset" if kind == "tar" else "parquet"
        patterns = {"train": [glob.escape(str(path)) for path in files]}
        table = _load_dataset(place, builder, data_files=patterns, split="train", streaming=True)
    if table.features is None:
        table = table._resolve_features()
    return ImageStream(table, _find_image_column(table, image_column, place), **settings)


def _load_dataset(place: str | Path, name: str, **options: Any) -> datasets.Dataset:
    try:
        return datasets.load_dataset(name, **options)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        # What went wrong while reading is in the cause: `datasets` itself only says that it could not.
        raise DataError(f"{place} cannot be loaded as a data set: {error.__cause__ or error}") from error


def _parquet_rows(path: Path) -> int:
    try:
        return pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as a parquet file: {error}") from error


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    hidden = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not hidden:
            datasets.enable_progress_bars()


def _find_image_column(table: datasets.Dataset, name: str | None, place: str | Path) -> str:
    features = table.features
    columns = f"{place} has the columns {', '.join(features)}"
    if name is not None:
        if name not in features:
            raise DataError(f"image_column is {name!r}, and {columns}: give one of these.")
        feature = features[name]
        encoded = isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary", "string")
        if not (encoded or _is_image(feature)):
            raise DataError(f"image_column {name!r} holds {feature} and not images; {columns}: give another one.")
        return name
    found = [column for column, feature in features.items() if _is_image(feature)]
    if len(found) != 1:
        what = f"several hold images ({', '.join(found)})" if found else "none is known to hold images"
        raise DataError(f"{columns}, of which {what}: say which one by image_column.")
    return found[0]


def _is_image(feature: Any) -> bool:
    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and "bytes" in feature)
