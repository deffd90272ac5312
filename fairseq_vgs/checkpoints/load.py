"""Strict loading of fairseq checkpoints, the plugin's and stock wav2vec 2.0, without their training data.

fairseq is imported where it is needed: what else says of checkpoints is used without it.

Nothing in a checkpoint is run: ``torch.load`` is kept to tensors and plain containers, and the one setting
that fairseq passes to ``eval`` is parsed first. The model is built from the checkpoint's own settings through
fairseq's registry; weights must match key by key.
"""

from __future__ import annotations

import argparse
import ast
import copy
import dataclasses
import functools
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_vgs.checkpoints.places import needs_fairseq
from fairseq_vgs.compat.building import SPARE, refuse_absurd_numbers, within_limits_of
from fairseq_vgs.compat.checkpoint_files import STARTED_FROM, load_plain, n_updates
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.provenance import read_plugin_state
from fairseq_vgs.files.torch_files import named_errors, refuse_other_files, verify
from fairseq_vgs.media.rates import SAMPLE_RATE

logger = logging.getLogger(__name__)

MODEL_NAMES = ("vgs_wav2vec2",)
STOCK_NAME = "wav2vec2"
# what building a model from odd settings raises: fairseq and torch check few of them
_BAD_SETTINGS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
_OTHER_VERSION = "train it with this version of fairseq_vgs, or load it with the version that wrote it"


class CheckpointError(FaultError):
    """A checkpoint cannot be used: unreadable, not ours, or its weights do not fit its settings."""


@dataclass(frozen=True)
class Checkpoint:
    """A model in evaluation mode, and what its file says about it.

    Attributes:
        model: on the CPU, fp32, no gradients; ``MODEL_NAMES`` offer ``encode_speech`` and ``encode_image``.
        config: all settings of the run, plain data (sections ``task``, ``criterion``, ``model``, ...).
        n_updates: updates made when it was saved.
        trained: false if the weights were drawn instead of loaded.
        version: of the plugin that wrote the file; empty before 0.1.0.
        images: how the images that it was trained on were made, as ``VgsPretrainingTask.state_dict`` says;
            empty where the file does not say.
    """

    model: nn.Module
    path: Path
    config: dict[str, Any]
    n_updates: int
    trained: bool
    version: str = ""
    images: Mapping[str, Any] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be pickled with its weights, as those of a CPU: a machine without this GPU may read them.

        fairseq's settings themselves cannot be pickled.
        """
        if self.trained and not needs_fairseq(self.path):
            kept = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
            return Checkpoint, tuple({**kept, "model": on_cpu(self.model)}.values())
        weights = {name: weight.cpu() for name, weight in self.model.state_dict().items()}
        kept = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        return _unpickled, ({**kept, "model": None}, weights)

    @property
    def similarity(self) -> str:
        """Similarity the run trained and validated with: "dot" or "cosine"."""
        return str(section(self.config, "criterion").get("similarity", "dot"))

    @property
    def has_embeddings(self) -> bool:
        """Whether the model embeds speech and images: stock wav2vec 2.0 has layers only."""
        return section(self.config, "model").get("_name") in MODEL_NAMES


def load_checkpoint(
    path: str | Path, *, untrained_seed: int | None = None, allow_stock: bool = False
) -> Checkpoint:
    """Load a checkpoint of ``MODEL_NAMES``, or stock wav2vec 2.0, for evaluation.

    Evaluation runs in fp32 whatever ``model.autocast`` says, so that results do not depend on the machine.

    Args:
        path: file written by ``fairseq-hydra-train``; refused if its weights do not match its settings.
        untrained_seed: draw the weights with this seed instead of using the file's (untrained baseline).
        allow_stock: accept pre-trained models of fairseq's own ``wav2vec2``, which have no embeddings; both
            layouts of such files are read, settings as ``cfg`` and, before 2021, as ``args``.

    Raises:
        CheckpointError: the file is missing, broken, no checkpoint of these, or does not match its settings.
    """
    path = Path(path)
    state = _read(path)
    if _kind(state) == STOCK_NAME:
        config, weights = _stock(state, path, allowed=allow_stock)
    else:
        config, weights = _config(state, path), state["model"]
    trained = untrained_seed is None
    model = build_untrained(section(config, "model"), seed=untrained_seed or 0, path=path)
    _check_weights(model, weights, path)
    if trained:
        model.load_state_dict(weights, strict=True)
    model.eval().requires_grad_(False)
    made = n_updates(state)
    logger.info("%s: %d tensors matched, %d updates", path, len(weights), made)
    version, images = read_plugin_state(state)
    return Checkpoint(model, path, config, made if trained else 0, trained, version, images)


def on_cpu(model: nn.Module) -> nn.Module:
    """Return a model on the CPU: itself, or a copy."""
    is_there = all(tensor.device.type == "cpu" for tensor in (*model.parameters(), *model.buffers()))
    return model if is_there else copy.deepcopy(model).cpu()


def _unpickled(kept: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Checkpoint:
    settings, path = section(kept["config"], "model"), kept["path"]
    drawn = 4 * sum(weight.numel() for weight in weights.values())
    model = build_untrained(settings, seed=0, path=path, spare=SPARE + drawn)
    model.load_state_dict(weights, strict=True)
    model.eval().requires_grad_(False)
    return Checkpoint(**{**kept, "model": model})


def read_updates(path: Path) -> int:
    """Return the updates made when a checkpoint was saved; its weights stay on disk.

    Raises:
        CheckpointError: the file is missing, broken or not a checkpoint.
    """
    return n_updates(_read(path, mmap=True))


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings of the run that saved a checkpoint of ours; its weights stay on disk.

    Raises:
        CheckpointError: the file is missing, broken or not of this plugin.
    """
    return _config(_read(path, mmap=True), path)


