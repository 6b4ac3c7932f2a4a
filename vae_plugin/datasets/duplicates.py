"""Images that two data sets have in common, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .images import ImageDataset
from .paths import RefusedError, local_path
from .rows import array_type, value_of
from .webdataset import size_of

BATCH = 10_000  # rows whose lengths are found together
TOGETHER = 32  # rows that are read together


def shared_rows(
    images: ImageDataset, others: ImageDataset, most: int | None = None, most_bytes: int = 0
) -> tuple[np.ndarray, bool]:
    """The rows of `images` whose encoded image is one of `others` too, sorted, and whether all were compared.

    Only images of a length that both have are read; addresses on other machines are compared as text.

    Args:
        images: whose rows are looked for.
        others: to compare with; they may be other rows of the same table.
        most: number of images of each that are read at most, spread evenly, and only such whose length is known. By
            default all are.
        most_bytes: of these images together, of each of the two.
    """
    own = lengths(images)
    theirs = own if others.table is images.table else lengths(others)
    common = {own[row] for row in images.rows} & {theirs[row] for row in others.rows}
    if most is not None:
        common.discard(None)
    sought = [row for row in images.rows.tolist() if own[row] in common]
    against = [row for row in others.rows.tolist() if theirs[row] in common]
    read = [_at_most(rows, of, most, most_bytes) for rows, of in ((sought, own), (against, theirs))]
    wanted = {identity for _, identity in _identities(others, read[1])} - {""}
    rows = [row for row, identity in _identities(images, read[0]) if identity in wanted]
    return np.array(rows, dtype=images.rows.dtype), read == [sought, against]


def _at_most(rows: list[int], lengths: list[int | None], most: int | None, most_bytes: int) -> list[int]:
    """Rows that are spread evenly, as few as are allowed."""
    if most is None or not rows:
        return rows
    mean = sum(lengths[row] or 0 for row in rows) / len(rows)
    count = max(1, min(most, len(rows), int(most_bytes / max(mean, 1))))
    return [rows[i * len(rows) // count] for i in range(count)]


def lengths(images: ImageDataset) -> list[int | None]:
    """Number of bytes of each encoded image of the table, without reading it; None where only reading it tells."""
    found: list[int | None] = []
    for batch in images.table.with_format("arrow").iter(BATCH):
        held, names = _columns(batch[images.image_column].combine_chunks())
        counted = pc.binary_length(held).to_pylist() if held is not None else [None] * len(batch)
        named = names.to_pylist() if names is not None else [None] * len(batch)
        found += [_length(name) if count is None else count for count, name in zip(counted, named, strict=True)]
    return found


def _columns(values: Any) -> tuple[Any, Any]:
    """The bytes and the paths of a column of images, where it has them."""
    if pa.types.is_struct(values.type):
        fields = {field.name for field in values.type}
        held, names = (pc.struct_field(values, name) if name in fields else None for name in ("bytes", "path"))
        return held, names
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return None, values
    return (values, None) if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type) else (None, None)


def _length(name: str | None) -> int | None:
    if name is None:
        return None
    if (size := size_of(name)) is not None:
        return size
    try:
        return os.stat(local_path(name) or name).st_size
    except (OSError, ValueError, RefusedError):
        return None


def _identities(images: ImageDataset, rows: list[int]) -> Iterator[tuple[int, str]]:
    """Row, and what is the same for the same image: its address, or its content; empty if it cannot be read."""
    dtype = array_type(images.table.features[images.image_column])
    for start in range(0, len(rows), TOGETHER):
        several = rows[start : start + TOGETHER]
        for row, found in zip(several, images.table[several][images.image_column], strict=True):
            value = value_of(found, dtype)
            name = value.get("path") if value.get("bytes") is None else None
            yield row, name if name and _is_address(name) else images.reader.content(value)


def _is_address(name: str) -> bool:
    try:
        return "://" in name and local_path(name.rpartition("::")[2]) is None
    except RefusedError:
        return False
