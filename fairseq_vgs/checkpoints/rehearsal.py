"""Do what ``fairseq-hydra-train`` does before its first update, and train nothing."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from fairseq import criterions, optim, tasks
from fairseq.dataclass.initialize import add_defaults, hydra_init
from fairseq.optim import lr_scheduler
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from fairseq_vgs.checkpoints.load import require_weights
from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.spelling import nearest
from fairseq_vgs.modules.expressions import evaluate

_LAST = "checkpoint_last.pt"
_STEP = "correct the overrides or the configuration file"
_UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'")
_WRONG_VALUE = re.compile(r"Value '.*' could not be converted to .*")
_FULL_KEY = re.compile(r"full_key: (\S+)")
_UNKNOWN_CHOICE = re.compile(
    r"Could not (?:find|load) '(?P<group>[^']+)/(?P<name>[^'/]+)'\.?\s+Available options in '[^']+':"
    r"(?P<known>(?:\s+[\w.-]+)+?)(?:\n\S|\Z)"
)


class Rehearsal:
    """Goes through training commands; what several of them share is built once.

    Args:
        with_data: the data folder exists; without it, its tables are not read and its dims not compared.
        splits: what is read besides the training and validation splits.
    """

    def __init__(self, *, with_data: bool, splits: Sequence[str] = ()) -> None:
        self._with_data, self._splits = with_data, splits
        self._models: dict[str, tuple[Any, Any]] = {}

    def of(self, config_dir: Path, primary: str, overrides: Sequence[str]) -> int:
        """Go through one command; return the size of its checkpoints in bytes.

        Raises:
            FaultError: what would end the command before its first update, at the setting or file; foreign
                errors are ``setting.refused``, at their section.
        """
        cfg = _composed(config_dir, primary, overrides)
        task, model = self._built(cfg)
        with _section("criterion", cfg):
            # the task's own method asks for the data
            build = task.build_criterion if self._with_data else lambda c: criterions.build_criterion(c, task)
            build(cfg.criterion)
        with _section("optimizer", cfg):
            _check_optimizer(cfg.optimizer)
        with _section("lr_scheduler", cfg), suppress(NotImplementedError):  # by the stand-in
            lr_scheduler.build_lr_scheduler(cfg.lr_scheduler, _AnyOptimizer(cfg.optimizer))
        _check_start(cfg, model)
        trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
        return int(n_bytes + 8 * trained)  # with two moments of Adam

    def _built(self, cfg: Any) -> tuple[Any, Any]:
        """Return task and model, and read the data, unless an earlier command had the same."""
        key = json.dumps([OmegaConf.to_container(cfg[name]) for name in ("task", "model", "dataset")])
        if key not in self._models:
            with _section("task", cfg):
                task = tasks.setup_task(cfg.task)
            if not self._with_data and cfg.model.get("image_dim", 1) is None:
                cfg.model.image_dim = 1  # as the data will have
            with _section("model", cfg), torch.random.fork_rng(devices=[]):
                model = task.build_model(cfg.model)
            if self._with_data:
                train = cfg.dataset.train_subset
                others = [split for split in self._splits if split != train]
                for split in [*dict.fromkeys([*cfg.dataset.valid_subset.split(","), *others]), train]:
                    task.load_dataset(split)
            self._models = {key: (task, model)}  # one at a time, for they may be large
        return self._models[key]


def _composed(config_dir: Path, primary: str, overrides: Sequence[str]) -> Any:
    """Compose a configuration as ``fairseq-hydra-train`` does."""
    hydra: Any = HydraConfig.instance()
    try:
        cfg = _as_listed(config_dir, primary, overrides)
        with open_dict(cfg), read_write(cfg.hydra):
            cfg.hydra.runtime.cwd = str(Path.cwd())
            hydra.cfg = OmegaConf.masked_copy(cfg, "hydra")  # ${hydra:runtime.cwd}
            del cfg["hydra"]
        add_defaults(cfg)
        cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    except (HydraException, OmegaConfBaseException) as error:
        text = "\n".join(str(one) for one in (error, error.__cause__) if one is not None)
        raise FaultError(_refused(text, config_dir, primary)) from error
    finally:
        hydra.cfg = None
    OmegaConf.set_struct(cfg, True)
    return cfg


def _as_listed(config_dir: Path, primary: str, overrides: Sequence[str]) -> Any:
    """Compose a configuration with Hydra's own section, and with the keys that overrides can name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about hydra's other versions
        hydra_init(primary)
        GlobalHydra.instance().clear()
        with initialize_config_dir(config_dir=str(config_dir.resolve()), version_base="1.1"):
            return compose(primary, list(overrides), return_hydra_config=True)


