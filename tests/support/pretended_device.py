"""An accelerator that is not there: tensors without data that claim to be on it.

Within ``PretendedDevice("cuda")`` tensors of that device are made, moved and computed with as
usual, forward and backward. They have shapes and dtypes and no values; tensors on the CPU are real.
What a real device would refuse raises ``DeviceError``: operations on tensors of two devices, and
on MPS float64 and complex numbers. So do operations whose result has a size that only the device
knows, and on MPS copies of the CPU's memory that nobody waits for: they may read it when it is
another tensor's. Reading a number, copying to the CPU, and on CUDA copying from it without
``non_blocking`` wait for the device: they are counted in ``waits`` by the function that did it.

PyTorch's own fake tensors cannot run a backward pass on a device that this machine lacks: autograd
asks for the device's streams. Here autograd sees the meta device, and Python code the pretended
one.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map

ROOT = Path(__file__).resolve().parents[2]
META = torch.device("meta")
_aten = torch.ops.aten

_NEED_VALUES = {
    _aten.is_nonzero.default,
    _aten.equal.default,
    _aten.nonzero.default,
    _aten.masked_select.default,
    _aten._unique2.default,
    _aten.unique_dim.default,
    _aten.bincount.default,
}
"""Operations whose result, or its size, is known when the device has computed it."""
_MOVES = {_aten._to_copy.default, _aten.copy_.default}
_TAKES_CPU_INDICES = {_aten.index.Tensor, _aten.index_put_.default}
_WITHOUT_MPS = (torch.float64, torch.complex32, torch.complex64, torch.complex128)


class DeviceError(AssertionError):
    """Something that a real device would refuse."""


class DeviceTensor(Tensor):
    """A tensor on the pretended device."""

    meta: Tensor
    pretended: torch.device

    @staticmethod
    def __new__(cls, meta: Tensor, device: torch.device) -> DeviceTensor:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            meta.shape,
            strides=meta.stride(),
            storage_offset=meta.storage_offset(),
            dtype=meta.dtype,
            device=META,
            requires_grad=meta.requires_grad,
        )
        tensor.meta, tensor.pretended = meta, device
        return tensor

    __torch_function__ = (  # pyright: ignore[reportAssignmentType]
        torch._C._disabled_torch_function_impl
    )

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.pretended

    @property
    def is_cuda(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.pretended.type == "cuda"

    @property
    def is_mps(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.pretended.type == "mps"

    @property
    def is_cpu(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return False

    @property
    def is_meta(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return False

    def __repr__(self, **_: Any) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"DeviceTensor({tuple(self.shape)}, {self.dtype}, {self.pretended})"

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        raise DeviceError(f"{func} outside of the pretended device")


class PretendedDevice(TorchDispatchMode):
    """Makes the device of this type, such as "cuda" or "mps", seem to be there."""

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.device = torch.device(device_type, 0)
        self.waits: Counter[str] = Counter()
        """How often each function of the project, as "file.py:function", waited for the device."""
        self._names = _DeviceNames(device_type)

    def __enter__(self) -> PretendedDevice:
        self._names.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._names.__exit__(*error)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
        on_device = any(isinstance(x, DeviceTensor) for x in tensors)
        target = kwargs.get("device")
        if not on_device and target != META:
            return func(*args, **kwargs)
        if func in _NEED_VALUES or (func is _aten.repeat_interleave.Tensor and _no_size(kwargs)):
            raise DeviceError(f"{func} waits for the device, to know its values")
        if func is _aten._local_scalar_dense.default:
            self._wait(func)
            return 1e-3 if tensors[0].dtype.is_floating_point else 0
        if on_device and self._leaves(func, args, target):
            return self._to_cpu(func, args, kwargs)
        if func in _MOVES:
            self._check_arrival(func, args, kwargs)
        self._check_devices(func, tensors)
        out = func(*self._on_meta(args), **self._on_meta(kwargs))
        self._check_dtypes(func, out)
        out = tree_map(lambda x: DeviceTensor(x, self.device) if isinstance(x, Tensor) else x, out)
        return return_and_correct_aliasing(func, args, kwargs, out)

    def _leaves(self, func: Any, args: tuple[Any, ...], target: Any) -> bool:
        """Whether this copies from the device to the CPU."""
        if func is _aten.copy_.default:
            return not isinstance(args[0], DeviceTensor)
        return (
            func is _aten._to_copy.default
            and target is not None
            and torch.device(target).type == "cpu"
        )

    def _to_cpu(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        self._wait(func)
        if func is _aten.copy_.default:
            return args[0]
        return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)

    def _check_arrival(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at a copy to the device, which may come from the CPU."""
        source = args[1] if func is _aten.copy_.default else args[0]
        if isinstance(source, DeviceTensor):
            return
        if not (kwargs.get("non_blocking") or args[2:3] == (True,)):
            if self.device.type == "cuda" and _our_function() is not None:
                self._wait(func)
        elif self.device.type == "mps":
            raise DeviceError(f"{func} lets MPS read memory of the CPU that may be freed by then")

    def _wait(self, func: Any) -> None:
        self.waits[_our_function() or str(func)] += 1

    def _check_devices(self, func: Any, tensors: list[Tensor]) -> None:
        if func in _MOVES or func in _TAKES_CPU_INDICES:
            return
        strangers = [x for x in tensors if not isinstance(x, DeviceTensor) and x.ndim]
        if strangers and any(isinstance(x, DeviceTensor) for x in tensors):
            raise DeviceError(
                f"{func} got tensors on {self.device} and one of shape "
                f"{tuple(strangers[0].shape)} on the CPU"
            )

    def _check_dtypes(self, func: Any, out: Any) -> None:
        if self.device.type != "mps":
            return
        for x in tree_iter(out):
            if isinstance(x, Tensor) and x.dtype in _WITHOUT_MPS:
                raise DeviceError(f"{func} makes {x.dtype}, which MPS does not have")

    def _on_meta(self, values: Any) -> Any:
        def convert(x: Any) -> Any:
            if isinstance(x, DeviceTensor):
                return x.meta
            # Real numbers of the CPU in an operation on the device, such as a factor.
            return x.to(META) if isinstance(x, Tensor) and x.ndim else x

        return tree_map(convert, values)


class _DeviceNames(TorchFunctionMode):
    """Calls the pretended device "meta" before PyTorch tries to initialise it."""

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.device = torch.device(device_type, 0)
        self.names = {device_type, f"{device_type}:0"}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        def renamed(value: Any) -> Any:
            named = isinstance(value, (torch.device, str)) and str(value) in self.names
            return META if named else value

        out = func(*map(renamed, args), **{k: renamed(v) for k, v in (kwargs or {}).items()})
        # torch.tensor makes its result without asking the dispatch mode.
        made = func is torch.tensor and out.is_meta
        return DeviceTensor(out, self.device) if made else out


def _our_function() -> str | None:
    """The innermost function of the project that is running, as "file.py:function"."""
    codes = (frame.f_code for frame, _ in traceback.walk_stack(None))
    ours = next((code for code in codes if _is_ours(code.co_filename)), None)
    return f"{Path(ours.co_filename).name}:{ours.co_name}" if ours else None


def _no_size(kwargs: Mapping[str, Any]) -> bool:
    return kwargs.get("output_size") is None


@lru_cache
def _is_ours(filename: str) -> bool:
    path = Path(filename).resolve()
    if ROOT not in path.parents or filename.startswith("<"):  # Python's own, as "<frozen runpy>"
        return False
    return path.relative_to(ROOT).parts[0] not in ("tests", ".dev")
