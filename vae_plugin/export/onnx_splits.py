"""Splitting a tensor in ONNX by slices: torch writes sequences (SplitToSequence), which TensorRT and browsers lack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset18 as op


def _slices(x: Any, sizes: Sequence[int], dim: int) -> list[Any]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    write: Any = op  # its types know no tensor of any type
    return [
        write.Slice(x, *(write.Constant(value_ints=[value]) for value in (end - size, end, dim)))
        for size, end in zip(sizes, ends, strict=True)
    ]


def _split(x: Any, split_size: int, dim: int = 0) -> list[Any]:
    length = x.shape[dim]
    return _slices(x, [min(split_size, length - start) for start in range(0, length, split_size)], dim)


def _split_with_sizes(x: Any, split_sizes: Sequence[int], dim: int = 0) -> list[Any]:
    return _slices(x, split_sizes, dim)


SPLITS: dict[Callable, Callable] = {  # for `custom_translation_table` of torch's exporter
    torch.ops.aten.split.Tensor: _split,
    torch.ops.aten.split_with_sizes.default: _split_with_sizes,
}
