"""Read results of ``fairseq-vgs evaluate run`` in an earlier form as today's results.

There was one pair of files per checkpoint, ``UPDATES.json`` with numbers and ``UPDATES.npz`` with the ranks
of queries and the errors of ordered phone pairs.

Shapes: ``C`` captions, ``I`` images, ``L`` layers, ``O`` ordered phone pairs, ``P`` phones.

```
speech_to_image_ranks  f64[C]     speech_groups    i64[C]
image_to_speech_ranks  f64[I]     image_groups     i64[I]
abx_layers             str[L]     abx_errors       f64[L, O] 0..1
abx_phones             i64[O, 2]  abx_phone_names  str[P]
```

With ABX across speakers there are ``abx_across_layers`` and so on, too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from fairseq_vgs.arrays import np
from fairseq_vgs.evaluation.evaluator import MFCC, TRAINED, UNTRAINED
from fairseq_vgs.evaluation.evaluators import abx, retrieval
from fairseq_vgs.evaluation.evaluators.abx import ABX_KEYS
from fairseq_vgs.evaluation.results import (
    Items,
    Metric,
    Reported,
    Result,
    ResultsError,
    Scores,
    load_arrays,
    metrics_json,
    read_json,
    written_by,
)
from fairseq_vgs.files.atomic import write_text
from fairseq_vgs.files.texts import read_object
from fairseq_vgs.metrics.intervals import Interval

_SIDES = {"speech_to_image": "speech_groups", "image_to_speech": "image_groups"}
_SEED = 1

Arrays = Mapping[str, npt.NDArray[Any]]


def read_version_1(path: Path) -> dict[str, Result]:
    """Read ``UPDATES.json`` and the ``.npz`` next to it: name of an evaluation -> its result.

    Raises:
        ResultsError: One is missing or broken.
    """
    numbers = read_json(path, command="remove it, and run fairseq-vgs evaluate run")
    arrays = read_arrays(path.with_suffix(".npz"))
    with written_by("fairseq-vgs evaluate run", path):
        keys = [key for key in ("retrieval", *ABX_KEYS.values()) if key in numbers]
        return {key: _result(key, numbers, arrays, path) for key in keys}


def forget_version_1(path: Path, key: str) -> None:
    """Remove one evaluation from ``UPDATES.json``; its arrays stay in the file of arrays, unread."""
    numbers = read_object(path, "remove it")
    numbers.pop(key, None)
    write_text(path, json.dumps(numbers), force=True)


def read_arrays(path: Path) -> Arrays:
    """Read ``UPDATES.npz``; nothing in the file is run.

    Raises:
        ResultsError: Missing, broken, or written before the phones of pairs were.
    """
    arrays = load_arrays(path, f"remove {path.stem}.json, and run fairseq-vgs evaluate run again")
    missing = {"abx_phones", "abx_phone_names"} - set(arrays)
    if "abx_errors" in arrays and missing:
        message = (
            f"must hold {' and '.join(sorted(missing))} with abx_errors (an older version's evaluation); "
            f"remove {path.parent} and {path.parent.with_name('evaluated.json')}, and run the study again: "
            "it evaluates again, without training"
        )
        raise ResultsError.at(path, message, "results.items_missing")
    return arrays


def items_of(arrays: Arrays) -> dict[str, dict[str, Items]]:
    """Return the items in ``UPDATES.npz``: name of an evaluation -> set -> items."""
    found: dict[str, dict[str, Items]] = {}
    if "speech_groups" in arrays:
        found["retrieval"] = {}
        for way, groups in _SIDES.items():
            ranks = arrays[f"{way}_ranks"].astype(np.float64)
            asked = ~np.isnan(ranks)
            values = retrieval.query_values(ranks[asked], way)
            found["retrieval"][way] = Items({}, arrays[groups][asked].astype(np.int64), "images", values)
    for key in (key for key in ABX_KEYS.values() if f"{key}_errors" in arrays):
        names, phones = arrays[f"{key}_phone_names"].tolist(), arrays[f"{key}_phones"].tolist()
        layers = arrays.get(f"{key}_layers", np.arange(len(arrays[f"{key}_errors"])))
        errors = 100.0 * arrays[f"{key}_errors"].astype(np.float64)
        values = {str(layer): row for layer, row in zip(layers.tolist(), errors, strict=True)}
        pairs = [(names[first], names[second]) for first, second in phones]
        found[key] = {abx.PAIRS: abx.pair_items(pairs, values)}
    return found


def _result(key: str, numbers: Mapping[str, Any], arrays: Arrays, path: Path) -> Result:
    sets, own, made_from = items_of(arrays)[key], numbers[key], numbers["made_from"]
    facts: dict[str, Any]
    if key == "retrieval":
        reported = retrieval.reported(own.get("chance", {}))
        facts = {"split": own["split"], "pool": own["pool"]}
        sources = {"data": made_from["data"], "condition": {}}
    else:
        n_cells = int(own["counts"]["cells"])
        reported = {layer: Reported("%", abx.CHANCE, n=n_cells) for layer in sets[abx.PAIRS].values}
        condition = {name: value for name, value in own["protocol"].items() if name != "seed"}
        condition["librilight_slicing"] = False
        source = made_from[key]
        ((file, digest),) = source["items"].items()
        facts = {"split": "test", "condition": condition, "items": {"file": file, "sha256": digest}}
        sources = {"data": source["recordings"], "condition": condition}
        sources |= {"items": source["items"], "seed": source["protocol"]["seed"]}
    updates = int(path.stem)
    name, title = (TRAINED, f"trained ({updates} updates)") if updates else (UNTRAINED, "untrained")
    metrics = metrics_json(Scores(sets, reported).estimates(seed=_SEED))
    counts = {"counts": own["counts"]} if "counts" in own else {}
    models: dict[str, Any] = {name: {"title": title, "n_updates": updates, "metrics": metrics, **counts}}
    if key == ABX_KEYS["within"]:
        models |= _baselines(numbers)
    checkpoint = made_from["checkpoint"]
    content = {
        "kind": key.partition("_")[0],
        **facts,
        "checkpoint": checkpoint,
        "models": models,
        "notes": [],
        # as it is written today, so that an evaluation can continue
        "made_from": {"checkpoint": checkpoint, "split": facts["split"], **sources},
        "provenance": {
            "seed": _SEED,
            "manifest": sources["data"],
            **{part: numbers.get(part, {}) for part in ("versions", "machine")},
        },
    }
    return Result(content, path, {name: sets})


def _baselines(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return features without a model, for which no interval was kept."""
    found = {}
    for name, error in numbers.get("baselines", {}).items():
        counts = numbers.get("baseline_counts", {}).get(name, numbers["abx"]["counts"])
        value = Interval(float(error), math.nan, math.nan, "none")
        metrics = {name: Metric(value, int(counts["cells"]), abx.CHANCE, "%").as_json()}
        title = "MFCC" if name == MFCC else name
        found[name] = {"title": title, "n_updates": 0, "metrics": metrics, "counts": counts}
    return found
