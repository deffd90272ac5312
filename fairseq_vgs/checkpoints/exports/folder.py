"""Write the folder that others load: modelling files, settings, weights, preprocessing, card and examples."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from fairseq_vgs.checkpoints.exports import modeling
from fairseq_vgs.checkpoints.exports.convert import require_exportable, settings_of, weights_of
from fairseq_vgs.checkpoints.exports.load import MODEL_TYPE
from fairseq_vgs.checkpoints.exports.regions import own_recipe, region_weights
from fairseq_vgs.checkpoints.exports.texts import demo, requirements
from fairseq_vgs.checkpoints.exports.wav2vec2 import plain_model, require_plain, write_plain
from fairseq_vgs.checkpoints.load import Checkpoint, CheckpointError, section
from fairseq_vgs.checkpoints.places import EXPORTED_CONFIG, EXPORTED_WEIGHTS
from fairseq_vgs.files.output import EXPORT, EXPORT_NAME, MADE_BY_EXPORT, MADE_BY_KEY, staged_folder
from fairseq_vgs.files.packages import optional_package
from fairseq_vgs.files.provenance import sha256_file, versions
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules.hugging_face import quiet
from fairseq_vgs.regions import objects

PRETRAINING_NAME = "pretraining.safetensors"
_CODE = Path(modeling.__file__).parent
_ALWAYS = ("configuration", "feature_extraction", "image", "layers", "modeling", "speech", "speech_heads")
_KEPT_TASK = (
    "_name",
    "normalize",
    "valid_max_seconds",
    "pad_to_max",
    "image_input",
    "image_size",
    "image_fit",
    "max_regions",
)
Card = Callable[[Mapping[str, Any]], str]
_LARGEST_DIFFERENCE = 1e-4
"""Of a weakly trained model, whose numbers may be large; those of ordinary models differ by 1e-6."""


@dataclass(frozen=True)
class Reading:
    """How a run reads its data: see ``embedded_speech``; side in pixels and fit of a picture."""

    max_samples: int
    pad_to_max: bool
    image_size: int
    image_fit: str


def export_checkpoint(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    reading: Reading,
    card: Card | None = None,
    force: bool = False,
) -> None:
    """Write a model as a folder that needs torch and transformers alone, all of it or nothing.

    The folder is loaded and compared with the model before it takes its name.

    Args:
        checkpoint: a model of speech with the speech head and image encoder of this package.
        folder: the folder to write.
        reading: how the run read its data.
        card: returns the model card for the settings of the exported model.
        force: replace an older export.

    Raises:
        CheckpointError: ``export.text``, ``export.extension``, ``export.settings`` or ``export.inexact``.
        FaultError: as ``refuse_output``; ``package.missing``.
    """
    settings = _settings(checkpoint, reading)
    weights, for_pretraining = weights_of(checkpoint.model)
    recipe = own_recipe(checkpoint, settings)
    if recipe is not None:
        settings["region_network"] = {"precision": recipe["precision"]}
        weights |= region_weights()
    with staged_folder(folder, maker=EXPORT, force=force) as staging:
        _write_code(staging, settings)
        _write_settings(staging, settings, reading)
        if recipe is not None:
            _write_regions(staging, recipe, checkpoint)
        _save(weights, staging / EXPORTED_WEIGHTS)
        if for_pretraining:
            _save(for_pretraining, staging / PRETRAINING_NAME)
        _require_same(checkpoint, staging)
        if card is not None:
            _write_texts(staging, {"README.md": card(settings)})
        _write_record(staging, checkpoint)


def export_plain(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    reading: Reading,
    card: Card | None = None,
    force: bool = False,
) -> None:
    """Write the speech encoder alone, as a ``Wav2Vec2Model`` that transformers loads without further code.

    Raises:
        CheckpointError: ``export.cls``: the model has a CLS vector; others as `export_checkpoint`.
        FaultError: as ``refuse_output``; ``package.missing``.
    """
    settings = _settings(checkpoint, reading)
    require_plain(checkpoint)
    plain, model = plain_model(checkpoint.model, settings), cast(Any, checkpoint.model)
    with staged_folder(folder, maker=EXPORT, force=force) as staging:
        with quiet():
            write_plain(staging, plain, normalize=settings["normalize"])
            written = type(plain).from_pretrained(staging).eval()
        speech = torch.randn(1, SAMPLE_RATE + 1, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            wanted = model.extract_features(speech, None, mask=False)["x"]
            _require_close(checkpoint, written(speech).last_hidden_state, wanted)
        if card is not None:
            _write_texts(staging, {"README.md": card(settings)})
        _write_record(staging, checkpoint)


def _settings(checkpoint: Checkpoint, reading: Reading) -> dict[str, Any]:
    require_exportable(checkpoint)
    for name in ("transformers", "safetensors.torch"):
        optional_package(name, "backbones", place="export")
    return settings_of(
        checkpoint.model,
        criterion=section(checkpoint.config, "criterion"),
        task=section(checkpoint.config, "task"),
        max_seconds=reading.max_samples / SAMPLE_RATE,
    )


def _write_code(folder: Path, settings: Mapping[str, Any]) -> None:
    names = [*_ALWAYS, *(["image_processing"] if settings["image_encoder"] != "regions" else [])]
    for name in (*names, "regions"):
        shutil.copyfile(_CODE / f"{name}_vgs.py", folder / f"{name}_vgs.py")
    shutil.copyfile(_CODE / "expert.py", folder / "expert.py")
    texts = {"demo.py": demo(settings), "requirements.txt": requirements(settings)}
    _write_texts(folder, texts)


def _write_settings(folder: Path, settings: Mapping[str, Any], reading: Reading) -> None:
    model = {
        "model_type": MODEL_TYPE,
        "architectures": ["VgsModel"],
        "auto_map": {"AutoConfig": "configuration_vgs.VgsConfig", "AutoModel": "modeling_vgs.VgsModel"},
        "dtype": "float32",
        **settings,
    }
    _write_json(folder / EXPORTED_CONFIG, model)
    speech = {
        "feature_extractor_type": "VgsFeatureExtractor",
        "auto_map": {"AutoFeatureExtractor": "feature_extraction_vgs.VgsFeatureExtractor"},
        "feature_size": 1,
        "sampling_rate": SAMPLE_RATE,
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": settings["normalize"],
        "return_attention_mask": True,
        "max_samples": reading.max_samples,
        "pad_to_max": reading.pad_to_max,
    }
    _write_json(folder / "preprocessor_config.json", speech)
    if settings["image_encoder"] != "regions":
        pictures = {
            "image_processor_type": "VgsImageProcessor",
            "auto_map": {"AutoImageProcessor": "image_processing_vgs.VgsImageProcessor"},
            "image_size": reading.image_size,
            "fit": reading.image_fit,
        }
        _write_json(folder / "processor_config.json", {"image_processor": pictures})


def _write_regions(folder: Path, recipe: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Write how pictures become regions, and the code for it."""
    shutil.copyfile(_CODE / "region_processing_vgs.py", folder / "region_processing_vgs.py")
    shutil.copyfile(str(objects.__file__), folder / "objects_vgs.py")
    task = section(checkpoint.config, "task")
    regions = {
        "image_processor_type": "VgsRegionProcessor",
        "auto_map": {"AutoImageProcessor": "region_processing_vgs.VgsRegionProcessor"},
        "max_regions": int(task.get("max_regions") or 36),
        **{key: recipe[key] for key in ("grid", "where") if recipe.get(key)},
    }
    _write_json(folder / "processor_config.json", {"image_processor": regions})


