"""Strict loading of fairseq checkpoints, the plugin's and stock wav2vec 2.0, without their training data.

A checkpoint may come from anywhere, so nothing in it is run: ``torch.load`` is kept to tensors and plain
containers, and the one setting that fairseq passes to ``eval`` is parsed first. The model is built from the
checkpoint's own settings through fairseq's registry; weights must match key by key.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import logging
import pickle
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq import models as fairseq_models
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

import fairseq_vgs.models  # noqa: F401 - registers the models
from fairseq_vgs.compat import fixes as fairseq_fixes
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules.conv_spec import parse_conv_layers

logger = logging.getLogger(__name__)

MODEL_NAMES = ("vgs_wav2vec2",)
STOCK_NAME = "wav2vec2"
_STOCK_FIELDS = tuple(
    field.name for field in dataclasses.fields(Wav2Vec2Config) if not field.name.startswith("_")
)

_OTHER_VERSION = "train it with this version of fairseq_vgs, or load it with the version that wrote it"


class CheckpointError(FaultError):
    """A checkpoint cannot be used: unreadable, not ours, or its weights do not fit its settings."""


@dataclass(frozen=True)
class Checkpoint:
    """A model in evaluation mode, and what its file says about it.

    Attributes:
        model: on the CPU, fp32, no gradients; those of ``MODEL_NAMES`` offer ``encode_speech`` and
            ``encode_image``.
        path: the file.
        config: all settings of the run, plain data (sections ``task``, ``criterion``, ``model``, ...).
        n_updates: updates made when it was saved.
        trained: false if the weights were drawn instead of loaded.
    """

    model: nn.Module
    path: Path
    config: dict[str, Any]
    n_updates: int
    trained: bool

    @property
    def similarity(self) -> str:
        """Similarity the run trained and validated with: "dot" or "cosine"."""
        return str(section(self.config, "criterion").get("similarity", "dot"))

    @property
    def has_embeddings(self) -> bool:
        """Whether the model embeds speech and images: stock wav2vec 2.0 has layers only."""
        return section(self.config, "model").get("_name") in MODEL_NAMES


def load_checkpoint(
    path: Path, *, untrained_seed: int | None = None, allow_stock: bool = False
) -> Checkpoint:
    """Load a checkpoint of ``MODEL_NAMES``, or stock wav2vec 2.0, for evaluation.

    Evaluation runs in fp32 whatever ``model.autocast`` says, so that results do not depend on the machine.

    Args:
        path: file written by ``fairseq-hydra-train``.
        untrained_seed: draw the weights with this seed instead of loading them (the untrained baseline). The
            file's weights must still match.
        allow_stock: accept pre-trained models of fairseq's own ``wav2vec2``, which have no embeddings; both
            layouts of such files are read, settings as ``cfg`` and, before 2021, as ``args``.

    Raises:
        CheckpointError: the file is missing, broken, not a checkpoint of this plugin, or does not match its
            settings.
    """
    state = _read(path)
    if _kind(state) == STOCK_NAME:
        config, weights = _stock(state, path, allowed=allow_stock)
    else:
        config, weights = _config(state, path), state["model"]
    model = build_untrained(
        section(config, "model"), seed=0 if untrained_seed is None else untrained_seed, path=path
    )
    _check_weights(model, weights, path)
    if untrained_seed is None:
        model.load_state_dict(weights, strict=True)
    model.eval().requires_grad_(False)
    n_updates = _n_updates(state)
    logger.info("%s: %d tensors matched, %d updates", path, len(weights), n_updates)
    return Checkpoint(
        model, path, config, 0 if untrained_seed is not None else n_updates, untrained_seed is None
    )


def read_updates(path: Path) -> int:
    """Return the updates made when a checkpoint was saved; its weights stay on disk.

    Raises:
        CheckpointError: the file is missing, broken or not a checkpoint.
    """
    return _n_updates(_read(path, mmap=True))


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings of the run that saved a checkpoint of this plugin; its weights stay on disk.

    Raises:
        CheckpointError: the file is missing, broken or not of this plugin.
    """
    return _config(_read(path, mmap=True), path)


def build_untrained(settings: Mapping[str, Any], *, seed: int, path: Path) -> nn.Module:
    """Build a model from its settings with seeded fresh weights, without touching the caller's random state.

    Raises:
        CheckpointError: the settings describe neither a model of this plugin nor stock wav2vec 2.0.
    """
    name = settings.get("_name")
    if name not in (*MODEL_NAMES, STOCK_NAME):
        message = (
            f"model._name must be one of {', '.join(MODEL_NAMES)}, got {name!r}; "
            "give a checkpoint that was trained with task=vgs_pretraining"
        )
        raise CheckpointError.at(path, message, "checkpoint.kind")
    if name != STOCK_NAME:
        settings = {**settings, "autocast": "none"}
    try:
        parse_conv_layers(str(settings.get("conv_feature_layers", "")))
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*weight_norm", category=FutureWarning
            )  # fairseq's use
            torch.manual_seed(seed)
            model = fairseq_models.build_model(OmegaConf.create(dict(settings)), None)
    except (ValueError, OmegaConfBaseException) as error:
        raise CheckpointError.at(
            path, f"its model settings must build a model: {error}; {_OTHER_VERSION}", "checkpoint.settings"
        ) from error
    return model


def section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return one section of a checkpoint's settings, empty if absent."""
    found = config.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def read_pickle(path: Path, error: type[FaultError], *, mmap: bool = False) -> Any:
    """Read tensors, plain containers and settings of a torch file; nothing in it is run.

    Raises:
        error: the file is missing or broken, or holds anything else.
    """
    fairseq_fixes.allow_checkpoint_classes()
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError:
        raise error.at(path, "file must exist; check the path", "file.missing") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as failure:
        reason = str(failure).strip().split("\n")[0][:300]
        message = (
            f"must be a torch file of tensors and plain settings, could not be read ({reason}); copy or "
            "download it again, and load no file that you do not trust in any other way"
        )
        raise error.at(path, message, "checkpoint.unreadable") from failure


