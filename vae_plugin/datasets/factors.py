"""The factors of variation of images, where a data set knows them: of circles, and in columns of numbers or names."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset, Subset

from ..near import hint
from .circles import Circles
from .errors import DataError
from .files import METADATA
from .images import ImageDataset
from .paths import local_path
from .rows import value_of

CONTINUOUS, PERIODIC, CATEGORICAL = "continuous", "periodic", "categorical"
MOST_CATEGORIES = 20  # different whole numbers of a column that are categories; with more it is continuous
METADATA_FILES = ("metadata.csv", "metadata.jsonl", METADATA)  # beside images, as `datasets` reads them
FILE_NAME = "file_name"  # their column that says which image a row is of


@dataclass(frozen=True)
class Factors:
    """The known factors of the images of a data set.

    Attributes:
        names: of the factors.
        kinds: of each "continuous", "periodic" (in turns: v and v + 1 are the same) or "categorical".
        values: of every image, (N, F) float64.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    values: torch.Tensor

    def of(self, rows: Sequence[int]) -> Factors:
        """Those of some images."""
        return Factors(self.names, self.kinds, self.values[list(rows)])

    def varying(self) -> Factors:
        """The factors that differ between the images."""
        kept = [f for f, column in enumerate(self.values.T) if bool((column != column[0]).any())]
        return Factors(tuple(self.names[f] for f in kept), tuple(self.kinds[f] for f in kept), self.values[:, kept])


def find_factors(dataset: Dataset, columns: Sequence[str] = (), periods: Mapping[str, float] | None = None) -> Factors:
    """The factors of a data set.

    Args:
        dataset: `Circles`, whose factors are known; or images, or a subset of either.
        columns: for images the columns that are factors: of a table, or of the metadata.csv, .jsonl or .parquet beside
            the images of a folder, which name them by `file_name`. Text, truth values and up to 20 different whole
            numbers are categories, other numbers continuous.
        periods: column -> after how much its values repeat, of those that are periodic, such as 360 for degrees.

    Raises:
        DataError: if there is no such column, or it is of another kind or without a value for an image.
    """
    if isinstance(dataset, Subset):
        return find_factors(dataset.dataset, columns, periods).of(dataset.indices)
    if isinstance(dataset, Circles):
        kinds = tuple(PERIODIC if name == "hue" else CONTINUOUS for name in dataset.factor_names)
        return Factors(dataset.factor_names, kinds, dataset.factors.double())
    if not isinstance(dataset, ImageDataset) or not columns:
        raise DataError("no factors of these images are known: name the columns that hold them.")
    return column_factors(dataset, columns, periods or {})


def column_factors(images: ImageDataset, columns: Sequence[str], periods: Mapping[str, float]) -> Factors:
    """See `find_factors`."""
    columns = tuple(dict.fromkeys(columns))
    for name in periods:
        if name not in columns:
            raise DataError(f"{name!r} has a period, but is not among the factor columns {', '.join(columns)}.")
    rows = images.rows.tolist()
    values, kinds = [], []
    for name, found in _columns(images, columns, rows).items():
        numbers, kind, names = _numbers(name, found, images, rows)
        if name in periods:
            if names:
                raise DataError(f"the column {name!r} holds names, which have no period: leave the period out.")
            numbers, kind = numbers / periods[name], PERIODIC
        values.append(numbers)
        kinds.append(kind)
    return Factors(columns, tuple(kinds), torch.from_numpy(np.stack(values, 1)))


def _columns(images: ImageDataset, names: Sequence[str], rows: list[int]) -> dict[str, list[Any]]:
    """The values of columns in some rows, as they are written."""
    if images.origin.names is not None:
        return _of_files(images, names, rows)
    others = [name for name in images.source.features if name != images.image_column]
    for name in names:
        if name not in others:
            raise _no_column(name, others, images.origin.location)
    table = images.source.select_columns(list(names))[rows]
    return {name: table[name] for name in names}


def _of_files(images: ImageDataset, names: Sequence[str], rows: list[int]) -> dict[str, list[Any]]:
    """The same from the metadata beside image files."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        value, shown = value_of(images.table[row][images.image_column]), images.origin.name_of(row)
        path = local_path(value.get("path") or "")
        entry = _entry(Path(path), shown.count("/")) if path and Path(path).is_file() else None
        if entry is None:
            raise DataError(
                f"no row for {shown} in a {METADATA_FILES[0]} of {images.origin.location}: factor columns are those of "
                f"parquet files, of a data set on the Hub, or of a metadata.csv, .jsonl or .parquet with a column "
                f"{FILE_NAME} beside the images."
            )
        for name in names:
            if name not in entry:
                raise _no_column(name, [key for key in entry if key != FILE_NAME], images.origin.location)
            found[name].append(entry[name])
    return found


def _entry(image: Path, depth: int) -> Mapping[str, Any] | None:
    """The row of an image in the metadata of its folder, or of one of as many folders above it."""
    for folder in list(image.parents)[: depth + 1]:
        for name in METADATA_FILES:
            if (folder / name).is_file():
                row = _metadata(folder / name).get(image.relative_to(folder).as_posix())
                if row is not None:
                    return row
    return None


@lru_cache(maxsize=8)
def _metadata(file: Path) -> dict[str, Mapping[str, Any]]:
    """The rows of a metadata file by the images that they are of."""
    try:
        if file.suffix == ".parquet":
            rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
        elif file.suffix == ".jsonl":
            rows = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
        else:
            with file.open(newline="", encoding="utf-8-sig") as lines:
                rows = list(csv.DictReader(lines))
        return {str(Path(row[FILE_NAME]).as_posix()): row for row in rows}
    except (OSError, ValueError, KeyError, TypeError, csv.Error, pa.ArrowException) as error:
        raise DataError(
            f"{file} cannot be read as metadata with a column {FILE_NAME}: {type(error).__name__}: {error}."
        ) from error


def _numbers(name: str, values: list[Any], images: ImageDataset, rows: list[int]) -> tuple[np.ndarray, str, bool]:
    """A column as numbers (N,), its kind, and whether it holds names; these are numbered in alphabetical order."""
    missing = [row for row, value in zip(rows, values, strict=True) if value is None or value == "" or value != value]
    if missing:
        raise DataError(
            f"the column {name!r} has no value for {len(missing)} image(s), such as "
            f"{images.origin.name_of(missing[0])}: complete it, or leave them out."
        )
    try:
        numbers = _plain(values)
    except (ValueError, TypeError):
        numbers = None
    if numbers is not None:
        if not np.isfinite(numbers).all():
            raise DataError(f"the column {name!r} holds infinite values: a factor has finite ones.")
        few = (numbers == np.round(numbers)).all() and len(np.unique(numbers)) <= MOST_CATEGORIES
        return numbers, CATEGORICAL if few else CONTINUOUS, False
    if not all(isinstance(value, str) for value in values):
        raise DataError(f"the column {name!r} holds {type(values[0]).__name__} values: a factor is a number or a name.")
    return np.unique(np.array(values), return_inverse=True)[1].astype(np.float64), CATEGORICAL, True


def _plain(values: Sequence[Any]) -> np.ndarray:
    return np.array([float(value) for value in values])


def _no_column(name: str, others: Sequence[str], location: str) -> DataError:
    there = f"{location} has {', '.join(others) or 'none'} beside the images."
    return DataError(f"there is no column {name!r}: {hint(name, others, there)}")
