"""Processes that end with the one that started them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

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
_TUNABLES = "GLIBC_TUNABLES"
_MALLOC = "glibc.malloc.tcache_count=0:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4294967296"


def start_process(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    kept_open: Sequence[int] = (),
    errors: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command that appends its output to a log; it leads a session, so no terminal stops it.

    The process stops with this one, even if this one is killed; otherwise a second start would write to the
    same folders. Where the system cannot do that, the process keeps holding the locks in ``kept_open``.

    Args:
        command: what to start.
        log: file for its output, which begins with the command.
        environment: variables besides those of this process.
        kept_open: file descriptors of locks.
        errors: file for its stderr; None: the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        file.flush()
        return subprocess.Popen(
            _dying_with_parent(command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT if errors is None else errors,
            env={**os.environ, **_ENVIRONMENT, **environment},
            pass_fds=kept_open,
            start_new_session=True,
        )


def memory_environment() -> dict[str, str]:
    """Return the variables with which glibc reuses the memory that tensors free; the user's own tunables win.

    Its cache per thread holds the few bytes that it cuts off to align a tensor, so that the block of a freed
    tensor does not become whole again and cannot serve one of the same size: with batches of different
    lengths, the heap grows from update to update. Only the environment can switch the cache off, before the
    process starts. The other two are those of `tasks.host`, for processes that do not train.
    """
    return {_TUNABLES: ":".join(filter(None, (_MALLOC, os.environ.get(_TUNABLES))))}


def stop_processes(processes: Sequence[subprocess.Popen[bytes]], *, patience_seconds: float = 10.0) -> None:
    """Stop processes and their children: SIGTERM, then SIGKILL."""
    for chosen in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, chosen)
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience_seconds)


def _dying_with_parent(command: Sequence[str]) -> list[str]:
    """Wrap a command so that it ends with this process, where the system can do that."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-S", "-c", _BECOME, str(os.getpid()), *command]
