"""What comes with the package: configurations of training, a study, and the embedded data.

In a checkout they lie in ``examples/vgs`` and ``manifests/embedded``, and nowhere else. Building a wheel
copies them into the package: no second version that could differ, and no link, which archives and other
systems would not keep.
"""

from __future__ import annotations

from pathlib import Path

import fairseq_vgs_compat
from fairseq_vgs.files.faults import FaultError, fault

BASE = "base.yaml"
PACKAGE = Path(__file__).resolve().parents[1]
_STEP = "install the package again, or start from a checkout"


def config_dir() -> Path:
    """Return the folder of the primary configurations, and of the study ``study.yaml``.

    Raises:
        FaultError: ``file.missing``: the package was installed without them.
    """
    installed = PACKAGE / "configs"
    for folder in (installed, PACKAGE.parent / "examples" / "vgs"):
        if (folder / BASE).is_file():
            return folder
    raise FaultError(fault(str(installed / BASE), "must be there", "no file", _STEP, code="file.missing"))


def embedded_data() -> Path:
    """Return the embedded data folder."""
    return Path(fairseq_vgs_compat.paths(PACKAGE)["embedded_data"])
