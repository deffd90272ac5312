"""Data flows one way: which room may import which."""

import ast
import sys

import pytest
from support.source_files import CHECKOUT, MODULES, imported_modules, module_name, parse

FAIRSEQ = {"fairseq", "fairseq_cli"}
TORCH = {"torch"}
# Room -> the rooms it may import besides itself and EVERYBODY. compat also loads models, criterions and tasks
# by name, when fairseq asks for the plugin (compat.registration); no module waits for that import, so it
# closes no circle.
ALLOWED = {
    "compat": {"files", "modules"},
    "files": set(),
    "media": {"files"},
    "manifest": {"files", "media"},
    "configs": {"files"},
    "losses": set(),
    "modules": set(),
    "models": {"modules", "losses"},
    "criterions": {"losses"},
    "data": {"files", "media", "manifest", "modules"},
    "tasks": {"files", "media", "manifest", "modules", "losses", "data", "metrics"},
    "alignments": {"files"},
    "regions": {"files", "media", "manifest"},
    "prepare": {"files", "media", "manifest", "configs", "alignments", "regions"},
    "checkpoints": {"files", "media", "compat", "configs", "modules", "models", "regions", "losses"},
    "features": {"files", "media", "manifest", "modules", "data", "checkpoints", "metrics"},
    "metrics": {"files"},
    "evaluation": {
        "alignments",
        "files",
        "media",
        "manifest",
        "data",
        "checkpoints",
        "features",
        "losses",
        "metrics",
    },
    "report": {"files", "media", "manifest", "checkpoints", "features", "evaluation", "metrics"},
    "api": {
        "files",
        "media",
        "modules",
        "losses",
        "data",
        "checkpoints",
        "features",
        "metrics",
        "regions",
        "report",
    },
    "demo": {"configs", "files", "media", "manifest", "checkpoints", "features", "metrics", "report"},
    "launch": {"configs", "files", "manifest"},
    "study": {
        "compat",
        "configs",
        "files",
        "media",
        "manifest",
        "checkpoints",
        "features",
        "evaluation",
        "metrics",
        "report",
        "launch",
    },
}
# Parts with a rule of their own, which of their room may import their package alone.
PARTS = {"regions.backbone": {"files", "media", "manifest", "data", "modules"}}
NO_FAIRSEQ = {
    "alignments",
    "regions",
    "files",
    "media",
    "manifest",
    "losses",
    "modules",
    "prepare",
    "metrics",
    "report",
    "launch",
    "study",
}
NO_TORCH = {"files", "media", "manifest", "configs", "alignments", "regions", "prepare"}
TORCH_ALLOWED = {"regions.backbone", "regions.efficientnet"}
# Third-party packages of the rooms that only compute; LAZY ones only inside a function of that file.
COMPUTING = {"losses", "modules", "metrics"}
THIRD_PARTIES = {"torch", "numpy"}
LAZY = {"modules.hugging_face": {"transformers"}, "metrics.abx.dtw_numba": {"numba"}}
EVERYBODY = {
    "arrays",
    "device",
    "files.faults",
    "files.packages",
    "files.texts",
    "options",
    "registry",
    "settings",
}


def within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def room_of(module: str) -> str:
    """Return the room of a module (without the package's name)."""
    return max(
        (room for room in ALLOWED if within(module, {room})), key=len, default=module.partition(".")[0]
    )


def may_import(module: str, target: str) -> bool:
    """Return whether the table lets one module import another (both without the package's name)."""
    if within(target, EVERYBODY):
        return True
    for part, rooms in PARTS.items():
        if within(module, {part}):
            return within(target, {part.rpartition(".")[0]}) or room_of(target) in rooms
    return room_of(target) in ALLOWED[room_of(module)] | {room_of(module)}


ROOMS = sorted(
    {
        room_of(module_name(path).removeprefix("fairseq_vgs."))
        for path in MODULES
        if module_name(path).count(".") > 0
    }
    - {"cli"}
)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_down_the_table(room):
    wrong = []
    for path in MODULES:
        name = module_name(path).removeprefix("fairseq_vgs.")
        if name in EVERYBODY or room_of(name) != room:
            continue
        for module, line in imported_modules(path):
            if not module.startswith("fairseq_vgs."):
                continue
            target = module.removeprefix("fairseq_vgs.")
            if not may_import(name, target):
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


def test_no_circles_between_rooms():
    graph = {room: set(targets) for room, targets in ALLOWED.items()}
    for part, targets in PARTS.items():
        graph[room_of(part)] |= targets
    while leaves := {room for room in graph if not graph[room] & graph.keys()}:
        graph = {room: targets for room, targets in graph.items() if room not in leaves}
    assert not graph, sorted(graph)


def test_rooms_that_only_compute_need_torch_and_numpy_alone():
    wrong = []
    for path in MODULES:
        name = module_name(path).removeprefix("fairseq_vgs.")
        if not within(name, COMPUTING):
            continue
        tree = parse(path)
        lazy = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                roots = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots = {str(node.module).partition(".")[0]}
            else:
                continue
            allowed = THIRD_PARTIES | (LAZY.get(name, set()) if node in lazy else set())
            unknown = roots - allowed - set(sys.stdlib_module_names) - {"fairseq_vgs"}
            wrong += [f"{path.name}:{node.lineno}: {name} must not import {root}" for root in unknown]
    assert not wrong, "\n".join(wrong)


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


def test_what_runs_before_fairseq_imports_the_standard_library_only():
    """The hook, in every Python of the environment; inside of functions, what fairseq imports anyway."""
    found = {}
    for path in (CHECKOUT / "fairseq_vgs_compat.py", CHECKOUT / "fairseq_vgs_hook.py"):
        found[path.stem] = {module.partition(".")[0] for module, _ in imported_modules(path)}
    assert found["fairseq_vgs_hook"] == {"sys", "fairseq_vgs_compat"}
    assert found["fairseq_vgs_compat"] <= {*sys.stdlib_module_names, "omegaconf"}
