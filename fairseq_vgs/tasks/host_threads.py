"""OpenMP's waiting threads, which spin by default.

Where another process wants the cores, a thread that spins keeps the one from running for which it waits:
beside one other process on two cores, 20 updates of the quickstart took 214 s; with threads that sleep, 39 s.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

import torch

logger = logging.getLogger(__name__)

POLICY = "OMP_WAIT_POLICY"


def warn_of_spinning_threads(*, environment: Mapping[str, str] = os.environ) -> bool:
    """Log how to let waiting threads sleep: if they spin, cores are too few for all, and there is no GPU.

    OpenMP reads its setting when torch is loaded, so that a running process cannot change it.

    Returns:
        Whether that was logged.
    """
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    if threads == 1 or POLICY in environment or torch.cuda.is_available():
        return False
    if os.getloadavg()[0] + threads < cores + 0.5:
        return False
    logger.warning(
        "other processes use this machine's %d cores, on which waiting threads spin: training may take "
        "several times as long; set %s=PASSIVE in its environment, or OMP_NUM_THREADS=1",
        cores,
        POLICY,
    )
    return True
