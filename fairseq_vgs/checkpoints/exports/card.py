"""The texts of an exported folder: model card, example, requirements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairseq_vgs.checkpoints.load import Checkpoint

_SPEECH = """\
import soundfile
import torch
from transformers import AutoFeatureExtractor, {classes}

model = AutoModel.from_pretrained({folder}, trust_remote_code=True).eval()
read_speech = AutoFeatureExtractor.from_pretrained({folder}, trust_remote_code=True)
wave, rate = soundfile.read({wav}, dtype="float32")
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


def example(settings: Mapping[str, Any], *, folder: str, wav: str, jpg: str) -> str:
    """Return the few lines of Python that compare a recording with a picture; arguments are Python's."""
    reads_regions = settings["image_encoder"] == "regions"
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
    reads_regions = settings["image_encoder"] == "regions"
    usage = "python demo.py SPEECH.wav" + ("" if reads_regions else " PICTURE.jpg")
    code = example(settings, folder="FOLDER", wav="sys.argv[1]", jpg="sys.argv[2]")
    imports, _, body = code.partition("\n\n")
    head = f'"""{usage}"""\n\nimport sys\nfrom pathlib import Path\n\n{imports}'
    return f"{head}\n\nFOLDER = Path(__file__).parent\n{body}"


def requirements(settings: Mapping[str, Any]) -> str:
    """Return ``requirements.txt``."""
    packages = ["numpy", "safetensors", "soundfile", "torch>=2.6", "transformers>=5"]
    if settings["image_encoder"] != "regions":
        packages.append("pillow")
    return "\n".join(sorted(packages)) + "\n"


def model_card(checkpoint: Checkpoint, settings: Mapping[str, Any], *, name: str) -> str:
    """Return ``README.md``."""
    code = example(settings, folder=f'"{name}"', wav='"speech.wav"', jpg='"picture.jpg"')
    cls = "with a CLS vector" if settings["use_cls"] else "without a CLS vector"
    return f"""\
---
library_name: transformers
pipeline_tag: feature-extraction
tags: [speech, visually-grounded-speech, image-retrieval]
---

# {name}

A visually grounded speech model: wav2vec 2.0 ({settings["num_hidden_layers"]} layers, {cls}) whose layer
{settings["vgs_layer"]} feeds a speech embedding ({settings["speech_head"]}), next to an image embedding
({settings["image_encoder"]}), both of {settings["embed_dim"]} dims and compared by {settings["similarity"]}.
Trained for {checkpoint.n_updates:,} updates with fairseq_vgs; this folder needs torch and transformers alone.

## Use

```python
{code}```
"""