@dataclass(frozen=True)
class History:
    """What a checkpoint's file says of its training.

    Attributes:
        config: all settings of the run.
        n_updates: updates made.
        imported: where its weights were converted from, as ``write_import`` records it; empty if they were
            not.
        started_from: ``sha256`` and ``n_updates`` of the checkpoint that its run started from; empty if from
            none, or if the file is older than this entry.
    """

    config: dict[str, Any]
    n_updates: int
    imported: dict[str, Any]
    started_from: dict[str, Any]


def read_history(path: Path) -> History:
    """Return what a checkpoint of ours says of its training; its weights stay on disk.

    Raises:
        CheckpointError: the file is missing, broken or not of this plugin.
    """
    state = _read(path, mmap=True)
    kept = section(state, "extra_state")
    parts = section(kept, "imported"), section(kept, STARTED_FROM)
    return History(_config(state, path), n_updates(state), *parts)


def require_weights(path: Path, model: nn.Module) -> None:
    """Refuse a checkpoint whose weights do not fit a model key by key.

    Raises:
        CheckpointError: that, or the file is missing, broken or not a checkpoint.
    """
    _check_weights(model, dict(_read(path)["model"]), path)


def build_untrained(
    settings: Mapping[str, Any], *, seed: int, path: Path, files: Sequence[Path] = (), spare: int = SPARE
) -> nn.Module:
    """Build a model from its settings with seeded fresh weights, without touching the caller's random state.

    A model that asks for far more memory than ``path``, or ``files`` in its place, could hold is refused
    before it gets any.

    Args:
        settings: section ``model`` of a checkpoint; what it lacks has its default.
        seed: of the weights.
        path: the file that the settings come from, which messages name.
        files: files or folders that hold the weights.
        spare: how many numbers the model may have without any file.

    Raises:
        CheckpointError: the settings describe neither a model of this plugin nor stock wav2vec 2.0, or one
            far larger than its weights (``checkpoint.kind``, ``checkpoint.settings``).
    """
    from fairseq import models as fairseq_models
    from fairseq.dataclass.utils import merge_with_parent
    from fairseq.models import MODEL_DATACLASS_REGISTRY
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    import fairseq_vgs.models  # noqa: F401 - registers the models

    name = settings.get("_name")
    if name not in (*MODEL_NAMES, STOCK_NAME):
        step = "give a checkpoint that was trained with task=vgs_pretraining"
        message = f"model._name must be one of {', '.join(MODEL_NAMES)}, got {name!r}; {step}"
        raise CheckpointError.at(path, message, "checkpoint.kind")
    if name != STOCK_NAME:
        settings = {**settings, "autocast": "none"}
    try:
        typed = merge_with_parent(MODEL_DATACLASS_REGISTRY[name](), OmegaConf.create(dict(settings)))
        refuse_absurd_numbers(OmegaConf.to_container(typed, resolve=True))
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*weight_norm", FutureWarning)  # which fairseq uses
            torch.manual_seed(seed)
            with within_limits_of(*(files or [path]), spare=spare):
                return fairseq_models.build_model(typed, None)
    except (*_BAD_SETTINGS, OmegaConfBaseException) as error:
        message = f"its model settings must build a model: {error}; {_OTHER_VERSION}"
        raise CheckpointError.at(path, message, "checkpoint.settings") from error


