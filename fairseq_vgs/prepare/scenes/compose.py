"""Compose scenes of several objects with spoken captions from a folder of single, named objects.

Each scene is a list of regions (features and boxes), as in Khorrami et al. 2023, and a rendered picture.
Objects are shared by all splits, their combinations are not: held-out scenes ask for recombining known words.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fairseq_vgs.files.archives import write_whole
from fairseq_vgs.files.output import refuse_output, staged_folder
from fairseq_vgs.files.parallel import Progress, map_in_order
from fairseq_vgs.manifest import AudioRow, ImageRow, ManifestFolder, PairRow, RegionRow
from fairseq_vgs.manifest.summary import hashed_regions
from fairseq_vgs.manifest.tables import read_audio_list, read_images
from fairseq_vgs.media.encode import encode_flac
from fairseq_vgs.media.pictures import encode_webp
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.media.sound import Samples
from fairseq_vgs.prepare.build import tables
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.build.split import SPLITS, TEST, TRAIN, VALID
from fairseq_vgs.prepare.build.tables import CaptionedAudio
from fairseq_vgs.prepare.corpus import PICTURES, SPEECH
from fairseq_vgs.prepare.scenes import plan as planning
from fairseq_vgs.prepare.scenes.plan import Combination, ScenesConfig, scene_generator
from fairseq_vgs.prepare.scenes.render import change_speed, compose_caption, compose_picture, draw_orders
from fairseq_vgs.prepare.scenes.source import SceneSource, load_source
from fairseq_vgs.regions.objects import OBJECTS_ON_WHITE

logger = logging.getLogger(__name__)

MAKER = "scenes"
QUICK_WEBP = 2
# Names at one speed, about 70 kB each; enough for 60 objects at 21 speeds.
CACHED_NAMES = 1500
POOLING_NOTE = (
    "Objects are taken from all splits of the source, pooled, and stand in scenes of every split here: each "
    "object has one picture, one feature and one recording. What held-out scenes test is new combinations."
)
FEATURE_NOTE = "A region's features are those of the object's own picture in the source, not of the scene."


@dataclass(frozen=True)
class _Order:
    split: str
    index: int
    objects: Combination


@dataclass(frozen=True)
class _Scene:
    image: ImageRow
    regions: list[RegionRow]
    captions: list[CaptionedAudio]


def prepare_scenes(
    output: Path,
    source: Path,
    *,
    config: ScenesConfig,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Build the folder ``output`` from a data folder of single objects; return its summary.

    ``progress`` is called with (scenes done, scenes in all).

    Raises:
        FaultError: The source is faulty or too small, or ``output`` exists.
    """
    options = options or BuildOptions()
    refuse_output(output, maker=MAKER, force=options.force, inputs=_source_paths(source))
    loaded = load_source(
        source, n_objects=config.objects, max_seconds=config.max_object_seconds, seed=config.seed
    )
    plan = planning.plan_scenes(config.objects, config.sizes, config.n_scenes, seed=config.seed)
    orders = [_Order(split, index, objects) for split in SPLITS for index, objects in enumerate(plan[split])]
    with staged_folder(output, maker=MAKER, force=options.force) as staging:
        renderer = _Renderer(loaded, staging, config)
        scenes = list(map_in_order(renderer.render, orders, jobs=options.jobs, progress=progress))
        splits: dict[str, list[CaptionedAudio]] = {}
        for order, scene in zip(orders, scenes, strict=True):
            splits.setdefault(order.split, []).extend(scene.captions)
        images = [scene.image for scene in scenes]
        tables.write_tables(staging, splits, images=images, root=options.own_root(output))
        summary = {**_summarize(loaded, plan, splits, config), **options.typed}
        if loaded.features is not None:
            rows = [item.feature_row for item in loaded.objects]
            regions = [region for scene in scenes for region in scene.regions]
            tables.write_region_tables(staging, regions, np.asarray(loaded.features[rows]))
            made = {key: value for key, value in loaded.recipe.items() if key not in ("grid", "boxes")}
            counts = {"images": len(images), "regions": len(regions), "dims": loaded.features.shape[1]}
            summary["regions"] = hashed_regions(staging, {**made, "where": OBJECTS_ON_WHITE, **counts})
        tables.write_summary(staging, summary)
    return summary


