"""The hardware that a training run gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairseq_vgs.files.faults import FaultError, fault

Device = Literal["auto", "cpu", "cuda"]
_AMPERE = (8, 0)
"""Compute capability from which GPUs have units for bf16; older ones emulate it, slower than fp32."""


@dataclass(frozen=True)
class Hardware:
    """GPUs to train on (0: the CPU), and whether all of them have units for bf16."""

    n_gpus: int = 0
    has_bf16: bool = False

    def __str__(self) -> str:
        """Say what it is: "2 GPUs, bf16"."""
        if not self.n_gpus:
            return "the CPU"
        return f"{self.n_gpus} GPU{'s' * (self.n_gpus > 1)}, {'bf16' if self.has_bf16 else 'fp32'}"


def find_hardware(device: Device) -> Hardware:
    """Return the visible GPUs, or none where the device is the CPU or ``auto`` finds none.

    Raises:
        FaultError: ``setting.value``: ``cuda`` where torch finds no GPU.
    """
    if device == "cpu":
        return Hardware()
    import torch

    if not torch.cuda.is_available():
        if device == "auto":
            return Hardware()
        built = "" if torch.version.cuda else "; this torch was built without CUDA"
        expected, step = f"must be a device of this machine (torch finds no GPU{built})", "name cpu, or auto"
        raise FaultError(fault("--device", expected, device, step, code="setting.value"))
    n_gpus = torch.cuda.device_count()
    capabilities = [torch.cuda.get_device_capability(number) for number in range(n_gpus)]
    return Hardware(n_gpus, has_bf16=min(capabilities) >= _AMPERE)