def _refused(text: str, config_dir: Path, primary: str) -> Fault:
    """Say in one line what Hydra refuses: an unknown key or choice with the nearest known one."""
    if found := _UNKNOWN_CHOICE.search(text):
        group, got = found["group"], found["name"]
        known = found["known"].split()
        expected, step = f"must be one of {', '.join(known)}", _meant(got, known)
        return fault(group, expected, got, step, code="setting.choice")
    if found := _UNKNOWN_KEY.search(text):
        key, known = found[1], _keys(_as_listed(config_dir, primary, []))
        expected = "must be a setting that the configuration lists"
        return fault(key, expected, key, _meant(key, known), code="setting.unknown")
    expected = "configuration must be one that fairseq-hydra-train composes"
    place = key[1] if (key := _FULL_KEY.search(text)) else primary
    value = _WRONG_VALUE.search(text)
    got = value[0] if value else " ".join(text.partition("full_key")[0].split())
    return fault(place, expected, got, _STEP, code="setting.refused")


def _meant(name: str, known: Sequence[str]) -> str:
    """Return the next step for a name that is not known."""
    if similar := nearest(name, known):
        return f"did you mean {similar}?"
    return "base.yaml, in the folder that fairseq-vgs configs prints, describes all settings"


def _keys(cfg: Any, section: str = "") -> list[str]:
    """List the keys of all settings, and the groups that can be chosen."""
    found = [] if section else [str(group) for group in cfg.hydra.runtime.choices]
    for key in cfg:
        name = f"{section}.{key}" if section else str(key)
        if name == "hydra":
            continue
        value = None if OmegaConf.is_missing(cfg, key) else OmegaConf.masked_copy(cfg, key)._get_node(key)
        found += _keys(value, name) if OmegaConf.is_dict(value) else [name]
    return found


class _AnyOptimizer(optim.FairseqOptimizer):
    """Stands in for an optimiser; to build one, torch imports its compiler, which takes seconds."""

    def set_lr(self, lr: float) -> None:
        """Accept any."""


def _check_optimizer(cfg: Any) -> None:
    if cfg._name not in optim.OPTIMIZER_REGISTRY:
        raise ValueError(f"no optimizer {cfg._name}; there are {', '.join(sorted(optim.OPTIMIZER_REGISTRY))}")
    for key in ("adam_betas", "adamax_betas", "adafactor_eps", "lamb_betas"):  # read by eval
        if key in cfg:
            evaluate(str(cfg[key]))


@contextmanager
def _section(name: str, cfg: Any) -> Iterator[None]:
    """Name the section, and the setting if it can be told, where fairseq's own code refuses one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    except FaultError:
        raise
    except Exception as error:
        got = " ".join(str(error).split()) or type(error).__name__
        expected = "settings must be such that fairseq can use them"
        raise FaultError(fault(_faulty(name, cfg), expected, got, _STEP, code="setting.refused")) from error


def _faulty(name: str, cfg: Any) -> str:
    """Return the settings of a section that fairseq cannot evaluate as literals, or else the section."""
    texts = {key: value for key, value in cfg[name].items() if isinstance(value, str) and "(" in value}
    found = [f"{name}.{key}" for key, value in texts.items() if not _is_data(value)]
    return ", ".join(found) or name


def _is_data(text: str) -> bool:
    try:
        evaluate(text)
    except ValueError:
        return False
    return True


def _check_start(cfg: Any, model: Any) -> None:
    """Refuse a checkpoint to start from that is missing, damaged or of another model."""
    for key in ("finetune_from_model", "restore_file"):
        path = cfg.checkpoint[key]
        if path and path != _LAST and "*" not in str(path):  # of a run that is to come
            require_weights(Path(path), model)
