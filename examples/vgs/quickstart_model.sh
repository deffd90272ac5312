#!/usr/bin/env bash
# Make the model that comes with the package, vgs.load("quickstart"), again:
#
#   bash examples/vgs/quickstart.sh [OUTPUT] && bash examples/vgs/quickstart_model.sh [OUTPUT]
#
# OUTPUT is that of the quickstart (default: outputs/quickstart). The model is exported twice, because the card
# shows the values of the weights as they are stored, in half precision.
set -euo pipefail

caller=$PWD
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"
output=$PWD/outputs/quickstart
if [[ $# -gt 0 ]]; then
    output=$(cd -- "$caller" && realpath -m -- "$1")
fi
shipped=fairseq_vgs/checkpoints/shipped

export_model() {
    fairseq-vgs export "$output/run/checkpoints/checkpoint_last.pt" "$shipped/quickstart" \
        --half --bare --card "$shipped/quickstart.yaml" --force "$@"
}
export_model
fairseq-vgs evaluate retrieval "$shipped/quickstart" "$output/scenes" --output "$output/results_shipped" --force
export_model --results "$output/results_shipped"
