"""Exported folders in place of checkpoints: everything that reads a model takes them, without fairseq.

The model is built by this package's own modelling files; none of the folder's code is run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_vgs.checkpoints.exports.convert import model_settings_of
from fairseq_vgs.checkpoints.load import (
    MODEL_NAMES,
    Checkpoint,
    CheckpointError,
    build_untrained,
    mismatches,
    named,
    section,
)
from fairseq_vgs.checkpoints.places import EXPORTED_CONFIG
from fairseq_vgs.compat.availability import require_fairseq
from fairseq_vgs.compat.building import TooLargeError, refuse_absurd_numbers, within_limits_of
from fairseq_vgs.files.output import EXPORT_NAME
from fairseq_vgs.files.packages import optional_package
from fairseq_vgs.files.provenance import sha256_once
from fairseq_vgs.files.texts import read_object
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules.hugging_face import quiet

logger = logging.getLogger(__name__)

MODEL_TYPE = "fairseq_vgs"
TRAINING_DATA = "training_data"
"""Entry of the record, and section of a loaded folder's settings: what is known of the training's data."""
PHASES = "phases"
"""Entry of the record, and section of a loaded folder's settings: ``bases``, as `Phases.bases` has them."""
_AGAIN = "download or export the folder again"
_FREE_TO_EDIT = ("README.md", "demo.py", "requirements.txt")


