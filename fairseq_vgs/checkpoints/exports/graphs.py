"""The speech encoder and the image encoder as two graphs, which need none of our code: ONNX, or torch.export.

Batches, lengths of speech, regions and, where the encoder allows it, sides of pictures are dynamic. Every
graph is run and compared with the model before the folder appears.

Legend: `B` utterances, `S` samples, `P` images, `R` regions, `N` crops, `D` dims, `E` dims embedded.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fairseq_vgs.checkpoints.exports.convert import require_exportable
from fairseq_vgs.checkpoints.exports.folder import (
    Reading,
    exported_model,
    trained_bases,
    write_record,
    write_texts,
)
from fairseq_vgs.checkpoints.exports.graph_texts import KINDS, graph_demo, graph_page, graph_requirements
from fairseq_vgs.checkpoints.exports.load import ExportedModel
from fairseq_vgs.checkpoints.exports.same import require_same
from fairseq_vgs.checkpoints.load import Checkpoint, CheckpointError
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.output import EXPORT, staged_folder
from fairseq_vgs.files.packages import optional_package
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules.hugging_face import quiet

GraphFormat = Literal["onnx", "torch"]
OPSETS = range(18, 26)
"""Versions of ONNX's operators that torch writes without converting them; tests run the default."""

DEFAULT_OPSET = 20
_HALF_STEP = 2.0**-10
"""Between two numbers of half precision, to which features of regions are rounded."""

_CROP = (3, 224, 224)


@dataclass(frozen=True)
class Part:
    """A part of a model that becomes one graph.

    Attributes:
        name: of its file, without the suffix.
        module: computes one tensor of those of ``draw``.
        draw: returns tensors for a number of rows (utterances, images or crops) and a length.
        axes: for every input, the name of each axis that is dynamic, and what it is a multiple of.
        output: name of the result.
        traced, checked: rows and length of the inputs it is traced with, and of those it is then tried on.
        largest_difference: of a result, relative and absolute.
    """

    name: str
    module: nn.Module
    draw: Callable[[int, int], dict[str, Tensor]]
    axes: Mapping[str, Mapping[int, tuple[str, int]]]
    output: str
    traced: tuple[int, int]
    checked: tuple[tuple[int, int], ...]
    largest_difference: float = 1e-4


def export_graphs(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    reading: Reading,
    graph_format: GraphFormat = "onnx",
    opset: int = DEFAULT_OPSET,
    force: bool = False,
) -> None:
    """Write a model's graphs with an example and a page that says what they read, all of it or nothing.

    Args:
        checkpoint: a model of speech with the speech head and image encoder of this package, or an exported
            folder.
        folder: the folder to write.
        reading: how the run read its data.
        graph_format: ``onnx``, for onnxruntime and others, or ``torch``, for ``torch.export.load``.
        opset: version of ONNX's operators.
        force: replace an older export.

    Raises:
        CheckpointError: as ``require_exportable``; ``export.untrained``, no loss of images was trained;
            ``export.inexact``; ``export.graph``, a part of the model has no graph.
        FaultError: ``export.opset``; ``package.missing``; as ``refuse_output``.
    """
    require_graphs(graph_format, opset)
    if not isinstance(checkpoint.model, ExportedModel):
        require_exportable(checkpoint)
    _require_images(checkpoint)
    model: Any = exported_model(checkpoint, reading)
    if not isinstance(checkpoint.model, ExportedModel):
        require_same(checkpoint, model, image_size=reading.image_size)
    settings = model.config.to_dict()
    with staged_folder(folder, maker=EXPORT, force=force) as staging:
        for part in parts_of(model, reading):
            path = staging / (part.name + KINDS[graph_format].suffix)
            with _named(checkpoint, part), _silence():
                program = trace(part)
                _write(program, part, path, graph_format=graph_format, opset=opset)
                _require_same(checkpoint, part, path)
        texts = {
            "demo.py": graph_demo(settings, reading, graph_format=graph_format),
            "requirements.txt": graph_requirements(settings, graph_format=graph_format),
            "README.md": graph_page(settings, reading, graph_format=graph_format, name=folder.name),
        }
        write_texts(staging, texts)
        write_record(staging, checkpoint)


