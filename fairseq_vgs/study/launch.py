"""The commands of a study's runs, and processes that end with the study.

Training is plain ``fairseq-hydra-train`` with overrides: the command in a run's ``log.txt`` repeats it in
another ``hydra.run.dir``. ``--dry-run`` prints the commands; replace the ``*`` in the name of a start
checkpoint that does not exist yet. GPU and number of threads are set in the environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fairseq_vgs.configs import PACKAGE
from fairseq_vgs.files.hydra import override
from fairseq_vgs.files.yaml_files import load_yaml
from fairseq_vgs.study.plan import PhaseRun, RunFolder
from fairseq_vgs.study.settings import StudySettings

# Linux kills a process that requests it (PR_SET_PDEATHSIG = 1) when its parent ends for any reason. The
# request is made before exec, since code between fork and exec (preexec_fn) is unsafe with threads. The
# parent may have ended before the request, so its number (argument 1) is compared.
_BECOME = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n"
    "if os.getppid() == int(sys.argv[1]):\n"
    "    os.execvp(sys.argv[2], sys.argv[2:])\n"
)
# fairseq and Hydra warn about newer libraries at every start; errors still reach the log.
_ENVIRONMENT = {"PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"}
# Batches differ in length: without this the C library returns and requests hundreds of megabytes per update.
_CPU_ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_THRESHOLD_": "4294967296"}


def training_command(
    run: PhaseRun,
    settings: StudySettings,
    *,
    data: Path,
    folder: RunFolder,
    start: Path | None,
    on_gpu: bool = False,
) -> list[str]:
    """Return the command of a run that starts from the checkpoint ``start``."""
    every = settings.evaluate_every
    overrides = [
        *settings.overrides,
        override("common.user_dir", str(PACKAGE)),
        f"common.seed={run.seed}",
        "common.log_format=json",
        override("task.data", str(data)),
        f"optimization.max_update={run.max_update}",
        "optimization.max_epoch=0",  # no limit: one from run_config could end a run early
        f"lr_scheduler.total_num_update={run.schedule_updates}",
        f"lr_scheduler.warmup_updates={round(settings.warmup_share * run.schedule_updates)}",
        # Every point of the curves is a checkpoint and a validation. At the end of an epoch fairseq saves it
        # under the epoch's name only, and the runner keeps it.
        f"checkpoint.save_interval_updates={every}",
        "checkpoint.keep_interval_updates=-1",
        "checkpoint.no_epoch_checkpoints=false",
        "checkpoint.keep_last_epochs=1",
        f"dataset.validate_interval_updates={every}",
        override("hydra.run.dir", str(folder.run)),
        f"common.cpu={str(not on_gpu).lower()}",  # whatever the run_config says
    ]
    if start is not None:
        overrides.append(override("checkpoint.finetune_from_model", str(start)))
    program = _program("fairseq-hydra-train", "fairseq_cli.hydra_train")
    config_dir = str(Path(settings.config_dir).resolve())
    return [*program, "--config-dir", config_dir, "--config-name", run.primary, *overrides]


def evaluation_command(
    run: PhaseRun,
    settings: StudySettings,
    *,
    data: Path,
    folder: RunFolder,
    untrained: bool,
    device: str,
    words: Path | None = None,
) -> list[str]:
    """Return the command that evaluates a run's checkpoints; ``untrained`` adds the untrained model.

    ``words`` is the folder of the lexical test, if there is one.
    """
    command = [
        *_program("fairseq-vgs", "fairseq_vgs.cli.main"),
        *("evaluate", "run", str(folder.run), str(data)),
        *("--split", settings.split, "--every", str(settings.evaluate_every)),
        *("--output", str(folder.evaluation), "--device", device),
        "--force",  # measure again what changed settings affect; the rest is kept
    ]
    if settings.abx_folder is not None:
        command += ["--abx", str(settings.abx_folder.resolve()), "--abx-items", settings.abx_items]
        command += ["--abx-speakers", *settings.abx_speakers]
    if words is not None:
        command += ["--also", shlex.join(["lexical", str(words), "--split", settings.lexical_split])]
    return [*command, *(("--untrained-seed", str(run.seed)) if untrained else ("--baseline", "none"))]


def prepare_command(arguments: Sequence[str]) -> list[str]:
    """Return the command that makes the data."""
    return [*_program("fairseq-vgs", "fairseq_vgs.cli.main"), "prepare", *arguments]


def start_process(
    command: Sequence[str], *, log: Path, threads: int | None, gpu: str | None, lock: int
) -> subprocess.Popen[bytes]:
    """Start a command that appends its output to a log.

    The process stops with the study, even if the study is killed; otherwise a restarted study would write to
    the same folders. Where the system cannot do that, the process keeps holding the study's lock.

    ``threads`` None leaves their number to the libraries; ``gpu`` is the only visible one, None: as in this
    process; ``lock`` is the file descriptor of the study's lock.
    """
    environment = {**os.environ, **_ENVIRONMENT}
    if threads is not None:
        environment |= {**_CPU_ENVIRONMENT, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        file.flush()
        return subprocess.Popen(
            _dying_with_parent(command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(lock,),
            start_new_session=True,
        )


def stop_processes(processes: Sequence[subprocess.Popen[bytes]], *, patience_seconds: float = 10.0) -> None:
    """Stop processes and their children: SIGTERM, then SIGKILL."""
    for chosen in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, chosen)
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience_seconds)


def _program(script: str, module: str) -> list[str]:
    """Find a console script of this environment, else its module."""
    found = shutil.which(script, path=str(Path(sys.executable).parent))
    return [found] if found else [sys.executable, "-m", module]


def command_identity(command: Sequence[str]) -> dict[str, str]:
    """Return a command's overrides by key, and a hash of each of its YAML files without comments."""
    at = command.index("--config-name")
    primary, folder = command[at + 1], Path(command[command.index("--config-dir") + 1])
    overrides = dict(entry.partition("=")[::2] for entry in command[at + 2 :])
    files = {name: _content_hash(folder / name) for name in _files_of(folder, primary, overrides)}
    return {"--config-name": primary, **files, **overrides}


def _files_of(folder: Path, primary: str, overrides: Mapping[str, str]) -> list[str]:
    """Name the files of the configuration folder that a primary's defaults and the overrides choose."""
    path = folder / f"{primary}.yaml"
    content: Any = load_yaml(path) if path.is_file() else {}
    names = []
    for entry in content.get("defaults", []):
        if isinstance(entry, str):
            names.append(f"{entry}.yaml")
        else:
            names += [f"{group}/{overrides.get(group, chosen)}.yaml" for group, chosen in entry.items()]
    return [name for name in names if (folder / name).is_file()]


def _content_hash(path: Path) -> str:
    content = OmegaConf.to_container(load_yaml(path), resolve=False)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _dying_with_parent(command: Sequence[str]) -> list[str]:
    """Wrap a command so that it ends with this process, where the system can do that."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-S", "-c", _BECOME, str(os.getpid()), *command]
