"""What an evaluation is: its options, how a model is measured, and how results are described.

A registered subclass of ``Evaluator`` is a command, ``fairseq-vgs evaluate NAME``, with baselines, intervals,
paired differences, provenance and files, and works in ``evaluate run --also NAME``, ``compare`` and ``plot``.

```python
@EVALUATORS.register("length")
class Length(Evaluator):
    summary = "share of recordings longer than a second"

    def measure(self, model, settings):
        recordings = open_recordings(settings.data, settings.split)
        long = hits(np.array([found.n_samples > 16_000 for found in recordings.values()]))
        items = Items({"audio_id": list(recordings)}, np.arange(len(long)), "recordings", {"long": long})
        return Scores({"recordings": items}, {"long": Reported("%", None, "hits")})
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from fairseq_vgs.device import AUTO, device_option
from fairseq_vgs.evaluation.results import Result, Scores, manifest_hashes
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.text_tables import text_table
from fairseq_vgs.options import option
from fairseq_vgs.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Collection

    from fairseq_vgs.checkpoints.load import Checkpoint
    from fairseq_vgs.features.layers import LayerFeatures
    from fairseq_vgs.features.recordings import Recording

TRAINED, UNTRAINED, MFCC, NO_BASELINE = "trained", "untrained", "mfcc", "none"


@dataclass(frozen=True)
class CommonSettings:
    """Options that all evaluations have; those of an evaluator add to them."""

    data: Path = option(help="the data folder", metavar="DATA", positional=True)
    split: str = option("test", help="split of DATA")
    seed: int = option(1, help="seed of pools, resampling and the untrained weights")
    device: str = device_option()

    not_conditions: ClassVar[tuple[str, ...]] = ()
    """Own options that do not change what a metric means, such as which layers are measured."""

    @property
    def variant(self) -> str:
        """What distinguishes two evaluations by one evaluator of one checkpoint; empty for the usual one."""
        return ""

    @property
    def folder_name(self) -> str:
        """Name of the results folder after the names of checkpoint and evaluation without ``--output``."""
        return f"{self.variant}_{self.split}" if self.variant else self.split

    def condition(self) -> dict[str, Any]:
        """Return as JSON the options that values must share to be compared."""
        common = {field.name for field in dataclasses.fields(CommonSettings)}
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in common and field.name not in self.not_conditions
        }


@dataclass(frozen=True)
class Model:
    """What is measured: a checkpoint, the same model with fresh weights, or MFCC, which is not ``loaded``.

    ``outputs_only`` leaves out ``layer_0``, which is a layer's input and cannot be the best layer.
    """

    name: str
    title: str
    loaded: Checkpoint | None = None
    outputs_only: bool = False

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, of all but MFCC.

        Raises:
            ValueError: It is MFCC.
        """
        if self.loaded is None:
            raise ValueError(f"{self.title} has no checkpoint")
        return self.loaded

    @property
    def n_updates(self) -> int:
        """Updates that the model was trained for."""
        return self.loaded.n_updates if self.loaded else 0

    @property
    def frame_rate(self) -> float:
        """Frames per second of ``features``."""
        from fairseq_vgs.features import layers

        return layers.frame_rate(self.loaded) if self.loaded else layers.MFCC_FRAME_RATE

    def features(
        self,
        recordings: Mapping[str, Recording],
        *,
        device: str = AUTO,
        layers: Collection[int] | None = None,
    ) -> LayerFeatures:
        """Offer frames by layer: name of a recording -> name of a layer -> f[T, D]."""
        from fairseq_vgs.features.layers import layer_features, mfcc_features

        if self.loaded is None:
            return mfcc_features(recordings)
        found = layer_features(self.loaded, recordings, device=device, layers=layers)
        if not self.outputs_only:
            return found
        return lambda name: {layer: frames for layer, frames in found(name).items() if layer != "layer_0"}