def require_graphs(graph_format: GraphFormat, opset: int) -> None:
    """Refuse what cannot be written here, before any work.

    Raises:
        FaultError: ``export.opset`` or ``package.missing``.
    """
    if graph_format != "onnx":
        return
    if opset not in OPSETS:
        expected = f"must be a version of ONNX's operators from {OPSETS[0]} to {OPSETS[-1]}"
        message = f"{expected}, got {opset}; leave it out for {DEFAULT_OPSET}"
        raise CheckpointError.at("--opset", message, "export.opset")
    for name in ("onnx", "onnxscript", "onnxruntime"):
        optional_package(name, "onnx", place="--graphs")


def parts_of(model: Any, reading: Reading) -> list[Part]:
    """Return the parts of an exported model (a ``VgsModel``) that become graphs."""
    images = _regions(model) if model.image_encoder.reads == "regions" else _pictures(model, reading)
    parts = [_speech(model), images]
    if model.region_network is not None:
        parts.append(_region_features(model))
    return parts


def trace(part: Part) -> torch.export.ExportedProgram:
    """Return a part as a graph of torch's operators, its dynamic axes free."""
    sizes: Any = import_module("torch.fx.experimental._config")
    shapes = tuple({axis: _dimension(*named) for axis, named in axes.items()} for axes in part.axes.values())
    # sizes of 0 and 1 are no special cases: a batch of one is a batch
    with torch.no_grad(), sizes.patch(backed_size_oblivious=True):
        inputs = tuple(part.draw(*part.traced).values())
        return torch.export.export(part.module.eval(), inputs, dynamic_shapes=shapes, strict=False)


def _dimension(name: str, multiple: int) -> Any:
    return torch.export.Dim.DYNAMIC if multiple == 1 else multiple * torch.export.Dim(name, min=1)


class _SpeechEncoder(nn.Module):
    """Embed waveforms `[B, S]`, attention_mask int64 `[B, S]` (0 = padding), as `[B, E]`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        embedding: Tensor = self.model.get_speech_features(input_values, attention_mask)
        return embedding


class _PictureEncoder(nn.Module):
    """Embed pictures `[P, 3, H, W]`, black -1 and white +1, as `[P, E]`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.image_encoder

    def forward(self, pixel_values: Tensor) -> Tensor:
        embedding: Tensor = self.encoder(pixel_values)
        return embedding


