"""An invented study: its numbers follow from simple rules, its items from a seed."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np

from fairseq_vgs.configs.scenarios import BASES, SCENARIOS, phases_of
from fairseq_vgs.evaluation.results import Items, write_result
from fairseq_vgs.metrics.retrieval import DIRECTIONS, RECALL_CUTOFFS
from fairseq_vgs.report.run_logs import ProbeRecord
from fairseq_vgs.study.results import UNTRAINED, Point, StudyResults, Training
from fairseq_vgs.study.settings import StudySettings

N_IMAGES, N_CAPTIONS, N_PHONES = 50, 2, 9  # captions per image
PHONES = np.array(list(permutations(range(N_PHONES), 2)))  # of ordered pairs
LAYERS = ("layer_1", "layer_2", "layer_3", "layer_4")
HOSTILE = "<script>alert('&\"')</script>"

# 1 where a picture and its caption find each other first, by seed; the others have rank 3.
SIX_HITS = {
    "vgs_plus": {1: [1, 1, 1, 1, 1, 1], 2: [1, 1, 1, 1, 1, 1], 3: [1, 1, 1, 1, 1, 1]},
    "vgs": {1: [1, 1, 1, 0, 0, 0], 2: [0, 0, 0, 0, 1, 1], 3: [0, 1, 0, 1, 0, 1]},
    "w2v2": {1: [1, 0, 0, 0, 0, 0], 2: [0, 1, 0, 0, 0, 0], 3: [0, 0, 1, 0, 0, 0]},
}

# How far (0..1) a base gets in retrieval and in phone discrimination.
_SKILL = {"w2v2": (0.0, 0.55), "vgs": (0.8, 0.75), "vgs_plus": (0.7, 0.7)}


def settings(**changes) -> StudySettings:
    plain = {
        "data": "runs/study/data",
        "abx": "manifests/embedded/abx",
        "whole_updates": 280,
        "first_updates": 80,
        "second_updates": 200,
        "evaluate_every": 40,
        "config_dir": "examples/vgs",
        "overrides": [f"common.user_dir={HOSTILE}"],
    }
    return StudySettings(**{**plain, **changes})


def study_results(
    folder: Path, *, seeds=(1, 2, 3), scenarios=SCENARIOS, probes=True, **changes
) -> StudyResults:
    """Build a finished study; the points' items lie in ``folder``."""
    chosen = settings(seeds=list(seeds), scenarios=list(scenarios), **changes)
    points, training = [], {}
    for seed in seeds:
        for scenario in scenarios:
            points += _points(folder, chosen, scenario, seed)
            training[scenario, seed] = _training(chosen, scenario, seed, probes=probes)
    untrained = {seed: _point(folder, UNTRAINED, seed, UNTRAINED, 0, 0.0, 0.0) for seed in seeds}
    chance = {
        f"{way}_r{k}": 100.0 * k / N_IMAGES
        for way in ("speech_to_image", "image_to_speech")
        for k in (1, 5, 10)
    }
    chance |= {"speech_to_image_median_rank": 25.5, "image_to_speech_median_rank": 30.0}
    return StudyResults(
        settings=chosen,
        points=tuple(points),
        untrained=untrained,
        training=training,
        chance={**chance, "abx": 50.0},
        baselines={"mfcc": 7.2},
        missing=(),
        facts={
            "retrieval": {"images": N_IMAGES, "captions": N_IMAGES * N_CAPTIONS},
            "machine": {"cpu": HOSTILE},
        },
    )


def chance_of_pool(n_images: int) -> dict[str, float]:
    """Return the chance of all R@k in a pool of pictures with a caption each."""
    return {f"{way}_r{k}": 100.0 * min(1.0, k / n_images) for way in DIRECTIONS for k in RECALL_CUTOFFS}


def six_pictures(folder: Path) -> StudyResults:
    """Build three scenarios by three seeds on six pictures with a caption each, as ``SIX_HITS`` says."""
    pairs = [["vgs_plus", "vgs"], ["w2v2", "vgs_plus"]]
    chosen = settings(scenarios=list(SIX_HITS), seeds=[1, 2, 3], abx=None, contrasts=pairs)
    points = []
    for scenario, by_seed in SIX_HITS.items():
        for seed, hits in by_seed.items():
            ranks, groups = np.where(np.array(hits, dtype=bool), 1, 3), np.arange(6)
            path = write_items(
                folder / f"{scenario}-{seed}.npz",
                image_ranks=ranks,
                caption_ranks=ranks,
                image_groups=groups,
                speech_groups=groups,
            )
            points.append(Point(scenario, seed, "whole", chosen.whole_updates, items=path))
    return StudyResults(chosen, tuple(points), {}, {}, chance_of_pool(6), {}, (), {})


