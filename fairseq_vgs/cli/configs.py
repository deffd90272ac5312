"""Print the folder of the training configurations, for fairseq-hydra-train --config-dir.

It holds one file per scenario (vgs_plus.yaml), the groups model, scenario, run_config, phase, finetune and
data, and base.yaml, which lists every setting with its default.
"""

from __future__ import annotations

import argparse
import sys

EPILOG = """\
examples:
  ls "$(fairseq-vgs configs)"
  fairseq-hydra-train --config-dir "$(fairseq-vgs configs)" --config-name vgs_plus task.data=DATA
"""


def run(args: argparse.Namespace) -> int:  # noqa: ARG001 - there are no options
    """Print the folder."""
    from fairseq_vgs.configs import PACKAGE, config_dir
    from fairseq_vgs.files.hydra import shell_override

    print(config_dir())
    print(f"outside of a checkout, add {shell_override('common.user_dir', PACKAGE)}", file=sys.stderr)
    return 0
