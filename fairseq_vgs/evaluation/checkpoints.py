"""Strict loading of the plugin's fairseq checkpoints, without the data that they were trained on.

A checkpoint may come from anywhere, so nothing in it is run: ``torch.load`` is kept to tensors and plain
containers, and the one setting that fairseq passes to ``eval`` is parsed first. The model is built from the
checkpoint's own settings through fairseq's registry; weights must match key by key.
"""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq import models as fairseq_models
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

import fairseq_vgs.models  # noqa: F401 - registers the models
from fairseq_vgs import fairseq_fixes
from fairseq_vgs.conv_spec import parse_conv_layers

logger = logging.getLogger(__name__)

MODEL_NAMES = ("vgs_wav2vec2",)

_OTHER_VERSION = "train it with this version of fairseq_vgs, or load it with the version that wrote it"


class CheckpointError(ValueError):
    """A checkpoint cannot be used: unreadable, not ours, or its weights do not fit its settings."""


@dataclass(frozen=True)
class Checkpoint:
    """A model in evaluation mode, and what its file says about it.

    Attributes:
        model: on the CPU, fp32, no gradients; offers ``encode_speech`` and ``encode_image``.
        path: the file.
        config: all settings of the run, plain data (sections ``task``, ``criterion``, ``model``, ...).
        n_updates: updates made when it was saved.
        trained: false if the weights were drawn anew instead of loaded.
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


def load_checkpoint(path: Path, *, untrained_seed: int | None = None) -> Checkpoint:
    """Load a checkpoint of `MODEL_NAMES` for evaluation.

    Evaluation runs in fp32 whatever ``model.autocast`` says, so that figures do not depend on the machine.

    Args:
        path: file written by ``fairseq-hydra-train``.
        untrained_seed: instead of loading the weights, draw them with this seed (the untrained baseline). The
            file's weights must match all the same.

    Raises:
        CheckpointError: the file is missing, broken, not a checkpoint of this plugin, or does not match its
            settings.
    """
    state = _read(path)
    config = _config(state, path)
    model = build_untrained(
        section(config, "model"), seed=0 if untrained_seed is None else untrained_seed, path=path
    )
    weights = state["model"]
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
        CheckpointError: the file is missing, broken or no checkpoint.
    """
    return _n_updates(_read(path, mmap=True))


def build_untrained(settings: Mapping[str, Any], *, seed: int, path: Path) -> nn.Module:
    """Build a model from its settings with seeded fresh weights; the caller's random state is left alone.

    Raises:
        CheckpointError: the settings do not describe a model of this plugin.
    """
    name = settings.get("_name")
    if name not in MODEL_NAMES:
        raise CheckpointError(
            f"{path}: model._name must be one of {', '.join(MODEL_NAMES)}, got {name!r}; "
            "give a checkpoint that was trained with task=vgs_pretraining"
        )
    try:
        parse_conv_layers(str(settings.get("conv_feature_layers", "")))
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*weight_norm", category=FutureWarning
            )  # fairseq's use
            torch.manual_seed(seed)
            model = fairseq_models.build_model(OmegaConf.create({**settings, "autocast": "none"}), None)
    except (ValueError, OmegaConfBaseException) as error:
        raise CheckpointError(
            f"{path}: its model settings must build a model: {error}; {_OTHER_VERSION}"
        ) from error
    return model


def section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return one section of a checkpoint's settings, empty if absent."""
    found = config.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def _read(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    fairseq_fixes.allow_checkpoint_classes()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: checkpoint must exist; check the path") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise CheckpointError(
            f"{path}: must be a fairseq checkpoint of tensors and plain settings, could not be read "
            f"({reason}); copy it again, and load no file that you do not trust in any other way"
        ) from error
    missing = [
        key
        for key in ("model", "cfg")
        if not isinstance(state, dict) or not isinstance(state.get(key), Mapping)
    ]
    if missing:
        raise CheckpointError(
            f"{path}: must hold the entries model and cfg of a fairseq checkpoint, {' and '.join(missing)} "
            "missing; give a file that fairseq-hydra-train wrote"
        )
    strangers = [key for key, value in state["model"].items() if not isinstance(value, Tensor)]
    if strangers:
        raise CheckpointError(f"{path}: weights must be tensors, got something else for {_named(strangers)}")
    return dict(state)


def _config(state: Mapping[str, Any], path: Path) -> dict[str, Any]:
    config = state["cfg"]
    plain: Any = OmegaConf.to_container(config, resolve=False) if OmegaConf.is_config(config) else config
    live = [".".join(keys) for keys, value in _leaves(plain) if keys[:1] == ("model",) and "${" in str(value)]
    if live:
        raise CheckpointError(
            f"{path}: model settings must be plain values, got interpolations in {_named(live)}"
        )
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
    problems = []
    if missing := sorted(expected.keys() - weights.keys()):
        problems.append(f"missing {_named(missing)}")
    if unexpected := sorted(weights.keys() - expected.keys()):
        problems.append(f"unexpected {_named(unexpected)}")
    reshaped = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & weights.keys())
        if weights[key].shape != expected[key].shape
    ]
    if reshaped:
        problems.append(f"other shapes: {_named(reshaped)}")
    if problems:
        raise CheckpointError(
            f"{path}: weights must match the model key by key, got {'; '.join(problems)}; {_OTHER_VERSION}"
        )


def _n_updates(state: Mapping[str, Any]) -> int:
    history = state.get("optimizer_history")
    if isinstance(history, list) and history and isinstance(history[-1], Mapping):
        return int(history[-1].get("num_updates", 0))
    return 0


def _named(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names)})"
