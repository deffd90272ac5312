#!/usr/bin/env bash
# From nothing to a trained speech and image model, with retrieval figures: about ten minutes on two CPU cores.
#
#   bash examples/vgs/quickstart.sh
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

bash examples/vgs/setup_environment.sh
export PATH="$PWD/.venv/bin:$PATH"
