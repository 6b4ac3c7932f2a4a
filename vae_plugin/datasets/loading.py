"""Images from a folder, from shards or from the Hub, through the `datasets` library."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import DataError
from .files import find_files
from .images import ImageDataset
from .places import Places, as_row, hub_roots
from .reading import MAX_PIXELS, ImageReader
from .rules import LATEST, DataRules
from .streaming import ImageStream
from .webdataset import index_shards


@dataclass
class Table:
    """A table of encoded images.

    Attributes:
        rows: the table itself.
        image_column: its column of images.
        sources: name and number of rows of each file that it was read from, in order.
        ignored_files: files beside these that are of another kind.
        roots: see `Places`.
    """

    rows: datasets.Dataset
    image_column: str
    sources: Sequence[tuple[str, int]] = ()
    ignored_files: Sequence[str] = ()
    roots: tuple[str, ...] | None = None


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
    rules: DataRules = LATEST,
    max_image_pixels: int = MAX_PIXELS,
    remote_images: bool = False,
) -> ImageDataset:
    """Load the images of a data set on the Hub, or of a local folder or shard.

    A folder holds either image files or shards (parquet or WebDataset tar files), at any depth; hidden files are
    ignored. Splits are top-level sub-folders with such names ("train", "val", "test", ...) and, for shards, the split
    in a file name ("test-00000-of-00001.parquet"). Without any of these everything is "train". A single file counts
    both as the split in its name and as "train".

    Args:
        dataset_name: id of a data set on the Hub. Give either this or `train_data_dir`.
        train_data_dir: a folder, or a single .parquet or .tar file.
        image_column: column of the images; for tar files their file name extension. Defaults to the only one.
        split: split to load.
        resolution: see `ImageDataset`.
        channels: see `ImageDataset`.
        center_crop: see `ImageDataset`.
        random_flip: see `ImageDataset`.
        seed: see `ImageDataset`.
        revision: branch, tag or commit of the data set on the Hub.
        cache_dir: where `datasets` keeps its copies. Defaults to its own cache.
        rules: by which files become images.
        max_image_pixels: largest number of pixels of an image; larger ones are left out.
        remote_images: whether to open the addresses (http, s3, ...) that rows name instead of holding an image.

    Raises:
        DataError: if there is no such data, split or column, or no readable image.
    """
    if (folder := _local_path(dataset_name, train_data_dir)) is None:
        assert dataset_name is not None
        table = _table_from_hub(dataset_name, split, image_column, revision, cache_dir)
    else:
        table = _table_from_files(folder, split, image_column, cache_dir, rules)
    images = ImageDataset(
        table.rows,
        table.image_column,
        resolution=resolution,
        channels=channels,
        center_crop=center_crop,
        random_flip=random_flip,
        seed=seed,
        sources=table.sources,
        ignored_files=table.ignored_files,
        reader=ImageReader(rules, max_image_pixels, Places(table.roots, remote_images)),
    )
    images[0]  # fails here, rather than in a loading process, if no image at all can be read
    return images


def stream_images(
    *,
    dataset_name: str | None = None,
    train_data_dir: str | Path | None = None,
    image_column: str | None = None,
    split: str = "train",
    revision: str | None = None,
    rules: DataRules = LATEST,
    max_image_pixels: int = MAX_PIXELS,
    remote_images: bool = False,
    **settings: Any,
) -> ImageStream:
    """Read the same sources as `load_images` in order, without a copy on disk.

    Args:
        dataset_name: see `load_images`.
        train_data_dir: see `load_images`; only shards, because image files can be read at random.
        image_column: see `load_images`.
        split: see `load_images`.
        revision: see `load_images`.
        rules: see `load_images`.
        max_image_pixels: see `load_images`.
        remote_images: see `load_images`.
        settings: further arguments of `ImageStream`.

    Raises:
        DataError: see `load_images`; also for a folder of image files.
    """
    location: str | Path
    if (folder := _local_path(dataset_name, train_data_dir)) is None:
        assert dataset_name is not None
        location, roots = dataset_name, hub_roots(dataset_name, None)
        rows = _load_dataset(location, dataset_name, split=split, revision=revision, streaming=True)
    else:
        location, roots = folder, _roots(folder)
        kind, files, _ = find_files(folder, split, rules)
        if kind == "images":
            raise DataError(f"{folder} holds image files, which cannot be streamed: leave out --streaming.")
        builder = "webdataset" if kind == "tar" else "parquet"
        rows = _load_dataset(location, builder, data_files=_data_files(files), split="train", streaming=True)
    if rows.features is None:
        rows = rows._resolve_features()
    reader = ImageReader(rules, max_image_pixels, Places(roots, remote_images))
    return ImageStream(rows, _find_image_column(rows, image_column, location), reader=reader, **settings)


def _local_path(dataset_name: str | None, train_data_dir: str | Path | None) -> Path | None:
    """Local path of the data, or None if it is on the Hub."""
    if (dataset_name is None) == (train_data_dir is None):
        given = "neither" if dataset_name is None else "both"
        raise DataError(
            f"got {given} of dataset_name and train_data_dir: give either dataset_name, a data set on the Hub, or "
            "train_data_dir, a local folder or shard."
        )
    return None if train_data_dir is None else Path(train_data_dir).expanduser()


def _table_from_hub(
    name: str, split: str, image_column: str | None, revision: str | None, cache_dir: str | Path | None
) -> Table:
    rows = _load_dataset(name, name, split=split, revision=revision, cache_dir=cache_dir)
    sources = [(f"{name} ({split})", len(rows))]
    return Table(rows, _find_image_column(rows, image_column, name), sources, roots=hub_roots(name, cache_dir))


def _table_from_files(
    path: Path, split: str, image_column: str | None, cache_dir: str | Path | None, rules: DataRules
) -> Table:
    kind, files, others = find_files(path, split, rules)
    ignored = [str(other) for other in others]
    if kind == "parquet":
        sources = [(file.name, _parquet_rows(file)) for file in files]
        if not any(length for _, length in sources):
            raise DataError(f"{path} has no rows in split {split!r}: give data with at least one image.")
        with _no_progress_bars():
            rows = _load_dataset(path, "parquet", data_files=_data_files(files), split="train", cache_dir=cache_dir)
        return Table(rows, _find_image_column(rows, image_column, path), sources, ignored, _roots(path))
    names = index_shards(files, image_column, rules) if kind == "tar" else [as_row(file) for file in files]
    rows = datasets.Dataset.from_dict({"image": names}, datasets.Features({"image": datasets.Image()}))
    column = "image" if kind == "tar" else _find_image_column(rows, image_column, path)
    return Table(rows, column, ignored_files=ignored)


def _roots(path: Path) -> tuple[str, ...]:
    """Folders under which the files lie that rows of local shards may name."""
    return (str(path if path.is_dir() else path.parent),)


def _data_files(files: Sequence[Path]) -> dict[str, list[str]]:
    # `datasets` reads file names as glob patterns.
    return {"train": [glob.escape(str(file)) for file in files]}


def _load_dataset(location: str | Path, name: str, **options: Any) -> datasets.Dataset:
    try:
        return datasets.load_dataset(name, **options)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        # The cause says what went wrong; the message of `datasets` itself only says that reading failed.
        raise DataError(f"{location} cannot be loaded as a data set: {error.__cause__ or error}") from error


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


def _find_image_column(rows: datasets.Dataset, name: str | None, location: str | Path) -> str:
    features = rows.features
    columns = f"{location} has the columns {', '.join(features)}"
    if name is not None:
        if name not in features:
            raise DataError(f"image_column is {name!r}, but {columns}: give one of these.")
        feature = features[name]
        encoded = isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary", "string")
        if not (encoded or _is_image(feature)):
            raise DataError(f"image_column {name!r} holds {feature} rather than images; {columns}: give another one.")
        return name
    found = [column for column, feature in features.items() if _is_image(feature)]
    if len(found) != 1:
        what = f"several hold images ({', '.join(found)})" if found else "none is known to hold images"
        raise DataError(f"{columns}, of which {what}: choose one with image_column.")
    return found[0]


def _is_image(feature: Any) -> bool:
    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and "bytes" in feature)