class Evaluator(Protocol):
    """One evaluation. Inherit from it: everything but ``measure`` has a default.

    Attributes:
        name: Under which it is registered.
        summary: One line for lists of commands; ``description`` is for ``--help``.
        examples: Arguments after ``fairseq-vgs evaluate``, one per line; more text may follow an empty line.
        Settings: Its options.
        baselines: What can be measured in addition to the model.
        needs_embeddings: Whether stock wav2vec 2.0, which has layers only, cannot be measured.
        layered: Whether there is one metric for every layer: a row of the table, a point of the plot.
        higher_is_better: Which layer is the best one; ``axis`` is the plot's.
        files: Names of files that it writes in addition to the common ones.
    """

    name: str = ""
    summary: str = ""
    description: str = ""
    examples: str = ""
    Settings: type[CommonSettings] = CommonSettings
    baselines: tuple[str, ...] = (UNTRAINED, MFCC)
    needs_embeddings: bool = False
    layered: bool = False
    higher_is_better: bool = True
    axis: str = ""
    files: tuple[str, ...] = ()

    def measure(self, model: Model, settings: Any) -> Scores:
        """Measure one model.

        An instance serves one command, and may keep what it has opened for the next model.
        """
        ...

    def sources(self, settings: Any) -> dict[str, Any]:
        """Return as JSON what values depend on besides the checkpoint, before anything is measured."""
        return {
            "split": settings.split,
            "data": source_hashes(settings.data, settings.split),
            "condition": settings.condition(),
        }

    def identity(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return from metrics.json what must be equal for two results to be comparable."""
        hashes = content.get("provenance", {}).get("manifest", {})
        return {"split": content.get("split"), **content.get("condition", {}), **hashes}

    def notes(self, scores: Mapping[str, Scores], titles: Mapping[str, str]) -> list[str]:
        """Return a line for every model that was not measured on the items of the first (evaluated) one."""
        (first, own), *others = scores.items()
        return [
            f"{titles[name]} was not measured on the same items as {titles[first]}: no paired difference"
            for name, found in others
            if not _share_items(own, found)
        ]

    def write_files(self, folder: Path, scores: Mapping[str, Scores], *, force: bool) -> None:
        """Write the files named by ``files``; none by default."""

    def describe(self, content: Mapping[str, Any]) -> list[str]:
        """Describe what metrics.json has measured, on what; the first line is a summary."""
        return [f"{self.name} on split {content.get('split')}"]

    def columns(self, content: Mapping[str, Any]) -> dict[str, str]:
        """Choose the metrics that represent a checkpoint of a run, with short titles."""
        metrics = next(iter(content["models"].values()))["metrics"]
        return {name: name for name, data in metrics.items() if data["unit"] == "%"}

    def heading(self, content: Mapping[str, Any]) -> str:  # noqa: ARG002 - for others to look into
        """Name the measure of a layered evaluation in one or two words."""
        return self.name

    def title(self, metric: str, content: Mapping[str, Any], *, alone: bool = True) -> str:
        """Name a metric for tables, which have other evaluations as well if it is not ``alone``."""
        found = (model["metrics"].get(metric) for model in content["models"].values())
        unit = next((data["unit"] for data in found if data), "")
        text = metric if alone else f"{self.heading(content)}, {metric}"
        return f"{text} {unit}".rstrip()

    def table(self, result: Result) -> str:
        """Lay out the values: a row per metric, a column per model that has all of them, then chance."""
        models = result.models
        metrics = models[result.evaluated]
        columns = [name for name in models if list(models[name]) == list(metrics)]
        titles = {name: model.get("title", name) for name, model in result.content["models"].items()}
        rows = [["", *(titles[name] for name in columns)]]
        rows += [[metric, *(str(models[name][metric]) for name in columns)] for metric in metrics]
        others = [models[name] for name in models if name not in columns]
        rows += [[metric, str(found)] for own in others for metric, found in own.items()]
        chances = list(dict.fromkeys(metric.chance for metric in metrics.values()))
        if len(chances) == 1 and chances[0] is not None:
            rows.append(["chance", f"{chances[0]:.1f}"])
        return text_table(rows)


def source_hashes(folder: Path, split: str) -> dict[str, str]:
    """Hash what a split of a data folder, or a folder of audio files, holds: tables, or names and lengths.

    Raises:
        FaultError: As ``open_folder``, of audio files.
    """
    from fairseq_vgs.features.recordings import folder_digest, is_audio_folder, open_folder

    if is_audio_folder(folder):
        return {"recordings": folder_digest(open_folder(folder))}
    return manifest_hashes(folder, split)


EVALUATORS: Registry[type[Evaluator]] = Registry("evaluation", "fairseq_vgs.evaluation.evaluators")


def chosen_baselines(evaluator: Evaluator, given: Sequence[str]) -> tuple[str, ...]:
    """Return the baselines of ``--baseline``: all unless some are given; "none" must stand alone.

    Raises:
        FaultError: ``setting.value``.
    """
    chosen = tuple(dict.fromkeys(given))
    if not chosen:
        return evaluator.baselines
    if chosen == (NO_BASELINE,):
        return ()
    if NO_BASELINE in chosen:
        message = f"none must stand alone, got {', '.join(chosen)}; leave it out"
        raise FaultError.at("--baseline", message, "setting.value")
    if unknown := sorted(set(chosen) - set(evaluator.baselines)):
        known = ", ".join((*evaluator.baselines, NO_BASELINE))
        message = f"must be of {known} for {evaluator.name}, got {', '.join(unknown)}; choose others"
        raise FaultError.at("--baseline", message, "setting.value")
    return chosen


def open_models(path: Path, baselines: Sequence[str], *, seed: int, evaluator: Evaluator) -> Iterator[Model]:
    """Load a checkpoint, then its baselines (the seed is of fresh weights), each when it is needed.

    Raises:
        CheckpointError: It cannot be used.
    """
    allow_stock = not evaluator.needs_embeddings
    yield load_model(path, allow_stock=allow_stock)
    if UNTRAINED in baselines:
        yield load_model(path, untrained_seed=seed, allow_stock=allow_stock)
    if MFCC in baselines:
        yield Model(MFCC, "MFCC")


def load_model(
    path: Path, *, allow_stock: bool, untrained_seed: int | None = None, outputs_only: bool = False
) -> Model:
    """Load the model of a checkpoint or, with a seed, build it with fresh weights."""
    from fairseq_vgs.checkpoints.open import open_checkpoint

    loaded = open_checkpoint(path, untrained_seed=untrained_seed, allow_stock=allow_stock)
    if untrained_seed is None:
        return Model(TRAINED, f"trained ({loaded.n_updates} updates)", loaded, outputs_only)
    return Model(UNTRAINED, f"untrained (seed {untrained_seed})", loaded, outputs_only)


def _share_items(own: Scores, other: Scores) -> bool:
    shared = own.items.keys() & other.items
    return any(own.items[name].same_as == other.items[name].same_as for name in shared)
