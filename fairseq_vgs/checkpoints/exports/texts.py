"""The texts of an exported folder besides its card: example and requirements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SPEECH = """\
import soundfile
import torch
from transformers import AutoFeatureExtractor, {classes}

model = AutoModel.from_pretrained({folder}, trust_remote_code=True).eval()
read_speech = AutoFeatureExtractor.from_pretrained({folder}, trust_remote_code=True)
wave, rate = soundfile.read({wav}, dtype="float32")  # one channel at 16 kHz
speech = model.get_speech_features(**read_speech(wave, sampling_rate=rate, return_tensors="pt"))
"""
_PICTURES = """\
read_pictures = AutoImageProcessor.from_pretrained({folder}, trust_remote_code=True)
image = model.get_image_features(**read_pictures({jpg}))
"""
_REGIONS = """\
regions = {{"features": torch.rand(1, 36, {dims}), "boxes": torch.rand(1, 36, 4)}}  # of your detector
image = model.get_image_features(regions=regions)
"""


def _takes_regions(settings: Mapping[str, Any]) -> bool:
    """Return whether images must come as regions: the model cannot compute them from a picture."""
    return settings["image_encoder"] == "regions" and not settings.get("region_network")


def example(settings: Mapping[str, Any], *, folder: str, wav: str, jpg: str) -> str:
    """Return the few lines of Python that compare a recording with a picture; arguments are Python's."""
    reads_regions = _takes_regions(settings)
    classes = "AutoModel" if reads_regions else "AutoImageProcessor, AutoModel"
    rest = _REGIONS if reads_regions else _PICTURES
    values = {
        "classes": classes,
        "folder": folder,
        "wav": wav,
        "jpg": jpg,
        "dims": settings["image_encoder_settings"].get("input_dim"),
    }
    return (_SPEECH + rest).format(**values) + "print(model.similarity(speech, image))\n"


def demo(settings: Mapping[str, Any]) -> str:
    """Return ``demo.py``, which takes a recording and, unless the model reads regions, a picture."""
    reads_regions = _takes_regions(settings)
    usage = "python demo.py SPEECH.wav" + ("" if reads_regions else " PICTURE.jpg")
    code = example(settings, folder="FOLDER", wav="sys.argv[1]", jpg="sys.argv[2]")
    imports, _, body = code.partition("\n\n")
    head = f'"""{usage}"""\n\nimport sys\nfrom pathlib import Path\n\n{imports}'
    return f"{head}\n\nFOLDER = Path(__file__).parent\n{body}"


def requirements(settings: Mapping[str, Any]) -> str:
    """Return ``requirements.txt``."""
    packages = ["numpy", "safetensors", "soundfile", "torch>=2.6", "transformers>=5"]
    if not _takes_regions(settings):
        packages.append("pillow")
    if settings.get("region_network"):
        packages.append("scipy")
    return "\n".join(sorted(packages)) + "\n"
