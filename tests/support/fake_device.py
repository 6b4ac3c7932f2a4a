"""A device without float64, for machines that have only a CPU: its tensors compute on the CPU and say that they do not.

As on Apple's GPUs a float64 tensor on the device is an error, and so is an operation on tensors of both sides; `.cpu()`
really leaves the device. So float64 where the model lives is told from float64 on the CPU on purpose. Importing this
changes the process: import it in one that is started for the purpose.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

NAME = "apple"
aten = torch.ops.aten
LEAVES = {aten._to_copy.default, aten.copy_.default}  # may read one side and write the other


class OnDevice(torch.Tensor):
    """A tensor of the device; `held` has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnDevice:
        if held.dtype == torch.float64:
            raise TypeError(f"a float64 tensor of shape {tuple(held.shape)} on {NAME}, which has no float64")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    def untyped_storage(self) -> Any:
        """Where the values are: what is written to a file looks there."""
        return self.held.untyped_storage()

    def storage(self) -> Any:
        """Likewise."""
        return self.held.storage()

    def data_ptr(self) -> int:
        """Likewise."""
        return self.held.data_ptr()

    def tolist(self) -> Any:
        """The numbers, which torch gives of no subclass."""
        return self.held.tolist()

    def new_tensor(self, *args: Any, **kwargs: Any) -> OnDevice:
        """A tensor on the device, which torch makes of no Python device."""
        return OnDevice(self.held.new_tensor(*args, **kwargs))

    def __repr__(self, *_: Any, **__: Any) -> str:
        return f"OnDevice({self.held!r})"

    def __reduce_ex__(self, protocol: int) -> Any:
        return OnDevice, (self.held,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = OnDevice(self.held.detach().clone())
        copied = torch.nn.Parameter(copied, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copied
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    held = [t for t in tensors if isinstance(t, OnDevice)]
    if held and func not in LEAVES:
        # A number as a tensor may stay on the CPU, as for every device.
        strangers = [t for t in tensors if not isinstance(t, OnDevice) and t.ndim]
        if strangers:
            raise RuntimeError(f"{func}: tensors on {NAME} and on the cpu ({[tuple(t.shape) for t in strangers]})")
    device = kwargs.get("device")
    result_is_held = bool(held) if device is None else torch.device(device).type == NAME
    if func is aten.copy_.default:
        result_is_held = isinstance(args[0], OnDevice)
        if result_is_held and args[1].dtype == torch.float64:
            raise TypeError(f"a float64 tensor is copied to {NAME}")
    if device is not None and torch.device(device).type == NAME:
        kwargs = {**kwargs, "device": torch.device("cpu")}

    def inside(x: Any) -> Any:
        return x.held if isinstance(x, OnDevice) else x

    plain_args, plain_kwargs = tree_map(inside, (args, kwargs))
    out = func(*plain_args, **plain_kwargs)
    if func is aten._to_copy.default and isinstance(args[0], OnDevice) and not result_is_held:
        return out.clone() if out is args[0].held else out
    if not result_is_held or func is aten._local_scalar_dense.default:
        return out
    wrapped = tree_map(lambda x: OnDevice(x) if isinstance(x, torch.Tensor) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if held else wrapped


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def get_rng_state(self) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor) -> None:
        torch.set_rng_state(state)


backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
_library = torch.library.Library("_", "IMPL")
_library.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")  # where a tensor is made there
