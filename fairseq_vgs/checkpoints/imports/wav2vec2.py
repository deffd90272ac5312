"""Start from a public wav2vec 2.0: its weights in the speech branch, fresh weights everywhere else.

fairseq's own checkpoints come in two layouts: ``args``, a namespace (``wav2vec_small.pt`` and others before
2021), and ``cfg``, a configuration with sections (since then). Weights carry the names of our model, which
extends fairseq's.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from torch import nn

from fairseq_vgs.checkpoints.imports.paths import ImportFileError, prepare_import, require_wav2vec2
from fairseq_vgs.checkpoints.imports.wav2vec2_branch import SpeechBranch, check_sample_rate, plain_weights
from fairseq_vgs.checkpoints.imports.wav2vec2_hf import read_hugging_face
from fairseq_vgs.checkpoints.load import (
    build_untrained,
    mismatches,
    named,
    read_pickle,
    sections,
    stock_fields,
    three_numbers,
)
from fairseq_vgs.checkpoints.save import ImportedModel, with_overrides, write_import
from fairseq_vgs.models import VgsWav2Vec2Config
from fairseq_vgs.modules.conv_spec import parse_conv_layers
from fairseq_vgs.modules.hugging_face import backbone_size, read_backbone

logger = logging.getLogger(__name__)

_FRESH = 500_000_000
"""Numbers that may be drawn for the visually grounded branch; the paper's takes 0.14 x 10^9."""
REGION_DIM = 2048  # dims of the Faster R-CNN features that the paper uses

# as examples/vgs/model/pictures.yaml
_WITH_BACKBONE: dict[str, Any] = {
    "image_encoder": "hugging_face",
    "image_backbone_output": "tokens",
    "image_layers": 2,
    "image_dim": None,
}
_AUGMENTATION = {"image_crop_scale": 0.6, "image_jitter": 0.1}

_VGS_PARTS = ("speech_head.", "image_encoder.", "encoder.cls_embedding", "logit_scale", "logit_bias")
_AS_WRITTEN = "give the file as fairseq wrote it"
_FINE_TUNED = "a fine-tuned model; give the pre-trained model that it started from"
_OTHER_KINDS = {
    "wav2vec_ctc": _FINE_TUNED,
    "wav2vec_seq2seq": _FINE_TUNED,
    "vgs_wav2vec2": "a model of this plugin, which needs no import; start from it with "
    "checkpoint.finetune_from_model",
}
# Settings under which the shared layers or the SSL targets would differ from what our model computes.
_REFUSED = ("quantize_input", "same_quantizer", "target_glu")
_RUN_SETTINGS = ("fp16", "checkpoint_activations", "max_positions")  # of the machine, not of the model
_KEPT = {  # setting -> the plugin's only value, and why
    "encoder_layerdrop": (0.0, "the shared layer must run in every pass"),
    "mask_selection": ("static", "masks must repeat exactly when a run is resumed"),
}


def import_wav2vec2(
    source: Path,
    output: Path,
    *,
    settings: Sequence[str] = (),
    image_dim: int = REGION_DIM,
    image_backbone: Path | None = None,
    seed: int = 1,
    force: bool = False,
) -> ImportedModel:
    """Write a checkpoint whose speech branch is a public wav2vec 2.0, and ``model/NAME.yaml`` next to it.

    The speech branch computes what the source does only where no CLS vector joins the frames
    (``use_cls=false``).

    Args:
        source: a fairseq checkpoint, or a Hugging Face folder.
        output: the checkpoint to write.
        settings: ``key=value`` or ``model.key=value`` of the model, over the file's and our defaults.
        image_dim: dims of the region features to train on.
        image_backbone: a Hugging Face folder whose vision model, frozen, reads pictures instead of regions.
        seed: of the weights that the source lacks.
        force: replace existing files; without it, they are refused (``FileExistsError``).

    Raises:
        ImportFileError: the source cannot be read or does not fit; every faulty weight is named.
    """
    output = prepare_import(output, force=force)
    require_wav2vec2(source)
    branch = read_hugging_face(source) if source.is_dir() else read_fairseq(source)
    task_settings: dict[str, Any] = {} if branch.normalize is None else {"normalize": bool(branch.normalize)}
    # frames are padded to a multiple of this, without effect on numbers: 1 as in examples/vgs/base.yaml
    defaults: dict[str, Any] = {
        "required_seq_len_multiple": 1,
        "image_dim": image_dim,
        "vgs_layer": _shared_layers(branch),
    }
    if image_backbone is not None:
        backbone = read_backbone(image_backbone)
        defaults |= {
            **_WITH_BACKBONE,
            "image_backbone_config": backbone,
            "image_size": backbone_size(backbone),
        }
        task_settings |= _AUGMENTATION
    model_settings = with_overrides({**defaults, **branch.settings}, settings, branch.source)
    weights_of_backbone = [image_backbone] if image_backbone is not None else []
    model: Any = initialise(branch, model_settings, seed=seed, files=weights_of_backbone)
    if image_backbone is not None:
        model.image_encoder.load_pretrained(image_backbone)
        logger.info("%s: image backbone", image_backbone)
    return write_import(
        output,
        model,
        model_settings=model_settings,
        task_settings=task_settings,
        criterion_settings={},
        origin={"format": "wav2vec2", "source": source.name, "seed": seed, "dropped": dict(branch.dropped)},
        images={},  # none yet
        force=force,
    )