class ExportedModel(nn.Module):
    """An exported model with the interface of ours: B utterances, S samples, E embedding dims, P images."""

    def __init__(self, model: nn.Module, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.model: Any = model
        self.cfg = SimpleNamespace(**settings)
        self.exact_padding = self.cfg.padding == "exact"

    @property
    def feature_extractor(self) -> Any:
        """The convolutional extractor."""
        return self.model.feature_extractor

    @property
    def encoder(self) -> Any:
        """The speech transformer."""
        return self.model.encoder

    @property
    def region_network(self) -> nn.Module | None:
        """The network that computes regions of pictures; None where there is none."""
        network: nn.Module | None = self.model.region_network
        return network

    def encode_speech(self, source: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Embed utterances: f[B, S], padding bool[B, S] (true = padding) -> f[B, E]."""
        embedding: Tensor = self.model.get_speech_features(source, _speech_mask(padding_mask))
        return embedding.float()

    def encode_image(self, image: dict[str, Tensor]) -> Tensor:
        """Embed pictures, as the image encoder reads them (leading axis P) -> f[P, E]."""
        if "pictures" in image:
            embedding: Tensor = self.model.get_image_features(image["pictures"])
        else:
            embedding = self.model.get_image_features(regions=image)
        return embedding.float()

    def encode_layers(self, source: Tensor, padding_mask: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Return what enters the first layer and what each puts out, f[T, B, D], and the embedding."""
        output = self.model(source, _speech_mask(padding_mask), output_hidden_states=True)
        return [state.transpose(0, 1) for state in output.hidden_states], output.speech_embeds


def load_export(path: Path, *, untrained_seed: int | None = None) -> Checkpoint:
    """Load the model of an exported folder, given by its ``model.safetensors``.

    Raises:
        CheckpointError: ``checkpoint.kind``, ``checkpoint.settings``, ``checkpoint.mismatch`` or
            ``checkpoint.unreadable``; ``export.changed``, weights, settings or modelling files are not those
            that were exported.
        FaultError: ``package.missing``; an untrained model, which fairseq draws, without fairseq.
    """
    folder = path.parent
    optional_package("transformers", "backbones", place=folder)
    found = read_object(folder / EXPORTED_CONFIG, _AGAIN, error=CheckpointError)
    if found.get("model_type") != MODEL_TYPE:
        message = f"model_type must be {MODEL_TYPE}, got {found.get('model_type')!r}; give an exported model"
        raise CheckpointError.at(folder / EXPORTED_CONFIG, message, "checkpoint.kind")
    record_path = folder / EXPORT_NAME
    record = read_object(record_path, _AGAIN, error=CheckpointError) if record_path.is_file() else {}
    _refuse_changes(folder, section(record, "files"))
    config = _config(folder, found, record)
    if untrained_seed is not None:
        require_fairseq()
        drawn = build_untrained(config["model"], seed=untrained_seed, path=path).eval().requires_grad_(False)
        return Checkpoint(drawn, path, config, 0, trained=False, images=section(record, "images"))
    model = ExportedModel(_loaded(path, found), config["model"]).eval().requires_grad_(False)
    made = section(record, "checkpoint").get("n_updates", 0)
    logger.info("%s: %d tensors matched, %d updates", path, len(model.state_dict()), made)
    version = str(section(record, "versions").get("fairseq_vgs", ""))
    return Checkpoint(model, path, config, int(made), True, version, section(record, "images"))


def _loaded(path: Path, found: Mapping[str, Any]) -> nn.Module:
    """Build the model of a folder with its weights, all of them and no others.

    ``from_pretrained`` would also follow what else a folder can hold: adapters, quantisation, and attention
    kernels that it downloads and runs. The model gets memory only where the settings fit the weights.
    """
    from safetensors.torch import load_file

    from fairseq_vgs.checkpoints.exports.modeling.configuration_vgs import VgsConfig
    from fairseq_vgs.checkpoints.exports.modeling.modeling_vgs import VgsModel

    known = {name: found[name] for name in signature(VgsConfig).parameters if name in found}
    try:
        refuse_absurd_numbers(known)
        shapes = _shapes(path)
        with quiet(), torch.random.fork_rng(devices=[]):
            with torch.device("meta"), within_limits_of(path):
                outline = VgsModel(VgsConfig(**known)).state_dict()
            _refuse_others(path, shapes, {name: tuple(tensor.shape) for name, tensor in outline.items()})
            model: nn.Module = VgsModel(VgsConfig(**known))
        model.load_state_dict(load_file(path))
    except TooLargeError as error:
        message = f"its settings must fit {path.name}: {error}; {_AGAIN}"
        raise CheckpointError.at(path.parent / EXPORTED_CONFIG, message, "checkpoint.settings") from error
    except CheckpointError:
        raise
    except Exception as error:
        message = f"must be the weights of an exported model, could not be read ({error}); {_AGAIN}"
        raise CheckpointError.at(path, message, "checkpoint.unreadable") from error
    return model


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all weights, from the file's header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping


def _refuse_others(
    path: Path, weights: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse weights that are not, by name and shape, those that the settings describe."""
    reshaped = [name for name in expected.keys() & weights.keys() if weights[name] != expected[name]]
    if text := mismatches(expected.keys() - weights.keys(), weights.keys() - expected.keys(), reshaped):
        message = f"weights must match {EXPORTED_CONFIG} key by key, got {text}; {_AGAIN}"
        raise CheckpointError.at(path, message, "checkpoint.mismatch")


def _config(folder: Path, found: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the run, as checkpoints have them; what was trained elsewhere has fewer."""
    try:
        model = {**section(record, "model"), **model_settings_of(found), "_name": MODEL_NAMES[0]}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        message = f"settings must be those of an exported model, got {error!r}; {_AGAIN}"
        raise CheckpointError.at(folder / EXPORTED_CONFIG, message, "checkpoint.settings") from error
    path = folder / "preprocessor_config.json"
    speech = read_object(path, _AGAIN, error=CheckpointError) if path.is_file() else {}
    task = {
        "normalize": bool(found.get("normalize", True)),
        "valid_max_seconds": float(found.get("max_seconds", 10.0)),
        "pad_to_max": bool(speech.get("pad_to_max", False)),
        **section(record, "task"),
    }
    if samples := speech.get("max_samples"):
        task["valid_max_seconds"] = samples / SAMPLE_RATE
    return {
        "model": model,
        "task": task,
        "criterion": {"similarity": str(found.get("similarity", "dot"))},
        TRAINING_DATA: section(record, TRAINING_DATA),
        PHASES: section(record, PHASES),
    }


def _refuse_changes(folder: Path, hashes: Mapping[str, Any]) -> None:
    """Refuse a folder whose files, but texts that anybody may edit, are not those of its record."""
    changed = []
    for name, digest in hashes.items():
        if name in _FREE_TO_EDIT or Path(name).name != name:
            continue
        path = folder / name
        if not path.is_file() or sha256_once(path) != digest:
            changed.append(name)
    if changed:
        message = (
            f"files must be those of {EXPORT_NAME}, got others in {named(changed)}; {_AGAIN} or, if you "
            f"changed them, remove {EXPORT_NAME}"
        )
        raise CheckpointError.at(folder, message, "export.changed")


def _speech_mask(padding_mask: Tensor | None) -> Tensor | None:
    return None if padding_mask is None or not padding_mask.any() else ~padding_mask
