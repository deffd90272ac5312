"""Load the objects that scenes are composed of: pictures with a recorded name each."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.location import resolve
from fairseq_vgs.manifest import ImageRow, ManifestFolder, PairRow
from fairseq_vgs.manifest.summary import read_summary, region_recipe
from fairseq_vgs.manifest.tables import read_audio_list, read_images, read_pairs, read_regions
from fairseq_vgs.media.encode import root_mean_square
from fairseq_vgs.media.pictures import read_picture
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.media.sound import Samples, decode
from fairseq_vgs.prepare.build.split import shuffled

# Level of every recorded name, about -23 dBFS: loudness must not distinguish objects.
TARGET_RMS = 0.07
TRIM_FRAME_SAMPLES = SAMPLE_RATE // 100
TRIM_RELATIVE_LEVEL = 0.03
TRIM_MARGIN_FRAMES = 3
FADE_SAMPLES = SAMPLE_RATE // 200
FINAL_PUNCTUATION = " .,;:!?"
CHECK = "run fairseq-vgs check on the source"


@dataclass(frozen=True)
class SceneObject:
    """One object: its picture (RGB on white), its name as samples at 16 kHz and as text.

    ``feature_row`` is the row of the source's ``regions.npy``; -1 where the source has no features.
    """

    object_id: str
    picture: Image.Image
    speech: Samples
    text: str
    speaker: str
    feature_row: int


@dataclass(frozen=True)
class SceneSource:
    """The chosen objects and where they come from.

    ``sha256`` identifies the source's tables; ``n_objects`` counts all its objects, ``n_available`` those
    that could be chosen; ``recipe`` says how their features were made, if the source does.
    """

    objects: tuple[SceneObject, ...]
    n_objects: int
    n_available: int
    splits: tuple[str, ...]
    sha256: str
    features: NDArray[np.float16] | None
    recipe: Mapping[str, object]


def load_source(folder: Path, *, n_objects: int, max_seconds: float, seed: int) -> SceneSource:
    """Choose objects from all splits of a data folder, pooled, and load them.

    An object is a group of interchangeable pictures, represented by its first picture and the first recording
    of that. The choice depends on the seed and the ids only. Objects with recordings longer than
    ``max_seconds`` are skipped; 0 skips none.

    Raises:
        FaultError: The folder is not a data folder, a medium in it is faulty, or it has too few objects.
    """
    files = ManifestFolder(folder)
    splits = tuple(files.splits())
    if not splits or not files.images.exists():
        message = (
            "must be a data folder of single objects, got none; "
            "name the embedded set or a folder made by fairseq-vgs prepare tuxpaint with --source"
        )
        raise FaultError.at(folder, message, "folder.kind")
    images = read_images(files.images)
    candidates = _candidates(files, splits, images.rows)
    limit = max_seconds * SAMPLE_RATE if max_seconds else math.inf
    available = [name for name, item in candidates.items() if item.n_samples <= limit]
    if n_objects > len(available):
        usable = f"the usable ones of {len(candidates)} objects in {folder}"
        step = "ask for fewer, or allow longer recordings with --max-object-seconds (0: all)"
        expected = f"must be at most {len(available)}, {usable}"
        raise FaultError(fault("--objects", expected, n_objects, step, code="setting.value"))
    has_features = files.regions.exists() and files.region_features.exists()
    rows = _feature_rows(files) if has_features else {}
    chosen = sorted(shuffled(available, seed)[:n_objects])
    objects = tuple(_load_object(candidates[name], images.root, rows) for name in chosen)
    tables = [files.images]
    for split in splits:
        tables += [files.audio_list(split), files.pairs(split)]
    hashes = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in tables)
    features = np.load(files.region_features, mmap_mode="r", allow_pickle=False) if has_features else None
    sha256 = hashlib.sha256(hashes).hexdigest()
    recipe = region_recipe(read_summary(folder))
    return SceneSource(objects, len(candidates), len(available), splits, sha256, features, recipe)


class _Candidate(NamedTuple):
    image: ImageRow
    pair: PairRow
    n_samples: int
    speech_root: Path


def _candidates(
    files: ManifestFolder, splits: Sequence[str], rows: Sequence[ImageRow]
) -> dict[str, _Candidate]:
    images = {row.image_id: row for row in rows}
    candidates: dict[str, _Candidate] = {}
    for split in splits:
        audio = read_audio_list(files.audio_list(split))
        lengths = {row.audio_id: row.n_samples for row in audio.rows}
        for number, pair in enumerate(read_pairs(files.pairs(split)), start=2):
            if pair.image_id not in images or pair.audio_id not in lengths:
                place, found = f"{files.pairs(split).name}:{number}", (pair.image_id, pair.audio_id)
                expected = f"must name an image of images.tsv and an utterance of {split}.tsv"
                raise FaultError(fault(place, expected, found, CHECK, code="table.reference"))
            image = images[pair.image_id]
            candidates.setdefault(image.group_id, _Candidate(image, pair, lengths[pair.audio_id], audio.root))
    return candidates


def _feature_rows(files: ManifestFolder) -> dict[str, int]:
    """Return the feature row of each image's largest region."""
    largest: dict[str, tuple[float, int]] = {}
    for region in read_regions(files.regions):
        area = (region.x1 - region.x0) * (region.y1 - region.y0)
        if region.image_id not in largest or area > largest[region.image_id][0]:
            largest[region.image_id] = (area, region.feature_row)
    return {image_id: row for image_id, (_, row) in largest.items()}


