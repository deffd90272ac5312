"""Where a model runs: ``--device`` and what ``auto`` means."""

from __future__ import annotations

import os
from typing import Any

from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.options import option

AUTO = "auto"


def device_option(default: str = AUTO) -> Any:
    """Declare the option ``--device`` as a dataclass field."""
    return option(default, help="cpu, cuda, cuda:1, ...; auto: cuda where it is available", metavar="NAME")


def resolve_device(name: str = AUTO, *, place: str = "--device") -> str:
    """Return the device of a setting after trying it; ``auto`` is CUDA if available, else the CPU.

    Raises:
        FaultError: ``setting.value``, the device is unknown or unavailable.
    """
    import torch

    if name == AUTO:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        step = "name another device, or auto"
        expected = f"must be a device of this machine ({' '.join(str(error).split())[:120]})"
        raise FaultError(fault(place, expected, name, step, code="setting.value")) from error
    return name


def visible_gpus() -> list[str]:
    """Name the GPUs that programs may use, as in ``CUDA_VISIBLE_DEVICES``; none without CUDA."""
    import torch

    if not torch.cuda.is_available():
        return []
    n_gpus = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in named.split(",") if name.strip()]
    return names[:n_gpus] or [str(number) for number in range(n_gpus)]
