"""Columns of images or arrays, as what their rows hold: nothing is opened or decoded by the `datasets` library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .arrays import to_npy
from .errors import DataError

if TYPE_CHECKING:  # its import takes half a second, which `--help` and models alone do without
    import datasets

BINARY = ("binary", "large_binary", "binary_view")  # a column of encoded images
NUMBERS = ("int", "uint", "float", "bool")  # types of the values of a column of arrays
TEXT = ("string", "large_string", "string_view")  # a column of names of files

Table = TypeVar("Table", "datasets.Dataset", "datasets.IterableDataset")


def encoded_type() -> dict[str, Any]:
    """The type of images that are encoded row by row.

    `stored_type` would drop the bytes of a row if its path is that of a file that happens to lie in the working
    directory.
    """
    import datasets

    return {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}


def stored_type() -> datasets.Image:
    """The type of images that a table on disk has: as they are stored."""
    import datasets

    return datasets.Image(decode=False)


def undecoded(table: Table, column: str) -> Table:
    """The column alone of a table, its values as the rows have them; see `value_of`."""
    import datasets

    feature = table.features[column]
    table = table.select_columns([column])
    if (dtype := array_type(feature)) is not None and isinstance(table, datasets.Dataset):
        return table.with_format("numpy", dtype=dtype)  # several times as fast as lists
    if not isinstance(feature, datasets.Image):
        return table
    # The rows of a stream are encoded anew. Those of a table on disk are not, and any other type would copy it.
    return table.cast_column(column, encoded_type() if isinstance(table, datasets.IterableDataset) else stored_type())


def array_type(feature: Any) -> np.dtype | None:
    """The type of the values of a column of arrays or nested lists of numbers; None of another column."""
    import datasets

    if isinstance(feature, (datasets.Array2D, datasets.Array3D, datasets.Array4D)):
        return np.dtype(feature.dtype)
    depth = 0
    while isinstance(feature, (datasets.List, datasets.LargeList)):
        feature, depth = feature.feature, depth + 1
    if depth < 2 or not isinstance(feature, datasets.Value) or not feature.dtype.startswith(NUMBERS):
        return None
    return np.dtype(feature.dtype)


def value_of(value: Any, dtype: np.dtype | None = None) -> dict[str, Any]:
    """The image of a row, given as a struct, as bytes, as a path or as nothing, in the form of the first.

    Args:
        value: of the row.
        dtype: of a column of arrays, see `array_type`: they become the bytes of an .npy.
    """
    if isinstance(value, dict):
        return value
    if dtype is not None:
        return {"bytes": to_npy(value, dtype)}
    return {"path": value} if isinstance(value, str) else {"bytes": value}


def find_image_column(rows: datasets.Dataset, name: str | None, location: str | Path) -> str:
    """The column of the images of a table.

    Args:
        rows: the table.
        name: of the column; None for the only one that holds images.
        location: of the table.

    Raises:
        DataError: if there is no such column, or several.
    """
    features = rows.features
    columns = f"{location} has the columns {', '.join(features)}"
    if name is not None:
        if name not in features:
            raise DataError(f"image_column is {name!r}, but {columns}: give one of these.")
        feature = features[name]
        if not (_has_type(feature, *BINARY, *TEXT) or _is_image(feature) or array_type(feature) is not None):
            raise DataError(f"image_column {name!r} holds {feature} rather than images; {columns}: give another one.")
        return name
    found = [column for column, feature in features.items() if _is_image(feature)]
    if not found:  # text may be anything, bytes are hardly anything else
        found = [column for column, feature in features.items() if _has_type(feature, *BINARY)]
    if not found:
        found = [column for column, feature in features.items() if array_type(feature) is not None]
    if len(found) != 1:
        what = f"several hold images ({', '.join(found)})" if found else "none is known to hold images"
        raise DataError(f"{columns}, of which {what}: choose one with image_column.")
    return found[0]


def _has_type(feature: Any, *types: str) -> bool:
    import datasets

    return isinstance(feature, datasets.Value) and feature.dtype in types


def _is_image(feature: Any) -> bool:
    import datasets

    struct = isinstance(feature, dict) and ("bytes" in feature or feature.keys() == {"path"})
    return struct or isinstance(feature, datasets.Image)
