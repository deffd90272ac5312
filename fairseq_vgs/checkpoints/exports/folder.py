"""Write the folder that others load: modelling files, settings, weights, preprocessing, card and examples."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor

from fairseq_vgs.checkpoints.exports import modeling
from fairseq_vgs.checkpoints.exports.convert import (
    REGION_NETWORK,
    require_exportable,
    settings_of,
    weights_of,
)
from fairseq_vgs.checkpoints.exports.load import MODEL_TYPE, PHASES, TRAINING_DATA, ExportedModel
from fairseq_vgs.checkpoints.exports.regions import own_recipe, region_weights
from fairseq_vgs.checkpoints.exports.same import LARGEST_DIFFERENCE, require_close, require_same
from fairseq_vgs.checkpoints.exports.texts import demo, requirements
from fairseq_vgs.checkpoints.exports.wav2vec2 import plain_model, require_plain, write_plain
from fairseq_vgs.checkpoints.load import Checkpoint, section
from fairseq_vgs.checkpoints.phases import read_phases
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
Card = Callable[[Mapping[str, Any], str], str]
"""Returns the model card for the settings of the exported model and the SHA-256 of its weights."""

_LARGEST_ROUNDING = 0.02
"""The same of weights in half precision; embeddings of ordinary models differ by 0.001."""


@dataclass(frozen=True)
class Reading:
    """How a run reads its data: see ``embedded_speech``; side in pixels and fit of a picture."""

    max_samples: int
    pad_to_max: bool
    image_size: int
    image_fit: str


@dataclass(frozen=True)
class Layout:
    """How a folder stores a model.

    Attributes:
        half: store weights in half precision (float16); they compute in fp32 all the same.
        bare: settings, weights and card alone, for this package: no modelling files, no region network.
    """

    half: bool = False
    bare: bool = False


def export_checkpoint(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    reading: Reading,
    layout: Layout = Layout(),
    training_data: Mapping[str, Any] | None = None,
    card: Card | None = None,
    force: bool = False,
) -> None:
    """Write a model as a folder that needs torch and transformers alone, all of it or nothing.

    The folder is loaded and compared with the model before it takes its name.

    Args:
        checkpoint: a model of speech with the speech head and image encoder of this package.
        folder: the folder to write.
        reading: how the run read its data.
        layout: how the folder stores it.
        training_data: what is known of the data of the training, plain values.
        card: returns the model card.
        force: replace an older export.

    Raises:
        CheckpointError: ``export.text``, ``export.extension``, ``export.settings`` or ``export.inexact``.
        FaultError: as ``refuse_output``; ``package.missing``.
    """
    settings = _settings(checkpoint, reading)
    weights, for_pretraining = weights_of(checkpoint.model)
    recipe = None if layout.bare else own_recipe(checkpoint, settings)
    if recipe is not None:
        settings["region_network"] = {"precision": recipe["precision"]}
        weights |= region_weights()
    with staged_folder(folder, maker=EXPORT, force=force) as staging:
        if not layout.bare:
            _write_code(staging, settings)
        _write_settings(staging, settings, reading, bare=layout.bare)
        if recipe is not None:
            _write_regions(staging, recipe, checkpoint)
        _save(weights, staging / EXPORTED_WEIGHTS)
        if for_pretraining:
            _save(for_pretraining, staging / PRETRAINING_NAME)
        _require_same(checkpoint, staging, reading)
        if layout.half:
            for path in staging.glob("*.safetensors"):
                _halve(path)
            _require_same(checkpoint, staging, reading, largest=_LARGEST_ROUNDING)
        _write_card(staging, card, settings)
        write_record(staging, checkpoint, training_data or {})


def export_plain(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    reading: Reading,
    half: bool = False,
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
            if half:
                _halve(staging / EXPORTED_WEIGHTS)
            written = type(plain).from_pretrained(staging).eval()
        speech = torch.randn(1, SAMPLE_RATE + 1, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            wanted = model.extract_features(speech, None, mask=False)["x"]
            largest = _LARGEST_ROUNDING if half else LARGEST_DIFFERENCE
            require_close(checkpoint, written(speech).last_hidden_state, wanted, largest=largest)
        _write_card(staging, card, settings)
        write_record(staging, checkpoint)


def exported_model(checkpoint: Checkpoint, reading: Reading) -> Any:
    """Return the ``VgsModel`` of a checkpoint or exported folder, in memory, in evaluation mode.

    Raises:
        CheckpointError: as `export_checkpoint`.
        FaultError: ``package.missing``.
    """
    if isinstance(checkpoint.model, ExportedModel):
        return checkpoint.model.model
    settings, weights = _settings(checkpoint, reading), weights_of(checkpoint.model)[0]
    from fairseq_vgs.checkpoints.exports.modeling.configuration_vgs import VgsConfig
    from fairseq_vgs.checkpoints.exports.modeling.modeling_vgs import VgsModel

    if (recipe := own_recipe(checkpoint, settings)) is not None:
        settings["region_network"] = {"precision": recipe["precision"]}
        weights |= region_weights()
    with quiet(), torch.random.fork_rng(devices=[]):
        model: Any = VgsModel(VgsConfig(**settings))
    model.load_state_dict(weights, strict=True)
    return model.eval().requires_grad_(False)


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
    names = list(_ALWAYS)
    if settings["image_encoder"] != "regions":
        names += ["image_processing", "pictures"]
    for name in (*names, "regions"):
        shutil.copyfile(_CODE / f"{name}_vgs.py", folder / f"{name}_vgs.py")
    shutil.copyfile(_CODE / "expert.py", folder / "expert.py")
    texts = {"demo.py": demo(settings), "requirements.txt": requirements(settings)}
    write_texts(folder, texts)


def _write_settings(
    folder: Path, settings: Mapping[str, Any], reading: Reading, *, bare: bool = False
) -> None:
    model = {
        "model_type": MODEL_TYPE,
        "architectures": ["VgsModel"],
        **_auto_map(bare, AutoConfig="configuration_vgs.VgsConfig", AutoModel="modeling_vgs.VgsModel"),
        "dtype": "float32",
        **settings,
    }
    _write_json(folder / EXPORTED_CONFIG, model)
    speech = {
        "feature_extractor_type": "VgsFeatureExtractor",
        **_auto_map(bare, AutoFeatureExtractor="feature_extraction_vgs.VgsFeatureExtractor"),
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
            **_auto_map(bare, AutoImageProcessor="image_processing_vgs.VgsImageProcessor"),
            "image_size": reading.image_size,
            "fit": reading.image_fit,
        }
        _write_json(folder / "processor_config.json", {"image_processor": pictures})


def _auto_map(bare: bool, **classes: str) -> dict[str, Any]:
    """Return where transformers finds the classes of a folder; nowhere without the modelling files."""
    return {} if bare else {"auto_map": classes}


def _write_regions(folder: Path, recipe: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Write how pictures become regions, and the code for it."""
    for name in ("region_processing", "pictures"):
        shutil.copyfile(_CODE / f"{name}_vgs.py", folder / f"{name}_vgs.py")
    shutil.copyfile(str(objects.__file__), folder / "objects_vgs.py")
    task = section(checkpoint.config, "task")
    regions = {
        "image_processor_type": "VgsRegionProcessor",
        "auto_map": {"AutoImageProcessor": "region_processing_vgs.VgsRegionProcessor"},
        "max_regions": int(task.get("max_regions") or 36),
        **{key: recipe[key] for key in ("grid", "where") if recipe.get(key)},
    }
    _write_json(folder / "processor_config.json", {"image_processor": regions})


