"""The texts of a folder of graphs: an example, its requirements, and a page on what the graphs read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairseq_vgs.checkpoints.exports.folder import Reading
from fairseq_vgs.media.rates import SAMPLE_RATE


@dataclass(frozen=True)
class Kind:
    """A format of graphs: suffix of its files, what reads it, and the line that runs one on ``inputs``."""

    suffix: str
    package: str
    line: str
    run: str


KINDS = {
    "onnx": Kind(
        ".onnx",
        "onnxruntime",
        "from onnxruntime import InferenceSession",
        'InferenceSession(FOLDER / "{name}.onnx").run(None, inputs)[0]',
    ),
    "torch": Kind(
        ".pt2",
        "torch",
        "import torch",
        'torch.export.load(FOLDER / "{name}.pt2").module()(*map(torch.from_numpy, inputs.values())).numpy()',
    ),
}
_PACKAGES = {"PIL": "pillow"}
_PAGE = """\
# {name}

The speech encoder and the image encoder of a visually grounded speech model as two graphs, for {package}:
neither fairseq, nor fairseq_vgs, nor transformers is needed. `demo.py` shows how.

| graph | input | output |
|---|---|---|
{graphs}
- Speech: one channel at {rate} Hz{normalize}; `attention_mask` is 0 for the padding after it.
  Captions were cut to {seconds:g} s{padded} in the model's evaluation.
{images}- Similarity: {similarity}.

`export.json` says which checkpoint this is, with which settings, and the hashes of the files.
"""
_SPEECH_ROW = (
    "| `speech{suffix}` | `input_values` float32 [batch, samples], `attention_mask` int64 [batch, samples] "
    "| `speech_embeds` [batch, {dims}] |\n"
)
_PICTURE_ROW = (
    "| `image{suffix}` | `pixel_values` float32 [batch, 3, {sides} | `image_embeds` [batch, {dims}] |\n"
)
_REGION_ROW = (
    "| `image{suffix}` | `features` float32 [batch, regions, {width}], `boxes` float32 [batch, regions, 4], "
    "`region_mask` bool [batch, regions] | `image_embeds` [batch, {dims}] |\n"
)
_CROPS_ROW = "| `regions{suffix}` | `crops` uint8 [crops, 3, 224, 224] | `features` float32 [crops, 1280] |\n"
_PICTURES = """\
- Pictures: upright, RGB, {how} {side} x {side} pixels by Pillow's bicubic filter, black -1 and white +1.
  Evaluation puts transparent ones on white, and decodes JPEGs of more than twice that size at a fraction of
  it, which `demo.py` leaves out.
"""
_REGIONS = """\
- Regions: boxes are x0, y0, x1, y1 as fractions of width and height; `region_mask` is false where there is no
  region.