def with_across(results: StudyResults) -> StudyResults:
    """Add ABX across speakers, every pair of phones a fifth harder; new items beside the old ones."""

    def harder(point: Point) -> Point:
        arrays = dict(np.load(point.items))
        new = {f"abx_across_{name}": arrays[f"abx_{name}"] for name in ("layers", "phones", "phone_names")}
        new["abx_across_errors"] = 1.2 * arrays["abx_errors"]
        path = point.items.with_name(f"across-{point.items.name}")
        np.savez(path, **arrays, **new)
        return replace(point, items=path, abx_across={name: 1.2 * error for name, error in point.abx.items()})

    return replace(
        results,
        settings=replace(results.settings, abx_speakers=["within", "across"]),
        points=tuple(harder(point) for point in results.points),
        untrained={seed: harder(point) for seed, point in results.untrained.items()},
        chance={**results.chance, "abx_across": 50.0},
    )


def with_lexical(point: Point, folder: Path, recalls) -> Point:
    """Add a lexical test, layers x words in percent; the point's items move to ``folder``."""
    words = [f"word{number}" for number in range(len(recalls[0]))]
    values = {f"layer_{n}": np.array(row, dtype=np.float64) for n, row in enumerate(recalls, start=1)}
    items = Items({"word": words}, np.arange(len(words)), "words", values)
    content = {"kind": "lexical", "models": {"trained": {"title": "trained", "metrics": {}}}}
    content["provenance"] = {"manifest": {}}
    write_result(folder / "lexical", content, {"trained": {"words": items}})
    if point.items is not None:
        point.items.rename(folder.with_suffix(".npz"))
    means = {layer: float(row.mean()) for layer, row in values.items()}
    return replace(point, items=folder, lexical=means)


def without(results: StudyResults, scenario: str, seed: int, *, beyond: int = -1) -> StudyResults:
    """Take away a scenario's points of a seed beyond an update."""
    kept = tuple(
        point
        for point in results.points
        if (point.scenario, point.seed) != (scenario, seed) or point.update <= beyond
    )
    return replace(results, points=kept, missing=(*results.missing, f"{scenario}, seed {seed}: {HOSTILE}"))


def write_items(
    path: Path, *, image_ranks, caption_ranks, image_groups, speech_groups, abx_errors=None, phones=None
) -> Path:
    """Write a point's per-item arrays."""
    arrays = {
        "speech_to_image_ranks": np.asarray(caption_ranks, dtype=np.float64),
        "speech_groups": np.asarray(speech_groups, dtype=np.int64),
        "image_to_speech_ranks": np.asarray(image_ranks, dtype=np.float64),
        "image_groups": np.asarray(image_groups, dtype=np.int64),
    }
    if abx_errors is not None:
        arrays["abx_layers"] = np.array(LAYERS[: len(abx_errors)])
        arrays["abx_errors"] = np.asarray(abx_errors, dtype=np.float64)
        arrays["abx_phones"] = np.asarray(phones, dtype=np.int64)
        arrays["abx_phone_names"] = np.array([f"p{number}" for number in range(np.max(phones) + 1)])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def _points(folder: Path, chosen: StudySettings, scenario: str, seed: int) -> list[Point]:
    points = []
    for update in range(chosen.evaluate_every, chosen.updates_of(scenario) + 1, chosen.evaluate_every):
        phase = "whole" if scenario in BASES else "first" if update <= chosen.first_updates else "second"
        retrieval, phones = _skills(chosen, scenario, update)
        points.append(_point(folder, scenario, seed, phase, update, retrieval, phones))
    return points


