#!/usr/bin/env bash
# From nothing to a trained speech and image model, with retrieval figures: about ten minutes on two CPU cores.
#
#   bash examples/vgs/quickstart.sh [OUTPUT]       (default: outputs/quickstart)
#   VGS_SEED=2 bash examples/vgs/quickstart.sh     another seed of training (outputs/quickstart_seed_2)
#
# Safe to run again: what is finished is kept, training goes on from its last checkpoint. Remove OUTPUT to start anew.
set -euo pipefail

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' -- "${BASH_SOURCE[0]}"; }
case "${1:-}" in
    -h | --help)
        usage
        exit 0
        ;;
    -*) # no folder has such a name by intention
        usage >&2
        exit 2
        ;;
esac

caller=$PWD
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
checkout=$PWD

seed=${VGS_SEED:-1}
output=$checkout/outputs/quickstart
[[ "$seed" == 1 ]] || output+="_seed_$seed"
if [[ $# -gt 0 ]]; then
    output=$(cd -- "$caller" && realpath -m -- "$1")
fi
scenes=$output/scenes run=$output/run results=$output/results

say() { printf '\n== %s\n' "$*" >&2; }

SECONDS=0
say "1/5 set-up (.venv)"
bash examples/vgs/setup_environment.sh
export PATH="$checkout/.venv/bin:$PATH"
mkdir -p -- "$output"

say "2/5 scenes: 2-4 embedded pictures each, described by their recorded Russian names"
if [[ -f "$scenes/summary.json" ]]; then
    echo "keeping $scenes" >&2
else
    fairseq-vgs prepare scenes "$scenes"
fi

say "3/5 training VGS+ from random weights on 1,500 scenes: two minutes with bf16 units, else about seven"
# Batches differ in length: without this the C library returns and requests hundreds of megabytes at every update, or
# keeps more and more of them.
export GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4294967296
# Threads that wait sleep: if they spin, other work on the machine makes training several times slower.
export OMP_WAIT_POLICY=PASSIVE
# The screen keeps the progress bar; fairseq's log goes to a file, and its warnings about newer libraries nowhere.
quoted() { printf "'%s'" "${1//\'/\\\'}"; } # for Hydra
train() {
    PYTHONWARNINGS=ignore fairseq-hydra-train --config-dir examples/vgs --config-name vgs_plus \
        run_config=quickstart "common.seed=$seed" \
        "task.data=$(quoted "$scenes")" "hydra.run.dir=$(quoted "$run")" >>"$output/training.log"
}
if [[ -f "$output/trained" ]]; then
    echo "keeping $run" >&2
else
    echo "log: $output/training.log" >&2
    if ! train; then
        tail -n 30 -- "$output/training.log" >&2
        echo "training failed; its log is $output/training.log" >&2
        exit 1
    fi
    touch -- "$output/trained"
fi

# Whether the run has learned enough is the last thing that the log says about it.
[[ ! -f "$output/training.log" ]] || sed -n 's/.*\[WARNING\] - \(R@10 of validation .*\)/warning: \1/p' "$output/training.log" | tail -n 1 >&2

say "4/5 retrieval among 200 unseen scenes"
fairseq-vgs evaluate retrieval "$run/checkpoints/checkpoint_last.pt" "$scenes" --output "$results" --force

say "5/5 plot and page"
fairseq-vgs plot training "$run/history.jsonl" "$results/training.png" --force
fairseq-vgs gallery "$results" "$scenes" "$output/gallery" --force

printf '\ndone in %d min %02d s\n' $((SECONDS / 60)) $((SECONDS % 60)) >&2
cat >&2 <<END
figures  $results/metrics.json
plot     $results/training.png
page     $output/gallery/index.html
END