def mismatches(missing: Iterable[str], unexpected: Iterable[str], reshaped: Iterable[str]) -> str:
    """Name the weights that are missing, unexpected or of another shape; empty if there are none."""
    problems = {"missing": missing, "unexpected": unexpected, "other shapes:": reshaped}
    found = ((problem, sorted(names)) for problem, names in problems.items())
    return "; ".join(f"{problem} {named(names)}" for problem, names in found if names)


def named(names: Sequence[str]) -> str:
    """Count and list names."""
    return f"{len(names)} ({', '.join(names)})"


def _read(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    state = read_pickle(path, CheckpointError, mmap=mmap)
    missing = [
        key
        for key in ("model", "cfg")
        if not isinstance(state, dict) or not isinstance(state.get(key), Mapping)
    ]
    if missing == ["cfg"] and isinstance(state.get("args"), argparse.Namespace):
        missing = []  # as fairseq wrote it before 2021
    if missing:
        message = (
            f"must hold the entries model and cfg of a fairseq checkpoint, {' and '.join(missing)} "
            "missing; give a file that fairseq-hydra-train wrote"
        )
        raise CheckpointError.at(path, message, "checkpoint.entry")
    strangers = [key for key, value in state["model"].items() if not isinstance(value, Tensor)]
    if strangers:
        raise CheckpointError.at(
            path, f"weights must be tensors, got something else for {named(strangers)}", "checkpoint.weights"
        )
    return dict(state)


def _kind(state: Mapping[str, Any]) -> Any:
    """Return the registered name of the model."""
    if isinstance(state.get("cfg"), Mapping):
        return section(state["cfg"], "model").get("_name")
    return getattr(state["args"], "arch", None)


def _stock(
    state: Mapping[str, Any], path: Path, *, allowed: bool
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read settings, laid out as in our files, and weights of fairseq's own wav2vec 2.0."""
    if not allowed:
        message = (
            "must be a model with speech and image embeddings, got fairseq's wav2vec2, which has "
            "layers only; take its layers with fairseq-vgs extract or evaluate abx, or start a model from it "
            "with fairseq-vgs import wav2vec2"
        )
        raise CheckpointError.at(path, message, "checkpoint.kind")
    if state.get("cfg") is None:  # before 2021 all settings were in one
        model = task = _config({"cfg": {"model": vars(state["args"])}}, path)["model"]
    else:
        config = _config(state, path)
        model, task = section(config, "model"), section(config, "task")
    rate = task.get("sample_rate") or SAMPLE_RATE
    if rate != SAMPLE_RATE:
        message = f"sampling rate must be {SAMPLE_RATE} Hz, got {rate}; give a model of 16 kHz speech"
        raise CheckpointError.at(path, message, "checkpoint.sample_rate")
    # Files also hold settings of other parts, and null where the default holds.
    settings = {key: model[key] for key in _STOCK_FIELDS if model.get(key) is not None}
    if isinstance(settings.get("latent_temp"), str):  # as on the command line
        try:
            settings["latent_temp"] = list(ast.literal_eval(settings["latent_temp"]))
        except (ValueError, SyntaxError, TypeError) as error:
            message = (
                f"latent_temp must be three numbers, got {settings['latent_temp']!r}; "
                "give the file as fairseq wrote it"
            )
            raise CheckpointError.at(path, message, "checkpoint.settings") from error
    settings.setdefault("conv_feature_layers", Wav2Vec2Config.conv_feature_layers)
    plain = {
        "model": {**settings, "_name": STOCK_NAME},
        "task": {"_name": "audio_pretraining", "normalize": bool(task.get("normalize"))},
    }
    return plain, {key: value.float() for key, value in state["model"].items()}


def _config(state: Mapping[str, Any], path: Path) -> dict[str, Any]:
    config = state.get("cfg")
    if config is None:
        message = (
            f"must hold a model of this plugin or stock wav2vec 2.0, got {_kind(state)!r}; "
            "give a pre-trained model"
        )
        raise CheckpointError.at(path, message, "checkpoint.kind")
    plain: Any = OmegaConf.to_container(config, resolve=False) if OmegaConf.is_config(config) else config
    live = [".".join(keys) for keys, value in _leaves(plain) if keys[:1] == ("model",) and "${" in str(value)]
    if live:
        message = f"model settings must be plain values, got interpolations in {named(live)}"
        raise CheckpointError.at(path, message, "checkpoint.settings")
    return dict(plain)


def _leaves(value: Any, keys: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*keys, str(key)))
    else:
        yield keys, value


def _check_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Name every key that is missing, unexpected, or of another shape."""
    upgrade = getattr(model, "upgrade_state_dict", None)
    if upgrade is not None:
        upgrade(weights)
    expected = model.state_dict()
    reshaped = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & weights.keys()
        if weights[key].shape != expected[key].shape
    ]
    text = mismatches(expected.keys() - weights.keys(), weights.keys() - expected.keys(), reshaped)
    if text:
        message = f"weights must match the model key by key, got {text}; {_OTHER_VERSION}"
        raise CheckpointError.at(path, message, "checkpoint.mismatch")


def _n_updates(state: Mapping[str, Any]) -> int:
    history = state.get("optimizer_history")
    if isinstance(history, list) and history and isinstance(history[-1], Mapping):
        return int(history[-1].get("num_updates", 0))
    return 0
