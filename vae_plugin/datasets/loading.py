"""Images from a folder, from shards or from the Hub, through the `datasets` library."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from huggingface_hub import DatasetCard

from ..errors import UserError
from ..notices import say_once
from .arrays import is_image_array
from .errors import DataError
from .files import Found, file_in, files_by_kind, files_digest, find_files, walk
from .framing import Framing
from .images import ImageDataset
from .members import Origin, digest_of, member_name
from .paths import as_row, regular_file
from .places import Places, hub_roots
from .reading import MAX_PIXELS, ImageReader
from .rows import find_image_column
from .rules import LATEST, DataRules
from .shards import Streamed, TableShards, TarShards
from .streaming import ImageStream
from .survey import survey
from .webdataset import index_shards, member_of, shard_of

if TYPE_CHECKING:
    import datasets


@dataclass
class Table:
    """A table of encoded images.

    Attributes:
        rows: the table itself.
        image_column: its column of images.
        origin: what its rows are called.
        roots: see `Places`.
    """

    rows: datasets.Dataset
    image_column: str
    origin: Origin
    roots: tuple[str, ...] | None = None


Paths = str | Path | Sequence[str | Path]


def load_images(
    *,
    dataset_name: str | None = None,
    config_name: str | None = None,
    train_data_dir: Paths | None = None,
    image_column: str | None = None,
    split: str | None = "train",
    channels: int,
    seed: int = 0,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    rules: DataRules = LATEST,
    max_image_pixels: int = MAX_PIXELS,
    remote_images: bool = False,
    value_range: tuple[float, float] | None = None,
    keep_bytes: int = 0,
    **framing: Any,
) -> ImageDataset:
    """Load the images of a data set on the Hub, or of a local folder or shard.

    A folder holds either image files or shards (parquet or WebDataset tar files), at any depth; hidden files are
    ignored. Splits are top-level sub-folders with such names ("train", "val", "test", ...) and, for shards, the split
    in a file name ("test-00000-of-00001.parquet"). Without any of these everything is "train". A single file counts
    both as the split in its name and as "train".

    Args:
        dataset_name: id of a data set on the Hub. Give either this or `train_data_dir`. A local folder is read like
            `train_data_dir`, unless its card declares which files there are, or only `datasets` knows their kind.
        config_name: configuration of the data set that `dataset_name` names.
        train_data_dir: a folder, or a single .parquet or .tar file, or several of these.
        image_column: column of the images; for tar files their file name extension. Defaults to the only one.
        split: split to load; None for the only one of local files.
        channels: see `ImageDataset`.
        seed: see `ImageDataset`.
        revision: branch, tag or commit of the data set on the Hub.
        cache_dir: where `datasets` keeps its copies. Defaults to its own cache.
        rules: by which files become images.
        max_image_pixels: largest number of pixels of an image; larger ones are left out.
        remote_images: whether to open the addresses (http, s3, ...) that rows name instead of holding an image.
        value_range: see `ImageReader`.
        keep_bytes: see `ImageDataset`.
        framing: arguments of `Framing`: resolution, which is required, crop, center_crop, random_flip, buckets.

    Raises:
        DataError: if there is no such data, split or column, or no readable image.
    """
    if (paths := _local_paths(dataset_name, config_name, train_data_dir, rules)) is None:
        assert dataset_name is not None
        table = _table_by_name(dataset_name, config_name, split or "train", image_column, revision, cache_dir)
    else:
        takes_array = partial(is_image_array, channels=channels, ranged=value_range is not None)
        found = find_files(paths, split, rules, takes_array)
        table = _table_from_files(found, paths, split, image_column, cache_dir, rules)
    framed = Framing(**framing)
    if framed.buckets and remote_images:
        raise DataError(
            "crop is 'whole', which needs the sizes of all images beforehand, and with remote_images all would be "
            "fetched for it: give another crop, or leave remote_images out."
        )
    images = ImageDataset(
        table.rows,
        table.image_column,
        framing=framed,
        channels=channels,
        seed=seed,
        origin=table.origin,
        reader=ImageReader(rules, max_image_pixels, Places(table.roots, remote_images), value_range),
        keep_bytes=keep_bytes,
    )
    images[0]  # fails here, rather than in a loading process, if no image at all can be read
    if not remote_images:  # which would be fetched for it
        images.survey = survey(images)
        if (sentence := images.survey.left_out(images.origin.location)) is not None:
            say_once(f"left out of {images.origin.location}", sentence)
    return images


def stream_images(
    *,
    dataset_name: str | None = None,
    config_name: str | None = None,
    train_data_dir: Paths | None = None,
    image_column: str | None = None,
    split: str = "train",
    channels: int,
    seed: int = 0,
    shuffle_window: int = 4096,
    min_image_size: int = 1,
    num_validation: int = 0,
    revision: str | None = None,
    rules: DataRules = LATEST,
    max_image_pixels: int = MAX_PIXELS,
    remote_images: bool = False,
    value_range: tuple[float, float] | None = None,
    **framing: Any,
) -> ImageStream:
    """Read the same sources as `load_images` in order, without a copy on disk.

    Args:
        dataset_name: see `load_images`.
        config_name: see `load_images`.
        train_data_dir: see `load_images`; only shards, because image files can be read at random.
        image_column: see `load_images`.
        split: see `load_images`.
        channels: see `ImageStream`.
        seed: see `ImageStream`.
        shuffle_window: see `ImageStream`.
        min_image_size: see `ImageStream`.
        num_validation: see `ImageStream`.
        revision: see `load_images`.
        rules: see `load_images`.
        max_image_pixels: see `load_images`.
        remote_images: see `load_images`.
        value_range: see `load_images`.
        framing: see `load_images`.

    Raises:
        DataError: see `load_images`; also for a folder of image files.
    """
    if (paths := _local_paths(dataset_name, config_name, train_data_dir, rules)) is None:
        assert dataset_name is not None
        found = _stream_by_name(dataset_name, config_name, split, image_column, revision, rules)
    else:
        found = _stream_from_files(paths, split, image_column, rules)
    reader = ImageReader(rules, max_image_pixels, Places(found.roots, remote_images), value_range)
    return ImageStream(
        found.shards,
        framing=Framing(**framing),
        channels=channels,
        seed=seed,
        shuffle_window=shuffle_window,
        min_image_size=min_image_size,
        num_validation=num_validation,
        origin=found.origin,
        reader=reader,
    )


def _local_paths(
    dataset_name: str | None, config_name: str | None, train_data_dir: Paths | None, rules: DataRules
) -> tuple[Path, ...] | None:
    """Local paths of the data, or None if `datasets` finds them by their name."""
    if (dataset_name is None) == (train_data_dir is None):
        given = "neither" if dataset_name is None else "both"
        raise DataError(
            f"got {given} of dataset_name and train_data_dir: give either dataset_name, a data set on the Hub, or "
            "train_data_dir, a local folder or shard."
        )
    if train_data_dir is not None:
        if config_name is not None:
            raise DataError(f"config_name {config_name!r} is of a data set that dataset_name names: leave it out.")
        several = [train_data_dir] if isinstance(train_data_dir, str | Path) else train_data_dir
        return tuple(Path(os.path.expanduser(path)) for path in several)
    path = Path(os.path.expanduser(str(dataset_name)))
    if not (rules.one_way_to_find_files and path.is_dir()) or config_name is not None or _declares_its_files(path):
        return None
    return (path,) if files_by_kind(walk(path), rules) else None


def _declares_its_files(folder: Path) -> bool:
    """Whether the card of a data set says which files there are."""
    try:
        return bool(DatasetCard.load(folder / "README.md").data.to_dict().get("configs"))
    except (OSError, ValueError, yaml.YAMLError):  # there is none, or nothing that can be read
        return False


def _table_by_name(
    name: str,
    config_name: str | None,
    split: str,
    image_column: str | None,
    revision: str | None,
    cache_dir: str | Path | None,
) -> Table:
    import datasets

    with _loading(name):
        builder = datasets.load_dataset_builder(name, config_name, revision=revision, cache_dir=cache_dir)
        builder.download_and_prepare()
        rows = builder.as_dataset(split)
    origin = replace(_origin_by_name(name, builder, split), sources=((f"{name} ({split})", len(rows)),))
    return Table(rows, find_image_column(rows, image_column, name), origin, hub_roots(name, cache_dir))


def _stream_by_name(
    name: str,
    config_name: str | None,
    split: str,
    image_column: str | None,
    revision: str | None,
    rules: DataRules,
) -> Streamed:
    import datasets

    with _loading(name):
        builder = datasets.load_dataset_builder(name, config_name, revision=revision)
        files = (builder.config.data_files or {}).get(split)
        if files and builder.name == "webdataset" and rules.read_whole_archives:
            shards = TarShards(files, [_name_in(name, file) for file in files], image_column, rules)
            return Streamed(shards, _origin_by_name(name, builder, split))
        rows = builder.as_streaming_dataset(split)
        rows = rows if rows.features is not None else rows._resolve_features()
    column = find_image_column(rows, image_column, name)
    return Streamed(TableShards(rows, column), _origin_by_name(name, builder, split), hub_roots(name, None))


def _name_in(data_set: str, file: str) -> str:
    """The name of a file within a data set, whichever folder or commit it is of."""
    if Path(data_set).is_dir():
        return Path(os.path.relpath(file, data_set)).as_posix()
    return file.rpartition("@")[2].partition("/")[2]


def _origin_by_name(name: str, builder: datasets.DatasetBuilder, split: str) -> Origin:
    folder = Path(name)
    if folder.is_dir():
        files = walk(folder)
        return Origin(files_digest(files, [file_in(folder, file) for file in files]), name)
    return Origin(digest_of([name, builder.config_id, builder.hash, split]), name, builder.hash)


def _table_from_files(
    found: Found,
    paths: Sequence[Path],
    split: str | None,
    image_column: str | None,
    cache_dir: str | Path | None,
    rules: DataRules,
) -> Table:
    import datasets

    location = " ".join(map(str, paths))
    origin = Origin(found.digest, location, ignored_files=found.others)
    if found.kind == "parquet":
        sources = tuple((name, _parquet_rows(file)) for name, file in zip(found.names, found.files, strict=True))
        if not any(length for _, length in sources):
            where = "" if split is None else f" in split {split!r}"
            raise DataError(f"{location} has no rows{where}: give data with at least one image.")
        with _no_progress_bars(), _loading(location):
            files = _data_files(found.files)
            rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache_dir)
        return Table(
            rows, find_image_column(rows, image_column, location), replace(origin, sources=sources), _roots(paths)
        )
    values, names = [as_row(file) for file in found.files], found.names
    if found.kind == "tar":
        shard_names = dict(zip(map(as_row, found.files), found.names, strict=True))
        values, damaged = index_shards([Path(file) for file in found.files], image_column, rules)
        origin = replace(origin, damaged=len(damaged))
        for shard, damage in damaged.items():
            say_once(f"damaged {shard}", f"{shard} is damaged: {damage.reason}.")
        names = tuple(member_name(shard_names[shard_of(value)], member_of(value)) for value in values)
    rows = datasets.Dataset.from_dict({"image": values}, datasets.Features({"image": datasets.Image()}))
    column = "image" if found.kind == "tar" else find_image_column(rows, image_column, location)
    return Table(rows, column, replace(origin, names=names))


def _stream_from_files(paths: Sequence[Path], split: str, image_column: str | None, rules: DataRules) -> Streamed:
    import datasets

    found, location = find_files(paths, split, rules), " ".join(map(str, paths))
    if found.kind == "images":
        raise DataError(f"{location} holds image files, which cannot be streamed: leave out --streaming.")
    for file in found.files:
        regular_file(file)
    origin = Origin(found.digest, location, ignored_files=found.others)
    if found.kind == "tar" and rules.read_whole_archives:
        shards = TarShards([Path(file) for file in found.files], found.names, image_column, rules)
        shards.check()
        return Streamed(shards, origin)
    builder = "webdataset" if found.kind == "tar" else "parquet"
    features = _features(found.files) if found.kind == "parquet" else None
    with _loading(location):
        files = _data_files(found.files)
        rows = datasets.load_dataset(builder, data_files=files, split="train", streaming=True, features=features)
        rows = rows if rows.features is not None else rows._resolve_features()
    column = find_image_column(rows, image_column, location)
    count = (lambda shard: _rows_or_none(found.files[shard])) if found.kind == "parquet" else None
    return Streamed(TableShards(rows, column, found.names, count), origin, _roots(paths))


def _roots(paths: Sequence[Path]) -> tuple[str, ...]:
    """Folders under which the files lie that rows of local shards may name."""
    return tuple(str(path if path.is_dir() else path.parent) for path in paths)


def _data_files(files: Sequence[str]) -> dict[str, list[str]]:
    # `datasets` reads file names as glob patterns.
    return {"train": [glob.escape(regular_file(file)) for file in files]}


@contextmanager
def _loading(location: str | Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # on what damaged files and their metadata hold, `datasets` raises almost any exception
        # The cause says what went wrong; the message of `datasets` itself only says that reading failed.
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
        raise DataError(f"{location} cannot be loaded as a data set: {reason}.") from error


def _features(files: Sequence[str]) -> datasets.Features:
    """The columns of the first parquet file that can be read."""
    import datasets

    errors = []
    for file in files:
        try:
            with _loading(file):
                return datasets.Features.from_arrow_schema(pq.read_schema(file))
        except DataError as error:
            errors.append(error)
    raise errors[0]


def _rows_or_none(path: str) -> int | None:
    try:
        return _parquet_rows(path)
    except DataError:
        return None


def _parquet_rows(path: str) -> int:
    try:
        return pq.read_metadata(regular_file(path)).num_rows
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as a parquet file: {error}") from error


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    import datasets

    hidden = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not hidden:
            datasets.enable_progress_bars()
