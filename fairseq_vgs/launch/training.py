"""The command of a single training run, composed from a data folder, a scenario and the hardware."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fairseq_vgs.configs import config_dir
from fairseq_vgs.configs.scenarios import Scenario
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.hydra import path_override
from fairseq_vgs.files.torch_files import require_file
from fairseq_vgs.files.work import differences
from fairseq_vgs.files.yaml_files import load_yaml
from fairseq_vgs.launch.command import train_command
from fairseq_vgs.launch.data import TrainingData, require_pictures
from fairseq_vgs.launch.hardware import Hardware
from fairseq_vgs.launch.overrides import refuse_interpolation, user_overrides, value_of, whole_number
from fairseq_vgs.launch.process import memory_environment
from fairseq_vgs.launch.recipe import FEW_IMAGES, SCHEDULES, Size, best_overrides, choose_size, size_overrides

_PHASES = "_then_"
LAST = Path("checkpoints", "checkpoint_last.pt")
_START, _UPDATES = "checkpoint.finetune_from_model", "optimization.max_update"
_WARMUP = "lr_scheduler.warmup_updates"
_BATCH, _ACCUMULATED = "dataset.batch_size", "optimization.update_freq"
_PROCESSES = "distributed_training.distributed_world_size"
# What another start of the same run may change: where and how long it trains, and what it shows.
_MAY_DIFFER = (
    *(
        "checkpoint.",
        "common.cpu",
        "common.log_format",
        "common.log_interval",
        "common.user_dir",
        "dataset.",
        "distributed_training.",
    ),
    *("lr_scheduler.", "model.autocast", "optimization.", "task.history_file", "task.skip_bad"),
)


@dataclass(frozen=True)
class Choices:
    """What a user chooses; see the options of ``fairseq-vgs train``."""

    scenario: Scenario = "vgs_plus"
    size: Literal["auto", "tiny", "small", "paper"] = "auto"
    output: Path | None = None
    init: Path | None = None
    seed: int = 1
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Training:
    """A run to start: its command and folder, its last update, and what was chosen and why, in lines.

    ``environment`` holds the variables that go with the command; ``shell`` is both, to be pasted.
    """

    command: list[str]
    run: Path
    updates: int
    notes: tuple[str, ...]
    environment: Mapping[str, str]
    history: str | None

    @property
    def shell(self) -> str:
        """The command for a shell, with a short program name where that is the one on the ``PATH``."""
        program, *words = self.command
        short = Path(program).name if shutil.which(Path(program).name) == program else program
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join([short, *words])])


def compose_training(data: TrainingData, choices: Choices, hardware: Hardware) -> Training:
    """Compose the command of a run.

    Raises:
        FaultError: ``setting.missing``, a second phase without ``--init``; ``file.missing``, no regions or
            pictures, or no such checkpoint; ``setting.value`` and ``setting.conflict``, an override;
            ``run.settings``, the output is the folder of another run.
    """
    given = user_overrides(choices.overrides)
    refuse_interpolation(data.path, "DATA")
    start = _start(choices)
    size, why = _size(data, choices, hardware, start)
    is_grounded, n_images = grounds(choices.scenario), data.n_valid_images
    chosen = {
        **size_overrides(size, hardware),
        **best_overrides(size, grounds=is_grounded, n_images=n_images),
    }
    notes = [f"size {size}: {why}; on {hardware}"]
    if is_grounded and n_images <= FEW_IMAGES:
        notes.append(
            f"the split valid has {n_images} pictures, of which R@10 says nothing: the best checkpoint is "
            "the one with the lowest VGS loss (a larger --valid-share of prepare pairs tells more)"
        )
    if choices.seed != 1:
        chosen["common.seed"] = str(choices.seed)
    if not {"model", "model.image_encoder"} & given.keys() and not data.has_regions:
        require_pictures(data)
        chosen["model.image_encoder"] = "patches"
        advice = "a pre-trained extractor teaches more: fairseq-vgs prepare regions efficientnet DATA"
        notes.append(f"pictures are read directly, since there are no regions; {advice}")
    if "run_config" in given:
        updates = whole_number(given.get(_UPDATES, "")) or _updates_of(value_of(given["run_config"]))
    else:
        length = _length(size, data, choices, given)
        updates, chosen = int(length[_UPDATES]), {**chosen, **length}
        made = {key: f"{key}={value}" for key, value in chosen.items()}
        notes.append(_length_note(updates, size, data.n_pairs, {**made, **given}))
    run = _run_folder(choices, data, size)
    overrides = {"task.data": path_override("task.data", data.path)}
    overrides |= {key: f"{key}={value}" for key, value in chosen.items()}
    if start is not None:
        overrides[_START] = path_override(_START, start)
    if value_of(given.get("schedule", "")) == "tri_stage":  # it has no such setting
        given.setdefault(f"~{_WARMUP}", f"~{_WARMUP}")
    overrides = {
        key: text for key, text in overrides.items() if key not in given and f"~{key}" not in given
    } | given
    _refuse_other_run(run, choices.scenario, overrides)
    words = [*overrides.values(), path_override("hydra.run.dir", run)]
    history = value_of(given.get("task.history_file", "=history.jsonl"))
    on_cpu = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"), **memory_environment()}
    return Training(
        train_command(config_dir(), choices.scenario, words),
        run,
        updates,
        tuple(notes),
        environment={} if hardware.n_gpus else on_cpu,
        history=None if history == "null" else history,
    )


def _length(size: Size, data: TrainingData, choices: Choices, given: Mapping[str, str]) -> dict[str, str]:
    """Return updates and warm-up, for the number of pairs or as many updates as the user wants."""
    schedule = SCHEDULES[size]
    updates = whole_number(given.get(_UPDATES, ""))
    updates = updates or schedule.updates(data.n_pairs, second=_PHASES in choices.scenario)
    whole = whole_number(given.get("lr_scheduler.total_num_update", "")) or updates
    return {_UPDATES: str(updates), _WARMUP: str(schedule.warmup_updates(whole))}


def _length_note(updates: int, size: Size, n_pairs: int, overrides: Mapping[str, str]) -> str:
    """Say how often the updates see every pair, with the batches, accumulation and processes of the run."""
    if "dataset.max_tokens" in overrides or value_of(overrides.get(_BATCH, "")) == "null":
        return f"{updates:,} updates"  # of batches by the length of their speech
    batch = whole_number(overrides.get(_BATCH, "")) or SCHEDULES[size].batch
    batch *= whole_number(overrides.get(_PROCESSES, "")) or 1
    accumulated = value_of(overrides.get(_ACCUMULATED, "")).strip("[]")
    batch *= whole_number(f"={accumulated}") or 1
    return f"{updates:,} updates of {batch:,} pairs: {updates * batch / n_pairs:.1f} epochs"


def grounds(scenario: str) -> bool:
    """Whether the last phase of a scenario has a VGS loss."""
    return scenario.rpartition(_PHASES)[2] != "w2v2"


def _start(choices: Choices) -> Path | None:
    """Return the checkpoint that the run starts from; of a run, its last one."""
    if choices.init is None:
        if _PHASES in choices.scenario:
            first = choices.scenario.partition(_PHASES)[0]
            expected = f"must name the run or checkpoint of {first}, from which {choices.scenario} starts"
            step = f"train it with --scenario {first}, then give its folder"
            raise FaultError(fault("--init", expected, None, step, code="setting.missing"))
        return None
    path = choices.init.expanduser().absolute()
    refuse_interpolation(path, "--init")
    path = path / LAST if path.is_dir() else path
    require_file(path)
    return path


def _size(data: TrainingData, choices: Choices, hardware: Hardware, start: Path | None) -> tuple[Size, str]:
    if choices.size != "auto":
        return choices.size, "as asked for"
    if start is not None:
        run = start.parent.parent
        model = value_of(_recorded(run).get("model", ""))
        found: Size | None = next((size for size in SCHEDULES if size == (model or "tiny")), None)
        if found is not None and (run / ".hydra").is_dir():
            return found, "that of the run it starts from"
    return choose_size(data.n_pairs, hardware)


def _run_folder(choices: Choices, data: TrainingData, size: Size) -> Path:
    """Return the folder of the run, by default ``outputs/NAME-SCENARIO-SIZE``, with ``-seedN`` unless 1."""
    if choices.output is not None:
        run = choices.output.expanduser().absolute()
    else:
        seed = f"-seed{choices.seed}" if choices.seed != 1 else ""
        run = Path("outputs", f"{data.path.resolve().name}-{choices.scenario}-{size}{seed}").absolute()
    refuse_interpolation(run, "--output")
    return run


def _refuse_other_run(run: Path, scenario: str, overrides: Mapping[str, str]) -> None:
    """Refuse the folder of a run with another scenario, data, model or loss.

    Raises:
        FaultError: ``run.settings``.
    """
    if not any((run / "checkpoints").glob("checkpoint*.pt")):
        return
    before = {key: value_of(text) for key, text in _recorded(run).items()}
    now = {key: value_of(text) for key, text in overrides.items()}
    if (name := _select(run / ".hydra" / "hydra.yaml", "hydra.job.config_name")) is not None:
        before["scenario"], now["scenario"] = str(name), scenario
    passed_over = {key for key in (*before, *now) if key.lstrip("~").startswith(_MAY_DIFFER)}
    if found := differences(before, now, passed_over=passed_over):
        message = f"is the folder of a run with other settings ({found})"
        step = "repeat its settings to go on with it, or choose another --output"
        raise FaultError.at(run, f"{message}; {step}", "run.settings")


def _recorded(run: Path) -> dict[str, str]:
    """Return the overrides that Hydra recorded in the folder of a run, by key; none if it is no run."""
    words = _load(run / ".hydra" / "overrides.yaml") or []
    found = {str(word).partition("=")[0].lstrip("+"): str(word) for word in words}
    if (data := found.get("task.data")) is not None:
        cwd = _select(run / ".hydra" / "hydra.yaml", "hydra.runtime.cwd")
        found["task.data"] = path_override("task.data", Path(str(cwd or "/"), value_of(data)))
    return found


def _select(path: Path, key: str) -> Any:
    """Return a value of a YAML file; None without it, or where the file cannot be read."""
    settings = _load(path)
    return OmegaConf.select(settings, key) if settings else None


def _load(path: Path) -> Any:
    try:
        return load_yaml(path)
    except (OSError, FaultError, YAMLError, OmegaConfBaseException):
        return None


def _updates_of(run_config: str) -> int:
    """Return the updates of a ``run_config``; 0 if it cannot be told."""
    updates = _select(config_dir() / "run_config" / f"{run_config}.yaml", _UPDATES)
    return updates if type(updates) is int else 0