def _write_card(folder: Path, card: Card | None, settings: Mapping[str, Any]) -> None:
    if card is not None:
        write_texts(folder, {"README.md": card(settings, sha256_file(folder / EXPORTED_WEIGHTS))})


def write_record(
    folder: Path, checkpoint: Checkpoint, training_data: Mapping[str, Any] = MappingProxyType({})
) -> None:
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
        TRAINING_DATA: dict(training_data),
        PHASES: {"bases": list(trained_bases(checkpoint))},
        "versions": versions(),
        "files": {path.name: sha256_file(path) for path in sorted(folder.iterdir())},
    }
    _write_json(folder / EXPORT_NAME, record)


def trained_bases(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the bases that a checkpoint or exported folder was trained on; none of an older folder."""
    if not isinstance(checkpoint.model, ExportedModel):
        return read_phases(checkpoint.path).bases
    found = section(checkpoint.config, PHASES).get("bases")
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _halve(path: Path) -> None:
    """Store weights in half precision, but not those of the region network, and counts."""
    from safetensors.torch import load_file

    weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not name.startswith(REGION_NETWORK):
            weights[name] = tensor.half()
    _save(weights, path)


def _require_same(
    checkpoint: Checkpoint, folder: Path, reading: Reading, *, largest: float = LARGEST_DIFFERENCE
) -> None:
    """Refuse to publish a folder that computes something else than the model it was made from."""
    from fairseq_vgs.checkpoints.exports.modeling.modeling_vgs import VgsModel

    with quiet():
        exported = VgsModel.from_pretrained(folder).eval()
    require_same(checkpoint, exported, image_size=reading.image_size, largest=largest)


def _save(weights: Mapping[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, path, metadata={"format": "pt"}
    )
    path.chmod(mode)  # that of other files, which safetensors narrows


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_texts(path.parent, {path.name: json.dumps(content, indent=2, ensure_ascii=False) + "\n"})


def write_texts(folder: Path, texts: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
    """Write texts, by the names of their files."""
    for name, text in dict(texts).items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
