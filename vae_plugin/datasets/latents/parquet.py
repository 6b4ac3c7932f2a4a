"""Parquet: a row for each image, whose arrays `datasets` reads as such."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow.parquet as pq
import torch

from ...files import replacing_file
from .layout import Encoded, LatentFiles, Layout, Places, Shard, ShardWriter, tensors_of

if TYPE_CHECKING:
    import datasets


class ParquetLayout(Layout):
    """Columns "name", "number", "label" and one for each tensor, an `Array2D` or `Array3D` of the data sets library."""

    name: ClassVar[str] = "parquet"
    needs_one_size: ClassVar[bool] = True
    patterns: ClassVar[tuple[str, ...]] = ("*-[0-9]*-of-[0-9]*.parquet",)
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16")

    def open_writer(self, shard: Shard, stack: ExitStack) -> ShardWriter:
        """See `Layout`."""
        return _Writer(shard, stack)

    def open_files(self, files: list[Path]) -> LatentFiles:
        """See `Layout`."""
        return _Files(files)


class _Writer:
    def __init__(self, shard: Shard, stack: ExitStack) -> None:
        self._shard, self._stack = shard, stack
        self._parquet: pq.ParquetWriter | None = None

    def add(self, images: Sequence[Encoded]) -> None:
        if not images:
            return
        import datasets

        features = _features(images[0], self._shard.integers)
        columns: dict[str, list[Any]] = {
            "name": [image.name for image in images],
            "number": [image.number for image in images],
            "label": [image.label for image in images],
        }
        columns |= {name: [image.tensors[name].numpy() for image in images] for name in images[0].tensors}
        table = datasets.Dataset.from_dict(columns, features).data.table
        if self._parquet is None:
            partial = self._stack.enter_context(replacing_file(self._shard.path(".parquet")))
            self._parquet = self._stack.enter_context(pq.ParquetWriter(partial, table.schema))
        self._parquet.write_table(table)  # a row group


def _features(image: Encoded, integers: bool) -> datasets.Features:
    import datasets

    arrays = {2: datasets.Array2D, 3: datasets.Array3D, 4: datasets.Array4D}
    label = datasets.Value("int64" if integers else "string")
    features = {"name": datasets.Value("string"), "number": datasets.Value("int64"), "label": label}
    for name, tensor in image.tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        if tensor.ndim == 1:
            features[name] = datasets.List(datasets.Value(dtype), length=len(tensor))
        else:
            features[name] = arrays[tensor.ndim](shape=tuple(tensor.shape), dtype=dtype)
    return datasets.Features(features)


class _Files:
    def __init__(self, files: list[Path]) -> None:
        metadata = [pq.read_metadata(file) for file in files]
        groups = [[part.row_group(i).num_rows for i in range(part.num_row_groups)] for part in metadata]
        self._places = Places(files, [sum(rows) for rows in groups])
        self._groups = [Places([file] * len(rows), rows) for file, rows in zip(files, groups, strict=True)]
        self._open: tuple[int, int, Any] | None = None  # the row group that was read last

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Encoded:
        number, position = self._places.find(index)
        group, row = self._groups[number].find(position)
        if self._open is None or self._open[:2] != (number, group):
            with pq.ParquetFile(self._places.files[number]) as file:
                table = file.read_row_group(group)
            import datasets

            rows = datasets.Dataset(datasets.table.InMemoryTable(table)).with_format("numpy")
            self._open = (number, group, rows)
        found = dict(self._open[2][row])
        label = self._open[2].data["label"][row].as_py()
        tensors = {name: torch.from_numpy(value) for name, value in found.items() if name not in FACTS}
        return Encoded(int(found["number"]), str(found["name"]), label, tensors_of(tensors))


FACTS = ("name", "number", "label")
