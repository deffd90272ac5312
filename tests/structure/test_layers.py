"""Data flows one way: which room may import which."""

import sys

import pytest
from support.source_files import MODULES, imported_modules, module_name

FAIRSEQ = {"fairseq", "fairseq_cli"}
TORCH = {"torch"}
# Room -> the rooms it may import besides itself and EVERYBODY.
ALLOWED = {
    "compat": {"modules"},
    "files": set(),
    "media": {"files"},
    "manifest": {"files", "media"},
    "configs": {"files"},
    "losses": set(),
    "modules": set(),
    "models": {"modules", "losses"},
    "criterions": {"losses"},
    "data": {"files", "media", "manifest", "modules"},
    "tasks": {"files", "media", "manifest", "modules", "losses", "data", "evaluation.metrics"},
    "prepare": {"files", "media", "manifest"},
    "checkpoints": {"files", "media", "compat", "modules", "models"},
    "features": {"files", "media", "manifest", "modules", "data", "checkpoints", "evaluation.metrics"},
    "evaluation": {"files", "media", "manifest", "data", "checkpoints", "features", "losses"},
    "report": {"files", "media", "manifest", "checkpoints", "features", "evaluation"},
    "study": {"files", "media", "manifest", "checkpoints", "features", "evaluation", "report"},
}
# Stricter or wider for parts of a room; the longest name that fits decides.
PARTS = {
    "evaluation.metrics": {"files"},
    "prepare.regions.backbone": {"files", "media", "manifest", "data", "modules"},
}
NO_FAIRSEQ = {
    "files",
    "media",
    "manifest",
    "losses",
    "modules",
    "prepare",
    "evaluation.metrics",
    "report",
    "study",
}
NO_TORCH = {"files", "media", "manifest", "configs", "prepare"} - {"prepare.regions.backbone"}
TORCH_ALLOWED = {"prepare.regions.backbone", "prepare.regions.efficientnet"}
EVERYBODY = {"arrays", "device", "files.faults", "options", "registry", "settings"}


def within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def rule(room: str) -> set[str]:
    """Return what a module (without the package's name) may import, its own room included."""
    part = max((name for name in PARTS if within(room, {name})), key=len, default=None)
    if part is not None:
        return (
            PARTS[part] | {part, ".".join(part.split(".")[:-1])}
            if part.count(".") > 1
            else PARTS[part] | {part}
        )
    own = room.split(".")[0]
    return ALLOWED[own] | {own}


ROOMS = sorted(
    {module_name(path).split(".")[1] for path in MODULES if module_name(path).count(".") > 0} - {"cli"}
)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_down_the_table(room):
    wrong = []
    for path in MODULES:
        name = module_name(path).removeprefix("fairseq_vgs.")
        if not within(name, {room}) or name in EVERYBODY:
            continue
        for module, line in imported_modules(path):
            if not module.startswith("fairseq_vgs."):
                continue
            target = module.removeprefix("fairseq_vgs.")
            if not within(target, rule(name) | EVERYBODY):
                wrong.append(f"{path.name}:{line}: {name} must not import {target}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", sorted(NO_FAIRSEQ | NO_TORCH))
def test_rooms_without_heavy_imports(room):
    forbidden = (FAIRSEQ if room in NO_FAIRSEQ else set()) | (TORCH if room in NO_TORCH else set())
    wrong = [
        f"{path.name}:{line}: {room} must not import {module}"
        for path in MODULES
        if within(module_name(path), {f"fairseq_vgs.{room}"})
        and not within(module_name(path).removeprefix("fairseq_vgs."), TORCH_ALLOWED)
        for module, line in imported_modules(path)
        if within(module, forbidden)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_room_has_a_rule():
    assert set(ROOMS) - EVERYBODY <= set(ALLOWED)


def test_no_circles():
    """Not between modules, in whatever room."""
    known = {module_name(path): path for path in MODULES}
    graph = {
        name: {module for module, _ in imported_modules(path) if module in known and module != name}
        for name, path in known.items()
    }
    graph["fairseq_vgs"] = set()  # the face imports everything else at its first use alone
    # an import of a package's own submodules by its __init__ is how a package gathers its face
    for name in graph:
        graph[name] = {module for module in graph[name] if not name.startswith(f"{module}.")}
    while leaves := {name for name in graph if not graph[name] & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    assert not graph, sorted(graph)


def test_compat_module_imports_the_standard_library_only():
    path = next(path for path in MODULES if path.name == "fairseq_vgs_compat.py")
    roots = {module.partition(".")[0] for module, _ in imported_modules(path)}
    assert roots <= set(sys.stdlib_module_names)
