"""Print the folder of the training configurations, for fairseq-hydra-train --config-dir.

It holds one file per scenario (vgs_plus.yaml), the groups model, scenario, run_config, phase, finetune and
data, base.yaml, which lists every setting with its default, and study.yaml, for fairseq-vgs study.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from fairseq_vgs.options import option, read_options

EPILOG = """\
examples:
  ls "$(fairseq-vgs configs)"
  fairseq-hydra-train --config-dir "$(fairseq-vgs configs)" --config-name vgs_plus task.data=DATA
  fairseq-vgs check "$(fairseq-vgs configs --embedded)"
"""


@dataclass(frozen=True)
class Options:
    """Options of ``configs``."""

    embedded: bool = option(
        False, help="print the folder of the embedded data instead, which runs read by default"
    )


def run(args: argparse.Namespace) -> int:
    """Print the folder."""
    from fairseq_vgs.configs import config_dir, embedded_data

    print(embedded_data() if read_options(args, Options).embedded else config_dir())
    return 0
