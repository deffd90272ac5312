"""Make official fairseq 0.12.2 importable on Python 3.11 and later.

fairseq writes config fields such as ``common: CommonConfig = CommonConfig()``. Python 3.11 began to refuse
defaults whose class is unhashable, and fairseq (like hydra 1.0) reads the default *instance* back, so a
``default_factory`` would not do. This module lets such fields pass, for the config classes of fairseq, hydra
and omegaconf alone.

It is a top-level module because it must run before fairseq is imported, whichever copy of ``fairseq_vgs`` a
run names as its plugin. It runs in one of three ways:

* installed: ``fairseq_vgs_hook`` calls ``install`` as soon as fairseq is about to be imported, so the
  unmodified ``fairseq-hydra-train`` works, in spawned ranks too;
* not installed, checkout on ``PYTHONPATH``: ``python -m fairseq_vgs_compat fairseq_cli.hydra_train
  ARGUMENTS...``;
* ``import fairseq_vgs`` calls ``allow_config_defaults`` in any case.

``fairseq-hydra-train`` gets its ``--config-name`` checked, too: fairseq gives its own settings the name that
it is asked for, so a misspelt one would train something else, or die of it, before it loads the plugin. And
configurations can say where the plugin and the embedded data are (``paths``), from whatever folder a run is
started.

Importing this module imports the standard library alone.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent / "fairseq_vgs"
_PATCHED_PACKAGES = frozenset({"fairseq", "fairseq_cli", "hydra", "omegaconf"})
_MARK = "_fairseq_vgs_compat"
_TRAIN = "fairseq_cli.hydra_train"
_HELP = ("-h", "--help", "--hydra-help")
_TASK = re.compile(r"\+{0,2}task=")
_TRAIN_SCRIPTS = ("fairseq-hydra-train", "hydra_train.py")

logger = logging.getLogger(__name__)


def install() -> None:
    """Prepare the import of fairseq and the configurations; a second call changes nothing.

    In ``fairseq-hydra-train``, exit if there is no such configuration, or another run uses the folder.
    """
    _check_command_line()
    _lock_run_folders()
    allow_config_defaults()
    _offer_paths()


def allow_config_defaults() -> None:
    """Let fairseq's config classes use instances as defaults; does nothing where Python allows it."""
    original = getattr(dataclasses, "_get_field", None)
    if original is None:
        logger.debug(
            "fairseq_vgs_compat: no dataclasses._get_field on Python %s, so nothing is done", sys.version
        )
        return
    if not hasattr(original, _MARK):
        dataclasses._get_field = _allow_config_defaults(original)  # type: ignore[attr-defined]


def paths(package: Path = _PACKAGE) -> dict[str, str]:
    """Return what ``${fairseq_vgs:user_dir}`` and ``${fairseq_vgs:embedded_data}`` are in configurations."""
    in_checkout = package.parent / "manifests" / "embedded"
    embedded = in_checkout if in_checkout.is_dir() else package / "embedded"
    return {"user_dir": str(package), "embedded_data": str(embedded)}


def _offer_paths() -> None:
    try:
        from omegaconf import OmegaConf
    except ImportError:
        return  # fairseq will not get far either
    if not OmegaConf.has_resolver("fairseq_vgs"):
        OmegaConf.register_new_resolver("fairseq_vgs", lambda name: paths()[name])


@functools.cache  # Hydra changes the working directory before the plugin is imported, which installs again
def _check_command_line() -> None:
    # Spawned ranks have the command line of the first process, but another working directory.
    is_spawned = any("multiprocessing" in word for word in sys.orig_argv)
    if Path("".join(sys.argv[:1])).name in _TRAIN_SCRIPTS and not is_spawned:
        sys.excepthook = _interrupted_in_one_line(sys.excepthook)
        check_config_name(sys.argv[1:])


def _lock_run_folders() -> None:
    """Let Hydra, if it is imported, write settings only into a folder that no other run is using."""
    module = sys.modules.get("hydra.core.utils")
    original = getattr(module, "_save_config", None)
    if original is None or hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def save_config(cfg: Any, filename: str, output_dir: Path) -> None:
        if filename == "config.yaml" and _is_first_rank_of_ours(cfg):
            _take_run_folder(Path(output_dir))
        original(cfg, filename, output_dir)

    setattr(save_config, _MARK, True)
    vars(module)["_save_config"] = save_config
    os.register_at_fork(after_in_child=_give_back_run_folder)  # a data worker may outlive a killed run


