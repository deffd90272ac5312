#!/usr/bin/env bash
# Everything worth knowing about training on this machine's GPU, in at most eight minutes; see gpu_check.py.
#
#   bash benchmarks/gpu_check.sh OUTPUT                    # on a GPU
#   bash benchmarks/gpu_check.sh OUTPUT --device cpu       # tries the script itself, at tiny sizes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
output=$(realpath -m "${1:?give a folder for the results}")
shift
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONWARNINGS=ignore OMP_WAIT_POLICY=PASSIVE
exec "${PYTHON:-python3}" benchmarks/gpu_check.py "$output" "$@"