class _RegionEncoder(nn.Module):
    """Embed regions: features `[P, R, D]`, boxes `[P, R, 4]`, region_mask bool `[P, R]`, as `[P, E]`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.image_encoder

    def forward(self, features: Tensor, boxes: Tensor, region_mask: Tensor) -> Tensor:
        embedding: Tensor = self.encoder({"features": features, "boxes": boxes, "padding_mask": ~region_mask})
        return embedding


def _speech(model: Any) -> Part:
    def draw(rows: int, length: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(length)
        lengths = length - torch.arange(rows).unsqueeze(1) * (length // (rows + 2))
        mask = torch.arange(length) < lengths
        speech = torch.randn(rows, length, generator=generator).masked_fill(~mask, 0.0)
        return {"input_values": speech, "attention_mask": mask.long()}

    axes = {0: ("batch", 1), 1: ("samples", 1)}
    return Part(
        "speech",
        _SpeechEncoder(model),
        draw,
        {"input_values": axes, "attention_mask": axes},
        "speech_embeds",
        (2, SAMPLE_RATE + 3),
        ((1, SAMPLE_RATE // 2 + 1), (3, 2 * SAMPLE_RATE + 77)),
    )


def _pictures(model: Any, reading: Reading) -> Part:
    def draw(rows: int, side: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(side)
        return {"pixel_values": torch.rand(rows, 3, side, side, generator=generator) * 2 - 1}

    axes, sides = {0: ("batch", 1)}, (reading.image_size, reading.image_size)
    if model.config.image_encoder == "patches":
        patch = int(model.config.image_encoder_settings["patch_size"])
        axes |= {2: ("rows", patch), 3: ("columns", patch)}
        sides = (3 * patch, 2 * patch)
    return Part(
        "image",
        _PictureEncoder(model),
        draw,
        {"pixel_values": axes},
        "image_embeds",
        (2, sides[0]),
        ((1, sides[1]), (3, reading.image_size)),
    )


def _regions(model: Any) -> Part:
    dims = int(model.config.image_encoder_settings["input_dim"])

    def draw(rows: int, regions: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(regions)
        mask = torch.arange(regions) < regions - torch.arange(rows).unsqueeze(1)
        features = torch.rand(rows, regions, dims, generator=generator)
        return {
            "features": features,
            "boxes": torch.rand(rows, regions, 4, generator=generator),
            "region_mask": mask,
        }

    axes = {0: ("batch", 1), 1: ("regions", 1)}
    return Part(
        "image",
        _RegionEncoder(model),
        draw,
        dict.fromkeys(("features", "boxes", "region_mask"), axes),
        "image_embeds",
        (2, 5),
        ((1, 1), (3, 36)),
    )


def _region_features(model: Any) -> Part:
    from fairseq_vgs.checkpoints.exports.modeling.regions_vgs import RegionNetwork

    def draw(rows: int, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {"crops": torch.randint(0, 256, (rows, *_CROP), generator=generator, dtype=torch.uint8)}

    network = RegionNetwork("float32")  # onnxruntime has no convolution in double precision
    network.load_state_dict(model.region_network.state_dict())
    axes = {"crops": {0: ("crops", 1)}}
    return Part("regions", network, draw, axes, "features", (2, 0), ((1, 1), (3, 2)), _HALF_STEP)


def _write(
    program: torch.export.ExportedProgram, part: Part, path: Path, *, graph_format: GraphFormat, opset: int
) -> None:
    if graph_format == "torch":
        torch.export.save(program, path)
        return
    written: Any = torch.onnx.export(
        program,
        (),
        dynamo=True,
        verbose=False,
        opset_version=opset,
        input_names=list(part.axes),
        output_names=[part.output],
        dynamic_shapes=tuple({axis: name for axis, (name, _) in axes.items()} for axes in part.axes.values()),
    )
    written.save(path)


def run_graph(path: Path, inputs: Mapping[str, Tensor]) -> Tensor:
    """Run a graph on the CPU with onnxruntime or, of torch.export, with torch."""
    if path.suffix == KINDS["torch"].suffix:
        with torch.no_grad():
            result: Tensor = torch.export.load(path).module()(*inputs.values())
        return result
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0])


def _require_same(checkpoint: Checkpoint, part: Part, path: Path) -> None:
    """Refuse to publish a graph that computes something else than the model, on other shapes than traced."""
    for shape in part.checked:
        inputs = part.draw(*shape)
        with torch.no_grad():
            wanted = part.module(*inputs.values())
        found = run_graph(path, inputs)
        if not torch.allclose(found, wanted, rtol=part.largest_difference, atol=part.largest_difference):
            got = f"a difference of {float((found - wanted).abs().max()):.2g} in {path.name}"
            message = (
                f"graphs must compute the same as the model, got {got}; report it, with the model's settings"
            )
            raise CheckpointError.at(checkpoint.path, message, "export.inexact")


def _require_images(checkpoint: Checkpoint) -> None:
    if set(trained_bases(checkpoint)) == {"w2v2"}:
        message = (
            "embeddings must be trained, got a model of the scenario w2v2, whose VGS loss never had a "
            "weight; export a run with images, or this one without --graphs"
        )
        raise CheckpointError.at(checkpoint.path, message, "export.untrained")


@contextmanager
def _named(checkpoint: Checkpoint, part: Part) -> Iterator[None]:
    """Name the part of a model that has no graph, such as a backbone that decides by values."""
    try:
        yield
    except (FaultError, OSError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        encoder = "the speech encoder" if part.name == "speech" else "the image encoder"
        message = (
            f"{encoder} must be traceable by torch.export, got {type(error).__name__}: {reason}; "
            "export without --graphs, or report it"
        )
        raise CheckpointError.at(checkpoint.path, message, "export.graph") from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what torch says to its own developers from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
