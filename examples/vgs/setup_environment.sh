#!/usr/bin/env bash
# Creates or reuses .venv in the checkout and installs everything that training and the tests need.
#
#   bash examples/vgs/setup_environment.sh          what training and evaluation need
#   bash examples/vgs/setup_environment.sh --dev    the tools of tests/run.sh as well
#
# A run that finds everything in place takes well under a second; one that was interrupted at any moment is
# continued by the next. Nothing outside the checkout is installed or changed. Settings, all optional:
#
#   VGS_PYTHON=python3.12        the Python to create .venv with (default: the first 3.11 or later found)
#   VGS_USE_UV=1                 install with uv instead of pip
#   VGS_CONSTRAINTS=FILE         other versions than constraints.txt, say, to keep a torch built for your GPU
set -euo pipefail

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' -- "$script"; }

caller_folder=$PWD
script=$(realpath -- "${BASH_SOURCE[0]}")
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

# Relative paths from here on: pip splits the paths in its environment variables at spaces, which a checkout
# may contain.
readonly python=.venv/bin/python
readonly stamp=.venv/fairseq_vgs_installed
readonly unfinished=.venv/fairseq_vgs_unfinished

say() { printf 'set-up: %s\n' "$*" >&2; }
die() {
    printf 'set-up: %s\n' "$@" >&2
    exit 1
}

extras=regions
case "${1:-}" in
    "") ;;
    --dev) extras=regions,dev,docs ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        say "expected no argument or --dev, got '$1'"
        usage >&2
        exit 2
        ;;
esac

constraints=constraints.txt
if [[ -n "${VGS_CONSTRAINTS:-}" ]]; then
    constraints=$(cd -- "$caller_folder" && realpath -- "$VGS_CONSTRAINTS")
    [[ -f "$constraints" ]] || die "VGS_CONSTRAINTS: expected a file of pip constraints, got '$VGS_CONSTRAINTS'"
fi

# What the installation depends on; equal fingerprints mean there is nothing to do.
fingerprint() {
    cat -- setup.py fairseq_vgs_hook.py pyproject.toml "$constraints" constraints-build.txt requirements-fairseq.txt \
        examples/vgs/setup_environment.sh .venv/pyvenv.cfg | cksum
    printf '%s\n%s\n' "$PWD" "$1" # scripts in .venv/bin hold the folder's name
}

is_installed() {
    [[ -f "$stamp" && -x "$python" && ! -e "$unfinished" ]] || return 1
    local installed
    installed=$(<"$stamp")
    # the tools for the tests come on top, so an environment that has them serves both
    [[ "$installed" == "$(fingerprint "$extras")" || "$installed" == "$(fingerprint regions,dev,docs)" ]] \
        && "$python" -c '' 2>/dev/null
}

is_recent_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [[ -n "${VGS_PYTHON:-}" ]]; then
        is_recent_python "$VGS_PYTHON" || die "VGS_PYTHON: expected Python 3.11 or later, got '$VGS_PYTHON'"
        printf '%s' "$VGS_PYTHON"
        return
    fi
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if is_recent_python "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    die "expected Python 3.11 or later, found $(python3 --version 2>/dev/null || echo none)" \
        "install one (Debian, Ubuntu: apt-get install python3 python3-venv python3-dev) or name it in VGS_PYTHON"
}

# A .venv whose creation was interrupted has no working Python or no pip, and is made anew.
is_usable_environment() {
    "$python" -c '' 2>/dev/null || return 1
    [[ "${VGS_USE_UV:-}" == 1 ]] || "$python" -c 'import pip' 2>/dev/null || "$python" -m ensurepip >/dev/null 2>&1
}

was_moved() { [[ -f "$stamp" && "$(sed -n 2p "$stamp")" != "$PWD" ]]; }

create_environment() {
    if was_moved; then
        [[ ! -L .venv ]] || die "expected .venv to be a folder of this checkout, got a link to $(realpath -- .venv)" \
            "remove the link and run this again; the environment it leads to is left alone"
        say "the checkout was moved; .venv is made anew"
    elif is_usable_environment; then
        is_recent_python "$python" \
            || die "expected .venv to hold Python 3.11 or later, got $("$python" --version)" "remove .venv and run this again"
        say "reusing .venv ($("$python" --version))"
        return
    fi
    local base
    base=$(find_python)
    say "creating .venv with $base ($("$base" --version))"
    if [[ "${VGS_USE_UV:-}" == 1 ]]; then
        uv venv --quiet --clear --python "$(command -v "$base")" .venv
    else
        "$base" -m venv --clear .venv \
            || die "'$base -m venv' failed; install its venv module (Debian, Ubuntu: apt-get install python3-venv) and rerun"
    fi
}