def _is_first_rank_of_ours(cfg: Any) -> bool:
    try:
        user_dir, rank = cfg.common.user_dir, cfg.distributed_training.distributed_rank
    except (AttributeError, LookupError, TypeError, ValueError):  # another program's configuration
        return False
    ranks = {str(rank or 0), *(os.environ.get(name, "0") for name in ("RANK", "SLURM_PROCID"))}
    return Path(str(user_dir)).name == "fairseq_vgs" and ranks == {"0"}


_run_folder: list[int] = []
"""Descriptor of the file whose lock this process holds."""


def _take_run_folder(folder: Path) -> None:
    """Lock Hydra's folder until the next job of a sweep, or the end of the process; exit if it is locked."""
    import fcntl  # not on every system where torch is

    _give_back_run_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # network file systems lock only what is open for writing
        descriptor = os.open(folder / "config.yaml", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        _run_folder.append(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(
            f"{folder.parent}: another run is training in this folder; wait for it or stop it, or give this "
            "run a folder of its own (hydra.run.dir=...)"
        )
    except OSError:
        pass  # a file system without locks, or without room, as Hydra will tell


def _give_back_run_folder() -> None:
    while _run_folder:
        os.close(_run_folder.pop())


def _interrupted_in_one_line(others: Callable[..., Any]) -> Callable[..., Any]:
    """Print no traceback of a Ctrl-C, which mostly comes during the long imports of training."""

    def hook(kind: type[BaseException], *rest: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr.write("interrupted\n")
        else:
            others(kind, *rest)

    return hook


def check_config_name(arguments: Sequence[str]) -> None:
    """Exit with one line that lists the configurations, if ``--config-dir`` lacks the ``--config-name``."""
    import argparse  # every program that uses fairseq imports this module

    parser = argparse.ArgumentParser(add_help=False)
    for short, long in (("-cp", "--config-path"), ("-cn", "--config-name"), ("-cd", "--config-dir")):
        parser.add_argument(short, long)
    parser.add_argument("-c", "--cfg")  # or argparse would take -c as short for one of these
    given, others = parser.parse_known_args(arguments)
    if given.config_dir is None or given.config_path is not None:
        return
    folder, name = Path(given.config_dir), (given.config_name or "").removesuffix(".yaml")
    if not folder.is_dir():
        sys.exit(
            f"--config-dir: must be a folder of configurations, got {given.config_dir!r}; "
            'write --config-dir "$(fairseq-vgs configs)"'
        )
    _check_rates(folder / f"{name}.yaml", others)
    found = _primaries(folder)
    if name and (any((place / f"{name}.yaml").is_file() for place in (folder, *_own_folders())) or not found):
        return
    if not name and (not found or any(word in _HELP or _TASK.match(word) for word in others)):
        return  # fairseq's own way, without a primary
    import difflib

    near = difflib.get_close_matches(name, found, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    sys.exit(
        f"--config-name: must be a configuration of {folder}, got {repr(name) if name else 'none'}; {meant}"
        f"there are {', '.join(found)}"
    )


def _check_rates(primary: Path, words: Sequence[str]) -> None:
    """Exit with the override that is right, if one of learning rates or the optimizer cannot work.

    Hydra refuses keys that the chosen schedule lacks, and fairseq those that another one left; neither knows
    how schedules are chosen here.
    """
    default = re.search(r"^ +- schedule: (\w+)", _text(primary), re.MULTILINE)
    if default is None:
        return  # configurations from elsewhere, or fine-tuning
    given = dict(word.lstrip("+").partition("=")[::2] for word in words if word[:1] != "~")
    removed = {word[1:].partition("=")[0] for word in words if word[:1] == "~"}
    added = {word.lstrip("+").partition("=")[0] for word in words if word[:1] == "+"}
    settings = {key: value for key, value in given.items() if "." not in key or key not in added}
    _check_schedule(primary.parent / "schedule", given.get("schedule", default[1]), settings)
    if given.get("schedule") == "tri_stage" and "lr_scheduler.warmup_updates" not in removed:
        sys.exit(
            "schedule=tri_stage: takes its warm-up from lr_scheduler.phase_ratio, not from run_config; add "
            "'~lr_scheduler.warmup_updates' to the command"
        )
    rate = given.get("optimization.lr", "[]")
    if rate[:1] not in "[$":
        sys.exit(f"optimization.lr: must be a list, got {rate!r}; write 'optimization.lr=[{rate}]'")
    if given.get("optimizer", given.get("optimizer._name", "")).lower() == "adamw":
        sys.exit("optimizer._name: must be adam, got 'adamw'; leave it out: its weight decay is AdamW's")


def _check_schedule(folder: Path, schedule: str, given: Mapping[str, str]) -> None:
    schedules = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if schedule not in schedules:
        return  # Hydra lists those there are
    scheduler, *keys = re.findall(r"^  (?:_name: )?(\w+)", _text(schedules[schedule]), re.MULTILINE)
    known = f"the schedules are {', '.join(schedules)}"
    for key, value in given.items():
        if key == "lr_scheduler" or (key == "lr_scheduler._name" and value != scheduler):
            sys.exit(f"{key}: write schedule=NAME, which brings its settings along, got {value!r}; {known}")
        name = key.removeprefix("lr_scheduler.")
        if name not in (key, "_name", *keys):
            expected = f"must be a setting of schedule={schedule} ({', '.join(keys)})"
            sys.exit(f"{key}: {expected}, got {value!r}; {known}")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _primaries(folder: Path) -> list[str]:
    """List the configurations to choose from: those that combine others."""
    try:
        texts = {path.stem: path.read_text("utf-8", "replace") for path in sorted(folder.glob("*.yaml"))}
    except OSError:
        return []
    return [name for name, text in texts.items() if "\ndefaults:" in f"\n{text}"]


def _own_folders() -> list[Path]:
    """Return the folder of fairseq's own configurations, without importing fairseq."""
    spec = importlib.util.find_spec("fairseq")
    places = spec.submodule_search_locations if spec is not None else None
    return [Path(place) / "config" for place in places or ()]


def _allow_config_defaults(original: Callable[..., Any]) -> Callable[..., Any]:
    """Hide config instances from the check for unhashable defaults in ``dataclasses._get_field``."""

    @functools.wraps(original)
    def get_field(cls: type, name: str, *args: Any, **kwargs: Any) -> Any:
        declared = getattr(cls, name, dataclasses.MISSING)  # may be inherited, as in the original
        default = declared.default if isinstance(declared, dataclasses.Field) else declared
        if not (_is_unhashable_config(default) and _belongs_to_patched_package(cls)):
            return original(cls, name, *args, **kwargs)
        field: dataclasses.Field[Any] = (
            declared if isinstance(declared, dataclasses.Field) else dataclasses.field()
        )
        setattr(cls, name, field)
        field.default = None  # any hashable value; the real default returns below
        try:
            return original(cls, name, *args, **kwargs)
        finally:
            field.default = default

    setattr(get_field, _MARK, True)
    return get_field


def _is_unhashable_config(default: object) -> bool:
    """Whether a default is a dataclass instance without a hash; all others keep Python's own check."""
    return type(default).__hash__ is None and dataclasses.is_dataclass(type(default))


def _belongs_to_patched_package(cls: type) -> bool:
    """Whether a class, or one of its bases, is defined in fairseq, hydra or omegaconf."""
    return any(base.__module__.partition(".")[0] in _PATCHED_PACKAGES for base in cls.__mro__)


def main() -> None:
    """Run ``cli_main()`` of the module that the first argument names, as in ``fairseq_cli.hydra_train``."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m fairseq_vgs_compat fairseq_cli.hydra_train ARGUMENTS...")
    module_name = sys.argv.pop(1)
    if module_name == _TRAIN:
        check_config_name(sys.argv[1:])
    install()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name not in {module_name, module_name.partition(".")[0]}:
            raise
        sys.exit(
            f"fairseq_vgs_compat: module {module_name} must be importable, got '{error}'; "
            f"run: pip install --no-deps fairseq==0.12.2"
        )
    if not hasattr(module, "cli_main"):
        sys.exit(
            f"fairseq_vgs_compat: expected a module with cli_main(), got {module_name}; "
            f"name one such as fairseq_cli.hydra_train"
        )
    _lock_run_folders()
    # Imported rather than run as __main__, so that spawned ranks import *this* file first (see below).
    module.cli_main()


if __name__ == "__mp_main__":  # a rank spawned by a process that was started through main()
    install()
elif __name__ == "__main__":
    main()