def _skills(chosen: StudySettings, scenario: str, update: int) -> tuple[float, float]:
    """Retrieval and phone skill in 0..1: grows in a phase that trains it, fades in one that does not."""
    if scenario in BASES:
        grown = 1 - 0.5 ** (update / 60)
        return _SKILL[scenario][0] * grown, _SKILL[scenario][1] * grown
    first, second = phases_of(scenario)
    if update <= chosen.first_updates:
        return _skills(chosen, first, update)
    start, target = _skills(chosen, first, chosen.first_updates), _SKILL[second]
    moved = 1 - 0.5 ** ((update - chosen.first_updates) / 40)
    keeps = 0.3 if (first, second) == ("vgs_plus", "w2v2") else 0.0
    bonus = 0.15 if (first, second[:3]) == ("w2v2", "vgs") else 0.0
    retrieval = start[0] + (max(target[0] + bonus, keeps) - start[0]) * moved
    return retrieval, start[1] + (target[1] - start[1]) * moved


def _point(
    folder: Path, scenario: str, seed: int, phase: str, update: int, retrieval: float, phones: float
) -> Point:
    noise = np.random.default_rng([seed, update, sum(scenario.encode())])
    hard = np.random.default_rng(99).random(N_IMAGES * (N_CAPTIONS + 1))  # the same items are hard for all
    groups = np.arange(N_IMAGES)
    found = hard + 0.05 * noise.standard_normal(len(hard)) < retrieval
    ranks = np.where(found, noise.integers(1, 4, len(hard)), noise.integers(1, N_IMAGES + 1, len(hard)))
    images, captions = ranks[:N_IMAGES], ranks[N_IMAGES:]
    depth = np.array([0.7, 1.0, 0.8, 0.5])
    errors = (
        0.42 - 0.4 * phones * depth[:, None] + 0.05 * np.random.default_rng(7).standard_normal(len(PHONES))
    )
    errors = np.clip(errors + 0.01 * noise.standard_normal(errors.shape), 0, 1)
    path = write_items(
        folder / f"{scenario}-{seed}-{update}.npz",
        image_ranks=images,
        caption_ranks=captions,
        image_groups=groups,
        speech_groups=np.repeat(groups, N_CAPTIONS),
        abx_errors=errors,
        phones=PHONES,
    )
    measured = {}
    for way, found_ranks in (("speech_to_image", captions), ("image_to_speech", images)):
        measured.update({f"{way}_r{k}": 100.0 * float(np.mean(found_ranks <= k)) for k in (1, 5, 10)})
        measured[f"{way}_mrr"] = float(np.mean(1.0 / found_ranks))
        measured[f"{way}_median_rank"] = float(np.median(found_ranks))
    return Point(
        scenario=scenario,
        seed=seed,
        phase=phase,
        update=update,
        losses={"vgs_loss": 9.0 - 7.0 * retrieval, "ssl_loss": 4.0 - 2.0 * phones},
        retrieval=measured,
        abx={layer: 100.0 * float(error.mean()) for layer, error in zip(LAYERS, errors, strict=True)},
        items=path,
    )


def _training(chosen: StudySettings, scenario: str, seed: int, *, probes: bool) -> Training:
    noise = np.random.default_rng([seed, sum(scenario.encode()), 5])
    updates = np.arange(1, chosen.updates_of(scenario) + 1)
    skills = np.array([_skills(chosen, scenario, int(update)) for update in updates])
    trained = {"w2v2": "ssl_loss", "vgs": "vgs_loss"}
    losses = {}
    for column, (name, start, slope) in enumerate((("vgs_loss", 9.0, 7.0), ("ssl_loss", 4.0, 2.0))):
        if trained.get(scenario, name) == name:
            values = start - slope * skills[:, column] + 0.3 * noise.standard_normal(len(updates))
            losses[name] = (updates.astype(np.int64), values)
    start = 0 if scenario in BASES else chosen.first_updates
    spans = (
        [(0, start), (start, chosen.updates_of(scenario))] if start else [(0, chosen.updates_of(scenario))]
    )
    records = [_probe(update, update - begin) for begin, end in spans for update in range(begin, end + 1, 40)]
    return Training(losses, tuple(records) if probes and "vgs_plus" in scenario else ())


def _probe(update: int, since_start: int) -> ProbeRecord:
    groups = ("extractor", "layer_1", "layer_2", "shared")
    cosines = {name: 0.3 - 0.001 * update + 0.05 * place for place, name in enumerate(groups)}
    drift = {
        name: float(np.exp(-since_start / (100.0 * (place + 1))))
        for place, name in enumerate(("extractor", *LAYERS))
    }
    return ProbeRecord(update, cosines, {}, {}, drift)
