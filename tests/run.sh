#!/usr/bin/env bash
# Sets up .venv, then checks style, types, documentation and behaviour. Arguments go to pytest: bash tests/run.sh -k manifest -x
#
#   VGS_FRESH_ENVIRONMENT=1      also set up a new environment from nothing (downloads; takes minutes)
#   VGS_COVERAGE=1               measure which lines run (at least 85 %); takes a quarter longer
#   VGS_TEST_PROCESSES=4         tests that run at a time (default: one per core, 8 at most; 0: in this process)
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

bash examples/vgs/setup_environment.sh --dev
bin=$PWD/.venv/bin
export PATH="$bin:$PATH"

# The tests are small: threads cost more than they bring, more so when several processes train at once.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# no desktop, no files of the user's
export MPLBACKEND=Agg
unset PYTHONPATH
# or every process that the tests start would compile the package
unset PYTHONDONTWRITEBYTECODE

say() { printf '\n== %s\n' "$*"; }

say "ruff"
"$bin/python" -m ruff check .
"$bin/python" -m ruff format --check --quiet . || {
    echo "ruff format: some files are not formatted; run: .venv/bin/ruff format ." >&2
    exit 1
}

say "mypy and documentation"
site=$(mktemp -d)
trap 'rm -rf -- "$site"' EXIT
# each keeps one core busy
NO_MKDOCS_2_WARNING=1 "$bin/python" -m mkdocs build --strict --site-dir "$site/pages" >"$site/log" 2>&1 &
documentation=$!
"$bin/python" -m mypy
wait "$documentation" || {
    cat -- "$site/log" >&2
    exit 1
}

say "pytest"
# nproc would heed OMP_NUM_THREADS
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
processes=${VGS_TEST_PROCESSES:-$((cores < 8 ? cores : 8))}
coverage=()
if [[ "${VGS_COVERAGE:-}" == 1 ]]; then
    coverage=(--cov --cov-report=term-missing:skip-covered)
    rm -f .coverage .coverage.*
fi
"$bin/python" -m pytest -n "$processes" --dist worksteal --durations=10 ${coverage[@]+"${coverage[@]}"} "$@"