def _load_object(candidate: _Candidate, image_root: Path, feature_rows: dict[str, int]) -> SceneObject:
    image, pair = candidate.image, candidate.pair
    if feature_rows and image.image_id not in feature_rows:
        expected = "must hold a region of every image"
        raise FaultError(fault("regions.tsv", expected, image.image_id, CHECK, code="region.missing"))
    sound = decode(resolve(candidate.speech_root, pair.audio_id), place=pair.audio_id, rate=SAMPLE_RATE)
    trimmed = trim_silence(sound.samples)
    return SceneObject(
        object_id=image.group_id,
        picture=read_picture(resolve(image_root, image.path), place=image.path),
        speech=fade_ends(trimmed * (TARGET_RMS / root_mean_square(trimmed))),
        text=pair.text.rstrip(FINAL_PUNCTUATION),
        speaker=pair.speaker,
        feature_row=feature_rows.get(image.image_id, -1),
    )


def trim_silence(samples: Samples) -> Samples:
    """Cut quiet ends, frames of 10 ms below 3 % of the loudest one, except for a margin of 30 ms."""
    n_frames = len(samples) // TRIM_FRAME_SAMPLES
    frames = samples[: n_frames * TRIM_FRAME_SAMPLES].reshape(n_frames, TRIM_FRAME_SAMPLES)
    levels = np.sqrt(np.mean(frames**2, axis=1)) if n_frames else np.zeros(0)
    loud = np.flatnonzero(levels > TRIM_RELATIVE_LEVEL * levels.max(initial=0.0))
    if not len(loud):
        return samples
    start = max(0, int(loud[0]) - TRIM_MARGIN_FRAMES) * TRIM_FRAME_SAMPLES
    end = (int(loud[-1]) + 1 + TRIM_MARGIN_FRAMES) * TRIM_FRAME_SAMPLES
    return samples[start:end]


def fade_ends(samples: Samples) -> Samples:
    """Fade 5 ms in and out, so that joined recordings do not click."""
    length = min(FADE_SAMPLES, len(samples) // 2)
    ramp = np.linspace(0.0, 1.0, length, endpoint=False)
    faded = samples.copy()
    faded[:length] *= ramp
    faded[len(samples) - length :] *= ramp[::-1]
    return faded
