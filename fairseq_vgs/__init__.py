"""Visually grounded speech models as a fairseq plugin.

Importing this package registers its tasks, models and criterions with fairseq, whether it is imported by name
or named as ``common.user_dir``. Where fairseq is missing nothing is registered, and the parts that do without
it stay usable: ``manifest``, ``prepare``, ``modules``, ``losses`` and the commands built on them. The others
call :func:`fairseq_vgs.compat.availability.require_fairseq`, which names the remedy.
"""

from __future__ import annotations

import os
import sys

from fairseq_vgs_compat import install as _allow_fairseq_import

__version__ = "0.1.0"

if __name__ != "fairseq_vgs":
    raise ImportError(
        f"common.user_dir: expected the plugin's folder to be named fairseq_vgs, got {__name__}; rename it"
    )

_FAIRSEQ_WAS_IMPORTED = sys.modules.get("fairseq") is not None

_allow_fairseq_import()

if "torch" not in sys.modules:  # which reads it when it is loaded, below; why: see tasks.host_threads
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from fairseq_vgs.compat.availability import fairseq_problem, require_fairseq  # noqa: E402

if fairseq_problem() is None:
    from fairseq_vgs.compat import fixes as fairseq_fixes

    fairseq_fixes.apply()
    from fairseq_vgs import criterions, models, tasks  # noqa: F401 - importing them registers their classes
elif _FAIRSEQ_WAS_IMPORTED:
    # an unsuitable fairseq is importing the plugin: without this it would only find no task of that name
    require_fairseq()