"""
_CROPS = """\
- Crops: each region, centred on a white square and resized bicubically to 224 x 224 pixels.
"""


def _reads_regions(settings: Mapping[str, Any]) -> bool:
    return bool(settings["image_encoder"] == "regions")


def graph_demo(settings: Mapping[str, Any], reading: Reading, *, graph_format: str) -> str:
    """Return ``demo.py``, which takes a recording and, unless the model reads regions, a picture."""
    kind = KINDS[graph_format]
    usage = "python demo.py SPEECH.wav" + ("" if _reads_regions(settings) else " PICTURE.jpg")
    images = _region_lines(settings) if _reads_regions(settings) else _picture_lines(reading)
    body = [
        *_speech_lines(settings, reading),
        "speech = " + kind.run.format(name="speech"),
        *images,
        "image = " + kind.run.format(name="image"),
    ]
    if settings["similarity"] == "cosine":
        body.append("speech, image = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (speech, image))")
    imports = ["import numpy as np", "import soundfile", kind.line]
    if not _reads_regions(settings):
        imports.append("from PIL import Image, ImageOps")
    imports.sort(key=lambda line: (line.startswith("from"), line.split()[1].lower()))
    head = [f'"""{usage}"""', "", "import sys", "from pathlib import Path", "", *imports, ""]
    return "\n".join([*head, "FOLDER = Path(__file__).parent", *body, "print(speech @ image.T)", ""])


def _speech_lines(settings: Mapping[str, Any], reading: Reading) -> list[str]:
    longest = reading.max_samples
    lines = [
        "wave, rate = soundfile.read(sys.argv[1], always_2d=True)",
        f"if rate != {SAMPLE_RATE}:",
        f'    sys.exit(f"{{sys.argv[1]}}: must have {SAMPLE_RATE} Hz, got {{rate}}; resample it first")',
        f"wave = wave.mean(axis=1)[:{longest}]  # of all channels",
    ]
    if settings["normalize"]:
        lines.append("wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-5)")
    lines.append('mask = np.ones((1, len(wave)), "int64")')
    if reading.pad_to_max:
        lines.append(f"rest = {longest} - len(wave)")
        lines.append("wave, mask = np.pad(wave, (0, rest)), np.pad(mask, ((0, 0), (0, rest)))")
    lines.append('inputs = {"input_values": wave[None].astype("float32"), "attention_mask": mask}')
    return lines


def _picture_lines(reading: Reading) -> list[str]:
    side, box = reading.image_size, ""
    lines = ['picture = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")']
    if reading.image_fit == "crop":
        lines.append("edges = [(n - min(picture.size)) / 2 for n in picture.size]")
        box = ", box=(*edges, *(edge + min(picture.size) for edge in edges))"
    return [
        *lines,
        f"picture = picture.resize(({side}, {side}), Image.Resampling.BICUBIC{box}, reducing_gap=3.0)",
        'inputs = {"pixel_values": np.asarray(picture, "float32").transpose(2, 0, 1)[None] / 127.5 - 1}',
    ]


def _region_lines(settings: Mapping[str, Any]) -> list[str]:
    width = settings["image_encoder_settings"]["input_dim"]
    return [
        "draw = np.random.default_rng(0)",
        f'features = draw.random((1, 36, {width}), "float32")  # of your detector',
        'boxes = draw.random((1, 36, 4), "float32")',
        'inputs = {"features": features, "boxes": boxes, "region_mask": np.ones((1, 36), bool)}',
    ]


def graph_requirements(settings: Mapping[str, Any], *, graph_format: str) -> str:
    """Return ``requirements.txt``."""
    packages = ["numpy", "soundfile", KINDS[graph_format].package]
    if not _reads_regions(settings):
        packages.append("pillow")
    return "\n".join(sorted(packages)) + "\n"


def graph_page(settings: Mapping[str, Any], reading: Reading, *, graph_format: str, name: str) -> str:
    """Return ``README.md``: what the graphs read and return."""
    kind = KINDS[graph_format]
    image, side = settings["image_encoder_settings"], reading.image_size
    sides = f"{side}, {side}]"
    if settings["image_encoder"] == "patches":
        sides = "height, width], multiples of {}".format(image["patch_size"])
    rows, notes = _SPEECH_ROW + _PICTURE_ROW, _PICTURES
    if _reads_regions(settings):
        rows, notes = _SPEECH_ROW + _REGION_ROW, _REGIONS
        if settings.get("region_network"):
            rows, notes = rows + _CROPS_ROW, notes + _CROPS
    values = {"suffix": kind.suffix, "dims": settings["embed_dim"], "width": image.get("input_dim")}
    how = "squeezed to" if reading.image_fit == "squeeze" else "of which the middle is cut out, at"
    return _PAGE.format(
        name=name,
        package=kind.package,
        graphs=rows.format(sides=sides, **values),
        rate=SAMPLE_RATE,
        normalize=", zero mean and unit variance (the variance plus 1e-5)" if settings["normalize"] else "",
        seconds=reading.max_samples / SAMPLE_RATE,
        padded=", and padded to that," if reading.pad_to_max else "",
        images=notes.format(how=how, side=side),
        similarity="cosine" if settings["similarity"] == "cosine" else "dot product",
    )
