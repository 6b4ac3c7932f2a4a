"""Operators that torch's exporter to ONNX writes in a form that runtimes lack, or cannot write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention


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


def _attention(query: Any, key: Any, value: Any, *args: Any, scale: float | None = None, **kwargs: Any) -> Any:
    """Attention; the exporter's own takes heads only, (B, heads, N, C)."""
    if len(query.shape) != 3 or args or kwargs:
        return aten_scaled_dot_product_attention(query, key, value, *args, scale=scale, **kwargs)
    write: Any = op
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scaled = write.Mul(query, write.CastLike(write.Constant(value_float=factor), query))
    return write.MatMul(write.Softmax(write.MatMul(scaled, write.Transpose(key, perm=[0, 2, 1])), axis=-1), value)


OPERATORS: dict[Callable, Callable] = {  # for `custom_translation_table` of torch's exporter
    # By slices rather than SplitToSequence: TensorRT and browsers lack sequences.
    torch.ops.aten.split.Tensor: _split,
    torch.ops.aten.split_with_sizes.default: _split_with_sizes,
    torch.ops.aten.scaled_dot_product_attention.default: _attention,
}