# pip writes the file INSTALLER once all others of a distribution are there: one without it was being
# installed when a run was interrupted, and would pass for installed. (uv installs everything again instead.)
remove_half_installed() {
    say "an earlier run was interrupted; continuing it"
    "$python" - <<'PYTHON'
import pathlib, shutil, sysconfig
for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
    for info in pathlib.Path(folder).glob("*.dist-info"):
        if not (info / "INSTALLER").is_file():
            shutil.rmtree(info)
PYTHON
}

# On a terminal the installer shows its own progress; in a log, pip's large downloads have a line each.
install() {
    if [[ "${VGS_USE_UV:-}" == 1 ]]; then
        local quiet=()
        [[ -t 2 ]] || quiet=(--quiet)
        uv pip install ${quiet[@]+"${quiet[@]}"} --python "$python" --build-constraints constraints-build.txt "$@"
    elif [[ -t 2 ]]; then
        run_pip "$@" >&2
    else
        run_pip "$@" 2> >(sed -u '/^WARNING: /d' >&2) | sed -un 's/^ *\(Downloading .* ([0-9.]* [MG]B)\)$/set-up: \1/p; s/^Installing collected .*/set-up: unpacking/p' >&2
    fi
}

run_pip() {
    # pip before 25.3 reads PIP_CONSTRAINT in its isolated build environments, later ones
    # PIP_BUILD_CONSTRAINT
    PIP_CONSTRAINT=constraints-build.txt PIP_BUILD_CONSTRAINT=constraints-build.txt \
        "$python" -m pip install --no-compile --disable-pip-version-check "$@"
}

# pip would use one core. Uncompiled modules are compiled in every process where PYTHONDONTWRITEBYTECODE is set.
compile_modules() {
    local site
    site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    # Some packages hold templates that are no Python.
    "$python" -m compileall -q -j 0 "$site" >/dev/null 2>&1 || true
}

check_compiler() {
    local remedy="install a C++ compiler and Python's headers (Debian, Ubuntu: apt-get install build-essential python3-dev) and rerun"
    command -v "${CC:-gcc}" >/dev/null && command -v "${CXX:-g++}" >/dev/null \
        || die "fairseq must be compiled: expected ${CC:-gcc} and ${CXX:-g++}, found none" "$remedy"
    local header
    header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")')
    [[ -f "$header" ]] || die "fairseq must be compiled: expected $header, found none" "$remedy"
}

# Official fairseq is compiled from its source distribution, unless it, or a fork of it, is there already.
install_fairseq() {
    local found
    found=$("$python" - <<'PYTHON'
import importlib.metadata, importlib.util
try:
    print(importlib.metadata.version("fairseq"))
except importlib.metadata.PackageNotFoundError:
    spec = importlib.util.find_spec("fairseq")
    print("fork" if spec is not None and spec.origin else "")
PYTHON
    )
    case "$found" in
        0.12.2) say "fairseq 0.12.2 is installed" ;;
        fork) say "using the fork of fairseq found in .venv" ;;
        *)
            check_compiler
            say "compiling fairseq 0.12.2 (about half a minute)"
            install --no-deps --no-binary fairseq --require-hashes -r requirements-fairseq.txt
            ;;
    esac
}

main() {
    if is_installed; then
        return
    fi
    if [[ "${VGS_USE_UV:-}" == 1 ]] && ! command -v uv >/dev/null; then
        die "VGS_USE_UV=1: expected uv on the PATH, found none; install it or leave VGS_USE_UV out"
    fi
    if [[ -e "$unfinished" ]]; then
        local interrupted=1
    fi
    create_environment
    touch "$unfinished"
    local again=()
    if [[ -n "${interrupted:-}" ]]; then
        remove_half_installed
        [[ "${VGS_USE_UV:-}" != 1 ]] || again=(--reinstall)
    fi
    say "installing torch and the other packages into $PWD/.venv (gigabytes; a few minutes the first time)"
    install ${again[@]+"${again[@]}"} --constraint "$constraints" --editable ".[$extras]"
    install_fairseq
    say "compiling Python modules"
    compile_modules
    local answer
    answer=$("$python" -c 'from fairseq_vgs.compat.availability import require_fairseq; require_fairseq()' 2>&1) \
        || die "${answer##*$'\n'}"
    fingerprint "$extras" >"$stamp.new"
    mv -- "$stamp.new" "$stamp"
    rm -- "$unfinished"
    say "done"
}

# Two runs at once (say, the tests and the quickstart) must not install over each other.
if command -v flock >/dev/null; then
    exec 9>.venv.lock
    flock 9
fi
main
