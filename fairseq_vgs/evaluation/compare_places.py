"""Where the results lie that are to be compared, and short names for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile
from pathlib import Path

from fairseq_vgs.evaluation.results import METRICS_NAME, ResultsError
from fairseq_vgs.evaluation.run_figures import checkpoints_in

EVALUATION_FOLDER = "evaluation"
"""Where ``fairseq-vgs evaluate run RUN`` writes by default, within RUN."""


def find_results(places: Sequence[Path], *, updates: Collection[int] | None = None) -> list[Path]:
    """Find the results that were given: folders with metrics.json, and checkpoints' files.

    A place is such a folder or file, a folder with several such folders in it, or a folder of
    ``evaluate run`` (or the run folder around it). Of the latter come the checkpoints after ``updates``;
    else, if it is the only place, all but the untrained one; else the last that all of them have.

    Args:
        places: as given, in their order.
        updates: of the checkpoints of ``evaluate run``.

    Raises:
        ResultsError: a place without results, or runs without such checkpoints.
    """
    found: list[list[Path] | dict[int, Path]] = [_results_in(place) for place in places]
    runs = {place: part for place, part in zip(places, found, strict=True) if isinstance(part, dict)}
    if updates is not None and not runs:
        raise ResultsError(
            f"--updates: must be given with folders of fairseq-vgs evaluate run, got "
            f"{', '.join(str(place) for place in places)}; leave it out"
        )
    chosen = _chosen_updates(runs, alone=len(places) == 1) if updates is None else sorted(set(updates))
    for place, part in runs.items():
        missing = [number for number in chosen if number not in part]
        if missing:
            raise ResultsError(
                f"{place}: must hold a checkpoint after {missing[0]} updates, got {_numbers(part)}; choose "
                "others with --updates, or evaluate it"
            )
    return [
        path
        for part in found
        for path in ([part[number] for number in chosen] if isinstance(part, dict) else part)
    ]


def short_titles(paths: Sequence[Path]) -> list[str]:
    """Name results by the part of their paths in which they differ; checkpoints by their updates as well.

    Different paths have different titles.
    """
    folders = [path.parent if path.suffix == ".json" else path for path in paths]
    distinct = list(dict.fromkeys(folders))
    parts = [folder.parts or (str(folder),) for folder in distinct]
    shortest = min(len(part) for part in parts)
    start = min(_n_shared(parts), shortest - 1)
    end = min(_n_shared([part[::-1] for part in parts]), shortest - start - 1)
    names = {
        folder: str(Path(*part[start : len(part) - end]))
        for folder, part in zip(distinct, parts, strict=True)
    }
    titles = []
    for path, folder in zip(paths, folders, strict=True):
        update = f"update {path.stem}" if path.suffix == ".json" else ""
        name = names[folder] if len(distinct) > 1 or not update else ""
        titles.append(", ".join(part for part in (name, update) if part))
    return titles


def _n_shared(parts: Sequence[Sequence[str]]) -> int:
    return sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False)))


def _results_in(place: Path) -> list[Path] | dict[int, Path]:
    """Return results, or of a folder of ``evaluate run`` its checkpoints by updates."""
    if place.is_file() and place.suffix == ".json":
        if place.stem.isdecimal():
            return [place]
        if place.name == METRICS_NAME:
            return [place.parent]
    if (place / METRICS_NAME).is_file():
        return [place]
    checkpoints = checkpoints_in(place) or checkpoints_in(place / EVALUATION_FOLDER)
    if checkpoints:
        return checkpoints
    within = sorted(path.parent for path in place.glob(f"*/{METRICS_NAME}"))
    if not within:
        state = "got nothing of these" if place.exists() else "got no such file or folder"
        raise ResultsError(
            f"{place}: must be results: a folder with {METRICS_NAME}, or with such folders in it, or the run "
            f"folder or {EVALUATION_FOLDER} folder of fairseq-vgs evaluate run, {state}; run fairseq-vgs "
            "evaluate first"
        )
    return within


def _chosen_updates(runs: dict[Path, dict[int, Path]], *, alone: bool) -> list[int]:
    if not runs:
        return []
    if alone:
        (only,) = runs.values()
        return [number for number in only if number] or list(only)
    common = set.intersection(*(set(part) for part in runs.values()))
    # Models before training differ in nothing but chance, and every run has one.
    if not common or (common == {0} and any(max(part) for part in runs.values())):
        having = "; ".join(f"{place}: {_numbers(part)}" for place, part in runs.items())
        files = " ".join(str(part[max(part)]) for part in runs.values())
        raise ResultsError(
            "fairseq-vgs compare: runs must have a checkpoint after the same number of updates, got "
            f"{having}; evaluate others, or compare the last of each: fairseq-vgs compare {files}"
        )
    return [max(common)]


def _numbers(checkpoints: dict[int, Path]) -> str:
    return ", ".join(str(number) for number in checkpoints)