@functools.cache
def stock_fields() -> dict[str, Any]:
    """Return the settings of fairseq's own wav2vec 2.0, with the defaults that are no lists."""
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config

    return {one.name: one.default for one in dataclasses.fields(Wav2Vec2Config) if one.name[0] != "_"}


def section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return one section of a checkpoint's settings, empty if absent."""
    found = config.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def sections(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a fairseq checkpoint's settings of model and task; before 2021, ``args`` held both in one."""
    if config := _plain(state.get("cfg")):
        return _plain(config.get("model")), _plain(config.get("task"))
    both = _plain(state.get("args"))
    return both, both


def three_numbers(value: Any) -> list[float]:
    """Read ``latent_temp``, which old command lines left as text. Raises ValueError."""
    try:
        numbers = [float(number) for number in (ast.literal_eval(value) if isinstance(value, str) else value)]
    except (ValueError, SyntaxError, TypeError):
        numbers = []
    if len(numbers) != 3:
        raise ValueError(f"latent_temp must be three numbers, got {value!r}")
    return numbers


def read_pickle(path: Path, error: type[FaultError], *, mmap: bool = False) -> Any:
    """Read tensors, plain containers and settings of a torch file; nothing in it is run.

    Raises:
        error: the file is missing or broken, or holds anything else.
    """
    with named_errors(path, error=error):
        refuse_other_files(path, error=error)
        verify(path, error=error, weights=not mmap)  # for settings alone, a look at all weights takes long
        return load_plain(path, mmap=mmap)


def mismatches(missing: Iterable[str], unexpected: Iterable[str], reshaped: Iterable[str]) -> str:
    """Name the weights that are missing, unexpected or of another shape; empty if there are none."""
    problems = {"missing": missing, "unexpected": unexpected, "other shapes:": reshaped}
    found = ((problem, sorted(names)) for problem, names in problems.items())
    return "; ".join(f"{problem} {named(names)}" for problem, names in found if names)


def named(names: Sequence[str]) -> str:
    """Count and list names."""
    return f"{len(names)} ({', '.join(names)})"


def no_tensors(weights: Mapping[Any, Any]) -> str:
    """Count and list the weights that are no tensors with numbers of their own; empty if there are none."""
    found = [str(key) for key, value in weights.items() if not _is_whole(value)]
    return named(found) if found else ""


def _is_whole(value: Any) -> bool:
    """Return whether a tensor has its numbers in the file: one that repeats a few may claim any size."""
    is_plain = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    return is_plain and value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _read(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    state = read_pickle(path, CheckpointError, mmap=mmap)
    entries: dict[str, Any] = dict(state) if isinstance(state, dict) else {}
    missing = [key for key in ("model", "cfg") if not isinstance(entries.get(key), Mapping)]
    if missing == ["cfg"] and isinstance(entries.get("args"), argparse.Namespace):
        missing = []  # as fairseq wrote it before 2021
    if missing:
        expected = "must hold the entries model and cfg of a fairseq checkpoint"
        step = "give a file that fairseq-hydra-train wrote"
        message = f"{expected}, {' and '.join(missing)} missing; {step}"
        raise CheckpointError.at(path, message, "checkpoint.entry")
    if wrong := no_tensors(entries["model"]):
        message = f"weights must be tensors, got something else for {wrong}; give another file"
        raise CheckpointError.at(path, message, "checkpoint.weights")
    return entries


def _kind(state: Mapping[str, Any]) -> Any:
    """Return the registered name of the model."""
    model, _ = sections(state)
    return model.get("_name") or model.get("arch")


def _plain(settings: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    if isinstance(settings, argparse.Namespace):
        return dict(vars(settings))
    if OmegaConf.is_config(settings):
        settings = OmegaConf.to_container(settings, resolve=False, enum_to_str=True)
    return {str(key): value for key, value in settings.items()} if isinstance(settings, Mapping) else {}


def _stock(
    state: Mapping[str, Any], path: Path, *, allowed: bool
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read settings, laid out as in our files, and weights of fairseq's own wav2vec 2.0."""
    if not allowed:
        expected = "must embed speech and images, got fairseq's wav2vec2, which has layers only"
        step = "use fairseq-vgs extract or evaluate abx, or start a model with fairseq-vgs import wav2vec2"
        raise CheckpointError.at(path, f"{expected}; {step}", "checkpoint.kind")
    model, task = sections(state)
    _refuse_interpolations(model, path)
    rate = task.get("sample_rate") or SAMPLE_RATE
    if rate != SAMPLE_RATE:
        message = f"sampling rate must be {SAMPLE_RATE} Hz, got {rate}; give a model of 16 kHz speech"
        raise CheckpointError.at(path, message, "checkpoint.sample_rate")
    # Files also hold settings of other parts, and null where the default holds.
    settings = {key: model[key] for key in stock_fields() if model.get(key) is not None}
    if "latent_temp" in settings:
        try:
            settings["latent_temp"] = three_numbers(settings["latent_temp"])
        except ValueError as error:
            message = f"{error}; give the file as fairseq wrote it"
            raise CheckpointError.at(path, message, "checkpoint.settings") from error
    settings.setdefault("conv_feature_layers", stock_fields()["conv_feature_layers"])
    plain = {
        "model": {**settings, "_name": STOCK_NAME},
        "task": {"_name": "audio_pretraining", "normalize": bool(task.get("normalize"))},
    }
    return plain, {key: value.float() for key, value in state["model"].items()}


def _config(state: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if state.get("cfg") is None:
        kinds = "a model of this plugin or stock wav2vec 2.0"
        message = f"must hold {kinds}, got {_kind(state)!r}; give a pre-trained model"
        raise CheckpointError.at(path, message, "checkpoint.kind")
    config = _plain(state["cfg"])
    _refuse_interpolations(section(config, "model"), path)
    return config


def _refuse_interpolations(model: Mapping[str, Any], path: Path) -> None:
    if live := [f"model.{key}" for key, value in model.items() if "${" in str(value)]:
        message = (
            f"model settings must be plain values, got interpolations in {named(live)}; {_OTHER_VERSION}"
        )
        raise CheckpointError.at(path, message, "checkpoint.settings")


def _check_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Name every key that is missing, unexpected, or of another shape."""
    if upgrade := getattr(model, "upgrade_state_dict", None):
        upgrade(weights)
    expected = model.state_dict()
    reshaped = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & weights.keys()
        if weights[key].shape != expected[key].shape
    ]
    if text := mismatches(expected.keys() - weights.keys(), weights.keys() - expected.keys(), reshaped):
        message = f"weights must match the model key by key, got {text}; {_OTHER_VERSION}"
        raise CheckpointError.at(path, message, "checkpoint.mismatch")
