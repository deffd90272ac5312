"""Rebuild the embedded data set, byte for byte, from two unpacked Debian packages.

    dpkg-deb -x tuxpaint-stamps-default_2022.06.04-1_all.deb STAMPS
    dpkg-deb -x festvox-ru_0.5+dfsg-6_all.deb FESTVOX
    python manifests/rebuild_embedded.py --stamps STAMPS --festvox FESTVOX --output NEW_FOLDER

Equal bytes need the versions in ``BUILT_WITH`` (encoders change between releases); torch may be any.
See embedded/README.md for the files and their licences.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import scipy
import soundfile
from embedded_abx import write_abx
from embedded_credits import write_credits
from embedded_files import build_stored_zip, encode_vorbis
from PIL import Image, features

from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.manifest import AudioRow, ImageRow, PairRow, RegionRow
from fairseq_vgs.manifest.summary import hashed_regions
from fairseq_vgs.media.cut_out import read_cut_out
from fairseq_vgs.media.encode import (
    clipped_share,
    content_hash,
    limit_peak,
    resample,
    root_mean_square,
)
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.pictures import encode_webp, pad_to_square, pixel_hash, read_picture
from fairseq_vgs.media.sound import Samples, decode, inspect
from fairseq_vgs.prepare.build.split import SPLITS, caption_key, connected_groups, split_by_group
from fairseq_vgs.prepare.build.tables import CaptionedAudio, write_region_tables, write_summary, write_tables
from fairseq_vgs.prepare.corpora.tuxpaint import Stamp, find_stamps_folder, scan_stamps
from fairseq_vgs.prepare.corpus import Exclusions
from fairseq_vgs.regions.efficientnet import EfficientNetFeatures

logger = logging.getLogger("rebuild_embedded")

BUILT_WITH = {
    "numpy": "2.4.6",
    "scipy": "1.17.1",
    "soundfile": "0.14.0",
    "libsndfile": "1.2.2",
    "Pillow": "13.0.0",
    "libwebp": "1.6.0",
}
# SHA-256 of the packages
STAMPS_SHA256 = "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"
FESTVOX_SHA256 = "21ef3f0f2978ecf2e2eddb367cb0ff4a72572196d28dc69feb84f4177af5e6c4"
SOURCES = {
    "tuxpaint-stamps-default_2022.06.04-1_all.deb": STAMPS_SHA256,
    "festvox-ru_0.5+dfsg-6_all.deb": FESTVOX_SHA256,
}
LANGUAGE = "ru"
PICTURE_SIZE = 160
MAX_SECONDS = 2.5
MIN_RMS = 0.01
MAX_CLIPPED_SHARE = 0.02
VORBIS_QUALITY = 0.4
VALID_SHARE = TEST_SHARE = 0.1
PRECISION = "float64"  # so that every CPU gives the same features
SEED = 1
SPEECH_ARCHIVE, PICTURE_ARCHIVE = "speech.zip", "pictures.zip"
CHECKSUMS = "SHA256SUMS"


@dataclass(frozen=True)
class EmbeddedObject:
    """One picture and its spoken Russian name, as they go into the archives."""

    stamp: Stamp
    picture: Image.Image
    webp: bytes
    vorbis: bytes
    n_samples: int
    keys: tuple[tuple[str, str], ...]


class UnusableSpeechError(ValueError):
    """A recording decodes but is of no use here; the text says why in a few words."""


def usable_speech(stamp: Stamp) -> Samples:
    """Return the recording at 16 kHz.

    Raises:
        MediumError: it cannot be decoded.
        UnusableSpeechError: it is too long, too quiet or clipped.
    """
    sound = decode(stamp.speech)
    samples, rate = sound.samples, sound.rate
    if len(samples) > MAX_SECONDS * rate:
        raise UnusableSpeechError(f"speech longer than {MAX_SECONDS} s")
    if root_mean_square(samples) < MIN_RMS:
        raise UnusableSpeechError("speech too quiet")
    if clipped_share(samples) > MAX_CLIPPED_SHARE:
        raise UnusableSpeechError("clipped speech")
    return limit_peak(resample(samples, rate))


def encode_object(stamp: Stamp, serial: int) -> EmbeddedObject:
    """Read and encode one stamp; raise an error if it cannot be used."""
    samples = usable_speech(stamp)
    webp = encode_webp(read_cut_out(stamp.picture, PICTURE_SIZE))
    # Features are taken from what is shipped, so that anybody can recompute them.
    picture = read_picture(webp)
    vorbis = encode_vorbis(samples, quality=VORBIS_QUALITY, serial=serial)
    keys = (
        ("recording", content_hash(samples)),
        ("picture", pixel_hash(picture)),
        ("English caption", caption_key(stamp.english)),
        ("Russian caption", caption_key(stamp.text)),
    )
    return EmbeddedObject(stamp, picture, webp, vorbis, inspect(vorbis).n_samples, keys)


def select_objects(stamps: Sequence[Stamp], exclusions: Exclusions) -> list[EmbeddedObject]:
    """Return the usable stamps, the first of those that share a recording, picture or caption."""
    objects: list[EmbeddedObject] = []
    taken: set[tuple[str, str]] = set()
    for stamp in stamps:
        if stamp.picture.suffix != ".png":
            exclusions.add("SVG drawing", stamp.stamp_id)
            continue
        if not caption_key(stamp.text):
            exclusions.add("no Russian caption", stamp.stamp_id)
            continue
        try:
            candidate = encode_object(stamp, serial=len(objects))
        except (MediumError, UnusableSpeechError) as error:
            reason = error.reason if isinstance(error, MediumError) else str(error)
            exclusions.add(reason, stamp.stamp_id)
            continue
        shared = [kind for kind, value in candidate.keys if (kind, value) in taken]
        if shared:
            exclusions.add(f"same {shared[0]} as an earlier one", stamp.stamp_id)
            continue
        taken.update(candidate.keys)
        objects.append(candidate)
    return objects


def write_archive(path: Path, entries: Sequence[tuple[str, bytes]]) -> list[str]:
    """Write a stored zip and return where each entry lies, as ``name.zip:OFFSET:LENGTH``."""
    content, places = build_stored_zip(entries)
    with atomic_write(path, mode="wb", force=True) as file:
        file.write(content)
    return [f"{path.name}:{place.offset}:{place.length}" for place in places]


def write_objects(objects: Sequence[EmbeddedObject], output: Path) -> dict[str, int]:
    """Write archives, tables and features; return the number of pairs in each split."""
    ids = [item.stamp.stamp_id for item in objects]
    speech = write_archive(
        output / SPEECH_ARCHIVE,
        [(f"{name}.ogg", item.vorbis) for name, item in zip(ids, objects, strict=True)],
    )
    pictures = write_archive(
        output / PICTURE_ARCHIVE,
        [(f"{name}.webp", item.webp) for name, item in zip(ids, objects, strict=True)],
    )
    groups = connected_groups({name: item.keys for name, item in zip(ids, objects, strict=True)})
    split_of = split_by_group(groups, valid_share=VALID_SHARE, test_share=TEST_SHARE, seed=SEED)
    splits: dict[str, list[CaptionedAudio]] = {split: [] for split in SPLITS}
    for name, item, audio_id in zip(ids, objects, speech, strict=True):
        pair = PairRow(audio_id, name, speaker=LANGUAGE, text=item.stamp.text)
        splits[split_of[name]].append(CaptionedAudio(AudioRow(audio_id, item.n_samples), pair))
    images = [
        ImageRow(name, path, item.picture.width, item.picture.height)
        for name, item, path in zip(ids, objects, pictures, strict=True)
    ]
    write_tables(output, splits, images=images, force=True)
    logger.info("computing the features of %d pictures", len(objects))
    regions = [RegionRow(name, row, 0.0, 0.0, 1.0, 1.0) for row, name in enumerate(ids)]
    network = EfficientNetFeatures(precision=PRECISION)
    inputs = [network.network_input(pad_to_square(item.picture)) for item in objects]
    features = [network(np.stack(inputs[start : start + 4])) for start in range(0, len(inputs), 4)]
    write_region_tables(output, regions, np.concatenate(features), force=True)
    return {split: len(rows) for split, rows in splits.items()}


def write_checksums(output: Path, paths: Sequence[str]) -> None:
    """Write the SHA-256 of every built file in the format of ``sha256sum``."""
    with atomic_write(output / CHECKSUMS, force=True) as file:
        for path in sorted(paths):
            file.write(f"{hashlib.sha256((output / path).read_bytes()).hexdigest()}  {path}\n")


def warn_of_versions() -> None:
    """Return which packages differ from those the committed files were built with."""
    found = {
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "soundfile": soundfile.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
        "Pillow": PIL.__version__,
        "libwebp": features.version("webp"),
    }
    for name, version in found.items():
        if version != BUILT_WITH[name]:
            logger.warning("%s: expected %s, got %s; bytes may differ", name, BUILT_WITH[name], version)


def build(stamps_folder: Path, festvox_folder: Path, output: Path) -> None:
    """Build all files of the embedded set in ``output``."""
    output.mkdir(parents=True, exist_ok=True)
    stamps, exclusions = scan_stamps(
        find_stamps_folder(stamps_folder), LANGUAGE, include_symbols=False, svg=True
    )
    objects = select_objects(stamps, exclusions)
    counts = write_objects(objects, output)
    credit_files = write_credits(stamps_folder, festvox_folder, output)
    abx_files, abx_counts = write_abx(festvox_folder, output / "abx", quality=VORBIS_QUALITY)
    network = EfficientNetFeatures(precision=PRECISION)
    made = {**network.describe(), "grid": [1, 1], "dims": network.dim}
    summary = {
        "command": "python manifests/rebuild_embedded.py --stamps STAMPS --festvox FESTVOX --output OUTPUT",
        "sources": SOURCES,
        "built_with": BUILT_WITH,
        "language": LANGUAGE,
        "seed": SEED,
        "objects": len(objects),
        "speech_minutes": round(sum(item.n_samples for item in objects) / 16_000 / 60, 2),
        "pairs": counts,
        "abx": abx_counts,
        "regions": hashed_regions(output, {**made, "images": len(objects), "regions": len(objects)}),
        "excluded": exclusions.summary(),
    }
    # Not marked as made by `prepare`: `--force` must never replace this folder.
    write_summary(output, summary, made_by="manifests/rebuild_embedded.py", force=True)
    tables = [f"{split}{ending}" for split in SPLITS for ending in (".tsv", ".pairs.tsv")]
    media = [SPEECH_ARCHIVE, PICTURE_ARCHIVE, "images.tsv", "regions.tsv", "regions.npy", "summary.json"]
    write_checksums(output, [*tables, *media, *credit_files, *(f"abx/{name}" for name in abx_files)])


def report_difference(output: Path) -> int:
    """Compare the checksums with the committed ones; return the exit status."""
    committed = Path(__file__).parent / "embedded" / CHECKSUMS
    if not committed.exists() or committed.resolve() == (output / CHECKSUMS).resolve():
        return 0
    expected = set(committed.read_text().splitlines())
    differing = sorted(
        line.split("  ")[1] for line in expected ^ set((output / CHECKSUMS).read_text().splitlines())
    )
    if differing:
        logger.error("differs from the committed set: %s", ", ".join(dict.fromkeys(differing)))
        return 1
    logger.info("equal to the committed set, byte for byte")
    return 0


def main() -> int:
    """Parse the command line and build the set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stamps", type=Path, required=True, help="unpacked tuxpaint-stamps-default")
    parser.add_argument("--festvox", type=Path, required=True, help="unpacked festvox-ru")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder to write; files in it are replaced"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warn_of_versions()
    build(args.stamps, args.festvox, args.output)
    return report_difference(args.output)


if __name__ == "__main__":
    sys.exit(main())
