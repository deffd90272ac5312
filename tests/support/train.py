"""Running ``fairseq-hydra-train`` in tests: its own entry point, forked from a process that knows fairseq."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from fairseq_vgs.manifest import (
    ManifestFolder,
    read_audio_list,
    read_images,
    read_pairs,
    write_audio_list,
    write_images,
    write_pairs,
)

CHECKOUT = Path(__file__).parents[2]
EMBEDDED = CHECKOUT / "manifests" / "embedded"
# A name of everything that a shell, Hydra, a URL, a pattern or a page might take for something else.
ODD = "-Zoe\u0308 $x ~[1]{2}(3), c=d;&|'\"#?*%!\\ <é>:0:1&amp;"
# The paper's losses and dropout, and a validation per epoch: run_config=cpu has the quickstart's.
PAPERS = [
    "criterion.vgs_loss=masked_margin",
    "criterion.similarity=dot",
    "model.vgs_forward=masked",
    "model.dropout=0.1",
    "model.speech_head_dropout=0.1",
    "model.image_dropout=0.1",
    "dataset.validate_interval=1",
    "dataset.validate_interval_updates=0",
    "checkpoint.save_interval_updates=0",
    "checkpoint.best_checkpoint_metric=loss",
    "checkpoint.maximize_best_checkpoint_metric=false",
]
TINY = [
    "model=tiny",
    "run_config=cpu",
    *PAPERS,
    "common.log_format=simple",
    "common.log_interval=1",
    "model.autocast=none",
    "dataset.num_workers=1",
    "lr_scheduler.warmup_updates=2",
]


def train_command(config: str, run_dir: Path, *overrides: str) -> list[str]:
    """Compose the command line of one small run on the CPU."""
    script = Path(sys.executable).with_name("fairseq-hydra-train")
    return [
        str(script),
        "--config-dir",
        str(CHECKOUT / "examples" / "vgs"),
        "--config-name",
        config,
        f"hydra.run.dir={run_dir}",
        *TINY,
        *overrides,
    ]


def environment() -> dict[str, str]:
    """Give the environment in which two test runs do not fight for cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "1"}


def train(
    config: str, run_dir: Path, *overrides: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run to the end; a failure shows what the command printed."""
    done = run_command(train_command(config, run_dir, *overrides), environment())
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done


class Forked:
    """``fairseq-hydra-train`` in a process that is forked from one which has imported fairseq.

    The command, and what it imports of the plugin, are those of a start of its own, which takes seconds more.
    Its face is that of ``subprocess.Popen``; it leads a session, to which the data workers belong as well.
    """

    def __init__(
        self, command: list[str], variables: Mapping[str, str], *, merged: bool = False, cwd: Path = CHECKOUT
    ) -> None:
        n_files = 1 if merged else 2
        self._files = [tempfile.TemporaryFile("w+") for _ in range(n_files)]  # noqa: SIM115
        descriptors = [DupFd(file.fileno()) for file in (self._files[0], self._files[-1])]
        self._command = command
        self._process = _SERVER.Process(target=_run, args=(command, dict(variables), descriptors, cwd))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def communicate(self, timeout: float = 300) -> list[str]:
        """Wait for the end; return what was printed to stdout and, unless they are merged, to stderr."""
        self._process.join(timeout)
        stopped = self.returncode is None
        if stopped:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.join()
        printed = []
        for file in self._files:
            file.seek(0)
            printed.append(file.read())
            file.close()
        assert not stopped, f"still going after {timeout} s: " + "\n".join(text[-3000:] for text in printed)
        return printed


def run_command(
    command: list[str], variables: Mapping[str, str], *, timeout: float = 300, cwd: Path = CHECKOUT
) -> subprocess.CompletedProcess[str]:
    """Run ``fairseq-hydra-train`` to its end, forked."""
    process = Forked(command, variables, cwd=cwd)
    printed = process.communicate(timeout)
    return subprocess.CompletedProcess(command, process.returncode or 0, *printed)


os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when the server loads torch
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["fairseq_cli.hydra_train"])


def _run(command: list[str], variables: dict[str, str], descriptors: list[Any], cwd: Path) -> None:
    for number, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor.detach(), number)
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # for the data workers, as in any other process
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    sys.argv = command
    from fairseq_cli.hydra_train import cli_main

    cli_main()


def history(run_dir: Path, split: str = "train") -> dict[int, dict[str, Any]]:
    """Read what a run logged: update -> values; of a repeated update the last record counts."""
    lines = (run_dir / "history.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return {record["update"]: record for record in records if record["split"] == split}


def small_folder(target: Path, *, train_pairs: int = 24, valid_pairs: int = 10) -> Path:
    """Make a manifest folder of the first pairs of the embedded set; media stay where they are."""
    source, folder = ManifestFolder(EMBEDDED), ManifestFolder(target)
    target.mkdir(parents=True)
    used: set[str] = set()
    for split, n_pairs in (("train", train_pairs), ("valid", valid_pairs)):
        pairs = read_pairs(source.pairs(split))[:n_pairs]
        audio = read_audio_list(source.audio_list(split))
        wanted = {pair.audio_id for pair in pairs}
        used |= {pair.image_id for pair in pairs}
        write_audio_list(
            folder.audio_list(split),
            [row for row in audio.rows if row.audio_id in wanted],
            root=str(EMBEDDED),
        )
        write_pairs(folder.pairs(split), pairs)
    images = read_images(source.images)
    write_images(folder.images, [row for row in images.rows if row.image_id in used], root=str(EMBEDDED))
    lines = source.regions.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines[1:] if line.split("\t")[0] in used]
    folder.regions.write_text("\n".join([lines[0], *kept]) + "\n", encoding="utf-8")
    folder.region_features.write_bytes(source.region_features.read_bytes())
    return target
