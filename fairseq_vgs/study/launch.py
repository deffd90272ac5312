"""The commands of a study's runs.

Training is plain ``fairseq-hydra-train`` with overrides: the command in a run's ``log.txt`` repeats it in
another ``hydra.run.dir``. ``--dry-run`` prints the commands; replace the ``*`` in the name of a start
checkpoint that does not exist yet. GPU and number of threads are set in the environment.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from fairseq_vgs.configs import PACKAGE
from fairseq_vgs.files.hydra import override
from fairseq_vgs.launch.command import train_command, vgs_command
from fairseq_vgs.launch.process import memory_environment
from fairseq_vgs.study.plan import PhaseRun, RunFolder, Stop
from fairseq_vgs.study.settings import StudySettings


def training_command(
    run: PhaseRun,
    settings: StudySettings,
    *,
    data: Path,
    folder: RunFolder,
    start: Path | None,
    stop: Stop | None = None,
    on_gpu: bool = False,
) -> list[str]:
    """Return the command of a run that starts from the checkpoint ``start``, up to ``stop`` or its end."""
    until, every = stop or Stop(run.max_update, settings.evaluate_every)
    overrides = [
        *settings.overrides,
        *run.overrides,
        override("common.user_dir", str(PACKAGE)),
        f"common.seed={run.seed}",
        "common.log_format=json",
        override("task.data", str(data)),
        f"optimization.max_update={until}",
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
    return train_command(Path(settings.config_dir), run.primary, overrides)


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
    more = settings.evaluate_at if run.start is not None else ()
    command = vgs_command(
        *("evaluate", "run", str(folder.run), str(data)),
        *("--split", settings.split, "--every", str(settings.evaluate_every)),
        *("--output", str(folder.evaluation), "--device", device),
        *(("--at", *map(str, more)) if more else ()),
        "--force",  # measure again what changed settings affect; the rest is kept
    )
    if settings.abx_folder is not None:
        command += ["--abx", str(settings.abx_folder.resolve()), "--abx-items", settings.abx_items]
        command += ["--abx-speakers", *settings.abx_speakers]
    if words is not None:
        command += ["--also", shlex.join(["lexical", str(words), "--split", settings.lexical_split])]
    return [*command, *(("--untrained-seed", str(run.seed)) if untrained else ("--baseline", "none"))]


def prepare_command(arguments: Sequence[str]) -> list[str]:
    """Return the command that makes the data."""
    return vgs_command("prepare", *arguments)


def environment(*, threads: int | None, gpu: str | None) -> dict[str, str]:
    """Return the variables of a run: ``threads`` None leaves their number to the libraries.

    ``gpu`` is the only visible one, None: as in this process.
    """
    chosen: dict[str, str] = {}
    if threads is not None:
        chosen |= {**memory_environment(), "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if gpu is not None:
        chosen["CUDA_VISIBLE_DEVICES"] = gpu
    return chosen
