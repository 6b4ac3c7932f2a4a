"""Columns of images, as what their rows hold: nothing is opened or decoded by the `datasets` library."""

from __future__ import annotations

from typing import Any, TypeVar

import datasets

# Not datasets.Image(decode=False), which drops the bytes of a row if its path is that of a file which happens to lie in
# the working directory.
ENCODED = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}


Table = TypeVar("Table", datasets.Dataset, datasets.IterableDataset)


def undecoded(table: Table, column: str) -> Table:
    """The column alone of a table, its values as the rows have them; see `value_of`."""
    feature = table.features[column]
    table = table.select_columns([column])
    return table.cast_column(column, ENCODED) if isinstance(feature, datasets.Image) else table


def value_of(value: Any) -> dict[str, Any]:
    """The image of a row, given as a struct, as bytes, as a path or as nothing, in the form of the first."""
    if isinstance(value, dict):
        return value
    return {"path": value} if isinstance(value, str) else {"bytes": value}
