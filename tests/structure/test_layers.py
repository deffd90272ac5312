"""Data flows one way: which package may import which."""

import sys

import pytest
from support.source_files import MODULES, imported_modules, module_name

FAIRSEQ = {"fairseq", "fairseq_cli"}
ALL = {"manifest", "prepare", "data", "modules", "losses", "models", "tasks", "criterions", "evaluation"}
ALL |= {"interop", "study", "cli"}


def ours(*names: str) -> set[str]:
    return {f"fairseq_vgs.{name}" for name in names}


FORBIDDEN = {
    "manifest": {"torch", *FAIRSEQ, *ours(*ALL - {"manifest"})},
    "prepare": {"torch", *FAIRSEQ, *ours(*ALL - {"manifest", "prepare"})},
    "data": ours(
        "prepare", "modules", "losses", "models", "tasks", "criterions", "evaluation", "interop", "cli"
    ),
    "modules": {*FAIRSEQ, *ours(*ALL - {"modules"})},
    "losses": {*FAIRSEQ, *ours(*ALL - {"losses"})},
    "models": ours("prepare", "data", "tasks", "criterions", "evaluation", "interop", "cli"),
    "tasks": ours("prepare", "models", "criterions", "interop", "cli"),
    "criterions": ours(*ALL - {"losses", "criterions"}),
    "evaluation": ours("prepare", "tasks", "criterions", "interop", "study", "cli"),
    # of evaluation: the strict loading of checkpoints, which what interop writes must pass
    "interop": ours("prepare", "data", "tasks", "criterions", "cli")
    | {
        module_name(path)
        for path in MODULES
        if module_name(path).startswith("fairseq_vgs.evaluation.")
        and module_name(path) != "fairseq_vgs.evaluation.checkpoints"
    },
    "study": {*FAIRSEQ, *ours(*ALL - {"manifest", "evaluation", "study"})},
    # stricter rules for single modules
    "evaluation.retrieval": {*FAIRSEQ, *ours("models", "data", "cli")},
    "evaluation.abx": {*FAIRSEQ, *ours("models", "data", "cli")},
    "evaluation.lexical": {*FAIRSEQ, *ours("models", "data", "cli")},
    "evaluation.results": {*FAIRSEQ, *ours("models", "data", "cli")},
    "evaluation.plots": {*FAIRSEQ, *ours("models", "data", "cli")},
    "evaluation.probe_log": {"torch", *FAIRSEQ, *ours("models", "data", "cli")},
    "evaluation.probe_plot": {*FAIRSEQ, *ours("models", "data", "cli")},
    "constants": {"torch", *FAIRSEQ, *ours(*ALL)},
    "conv_spec": {"torch", *FAIRSEQ, *ours(*ALL)},
    "fairseq_check": {"torch", *ours(*ALL)},
    "fairseq_fixes": ours(*ALL),
}


def within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_imports(name):
    home = f"fairseq_vgs.{name}"
    files = [path for path in MODULES if within(module_name(path), {home})]
    wrong = [
        f"{path.name}:{line}: {home} must not import {module}"
        for path in files
        for module, line in imported_modules(path)
        if within(module, FORBIDDEN[name])
    ]
    assert not wrong, "\n".join(wrong)


def test_every_package_has_a_rule():
    packages = {module_name(path).split(".")[1] for path in MODULES if "." in module_name(path)}
    assert packages - {"cli"} <= set(FORBIDDEN)


def test_compat_module_imports_the_standard_library_only():
    path = next(path for path in MODULES if path.name == "fairseq_vgs_compat.py")
    roots = {module.partition(".")[0] for module, _ in imported_modules(path)}
    assert roots <= set(sys.stdlib_module_names)
