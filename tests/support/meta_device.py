"""A stand-in for a GPU: torch's ``meta`` device, whose tensors have shapes and no numbers.

What a GPU refuses (operands on the host), and what makes the host wait for one (reading a number, a copy from
pageable memory, a size that depends on numbers), raises `DeviceError`. torch itself notices a part of this on
``meta``: a matrix product with a tensor of the host passes, for instance, and so does a boolean mask on the
left of an assignment.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")
_ATEN = torch.ops.aten

READS = (  # the host needs numbers, or a size that depends on them
    _ATEN._local_scalar_dense,
    _ATEN.nonzero,
    _ATEN.nonzero_numpy,
    _ATEN.equal,
    _ATEN.is_nonzero,
    _ATEN.masked_select,
    _ATEN._unique2,
    _ATEN.unique_dim,
    _ATEN.unique_consecutive,
    _ATEN.bincount,
    _ATEN.repeat_interleave,
)
TAKE_HOST_SCALARS = (_ATEN.fill_, _ATEN.fill, _ATEN.masked_fill, _ATEN.masked_fill_)


class DeviceError(AssertionError):
    """An operation would fail on a GPU, or make the host wait for it."""


class _Operations(TorchDispatchMode):
    """Looks at every operation, of backward passes too; with ``may_wait`` only for operands on the host."""

    def __init__(self, *, may_wait: bool) -> None:
        super().__init__()
        self.may_wait = may_wait

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in _pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if any(x.is_inference() for x in tensors):  # torch does not take composite operations apart then
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        on_device = [x for x in tensors if x.device == DEVICE]
        on_host = [x for x in tensors if x.device.type == "cpu"]
        packet = func.overloadpacket
        if self.may_wait and on_device and packet in (_ATEN._local_scalar_dense, _ATEN.is_nonzero):
            return torch.full((), 2, dtype=tensors[0].dtype).item()
        if self.may_wait and on_device and packet is _ATEN.nonzero:
            return torch.empty(tensors[0].numel(), tensors[0].dim(), dtype=torch.int64, device=DEVICE)
        if self.may_wait and on_device and packet is _ATEN._unique2:
            return tensors[0].flatten(), *(torch.empty(0, dtype=torch.int64, device=DEVICE),) * 2
        if on_device and packet in READS:
            raise DeviceError(f"{func}: the host waits for a number")
        if packet is _ATEN._to_copy and kwargs.get("device") is not None:
            here, there = tensors[0].device, torch.device(kwargs["device"])
            if here != there and not self.may_wait:
                raise DeviceError(f"{func}: a copy from {here} to {there} waits")
            if here != there and here == DEVICE:
                return torch.full(tensors[0].shape, 2, dtype=kwargs.get("dtype") or tensors[0].dtype)
            if here != there:
                return func(*args, **kwargs)
        if packet in (_ATEN.index, _ATEN.index_put, _ATEN.index_put_, _ATEN._index_put_impl_):
            _check_indices(func, args)
        if on_device and any(x.dim() or not _takes_scalars(func, packet) for x in on_host):
            raise DeviceError(f"{func}: an operand of shape {tuple(on_host[0].shape)} is on the host")
        return func(*args, **kwargs)


def _takes_scalars(func: Any, packet: Any) -> bool:
    """Whether a GPU takes a number on the host, a tensor without axes, as an operand."""
    return torch.Tag.pointwise in func.tags or packet in TAKE_HOST_SCALARS


def _check_indices(func: Any, args: Any) -> None:
    tensor, indices = args[:2]
    found = [index for index in indices if index is not None]
    if tensor.device != DEVICE:
        return
    is_fill = len(args) > 2 and args[2].numel() == 1  # torch fills where a mask is true
    if any(index.dtype in (torch.bool, torch.uint8) for index in found) and not is_fill:
        raise DeviceError(f"{func}: the host waits for the number of true entries")


class _Factories(TorchFunctionMode):
    """Looks at calls that copy numbers of Python to the device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if func in (torch.tensor, torch.as_tensor) and device is not None and torch.device(device) == DEVICE:
            given = args[0] if args else kwargs["data"]
            if not (isinstance(given, torch.Tensor) and given.device == DEVICE):
                raise DeviceError("torch.tensor(..., device=...): a copy to the device waits")
        return func(*args, **kwargs)


def _twos(tensor: torch.Tensor, tolist: Any = torch.Tensor.tolist) -> Any:
    return tolist(torch.full(tensor.shape, 2, dtype=tensor.dtype) if tensor.device == DEVICE else tensor)


class _NoAutocast(contextlib.nullcontext):
    """Takes the place of ``torch.autocast``, which does not know the device."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()


@contextlib.contextmanager
def as_on_a_gpu(monkeypatch: Any, *, may_wait: bool = False) -> Iterator[None]:
    """Answer as on a GPU within the block, and refuse what one refuses; autocast is off.

    With ``may_wait``, for code that has results to fetch, every number that the host reads is 2, the numbers
    of a tensor all differ, and all entries of a mask are true.
    """
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "is_cuda", property(lambda x: x.device == DEVICE), raising=False)
        patch.setattr(torch, "autocast", _NoAutocast)
        patch.setattr(torch, "is_autocast_enabled", lambda *_: False)
        with contextlib.ExitStack() as stack:
            if may_wait:
                patch.setattr(torch.Tensor, "tolist", _twos)
            else:
                stack.enter_context(_Factories())
            stack.enter_context(_Operations(may_wait=may_wait))
            yield


def to_device(value: Any) -> Any:
    """Move the tensors of a batch, as fairseq's trainer does before an update."""
    return _pytree.tree_map_only(torch.Tensor, lambda x: x.to(DEVICE), value)
