"""What a checkout holds beside the package: configurations of training, and the embedded data.

The configurations, for ``fairseq-hydra-train --config-dir``, lie in ``examples/vgs`` of the checkout, where a
run is started from, and nowhere else. Building a wheel copies them into this package: no second version that
could differ, and no link, which archives and other systems would not keep.
"""

from __future__ import annotations

from pathlib import Path

from fairseq_vgs.files.faults import FaultError, fault

BASE = "base.yaml"
PACKAGE = Path(__file__).resolve().parents[1]  # for common.user_dir


def config_dir() -> Path:
    """Return the folder of the primary configurations.

    Raises:
        FaultError: ``file.missing``: the package was installed without them.
    """
    installed = PACKAGE / "configs"
    for folder in (installed, PACKAGE.parent / "examples" / "vgs"):
        if (folder / BASE).is_file():
            return folder
    step = "install the package again, or start from a checkout"
    raise FaultError(fault(str(installed / BASE), "must be there", "no file", step, code="file.missing"))


def embedded_data() -> Path:
    """Return the embedded data folder of this package's checkout, or else of the working directory."""
    relative = Path("manifests", "embedded")
    in_checkout = PACKAGE.parent / relative
    return in_checkout if in_checkout.is_dir() else relative