def _write_record(folder: Path, checkpoint: Checkpoint) -> None:
    """Write where the model comes from, its settings in full, and the hashes of all files."""
    task = section(checkpoint.config, "task")
    model = {
        key: value for key, value in section(checkpoint.config, "model").items() if key != "image_backbone"
    }
    record = {
        MADE_BY_KEY: MADE_BY_EXPORT,
        "checkpoint": {
            "name": checkpoint.path.name,
            "sha256": sha256_file(checkpoint.path),
            "n_updates": checkpoint.n_updates,
        },
        "model": model,
        "task": {key: task[key] for key in _KEPT_TASK if key in task},
        "criterion": {"similarity": checkpoint.similarity},
        "images": dict(checkpoint.images),
        "versions": versions(),
        "files": {path.name: sha256_file(path) for path in sorted(folder.iterdir())},
    }
    _write_json(folder / EXPORT_NAME, record)


def _require_same(checkpoint: Checkpoint, folder: Path) -> None:
    """Refuse to publish a folder that computes something else than the model it was made from."""
    from fairseq_vgs.checkpoints.exports.modeling.modeling_vgs import VgsModel

    with quiet():
        exported: Any = VgsModel.from_pretrained(folder).eval()
    model: Any = checkpoint.model
    generator = torch.Generator().manual_seed(0)
    speech = torch.randn(2, SAMPLE_RATE + 1, generator=generator)
    padding_mask = torch.arange(SAMPLE_RATE + 1) >= torch.tensor([[SAMPLE_RATE + 1], [SAMPLE_RATE // 2 + 7]])
    speech = speech.masked_fill(padding_mask, 0.0)
    with torch.inference_mode():
        wanted = model.encode_speech(speech, padding_mask)
        found = exported.get_speech_features(speech, ~padding_mask)
    _require_close(checkpoint, found, wanted)


def _require_close(checkpoint: Checkpoint, found: Tensor, wanted: Tensor) -> None:
    if not torch.allclose(found, wanted, rtol=_LARGEST_DIFFERENCE, atol=_LARGEST_DIFFERENCE):
        got = f"a difference of {float((found - wanted).abs().max()):.2g}"
        message = f"exported model must compute the same, got {got}; report it, with the run's configuration"
        raise CheckpointError.at(checkpoint.path, message, "export.inexact")


def _save(weights: Mapping[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, path, metadata={"format": "pt"}
    )
    path.chmod(mode)  # that of other files, which safetensors narrows


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write_texts(path.parent, {path.name: json.dumps(content, indent=2, ensure_ascii=False) + "\n"})


def _write_texts(folder: Path, texts: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
    for name, text in dict(texts).items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
