"""Hydra's configurations of training: the folder for ``fairseq-hydra-train --config-dir``.

They lie in ``examples/vgs`` of the checkout, where a run is started from, and nowhere else. Building a wheel
copies them into this package: no second version that could differ, and no link, which archives and other
systems would not keep.
"""

from __future__ import annotations

from pathlib import Path

from fairseq_vgs.files.faults import FaultError, fault

BASE = "base.yaml"


def config_dir() -> Path:
    """Return the folder of the primary configurations.

    Raises:
        FaultError: ``file.missing``: the package was installed without them.
    """
    package = Path(__file__).parent
    checkout = package.parents[1] / "examples" / "vgs"
    for folder in (package, checkout):
        if (folder / BASE).is_file():
            return folder
    step = "install the package again, or start from a checkout"
    raise FaultError(fault(str(package / BASE), "must be there", "no file", step, code="file.missing"))