def _source_paths(source: Path) -> Iterator[Path]:
    """Yield the source, its tables, recordings and pictures."""
    yield source
    yield from source.glob("*.tsv")
    files = ManifestFolder(source)
    for split in files.splits():
        audio = read_audio_list(files.audio_list(split))
        yield from (audio.root / row.audio_id for row in audio.rows)
    if files.images.exists():
        images = read_images(files.images)
        yield from (images.root / row.path for row in images.rows)


class _Renderer:
    """Render scenes; may be used from several threads at once."""

    def __init__(self, source: SceneSource, folder: Path, config: ScenesConfig) -> None:
        self.objects = source.objects
        self.folder = folder
        self.config = config
        self.name_at_speed = lru_cache(maxsize=CACHED_NAMES)(self._name_at_speed)

    def _name_at_speed(self, index: int, percent: int) -> Samples:
        return change_speed(self.objects[index].speech, percent)

    def render(self, order: _Order) -> _Scene:
        config = self.config
        image_id = f"{order.split}_{order.index:05d}"
        generator = scene_generator(config.seed, order.split, order.index, planning.PICTURE_STREAM)
        orders = draw_orders(len(order.objects), config.captions, generator)
        pictures = [self.objects[number].picture for number in order.objects]
        canvas, boxes = compose_picture(pictures, config.canvas_size, generator)
        path = f"{PICTURES}/{order.split}/{order.index:05d}.webp"
        write_whole(self.folder / path, encode_webp(canvas, method=QUICK_WEBP))
        regions = [
            # Rows of the copied features, which hold the chosen objects in order.
            RegionRow(image_id, number, *box.relative_to(config.canvas_size))
            for number, box in zip(order.objects, boxes, strict=True)
        ]
        captions = [
            self._render_caption(order, image_id, number, [order.objects[place] for place in places])
            for number, places in enumerate(orders)
        ]
        return _Scene(ImageRow(image_id, path, canvas.width, canvas.height), regions, captions)

    def _render_caption(
        self, order: _Order, image_id: str, number: int, spoken: Sequence[int]
    ) -> CaptionedAudio:
        # A separate stream: more captions leave the earlier ones unchanged.
        stream = (planning.CAPTION_STREAM, number)
        generator = scene_generator(self.config.seed, order.split, order.index, *stream)
        samples = compose_caption(spoken, self.name_at_speed, generator)
        path = f"{SPEECH}/{order.split}/{order.index:05d}_{number}.flac"
        write_whole(self.folder / path, encode_flac(samples))
        objects = [self.objects[index] for index in spoken]
        speakers = sorted({item.speaker for item in objects if item.speaker})
        text = ", ".join(item.text for item in objects if item.text)
        pair = PairRow(path, image_id, speaker="+".join(speakers), text=text)
        return CaptionedAudio(AudioRow(path, len(samples)), pair)


def _summarize(
    source: SceneSource,
    plan: Mapping[str, Sequence[Combination]],
    splits: Mapping[str, Sequence[CaptionedAudio]],
    config: ScenesConfig,
) -> dict[str, object]:
    in_train = {number for objects in plan[TRAIN] for number in objects}
    held_out = {number for split in (VALID, TEST) for objects in plan[split] for number in objects}
    unseen = sorted(source.objects[number].object_id for number in held_out - in_train)
    if unseen:
        logger.warning("%d objects of valid or test are in no training scene; see summary.json", len(unseen))
    return {
        "corpus": MAKER,
        "command": tables.command_line(MAKER, "OUTPUT --source SOURCE", asdict(config)),
        "settings": asdict(config),
        "source": {
            "tables_sha256": source.sha256,
            "splits_pooled": list(source.splits),
            "objects": source.n_objects,
        },
        "notes": [POOLING_NOTE, *([FEATURE_NOTE] if source.features is not None else [])],
        "splits": {
            split: {
                "scenes": len(plan[split]),
                "captions": len(rows),
                "minutes": round(sum(row.audio.n_samples for row in rows) / SAMPLE_RATE / 60, 2),
                "scenes_by_size": {
                    str(size): n for size, n in sorted(Counter(map(len, plan[split])).items())
                },
            }
            for split, rows in splits.items()
        },
        "objects": [item.object_id for item in source.objects],
        "held_out_objects_unseen_in_train": unseen,
        "excluded": {
            "with a name longer than --max-object-seconds": {"count": source.n_objects - source.n_available},
            "not chosen (--objects)": {"count": source.n_available - len(source.objects)},
        },
    }
