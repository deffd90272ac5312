"""Whether an exported model computes the same as the model in fairseq: layers and both embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fairseq_vgs.checkpoints.exports.load import ExportedModel
from fairseq_vgs.checkpoints.load import Checkpoint, CheckpointError
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules.conv_spec import n_frames, parse_conv_layers

LARGEST_DIFFERENCE = 1e-4
"""Of a weakly trained model, whose numbers may be large; those of ordinary models differ by 1e-6."""
_LENGTHS = (SAMPLE_RATE + 1, SAMPLE_RATE // 2 + 7)  # samples; the second utterance is padded
_N_REGIONS = 5


def require_same(
    checkpoint: Checkpoint, exported: Any, *, image_size: int, largest: float = LARGEST_DIFFERENCE
) -> None:
    """Refuse an exported ``VgsModel`` that computes something else than the model it was made from.

    ``image_size`` is the side of the pictures that it reads, pixels.

    Raises:
        CheckpointError: ``export.inexact``.
    """
    ours: Any = checkpoint.model
    theirs = ExportedModel(exported, exported.config.to_dict())
    speech = torch.randn(2, max(_LENGTHS), generator=torch.Generator().manual_seed(0))
    padding = torch.arange(max(_LENGTHS)) >= torch.tensor(_LENGTHS).unsqueeze(1)
    speech = speech.masked_fill(padding, 0.0)
    image = _image(theirs, image_size)
    with torch.inference_mode():
        pairs = [
            ("speech embeddings", theirs.encode_speech(speech, padding), ours.encode_speech(speech, padding)),
            ("image embeddings", theirs.encode_image(image), ours.encode_image(image)),
        ]
        pairs += _layers(ours, theirs, speech, padding)
    for what, found, wanted in pairs:
        require_close(checkpoint, found, wanted, what=what, largest=largest)


def require_close(
    checkpoint: Checkpoint,
    found: Tensor,
    wanted: Tensor,
    *,
    what: str = "",
    largest: float = LARGEST_DIFFERENCE,
) -> None:
    """Refuse values that differ by more than ``largest``, relative to the largest value or 1.

    Raises:
        CheckpointError: ``export.inexact``.
    """
    if torch.allclose(found, wanted, rtol=largest, atol=largest * max(1.0, float(wanted.abs().max()))):
        return
    got = f"a difference of {float((found - wanted).abs().max()):.2g}{f' in {what}' if what else ''}"
    message = f"exported model must compute the same, got {got}; report it, with the run's configuration"
    raise CheckpointError.at(checkpoint.path, message, "export.inexact")


def _layers(
    ours: Any, theirs: ExportedModel, speech: Tensor, padding: Tensor
) -> list[tuple[str, Tensor, Tensor]]:
    """Pair what each layer puts out, f[T, B, D], in the frames that speech determines."""
    wanted = [result[0] for result in ours.extract_features(speech, padding, mask=False)["layer_results"]]
    found = theirs.encode_layers(speech, padding)[0][1:]
    conv = parse_conv_layers(ours.cfg.conv_feature_layers)
    return [
        (f"layer {number}", mine[: n_frames(length, conv), row], yours[: n_frames(length, conv), row])
        for number, (mine, yours) in enumerate(zip(found, wanted, strict=True), start=1)
        for row, length in enumerate(_LENGTHS)
    ]


def _image(theirs: ExportedModel, size: int) -> dict[str, Tensor]:
    """Draw what the image encoder reads: two pictures, or regions, of which the second has one less."""
    generator = torch.Generator().manual_seed(0)
    if theirs.cfg.image_encoder != "regions":
        shape = (2, 3, size, size)
        return {"pictures": 2 * torch.rand(shape, generator=generator) - 1}
    dims = int(theirs.cfg.image_encoder_settings["input_dim"])
    return {
        "features": torch.rand(2, _N_REGIONS, dims, generator=generator),
        "boxes": torch.rand(2, _N_REGIONS, 4, generator=generator),
        "padding_mask": torch.arange(_N_REGIONS) >= torch.tensor([[_N_REGIONS], [_N_REGIONS - 1]]),
    }