def _shared_layers(branch: SpeechBranch) -> int:
    """Return the paper's number of shared layers, or all layers where there are fewer."""
    n_layers = int(branch.settings.get("encoder_layers", Wav2Vec2Config.encoder_layers))
    return min(VgsWav2Vec2Config.vgs_layer, n_layers)


def initialise(
    branch: SpeechBranch, model_settings: Mapping[str, Any], *, seed: int, files: Sequence[Path] = ()
) -> nn.Module:
    """Build the model with fresh, seeded weights and put the file's weights into its speech branch.

    Other parts may have weights in ``files``.

    Raises:
        ImportFileError: a weight is missing, has no place, or has another shape; all are named.
    """
    model = build_untrained(
        model_settings, seed=seed, path=branch.source, files=[branch.source, *files], spare=_FRESH
    )
    state = model.state_dict()
    drawn = sorted(state.keys() - branch.weights.keys())
    may_be_drawn = (*_VGS_PARTS, *branch.fresh)
    reshaped = [
        f"{key} {tuple(tensor.shape)} instead of {tuple(state[key].shape)}"
        for key, tensor in branch.weights.items()
        if key in state and tensor.shape != state[key].shape
    ]
    missing = [key for key in drawn if not key.startswith(may_be_drawn)]
    if text := mismatches(missing, branch.weights.keys() - state.keys(), reshaped):
        step = "leave settings that change shapes out of --set, or give another file"
        message = f"weights must fit the file's own settings key by key, got {text}; {step}"
        raise ImportFileError.at(branch.source, message, "import.mismatch")
    model.load_state_dict({**state, **branch.weights}, strict=True)
    _log_account(branch, drawn, seed=seed)
    return model


def _log_account(branch: SpeechBranch, drawn: Iterable[str], *, seed: int) -> None:
    logger.info("%s: %d tensors matched", branch.source, len(branch.weights))
    for key, reason in branch.dropped.items():
        logger.info("left out: %s (%s)", key, reason)
    for start, reason in branch.fresh.items():
        logger.warning("drawn with seed %d: %s (%s)", seed, start.rstrip("."), reason)
    parts = Counter(_part(key) for key in drawn)
    logger.info("drawn with seed %d: %s", seed, ", ".join(f"{n} of {part}" for part, n in parts.items()))
    for note in branch.notes:
        logger.info("%s", note)


def _part(key: str) -> str:
    return next((part.rstrip(".") for part in _VGS_PARTS if key.startswith(part)), key.partition(".")[0])


def read_fairseq(path: Path) -> SpeechBranch:
    """Read a checkpoint of fairseq's ``wav2vec2``.

    Raises:
        ImportFileError: it cannot be read safely, is of another kind, or uses parts that our model lacks.
    """
    state = read_pickle(path, ImportFileError)
    if not isinstance(state, Mapping) or "model" not in state:
        step = "give a file such as wav2vec_small.pt, or a Hugging Face folder"
        message = f"must hold the entry model of a fairseq checkpoint, got none; {step}"
        raise ImportFileError.at(path, message, "import.entry")
    model, task = sections(state)
    if not model and not task:
        message = f"must hold the settings of its run (entry cfg or args), got none; {_AS_WRITTEN}"
        raise ImportFileError.at(path, message, "import.entry")
    kind = model.get("_name") or model.get("arch")
    if kind != "wav2vec2":
        known = _OTHER_KINDS.get(str(kind), "another architecture; give a wav2vec 2.0 checkpoint")
        raise ImportFileError.at(path, f"must be fairseq's wav2vec2, got {kind!r}: {known}", "import.kind")
    check_sample_rate(task.get("sample_rate"), path)
    settings, notes = _speech_settings(model, path)
    return SpeechBranch(
        source=path,
        settings=settings,
        weights=plain_weights(state["model"], path),
        normalize=task.get("normalize"),
        notes=notes,
    )


def _speech_settings(model: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Pick fairseq's settings of wav2vec 2.0; note those that the plugin sets otherwise."""
    if used := [key for key in _REFUSED if model.get(key)]:
        lacking = f"{', '.join(_REFUSED)}, which this plugin's model lacks"
        message = f"must not use {lacking}, got {named(used)} switched on; give another checkpoint"
        raise ImportFileError.at(path, message, "import.kind")
    if str(model.get("layer_type", "transformer")) != "transformer":
        message = f"layer_type must be transformer, got {model['layer_type']}; give another checkpoint"
        raise ImportFileError.at(path, message, "import.kind")
    settings = {
        key: model[key] for key in stock_fields() if model.get(key) is not None and key not in _RUN_SETTINGS
    }
    if live := [key for key, value in settings.items() if "${" in str(value)]:
        message = f"model settings must be plain values, got interpolations in {named(live)}; {_AS_WRITTEN}"
        raise ImportFileError.at(path, message, "import.settings")
    try:
        parse_conv_layers(str(settings.get("conv_feature_layers", Wav2Vec2Config.conv_feature_layers)))
        if "latent_temp" in settings:
            settings["latent_temp"] = three_numbers(settings["latent_temp"])
    except ValueError as error:
        raise ImportFileError.at(path, f"{error}; {_AS_WRITTEN}", "import.settings") from error
    notes = []
    for key, (value, reason) in _KEPT.items():
        if settings.get(key, value) != value:
            notes.append(f"{key} is {value} instead of the file's {settings[key]}: {reason}")
            settings[key] = value
    return settings, tuple(notes)
