"""Images that two data sets have in common, byte for byte."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .images import ImageDataset
from .paths import RefusedError, local_path
from .rows import value_of
from .webdataset import size_of

BATCH = 10_000  # rows


def shared_rows(images: ImageDataset, others: ImageDataset) -> np.ndarray:
    """The rows of `images` whose encoded image is one of `others` too, sorted.

    Only images of a length that both have are read; addresses on other machines are compared as text.
    """
    own, theirs = lengths(images), lengths(others)
    common = {own[row] for row in images.rows} & {theirs[row] for row in others.rows}
    wanted = {_identity(others, row) for row in others.rows.tolist() if theirs[row] in common} - {""}
    rows = [row for row in images.rows.tolist() if own[row] in common and _identity(images, row) in wanted]
    return np.array(rows, dtype=images.rows.dtype)


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


def _identity(images: ImageDataset, row: int) -> str:
    """What is the same for the same image: the address in its row, or its content; empty if it cannot be read."""
    value = value_of(images.table[row][images.image_column])
    name = value.get("path") if value.get("bytes") is None else None
    return name if name and _is_address(name) else images.reader.content(value)


def _is_address(name: str) -> bool:
    try:
        return "://" in name and local_path(name.rpartition("::")[2]) is None
    except RefusedError:
        return False
