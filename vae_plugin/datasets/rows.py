"""Columns of images, as what their rows hold: nothing is opened or decoded by the `datasets` library."""

from __future__ import annotations

from typing import Any, TypeVar

import datasets

# The type of what is encoded row by row: STORED would drop the bytes of a row if its path is that of a file that
# happens to lie in the working directory.
ENCODED = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
STORED = datasets.Image(decode=False)

Table = TypeVar("Table", datasets.Dataset, datasets.IterableDataset)


def undecoded(table: Table, column: str) -> Table:
    """The column alone of a table, its values as the rows have them; see `value_of`."""
    feature = table.features[column]
    table = table.select_columns([column])
    if not isinstance(feature, datasets.Image):
        return table
    # The rows of a stream are encoded anew. Those of a table on disk are not, and any other type would copy it.
    return table.cast_column(column, ENCODED if isinstance(table, datasets.IterableDataset) else STORED)


def value_of(value: Any) -> dict[str, Any]:
    """The image of a row, given as a struct, as bytes, as a path or as nothing, in the form of the first."""
    if isinstance(value, dict):
        return value
    return {"path": value} if isinstance(value, str) else {"bytes": value}
